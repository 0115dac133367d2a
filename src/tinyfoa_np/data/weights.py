"""Samples that count more than once, or not at all: weights as repetitions, in an order that is the samples' own."""

from __future__ import annotations

import numpy as np


def in_order(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The numbers (N,) int64 of samples (N, I) in an order that does not depend on the one they come in.

    Equal samples stay beside each other, so that repeating a sample is the same as adding it again.

    Examples
    --------
    >>> in_order(np.array([[3], [1], [2]], np.uint8), np.array([0, 0, 0])).tolist()
    [1, 2, 0]
    """
    rows = np.ascontiguousarray(np.hstack([labels[:, None].astype(inputs.dtype), inputs]))
    return np.argsort(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel(), kind="stable")


def repeats(weights: np.ndarray) -> np.ndarray:
    """How often each sample is repeated, (N,) int64, for weights (N,) of 0 or more.

    Whole numbers are repetitions themselves. Others are scaled so that there are N samples in all, and rounded so that
    the samples up to any place are as many as their weights say, within one.

    Examples
    --------
    >>> repeats(np.array([2.0, 0.0, 1.0])).tolist(), repeats(np.array([0.5, 0.5, 1.5, 1.5])).tolist()
    ([2, 0, 1], [0, 1, 1, 2])
    """
    if (weights == np.floor(weights)).all():
        return weights.astype(np.int64)
    ends = np.rint(np.cumsum(weights) * (len(weights) / weights.sum()))
    whole: np.ndarray = np.diff(ends, prepend=0).astype(np.int64)
    return whole
