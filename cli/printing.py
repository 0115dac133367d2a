"""Tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyfoa_np.text import printable

#: width of output to a file or a pipe
WIDTH = 80

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def output(width: int) -> Console:
    """A console for standard output, as wide as the terminal, or as `width` for a file or a pipe."""
    from rich.console import Console

    class Plain(Console):
        """Show text from files without other effects on the terminal."""

        def print(self, *parts: Any, **how: Any) -> None:
            super().print(*(printable(part, " \n") if isinstance(part, str) else part for part in parts), **how)

    console = Plain(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = width
    return console


def empty_table(title: str, *columns: str) -> Table:
    """An empty table; a column whose name ends in ``>`` contains numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    class Plain(Table):
        """Show names in cells as the console does."""

        def add_row(self, *cells: Any, **how: Any) -> None:
            super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **how)

    table = Plain(title=printable(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column.endswith(">")
        table.add_column(column.removesuffix(" >"), justify="right" if number else "left", no_wrap=number)
    return table


def recipe_lines(recipe: dict[str, Any]) -> tuple[str, str]:
    """A recipe in two lines of at most 80 characters: data, network and slices; numbers, optimizer and batch."""
    from tinyfoa_np.network import is_local

    kinds = (f"{'binary' if recipe[f'binary_{what}'] else 'real'} {what}" for what in ("weights", "activations"))
    local = is_local(recipe["network"])
    slices = f"{recipe['slices']} groups of channels" if local else f"{recipe['slices']} x {recipe['slices']} slices"
    grid = "whole layers" if recipe["schedule"] == "none" else f"{slices}, schedule {recipe['schedule']}"
    grid = f"connected {recipe['lc_connect']}, {grid}" if local else grid
    return (
        f"{recipe['algorithm']} on {recipe['dataset']}, {recipe['network']}, {grid},",
        f"{', '.join(kinds)}, {recipe['optimizer']}, batch {recipe['batch']}",
    )


def duration(seconds: float) -> str:
    """Format a time with a suitable unit: 0.43 s, 12 s, 5.2 min, 3.4 h, 2.1 days."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
