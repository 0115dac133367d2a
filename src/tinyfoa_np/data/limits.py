"""Limits for reading your own files: regular files only, and never more than a limit, whatever the file claims.

A file may be malicious: a link to ``/dev/zero``, a sparse file of 200 GB, an archive that unpacks to a thousand times
its size. Every size is compared with the limit before memory is allocated, and checked again while reading.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from tinyfoa_np.errors import BadRequest

#: maximum bytes in RAM of a file, and of the arrays or the table in it; ``--max-data`` changes it
LIMIT = 2 << 30
#: maximum bytes of a line of text, and of the header of an .npy file
LINE, HEADER = 4 << 20, 10_000


def opened(path: Path, limit: int) -> BinaryIO:
    """Open a regular file for reading; a link to one is followed, as your own files may be links.

    Parameters
    ----------
    path : Path
    limit : int
        Maximum size in bytes.

    Raises
    ------
    BadRequest
        If the file does not exist, is not a regular file, or is larger than the limit.
    """
    try:
        _refuse_others(path, os.stat(path), limit)  # before opening, as opening a device can have effects
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise BadRequest(f"{path} does not exist") from error
        raise BadRequest(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        _refuse_others(path, os.fstat(fd), limit)
        return open(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def _refuse_others(path: Path, about: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise BadRequest(f"{path} is not a regular file: name a file of samples")
    if about.st_size > limit:
        raise too_large(str(path), about.st_size, limit)


def too_large(what: str, size: int, limit: int) -> BadRequest:
    """The error for data beyond the limit."""
    return BadRequest(f"{what} has {size:,} bytes: at most {limit:,} are read; --max-data (max_bytes) allows more")
