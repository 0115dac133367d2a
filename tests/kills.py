"""Run by hand: training is killed 200 times at random moments, resumed each time, and ends with the same bits.

    python tests/kills.py [KILLS]      in each of five recipes; 40 without it

Each recipe trains once undisturbed, which gives its `model_sha256` and the time over which the kills are spread. A
training that ends before its kills are used up begins again. The exit code is 1 if a model differs or a run is lost.
The trainings are forked from this process, which has imported everything but runs no kernel.
"""

import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tinyfoa_np import data
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.train import train

RECIPES = {
    "tinyfoa, stream": {"network": "fc:150x2", "epochs": 12, "batch": 50, "schedule": "stream", "slices": 4},
    "tinyfoa, slice": {"network": "fc:150x2", "epochs": 12, "batch": 50, "schedule": "slice", "slices": 2},
    "bp": {"network": "fc:150x2", "epochs": 25, "batch": 50, "algorithm": "bp"},
    "giff": {"network": "mlp", "epochs": 8, "batch": 50, "algorithm": "giff"},
    "tinyfoa, int8": {"network": "fc:100x2", "epochs": 16, "batch": 50, "slices": 4, "moments": "int8"},
}


def work(pipe, where, options):
    """Train in a directory, or resume there; sends when training begins, and then the model's digest."""
    digits, recipe = data.load("digits"), Recipe("digits", **options)
    say = lambda event: event.kind == "start" and pipe.send("training")  # noqa: E731
    result = train(recipe, digits, where, threads=1, resume=where.exists(), commit_every=5, on_event=say)
    pipe.send(result["model_sha256"])


def trained(where, options, until=None):
    """Run `work` in a process, killed so many seconds after training begins; its exit code and last message."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=work, args=(theirs, where, options))
    child.start()
    theirs.close()
    last = None
    try:
        last = ours.recv()
        if until is not None and not ours.poll(until):
            child.kill()
        last = ours.recv()
    except EOFError:  # killed, or ended by an error, which it has printed
        pass
    child.join()
    return child.exitcode, last


def failure(folder, options, kills, dice):
    """Why a recipe does not end with the same model; nothing if it does."""
    begun = time.monotonic()
    code, wanted = trained(folder / "whole", options)
    seconds, left = time.monotonic() - begun, kills
    while not code:
        until = dice.uniform(0, seconds / 12) if left else None
        ended, found = trained(folder / "killed", options, until)
        if ended == -9:
            left -= 1
        elif ended or found != wanted:
            return f"exit code {ended}, {found} in place of {wanted} after {kills - left} kills"
        elif left:
            shutil.rmtree(folder / "killed")
        else:
            return ""
    return f"exit code {code} undisturbed"


def main():
    kills, lost = int(sys.argv[1]) if len(sys.argv) > 1 else 40, 0
    warnings.filterwarnings("ignore", "only .* slices per layer")
    for name, options in RECIPES.items():
        with tempfile.TemporaryDirectory() as folder:
            why = failure(Path(folder), options, kills, random.Random(name))
        lost += bool(why)
        print(f"{name}: {kills} kills, {why or 'the same model'}", flush=True)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
