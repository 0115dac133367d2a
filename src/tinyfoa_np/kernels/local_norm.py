"""Batch norm of locally connected layers: sums of u by channel, and the statistics computed from them."""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .simd import share

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch norm


@njit(**INLINED)
def _sums(values):
    """The sum of some values and of their squares, in double precision: of every fourth, then of the four."""
    a0, a1, a2, a3, b0, b1, b2, b3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    count = values.shape[0]
    whole = count // 4 * 4
    for k in range(0, whole, 4):
        v0, v1 = np.float64(values[k]), np.float64(values[k + 1])
        v2, v3 = np.float64(values[k + 2]), np.float64(values[k + 3])
        a0, a1, a2, a3 = a0 + v0, a1 + v1, a2 + v2, a3 + v3
        b0, b1, b2, b3 = b0 + v0 * v0, b1 + v1 * v1, b2 + v2 * v2, b3 + v3 * v3
    for k in range(whole, count):
        value = np.float64(values[k])
        a0, b0 = a0 + value, b0 + value * value
    return (a0 + a1) + (a2 + a3), (b0 + b1) + (b2 + b3)


@njit(**INLINED)
def add_up(begun, sums, count, first, last, totals):
    # totals (2, O) begin, or go on, over the positions of a tile, in their order
    for o in range(first, last):
        for k in range(2):
            total = totals[k, o] if begun else 0.0
            for n in range(count):
                total += sums[n, k, o]
            totals[k, o] = total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def statistics(u, samples, begun, threads, sums, totals):
    # u (n, O, B) float32; sums (n, 2, O) float64; totals (2, O) float64
    """The sums of u and of u^2 by channel, over a batch and, if ``begun``, the tiles before."""
    count, channels = u.shape[0], u.shape[1]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, count, 1)
        for n in range(begin, end):
            for o in range(channels):
                sums[n, 0, o], sums[n, 1, o] = _sums(u[n, o, :samples])
    add_up(begun, sums, count, 0, channels, totals)


@njit(nogil=True, cache=True, error_model="numpy")
def batch_norm(totals, count, norm, running):
    # totals (2, O) float64; norm (2, O) float32: see Layer; running (2, O) float32: mean and variance
    """Batch norm's factor and offset, from the sums over ``count`` values per channel; updates running statistics."""
    for o in range(norm.shape[1]):
        mean = totals[0, o] / count
        variance = max(totals[1, o] / count - mean * mean, 0.0)
        norm[0, o], norm[1, o] = mean, 1.0 / np.sqrt(variance + EPSILON)
        unbiased = variance * (count / max(1, count - 1))
        running[0, o] = (1.0 - MOMENTUM) * running[0, o] + MOMENTUM * mean
        running[1, o] = (1.0 - MOMENTUM) * running[1, o] + MOMENTUM * unbiased


@njit(nogil=True, cache=True, error_model="numpy")
def running_norm(running, norm):
    # as batch_norm
    """Batch norm's factor and offset in inference."""
    for o in range(norm.shape[1]):
        norm[0, o], norm[1, o] = running[0, o], 1.0 / np.sqrt(np.float64(running[1, o]) + EPSILON)
