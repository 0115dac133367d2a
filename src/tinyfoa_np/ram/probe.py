"""Audit mode's instruments on the arena: which bytes each phase changes, and whether anything else holds what it needs.

Two of them. The :class:`Guard` sits on the arena of the training itself and compares it, phase by phase, with what it
was before: only regions that declare to be written in a phase may have changed. As regions share bytes there, one that
is used after its lifetime may hide in another. So the :class:`Probe` also lets some of the work run in an arena of its
own, where regions share nothing, twice, on a pattern and on its complement, with everything beside the arena made anew:
then a byte that changes says whose it is, and what the work leaves must be the same both times and in the training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .allocations import Trace
from .arena import PATTERN, Arena
from .packing import Plan, Region, spread


@dataclass
class Findings:
    """What does not hold, in order; a kind of finding is told once, from where it was met first."""

    lines: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, kind: str, about: str, line: str) -> None:
        """Adds a line, unless there is one of its kind about the same."""
        self.lines.setdefault((kind, about), line)

    def __iter__(self) -> Any:
        return iter(self.lines.values())


def _places(plan: Plan) -> dict[str, slice]:
    return {r.name: slice(plan.offsets[r.name], plan.offsets[r.name] + r.nbytes) for r in plan.regions}


def _gaps(places: Sequence[slice], size: int) -> list[slice]:
    """What of a block of so many bytes lies in none of these places."""
    found, end = [], 0
    for place in sorted(places, key=lambda place: (place.start, place.stop)):
        if place.start > end:
            found.append(slice(end, place.start))
        end = max(end, place.stop)
    return [*found, slice(end, size)] if end < size else found


class Guard:
    """Watches an arena in use: what a phase does not declare as written must stay as it was, alive or not.

    Parameters
    ----------
    arena : Arena
        Laid out with the plan to be guarded.
    findings : Findings
    trace : Trace
        What the guard allocates itself does not count there.

    Attributes
    ----------
    now : str
        What is being done, in words, for findings.
    """

    def __init__(self, arena: Arena, findings: Findings, trace: Trace) -> None:
        self.arena, self.findings, self.trace, self.now = arena, findings, trace, ""
        self._places = _places(arena.plan)
        self._expected = arena.block.copy()
        self._changed = np.zeros(arena.block.size, bool)
        self._kept: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}

    def arm(self) -> None:
        """From now on, phases are checked as they end."""
        self._expected[:] = self.arena.block
        self.arena.watch = self._leave

    def disarm(self) -> None:
        """Checks the phase that is going on; those that follow are not."""
        if self.arena.watch is not None:
            self.check()
            self.arena.watch = None

    def check(self) -> None:
        """Compares what the phase that is going on must leave alone."""
        phase = self.arena.phase
        if phase not in self._kept:
            written = [self._places[r.name] for r in self.arena.plan.regions if r.written_in(phase)]
            three = self.arena.block, self._expected, self._changed
            self._kept[phase] = [tuple(each[gap] for each in three) for gap in _gaps(written, self.arena.block.size)]  # type: ignore[misc]
        for block, expected, changed in self._kept[phase]:
            np.not_equal(block, expected, out=changed)
            if np.count_nonzero(changed):
                self._tell(phase)
                break

    def _leave(self, following: str) -> None:
        before = self.trace.pause()
        self.check()
        if self.arena.poison:
            self.arena.overwrite_ended(following)
        np.copyto(self._expected, self.arena.block)
        self.trace.resume(before)

    def _tell(self, phase: str) -> None:
        """Names the regions of the bytes that changed: of those there, the one that lives."""
        changed = self.arena.block != self._expected
        for region in self.arena.plan.regions:
            if region.written_in(phase):
                changed[self._places[region.name]] = False
        for region in sorted(self.arena.plan.regions, key=lambda region: not region.lives(phase)):
            count = int(np.count_nonzero(changed[self._places[region.name]]))
            if count:
                changed[self._places[region.name]] = False
                _tell_written(self.findings, self.now, phase, region, count)
        if count := int(np.count_nonzero(changed)):
            at = int(np.flatnonzero(changed)[0])
            line = f"{_during(self.now, phase)}{count} bytes outside all regions were written, the first at {at}"
            self.findings.add("outside", "", line)


def _during(now: str, phase: str) -> str:
    return f"{now}, {phase}: " if now else f"{phase}: "


def _tell_written(findings: Findings, now: str, phase: str, region: Region, count: int) -> None:
    why = "which does not declare it" if region.lives(phase) else "which does not live then"
    line = f"{_during(now, phase)}{count} of {region.nbytes} bytes of region {region.name} were written, {why}"
    findings.add("written", region.name, line)


@dataclass(frozen=True)
class Left:
    """What work left behind.

    Attributes
    ----------
    result : object
        What it returned.
    state : dict
        What the stage says of itself.
    regions : dict of str to bytes
        Those that carry their content on.
    stored : dict
        What it wrote to flash: (object, item) to bytes.
    """

    result: Any
    state: Any
    regions: dict[str, bytes]
    stored: dict[tuple[str, int], bytes]

    def differs(self, other: Left) -> list[str]:
        """In what two differ, in words."""
        found = [f"region {name}" for name, was in self.regions.items() if other.regions.get(name) != was]
        found += [f"{key[0]} in flash" for key, was in self.stored.items() if other.stored.get(key) != was]
        found += ["the stage's state"] if self.state != other.state else []
        found += ["what it returned"] if self.result != other.result else []
        return list(dict.fromkeys(found))


class Probe:
    """Which bytes work really touches, in an arena whose regions share nothing; see the module.

    A byte that holds the pattern in one run and the complement in the other was not written. What the next phase does
    not inherit is set back to the pattern when a phase ends, so that each region answers for itself: over all runs of a
    layer every byte of every region must have been written while it lived, and no other byte at any time.

    Parameters
    ----------
    plan : Plan
        Whose regions they are.
    findings : Findings
    """

    def __init__(self, plan: Plan, findings: Findings) -> None:
        self.plan, self.findings = spread(plan.regions), findings
        self.arena = Arena(self.plan.nbytes)
        self.places = _places(self.plan)
        self.written = {r.name: np.zeros(r.nbytes, bool) for r in plan.regions}
        self._gaps = _gaps(list(self.places.values()), self.arena.block.size)
        self._expected = np.empty_like(self.arena.block)
        self._pattern = PATTERN
        self._now = ""

    def run(
        self,
        now: str,
        phase: str,
        contents: Mapping[str, np.ndarray],
        begin: Callable[[Arena], None],
        work: Callable[[], Left],
        begins: bool = False,
    ) -> Left:
        """Runs work twice, in which each phase is looked at, and compares what it leaves.

        Parameters
        ----------
        now : str
            What it is, in words.
        phase : str
            In which it begins.
        contents : mapping of str to ndarray
            Bytes of the regions that carry their content into the work.
        begin : callable
            Takes the views from the arena, in phase ``initialize``; must make everything else anew.
        work : callable
            Must change nothing outside the arena and what ``begin`` has made.
        begins : bool
            Whether regions may be left that are not in use yet: they are not compared.
        """
        self._now, left = now, []
        for self._pattern in (PATTERN, PATTERN ^ 0xFF):
            self.arena.lay_out(self.plan)
            self.arena.fill(self._pattern)
            self._expected[:] = self._pattern
            self.arena.watch = self._leave
            self.arena.enter("initialize")
            begin(self.arena)
            self.arena.enter(phase)
            for name, content in contents.items():
                self.arena.block[self.places[name]] = content
            np.copyto(self._expected, self.arena.block)
            left.append(work())
            self._leave(self.arena.phase)
            self.arena.watch = None
        if begins:
            for name in [name for name, was in left[0].regions.items() if left[1].regions[name] != was]:
                del left[0].regions[name]
        if differences := left[0].differs(left[1]):
            what = ", ".join(differences)
            line = f"{now or phase}: {what} depend on bytes that were not written before"
            self.findings.add("depends", what, line)
        return left[0]

    def content(self, names: frozenset[str]) -> dict[str, bytes]:
        """What those of these regions hold that live now."""
        alive = [r.name for r in self.plan.regions if r.name in names and r.lives(self.arena.phase)]
        return {name: self.arena.block[self.places[name]].tobytes() for name in alive}

    def _leave(self, following: str) -> None:
        """Notes what the phase that ends has written, and clears what the following one does not inherit."""
        phase, block = self.arena.phase, self.arena.block
        for region in self.plan.regions:
            place = self.places[region.name]
            if region.written_in(phase):
                self.written[region.name] |= block[place] != self._pattern
            elif not np.array_equal(block[place], self._expected[place]):
                count = int(np.count_nonzero(block[place] != self._expected[place]))
                _tell_written(self.findings, self._now, phase, region, count)
            elif region.lives(phase):
                self.written[region.name] |= block[place] != self._pattern
        for gap in self._gaps:
            if not np.array_equal(block[gap], self._expected[gap]):
                count = int(np.count_nonzero(block[gap] != self._expected[gap]))
                where = max(
                    (r for r in self.plan.regions if self.places[r.name].stop <= gap.start),
                    default=None,
                    key=lambda r: self.places[r.name].stop,
                )
                behind = f", behind region {where.name}" if where else ""
                line = f"{_during(self._now, phase)}{count} bytes outside all regions were written{behind}"
                self.findings.add("outside", "", line)
        for region in self.plan.regions:
            if not (region.lives(phase) and region.lives(following)):
                block[self.places[region.name]] = self._pattern
        for gap in self._gaps:
            block[gap] = self._pattern
        np.copyto(self._expected, block)

    def finish(self) -> None:
        """Adds the regions that were never written, in all work that was seen."""
        for name, written in self.written.items():
            if idle := written.size - int(np.count_nonzero(written)):
                line = f"{idle} of {written.size} bytes of region {name} were never written"
                self.findings.add("idle", name, line)
