"""``tinyfoa evaluate``: the test error of a trained model."""

from __future__ import annotations

import json

import click

from tinyfoa_np.errors import BadRequest

from .options import data_dir_option, dataset_of, debug_option, files_option, json_option
from .runs import model_file


@click.command(
    epilog="""\b
Examples:
  tinyfoa evaluate runs/digits-tinyfoa-1
  tinyfoa evaluate runs/mnist-tinyfoa-1 mnist --data-dir ~/datasets --json"""
)
@click.argument("run")
@click.argument("dataset", required=False)
@files_option
@data_dir_option
@json_option
@debug_option
def evaluate(run: str, dataset: str | None, files: str | None, data_dir: str | None, as_json: bool) -> None:
    """Print the test error of a trained model.

    RUN is a run directory or its model.safetensors. Without DATASET, on the data set it was trained with. Where that
    was files, or not the published ones, they must hold the same samples.
    """
    path = model_file(run)
    from tinyfoa_np import data
    from tinyfoa_np.data.roles import Known
    from tinyfoa_np.model import model as models

    model = models.load(path)
    name = dataset_of(dataset, files) or model.recipe.dataset
    reading = Known.from_record(model.reading).reading if model.reading and data.is_files(name) else None
    samples = data.load(name, data_dir, reading=reading)
    if model.recipe.digest not in (None, samples.digest):
        raise BadRequest(f"{name} does not hold what {run} was trained on: the digest of its samples is another")
    test = samples.test
    wrong = int((model.predict(test.inputs) != test.labels).sum())
    error = 100 * wrong / len(test.labels)
    if as_json:
        found = {"error_pct": error, "wrong": wrong, "samples": len(test.labels), "dataset": name}
        click.echo(json.dumps({**found, "memory": model.memory}))
    else:
        click.echo(f"test error  {error:.2f} %  ({wrong:,} of {len(test.labels):,} {name} test samples wrong)")
