"""Files that may come from strangers: regular files only, never through a link, never more than a limit; and syncing.

Everything that is read from a run directory, or written into one in place, is opened here. A stranger can put a link to
any file of yours, a FIFO or a device where a file should be; each is refused with one line, before anything is read or
changed, and without waiting. What is promised, and what not, stands in SECURITY.md.
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

Buffers = Sequence[Any]  # of anything with a C-contiguous buffer: arrays, memoryviews, bytes

#: bytes of the largest file of each kind that is read whole; JSON files of real runs stay far below
RECIPE_LIMIT, JSON_LIMIT, ROWS_LIMIT = 1 << 20, 1 << 23, 1 << 25
#: lists and objects in a JSON file: so many at least, more with the bytes. Empty ones take 64 bytes of RAM for two.
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
    """The descriptor of a regular file; does not follow a link, and does not wait for a FIFO.

    Parameters
    ----------
    path : path
        Links on the way to the file's directory are followed: that path is the caller's own.
    flags : int
        As for `os.open`.

    Raises
    ------
    CheckFailed
        If something is there that is not a regular file.
    OSError
        As `os.open`, for example if there is nothing.
    """
    with suppress(FileNotFoundError):
        _refuse_others(path, os.lstat(path).st_mode)  # before opening: to open a device can have effects
    for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):  # not every system has each
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
    """Refuses a directory of a run that is a link.

    Raises
    ------
    CheckFailed
        If it is a symbolic link.
    """
    if os.path.islink(path):
        raise CheckFailed(f"{os.fspath(path)} is a symbolic link: put the directory itself in its place")


def size_of(path: str | os.PathLike[str]) -> int:
    """Bytes of a regular file; 0 if there is none. Raises as :func:`open_file`."""
    try:
        mode = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    _refuse_others(path, mode.st_mode)
    return mode.st_size


def read_whole(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises
    ------
    CheckFailed
        If it is larger, or no regular file.
    OSError
        If it is not there or cannot be read.
    """
    fd = open_file(path)
    with open(fd, "rb") as file:
        size = os.fstat(fd).st_size
        content = file.read(min(size, limit) + 1)  # a byte more, if it has grown
        if max(size, len(content)) > limit:
            raise CheckFailed(f"{os.fspath(path)} has {size:,} bytes: at most {limit:,} are read")
        return content


def read_json(path: str | os.PathLike[str], limit: int = JSON_LIMIT) -> Any:
    """What a JSON file holds.

    Raises
    ------
    ValueError
        If it is not JSON, or nested too deeply.
    CheckFailed, OSError
        As :func:`read_whole`.
    """
    return parse_json(read_whole(path, limit))


def parse_json(content: bytes) -> Any:
    """What a JSON text holds; raises ValueError where it is none, or has lists by the million."""
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
    """Within it nothing is synced: for files that go when the process ends, and need not survive a power cut."""
    token = _durable.set(False)
    try:
        yield
    finally:
        _durable.reset(token)


def sync_data(fd: int) -> None:
    """Makes the content of a file survive a power cut."""
    if _durable.get():
        getattr(os, "fdatasync", os.fsync)(fd)


def sync_file(fd: int) -> None:
    """Makes the content of a file and what is known about it survive a power cut."""
    if _durable.get():
        os.fsync(fd)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Makes the names in a directory survive a power cut: those of new, replaced and removed files."""
    if os.name != "posix" or not _durable.get():  # elsewhere a directory cannot be opened, and need not be
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_parents(path: Path) -> None:
    """Makes the name of a directory survive a power cut, and those of all directories that it is in."""
    for parent in path.absolute().parents if _durable.get() else ():
        with suppress(OSError):  # one that may not be read was there before
            sync_directory(parent)


# -- positioned reads and writes ---------------------------------------------------------------------------------------


def flat(buffers: Buffers) -> tuple[list[memoryview], int]:
    """The buffers as flat bytes, without the empty ones (which cannot be cast), and the number of all their bytes."""
    views, total = [], 0
    for buffer in buffers:
        view = memoryview(buffer)
        if view.nbytes:
            views.append(view.cast("B"))
            total += view.nbytes
    return views, total


def take(fd: int, views: list[memoryview], position: int, total: int) -> int:
    """Reads ``total`` bytes from a position on into one view after the other; how many were there."""
    return _move(_preadv, fd, views, position, total)


def put(fd: int, views: list[memoryview], position: int, total: int) -> None:
    """Writes ``total`` bytes from a position on; raises OSError where not all were taken."""
    if _move(_pwritev, fd, views, position, total) < total:
        raise OSError(errno.EIO, "the disk took only a part")


def _move(call: Any, fd: int, views: list[memoryview], position: int, total: int) -> int:
    """Repeat a positioned read or write until `total` bytes have moved, or nothing moves; the bytes moved."""
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
