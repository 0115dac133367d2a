"""Two threads where another program keeps a core busy: no slower than one.

Kernels share their work evenly, so a thread that loses its core holds up the others. A training therefore tries one
thread now and then, and goes on with what was faster. Four trainings take short turns beside one busy process: in one
thread, in one once more, which shows how far equals differ, in two, and in two without a try of one.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from math import sqrt
from queue import SimpleQueue

from measure import arguments, finish, machine, synthetic, table, trained

from tinyfoa_np.data import Dataset
from tinyfoa_np.kernels.launching import Team
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.events import Event

WAYS = {"one": 1, "one again": 1, "two": 2, "two, always": 2}
#: steps before a training takes turns, a first trial of one thread among them; steps of a turn; batches of an epoch
BEFORE, TURN, BATCHES = 40, 50, 256
#: keeps a core busy as long as its parent lives
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"


class Enough(Exception):
    """The last turn is over."""


class Training(threading.Thread):
    """A training that takes turns with others, in a thread of its own."""

    def __init__(self, slices: int, way: str, dataset: Dataset) -> None:
        super().__init__()
        self.recipe = Recipe(network="fc:2000x2", slices=slices, batch=100, epochs=64).validated()
        self.dataset, self.threads = dataset, WAYS[way]
        self.goes_on: SimpleQueue[bool] = SimpleQueue()
        self.done: SimpleQueue[float] = SimpleQueue()
        self.steps, self.seconds, self.last = 0, 0.0, 0.0
        usual, Team.FIRST = Team.FIRST, 10**9 if way == "two, always" else Team.FIRST
        self.start()
        self.done.get()
        Team.FIRST = usual

    def run(self) -> None:
        with suppress(Enough):
            trained(self.recipe, self.dataset, self.threads, self.heard)

    def heard(self, event: Event) -> None:
        """After a step: count it; after the last one of a turn, wait for the next turn."""
        now = time.perf_counter()
        if event.kind != "batch" or event.epoch == 0 and event.batch < BEFORE:
            return
        if event.batch > 0:  # the step alone: not the test error and the commit at the end of an epoch
            self.steps, self.seconds = self.steps + 1, self.seconds + now - self.last
        if self.last == 0.0 or self.steps == TURN:
            self.done.put(self.seconds / TURN)
            if not self.goes_on.get():
                raise Enough
            self.steps, self.seconds = 0, 0.0
        self.last = time.perf_counter()

    def turn(self) -> float:
        """Seconds of a step, over a turn."""
        self.goes_on.put(True)
        return self.done.get()


def measured(slices: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step in each turn of each way."""
    dataset = synthetic(100 * BATCHES, 100)
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        trainings = {way: Training(slices, way, dataset) for way in WAYS}
        for k in range(rounds):
            for way in list(WAYS)[:: 1 if k % 2 else -1]:
                taken[way].append(trainings[way].turn())
    finally:
        other.kill()
    for training in trainings.values():
        training.goes_on.put(False)
        training.join()
    return taken


def main() -> None:
    asked = arguments(__doc__, slices=("2,16", "values of M"), rounds=(40, f"turns of {TURN} steps of each way"))
    print(machine())
    results: dict[str, float] = {}
    for slices in map(int, asked.slices.split(",")):
        taken = measured(slices, asked.rounds)
        mean = {way: statistics.mean(values) for way, values in taken.items()}
        row = [f"M = {slices}", *(f"{1e3 * mean[way]:.3f} ms" for way in WAYS)]
        for name, way in (("1", "one again"), ("2", "two")):
            ratios = [one / other for one, other in zip(taken["one"], taken[way], strict=True)]
            results[f"busy_{name}_vs_1_M{slices}"] = ratio = mean["one"] / mean[way]
            row.append(f"{ratio:.3f} +- {statistics.stdev(ratios) / sqrt(len(ratios)):.3f}")
        table(["a step beside a busy core, mean", *WAYS, "one / again", "one / two"], [row])
    finish(asked.json, results)


if __name__ == "__main__":
    main()
