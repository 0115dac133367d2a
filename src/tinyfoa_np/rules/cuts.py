"""How the work of a stage may be cut so that it fits: the parts of every rule's :meth:`.Stage.ladder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..architectures import batch_normed
from ..layers.tiling import Tiling
from ..recipe import Recipe


class Rung(NamedTuple):
    """Tilings that keep the same in RAM and differ in their sizes alone, from the fastest to the smallest."""

    tiling: Tiling
    neurons: Sequence[int]
    rows: Sequence[int]


def binary(recipe: Recipe) -> bool:
    """Whether activations are bits."""
    return recipe.binary_activations and (recipe.binary_weights or not recipe.rule.signs_first)


def micro_batches(recipe: Recipe) -> list[int]:
    """Sizes of the micro-batches that a batch may be cut into, from the largest: none where something needs it whole.

    The scale of binary activations is the mean over a whole batch, and so are FF's mean activities and batch norm's
    statistics. Layer by layer, the batch's logits and masks are together before there is an error; masks come in words
    of 16 samples.
    """
    if recipe.rule.by_layer:
        return [size for size in (16 * 2**k for k in range(11, -1, -1)) if size < recipe.batch]
    if not recipe.rule.micro_batches or binary(recipe) or recipe.deep and batch_normed(recipe.network):
        return []
    sizes, size = [], recipe.batch
    while size > 1:
        size = -(-size // 2)
        sizes.append(size)
    return sizes
