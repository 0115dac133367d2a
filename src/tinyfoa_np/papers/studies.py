"""Reproduce the papers' figures: error against M and the number of exchanges (TinyFoA), against memory (GIFF).

A study has lines, one per way to train. A line has points, one per M or number of exchanges. A point has one training
run per seed. If a line's learning rate is searched, the first seed trains with every rate, and the rate with the
smallest *training* error after the last epoch is chosen: test samples do not influence the choice. The error is
reported together with the bytes of the arena, and the bytes read from and written to flash.

Runs are stored in ``DATASET/LINE/POINT/lr-RATE/seed-N`` below the study's directory, which also contains
``slices.csv``, ``.json`` and ``.md``; everything is read from the runs' files.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import data
from ..architectures import group_text, units_of
from ..errors import BadRequest
from ..recipe import Recipe
from ..run import jobs as workers
from ..run.jobs import Run
from . import formats

#: studies by name, with their descriptions
STUDIES = {
    "slices": "Error, memory and flash traffic over M, the slices per side (Fig. 4 of the paper)",
    "exchanges": "Error, memory and flash traffic over the number of exchanges (Fig. 5 of the paper)",
    "giff": "Error and memory of GIFF over theta, label width and grouping, beside BP (Figs. 5 and 6 of its paper)",
}
SIDES = (2, 4, 8, 16)
EXCHANGES = (4, 8, 16, 32, 64, 128, 256)
#: learning rates to search if slices have short turns
RATES = (1e-4, 5e-4, 1e-3, 2e-3, 4e-3)
EPOCHS = 20
#: common fields of study giff, and its learning rates, of which each point uses the better one
COOL, TWO_RATES = {"lr_schedule": "cooldown"}, (1e-3, 5e-3)
#: the network of study giff
CNN = "cnn"


@dataclass(frozen=True)
class Line:
    """A way to train: its name, the recipe fields that define it, and the learning rates to search, if any."""

    name: str
    fields: dict[str, Any]
    rates: tuple[float, ...] = ()
    axis: str = ""  # the field that its points vary, if not the study's
    values: tuple[Any, ...] = ()  # empty: every grouping of the network's units


def groupings(network: str) -> tuple[str, ...]:
    """All groupings of a network's units into runs of neighbours, smallest groups first."""
    count = units_of(network)
    ways = []
    for cuts in range(2 ** (count - 1)):
        ends = [number for number in range(1, count) if not cuts >> (number - 1) & 1] + [count]
        groups = [tuple(range(a, b)) for a, b in zip([0, *ends], ends, strict=False)]
        ways.append(group_text(tuple(groups)))
    return tuple(sorted(ways, key=lambda way: (-way.count("|"), way)))


#: the lines of each study; each has a point for every M, or for every number of exchanges
LINES = {
    "slices": (
        Line("a slice for an epoch", {"schedule": "slice", "hold": "1epoch", "order": "rows"}),
        *(
            Line(f"a slice for {n} step{'s' * (n > 1)}", {"schedule": "slice", "hold": str(n), "order": "rows"}, RATES)
            for n in (1, 10, 100)
        ),
        Line("auto", {"schedule": "auto"}),
        Line("stream", {"schedule": "stream"}),
        Line("frozen, as published", {"schedule": "frozen"}),
    ),
    "exchanges": (
        Line("M = 2", {"schedule": "slice", "slices": 2}),
        Line("M = 16", {"schedule": "slice", "slices": 16}),
        Line("M = 16, rate and order of auto", {"schedule": "auto", "slices": 16, "visits": 1}),
    ),
    "giff": (
        Line("BP", {"normalize": "standard", "shuffle": True} | COOL, TWO_RATES, axis="algorithm", values=("bp",)),
        Line("theta", {"algorithm": "giff"} | COOL, TWO_RATES, axis="theta", values=(0.01, 0.1, 1.0, 10.0, 100.0)),
        Line("label width", {"algorithm": "giff"} | COOL, TWO_RATES, axis="label_width", values=(1, 2, 4, 8, 16)),
        Line("groups", {"algorithm": "giff"} | COOL, TWO_RATES, axis="groups"),
    ),
}


@dataclass(frozen=True)
class Point:
    """A point of a line on a data set, and its runs, one per seed for each rate."""

    line: str
    dataset: str
    at: int | float | str
    runs: dict[float, tuple[Run, ...]]

    @property
    def chosen(self) -> float | None:
        """The rate with the smallest training error; None until all runs of the first seed are done."""
        if len(self.runs) == 1:
            return next(iter(self.runs))
        done = {rate: _result(runs[0]) for rate, runs in self.runs.items()}
        if any(result is None for result in done.values()):
            return None
        errors = {rate: result["train_error_pct"] for rate, result in done.items() if result and result["finished"]}
        return min(errors, key=lambda rate: (errors[rate], rate), default=min(self.runs))


def points(
    study: str,
    out: str | os.PathLike[str],
    *,
    datasets: Sequence[str] = ("mnist",),
    lines: Sequence[str] = (),
    seeds: int = 1,
    changes: dict[str, Any] | None = None,
    at: Sequence[int] = (),
    data_dir: str | None = None,
) -> list[Point]:
    """List and check the trainings needed for a study, before anything is trained.

    Parameters
    ----------
    study : str
        One of :data:`STUDIES`.
    out : path
        The study's directory.
    datasets : sequence of str
    lines : sequence of str
        Prefixes of lines' names; by default all lines.
    seeds : int
        Number of seeds; they are 0, 1, 2, ...
    changes : dict, optional
        Fields of every recipe, such as ``epochs`` or ``network``.
    at : sequence of int
        Values of M, or numbers of exchanges, that replace the usual ones; not for study ``giff``.
    data_dir : str, optional
        Directory to search for data first.

    Raises
    ------
    BadRequest
        If there is no such line or data set, a recipe is invalid, or the directory holds runs with other recipes.
    """
    if Path(out).exists() and not Path(out).is_dir():
        raise BadRequest(f"--out {out} is a file; give a directory")
    for name in lines:
        if not any(line.name.startswith(name) for line in LINES[study]):
            raise BadRequest(f"no line begins with {name!r}; there are {'; '.join(line.name for line in LINES[study])}")
    if study == "giff" and at:
        raise BadRequest("study giff has lines over theta, label width and groups: --at does not apply, use --lines")
    chosen = [line for line in LINES[study] if not lines or any(line.name.startswith(name) for name in lines)]
    found = []
    for dataset in dict.fromkeys(datasets):
        data.samples(dataset)  # refuses unknown data sets
        for line in chosen:
            for value in at or _values(study, line, changes or {}):
                usual = {"dataset": dataset, "epochs": EPOCHS, **({"network": CNN} if line.axis else {})}
                fields = {**usual, **line.fields, line.axis or study: value, **(changes or {})}
                runs = _runs(line, dataset, value, fields, seeds, Path(out), data_dir)
                found.append(Point(line.name, dataset, value, runs))
    for dataset in dict.fromkeys(point.dataset for point in found):
        every = [run for point in found if point.dataset == dataset for runs in point.runs.values() for run in runs]
        if not all([workers.finished(run) or workers.begun(run) for run in every]):
            data.find(dataset, data_dir)
    return found


def _values(study: str, line: Line, changes: dict[str, Any]) -> Sequence[Any]:
    """The values of a line's points."""
    if not line.axis:
        return SIDES if study == "slices" else EXCHANGES
    return line.values or groupings(changes.get("network") or CNN)


def _runs(
    line: Line,
    dataset: str,
    at: int | float | str,
    fields: dict[str, Any],
    seeds: int,
    out: Path,
    data_dir: str | None,
) -> dict[float, tuple[Run, ...]]:
    """The runs of a point, one per seed, for each of the line's rates unless the fields have one."""
    way, where = line.name.replace(" ", "-").replace(",", ""), str(at).replace("|", "-")
    rates = [{"lr": rate} for rate in line.rates] if "lr" not in fields else []
    runs = {}
    for rate in rates or [{}]:
        recipe = Recipe(**{**fields, **rate}).validated()
        place = out / dataset / way / where / f"lr-{recipe.lr:g}"
        name = f"{dataset}, {line.name}, {at}, lr {recipe.lr:g}"
        runs[recipe.lr or 0.0] = tuple(
            Run(f"{name}, seed {seed}", replace(recipe, seed=seed), place / f"seed-{seed}", data_dir)
            for seed in range(seeds)
        )
    return runs


def carry_out(
    study: str,
    todo: Sequence[Point],
    out: str | os.PathLike[str],
    *,
    jobs: int,
    on_progress: Callable[[Run, float, str], None] = lambda run, part, where: None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Train missing runs, first those that determine the rates, then the other seeds; write the study.

    Returns
    -------
    rows : list of dict
        See :func:`summary`.
    failed : list of str
        Failed runs, one line each.

    Raises
    ------
    Stopped
        After Ctrl-C.
    """
    failed: list[str] = []

    def on_end(run: Run, reason: str | None) -> None:
        if reason is not None:
            failed.append(f"{run.name}: {reason}")
        on_progress(run, 1.0, "")
        write(study, todo, out)

    try:
        workers.perform_all([runs[0] for point in todo for runs in point.runs.values()], jobs, on_progress, on_end)
        others = [run for point in todo if point.chosen is not None for run in point.runs[point.chosen][1:]]
        workers.perform_all(others, jobs, on_progress, on_end)
    finally:
        rows = write(study, todo, out)
    return rows, failed


def _result(run: Run) -> dict[str, Any] | None:
    """The result of a run, with the training error of its last epoch."""
    result = workers.finished(run)
    if result is None:
        return None
    if result["outcome"] != "finished":
        return {"finished": False}
    last = json.loads((run.directory / "metrics.jsonl").read_text().splitlines()[-1])
    return {"finished": True, "train_error_pct": last["train_error_pct"], **result}


def summary(point: Point) -> dict[str, Any]:
    """The results of a point's finished runs.

    Returns
    -------
    dict
        Errors in %, bytes; ``lr`` is the chosen rate, ``searched`` the test error of the first seed with each rate.
    """
    rate = point.chosen
    runs = point.runs[rate] if rate is not None else ()
    done = [result for run in runs if (result := _result(run)) and result["finished"]]
    recipe = next(iter(point.runs.values()))[0].recipe
    errors = [result["error_pct"] for result in done]
    searched = {
        f"{tried:g}": result["error_pct"] if result["finished"] else None
        for tried, tries in point.runs.items()
        if (result := _result(tries[0]))
    }
    return {
        "dataset": point.dataset,
        "line": point.line,
        "at": point.at,
        "network": recipe.network,
        "algorithm": recipe.algorithm,
        "slices": recipe.slices,
        "schedule": recipe.schedule,
        "hold": recipe.hold,
        "exchanges": recipe.exchanges,
        "order": recipe.order,
        "epochs": recipe.epochs,
        "lr": rate,
        "searched": searched,
        "seeds": len(done),
        "error_pct": statistics.mean(errors) if errors else None,
        "error_sd": statistics.stdev(errors) if len(errors) > 1 else None,
        "layer_errors_pct": done[0]["layer_errors_pct"] if done else None,
        "arena_bytes": max(result["arena"]["watermark_bytes"] for result in done) if done else None,
        "read_bytes": max(result["flash"]["read_bytes"] for result in done) if done else None,
        "written_bytes": max(result["flash"]["written_bytes"] for result in done) if done else None,
        "seconds": statistics.mean(sum(r["seconds_per_epoch"]) * recipe.epochs for r in done) if done else None,
    }


#: columns of a printed study; a column whose name ends in ``>`` contains numbers
COLUMNS = ("data set", "trained", "at >", "lr >", "error, % >", "layer by layer", "arena, MB >", "written, GB >")


def cells(row: dict[str, Any]) -> list[str]:
    """The cells of a row under :data:`COLUMNS`."""
    error = "-" if row["error_pct"] is None else f"{row['error_pct']:.2f}"
    error += "" if row["error_sd"] is None else f" +- {row['error_sd']:.2f}"
    layers = ", ".join(f"{layer:.2f}" for layer in row["layer_errors_pct"] or [])
    return [
        row["dataset"],
        row["line"],
        str(row["at"]),
        "-" if row["lr"] is None else f"{row['lr']:g}",
        error,
        layers,
        "-" if row["arena_bytes"] is None else f"{row['arena_bytes'] / 1e6:.2f}",
        "-" if row["written_bytes"] is None else f"{row['written_bytes'] / 1e9:.3g}",
    ]


def caption(study: str, todo: Sequence[Point]) -> str:
    """The content of the study, and its setting."""
    recipe = next(iter(todo[0].runs.values()))[0].recipe
    seeds = len(next(iter(todo[0].runs.values())))
    which = "seed 0" if seeds == 1 else f"seeds 0 to {seeds - 1}"
    each = " a layer" if recipe.rule.by_layer else ""
    return f"{STUDIES[study]}: {recipe.network}, {recipe.epochs} epochs{each}, {which}"


def remarks() -> list[str]:
    """Notes for readers of the study, one line each."""
    return [
        "Errors in % on the test samples, +- standard deviation over seeds. Where a learning rate was searched, it is "
        "the one with the least training error of the first seed; the test samples chose nothing.",
        "Arena: all bytes of RAM, by the watermark. Written: bytes to flash in the whole training.",
    ]


def to_json(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """The study as one JSON object: ``caption``, ``remarks`` and ``rows``."""
    return formats.to_json(title, remarks(), rows)


def picture(study: str, todo: Sequence[Point], out: str | os.PathLike[str]) -> list[Path]:
    """Draw the study into its directory, one PNG per data set; return their paths, none without a finished run.

    Raises
    ------
    BadRequest
        If matplotlib is not installed.
    """
    try:
        from ..plots import giff as giff_plot
        from ..plots import study as plot
    except ImportError as error:
        raise BadRequest(f'plots need matplotlib ({error}): install it with pip install ".[plot]"') from error
    paths = []
    for dataset in dict.fromkeys(point.dataset for point in todo):
        points = [point for point in todo if point.dataset == dataset]
        rows = [summary(point) for point in points]
        if any(row["error_pct"] is not None for row in rows):
            paths.append(Path(out) / f"{study}-{dataset}.png")
            title = f"{dataset}. {caption(study, points)}"
            if study == "giff":
                giff_plot.draw(rows, title, paths[-1])
            else:
                plot.draw(study, rows, title, paths[-1])
    return paths


def write(study: str, todo: Sequence[Point], out: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Write the study as CSV, JSON and Markdown into its directory; return its rows."""
    rows, title = [summary(point) for point in todo], caption(study, todo)
    contents = {
        "csv": formats.to_csv(rows, without=("searched", "layer_errors_pct")),
        "json": to_json(title, rows) + "\n",
        "md": formats.to_markdown(title, remarks(), [("", COLUMNS, [cells(row) for row in rows])]),
    }
    formats.write(out, study, contents)
    return rows
