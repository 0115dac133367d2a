"""The forward pass in vectors: dot products of bits, bytes and floats, bias and activation, and sums over classes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import njit
from .simd import (
    AVX2,
    BYTE_DOTS,
    F32,
    FLOATS16,
    I1,
    I8,
    I16,
    I32,
    I64,
    INTS16,
    WIDE,
    WORDS8,
    Lanes,
    transposed,
)

#: samples that one pass over a panel of packed weights serves
SAMPLES = 8
#: neurons that one pass over transposed inputs serves
DENSE_ROWS = 8 if WIDE else 4
#: samples and neurons that one pass over bytes and signs serves
BYTE_SAMPLES, BYTE_NEURONS = 8, 2
#: vectors of 16 samples
DENSE_VECTORS = 3 if WIDE else 1


def _and_popcounts(lanes: Lanes, inputs: Any, stride: Any, panel: Any, words: Any, rows: int) -> list[Any]:
    """popcount(input row r AND neuron l) for ``rows`` rows by the 8 neurons of a panel: one vector register per row."""
    build = lanes.builder
    sums = lanes.registers(rows, WORDS8)
    with cgutils.for_range(build, words) as loop:
        weight = lanes.load(lanes.at(panel, build.mul(loop.index, I64(8))), WORDS8, 8)
        for r in range(rows):
            word = build.load(lanes.at(inputs, build.add(build.mul(stride, I64(r)), loop.index)))
            lanes.add_to(sums[r], lanes.popcount(build.and_(weight, lanes.splat(word, 8))))
    return [build.load(s) for s in sums]


@intrinsic
def dot_panel_samples(
    typing: Any,
    x: Any,
    x0: Any,
    stride: Any,
    counts: Any,
    n0: Any,
    w: Any,
    w0: Any,
    words: Any,
    z: Any,
    z0: Any,
    row: Any,
) -> Any:
    """z[l, s] = 2 popcount(x[s] AND w[l]) - counts[s]: eight samples by the eight neurons of a panel.

    x (.., stride) uint64 from flat position x0; counts (..) int32 from n0: popcount of each sample; w (words, 8) uint64
    from w0; z float32 from z0, ``row`` positions from one neuron to the next. Exact integers, converted once.
    """
    place = types.intp
    signature = types.void(x, place, place, counts, place, w, place, place, z, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        inputs, panel = lanes.pointer(0, args[1], I64), lanes.pointer(5, args[6], I64)
        rows = SAMPLES if WIDE else SAMPLES // 2  # as many as there are registers for their sums
        starts = [lanes.at(inputs, builder.mul(args[2], I64(first))) for first in range(0, SAMPLES, rows)]
        sums = [total for x in starts for total in _and_popcounts(lanes, x, args[2], panel, args[7], rows)]
        own, values = lanes.pointer(3, args[4], I32), []
        for s, total in enumerate(sums):
            count = lanes.splat(builder.sext(builder.load(lanes.at(own, s)), I64), 8)
            dot = builder.sub(builder.shl(total, ir.Constant(WORDS8, [1] * 8)), count)
            values.append(builder.sitofp(dot, ir.VectorType(F32, 8)))
        out = lanes.pointer(8, args[9], F32)
        for neuron, own in enumerate(transposed(lanes, values)):
            lanes.store(own, lanes.at(out, builder.mul(args[10], I64(neuron))), 4)
        return lanes.nothing()

    return signature, codegen


class _ByteSums:
    """Sums of 64 bytes under a mask, by the fastest instruction; each accumulator has several partial sums.

    On processors with byte dot products, an accumulator holds the negative sum, in 32 bits.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lanes, self.bytes64 = lanes, ir.VectorType(I8, 64)
        if BYTE_DOTS:
            self.vector, self.sign = INTS16, -1
        elif AVX2:
            self.vector, self.sign = ir.VectorType(I64, 8 if WIDE else 4), 1
        else:
            self.vector, self.sign = INTS16, 1

    def mask(self, word: Any) -> Any:
        """-1 in each of 64 bytes whose bit is set."""
        build = self.lanes.builder
        return build.sext(build.bitcast(word, ir.VectorType(I1, 64)), self.bytes64)

    def _part(self, vector: Any, first: int, count: int) -> Any:
        order = ir.Constant(ir.VectorType(I32, count), list(range(first, first + count)))
        return self.lanes.builder.shuffle_vector(vector, ir.Constant(self.bytes64, ir.Undefined), order)

    def add(self, slot: Any, values: Any, mask: Any) -> None:
        build, lanes = self.lanes.builder, self.lanes
        old = build.load(slot)
        if BYTE_DOTS:
            words = build.bitcast(values, INTS16), build.bitcast(mask, INTS16)
            new = lanes.call("llvm.x86.avx512.vpdpbusd.512", INTS16, old, *words)
        elif AVX2:
            kept, width = build.and_(values, mask), 64 if WIDE else 32
            name, new = f"llvm.x86.avx{'512' if WIDE else '2'}.psad.bw{'.512' if WIDE else ''}", old
            for first in range(0, 64, width):
                part = self._part(kept, first, width)
                new = build.add(new, lanes.call(name, self.vector, part, ir.Constant(part.type, None)))
        else:
            kept, new = build.and_(values, mask), old
            for first in range(0, 64, 16):
                new = build.add(new, build.zext(self._part(kept, first, 16), INTS16))
        build.store(new, slot)

    def totals(self, slots: list[Any]) -> Any:
        """The sums of up to 16 accumulators as <16 x i32>; 0 for those that are missing."""
        build, lanes = self.lanes.builder, self.lanes
        if self.vector is not INTS16:
            name = f"llvm.vector.reduce.add.v{self.vector.count}i64"
            result = ir.Constant(INTS16, None)
            for k, slot in enumerate(slots):
                total = build.trunc(lanes.call(name, I64, build.load(slot)), I32)
                result = build.insert_element(result, total, I32(k))
            return result
        parts = [build.load(slot) for slot in slots] + [ir.Constant(INTS16, None)] * (16 - len(slots))
        width = 8
        while len(parts) > 1:  # two vectors of groups become one, of groups half as long
            lower = [n for n in range(32) if n % (2 * width) < width]
            orders = [ir.Constant(INTS16, [n + at for n in lower]) for at in (0, width)]
            parts = [
                build.add(*(build.shuffle_vector(a, b, order) for order in orders))
                for a, b in zip(parts[::2], parts[1::2])
            ]
            width //= 2
        return parts[0]


def _dot_bytes(neurons: int, samples: int) -> Any:
    @intrinsic
    def dot_bytes(
        typing: Any,
        x: Any,
        x0: Any,
        stride: Any,
        columns: Any,
        totals: Any,
        n0: Any,
        w: Any,
        w0: Any,
        z: Any,
        z0: Any,
        row: Any,
        some: Any,
    ) -> Any:
        """z[l, s] = 2 (sum of the bytes of sample s where neuron l's weight is +1) - totals[s].

        ``neurons`` of a panel, of which ``some`` are written, by ``samples``: x uint8 from x0, ``stride`` positions
        from sample to sample, ``columns`` bytes each; totals int32 from n0: sums of the samples' bytes; w (words, 8)
        uint64 from w0; z float32 from z0, ``row`` positions from neuron to neuron. Exact integers, converted once.
        """
        place = types.intp
        signature = types.void(x, place, place, place, totals, place, w, place, z, place, place, place)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(context, builder, signature, args)
            _, x0, stride, columns, _, n0, _, w0, _, z0, row, some = args
            inputs, panel = lanes.pointer(0, x0, I8), lanes.pointer(6, w0, I64)
            sums = _ByteSums(lanes)
            slots = lanes.registers(neurons * samples, sums.vector)
            starts = [builder.mul(stride, I64(s)) for s in range(samples)]

            def word(k: Any, few: Any) -> None:
                own = lanes.at(panel, builder.shl(k, I64(3)))
                masks = [sums.mask(builder.load(lanes.at(own, n))) for n in range(neurons)]
                column = builder.shl(k, I64(6))
                for s, start in enumerate(starts):
                    here = lanes.at(inputs, builder.add(start, column))
                    values = lanes.load_few(here, few, sums.bytes64)
                    for n, mask in enumerate(masks):
                        sums.add(slots[n * samples + s], values, mask)

            whole = builder.lshr(columns, I64(6))
            with cgutils.for_range(builder, whole) as loop:
                word(loop.index, None)
            rest = builder.and_(columns, I64(63))
            with builder.if_then(builder.icmp_signed(">", rest, I64(0))):
                few = builder.lshr(I64(-1), builder.sub(I64(64), rest))
                word(whole, builder.bitcast(few, ir.VectorType(I1, 64)))
            found, ints = sums.totals(slots), ir.VectorType(I32, samples)
            all_of_them = lanes.load(lanes.pointer(4, n0, I32), ints, 4)
            order = ir.Constant(INTS16, [k % samples for k in range(16)])
            both = builder.shuffle_vector(all_of_them, ir.Constant(ints, ir.Undefined), order)
            values = builder.sitofp(builder.sub(builder.mul(found, lanes.integers(2 * sums.sign)), both), FLOATS16)
            out = lanes.pointer(8, z0, F32)
            for n in range(neurons):
                with builder.if_then(builder.icmp_signed("<", I64(n), some)):
                    own = lanes.at(out, builder.mul(row, I64(n)))
                    order = ir.Constant(ints, list(range(n * samples, (n + 1) * samples)))
                    part = builder.shuffle_vector(values, ir.Constant(FLOATS16, ir.Undefined), order)
                    lanes.store(part, own, 4)
            return lanes.nothing()

        return signature, codegen

    return dot_bytes


dot_bytes_block, dot_bytes_sample = _dot_bytes(BYTE_NEURONS, BYTE_SAMPLES), _dot_bytes(8, 1)


@intrinsic
def turn_over(
    typing: Any,
    x: Any,
    stride: Any,
    sample: Any,
    samples: Any,
    column: Any,
    columns: Any,
    scale: Any,
    offset: Any,
    xt: Any,
    xt0: Any,
    row: Any,
) -> Any:
    """xt[i, s] = value of input ``column`` + i of sample ``sample`` + s, for 16 inputs by 16 samples.

    x (.., stride) uint64 (packed bits, standing for 0 and 1), uint8 (for scale * byte + offset) or float32; ``column``
    is a multiple of 16; xt float32 from xt0, ``row`` positions from input to input. Only the first ``samples`` by
    ``columns`` of the 16 by 16 are read, and the others are 0; but bits are read by 16.
    """
    place = types.intp
    signature = types.void(x, place, place, place, place, place, types.float32, types.float32, xt, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        _, stride, sample, samples, column, columns, scale, offset, _, xt0, row = args
        kind, few, rows = signature.args[0].dtype, lanes.first(columns, 16), lanes.registers(16, FLOATS16)
        for s, slot in enumerate(rows):
            with builder.if_then(builder.icmp_signed("<", I64(s), samples)):
                first = builder.mul(stride, builder.add(sample, I64(s)))
                if kind == types.uint64:
                    place = lanes.at(lanes.pointer(0, first, I16), builder.lshr(column, I64(4)))
                    value = builder.uitofp(lanes.mask(builder.load(place)), FLOATS16)
                elif kind == types.uint8:
                    place = lanes.at(lanes.pointer(0, first, I8), column)
                    number = builder.uitofp(lanes.masked_load(place, few, ir.VectorType(I8, 16)), FLOATS16)
                    value = builder.fadd(builder.fmul(lanes.splat(scale, 16), number), lanes.splat(offset, 16))
                    value = builder.select(few, value, ir.Constant(FLOATS16, None))
                else:
                    value = lanes.masked_load(lanes.at(lanes.pointer(0, first, F32), column), few)
                builder.store(value, slot)
        out = lanes.pointer(8, xt0, F32)
        for i, value in enumerate(transposed(lanes, [builder.load(slot) for slot in rows])):
            lanes.store(value, lanes.at(out, builder.mul(row, I64(i))), 4)
        return lanes.nothing()

    return signature, codegen


def _dense(rows: int, vectors: int, masked: bool = False) -> Any:
    @intrinsic
    def dense(
        typing: Any,
        w: Any,
        w0: Any,
        w_row: Any,
        w_step: Any,
        x: Any,
        x0: Any,
        x_step: Any,
        steps: Any,
        z: Any,
        z0: Any,
        z_row: Any,
        samples: Any,
        carry: Any,
    ) -> Any:
        """z[r, s] = sum over k of w[r, k] * x[k, s], in order of k, each step fused: ``rows`` by 16 ``vectors``.

        w float32 from w0, ``w_row`` positions from one r to the next and ``w_step`` from one of the ``steps`` k to the
        next; x float32 from x0, ``x_step`` from one k to the next; z float32 from z0, ``z_row`` from one r to the next.
        With ``carry``, the sum begins with the content of z, otherwise with 0. If ``masked``, only the first
        ``samples`` of x and z are read and written.
        """
        place = types.intp
        signature = types.void(w, place, place, place, x, place, place, place, z, place, place, place, types.boolean)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(context, builder, signature, args)
            _, w0, w_row, w_step, _, x0, x_step, steps, _, z0, z_row, samples, carry = args
            left, right, out = lanes.pointer(0, w0, F32), lanes.pointer(4, x0, F32), lanes.pointer(8, z0, F32)
            few = [lanes.first(builder.sub(samples, I64(16 * v)), 16) for v in range(vectors)]
            sums = [lanes.registers(vectors, FLOATS16) for _ in range(rows)]

            def load(pointer: Any, v: int) -> Any:
                at = lanes.at(pointer, 16 * v)
                return lanes.masked_load(at, few[v]) if masked else lanes.load(at, FLOATS16, 4)

            with builder.if_then(carry):
                for r in range(rows):
                    for v in range(vectors):
                        builder.store(load(lanes.at(out, builder.mul(z_row, I64(r))), v), sums[r][v])
            with cgutils.for_range(builder, steps) as loop:
                here, own = lanes.at(right, builder.mul(loop.index, x_step)), builder.mul(loop.index, w_step)
                values = [load(here, v) for v in range(vectors)]
                for r in range(rows):
                    weight = builder.load(lanes.at(left, builder.add(builder.mul(w_row, I64(r)), own)))
                    for slot, value in zip(sums[r], values):
                        builder.store(lanes.fma(lanes.splat(weight, 16), value, builder.load(slot)), slot)
            for r in range(rows):
                for v in range(vectors):
                    total, at = builder.load(sums[r][v]), lanes.at(lanes.at(out, builder.mul(z_row, I64(r))), 16 * v)
                    if masked:
                        lanes.masked_store(total, at, few[v])
                    else:
                        lanes.store(total, at, 4)
            return lanes.nothing()

        return signature, codegen

    return dense


_dense_rows, _dense_row = _dense(DENSE_ROWS, DENSE_VECTORS), _dense(1, DENSE_VECTORS)
_dense_rows_few, _dense_row_few = _dense(DENSE_ROWS, 1, masked=True), _dense(1, 1, masked=True)


@njit(error_model="numpy")
def dense_product(w, w0, w_row, w_step, rows, x, x0, x_step, steps, z, z0, z_row, samples, carry):
    # as _dense, for any number of rows and samples
    b = 0
    while b < samples:
        whole, r = samples - b >= 16 * DENSE_VECTORS, 0
        while r < rows:
            own, out = w0 + r * w_row, z0 + r * z_row + b
            if r + DENSE_ROWS <= rows:
                if whole:
                    _dense_rows(w, own, w_row, w_step, x, x0 + b, x_step, steps, z, out, z_row, 0, carry)
                else:
                    _dense_rows_few(w, own, w_row, w_step, x, x0 + b, x_step, steps, z, out, z_row, samples - b, carry)
                r += DENSE_ROWS
            else:
                if whole:
                    _dense_row(w, own, w_row, w_step, x, x0 + b, x_step, steps, z, out, z_row, 0, carry)
                else:
                    _dense_row_few(w, own, w_row, w_step, x, x0 + b, x_step, steps, z, out, z_row, samples - b, carry)
                r += 1
        b += 16 * DENSE_VECTORS if whole else 16


@intrinsic
def finish_rows(
    typing: Any,
    z: Any,
    z0: Any,
    row: Any,
    rows: Any,
    samples: Any,
    gain: Any,
    bias: Any,
    b0: Any,
    biased: Any,
    unit: Any,
    largest: Any,
    limit: Any,
    active: Any,
    a0: Any,
    a_row: Any,
    first: Any,
    last: Any,
) -> Any:
    """z[r, s] = gain z[r, s] + bias[r], and its masks; returns the exact sum of |z|.

    z float32 from z0, ``row`` positions from one of the ``rows`` to the next; bias float32 from b0, 0 unless
    ``biased``; the sum is in steps of 1 / ``unit``, a power of two up to 2**28, each |z|, at most ``largest`` <= 2**20
    (and of NaN as much), rounded half up. Of rows ``first`` to ``last`` bit s % 16 of active[r, s // 16] is
    0 < z < ``limit``: uint16 from a0 (that of row 0), ``a_row`` positions from row to row.
    """
    place, number = types.intp, types.float32
    signature = types.int64(
        z,
        place,
        place,
        place,
        place,
        number,
        bias,
        place,
        types.boolean,
        types.float64,
        types.float64,
        number,
        active,
        place,
        place,
        place,
        place,
    )

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        _, z0, row, rows, samples, gain, _, b0, biased, unit, largest, limit, _, a0, a_row, first, last = args
        values, shifts, words = lanes.pointer(0, z0, F32), lanes.pointer(6, b0, F32), lanes.pointer(12, a0, I16)
        gain, below = lanes.splat(gain, 16), lanes.splat(limit, 16)
        most = lanes.splat(builder.fptrunc(largest, F32), 16)
        # |z| unit = 2^18 (whole + rest): the first an integer, the second cut to half steps, all of it exact
        coarse = lanes.splat(builder.fptrunc(builder.fmul(unit, ir.DoubleType()(2.0**-18)), F32), 16)
        longs, zero, one = ir.VectorType(I64, 16), ir.Constant(FLOATS16, None), lanes.integers(1)
        (wholes,), (rests,) = lanes.registers(1, longs), lanes.registers(1, longs)
        (own_rests,) = lanes.registers(1, INTS16)
        shift = cgutils.alloca_once(builder, F32)

        def group(here: Any, few: Any) -> Any:
            value = builder.fadd(builder.fmul(gain, lanes.load_few(here, few)), lanes.splat(builder.load(shift), 16))
            lanes.store_few(value, here, few)
            size = lanes.magnitude(value)
            size = builder.select(builder.fcmp_ordered("<", size, most), size, most)
            size = size if few is None else builder.select(few, size, zero)
            steps = builder.fmul(size, coarse)
            whole = builder.fptosi(steps, INTS16)
            rest = builder.fsub(steps, builder.sitofp(whole, FLOATS16))
            halves = builder.fptosi(builder.fmul(rest, lanes.constant(2.0**19)), INTS16)
            lanes.add_to(wholes, builder.sext(whole, longs))
            lanes.add_to(own_rests, builder.lshr(builder.add(halves, one), one))
            on = builder.and_(builder.fcmp_ordered(">", value, zero), builder.fcmp_ordered("<", value, below))
            return builder.bitcast(on if few is None else builder.and_(on, few), I16)

        def one_row(r: Any, marked: bool) -> None:
            builder.store(F32(0.0), shift)
            with builder.if_then(biased):
                builder.store(builder.load(lanes.at(shifts, r)), shift)
            builder.store(ir.Constant(INTS16, None), own_rests)
            own, marks = lanes.at(values, builder.mul(r, row)), lanes.at(words, builder.mul(r, a_row))
            whole = builder.lshr(samples, I64(4))
            with cgutils.for_range(builder, whole) as loop:
                bits = group(lanes.at(own, builder.shl(loop.index, I64(4))), None)
                if marked:
                    builder.store(bits, lanes.at(marks, loop.index))
            start = builder.shl(whole, I64(4))
            with builder.if_then(builder.icmp_signed("<", start, samples)):
                bits = group(lanes.at(own, start), lanes.first(builder.sub(samples, start), 16))
                if marked:
                    builder.store(bits, lanes.at(marks, whole))
            lanes.add_to(rests, builder.sext(builder.load(own_rests), longs))

        with cgutils.for_range(builder, rows) as loop:
            marked = builder.and_(
                builder.icmp_signed(">=", loop.index, first), builder.icmp_signed("<", loop.index, last)
            )
            with builder.if_else(marked) as (then, otherwise):
                with then:
                    one_row(loop.index, True)
                with otherwise:
                    one_row(loop.index, False)
        total = builder.shl(builder.load(wholes), ir.Constant(longs, [18] * 16))
        total = builder.add(total, builder.load(rests))
        return lanes.call("llvm.vector.reduce.add.v16i64", I64, total)

    return signature, codegen


CLASSES = 5  # class sums kept in registers at a time, for as many vectors of 16 samples
CLASS_VECTORS = 2


def _class_sums(classes: int, vectors: int) -> Any:
    @intrinsic
    def class_sums(
        typing: Any,
        z: Any,
        z0: Any,
        row: Any,
        neurons: Any,
        p: Any,
        p0: Any,
        stride: Any,
        binary: Any,
        a: Any,
        a0: Any,
        a_row: Any,
        samples: Any,
    ) -> Any:
        """a[c, s] += sum over o of P[o, c] h[o, s], in order of o: h = [z > 0] if ``binary``, else max(z, 0).

        ``classes`` classes by up to 16 samples in each of the vectors; z float32 from z0, ``row`` from neuron to
        neuron; P (.., stride) float32 from p0; a float32 from a0, ``a_row`` from class to class; ``samples`` of these
        are read and written.
        """
        signature = types.void(
            z,
            types.intp,
            types.intp,
            types.intp,
            p,
            types.intp,
            types.intp,
            types.boolean,
            a,
            types.intp,
            types.intp,
            types.intp,
        )

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(context, builder, signature, args)
            values, projection = lanes.pointer(0, args[1], F32), lanes.pointer(4, args[5], F32)
            out, starts = lanes.pointer(8, args[9], F32), [16 * v for v in range(vectors)]
            few = [lanes.first(builder.sub(args[11], I64(start)), 16) for start in starts]
            zero = ir.Constant(FLOATS16, None)
            sums = [lanes.registers(vectors, FLOATS16) for _ in range(classes)]
            rows = [lanes.at(out, builder.mul(args[10], I64(c))) for c in range(classes)]
            for slots, here in zip(sums, rows):
                for slot, start, own in zip(slots, starts, few):
                    builder.store(lanes.masked_load(lanes.at(here, start), own), slot)

            def over_neurons(step: Any) -> None:
                with cgutils.for_range(builder, args[3]) as loop:
                    here = lanes.at(values, builder.mul(loop.index, args[2]))
                    own = [lanes.masked_load(lanes.at(here, start), mask) for start, mask in zip(starts, few)]
                    above = [builder.fcmp_ordered(">", value, zero) for value in own]
                    base = builder.mul(loop.index, args[6])
                    for c, slots in enumerate(sums):
                        weight = lanes.splat(builder.load(lanes.at(projection, builder.add(base, I64(c)))), 16)
                        for slot, value, on in zip(slots, own, above):
                            builder.store(step(value, on, weight, builder.load(slot)), slot)

            with builder.if_else(args[7]) as (then, otherwise):
                with then:
                    over_neurons(lambda value, on, p, old: builder.select(on, builder.fadd(old, p), old))
                with otherwise:
                    over_neurons(lambda value, on, p, old: lanes.fma(builder.select(on, value, zero), p, old))
            for slots, here in zip(sums, rows):
                for slot, start, own in zip(slots, starts, few):
                    lanes.masked_store(builder.load(slot), lanes.at(here, start), own)
            return lanes.nothing()

        return signature, codegen

    return class_sums


class_sums_block, class_sums_one = _class_sums(CLASSES, CLASS_VECTORS), _class_sums(1, CLASS_VECTORS)
