"""Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011): counter-based random numbers, so that any element can be
regenerated.

The key is the recipe's seed; the counter names the element: (index, layer, purpose). Element n of layer l is
the same number in any order, tile or run.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .maths import cos_turn, log_of_normal
from .simd import share

WEIGHT, BIAS, PROJECTION, SHUFFLE, MASK, WRONG, MOMENT, RESCALE = 1, 2, 3, 4, 5, 6, 7, 8
ORDER, TERNARY = 10, 11  # 9 is augmentation's


@njit(**INLINED)
def philox(c0, c1, c2, c3, k0, k1):
    """One block: four uint32 from a counter of four and a key of two words, all held in uint64."""
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a = np.uint64(0xD2511F53) * c0
        b = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ k0, b & low, (a >> np.uint64(32)) ^ c3 ^ k1, a & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@njit(**INLINED)
def block(index, layer, purpose, seed):
    """The block of one index, keyed and counted as the project does everywhere."""
    low, seed, index = np.uint64(0xFFFFFFFF), np.uint64(seed), np.uint64(index)
    return philox(
        index & low, index >> np.uint64(32), np.uint64(layer), np.uint64(purpose), seed & low, seed >> np.uint64(32)
    )


@njit(cache=True, error_model="numpy")
def uniform(out, first, last, low, high, columns, layer, purpose, seed, bound):
    # out flat ((last - first) (high - low),) float32
    """Rows ``first`` to ``last``, columns ``low`` to ``high`` of a matrix of ``columns`` columns: uniform in
    +-``bound``.

    Open, symmetric about 0, in steps of bound 2**-23; element n = row * columns + column is lane n % 4 of block n // 4.
    """
    k = 0
    for row in range(first, last):
        for column in range(low, high):
            n = row * columns + column
            word = block(n // 4, layer, purpose, seed)[n % 4]
            out[k] = np.float32((2.0 * np.float64(word >> np.uint64(8)) - 16777215.0) / 16777216.0) * bound
            k += 1


@njit(**INLINED)
def _two_normals(k, layer, purpose, seed, deviation):
    # both branches of Box and Muller, so that a block makes two
    a, b, c, _ = block(k, layer, purpose, seed)
    radius = math.sqrt(-2.0 * log_of_normal((np.float64(a) * 4294967296.0 + np.float64(b) + 0.5) * 2.0**-64))
    turn = np.float64(c) * 2.0**-32
    before = turn + 0.75
    before = before - 1.0 if before >= 1.0 else before  # a quarter back: the sine
    return np.float32(radius * deviation * cos_turn(turn)), np.float32(radius * deviation * cos_turn(before))


@njit(error_model="numpy")
def _normal(flat, first, layer, purpose, seed, deviation):
    # elements first.. of a sequence whose elements 2 k and 2 k + 1 come from block k
    skip = first % 2
    if skip and flat.size:
        flat[0] = _two_normals(first // 2, layer, purpose, seed, deviation)[1]
    pairs = (flat.size - skip) // 2
    for k in range(pairs):
        flat[skip + 2 * k], flat[skip + 2 * k + 1] = _two_normals((first + 1) // 2 + k, layer, purpose, seed, deviation)
    if skip + 2 * pairs < flat.size:
        flat[flat.size - 1] = _two_normals((first + 1) // 2 + pairs, layer, purpose, seed, deviation)[0]


@njit(cache=True, error_model="numpy")
def normal(out, first, layer, seed, deviation):
    # out (n, C) float32: rows ``first`` and following of the projection, counted row by row
    """Standard normals times ``deviation``."""
    _normal(out.reshape(out.size), first * out.shape[1], layer, PROJECTION, seed, deviation)


@njit(cache=True, error_model="numpy")
def shuffle(order, seed):
    # order (n,) int64, shuffled in place
    """Fisher and Yates, from the end; a draw below k is the high half of 32 random bits times k."""
    for k in range(order.size - 1, 0, -1):
        word = block(k, 0, SHUFFLE, seed)[0]
        other = np.int64((word * np.uint64(k + 1)) >> np.uint64(32))
        order[k], order[other] = order[other], order[k]


@njit(cache=True, error_model="numpy")
def turn(place, count, epoch, seed):
    """The element of ``count`` at a place in an epoch: a random order that needs no storage."""
    return _permuted(place, count, epoch, ORDER, seed)


@njit(cache=True, error_model="numpy")
def ternary(out, first, outputs, layer, seed):
    # out (n, C) float32: rows ``first`` and following of a matrix (``outputs``, C)
    """A sixth of the matrix, rounded down, is +1, a sixth -1, the rest 0: by an element's place in a permutation."""
    classes = out.shape[1]
    count = outputs * classes
    for o in range(out.shape[0]):
        for c in range(classes):
            place = _permuted((first + o) * classes + c, count, layer, TERNARY, seed)
            out[o, c] = 1.0 if place < count // 6 else (-1.0 if place < 2 * (count // 6) else 0.0)


@njit(error_model="numpy")
def _permuted(place, count, epoch, purpose, seed):
    """The image of ``place`` under a random permutation of 0 .. ``count`` - 1.

    Four rounds of a Feistel network on the two halves of a place, repeated until it is below ``count``. A round adds
    lane 0 of block (epoch, half) of "layer" round.
    """
    half = np.uint64(1)
    while (np.uint64(1) << (half + half)) < np.uint64(count):
        half += np.uint64(1)
    low = (np.uint64(1) << half) - np.uint64(1)
    value = np.uint64(place)
    while True:
        left, right = value >> half, value & low
        for rounds in range(4):
            word = block((np.uint64(epoch) << np.uint64(32)) + right, rounds, purpose, seed)[0]
            left, right = right, left ^ (word & low)
        value = (left << half) | right
        if value < np.uint64(count):
            return np.int64(value)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def mask(out, first, samples, width, kept, step, layer, seed, threads):
    # out (B, ceil(width / 64)) uint64; its rows are ``samples`` of a batch from the ``first`` on
    """Random bits, set with probability ``kept`` / 65536: bit i of sample s is lane n % 8 of block n // 8 of a step.

    n = s * (width, whole words) + i; each step has 2^32 blocks of its own.
    """
    words = out.shape[1]
    for thread in prange(threads):
        begin, end = share(np.int64(thread), threads, samples, 1)
        for s in range(begin, end):
            for k in range(words):
                word = np.uint64(0)
                for part in range(8):
                    index = (np.uint64(step) << np.uint64(32)) + np.uint64(((first + s) * words + k) * 8 + part)
                    lanes = block(index, layer, MASK, seed)
                    for lane in range(4):
                        at = np.uint64(8 * part + 2 * lane)
                        word |= np.uint64((lanes[lane] & np.uint64(0xFFFF)) < kept) << at
                        word |= np.uint64((lanes[lane] >> np.uint64(16)) < kept) << (at + np.uint64(1))
                if 64 * (k + 1) > width:
                    word &= ~np.uint64(0) >> np.uint64(64 * (k + 1) - width)
                out[s, k] = word


@njit(cache=True, error_model="numpy")
def wrong_labels(labels, samples, classes, epoch, first, out, seed):
    # labels, out (B,) uint16
    """A wrong label for each sample, uniform over the others, by epoch and sample; ``first`` is the batch's first."""
    for s in range(samples):
        word = block((np.uint64(epoch) << np.uint64(32)) + np.uint64(first + s), 0, WRONG, seed)[0]
        other = (word * np.uint64(classes - 1)) >> np.uint64(32)
        out[s] = other + np.uint64(1) if other >= labels[s] else other


@njit(cache=True, error_model="numpy")
def normals(out, first, layer, purpose, seed, deviation):
    # out flat (n,) float32: elements ``first`` and following; element n is one of the two of block n // 2
    """Initial weights or biases: standard normals times ``deviation``."""
    _normal(out, first, layer, purpose, seed, deviation)
