"""What the systems that TinyFoA is compared with have in common: layers that all train in the same step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]  # inputs X (B, I), labels (B,)


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
