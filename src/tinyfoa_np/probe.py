"""Audit mode's probe: which bytes of the arena work really touches, found by running it twice without a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arena import PATTERN, Arena
from .flash import Flash


class Rehearsal:
    """A flash that can be written without anything reaching the disk: what was written is kept here, and read back.

    Parameters
    ----------
    flash : Flash
        Answers for everything that has not been written since.
    """

    def __init__(self, flash: Flash) -> None:
        self.flash = flash
        self.written: dict[tuple[str, int], bytes] = {}
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
        if offset == 0:
            self.written[name, item] = b"".join(bytes(memoryview(b).cast("B")) for b in buffers)

    def verify(self, name: str, item: int, buffer: np.ndarray) -> None:
        """Reads an item through a buffer, as a commit does."""
        for offset in range(0, self.flash.sizes(name)[item], buffer.size):
            size = min(buffer.size, self.flash.sizes(name)[item] - offset)
            self.read(name, item, [buffer[:size]], offset)


class Probe:
    """Which bytes work really touches: it runs on a pattern and on its complement, from the same state.

    A byte that holds the pattern after one run and the complement after the other was not written. Over all runs of a
    layer every byte of every region must have been written, and no other byte in any.

    Parameters
    ----------
    arena : Arena
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.regions = np.zeros(arena.block.size, bool)
        for region in arena.plan.regions:
            offset = arena.plan.offsets[region.name]
            self.regions[offset : offset + region.nbytes] = True
        self.touched = np.zeros(arena.block.size, bool)

    def run(self, work: Callable[[], None], state: frozenset[str]) -> None:
        """Runs ``work()`` twice, then puts the block back as it was.

        Parameters
        ----------
        work : callable
            Must do the same each time it is called, and must change nothing outside the arena.
        state : frozenset of str
            Regions that carry their content into the work.
        """
        arena, phase, poison = self.arena, self.arena.phase, self.arena.poison
        before = arena.block.copy()
        arena.poison = False  # or poison would pass for work
        for pattern in (PATTERN, PATTERN ^ 0xFF):
            arena.fill(pattern)
            for name in state:
                begin = arena.plan.offsets[name]
                end = begin + arena.plan.region(name).nbytes
                arena.block[begin:end] = before[begin:end]
            arena.phase = phase
            work()
            self.touched |= arena.block != pattern
        arena.block[:], arena.phase, arena.poison = before, phase, poison

    def findings(self) -> list[str]:
        """What does not hold, a line each; empty when all is well."""
        found = []
        stray = np.flatnonzero(self.touched & ~self.regions)
        if stray.size:
            found.append(f"{stray.size} bytes outside all regions were written, the first at {int(stray[0])}")
        for region in self.arena.plan.regions:
            begin = self.arena.plan.offsets[region.name]
            idle = int(region.nbytes - np.count_nonzero(self.touched[begin : begin + region.nbytes]))
            if idle:
                found.append(f"{idle} of {region.nbytes} bytes of region {region.name} were never written")
        return found
