"""A batch through trained layers: what the algorithms' answers have in common. Arrays are made as they are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels import dense_forward as forward_kernels
from ..kernels.dense_forward import Neurons, Results
from ..network import LocalShape
from .encoding import TILES, Inputs, words, z_tile, z_unit


@dataclass(frozen=True, eq=False)
class TrainedLayer:
    """One layer for inference.

    Attributes
    ----------
    inputs : Inputs
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

    inputs: Inputs
    weights: np.ndarray
    bias: np.ndarray
    alpha: float
    scale: float
    outputs: int
    shape: LocalShape | None = None
    running: np.ndarray | None = None


def passed(
    layer: TrainedLayer,
    values: np.ndarray,
    binary: bool,
    *,
    gain: float = 1.0,
    emitted: Inputs | None = None,
    projection: np.ndarray | None = None,
    biased: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One layer's forward pass over a batch.

    Parameters
    ----------
    layer : TrainedLayer
    values : ndarray (n, columns)
        As ``layer.inputs`` says.
    binary : bool
        Whether activations are.
    gain : float
        What the bits of ``values`` stand for.
    emitted : Inputs, optional
        How outputs are to be held; none without it.
    projection : ndarray (O, C), optional
        Of a layer that answers through one.
    biased : bool
        Whether the bias is added.

    Returns
    -------
    z, outputs, logits : ndarray
        (O, n), where nothing is emitted; (n, columns), where it is; (C, n).
    """
    n, outputs = len(values), layer.outputs
    tile = outputs if emitted is None else z_tile(TILES[0], layer.inputs, outputs, layer.weights.dtype == np.uint64)
    shape, kind = forward_kernels.scratch_shape(
        values.dtype, layer.weights.dtype, n, words(layer.inputs.width), 1
    )  # fmt: skip
    projection = np.zeros((outputs, 0), np.float32) if projection is None else projection
    handed = np.zeros((n, emitted.columns), emitted.dtype) if emitted else np.zeros((0, 0), np.float32)
    z, logits = np.zeros((tile, n), np.float32), np.zeros((projection.shape[1], n), np.float32)
    bias = layer.bias if biased else layer.bias[:0]
    neurons = Neurons(0, outputs, layer.weights, bias, np.float32(gain * layer.alpha), projection)
    forward_kernels.forward(
        values, n, np.float32(layer.inputs.scale), np.float32(layer.inputs.offset), layer.inputs.width, neurons, binary,
        z_unit(n, outputs), np.zeros(shape, kind), z,
        Results(0, np.zeros((0, -(-n // 16)), np.uint16), 0, logits, handed, np.zeros(1, np.int64)),
    )
    return z, handed, logits
