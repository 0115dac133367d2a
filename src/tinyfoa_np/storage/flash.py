"""Non-volatile store: items are read into and written from the caller's bytes, safe against a kill at any time.

A flash is a directory. Each *object* is one file: a group of *items* of fixed sizes, each with one or two *slots* that
share no page (`tinyfoa_np.storage.item_file`). Beside the data of a slot lies a *seal*: the number of the commit from
which on they belong to the item, and their checksum. Two *roots*, ``root.0`` and ``root.1``, are written alternately. A
commit is the writing of a root, which holds its number and, for each object, the sums of its items' commit numbers and
checksums. So neither RAM nor the root grows with the number of items.

Which slot belongs to commit n? Of the slots whose seal is intact and not newer than n, the newest. Why that is so, and
why the last commit always survives:

- between commits, only slots that do not belong to the last commit are written: the other slot of an item, a new
  object, or working memory, which is in no commit; what is written then is sealed with the number of the next commit;
- a commit seals these data with their checksums and syncs them, then overwrites the *older* root, syncs it, and only
  then removes dropped objects: at every moment there is an intact root all of whose data are intact;
- seals newer than the root, left by a process that did not reach its commit, are deleted by `open`, which is synced
  before the next root: no number is ever in use for the contents of two commits;
- whatever is taken for a lost slot of commit n is older, so that the sum of the commit numbers is less than the root's:
  a slot that is damaged, missing or overwritten never goes unnoticed; and data are compared with their checksum;
- changes since the last commit are known from memory and seals only, which are not trusted after any failure: the flash
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..errors import CheckFailed
from . import root
from .files import Buffers, flat, open_file, refuse_link, sync_directory, sync_file
from .item_file import SEAL_BYTES, CutShort, ItemFile
from .sizes import Sizes

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock, as there is nothing to lock with
    fcntl = None  # type: ignore[assignment]

#: receives the meta of a commit, and the sizes and slots of its objects, before any of them is read; raises if they
#: do not belong to the caller's run
Check = Callable[[dict[str, Any], dict[str, tuple[Sizes, int]]], None]


class FlashError(CheckFailed):
    """The store cannot be read, written or trusted; the message names the file and what to do."""


class Flash:
    """A directory of objects with atomic commits; created by `Flash.create` or `Flash.open`.

    Attributes
    ----------
    read_bytes, written_bytes : int
        Payload moved by `read` and `write` since the flash was created. Roots, seals and reads for verification by
        commits and `open` are not counted, so that a resumed run has the same counts as an uninterrupted one.
    exchanges : int
        Free for the caller to increment; stored with each commit like the other counters.
    wear : int
        Maximum number of passes of writing over any slot of any object so far. A write that begins before the end of
        the previous one, or after a visit to another item of the object, starts another pass; a stream of consecutive
        writes is one pass.
    fallback : str
        Empty, or a description of the damage that `open` found; it may then have opened the last commit but one.
    describing : callable
        A context manager in which `new` makes what stays in RAM of an object.
    """

    def __init__(self, path: str | os.PathLike[str], identity: str) -> None:
        """Lock an existing directory; use `create` or `open` instead, which also prepare or read its content."""
        self._path = Path(path)
        refuse_link(path)
        self._identity = identity
        self._objects: dict[str, ItemFile] = {}
        self._dropped: dict[str, ItemFile] = {}
        self._roots: list[int] = []
        self._sequence = 0
        self._meta: str | None = "{}"  # of the commit that was opened; a later one is only in its root
        self._stopped = ""  # why writing is no longer allowed
        self._listing_changed = True  # whether the directory must be synced before the next root
        self.read_bytes = self.written_bytes = self.exchanges = self.wear = 0
        self.fallback = ""
        self.describing: Callable[[], AbstractContextManager[Any]] = nullcontext
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
        """The meta of the last commit, parsed from its root: a new copy; empty before the first commit."""
        if self._meta is not None:
            return json.loads(self._meta)
        record = root.read(self._path, self._sequence % 2)
        if not isinstance(record, root.Record):
            raise FlashError(f"{self._path}: {record or 'a root is gone'}: open it again")
        return json.loads(record.meta)

    @property
    def bytes(self) -> int:
        """Bytes on flash: items and seals in all slots of all objects (dropped ones until the commit); both roots."""
        entries = (*self._objects.values(), *self._dropped.values())
        roots = sum(os.fstat(fd).st_size for fd in self._roots)
        return sum((entry.sizes.total + SEAL_BYTES * entry.count) * entry.slots for entry in entries) + roots

    def names(self) -> tuple[str, ...]:
        """Names of all objects, in the order they were made."""
        return tuple(self._objects)

    def sizes(self, name: str) -> Sizes:
        """Sizes of an object's items in bytes."""
        return self._object(name).sizes

    def new(self, name: str, sizes: Sequence[int], slots: int = 2) -> None:
        """Make an object: one file of ``len(sizes)`` items, permanent from the next commit on.

        Parameters
        ----------
        name : str
            A plain file name.
        sizes : sequence of int
            Bytes of each item; `Sizes` if there are many.
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
        known = Sizes.of(sizes)
        if slots not in (0, 1, 2) or any(size < 0 for _, line in known.lines for _, size in line):
            raise ValueError(f"object {name!r} needs 0, 1 or 2 slots and sizes of at least 0")
        with self._careful(f"make {name}"):
            fd = _writable(self._path / name, os.O_CREAT | os.O_EXCL)
            with self.describing():
                entry = self._objects[name.encode().decode()] = ItemFile(fd, known, slots)  # a name of its own
            self._listing_changed = True
            os.ftruncate(fd, entry.nbytes)

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
        self._turn(name, entry, item, offset, total)
        if not entry.sealed:
            raise FlashError(f"{self._path / name}: item {item} was never written: write it before reading it")
        try:
            moved = entry.read(views, total, offset)
        except OSError as cause:
            raise FlashError(_told(f"read item {item} of {self._path / name}", cause)) from cause
        if moved < total:
            raise FlashError(f"{self._path / name}: item {item} is cut short: restore the directory or train again")
        self.read_bytes += total

    @contextmanager
    def rewriting(self, name: str, item: int) -> Iterator[None]:
        """Replace an item piece by piece: inside, reads return the old data, and pieces are written in any order.

        A piece must not be read after it is written, because an item that is in no commit is rewritten in place. Other
        items of the object cannot be read or written inside.

        Raises
        ------
        ValueError
            If the pieces do not add up to the item's size; the flash then accepts no more writes.
        """
        self._refuse_if_stopped()
        entry = self._object(name)
        self._turn(name, entry, item)
        entry.rewritten = 0
        with self._careful(f"rewrite item {item} of {name}"):
            yield
            if entry.rewritten != entry.size:
                written = f"{entry.rewritten} of {entry.size} bytes"
                raise ValueError(f"{written} of item {item} of {name!r} were rewritten")
            entry.rewrite(self._sequence + 1)

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
        entry, commit = self._object(name), self._sequence + 1
        views, total = flat(buffers)
        self._turn(name, entry, item, offset, total)
        if entry.slots == 1:
            if entry.named:
                raise ValueError(f"object {name!r} has one slot and is committed: it can no longer be written")
        elif total != entry.size and entry.rewritten is None and not entry.written_since(commit):
            raise ValueError(f"the first write to item {item} of {name!r} after a commit must cover the whole item")
        try:
            self.wear = max(self.wear, entry.write(views, total, offset, commit))
        except BaseException as cause:
            self._stop(f"write item {item} of {name}", cause)
            raise
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
        view = _scratch(buffer)
        body = root.Body(self._identity, meta)  # raises before anything is written
        with self._careful("commit"):
            for name, entry in self._lasting():
                try:
                    entry.commit(self._sequence + 1, view)
                except CutShort as cut:
                    raise FlashError(f"{self._path / name}: {cut} was cut short by something else: resume") from cut
            if self._listing_changed:  # the root must not name files that a power cut could remove
                sync_directory(self._path)
                self._listing_changed = False
            self._write_root(body, view)
            self._sequence += 1
            self._meta = None
            for _, entry in self._lasting():
                entry.committed()
            while self._dropped:
                name, entry = self._dropped.popitem()
                self._listing_changed = True
                os.close(entry.fd)
                os.unlink(self._path / name)

    def _write_root(self, body: root.Body, view: memoryview) -> None:
        counters, sequence = {name: getattr(self, name) for name in root.COUNTERS}, self._sequence + 1
        fd = self._roots[sequence % 2]  # by parity, never the root that was opened or committed last
        body.write(fd, sequence, counters, self._known, view)
        sync_file(fd)

    def _known(self) -> Iterator[tuple[str, root.Object]]:
        """What the next root says about each object."""
        for name, entry in self._lasting():
            yield name, root.Object(entry.sizes, entry.slots, entry.commits, entry.checksums)

    def _lasting(self) -> Iterator[tuple[str, ItemFile]]:
        """The objects that are part of commits."""
        return ((name, entry) for name, entry in self._objects.items() if entry.lasting)

    def _load(self, view: memoryview, check: Check | None) -> None:
        """Load the newest intact root whose data are intact; the lock is held."""
        found = [root.read(self._path, parity) for parity in (0, 1)]
        records = [record for record in found if isinstance(record, root.Record)]
        problems = [problem for problem in found if isinstance(problem, str)]
        if not records and any(problem.endswith(root.OTHER_FORMAT) for problem in problems):
            raise FlashError(
                f"{self._path} was written in another format by an earlier or later version of tinyfoa-np (this version"
                f" reads format {root.FORMAT}): resume the run with the version that began it, or train again"
            )
        if len(records) == 1 and not problems and records[0].sequence > 1:  # later commits have two roots
            problems.append(f"{root.NAMES[(records[0].sequence + 1) % 2]} is missing or empty")
        # sequence numbers differ, as their parities do
        for record in sorted(records, key=lambda record: record.sequence, reverse=True):
            if record.identity != self._identity:
                raise FlashError(f"{self._path} belongs to another recipe: resume it with its own, or choose a new one")
            if check:
                check(json.loads(record.meta), {name: (one.sizes, one.slots) for name, one in record.objects.items()})
            problem = self._adopt(record, view)
            if not problem:
                for entry in self._objects.values():
                    entry.forget_after(record.sequence)
                self._sequence = record.sequence
                self._meta = record.meta
                for name, count in record.counters.items():
                    setattr(self, name, count)
                self.fallback = "; ".join(problems)
                return
            problems.append(problem)
        told = "; ".join(dict.fromkeys(problems))  # two commits can share what is damaged
        raise FlashError(f"{self._path} is damaged ({told}): restore it from a copy or train again")

    def _adopt(self, record: root.Record, view: memoryview) -> str:
        """Open and verify all objects that a root names; return a description of the damage, or an empty string."""
        for entry in self._objects.values():
            os.close(entry.fd)
        self._objects = {}
        for name, known in record.objects.items():
            if not _plain(name):
                return f"{name!r} is not a plain file name"
            try:
                fd = _writable(self._path / name)
            except FileNotFoundError:
                return f"{name} is missing"
            entry = self._objects[name] = ItemFile(fd, known.sizes, known.slots)
            entry.commits, entry.checksums, entry.named = known.commits, known.checksums, True
            try:
                damage = entry.verify(record.sequence, view)
            except OSError as cause:
                if cause.errno != errno.EIO:  # a bad medium is damage; other errors may be temporary
                    raise
                damage = f"item {entry.item} cannot be read"
            if damage:
                return f"{name} {damage}"
        return ""

    def _object(self, name: str) -> ItemFile:
        entry = self._objects.get(name)
        if entry is None:
            raise ValueError(f"there is no object {name!r}")
        return entry

    def _turn(self, name: str, entry: ItemFile, item: int, offset: int = 0, total: int = 0) -> None:
        """Make an item the object's current one, and check a range of its bytes."""
        if item != entry.item:
            if not 0 <= item < entry.count:
                raise ValueError(f"object {name!r} has {entry.count} items, there is no item {item}")
            if entry.rewritten is not None:
                raise ValueError(f"item {entry.item} of {name!r} is being rewritten: finish it before item {item}")
            if entry.unsaved and not self._stopped:
                with self._careful(f"write item {entry.item} of {name}"):
                    entry.save()
            try:
                entry.turn(item, self._sequence + 1)
            except OSError as cause:
                raise FlashError(_told(f"read item {item} of {self._path / name}", cause)) from cause
        if offset < 0 or offset + total > entry.size:
            raise ValueError(f"item {item} of {name!r} has {entry.size} bytes, not {total} from {offset} on")

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise FlashError(f"{self._path} accepts no more writes ({self._stopped}): open it again at its last commit")

    @contextmanager
    def _careful(self, doing: str) -> Iterator[None]:
        """Stop all further writing if anything fails inside, even an interrupt, as memory and disk may disagree."""
        try:
            yield
        except BaseException as cause:
            self._stop(doing, cause)
            raise

    def _stop(self, doing: str, cause: BaseException) -> None:
        """Allow no more writing; raises FlashError if the disk reported an error."""
        if isinstance(cause, OSError):
            self._stopped = _told(doing, cause)
            last = "the last commit is intact, resume from it" if self._sequence else "nothing was committed yet"
            raise FlashError(f"{self._path}: {self._stopped}: {last}") from cause
        self._stopped = f"{doing} failed: {cause}"

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


def _scratch(buffer: memoryview) -> memoryview:
    views, total = flat([buffer])
    if not total or views[0].readonly:
        raise ValueError("verifying needs a writable buffer of at least one byte")
    return views[0]


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
