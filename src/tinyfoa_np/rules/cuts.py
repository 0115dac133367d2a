"""Ways to divide the work of a stage so that it fits: helpers for every rule's :meth:`.Stage.ladder`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from ..layers.tiling import NEURONS, PLACES, ROWS, Tiling
from ..recipe import Recipe

#: cost in units of a byte read from flash: a byte written (slower, and wears out the flash), a regenerated number of a
#: fixed head, and a kernel call
WRITTEN, REGENERATED, CALL = 10, 24, 4096


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
    if not recipe.rule.micro_batches or binary(recipe) or recipe.normed:
        return []
    sizes, size = [], recipe.batch
    while size > 1:
        size = -(-size // 2)
        sizes.append(size)
    return sizes


def slice_ladder(recipe: Recipe) -> list[Rung]:
    """Ways to divide a dense layer that trains slice by slice: what is read from flash, regenerated or gathered."""
    # if a step trains few slices, their columns of the inputs can be stored separately
    some = recipe.schedule == "slice"
    held = [recipe.batch, *(micro_batches(recipe) if some and not recipe.recompute else [])]
    rungs = []
    for samples, choices in product(held, product((False, True), repeat=4)):
        gather, weights, slices, regenerate = choices
        if gather and not some or samples < recipe.batch and not gather:
            continue
        base = Tiling(samples, NEURONS[-1], ROWS[-1], weights, slices, regenerate, gather)
        streams = weights or regenerate
        rungs.append(Rung(base, NEURONS if streams else NEURONS[1:], ROWS if weights or slices else ROWS[:1]))
    # what only a smaller budget needs; with recomputed inputs a batch is handed over whole
    tight = [] if recipe.recompute else [rung for rung in rungs if rung.tiling.stream_slice]
    return [*rungs, *(rung._replace(tiling=replace(rung.tiling, tight=True)) for rung in tight)]


def place_ladder(recipe: Recipe) -> list[Rung]:
    """Ways to divide a locally connected layer: what is recomputed, read from flash or regenerated."""
    rungs = []
    for kept, weights, slices, regenerate in product((True, False), (False, True), (False, True), (False, True)):
        base = Tiling(recipe.batch, PLACES[-1], PLACES[-1], weights, slices, regenerate, keep_products=kept)
        rungs.append(Rung(base, PLACES, PLACES if weights or slices else PLACES[:1]))
    return rungs
