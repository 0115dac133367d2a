"""``tinyfoa predict``: classes for the samples in a file."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import click

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.storage.whole_file import write_whole
from tinyfoa_np.text import printable

from .options import debug_option, json_option, max_data_option
from .runs import model_file, path_of


@click.command(
    epilog="""\b
Examples:
  tinyfoa predict runs/digits-tinyfoa-1 samples.npy
  tinyfoa predict runs/data-tinyfoa-1 new.csv
  tinyfoa predict runs/digits-tinyfoa-1 samples.npy --out classes.npy"""
)
@click.argument("run")
@click.argument("file")
@click.option(
    "--out", metavar="FILE.npy", help="Write the classes' numbers (N,) int64 to this file instead of printing them."
)
@click.option(
    "--exit",
    "early",
    is_flag=True,
    help="ff: stop at the first confident layer, by the thresholds of tinyfoa evaluate RUN --exit.",
)
@max_data_option
@json_option
@debug_option
def predict(run: str, file: str, out: str | None, early: bool, max_bytes: int | None, as_json: bool) -> None:
    """Print the classes of the samples in FILE.

    One class per line, by its number or by its name in your own data. RUN is a run directory or its model.safetensors.

    FILE is .npy: an array of N rows, one sample each; .npz, with such an array called x; or .csv, with or without the
    column of labels. If this table and the one of the training have a header, columns are found by their names, in any
    order. Samples are as in the training data: bytes (uint8) for digits and mnist, your own data as in your files;
    scaling, missing values and windows are applied as in training. Images of N x height x width are read row by row.
    """
    path = model_file(run)
    from tinyfoa_np.data.user_files import samples_of
    from tinyfoa_np.model import model as models

    model = models.load(path)
    samples = samples_of(Path(file), model, max_bytes).inputs
    if samples.ndim < 2:
        raise BadRequest(f"{file} must hold N rows, one sample each; its shape is {samples.shape}")
    samples, layers = samples.reshape(len(samples), math.prod(samples.shape[1:])), {}
    if early:
        from tinyfoa_np.model import exits

        classes, stops = exits.predict(model, samples, exits.Thresholds.load(path, model).limits())
        layers = {"layers": (stops + 1).tolist()}
    else:
        classes = model.predict(samples)
    shown = [model.labels[number] for number in classes] if model.labels else classes.tolist()
    if out:
        import numpy as np

        content = io.BytesIO()
        np.lib.format.write_array(content, classes)
        write_whole(path_of(out), content.getvalue())
    if as_json:
        click.echo(json.dumps({"classes": shown, **layers, "memory": model.memory}))
    elif not out:
        click.echo("".join(f"{printable(each)}\n" for each in shown), nl=False)
