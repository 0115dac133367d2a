"""The stages of a recipe's algorithm: one for each layer, or one for the whole network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..network import LayerShape
from ..recipe import Recipe
from . import bp, drtp, ff, pepita, tinyfoa
from .inference import TrainedLayer
from .operands import TILES, Inputs
from .stage import Stage
from .whole import Whole

__all__ = ["TILES", "stages"]

#: algorithms that train the whole network in every step
WHOLE: dict[str, type[Whole]] = {"bp": bp.Network, "drtp": drtp.Network, "pepita": pepita.Network, "ff": ff.Network}
#: how a trained network answers: (recipe, layers, classes, samples as they are held) to scores (C, n)
ANSWERS: dict[str, Callable[[Recipe, Sequence[TrainedLayer], int, np.ndarray], np.ndarray]] = {
    "tinyfoa": tinyfoa.answers, "bp": bp.answers, "drtp": drtp.answers, "pepita": pepita.answers, "ff": ff.answers,
}  # fmt: skip


def micro_batches(recipe: Recipe) -> list[int]:
    """Sizes of the micro-batches that a batch may be cut into, from the largest: none where something needs it whole.

    The scale of binary activations is the mean over a whole batch, and so are FF's mean activities.
    """
    if recipe.algorithm in ("tinyfoa", "ff") or binary(recipe):
        return []
    sizes, size = [], recipe.batch
    while size > 1:
        size = -(-size // 2)
        sizes.append(size)
    return sizes


def binary(recipe: Recipe) -> bool:
    """Whether activations are bits."""
    return drtp.binary_activations(recipe) if recipe.algorithm in ("drtp", "ff") else recipe.binary_activations


def answers(recipe: Recipe, layers: Sequence[TrainedLayer], classes: int, samples: np.ndarray) -> np.ndarray:
    """A trained network's scores (C, n), as precise as it has them: the largest is the answer."""
    return ANSWERS[recipe.algorithm](recipe, layers, classes, samples)


def stages(
    recipe: Recipe, inputs: Inputs, shapes: Sequence[LayerShape], classes: int, batches: int, threads: int, tile: int,
    held: int,
) -> list[Stage]:
    """What trains together, lowest first.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    inputs : Inputs
        What a sample is.
    shapes : sequence of LayerShape
        Hidden layers.
    classes, batches, threads : int
        C, steps per epoch, T.
    tile : int
        One of :data:`TILES`: the most neurons whose z exists at a time.
    held : int
        The most samples that are held at a time: the batch, or one of :func:`micro_batches`.
    """
    if recipe.algorithm != "tinyfoa":
        return [WHOLE[recipe.algorithm](recipe, inputs, shapes, classes, batches, threads, tile, held)]
    stack: list[Stage] = []
    for number, shape in enumerate(shapes):
        below = stack[-1].hands_on if stack else inputs
        assert below is not None
        stack.append(tinyfoa.Layer(recipe, number, below, shape.outputs, classes, batches, threads, tile))
    return stack
