"""Changed signs: for each slice of each layer, the share of weights whose sign differs from the initial one.

The initial weights are regenerated from the seed; the trained ones are the model's. A sign that changed and changed
back is not counted.
"""

from __future__ import annotations

import math
import os

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ..errors import BadRequest
from ..recipe import Recipe
from ..run import results as finished
from ..slices import Grid
from . import canvas, titles

TOP, BOTTOM, RIGHT = 150, 960, 1440
#: maximum number of layers drawn
MOST = 40
#: dark to light, distinguishable with any colour vision
COLOURS = "cividis"


def figure(run_dir: str | os.PathLike[str], layer: int | None = None) -> Figure:
    """The picture of a finished run's signs.

    Parameters
    ----------
    run_dir : path
    layer : int, optional
        From 1; by default all layers.

    Raises
    ------
    BadRequest
        If the run has not finished, has no such layer, or is not fully connected.
    CheckFailed
        If its model is damaged.
    """
    trained = finished.model(run_dir)
    count = len(trained.layers)
    if layer is not None and not 1 <= layer <= count:
        raise BadRequest(f"the run has no layer {layer}: its layers are 1 to {count}")
    numbers = list(range(count))[:MOST] if layer is None else [layer - 1]
    shares = {}
    for number in numbers:
        now = finished.trained_signs(trained, number)
        before = finished.initial_signs(trained, number)
        shares[number] = changed(now != before, _side(trained.recipe, now.shape))
    return drawn(trained.recipe, shares, count, finished.hidden_layers(trained))


def _side(recipe: Recipe, shape: tuple[int, ...]) -> int:
    """M; 1 for the output layer, whose shape is smaller than the grid."""
    side = recipe.slices or 1
    return side if side <= min(shape) else 1


def changed(differ: np.ndarray, side: int) -> np.ndarray:
    """Share (M, M), in %, of true values in each slice of (O, I)."""
    grid = Grid(differ.shape[0], differ.shape[1], side)
    shares = np.zeros(side * side)
    for k in range(len(grid)):
        first, last, low, high = grid.slice(k)
        shares[k] = 100.0 * differ[first:last, low:high].mean()
    return shares.reshape(side, side)


def drawn(recipe: Recipe, shares: dict[int, np.ndarray], layers: int, hidden: int) -> Figure:
    """The picture of the shares (M, M), in %, for some of ``layers`` layers, of which ``hidden`` are hidden."""
    picture, sheet = canvas.blank()
    more = f" The first {len(shares)} of {layers} layers." if 1 < len(shares) < layers else ""
    titles.write(
        sheet,
        recipe,
        layers,
        "Share of weights whose sign is no longer the initial one, by slice: rows are groups of "
        f"neurons, columns groups of inputs.{more}",
    )
    highest = max(float(share.max()) for share in shares.values()) or 1.0
    norm, colours = Normalize(0, highest), colormaps[COLOURS]
    columns = min(len(shares), math.ceil(math.sqrt(len(shares) * 1.6)))
    rows = -(-len(shares) // columns)
    wide, high = (RIGHT - 25) / columns, (BOTTOM - TOP) / rows
    size = min(wide - 24, high - 60)
    for place, (number, share) in enumerate(shares.items()):
        left, top = 25 + place % columns * wide, TOP + place // columns * high + 44
        axes = canvas.frame(picture, left, top, left + size, top + size)
        axes.imshow(share, cmap=colours, norm=norm, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        _name(sheet, left, top - 20, size, "layer" if number < hidden else "output", number, share)
        _figures(axes, sheet, share, size / len(share), norm)
    bar = canvas.frame(picture, RIGHT + 40, TOP + 44, RIGHT + 70, BOTTOM - 20)
    picture.colorbar(ScalarMappable(norm, colours), cax=bar, format="%g").outline.set_visible(False)
    bar.tick_params(labelsize=canvas.SMALL)
    sheet.text(RIGHT + 40, TOP + 20, "changed, %", fontsize=canvas.SMALL, va="center")
    return picture


def _name(sheet: Axes, left: float, y: float, size: float, what: str, number: int, share: np.ndarray) -> None:
    """Name a layer with its share, in the longest form that fits."""
    mean = f"{share.mean():.1f} %"
    for name in (f"{what} {number + 1}: {mean}", f"{number + 1}: {mean}", f"{number + 1}"):
        if canvas.measured(sheet, name, fontsize=canvas.SMALL)[0] <= size + 16:
            break
    sheet.text(left, y, name, fontsize=canvas.SMALL, va="center")


def _figures(axes: Axes, sheet: Axes, share: np.ndarray, room: float, norm: Normalize) -> None:
    """Print the shares themselves if they fit into their slices."""
    if canvas.measured(sheet, "99.9", fontsize=canvas.SMALL)[0] > room - 6:
        return
    for (j, i), value in np.ndenumerate(share):
        ink = "white" if norm(value) < 0.5 else canvas.BLACK
        axes.text(i, j, f"{value:.1f}", color=ink, fontsize=canvas.SMALL, ha="center", va="center")
