"""Encodings of a layer's operands: inputs as bits, bytes or real numbers, weights as signs or real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from ..numerics import ceil_log2

#: neurons whose z is held at a time, from fastest to smallest
TILES = (256, 128, 64)
#: an unclamped weight beyond this counts as diverged
WEIGHT_RANGE = 256.0


def words(bits: int) -> int:
    """Number of 64-bit words that hold ``bits`` bits."""
    return -(-bits // 64)


@dataclass(frozen=True)
class Encoding:
    """The form in which the inputs of a layer are stored.

    Parameters
    ----------
    kind : str
        ``bits`` (packed, times the batch's scale), ``bytes`` (x = scale * byte + offset) or ``real`` (float32).
    width : int
        I, inputs per sample.
    scale, offset : float
        For ``bytes``.
    image : (int, int, int), optional
        Channels, rows and columns, if the inputs are samples that are images.
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
        """Elements per row, which holds one sample."""
        return words(self.width) if self.kind == "bits" else self.width

    @property
    def row_bytes(self) -> int:
        return self.columns * np.dtype(self.dtype).itemsize


@lru_cache(maxsize=256)
def empty(shape: tuple[int, ...], kind: str = "float32") -> np.ndarray:
    """An array without elements, a placeholder for an argument that a kernel does not use; always the same object."""
    assert 0 in shape
    return np.zeros(shape, kind)


def outputs_of(width: int, binary_activations: bool) -> Encoding:
    """Encoding of the outputs of a layer with ``width`` neurons: bits with binary activations, else float32."""
    return Encoding("bits" if binary_activations else "real", width)


def weights_shape(outputs: int, inputs: int, binary_weights: bool) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the weights in the forward pass: panels of eight neurons' packed signs, or float32 rows."""
    if binary_weights:
        return (-(-outputs // 8), words(inputs), 8), "uint64"
    return (outputs, inputs), "float32"


def nbytes(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of an array of the given shape and dtype."""
    return prod(shape) * np.dtype(kind).itemsize


def view(block: np.ndarray, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """View the first bytes of a block as an array of the given shape and dtype."""
    return block[: nbytes(shape, kind)].view(kind).reshape(shape)


def z_unit(batch: int, outputs: int) -> float:
    """Steps per 1.0 in the exact sum of |z| over a batch: 64 bits hold |z| <= 2**20 without overflow."""
    return 2.0 ** min(28, 42 - ceil_log2(batch * outputs))


def weight_unit(outputs: int, inputs: int, limit: float = 1.0) -> float:
    """Steps per 1.0 in the exact sum of |W| over a layer, for |W| up to the limit, with a margin."""
    room = ceil_log2(min(limit, WEIGHT_RANGE))
    return 2.0 ** min(32, 60 - room - ceil_log2(outputs * inputs))


def z_tile(tile: int, inputs: Encoding, outputs: int, binary_weights: bool) -> int:
    """Neurons per tile: products by popcount are fastest with the smallest tile, dense ones with a large tile."""
    popcounts = binary_weights and inputs.kind != "real"
    return min(min(TILES[-1], tile) if popcounts else tile, outputs)
