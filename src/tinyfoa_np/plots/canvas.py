"""Common properties of all pictures: size, colours, and text that is measured before it is placed.

A picture has 1600 x 1000 pixels; the smallest letters are legible at half that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

WIDTH, HEIGHT, DPI = 1600, 1000, 100
#: font sizes in points: 1 point is DPI / 72 pixels
SMALL, NORMAL, LARGE = 13, 14, 19
#: distinguishable with any colour vision (Okabe and Ito, Color Universal Design, 2008)
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
#: for things without a colour of their own
GREY, DARK = "#BBBBBB", "#555555"


class Picture(Figure):
    """A figure that notebooks show inline, although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        held = BytesIO()
        with style():
            save(self, held, "png")
        return held.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Use matplotlib's default style, whatever the user's settings, as all measures here depend on its font."""
    with (
        matplotlib.style.context("default"),
        matplotlib.rc_context(
            {
                "font.family": "DejaVu Sans",
                "font.size": NORMAL,
                "svg.hashsalt": "tinyfoa-np",
                "path.simplify": False,
                "text.parse_math": False,  # a name may contain dollar signs
            }
        ),
    ):
        yield


def blank() -> tuple[Figure, Axes]:
    """An empty picture, and axes that cover it, in pixels from the upper left corner.

    Drawing on it requires :func:`style`.
    """
    figure = Picture(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    sheet = figure.add_axes((0, 0, 1, 1))
    sheet.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    sheet.axis("off")
    return figure, sheet


def frame(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes for data with the given frame, in pixels from the picture's upper left corner."""
    return figure.add_axes((left / WIDTH, 1 - bottom / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT))


def extent(text: Text) -> tuple[float, float]:
    """Width and height of a text, in pixels."""
    box = text.get_window_extent()
    return box.width, box.height


def measured(sheet: Axes, text: str, **how: Any) -> tuple[float, float]:
    """Width and height that a text would have, in pixels."""
    trial = sheet.text(0, 0, text, **how)
    size = extent(trial)
    trial.remove()
    return size


def wrapped(sheet: Axes, words: Sequence[str], room: float, between: str = " ", **how: Any) -> list[str]:
    """Break words into lines of at most ``room`` pixels; a single word may be wider."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}{between}{word}" if lines else word
        if lines and measured(sheet, longer, **how)[0] <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line + between.rstrip() for line in lines[:-1]] + lines[-1:]


def key(sheet: Axes, x: float, y: float, mark: str, colour: str, text: str) -> float:
    """Draw a mark and its meaning; return the position for the next one.

    Marks are ``box``, ``line``, ``dashes``, and the point markers ``o``, ``s``, ``^``, ``D``.
    """
    match mark:
        case "box":
            sheet.add_patch(Rectangle((x, y - 9), 24, 18, facecolor=colour, edgecolor=BLACK, linewidth=0.5))
        case "o" | "s" | "^" | "D":
            sheet.plot(x + 12, y, mark, color=colour, markersize=9, markeredgecolor="white")
        case _:
            sheet.plot((x, x + 24), (y, y), color=colour, linewidth=2.5, linestyle="--" if mark == "dashes" else "-")
    label = sheet.text(x + 32, y, text, fontsize=SMALL, va="center")
    return x + 32 + extent(label)[0] + 26


def save(figure: Figure, file: IO[bytes], kind: str) -> None:
    """Write a picture as ``png`` or ``svg``; equal pictures give identical files."""
    metadata: dict[str, Any] = {"Date": None, "Creator": "tinyfoa-np"} if kind == "svg" else {"Software": "tinyfoa-np"}
    figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
