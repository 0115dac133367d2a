"""What is trained: the shapes of a network's layers, from a short text such as ``fc:2000x4`` or ``fc:500,300,100``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import BadRequest

_FC = re.compile(r"fc:(\d{1,9}(?:x\d{1,3})?(?:,\d{1,9}(?:x\d{1,3})?)*)")


@dataclass(frozen=True)
class LayerShape:
    """A fully connected layer: ``inputs`` (I) to ``outputs`` (O)."""

    inputs: int
    outputs: int


def layer_shapes(network: str, inputs: int) -> tuple[LayerShape, ...]:
    """The hidden layers of a network, lowest first.

    Parameters
    ----------
    network : str
        ``fc:`` and the widths: ``2000x4`` is four layers of 2000; ``500,300`` one of 500, then one of 300.
        At most 1000 layers.
    inputs : int
        Inputs of the first layer.

    Raises
    ------
    BadRequest
        If the text is not of that form, or a width or count is zero or too large.

    Examples
    --------
    >>> layer_shapes("fc:500x2,10", 784)[2]
    LayerShape(inputs=500, outputs=10)
    """
    match = _FC.fullmatch(network)
    widths: list[int] = []
    for part in match[1].split(",") if match else ():
        width, _, times = part.partition("x")
        widths += [int(width)] * int(times or 1)
    if not widths or min(widths) < 1 or len(widths) > 1000:
        raise BadRequest(f"network {network!r} is not understood: write 'fc:2000x4' or 'fc:500,300', widths above 0")
    return tuple(LayerShape(i, o) for i, o in zip([inputs, *widths], widths, strict=False))
