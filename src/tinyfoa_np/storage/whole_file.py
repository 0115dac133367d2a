"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import CheckFailed
from .files import sync_directory, sync_file

#: names of temporary files; the random name cannot be guessed in order to place a link there
PART = re.compile(r"\.[0-9a-f]{32}\.part")
#: bytes that collect small pieces
BUFFER = 512


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file atomically; as :func:`writing_whole`, with the file's content."""
    with writing_whole(path, sync=sync) as file:
        file.write(content)


@contextlib.contextmanager
def writing_whole(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write a file atomically, in any pieces: it is there when the block ends, or not at all.

    A link at the path is replaced, not followed.

    Parameters
    ----------
    path : Path
    sync : bool
        Whether the file must survive a power cut when this returns.

    Raises
    ------
    CheckFailed
        If the file cannot be written.
    """
    part = path.with_name(f".{secrets.token_hex(16)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(part, flags, 0o666), "wb", buffering=BUFFER) as file:
            yield file
            file.flush()
            if sync:
                sync_file(file.fileno())
        os.replace(part, path)
        if sync:
            sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CheckFailed(f"{path} cannot be written: {error.strerror or error}") from error
        raise


def remove_parts(directory: Path) -> None:
    """Remove temporary files of a killed process; only for the sole writer of a directory."""
    for path in directory.iterdir():
        if PART.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()
