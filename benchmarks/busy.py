"""Two threads where another program keeps a core busy: no slower than one.

Kernels share their work evenly, so a thread that loses its core holds up the others. A training therefore tries one
thread now and then, and goes on with what was faster. This trains with one thread, with two, and with two that never
try one, side by side with one busy process.
"""

from __future__ import annotations

import subprocess
import sys
import time

from measure import arguments, finish, machine, synthetic, table, trained

from tinyfoa_np.kernels.launching import Team
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.events import Event

WAYS = {"one": 1, "two": 2, "two, always": 2}


class Enough(Exception):
    """The steps that are clocked have been taken."""


def seconds(recipe: Recipe, threads: int, steps: int, always: bool) -> float:
    """Wall time of a step, after the first trial of one thread."""
    clock: list[float] = []

    def heard(event: Event) -> None:
        if event.kind == "batch":
            clock.append(time.perf_counter())
            if len(clock) == 40 + steps:
                raise Enough

    usual, Team.EVERY = Team.EVERY, 10**9 if always else Team.EVERY
    try:
        trained(recipe, synthetic(100 * (41 + steps), 100), threads, heard)
    except Enough:
        pass
    finally:
        Team.EVERY = usual
    return (clock[-1] - clock[39]) / (len(clock) - 40)


def main() -> None:
    asked = arguments(__doc__, steps=(240, "steps that are clocked"), rounds=(3, "of each way, in turn"))
    print(machine())
    results: dict[str, float] = {}
    rows: list[list[str]] = []
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for slices in (2, 16):
            recipe = Recipe(network="fc:2000x2", slices=slices, batch=100, epochs=slices).validated()
            best = dict.fromkeys(WAYS, float("inf"))
            for _ in range(asked.rounds):
                for way, threads in WAYS.items():
                    best[way] = min(best[way], seconds(recipe, threads, asked.steps, way == "two, always"))
            results[f"busy_2_vs_1_M{slices}"] = best["one"] / best["two"]
            rows.append(
                [f"M = {slices}", *(f"{1e3 * best[way]:.2f} ms" for way in WAYS), f"{best['one'] / best['two']:.2f}"]
            )
    finally:
        other.kill()
    table(["a step beside a busy core", *WAYS, "one / two"], rows)
    finish(asked.json, results)


if __name__ == "__main__":
    main()
