"""Audit mode's probe: which bytes of the arena work really touches, found by running it twice without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..storage.flash import Flash
from .arena import PATTERN, Arena


class Rehearsal:
    """A flash that can be written without anything reaching the disk: what was written is kept here, and read back.

    Parameters
    ----------
    flash : Flash
        Answers for everything that has not been written since.
    """

    def __init__(self, flash: Flash) -> None:
        self.flash = flash
        self.written: dict[tuple[str, int], bytearray] = {}
        self.exchanges = 0

    def read(self, name: str, item: int, buffers: Sequence[Any], offset: int = 0) -> None:
        kept = self.written.get((name, item))
        if kept is None:
            self.flash.read(name, item, buffers, offset)
            return
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            view[:] = kept[offset : offset + len(view)]
            offset += len(view)

    def write(self, name: str, item: int, buffers: Sequence[Any], offset: int = 0) -> None:
        data = b"".join(bytes(memoryview(b).cast("B")) for b in buffers)
        if (name, item) not in self.written:
            whole = bytearray(self.flash.sizes(name)[item])
            if len(data) < len(whole):
                self.flash.read(name, item, [whole])
            self.written[name, item] = whole
        self.written[name, item][offset : offset + len(data)] = data

    @contextmanager
    def rewriting(self, name: str, item: int) -> Iterator[None]:
        yield  # what was written is not read again before the end

    def verify(self, name: str, item: int, buffer: np.ndarray) -> None:
        """Reads an item through a buffer, as a commit does."""
        for offset in range(0, self.flash.sizes(name)[item], buffer.size):
            size = min(buffer.size, self.flash.sizes(name)[item] - offset)
            self.read(name, item, [buffer[:size]], offset)


class Probe:
    """Which bytes work really touches: it runs on a pattern and on its complement, from the same state.

    A byte that holds the pattern in one run and the complement in the other was not written. What the next phase does
    not inherit is set back to the pattern when a phase ends, so that each region answers for itself, even where it
    shares bytes: over all runs of a layer every byte of every region must have been written while it lived, and no
    other byte at any time.

    Parameters
    ----------
    arena : Arena
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.places = {r.name: slice(o := arena.plan.offsets[r.name], o + r.nbytes) for r in arena.plan.regions}
        self.written = {r.name: np.zeros(r.nbytes, bool) for r in arena.plan.regions}
        self.stray = np.zeros(arena.block.size, bool)

    def run(self, work: Callable[[], None], state: frozenset[str]) -> None:
        """Runs ``work()`` twice, then puts the block back as it was.

        Parameters
        ----------
        work : callable
            Must do the same each time it is called, and must change nothing outside the arena.
        state : frozenset of str
            Regions that carry their content into the work.
        """
        arena, phase = self.arena, self.arena.phase
        before = arena.block.copy()
        for pattern in (PATTERN, PATTERN ^ 0xFF):
            arena.fill(pattern)
            for name in state:
                arena.block[self.places[name]] = before[self.places[name]]
            arena.phase, arena.watch = phase, partial(self._leave, pattern)
            work()
            self._leave(pattern, arena.phase)
        arena.block[:], arena.phase, arena.watch = before, phase, None

    def _alive(self, *phases: str) -> np.ndarray:
        """Which bytes of the block belong to a region that lives in all of these phases."""
        mask = np.zeros(self.arena.block.size, bool)
        for region in self.arena.plan.regions:
            if all(map(region.lives, phases)):
                mask[self.places[region.name]] = True
        return mask

    def _leave(self, pattern: int, following: str) -> None:
        """Notes what the phase that ends has written, and clears what the following one does not inherit."""
        arena = self.arena
        changed = arena.block != pattern
        for region in arena.plan.regions:
            if region.lives(arena.phase):
                self.written[region.name] |= changed[self.places[region.name]]
        self.stray |= changed & ~self._alive(arena.phase)
        arena.block[~self._alive(arena.phase, following)] = pattern

    def findings(self) -> list[str]:
        """What does not hold, a line each; empty when all is well."""
        found = []
        stray = np.flatnonzero(self.stray)
        if stray.size:
            found.append(f"{stray.size} bytes outside all living regions were written, the first at {int(stray[0])}")
        for name, written in self.written.items():
            idle = written.size - int(np.count_nonzero(written))
            if idle:
                found.append(f"{idle} of {written.size} bytes of region {name} were never written")
        return found
