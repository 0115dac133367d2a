"""What meets in a layer's product: inputs that are bits, bytes or real numbers, weights that are signs or real."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from ..numerics import ceil_log2

#: neurons whose z exists at a time, from the fastest to the smallest
TILES = (256, 128, 64)
#: a weight that is not clamped counts as lost beyond this
WEIGHT_RANGE = 256.0


def words(bits: int) -> int:
    """64-bit words that hold so many bits."""
    return -(-bits // 64)


@dataclass(frozen=True)
class Encoding:
    """How the inputs of a layer are held.

    Parameters
    ----------
    kind : str
        ``bits`` (packed, times the batch's scale), ``bytes`` (x = scale * byte + offset) or ``real`` (float32).
    width : int
        I, inputs per sample.
    scale, offset : float
        For ``bytes``.
    image : (int, int, int), optional
        Channels, rows and columns, where inputs are samples that are images.
    """

    kind: str
    width: int
    scale: float = 1.0
    offset: float = 0.0
    image: tuple[int, int, int] | None = None

    @property
    def dtype(self) -> str:
        return {"bits": "uint64", "bytes": "uint8", "real": "float32"}[self.kind]

    @property
    def columns(self) -> int:
        """Elements of one sample's row."""
        return words(self.width) if self.kind == "bits" else self.width

    @property
    def row_bytes(self) -> int:
        return self.columns * np.dtype(self.dtype).itemsize


@lru_cache(maxsize=256)
def empty(shape: tuple[int, ...], kind: str = "float32") -> np.ndarray:
    """An array without elements, which stands for what a kernel is not to read or write: always the same one."""
    assert 0 in shape
    return np.zeros(shape, kind)


def outputs_of(width: int, binary_activations: bool) -> Encoding:
    """What a layer of ``width`` neurons hands to the next: bits with binary activations, else float32."""
    return Encoding("bits" if binary_activations else "real", width)


def weights_shape(outputs: int, inputs: int, binary_weights: bool) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of what the forward pass reads: panels of eight neurons' packed signs, or float32 rows."""
    if binary_weights:
        return (-(-outputs // 8), words(inputs), 8), "uint64"
    return (outputs, inputs), "float32"


def view(block: np.ndarray, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """The first bytes of a block of bytes as an array of some shape and dtype."""
    return block[: prod(shape) * np.dtype(kind).itemsize].view(kind).reshape(shape)


def z_unit(batch: int, outputs: int) -> float:
    """Steps per 1.0 of the exact sum of |z| over a batch: a 64-bit sum of |z| <= 2**20 cannot overflow."""
    return 2.0 ** min(28, 42 - ceil_log2(batch * outputs))


def weight_unit(outputs: int, inputs: int, limit: float = 1.0) -> float:
    """Steps per 1.0 of the exact sum of |W| over a layer: |W| <= the limit, with room to spare."""
    room = ceil_log2(min(limit, WEIGHT_RANGE))
    return 2.0 ** min(32, 60 - room - ceil_log2(outputs * inputs))


def z_tile(tile: int, inputs: Encoding, outputs: int, binary_weights: bool) -> int:
    """Neurons per tile: products by popcount are fastest on the smallest tile, dense ones on a large one."""
    popcounts = binary_weights and inputs.kind != "real"
    return min(min(TILES[-1], tile) if popcounts else tile, outputs)
