"""What only the forward-forward algorithm computes: labels in inputs, normalized rows, goodness, peer normalization.

Rows are passes of samples: those with right labels first, then those with wrong ones.
"""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .compiling import njit
from .dense_forward import ABS_Z_RANGE
from .maths import exp, log, tanh
from .simd import popcount, share

#: keeps the norm of a silent row from dividing by 0
EPSILON = 1e-8
#: of the running mean activities
MEMORY = 0.9


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def embed(inputs, scale, offset, samples, labels, classes, strength, at, rows, threads):
    # inputs (B, I) uint8 | float32; labels (B,) uint16 | (0,); rows (R, I) float32, written from row ``at`` on
    """Inputs with their labels in place of the first C, each row divided by its root mean square.

    A label is ``strength`` at its class and 0 elsewhere; without labels, each of the first C inputs is 1 / C.
    """
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            row, total = rows[at + s], 0.0
            for i in range(row.size):
                row[i] = scale * np.float32(inputs[s, i]) + offset
            for c in range(classes):
                row[c] = np.float32(1) / np.float32(classes)
                if labels.shape[0]:
                    row[c] = strength if labels[s] == c else np.float32(0)
            for i in range(row.size):
                total += np.float64(row[i]) * np.float64(row[i])
            norm = np.float32(np.sqrt(total / row.size) + EPSILON)
            for i in range(row.size):
                row[i] /= norm


def _keep(outputs, first, last, rows, z):
    """The activations of neurons first..last for the layer above (an overload for bits, one for values)."""
    raise TypeError


@overload(_keep, inline="never")
def _keep_by_kind(outputs, first, last, rows, z):
    if outputs.dtype == types.uint64:

        def bits(outputs, first, last, rows, z):
            # outputs (R, ceil(O / 64)) uint64; first is a multiple of 64
            for o0 in range(first, last, 64):
                for r in range(rows):
                    word = np.uint64(0)
                    for o in range(o0, min(o0 + 64, last)):
                        word |= np.uint64(z[o, r] > 0) << np.uint64(o - o0)
                    outputs[r, o0 // 64] = word

        return bits

    def values(outputs, first, last, rows, z):
        # outputs (R, O) float32
        for o in range(first, last):
            for r in range(rows):
                outputs[r, o] = max(z[o, r], np.float32(0))

    return values


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def activate(z, rows, bias, factor, unit, outputs, abs_z):
    # z (O, R); bias (O,); factor (R,) | (0,); outputs (R, ceil(O / 64)) uint64 | (R, O) float32; abs_z (T,) int64
    """z = factor z + bias, and the activations: bits z > 0, or max(z, 0).

    ``abs_z[thread]`` increases by the sum of |z| in steps of 1 / ``unit``.
    """
    threads = abs_z.shape[0]
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, z.shape[0], 64)
        total = np.int64(0)
        for o in range(first, last):
            row, shift = z[o], bias[o]
            if factor.shape[0]:
                for r in range(rows):
                    row[r] = factor[r] * row[r] + shift
            else:
                for r in range(rows):
                    row[r] += shift
            for r in range(rows):
                size = np.float64(abs(row[r]))
                size = size if size < ABS_Z_RANGE else np.float64(ABS_Z_RANGE)  # a NaN, too
                total += np.int64(size * unit + 0.5)
        abs_z[lane] += total
        _keep(outputs, first, last, rows, z)


def _squares(outputs, row, width, scale):
    """The sum of a row's squared activations (an overload for bits, one for values)."""
    raise TypeError


@overload(_squares, inline="never")
def _squares_by_kind(outputs, row, width, scale):
    if outputs.dtype == types.uint64:

        def bits(outputs, row, width, scale):
            count = 0
            for k in range(outputs.shape[1]):
                count += popcount(outputs[row, k])
            return count * scale * scale

        return bits

    def values(outputs, row, width, scale):
        total = 0.0
        for o in range(width):
            total += np.float64(outputs[row, o]) * np.float64(outputs[row, o])
        return total

    return values


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def measure(outputs, rows, width, scale, goodness, factor, threads):
    # outputs (R, ceil(O / 64)) uint64 | (R, O) float32, O = ``width``; goodness (R,) float64; factor (R,) float32
    """Each row's goodness, sum h^2, and the factor that makes its root mean square 1; a bit has the value ``scale``.

    For bits, the factor is the normalized value of a bit.
    """
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, rows, 1)
        for r in range(begin, end):
            total = _squares(outputs, r, width, scale)
            goodness[r] = total
            factor[r] = np.float32(scale / (np.sqrt(total / width) + EPSILON))


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def normalize(outputs, rows, factor, threads):
    # outputs (R, O) float32; factor (R,)
    """Each row times its factor."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, rows, 1)
        for r in range(begin, end):
            row = outputs[r]
            for o in range(row.size):
                row[o] *= factor[r]


@njit(nogil=True, cache=True, error_model="numpy")
def loss_and_slopes(goodness, samples, width, coefficient):
    # goodness (R,) float64; coefficient (R,) float32; R = 2 ``samples``
    """The layer's loss, and the coefficient of each row's activations in its gradient.

    With l = goodness - O the loss is the mean over the rows of log(1 + exp(-l)), right labels, and log(1 + exp(l)),
    wrong ones; the coefficients are 2 (sigmoid(l) - Y) / R.
    """
    total = 0.0
    for r in range(2 * samples):
        excess = goodness[r] - width
        right = r < samples
        x = -excess if right else excess
        total += max(x, 0.0) + log(1.0 + exp(-abs(x))) + 0.0 * x  # exp and log do not pass a NaN on
        p = 0.5 + 0.5 * tanh(0.5 * excess)
        coefficient[r] = np.float32((p - (1.0 if right else 0.0)) / samples)
    return total / (2 * samples)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update_running_mean(z, samples, scale, binary, mean, threads):
    # z (O, R); mean (O,) float32
    """The running mean activity of each neuron, 0.9 mean + 0.1 (mean of h over the rows of right labels)."""
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, z.shape[0], 16)
        for o in range(first, last):
            total = 0.0
            for r in range(samples):
                h = np.float64(max(z[o, r], np.float32(0)))
                if binary:
                    h = np.float64(scale if z[o, r] > 0 else 0.0)
                total += h
            mean[o] = np.float32(MEMORY * np.float64(mean[o]) + (1.0 - MEMORY) * (total / samples))


@njit(nogil=True, cache=True, error_model="numpy")
def average(mean):
    # mean (O,)
    """The mean of the neurons' mean activities, and their variance: the peer loss."""
    total, spread = 0.0, 0.0
    for o in range(mean.size):
        total += np.float64(mean[o])
    middle = total / mean.size
    for o in range(mean.size):
        spread += (np.float64(mean[o]) - middle) ** 2
    return middle, spread / mean.size


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def errors(z, samples, scale, binary, coefficient, mean, middle, peer, threads):
    # z (O, R), becomes dz; coefficient (R,); mean (O,)
    """dz = coefficient h, and in the rows of right labels + ``peer`` (2 / O) (mean - middle) (0.1 / B).

    With ``binary``, h = scale [z > 0], and dz counts only where |z| < 1. There is no factor [z > 0]: the gradient
    passes through the ReLU unchanged and reaches inactive neurons, too.
    """
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, z.shape[0], 16)
        for o in range(first, last):
            row = z[o]
            part = peer * (2.0 / z.shape[0]) * (np.float64(mean[o]) - middle) * ((1.0 - MEMORY) / samples)
            for r in range(2 * samples):
                value = row[r]
                h = max(value, np.float32(0))
                if binary:
                    h = np.float32(scale) if value > 0 else np.float32(0)
                slope = np.float32(np.float64(coefficient[r]) * np.float64(h) + (part if r < samples else 0.0))
                row[r] = slope if not binary or abs(value) < np.float32(1) else np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def add(z, samples, factor, logits):
    # z (C, R); factor (R,) | (0,); logits (C, B)
    """logits += factor z."""
    for c in range(logits.shape[0]):
        for s in range(samples):
            logits[c, s] += z[c, s] * factor[s] if factor.shape[0] else z[c, s]


@njit(nogil=True, cache=True, error_model="numpy")
def best(scores, samples, labels):
    # scores (C, B) float64; labels (B,) uint16
    """Number of samples whose largest score (the first, if equal) is not that of their label."""
    wrong = 0
    for s in range(samples):
        top = 0
        for c in range(1, scores.shape[0]):
            if scores[c, s] > scores[top, s]:
                top = c
        wrong += top != labels[s]
    return wrong
