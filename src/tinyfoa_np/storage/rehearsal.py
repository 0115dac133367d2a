"""An overlay on a flash whose writes do not reach the disk, for work that must leave no trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .flash import Flash


class Rehearsal:
    """Overlay on a flash: written data are kept in memory and read back; other data are read from the flash.

    Parameters
    ----------
    flash : Flash
        The flash below; its counters do not change.
    """

    def __init__(self, flash: Flash) -> None:
        self.flash = flash
        self.written: dict[tuple[str, int], bytearray] = {}
        self.exchanges = 0
        self._made: dict[str, tuple[int, ...]] = {}
        self._dropped: set[str] = set()

    def names(self) -> tuple[str, ...]:
        """Names of all objects."""
        return tuple(name for name in (*self.flash.names(), *self._made) if name not in self._dropped)

    def sizes(self, name: str) -> Sequence[int]:
        """Sizes of an object's items in bytes."""
        return self._made[name] if name in self._made else self.flash.sizes(name)

    def new(self, name: str, sizes: Sequence[int], slots: int = 2) -> None:
        """Make an object, or replace one made by an earlier run."""
        self._made[name] = tuple(sizes)
        self._dropped.discard(name)
        for item, size in enumerate(sizes):
            self.written[name, item] = bytearray(size)

    def drop(self, name: str) -> None:
        """Delete an object."""
        self._dropped.add(name)
        self._made.pop(name, None)
        for key in [key for key in self.written if key[0] == name]:
            del self.written[key]

    def read(self, name: str, item: int, buffers: Sequence[Any], offset: int = 0) -> None:
        kept = self.written.get((name, item))
        if kept is None:
            before = self.flash.read_bytes
            self.flash.read(name, item, buffers, offset)
            self.flash.read_bytes = before
            return
        for buffer in buffers:
            view = memoryview(buffer).cast("B") if memoryview(buffer).nbytes else memoryview(b"")
            if view:
                view[:] = kept[offset : offset + len(view)]
            offset += len(view)

    def write(self, name: str, item: int, buffers: Sequence[Any], offset: int = 0) -> None:
        data = b"".join(memoryview(b).tobytes() for b in buffers)
        if (name, item) not in self.written:
            whole = bytearray(self.sizes(name)[item])
            if len(data) < len(whole):
                self.read(name, item, [whole])
            self.written[name, item] = whole
        self.written[name, item][offset : offset + len(data)] = data

    @contextmanager
    def rewriting(self, name: str, item: int) -> Iterator[None]:
        yield  # written data are not read again before the end

    def verify(self, name: str, item: int, buffer: np.ndarray) -> None:
        """Read an item through a buffer, as a commit does."""
        for offset in range(0, self.sizes(name)[item], buffer.size):
            size = min(buffer.size, self.sizes(name)[item] - offset)
            self.read(name, item, [buffer[:size]], offset)

    def commit(self, buffer: np.ndarray) -> None:
        """Read all written data through a buffer."""
        for name, item in list(self.written):
            self.verify(name, item, buffer)
