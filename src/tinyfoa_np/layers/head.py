"""Heads, which are fixed random rows that turn outputs into logits, and the loss that turns logits into errors."""

from __future__ import annotations

from math import sqrt

import numpy as np

from ..kernels import loss as loss_kernels
from ..kernels import random as random_kernels


def normal_rows(out: np.ndarray, first: int, outputs: int, number: int, seed: int) -> np.ndarray:
    """Generate rows (n, C) of layer ``number``'s projection, starting at neuron ``first``: N(0, 2/O); return them."""
    random_kernels.normal(out, first, number, np.uint64(seed), sqrt(2.0 / outputs))
    return out


def uniform_rows(out: np.ndarray, first: int, last: int, number: int, seed: int, bound: float) -> np.ndarray:
    """Generate fixed rows ``first`` to ``last`` (n, C) of layer ``number``, uniform in +-``bound``; return them."""
    classes = out.shape[-1]
    random_kernels.uniform(
        out.reshape(-1),
        first,
        last,
        0,
        classes,
        classes,
        number,
        random_kernels.PROJECTION,
        np.uint64(seed),
        np.float32(bound),
    )
    return out


def cross_entropy(
    logits: np.ndarray,
    samples: int,
    labels: np.ndarray,
    error: np.ndarray,
    result: np.ndarray,
    of: int,
    scale: float = 1.0,
) -> tuple[float, int]:
    """Turn logits (C, B) times ``scale`` into their error (C, B), (softmax - Y) / ``of``.

    Returns the summed cross-entropy of the samples, and the number of wrong predictions; ``result`` (2,) is scratch.
    """
    result[:] = 0
    loss_kernels.softmax_cross_entropy(logits, samples, np.float32(scale), labels, error, result, of)
    return float(result[0]), int(result[1])
