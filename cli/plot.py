"""``tinyfoa plot``: pictures of a run."""

from __future__ import annotations

import click

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.plots import KINDS

from .options import debug_option
from .runs import old_run, path_of

#: the kind that is not a picture
TRACE = "trace"


@click.command(
    epilog="""\b
Examples:
  tinyfoa plot runs/digits-tinyfoa-1
  tinyfoa plot runs/digits-tinyfoa-1 runs/digits-bp-1 --out both.png
  tinyfoa plot runs/digits-tinyfoa-1 --kind training --out training.svg
  tinyfoa plot runs/digits-tinyfoa-1 --layer 1 --out first-layer.svg
  tinyfoa plot runs/digits-tinyfoa-1 --kind trace --out step.json"""
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--kind",
    type=click.Choice((*KINDS, TRACE)),
    help="memory: the content of each address of the arena over a training step, and the planned, accounted and "
    "touched bytes beside the paper's figures. training: error and loss per layer and epoch. signs: the share of "
    "weights whose sign differs from the initial one, per slice. fields: the first layer's weights, as images. trace: "
    "the plan and one measured training step, as JSON for ui.perfetto.dev (needs --out; trains a few steps on made-up "
    f"samples). [default: {KINDS[0]}]",
)
@click.option(
    "--layer",
    type=int,
    metavar="N",
    help="The layer to draw, from 1. [default: with memory, the one with the largest arena; otherwise all]",
)
@click.option(
    "--out",
    metavar="FILE",
    help="File to write, ending in .png or .svg; for a trace, in .json. [default: KIND.png in RUN; with several runs, "
    "compared.png in the current directory]",
)
@debug_option
def plot(runs: tuple[str, ...], kind: str | None, layer: int | None, out: str | None) -> None:
    """Draw a picture of the finished training in RUN, and print where it is.

    Several runs are drawn into one picture: test error by epoch, and final test error against bytes of RAM. Needs
    matplotlib (the extra `plot`), except for a trace.
    """
    paths = [old_run(run) for run in runs]
    if kind == TRACE and len(paths) == 1:
        from tinyfoa_np.reports import trace

        if not out:
            raise BadRequest("say where the trace goes: --out FILE.json")
        click.echo(trace.write_trace(paths[0], path_of(out), layer))
        return
    if len(paths) > 1 and (kind or layer):
        raise BadRequest("several runs are compared in one picture: leave --kind and --layer out")
    from tinyfoa_np import plots

    target = out and path_of(out)
    if len(paths) > 1:
        click.echo(plots.draw_compared(paths, target or "compared.png"))
    else:
        click.echo(plots.draw(paths[0], kind or plots.KINDS[0], target, layer))
