"""The stages of a recipe's algorithm, one for each layer or one for the whole network, and how they may be cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

from ..architectures import Architecture, batch_normed
from ..layers.encoding import TILES, Inputs, outputs_of
from ..layers.tiling import NEURONS, PLACES, ROWS, Tiling
from ..network import LayerShape, is_local
from ..recipe import Recipe
from .stage import Stage

Maker = Callable[[Tiling], Stage]


class Rung(NamedTuple):
    """Tilings that keep the same in RAM and differ in their sizes alone, from the fastest to the smallest."""

    tiling: Tiling
    neurons: Sequence[int]
    rows: Sequence[int]


def binary(recipe: Recipe) -> bool:
    """Whether activations are bits."""
    return recipe.binary_activations and (recipe.binary_weights or not recipe.rule.signs_first)


def makers(
    recipe: Recipe, inputs: Inputs, shapes: Sequence[LayerShape], classes: int, batches: int, threads: int
) -> list[Maker]:
    """For each stage, lowest first, how to make it from a tiling.

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
    recipe: Recipe, inputs: Inputs, network: Architecture, classes: int, batches: int, threads: int
) -> Maker:
    """How to make the one stage of a network of any layers from a tiling; parameters as for :func:`makers`."""
    Home = recipe.rule.home(recipe.kind)
    return lambda tiling: Home(recipe, inputs, network, classes, batches, threads, tiling)


def ladder(recipe: Recipe) -> list[Rung]:
    """The ways in which a stage may be cut; the first keeps everything in RAM that it can."""
    batch = recipe.batch
    if recipe.deep:
        return [Rung(Tiling(held), NEURONS[:1], ROWS[:1]) for held in (batch, *micro_batches(recipe))]
    by_layer = recipe.rule.by_layer
    if not by_layer and is_local(recipe.network):
        kept_or_not = [Tiling(batch, PLACES[0], keep_products=kept) for kept in (True, False)]
        return [Rung(tiling, PLACES[:1], ROWS[:1]) for tiling in kept_or_not]
    if not by_layer:
        cuts = [(tile, batch) for tile in TILES] + [(TILES[-1], part) for part in micro_batches(recipe)]
        return [Rung(Tiling(held, tile), (tile,), ROWS[:1]) for tile, held in cuts]
    if is_local(recipe.network):
        rungs = []
        for kept, weights, slices, regenerate in product((True, False), (False, True), (False, True), (False, True)):
            base = Tiling(batch, PLACES[-1], PLACES[-1], weights, slices, regenerate, keep_products=kept)
            rungs.append(Rung(base, PLACES, PLACES if weights or slices else PLACES[:1]))
        return rungs
    # where a step trains few slices, their columns of the inputs can be kept apart
    some = recipe.schedule == "slice"
    held = [batch, *(micro_batches(recipe) if some and not recipe.recompute else [])]
    rungs = []
    for samples, choices in product(held, product((False, True), repeat=4)):
        gather, weights, slices, regenerate = choices
        if gather and not some or samples < batch and not gather:
            continue
        base = Tiling(samples, NEURONS[-1], ROWS[-1], weights, slices, regenerate, gather)
        streams = weights or regenerate
        rungs.append(Rung(base, NEURONS if streams else NEURONS[1:], ROWS if weights or slices else ROWS[:1]))
    return rungs


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
