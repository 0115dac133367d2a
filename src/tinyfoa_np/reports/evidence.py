"""External evidence: a short training like a run's, in a new process, observed through the operating system and numba.

``python -m tinyfoa_np.reports.evidence RUN`` prints one JSON object. It trains twice on made-up samples like those of
the run, a few steps per layer, with the run's tiling: first in audit mode with the probe, which also compiles and loads
everything; then in normal mode, observed. In the second training

- the process's peak resident memory may grow by at most the arena and 2 MiB; the peak is reset before;
- numba's allocations minus frees may not grow from step to step;
- the model must have the same bits as in audit mode, and the arena the size the run planned.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset, Split
from ..data.dataset import shaped
from ..errors import CheckFailed, TinyFoAError
from ..layers.tiling import Tiling
from ..network import described, image_of
from ..recipe import Recipe
from ..run.events import ignored
from . import record
from .record import Record

if TYPE_CHECKING:
    from ..run.events import Event

#: resident memory allowed outside the arena: Python's objects, and the view through which the watermark is read
ALLOWANCE = 2 * 2**20
#: minimum and maximum number of steps of the observed training
FEW, MANY = 6, 512
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_M_MMAP_THRESHOLD, _PR_SET_THP_DISABLE = -3, 41  # constants of mallopt and prctl


def gather(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Collect the evidence on a run in a new process.

    Parameters
    ----------
    run_dir : path
        A finished run.

    Returns
    -------
    dict
        ``ok``, ``problems``; ``rss``, ``numba``, ``probe``, ``model``, as returned by :func:`watch`; bytes throughout.

    Raises
    ------
    CheckFailed
        If the process ends without a result.
    """
    command = [sys.executable, "-m", __name__, str(run_dir)]
    with tempfile.TemporaryDirectory(prefix="tinyfoa-evidence-") as scratch:  # made here, so that it is always deleted
        # numba reads this variable on import, which a rule's package may do before anything else
        own = {**os.environ, "TMPDIR": scratch, "NUMBA_NRT_STATS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except (IndexError, ValueError) as error:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise CheckFailed(f"the measurement in a fresh process ended with code {done.returncode}: {said}") from error


def watch(run: Record) -> dict[str, Any]:
    """Train twice, observed; call in a separate process with numba's statistics on (``NUMBA_NRT_STATS``).

    Returns
    -------
    dict
        ``ok``, ``problems``: failed conditions; ``steps``; ``rss``: ``measured``, with the figures or else the
        ``reason``; ``flash_bytes``, which the page cache may hold; ``numba``: outstanding allocations after the first
        and the last step; ``probe``: its ``findings``; ``model``: both digests.
    """
    threads = run.threads
    recipe, dataset, tilings = rehearsal(run)
    audited = trained(recipe, dataset, run.budget, threads, tilings, audit=True)
    watcher = Watcher()
    plain = trained(recipe, dataset, run.budget, threads, tilings, audit=False, on_event=watcher)
    arena = plain["arena"]["planned_bytes"]
    rss = watcher.rss(max(run.budget or 0, arena))
    grown = watcher.outstanding[-1] - watcher.outstanding[0]
    digests = [result["model_sha256"] for result in (plain, audited)]
    problems = [f"probe: {line}" for line in audited["findings"]]
    if arena != run.whole.planned:
        problems.append(f"the arena: {arena:,} bytes planned, but {run.whole.planned:,} in the run")
    if rss["measured"] and rss["growth_bytes"] > rss["allowed_bytes"]:
        problems.append(f"resident memory grew by {rss['growth_bytes']:,} bytes, {rss['allowed_bytes']:,} are allowed")
    if grown > 0:
        problems.append(f"numba holds {grown:,} allocations more after the last step than after the first")
    if digests[0] != digests[1]:
        problems.append("audit mode changes the trained model")
    return {
        "ok": not problems,
        "problems": problems,
        "steps": len(watcher.outstanding),
        "rss": rss,
        "flash_bytes": plain["flash"]["bytes"],
        "numba": {"outstanding_first": watcher.outstanding[0], "outstanding_last": watcher.outstanding[-1]},
        "probe": {"findings": audited["findings"]},
        "beside": audited["beside"],
        "model": {"sha256": digests[0], "sha256_in_audit_mode": digests[1], "same": digests[0] == digests[1]},
    }


class Watcher:
    """Measure the process's resident memory and numba's allocations at each event of a training."""

    def __init__(self) -> None:
        self.outstanding: list[int] = []
        self.mapped = 0
        gc.collect()
        # glibc keeps freed blocks, which could hide an arena: make it allocate blocks from 4 KiB on from the system,
        # return them at once, and release the blocks it holds now. Linux may round a large array up to huge pages,
        # 2 MiB at either end, which is unrelated to the training.
        libc = ctypes.CDLL(None)
        calls = {"mallopt": (_M_MMAP_THRESHOLD, 4096), "malloc_trim": (0,), "prctl": (_PR_SET_THP_DISABLE, 1, 0, 0, 0)}
        for name, arguments in calls.items():
            if hasattr(libc, name):
                getattr(libc, name)(*arguments)
        try:
            _CLEAR.write_text("5")  # reset the peak to the current resident memory
            self.before = _resident()
        except (OSError, KeyError):
            self.before = {}

    def __call__(self, event: Event) -> None:
        from numba.core.runtime import rtsys

        if event.kind == "batch":
            books = rtsys.get_allocation_stats()
            self.outstanding.append(books.alloc - books.free + books.mi_alloc - books.mi_free)
        if self.before and event.kind != "done":  # at "done" the model has been saved, from outside the arena
            self.after = _resident()
            self.mapped = max(self.mapped, self.after["RssFile"] - self.before["RssFile"])

    def rss(self, arena: int) -> dict[str, Any]:
        """The growth of the peak above the resident memory before, and the growth allowed for an arena of this size."""
        if not self.before:
            return {"measured": False, "reason": "this system has no /proc/self/status with a peak that can be reset"}
        growth = self.after["VmHWM"] - self.before["VmRSS"]
        figures = {
            "before_bytes": self.before["VmRSS"],
            "growth_bytes": growth,
            "arena_bytes": arena,
            "beside_arena_bytes": growth - arena,
            "allowed_bytes": arena + ALLOWANCE,
            "mapped_files_bytes": self.mapped,
        }
        if growth < arena - ALLOWANCE:
            reason = "the arena lay in memory that the process had before, so that its growth says nothing"
            return {"measured": False, "reason": reason, **figures}
        return {"measured": True, **figures}


def _resident() -> dict[str, int]:
    """Bytes of this process as named in /proc: current (VmRSS), peak (VmHWM), mapped files (RssFile)."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return {name: 1024 * int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM", "RssFile")}


def rehearsal(run: Record) -> tuple[Recipe, Dataset, list[Tiling] | None]:
    """A recipe with the run's arena but few steps, made-up samples of the same kind, and the run's tilings.

    Slices take turns as in the run until the widest ones have trained, usually a different one in each step.
    """
    first, batch = run.plans[0].region("inputs"), run.batch
    shapes = run.shapes
    cuts = list(zip(shapes, run.tilings or shapes, strict=False))
    # a layer like one below needs the same arena, unless it recomputes the layers between: drop such layers at the top
    fixed = run.recipe.recompute or run.recipe.freeze or run.whole_network
    while not fixed and len(shapes) > 2 and cuts[-1] in cuts[1:-1]:
        shapes = shapes[:-1]
        cuts.pop()
    tilings = run.tilings[: len(shapes)] if run.tilings else None
    steps, exchanges = _turns(run)
    epochs = 2 if steps % 2 == 0 else 1
    batches = steps // epochs
    network = run.recipe.network if run.recipe.deep else described(shapes)
    recipe = replace(
        run.recipe,
        network=network,
        epochs=epochs,
        batch=batch,
        hold="1" if exchanges is None and run.recipe.schedule in ("slice", "frozen") else None,
        exchanges=exchanges,
        limit=None,
        start=None,
        lr=min(run.recipe.lr or 1e-3, 1e-3),
    )
    rng = np.random.default_rng(0)

    def split(samples: int) -> Split:
        inputs: np.ndarray = rng.standard_normal((samples, run.inputs), dtype=np.float32)
        if first.dtype == "uint8":
            inputs = rng.integers(0, 256, inputs.shape, dtype=np.uint8)
        return Split(inputs, rng.integers(0, run.classes, samples))

    # the last batch of an epoch is incomplete; the test set has a full batch and an incomplete one
    train, test = split((batches - 1) * batch + -(-batch // 2)), split(batch + 1)
    return recipe, Dataset("made up", train, test, run.classes, 1 / 128, -1.0, image=run.image), tilings


def _turns(run: Record) -> tuple[int, int | None]:
    """Number of steps until the widest trained slices have had their turn, and the number of exchanges for them.

    None if exchanges do not apply, or every step has its own.
    """
    if run.recipe.deep:  # all steps are alike
        return FEW, None
    from ..layers.parameters import Parameters
    from ..rules.fit import Layout

    first = run.plans[0].region("inputs")
    shape = shaped(
        "made up", run.samples, 1, run.shapes[0].inputs, first.dtype, run.classes, image=image_of(run.shapes)
    )
    layout = Layout(run.recipe, shape, run.threads)
    chosen = layout.cut(run.tilings) if run.tilings else layout.fit(run.budget)
    layers = [
        layer for one in chosen for layer in one.stage.layers if isinstance(layer, Parameters) and layer.kind == "slice"
    ]
    if not layers:
        return FEW, None
    schedule = layers[0].schedule
    if schedule.exchanges > schedule.steps:  # some slices are then skipped: the same ones, in as many steps
        steps = min(schedule.steps, MANY)
        return steps, schedule.exchanges * steps // schedule.steps
    turns = schedule.holds(schedule.steps - 1) + 1
    steps = max(FEW, 1 + max(schedule.holds(step) for layer in layers for step in layer.widest_steps()))
    return (min(turns, steps), None) if schedule.visits > 1 else (steps, min(turns, steps))


def trained(
    recipe: Recipe,
    dataset: Dataset,
    ram: int | None,
    threads: int,
    tilings: list[Tiling] | None,
    audit: bool,
    on_event: Callable[[Event], None] = ignored,
) -> dict[str, Any]:
    """The result of a training in a temporary directory."""
    from ..run.train import train

    with tempfile.TemporaryDirectory() as directory:
        return train(
            recipe,
            dataset,
            Path(directory) / "run",
            ram=ram,
            threads=threads,
            audit=audit,
            on_event=on_event,
            tilings=tilings,
        )


def main(arguments: list[str]) -> int:
    """Print the evidence on the run given as the only argument, as one JSON object; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tinyfoa_np.reports.evidence RUN", file=sys.stderr)
        return 2
    try:
        evidence = watch(record.read(arguments[0]))
    except (TinyFoAError, OSError) as error:
        print(error, file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(json.dumps(evidence))
    return 0 if evidence["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
