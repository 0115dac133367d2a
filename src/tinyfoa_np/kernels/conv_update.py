"""Gradients of convolutions and linear layers, some rows at a time, followed by the optimizer's step on these rows.

Shapes are those of :mod:`.conv_forward`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from .compiling import njit
from .conv_products import NO_FLOOR, multiply, multiply_each, part_seen
from .optimizers import step_run
from .simd import share

#: weights of a gradient that exist at a time, per thread
RUN = 16384


def run_width(weights: tuple[int, ...], threads: int = 1, kept: bool = False) -> int:
    """Elements per thread of the scratch for gradients of such weights: whole rows, all of them if ``kept``."""
    outputs = weights[-1]
    rows = -(-int(np.prod(weights[:-1], dtype=int)) // threads)
    return (rows if kept else min(rows, max(1, RUN // outputs))) * outputs


class Tensor(NamedTuple):
    """Weights of any shape with their moments, flat; (0,) where the optimizer has none."""

    weight: np.ndarray
    moment1: np.ndarray
    moment2: np.ndarray


class Step(NamedTuple):
    """An optimizer and the numbers of one step, as in :mod:`.dense_update`."""

    optimizer: int
    rate: Any
    root: Any


@njit(error_model="numpy")
def _step(tensor, at, gradient, g0, count, step):
    # whether a moment or a weight is lost
    one, none, all_of_them = np.float32(1), np.float32(0), np.float32(np.inf)
    weight, m, v = tensor.weight, tensor.moment1, tensor.moment2
    numbers = one, none, all_of_them, step.rate, step.root, none, all_of_them
    return step_run(step.optimizer, weight, m, v, at, gradient, g0, count, 0, *numbers)


@njit(nogil=True, cache=True, error_model="numpy")
def train(tensor, gradient, step):
    # tensor: Tensor of n elements; gradient (n,) float32
    """Run the optimizer's step on weights whose gradient is known; return whether a number is lost."""
    return _step(tensor, 0, gradient, 0, gradient.size, step)


@njit(error_model="numpy")
def _gradient_rows(x, R, S, I, dz, P, Q, O, K, L, stride, samples, low, high, out, at, begun, each):
    """Rows ``low`` to ``high`` of the gradient, of K L I (or, with ``each``, of K L), into out[at :]."""
    top, left, depth = (K - 1) // 2, (L - 1) // 2, 1 if each else I
    for k in range(0 if begun else (high - low) * O):
        out[at + k] = np.float32(0)
    for s in range(samples):
        c0 = 0
        while c0 < Q:
            # columns of outputs whose windows reach equally far
            first, last = part_seen(c0, stride, -left, L, S)
            c1 = c0 + 1
            while c1 < Q and part_seen(c1, stride, -left, L, S) == (first, last):
                c1 += 1
            for k in range(K):
                # rows of outputs whose windows' row k lies inside
                r0 = max(0, (top - k + stride - 1) // stride)
                r1 = min(P, (R - 1 + top - k) // stride + 1)
                begin, end = max(low, (k * L + first) * depth), min(high, (k * L + last) * depth)
                if begin < end and r0 < r1:
                    column = begin - k * L * depth  # of the window's row, input by input
                    x_at = ((s * R + r0 * stride - top + k) * S + c0 * stride - left) * I + column * (I // depth)
                    z_at = ((s * P + r0) * Q + c0) * O
                    to = at + (begin - low) * O
                    if each:
                        multiply_each(
                            x,
                            x_at,
                            I,
                            stride * S * I,
                            stride * I,
                            dz,
                            z_at,
                            Q * O,
                            O,
                            r1 - r0,
                            c1 - c0,
                            out,
                            to,
                            O,
                            True,
                            out,
                            to,
                            O,
                            end - begin,
                            O,
                            NO_FLOOR,
                            False,
                        )
                    else:
                        multiply(
                            x,
                            x_at,
                            1,
                            stride * S * I,
                            stride * I,
                            dz,
                            z_at,
                            Q * O,
                            O,
                            r1 - r0,
                            c1 - c0,
                            out,
                            to,
                            O,
                            True,
                            out,
                            to,
                            O,
                            end - begin,
                            O,
                            NO_FLOOR,
                            False,
                        )
            c0 = c1


@njit(error_model="numpy")
def _train_rows(
    x, R, S, I, dz, P, Q, O, K, L, stride, samples, tensor, step, begun, ended, scratch, s0, run, low, high, each
):
    """Gradient and step of rows ``low`` to ``high``, some at a time; return whether a number is lost."""
    lost, most = False, run // O
    for k in range(0 if begun else run):  # not every run takes all of it, but an audit looks for every byte
        scratch[s0 + k] = np.float32(0)
    while low < high:
        end = min(high, low + most)
        _gradient_rows(x, R, S, I, dz, P, Q, O, K, L, stride, samples, low, end, scratch, s0, begun, each)
        if ended:
            lost |= _step(tensor, low * O, scratch, s0, (end - low) * O, step)
        low = end
    return lost


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def train_convolution(x, samples, dz, window, stride, tensor, step, begun, ended, scratch, lost):
    # x (B, R, S, I), dz (B, P, Q, O), tensor: Tensor of (K, L, I, O), scratch (T, run_width), lost (T,) bool
    """The gradient of the weights of :func:`convolve`, some rows at a time, and the optimizer's step with it.

    ``lost`` tells for each thread's share whether a number is no longer finite. For micro-batches, whose scratch holds
    all rows, ``begun`` tells whether an earlier one began the gradient, and ``ended`` whether this one ends it. Samples
    are added one after another, as in a whole batch; the optimizer's step comes at the end.
    """
    _, R, S, I = x.shape
    _, P, Q, O = dz.shape
    K, L = window
    own, into, errors = scratch.reshape(-1), x.reshape(-1), dz.reshape(-1)
    threads, rows = scratch.shape[0], K * L * I
    for lane in prange(threads):
        low, high = share(np.int64(lane), threads, rows, 1)
        begin = np.int64(lane) * scratch.shape[1]
        lost[lane] = _train_rows(
            into,
            R,
            S,
            I,
            errors,
            P,
            Q,
            O,
            K,
            L,
            stride,
            samples,
            tensor,
            step,
            begun,
            ended,
            own,
            begin,
            scratch.shape[1],
            low,
            high,
            False,
        )


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def train_connection(x, samples, dz, tensor, step, begun, ended, scratch, lost):
    # x (B, I), dz (B, O), tensor: Tensor of (I, O), scratch (T, run_width), lost (T,) bool
    """Like :func:`train_convolution`, for :func:`connect`; samples are read in blocks that fit the cache."""
    I, O = x.shape[1], dz.shape[1]
    threads, own, into, errors = scratch.shape[0], scratch.reshape(-1), x.reshape(-1), dz.reshape(-1)
    most = scratch.shape[1] // O
    for lane in prange(threads):
        low, high = share(np.int64(lane), threads, I, 1)
        begin, gone = np.int64(lane) * scratch.shape[1], False
        for k in range(0 if begun else scratch.shape[1]):
            own[begin + k] = np.float32(0)
        while low < high:
            end = min(high, low + most)
            for k in range(0 if begun else (end - low) * O):
                own[begin + k] = np.float32(0)
            for s in range(0, samples, 256):
                multiply(
                    into,
                    s * I + low,
                    1,
                    0,
                    I,
                    errors,
                    s * O,
                    0,
                    O,
                    1,
                    min(256, samples - s),
                    own,
                    begin,
                    O,
                    True,
                    own,
                    begin,
                    O,
                    end - low,
                    O,
                    NO_FLOOR,
                    False,
                )
            if ended:
                gone |= _step(tensor, low * O, own, begin, (end - low) * O, step)
            low = end
        lost[lane] = gone


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def train_depthwise(x, samples, dz, window, stride, tensor, step, begun, ended, scratch, lost):
    # x (B, R, S, C), dz (B, P, Q, C), tensor: Tensor of (K, L, C), scratch (T, run_width), lost (T,) bool
    """Like :func:`train_convolution`, for the weights of :func:`convolve_depthwise`."""
    _, R, S, C = x.shape
    _, P, Q, _ = dz.shape
    K, L = window
    own, into, errors = scratch.reshape(-1), x.reshape(-1), dz.reshape(-1)
    threads, rows = scratch.shape[0], K * L
    for lane in prange(threads):
        low, high = share(np.int64(lane), threads, rows, 1)
        begin = np.int64(lane) * scratch.shape[1]
        lost[lane] = _train_rows(
            into,
            R,
            S,
            C,
            errors,
            P,
            Q,
            C,
            K,
            L,
            stride,
            samples,
            tensor,
            step,
            begun,
            ended,
            own,
            begin,
            scratch.shape[1],
            low,
            high,
            True,
        )
