"""What only weight mirroring computes: the product of its matrices, noise, and errors that mirror a layer's weights."""

from __future__ import annotations

import math

import numpy as np

from .compiling import njit
from .maths import exp, log
from .random import _normal

#: purpose of the noise's random numbers, beside those of :mod:`.random`
NOISE = 12


@njit(nogil=True, cache=True, error_model="numpy")
def times(rows, matrix, inputs, out):
    # rows (C, ..), matrix flat (O I,): (O, I); out (C, ..) receives I columns
    """Each row's first O numbers times the matrix; terms are added in their order."""
    outputs = matrix.size // inputs
    for c in range(rows.shape[0]):
        row = out[c]
        for i in range(inputs):
            row[i] = 0
        for o in range(outputs):
            factor, first = rows[c, o], o * inputs
            for i in range(inputs):
                row[i] += factor * matrix[first + i]


@njit(nogil=True, cache=True, error_model="numpy")
def factor(product, size, layers):
    # product (I, C)
    """The factor of each of ``layers`` matrices after which the product's standard deviation is ``size``."""
    mean, total = 0.0, 0.0
    for i in range(product.shape[0]):
        for c in range(product.shape[1]):
            mean += np.float64(product[i, c])
    mean /= product.size
    for i in range(product.shape[0]):
        for c in range(product.shape[1]):
            away = np.float64(product[i, c]) - mean
            total += away * away
    return np.float32(exp(log(size / math.sqrt(total / (product.size - 1))) / layers))


@njit(nogil=True, cache=True, error_model="numpy")
def noise(out, step, layer, seed):
    # out flat (n,) float32
    """0.1 times standard normals of a step and layer."""
    _normal(out, step * out.size, layer, NOISE, seed, 0.1)


@njit(nogil=True, cache=True, error_model="numpy")
def centre(out):
    # out flat (n,) float32
    """The numbers less their mean, in place."""
    mean = 0.0
    for k in range(out.size):
        mean += np.float64(out[k])
    less = np.float32(mean / out.size)
    for k in range(out.size):
        out[k] -= less


@njit(nogil=True, cache=True, error_model="numpy")
def mirrored(z, samples, top):
    # z (O, B), becomes errors
    """-f(z) / B: the errors whose gradient draws a matrix towards the transposed weights.

    f is max(z, 0), or at the ``top`` the softmax.
    """
    part = np.float32(1) / np.float32(samples)
    for s in range(samples):
        largest, total = np.float32(-np.inf), 0.0
        for o in range(z.shape[0]):
            largest = max(largest, z[o, s])
        if top:
            for o in range(z.shape[0]):
                total += exp(np.float64(z[o, s] - largest))
        for o in range(z.shape[0]):
            f = np.float32(exp(np.float64(z[o, s] - largest)) / total) if top else max(z[o, s], np.float32(0))
            z[o, s] = -f * part
