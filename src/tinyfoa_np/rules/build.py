"""The stages of a recipe's algorithm, one for each layer or one for the whole network, and how they may be cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

from ..architectures import Architecture, batch_normed
from ..layers.encoding import TILES, Inputs, outputs_of
from ..layers.tiling import NEURONS, PLACES, ROWS, Tiling
from ..network import LayerShape, LocalShape, is_local
from ..recipe import Recipe
from . import bp, drtp, ff, giff, pepita, tinyfoa
from . import bp_graph as deep_bp
from . import bp_local as local_bp
from . import tinyfoa_local as local
from .dense_network import Whole
from .graph_network import Deep
from .stage import Stage

#: algorithms that train the whole network in every step
WHOLE: dict[str, type[Whole]] = {"bp": bp.Network, "drtp": drtp.Network, "pepita": pepita.Network, "ff": ff.Network}
#: algorithms that train networks of any layers
DEEP: dict[str, Callable[..., Deep]] = {"bp": deep_bp.Network, "giff": giff.Network}
Maker = Callable[[Tiling], Stage]


class Rung(NamedTuple):
    """Tilings that keep the same in RAM and differ in their sizes alone, from the fastest to the smallest."""

    tiling: Tiling
    neurons: Sequence[int]
    rows: Sequence[int]


def binary(recipe: Recipe) -> bool:
    """Whether activations are bits."""
    return drtp.binary_activations(recipe) if recipe.algorithm in ("drtp", "ff") else recipe.binary_activations


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
    if recipe.algorithm != "tinyfoa":

        def network(tiling: Tiling) -> Stage:
            local_shapes = [shape for shape in shapes if isinstance(shape, LocalShape)]
            if local_shapes:
                return local_bp.Network(recipe, inputs, local_shapes, classes, batches, threads, tiling)
            kind = WHOLE[recipe.algorithm]
            return kind(recipe, inputs, shapes, classes, batches, threads, tiling)

        return [network]

    def of_layer(number: int) -> Maker:
        below = outputs_of(shapes[number - 1].outputs, recipe.binary_activations) if number else inputs
        shape = shapes[number]
        if isinstance(shape, LocalShape):
            return lambda tiling: local.Layer(recipe, number, below, shape, classes, batches, threads, tiling)
        return lambda tiling: tinyfoa.Layer(
            recipe, number, below, shape.outputs, classes, batches, threads, tiling
        )

    return [of_layer(number) for number in range(len(shapes))]


def deep_maker(
    recipe: Recipe, inputs: Inputs, network: Architecture, classes: int, batches: int, threads: int
) -> Maker:
    """How to make the one stage of a network of any layers from a tiling; parameters as for :func:`makers`."""
    return lambda tiling: DEEP[recipe.algorithm](recipe, inputs, network, classes, batches, threads, tiling)


def ladder(recipe: Recipe) -> list[Rung]:
    """The ways in which a stage may be cut; the first keeps everything in RAM that it can."""
    batch = recipe.batch
    if recipe.deep:
        return [Rung(Tiling(held), NEURONS[:1], ROWS[:1]) for held in (batch, *micro_batches(recipe))]
    if recipe.algorithm == "bp" and is_local(recipe.network):
        kept_or_not = [Tiling(batch, PLACES[0], keep_products=kept) for kept in (True, False)]
        return [Rung(tiling, PLACES[:1], ROWS[:1]) for tiling in kept_or_not]
    if recipe.algorithm != "tinyfoa":
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
    statistics. TinyFoA has the batch's logits and masks together before there is an error; masks come in words of 16
    samples.
    """
    if recipe.algorithm == "tinyfoa":
        return [size for size in (16 * 2**k for k in range(11, -1, -1)) if size < recipe.batch]
    if recipe.algorithm == "ff" or binary(recipe) or recipe.deep and batch_normed(recipe.network):
        return []
    sizes, size = [], recipe.batch
    while size > 1:
        size = -(-size // 2)
        sizes.append(size)
    return sizes
