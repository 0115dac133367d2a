"""Sample weights as repetitions, in an order determined by the samples themselves."""

from __future__ import annotations

import numpy as np


def in_order(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices (N,) int64 that sort samples (N, I) independently of their original order.

    Equal samples are adjacent, so that repeating a sample is the same as adding it again.

    Examples
    --------
    >>> in_order(np.array([[3], [1], [2]], np.uint8), np.array([0, 0, 0])).tolist()
    [1, 2, 0]
    """
    rows = np.ascontiguousarray(np.hstack([labels[:, None].astype(inputs.dtype), inputs]))
    return np.argsort(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel(), kind="stable")


def repeats(weights: np.ndarray) -> np.ndarray:
    """Number of repetitions of each sample, (N,) int64, for weights (N,) of 0 or more.

    Integer weights are the repetitions. Others are scaled to a total of N samples and rounded such that the cumulative
    count at every position is within one of the cumulative weight.

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
