"""The course of a training: error and loss by epoch; layers trained one after another are shown in sequence."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ..errors import BadRequest
from ..recipe import Recipe
from ..run import results as finished
from ..run.outcome import Epoch
from . import canvas, titles

TOP, BOTTOM = 205, 905
#: values that differ by more than this factor are drawn on a logarithmic scale
FAR = 5.0
#: name, colour and style of each line
LINES = {
    "test_error_pct": ("test error", canvas.VERMILLION, "-"),
    "train_error_pct": ("training error", canvas.BLUE, "--"),
    "loss": ("training loss", canvas.BLACK, "-"),
}


def figure(run_dir: str | os.PathLike[str], layer: int | None = None) -> Figure:
    """The picture of a finished run's epochs.

    Parameters
    ----------
    run_dir : path
    layer : int, optional
        From 1; by default all layers.

    Raises
    ------
    BadRequest
        If the run has not finished, or there is no such layer.
    CheckFailed
        If its data are damaged.
    """
    recipe = Recipe.from_json(json.dumps(finished.result(run_dir)["recipe"]))
    return drawn(recipe, finished.epochs(run_dir), layer)


def drawn(recipe: Recipe, epochs: Sequence[Epoch], layer: int | None = None) -> Figure:
    """The picture of some epochs, in training order."""
    trained = {number: list(rows) for number, rows in groupby(sorted(epochs, key=_layer), _layer)}
    layers = len(trained) if recipe.rule.by_layer else None
    one_by_one = layers is not None and layers > 1
    if layer is not None:
        if layer - 1 not in trained:
            there = f"its layers are 1 to {len(trained)}" if len(trained) > 1 else "all its layers trained together"
            raise BadRequest(f"the run has no epochs of a layer {layer}: {there}")
        trained = {layer - 1: trained[layer - 1]}
    picture, sheet = canvas.blank()
    titles.write(sheet, recipe, layers, _said(trained))
    tested = all(row.test_error_pct is not None for rows in trained.values() for row in rows)
    errors = [name for name in LINES if name.endswith("pct") and (tested or not name.startswith("test"))]
    for left, right, what, names in ((110, 800, "error, %", errors), (925, 1570, "loss", ["loss"])):
        _curves(canvas.frame(picture, left, TOP, right, BOTTOM), sheet, trained, what, names, one_by_one)
        x = float(left)
        for name in names:
            x = canvas.key(sheet, x, TOP - 50, "dashes" if LINES[name][2] == "--" else "line", *LINES[name][1::-1])
    return picture


def _layer(row: Epoch) -> int:
    return row.layer


def _said(trained: dict[int, list[Epoch]]) -> str:
    last = [rows[-1] for rows in trained.values()]
    name = "training" if last[-1].test_error_pct is None else "test"
    ends = [row.train_error_pct if row.test_error_pct is None else row.test_error_pct for row in last]
    figures = f"{', '.join(f'{end:.2f}' for end in ends[-12:])} %"
    whose = "of each layer" if len(trained) > 1 else "in the end"
    return f"Error and loss after each epoch; {name} error {whose}: {'... ' if len(ends) > 12 else ''}{figures}."


def _curves(
    axes: Axes, sheet: Axes, trained: dict[int, list[Epoch]], what: str, names: list[str], one_by_one: bool
) -> None:
    """Draw some lines over epochs, layer after layer, with boundaries between layers."""
    box, start, bounds = axes.get_window_extent(), 0, []
    values = [getattr(row, name) for rows in trained.values() for row in rows for name in names]
    for number, rows in trained.items():
        places = range(start + 1, start + len(rows) + 1)
        for name in names:
            _, colour, line = LINES[name]
            heights = [getattr(row, name) for row in rows]
            mark = "o" if len(rows) == 1 else None
            axes.plot(places, heights, color=colour, linestyle=line, linewidth=2, marker=mark)
        bounds.append((number, start, start + len(rows)))
        start += len(rows)
    axes.set_xlim(0.5, start + 0.5)
    scale(axes, values)
    axes.set_xlabel("epochs", fontsize=canvas.NORMAL)
    axes.set_ylabel(what, fontsize=canvas.NORMAL)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.tick_params(labelsize=canvas.SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=canvas.GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    if one_by_one:
        wide, free = box.width / start, box.x0
        for number, first, last in bounds:
            if first:
                axes.axvline(first + 0.5, color=canvas.GREY, linewidth=1)
            name = f"layer {number + 1}"
            half = canvas.measured(sheet, name, fontsize=canvas.SMALL)[0] / 2
            middle = max(box.x0 + wide * (first + last) / 2, box.x0 + half)
            if middle - half >= free:
                sheet.text(middle, TOP - 16, name, fontsize=canvas.SMALL, ha="center", va="center", color=canvas.DARK)
                free = middle + half + 12


def scale(axes: Axes, values: list[float]) -> None:
    """Scale a vertical axis: from 0, or logarithmic if values differ much; with plain numbers."""
    low, high = min(values), max(values)
    if low > 0 and high > FAR * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.05 * high or 1)
        axes.yaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
