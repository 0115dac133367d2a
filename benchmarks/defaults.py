"""What trainings without options reach: the estimators beside scikit-learn's, and tinyfoa train on five kinds of CSV.

    python benchmarks/defaults.py [--json] [--sets iris,wine] [--classifiers tinyfoa,bp] [--seeds N] [--tables none]
    python benchmarks/defaults.py --twelve

Three-fold accuracy in %, folds shuffled, after a StandardScaler; seconds are CPU time of the three fits. Below, the
seconds on the clock of all fits of a classifier, and by how many points it is at most below the better of logistic
regression and MLP. A table's error is that of the fifth that ``tinyfoa train`` sets aside; the MLP is trained and
tested on the same samples. ``--twelve`` is short for the twelve fits of TinyFoAClassifier() on scikit-learn's four
data sets, beside these two, with the classifier's own number of threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measure import arguments, finish, machine, table
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tinyfoa_np
from tinyfoa_np import data
from tinyfoa_np.data.reading import Reading

Samples = tuple[np.ndarray, np.ndarray]


def drawn(samples: int, inputs: int, classes: int, separation: float = 1.5, **more: Any) -> Samples:
    """Samples around corners of a cube, two per class, with a third of the columns without meaning."""
    told = max(2, min(40, inputs * 2 // 3))
    X, y = make_classification(
        samples, inputs, n_informative=told, n_classes=classes, class_sep=separation, random_state=0, **more
    )
    return X, y


SETS: dict[str, Callable[[], Samples]] = {
    "iris": partial(load_iris, return_X_y=True),
    "wine": partial(load_wine, return_X_y=True),
    "cancer": partial(load_breast_cancer, return_X_y=True),
    "digits": partial(load_digits, return_X_y=True),
    "two columns": partial(drawn, 500, 2, 2, n_redundant=0),
    "wide": partial(drawn, 200, 1000, 3, 3.0, n_clusters_per_class=1),
    "40 classes": partial(drawn, 3000, 30, 40, 2.0, n_clusters_per_class=1),
    "imbalanced": partial(drawn, 2000, 20, 3, weights=[0.9, 0.07, 0.03]),
}


#: scikit-learn's data sets, and the classifiers that others are compared with
FOUR, YARDSTICKS = ("iris", "wine", "cancer", "digits"), ("logistic", "mlp")


def classifiers(seed: int, threads: int | None = 1) -> dict[str, Any]:
    """All contestants by name, each with its defaults."""
    ours = {name.removesuffix("Classifier").lower(): getattr(tinyfoa_np, name) for name in tinyfoa_np.ESTIMATORS}
    return {
        "logistic": LogisticRegression(max_iter=2000),
        "mlp": MLPClassifier(max_iter=1000, random_state=seed),
        **{name: kind(random_state=seed, threads=threads) for name, kind in ours.items()},
    }


class Score(NamedTuple):
    """Mean three-fold accuracy in %; seconds of three fits, in CPU time and on the clock."""

    accuracy: float
    cpu: float
    clock: float


def score(name: str, samples: Samples, options: argparse.Namespace) -> Score:
    """Accuracy and seconds of a classifier on a data set, over all seeds."""
    cpu, clock, found = time.process_time(), time.perf_counter(), []
    for seed in range(options.seeds):
        folds = StratifiedKFold(3) if options.in_order else StratifiedKFold(3, shuffle=True, random_state=seed)
        pipe = make_pipeline(StandardScaler(), classifiers(seed, None if options.twelve else 1)[name])
        found.append(cross_val_score(pipe, *samples, cv=folds).mean())
    seconds = time.process_time() - cpu, time.perf_counter() - clock
    return Score(100 * float(np.mean(found)), *(each / options.seeds for each in seconds))


def summary(scores: dict[str, dict[str, Score]], names: list[str]) -> list[list[str]]:
    """Rows over all data sets: seconds on the clock, and points below the better of the yardsticks."""
    rows = [["all fits, s", *(f"{sum(found[name].clock for found in scores.values()):.1f}" for name in names)]]
    if set(YARDSTICKS) <= set(names):
        gaps = [
            max(max(found[each].accuracy for each in YARDSTICKS) - found[name].accuracy for found in scores.values())
            for name in names
        ]
        rows.append(["at most below", *(f"{gap:.1f}" for gap in gaps)])
    return rows


# Tables ---------------------------------------------------------------------------------------------------------------


def windows(path: Path) -> Reading:
    """A log of three accelerometer axes at 50 Hz: four movements by pitch and tilt, six people, cut into windows."""
    random, rows = np.random.default_rng(0), ["x,y,z,person,activity"]
    tilts = random.normal(0, 0.3, (4, 3))
    for person in range(6):
        for activity, pitch in enumerate((0.0, 1.2, 2.0, 3.1)):
            t, phase = np.arange(1000) / 50, random.uniform(0, 6, 3)
            pull = (
                tilts[activity]
                + random.normal(0, 0.1, 3)
                + (pitch > 0) * np.sin(np.outer(t, [pitch, 2 * pitch, pitch]) + phase)
            )
            values = pull + random.normal(0, 0.3, (len(t), 3))
            rows += [f"{x:.3f},{y:.3f},{z:.3f},{person},move{activity}" for x, y, z in values]
    path.write_text("\n".join(rows) + "\n")
    return Reading(label="activity", group="person", window=50, step=25)


def mixed(path: Path) -> Reading:
    """Columns of very different scales, and codes: temperature, pressure in Pa, a valve's position, a fault or none."""
    random, rows = np.random.default_rng(1), ["temperature;pressure;valve;state"]
    for _ in range(1200):
        warm, pressure, valve = random.normal(21, 4), random.normal(101_000, 900), random.integers(0, 4)
        leak = pressure < 100_700 and valve > 0
        state = "leak" if leak else "hot" if warm > 24 else "fine"
        rows.append(f"{warm:.2f};{pressure:.0f};{valve};{state}".replace(".", ","))
    path.write_text("\n".join(rows) + "\n")
    return Reading()


def made(path: Path, samples: Samples, lost: float = 0.0) -> Reading:
    """A table of drawn samples, of which a share of fields is empty."""
    X, y = samples
    gone = np.random.default_rng(2).random(X.shape) < lost
    lines = [",".join([*(f"c{k}" for k in range(X.shape[1])), "label"])]
    for row, empty, label in zip(X, gone, y, strict=True):
        lines.append(",".join([*("" if e else f"{v:.4f}" for v, e in zip(row, empty, strict=True)), f"class{label}"]))
    path.write_text("\n".join(lines) + "\n")
    return Reading(missing="median") if lost else Reading()


TABLES: dict[str, tuple[Callable[[Path], Reading], str]] = {
    "sensor windows": (windows, "--label activity --group person --window 50 --step 25"),
    "mixed scales, decimal commas": (mixed, ""),
    "40 classes": (lambda path: made(path, SETS["40 classes"]()), ""),
    "wide, 200 x 1000": (lambda path: made(path, SETS["wide"]()), ""),
    "imbalanced, 5 % missing": (lambda path: made(path, SETS["imbalanced"](), 0.05), "--missing median"),
}


def trained(name: str, folder: Path) -> dict[str, Any]:
    """Test errors in % on a table: the majority's, the MLP's and that of ``tinyfoa train``."""
    path = folder / f"{name.replace(' ', '-').replace(',', '').replace('%', '')}.csv"
    make, options = TABLES[name]
    held = data.load(str(path), reading=make(path))
    mlp = make_pipeline(StandardScaler(), MLPClassifier(max_iter=1000, random_state=0))
    mlp.fit(held.train.inputs, held.train.labels)
    command = [sys.executable, "-m", "tinyfoa_cli", "train", str(path), *options.split(), "--json", "--quiet"]
    done = subprocess.run([*command, "--threads", "1"], cwd=folder, stdout=subprocess.PIPE, check=True)
    shares = np.bincount(held.test.labels) / len(held.test.labels)
    return {
        "table": name,
        "options": options,
        "train": len(held.train.labels),
        "inputs": held.train.inputs.shape[1],
        "classes": held.classes,
        "majority": 100 * (1 - shares.max()),
        "mlp": 100 * (1 - mlp.score(held.test.inputs, held.test.labels)),
        "tinyfoa": json.loads(done.stdout)["error_pct"],
    }


def main() -> None:
    every = ",".join(classifiers(0))
    options = arguments(
        __doc__,
        twelve=(
            False,
            f"the same as --sets {','.join(FOUR)} --classifiers {','.join(YARDSTICKS)},tinyfoa --tables none",
        ),
        sets=(",".join(SETS), "data sets"),
        classifiers=(every, "classifiers"),
        seeds=(1, "splits and seeds to average over"),
        in_order=(False, "folds in the order of the samples, as cross_val_score(..., cv=3)"),
        tables=(";".join(TABLES), "kinds of CSV, or none"),
    )
    if options.twelve:
        options.sets, options.tables = ",".join(FOUR), "none"
        options.classifiers = ",".join((*YARDSTICKS, "tinyfoa"))
    warnings.simplefilter("ignore")
    print(machine())
    names = options.classifiers.split(",")
    print("three-fold accuracy in %, and CPU seconds of three fits")
    scores = {
        one: {name: score(name, SETS[one](), options) for name in names} for one in options.sets.split(",") if one
    }
    rows = [
        [one, *(f"{each.accuracy:.1f} {each.cpu:4.1f}" for each in found.values())] for one, found in scores.items()
    ]
    table(["", *names], rows + (summary(scores, names) if rows else []))
    result: dict[str, Any] = {
        "accuracy": {one: {name: each.accuracy for name, each in found.items()} for one, found in scores.items()},
        "seconds": {one: {name: each.cpu for name, each in found.items()} for one, found in scores.items()},
        "seconds_on_the_clock": {
            one: {name: each.clock for name, each in found.items()} for one, found in scores.items()
        },
        "tables": [],
    }
    if options.tables != "none":
        print("test error in % of tinyfoa train TABLE.csv, beside the most frequent class and an MLP")
        with tempfile.TemporaryDirectory() as folder:
            result["tables"] = [trained(name, Path(folder)) for name in options.tables.split(";")]
        shown = ("train", "inputs", "classes")
        errors = ("majority", "mlp", "tinyfoa")
        body = [[r["table"], *(str(r[k]) for k in shown), *(f"{r[k]:.1f}" for k in errors)] for r in result["tables"]]
        table(["", *shown, *errors], body)
    finish(options.json, result)


if __name__ == "__main__":
    main()
