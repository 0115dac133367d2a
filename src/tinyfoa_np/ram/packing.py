"""Layout of the arena: from declared lifetimes of regions to offsets.

An algorithm declares its regions: name, shape, dtype, the phases in which the content must be kept, and the phases in
which it may change. Regions that are never live in the same phase may share bytes. The planner only decides;
:mod:`.arena` hands out the planned regions, and audit mode checks both declarations (:mod:`.probe`).

Examples
--------
>>> plan = pack([Region("z", (64,), "float32", ("forward",)), Region("dz", (64,), "float32", ("update",))])
>>> plan.nbytes, plan.offsets
(256, {'dz': 0, 'z': 0})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from .phases import PHASES

ALIGNMENT = 64


def aligned(nbytes: int, alignment: int = ALIGNMENT) -> int:
    """``nbytes`` rounded up to the alignment of regions."""
    return -(-nbytes // alignment) * alignment


@dataclass(frozen=True)
class Region:
    """A named, typed part of the arena with a lifetime.

    Parameters
    ----------
    name : str
    shape : tuple of int
    dtype : str
        A NumPy dtype.
    phases : tuple of str
        Phases of :data:`PHASES` in which the content must be kept; ``PHASES`` itself means always. A phase may have
        steps, named after a colon, as in ``"forward:2"``; a region live in a phase is live in all its steps.
    writes : tuple of str, optional
        The phases (or steps) of these in which the content may change; by default all of them.

    Raises
    ------
    ValueError
        If the region is written in a phase in which it is not live.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    phases: tuple[str, ...] = PHASES
    writes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if outside := [phase for phase in self.writes or () if phase.partition(":")[0] not in self.within]:
            raise ValueError(f"region {self.name!r} is written in {', '.join(outside)}, but it does not live then")

    @cached_property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def lifetime(self) -> frozenset[str]:
        return frozenset(self.phases)

    @cached_property
    def within(self) -> frozenset[str]:
        """The phases in which the content is kept, at least for a step."""
        return frozenset(phase.partition(":")[0] for phase in self.phases)

    def limited(self, lives: Callable[[str], bool]) -> Region:
        """The region in only those of its phases for which ``lives(phase)``; without elements if there are none."""
        phases = tuple(filter(lives, self.phases))
        writes = None if self.writes is None else tuple(filter(lives, self.writes))
        return replace(self, shape=self.shape if phases else (0,) * len(self.shape), phases=phases, writes=writes)

    def lives(self, phase: str) -> bool:
        """Whether the content is kept in a phase, or in a step of one."""
        return phase in self.lifetime or phase.partition(":")[0] in self.lifetime

    def written_in(self, phase: str) -> bool:
        """Whether the content may change in a phase, or in a step of one."""
        if self.writes is None or not self.lives(phase):
            return self.lives(phase)
        return phase in self.writes or phase.partition(":")[0] in self.writes


@dataclass(frozen=True)
class Plan:
    """Regions with their offsets, in bytes from the start of the block.

    Attributes
    ----------
    regions : tuple of Region
    offsets : dict of str to int
    """

    regions: tuple[Region, ...]
    offsets: dict[str, int]

    @cached_property
    def nbytes(self) -> int:
        """The end of the last region, in bytes."""
        return max((self.offsets[r.name] + r.nbytes for r in self.regions), default=0)

    def region(self, name: str) -> Region:
        return next(r for r in self.regions if r.name == name)

    def phase_bytes(self, phase: str) -> int:
        """Bytes live in a phase, the most of its steps: its regions, each but the last rounded up to the alignment."""
        return self.most_bytes(phase, self.regions)

    def peak_step(self, phase: str) -> str:
        """The step of a phase with the most live bytes; the phase itself if it has no steps."""
        sizes = {step: sum(aligned(r.nbytes) for r in self.regions if r.lives(step)) for step in self._steps[phase]}
        return max(sizes, key=lambda step: (sizes[step], step))

    def most_bytes(self, phase: str, regions: Iterable[Region]) -> int:
        """Like :meth:`phase_bytes`, for a subset of regions."""
        some = list(regions)
        most = max(sum(aligned(r.nbytes) for r in some if r.lives(step)) for step in self._steps[phase])
        return min(most, self.nbytes)

    @cached_property
    def _steps(self) -> dict[str, list[str]]:
        """The steps of each phase, or the phase itself."""
        named = {p for r in self.regions for p in r.lifetime if ":" in p}
        return {phase: [p for p in named if p.partition(":")[0] == phase] or [phase] for phase in PHASES}


def pack(regions: Iterable[Region], alignment: int = ALIGNMENT) -> Plan:
    """Place regions, largest first, each at the lowest offset where it overlaps no region live at the same time.

    Regions without bytes are omitted.

    Raises
    ------
    ValueError
        If two regions have the same name, or a phase is unknown.
    """
    wanted = [r for r in regions if r.nbytes]
    if len({r.name for r in wanted}) != len(wanted):
        raise ValueError("two regions have the same name")
    named = {p for r in wanted for p in r.phases}
    unknown = {p.partition(":")[0] for p in named} - set(PHASES)
    if unknown:
        raise ValueError(f"unknown phases: {sorted(unknown)}")
    wanted.sort(key=lambda r: (-r.nbytes, r.name))
    placed: list[tuple[int, int, frozenset[str]]] = []  # begin, end, lifetime
    offsets = {}
    for region in wanted:
        offset, lifetime = 0, frozenset(p for p in named if region.lives(p))
        for begin, end, _ in sorted(p for p in placed if p[2] & lifetime):
            if offset + region.nbytes <= begin:
                break
            offset = max(offset, aligned(end, alignment))
        offsets[region.name] = offset
        placed.append((offset, offset + region.nbytes, lifetime))
    return Plan(tuple(wanted), offsets)


def spread(regions: Iterable[Region]) -> Plan:
    """Place regions one after another, without shared bytes and with unused bytes in between.

    In such a plan, a changed byte identifies its region; audit mode rehearses in it. Regions without bytes are omitted.
    """
    offsets, end = {}, 0
    wanted = tuple(region for region in regions if region.nbytes)
    for region in wanted:
        offsets[region.name] = end
        end = aligned(end + region.nbytes) + ALIGNMENT
    return Plan(wanted, offsets)
