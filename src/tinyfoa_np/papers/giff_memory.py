"""The memory model of GIFF's authors (appendix A.4), and the cost of an inference, for one sample, from the layers.

    memory = parameters + gradients + activations + errors        float32 each

Backpropagation has all of them at once. For GIFF, gradients, activations and errors are those of one group at a time:
the total is the parameters plus the maximum over groups. The same rule is applied to every network:

- parameters and gradients are the weights of linear layers and convolutions, with batch norm's gamma and beta, without
  biases; for GIFF also the label channels' weights;
- activations are the input and the outputs of each linear layer and convolution; for GIFF also the latent of the label
  for each group;
- errors are those of all activations between the input and the last one, whose error is computed in place.

The model does not include the optimizer's moments, the batch, the labels and scratch. Backpropagation is counted
without a head, as in the authors' worked example, the MLP, which is reproduced to the last digit. No single rule
reproduces all of their figures: :func:`table` lists the differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..architectures import Architecture, Description, Shape, architecture, grouped
from ..data.dataset import shaped
from ..layers.graph import CONNECT, CONV, DEPTHWISE, NORM, Program
from ..recipe import Recipe
from ..rules.fit import Layout

#: images and classes on which the authors train each network
IMAGES = {
    "mlp": ((1, 28, 28), 10),
    "cnn": ((1, 28, 28), 10),
    "resnet8": ((3, 32, 32), 10),
    "mobilenetv1": ((3, 96, 96), 2),
    "dscnn": ((1, 49, 10), 12),
}
#: published bytes, by network and algorithm
PUBLISHED = {
    ("mlp", "bp"): 22_295_000,
    ("mlp", "giff"): 15_310_000,
    ("cnn", "bp"): 108_000,
    ("cnn", "giff"): 73_400,
    ("resnet8", "bp"): 1_227_000,
    ("mobilenetv1", "bp"): 3_686_000,
    ("dscnn", "bp"): 1_165_000,
}
#: bytes that the authors measured for the MLP in C, as a control
MEASURED_IN_C = {"bp": 22_437_000, "giff": 16_112_000}


@dataclass(frozen=True)
class Memory:
    """The quantities of the model, as counts of four-byte numbers."""

    parameters: int
    gradients: int
    activations: int
    errors: int

    @property
    def nbytes(self) -> int:
        return 4 * (self.parameters + self.gradients + self.activations + self.errors)


def backpropagation(layers: Sequence[Description], shape: Shape) -> Memory:
    """The model for all layers at once.

    Examples
    --------
    >>> mlp = architecture("mlp", 784, None, 10)
    >>> backpropagation([layer for unit in mlp.units for layer in unit], mlp.shape).nbytes
    22295136
    """
    program = Program(layers, shape)
    weights, made = _weights(program), _made(program)
    return Memory(weights, weights, prod(shape) + sum(made), sum(made[:-1]))


def giff(groups: Sequence[Sequence[Description]], shape: Shape, classes: int, label_width: int = 1) -> Memory:
    """The model for groups that train one at a time: all parameters, and the rest for the largest group.

    Examples
    --------
    >>> mlp = architecture("mlp", 784, None, 10)
    >>> giff(mlp.units, mlp.shape, 10).nbytes
    15308000
    """
    parameters, largest = 0, Memory(0, 0, 0, 0)
    for layers in groups:
        program = Program(layers, shape)
        width = program.shapes[program.output][2]
        own = _weights(program) + classes * width * label_width
        made = _made(program)
        group = Memory(0, own, prod(shape) + sum(made) + width, sum(made[:-1]))
        parameters, largest = parameters + own, max(largest, group, key=lambda one: one.nbytes)
        shape = program.shapes[program.output]
    return Memory(parameters, largest.gradients, largest.activations, largest.errors)


def _weights(program: Program) -> int:
    return sum(prod(one.weight) for one in program.operations if one.weight)


def _made(program: Program) -> list[int]:
    """Number of outputs of each linear layer and convolution for a sample."""
    return [prod(program.shapes[one.target]) for one in program.operations if one.kind in (CONV, CONNECT, DEPTHWISE)]


# Operations -----------------------------------------------------------------------------------------------------------


def products(layers: Sequence[Description], shape: Shape) -> int:
    """Multiplications in a sample's pass through layers: of linear layers, convolutions and batch norm.

    Examples
    --------
    >>> cnn = architecture("cnn", 784, (1, 28, 28), 10)
    >>> products([layer for unit in cnn.units for layer in unit], cnn.shape)
    479808
    """
    program, total = Program(layers, shape), 0
    for one in program.operations:
        rows, columns, width = program.shapes[one.target]
        if one.kind == NORM:
            total += rows * columns * width
        elif one.kind == DEPTHWISE:
            total += rows * columns * prod(one.weight)
        elif one.kind in (CONV, CONNECT):
            places = prod(program.shapes[one.target]) // one.weight[-1]
            total += places * prod(one.weight)
    return total


def inference(
    network: Architecture, classes: int, groups: Sequence[Sequence[Description]] | None = None
) -> dict[str, int]:
    """Multiplications of one inference, by algorithm.

    Parameters
    ----------
    network : Architecture
    classes : int
    groups : sequence of sequences of descriptions, optional
        Groups of GIFF; by default each unit is a group.

    Returns
    -------
    dict of str to int
        ``bp``: one pass, with the head; ``ff``: one pass per label, and the goodness, m^2 of every layer's output;
        ``giff``: one pass, d^2 of each group's output once, and q^2 per label.
    """
    layers = [layer for unit in network.units for layer in unit]
    program = Program(layers, network.shape)
    active = sum(prod(program.shapes[one.target]) for one in program.operations if one.relu)
    own, shape = 0, network.shape
    for group in groups or network.units:
        part = Program(group, shape)
        shape = part.shapes[part.output]
        own += prod(shape) + classes * shape[2]
    once = products(layers, network.shape)
    return {
        "bp": products([*layers, *network.head], network.shape),
        "ff": classes * (once + active),
        "giff": once + own,
    }


def arena(network: str, algorithm: str, **options: Any) -> int:
    """Bytes of the arena for training a network on images of the authors' size, with one thread.

    Parameters
    ----------
    network, algorithm : str
    **options
        Options of the recipe; by default one sample at a time and gradient descent.
    """
    image, classes = IMAGES[network]
    recipe = Recipe(algorithm=algorithm, network=network, **{"batch": 1, "optimizer": "sgd", **options}).validated()
    samples = shaped(network, 10_000, 1, prod(image), "uint8", classes, image=image)
    (chosen,) = Layout(recipe, samples, 1).fit(None)
    return chosen.plan.nbytes


def table() -> list[dict[str, object]]:
    """Compare the model's bytes with the published ones for each network and algorithm, with operations per inference.

    Returns
    -------
    list of dict
        ``network``, ``algorithm``; ``nbytes`` of the model; ``published`` and ``in_c``, printed and measured by the
        authors, or None; ``off_pct``; ``arena``: bytes of our arena for one sample and gradient descent, without
        moments and with one thread; ``products``; ``over_giff``: the ratio to GIFF's.
    """
    rows: list[dict[str, object]] = []
    for name, (image, classes) in IMAGES.items():
        network = architecture(name, prod(image), image, classes)
        layers = [layer for unit in network.units for layer in unit]
        counted = inference(network, classes)
        sizes = {
            "bp": backpropagation(layers, network.shape).nbytes,
            "ff": None,
            "giff": giff([network.units[unit] for (unit,) in grouped(None, name)], network.shape, classes).nbytes,
        }
        for algorithm, nbytes in sizes.items():
            published = PUBLISHED.get((name, algorithm))
            off = None if published is None or nbytes is None else 100 * (nbytes / published - 1)
            rows.append(
                {
                    "network": name,
                    "algorithm": algorithm,
                    "nbytes": nbytes,
                    "published": published,
                    "off_pct": off,
                    "in_c": MEASURED_IN_C.get(algorithm) if name == "mlp" else None,
                    "arena": None if nbytes is None else arena(name, algorithm),
                    "products": counted[algorithm],
                    "over_giff": counted[algorithm] / counted["giff"],
                }
            )
    return rows
