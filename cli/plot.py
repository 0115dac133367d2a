"""``tinyfoa plot``: pictures of a run."""

from __future__ import annotations

import click

from tinyfoa_np.plots import KINDS

from .options import debug_option
from .runs import old_run, path_of


@click.command(
    epilog="""\b
Examples:
  tinyfoa plot runs/digits-tinyfoa-1
  tinyfoa plot runs/digits-tinyfoa-1 --kind training --out training.svg
  tinyfoa plot runs/digits-tinyfoa-1 --layer 1 --out first-layer.svg"""
)
@click.argument("run")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default=KINDS[0],
    help="memory: the arena over a training step, which region has which bytes when; and what was planned, accounted "
    "for and touched, beside the paper's figures. training: error and loss, layer by layer, epoch by epoch. signs: the "
    "share of weights whose sign is no longer the initial one, slice by slice. fields: the first layer's weights, as "
    f"the images it sees. [default: {KINDS[0]}]",
)
@click.option(
    "--layer",
    type=int,
    metavar="N",
    help="Of which layer, from 1. [default: memory: that with the largest arena; else all]",
)
@click.option("--out", metavar="FILE", help="A file ending in .png or .svg. [default: KIND.png in RUN]")
@debug_option
def plot(run: str, kind: str, layer: int | None, out: str | None) -> None:
    """Draw a picture of the finished training in RUN, and print where it is.

    Needs matplotlib, the extra `plot`.
    """
    path = old_run(run)
    from tinyfoa_np import plots

    click.echo(plots.draw(path, kind, out and path_of(out), layer))
