"""Convolutions whose channels are divided into groups: a group of outputs sees its own group of inputs only.

Maps are those of :mod:`.conv_forward`, with the channels of a group side by side. Weights are (G, K, L, I / G, O / G):
groups, rows and columns of the window, inputs and outputs of a group.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .conv_products import NO_FLOOR, Plane, Window, correlate, multiply
from .conv_update import Tensor, train
from .simd import share


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def convolve_grouped(x, samples, weight, bias, stride, relu, packed, z):
    # x (B, R, S, I), weight (G, K, L, I / G, O / G), bias (O,), packed (T, R S I / G), z (B, ., ., O), all float32
    """z = weight * x + bias for the first ``samples``; with ``relu``, max(z, 0). ``packed`` is scratch."""
    G, K, L, depth, width = weight.shape
    window = Window(K, L, -((K - 1) // 2), -((L - 1) // 2), stride)
    R, S, P, Q, I, O = x.shape[1], x.shape[2], z.shape[1], z.shape[2], G * depth, G * width
    into, by, out, own = x.reshape(-1), weight.reshape(-1), z.reshape(-1), packed.reshape(-1)
    threads, floor = packed.shape[0], np.float32(0) if relu else NO_FLOOR
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        at = np.int64(lane) * packed.shape[1]
        for s in range(begin, end):
            for g in range(G):
                for place in range(R * S):
                    for i in range(depth):
                        own[at + place * depth + i] = into[(s * R * S + place) * I + g * depth + i]
                correlate(
                    own,
                    Plane(at, R, S, S * depth, depth),
                    window,
                    depth,
                    1,
                    by,
                    g * K * L * depth * width,
                    L * depth * width,
                    depth * width,
                    width,
                    bias,
                    g * width,
                    True,
                    out,
                    Plane(s * P * Q * O + g * width, P, Q, Q * O, O),
                    width,
                    floor,
                    False,
                )


@njit(**INLINED)
def _reached(tap, before, stride, size, outputs):
    """First and last output whose window has element ``tap`` inside a side of ``size`` inputs."""
    return max(0, (before - tap + stride - 1) // stride), min(outputs, (size - 1 + before - tap) // stride + 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _gradient(x, R, S, I, x0, dz, P, Q, O, z0, K, L, depth, width, stride, out, at):
    """Add the gradient of one group's weights for one sample, whose group begins at x0 and z0, to out[at :]."""
    top, left = (K - 1) // 2, (L - 1) // 2
    for k in range(K):
        r0, r1 = _reached(k, top, stride, R, P)
        for l in range(L):
            c0, c1 = _reached(l, left, stride, S, Q)
            if r0 < r1 and c0 < c1:
                to = at + (k * L + l) * depth * width
                multiply(
                    x,
                    x0 + ((r0 * stride + k - top) * S + c0 * stride + l - left) * I,
                    1,
                    stride * S * I,
                    stride * I,
                    dz,
                    z0 + (r0 * Q + c0) * O,
                    Q * O,
                    O,
                    r1 - r0,
                    c1 - c0,
                    out,
                    to,
                    width,
                    True,
                    out,
                    to,
                    width,
                    depth,
                    width,
                    NO_FLOOR,
                    False,
                )


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def train_grouped(x, samples, dz, groups, window, stride, tensor, step, scratch, lost):
    # x (B, R, S, I), dz (B, P, Q, O), tensor: Tensor of (G, K, L, I / G, O / G), scratch (T, K L I O / G^2), lost (T,)
    """The gradient of the weights of :func:`convolve_grouped`, group by group, and the optimizer's step with it.

    ``lost`` tells for each thread's share whether a number is no longer finite.
    """
    _, R, S, I = x.shape
    _, P, Q, O = dz.shape
    K, L = window
    depth, width, size = I // groups, O // groups, scratch.shape[1]
    own, into, errors, threads = scratch.reshape(-1), x.reshape(-1), dz.reshape(-1), scratch.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, groups, 1)
        at, gone = np.int64(lane) * size, False
        for g in range(begin, end):
            own[at : at + size] = np.float32(0)
            for s in range(samples):
                x0, z0 = s * R * S * I + g * depth, s * P * Q * O + g * width
                _gradient(into, R, S, I, x0, errors, P, Q, O, z0, K, L, depth, width, stride, own, at)
            low, high = g * size, (g + 1) * size
            moments = tensor.moment1[low:high], tensor.moment2[low:high]
            gone |= train(Tensor(tensor.weight[low:high], *moments), own[at : at + size], step)
        lost[lane] = gone
