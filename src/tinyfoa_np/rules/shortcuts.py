"""The layers that DeeperForward trains: convolutions with a block of channels per class, and shortcuts between them.

The input x of a layer is made of what the layer below hands on, y, and of the input that was kept last:

    x = y                       no shortcut
    x = y + kept                add
    x = [y, kept]               concat: the channels of y, then those kept
    kept = x                    where a block begins; the means of 2 x 2 positions if the block has stride 2

In a residual network every block of two convolutions ends with a shortcut from its beginning: the sum, or before a
block with twice the channels the concatenation, which doubles them. No shortcut has weights, and the last block needs
none, as goodness is that of y.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..architectures import Architecture, Description, Shape, in_blocks, shape_after
from ..errors import BadRequest


class Layer(NamedTuple):
    """A convolution with what comes before it."""

    chain: Sequence[Description]  # pooling, and the convolution
    shortcut: str = ""  # "add" or "concat"
    keep: int = 0  # 1: keep the input; 2: keep its means of 2 x 2 positions


def layers_of(architecture: Architecture, classes: int) -> list[Layer]:
    """The layers of a network, all without biases and batch norm.

    Channels of ``cnn`` and residual networks are made multiples of the classes: 20, 40, 80 in place of 16, 32, 64.

    Raises
    ------
    BadRequest
        If a layer has no block of channels for each class, or is of another kind.
    """
    described = [layer for unit in architecture.units for layer in unit]
    kinds = [kind for kind, *_ in described]
    if kinds[0] == "normed" and set(kinds[1:]) == {"residual"}:
        return list(_residual(described, classes))
    found = list(_chain(architecture, classes))
    for layer in found:
        width = layer.chain[-1][2]
        if width % classes:
            raise BadRequest(
                f"algorithm deeperforward gives each of {classes} classes a block of channels: a layer has {width}, but"
                f" multiples of {classes} are possible"
            )
    return found


def _chain(network: Architecture, classes: int) -> Iterator[Layer]:
    """The layers of a chain, of which each is a unit."""
    for unit in in_blocks(network.units, classes):
        chain: list[Description] = []
        shortcut, keep = "", 0
        for kind, *rest in unit:
            if kind == "conv" or kind == "dense" and network.shape[:2] == (1, 1):
                stride, side = (rest[2], 3) if kind == "conv" else (1, 1)
                chain.append(("plain", *rest[:2], stride, side, side))
            elif kind in ("plain", "pool", "maxpool"):
                chain.append((kind, *rest))
            elif kind == "keep":
                keep = rest[0]
            elif kind in ("add", "concat"):
                shortcut = kind
            else:
                raise BadRequest(
                    "algorithm deeperforward has neither batch norm nor fully connected layers on convolutions: write"
                    " 'conv:100k5,p2,200', cnn, resnet8 or resnet17"
                )
        yield Layer(chain, shortcut, keep)


def _residual(described: Sequence[Description], classes: int) -> Iterator[Layer]:
    """The layers of a network of residual blocks of two convolutions."""
    (_, channels, narrow, stride, *window), *blocks = described
    base = -(-narrow // classes) * classes
    yield Layer([("plain", channels, base, stride, *window)])
    for number, (_, below, width, stride) in enumerate(blocks):
        wide, more = base * (width // narrow), width // below
        if width != below * more or more > 2 or stride > 2 or more > 1 and not number:
            raise BadRequest(
                "algorithm deeperforward trains residual blocks that keep or double channels, stride 1 or 2"
            )
        shortcut = ("add", "concat")[more - 1] if number else ""
        keep = stride if number + 1 < len(blocks) else 0
        yield Layer([("plain", wide, wide, stride, 3, 3)], shortcut, keep)
        yield Layer([("plain", wide, wide, 1, 3, 3)])


def input_shapes(layers: Iterable[Layer], shape: Shape) -> Iterator[Shape]:
    """Rows, columns and channels of each layer's input, for samples of a given shape.

    Raises
    ------
    BadRequest
        If what is kept does not fit to what a layer hands on: halves of odd numbers.
    """
    kept: Shape = (0, 0, 0)
    for layer in layers:
        rows, columns, channels = shape
        if layer.shortcut and (kept[:2] != shape[:2] or layer.shortcut == "add" and kept != shape):
            raise BadRequest(
                "algorithm deeperforward halves what a shortcut keeps: the images need an even number of rows and"
                " columns wherever a block has stride 2"
            )
        shape = rows, columns, channels + (kept[2] if layer.shortcut == "concat" else 0)
        if layer.keep:
            kept = rows // layer.keep, columns // layer.keep, shape[2]
        yield shape
        for one in layer.chain:
            shape = shape_after(one, shape)
