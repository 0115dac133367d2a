"""``tinyfoa evaluate``: the test error of a trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinyfoa_np.data import is_files
from tinyfoa_np.errors import BadRequest

from .options import data_dir_option, dataset_of, debug_option, files_option, json_option, max_data_option
from .printing import WIDTH, empty_table, output
from .runs import model_file

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from tinyfoa_np.model import Model

#: with more classes, or where it is wider than the terminal, the most frequent mistakes replace the confusion matrix
MOST_CLASSES = 12
#: deviations below the mean at which --exit stops; the paper's is 1
FACTORS = (2.0, 1.0, 0.0, -1.0)


@click.command(
    epilog="""\b
Examples:
  tinyfoa evaluate runs/digits-tinyfoa-1
  tinyfoa evaluate runs/data-tinyfoa-1 new.csv
  tinyfoa evaluate runs/mnist-tinyfoa-1 mnist --data-dir ~/datasets --json"""
)
@click.argument("run")
@click.argument("dataset", required=False)
@files_option
@data_dir_option
@click.option(
    "--exit",
    "early",
    is_flag=True,
    help="ff: also stop at the first confident layer, for several thresholds: error against multiplications. The "
    "thresholds come from the training set and are kept beside the model, for tinyfoa predict --exit.",
)
@max_data_option
@json_option
@debug_option
def evaluate(
    run: str,
    dataset: str | None,
    files: str | None,
    data_dir: str | None,
    early: bool,
    max_bytes: int | None,
    as_json: bool,
) -> None:
    """Print the test error of a trained model, by class.

    RUN is a run directory or its model.safetensors. Without DATASET, the model answers the test samples of the data set
    it was trained on. DATASET may be a file with new samples and their labels (new.csv): the model answers all of them.
    """
    path = model_file(run)
    from tinyfoa_np.model import model as models
    from tinyfoa_np.reports.evaluation import of_model

    model = models.load(path)
    name = dataset_of(dataset, files) or model.recipe.dataset
    inputs, labels = _samples(run, model, name, data_dir, max_bytes)
    found = {**of_model(model, inputs, labels), "dataset": name}
    if early:
        found["exit"] = _exits(model, path, inputs, labels, data_dir, max_bytes)
    if as_json:
        click.echo(json.dumps({**found, "memory": model.memory}))
    else:
        _print(found, name)


def _exits(
    model: Model, path: Path, inputs: np.ndarray, labels: np.ndarray, data_dir: str | None, max_bytes: int | None
) -> list[dict[str, Any]]:
    """Error and multiplications of answers that stop early, a row for each factor of the thresholds' deviation."""
    from tinyfoa_np import data
    from tinyfoa_np.data.roles import Known
    from tinyfoa_np.model import exits

    products, recipe = exits.products(model), model.recipe
    reading = Known.from_record(model.reading).reading if model.reading else None
    samples = data.load(recipe.dataset, data_dir, reading=reading, max_bytes=max_bytes)
    if recipe.digest not in (None, samples.digest):
        raise BadRequest(f"{recipe.dataset} does not contain the samples that the thresholds of --exit are made of")
    train = samples.train.inputs[: recipe.limit], samples.train.labels[: recipe.limit]
    thresholds, rows = exits.calibrated(model, *train), []
    thresholds.save(path)
    for factor in FACTORS:
        classes, stops = exits.predict(model, inputs, thresholds.limits(factor))
        rows.append(
            {
                "factor": factor,
                "error_pct": 100 * float((classes != labels).mean()),
                "products": float(products[stops].mean()),
                "products_pct": 100 * float(products[stops].mean() / products[-1]),
                "samples_by_layer": [int((stops == k).sum()) for k in range(len(products))],
            }
        )
    return rows


def _samples(
    run: str, model: Model, name: str, data_dir: str | None, max_bytes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels for the model: test samples of its data set, or all new samples."""
    from tinyfoa_np import data
    from tinyfoa_np.data.roles import Known
    from tinyfoa_np.data.user_files import labelled

    reading = Known.from_record(model.reading).reading if model.reading and is_files(name) else None
    digest = model.recipe.digest
    if is_files(name) and name != model.recipe.dataset and "," not in name:
        inputs, labels = labelled(Path(name), model, max_bytes)
        try:
            samples = data.load(name, data_dir, reading=reading, max_bytes=max_bytes)
        except BadRequest:  # new samples may be too few to be split and trained on
            return inputs, labels
        return (inputs, labels) if samples.digest != digest else (samples.test.inputs, samples.test.labels)
    samples = data.load(name, data_dir, reading=reading, max_bytes=max_bytes)
    if digest not in (None, samples.digest):
        raise BadRequest(
            f"{name} does not contain the samples that {run} was trained on: give new samples another file name"
        )
    return samples.test.inputs, samples.test.labels


def _print(found: dict[str, Any], name: str) -> None:
    from tinyfoa_np.reports.evaluation import occurring

    console = output(WIDTH)
    wrong, count = found["wrong"], found["samples"]
    click.echo(f"test error  {found['error_pct']:.2f} %  ({wrong:,} of {count:,} {name} test samples wrong)")
    click.echo(f"majority    {found['majority_error_pct']:.2f} % error when always answering the most frequent class")
    apart = found["calibration"]["expected_error_pct"]
    click.echo(f"confidence  differs from accuracy by {apart:.1f} % on average")
    if "exit" in found:
        click.echo()
        table = empty_table("Stopping early", "deviations below the mean >", "error, % >", "products, % >", "per layer")
        for row in found["exit"]:
            layers = ", ".join(f"{count:,}" for count in row["samples_by_layer"])
            table.add_row(f"{row['factor']:g}", f"{row['error_pct']:.2f}", f"{row['products_pct']:.1f}", layers)
        console.print(table)
    shares = ("precision", "recall", "f1")
    click.echo()
    table = empty_table("By class", "class", "samples >", "precision >", "recall >", "F1 >")
    for row in occurring(found):
        table.add_row(str(row["label"]), f"{row['samples']:,}", *(_share(row[share]) for share in shares))
    console.print(table)
    confusion = _confusion([str(row["label"]) for row in found["classes"]], found["confusion"], console)
    if confusion:
        table = confusion
        console.print("Confusion matrix: a row for each right class, a column for each answer")
    else:
        table = empty_table("Most frequent mistakes", "samples >", "right class", "answer")
        for row in found["mistakes"]:
            table.add_row(f"{row['samples']:,}", str(row["label"]), str(row["answer"]))
    console.print(table)


def _confusion(labels: list[str], counts: list[list[int]] | None, console: Console) -> Table | None:
    """The confusion matrix, with numbers in place of names above the columns if these are too wide; None if it is."""
    if counts is None or len(labels) > MOST_CLASSES:
        return None
    numbered = [f"{number} {label}" for number, label in enumerate(labels, 1)]
    for heads, names in ((labels, labels), ([str(number) for number in range(1, len(labels) + 1)], numbered)):
        table = empty_table("", "", *(f"{head[:12]} >" for head in heads))
        for name, row in zip(names, counts, strict=True):
            table.add_row(name[:12], *(str(count) if count else "." for count in row))
        if console.measure(table, options=console.options.update(max_width=1000)).maximum <= console.width:
            return table
    return None


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
