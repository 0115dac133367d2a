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

    from tinyfoa_np.model import Model

#: with more classes, the confusion matrix does not fit a terminal, and the most frequent mistakes are listed instead
MOST_CLASSES, MISTAKES = 12, 10


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
@max_data_option
@json_option
@debug_option
def evaluate(
    run: str, dataset: str | None, files: str | None, data_dir: str | None, max_bytes: int | None, as_json: bool
) -> None:
    """Print the test error of a trained model, by class.

    RUN is a run directory or its model.safetensors. Without DATASET, the model answers the test samples of the data set
    it was trained on. DATASET may be a file with new samples and their labels (new.csv): the model answers all of them.
    """
    path = model_file(run)
    from tinyfoa_np.model import model as models
    from tinyfoa_np.reports.evaluation import evaluation

    model = models.load(path)
    name = dataset_of(dataset, files) or model.recipe.dataset
    inputs, labels = _samples(run, model, name, data_dir, max_bytes)
    found = {**evaluation(model.scores(inputs), labels, model.labels), "dataset": name}
    if as_json:
        click.echo(json.dumps({**found, "memory": model.memory}))
    else:
        _print(found, name)


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
    console = output(WIDTH)
    wrong, count = found["wrong"], found["samples"]
    click.echo(f"test error  {found['error_pct']:.2f} %  ({wrong:,} of {count:,} {name} test samples wrong)")
    click.echo(f"majority    {found['majority_error_pct']:.2f} % error when always answering the most frequent class")
    apart = found["calibration"]["expected_error_pct"]
    click.echo(f"confidence  differs from accuracy by {apart:.1f} % on average")
    shares = ("precision", "recall", "f1")
    table = empty_table("\nBy class", "class", "samples >", "precision >", "recall >", "F1 >")
    for row in found["classes"]:
        table.add_row(str(row["label"]), f"{row['samples']:,}", *(_share(row[share]) for share in shares))
    console.print(table)
    labels = [str(row["label"]) for row in found["classes"]]
    confusion = found["confusion"]
    if len(labels) <= MOST_CLASSES:
        columns = [f"{label[:6]} >" for label in labels]
        table = empty_table("Confusion matrix", "right class", *columns)
        for label, row in zip(labels, confusion, strict=True):
            table.add_row(label[:12], *(str(count) if count else "." for count in row))
    else:
        mistakes = [(n, a, b) for a, row in enumerate(confusion) for b, n in enumerate(row) if n and a != b]
        table = empty_table("Most frequent mistakes", "samples >", "right class", "answer")
        for count, right, answer in sorted(mistakes, key=lambda m: (-m[0], m[1], m[2]))[:MISTAKES]:
            table.add_row(f"{count:,}", labels[right], labels[answer])
    console.print(table)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
