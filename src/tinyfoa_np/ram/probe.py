"""Audit mode's instruments on the arena: which bytes each phase changes, and whether needed data are kept elsewhere.

The :class:`Guard` watches the arena of the training itself and compares its content phase by phase: only regions that
declare a write in a phase may have changed. Since regions share bytes, use of a region after its lifetime can go
unnoticed there. Therefore the :class:`Probe` also runs some of the work in a second arena, in which regions share
nothing: twice, on a pattern and on its complement, with everything outside the arena created anew. There a changed byte
identifies its region, and the results must be the same in both runs and in the training.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .allocations import Trace
from .arena import PATTERN, Arena
from .packing import Plan, Region, spread

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


@dataclass
class Findings:
    """Violations in order; each kind is reported once, for its first occurrence."""

    lines: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, kind: str, about: str, line: str) -> None:
        """Add a line, unless there is one of the same kind about the same thing."""
        self.lines.setdefault((kind, about), line)

    def __iter__(self) -> Any:
        return iter(self.lines.values())


def _places(plan: Plan) -> dict[str, slice]:
    return {r.name: slice(plan.offsets[r.name], plan.offsets[r.name] + r.nbytes) for r in plan.regions}


def _gaps(places: Sequence[slice], size: int) -> list[slice]:
    """The parts of a block of ``size`` bytes that are outside these places."""
    found, end = [], 0
    for place in sorted(places, key=lambda place: (place.start, place.stop)):
        if place.start > end:
            found.append(slice(end, place.start))
        end = max(end, place.stop)
    return [*found, slice(end, size)] if end < size else found


class Guard:
    """Watch an arena in use: data not declared as written by a phase must not change, live or not.

    Parameters
    ----------
    arena : Arena
        Laid out with the plan to guard.
    findings : Findings
    trace : Trace
        Does not count the guard's own allocations.

    Attributes
    ----------
    now : str
        The current activity in words, for findings.
    """

    def __init__(self, arena: Arena, findings: Findings, trace: Trace) -> None:
        self.arena, self.findings, self.trace, self.now = arena, findings, trace, ""
        self._places = _places(arena.plan)
        self._expected = arena.block.copy()
        self._kept: dict[str, list[tuple[int, int, int]]] = {}
        self._renewed: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}

    def arm(self) -> None:
        """Check phases as they end from now on."""
        self._expected[:] = self.arena.block
        self.arena.watch = self._leave

    def disarm(self) -> None:
        """Check the current phase, then stop checking."""
        if self.arena.watch == self._leave:
            self.check()
        self.arena.watch = None

    def rest(self) -> None:
        """Check the current phase, then only overwrite regions as they end; that does not count as work either."""
        self.disarm()
        self.arena.watch = self._overwrite

    def _overwrite(self, following: str) -> None:
        before = self.trace.pause()
        if self.arena.poison:
            self.arena.overwrite_ended(following)
        self.trace.resume(before)

    def check(self) -> None:
        """Compare the bytes that the current phase must not change."""
        phase = self.arena.phase
        if phase not in self._kept:
            written = [self._places[r.name] for r in self.arena.plan.regions if r.written_in(phase)]
            starts = self.arena.block.ctypes.data, self._expected.ctypes.data
            gaps = _gaps(written, self.arena.block.size)
            self._kept[phase] = [(starts[0] + g.start, starts[1] + g.start, g.stop - g.start) for g in gaps]
        if any(_memcmp(*kept) for kept in self._kept[phase]):
            self._tell(phase)
            np.copyto(self._expected, self.arena.block)

    def _leave(self, following: str) -> None:
        before = self.trace.pause()
        self.check()
        if self.arena.poison:
            self.arena.overwrite_ended(following)
        change = self.arena.phase, following
        if change not in self._renewed:  # what the phase may have written, and what was overwritten as it ended
            places = [
                self._places[r.name]
                for r in self.arena.plan.regions
                if r.written_in(change[0]) or r.lives(change[0]) and not r.lives(following)
            ]
            self._renewed[change] = [(self._expected[place], self.arena.block[place]) for place in places]
        for expected, block in self._renewed[change]:
            np.copyto(expected, block)
        self.trace.resume(before)

    def _tell(self, phase: str) -> None:
        """Report the regions of the changed bytes; of several regions at a byte, the live one."""
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
    """The results of a piece of work.

    Attributes
    ----------
    result : object
        Its return value.
    state : dict
        The stage's state.
    regions : dict of str to bytes
        Content of the regions that are kept.
    stored : dict
        Data written to flash: (object, item) to bytes.
    """

    result: Any
    state: Any
    regions: dict[str, bytes]
    stored: dict[tuple[str, int], bytes]

    def differs(self, other: Left) -> list[str]:
        """The differences between two results, in words."""
        found = [f"region {name}" for name, was in self.regions.items() if other.regions.get(name) != was]
        found += [f"{key[0]} in flash" for key, was in self.stored.items() if other.stored.get(key) != was]
        found += ["the stage's state"] if self.state != other.state else []
        found += ["what it returned"] if self.result != other.result else []
        return list(dict.fromkeys(found))


class Probe:
    """Find the bytes that work really touches, in an arena whose regions share nothing; see the module's documentation.

    A byte that holds the pattern in one run and the complement in the other was not written. When a phase ends, data
    that the next phase does not inherit are reset to the pattern, so that each region is checked separately: over all
    runs of a layer, every byte of every region must have been written during its lifetime, and no other byte at any
    time.

    Parameters
    ----------
    plan : Plan
        The plan of the regions.
    findings : Findings
    """

    def __init__(self, plan: Plan, findings: Findings) -> None:
        self.plan, self.findings = spread(plan.regions), findings
        self.arena = Arena(self.plan.nbytes)
        self.places = _places(self.plan)
        self._gaps = _gaps(list(self.places.values()), self.arena.block.size)
        self._expected = np.empty_like(self.arena.block)
        self._seen = np.zeros(self.arena.block.size, bool)
        self.written = {name: self._seen[place] for name, place in self.places.items()}
        self._spans: dict[tuple[str, str], tuple[list[slice], list[slice], list[tuple[int, int, int]]]] = {}
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
        """Run work twice, observing each phase, and compare the results.

        Parameters
        ----------
        now : str
            The activity in words.
        phase : str
            The phase in which it begins.
        contents : mapping of str to ndarray
            Bytes of the regions whose content is an input of the work.
        begin : callable
            Takes the views from the arena, in phase ``initialize``; must create everything else anew.
        work : callable
            Must change nothing outside the arena and the objects created by ``begin``.
        begins : bool
            Whether regions may be left that are not in use yet; these are not compared.
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
        """Content of those of these regions that are live now."""
        alive = [r.name for r in self.plan.regions if r.name in names and r.lives(self.arena.phase)]
        return {name: self.arena.block[self.places[name]].tobytes() for name in alive}

    def _leave(self, following: str) -> None:
        """Record the bytes written by the ending phase, and clear the data that the next phase does not inherit."""
        phase, block = self.arena.phase, self.arena.block
        change = phase, following
        if change not in self._spans:
            self._spans[change] = self._spans_of(*change)
        lived, cleared, kept = self._spans[change]
        wrong = self._tell(phase) if any(_memcmp(*addresses) for addresses in kept) else []
        before = [(place, self._seen[place].copy()) for place in wrong]
        for span in lived:
            self._seen[span] |= block[span] != self._pattern
        for place, seen in before:  # what must not be written does not count as used
            self._seen[place] = seen
        for span in [*cleared, *(self._gaps if wrong else ())]:
            block[span] = self._pattern
        np.copyto(self._expected, block)

    def _spans_of(self, phase: str, following: str) -> tuple[list[slice], list[slice], list[tuple[int, int, int]]]:
        """Places live in a phase; those that the next one does not inherit; and the addresses that must not change."""
        lived = self._runs(lambda region: region.lives(phase))
        cleared = self._runs(lambda region: not (region.lives(phase) and region.lives(following)))
        written = [self.places[r.name] for r in self.plan.regions if r.written_in(phase)]
        starts = self.arena.block.ctypes.data, self._expected.ctypes.data
        gaps = _gaps(written, self.arena.block.size)
        return lived, cleared, [(starts[0] + g.start, starts[1] + g.start, g.stop - g.start) for g in gaps]

    def _runs(self, chosen: Callable[[Region], bool]) -> list[slice]:
        """The places of some regions; of neighbours together, with the gap between them."""
        found: list[slice] = []
        beside = False
        for region in self.plan.regions:
            place = self.places[region.name]
            if chosen(region):
                found[-1 if beside else len(found) :] = [slice(found[-1].start if beside else place.start, place.stop)]
            beside = chosen(region)
        return found

    def _tell(self, phase: str) -> list[slice]:
        """Report what the phase must not write and has changed, regions, then gaps; return their places."""
        block, found = self.arena.block, []
        for region in self.plan.regions:
            place = self.places[region.name]
            if not region.written_in(phase) and (count := int(np.count_nonzero(block[place] != self._expected[place]))):
                _tell_written(self.findings, self._now, phase, region, count)
                found.append(place)
        for gap in self._gaps:
            if count := int(np.count_nonzero(block[gap] != self._expected[gap])):
                where = max(
                    (r for r in self.plan.regions if self.places[r.name].stop <= gap.start),
                    default=None,
                    key=lambda r: self.places[r.name].stop,
                )
                behind = f", behind region {where.name}" if where else ""
                line = f"{_during(self._now, phase)}{count} bytes outside all regions were written{behind}"
                self.findings.add("outside", "", line)
                found.append(gap)
        return found

    def finish(self) -> None:
        """Report the regions with bytes that were never written in any observed work."""
        for name, written in self.written.items():
            if idle := written.size - int(np.count_nonzero(written)):
                line = f"{idle} of {written.size} bytes of region {name} were never written"
                self.findings.add("idle", name, line)
