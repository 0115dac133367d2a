"""Study ``giff`` as a picture: accuracy against the bytes of RAM, the hull of GIFF's points, BP as a diamond."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..rundir import write_whole
from . import canvas

#: what is varied, by colour and mark
LOOKS = {"theta": (canvas.BLUE, "o"), "label width": (canvas.GREEN, "s"), "groups": (canvas.ORANGE, "^")}
TOP, BOTTOM, KEYS = 150, 840, 930


def hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The upper part of the points' convex hull, from left to right.

    Examples
    --------
    >>> hull([(3, 3), (1, 1), (2, 1), (2, 2.5)])
    [(1, 1), (2, 2.5), (3, 3)]
    """
    kept: list[tuple[float, float]] = []
    for point in sorted(points):
        # the last one goes where it lies below the line from the one before it to this one
        while len(kept) > 1 and _turn(kept[-2], kept[-1], point) >= 0:
            kept.pop()
        if kept and kept[-1][0] == point[0]:
            kept.pop()
        kept.append(point)
    return kept


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def draw(rows: Sequence[dict[str, Any]], title: str, path: str | os.PathLike[str]) -> None:
    """Draws the rows of one data set, from :func:`tinyfoa_np.studies.summary`, into a PNG that is there whole or not.

    Parameters
    ----------
    rows : sequence of dict
        Those without an error are left out.
    title : str
    path : path
    """
    with canvas.style():
        picture = io.BytesIO()
        canvas.save(figure(rows, title), picture, "png")
    write_whole(Path(path), picture.getvalue())


def figure(rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """The picture of :func:`draw`, to be drawn within the canvas's style."""
    done = [row for row in rows if row["error_pct"] is not None]
    made, sheet = canvas.blank()
    for number, line in enumerate(canvas.wrapped(sheet, title.split(), canvas.WIDTH - 120, fontsize=canvas.LARGE)):
        sheet.text(60, 50 + 30 * number, line, fontsize=canvas.LARGE, va="center")
    axes = canvas.frame(made, 130, TOP, canvas.WIDTH - 60, BOTTOM)
    axes.set(xlabel="bytes of RAM in training, by the watermark: MB", ylabel="test accuracy, %")
    axes.margins(0.08)
    axes.grid(True, color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    places = [(row["arena_bytes"] / 1e6, 100 - row["error_pct"], row) for row in done]
    own = [(x, y) for x, y, row in places if row["algorithm"] == "giff"]
    if own:
        axes.plot(*zip(*hull(own), strict=True), color=canvas.DARK, linewidth=1.5, linestyle="--")
    for x, y, row in places:
        colour, mark = LOOKS.get(row["line"], (canvas.VERMILLION, "D"))
        axes.plot(x, y, mark, color=colour, markersize=10, markeredgecolor="white")
        if row["algorithm"] == "giff":
            axes.annotate(
                str(row["at"]), (x, y), xytext=(7, 5), textcoords="offset points", fontsize=canvas.SMALL, color=colour
            )
    x = 130.0
    for name, (colour, _) in LOOKS.items():
        x = canvas.key(sheet, x, KEYS, "box", colour, f"GIFF over {name}")
    x = canvas.key(sheet, x, KEYS, "dashes", canvas.DARK, "their convex hull")
    canvas.key(sheet, x, KEYS, "diamond", canvas.VERMILLION, "BP")
    return made
