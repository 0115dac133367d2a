"""A layer as inference needs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..network import LocalShape
from .encoding import Encoding


@dataclass(frozen=True, eq=False)
class TrainedLayer:
    """One layer for inference.

    Attributes
    ----------
    inputs : Encoding
        How what it reads is held.
    weights : ndarray
        Packed signs (ceil(O / 8), W, 8) uint64, or (O, I) float32.
    bias : ndarray (O,) or (0,)
    alpha : float
        What the signs stand for; 1 where weights are real.
    scale : float
        s: what the bits it hands on stand for.
    outputs : int
        O.
    shape : LocalShape, optional
        Of a locally connected layer. Its weights are (P, ceil(O / 8), W, 8) or (P, O, F), its bias is b, gamma and beta
        (P + 2, O), O the output channels.
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
