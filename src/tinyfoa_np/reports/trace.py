"""The plan of a run and one measured training step as a Chrome trace, which Perfetto (ui.perfetto.dev) shows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import BadRequest
from ..ram.arena import Arena
from ..ram.packing import Plan
from ..storage.whole_file import write_whole
from . import record
from .evidence import rehearsal, trained

#: the two groups of rows
STEP, ARENA = 1, 2


class Entered(NamedTuple):
    """A phase that an arena entered."""

    at: float  # microseconds
    phase: str
    plan: Plan


def write_trace(run_dir: str | os.PathLike[str], out: str | os.PathLike[str], layer: int | None = None) -> Path:
    """Train a few steps as a run did, on made-up samples, and write one of them with the plan.

    Parameters
    ----------
    run_dir : path
        A finished run.
    out : path
        A file ending in ``.json``.
    layer : int, optional
        Layer, from 1; by default the one with the largest arena.

    Raises
    ------
    BadRequest
        If the file name has another suffix, its directory does not exist, or there is no such layer.
    CheckFailed
        If the run's data are damaged.
    """
    path = Path(out)
    if path.suffix.lower() != ".json" or not path.parent.is_dir():
        raise BadRequest(
            f"a trace cannot be written to {path}: give a file ending in .json, in a directory that exists"
        )
    run = record.read(run_dir)
    if layer is not None and not 1 <= layer <= len(run.plans):
        raise BadRequest(f"there is no layer {layer}: this run has {len(run.plans)}")
    plan = run.plans[run.largest if layer is None else layer - 1]
    recipe, dataset, tilings = rehearsal(run)
    with recorded() as entered:
        trained(recipe, dataset, run.budget, run.threads, tilings, audit=False)
    content = {"traceEvents": events(plan, last_step(entered, plan)), "displayTimeUnit": "ms"}
    write_whole(path, json.dumps(content).encode())
    return path


@contextmanager
def recorded() -> Iterator[list[Entered]]:
    """The phases that arenas enter while it is open."""
    entered: list[Entered] = []
    enter = Arena.enter

    def noted(arena: Arena, phase: str) -> None:
        entered.append(Entered(time.perf_counter() * 1e6, phase, arena.plan))
        enter(arena, phase)

    setattr(Arena, "enter", noted)  # noqa: B010
    try:
        yield entered
    finally:
        setattr(Arena, "enter", enter)  # noqa: B010


def last_step(entered: list[Entered], plan: Plan) -> list[Entered]:
    """The last training step in a plan, from loading on, and what came next; where none has it, of any plan."""
    alike = [k for k, one in enumerate(entered) if one.phase.startswith("update") and one.plan.offsets == plan.offsets]
    updates = alike or [k for k, one in enumerate(entered) if one.phase.startswith("update")]
    last = updates[-1]
    first = last
    while entered[first].phase != "load":
        first -= 1
    while entered[last].phase != "load" and entered[last].phase.partition(":")[0] not in ("evaluate", "hand-over"):
        last += 1
    return entered[first : last + 1]


def events(plan: Plan, step: list[Entered]) -> list[dict[str, Any]]:
    """Trace events: a bar for each phase, one for each region while it lives, and the bytes that live."""
    named = [(STEP, 0, "phases"), *((ARENA, k, region.name) for k, region in enumerate(plan.regions))]
    found: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
        for pid, name in ((STEP, "training step"), (ARENA, f"arena, {plan.nbytes:,} bytes"))
    ]
    found += [
        {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}} for pid, tid, name in named
    ]
    begin = step[0].at
    for now, then in zip(step, step[1:]):
        when = {"ts": now.at - begin, "dur": then.at - now.at}
        found.append({"ph": "X", "name": now.phase, "pid": STEP, "tid": 0, **when})
        living = [(k, region) for k, region in enumerate(plan.regions) if region.lives(now.phase)]
        total = {"live": sum(region.nbytes for _, region in living)}
        found.append({"ph": "C", "name": "bytes", "pid": ARENA, "ts": when["ts"], "args": total})
        for k, region in living:
            about = {
                "offset": plan.offsets[region.name],
                "bytes": region.nbytes,
                "written": region.written_in(now.phase),
            }
            found.append({"ph": "X", "name": region.name, "pid": ARENA, "tid": k, **when, "args": about})
    return found
