"""Shapes of a network's layers, from a short text such as ``fc:2000x4`` or ``lc:16,32,64,64``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import BadRequest

#: weights per output and input channel: a 3 x 3 neighbourhood
TAPS = 9
#: input channels read by an output channel of a locally connected layer: all, or one
CONNECTIONS = ("full", "depthwise")

_SPEC = re.compile(r"(fc|lc):(\d{1,9}(?:x\d{1,3})?(?:,\d{1,9}(?:x\d{1,3})?)*)")


@dataclass(frozen=True)
class LayerShape:
    """A fully connected layer: ``inputs`` (I) to ``outputs`` (O)."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class LocalShape(LayerShape):
    """A locally connected layer: 3 x 3, stride 1, padding 1, with separate weights at every position.

    ``inputs`` and ``outputs`` are totals per sample. Output channel o reads all input channels if ``connect`` is
    ``full``, or channel o I / O, rounded down, if it is ``depthwise``.
    """

    below: int  # I, input channels
    channels: int  # O, output channels
    rows: int
    columns: int
    connect: str = CONNECTIONS[0]

    @property
    def places(self) -> int:
        """Number of positions."""
        return self.rows * self.columns

    @property
    def fan_in(self) -> int:
        """Weights per output channel at one position."""
        return TAPS * (self.below if self.connect == CONNECTIONS[0] else 1)


def is_local(network: str) -> bool:
    """Whether a network is locally connected."""
    return network.startswith("lc:")


def described(shapes: Sequence[LayerShape]) -> str:
    """The text of a network with these layers.

    Examples
    --------
    >>> described(layer_shapes("lc:16x2", 784, (1, 28, 28)))
    'lc:16,16'
    """
    local = [shape for shape in shapes if isinstance(shape, LocalShape)]
    if local:
        return "lc:" + ",".join(str(shape.channels) for shape in local)
    return "fc:" + ",".join(str(shape.outputs) for shape in shapes)


def image_of(shapes: Sequence[LayerShape]) -> tuple[int, int, int] | None:
    """(channels, rows, columns) of a locally connected network's input; None for other networks."""
    first = shapes[0]
    return (first.below, first.rows, first.columns) if isinstance(first, LocalShape) else None


def widths(network: str) -> tuple[int, ...]:
    """Outputs, or output channels, of a network's hidden layers, lowest first.

    Raises
    ------
    BadRequest
        If the text is invalid: see :func:`layer_shapes`.

    Examples
    --------
    >>> widths("fc:500x2,10"), widths("lc:16,32")
    ((500, 500, 10), (16, 32))
    """
    match = _SPEC.fullmatch(network)
    found: list[int] = []
    for part in match[2].split(",") if match else ():
        width, _, times = part.partition("x")
        found += [int(width)] * int(times or 1)
    if not found or min(found) < 1 or len(found) > 1000:
        raise BadRequest(
            f"network {network!r} is not understood: write 'fc:2000x4', 'fc:500,300' or 'lc:16,32', widths above 0, or"
            " a name such as 'cnn'"
        )
    return tuple(found)


def layer_shapes(
    network: str, inputs: int, image: tuple[int, int, int] | None = None, connect: str | None = None
) -> tuple[LayerShape, ...]:
    """The hidden layers of a network, lowest first.

    Parameters
    ----------
    network : str
        ``fc:`` and the widths: ``2000x4`` is four layers of 2000; ``500,300`` one of 500, then one of 300. ``lc:`` and
        the output channels of locally connected layers. At most 1000 layers.
    inputs : int
        Inputs of the first layer.
    image : tuple of int, optional
        (channels, rows, columns) of these inputs, if they are images.
    connect : str, optional
        One of :data:`CONNECTIONS`; by default the first.

    Raises
    ------
    BadRequest
        If the text is not of that form, a width or count is zero or too large, or the inputs of a locally connected
        network are not images, or images of another size.

    Examples
    --------
    >>> layer_shapes("fc:500x2,10", 784)[2]
    LayerShape(inputs=500, outputs=10)
    >>> layer_shapes("lc:16,32", 784, (1, 28, 28))[1].fan_in
    144
    """
    found = widths(network)
    if not is_local(network):
        return tuple(LayerShape(i, o) for i, o in zip([inputs, *found], found, strict=False))
    if image is None:
        raise BadRequest(
            f"network {network!r} is locally connected, and these samples are not images (in your own files: arrays N"
            " x channels x rows x columns): write 'fc:2000x4' for them"
        )
    below, rows, columns = image
    if below * rows * columns != inputs:
        raise BadRequest(f"images of {below} x {rows} x {columns} do not have {inputs:,} inputs")
    places, connect = rows * columns, connect or CONNECTIONS[0]
    return tuple(
        LocalShape(i * places, o * places, i, o, rows, columns, connect)
        for i, o in zip([below, *found], found, strict=False)
    )
