"""What only direct feedback alignment computes: the error of the output, and its projections to the hidden layers."""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .maths import tanh
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


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def project(z, samples, error, feedback, step, binary, threads):
    # z (O, B), becomes dz; error (C, B); feedback (O, C)
    """dz = (feedback error) (1 - t^2), t = tanh z, which is in z already; with ``binary`` t = ``step``, where |z| < 1.

    The classes are added in their order.
    """
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, z.shape[0], 1)
        for o in range(first, last):
            row, own = z[o], feedback[o]
            for s in range(samples):
                t = step if binary else row[s]
                passes = not binary or abs(row[s]) < np.float32(1)
                total = np.float32(0)
                for c in range(own.shape[0]):
                    total += own[c] * error[c, s]
                row[s] = total * (np.float32(1) - t * t) if passes else np.float32(0)
