"""Reproducible random numbers by counter: Philox4x32-10, keyed by seed, layer, purpose and index.

Nothing is drawn in sequence. Number n of a layer's weights depends on n alone, so a slice of the initial weights, or a
row of the fixed projection, can be generated without the rest, in any order, on any number of threads.

    key      (seed mod 2^32, seed div 2^32)
    counter  (index mod 2^32, index div 2^32, layer, purpose)
"""

from __future__ import annotations

import math

import numpy as np

WEIGHT, BIAS, PROJECTION, SHUFFLE, ORDER, TERNARY = 1, 2, 3, 4, 10, 11  # purposes

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # golden ratio and sqrt(3) - 1, as fractions of 2^32
_ROUNDS = 10


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

    Parameters
    ----------
    counter : ndarray of uint32, (..., 4)
    key : ndarray of uint32, (2,)

    Returns
    -------
    ndarray of uint32, (..., 4)
        Four words per counter, uniform over all 32-bit numbers.

    Examples
    --------
    >>> [f"{word:08x}" for word in philox(np.zeros(4, np.uint32), np.zeros(2, np.uint32))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter).astype(np.uint64), -1, 0)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(_ROUNDS):
        a, b = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2  # products of two 32-bit numbers: high and low halves
        c0, c1 = (b >> _HALF) ^ c1 ^ np.uint64(k0), b & _LOW
        c2, c3 = (a >> _HALF) ^ c3 ^ np.uint64(k1), a & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) % 2**32, (k1 + _KEY_STEPS[1]) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def blocks(first: int, count: int, *, seed: int, layer: int, purpose: int) -> np.ndarray:
    """The `count` blocks of random words starting at index `first`.

    Parameters
    ----------
    first, count : int
        Indices `first` to `first` + `count` - 1, below 2^64.
    seed : int
        0 to 2^64 - 1.
    layer : int
        Layer, from 0.
    purpose : int
        Separates independent uses of the numbers, for example `WEIGHT`, `BIAS`, `PROJECTION` or `SHUFFLE`.

    Returns
    -------
    ndarray of uint32, (count, 4)
    """
    index = np.arange(count, dtype=np.uint64) + np.uint64(first)
    counter = np.empty((count, 4), dtype=np.uint32)
    counter[:, 0] = index & _LOW
    counter[:, 1] = index >> _HALF
    counter[:, 2] = layer
    counter[:, 3] = purpose
    return philox(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint32))


def uniform(first: int, count: int, bound: float, *, seed: int, layer: int, purpose: int) -> np.ndarray:
    """Elements `first` to `first` + `count` - 1 of a uniform sequence in +-`bound`.

    Element n is computed from word u, lane ``n % 4`` of block ``n // 4``: the odd number 2 (u >> 8) + 1 - 2^24, exact
    in float32, times 2^-24, times `bound` as float32. It is never 0, never the bound, and symmetric about 0.

    Parameters
    ----------
    first, count : int
        Which elements.
    bound : float
        Half the width of the interval.
    seed, layer, purpose : int
        As in :func:`blocks`.

    Returns
    -------
    ndarray of float32, (count,)
    """
    first_block, stop_block = first // 4, -(-(first + count) // 4)
    words = blocks(first_block, stop_block - first_block, seed=seed, layer=layer, purpose=purpose).ravel()
    u = words[first - 4 * first_block :][:count].astype(np.int64)
    fraction = (2 * (u >> 8) + 1 - 2**24).astype(np.float32) * np.float32(2.0**-24)
    return fraction * np.float32(bound)


def normal(first: int, count: int, deviation: float, *, seed: int, layer: int, purpose: int) -> np.ndarray:
    """Elements `first` to `first` + `count` - 1 of a normal sequence with mean 0 (Box and Muller 1958).

    Elements 2 k and 2 k + 1 are the cosine and the sine branch of block k, computed in float64 and rounded once to
    float32.

    Parameters
    ----------
    first, count : int
        Which elements.
    deviation : float
        Standard deviation.
    seed, layer, purpose : int
        As in :func:`blocks`.

    Returns
    -------
    ndarray of float32, (count,)
    """
    pairs = (first + count + 1) // 2 - first // 2
    lane = blocks(first // 2, pairs, seed=seed, layer=layer, purpose=purpose).astype(np.float64)
    u1 = (lane[:, 0] * 2.0**32 + lane[:, 1] + 0.5) * 2.0**-64  # in (0, 1]: its logarithm is finite
    angle = 2 * math.pi * lane[:, 2] * 2.0**-32
    both = np.sqrt(-2 * np.log(u1)) * deviation * np.stack([np.cos(angle), np.sin(angle)])  # (2, pairs)
    drawn: np.ndarray = both.T.ravel()[first % 2 :][:count].astype(np.float32)
    return drawn


def weights(outputs: int, inputs: int, *, seed: int, layer: int) -> np.ndarray:
    """Initial weights of a fully connected layer, uniform in +-1/sqrt(I). Element (o, i) is number o I + i.

    Returns
    -------
    W : ndarray of float32, (O, I)
    """
    flat = uniform(0, outputs * inputs, 1 / math.sqrt(inputs), seed=seed, layer=layer, purpose=WEIGHT)
    return flat.reshape(outputs, inputs)


def biases(outputs: int, inputs: int, *, seed: int, layer: int) -> np.ndarray:
    """Initial biases of a fully connected layer, uniform in +-1/sqrt(I). Element o is number o.

    Returns
    -------
    b : ndarray of float32, (O,)
    """
    return uniform(0, outputs, 1 / math.sqrt(inputs), seed=seed, layer=layer, purpose=BIAS)


def projection(classes: int, outputs: int, *, seed: int, layer: int) -> np.ndarray:
    """Fixed projection of a layer, normal with variance 2 / O. Element (c, o) is number o C + c.

    Returns
    -------
    P : ndarray of float32, (C, O)
    """
    flat = normal(0, outputs * classes, math.sqrt(2 / outputs), seed=seed, layer=layer, purpose=PROJECTION)
    return flat.reshape(outputs, classes).T.copy()


def turn(place: int, count: int, epoch: int, *, seed: int, purpose: int = ORDER) -> int:
    """The sample or batch, of `count`, at a given place in an epoch; both count from 0.

    A Feistel network of four rounds permutes 0 .. 4^h - 1, the smallest such range that holds `count` places; results
    of `count` or more are permuted again. Round r adds word 0 of block epoch 2^32 + half of layer r.
    """
    half = 1
    while 4**half < count:
        half += 1
    while True:
        left, right = divmod(place, 2**half)
        for layer in range(4):
            word = int(blocks((epoch << 32) + right, 1, seed=seed, layer=layer, purpose=purpose)[0, 0])
            left, right = right, left ^ word % 2**half
        place = left * 2**half + right
        if place < count:
            return place


def ternary(classes: int, outputs: int, *, seed: int, layer: int) -> np.ndarray:
    """Ternary head (C, O): a sixth of it, rounded down, is +1, a sixth is -1, and the rest is 0.

    Element (c, o) is number o C + c of C O. Its value depends on its place in a permutation (:func:`turn`, with the
    layer instead of the epoch): below a sixth, below two sixths, or beyond.
    """
    count = classes * outputs
    places = np.array([turn(n, count, layer, seed=seed, purpose=TERNARY) for n in range(count)])
    flat = np.where(places < count // 6, 1, np.where(places < 2 * (count // 6), -1, 0))
    return flat.astype(np.float32).reshape(outputs, classes).T.copy()
