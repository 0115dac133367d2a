"""What only direct random target projection and its relatives compute: activations, and errors computed from labels."""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .compiling import INLINED, njit
from .maths import log, tanh
from .simd import share


def _activate(outputs, first, last, samples, size, binary, relu, z):
    """Store the outputs for the layer above; unless ``binary``, also in z (an overload for bits, one for values)."""
    raise TypeError


@overload(_activate, inline="never")
def _activate_by_kind(outputs, first, last, samples, size, binary, relu, z):
    if outputs.dtype == types.uint64:

        def bits(outputs, first, last, samples, size, binary, relu, z):
            # outputs (B, ceil(O / 64)) uint64, z (O, B): sign(z) as a bit, 1 for 0 (ReLU: 0); first is a multiple of 64
            for o0 in range(first, last, 64):
                for s in range(samples):
                    word = np.uint64(0)
                    for o in range(o0, min(o0 + 64, last)):
                        word |= np.uint64(z[o, s] > 0 if relu else z[o, s] >= 0) << np.uint64(o - o0)
                    outputs[s, o0 // 64] = word

        return bits

    def values(outputs, first, last, samples, size, binary, relu, z):
        # outputs (B, O) float32
        for o in range(first, last):
            row = z[o]
            if binary:
                below = np.float32(0) if relu else -size
                for s in range(samples):
                    outputs[s, o] = size if (row[s] > 0 if relu else row[s] >= 0) else below
                continue
            if relu:
                for s in range(samples):
                    row[s] = np.float32(0) if row[s] < 0 else row[s]  # a NaN stays
            else:
                for s in range(samples):
                    row[s] = np.float32(tanh(np.float64(row[s])))
            for s in range(samples):
                outputs[s, o] = row[s]

    return values


@njit(**INLINED)
def sent(error, value, size, binary, relu):
    """The error of z, from that of the output h: error (1 - h^2), or error [h > 0] with ``relu``.

    ``value`` is h. With ``binary`` it is z, |h| is ``size``, and errors count only where |z| < 1.
    """
    passes = not binary or abs(value) < np.float32(1)
    if relu:
        return error if passes and value > np.float32(0) else np.float32(0)
    t = size if binary else value
    return error * (np.float32(1) - t * t) if passes else np.float32(0)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def hidden(z, samples, labels, feedback, size, binary, relu, outputs, threads):
    # z (O, B), becomes dz; labels (B,) uint16; feedback (O, C); outputs (B, ceil(O / 64)) uint64 | (B, O) float32
    """A hidden layer's outputs h = tanh z, or max(z, 0) with ``relu``, and its errors by :func:`sent`.

    dh is feedback[label]. With ``binary``, h is sign(z) ``size``, or [z > 0] ``size`` with ``relu``. Without labels,
    (0,), no errors are computed; z is then h, or with ``binary`` as it was.
    """
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, z.shape[0], 64)
        _activate(outputs, first, last, samples, size, binary, relu, z)
        for o in range(first, last if labels.shape[0] else first):
            row, own = z[o], feedback[o]
            for s in range(samples):
                row[s] = sent(own[labels[s]], row[s], size, binary, relu)


@njit(nogil=True, cache=True, error_model="numpy")
def output(z, samples, labels, scale, binary, result, of):
    # z (C, B), becomes dz; labels (B,) uint16; result (2,) float64
    """y = sigmoid(z), with ``binary`` of scale sign(z); dz = (y - Y) / (B C), B = ``of``; result += loss, wrong.

    The loss of a sample is its binary cross-entropy averaged over the classes, logarithms not below -100. The answer is
    the class with the largest y, the first of equals.
    """
    classes = z.shape[0]
    for s in range(samples):
        best, top, total = 0, -np.inf, 0.0
        for c in range(classes):
            q = np.float64(z[c, s])
            passes = not binary or abs(q) < 1.0
            if binary:
                q = scale if q >= 0 else -scale
            y = 0.5 + 0.5 * tanh(0.5 * q)
            if q > top:  # as y, but where many y are 1
                best, top = c, q
            right = labels[s] == c
            p = y if right else 0.5 - 0.5 * tanh(0.5 * q)
            total -= max(log(p), -100.0) if p > 0 else -100.0
            slope = (y - (1.0 if right else 0.0)) / (of * classes)
            z[c, s] = np.float32(slope) if passes else np.float32(0)
            if not abs(q) < np.inf:
                total = np.nan
        result[0] += total / classes
        result[1] += 1.0 if best != labels[s] else 0.0
