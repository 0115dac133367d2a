"""``tinyfoa compare``: several runs in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tinyfoa_np.data import short
from tinyfoa_np.text import size

from .options import debug_option, json_option
from .printing import WIDTH, empty_table, output
from .runs import old_run

#: fields to print if all runs have the same value
USUAL = ("dataset", "algorithm", "network", "epochs", "batch", "normalize", "binary_weights", "binary_activations")


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
    """Print error, memory, flash and time of finished runs, one per line, and how their recipes differ.

    RAM is the highest byte that training touched in its arena. Seconds are per epoch, with evaluation and commits;
    if layers train one after another, they are summed over layers.
    """
    paths = [old_run(run) for run in runs]
    from tinyfoa_np.run import results as finished

    rows = [finished.figures(path) for path in paths]
    if as_json:
        click.echo(json.dumps({"runs": rows}))
        return
    names = _names([row["run_dir"] for row in rows])
    table = empty_table("Finished runs", "run", "error, % >", "RAM >", "flash >", "written >", "s per epoch >")
    for name, row in zip(names, rows, strict=True):
        table.add_row(name, *_cells(row))
    console = output(WIDTH)
    console.print(table)
    differ, same = _recipes(rows)
    if differ:
        table = empty_table("Recipes", "run", "where they differ")
        for name, row in zip(names, rows, strict=True):
            recipe = row["recipe"]
            table.add_row(
                name, ", ".join(_field(field, recipe[field]) for field in differ if recipe.get(field) not in (None, {}))
            )
        console.print(table)
    if same:
        console.print("The same in all: " + ", ".join(same))


def _names(paths: list[str]) -> list[str]:
    """Names of the runs' directories, or their paths if two names are equal."""
    names = [Path(path).name or path for path in paths]
    return names if len(set(names)) == len(names) else paths


def _cells(row: dict[str, Any]) -> list[str]:
    sizes = [size(row[name]) for name in ("ram_bytes", "flash_bytes", "written_bytes")]
    return ["-" if row["error_pct"] is None else f"{row['error_pct']:.2f}", *sizes, f"{row['seconds_per_epoch']:.2g}"]


def _recipes(rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Fields in which recipes differ, and the usual fields in which they agree, with their values."""
    recipes = [row["recipe"] for row in rows]
    fields = [field for field in recipes[0] if field != "digest"]
    fields += sorted({field for recipe in recipes for field in recipe} - {*fields, "digest"})
    differ = [field for field in fields if len({repr(recipe.get(field)) for recipe in recipes}) > 1]
    same = [_field(field, recipes[0][field]) for field in USUAL if field not in differ]
    return differ, same


def _field(field: str, value: object) -> str:
    """A field with its value; a rule's own options each by its name."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if field == "dataset":
        return f"{field} {short(str(value))}"
    if isinstance(value, bool):
        return f"{field} {'yes' if value else 'no'}"
    if isinstance(value, float):
        return f"{field} {value:.6g}"
    return f"{field} {'none' if value is None else value}"
