"""``tinyfoa data``: list, download and verify data sets."""

from __future__ import annotations

import contextlib
import json

import click

from tinyfoa_np.errors import BadRequest, CheckFailed

from .options import data_dir_option, debug_option, json_option


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tinyfoa data list
  tinyfoa data fetch mitbih
  tinyfoa data verify mnist --data-dir ~/datasets""",
)
@debug_option
@click.pass_context
def data(context: click.Context) -> None:
    """List the data sets, fetch them, or verify their files."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@data.command("list")
@data_dir_option
@json_option
@debug_option
def list_(data_dir: str | None, as_json: bool) -> None:
    """List the data sets, and where each was found or how to get it."""
    from tinyfoa_np import data as sets

    rows = []
    for name in sets.names():
        try:
            found, detail = True, sets.find(name, data_dir)
        except BadRequest as error:
            found, detail = False, str(error)
        train, test = sets.samples(name)
        rows.append({"name": name, "train": train, "test": test, "found": found, "where": detail})
    if as_json:
        click.echo(json.dumps(rows))
        return
    widest = max(map(len, sets.names()))
    for row in rows:  # --json has the files and where to get them
        where = row["where"] if row["found"] else f"tinyfoa data fetch {row['name']}"
        click.echo(f"{row['name']:{widest}} {row['train']:>7,} + {row['test']:>6,}  {where}")


@data.command()
@click.argument("name")
@data_dir_option
@click.option("--quiet", is_flag=True, help="No progress.")
@debug_option
def fetch(name: str, data_dir: str | None, quiet: bool) -> None:
    """Download the data set NAME from its publishers, or from a mirror.

    Files are stored in --data-dir, in $TINYFOA_DATA or in the user's cache directory, and compared with their
    published digests. Existing files are kept, and an interrupted download continues where it stopped.
    """
    from tinyfoa_np import data as sets

    from .progress import Counting, download_columns

    with contextlib.nullcontext() if quiet else Counting(columns=download_columns()) as counting:
        click.echo(sets.fetch(name, data_dir, on_progress=counting))


@data.command()
@click.argument("name", required=False)
@data_dir_option
@json_option
@debug_option
def verify(name: str | None, data_dir: str | None, as_json: bool) -> None:
    """Compare the files of data set NAME with the published digests.

    Without NAME, the files of all data sets that are found. Exit code 1 if a file is truncated or altered.
    """
    from tinyfoa_np import data as sets

    rows = []
    for each in [name] if name else sets.names():
        try:
            rows += [(each, *row) for row in sets.verify(each, data_dir)]
        except BadRequest as error:
            if name:
                raise
            click.echo(f"skipped: {error}", err=True)
    if as_json:
        click.echo(json.dumps([dict(zip(("name", "file", "ok", "detail"), row)) for row in rows]))
    else:
        for _, file, ok, detail in rows:
            click.echo(f"{'ok     ' if ok else 'ALTERED'} {file}  {detail}")
    altered = [file for _, file, ok, _ in rows if not ok]
    if altered:
        raise CheckFailed(f"not as published: {', '.join(altered)}")
