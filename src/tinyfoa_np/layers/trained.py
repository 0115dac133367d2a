"""A trained layer in the form that inference needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..network import LocalShape
from .encoding import Encoding


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a commit says of a trained layer; read from a root, it is a dictionary with the same names.

    Attributes
    ----------
    digest : bytes
        SHA-256 of its parameters; hexadecimal in a root, and as an item.
    alpha, scale : float
        As in :class:`TrainedLayer`.
    """

    digest: bytes
    alpha: float
    scale: float

    def __getitem__(self, name: str) -> Any:
        return self.plain()[name]

    def plain(self) -> dict[str, Any]:
        """As in a root."""
        return {"digest": self.digest.hex(), "alpha": self.alpha, "scale": self.scale}


@dataclass(frozen=True, eq=False)
class TrainedLayer:
    """One trained layer for inference.

    Attributes
    ----------
    inputs : Encoding
        Encoding of its inputs.
    weights : ndarray
        Packed signs (ceil(O / 8), W, 8) uint64, or (O, I) float32.
    bias : ndarray (O,) or (0,)
    alpha : float
        Scale of the signs; 1 if weights are real.
    scale : float
        s: the value of a set bit in its outputs.
    outputs : int
        O.
    shape : LocalShape, optional
        For a locally connected layer. Its weights are then (P, ceil(O / 8), W, 8) or (P, O, F), and its bias is b,
        gamma and beta (P + 2, O), where O is the number of output channels.
    running : ndarray (2, O), optional
        Mean and variance of its batch norm.
    """

    inputs: Encoding
    weights: np.ndarray
    bias: np.ndarray
    alpha: float
    scale: float
    outputs: int
    shape: LocalShape | None = None
    running: np.ndarray | None = None


def input_scales(layers: Sequence[TrainedLayer], binary_activations: bool) -> list[float]:
    """Scale of each trained layer's inputs: the stored s of the layer below if they are bits, else 1."""
    below = [float(np.float32(layer.scale)) if binary_activations else 1.0 for layer in layers[:-1]]
    return [1.0, *below]
