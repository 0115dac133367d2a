"""What the systems that TinyFoA is compared with have in common: layers that all train in the same step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    """Weights and biases of a layer, or their gradients."""

    W: np.ndarray  # (O, I)
    b: np.ndarray  # (O,)


class Trained(NamedTuple):
    """What the training of a whole network returns."""

    layers: list[Layer]  # after the last step, lowest first
    losses: np.ndarray  # (steps,), float64: the loss of each step, before its update
    first: list[Layer]  # the whole gradient at step 0


def magnitude(z: np.ndarray) -> float:
    """The scale of one bit's activations, s = mean |z| over a whole batch (B, O), in float64."""
    return float(np.abs(z).mean(dtype=np.float64))


def mean_magnitudes(passes: Iterable[Sequence[np.ndarray]]) -> list[float]:
    """The scales that a trained network keeps for inference: mean |z| of each layer over many batches.

    Parameters
    ----------
    passes : iterable of sequences of ndarray, (B, O) each
        Pre-activations of the layers, lowest first, for one batch after the other; each batch is passed on with the
        scales that are its own.

    Returns
    -------
    list of float
        sum |z| / (N O) of each layer, for N samples in all.
    """
    totals: list[float] = []
    counts: list[int] = []
    for z in passes:
        totals, counts = totals or [0.0] * len(z), counts or [0] * len(z)
        totals = [total + float(np.abs(zk).sum(dtype=np.float64)) for total, zk in zip(totals, z)]
        counts = [count + zk.size for count, zk in zip(counts, z)]
    return [total / count for total, count in zip(totals, counts)]


def linear(X: np.ndarray, W: np.ndarray, b: np.ndarray | float = 0.0, *, binary_weights: bool = True) -> np.ndarray:
    """Pre-activations z = X Wb^T + b with Wb = alpha sign(W), alpha = mean |W|, or with Wb = W.

    Summed in float64 and rounded once. Where rows of X hold only 0 and one other value, as with binary activations,
    and weights are binary, z is that value times alpha times a count, plus b. Half of the inputs weighing +1 and half
    -1 then give exactly b, and if that is 0, bit 0: a sum in float32 would leave the bit to the order of its terms.

    Parameters
    ----------
    X : ndarray of float, (B, I)
    W : ndarray of float, (O, I)
    b : ndarray of float, (O,), optional
    binary_weights : bool
        As in :func:`.tinyfoa.forward`; the sign of 0 is +1.

    Returns
    -------
    z : ndarray of float, (B, O)
    """
    X64, W64 = X.astype(np.float64), W.astype(np.float64)
    if binary_weights:
        z = np.abs(W64).mean() * (X64 @ np.where(W64 >= 0, 1.0, -1.0).T)
    else:
        z = X64 @ W64.T
    rounded: np.ndarray = (z + b).astype(X.dtype)
    return rounded
