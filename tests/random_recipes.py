"""Run by hand: the trainer in C beside Python on random recipes: the same trained bits, in the planned bytes.

    python tests/random_recipes.py [COUNT [SEED [COMPILER ...]]]     200 recipes from seed 0, with gcc and clang

A recipe comes with made data, a flash (serial NOR, FRAM, or a board's own), a cut of the arena, and a way to train: all
samples, a stream of three chunks, or a finished run that continues. Each compiler builds it at a random level of
optimization; the program then trains twice, the second time with the power cut 20 times. A line is printed for each
difference, with the number that draws the recipe again; the exit code is 1 if there was one.
"""

import json
import random
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))

from train_tools import made

from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import c_layout, c_trainer
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import device
from tinyfoa_np.run.train import train

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffp-contract=off"]
LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
INTERNAL = c_layout.Store("internal flash", 8192, 16)


@dataclass
class Case:
    """A recipe with the data, the layout and the chunks it is trained in: none, or the first a run in Python."""

    recipe: Recipe
    dataset: Dataset
    layout: c_layout.CLayout
    way: str  # whole, stream, continued
    chunks: list[int]


def drawn(number: int) -> Case:
    """The random recipe of a number."""
    dice = random.Random(number)
    while True:
        try:
            return _drawn(dice)
        except BadRequest:  # a combination that recipes, or the trainer in C, refuse
            pass


def _drawn(dice: random.Random) -> Case:
    inputs, classes, samples = dice.randint(2, 150), dice.randint(2, 12), dice.randint(20, 200)
    widths = [dice.randint(2, 70) for _ in range(dice.randint(1, 3))]
    kind = dice.choice(["bytes", "bytes", "real"])
    dataset = made(kind, samples, dice.randint(1, 40), inputs, classes, dice.randrange(2**32))
    optimizer = dice.choice(["adam", "adam", "momentum", "nesterov", "sgd"])
    options = {
        "network": "fc:" + ",".join(map(str, widths)),
        "slices": dice.randint(1, min(6, inputs, *widths)),
        "schedule": dice.choice(["slice", "slice", "auto", "stream"]),
        "epochs": dice.randint(1, 6),
        "batch": dice.choice([1, 7, 10, 16, 32, 50, 100, 300]),
        "lr": dice.choice([None, 0.3, 0.01, 0.001]),
        "lr_schedule": dice.choice(["constant", "cooldown", "drop:1", "drop:1,60%"]),
        "optimizer": optimizer,
        "moments": "float32" if optimizer == "sgd" else dice.choice(["float32", "int8"]),
        "normalize": None if kind == "real" else dice.choice([None, "standard", "unit"]),
        "shuffle": dice.choice([None, True]),
        "seed": dice.choice([0, dice.randrange(2**64)]),
        "limit": dice.choice([None, dice.randint(10, samples)]),
    }
    if options["schedule"] == "slice":
        turn = dice.choice(["hold", "hold", "exchanges", "none"])
        options["visits"] = dice.choice([None, 1, 2, 3])
        options["order"] = dice.choice([None, "rows", "diagonal"])
        options["hold"] = dice.choice(["1epoch", "2epochs", "3", "8"]) if turn == "hold" else None
        options["exchanges"] = dice.randint(1, 9) if turn == "exchanges" else None
    recipe = Recipe("made", **options).validated()
    store = dice.choice([c_layout.NOR, c_layout.FRAM, INTERNAL])
    layout = c_layout.CLayout(recipe, dataset, store, dice.random() < 0.7, dice.choice(list(c_layout.cuts(store))))
    way = dice.choice(["whole", "whole", "stream", "continued"])
    if way == "stream" and recipe.shuffle:  # Python shuffles within a chunk, data.bin holds all samples shuffled
        way = "whole"
    some = sorted(dice.sample(range(1, layout.N), 2))
    chunks = {
        "whole": [],
        "stream": [some[0], some[1] - some[0], layout.N - some[1]],
        "continued": [layout.N],
    }
    return Case(recipe, dataset, layout, way, chunks[way])


def python_sha(case: Case, where: Path) -> tuple[str, Path | None]:
    """``model_sha256`` by Python, and the run from which the trainer in C is to continue."""
    part, before = replace(case.dataset, train=_rows(case.dataset.train, 0, case.layout.N)), None
    if case.way == "whole":
        return train(case.recipe, case.dataset, where / "run", threads=1)["model_sha256"], None
    if case.way == "continued":
        before = where / "run"
        train(case.recipe, part, before, threads=1)
        continued = where / "continued"
        train(case.recipe, part, continued, threads=1)
        return train(case.recipe, part, continued, stream=True, threads=1)["model_sha256"], before
    first, sha = 0, ""
    for count in case.chunks:
        chunk = replace(case.dataset, train=_rows(case.dataset.train, first, first + count))
        sha = train(case.recipe, chunk, where / "run", stream=True, threads=1)["model_sha256"]
        first += count
    return sha, None


def _rows(split: Split, first: int, last: int) -> Split:
    return Split(split.inputs[first:last], split.labels[first:last])


def export(case: Case, where: Path, before: Path | None) -> None:
    """Write the trainer and its samples."""
    images, epochs = device.images(before, case.layout) if before else (None, 0)
    c_trainer.write(case.layout, case.dataset, where, images, epochs)


def compiled(case: Case, where: Path, compiler: str, level: str) -> Path:
    """The program of an exported trainer, for this computer."""
    example = where / "example"
    sources = [*sorted(where.glob("tinyfoa_*.c")), *(example / name for name in ("main.c", "nor.c", "port_host.c"))]
    flags = ["-DEXAMPLE_LONGEST=60000"]
    if case.chunks:
        flags.append(f"-DEXAMPLE_CHUNKS={','.join(map(str, case.chunks))}")
    program = where / f"{compiler}{level}"
    subprocess.run([compiler, *STRICT, level, *flags, *sources, "-o", program], check=True)
    return program


def differences(case: Case, compilers: list[str], dice: random.Random) -> list[str]:
    """What differs from Python, a line each; for each compiler, without and with power cuts."""
    with tempfile.TemporaryDirectory() as folder:
        where, found = Path(folder), []
        sha, before = python_sha(case, where)
        export(case, where / "c", before)
        for compiler in compilers:
            level = dice.choice(LEVELS)
            try:
                program = compiled(case, where / "c", compiler, level)
            except subprocess.CalledProcessError:
                found.append(f"{compiler} {level} fails")
                continue
            for cuts in ([], ["--cuts", "20", str(dice.randrange(1, 2**32))]):
                command = [program, where / "c" / "example" / "data.bin", *cuts]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                said = (
                    json.loads(done.stdout) if done.returncode == 0 else {"error": done.stdout, "code": done.returncode}
                )
                touched = said.get("watermark_bytes", 0)
                if case.layout.recipe.batch > max(case.chunks, default=case.layout.N):
                    touched = said.get("arena_bytes")  # no batch is full, and so the arena is not
                if said.get("model_sha256") != sha or touched != case.layout.arena_bytes:
                    found.append(f"{compiler} {level} {' '.join(cuts)}: {said}; Python: {sha}")
    return found


def main() -> int:
    numbers = [int(text) for text in sys.argv[1:3]]
    count, seed = numbers + [200, 0][len(numbers) :]
    compilers, wrong = sys.argv[3:] or ["gcc", "clang"], 0
    warnings.filterwarnings("ignore", "only .* slices per layer")
    for number in range(seed, seed + count):
        case = drawn(number)
        found = differences(case, compilers, random.Random(number))
        wrong += bool(found)
        said = {name: value for name, value in json.loads(case.recipe.to_json()).items() if value not in (None, False)}
        for line in found:
            print(f"recipe {number} ({case.way}, {case.layout.cut}): {said}\n    {line}", flush=True)
        if (number - seed) % 20 == 19:
            print(f"{number - seed + 1} recipes, {wrong} differ", flush=True)
    print(f"{count} recipes with {', '.join(compilers)}: {wrong} differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
