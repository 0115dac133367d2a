"""Audit mode in a run: instruments on a stage while it trains, and rehearsals of some of its steps.

A rehearsal runs a piece of the training in a separate arena and flash, with a stage created anew from the declared
state: the regions it keeps, the stage's state, and flash. The training itself then does the same, and both results must
be equal. Data kept anywhere else would be missing in the rehearsal.
"""

from __future__ import annotations

import contextlib
import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..layers.state import plain
from ..ram import outside
from ..ram.allocations import Trace
from ..ram.holdings import holdings
from ..ram.probe import Findings, Guard, Left, Probe
from ..storage.rehearsal import Rehearsal

if TYPE_CHECKING:
    from .train import _Run as Run

#: bytes that may be allocated outside the arena at a time, and by arrays among them
ALLOWANCE, ARRAYS = 16 * 1024, 512
#: bytes that may describe the network: of a stage before it is opened, what remains when its views of the arena are
#: taken, and what there is at a time; each in any case, and per region; and per object of the store
BUILT, VIEWS, PASSING, TABLE = (2048, 224), (2048, 192), (4096, 256), 288
#: bytes of objects of up to 64 bytes at the end of a phase: in any case, and per region. Most are freed objects that
#: CPython and NumPy keep for their next use, which a view of the instruments may be. Within a phase, the 4096 names of
#: CPython's cache of attributes come on top
TINIES, NAMES = (12 * 1024, 288), 256 * 1024
#: packages whose variables may be no arrays, as well as the modules of a rule
_PACKAGES = tuple(f"{__name__.partition('.')[0]}.{name}." for name in ("kernels", "layers", "rules", "storage"))
#: objects of Python per region that a stage may have when it is opened
OBJECTS = 8
#: steps of a stage that are rehearsed in addition to the first, the widest and the last; drawn from the seed
DRAWN = 4
#: arenas of up to this many bytes are guarded in every step; larger ones in fewer steps, at the same cost
GUARDED = 1 << 20


class Examination:
    """The examination of one stage, from its first view until its hand-over.

    Parameters
    ----------
    run : Run
    number : int
        The stage, from 0.
    fresh : bool
        Whether the stage begins here. Otherwise an earlier process was not observed, and bytes never written cannot be
        reported.
    """

    def __init__(self, run: Run, number: int, fresh: bool) -> None:
        self.run, self.number, self.fresh = run, number, fresh
        self.findings, self.trace = Findings(), Trace()
        self.plan = run.chosen[number].plan
        self.probe = Probe(self.plan, self.findings)
        self.left: Left | None = None
        batches, seed = run.train_set.batches, run.recipe.seed
        self.first, self.steps = run.meta["first"] * batches, (run.meta["last"] - run.meta["first"]) * batches
        draw = np.random.Generator(np.random.Philox(key=[seed, number]))
        self.drawn = set(draw.integers(0, self.steps, DRAWN).tolist()) | {0, self.steps - 1}
        share = min(1.0, GUARDED / max(1, self.plan.nbytes))
        self._guarded = draw.random(self.steps) < share if share < 1 else None
        self.tests = set(draw.integers(0, max(1, run.test_set.batches), 2).tolist()) | {0}
        self.regions = self.tables = self.built = 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Activate the instruments; enter after the arena is laid out, before a view is taken."""
        with self.trace:
            with self.trace.paused():
                self.guard = Guard(self.run.arena, self.findings, self.trace)
                self.guard.arm()
            self.run.flash.describing = self._table
            outside.watch(self._outside)
            try:
                yield
            finally:
                outside.rest()
                self.run.flash.describing = contextlib.nullcontext
                self.guard.disarm()

    def _outside(self, what: str, path: str) -> None:
        """Report that memory was taken from the system, unless the store did so or nothing is counted now."""
        if not self.trace.counting:
            return
        with self.trace.paused():
            own = Path(os.path.realpath(self.run.directory))
            if path and Path(os.path.realpath(path)).is_relative_to(own):
                return
            now = f"{self.guard.now}: " if self.guard.now else ""
            self.findings.add("outside", what, f"{now}{what} beside the arena{': ' + path if path else ''}")

    def _table(self) -> contextlib.AbstractContextManager[None]:
        self.tables += 1
        return self.trace.describing()

    @contextlib.contextmanager
    def views(self) -> Iterator[None]:
        """Count apart what views of the arena and tables of their names take, as objects of Python."""
        with self.trace.paused():
            self.regions = len(self.run.stages[self.number].regions())  # also the empty ones, which have views, too
            self._look_at_the_built()
        before = sys.getallocatedblocks()
        with self.trace.describing():
            yield
        # tiny objects are not traced; what is made once per process was made by the rehearsal of the beginning
        allowed = OBJECTS * self.regions
        if self.fresh and (more := sys.getallocatedblocks() - before) > allowed:
            line = f"{more:,} objects of Python were left when the stage was opened, {allowed:,} are allowed"
            self.findings.add("objects", "", line)

    def _look_at_the_built(self) -> None:
        """Measure what was allocated before anything was traced: the stage, and arrays among variables of modules."""
        stage, arena = self.run.stages[self.number], self.run.arena
        beyond = [stage.recipe, arena, arena.block, arena.block.base, self.trace]
        found = holdings([stage], beyond)
        self.built, allowed = found.nbytes, self._limit(BUILT)
        if self.built > allowed:
            line = f"the stage had {self.built:,} bytes before it was opened, {allowed:,} are allowed"
            self.findings.add("built", "", line)
        elsewhere = holdings([*_modules([stage, *stage.layers]), stage.recipe], beyond[1:])
        if more := found.buffers + elsewhere.buffers + elsewhere.rooms:
            line = f"{more:,} bytes of arrays were there before the stage was opened, beside the arena"
            self.findings.add("before", "", f"{line}; the largest had {max(found.largest, elsewhere.largest):,}")

    def _limit(self, sizes: tuple[int, int]) -> int:
        return sizes[0] + sizes[1] * self.regions

    def tell(self, now: str) -> None:
        """Announce the next activity of the training."""
        self.guard.now = now

    def step(self, index: int) -> None:
        """Begin step ``index`` of the stage, from 0."""
        if self._guarded is not None:
            with self.trace.paused():
                (self.guard.arm if self._guarded[index] else self.guard.rest)()

    def rehearse(self, now: str, work: Callable[[Run], Any], then: Callable[[Run], None] | None = None) -> None:
        """First run ``work(run)`` on a twin of the run; :meth:`compare` compares the results.

        ``then(twin)`` is run afterwards and only observed.
        """
        with self.trace.paused():
            self.guard.disarm()
            run, twin = self.run, copy.copy(self.run)
            carried = run.stage.carried()
            offsets, state = run.arena.plan.offsets, run.stage.state
            contents = {
                r.name: run.arena.block[offsets[r.name] : offsets[r.name] + r.nbytes]
                for r in self.plan.regions
                if r.name in carried and r.lives(run.arena.phase)
            }

            def begin(arena: Any) -> None:
                twin.arena, twin.flash = arena, Rehearsal(run.flash)  # type: ignore[assignment]
                twin.make_stage(self.number)
                twin.stage.state = copy.deepcopy(state)

            self.left = self.probe.run(now, run.arena.phase, contents, begin, lambda: self._work(twin, work, then))
            self.guard.arm()

    def begun(self, work: Callable[[Run], Any]) -> None:
        """Like :meth:`rehearse`, for the work at the beginning of a stage."""
        run, twin = self.run, copy.copy(self.run)

        def begin(arena: Any) -> None:
            twin.arena, twin.flash, twin.meta = arena, Rehearsal(run.flash), copy.deepcopy(run.meta)  # type: ignore[assignment]
            twin.make_stage(self.number)

        self.left = self.probe.run("", "initialize", {}, begin, lambda: self._work(twin, work, None), begins=True)

    def _work(self, twin: Run, work: Callable[[Run], Any], then: Callable[[Run], None] | None) -> Left:
        result = work(twin)
        stored = {key: bytes(content) for key, content in twin.flash.written.items()}  # type: ignore[attr-defined]
        left = Left(result, plain(twin.stage.state), self.probe.content(twin.stage.carried()), stored)
        if then:
            then(twin)
        return left

    def compare(self, now: str, result: Any) -> None:
        """Compare the results of the training with its rehearsal, if there was one."""
        if self.left is None:
            return
        with self.trace.paused():
            self.guard.disarm()
            run, before = self.run, self.left
            places, block = run.arena.plan.offsets, run.arena.block
            sizes = {name: len(was) for name, was in before.regions.items()}
            regions = {name: block[places[name] : places[name] + size].tobytes() for name, size in sizes.items()}
            moved, stored = run.flash.read_bytes, {}
            for (name, item), was in before.stored.items():
                content = bytearray(len(was))
                if name in run.flash.names() and was:
                    run.flash.read(name, item, [content])
                stored[name, item] = bytes(content)
            run.flash.read_bytes = moved
            for what in before.differs(Left(result, plain(run.stage.state), regions, stored)):
                line = f"{now + ': ' if now else ''}{what} differs from what arena and flash alone lead to"
                self.findings.add("differs", what, line)
            self.left = None
            self.guard.arm()

    def finish(self) -> dict[str, int]:
        """Finish the examination of a trained stage; return the bytes allocated outside the arena."""
        if self.fresh:
            self.probe.finish()
        return self.allocated()

    def allocated(self, now: str = "") -> dict[str, int]:
        """The bytes allocated outside the arena since the instruments were activated; too many are a finding.

        What describes a region or an object of the store has a limit of its own; more counts with the rest.
        """
        traced, where = self.trace.traced(), f"{now}: " if now else ""
        kept, at_a_time = (self._limit(sizes) + TABLE * self.tables for sizes in (VIEWS, PASSING))
        peak = max(traced.peak + max(0, traced.describing - kept), traced.described - at_a_time)
        if peak > ALLOWANCE:
            line = f"{peak:,} bytes were allocated beside the arena at a time, {ALLOWANCE:,} are allowed"
            self.findings.add("allocated", now, f"{where}{line}; the largest block had {traced.largest:,}")
        if traced.arrays_peak > ARRAYS:
            line = f"{traced.arrays_peak:,} bytes of arrays were allocated beside the arena at a time"
            line += f", {ARRAYS} are allowed; the largest had {traced.arrays_largest:,}"
            self.findings.add("arrays", now, where + line)
        allowed = self._limit(TINIES)
        if (tiny := max(traced.tiny, traced.tiny_peak - NAMES)) > allowed:
            line = f"{tiny:,} bytes of small objects were there beside the arena at a time, {allowed:,} are allowed"
            self.findings.add("tiny", now, where + line)
        return {
            "peak_bytes": peak,
            "largest_bytes": traced.largest,
            "arrays_peak_bytes": traced.arrays_peak,
            "arrays_largest_bytes": traced.arrays_largest,
            "described_bytes": min(traced.describing, kept) + self.built,
            "described_limit_bytes": kept + self._limit(BUILT),
        }


def _modules(objects: Sequence[Any]) -> list[Any]:
    """The modules that may keep arrays for a stage, and their classes: all of a rule's own package."""
    own = {kind.__module__ for one in objects for kind in type(one).__mro__} - sys.stdlib_module_names
    packages = {type(one).__module__.partition(".")[0] for one in objects} - {__name__.partition(".")[0]}
    starts = (*_PACKAGES, *(f"{package}." for package in packages))
    modules = {
        name: module for name, module in list(sys.modules.items()) if name in own or f"{name}.".startswith(starts)
    }
    found: dict[int, type] = {}
    new: list[Any] = list(modules.values())
    while new:  # classes, and those within them
        inner = [one for each in new for one in vars(each).values() if isinstance(one, type)]
        new = [one for one in inner if one.__module__ in modules and id(one) not in found]
        found.update((id(one), one) for one in new)
    return [*modules.values(), *found.values()]
