"""The picture of study ``giff``: accuracy against bytes of RAM, the hull of GIFF's points, BP as a diamond."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.transforms import Bbox, IdentityTransform

from ..storage.whole_file import write_whole
from . import canvas

#: colour and mark of each varied field
LOOKS = {"theta": (canvas.BLUE, "o"), "label width": (canvas.GREEN, "s"), "groups": (canvas.ORANGE, "^")}
BESIDE = (canvas.VERMILLION, "D")  # BP
#: possible distances of a point's name from the point, in pixels, and directions, right and up
REACHES = (11, *range(24, 400, 12))
DIRECTIONS = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 0), (-1, 1), (-1, -1))
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
        # drop the last point if it lies below the line from its predecessor to this point
        while len(kept) > 1 and _turn(kept[-2], kept[-1], point) >= 0:
            kept.pop()
        if kept and kept[-1][0] == point[0]:
            kept.pop()
        kept.append(point)
    return kept


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def draw(rows: Sequence[dict[str, Any]], title: str, path: str | os.PathLike[str]) -> None:
    """Draw the rows of one data set, from :func:`.studies.summary`, into a PNG, atomically.

    Parameters
    ----------
    rows : sequence of dict
        Rows without an error are omitted.
    title : str
    path : path
    """
    with canvas.style():
        picture = io.BytesIO()
        canvas.save(figure(rows, title), picture, "png")
    write_whole(Path(path), picture.getvalue())


def figure(rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """The picture of :func:`draw`; requires the canvas's style."""
    done = [row for row in rows if row["error_pct"] is not None]
    made, sheet = canvas.blank()
    for number, line in enumerate(canvas.wrapped(sheet, title.split(), canvas.WIDTH - 120, fontsize=canvas.LARGE)):
        sheet.text(60, 50 + 30 * number, line, fontsize=canvas.LARGE, va="center")
    axes = canvas.frame(made, 130, TOP, canvas.WIDTH - 60, BOTTOM)
    axes.set(xlabel="RAM in training, by the watermark, MB", ylabel="test accuracy, %")
    axes.margins(0.08)
    axes.grid(True, color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    places = [(row["arena_bytes"] / 1e6, 100 - row["error_pct"], row) for row in done]
    own = [(x, y) for x, y, row in places if row["line"] in LOOKS]
    above = hull(own)
    axes.plot([x for x, _ in above], [y for _, y in above], color=canvas.DARK, linewidth=1.5, linestyle="--")
    for x, y, row in places:
        colour, mark = LOOKS.get(row["line"], BESIDE)
        axes.plot(x, y, mark, color=colour, markersize=10, markeredgecolor="white")
    _name(axes, sheet, places, above)
    x = 130.0
    for name, (colour, mark) in LOOKS.items():
        x = canvas.key(sheet, x, KEYS, mark, colour, f"GIFF over {name}")
    x = canvas.key(sheet, x, KEYS, "dashes", canvas.DARK, "their convex hull")
    canvas.key(sheet, x, KEYS, *BESIDE[::-1], "BP")
    return made


def _name(
    axes: Axes, sheet: Axes, places: Sequence[tuple[float, float, dict[str, Any]]], above: Sequence[tuple[float, float]]
) -> None:
    """Label GIFF's points off the line ``above``: as close as there is room, otherwise with a connecting line."""
    if not above:
        return
    axes.get_xlim(), axes.get_ylim()  # the positions of points are only computed on request
    at = [axes.transData.transform((x, y)) for x, y, _ in places]  # in pixels, upwards
    taken = [Bbox.from_extents(x - 8, y - 8, x + 8, y + 8) for x, y in at]
    frame, dashes = axes.get_window_extent(), Outline(axes.transData.transform(above))
    for (x, y), (_, _, row) in zip(at, places, strict=True):
        if row["line"] not in LOOKS:
            continue
        text = row["at"] if isinstance(row["at"], str) else f"{row['at']:g}"
        colour, (width, height) = LOOKS[row["line"]][0], canvas.measured(sheet, text, fontsize=canvas.SMALL)
        for reach, (right, up) in product(REACHES, DIRECTIONS):
            left, low = x + right * (reach + width / 2) - width / 2, y + up * (reach + height / 2) - height / 2
            box = Bbox.from_bounds(left, low, width, height)
            inside = frame.contains(*box.min) and frame.contains(*box.max)
            if inside and not any(map(box.overlaps, taken)) and not dashes.intersects_bbox(box, filled=False):
                break
        taken.append(box)
        how: dict[str, Any] = {"color": colour, "transform": IdentityTransform()}
        axes.text(left, low + height / 2, text, fontsize=canvas.SMALL, va="center", **how)
        if reach > REACHES[0]:
            end = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
            axes.plot(*zip((x, y), end, strict=True), linewidth=0.8, zorder=1, **how)
