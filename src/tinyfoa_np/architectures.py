"""Published deep networks by name, described layer by layer and divided into units that train together.

``mlp`` and ``cnn`` are those of GIFF's authors for MNIST; ``resnet8``, ``mobilenetv1`` (a quarter of its width) and
``dscnn`` the reference networks of MLPerf Tiny, for images of 3 x 32 x 32, 3 x 96 x 96 and 1 x 49 x 10; ``resnet17``,
two residual blocks each of 100, 200, 400 and 800 channels, is that of DeeperForward's authors for 3 x 32 x 32. Each
accepts images of any size and any number of classes. Layers are described as in :mod:`tinyfoa_np.reference.graph`;
batch norm follows every convolution except those of ``cnn``, and makes their biases superfluous.

``conv:100k5,p2,200,400s2x2`` is a chain of convolutions with ReLU, without biases and batch norm: 100 channels by a
window of 5 x 5 (3 x 3 if not given), the means of 2 x 2 positions, 200 channels, then two convolutions of 400 with
stride 2. ``m2`` instead of ``p2`` takes the largest of 2 x 2 positions; at the end ``f1000x2`` are two fully connected
layers of 1000 neurons. Each convolution and each layer is a unit, with the pooling in front of it.

GIFF trains groups of units. Backpropagation trains all units and a head, a linear layer on pooled feature maps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from .errors import BadRequest
from .network import layer_shapes

Description = tuple[Any, ...]
Shape = tuple[int, int, int]  # rows, columns, channels


@dataclass(frozen=True)
class Architecture:
    """A network for samples of a given shape.

    Attributes
    ----------
    units : tuple of tuples of descriptions
        Layers that always belong to the same group, lowest first.
    head : tuple of descriptions
        Layers that backpropagation adds on top, up to the logits.
    shape : (int, int, int)
        Shape of a sample: rows, columns, channels; (1, 1, I) if it is not an image.
    """

    units: tuple[tuple[Description, ...], ...]
    head: tuple[Description, ...]
    shape: Shape


def _cnn(channels: int) -> list[list[Description]]:
    return [[("conv", channels, 16, 2)], [("conv", 16, 32, 2)], [("conv", 32, 16, 1)]]


def _resnet8(channels: int) -> list[list[Description]]:
    stem: Description = ("normed", channels, 16, 1, 3, 3)
    return [[stem, ("residual", 16, 16, 1)], [("residual", 16, 32, 2)], [("residual", 32, 64, 2)]]


def _resnet17(channels: int) -> list[list[Description]]:
    widths = [width for width in (100, 200, 400, 800) for _ in range(2)]
    stem: Description = ("normed", channels, widths[0], 1, 3, 3)
    blocks = [("residual", below, width, width // below) for below, width in zip(widths[:1] + widths, widths)]
    return [[stem, blocks[0]], *([block] for block in blocks[1:])]


def _mobilenetv1(channels: int) -> list[list[Description]]:
    widths = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]
    layers: list[list[Description]] = [[("normed", channels, 8, 2, 3, 3)]]
    for below, width, number in zip(widths, widths[1:], range(1, 14), strict=False):
        smaller = number in (2, 4, 6, 12)  # each resolution is a unit
        layers += [[]] if smaller else []
        layers[-1].append(("dsconv", below, width, 2 if smaller else 1))
    return layers


def _dscnn(channels: int) -> list[list[Description]]:
    same: Description = ("dsconv", 64, 64, 1)
    return [[("normed", channels, 64, 2, 10, 4), same], [same], [same], [same]]


_MAPS = {"cnn": _cnn, "resnet8": _resnet8, "mobilenetv1": _mobilenetv1, "dscnn": _dscnn, "resnet17": _resnet17}
#: networks with a name
NAMES = ("mlp", *_MAPS)
_MLP = "fc:1000x3"
_PLAIN = "conv:"
_POOL = re.compile(r"([pm])([2-9])")
_DENSE = re.compile(r"f(\d{1,6})(?:x(\d{1,3}))?")
_CONVOLUTION = re.compile(r"(\d{1,6})(?:k(\d{1,2}))?(?:s([1-9]))?(?:x(\d{1,3}))?")
#: largest side of a convolution's window
LARGEST_WINDOW = 15


def _plain(network: str, channels: int) -> list[list[Description]]:
    """Units of a chain of convolutions, from its text; raises BadRequest if that is invalid."""
    units: list[list[Description]] = []
    pools: list[Description] = []
    flat = False
    for part in network.removeprefix(_PLAIN).split(","):
        pool, convolution, dense = (form.fullmatch(part) for form in (_POOL, _CONVOLUTION, _DENSE))
        if pool and not flat:
            pools.append(("pool" if pool[1] == "p" else "maxpool", int(pool[2]), int(pool[2])))
            continue
        if dense and units and int(dense[1]) and 1 <= (times := int(dense[2] or 1)) <= 1000:
            for _ in range(times):  # the first one's inputs depend on the images
                units.append([*pools, ("dense", channels if flat else 0, int(dense[1]))])
                pools, channels, flat = [], int(dense[1]), True
            continue
        width, side, stride, times = (
            (int(number or usual) for number, usual in zip(convolution.groups(), (0, 3, 1, 1)))
            if convolution and not flat
            else (0, 0, 0, 0)
        )
        if not width or not 1 <= side <= LARGEST_WINDOW or not 1 <= times <= 1000:
            raise BadRequest(
                f"network {network[:60]!r} is not understood: write channels, k and the window's side, s and the"
                " stride, p2 or m2 for pooling, f and neurons at the end, as in 'conv:100k5,p2,200,400s2x2,f500'"
            )
        for _ in range(times):
            units.append([*pools, ("plain", channels, width, stride, side, side)])
            pools, channels = [], width
    if pools:
        raise BadRequest(f"network {network[:60]!r} ends in pooling: leave it out, or add a convolution")
    return units


def named(network: str) -> bool:
    """Whether a network is one of these, not a list of layers of one kind."""
    return network in NAMES or network.startswith(_PLAIN)


def convolutional(network: str) -> bool:
    """Whether a network is one of these with convolutions."""
    return network in _MAPS or network.startswith(_PLAIN)


def _units(network: str, channels: int) -> list[list[Description]]:
    """Units of a convolutional network."""
    return _MAPS[network](channels) if network in _MAPS else _plain(network, channels)


def batch_normed(network: str) -> bool:
    """Whether a network has batch norm, which needs all samples of a batch at once."""
    return network in _MAPS and any(layer[0] != "conv" for unit in _MAPS[network](1) for layer in unit)


def units_of(network: str) -> int:
    """Number of units of a network, for any data set.

    Raises
    ------
    BadRequest
        If there is no such network, or GIFF does not support its layers.
    """
    if convolutional(network):
        return len(_units(network, 1))
    return len(layer_shapes(_MLP if network == "mlp" else network, 1))


def vector_width(network: str) -> int:
    """Outputs of a network's last fully connected layer; 0 if it makes feature maps."""
    if convolutional(network):
        kind, *rest = _units(network, 1)[-1][-1]
        return int(rest[1]) if kind == "dense" else 0
    return layer_shapes(_MLP if network == "mlp" else network, 1)[-1].outputs


def architecture(network: str, inputs: int, image: tuple[int, int, int] | None, classes: int) -> Architecture:
    """Build a network for samples of a given shape.

    Parameters
    ----------
    network : str
        One of :data:`NAMES`, or fully connected layers as in :func:`tinyfoa_np.network.layer_shapes`.
    inputs : int
        Inputs per sample.
    image : (int, int, int) or None
        Channels, rows and columns, if samples are images.
    classes : int

    Raises
    ------
    BadRequest
        If the network needs images and the samples are not images, or too small.

    Examples
    --------
    >>> cnn = architecture("cnn", 784, (1, 28, 28), 10)
    >>> cnn.head
    (('pool', 2, 2), ('linear', 144, 10))
    >>> sum(weights(layer) for unit in cnn.units for layer in unit) + weights(cnn.head[1])
    10874
    """
    if not convolutional(network):
        shapes = layer_shapes(_MLP if network == "mlp" else network, inputs)
        units = tuple((("dense", shape.inputs, shape.outputs),) for shape in shapes)
        return Architecture(units, (("linear", shapes[-1].outputs, classes),), (1, 1, inputs))
    if image is None:
        raise BadRequest(
            f"network {network} takes images, and these samples are not images (in your own files: arrays N x channels"
            " x rows x columns): write 'mlp' or 'fc:2000x4'"
        )
    channels, rows, columns = image
    shape = top = (rows, columns, channels)
    layers = _units(network, channels)
    for unit in layers:
        for number, layer in enumerate(unit):
            if layer[0] == "dense":
                unit[number] = layer = ("dense", prod(top), layer[2])
            top = shape_after(layer, top)
            if not prod(top):
                raise BadRequest(
                    f"network {network} pools {layer[1]} x {layer[2]} positions: these images leave it fewer"
                )
    built = tuple(tuple(unit) for unit in layers)
    if layers[-1][-1][0] == "dense":
        return Architecture(built, (("linear", top[2], classes),), shape)
    size = (2, 2) if network == "cnn" else top[:2]
    pooled = shape_after(("pool", *size), top)
    if not prod(pooled):
        raise BadRequest(f"network {network} pools {size[0]} x {size[1]} positions: these images leave it fewer")
    return Architecture(built, (("pool", *size), ("linear", prod(pooled), classes)), shape)


def in_blocks(units: Sequence[Sequence[Description]], classes: int) -> list[list[Description]]:
    """Units of a network, those of ``cnn`` with channels in multiples of the classes; chains say how many they have."""

    def wide(layer: Description, number: int) -> Description:
        kind, *rest = layer
        if kind != "conv":
            return layer
        below, width, stride = rest
        return kind, -(-below // classes) * classes if number else below, -(-width // classes) * classes, stride

    return [[wide(layer, number) for layer in unit] for number, unit in enumerate(units)]


def _parts(layer: Description) -> tuple[str, list[int]]:
    kind, *numbers = layer
    return kind, numbers


def shape_after(layer: Description, shape: Shape) -> Shape:
    """Rows, columns and channels after a layer."""
    kind, rest = _parts(layer)
    rows, columns, channels = shape
    if kind in ("pool", "maxpool"):
        return rows // rest[0], columns // rest[1], channels
    if kind in ("dense", "linear"):
        return 1, 1, rest[1]
    stride = rest[2]
    return -(-rows // stride), -(-columns // stride), rest[1]


def weights(layer: Description) -> int:
    """Number of trained parameters of a layer: weights, biases, batch norm's gamma and beta."""
    kind, rest = _parts(layer)
    if kind in ("pool", "maxpool"):
        return 0
    below, width = rest[:2]
    if kind in ("dense", "linear"):
        return (below + 1) * width
    if kind == "conv":
        return (9 * below + 1) * width
    if kind in ("normed", "plain"):
        return rest[3] * rest[4] * below * width + (2 * width if kind == "normed" else 0)
    if kind == "biased":
        return (rest[3] * rest[4] * below + 1) * width
    if kind == "dsconv":
        return 9 * below + 2 * below + below * width + 2 * width
    shortcut = 0 if below == width and rest[2] == 1 else below * width
    return 9 * below * width + 9 * width * width + 4 * width + shortcut


def statistics(layer: Description) -> int:
    """Number of running statistics of a layer's batch norms: a mean and a variance per channel."""
    kind, rest = _parts(layer)
    if kind == "residual":
        return 4 * rest[1]
    if kind == "dsconv":
        return 2 * rest[0] + 2 * rest[1]
    return 2 * rest[1] if kind == "normed" else 0


def grouped(text: str | None, network: str) -> tuple[tuple[int, ...], ...]:
    """Groups of units that train together, numbered from 0: ``"1,2|3"`` is ((0, 1), (2,)); None is one group per unit.

    Raises
    ------
    BadRequest
        If the text does not contain every unit once, in order.
    """
    count = units_of(network)
    if text is None:
        return tuple((number,) for number in range(count))
    parts = [part.split(",") for part in text.split("|")]
    if [number.strip() for part in parts for number in part] != [str(n + 1) for n in range(count)]:
        right = "|".join(str(n + 1) for n in range(count))
        raise BadRequest(f"groups is {text[:40]!r}: network {network} has units 1 to {count}, all in order, as {right}")
    return tuple(tuple(int(number) - 1 for number in part) for part in parts)


def group_text(groups: tuple[tuple[int, ...], ...]) -> str:
    """Groups as text for :func:`grouped`."""
    return "|".join(",".join(str(number + 1) for number in group) for group in groups)
