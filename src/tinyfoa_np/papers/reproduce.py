"""Reproduce the paper's tables: train each row as published, and compare its error and bytes with the paper's.

A table has one row per system; a row has one training run per seed, see :mod:`tinyfoa_np.run.jobs`. Runs are stored in
``DATASET/SYSTEM/seed-N`` below the table's directory, which also contains ``table1.csv``, ``.json`` and ``.md``.
Everything here is read from the runs' files, so a table can be made again at any time.

For each of the paper's steps (forward, gradient, update) there are three figures in MB: the paper's; the closed form
behind it for the network trained (:mod:`.tinyfoa_memory`); and the bytes of the arena accounted for in that phase,
with everything counted.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

from .. import data
from ..errors import BadRequest
from ..network import widths as widths_of
from ..recipe import Recipe
from ..run import jobs as workers
from ..run.jobs import Run
from . import formats, presets
from . import tinyfoa_memory as paper
from . import tinyfoa_tables as tables

#: a row: the columns of the CSV file, and ``runs`` and ``notes``
Summary = dict[str, Any]
PEPITA = "fc:2000x3"  # as published
#: a quick look: smaller layers by published network, fewer samples, and yet enough steps to learn something
QUICK_NETWORKS = {"fc:2000x4": "fc:300x4", PEPITA: "fc:300x3", presets.LOCAL_NETWORK: "lc:4x4"}
QUICK, QUICK_LR = {"epochs": 4, "limit": 5000, "batch": 20}, 10
#: algorithms that need their published learning rate
QUICK_AS_PUBLISHED = ("ff",)


@dataclass(frozen=True)
class Task:
    """A table row for a data set: the paper's row, its published recipe, and the runs, one per seed."""

    row: tables.Row
    dataset: str
    published: Recipe
    runs: tuple[Run, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe shared by all runs."""
        return self.runs[0].recipe


def tasks(
    table: str,
    out: str | os.PathLike[str],
    *,
    datasets: Sequence[str] = ("mnist",),
    systems: Sequence[str] = (),
    seeds: int = 3,
    quick: bool = False,
    changes: dict[str, Any] | None = None,
    data_dir: str | None = None,
) -> list[Task]:
    """List and check the trainings needed for a table, before anything is trained.

    Parameters
    ----------
    table : str
        One of :data:`tinyfoa_np.papers.tinyfoa_tables.TABLES`.
    out : path
        The table's directory.
    datasets : sequence of str
    systems : sequence of str
        Names of rows, or patterns such as ``bp*``; by default all rows.
    seeds : int
        Number of seeds; they are 0, 1, 2, ...
    quick : bool
        Whether small networks train for a few epochs, in minutes: a look at the table, not a reproduction.
    changes : dict, optional
        Fields of the recipe that replace the published ones, such as ``epochs``.
    data_dir : str, optional
        Directory to search for data first.

    Raises
    ------
    BadRequest
        If there is no such row or data set, a row cannot be trained, or the directory holds runs with other recipes.
    CheckFailed
        If the result of a run is damaged.
    """
    if seeds < 1:
        raise BadRequest(f"seeds is {seeds}: at least one is needed")
    if not datasets:
        raise BadRequest(f"name a data set: {', '.join(data.names())}")
    if Path(out).exists() and not Path(out).is_dir():
        raise BadRequest(f"--out {out} is a file; give a directory")
    found = []
    for dataset in dict.fromkeys(datasets):
        data.samples(dataset)  # refuses unknown data sets
        for row in _chosen(table, systems):
            system = row.system
            fields = presets.paper(
                system.algorithm,
                dataset,
                binary_weights=system.binary_weights,
                binary_activations=system.binary_activations,
                vertical=system.vertical,
                local=table in tables.LOCAL,
            )
            own = {**(_quick(fields) if quick else {}), **(changes or {})}
            widths_of(str(own.get("network", fields["network"])))
            place = Path(out) / dataset / row.name
            runs = tuple(
                Run(
                    f"{dataset} {row.name} seed {seed}",
                    Recipe(**{**fields, **own, "seed": seed}).validated(),
                    place / f"seed-{seed}",
                    data_dir,
                )
                for seed in range(seeds)
            )
            found.append(Task(row, dataset, Recipe(**fields).validated(), runs))
    for dataset in dict.fromkeys(task.dataset for task in found):
        fresh = [
            r for t in found if t.dataset == dataset for r in t.runs if not (workers.finished(r) or workers.begun(r))
        ]
        if fresh:
            data.find(dataset, data_dir)
    return found


def _quick(published: dict[str, Any]) -> dict[str, Any]:
    """The fields of a published recipe that differ for a quick look."""
    faster = 1 if published["algorithm"] in QUICK_AS_PUBLISHED else QUICK_LR
    return {**QUICK, "network": QUICK_NETWORKS[published["network"]], "lr": faster * published["lr"]}


def _chosen(table: str, systems: Sequence[str]) -> list[tables.Row]:
    rows = tables.rows(table)
    for pattern in systems:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            names = ", ".join(row.name for row in rows)
            raise BadRequest(f"{tables.TABLES[table]} has no system {pattern!r}; it has {names}")
    return [row for row in rows if not systems or any(fnmatchcase(row.name, pattern) for pattern in systems)]


def carry_out(
    table: str,
    todo: Sequence[Task],
    out: str | os.PathLike[str],
    *,
    jobs: int,
    on_progress: Callable[[Run, float, str], None] = lambda run, part, where: None,
    on_row: Callable[[Summary], None] = lambda row: None,
) -> list[Summary]:
    """Train missing runs and write the table, also after each row and when interrupted.

    Parameters
    ----------
    table : str
    todo : sequence of Task
        From :func:`tasks`.
    out : path
        The table's directory.
    jobs : int
        Number of processes.
    on_progress : callable
        Called with a run, the fraction trained (1 at its end, however it ended), and its position in words.
    on_row : callable
        Called with each row when all its runs have ended.

    Returns
    -------
    list of dict
        One per row, see :func:`summary`.

    Raises
    ------
    Stopped
        After Ctrl-C.
    """
    failed: dict[str, str] = {}
    ended: set[str] = set()
    rows = {id(task): summary(task) for task in todo}

    def on_end(run: Run, reason: str | None) -> None:
        ended.add(run.name)
        if reason is not None:
            failed[run.name] = reason
        on_progress(run, 1.0, "")
        task = next(task for task in todo if run in task.runs)
        if all(each.name in ended for each in task.runs):
            rows[id(task)] = summary(task, failed)
            write(table, todo, list(rows.values()), out)
            on_row(rows[id(task)])

    try:
        workers.perform_all([run for task in todo for run in task.runs], jobs, on_progress, on_end)
    finally:
        rows = {id(task): summary(task, failed) for task in todo}
        write(table, todo, list(rows.values()), out)
    return list(rows.values())


# -- a row ---------------------------------------------------------------------------------------------------------


def summary(task: Task, failed: dict[str, str] | None = None) -> Summary:
    """A row of the table, with the results of its finished runs.

    Parameters
    ----------
    task : Task
    failed : dict of str to str, optional
        Reasons of failures by name of the run.

    Returns
    -------
    dict
        The columns of the CSV file: errors in %, memory in MB of 10^6 bytes, None if there is no figure; ``runs``, each
        with ``seed``, ``outcome`` (``finished``, ``diverged``, ``failed`` or ``missing``) and its results; ``notes``.
    """
    row, recipe = task.row, task.recipe
    runs = [_run(run, workers.finished(run), (failed or {}).get(run.name)) for run in task.runs]
    done = [run for run in runs if run["outcome"] == "finished"]
    errors = [run["error_pct"] for run in done]
    theirs = row.errors.get(task.dataset, (None, None))
    found: Summary = {
        "table": row.table,
        "setting": row.setting,
        "system": row.name,
        "dataset": task.dataset,
        "paper_error_pct": theirs[0],
        "paper_error_sd": theirs[1],
        "error_pct": statistics.mean(errors) if errors else None,
        "error_sd": statistics.stdev(errors) if len(errors) > 1 else None,
        "seeds": len(runs),
        "finished": len(done),
        "outcome": outcome(runs),
        "network": recipe.network,
        "epochs": recipe.epochs,
        "paper_epochs": task.published.epochs,
        "epochs_of": "layer" if recipe.rule.by_layer else "network",
    }
    toggles = {"binary_weights": recipe.binary_weights, "binary_activations": recipe.binary_activations}
    widths = widths_of(recipe.network)
    # a network with one layer has no matrix between hidden layers, and the paper counts only those
    formula = None
    if len(widths) > 1 and row.table in tables.LOCAL:
        image = data.shape(task.dataset).image
        formula = paper.locally_connected(
            recipe.algorithm, widths, positions=prod(image[1:]) if image else 0, **toggles, slices=recipe.slices or 1
        )
    elif len(widths) > 1:
        formula = paper.fully_connected(recipe.algorithm, widths, **toggles, slices=recipe.slices or 1)
    for step in paper.STEPS:
        measured = [run["phases"][step] for run in done]
        found[f"{step}_paper_mb"] = row.megabytes[step]
        found[f"{step}_formula_mb"] = paper.megabytes(formula[step]) if formula else None
        found[f"{step}_mb"] = max(measured) / 1e6 if measured else None
    found["arena_mb"] = max(run["arena_bytes"] for run in done) / 1e6 if done else None
    found["comp_paper"] = row.comp
    found["comp"] = paper.comp(widths, **toggles) if formula and row.comp is not None else None
    found["seconds"] = statistics.mean(run["seconds"] for run in done) if done else None
    return {**found, "runs": runs, "notes": list(dict.fromkeys(line for run in runs for line in run["warnings"]))}


def _run(run: Run, result: dict[str, Any] | None, reason: str | None) -> dict[str, Any]:
    known = {"seed": run.recipe.seed, "run_dir": str(run.directory), "warnings": []}
    if result is None:
        return {**known, "outcome": "failed", "message": reason} if reason else {**known, "outcome": "missing"}
    known["outcome"], known["warnings"] = result["outcome"], result["warnings"]
    if result["outcome"] == "diverged":
        layers = run.recipe.rule.by_layer and len(widths_of(run.recipe.network)) > 1
        where = f"layer {result['layer']}, epoch {result['epoch']}" if layers else f"epoch {result['epoch']}"
        return {**known, "where": where, "message": result["message"]}
    arena = result["arena"]
    return {
        **known,
        "error_pct": result["error_pct"],
        "layer_errors_pct": result["layer_errors_pct"],
        "seconds": sum(result["seconds_per_epoch"]) * run.recipe.epochs,
        "model_sha256": result["model_sha256"],
        "arena_bytes": arena["watermark_bytes"],
        "phases": {step: arena["phases"][step]["accounted_bytes"] for step in paper.STEPS},
    }


def outcome(runs: Sequence[dict[str, Any]]) -> str:
    """The outcome of a row's runs in a few words.

    Examples
    --------
    >>> outcome([{"outcome": "finished"}, {"outcome": "finished"}])
    '2 seeds'
    >>> outcome([{"outcome": "diverged", "where": "epoch 3"}])
    'diverged (epoch 3)'
    >>> outcome([{"outcome": "finished"}, {"outcome": "diverged", "where": "epoch 3", "seed": 1}])
    '1 of 2 seeds; seed 1 diverged (epoch 3)'
    """
    kinds = [run["outcome"] for run in runs]
    if set(kinds) == {"diverged"}:
        return f"diverged ({'; '.join(dict.fromkeys(run['where'] for run in runs))})"
    if set(kinds) == {"finished"}:
        return f"{len(runs)} seed{'s' * (len(runs) > 1)}"
    parts = [f"{kinds.count('finished')} of {len(runs)} seed{'s' * (len(runs) > 1)}"]
    parts += [f"seed {run['seed']} diverged ({run['where']})" for run in runs if run["outcome"] == "diverged"]
    parts += [f"seed {run['seed']} failed" for run in runs if run["outcome"] == "failed"]
    return "; ".join([*parts, "not finished"] if "missing" in kinds else parts)


def failures(rows: Sequence[Summary]) -> list[str]:
    """Failed runs, one line each."""
    return [
        f"{row['dataset']} {row['system']} seed {run['seed']}: {run['message']}"
        for row in rows
        for run in row["runs"]
        if run["outcome"] == "failed"
    ]


# -- the table -----------------------------------------------------------------------------------------------------


def caption(table: str, todo: Sequence[Task]) -> str:
    """The content of the table, and its differences from the published setting."""
    seeds = len(todo[0].runs)
    datasets = ", ".join(dict.fromkeys(task.dataset for task in todo))
    parts = [f"{tables.TABLES[table]} on {datasets}, {'seed 0' if seeds == 1 else f'seeds 0 to {seeds - 1}'}"]
    recipe, published = todo[0].recipe, todo[0].published
    if recipe.epochs != published.epochs:
        parts.append(f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)} instead of the published {published.epochs}")
    networks = dict.fromkeys(task.recipe.network for task in todo)
    if any(task.recipe.network != task.published.network for task in todo):
        parts.append(f"network{'s' * (len(networks) > 1)} {' and '.join(networks)} instead of the published ones")
    if recipe.batch != published.batch:
        parts.append(f"batch {recipe.batch} instead of {published.batch}")
    faster = [task for task in todo if task.recipe.lr != task.published.lr]
    if faster and faster[0].recipe.lr and faster[0].published.lr:
        same = dict.fromkeys(task.recipe.algorithm for task in todo if task not in faster)
        times = f"{faster[0].recipe.lr / faster[0].published.lr:.3g} times the published learning rates"
        parts.append(times + f" (not of {', '.join(same)})" * bool(same))
    if recipe.limit is not None:
        parts.append(f"the first {recipe.limit:,} training samples only")
    borrowed = [name for name in dict.fromkeys(task.dataset for task in todo) if name not in tables.DATASETS]
    if borrowed:
        parts.append(f"with the recipes of {presets.USUAL} on {', '.join(borrowed)}, which the paper does not have")
    return "; ".join(parts)


def remarks(rows: Sequence[Summary]) -> list[str]:
    """Notes for readers of the table, one line each."""
    lines = [
        "Errors in %, +- standard deviation over seeds; epochs: here (published), of each layer with TinyFoA. "
        "comp: MFLOP x bytes of one inference.",
        "Memory in MB of 10^6 bytes: the paper / its closed form for this network / measured here, with the whole "
        "batch, the optimizer and all else that training needs. arena: the most at any time, by its watermark.",
    ]
    if any(row["table"] in tables.LOCAL for row in rows):
        lines.append(
            "The paper counts one input channel per weight; connected full, as in the authors' script, a layer has as "
            "many as the one below has channels."
        )
    if any(row["system"].startswith("pepita") and row["network"] == PEPITA for row in rows):
        lines.append("The paper's comp of PEPITA is that of four layers; its network has three.")
    never = [name for name in ("drtp+ba", "ff+ba") if any(row["system"] == name for row in rows)]
    if never:
        lines.append(
            f"{', '.join(never)}: as in the published code, activations are binary only where weights are, so that "
            f"{'these train' if len(never) > 1 else 'this trains'} as without +ba; the closed form counts bits."
        )
    noted: dict[str, list[str]] = {}
    for row in rows:
        for line in row["notes"]:
            noted.setdefault(line, []).append(row["system"])
    return lines + [f"{', '.join(dict.fromkeys(names))}: {line}." for line, names in noted.items()]


#: titles of the two tables and their columns; a column whose name ends in ``>`` contains numbers
ERRORS = ("setting", "system", "data set", "the paper >", "here >", "of", "epochs >", "comp, the paper >", "comp >")
MEMORY = ("system", "data set", *(f"{step} >" for step in paper.STEPS), "arena >")


def errors(row: Summary) -> list[str]:
    """The cells of a row under :data:`ERRORS`."""
    epochs = f"{row['epochs']} ({row['paper_epochs']})"
    return [
        row["setting"],
        row["system"],
        row["dataset"],
        plus_minus(row["paper_error_pct"], row["paper_error_sd"]),
        plus_minus(row["error_pct"], row["error_sd"]),
        row["outcome"],
        epochs,
        _figure(row["comp_paper"], 1),
        _figure(row["comp"], 1),
    ]


def memory(row: Summary) -> list[str]:
    """The cells of a row under :data:`MEMORY`."""
    steps = [
        " / ".join(_figure(row[f"{step}{kind}_mb"]) for kind in ("_paper", "_formula", "")) for step in paper.STEPS
    ]
    return [row["system"], row["dataset"], *steps, _figure(row["arena_mb"])]


#: parts of the printed table by title: columns, and a function for the cells of a row
PARTS = {"Errors, %": (ERRORS, errors), "Memory, MB": (MEMORY, memory)}
#: minimum width in characters at which these parts are printed without breaking cells
WIDE = 110


def narrow(rows: Sequence[Summary]) -> dict[str, tuple[tuple[str, ...], Callable[[Summary], list[str]]]]:
    """The parts for a terminal of 80 columns: without what the caption says, and with short cells."""
    several = len({row["dataset"] for row in rows}) > 1
    heads = ("system", "the paper >", "here >", "of", "arena >", "comp >"), ("system", *MEMORY[2:-1])

    def name(row: Summary) -> str:
        return f"{row['system']} {row['dataset']}" if several else row["system"]

    def of_errors(row: Summary) -> list[str]:
        _, _, _, theirs, here, done, _, *comps = errors(row)
        return [name(row), theirs, here, done, memory(row)[-1], "/".join(comps)]

    def of_memory(row: Summary) -> list[str]:
        return [name(row), *(cell.replace(" ", "") for cell in memory(row)[2:-1])]

    return {"Errors, %": (heads[0], of_errors), "Memory, MB": (heads[1], of_memory)}


def in_a_line(row: Summary) -> str:
    """A finished row in one line."""
    here, theirs = (
        plus_minus(row["error_pct"], row["error_sd"]),
        plus_minus(row["paper_error_pct"], row["paper_error_sd"]),
    )
    error = f"{here} % ({row['outcome']})" if row["finished"] else row["outcome"]
    arena = f", {_figure(row['arena_mb'])} MB" if row["finished"] else ""
    return f"{row['dataset']} {row['system']}: {error}{arena}; the paper: {theirs}{' %' * (theirs != '-')}"


def plus_minus(mean: float | None, sd: float | None) -> str:
    """An error in the paper's format.

    Examples
    --------
    >>> plus_minus(2.1, 0.09), plus_minus(2.1, None), plus_minus(None, None)
    ('2.10 +- 0.09', '2.10', '-')
    """
    return _figure(mean) + (f" +- {sd:.2f}" if sd is not None else "")


def _figure(value: float | None, digits: int = 2) -> str:
    """A number in the paper's format, with more digits if it is small."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if value >= 0.1 else f"{value:.2g}"


def to_json(title: str, rows: Sequence[Summary]) -> str:
    """The table as one JSON object: ``caption``, ``remarks`` and ``rows``, with all their runs."""
    return formats.to_json(title, remarks(rows), rows)


def write(table: str, todo: Sequence[Task], rows: Sequence[Summary], out: str | os.PathLike[str]) -> None:
    """Write the table as CSV, JSON and Markdown into its directory."""
    title = caption(table, todo)
    sections = [(heading, columns, [cells(row) for row in rows]) for heading, (columns, cells) in PARTS.items()]
    contents = {
        "csv": formats.to_csv(rows, without=("runs", "notes")),
        "json": to_json(title, rows) + "\n",
        "md": formats.to_markdown(title, remarks(rows), sections),
    }
    formats.write(out, table, contents)
