"""Build the stages of a recipe's algorithm: one per layer, or one for the whole network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..architectures import Architecture
from ..layers.encoding import Encoding, outputs_of
from ..layers.tiling import Tiling
from ..network import LayerShape
from ..recipe import Recipe
from .stage import Stage

Maker = Callable[[Tiling], Stage]


def makers(
    recipe: Recipe, inputs: Encoding, shapes: Sequence[LayerShape], classes: int, batches: int, threads: int
) -> list[Maker]:
    """For each stage, lowest first, a function that builds it from a tiling.

    Parameters
    ----------
    recipe, inputs, classes, batches, threads
        As for :class:`.stage.Stage`.
    shapes : sequence of LayerShape
        Hidden layers.
    """
    Home = recipe.rule.home(recipe.kind)
    if not recipe.rule.by_layer:
        return [lambda tiling: Home(recipe, inputs, shapes, classes, batches, threads, tiling)]

    def of_layer(number: int) -> Maker:
        below = outputs_of(shapes[number - 1].outputs, recipe.binary_activations) if number else inputs
        shape = shapes[number] if recipe.kind == "lc" else shapes[number].outputs
        return lambda tiling: Home(recipe, number, below, shape, classes, batches, threads, tiling)

    return [of_layer(number) for number in range(len(shapes))]


def deep_maker(
    recipe: Recipe, inputs: Encoding, network: Architecture, classes: int, batches: int, threads: int
) -> Maker:
    """A function that builds the single stage of a deep network from a tiling; parameters as for :func:`makers`."""
    Home = recipe.rule.home(recipe.kind)
    return lambda tiling: Home(recipe, inputs, network, classes, batches, threads, tiling)
