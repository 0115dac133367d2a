"""Convolutions and linear layers, forward; back is :mod:`.conv_backward`, training :mod:`.conv_update`.

Maps are (B, R, S, C): samples, rows, columns, channels, so that vectors run over channels and a window consists of few
pieces. Weights are (K, L, I, O): rows and columns of the window, inputs, outputs; of a depthwise convolution (K, L, C).
A linear layer's are (I, O). As in the reference, an output of stride s is as large as the input over s, rounded up, and
the window of output 0 begins (K - 1) // 2 before the input.

Every sum has one order, for any number of threads: over the window as described in :mod:`.conv_products`; for gradients
over the samples, and within each over the positions.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .conv_products import NO_FLOOR, Plane, Window, correlate, multiply
from .simd import share


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def convolve(x, samples, weight, bias, stride, relu, z, threads):
    # x (B, R, S, I), weight (K, L, I, O), bias (O,) | (0,), z (B, ceil(R / stride), ceil(S / stride), O), all float32
    """z = weight * x + bias for the first ``samples``; with ``relu``, max(z, 0)."""
    K, L, I, O = weight.shape
    window = Window(K, L, -((K - 1) // 2), -((L - 1) // 2), stride)
    R, S, P, Q = x.shape[1], x.shape[2], z.shape[1], z.shape[2]
    into, by, out, biased = x.reshape(-1), weight.reshape(-1), z.reshape(-1), bias.size > 0
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        floor = np.float32(0) if relu else NO_FLOOR
        for s in range(begin, end):
            correlate(
                into,
                Plane(s * R * S * I, R, S, S * I, I),
                window,
                I,
                1,
                by,
                0,
                L * I * O,
                I * O,
                O,
                bias,
                0,
                biased,
                out,
                Plane(s * P * Q * O, P, Q, Q * O, O),
                O,
                floor,
                False,
            )


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def connect(x, samples, weight, bias, relu, z, threads):
    # x (B, I), weight (I, O), bias (O,) | (0,), z (B, O), all float32
    """z = x weight + bias for the first ``samples``: a linear layer, or a 1 x 1 convolution over positions."""
    I, O = weight.shape
    into, by, out = x.reshape(-1), weight.reshape(-1), z.reshape(-1)
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        # outputs outermost, so that a block of the weights stays near, for a part of the samples at a time
        for first in range(begin, end, 512):
            multiply(
                into,
                first * I,
                I,
                0,
                1,
                by,
                0,
                0,
                O,
                1,
                I,
                bias,
                0,
                0,
                bias.size > 0,
                out,
                first * O,
                O,
                min(512, end - first),
                O,
                np.float32(0) if relu else NO_FLOOR,
                True,
            )


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def convolve_depthwise(x, samples, weight, stride, z, threads):
    # x (B, R, S, C), weight (K, L, C), z (B, ceil(R / stride), ceil(S / stride), C), all float32
    """z = weight * x for the first ``samples``, each channel with its own window."""
    K, L, C = weight.shape
    window = Window(K, L, -((K - 1) // 2), -((L - 1) // 2), stride)
    R, S, P, Q = x.shape[1], x.shape[2], z.shape[1], z.shape[2]
    into, by, out = x.reshape(-1), weight.reshape(-1), z.reshape(-1)
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            correlate(
                into,
                Plane(s * R * S * C, R, S, S * C, C),
                window,
                1,
                C,
                by,
                0,
                L * C,
                C,
                C,
                by,
                0,
                False,
                out,
                Plane(s * P * Q * C, P, Q, Q * C, C),
                C,
                NO_FLOOR,
                True,
            )
