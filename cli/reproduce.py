"""``tinyfoa reproduce``: the paper's tables, trained again."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from tinyfoa_np.errors import CheckFailed
from tinyfoa_np.memory.tables import TABLES

from .options import data_dir_option, debug_option, json_option
from .printing import empty_table, output

if TYPE_CHECKING:
    from tinyfoa_np.reproduce import Summary

WIDTH = 120  # of tables that are printed into a file or a pipe


class Names(click.ParamType):
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(
    epilog="""\b
Examples:
  tinyfoa reproduce table1 --epochs 10 --seeds 1
  tinyfoa reproduce table1 --systems 'bp,tinyfoa*' --out runs/bp-tinyfoa
  tinyfoa reproduce table2 --datasets digits --network fc:500x4 --jobs 2 --json"""
)
@click.argument("table", type=click.Choice(list(TABLES)))
@click.option(
    "--datasets", type=Names(), default=("mnist",), metavar="NAMES", help="Data sets, with commas. [default: mnist]"
)
@click.option(
    "--systems",
    type=Names(),
    default=(),
    metavar="NAMES",
    help="Rows by their names in the paper, with commas, or patterns: bp,bp+bw+ba,tinyfoa*. [default: all rows]",
)
@click.option(
    "--epochs",
    type=int,
    metavar="E",
    help="Epochs, of each layer with TinyFoA; the table says where they are not the published ones. "
    "[default: as published, 100]",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, metavar="N", help="Runs a row, seeds 0, 1, ... [default: 3]"
)
@click.option("--network", metavar="SPEC", help="Hidden layers of every row. [default: as published]")
@click.option("--limit", type=int, metavar="N", help="Train on the first N samples. [default: all]")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs at a time, each a process with one thread. [default: all cores]",
)
@data_dir_option
@click.option("--out", metavar="DIR", help="Directory of the runs and the table. [default: runs/TABLE]")
@json_option
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@debug_option
def reproduce(
    table: str,
    datasets: tuple[str, ...],
    systems: tuple[str, ...],
    seeds: int,
    jobs: int | None,
    data_dir: str | None,
    out: str | None,
    as_json: bool,
    quiet: bool,
    **changes: Any,
) -> None:
    """Train the systems of a table of the paper, and print errors and memory beside the paper's.

    Each row is trained with its published recipe, once for each seed. For forward, gradient and update there are the
    paper's MB, those of the closed form behind them, and those measured. Rows appear as they finish; the table is also
    written as CSV, JSON and Markdown into DIR.

    Ctrl-C stops after a commit; the same command goes on from there, and trains nothing twice. A training that
    diverges is reported as such. Exit code 1 when a run failed otherwise.
    """
    from tinyfoa_np import reproduce as tables

    out = out or f"runs/{table}"
    changes = {name: value for name, value in changes.items() if value is not None}
    todo = tables.tasks(table, out, datasets=datasets, systems=systems, seeds=seeds, changes=changes, data_dir=data_dir)
    if quiet:
        rows = tables.carry_out(table, todo, out, jobs=jobs or _cores())
    else:
        from .progress import RunsProgress

        with RunsProgress(sum(len(task.runs) for task in todo)) as progress:
            rows = tables.carry_out(
                table,
                todo,
                out,
                jobs=jobs or _cores(),
                on_progress=progress,
                on_row=lambda row: progress.row(tables.in_a_line(row)),
            )
    title = tables.caption(table, todo)
    if as_json:
        click.echo(tables.to_json(title, rows))
    else:
        _print(title, rows, out, table)
    failed = tables.failures(rows)
    if failed:
        raise CheckFailed(f"{len(failed)} of {sum(row['seeds'] for row in rows)} runs failed: {'; '.join(failed)}")


def _cores() -> int:
    with contextlib.suppress(AttributeError):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _print(title: str, rows: list[Summary], out: str, table: str) -> None:
    from tinyfoa_np import reproduce as tables

    console = output(WIDTH)
    console.print(f"{title}\n", soft_wrap=True)
    for head, (columns, cells) in tables.PARTS.items():
        printed = empty_table(head, *columns)
        for row in rows:
            printed.add_row(*cells(row))
        console.print(printed)
    for line in (*tables.remarks(rows), f"also in {out}/{table}.csv, .json and .md"):
        console.print(line, soft_wrap=True)
