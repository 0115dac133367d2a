"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from ..errors import CheckFailed
from .files import sync_directory, sync_file

#: names of files that are being written; nobody can guess the next one, and put a link in its place
PART = re.compile(r"\.[0-9a-f]{32}\.part")


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Writes a file so that it is there whole or not at all; a link in its place is replaced, not followed.

    Parameters
    ----------
    path : Path
    content : bytes
    sync : bool
        Whether it must survive a power cut once this returns.

    Raises
    ------
    CheckFailed
        If the disk does not take it.
    """
    part = path.with_name(f".{secrets.token_hex(16)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(part, flags, 0o666), "wb") as file:
            file.write(content)
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
    """Removes what a killed process had begun to write; for who alone writes in a directory."""
    for path in directory.iterdir():
        if PART.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()
