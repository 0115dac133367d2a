"""Several runs in one picture: test error by epoch, and final error against bytes of RAM."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..errors import BadRequest
from ..run import results as finished
from ..text import printable
from . import canvas
from .training import scale

TOP, LINE = 70, 34
#: colours of the runs in order; further runs reuse them, with dashed lines
COLOURS = (
    canvas.BLUE,
    canvas.VERMILLION,
    canvas.GREEN,
    canvas.BLACK,
    canvas.PURPLE,
    canvas.ORANGE,
    canvas.SKY,
)
MOST = 2 * len(COLOURS)


def figure(run_dirs: Sequence[str | os.PathLike[str]]) -> Figure:
    """The picture of finished and tested runs, at most :data:`MOST`.

    Raises
    ------
    BadRequest
        If there are too many runs, or one has not finished or has no test samples.
    CheckFailed
        If the data of a run are damaged.
    """
    if len(run_dirs) > MOST:
        raise BadRequest(f"{len(run_dirs)} runs are too many for one picture: at most {MOST}")
    names = [Path(run).name or str(run) for run in run_dirs]
    if len(set(names)) < len(names):
        names = [str(run) for run in run_dirs]
    ends = [finished.figures(run) for run in run_dirs]
    for end in ends:
        if end["error_pct"] is None:
            raise BadRequest(f"{end['run_dir']} has no test samples: its error is not known")
    picture, sheet = canvas.blank()
    sheet.text(40, 36, f"{len(ends)} runs", fontsize=canvas.LARGE, va="center")
    y = TOP
    for n, (name, end) in enumerate(zip(names, ends, strict=True)):
        label = f"{printable(name)}: {end['algorithm']}, {end['error_pct']:.2f} % in {end['ram_bytes']:,} bytes"
        _, colour, line = _look(n)
        canvas.key(sheet, 40 + 780 * (n % 2), y + 20, "line" if line == "-" else "dashes", colour, label[:80])
        y += LINE if n % 2 else 0
    top = y + LINE + 50
    left, right = canvas.frame(picture, 110, top, 780, 905), canvas.frame(picture, 920, top, 1570, 905)
    tests = [[row.test_error_pct or 0.0 for row in finished.epochs(run)] for run in run_dirs]
    for n, heights in enumerate(tests):
        _, colour, line = _look(n)
        left.plot(
            range(1, len(heights) + 1),
            heights,
            color=colour,
            linestyle=line,
            linewidth=2,
            marker="o" if len(heights) == 1 else None,
        )
    scale(left, [height for heights in tests for height in heights])
    left.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    for n, end in enumerate(ends):
        mark, colour, _ = _look(n)
        right.plot(end["ram_bytes"], end["error_pct"], mark, color=colour, markersize=12, markeredgecolor="white")
    scale(right, [end["error_pct"] for end in ends])
    right.set_xscale("log")
    low, high = min(end["ram_bytes"] for end in ends), max(end["ram_bytes"] for end in ends)
    right.set_xlim(low / 1.5, high * 1.5)
    right.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 300 * low else (1,)))
    right.xaxis.set_major_formatter(FuncFormatter(_bytes))
    right.xaxis.set_minor_formatter(NullFormatter())
    _dress(left, "epochs, of all layers one after another")
    _dress(right, "bytes of RAM, measured")
    return picture


def _look(n: int) -> tuple[str, str, str]:
    """Mark, colour and line style of run n."""
    return ("o" if n < len(COLOURS) else "s"), COLOURS[n % len(COLOURS)], ("-" if n < len(COLOURS) else "--")


def _dress(axes: Axes, below: str) -> None:
    axes.set_xlabel(below, fontsize=canvas.NORMAL)
    axes.set_ylabel("test error, %", fontsize=canvas.NORMAL)
    axes.tick_params(labelsize=canvas.SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=canvas.GREY, linewidth=0.6)
    axes.set_axisbelow(True)


def _bytes(value: float, _: object) -> str:
    return f"{value / 1e6:g} MB" if value >= 1e6 else f"{value / 1e3:g} kB" if value >= 1e3 else f"{value:g}"
