"""Convolutions: forward, errors sent back, and gradients with the optimizer's step, side by side.

Maps are (B, R, S, C): samples, rows, columns, channels, so that vectors run over channels and a window lies in few
pieces. Weights are (K, L, I, O): rows and columns of the window, inputs, outputs; of a depthwise convolution (K, L, C).
A linear layer's are (I, O). As in the reference, an output of stride s is as large as the input over s, rounded up, and
the window of output 0 begins (K - 1) // 2 before the input.

There is no padding and no copy of windows: outputs that see the same part of their window go together (inside the map
all of it, at its borders less). Every sum runs in one order, whatever the threads: over the window, row by row, column
by column, input by input; of gradients over the samples, and in each over the positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .intrinsics import (
    _WIDE,
    F32,
    FLOATS16,
    I64,
    _Lanes,
    share,
    step_adam,
    step_momentum,
    step_nesterov,
    step_sgd,
)


def _products(vectors: int, sizes: tuple[int, ...], masked: bool = False, each: bool = False) -> Any:
    @intrinsic
    def products(
        typing: Any,
        x: Any,
        x0: Any,
        x_row: Any,
        x_round: Any,
        x_step: Any,
        w: Any,
        w0: Any,
        w_round: Any,
        w_step: Any,
        rounds: Any,
        steps: Any,
        f: Any,
        f0: Any,
        f_row: Any,
        begun: Any,
        z: Any,
        z0: Any,
        z_row: Any,
        rows: Any,
        few: Any,
        floor: Any,
        again: Any,
    ) -> Any:
        """z[r, o] = f[r, o] + sum over rounds i, then steps k, of x[r, i, k] * w[i, k, o], each step fused.

        For 16 ``vectors`` of o; if ``masked``, for the first ``few`` of them. All float32, from positions x0, w0, f0
        and z0 on, with the distances that are given between rows, rounds and steps. Without ``begun`` sums begin with 0
        in place of f, which may be z. What is below ``floor`` becomes it, NaN stays. With ``each``, x has its own o,
        side by side: x[r, i, k, o]. Rows go in tiles of the largest of ``sizes`` that there is still room for; if they
        may be done ``again``, the last tile reaches back so as to be whole.
        """
        place = types.intp
        signature = types.void(
            x,
            *[place] * 4,
            w,
            *[place] * 3,
            place,
            place,
            f,
            place,
            place,
            types.boolean,
            z,
            place,
            place,
            place,
            place,
            types.float32,
            types.boolean,
        )

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = _Lanes(context, builder, signature, args)
            _, x0, x_row, x_round, x_step, _, w0, w_round, w_step, rounds, steps, _, f0, f_row, begun = args[:15]
            z0, z_row, rows, few, floor, again = args[16:]
            left, right, first, out = (lanes.pointer(k, at, F32) for k, at in ((0, x0), (5, w0), (11, f0), (15, z0)))
            masks = [lanes.first(builder.sub(few, I64(16 * v)), 16) for v in range(vectors)] if masked else []
            least = lanes.splat(floor, 16)

            def load(pointer: Any, v: int) -> Any:
                at = lanes.at(pointer, 16 * v)
                return lanes.masked_load(at, masks[v]) if masked else lanes.load(at, FLOATS16, 4)

            def tile(begin: Any, size: int) -> None:
                own, into, from_ = (
                    lanes.at(pointer, builder.mul(begin, apart))
                    for pointer, apart in ((left, x_row), (out, z_row), (first, f_row))
                )
                sums = [lanes.registers(vectors, FLOATS16) for _ in range(size)]
                with builder.if_then(begun):
                    for r in range(size):
                        for v in range(vectors):
                            builder.store(load(lanes.at(from_, builder.mul(f_row, I64(r))), v), sums[r][v])
                apart = [builder.mul(x_row, I64(r)) for r in range(size)]
                with cgutils.for_range(builder, rounds) as turn:
                    near = lanes.at(own, builder.mul(turn.index, x_round))
                    beside = lanes.at(right, builder.mul(turn.index, w_round))
                    with cgutils.for_range(builder, steps) as loop:
                        here = lanes.at(near, builder.mul(loop.index, x_step))
                        there = lanes.at(beside, builder.mul(loop.index, w_step))
                        values = [load(there, v) for v in range(vectors)]
                        for r in range(size):
                            at = lanes.at(here, apart[r])
                            many = [load(at, v) for v in range(vectors)] if each else []
                            one = None if each else lanes.splat(builder.load(at), 16)
                            for v, (slot, value) in enumerate(zip(sums[r], values)):
                                builder.store(lanes.fma(many[v] if each else one, value, builder.load(slot)), slot)
                for r in range(size):
                    for v in range(vectors):
                        total = builder.load(sums[r][v])
                        total = builder.select(builder.fcmp_ordered("<", total, least), least, total)
                        at = lanes.at(lanes.at(into, builder.mul(z_row, I64(r))), 16 * v)
                        if masked:
                            lanes.masked_store(total, at, masks[v])
                        else:
                            lanes.store(total, at, 4)

            done = I64(0)
            for size in sizes:
                todo = builder.sub(rows, done)
                whole = builder.sdiv(todo, I64(size))
                some = builder.and_(again, builder.icmp_signed(">=", todo, I64(size)))
                tiles = builder.select(some, builder.sdiv(builder.add(todo, I64(size - 1)), I64(size)), whole)
                with cgutils.for_range(builder, tiles) as number:
                    begin = builder.add(done, builder.mul(number.index, I64(size)))
                    last = builder.sub(rows, I64(size))
                    tile(builder.select(builder.icmp_signed("<", begin, last), begin, last), size)
                end = builder.add(done, builder.mul(tiles, I64(size)))
                done = builder.select(builder.icmp_signed("<", end, rows), end, rows)
            return lanes.nothing()

        return signature, codegen

    return products


# as many rows at a time as the registers hold the sums of, then fewer
WIDE = _WIDE
_products1 = _products(1, (16, 4, 1) if WIDE else (6, 2, 1), masked=True)
_products2 = _products(2, (12, 4, 1) if WIDE else (3, 1))
_products4 = _products(4, (6, 3, 1) if WIDE else (1,))
_each1 = _products(1, (8, 3, 1) if WIDE else (4, 1), masked=True, each=True)


@njit(nogil=True, cache=True, error_model="numpy")
def _multiply(
    x,
    x0,
    x_row,
    x_round,
    x_step,
    w,
    w0,
    w_round,
    w_step,
    rounds,
    steps,
    f,
    f0,
    f_row,
    begun,
    z,
    z0,
    z_row,
    rows,
    width,
    floor,
    again,
):
    # as _products, for any number of outputs
    o = 0
    while o < width:
        left = width - o
        if WIDE and left >= 64:
            _products4(
                x,
                x0,
                x_row,
                x_round,
                x_step,
                w,
                w0 + o,
                w_round,
                w_step,
                rounds,
                steps,
                f,
                f0 + o,
                f_row,
                begun,
                z,
                z0 + o,
                z_row,
                rows,
                64,
                floor,
                again,
            )
            o += 64
        elif left >= 32:
            _products2(
                x,
                x0,
                x_row,
                x_round,
                x_step,
                w,
                w0 + o,
                w_round,
                w_step,
                rounds,
                steps,
                f,
                f0 + o,
                f_row,
                begun,
                z,
                z0 + o,
                z_row,
                rows,
                32,
                floor,
                again,
            )
            o += 32
        else:
            _products1(
                x,
                x0,
                x_row,
                x_round,
                x_step,
                w,
                w0 + o,
                w_round,
                w_step,
                rounds,
                steps,
                f,
                f0 + o,
                f_row,
                begun,
                z,
                z0 + o,
                z_row,
                rows,
                min(16, left),
                floor,
                again,
            )
            o += 16


@njit(nogil=True, cache=True, error_model="numpy")
def _multiply_each(
    x,
    x0,
    x_row,
    x_round,
    x_step,
    w,
    w0,
    w_round,
    w_step,
    rounds,
    steps,
    f,
    f0,
    f_row,
    begun,
    z,
    z0,
    z_row,
    rows,
    width,
    floor,
    again,
):
    # the same with x and w side by side: of a depthwise convolution
    for o in range(0, width, 16):
        _each1(
            x,
            x0 + o,
            x_row,
            x_round,
            x_step,
            w,
            w0 + o,
            w_round,
            w_step,
            rounds,
            steps,
            f,
            f0 + o,
            f_row,
            begun,
            z,
            z0 + o,
            z_row,
            rows,
            min(16, width - o),
            floor,
            again,
        )


@njit(inline="always")
def _seen(number, step, base, taps, size):
    """Which part of its window output ``number`` sees: window element t is element number * step + base + t of size."""
    at = number * step + base
    return max(0, -at), min(taps, size - at)


class Plane(NamedTuple):
    """One map as a convolution sees it: where it begins, its rows and columns, and the distances between them."""

    at: int
    rows: int
    columns: int
    row: int
    column: int


class Window(NamedTuple):
    """A window: which element of a plane its first one is for output 0, how far it moves, how many it has."""

    rows: int  # taps
    columns: int
    top: int  # of output 0
    left: int
    step: int


@njit(nogil=True, cache=True, error_model="numpy")
def _correlate(
    x, seen, window, depth, x_step, w, w0, w_row, w_column, w_step, f, f0, begun, z, out, width, floor, each
):
    """One map: every output of the plane ``out`` is the sum over its window, from f or, if not ``begun``, from 0.

    ``depth`` inputs at each position, ``x_step`` apart, and ``width`` outputs. Sums begin with f: z itself where f0 is
    below 0, else f[f0 :], the same for all.
    """
    r0 = 0
    while r0 < out.rows:
        top, bottom = _seen(r0, window.step, window.top, window.rows, seen.rows)
        r1 = r0 + 1
        while r1 < out.rows and _seen(r1, window.step, window.top, window.rows, seen.rows) == (top, bottom):
            r1 += 1
        c0 = 0
        while c0 < out.columns:
            left, right = _seen(c0, window.step, window.left, window.columns, seen.columns)
            c1 = c0 + 1
            while c1 < out.columns:
                if _seen(c1, window.step, window.left, window.columns, seen.columns) != (left, right):
                    break
                c1 += 1
            rounds, steps = max(0, bottom - top), max(0, right - left) * depth
            at = w0 + top * w_row + left * w_column
            along = c1 - c0 >= r1 - r0  # tiles lie along the longer side
            many, few = (c1 - c0, r1 - r0) if along else (r1 - r0, c1 - c0)
            x_own, x_next = (seen.column, seen.row) if along else (seen.row, seen.column)
            z_own, z_next = (out.column, out.row) if along else (out.row, out.column)
            x_at = seen.at + (r0 * window.step + window.top + top) * seen.row
            x_at += (c0 * window.step + window.left + left) * seen.column
            z_at = out.at + r0 * out.row + c0 * out.column
            for k in range(few):
                here, there = x_at + k * window.step * x_next, z_at + k * z_next
                source, row = (there, z_own) if f0 < 0 else (f0, 0)
                if each:
                    _multiply_each(
                        x,
                        here,
                        window.step * x_own,
                        seen.row,
                        x_step,
                        w,
                        at,
                        w_row,
                        w_step,
                        rounds,
                        steps,
                        f,
                        source,
                        row,
                        begun,
                        z,
                        there,
                        z_own,
                        many,
                        width,
                        floor,
                        f0 >= 0 or not begun,
                    )
                else:
                    _multiply(
                        x,
                        here,
                        window.step * x_own,
                        seen.row,
                        x_step,
                        w,
                        at,
                        w_row,
                        w_step,
                        rounds,
                        steps,
                        f,
                        source,
                        row,
                        begun,
                        z,
                        there,
                        z_own,
                        many,
                        width,
                        floor,
                        f0 >= 0 or not begun,
                    )
            c0 = c1
        r0 = r1


NO_FLOOR = np.float32(-np.inf)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def convolve(x, samples, weight, bias, stride, relu, z, threads):
    # x (B, R, S, I), weight (K, L, I, O), bias (O,) | (0,), z (B, ceil(R / stride), ceil(S / stride), O), all float32
    """z = weight * x + bias of the first ``samples``; with ``relu``, what is below 0 becomes it."""
    K, L, I, O = weight.shape
    window = Window(K, L, -((K - 1) // 2), -((L - 1) // 2), stride)
    R, S, P, Q = x.shape[1], x.shape[2], z.shape[1], z.shape[2]
    into, by, out, biased = x.reshape(-1), weight.reshape(-1), z.reshape(-1), bias.size > 0
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        floor = np.float32(0) if relu else NO_FLOOR
        for s in range(begin, end):
            _correlate(
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
    """z = x weight + bias of the first ``samples``: a linear layer, or a 1 x 1 convolution over positions."""
    I, O = weight.shape
    into, by, out = x.reshape(-1), weight.reshape(-1), z.reshape(-1)
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        # outputs outermost, so that a block of the weights stays near, for a part of the samples at a time
        for first in range(begin, end, 512):
            _multiply(
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
    """z = weight * x of the first ``samples``, each channel with its own window."""
    K, L, C = weight.shape
    window = Window(K, L, -((K - 1) // 2), -((L - 1) // 2), stride)
    R, S, P, Q = x.shape[1], x.shape[2], z.shape[1], z.shape[2]
    into, by, out = x.reshape(-1), weight.reshape(-1), z.reshape(-1)
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            _correlate(
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


# Errors, from outputs to inputs ---------------------------------------------------------------------------------------

#: inputs whose weights are turned over at a time, per thread
PANEL = 64


def panel_width(weights: tuple[int, ...]) -> int:
    """Elements per thread of the scratch in which weights (K, L, I, O), (I, O) or (K, L, C) are turned over."""
    if len(weights) == 3:
        return int(np.prod(weights))
    return int(np.prod(weights[:-2], dtype=int)) * weights[-1] * min(PANEL, weights[-2])


@njit(inline="always")
def _backward_window(base, stride, taps):
    """Of every ``stride``-th input from ``base`` on: how many taps see it, the last one, and its output for the first.

    Output p sees input p * stride + t - before with tap t, before = (taps - 1) // 2.
    """
    before = (taps - 1) // 2
    last = taps - 1 - (taps - 1 - (base + before)) % stride
    number = last // stride + 1 if last >= 0 else 0
    return number, last, (base + before - last) // stride


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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
                _correlate(
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
    """dx, errors of what :func:`convolve` read, from those of its outputs; with ``carry`` added to what dx holds."""
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
    """dx = dz weight^T: the errors of what :func:`connect` read; with ``carry`` added to what dx holds."""
    I, O = weight.shape
    by, scratch, into, out = weight.reshape(-1), panel.reshape(-1), dz.reshape(-1), dx.reshape(-1)
    threads = panel.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        p0 = np.int64(lane) * panel.shape[1]
        for first in range(0, I, PANEL):
            width = min(PANEL, I - first)
            _turn_over(by, 1, 1, I, O, first, width, 1, scratch, p0)
            _multiply(
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
    """dx, the errors of what :func:`convolve_depthwise` read, from those of its outputs."""
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


# Gradients, and the optimizer's step ----------------------------------------------------------------------------------

SGD, MOMENTUM, NESTEROV, ADAM = range(4)
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


@njit(nogil=True, cache=True, error_model="numpy")
def _step(tensor, at, gradient, g0, count, step):
    # whether a moment or a weight is lost
    one, none, all_of_them = np.float32(1), np.float32(0), np.float32(np.inf)
    weight, m, v = tensor.weight, tensor.moment1, tensor.moment2
    if step.optimizer == ADAM:
        return step_adam(
            weight, m, v, at, gradient, g0, count, 0, one, none, all_of_them, step.rate, step.root, none, all_of_them
        )
    if step.optimizer == NESTEROV:
        return step_nesterov(
            weight, m, v, at, gradient, g0, count, 0, one, none, all_of_them, step.rate, step.root, none, all_of_them
        )
    if step.optimizer == MOMENTUM:
        return step_momentum(
            weight, m, v, at, gradient, g0, count, 0, one, none, all_of_them, step.rate, step.root, none, all_of_them
        )
    return step_sgd(
        weight, m, v, at, gradient, g0, count, 0, one, none, all_of_them, step.rate, step.root, none, all_of_them
    )


@njit(nogil=True, cache=True, error_model="numpy")
def train(tensor, gradient, step):
    # tensor: Tensor of n elements; gradient (n,) float32
    """The optimizer's step on weights whose gradient is known: whether a number is lost."""
    return _step(tensor, 0, gradient, 0, gradient.size, step)


@njit(nogil=True, cache=True, error_model="numpy")
def _gradient_rows(x, R, S, I, dz, P, Q, O, K, L, stride, samples, low, high, out, at, begun, each):
    """Rows ``low`` to ``high`` of the gradient, of K L I (or, with ``each``, of K L), into out[at :]."""
    top, left, depth = (K - 1) // 2, (L - 1) // 2, 1 if each else I
    for k in range(0 if begun else (high - low) * O):
        out[at + k] = np.float32(0)
    for s in range(samples):
        c0 = 0
        while c0 < Q:
            # columns of outputs whose windows reach equally far
            first, last = _seen(c0, stride, -left, L, S)
            c1 = c0 + 1
            while c1 < Q and _seen(c1, stride, -left, L, S) == (first, last):
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
                        _multiply_each(
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
                        _multiply(
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


@njit(nogil=True, cache=True, error_model="numpy")
def _train_rows(
    x, R, S, I, dz, P, Q, O, K, L, stride, samples, tensor, step, begun, ended, scratch, s0, run, low, high, each
):
    """Gradient and step of rows ``low`` to ``high``, some at a time: whether a number is lost."""
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

    ``lost`` says of each thread's share whether a number is no longer finite. Of a micro-batch, whose scratch has room
    for all rows: whether the gradient was ``begun`` by one before, and is ``ended`` with this one. Samples are added
    one after another, as those of one batch; only at the end there is a step.
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
    """The same of the weights of :func:`connect`; samples come in blocks that stay near."""
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
                _multiply(
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
    """The same of the weights of :func:`convolve_depthwise`."""
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
