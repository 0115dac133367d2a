"""Vector building blocks that numba lacks, written as LLVM IR: the one module that all kernels share.

Each function works on flat positions in C-contiguous arrays (``array, start`` pairs) and keeps its accumulators in
vector registers. LLVM lowers the fixed vector types (``<8 x i64>``, ``<16 x float>``) for whatever the CPU has:
AVX-512, AVX2 or NEON; how many accumulators are kept at a time depends on the CPU, what they hold does not.

No function here uses fast-math; every floating-point sum runs in the order its docstring states.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

I1, I8, I16, I32, I64, F32 = (*(ir.IntType(n) for n in (1, 8, 16, 32, 64)), ir.FloatType())
WORDS8 = ir.VectorType(I64, 8)  # one 64-bit word of eight neurons
FLOATS16, INTS16, MASK16 = ir.VectorType(F32, 16), ir.VectorType(I32, 16), ir.VectorType(I1, 16)


def _has(feature: str) -> bool:
    """Whether kernels are compiled for a processor with some feature, as LLVM calls it."""
    asked = numba.config.CPU_FEATURES
    if asked is None:
        return bool(llvmlite.binding.get_host_cpu_features().get(feature, False))
    return f"+{feature}" in asked.split(",")


_WIDE, _AVX2, _BYTE_DOTS = _has("avx512f"), _has("avx2"), _has("avx512vnni")
#: whether the elements of a vector under a mask can be moved together
COMPRESSES = _WIDE
#: samples that one pass over a panel of packed weights serves
SAMPLES = 8
#: vectors of 16 gradients of packed inputs that one pass over the tables of sums serves
GRADIENT_VECTORS = 8 if _WIDE else 2
#: columns of byte or float inputs that one pass over the active samples serves
GRADIENT_COLUMNS = 96 if _WIDE else 32
#: neurons that one pass over transposed inputs serves
DENSE_ROWS = 8 if _WIDE else 4
#: samples and neurons that one pass over bytes and signs serves
BYTE_SAMPLES, BYTE_NEURONS = 8, 2
#: vectors of 16 samples
DENSE_VECTORS = 3 if _WIDE else 1


class _Lanes:
    """A few words for writing vector IR: constants, splats, loads and stores at element positions."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.signature, self.args = context, builder, signature, args

    def pointer(self, argument: int, start: Any, element: ir.Type) -> Any:
        array = self.context.make_array(self.signature.args[argument])(self.context, self.builder, self.args[argument])
        return self.builder.bitcast(self.builder.gep(array.data, [start]), element.as_pointer())

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [index if isinstance(index, ir.Value) else I64(index)])

    def load(self, pointer: Any, vector: ir.VectorType, align: int) -> Any:
        value = self.builder.load(self.builder.bitcast(pointer, vector.as_pointer()))
        value.align = align
        return value

    def store(self, value: Any, pointer: Any, align: int) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, value.type.as_pointer())).align = align

    def splat(self, value: Any, count: int) -> Any:
        undefined = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
        one = self.builder.insert_element(undefined, value, I32(0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, count), [0] * count))

    def first(self, count: Any, lanes: int) -> Any:
        """The mask of the first ``count`` of ``lanes`` lanes."""
        numbers = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
        return self.builder.icmp_signed("<", numbers, self.splat(count, lanes))

    def masked_load(self, pointer: Any, mask: Any, vector: ir.VectorType = FLOATS16) -> Any:
        """The values inside of the mask; those outside are not read: 0."""
        element = vector.element
        kind = ir.FunctionType(vector, [vector.as_pointer(), I32, mask.type, vector])
        name = f"v{vector.count}{'f32' if element is F32 else element.intrinsic_name}"
        call = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.load.{name}.p0")
        align = I32(4 if element is F32 else element.width // 8)
        zero = ir.Constant(vector, None)
        return self.builder.call(call, [self.builder.bitcast(pointer, vector.as_pointer()), align, mask, zero])

    def masked_store(self, value: Any, pointer: Any, mask: Any) -> None:
        vector = value.type
        kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), I32, mask.type])
        name = f"v{vector.count}{'f32' if vector.element is F32 else vector.element.intrinsic_name}"
        call = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.store.{name}.p0")
        align = I32(4 if vector.element is F32 else vector.element.width // 8)
        self.builder.call(call, [value, self.builder.bitcast(pointer, vector.as_pointer()), align, mask])

    def prefetch(self, pointer: Any) -> None:
        """Asks for a line of memory to be brought near, to be written soon; changes nothing."""
        begin = self.builder.bitcast(pointer, I8.as_pointer())
        self.call("llvm.prefetch.p0", ir.VoidType(), begin, I32(1), I32(2), I32(1))  # second-level cache, data

    def registers(self, count: int, vector: ir.Type) -> list[Any]:
        """Zeroed accumulators; LLVM keeps them in registers."""
        slots = [cgutils.alloca_once(self.builder, vector) for _ in range(count)]
        for slot in slots:
            self.builder.store(ir.Constant(vector, None), slot)
        return slots

    def add_to(self, slot: Any, value: Any) -> None:
        add = self.builder.add if isinstance(value.type.element, ir.IntType) else self.builder.fadd
        self.builder.store(add(self.builder.load(slot), value), slot)

    def popcount(self, value: Any) -> Any:
        kind = ir.FunctionType(WORDS8, [WORDS8])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, "llvm.ctpop.v8i64"), [value])

    def call(self, name: str, result: ir.Type, *values: Any) -> Any:
        """An LLVM intrinsic."""
        kind = ir.FunctionType(result, [value.type for value in values])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), values)

    def load_few(self, pointer: Any, few: Any, vector: ir.VectorType = FLOATS16) -> Any:
        """A vector's elements, or those in the mask ``few`` if there is one, and zeros."""
        if few is not None:
            return self.masked_load(pointer, few, vector)
        return self.load(pointer, vector, 4 if vector.element == F32 else 1)

    def store_few(self, value: Any, pointer: Any, few: Any) -> None:
        if few is None:
            self.store(value, pointer, 4 if value.type.element is F32 else value.type.element.width // 8)
        else:
            self.masked_store(value, pointer, few)

    def size_bits(self, vector: Any, few: Any = None) -> Any:
        """The bits of |x|: as integers they are in order, then infinity, then NaN; 0 outside a mask."""
        bits = self.builder.bitcast(self.magnitude(vector), INTS16)
        return bits if few is None else self.builder.select(few, bits, ir.Constant(INTS16, None))

    def constant(self, value: float) -> Any:
        """A float32 number, 16 times."""
        return ir.Constant(FLOATS16, [float(np.float32(value))] * 16)

    def largest(self, slot: Any, value: Any) -> None:
        """Keeps the larger of unsigned integers."""
        self.builder.store(self.larger(value, self.builder.load(slot)), slot)

    def exceeds(self, slot: Any, limits: Any) -> Any:
        """Whether any of 16 unsigned integers is above its limit."""
        above = self.builder.icmp_unsigned(">", self.builder.load(slot), limits)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(above, I16), I16(0))

    def larger(self, a: Any, b: Any) -> Any:
        """The larger of two unsigned integers each."""
        return self.builder.select(self.builder.icmp_unsigned(">", a, b), a, b)

    def integers(self, value: int) -> Any:
        """A 32-bit number, 16 times."""
        return ir.Constant(INTS16, [value] * 16)

    def magnitude(self, vector: Any) -> Any:
        return self.call("llvm.fabs.v16f32", FLOATS16, vector)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        kind = ir.FunctionType(FLOATS16, [FLOATS16] * 3)
        call = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.fma.v16f32")
        return self.builder.call(call, [a, b, c])

    def nothing(self) -> Any:
        return self.context.get_dummy_value()


@intrinsic
def popcount(typing: Any, word: Any) -> Any:
    """Set bits of one 64-bit word, as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32 with one rounding: the scalar twin of the vector sums below."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), codegen


def _and_popcounts(lanes: _Lanes, inputs: Any, stride: Any, panel: Any, words: Any, rows: int) -> list[Any]:
    """popcount(input row r AND neuron l) for ``rows`` rows by the 8 neurons of a panel: one vector register a row."""
    build = lanes.builder
    sums = lanes.registers(rows, WORDS8)
    with cgutils.for_range(build, words) as loop:
        weight = lanes.load(lanes.at(panel, build.mul(loop.index, I64(8))), WORDS8, 8)
        for r in range(rows):
            word = build.load(lanes.at(inputs, build.add(build.mul(stride, I64(r)), loop.index)))
            lanes.add_to(sums[r], lanes.popcount(build.and_(weight, lanes.splat(word, 8))))
    return [build.load(s) for s in sums]


def _transposed(lanes: _Lanes, rows: list[Any]) -> list[Any]:
    """A square block turned over, 8 x 8 or 16 x 16: three or four perfect shuffles."""
    size = len(rows)
    half = size // 2
    low, high = (
        ir.Constant(ir.VectorType(I32, size), [start + k + size * other for k in range(half) for other in (0, 1)])
        for start in (0, half)
    )
    for _ in range(size.bit_length() - 1):
        pairs = [(rows[k], rows[k + half]) for k in range(half)]
        rows = [lanes.builder.shuffle_vector(a, b, order) for a, b in pairs for order in (low, high)]
    return rows


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
        lanes = _Lanes(context, builder, signature, args)
        inputs, panel = lanes.pointer(0, args[1], I64), lanes.pointer(5, args[6], I64)
        sums = _and_popcounts(lanes, inputs, args[2], panel, args[7], SAMPLES)
        own, rows = lanes.pointer(3, args[4], I32), []
        for s, total in enumerate(sums):
            count = lanes.splat(builder.sext(builder.load(lanes.at(own, s)), I64), 8)
            dot = builder.sub(builder.shl(total, ir.Constant(WORDS8, [1] * 8)), count)
            rows.append(builder.sitofp(dot, ir.VectorType(F32, 8)))
        out = lanes.pointer(8, args[9], F32)
        for neuron, values in enumerate(_transposed(lanes, rows)):
            lanes.store(values, lanes.at(out, builder.mul(args[10], I64(neuron))), 4)
        return lanes.nothing()

    return signature, codegen


class _ByteSums:
    """Sums of 64 bytes under a mask, by the fastest instruction; each accumulator has several partial sums.

    Of processors with byte dot products an accumulator has the negative sum, in 32 bits.
    """

    def __init__(self, lanes: _Lanes) -> None:
        self.lanes, self.bytes64 = lanes, ir.VectorType(I8, 64)
        if _BYTE_DOTS:
            self.vector, self.sign = INTS16, -1
        elif _AVX2:
            self.vector, self.sign = ir.VectorType(I64, 8 if _WIDE else 4), 1
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
        if _BYTE_DOTS:
            words = build.bitcast(values, INTS16), build.bitcast(mask, INTS16)
            new = lanes.call("llvm.x86.avx512.vpdpbusd.512", INTS16, old, *words)
        elif _AVX2:
            kept, width = build.and_(values, mask), 64 if _WIDE else 32
            name, new = f"llvm.x86.avx{'512' if _WIDE else '2'}.psad.bw{'.512' if _WIDE else ''}", old
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
            lanes = _Lanes(context, builder, signature, args)
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
    """xt[i, s] = what input ``column`` + i of sample ``sample`` + s stands for, for 16 inputs by 16 samples.

    x (.., stride) uint64 (packed bits, standing for 0 and 1), uint8 (for scale * byte + offset) or float32; ``column``
    is a multiple of 16; xt float32 from xt0, ``row`` positions from input to input. Only the first ``samples`` by
    ``columns`` of the 16 by 16 are read, and the others are 0; but bits are read by 16.
    """
    place = types.intp
    signature = types.void(x, place, place, place, place, place, types.float32, types.float32, xt, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        _, stride, sample, samples, column, columns, scale, offset, _, xt0, row = args
        kind, few, rows = signature.args[0].dtype, lanes.first(columns, 16), lanes.registers(16, FLOATS16)
        for s, slot in enumerate(rows):
            with builder.if_then(builder.icmp_signed("<", I64(s), samples)):
                first = builder.mul(stride, builder.add(sample, I64(s)))
                if kind == types.uint64:
                    place = lanes.at(lanes.pointer(0, first, I16), builder.lshr(column, I64(4)))
                    value = builder.uitofp(builder.bitcast(builder.load(place), ir.VectorType(I1, 16)), FLOATS16)
                elif kind == types.uint8:
                    place = lanes.at(lanes.pointer(0, first, I8), column)
                    number = builder.uitofp(lanes.masked_load(place, few, ir.VectorType(I8, 16)), FLOATS16)
                    value = builder.fadd(builder.fmul(lanes.splat(scale, 16), number), lanes.splat(offset, 16))
                    value = builder.select(few, value, ir.Constant(FLOATS16, None))
                else:
                    value = lanes.masked_load(lanes.at(lanes.pointer(0, first, F32), column), few)
                builder.store(value, slot)
        out = lanes.pointer(8, xt0, F32)
        for i, value in enumerate(_transposed(lanes, [builder.load(slot) for slot in rows])):
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
        With ``carry`` the sum begins with what z holds, otherwise with 0. If ``masked``, only the first ``samples`` of
        x and z are read and written.
        """
        place = types.intp
        signature = types.void(w, place, place, place, x, place, place, place, z, place, place, place, types.boolean)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = _Lanes(context, builder, signature, args)
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


@njit(nogil=True, cache=True, error_model="numpy")
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
def turn_word(
    typing: Any, x: Any, x0: Any, stride: Any, samples: Any, down: Any, beyond: Any, out: Any, o0: Any, columns: Any
) -> Any:
    """Bit s of out[o0 + i] = bit ``down`` + i of sample s: up to 32 samples' packed bits by up to 64 ``columns``.

    x (.., stride) uint64, the samples' words from x0 on, each with the next one if it goes ``beyond``; out uint32.
    """
    place = types.intp
    signature = types.void(x, place, place, place, place, types.boolean, out, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        _, x0, stride, samples, down, beyond, _, o0, columns = args
        words, turned = lanes.pointer(0, x0, I64), lanes.pointer(6, o0, I32)
        slots, none = lanes.registers(4, INTS16), ir.Constant(INTS16, None)

        def all_samples(two: bool) -> None:
            with cgutils.for_range(builder, samples) as loop:
                here = lanes.at(words, builder.mul(loop.index, stride))
                word = builder.lshr(builder.load(here), down)
                if two:
                    upper = builder.shl(builder.load(lanes.at(here, 1)), builder.sub(I64(64), down))
                    word = builder.or_(word, upper)
                bit = lanes.splat(builder.shl(I32(1), builder.trunc(loop.index, I32)), 16)
                for k, slot in enumerate(slots):
                    part = builder.bitcast(builder.trunc(builder.lshr(word, I64(16 * k)), I16), MASK16)
                    builder.store(builder.or_(builder.load(slot), builder.select(part, bit, none)), slot)

        with builder.if_else(beyond) as (then, otherwise):
            with then:
                all_samples(True)
            with otherwise:
                all_samples(False)
        for k, slot in enumerate(slots):
            lanes.masked_store(
                builder.load(slot), lanes.at(turned, 16 * k), lanes.first(builder.sub(columns, I64(16 * k)), 16)
            )
        return lanes.nothing()

    return signature, codegen


@intrinsic
def sum_in_fours(typing: Any, dz: Any, d0: Any, bits: Any, room: Any, total: Any) -> Any:
    """``total`` + the sums of dz in groups of four samples, group after group; the errors not in ``bits`` become 0.

    dz float32 from d0: up to 64 samples, of which ``room`` are written. A group is summed from its first error on.
    """
    signature = types.float32(dz, types.intp, types.uint64, types.intp, types.float32)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        _, d0, bits, room, total = args
        errors, sums = lanes.pointer(0, d0, F32), cgutils.alloca_once(builder, F32)
        builder.store(total, sums)
        with cgutils.for_range(builder, builder.lshr(builder.add(room, I64(15)), I64(4))) as loop:
            start = builder.shl(loop.index, I64(4))
            here, few = lanes.at(errors, start), lanes.first(builder.sub(room, start), 16)
            mask = builder.bitcast(builder.trunc(builder.lshr(bits, start), I16), MASK16)
            values = lanes.masked_load(here, mask)
            lanes.masked_store(values, here, few)
            nth = [ir.Constant(ir.VectorType(I32, 4), [n, n + 4, n + 8, n + 12]) for n in range(4)]
            first, *others = (builder.shuffle_vector(values, ir.Constant(FLOATS16, ir.Undefined), n) for n in nth)
            for other in others:
                first = builder.fadd(first, other)
            whole = builder.load(sums)
            for group in range(4):
                whole = builder.fadd(whole, builder.extract_element(first, I32(group)))
            builder.store(whole, sums)
        return builder.load(sums)

    return signature, codegen


@intrinsic
def make_tables(typing: Any, dz: Any, d0: Any, groups: Any, t0: Any) -> Any:
    """The sums that four samples' errors can make: dz[t0 + 16 g + n] of those of dz[d0 + 4 g + j] with bit j of n set.

    Each is summed in order of j. dz float32.
    """
    signature = types.void(dz, types.intp, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        errors, tables, zero = lanes.pointer(0, args[1], F32), lanes.pointer(0, args[3], F32), lanes.constant(0.0)
        masks = [ir.Constant(MASK16, [n >> j & 1 for n in range(16)]) for j in range(4)]
        with cgutils.for_range(builder, args[2]) as loop:
            own = lanes.at(errors, builder.shl(loop.index, I64(2)))
            ones = [lanes.splat(builder.load(lanes.at(own, j)), 16) for j in range(4)]
            first, *others = (builder.select(mask, one, zero) for mask, one in zip(masks, ones))
            for other in others:
                first = builder.fadd(first, other)
            lanes.store(first, lanes.at(tables, builder.shl(loop.index, I64(4))), 4)
        return lanes.nothing()

    return signature, codegen


def _picker(lanes: _Lanes, table: Any) -> Any:
    """Of a table of 16 float32 numbers, which is read here: those that the low four bits of 16 integers select."""
    build = lanes.builder
    if _WIDE:
        row = lanes.load(table, FLOATS16, 4)
        return lambda index: lanes.call("llvm.x86.avx512.permvar.sf.512", FLOATS16, row, index)
    if _AVX2:
        floats8, ints8 = ir.VectorType(F32, 8), ir.VectorType(I32, 8)
        low, high = (lanes.load(lanes.at(table, at), floats8, 4) for at in (0, 8))
        orders = [ir.Constant(ints8, list(range(at, at + 8))) for at in (0, 8)]

        def picked(index: Any) -> Any:
            halves = []
            for order in orders:
                own = build.shuffle_vector(index, ir.Constant(INTS16, ir.Undefined), order)
                two = [lanes.call("llvm.x86.avx2.permps", floats8, half, own) for half in (low, high)]
                upper = build.icmp_signed("<", build.shl(own, ir.Constant(ints8, [28] * 8)), ir.Constant(ints8, None))
                halves.append(build.select(upper, two[1], two[0]))
            return build.shuffle_vector(*halves, ir.Constant(INTS16, list(range(16))))

        return picked

    def looked_up(index: Any) -> Any:
        own, values = build.and_(index, lanes.integers(15)), ir.Constant(FLOATS16, ir.Undefined)
        for lane in range(16):
            at = build.zext(build.extract_element(own, I32(lane)), I64)
            values = build.insert_element(values, build.load(lanes.at(table, at)), I32(lane))
        return values

    return looked_up


def _sum_tables(vectors: int, masked: bool) -> Any:
    @intrinsic
    def sum_tables(
        typing: Any,
        tables: Any,
        t0: Any,
        groups: Any,
        x: Any,
        x0: Any,
        stride: Any,
        gradient: Any,
        g0: Any,
        columns: Any,
    ) -> Any:
        """gradient[g0 + i] = the sum over groups of four samples, in order, of what each group's table has for input i.

        tables float32 from t0, 16 a group; x (.., stride) uint32, from x0 on: bit s % 32 of [s // 32, i] is sample s's
        bit of input i; gradient float32: 16 for each of the vectors; if ``masked``, only the first ``columns``.
        """
        place = types.intp
        signature = types.void(tables, place, place, x, place, place, gradient, place, place)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = _Lanes(context, builder, signature, args)
            _, t0, groups, _, x0, stride, _, g0, columns = args
            entries, bits, out = lanes.pointer(0, t0, F32), lanes.pointer(3, x0, I32), lanes.pointer(6, g0, F32)
            starts = [16 * v for v in range(vectors)]
            few = [lanes.first(builder.sub(columns, I64(at)), 16) if masked else None for at in starts]
            sums = lanes.registers(vectors, FLOATS16)

            def words(row: Any) -> list[Any]:
                here = lanes.at(bits, builder.mul(row, stride))
                return [
                    lanes.load(lanes.at(here, at), INTS16, 4)
                    if own is None
                    else lanes.masked_load(lanes.at(here, at), own, INTS16)
                    for at, own in zip(starts, few)
                ]

            def add(group: Any, indices: list[Any]) -> None:
                pick = _picker(lanes, lanes.at(entries, builder.shl(group, I64(4))))
                for slot, index in zip(sums, indices):
                    lanes.add_to(slot, pick(index))

            whole = builder.lshr(groups, I64(3))
            with cgutils.for_range(builder, whole) as loop:
                own, first = words(loop.index), builder.shl(loop.index, I64(3))
                for n in range(8):
                    add(builder.add(first, I64(n)), [builder.lshr(word, lanes.integers(4 * n)) for word in own])
            first = builder.shl(whole, I64(3))
            rest = builder.sub(groups, first)
            with builder.if_then(builder.icmp_signed(">", rest, I64(0))):
                last = words(whole)
                with cgutils.for_range(builder, rest) as loop:
                    down = lanes.splat(builder.trunc(builder.shl(loop.index, I64(2)), I32), 16)
                    add(builder.add(first, loop.index), [builder.lshr(word, down) for word in last])
            for slot, at, part in zip(sums, starts, few):
                lanes.store_few(builder.load(slot), lanes.at(out, at), part)
            return lanes.nothing()

        return signature, codegen

    return sum_tables


_sum_tables_whole, _sum_tables_some = _sum_tables(GRADIENT_VECTORS, False), _sum_tables(GRADIENT_VECTORS // 2, True)
_sum_tables_few = _sum_tables(1, True)


@njit(inline="always")
def sum_tables(tables, t0, groups, x, x0, stride, gradient, g0, columns):
    # as _sum_tables, for any number of columns
    k = 0
    while k < columns:
        if columns - k >= 16 * GRADIENT_VECTORS:
            _sum_tables_whole(tables, t0, groups, x, x0 + k, stride, gradient, g0 + k, 0)
            k += 16 * GRADIENT_VECTORS
        elif columns - k > 16:
            _sum_tables_some(tables, t0, groups, x, x0 + k, stride, gradient, g0 + k, columns - k)
            k += 16 * (GRADIENT_VECTORS // 2)
        else:
            _sum_tables_few(tables, t0, groups, x, x0 + k, stride, gradient, g0 + k, columns - k)
            k += 16


@intrinsic
def sum_columns(
    typing: Any,
    samples: Any,
    dz: Any,
    d0: Any,
    count: Any,
    x: Any,
    x0: Any,
    stride: Any,
    gradient: Any,
    g0: Any,
    columns: Any,
    carry: Any,
) -> Any:
    """gradient[i] = sum over the listed samples of dz * x[sample, i], in the list's order, each step fused.

    samples, dz (..) int32, float32 from d0: ``count`` of them; x (.., stride) uint8 or float32, its columns from x0 on:
    GRADIENT_COLUMNS of them, or ``columns`` if that is less; gradient float32 from g0. Bytes count as 0.0 to 255.0.
    With ``carry`` the sum goes on from what gradient holds.
    """
    signature = types.void(
        samples, dz, types.intp, types.intp, x, types.intp, types.intp, gradient, types.intp, types.intp, types.boolean
    )

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        is_bytes = signature.args[4].dtype == types.uint8
        listed, error = lanes.pointer(0, args[2], I32), lanes.pointer(1, args[2], F32)
        inputs, out = lanes.pointer(4, args[5], I8 if is_bytes else F32), lanes.pointer(7, args[8], F32)
        bytes16 = ir.VectorType(I8, 16)

        def sums_of(masks: list[Any]) -> None:
            sums = lanes.registers(len(masks), FLOATS16)
            with builder.if_then(args[10]):
                for k, (few, slot) in enumerate(zip(masks, sums)):
                    builder.store(lanes.load_few(lanes.at(out, 16 * k), few, FLOATS16), slot)
            with cgutils.for_range(builder, args[3]) as loop:
                sample = builder.zext(builder.load(lanes.at(listed, loop.index)), I64)
                value = lanes.splat(builder.load(lanes.at(error, loop.index)), 16)
                start = lanes.at(inputs, builder.mul(sample, args[6]))
                for k, (few, slot) in enumerate(zip(masks, sums)):
                    x = lanes.load_few(lanes.at(start, 16 * k), few, bytes16 if is_bytes else FLOATS16)
                    if is_bytes:
                        x = builder.sitofp(builder.zext(x, INTS16), FLOATS16)
                    builder.store(lanes.fma(value, x, builder.load(slot)), slot)
            for k, (few, slot) in enumerate(zip(masks, sums)):
                lanes.store_few(builder.load(slot), lanes.at(out, 16 * k), few)

        vectors = GRADIENT_COLUMNS // 16
        with builder.if_else(builder.icmp_signed(">=", args[9], I64(GRADIENT_COLUMNS))) as (whole, part):
            with whole:
                sums_of([None] * vectors)
            with part:
                sums_of([lanes.first(builder.sub(args[9], I64(16 * k)), 16) for k in range(vectors)])
        return lanes.nothing()

    return signature, codegen


@intrinsic
def trailing_zeros(typing: Any, word: Any) -> Any:
    """The lowest set bit of a 64-bit word that is not 0, as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], I1(1))

    return types.int64(types.uint64), codegen


@intrinsic
def project_errors(
    typing: Any,
    error: Any,
    e0: Any,
    stride: Any,
    classes: Any,
    p: Any,
    p0: Any,
    active: Any,
    a0: Any,
    dz: Any,
    d0: Any,
    samples: Any,
) -> Any:
    """dz[s] = sum over c of error[c, s] P[c], in order of c; returns the samples that are active as bits of a word.

    For up to 64 samples: error (.., stride) float32 from e0; P float32 from p0; active uint16 from a0, 16 samples
    each; dz float32 from d0.
    """
    place = types.intp
    signature = types.uint64(error, place, place, place, p, place, active, place, dz, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        errors, projection = lanes.pointer(0, args[1], F32), lanes.pointer(4, args[5], F32)
        out, sums = lanes.pointer(8, args[9], F32), lanes.registers(4, FLOATS16)
        few = [lanes.first(builder.sub(args[10], I64(16 * k)), 16) for k in range(4)]
        with cgutils.for_range(builder, args[3]) as loop:
            weight = lanes.splat(builder.load(lanes.at(projection, loop.index)), 16)
            start = lanes.at(errors, builder.mul(loop.index, args[2]))
            for k, slot in enumerate(sums):
                lanes.add_to(slot, builder.fmul(lanes.masked_load(lanes.at(start, 16 * k), few[k]), weight))
        for k, slot in enumerate(sums):
            lanes.masked_store(builder.load(slot), lanes.at(out, 16 * k), few[k])
        groups = lanes.first(builder.udiv(builder.add(args[10], I64(15)), I64(16)), 4)
        words = lanes.masked_load(lanes.pointer(6, args[7], I16), groups, ir.VectorType(I16, 4))
        return builder.and_(builder.bitcast(words, I64), builder.bitcast(lanes.first(args[10], 64), I64))

    return signature, codegen


@intrinsic
def copy_errors(typing: Any, errors: Any, start: Any, dz: Any, d0: Any, samples: Any) -> Any:
    """dz[d0 + s] = errors[start + s] for up to 64 samples; returns those that are not 0, or NaN, as bits of a word."""
    signature = types.uint64(errors, types.intp, dz, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        source, target, word = lanes.pointer(0, args[1], F32), lanes.pointer(2, args[3], F32), I64(0)
        for k in range(4):
            few = lanes.first(builder.sub(args[4], I64(16 * k)), 16)
            values = lanes.masked_load(lanes.at(source, 16 * k), few)
            lanes.masked_store(values, lanes.at(target, 16 * k), few)
            bits = builder.bitcast(builder.fcmp_unordered("!=", values, ir.Constant(FLOATS16, None)), I16)
            word = builder.or_(word, builder.shl(builder.zext(bits, I64), I64(16 * k)))
        return word

    return signature, codegen


@intrinsic
def count_up(typing: Any, out: Any, start: Any, first: Any, count: Any) -> Any:
    """out[start + k] = first + k, int32, for up to 64 elements."""
    signature = types.void(out, types.intp, types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        target, base = lanes.pointer(0, args[1], F32), lanes.splat(builder.trunc(args[2], I32), 16)
        for k in range(0, 64, 16):
            numbers = builder.add(base, ir.Constant(INTS16, list(range(k, k + 16))))
            few = lanes.first(builder.sub(args[3], I64(k)), 16)
            lanes.masked_store(builder.bitcast(numbers, FLOATS16), lanes.at(target, k), few)
        return lanes.nothing()

    return signature, codegen


@intrinsic
def move_up(typing: Any, dz: Any, d0: Any, first: Any, bits: Any, listed: Any, d1: Any, l1: Any) -> Any:
    """Those of up to 64 errors whose bit is set, close together: dz[d1 + k], and their numbers listed[l1 + k].

    dz float32 from d0, d1 <= d0; numbers count from ``first``, int32. Returns how many there are. Only where a vector
    can be compressed (:data:`COMPRESSES`).
    """
    place = types.intp
    signature = types.int64(dz, place, types.int64, types.uint64, listed, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        source, values = lanes.pointer(0, args[1], F32), lanes.pointer(0, args[5], F32)
        numbers, base = lanes.pointer(4, args[6], F32), lanes.splat(builder.trunc(args[2], I32), 16)
        zero, moved = ir.Constant(FLOATS16, None), I64(0)
        for k in range(0, 64, 16):
            part = builder.trunc(builder.lshr(args[3], I64(k)), I16)
            mask = builder.bitcast(part, MASK16)
            number = builder.bitcast(builder.add(base, ir.Constant(INTS16, list(range(k, k + 16)))), FLOATS16)
            error = lanes.masked_load(lanes.at(source, k), mask)
            count = builder.zext(builder.ctpop(part), I64)
            few = builder.bitcast(builder.trunc(builder.sub(builder.shl(I64(1), count), I64(1)), I16), MASK16)
            for value, target in ((error, values), (number, numbers)):
                close = lanes.call("llvm.x86.avx512.mask.compress.v16f32", FLOATS16, value, zero, mask)
                lanes.masked_store(close, lanes.at(target, moved), few)
            moved = builder.add(moved, count)
        return moved

    return signature, codegen


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
    """z[r, s] = gain z[r, s] + bias[r], and what it switches on; returns the exact sum of |z|.

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
        lanes = _Lanes(context, builder, signature, args)
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


@intrinsic
def scale_where(
    typing: Any, z: Any, z0: Any, z_row: Any, rows: Any, count: Any, scale: Any, bits: Any, b0: Any, b_row: Any
) -> Any:
    """z[r, s] = scale * z[r, s] where bit s of bits[r] is set, else 0, for the first ``count`` (at most 16) of a row.

    z float32 from z0, bits uint16 from b0; ``z_row`` and ``b_row`` positions from one of the ``rows`` to the next.
    """
    place = types.intp
    signature = types.void(z, place, place, place, place, types.float32, bits, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        values, passes = lanes.pointer(0, args[1], F32), lanes.pointer(6, args[7], I16)
        few, factor = lanes.first(args[4], 16), lanes.splat(args[5], 16)
        with cgutils.for_range(builder, args[3]) as loop:
            here = lanes.at(values, builder.mul(loop.index, args[2]))
            word = builder.load(lanes.at(passes, builder.mul(loop.index, args[8])))
            scaled = builder.fmul(factor, lanes.masked_load(here, few))
            mask = builder.bitcast(word, ir.VectorType(I1, 16))
            lanes.masked_store(builder.select(mask, scaled, ir.Constant(FLOATS16, None)), here, few)
        return lanes.nothing()

    return signature, codegen


@intrinsic
def prefetch_read(typing: Any, array: Any, start: Any, count: Any) -> Any:
    """Asks for ``count`` float32 values to be brought near, to be read soon; changes nothing."""
    signature = types.void(array, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        begin = builder.bitcast(lanes.pointer(0, args[1], F32), I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        lines = builder.udiv(builder.add(args[2], I64(15)), I64(16))
        with cgutils.for_range(builder, lines) as loop:
            line = builder.gep(begin, [builder.mul(loop.index, I64(64))])
            builder.call(call, [line, I32(0), I32(2), I32(1)])  # for reading, into the second-level cache, data
        return lanes.nothing()

    return signature, codegen


# The optimizers' rules: from slope, moments, rate and root to what w loses, and the new moments.


def _sgd(lanes: _Lanes, slope: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    return (lanes.builder.fmul(rate, slope),)


def _momentum(lanes: _Lanes, slope: Any, m: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    m = lanes.builder.fadd(lanes.builder.fmul(m, lanes.constant(0.9)), slope)
    return lanes.builder.fmul(rate, m), m


def _nesterov(lanes: _Lanes, slope: Any, m: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    build = lanes.builder
    m = build.fadd(build.fmul(m, lanes.constant(0.9)), slope)
    return build.fmul(rate, build.fadd(slope, build.fmul(lanes.constant(0.9), m))), m


def _adam(lanes: _Lanes, slope: Any, m: Any, v: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    build = lanes.builder
    m = build.fadd(m, build.fmul(build.fsub(slope, m), lanes.constant(0.1)))
    square = build.fmul(build.fmul(slope, slope), lanes.constant(0.001))
    v = build.fadd(build.fmul(v, lanes.constant(0.999)), square)
    below = build.fadd(build.fmul(lanes.call("llvm.sqrt.v16f32", FLOATS16, v), root), lanes.constant(1e-8))
    return build.fdiv(build.fmul(rate, m), below), m, v


def _slope(lanes: _Lanes, w: Any, gradient: Any, scale: Any, shift: Any, below: Any, decay: Any, decays: bool) -> Any:
    """What an optimizer takes for the gradient of 16 weights."""
    build = lanes.builder
    slope = build.fadd(build.fmul(scale, gradient), shift)
    zero = ir.Constant(FLOATS16, None)
    slope = build.select(build.fcmp_ordered("<", lanes.magnitude(w), below), slope, zero)
    return build.fadd(slope, build.fmul(decay, w)) if decays else slope


def _moved(lanes: _Lanes, w: Any, move: Any, limit: Any) -> Any:
    """w - move, clamped."""
    build, floor = lanes.builder, lanes.builder.fneg(limit)
    w = build.fsub(w, move)
    w = build.select(build.fcmp_ordered("<", w, floor), floor, w)  # NaN stays
    return build.select(build.fcmp_ordered(">", w, limit), limit, w)


def _stepper(rule: Any, moments: int) -> Any:
    @intrinsic
    def step_run(
        typing: Any,
        w: Any,
        m: Any,
        v: Any,
        at: Any,
        gradient: Any,
        g0: Any,
        count: Any,
        ahead: Any,
        scale: Any,
        shift: Any,
        below: Any,
        rate: Any,
        root: Any,
        decay: Any,
        limit: Any,
    ) -> Any:
        """One step of the optimizer for ``count`` weights from flat position ``at``, with their moments m and v.

        The gradient is scale * gradient[g0 + k] + shift, or 0 unless |w| < ``below``, plus decay * w; the new w is
        clamped to +-``limit``. All float32. What lies ``ahead`` positions further is asked for meanwhile: its turn
        comes after the next gradient. Returns whether a moment is no finite number any more.
        """
        place, number = types.intp, types.float32
        signature = types.boolean(w, m, v, place, gradient, place, place, place, *[number] * 7)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = _Lanes(context, builder, signature, args)
            state = [lanes.pointer(k, args[3], F32) for k in range(1 + moments)]
            gradients = lanes.pointer(4, args[5], F32)
            scale, shift, below, rate, root, decay, limit = (lanes.splat(value, 16) for value in args[8:])
            (worst,) = lanes.registers(1, INTS16)

            def group(k: Any, few: Any, decays: bool) -> None:
                places = [lanes.at(pointer, k) for pointer in state]
                for here in places:
                    lanes.prefetch(lanes.at(here, args[7]))
                w, *old = (lanes.load_few(here, few) for here in places)
                g = lanes.load_few(lanes.at(gradients, k), few)
                slope = _slope(lanes, w, g, scale, shift, below, decay, decays)
                move, *new = rule(lanes, slope, *old, rate, root)
                for value, here in zip((_moved(lanes, w, move, limit), *new), places):
                    lanes.store_few(value, here, few)
                if new:  # of Adam's moments the second tells of both
                    lanes.largest(worst, lanes.size_bits(new[-1], few))

            def all_groups(decays: bool) -> None:
                whole = builder.and_(args[6], I64(-16))
                with cgutils.for_range_slice(builder, I64(0), whole, I64(16), I64) as (k, _):
                    group(k, None, decays)
                with builder.if_then(builder.icmp_signed("<", whole, args[6])):
                    group(whole, lanes.first(builder.sub(args[6], whole), 16), decays)

            with builder.if_else(builder.fcmp_ordered("==", args[13], F32(0.0))) as (plain, decaying):
                with plain:
                    all_groups(False)
                with decaying:
                    all_groups(True)
            return lanes.exceeds(worst, lanes.integers(0x7F7FFFFF))  # infinity, NaN

        return signature, codegen

    return step_run


step_sgd, step_momentum = _stepper(_sgd, 0), _stepper(_momentum, 1)
step_nesterov, step_adam = _stepper(_nesterov, 1), _stepper(_adam, 2)


# Moments in two bytes or one: tinyfoa_np.reference.moments says how, and why.


def _philox(lanes: _Lanes, index: Any, layer: Any, purpose: Any, seed: Any) -> list[Any]:
    """The four words, <8 x i64> below 2^32 each, of the eight blocks from an index on."""
    build, low = lanes.builder, ir.Constant(WORDS8, [0xFFFFFFFF] * 8)
    half = ir.Constant(WORDS8, [32] * 8)
    index = build.add(lanes.splat(index, 8), ir.Constant(WORDS8, list(range(8))))
    c0, c1 = build.and_(index, low), build.lshr(index, half)
    c2, c3 = lanes.splat(layer, 8), lanes.splat(purpose, 8)
    k0, k1 = build.and_(seed, I64(0xFFFFFFFF)), build.lshr(seed, I64(32))
    for _ in range(10):
        a = build.mul(ir.Constant(WORDS8, [0xD2511F53] * 8), c0)
        b = build.mul(ir.Constant(WORDS8, [0xCD9E8D57] * 8), c2)
        c0 = build.xor(build.xor(build.lshr(b, half), c1), lanes.splat(k0, 8))
        c2 = build.xor(build.xor(build.lshr(a, half), c3), lanes.splat(k1, 8))
        c1, c3 = build.and_(b, low), build.and_(a, low)
        k0 = build.and_(build.add(k0, I64(0x9E3779B9)), I64(0xFFFFFFFF))
        k1 = build.and_(build.add(k1, I64(0xBB67AE85)), I64(0xFFFFFFFF))
    return [c0, c1, c2, c3]


def _draws(lanes: _Lanes, words: list[Any]) -> list[Any]:
    """Four words of eight blocks as two vectors of 16: columns j and 16 + j of 32."""
    build, ints = lanes.builder, ir.VectorType(I32, 8)
    few = [build.trunc(word, ints) for word in words]
    order = ir.Constant(INTS16, list(range(16)))
    return [build.shuffle_vector(few[k], few[k + 1], order) for k in (0, 2)]


class _Halves:
    """Moments of 32 weights as upper halves of float32, bfloat16; ``second`` makes no difference."""

    element, scaled = I16, False

    def __init__(self, lanes: _Lanes, second: bool) -> None:
        self.lanes = lanes

    def read(self, codes: Any, unit: Any) -> Any:
        build = self.lanes.builder
        return build.bitcast(build.shl(build.zext(codes, INTS16), self.lanes.integers(16)), FLOATS16)

    def write(self, values: list[Any], draws: list[Any]) -> tuple[list[Any], Any]:
        build, lanes = self.lanes.builder, self.lanes
        sums = [build.add(build.bitcast(value, INTS16), draw) for value, draw in zip(values, draws)]
        return [build.trunc(build.lshr(s, lanes.integers(16)), ir.VectorType(I16, 16)) for s in sums], None


class _Bytes:
    """Moments of 32 weights as bytes, with the exponent of their unit: steps of it below 32, then 16 an octave."""

    element, scaled = I8, True

    def __init__(self, lanes: _Lanes, second: bool) -> None:
        self.lanes, self.second = lanes, second

    def read(self, codes: Any, unit: Any) -> Any:
        build, lanes = self.lanes.builder, self.lanes
        number = build.zext(codes, INTS16)
        code = number if self.second else build.and_(number, lanes.integers(0x7F))
        # from 16 on a code is exponent and mantissa of a float32 but for the unit: 16 is 2**4 units. Below, what an
        # octave higher is too much by 16 units
        few = build.icmp_unsigned("<", code, lanes.integers(16))
        eight, sixteen = (lanes.splat(build.shl(build.add(unit, I32(k)), I32(23)), 16) for k in (3, 4))
        bits = build.add(build.shl(code, lanes.integers(19)), eight)
        bits = build.select(few, build.add(bits, lanes.integers(1 << 23)), bits)
        value, sixteen = build.bitcast(bits, FLOATS16), build.bitcast(sixteen, FLOATS16)
        value = build.select(few, build.fsub(value, sixteen), value)
        if self.second:
            return value
        sign = build.shl(build.and_(number, lanes.integers(0x80)), lanes.integers(24))
        return build.bitcast(build.or_(build.bitcast(value, INTS16), sign), FLOATS16)

    def write(self, values: list[Any], draws: list[Any]) -> tuple[list[Any], Any]:
        build, lanes = self.lanes.builder, self.lanes
        sizes = [lanes.size_bits(value) for value in values]
        top = lanes.call("llvm.vector.reduce.umax.v16i32", I32, lanes.larger(*sizes))
        # 31 / 16 of a power of two are as much as fits; 16 steps, and the octaves above the first
        exponent = build.lshr(build.add(top, I32(0x7FFFF)), I32(23))
        unit = build.sub(exponent, I32(18 if self.second else 10))
        unit = build.select(build.icmp_signed(">", unit, I32(1)), unit, I32(1))
        over = lanes.splat(build.bitcast(build.shl(build.sub(I32(254), unit), I32(23)), F32), 16)
        codes = []
        for value, size, draw in zip(values, sizes, draws):
            units = build.fmul(build.bitcast(size, FLOATS16), over)
            # the exponent, in float32's counting 131 for 16; of what is smaller the step is a unit, too
            place = build.and_(build.bitcast(units, INTS16), lanes.integers(0xFF << 23))
            place = lanes.larger(place, lanes.integers(131 << 23))
            # 16 to 32 steps, in 65536ths, whose carry is at random; 16 codes more for each octave
            less = build.bitcast(build.sub(lanes.integers((258 + 16) << 23), place), FLOATS16)
            steps = build.fptosi(lanes.fma(units, less, lanes.constant(0.5)), INTS16)
            steps = build.add(build.add(steps, draw), build.lshr(place, lanes.integers(3)))
            code = build.sub(build.lshr(steps, lanes.integers(16)), lanes.integers(131 * 16))
            if self.second:  # never 0 where the moment is not
                one = lanes.integers(1)
                code = lanes.larger(code, build.select(build.icmp_unsigned("<", size, one), size, one))
            else:
                sign = build.lshr(build.bitcast(value, INTS16), lanes.integers(24))
                code = build.or_(code, build.and_(sign, lanes.integers(0x80)))
            codes.append(build.trunc(code, ir.VectorType(I8, 16)))
        return codes, build.trunc(unit, I8)


def _coded_stepper(rule: Any, moments: int) -> Any:
    @intrinsic
    def step_coded(
        typing: Any,
        w: Any,
        m: Any,
        v: Any,
        m_unit: Any,
        v_unit: Any,
        at: Any,
        unit: Any,
        gradient: Any,
        g0: Any,
        count: Any,
        ahead: Any,
        left: Any,
        right: Any,
        seed: Any,
        layer: Any,
        purpose: Any,
        index: Any,
        scale: Any,
        shift: Any,
        below: Any,
        rate: Any,
        root: Any,
        decay: Any,
        limit: Any,
    ) -> Any:
        """As the steps of float32 moments, with m and v uint16 (bfloat16) or uint8 with their exponents.

        ``count`` weights from a block's first on: m_unit, v_unit (..) uint8 from ``unit``, one for each 32. Weights
        ``left`` to ``right`` of them stay. Random bits are those of the Philox blocks from ``index`` on, eight for
        each 32. A moment is in float32 nowhere but in registers.
        """
        place, number, natural = types.intp, types.float32, types.uint64
        signature = types.boolean(
            w,
            m,
            v,
            m_unit,
            v_unit,
            place,
            place,
            gradient,
            place,
            place,
            place,
            place,
            place,
            *[natural] * 4,
            *[number] * 7,
        )

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = _Lanes(context, builder, signature, args)
            way = _Bytes if signature.args[1].dtype == types.uint8 else _Halves
            ways, kind = [way(lanes, second) for second in (False, True)[:moments]], ir.VectorType(way.element, 16)
            codes = [lanes.pointer(1 + k, args[5], way.element) for k in range(moments)]
            exponents = [lanes.pointer(3 + k, args[6], I8) for k in range(moments)]
            weights, gradients = lanes.pointer(0, args[5], F32), lanes.pointer(7, args[8], F32)
            count, ahead, left, right, seed, layer, purpose, index = args[9:17]
            scale, shift, below, rate, root, decay, limit = (lanes.splat(value, 16) for value in args[17:])
            zero = ir.Constant(FLOATS16, None)
            (worst,) = lanes.registers(1, INTS16)

            decays = builder.fcmp_ordered("!=", args[22], F32(0.0))

            def pace(k: Any) -> Any:
                """The rate of the 16 weights from k on."""
                columns = builder.add(lanes.splat(builder.trunc(k, I32), 16), ir.Constant(INTS16, list(range(16))))
                begin, end = (lanes.splat(builder.trunc(bound, I32), 16) for bound in (left, right))
                stays = builder.and_(builder.icmp_signed(">=", columns, begin), builder.icmp_signed("<", columns, end))
                return builder.select(stays, zero, rate)

            def block(k: Any, whole: bool, plain: bool) -> None:
                number = builder.lshr(k, I64(5))
                words = _draws(
                    lanes, _philox(lanes, builder.add(index, builder.shl(number, I64(3))), layer, purpose, seed)
                )
                starts = [k, builder.add(k, I64(16))]
                masks = [None if whole else lanes.first(builder.sub(count, start), 16) for start in starts]
                units = [lanes.at(pointer, number) for pointer in exponents]
                held = [builder.zext(builder.load(here), I32) if way.scaled else None for here in units]
                for pointer in codes:
                    lanes.prefetch(lanes.at(pointer, builder.add(k, ahead)))
                made: list[list[Any]] = [[] for _ in range(moments)]
                for start, few in zip(starts, masks):
                    here = lanes.at(weights, start)
                    lanes.prefetch(lanes.at(here, ahead))
                    w, g = lanes.load_few(here, few), lanes.load_few(lanes.at(gradients, start), few)
                    old = [
                        held_as.read(lanes.load_few(lanes.at(pointer, start), few, kind), unit)
                        for held_as, pointer, unit in zip(ways, codes, held)
                    ]
                    slope = _slope(lanes, w, g, scale, shift, below, decay, False)
                    if not plain:
                        decayed = builder.fadd(slope, builder.fmul(decay, w))
                        slope = builder.select(decays, decayed, slope)
                    move, *new = rule(lanes, slope, *old, rate if plain else pace(start), root)
                    lanes.store_few(_moved(lanes, w, move, limit), here, few)
                    for values, value in zip(made, new):
                        values.append(value if few is None else builder.select(few, value, zero))
                    lanes.largest(worst, lanes.size_bits(made[-1][-1]))
                halves = (
                    [builder.and_(word, lanes.integers(0xFFFF)) for word in words],
                    [builder.lshr(word, lanes.integers(16)) for word in words],
                )
                for held_as, values, half, pointer, unit in zip(ways, made, halves, codes, units):
                    rounded, exponent = held_as.write(values, half)
                    for start, few, value in zip(starts, masks, rounded):
                        lanes.store_few(value, lanes.at(pointer, start), few)
                    if way.scaled:
                        builder.store(exponent, unit)

            def all_blocks(plain: bool) -> None:
                whole = builder.and_(count, I64(-32))
                with cgutils.for_range_slice(builder, I64(0), whole, I64(32), I64) as (k, _):
                    block(k, True, plain)
                with builder.if_then(builder.icmp_signed("<", whole, count)):
                    block(whole, False, plain)

            with builder.if_else(builder.or_(decays, builder.icmp_signed("<", left, right))) as (special, usual):
                with special:
                    all_blocks(False)
                with usual:
                    all_blocks(True)
            return lanes.exceeds(worst, lanes.integers(0x7F7FFFFF))  # infinity, NaN

        return signature, codegen

    return step_coded


def _multiplied(lanes: _Lanes, slope: Any, m: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    """No step: the weight stays, m is multiplied by ``root``."""
    return ir.Constant(FLOATS16, None), lanes.builder.fmul(m, root)


step_coded_momentum, step_coded_nesterov = _coded_stepper(_momentum, 1), _coded_stepper(_nesterov, 1)
step_coded_adam, multiply_coded = _coded_stepper(_adam, 2), _coded_stepper(_multiplied, 1)


@intrinsic
def publish_run(typing: Any, w: Any, at: Any, low: Any, high: Any, largest: Any, unit: Any, out: Any, o0: Any) -> Any:
    """Hands columns ``low`` to ``high`` of a neuron, at most 1,024, to the forward pass; returns their sum of |w|.

    Column c is w[at + c]. It goes to out[o0 + c] if that is float32; if it is uint64, its sign to bit c % 64 of
    out[o0 + c // 64 * 8], the word's other bits being kept. The sum is in steps of 1 / ``unit``, a power of two up to
    2**32, each |w| rounded half up; it is -1 if one is not <= ``largest`` <= 256.
    """
    place = types.intp
    signature = types.int64(w, place, place, place, types.float32, types.float64, out, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        weights, low, high = lanes.pointer(0, args[1], F32), args[2], args[3]
        packed = signature.args[6].dtype == types.uint64
        published, zero = lanes.pointer(6, args[7], I64 if packed else F32), ir.Constant(FLOATS16, None)
        # |w| unit = 2^16 (whole + rest): the first an integer, the second cut to half steps, all of it exact
        coarse = lanes.splat(builder.fptrunc(builder.fmul(args[5], ir.DoubleType()(2.0**-16)), F32), 16)
        wholes, rests, worst = lanes.registers(3, INTS16)
        one = ir.Constant(INTS16, [1] * 16)

        def group(column: Any, few: Any) -> Any:
            w = lanes.load_few(lanes.at(weights, column), few)
            lanes.largest(worst, lanes.size_bits(w))
            steps = builder.fmul(lanes.magnitude(w), coarse)
            whole = builder.fptosi(steps, INTS16)
            rest = builder.fsub(steps, builder.sitofp(whole, FLOATS16))
            halves = builder.fptosi(builder.fmul(rest, lanes.constant(2.0**17)), INTS16)
            lanes.add_to(wholes, whole)
            lanes.add_to(rests, builder.lshr(builder.add(halves, one), one))
            if not packed:
                lanes.store_few(w, lanes.at(published, column), few)
            return builder.zext(builder.bitcast(builder.fcmp_ordered(">=", w, zero), I16), I64)

        def word(k: Any, own: Any) -> None:
            signs = I64(0)
            for part in range(4):
                few = own and builder.bitcast(builder.trunc(builder.lshr(own, I64(16 * part)), I16), MASK16)
                column = builder.add(builder.shl(k, I64(6)), I64(16 * part))
                signs = builder.or_(signs, builder.shl(group(column, few), I64(16 * part)))
            if packed:
                target = lanes.at(published, builder.shl(k, I64(3)))
                if own:
                    others = builder.and_(builder.load(target), builder.not_(own))
                    signs = builder.or_(builder.and_(signs, own), others)
                builder.store(signs, target)

        def cut(distance: Any) -> Any:
            return builder.select(builder.icmp_signed(">", distance, I64(0)), distance, I64(0))

        first, last = builder.ashr(low, I64(6)), builder.ashr(builder.add(high, I64(63)), I64(6))
        with cgutils.for_range_slice(builder, first, last, I64(1), I64) as (k, _):
            begin = builder.shl(k, I64(6))
            before, behind = cut(builder.sub(low, begin)), cut(builder.sub(builder.add(begin, I64(64)), high))
            own = builder.and_(builder.shl(I64(-1), before), builder.lshr(I64(-1), behind))
            with builder.if_else(builder.icmp_signed("==", own, I64(-1))) as (then, otherwise):
                with then:
                    word(k, None)
                with otherwise:
                    word(k, own)

        longs = ir.VectorType(I64, 16)
        total = builder.shl(builder.sext(builder.load(wholes), longs), ir.Constant(longs, [16] * 16))
        total = builder.add(total, builder.sext(builder.load(rests), longs))
        total = lanes.call("llvm.vector.reduce.add.v16i64", I64, total)
        lost = lanes.exceeds(worst, lanes.splat(builder.bitcast(args[4], I32), 16))
        return builder.select(lost, I64(-1), total)

    return signature, codegen


@intrinsic
def write_signs(typing: Any, word: Any, out: Any, start: Any) -> Any:
    """out[start + i] = +1.0 where bit i of a 64-bit word is set, else -1.0."""
    signature = types.void(types.uint64, out, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder, signature, args)
        floats = ir.VectorType(F32, 64)
        mask = builder.bitcast(args[0], ir.VectorType(I1, 64))
        signs = builder.select(mask, ir.Constant(floats, [1.0] * 64), ir.Constant(floats, [-1.0] * 64))
        lanes.store(signs, lanes.pointer(1, args[2], F32), 4)
        return lanes.nothing()

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
            lanes = _Lanes(context, builder, signature, args)
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


@njit(inline="always")
def share(thread, threads, count, step):
    """The part of ``count`` that falls to ``thread``: its first and its end, cut at multiples of ``step``."""
    blocks = (count + step - 1) // step
    return min(thread * blocks // threads * step, count), min((thread + 1) * blocks // threads * step, count)


# exp, log and cos by one scalar routine each, so that a result does not depend on a machine's library.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # ln 2 = high + low
_EXP_TERMS = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
_LOG_TERMS = tuple(1.0 / (2 * k + 1) for k in range(11, -1, -1))


@intrinsic
def _power_of_two(typing: Any, k: Any) -> Any:
    """2.0**k as float64, for k in [-1022, 1023]: its bits, put together."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.shl(builder.add(args[0], I64(1023)), I64(52)), ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def _bits_of(typing: Any, x: Any) -> Any:
    """The bits of a float64 as int64."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(args[0], I64)


@intrinsic
def _of_bits(typing: Any, bits: Any) -> Any:
    """The float64 of these bits."""
    codegen = lambda context, builder, signature, args: builder.bitcast(args[0], ir.DoubleType())  # noqa: E731
    return types.float64(types.int64), codegen


@njit(inline="always")
def exp(x):
    """e**x in float64, within 2 units in the last place for x in [-700, 700]; 0 below."""
    y = (-700.0 if x < -700.0 else x) / (_LN2_HIGH + _LN2_LOW) + 0.5
    k = np.int64(y)
    k -= k > y  # the integer below
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW  # |r| <= ln(2) / 2
    total = 0.0
    for term in _EXP_TERMS:
        total = total * r + term
    return total * _power_of_two(k) if not x < -700.0 else 0.0


@njit(cache=True, error_model="numpy")
def log(x):
    """ln x in float64, within 3 units in the last place, for x > 0."""
    if not x < np.inf:
        return x
    tiny = x < 2.0**-1022
    bits = _bits_of(x * 2.0**54 if tiny else x)
    return _log_of(_of_bits((bits & 0xFFFFFFFFFFFFF) | (1022 << 52)), (bits >> 52) - (1022 + 54 if tiny else 1022))


@njit(inline="always")
def log_of_normal(x):
    """The same, to the bit, for x that is neither too small for all its digits nor infinite: a loop becomes vectors."""
    bits = _bits_of(x)
    return _log_of(_of_bits((bits & 0xFFFFFFFFFFFFF) | (1022 << 52)), (bits >> 52) - 1022)


@njit(inline="always")
def _log_of(mantissa, k):
    small = mantissa < 0.7071067811865476
    mantissa, k = (mantissa * 2.0 if small else mantissa), (k - 1 if small else k)
    s = (mantissa - 1.0) / (mantissa + 1.0)  # ln m = 2 artanh s, |s| < 0.172
    total = 0.0
    for term in _LOG_TERMS:
        total = total * (s * s) + term
    return 2.0 * s * total + (k * _LN2_HIGH + k * _LN2_LOW)


_COS_TERMS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(13, -1, -1))


@njit(inline="always")
def cos_turn(turn):
    """cos(2 pi turn) in float64, within 4e-16 of it, for turn in [0, 1); without branches."""
    turn = turn if turn < 1.0 - turn else 1.0 - turn
    beyond = turn > 0.25
    turn, sign = (0.5 - turn if beyond else turn), (-1.0 if beyond else 1.0)
    x = turn * (2.0 * math.pi)
    total = 0.0
    for term in _COS_TERMS:
        total = total * (x * x) + term
    return sign * total


@njit(inline="always")
def tanh(x):
    """tanh x in float64, within 1e-15 of it; without branches, so that a loop of them becomes vectors."""
    x = min(max(x, -20.0), 20.0)  # beyond, it is 1 to the last place
    k = np.int64(x * (2.0 / (_LN2_HIGH + _LN2_LOW)) + 64.5) - 64  # e**2x = 2**k e**r
    r = (2.0 * x - k * _LN2_HIGH) - k * _LN2_LOW  # |r| <= ln(2) / 2
    total = 0.0
    for term in _TANH_TERMS:
        total = total * r + term
    power = _power_of_two(k)
    # e**2x - 1 = 2**k (e**r - 1) + (2**k - 1): small where x is, without loss
    less = power * (total * r) + (power - 1.0)
    return less / (less + 2.0)


_TANH_TERMS = tuple(1.0 / math.factorial(k) for k in range(14, 0, -1))  # of (e**r - 1) / r
