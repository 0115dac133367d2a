"""How well does each learning rule do on MNIST with its defaults, and in how many bytes, beside its paper's figure?

Every rule of the catalogue trains for 20 epochs (per layer where layers train one after another), with one thread and
seed 0, on two layers of 500 neurons or another network; all else is as ``tinyfoa train`` chooses it without options.
So do bp and tinyfoa with the optimizer Bop (``bop``, ``bop-tinyfoa``), and the model of ff with real weights answers
once more with LightFF's early exits (``lightff``). Runs are kept in a directory and resumed from it; rules that have
not run yet are marked in the table.

    python benchmarks/rules.py --out runs/rules                 # train what is missing, then print the table
    python benchmarks/rules.py --out runs/rules --real          # the same with real weights and activations
    python benchmarks/rules.py --out runs/rules --rules cwcomp,deeperforward --network cnn
    python benchmarks/rules.py --out runs/rules --table         # only print
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tinyfoa_np import catalogue, data, defaults
from tinyfoa_np.model import exits, model
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import jobs

NETWORK = "fc:500x2"
#: MNIST test error in % as published, by run, and the network and epochs it was published for; below, "-real" are runs
#: with real weights and activations of rules that have signs by default
PAPER = {
    "bp": (3.11, "4 x 2000, 100 epochs, TinyFoA's paper"),
    "bp-real": (1.62, "2 x 500, slides of DRTP's authors; 1.33 for 4 x 2000, TinyFoA's paper"),
    "tinyfoa": (2.10, "4 x 2000, 100 epochs per layer"),
    "tinyfoa-real": (1.64, "4 x 2000, 100 epochs per layer"),
    "drtp": (39.49, "4 x 2000, 100 epochs, TinyFoA's paper"),
    "drtp-real": (4.57, "2 x 500, slides of DRTP's authors; 4.50 for 4 x 2000, TinyFoA's paper"),
    "dfa": (4.35, "2 x 500, slides of DRTP's authors; 1.45 with dropout, DFA's paper"),
    "fa": (1.95, "2 x 500, slides of DRTP's authors"),
    "pepita": (89.94, "3 x 2000, 100 epochs, TinyFoA's paper"),
    "pepita-real": (5.02, "3 x 2000, 100 epochs, TinyFoA's paper"),
    "ff": (90.47, "4 x 2000, 100 epochs, TinyFoA's paper"),
    "ff-real": (1.46, "4 x 2000, 100 epochs, TinyFoA's paper"),
    "biofo-real": (1.6, "4 x 2000, 100 epochs per layer, read from a figure"),
    "cwcomp-cnn": (0.58, "20, 80, 240 and 480 channels, 20 epochs"),
    "deeperforward-cnn": (0.50, "TinyCNN, 4 layers"),
    "lightff": (1.42, "3 layers, by DeeperForward's authors"),
}
#: what is no algorithm of its own: one with another optimizer, of binary weights and real activations
_BOP = {"optimizer": "bop", "binary_activations": False}
VARIANTS = {"bop": ("bp", _BOP), "bop-tinyfoa": ("tinyfoa", _BOP)}
#: the answers of a trained ff, stopped at the first layer that is as confident as the paper's threshold asks
EXITS = "lightff"
REAL = dict.fromkeys(("binary_weights", "binary_activations"), False)
HEAD = ("rule", "network", "weights, activations", "error, %", "arena, bytes", "published, %", "published for")


def recipe_of(rule: str, given: argparse.Namespace) -> Recipe:
    """A rule's recipe as ``tinyfoa train`` completes it, or with real weights and activations."""
    algorithm, own = VARIANTS.get(rule, (rule, {}))
    chosen = {"dataset": given.dataset, "network": given.network, "algorithm": algorithm, "epochs": given.epochs}
    fields = {**chosen, **own, **(REAL if given.real else {})}
    if defaults.apply(given.dataset, given.network):
        samples = data.load(given.dataset, given.data_dir).train.inputs
        return Recipe(**defaults.completed(fields, len(samples), samples[0].size, own=False)).validated()
    return Recipe(**defaults.published(fields)).validated()


def row(run: jobs.Run) -> list[str]:
    """A line of the table."""
    recipe, result = run.recipe, jobs.finished(run)
    kinds = ("binary" if bits else "real" for bits in (recipe.binary_weights, recipe.binary_activations))
    published, where = PAPER.get(run.name, (None, ""))
    error = arena = "not yet"
    if result and result["outcome"] == "finished":
        error, arena = f"{result['error_pct']:.2f}", f"{result['arena']['watermark_bytes']:,}"
    elif result:
        error = arena = "diverged"
    known = "" if published is None else f"{published:.2f}"
    return [run.name, recipe.network, ", ".join(kinds), error, arena, known, where]


def exit_row(run: jobs.Run, data_dir: str | None) -> list[str]:
    """The line of LightFF: error of the model of ff if it stops early, and its share of the multiplications."""
    ours = model.load(run.directory / "model.safetensors")
    samples = data.load(run.recipe.dataset, data_dir)
    products = exits.products(ours)
    known = exits.calibrated(ours, samples.train.inputs, samples.train.labels)
    classes, stops = exits.predict(ours, samples.test.inputs, known.limits())
    error, share = 100 * np.mean(classes != samples.test.labels), 100 * products[stops].mean() / products[-1]
    published, where = PAPER[EXITS]
    about = [EXITS, run.recipe.network, f"of ff, {share:.0f} % of its multiplications", f"{error:.2f}"]
    assert ours.memory  # of the last prediction
    arena = f"{ours.memory['watermark_bytes']:,} to answer {ours.memory['samples']} samples at a time"
    return [*about, arena, f"{published:.2f}", where]


def table(runs: list[jobs.Run], data_dir: str | None) -> str:
    """All rules in Markdown."""
    lines = [HEAD, ("---", "---", "---", "---:", "---:", "---:", "---"), *map(row, runs)]
    lines += [exit_row(run, data_dir) for run in runs if run.name == "ff-real" and jobs.finished(run)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/rules", metavar="DIR", help="directory of the runs")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rules", default="", help="some of them, separated by commas [default: all]")
    parser.add_argument("--network", default=NETWORK)
    parser.add_argument("--real", action="store_true", help="real weights and activations, as in most papers' figures")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args(arguments)
    names = given.rules.split(",") if given.rules else [*catalogue.names(), *([] if given.real else VARIANTS)]
    suffix = ("" if given.network == NETWORK else f"-{given.network}") + ("-real" if given.real else "")
    runs = [
        jobs.Run(f"{name}{suffix}", recipe_of(name, given), Path(given.out) / f"{name}{suffix}", given.data_dir)
        for name in names
    ]

    def on_end(run: jobs.Run, reason: str | None) -> None:
        print(f"{run.name}: {reason or 'done'}", file=sys.stderr, flush=True)

    def quiet(*progress: Any) -> None:
        pass

    if not given.table:
        jobs.perform_all(runs, given.jobs, quiet, on_end)
    print(table(runs, given.data_dir))
    print(json.dumps({run.name: (jobs.finished(run) or {}).get("error_pct") for run in runs}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
