"""The picture of a study of slices: errors against RAM or the number of exchanges, and against flash written."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..storage.whole_file import write_whole
from . import canvas

#: colours and marks of the lines
LOOKS = (
    (canvas.BLACK, "o"),
    (canvas.SKY, "s"),
    (canvas.BLUE, "^"),
    (canvas.PURPLE, "v"),
    (canvas.VERMILLION, "D"),
    (canvas.GREEN, "P"),
    (canvas.ORANGE, "X"),
)
#: label of each axis, and its unit
AXES = {
    "arena_bytes": ("bytes of RAM, by the watermark: MB", 1e6),
    "written_bytes": ("bytes written to flash in the whole training: GB", 1e9),
    "at": ("exchanges in a layer's training", 1),
}
#: horizontal axes of each study's two panels
AGAINST = {"slices": ("arena_bytes", "written_bytes"), "exchanges": ("at", "written_bytes")}
TOP, BOTTOM, KEYS = 150, 800, 880


def draw(study: str, rows: Sequence[dict[str, Any]], title: str, path: str | os.PathLike[str]) -> None:
    """Draw the rows of one data set into a PNG, atomically.

    Parameters
    ----------
    study : str
        ``slices`` or ``exchanges``.
    rows : sequence of dict
        From :func:`tinyfoa_np.papers.studies.summary`; rows without an error are omitted.
    title : str
    path : path
    """
    with canvas.style():
        picture = io.BytesIO()
        canvas.save(figure(study, rows, title), picture, "png")
    write_whole(Path(path), picture.getvalue())


def figure(study: str, rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """The picture of :func:`draw`; requires the canvas's style."""
    done = [row for row in rows if row["error_pct"] is not None]
    lines = list(dict.fromkeys(row["line"] for row in done))
    made, sheet = canvas.blank()
    for number, line in enumerate(canvas.wrapped(sheet, title.split(), canvas.WIDTH - 120, fontsize=canvas.LARGE)):
        sheet.text(60, 50 + 30 * number, line, fontsize=canvas.LARGE, va="center")
    for side, against in enumerate(AGAINST[study]):
        left = 110 + side * 760
        axes = canvas.frame(made, left, TOP, left + 660, BOTTOM)
        for line, look in zip(lines, LOOKS, strict=False):
            _line(axes, [row for row in done if row["line"] == line], against, *look, named=study == "slices")
        _scales(axes, against, [row[against] / AXES[against][1] for row in done])
        axes.set_xlabel(AXES[against][0])
        if side == 0:
            axes.set_ylabel("test error, %")
    x, y = 110.0, float(KEYS)
    for line, (colour, mark) in zip(lines, LOOKS, strict=False):
        width = canvas.measured(sheet, line, fontsize=canvas.SMALL)[0] + 58
        if x + width > canvas.WIDTH - 60:
            x, y = 110.0, y + 34
        sheet.plot((x, x + 24), (y, y), color=colour, linewidth=2)
        sheet.plot(x + 12, y, mark, color=colour, markersize=9, markeredgecolor="white")
        sheet.text(x + 32, y, line, fontsize=canvas.SMALL, va="center")
        x += width
    return made


def _line(axes: Axes, rows: list[dict[str, Any]], against: str, colour: str, mark: str, named: bool) -> None:
    """Draw the points of a line in order; label each with its M if ``named``."""
    unit = AXES[against][1]
    xs, ys = [row[against] / unit for row in rows], [row["error_pct"] for row in rows]
    axes.plot(xs, ys, color=colour, linewidth=1.8)
    axes.plot(xs, ys, mark, color=colour, markersize=9, markeredgecolor="white")
    for x, y, row in zip(xs, ys, rows, strict=True):
        if named:
            axes.annotate(
                str(row["at"]), (x, y), xytext=(7, 5), textcoords="offset points", fontsize=canvas.SMALL, color=colour
            )


def _scales(axes: Axes, against: str, xs: Sequence[float]) -> None:
    """Make both axes logarithmic, with written-out numbers."""
    axes.set(xscale="log", yscale="log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    if against == "at":
        axes.set_xticks(sorted(set(xs)))
        axes.set_xticks([], minor=True)
    axes.grid(True, color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
