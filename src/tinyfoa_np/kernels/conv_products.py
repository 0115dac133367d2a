"""Building blocks of all convolutions: sums of products over windows, for many outputs at a time.

There is no padding and no copy of windows: outputs that see the same part of their window are computed together (inside
the map all of it, at its borders less). Sums run over the window, row by row, column by column, input by input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import INLINED, njit
from .simd import F32, FLOATS16, I64, WIDE, Lanes

NO_FLOOR = np.float32(-np.inf)
#: vectors of 16 sums that must be under way at a time for additions not to wait for one another
BUSY = 8 if WIDE else 4


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
        and z0 on, with the given distances between rows, rounds and steps. Without ``begun``, sums begin with 0
        in place of f, which may be z. What is below ``floor`` becomes it, NaN stays. With ``each``, x has its own o,
        side by side: x[r, i, k, o]. Rows go in tiles of the largest of ``sizes`` that there is still room for. If rows
        may be done ``again``, a tile that reaches back over rows already done takes the rest: one of the size with the
        fewest sums, among those whose sums hide how long an addition takes.
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
            lanes = Lanes(context, builder, signature, args)
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
            for k, size in enumerate(sizes):
                todo = builder.sub(rows, done)
                tiles, rest = builder.sdiv(todo, I64(size)), builder.srem(todo, I64(size))
                more = builder.and_(again, builder.icmp_signed(">=", rows, I64(size)))
                more = builder.and_(more, builder.icmp_signed(">", rest, I64(0)))
                for smaller in sizes[k + 1 :]:
                    if smaller * vectors >= BUSY:
                        some = builder.sdiv(builder.add(rest, I64(smaller - 1)), I64(smaller))
                        sums = builder.mul(some, I64(smaller))
                        more = builder.and_(more, builder.icmp_signed(">=", sums, I64(size)))
                tiles = builder.add(tiles, builder.zext(more, tiles.type))
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
_products1 = _products(1, (16, 8, 4, 1) if WIDE else (6, 2, 1), masked=True)


_products2 = _products(2, (12, 4, 1) if WIDE else (3, 1))


_products4 = _products(4, (6, 3, 1) if WIDE else (1,))


_each1 = _products(1, (8, 3, 1) if WIDE else (4, 1), masked=True, each=True)


@njit(error_model="numpy")
def multiply(
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
    left, o = (x, x0, x_row, x_round, x_step), 0
    while o < width:
        right, first, out = (
            (w, w0 + o, w_round, w_step, rounds, steps),
            (f, f0 + o, f_row, begun),
            (z, z0 + o, z_row, rows),
        )
        if WIDE and width - o >= 64:
            _products4(*left, *right, *first, *out, *(64, floor, again))
            o += 64
        elif width - o >= 32:
            _products2(*left, *right, *first, *out, *(32, floor, again))
            o += 32
        else:
            _products1(*left, *right, *first, *out, *(min(16, width - o), floor, again))
            o += 16


@njit(error_model="numpy")
def multiply_each(
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
        left, right = (x, x0 + o, x_row, x_round, x_step), (w, w0 + o, w_round, w_step, rounds, steps)
        first, out = (f, f0 + o, f_row, begun), (z, z0 + o, z_row, rows)
        _each1(*left, *right, *first, *out, *(min(16, width - o), floor, again))


@njit(**INLINED)
def part_seen(number, step, base, taps, size):
    """Which part of its window output ``number`` sees: window element t is element number * step + base + t of size."""
    at = number * step + base
    return max(0, -at), min(taps, size - at)


class Plane(NamedTuple):
    """One map as a convolution reads it: its first element, its rows and columns, and the distances between them."""

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


@njit(error_model="numpy")
def correlate(x, seen, window, depth, x_step, w, w0, w_row, w_column, w_step, f, f0, begun, z, out, width, floor, each):
    """One map: every output of the plane ``out`` is the sum over its window, from f or, if not ``begun``, from 0.

    ``depth`` inputs at each position, ``x_step`` apart, and ``width`` outputs. Sums begin with f: z itself where f0 is
    below 0, else f[f0 :], the same for all.
    """
    r0 = 0
    while r0 < out.rows:
        top, bottom = part_seen(r0, window.step, window.top, window.rows, seen.rows)
        r1 = r0 + 1
        while r1 < out.rows and part_seen(r1, window.step, window.top, window.rows, seen.rows) == (top, bottom):
            r1 += 1
        c0 = 0
        while c0 < out.columns:
            left, right = part_seen(c0, window.step, window.left, window.columns, seen.columns)
            c1 = c0 + 1
            while c1 < out.columns:
                if part_seen(c1, window.step, window.left, window.columns, seen.columns) != (left, right):
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
                left, right = (x, here, window.step * x_own, seen.row, x_step), (w, at, w_row, w_step, rounds, steps)
                first, into = (f, source, row, begun), (z, there, z_own, many, width, floor, f0 >= 0 or not begun)
                if each:
                    multiply_each(*left, *right, *first, *into)
                else:
                    multiply(*left, *right, *first, *into)
            c0 = c1
        r0 = r1
