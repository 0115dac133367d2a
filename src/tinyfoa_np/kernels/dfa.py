"""What only direct feedback alignment computes: the error of the output, and its projections to the hidden layers."""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .drtp import sent
from .maths import exp, log, tanh
from .simd import share


@njit(nogil=True, cache=True, error_model="numpy")
def difference(z, samples, labels, scale, binary, error):
    # z (C, B); labels (B,) uint16; error (C, B)
    """error = y - Y with y = sigmoid(z), with ``binary`` of scale sign(z); Y is one-hot."""
    for c in range(z.shape[0]):
        for s in range(samples):
            q = np.float64(z[c, s])
            if binary:
                q = scale if q >= 0 else -scale
            y = 0.5 + 0.5 * tanh(0.5 * q)
            error[c, s] = np.float32(y - (1.0 if labels[s] == c else 0.0))


@njit(nogil=True, cache=True, error_model="numpy")
def softmax(z, samples, labels, scale, binary, masked, error, result, of):
    # z, error (C, B), error may be z; labels (B,) uint16; result (2,) float64
    """error = (p - Y) / ``of``, p = softmax(z), with ``binary`` of scale sign(z); result += loss, wrong.

    The loss is the cross-entropy; the answer is the class with the largest p, the first of equals. With ``masked``,
    errors count only where |z| < 1.
    """
    for s in range(samples):
        best, top, total, right = 0, -np.inf, 0.0, 0.0
        for c in range(z.shape[0]):
            q = _scaled(z[c, s], scale, binary)
            if q > top:
                best, top = c, q
            if labels[s] == c:
                right = q
        for c in range(z.shape[0]):
            total += exp(_scaled(z[c, s], scale, binary) - top)
        for c in range(z.shape[0]):
            p = exp(_scaled(z[c, s], scale, binary) - top) / total
            passes = not masked or abs(z[c, s]) < np.float32(1)
            error[c, s] = np.float32((p - (1.0 if labels[s] == c else 0.0)) / of) if passes else np.float32(0)
        result[0] += log(total) - (right - top)
        result[1] += 1.0 if best != labels[s] else 0.0


@njit(**INLINED)
def _scaled(z, scale, binary):
    if binary:
        return scale if z >= 0 else -scale
    return np.float64(z)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def project(z, samples, error, feedback, size, binary, relu, threads):
    # z (O, B), becomes dz; error (C, B); feedback (O, C)
    """dz from dh = feedback error by :func:`.drtp.sent` with the other arguments; z holds h, or with ``binary`` z.

    The classes are added in their order.
    """
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, z.shape[0], 1)
        for o in range(first, last):
            row, own = z[o], feedback[o]
            for s in range(samples):
                total = np.float32(0)
                for c in range(own.shape[0]):
                    total += own[c] * error[c, s]
                row[s] = sent(total, row[s], size, binary, relu)
