"""``tinyfoa reproduce``: retrain the paper's tables and studies."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.network import CONNECTIONS
from tinyfoa_np.papers.studies import STUDIES
from tinyfoa_np.papers.tinyfoa_tables import TABLES

from .options import data_dir_option, debug_option, json_option
from .printing import empty_table, output

if TYPE_CHECKING:
    from tinyfoa_np.papers.reproduce import Summary

WIDTH = 120  # width of tables printed to a file or a pipe


class Names(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(",") if part.strip())


@click.command(
    epilog="""\b
Examples:
  tinyfoa reproduce table1 --quick
  tinyfoa reproduce table1 --epochs 10 --seeds 1
  tinyfoa reproduce table1 --systems 'bp,tinyfoa*' --out runs/bp-tinyfoa
  tinyfoa reproduce table2 --datasets digits --network fc:500x4 --json
  tinyfoa reproduce slices --lines auto,stream --at 4,16
  tinyfoa reproduce exchanges --network fc:500x2 --epochs 5"""
)
@click.argument("table", type=click.Choice([*TABLES, *STUDIES]), metavar="TABLE|STUDY")
@click.option(
    "--datasets",
    type=Names(),
    default=("mnist",),
    metavar="NAMES",
    help="Data sets, separated by commas. [default: mnist]",
)
@click.option(
    "--systems",
    type=Names(),
    default=(),
    metavar="NAMES",
    help="Rows of a table by their names in the paper, separated by commas, or patterns: bp,bp+bw+ba,tinyfoa*. "
    "[default: all rows]",
)
@click.option(
    "--lines",
    type=Names(),
    default=(),
    metavar="NAMES",
    help="Lines of a study, by the beginnings of their names, separated by commas: auto,stream. [default: all lines]",
)
@click.option(
    "--at",
    type=Names(),
    default=(),
    metavar="NUMBERS",
    help="Points of a study, separated by commas: values of M, or numbers of exchanges. [default: M 2,4,8,16; "
    "exchanges 4 to 256]",
)
@click.option(
    "--quick",
    is_flag=True,
    help="A first look at a table in minutes, not a reproduction: one seed, layers of 300 neurons (table3: 4 "
    "channels), 5,000 samples, 4 epochs, batch 20, 10 times the learning rate (ff: the published one). Other options "
    "override this.",
)
@click.option(
    "--epochs",
    type=int,
    metavar="E",
    help="Epochs, per layer with TinyFoA; a table marks the rows that differ from the published number. "
    "[default: tables as published, 100; studies 20]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs per row, with seeds 0, 1, ... [default: tables 3, studies and --quick 1]",
)
@click.option("--network", metavar="SPEC", help="Hidden layers of every row. [default: as published]")
@click.option(
    "--lc-connect",
    type=click.Choice(CONNECTIONS),
    help="table3: whether an output channel reads every input channel, or one, as the paper's memory counts it. "
    f"[default: {CONNECTIONS[0]}]",
)
@click.option("--limit", type=int, metavar="N", help="Train on the first N samples. [default: all]")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs at the same time, each in a process with one thread. [default: all cores]",
)
@data_dir_option
@click.option(
    "--out", metavar="DIR", help="Directory of the runs and the table. [default: runs/TABLE or runs/TABLE-quick]"
)
@json_option
@click.option("--quiet", is_flag=True, help="Print only the table, no progress.")
@debug_option
def reproduce(
    table: str,
    datasets: tuple[str, ...],
    systems: tuple[str, ...],
    lines: tuple[str, ...],
    at: tuple[str, ...],
    quick: bool,
    seeds: int | None,
    jobs: int | None,
    data_dir: str | None,
    out: str | None,
    as_json: bool,
    quiet: bool,
    **changes: Any,
) -> None:
    """Train the systems of a table of the paper, or a study of its slices, and print errors and memory.

    TABLE is table1, table2 or table3 (locally connected networks). Each row is trained with its published recipe, once
    per seed. For forward, gradient and update, the table has the paper's MB, those of its closed form and the measured
    ones. Rows appear as they finish; the table is also written as CSV, JSON and Markdown into DIR.

    STUDY is slices (error over M), exchanges (error over the number of exchanges) or giff (accuracy against RAM over
    theta, label width and groups, beside backpropagation, on network cnn). The first two compare schedules that train
    in the RAM of one slice, with the bytes of RAM and the bytes written to flash.

    Ctrl-C stops after a commit; run the same command again to continue. A training that diverges is reported as such.
    Exit code 1 if a run failed otherwise.
    """
    if table in STUDIES:
        if systems:
            raise BadRequest(f"--systems is for tables; {table} is a study, which has --lines")
        if quick:
            raise BadRequest(f"--quick is for tables; for {table}, use --epochs, --limit and --at")
        _study(table, datasets, lines, at, seeds or 1, jobs or _cores(), data_dir, out, as_json, quiet, changes)
        return
    if lines or at:
        raise BadRequest(f"--lines and --at are for studies; {table} is a table, which has --systems")
    from tinyfoa_np.papers import reproduce as tables

    out = out or f"runs/{table}{'-quick' * quick}"
    changes = {name: value for name, value in changes.items() if value is not None}
    todo = tables.tasks(
        table,
        out,
        datasets=datasets,
        systems=systems,
        seeds=seeds or (1 if quick else 3),
        quick=quick,
        changes=changes,
        data_dir=data_dir,
    )
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


def _study(
    study: str,
    datasets: tuple[str, ...],
    lines: tuple[str, ...],
    at: tuple[str, ...],
    seeds: int,
    jobs: int,
    data_dir: str | None,
    out: str | None,
    as_json: bool,
    quiet: bool,
    changes: dict[str, Any],
) -> None:
    from tinyfoa_np.papers import studies

    if not all(number.isdigit() and int(number) for number in at):
        raise BadRequest(f"--at is {','.join(at)!r}: write whole numbers with commas, such as 4,16")
    out = out or f"runs/{study}"
    changes = {name: value for name, value in changes.items() if value is not None}
    todo = studies.points(
        study,
        out,
        datasets=datasets,
        lines=lines,
        seeds=seeds,
        changes=changes,
        at=[int(number) for number in at],
        data_dir=data_dir,
    )
    if quiet:
        rows, failed = studies.carry_out(study, todo, out, jobs=jobs)
    else:
        from .progress import RunsProgress

        with RunsProgress(sum(len(point.runs) + seeds - 1 for point in todo)) as progress:
            rows, failed = studies.carry_out(study, todo, out, jobs=jobs, on_progress=progress)
    title = studies.caption(study, todo)
    try:
        pictures = f"and {', '.join(path.name for path in studies.picture(study, todo, out))}"
    except BadRequest as missing:
        pictures = f"no picture: {missing}"
    if as_json:
        click.echo(studies.to_json(title, rows))
    else:
        console = output(WIDTH)
        console.print(f"{title}\n", soft_wrap=True)
        printed = empty_table("Points", *studies.COLUMNS)
        for row in rows:
            printed.add_row(*studies.cells(row))
        console.print(printed)
        for line in (*studies.remarks(), f"also in {out}: {study}.csv, .json, .md; {pictures}"):
            console.print(line, soft_wrap=True)
    if failed:
        raise CheckFailed(f"{len(failed)} runs failed: {'; '.join(failed)}")


def _cores() -> int:
    with contextlib.suppress(AttributeError):  # not available on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _print(title: str, rows: list[Summary], out: str, table: str) -> None:
    from tinyfoa_np.papers import reproduce as tables

    console = output(WIDTH)
    console.print(f"{title}\n", soft_wrap=True)
    parts = tables.PARTS if console.width >= tables.WIDE else tables.narrow(rows)
    for head, (columns, cells) in parts.items():
        printed = empty_table(head, *columns)
        for row in rows:
            printed.add_row(*cells(row))
        console.print(printed)
    for line in (*tables.remarks(rows), f"also in {out}/{table}.csv, .json and .md"):
        console.print(line, soft_wrap=True)
