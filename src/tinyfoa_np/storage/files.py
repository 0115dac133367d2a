"""Access to untrusted files: regular files only, never through a link, never beyond a size limit; and syncing.

All files of a run directory that are read, or written in place, are opened here. An attacker could replace a file by a
link to any of your files, a FIFO or a device. Each of these is refused with one line, before anything is read or
changed, and without waiting. SECURITY.md describes the guarantees and their limits.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..errors import CheckFailed

Buffers = Sequence[Any]  # objects with a C-contiguous buffer: arrays, memoryviews, bytes

#: bytes of the largest file of each kind that is read whole; JSON files of real runs are far smaller
RECIPE_LIMIT, JSON_LIMIT, ROWS_LIMIT = 1 << 20, 1 << 23, 1 << 25
#: lists and objects in a JSON file: at least this many, more for larger files. Empty ones take 64 bytes of RAM for two.
_CONTAINERS = 100_000
_VECTORED = hasattr(os, "preadv") and hasattr(os, "pwritev")
_KINDS: list[tuple[Callable[[int], bool], str]] = [
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
]


def open_file(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a regular file and return its descriptor; does not follow a link, and does not wait for a FIFO.

    Parameters
    ----------
    path : path
        Links on the way to the file's directory are followed, as the caller has chosen that path.
    flags : int
        As for `os.open`.

    Raises
    ------
    CheckFailed
        If the path is not a regular file.
    OSError
        As `os.open`, for example if the file does not exist.
    """
    with suppress(FileNotFoundError):
        _refuse_others(path, os.lstat(path).st_mode)  # before opening, as opening a device can have effects
    for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):  # not every system has each flag
        flags |= getattr(os, name, 0)
    try:
        fd = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CheckFailed(_refusal(path, "a symbolic link")) from error
        raise
    try:
        _refuse_others(path, os.fstat(fd).st_mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def refuse_link(path: str | os.PathLike[str]) -> None:
    """Refuse a run directory that is a link.

    Raises
    ------
    CheckFailed
        If it is a symbolic link.
    """
    if os.path.islink(path):
        raise CheckFailed(f"{os.fspath(path)} is a symbolic link: put the directory itself in its place")


def size_of(path: str | os.PathLike[str]) -> int:
    """Bytes of a regular file; 0 if it does not exist. Raises as :func:`open_file`."""
    try:
        mode = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    _refuse_others(path, mode.st_mode)
    return mode.st_size


def read_whole(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises
    ------
    CheckFailed
        If it is larger, or not a regular file.
    OSError
        If it does not exist or cannot be read.
    """
    fd = open_file(path)
    with open(fd, "rb") as file:
        size = os.fstat(fd).st_size
        content = file.read(min(size, limit) + 1)  # one byte more, to notice that it has grown
        if max(size, len(content)) > limit:
            raise CheckFailed(f"{os.fspath(path)} has {size:,} bytes: at most {limit:,} are read")
        return content


def read_json(path: str | os.PathLike[str], limit: int = JSON_LIMIT) -> Any:
    """Read and parse a JSON file.

    Raises
    ------
    ValueError
        If it is not JSON, or nested too deeply.
    CheckFailed, OSError
        As :func:`read_whole`.
    """
    return parse_json(read_whole(path, limit))


def parse_json(content: bytes) -> Any:
    """Parse a JSON text; raises ValueError if it is invalid or has millions of lists."""
    if content.count(b"[") + content.count(b"{") > _CONTAINERS + len(content) // 16:
        raise ValueError("too many lists")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("lists are nested too deeply") from None


def _refuse_others(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise CheckFailed(_refusal(path, next((name for test, name in _KINDS if test(mode)), "something else")))


def _refusal(path: str | os.PathLike[str], what: str) -> str:
    return f"{os.fspath(path)} is {what}: only a regular file is accepted"


# -- syncing -----------------------------------------------------------------------------------------------------------


_durable = ContextVar("durable", default=True)


@contextmanager
def unsynced() -> Iterator[None]:
    """Disable syncing within the block, for files deleted at the end of the process."""
    token = _durable.set(False)
    try:
        yield
    finally:
        _durable.reset(token)


def sync_data(fd: int) -> None:
    """Make the content of a file survive a power cut."""
    if _durable.get():
        getattr(os, "fdatasync", os.fsync)(fd)


def sync_file(fd: int) -> None:
    """Make the content and the metadata of a file survive a power cut."""
    if _durable.get():
        os.fsync(fd)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make the names in a directory survive a power cut: new, replaced and removed files."""
    if os.name != "posix" or not _durable.get():  # elsewhere a directory cannot be opened, and need not be
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_parents(path: Path) -> None:
    """Make the name of a directory survive a power cut, and those of all its parents."""
    for parent in path.absolute().parents if _durable.get() else ():
        with suppress(OSError):  # an unreadable parent existed before
            sync_directory(parent)


# -- positioned reads and writes ---------------------------------------------------------------------------------------


def flat(buffers: Buffers) -> tuple[list[memoryview], int]:
    """The buffers as flat bytes, without empty ones (which cannot be cast), and their total size in bytes."""
    views, total = [], 0
    for buffer in buffers:
        view = memoryview(buffer)
        if view.nbytes:
            views.append(view.cast("B"))
            total += view.nbytes
    return views, total


def take(fd: int, views: list[memoryview], position: int, total: int) -> int:
    """Read ``total`` bytes from ``position`` into the views in turn; return the number of bytes read."""
    return _move(_preadv, fd, views, position, total)


def put(fd: int, views: list[memoryview], position: int, total: int) -> None:
    """Write ``total`` bytes at ``position``; raises OSError if not all were written."""
    if _move(_pwritev, fd, views, position, total) < total:
        raise OSError(errno.EIO, "the disk took only a part")


def _move(call: Any, fd: int, views: list[memoryview], position: int, total: int) -> int:
    """Repeat a positioned read or write until `total` bytes have moved or no more do; return the bytes moved."""
    moved = call(fd, views, position) if total else 0
    while moved < total:
        skip, rest = moved, []
        for view in views:
            rest += [view[skip:]] if skip < len(view) else []
            skip = max(0, skip - len(view))
        step = call(fd, rest, position + moved)
        if not step:
            break
        moved += step
    return moved


def _preadv(fd: int, views: list[memoryview], position: int) -> int:
    if _VECTORED:
        return os.preadv(fd, views, position)
    with open(fd, "rb", buffering=0, closefd=False) as file:  # older macOS: one buffer at a time, still no copy
        file.seek(position)
        return file.readinto(views[0]) or 0


def _pwritev(fd: int, views: list[memoryview], position: int) -> int:
    if _VECTORED:
        return os.pwritev(fd, views, position)
    with open(fd, "r+b", buffering=0, closefd=False) as file:
        file.seek(position)
        return file.write(views[0]) or 0
