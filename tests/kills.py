"""Run by hand: training is killed 200 times at random moments, resumed each time, and ends with the same bits.

    python tests/kills.py [KILLS]      in each of five recipes; 40 without it

Each recipe trains once undisturbed, which gives its `model_sha256` and the time that the kills are spread over. Where a
training ends before its kills are used up it begins again. The exit code is 1 if a model differs or a run is lost.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILD = """
import json, sys
from pathlib import Path
from tinyfoa_np import data
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.train import train
where = Path(sys.argv[1])
say = lambda event: event.kind == "start" and print("training", flush=True)
recipe = Recipe("digits", **json.loads(sys.argv[2]))
result = train(recipe, data.load("digits"), where, threads=1, resume=where.exists(), commit_every=5, on_event=say)
print(result["model_sha256"])
"""
RECIPES = {
    "tinyfoa, stream": {"network": "fc:300x2", "epochs": 30, "batch": 50, "schedule": "stream", "slices": 4},
    "tinyfoa, slice": {"network": "fc:300x2", "epochs": 30, "batch": 50, "schedule": "slice", "slices": 2},
    "bp": {"network": "fc:300x2", "epochs": 60, "batch": 50, "algorithm": "bp"},
    "giff": {"network": "mlp", "epochs": 20, "batch": 50, "algorithm": "giff"},
    "tinyfoa, int8": {"network": "fc:200x2", "epochs": 20, "batch": 20, "slices": 4, "moments": "int8"},
}


def started(where: Path, options: dict) -> subprocess.Popen:
    """A process that trains in a directory, or resumes there."""
    command = [sys.executable, "-c", CHILD, where, json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def undisturbed(where: Path, options: dict) -> tuple[str, float]:
    """The model's digest, and the seconds that the training took."""
    child = started(where, options)
    child.stdout.readline()
    begun = time.monotonic()
    out, err = child.communicate()
    if child.returncode:
        raise SystemExit(err)
    return out.split()[-1], time.monotonic() - begun


def killed(where: Path, options: dict, kills: int, wanted: str, seconds: float, dice: random.Random) -> str:
    """Train with so many kills; the reason why it failed, or nothing."""
    left = kills
    while True:
        child = started(where, options)
        if left and child.stdout.readline() == "training\n":
            time.sleep(dice.uniform(0, seconds / 12))
            child.kill()
        out, err = child.communicate()
        if child.returncode == -9:
            left -= 1
        elif child.returncode or out.split()[-1] != wanted:
            return f"exit code {child.returncode} after {kills - left} kills: {out}{err[-400:]}"
        elif left:
            shutil.rmtree(where)
        else:
            return ""


def main() -> int:
    kills, lost = int(sys.argv[1]) if len(sys.argv) > 1 else 40, 0
    for name, options in RECIPES.items():
        with tempfile.TemporaryDirectory() as folder:
            wanted, seconds = undisturbed(Path(folder) / "whole", options)
            why = killed(Path(folder) / "killed", options, kills, wanted, seconds, random.Random(name))
        lost += bool(why)
        print(f"{name}: {kills} kills, {why or 'the same model'}", flush=True)
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
