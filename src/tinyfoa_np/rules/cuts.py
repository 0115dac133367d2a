"""Ways to divide the work of a stage so that it fits: helpers for every rule's :meth:`.Stage.ladder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..architectures import batch_normed
from ..layers.tiling import Tiling
from ..recipe import Recipe


class Rung(NamedTuple):
    """Tilings that keep the same data in RAM and differ only in tile sizes, from fastest to smallest."""

    tiling: Tiling
    neurons: Sequence[int]
    rows: Sequence[int]


def binary(recipe: Recipe) -> bool:
    """Whether activations are binary."""
    return recipe.binary_activations and (recipe.binary_weights or not recipe.rule.signs_first)


def micro_batches(recipe: Recipe) -> list[int]:
    """Possible micro-batch sizes, largest first; empty if the algorithm needs the whole batch at once.

    The whole batch is needed for the scale of binary activations (a mean over the batch), FF's mean activities and
    batch norm's statistics. Algorithms that train layer by layer collect the logits and masks of the batch before
    computing its error; masks are stored in words of 16 samples.
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
