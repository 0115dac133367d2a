"""``tinyfoa compare``: several runs in one table."""

from __future__ import annotations

import json
from typing import Any

import click

from tinyfoa_np.data import short

from .options import debug_option, json_option
from .printing import empty_table, output
from .runs import old_run

WIDTH = 140  # of a table that is printed into a file or a pipe


@click.command(
    epilog="""\b
Examples:
  tinyfoa compare runs/digits-tinyfoa-1 runs/digits-bp-1
  tinyfoa compare runs/* --json"""
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@json_option
@debug_option
def compare(runs: tuple[str, ...], as_json: bool) -> None:
    """Print error, memory, flash and time of finished runs, one a line.

    RAM is the watermark; seconds are those of an epoch, of each layer where one trains after another, with evaluation
    and commits. W and A: binary weights, binary activations.
    """
    paths = [old_run(run) for run in runs]
    from tinyfoa_np.run import results as finished

    rows = [finished.figures(path) for path in paths]
    if as_json:
        click.echo(json.dumps({"runs": rows}))
        return
    table = empty_table(
        "Finished runs", "run", "data", "algorithm", "network", "slices", "binary", "epochs >", "error, % >",
        "RAM, bytes >", "flash, MB >", "written, MB >", "s an epoch >",
    )  # fmt: skip
    for row in rows:
        table.add_row(*map(str, _cells(row)))
    output(WIDTH).print(table)


def _cells(row: dict[str, Any]) -> list[object]:
    slices = "-" if row["schedule"] == "none" else f"{row['slices']} x {row['slices']}, {row['schedule']}"
    binary = " ".join(letter for letter, what in (("W", "weights"), ("A", "activations")) if row[f"binary_{what}"])
    return [
        row["run_dir"], short(row["dataset"]), row["algorithm"], row["network"], slices, binary or "-", row["epochs"],
        "-" if row["error_pct"] is None else f"{row['error_pct']:.2f}", f"{row['ram_bytes']:,}",
        f"{row['flash_bytes'] / 1e6:.1f}", f"{row['written_bytes'] / 1e6:.1f}", f"{row['seconds_per_epoch']:.2f}",
    ]  # fmt: skip
