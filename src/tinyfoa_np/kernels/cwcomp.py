"""What only CwComp computes: mean squares of blocks of channels, their errors, and the predictor's loss.

Maps y are (B, P, O): samples, positions, channels. O is divided into C blocks of neighbouring channels, one per class.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .maths import exp, log
from .simd import share


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def block_squares(y, samples, goodness, threads):
    # y (B, P, O), goodness (C, B) float32
    """For each sample and block the mean of y^2."""
    size = y.shape[2] // goodness.shape[0]
    over = 1.0 / (size * y.shape[1])
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for c in range(goodness.shape[0]):
                total = 0.0
                for p in range(y.shape[1]):
                    for o in range(c * size, (c + 1) * size):
                        total += np.float64(y[s, p, o]) * np.float64(y[s, p, o])
                goodness[c, s] = np.float32(total * over)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def block_errors(y, samples, slopes, dy, threads):
    # y, dy (B, P, O), slopes (C, B) float32
    """dy, the gradient for y, from that of the mean squares: 2 y ``slopes`` over the number of a block's entries."""
    size = dy.shape[2] // slopes.shape[0]
    over = 2.0 / (size * dy.shape[1])
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for c in range(slopes.shape[0]):
                factor = np.float32(slopes[c, s] * over)
                for p in range(dy.shape[1]):
                    for o in range(c * size, (c + 1) * size):
                        dy[s, p, o] = y[s, p, o] * factor


@njit(nogil=True, cache=True, error_model="numpy")
def predictor_loss(logits, samples, labels, error, result):
    # logits, error (B, C) float32, labels (B,) uint16, result (1,) float64
    """``error``, the gradient for logits a of the mean cross-entropy of p = softmax(a), with p taken as logits again.

    ::

        dp = (softmax(p) - onehot) / B        error = p (dp - sum dp p)

    ``result`` receives the sum of the cross-entropies.
    """
    classes = logits.shape[1]
    result[0] = 0
    for s in range(samples):
        top = logits[s, 0]
        for c in range(1, classes):
            top = logits[s, c] if logits[s, c] > top else top
        total, label = 0.0, np.int64(labels[s])
        for c in range(classes):
            total += exp(np.float64(logits[s, c] - top))
        outer, inner = 0.0, 0.0
        for c in range(classes):
            p = exp(np.float64(logits[s, c] - top)) / total
            outer += exp(p)
        for c in range(classes):
            p = exp(np.float64(logits[s, c] - top)) / total
            inner += p * (exp(p) / outer - (1.0 if c == label else 0.0))
        for c in range(classes):
            p = exp(np.float64(logits[s, c] - top)) / total
            slope = exp(p) / outer - (1.0 if c == label else 0.0)
            error[s, c] = np.float32(p * (slope - inner) / samples)
        result[0] += log(outer) - exp(np.float64(logits[s, label] - top)) / total
