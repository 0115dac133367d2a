"""Operations between convolutions: batch norm, ReLU, average pooling, forward and gradient side by side.

Maps are (N, C), positions of all samples by channels, float32. Sums over positions are computed in float64, separately
for a fixed number of chunks, which are then added in order, so that results do not depend on threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .simd import share

EPSILON, MOMENTUM = 1e-5, 0.1
#: parts that positions are cut into where something is summed over them
CHUNKS = 16
#: rows of batch norm's statistics: mean, 1 / deviation, and v = z scale + shift
MEAN, INVERSE, SCALE, SHIFT = range(4)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def spread(inputs, samples, scale, offset, channels, maps, threads):
    # inputs (B, C P) uint8 | float32, channel by channel; maps (B, P, C)
    """scale * inputs + offset, with the channels of a position side by side."""
    size = inputs.shape[1] // channels
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for c in range(channels):
                for p in range(size):
                    maps[s, p, c] = scale * np.float32(inputs[s, c * size + p]) + offset


@njit(error_model="numpy")
def _together(partial, row, c):
    total = 0.0
    for chunk in range(CHUNKS):
        total += partial[chunk, row, c]
    return total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def sums(dz, count, before, of, partial, out, threads):
    # dz (N, C), partial (CHUNKS, 1, C) float64, out (C,) float32
    """The sums over ``of`` positions, of which these are the next ``count`` after those ``before``: biases' gradient.

    ``partial`` holds the sums so far; once all positions are added, ``out`` has the same bits for any number of parts.
    """
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, CHUNKS, 1)
        for chunk in range(first, last):
            own = partial[chunk, 0]
            if before == 0:
                own[:] = 0
            begin, end = share(chunk, CHUNKS, of, 1)
            for n in range(max(begin - before, 0), min(end - before, count)):
                for c in range(own.size):
                    own[c] += np.float64(dz[n, c])
    for c in range(out.size):
        out[c] = np.float32(_together(partial, 0, c))


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def batch_stats(z, count, gamma, beta, mean, variance, epsilon, partial, statistics, threads):
    # z (N, C), gamma, beta, mean, variance (C,), partial (CHUNKS, 2, C) float64, statistics (4, C) float32
    """Batch norm in training: compute the batch's statistics, and move the running ones a tenth of the way to them."""
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, CHUNKS, 1)
        for chunk in range(first, last):
            once, twice = partial[chunk, 0], partial[chunk, 1]
            once[:] = 0
            twice[:] = 0
            begin, end = share(chunk, CHUNKS, count, 1)
            for n in range(begin, end):
                for c in range(once.size):
                    value = np.float64(z[n, c])
                    once[c] += value
                    twice[c] += value * value
    for c in range(mean.size):
        own = _together(partial, 0, c) / count
        spread = _together(partial, 1, c) / count - own * own
        spread = spread if not spread < 0 else 0.0  # a NaN stays
        unbiased = spread * count / max(1, count - 1)
        mean[c] += np.float32(MOMENTUM * (own - np.float64(mean[c])))
        variance[c] += np.float32(MOMENTUM * (unbiased - np.float64(variance[c])))
        _fold(own, spread, gamma, beta, epsilon, statistics, c)


@njit(nogil=True, cache=True, error_model="numpy")
def running_stats(gamma, beta, mean, variance, epsilon, statistics):
    # as batch_stats
    """Batch norm in inference: the running statistics."""
    for c in range(mean.size):
        _fold(np.float64(mean[c]), np.float64(variance[c]), gamma, beta, epsilon, statistics, c)


@njit(**INLINED)
def _fold(mean, variance, gamma, beta, epsilon, statistics, c):
    inverse = 1.0 / np.sqrt(variance + epsilon)
    scale = np.float64(gamma[c]) * inverse
    statistics[MEAN, c], statistics[INVERSE, c] = np.float32(mean), np.float32(inverse)
    statistics[SCALE, c], statistics[SHIFT, c] = np.float32(scale), np.float32(np.float64(beta[c]) - mean * scale)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def normalize(z, count, statistics, shortcut, relu, h, threads):
    # z, h (N, C), shortcut (N, C) | (0, C), statistics (4, C)
    """h = z scale + shift + shortcut; with ``relu``, max(h, 0). h may be z."""
    scale, shift = statistics[SCALE], statistics[SHIFT]
    floor = np.float32(0) if relu else np.float32(-np.inf)
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, count, 1)
        if shortcut.shape[0]:
            for n in range(begin, end):
                for c in range(scale.size):
                    value = z[n, c] * scale[c] + shift[c] + shortcut[n, c]
                    h[n, c] = floor if value < floor else value
        else:
            for n in range(begin, end):
                for c in range(scale.size):
                    value = z[n, c] * scale[c] + shift[c]
                    h[n, c] = floor if value < floor else value


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def normalize_back(dv, z, count, statistics, partial, slopes, dz, threads):
    # dv, z, dz (N, C), statistics (4, C), partial (CHUNKS, 2, C) float64, slopes (2 C,) float32
    """dz from dv, the errors of batch norm's outputs; ``slopes`` receives dgamma, then dbeta. dz may be dv."""
    width = statistics.shape[1]
    mean, inverse = statistics[MEAN], statistics[INVERSE]
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, CHUNKS, 1)
        for chunk in range(first, last):
            along, alone = partial[chunk, 0], partial[chunk, 1]
            along[:] = 0
            alone[:] = 0
            begin, end = share(chunk, CHUNKS, count, 1)
            for n in range(begin, end):
                for c in range(width):
                    along[c] += np.float64(dv[n, c] * ((z[n, c] - mean[c]) * inverse[c]))
                    alone[c] += np.float64(dv[n, c])
    for c in range(width):
        slopes[c], slopes[width + c] = np.float32(_together(partial, 0, c)), np.float32(_together(partial, 1, c))
    over = np.float32(1.0 / count)
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, count, 1)
        for n in range(begin, end):
            for c in range(width):
                normal = (z[n, c] - mean[c]) * inverse[c]
                rest = dv[n, c] - slopes[width + c] * over - normal * (slopes[c] * over)
                dz[n, c] = statistics[SCALE, c] * rest


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def rectify_back(dh, h, count, threads):
    # dh, h (N, C)
    """dh where h is above 0, else 0: in place."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, count, 1)
        for n in range(begin, end):
            for c in range(dh.shape[1]):
                dh[n, c] = dh[n, c] if h[n, c] > np.float32(0) else np.float32(0)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def pool(x, samples, rows, columns, z, threads):
    # x (B, R, S, C), z (B, R // rows, S // columns, C)
    """Means of ``rows`` x ``columns`` positions side by side."""
    over = np.float32(1.0 / (rows * columns))
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for p in range(z.shape[1]):
                for q in range(z.shape[2]):
                    for c in range(z.shape[3]):
                        total = np.float32(0)
                        for i in range(rows):
                            for j in range(columns):
                                total += x[s, p * rows + i, q * columns + j, c]
                        z[s, p, q, c] = total * over


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def pool_back(dz, samples, rows, columns, dx, threads):
    # as pool
    """Errors of the inputs of :func:`pool`: the same share for each position; 0 for positions that it left out."""
    over = np.float32(1.0 / (rows * columns))
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for i in range(dx.shape[1]):
                for j in range(dx.shape[2]):
                    p, q = i // rows, j // columns
                    inside = p < dz.shape[1] and q < dz.shape[2]
                    for c in range(dx.shape[3]):
                        dx[s, i, j, c] = dz[s, p, q, c] * over if inside else np.float32(0)
