"""Non-volatile store: items are read into and written from the caller's bytes, safe against a kill at any time.

A flash is a directory. Each *object* is one file: a group of *items* of fixed sizes, each with one or two *slots* that
begin on 4096-byte boundaries, so that no two slots share a page. Two *roots*, ``root.0`` and ``root.1``, are written
alternately. A commit is the writing of a root, which names the current slot and the checksum of every item.

Why the last commit always survives:

- between commits, only slots that the last root does not name are written: the other slot of an item, a new object, or
  working memory, which no root ever names;
- a commit first syncs these data, then overwrites the *older* root, syncs it, and only then removes dropped objects:
  at every moment there is an intact root that names only intact data;
- changes since the last commit are known in memory only, and this memory is not trusted after any failure: the flash
  accepts no more writes until it is opened again, which determines what reached the disk.

    with Flash.create("flash", "my recipe") as flash:
        flash.new("weights", sizes=[4096, 4096])
        flash.write("weights", 0, [array])
        flash.commit({"epoch": 1}, scratch)
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from operator import index
from pathlib import Path
from typing import Any

from ..errors import CheckFailed
from . import root
from .files import Buffers, flat, open_file, put, refuse_link, sync_data, sync_directory, sync_file, take
from .root import NEVER

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock, as there is nothing to lock with
    fcntl = None  # type: ignore[assignment]

ALIGNMENT = 4096
#: receives the meta of a commit, and the sizes and slots of its objects, before any of them is read; raises if they
#: do not belong to the caller's run
Check = Callable[[dict[str, Any], dict[str, tuple[list[int], int]]], None]


class FlashError(CheckFailed):
    """The store cannot be read, written or trusted; the message names the file and what to do."""


class _Object:
    """One file of items, and the slot of each with the latest data: the committed slot, unless the item is dirty."""

    def __init__(self, fd: int, sizes: Sequence[int], slots: int) -> None:
        self.fd = fd
        self.sizes = tuple(map(index, sizes))  # plain integers, for JSON
        self.lasting, self.slots = slots > 0, max(1, slots)
        self.strides = [-(-size // ALIGNMENT) * ALIGNMENT for size in self.sizes]
        self.starts = [0, *accumulate(stride * self.slots for stride in self.strides)]  # the last is the file's end
        self.latest = [NEVER] * len(self.sizes)
        self.crcs: list[int | None] = [None] * len(self.sizes)
        self.wear = [0] * (len(self.sizes) * self.slots)  # passes of writing over each slot, item-major
        self.ends = [sys.maxsize] * len(self.wear)  # end of the last write to each slot; the first is a pass
        self.dirty: set[int] = set()  # items written since the last commit
        self.rewriting: dict[int, list[int]] = {}  # items being rewritten: target slot, bytes written
        self.named = False  # whether a root names this object already

    def free_slot(self, item: int) -> int:
        """The slot for the next write: one that the last commit does not name."""
        if self.slots == 1 or self.latest[item] == NEVER:
            return 0
        return self.latest[item] if item in self.dirty else 1 - self.latest[item]


class Flash:
    """A directory of objects with atomic commits; created by `Flash.create` or `Flash.open`.

    Attributes
    ----------
    read_bytes, written_bytes : int
        Payload moved by `read` and `write` since the flash was created. Roots and reads for verification by commits and
        `open` are not counted, so that a resumed run has the same counts as an uninterrupted one.
    exchanges : int
        Free for the caller to increment; stored with each commit like the other counters.
    wear : int
        Maximum number of passes of writing over any slot of any object so far. A write that begins before the end of
        the previous one in its slot starts another pass, so a stream of consecutive writes is one pass.
    fallback : str
        Empty, or a description of the damage that `open` found; it may then have opened the last commit but one.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str) -> None:
        """Lock an existing directory; use `create` or `open` instead, which also prepare or read its content."""
        self._path = Path(path)
        refuse_link(path)
        self._identity = identity
        self._objects: dict[str, _Object] = {}
        self._dropped: dict[str, _Object] = {}
        self._roots: list[int] = []
        self._sequence = 0
        self._meta = "{}"
        self._stopped = ""  # why writing is no longer allowed
        self._listing_changed = True  # whether the directory must be synced before the next root
        self.read_bytes = self.written_bytes = self.exchanges = self.wear = 0
        self.fallback = ""
        self._lock = _writable(self._path / "lock", os.O_CREAT)
        try:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            self.close()
            if not isinstance(cause, BlockingIOError):
                raise
            raise FlashError(f"{self._path} is in use by another process: wait until it ends, or stop it") from cause

    @classmethod
    def create(cls, path: str | os.PathLike[str], identity: str) -> Flash:
        """Make a new, empty flash at `path` and lock it; `identity` describes the data and must match in `open`.

        The directory may exist if it is empty, or if it is a flash that was never committed, which is then emptied.

        Raises
        ------
        FlashError
            If the directory holds a commit or other files, is in use, or cannot be written.
        """
        path = Path(path)
        with _reported(f"create the flash {path}"):
            path.mkdir(parents=True, exist_ok=True)
            if not _is_flash(path):
                raise FlashError(f"{path} is not empty and not a flash: choose a new directory")
            flash = cls(path, identity)
            try:
                if root.committed(path):
                    raise FlashError(f"{path} already holds a commit: resume it, or choose a new directory")
                flash._tidy()
                for fd in flash._roots:
                    os.ftruncate(fd, 0)  # a first record torn by a power cut
                sync_directory(path)  # a flash without its roots must contain nothing else, whatever is lost
                sync_directory(path.parent)
            except BaseException:
                flash.close()
                raise
            return flash

    @classmethod
    def open(cls, path: str | os.PathLike[str], identity: str, buffer: memoryview, check: Check | None = None) -> Flash:
        """Open the newest commit of which every current slot verifies, and remove files that it does not name.

        Parameters
        ----------
        path, identity
            As for `create`.
        buffer : memoryview
            Writable and contiguous, at least one byte; data pass through it for verification. Larger is faster.
        check : callable, optional
            Called with the commit's meta, and each object's sizes and slots, before any of them is opened.

        Raises
        ------
        CheckFailed
            If ``check`` raises it, or a file is not a regular file.
        FlashError
            If there is no commit, none is intact (the message names the damaged file and item), the identity differs,
            the directory is in use, or the disk reports an error.
        """
        path = Path(path)
        view = _scratch(buffer)
        with _reported(f"open the flash {path}"):
            if not path.is_dir() or not root.committed(path):
                raise FlashError(f"{path} holds no commit: begin a new run instead of resuming this one")
            flash = cls(path, identity)
            try:
                flash._load(view, check)
                flash._tidy()
            except BaseException:
                flash.close()
                raise
            return flash

    def close(self) -> None:
        """Close all files and release the lock; data written since the last commit are lost. May be repeated."""
        self._stopped = self._stopped or "it was closed"
        for entry in (*self._objects.values(), *self._dropped.values()):
            os.close(entry.fd)
        for fd in (*self._roots, *([self._lock] if self._lock >= 0 else [])):  # the lock is released last
            os.close(fd)
        self._objects, self._dropped, self._roots, self._lock = {}, {}, [], -1

    def __enter__(self) -> Flash:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def meta(self) -> Any:
        """The meta of the last commit, as parsed from JSON: a new copy; empty before the first commit."""
        return json.loads(self._meta)

    @property
    def bytes(self) -> int:
        """Bytes on flash: sizes times slots over all objects (dropped ones until the commit), plus both roots."""
        entries = (*self._objects.values(), *self._dropped.values())
        roots = sum(os.fstat(fd).st_size for fd in self._roots)
        return sum(sum(entry.sizes) * entry.slots for entry in entries) + roots

    def names(self) -> tuple[str, ...]:
        """Names of all objects, in the order they were made."""
        return tuple(self._objects)

    def sizes(self, name: str) -> tuple[int, ...]:
        """Sizes of an object's items in bytes."""
        return self._object(name).sizes

    def new(self, name: str, sizes: Sequence[int], slots: int = 2) -> None:
        """Make an object: one file of ``len(sizes)`` items, permanent from the next commit on.

        Parameters
        ----------
        name : str
            A plain file name.
        sizes : sequence of int
            Bytes of each item.
        slots : {2, 1, 0}
            2: can be rewritten after a commit. 1: written once, in any pieces, before the object's first commit. 0:
            working memory in one slot, written in any pieces at any time, and part of no commit: it is deleted when the
            flash is opened again.

        Raises
        ------
        ValueError
            If the name is in use, was dropped since the last commit or is not a plain file name, or if sizes or slots
            are invalid.
        FlashError
            If the file cannot be created.
        """
        self._refuse_if_stopped()
        if not _plain(name) or name in self._objects:
            raise ValueError(f"object name {name!r} is taken or is not a plain file name")
        if name in self._dropped:  # its file is part of the last commit until the next one
            raise ValueError(f"object {name!r} was dropped since the last commit: commit before making it anew")
        if slots not in (0, 1, 2) or any(size < 0 for size in sizes):
            raise ValueError(f"object {name!r} needs 0, 1 or 2 slots and sizes of at least 0")
        with self._careful(f"make {name}"):
            fd = _writable(self._path / name, os.O_CREAT | os.O_EXCL)
            entry = self._objects[name] = _Object(fd, sizes, slots)
            self._listing_changed = True
            os.ftruncate(fd, entry.starts[-1])

    def drop(self, name: str) -> None:
        """Delete an object. It is gone with the next commit; its file is removed once that is durable."""
        self._refuse_if_stopped()
        self._object(name)  # there must be one
        self._dropped[name] = self._objects.pop(name)

    def read(self, name: str, item: int, buffers: Buffers, offset: int = 0) -> None:
        """Read the latest data of an item, starting at `offset`, into the buffers one after another.

        Parameters
        ----------
        name, item
            Name of the object, and number of the item in it.
        buffers : sequence of arrays or memoryviews
            Writable, C-contiguous, any shape and dtype; filled completely, in order, without intermediate copies.
        offset : int
            First byte within the item.

        Raises
        ------
        ValueError
            If there is no such item, or the requested bytes are not within it.
        FlashError
            If the item was never written or is truncated, or the disk reports an error.
        """
        entry = self._object(name)
        views, total = flat(buffers)
        _check_range(name, entry, item, offset, total)
        slot = entry.latest[item]
        if slot == NEVER:
            raise FlashError(f"{self._path / name}: item {item} was never written: write it before reading it")
        try:
            moved = take(entry.fd, views, entry.starts[item] + slot * entry.strides[item] + offset, total)
        except OSError as cause:
            raise FlashError(_told(f"read item {item} of {self._path / name}", cause)) from cause
        if moved < total:
            raise FlashError(f"{self._path / name}: item {item} is cut short: restore the directory or train again")
        self.read_bytes += total

    @contextmanager
    def rewriting(self, name: str, item: int) -> Iterator[None]:
        """Replace an item piece by piece: inside, reads return the old data, and pieces are written in any order.

        A piece must not be read after it is written, because an item that is in no commit is rewritten in place.

        Raises
        ------
        ValueError
            If the pieces do not add up to the item's size; the flash then accepts no more writes.
        """
        self._refuse_if_stopped()
        entry = self._object(name)
        _check_range(name, entry, item, 0, 0)
        entry.rewriting[item] = [entry.free_slot(item), 0]
        with self._careful(f"rewrite item {item} of {name}"):
            yield
            slot, written = entry.rewriting.pop(item)
            if written != entry.sizes[item]:
                raise ValueError(f"{written} of {entry.sizes[item]} bytes of item {item} of {name!r} were rewritten")
            entry.latest[item] = slot
            entry.dirty.add(item)

    def write(self, name: str, item: int, buffers: Buffers, offset: int = 0) -> None:
        """Write buffers, one after another, to an item from `offset` on; durable with the next commit.

        With two slots, the first write after a commit goes to the slot that is not current and must cover the whole
        item, because that slot holds older bytes. Later writes of any extent go to the same slot. With one slot, any
        extent may be written at any time before the object's first commit; bytes never written read as zeros.

        The parameters are those of `read`; the buffers may be read-only.

        Raises
        ------
        ValueError
            If there is no such item, the bytes do not fit in it, or the rules above forbid the write.
        FlashError
            If the disk reports an error (full, read-only, ...): the last commit is intact, but reopen the flash.
        """
        self._refuse_if_stopped()
        entry = self._object(name)
        views, total = flat(buffers)
        _check_range(name, entry, item, offset, total)
        slot, part = entry.free_slot(item), entry.rewriting.get(item)
        if entry.slots == 1:
            if entry.named:
                raise ValueError(f"object {name!r} has one slot and is committed: it can no longer be written")
        elif part is None and item not in entry.dirty and total != entry.sizes[item]:
            raise ValueError(f"the first write to item {item} of {name!r} after a commit must cover the whole item")
        with self._careful(f"write item {item} of {name}"):
            put(entry.fd, views, entry.starts[item] + slot * entry.strides[item] + offset, total)
            if part is None:
                entry.latest[item] = slot
                entry.dirty.add(item)
            else:
                part[1] += total
            place = item * entry.slots + slot
            if offset < entry.ends[place]:
                entry.wear[place] += 1
                self.wear = max(self.wear, entry.wear[place])
            entry.ends[place] = offset + total
            self.written_bytes += total

    def commit(self, meta: Any, buffer: memoryview) -> None:
        """Make all changes since the last commit durable (writes, new and dropped objects), in one atomic step.

        Parameters
        ----------
        meta : dict
            A JSON-compatible value; `meta` returns it.
        buffer : memoryview
            Writable and contiguous, at least one byte; written items pass through it for their checksums.

        Raises
        ------
        TypeError, ValueError
            If `meta` is not JSON-compatible or the buffer is empty; nothing has changed then.
        FlashError
            If the disk reports an error. Opening again gives the last commit (or this one, if its root was written).
        """
        self._refuse_if_stopped()
        text = json.dumps(meta)
        view = _scratch(buffer)
        with self._careful("commit"):
            lasting = {name: entry for name, entry in self._objects.items() if entry.lasting}
            for name, entry in lasting.items():
                for item in sorted(entry.dirty):
                    entry.crcs[item], whole = _checksum(entry, item, entry.latest[item], view)
                    if not whole:
                        raise FlashError(f"{self._path / name}: item {item} was cut short by something else: resume")
                if entry.dirty or not entry.named:
                    sync_data(entry.fd)
            if self._listing_changed:  # the root must not name files that a power cut could remove
                sync_directory(self._path)
                self._listing_changed = False
            self._write_root(text)
            self._sequence += 1
            self._meta = text
            for entry in lasting.values():
                entry.dirty.clear()
                entry.named = True
            while self._dropped:
                name, entry = self._dropped.popitem()
                self._listing_changed = True
                os.close(entry.fd)
                os.unlink(self._path / name)

    def _write_root(self, meta: str) -> None:
        objects = {
            name: {"sizes": o.sizes, "slots": o.slots, "current": o.latest, "crcs": o.crcs, "wear": o.wear}
            for name, o in self._objects.items()
            if o.lasting
        }
        counters = {name: getattr(self, name) for name in root.COUNTERS}
        record = root.Record(self._sequence + 1, self._identity, meta, counters, objects)
        fd = self._roots[record.sequence % 2]  # by parity, never the root that was opened or committed last
        views, total = flat(root.packed(record))
        put(fd, views, 0, total)
        sync_file(fd)

    def _load(self, view: memoryview, check: Check | None) -> None:
        """Load the newest intact root whose data are intact; the lock is held."""
        found = [root.read(self._path, parity) for parity in (0, 1)]
        records = [record for record in found if isinstance(record, root.Record)]
        problems = [problem for problem in found if isinstance(problem, str)]
        if len(records) == 1 and not problems and records[0].sequence > 1:  # later commits have two roots
            problems.append(f"{root.NAMES[(records[0].sequence + 1) % 2]} is missing or empty")
        # sequence numbers differ, as their parities do
        for record in sorted(records, key=lambda record: record.sequence, reverse=True):
            if record.identity != self._identity:
                raise FlashError(f"{self._path} belongs to another recipe: resume it with its own, or choose a new one")
            if check:
                objects = {name: (known["sizes"], known["slots"]) for name, known in record.objects.items()}
                check(json.loads(record.meta), objects)
            problem = self._adopt(record.objects, view)
            if not problem:
                self._sequence = record.sequence
                self._meta = record.meta
                for name, count in record.counters.items():
                    setattr(self, name, count)
                self.fallback = "; ".join(problems)
                return
            problems.append(problem)
        raise FlashError(f"{self._path} is damaged ({'; '.join(problems)}): restore it from a copy or train again")

    def _adopt(self, objects: dict[str, Any], view: memoryview) -> str:
        """Open and verify all objects that a root names; return a description of the damage, or an empty string."""
        for entry in self._objects.values():
            os.close(entry.fd)
        self._objects = {}
        for name, fields in objects.items():
            if not _plain(name):
                return f"{name!r} is not a plain file name"
            try:
                fd = _writable(self._path / name)
            except FileNotFoundError:
                return f"{name} is missing"
            entry = self._objects[name] = _Object(fd, fields["sizes"], fields["slots"])
            entry.latest, entry.crcs, entry.wear = fields["current"], fields["crcs"], fields["wear"]
            entry.named = True
            for item, slot in enumerate(entry.latest):
                if slot == NEVER:
                    continue
                try:
                    crc, whole = _checksum(entry, item, slot, view)
                except OSError as cause:
                    if cause.errno != errno.EIO:  # a bad medium is damage; other errors may be temporary
                        raise
                    return f"{name} item {item} cannot be read"
                if not whole:
                    return f"{name} item {item} is cut short"
                if crc != entry.crcs[item]:
                    return f"{name} item {item} has a wrong checksum"
        return ""

    def _object(self, name: str) -> _Object:
        entry = self._objects.get(name)
        if entry is None:
            raise ValueError(f"there is no object {name!r}")
        return entry

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise FlashError(f"{self._path} accepts no more writes ({self._stopped}): open it again at its last commit")

    @contextmanager
    def _careful(self, doing: str) -> Iterator[None]:
        """Stop all further writing if anything fails inside, even an interrupt, as memory and disk may disagree."""
        try:
            yield
        except OSError as cause:
            self._stopped = _told(doing, cause)
            last = "the last commit is intact, resume from it" if self._sequence else "nothing was committed yet"
            raise FlashError(f"{self._path}: {self._stopped}: {last}") from cause
        except BaseException as cause:
            self._stopped = f"{doing} failed: {cause}"
            raise

    def _tidy(self) -> None:
        """Remove files that no root names (uncommitted, or left by an interrupted removal); open both roots."""
        for name in set(os.listdir(self._path)) - set(self._objects) - set(root.RESERVED):
            if not stat.S_ISDIR(os.lstat(self._path / name).st_mode):  # of a link, only the link itself is removed
                os.unlink(self._path / name)
        self._roots = [_writable(self._path / name, os.O_CREAT) for name in root.NAMES]


def vacant(path: str | os.PathLike[str]) -> bool:
    """Whether `Flash.create` accepts a directory: it does not exist, is empty, or is a flash without a commit.

    Raises
    ------
    CheckFailed
        If it, or a root in it, is a link or not a file.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    refuse_link(path)
    if not path.exists():
        return True
    return _is_flash(path) and not root.committed(path)


def _is_flash(path: Path) -> bool:
    """Whether a directory is empty or a flash; a flash has its roots before any object."""
    there = set(os.listdir(path))
    return there <= set(root.RESERVED) or there >= set(root.NAMES)


def _checksum(entry: _Object, item: int, slot: int, view: memoryview) -> tuple[int, bool]:
    """CRC-32 of one slot, read through `view`, and whether the slot was complete."""
    position, left, crc = entry.starts[item] + slot * entry.strides[item], entry.sizes[item], 0
    while left:
        piece = view[:left]
        if take(entry.fd, [piece], position, len(piece)) < len(piece):
            return crc, False
        crc = zlib.crc32(piece, crc)
        position += len(piece)
        left -= len(piece)
    return crc, True


def _scratch(buffer: memoryview) -> memoryview:
    views, total = flat([buffer])
    if not total or views[0].readonly:
        raise ValueError("verifying needs a writable buffer of at least one byte")
    return views[0]


def _check_range(name: str, entry: _Object, item: int, offset: int, total: int) -> None:
    if not 0 <= item < len(entry.sizes):
        raise ValueError(f"object {name!r} has {len(entry.sizes)} items, there is no item {item}")
    if offset < 0 or offset + total > entry.sizes[item]:
        raise ValueError(f"item {item} of {name!r} has {entry.sizes[item]} bytes, not {total} from {offset} on")


def _writable(path: Path, flags: int = 0) -> int:
    return open_file(path, os.O_RDWR | flags)


def _plain(name: str) -> bool:
    return bool(name) and name not in root.RESERVED and name[0] != "." and not set(name) & set("/\\\0")


def _told(doing: str, cause: OSError) -> str:
    return f"cannot {doing} ({cause.strerror or cause})"


@contextmanager
def _reported(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise FlashError(f"{_told(doing, cause)}: check the directory and its permissions") from cause
