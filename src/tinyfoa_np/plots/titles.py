"""Titles of pictures: the recipe in words, and the content of the picture."""

from __future__ import annotations

from matplotlib.axes import Axes

from ..data import short
from ..network import is_local
from ..recipe import Recipe
from ..text import printable
from . import canvas


def words(recipe: Recipe, layers: int | None = None) -> list[str]:
    """Describe a recipe in short phrases; ``layers`` is the number of layers, used if their list is too long."""
    network = recipe.network
    if len(network) > 40:
        network = f"{network[:32]}..." + (f" ({layers} layers)" if layers else "")
    parts = [f"{recipe.rule.title} on {printable(short(recipe.dataset))}: {network}"]
    local = is_local(recipe.network)
    parts += [f"connected {recipe.lc_connect}"] if local else []
    if recipe.schedule != "none":
        slices = f"{recipe.slices} groups of channels" if local else f"{recipe.slices} x {recipe.slices} slices"
        parts += [slices, f"schedule {recipe.schedule}"]
    parts += [f"groups {recipe.groups}"] if recipe.groups else []
    parts += [f"batch {recipe.batch}", str(recipe.optimizer)]
    return parts + ([f"moments {recipe.moments}"] if recipe.moments != "float32" else [])


def write(sheet: Axes, recipe: Recipe, layers: int | None, said: str) -> None:
    """Write the recipe in up to two lines, and the description ``said`` below it in up to two more."""
    y = 34
    for line in canvas.wrapped(sheet, words(recipe, layers), canvas.WIDTH - 60, ", ", fontsize=canvas.LARGE)[:2]:
        sheet.text(25, y, line, fontsize=canvas.LARGE, va="center")
        y += 34
    for line in canvas.wrapped(sheet, said.split(), canvas.WIDTH - 60, fontsize=canvas.NORMAL)[:2]:
        sheet.text(25, y, line, fontsize=canvas.NORMAL, va="center")
        y += 27
