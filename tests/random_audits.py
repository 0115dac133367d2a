"""Train random recipes with audit, at random budgets: no finding, equal figures, the bits of a run without a budget.

Run by hand as ``python tests/random_audits.py 200 [FIRST]``; the tests run the first 20. A recipe that needs more than
one attempt to be valid is drawn again, so every number is one trained recipe.
"""

import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent / "tools"))
from train_tools import arenas, made

from tinyfoa_np import catalogue
from tinyfoa_np.data import Dataset
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import MOMENTS, OPTIMIZERS, Recipe
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run.train import train

#: networks by kind (:data:`tinyfoa_np.catalogue.KINDS`); None stands for a random fully connected one
NETWORKS = {"fc": (None,), "lc": ("lc:8,16", "lc:12", "lc:4x3"), "graph": (None, "cnn", "fc:24,12", "conv:12,p2,24")}


def dataset(draw: np.random.Generator, images: bool) -> Dataset:
    """A small data set: bytes or real numbers; images of one or three channels where the network wants them."""
    classes = int(draw.integers(2, 12))
    if images:
        channels = int(draw.choice([1, 3]))
        return replace(made(samples=40, tests=12, inputs=channels * 64, classes=classes), image=(channels, 8, 8))
    kind = str(draw.choice(["bytes", "real"]))
    samples, inputs = int(draw.integers(20, 90)), int(draw.integers(2, 130))
    return made(kind=kind, samples=samples, inputs=inputs, classes=classes)


def drawn(draw: np.random.Generator) -> tuple[Recipe, Dataset]:
    """A random recipe, not yet validated, and data for it."""
    rule = catalogue.find(str(draw.choice(catalogue.names())))
    kind = str(draw.choice(list(rule.homes)))
    network = draw.choice(np.array(NETWORKS[kind], object))
    deep = network is None and draw.random() < 0.15
    if deep:
        network = f"fc:{draw.integers(3, 13)}x{draw.integers(8, 33)}"
    elif network is None:
        network = "fc:" + ",".join(str(draw.integers(3, 140)) for _ in range(draw.integers(1, 4)))

    def some(chance, value):
        return value if draw.random() < chance else None

    options = {
        "algorithm": rule.name,
        "network": network,
        "schedule": str(draw.choice(["auto", *rule.schedules])),
        "slices": some(0.6, int(draw.integers(1, 6))),
        "epochs": 1 if deep else int(draw.integers(1, 6)),
        "batch": int(draw.integers(1, 50)),
        "lr": some(0.5, float(draw.choice([1e-4, 1e-3, 1e-2]))),
        "lr_schedule": str(draw.choice(["constant", "drop:2", "cooldown", "cosine", "exponential:0.9"])),
        "optimizer": some(0.6, str(draw.choice(OPTIMIZERS))),
        "moments": str(draw.choice(MOMENTS)) if draw.random() < 0.4 else "float32",
        "hold": some(0.3, str(draw.choice(["1epoch", "2epochs", "3", "7"]))),
        "visits": some(0.2, int(draw.integers(1, 4))),
        "order": some(0.2, str(draw.choice(["rows", "diagonal"]))),
        "normalize": some(0.3, str(draw.choice(["standard", "unit"]))),
        "shuffle": some(0.3, bool(draw.integers(2))),
        "reshuffle": bool(draw.random() < 0.2),
        "binary_weights": bool(draw.integers(2)),
        "binary_activations": bool(draw.integers(2)),
        "recompute": bool(draw.random() < 0.2),
        "limit": some(0.2, int(draw.integers(5, 30))),
        "seed": int(draw.integers(1000)),
        "options": {
            name: str(draw.choice(option.choices))
            for name, option in rule.options.items()
            if option.choices and draw.random() < 0.5
        },
    }
    images = not network.startswith("fc")
    return Recipe(dataset="made", **{k: v for k, v in options.items() if v is not None}), dataset(draw, images)


def recipe(number: int) -> tuple[Recipe, Dataset, int, int]:
    """Valid recipe ``number``, data for it, threads, and a RAM budget in bytes between the least and twice that."""
    draw = np.random.default_rng(number)
    while True:
        try:
            which, data = drawn(draw)
            threads = 1 + number % 2
            least = Layout(which.validated(), data, threads).least()
            return which, data, threads, int(least * draw.choice([1, 1, 1.1, 1.5, 2]))
        except BadRequest:
            pass


def audit(number: int, where: Path) -> tuple[str, list[str]]:
    """Train recipe ``number`` with audit; its algorithm and kind of network, and everything that is wrong."""
    which, data, threads, ram = recipe(number)
    wrong = []
    audited = train(which, data, where / "audited", audit=True, threads=threads, ram=ram)
    wrong += audited["findings"]
    for planned, accounted, watermark in arenas(audited):
        if not planned == accounted == watermark <= ram:
            wrong.append(f"{planned:,} planned, {accounted:,} accounted, {watermark:,} measured, budget {ram:,}")
    plain = train(which, data, where / "plain", threads=1)
    if plain["model_sha256"] != audited["model_sha256"]:
        wrong.append("the model differs from the one without a budget")
    deep = " deep" if re.fullmatch(r"fc:\d+x\d+", which.network) else ""
    return f"{which.algorithm} {which.validated().kind}{deep}", wrong


def main(count: int, first: int = 0) -> int:
    """Audit so many recipes; 1 if anything is wrong."""
    warnings.simplefilter("ignore")
    kinds, failed = Counter(), 0
    for number in range(first, first + count):
        where = Path(tempfile.mkdtemp())
        try:
            kind, wrong = audit(number, where)
        except Exception as error:
            kind, wrong = "error", [repr(error)]
        finally:
            shutil.rmtree(where)
        kinds[kind] += 1
        failed += bool(wrong)
        for line in wrong:
            print(f"{number}: {recipe(number)[0]}\n    {line}", flush=True)
    print(f"{count} recipes, {failed} with findings: {dict(sorted(kinds.items()))}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
