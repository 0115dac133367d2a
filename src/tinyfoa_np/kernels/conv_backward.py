"""Errors of the inputs of a convolution or a linear layer, from those of its outputs.

Shapes are those of :mod:`.conv_forward`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .conv_products import NO_FLOOR, Plane, Window, correlate, multiply
from .simd import share

#: inputs whose weights are turned over at a time, per thread
PANEL = 64


def panel_width(weights: tuple[int, ...]) -> int:
    """Elements per thread of the scratch in which weights (K, L, I, O), (I, O) or (K, L, C) are transposed."""
    if len(weights) == 3:
        return int(np.prod(weights))
    return int(np.prod(weights[:-2], dtype=int)) * weights[-1] * min(PANEL, weights[-2])


@njit(**INLINED)
def _backward_window(base, stride, taps):
    """For each ``stride``-th input from ``base``: how many taps see it, the last one, and its output for the first.

    Output p sees input p * stride + t - before with tap t, before = (taps - 1) // 2.
    """
    before = (taps - 1) // 2
    last = taps - 1 - (taps - 1 - (base + before)) % stride
    number = last // stride + 1 if last >= 0 else 0
    return number, last, (base + before - last) // stride


@njit(error_model="numpy")
def _turn_over(weight, K, L, I, O, first, width, stride, panel, at):
    """Weights of inputs first .. first + width, last tap first, as (class of inputs, taps, O, width) from panel[at] on.

    Inputs of one class, ``stride`` apart, are seen by the same taps.
    """
    for i in range(stride):
        rows, last_row, _ = _backward_window(i, stride, K)
        for j in range(stride):
            columns, last_column, _ = _backward_window(j, stride, L)
            for a in range(rows):
                for b in range(columns):
                    tap = (last_row - a * stride) * L + last_column - b * stride
                    for n in range(width):
                        begin, to = (tap * I + first + n) * O, at + (a * columns + b) * O * width + n
                        for o in range(O):
                            panel[to + o * width] = weight[begin + o]
            at += rows * columns * O * width


@njit(error_model="numpy")
def _back(dz, s, K, L, I, O, first, width, stride, carry, panel, at, dx, R, S, P, Q, each):
    """One sample's dx for inputs first .. first + width, by weights that are turned over."""
    depth, step = (1, O) if each else (O, 1)
    for i in range(min(stride, R)):
        rows, _, top = _backward_window(i, stride, K)
        for j in range(stride):
            columns, _, left = _backward_window(j, stride, L)
            if j < S:
                out = Plane(
                    ((s * R + i) * S + j) * I + first,
                    (R - i + stride - 1) // stride,
                    (S - j + stride - 1) // stride,
                    stride * S * I,
                    stride * I,
                )
                own = depth * width
                correlate(
                    dz,
                    Plane(s * P * Q * O, P, Q, Q * O, O),
                    Window(rows, columns, top, left, 1),
                    depth,
                    step,
                    panel,
                    at,
                    columns * own,
                    own,
                    width,
                    dx,
                    -1,
                    carry,
                    dx,
                    out,
                    width,
                    NO_FLOOR,
                    each,
                )
            at += rows * columns * depth * width


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def convolve_back(dz, samples, weight, stride, carry, panel, dx):
    # dz (B, P, Q, O), weight (K, L, I, O), dx (B, R, S, I), panel (T, panel_width), all float32
    """dx, the errors of the inputs of :func:`convolve`, from those of its outputs; added to dx if ``carry``."""
    K, L, I, O = weight.shape
    R, S, P, Q = dx.shape[1], dx.shape[2], dz.shape[1], dz.shape[2]
    by, scratch, into, out = weight.reshape(-1), panel.reshape(-1), dz.reshape(-1), dx.reshape(-1)
    threads = panel.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        at = np.int64(lane) * panel.shape[1]
        for first in range(0, I, PANEL):
            width = min(PANEL, I - first)
            _turn_over(by, K, L, I, O, first, width, stride, scratch, at)
            for s in range(begin, end):
                _back(into, s, K, L, I, O, first, width, stride, carry, scratch, at, out, R, S, P, Q, False)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def connect_back(dz, samples, weight, carry, panel, dx):
    # dz (B, O), weight (I, O), dx (B, I), panel (T, panel_width), all float32
    """dx = dz weight^T: the errors of the inputs of :func:`connect`; added to dx if ``carry``."""
    I, O = weight.shape
    by, scratch, into, out = weight.reshape(-1), panel.reshape(-1), dz.reshape(-1), dx.reshape(-1)
    threads = panel.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        p0 = np.int64(lane) * panel.shape[1]
        for first in range(0, I, PANEL):
            width = min(PANEL, I - first)
            _turn_over(by, 1, 1, I, O, first, width, 1, scratch, p0)
            multiply(
                into,
                begin * O,
                O,
                0,
                1,
                scratch,
                p0,
                0,
                width,
                1,
                O,
                out,
                begin * I + first,
                I,
                carry,
                out,
                begin * I + first,
                I,
                end - begin,
                width,
                NO_FLOOR,
                not carry,
            )


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def convolve_depthwise_back(dz, samples, weight, stride, panel, dx):
    # dz (B, P, Q, C), weight (K, L, C), dx (B, R, S, C), panel (T, panel_width), all float32
    """dx, the errors of the inputs of :func:`convolve_depthwise`, from those of its outputs."""
    K, L, C = weight.shape
    R, S, P, Q = dx.shape[1], dx.shape[2], dz.shape[1], dz.shape[2]
    by, scratch, into, out = weight.reshape(-1), panel.reshape(-1), dz.reshape(-1), dx.reshape(-1)
    threads = panel.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        at = np.int64(lane) * panel.shape[1]
        _turn_over(by, K, L, C, 1, 0, C, stride, scratch, at)
        for s in range(begin, end):
            _back(into, s, K, L, C, C, 0, C, stride, False, scratch, at, out, R, S, P, Q, True)
