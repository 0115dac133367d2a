"""Two threads where another program keeps a core busy: no slower than one.

Kernels share their work evenly, so a thread that loses its core holds up the others. A training therefore tries one
thread now and then, and goes on with what was faster. Four trainings take short turns beside one busy process: in one
thread, in one once more, which shows how far equals differ, in two, and in two without a try of one. Equal processes
differ by up to 5 % as long as they live, since their pages of memory differ, so this is done with several sets of them.
"""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection

from measure import arguments, finish, machine, synthetic, table, trained

from tinyfoa_np.kernels.launching import Team
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.events import Event

WAYS = {"one": 1, "one again": 1, "two": 2, "two, always": 2}
#: steps before a training takes turns, a first trial of one thread among them; steps of a turn; batches of an epoch
BEFORE, TURN, BATCHES = 40, 50, 256
#: keeps a core busy as long as its parent lives
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"


def trains(slices: int, way: str, turns: Connection) -> None:
    """A process that trains: at each word it takes the steps of a turn and sends back the mean of their seconds."""
    if way == "two, always":
        Team.FIRST = 10**9
    steps, seconds, last = 0, 0.0, 0.0

    def heard(event: Event) -> None:
        nonlocal steps, seconds, last
        now = time.perf_counter()
        if event.kind != "batch" or event.epoch == 0 and event.batch < BEFORE:
            return
        if event.batch > 0:  # the step alone: not the test error and the commit at the end of an epoch
            steps, seconds = steps + 1, seconds + now - last
        if last == 0.0 or steps == TURN:
            turns.send(seconds / TURN)
            turns.recv()
            steps, seconds = 0, 0.0
        last = time.perf_counter()

    recipe = Recipe(network="fc:2000x2", slices=slices, batch=100, epochs=64).validated()
    trained(recipe, synthetic(100 * BATCHES, 100), WAYS[way], heard)


def measured(slices: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step in each turn of each way, after a first turn that does not count."""
    spawn = multiprocessing.get_context("spawn")
    ends = {way: spawn.Pipe() for way in WAYS}
    # a process for each: GNU's OpenMP lets threads spin for a shorter time in a process that has many
    trainings = [spawn.Process(target=trains, args=(slices, way, ends[way][1]), daemon=True) for way in WAYS]
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for training in trainings:
        training.start()
    for here, _ in ends.values():
        here.recv()  # it waits for its turn
    other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        for k in range(1 + rounds):
            for place in (0, 1, 3, 2):  # in four rounds, each way comes after each other one
                way = list(WAYS)[(k + place) % 4]
                ends[way][0].send("go on")
                taken[way].append(ends[way][0].recv())
    finally:
        other.kill()
        for training in trainings:
            training.kill()
    return {way: values[1:] for way, values in taken.items()}


def main() -> None:
    asked = arguments(
        __doc__,
        slices=("2,16", "values of M"),
        sets=(8, "sets of processes, at least 2"),
        rounds=(16, f"turns of {TURN} steps of each process"),
    )
    print(machine())
    results: dict[str, float] = {}
    for slices in map(int, asked.slices.split(",")):
        rows: list[list[str]] = []
        ratios: dict[str, list[float]] = {"one again": [], "two": []}
        for k in range(asked.sets):
            mean = {way: statistics.mean(values) for way, values in measured(slices, asked.rounds).items()}
            ones = (mean["one"] + mean["one again"]) / 2
            ratios["one again"].append(mean["one"] / mean["one again"])
            ratios["two"].append(ones / mean["two"])
            cells = [f"{1e3 * mean[way]:.3f} ms" for way in WAYS]
            rows.append([f"M = {slices}, set {k + 1}", *cells, *(f"{ratios[way][-1]:.3f}" for way in ratios)])
            print(f"M = {slices}: {k + 1} of {asked.sets} sets", file=sys.stderr)
        last = ["mean and its standard error", "", "", "", ""]
        for name, way in (("1", "one again"), ("2", "two")):
            results[f"busy_{name}_vs_1_M{slices}"] = ratio = statistics.mean(ratios[way])
            last.append(f"{ratio:.3f} +- {statistics.stdev(ratios[way]) / len(ratios[way]) ** 0.5:.3f}")
        table(["a step beside a busy core", *WAYS, "one / again", "ones / two"], [*rows, last])
    finish(asked.json, results)


if __name__ == "__main__":
    main()
