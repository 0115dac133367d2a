"""Further operations between convolutions: tanh, max pooling, and errors that come directly from the top.

Maps are (N, C), positions of all samples by channels, float32.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .maths import tanh
from .simd import share


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def activate(z, count, threads):
    # z (N, C)
    """tanh z, in place."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, count, 1)
        for n in range(begin, end):
            for c in range(z.shape[1]):
                z[n, c] = np.float32(tanh(np.float64(z[n, c])))


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def activate_back(dh, h, count, threads):
    # dh, h (N, C)
    """dh (1 - h^2) for h = tanh z: in place."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, count, 1)
        for n in range(begin, end):
            for c in range(dh.shape[1]):
                dh[n, c] *= np.float32(1) - h[n, c] * h[n, c]


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def largest(x, samples, rows, columns, z, threads):
    # x (B, R, S, C), z (B, R // rows, S // columns, C)
    """Maxima of ``rows`` x ``columns`` positions side by side; a NaN in a window that is not finite stays."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for p in range(z.shape[1]):
                for q in range(z.shape[2]):
                    for c in range(z.shape[3]):
                        top = x[s, p * rows, q * columns, c]
                        for i in range(rows):
                            for j in range(columns):
                                value = x[s, p * rows + i, q * columns + j, c]
                                top = top if value <= top else value
                        z[s, p, q, c] = top


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def largest_back(dz, x, samples, rows, columns, dx, threads):
    # as largest
    """Errors of the inputs of :func:`largest`: all of it to the first maximum of a window, row by row, else 0."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            dx[s] = 0
            for p in range(dz.shape[1]):
                for q in range(dz.shape[2]):
                    for c in range(dx.shape[3]):
                        row, column, top = p * rows, q * columns, x[s, p * rows, q * columns, c]
                        for i in range(p * rows, (p + 1) * rows):
                            for j in range(q * columns, (q + 1) * columns):
                                if x[s, i, j, c] > top:
                                    row, column, top = i, j, x[s, i, j, c]
                        dx[s, row, column, c] = dz[s, p, q, c]


@njit(nogil=True, cache=True, error_model="numpy")
def one_hot(labels, samples, out):
    # labels (B,) uint16, out (B, C)
    """The labels as rows with one 1."""
    out[:samples] = 0
    for s in range(samples):
        out[s, labels[s]] = 1


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def project(signal, samples, feedback, error, threads):
    # signal (B, C), feedback (C, N), error (B, N)
    """error = signal feedback; the classes are added in their order."""
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, error.shape[1], 16)
        for s in range(samples):
            row = error[s]
            for n in range(first, last):
                row[n] = 0
            for c in range(signal.shape[1]):
                sent, own = signal[s, c], feedback[c]
                for n in range(first, last):
                    row[n] += sent * own[n]
