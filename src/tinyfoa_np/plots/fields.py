"""Receptive fields of the first layer's neurons: their weights, laid out as the images they see."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ..errors import BadRequest
from ..recipe import Recipe
from ..run import results as finished
from ..run.directory import stand_in
from . import canvas, titles

TOP, BOTTOM, LEFT, RIGHT, GAP = 160, 940, 25, 1575, 8
COLUMNS, ROWS = 14, 7
#: for values below and above 0, distinguishable with any colour vision
COLOURS = [canvas.BLUE, "#FFFFFF", canvas.VERMILLION]


def figure(run_dir: str | os.PathLike[str], layer: int | None = None) -> Figure:
    """The picture of a finished run's first layer.

    Parameters
    ----------
    run_dir : path
    layer : int, optional
        Must be 1, as no other layer sees images.

    Raises
    ------
    BadRequest
        If the run has not finished, its samples are not images, it is not fully connected, or ``layer`` is not 1.
    CheckFailed
        If the run's files are damaged.
    """
    if layer not in (None, 1):
        raise BadRequest(f"layer {layer} sees no images: only the first does")
    trained = finished.model(run_dir)
    image = stand_in(Path(run_dir)).image
    if image is None:
        raise BadRequest(f"the samples of {trained.recipe.dataset} are not images: there are no fields to draw")
    W, kind = finished.trained_signs(trained, 0), "signs of the weights"
    real = finished.weights(run_dir, finished.layers(run_dir, trained)[0])
    if real is not None:
        W, kind = real, "weights"
    return drawn(trained.recipe, W, image, kind, len(trained.layers))


def drawn(recipe: Recipe, W: np.ndarray, image: tuple[int, int, int], kind: str, layers: int) -> Figure:
    """The picture of some rows of W (O, I), as images (channels, rows, columns)."""
    chosen = np.unique(np.linspace(0, len(W) - 1, min(len(W), COLUMNS * ROWS)).astype(int))
    picture, sheet = canvas.blank()
    some = f"{len(chosen)} of {len(W)} neurons, evenly spread" if len(chosen) < len(W) else f"{len(W)} neurons"
    shown = "red, green and blue, grey where they are 0" if image[0] == 3 else "blue below 0, orange above"
    mean = ", the mean over channels" if image[0] not in (1, 3) else ""
    titles.write(
        sheet,
        recipe,
        layers,
        f"First layer's {kind}{mean}, as the images it sees: {some}; {shown}. Each by its own largest.",
    )
    colours = LinearSegmentedColormap.from_list("fields", COLOURS)
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    size = min((RIGHT - LEFT) / columns, (BOTTOM - TOP) / rows)
    for place, neuron in enumerate(chosen):
        left, top = LEFT + place % columns * size, TOP + place // columns * size
        axes = canvas.frame(picture, left, top, left + size - GAP, top + size - GAP)
        field = W[neuron].reshape(image).astype(np.float64)
        _show(axes, field / (np.abs(field).max() or 1.0), colours)
    return picture


def _show(axes: Axes, field: np.ndarray, colours: LinearSegmentedColormap) -> None:
    """Draw a field (channels, rows, columns) with values from -1 to 1."""
    if len(field) == 3:
        axes.imshow(np.moveaxis(field, 0, 2) / 2 + 0.5, interpolation="nearest")
    else:
        axes.imshow(field.mean(axis=0), cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor(canvas.GREY)
