"""Tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def output(width: int) -> Console:
    """Standard output, as wide as the terminal; as `width` where it is a file or a pipe."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = width
    return console


def empty_table(title: str, *columns: str) -> Table:
    """An empty table; a column whose name ends in ``>`` holds figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column.endswith(">")
        table.add_column(column.removesuffix(" >"), justify="right" if number else "left", no_wrap=number)
    return table
