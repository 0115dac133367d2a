"""What only DeeperForward computes: means and deviations of blocks of channels, errors of these means, shortcuts.

Maps y are (B, P, O): samples, positions, channels. O is divided into C blocks of neighbouring channels, one per class.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .simd import share

EPSILON = 1e-5


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def block_stats(y, samples, mean, inverse, sums):
    # y (B, P, O), mean, inverse (C, B) float32, sums (T, 2, O or more) float64
    """For each sample and block the mean of y, and 1 / sqrt(variance + 1e-5)."""
    threads, blocks, width = sums.shape[0], mean.shape[0], y.shape[2]
    size = width // blocks
    over = 1.0 / (size * y.shape[1])
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        once, twice = sums[lane, 0], sums[lane, 1]
        once[:] = 0
        twice[:] = 0
        for s in range(begin, end):
            once[:] = 0
            twice[:] = 0
            for p in range(y.shape[1]):
                for o in range(width):
                    value = np.float64(y[s, p, o])
                    once[o] += value
                    twice[o] += value * value
            for c in range(blocks):
                total, squares = 0.0, 0.0
                for o in range(c * size, (c + 1) * size):
                    total += once[o]
                    squares += twice[o]
                middle = total * over
                variance = squares * over - middle * middle
                variance = variance if not variance < 0 else 0.0  # a NaN stays
                mean[c, s], inverse[c, s] = np.float32(middle), np.float32(1.0 / np.sqrt(variance + EPSILON))


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def normalize(y, samples, mean, inverse, scratch):
    # scratch (T, 2, O or more) float64; the rest as block_stats
    """y = (y - mean) inverse of its sample and block, in place."""
    threads, width = scratch.shape[0], y.shape[2]
    size = width // mean.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        middle, scale = scratch[lane, 0], scratch[lane, 1]
        middle[:] = 0
        scale[:] = 0
        for s in range(begin, end):
            for o in range(width):
                middle[o], scale[o] = mean[o // size, s], inverse[o // size, s]
            for p in range(y.shape[1]):
                for o in range(width):
                    y[s, p, o] = np.float32((np.float64(y[s, p, o]) - middle[o]) * scale[o])


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def block_errors(slopes, samples, grown, dy, threads):
    # slopes (C, B), dy (B, P, O) float32
    """dy, the gradient for y, from that of the means: ``slopes`` over the number of a block's entries, times ``grown``.

    The gradient of the ReLU is not yet applied.
    """
    size = dy.shape[2] // slopes.shape[0]
    over = grown / (size * dy.shape[1])
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for o in range(dy.shape[2]):
                dy[s, 0, o] = np.float32(slopes[o // size, s] * over)
            for p in range(1, dy.shape[1]):
                for o in range(dy.shape[2]):
                    dy[s, p, o] = dy[s, 0, o]


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def drop(y, samples, mask, grown, threads):
    # y (B, N) float32, mask (B, ceil(N / 64)) uint64
    """Dropout: y times ``grown`` where the mask's bit is set, else 0; in place."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for n in range(y.shape[1]):
                kept = (mask[s, n // 64] >> np.uint64(n % 64)) & np.uint64(1)
                y[s, n] = y[s, n] * grown if kept else np.float32(0)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def add(y, samples, kept, threads):
    # y, kept (B, P, O) float32
    """A shortcut: y += kept, in place."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for p in range(y.shape[1]):
                for o in range(y.shape[2]):
                    y[s, p, o] += kept[s, p, o]


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def join(y, samples, kept, x, threads):
    # y (B, P, O), kept (B, P, K), x (B, P, O + K) float32
    """A shortcut: x = the channels of y, then those of kept."""
    width = y.shape[2]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for p in range(y.shape[1]):
                for o in range(width):
                    x[s, p, o] = y[s, p, o]
                for o in range(kept.shape[2]):
                    x[s, p, width + o] = kept[s, p, o]
