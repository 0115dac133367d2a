"""How a hidden layer's cost grows with width, slices and batch, and where the time of an epoch goes.

    python benchmarks/growth.py [--json] [--full] [--threads N]

Trains through the ordinary loop on random bytes; the compiled kernels and the calls of flash are clocked from outside.
What is left, the ``rest``, is the loop itself: Python, events, bookkeeping.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from measure import arguments, finish, machine, si, synthetic, table, trained

from tinyfoa_np.kernels import dense_forward as forward_kernels
from tinyfoa_np.kernels import dense_update as update_kernels
from tinyfoa_np.kernels import loss as loss_kernels
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.events import Event
from tinyfoa_np.slices import Grid
from tinyfoa_np.storage.flash import Flash

SHARES = ("forward", "update", "flash")
#: what is clocked, and which share it belongs to; the gradient begins with the loss
CLOCKED: tuple[tuple[Any, str, str], ...] = (
    (forward_kernels, "forward", "forward"),
    (loss_kernels, "softmax_cross_entropy", "update"),
    (update_kernels, "update", "update"),
    (Flash, "read", "flash"),
    (Flash, "write", "flash"),
    (Flash, "commit", "flash"),
)
Size = tuple[int, int, int]  # width, M, batch
BASE: Size = (2000, 2, 100)
SWEEPS: dict[str, list[Size]] = {
    "width": [(500, 2, 100), (1000, 2, 100), BASE, (4000, 2, 100)],
    "slices": [(2000, 1, 100), BASE, (2000, 4, 100), (2000, 16, 100)],
    "batch": [(2000, 2, 1), (2000, 2, 10), BASE, (2000, 2, 500)],
}
MORE: dict[str, list[Size]] = {
    "width": [(8000, 2, 100)],
    "slices": [(2000, 3, 100), (2000, 8, 100)],
    "batch": [(2000, 2, 3), (2000, 2, 30), (2000, 2, 200)],
}
EPOCHS = [("slice", 2), ("slice", 16)]  # schedule, M
MORE_EPOCHS = [("slice", 1), ("frozen", 2), ("stream", 2), ("stream", 16)]
#: inputs of the first layer, which is only there to hand bits to the second
NARROW = 64

Moment = tuple[Event, dict[str, float]]


@contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """Patches the package; the seconds spent in each of :data:`SHARES` as they add up, and the bytes flash moved."""
    spent = dict.fromkeys((*SHARES, "bytes"), 0.0)

    def timed(share: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[share] += time.perf_counter() - begin
                if share == "flash":
                    spent["bytes"] = args[0].read_bytes + args[0].written_bytes

        return call

    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in CLOCKED]
    for (owner, name, function), (_, _, share) in zip(originals, CLOCKED):
        setattr(owner, name, timed(share, function))
    try:
        yield spent
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def watched(recipe: Recipe, samples: int, tests: int, threads: int) -> tuple[list[Moment], int]:
    """Trains two layers on random bytes: the second's events with the clocks as they stood, and the arena's bytes."""
    moments: list[Moment] = []
    with clocked() as spent:

        def note(event: Event) -> None:
            if event.layer == 1 and event.kind in ("batch", "epoch"):
                moments.append((event, {**spent, "seconds": time.perf_counter()}))

        result = trained(recipe, synthetic(samples, tests, NARROW), threads, note)
    return moments, result["arena"]["planned_bytes"]


def between(a: Moment, b: Moment) -> dict[str, float]:
    """What passed between two moments: seconds of each share, of the rest and of all, and bytes."""
    passed = {key: value - a[1][key] for key, value in b[1].items()}
    return {**passed, "rest": passed["seconds"] - sum(passed[share] for share in SHARES)}


def shares(passed: dict[str, float]) -> dict[str, float]:
    """Per cent of the seconds that each share and the rest took."""
    return {name: 100 * passed[name] / passed["seconds"] for name in (*SHARES, "rest")}


def operations(width: int, side: int, batch: int, classes: int = 10) -> float:
    """Arithmetic of one sample in a step: operations on one number or one 64-bit word each, half of the neurons on."""
    part = Grid(width, width, side).slice(0)
    product = 3 * width * math.ceil(width / 64)  # and, popcount, add
    outputs = width * (8 + 2 * classes)  # scale, shift, compare, |z|; the logits
    errors = 60 * classes + (part.last - part.first) * (2 * classes + 6)  # softmax; dz and its list
    step = part.size * (0.5 + 40 / batch)  # the gradient's adds; Adam, where a root and a division count ten
    return product + outputs + errors + step


def steps(width: int, side: int, batch: int, threads: int) -> dict[str, Any]:
    """The training steps of a hidden layer (width x width), without evaluation and commits."""
    count = min(200, max(9, round(4e10 / (width**2 * (batch + 20)))))  # about as long for all
    recipe = Recipe(dataset="synthetic", network=f"fc:{width}x2", slices=side, epochs=1, batch=batch)
    moments, arena = watched(recipe, count * batch, batch, threads)
    batches = [moment for moment in moments if moment[0].kind == "batch"]
    passed = between(batches[0], batches[-1])  # the first step brought in the slice
    n = (count - 1) * batch
    seconds, work = passed["seconds"] / n, operations(width, side, batch)
    return {
        "width": width,
        "slices": side,
        "batch": batch,
        "seconds_per_sample": seconds,
        "operations_per_sample": work,
        "seconds_per_operation": seconds / work,
        "arena_bytes": arena,
        "arena_bytes_per_sample": arena / batch,
        "flash_bytes_per_sample": passed["bytes"] / n,
        "shares_pct": shares(passed),
    }


def epoch(schedule: str, side: int, threads: int) -> dict[str, Any]:
    """One whole epoch of a hidden layer in MNIST's size: 600 steps, the commit before and the test error after them."""
    width, _, batch = BASE
    recipe = Recipe(dataset="synthetic", network=f"fc:{width}x2", slices=side, schedule=schedule, epochs=2, batch=batch)
    moments, _ = watched(recipe, 60000, 10000, threads)
    ends = [moment for moment in moments if moment[0].kind == "epoch"]
    passed = between(*ends)
    return {"schedule": schedule, "slices": side, "seconds": passed["seconds"], "shares_pct": shares(passed)}


def percentages(row: dict[str, Any]) -> list[str]:
    return [f"{value:.1f}" for value in row["shares_pct"].values()]


def main() -> None:
    options: Any = arguments(__doc__, full=(False, "more of everything"), threads=(os.cpu_count() or 1, "threads"))
    print(f"{machine()}, {options.threads} threads\n")
    watched(Recipe(network="fc:500x2", epochs=1), 200, 100, options.threads)  # loads or compiles the kernels
    result: dict[str, Any] = {"growth": {}, "steps": [], "epochs": []}
    columns = {
        "s/sample": "seconds_per_sample",
        "op/sample": "operations_per_sample",
        "s/op": "seconds_per_operation",
        "arena B": "arena_bytes",
        "arena B/sample": "arena_bytes_per_sample",
        "flash B/sample": "flash_bytes_per_sample",
    }
    percent = [f"{name} %" for name in (*SHARES, "rest")]
    for sweep, sizes in SWEEPS.items():
        every = sorted({*sizes, *(MORE[sweep] if options.full else [])})
        rows = [steps(*size, options.threads) for size in every]
        result["steps"] += rows
        print(f"{sweep}: training steps of a hidden layer (width x width)")
        table(
            ["width", "M", "batch", *columns, *percent],
            [
                [
                    str(row["width"]),
                    str(row["slices"]),
                    str(row["batch"]),
                    *(si(row[k]) for k in columns.values()),
                    *percentages(row),
                ]
                for row in rows
            ],
        )
        small, *_, large = sorted(rows, key=lambda row: row["batch"] * row["operations_per_sample"])
        result["growth"][sweep] = large["seconds_per_operation"] / small["seconds_per_operation"]
    print("a whole epoch of a hidden layer (2000 x 2000), 60,000 samples, batch 100: commit, steps, test error")
    for schedule, side in [*EPOCHS, *(MORE_EPOCHS if options.full else ())]:
        result["epochs"].append(epoch(schedule, side, options.threads))
    table(
        ["schedule", "M", "seconds", *percent],
        [[row["schedule"], str(row["slices"]), f"{row['seconds']:.2f}", *percentages(row)] for row in result["epochs"]],
    )
    print("s/op of a sweep's largest step over that of its smallest; 1 or less: time grew no faster than arithmetic")
    table(["", "growth"], [[sweep, f"{factor:.2f}"] for sweep, factor in result["growth"].items()])
    finish(options.json, result)


if __name__ == "__main__":
    main()
