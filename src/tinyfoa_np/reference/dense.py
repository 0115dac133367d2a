"""The common part of the baselines: fully connected layers that all train in the same step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    """Weights and biases of a layer, or their gradients."""

    W: np.ndarray  # (O, I)
    b: np.ndarray  # (O,)


class Trained(NamedTuple):
    """The result of training a whole network."""

    layers: list[Layer]  # after the last step, lowest first
    losses: np.ndarray  # (steps,), float64: the loss of each step, before its update
    first: list[Layer]  # the whole gradient at step 0


def magnitude(z: np.ndarray) -> float:
    """Scale of binary activations, s = mean |z| over a whole batch (B, O), in float64."""
    return float(np.abs(z).mean(dtype=np.float64))


def mean_magnitudes(passes: Iterable[Sequence[np.ndarray]]) -> list[float]:
    """Scales that a trained network keeps for inference: mean |z| of each layer over many batches.

    Parameters
    ----------
    passes : iterable of sequences of ndarray, (B, O) each
        Pre-activations of the layers, lowest first, one item per batch. In these passes each batch uses its own scales.

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

    Sums are computed in float64 and rounded once. If weights are binary and rows of X hold only 0 and one other value,
    as with binary activations, z is that value times alpha times a count, plus b. If half of the inputs have weight +1
    and half -1, z is exactly b, and bit 0 if b is 0; a float32 sum would make the bit depend on the order of terms.

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
