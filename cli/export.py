"""``tinyfoa export``: a trained model for other programs."""

from __future__ import annotations

import click

from tinyfoa_np.storage.whole_file import write_whole

from .options import debug_option
from .runs import model_file, path_of

FORMATS = ("npz", "c-header", "onnx")


@click.command(
    epilog="""\b
Examples:
  tinyfoa export runs/digits-tinyfoa-1 --to c-header
  tinyfoa export runs/digits-tinyfoa-1 --to onnx --out digits.onnx"""
)
@click.argument("run")
@click.option(
    "--to",
    type=click.Choice(FORMATS),
    required=True,
    help="npz: arrays for NumPy, of any algorithm; c-header: constants for a microcontroller's C (read by "
    "examples/classify.c); onnx: a graph for ONNX runtimes (needs the extra onnx). The last two for tinyfoa.",
)
@click.option("--out", metavar="FILE", help="The file. [default: model.npz, model.h or model.onnx in RUN]")
@debug_option
def export(run: str, to: str, out: str | None) -> None:
    """Write the trained model of RUN in another form, and print where it is.

    RUN is a run directory or its model.safetensors, of a fully connected network. docs/models.md has the layouts.
    """
    path = model_file(run)
    from tinyfoa_np.model import export as exports
    from tinyfoa_np.model import model as models

    content = exports.export(models.load(path), to)
    target = path_of(out) if out else path.parent / exports.FORMATS[to]
    write_whole(target, content)
    click.echo(target)
