"""The gradient of packed inputs, from tables of sums: turned bits, tables, look-ups.

Four samples' errors have 16 possible sums. The bits of an input, of these four samples, select one.

AVX-512 looks up 16 floats in one instruction. AVX2 has such an instruction for bytes only, for 32 inputs at a time.
There (`PLANES`) a table consists of four planes, byte k of each of the 16 sums, and bits are turned into bytes of eight
samples. Other processors look up one sum at a time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import INLINED, njit
from .simd import AVX2, F32, FLOATS16, I1, I8, I16, I32, I64, INTS16, MASK16, WIDE, Lanes

#: whether look-ups are of bytes
PLANES = AVX2 and not WIDE
#: vectors of 16 gradients that one pass over the tables serves with AVX-512
GRADIENT_VECTORS = 8
BYTES32, BYTES64 = ir.VectorType(I8, 32), ir.VectorType(I8, 64)
WORDS16, FLOATS8 = ir.VectorType(I16, 16), ir.VectorType(F32, 8)


@intrinsic
def turn_word(
    typing: Any,
    x: Any,
    x0: Any,
    stride: Any,
    samples: Any,
    down: Any,
    beyond: Any,
    out: Any,
    o0: Any,
    width: Any,
    column: Any,
    columns: Any,
) -> Any:
    """Turn up to 32 samples' packed bits, of up to 64 ``columns`` from ``column`` on: bit ``down`` + i of a sample.

    x (.., stride) uint64, the samples' words from x0 on, each with the next one if it goes ``beyond``. out uint32, from
    o0 on ``width`` elements for these samples: sample s of input i is bit s of element i, or, with `PLANES`, bit s % 8
    of byte s // 8 * width + i.
    """
    place = types.intp
    signature = types.void(x, place, place, place, place, types.boolean, out, place, place, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        _, x0, stride, samples, down, beyond, _, o0, width, column, columns = args
        words = lanes.pointer(0, x0, I64)
        element, vector, parts = (I8, BYTES64, 1) if PLANES else (I32, INTS16, 4)
        turned = lanes.pointer(6, o0, element)

        def word_of(sample: Any, two: bool) -> Any:
            here = lanes.at(words, builder.mul(sample, stride))
            word = builder.lshr(builder.load(here), down)
            if two:
                upper = builder.shl(builder.load(lanes.at(here, 1)), builder.sub(I64(64), down))
                word = builder.or_(word, upper)
            return word

        def turn(first: int, count: Any, target: Any) -> None:
            slots, none = lanes.registers(parts, vector), ir.Constant(vector, None)

            def all_samples(two: bool) -> None:
                with cgutils.for_range(builder, count) as loop:
                    word = word_of(builder.add(loop.index, I64(first)), two)
                    bit = lanes.splat(builder.shl(element(1), builder.trunc(loop.index, element)), vector.count)
                    for k, slot in enumerate(slots):
                        part = builder.lshr(word, I64(vector.count * k))
                        part = builder.trunc(part, I16) if parts > 1 else part
                        mask = builder.bitcast(part, ir.VectorType(MASK16.element, vector.count))
                        builder.store(builder.or_(builder.load(slot), builder.select(mask, bit, none)), slot)

            with builder.if_else(beyond) as (then, otherwise):
                with then:
                    all_samples(True)
                with otherwise:
                    all_samples(False)
            for k, slot in enumerate(slots):
                at = vector.count * k
                rest = builder.sub(columns, I64(at))
                if PLANES:
                    _copy_first(lanes, slot, lanes.at(target, at), rest, vector)
                else:
                    lanes.masked_store(builder.load(slot), lanes.at(target, at), lanes.first(rest, 16))

        if not PLANES:
            turn(0, samples, lanes.at(turned, column))
            return lanes.nothing()
        for plane in range(4):
            left = builder.sub(samples, I64(8 * plane))
            left = builder.select(builder.icmp_signed("<", left, I64(0)), I64(0), left)
            count = builder.select(builder.icmp_signed("<", left, I64(8)), left, I64(8))
            turn(8 * plane, count, lanes.at(turned, builder.add(builder.mul(width, I64(plane)), column)))
        return lanes.nothing()

    return signature, codegen


def _copy_first(lanes: Lanes, source: Any, target: Any, count: Any, vector: ir.VectorType) -> None:
    """Copy a vector of bytes, or the first ``count`` of them: AVX2 has no masks for bytes."""
    build, whole = lanes.builder, vector.count
    with build.if_else(build.icmp_signed(">=", count, I64(whole))) as (all_of_them, some):
        with all_of_them:
            lanes.store(lanes.load(source, vector, 1), target, 1)
        with some:
            begin = build.bitcast(source, I8.as_pointer())
            with cgutils.for_range(build, count) as loop:
                build.store(build.load(lanes.at(begin, loop.index)), lanes.at(target, loop.index))


@intrinsic
def make_tables(typing: Any, dz: Any, d0: Any, groups: Any, t0: Any) -> Any:
    """All possible sums of four samples' errors, in tables of 16: entry n sums those whose bit is set in n, in order.

    dz float32: the errors of group g from d0 + 4 g. Groups without errors need no table: the others' tables follow one
    another from t0 on, and the groups' numbers, int32, replace the errors from d0 on. Returns the number of tables.
    With `PLANES`, byte k of entry n is byte 16 k + n of a table, and all groups have one.
    """
    signature = types.int64(dz, types.intp, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        errors, tables = lanes.pointer(0, args[1], F32), lanes.pointer(0, args[3], F32)
        numbers, count = lanes.pointer(0, args[1], I32), cgutils.alloca_once_value(builder, I64(0))
        floats4 = ir.VectorType(F32, 4)
        with cgutils.for_range(builder, args[2]) as loop:
            own = lanes.load(lanes.at(errors, builder.shl(loop.index, I64(2))), floats4, 4)
            four = [builder.extract_element(own, I32(j)) for j in range(4)]
            at = loop.index if PLANES else builder.load(count)
            table = _planes(lanes, four) if PLANES else _sums(lanes, four, list(range(16)))
            lanes.store(table, lanes.at(tables, builder.shl(at, I64(4))), 4)
            if not PLANES:
                group = builder.trunc(loop.index, I32)
                builder.store(group, lanes.at(numbers, at))  # at <= the group: its errors have been read
                some = builder.bitcast(builder.fcmp_unordered("!=", own, ir.Constant(floats4, None)), ir.IntType(4))
                some = builder.icmp_unsigned("!=", some, ir.Constant(ir.IntType(4), 0))
                builder.store(builder.add(at, builder.zext(some, I64)), count)
        return args[2] if PLANES else builder.load(count)

    return signature, codegen


def _sums(lanes: Lanes, errors: list[Any], entries: list[int]) -> Any:
    """These entries of the table of four errors: each sums those whose bit is set in its number, in order."""
    mask, vector = ir.VectorType(I1, len(entries)), ir.VectorType(F32, len(entries))
    total = None
    for j, error in enumerate(errors):
        chosen = ir.Constant(mask, [n >> j & 1 for n in entries])
        term = lanes.builder.select(chosen, lanes.splat(error, len(entries)), ir.Constant(vector, None))
        total = term if total is None else lanes.builder.fadd(total, term)
    return total


def _planes(lanes: Lanes, errors: list[Any]) -> Any:
    """The table of four errors as 64 bytes: byte k of entry n is byte 16 k + n."""
    build, ints = lanes.builder, ir.VectorType(I32, 8)
    together = [at + 4 * n + k for at in (0, 16) for k in range(4) for n in range(4)]
    halves = []  # of the two halves of 128 bits, one has entries below 8; in each, equal bytes of four entries
    for entries in ([*range(4), *range(8, 12)], [*range(4, 8), *range(12, 16)]):
        table = build.bitcast(_sums(lanes, errors, entries), BYTES32)
        order = ir.Constant(ir.VectorType(I32, 32), together)
        halves.append(build.bitcast(build.shuffle_vector(table, ir.Constant(BYTES32, ir.Undefined), order), ints))
    order = ir.Constant(INTS16, [at + k for k in range(4) for at in (0, 8, 4, 12)])
    return build.shuffle_vector(*halves, order)


def _sum_tables(vectors: int, masked: bool) -> Any:
    @intrinsic
    def sum_tables(
        typing: Any,
        tables: Any,
        t0: Any,
        numbers: Any,
        count: Any,
        x: Any,
        x0: Any,
        stride: Any,
        gradient: Any,
        g0: Any,
        columns: Any,
    ) -> Any:
        """gradient[g0 + i] = the sum over groups of four samples, in order, of each group's table entry for input i.

        tables as made by make_tables: ``count`` of 16 float32 from t0 on, their groups' numbers from ``numbers`` on;
        x (.., stride) uint32, from x0 on: bit s % 32 of [s // 32, i] is sample s's bit of input i; gradient float32: 16
        for each of the vectors; if ``masked``, only the first ``columns``.
        """
        place = types.intp
        signature = types.void(tables, place, place, place, x, place, place, gradient, place, place)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(context, builder, signature, args)
            _, t0, numbers, count, _, x0, stride, _, g0, columns = args
            entries, groups = lanes.pointer(0, t0, F32), lanes.pointer(0, numbers, I32)
            bits, out = lanes.pointer(4, x0, I32), lanes.pointer(7, g0, F32)
            starts = [16 * v for v in range(vectors)]
            few = [lanes.first(builder.sub(columns, I64(at)), 16) if masked else None for at in starts]
            sums = lanes.registers(vectors, FLOATS16)
            with cgutils.for_range(builder, count) as loop:
                group = builder.load(lanes.at(groups, loop.index))
                row = lanes.at(bits, builder.mul(builder.zext(builder.lshr(group, I32(3)), I64), stride))
                down = lanes.splat(builder.shl(builder.and_(group, I32(7)), I32(2)), 16)
                table = lanes.load(lanes.at(entries, builder.shl(loop.index, I64(4))), FLOATS16, 4)
                for slot, at, part in zip(sums, starts, few):
                    word = lanes.load_few(lanes.at(row, at), part, INTS16)
                    # by name: for equal counts, LLVM would choose a shift that Intel's processors split in two
                    index = lanes.call("llvm.x86.avx512.psrlv.d.512", INTS16, word, down)
                    lanes.add_to(slot, lanes.call("llvm.x86.avx512.permvar.sf.512", FLOATS16, table, index))
            for slot, at, part in zip(sums, starts, few):
                lanes.store_few(builder.load(slot), lanes.at(out, at), part)
            return lanes.nothing()

        return signature, codegen

    return sum_tables


def _sum_singles(columns: int) -> Any:
    @intrinsic
    def sum_singles(
        typing: Any,
        tables: Any,
        t0: Any,
        numbers: Any,
        count: Any,
        x: Any,
        x0: Any,
        stride: Any,
        gradient: Any,
        g0: Any,
    ) -> Any:
        """As `_sum_tables` for these columns, one number at a time."""
        place = types.intp
        signature = types.void(tables, place, place, place, x, place, place, gradient, place)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(context, builder, signature, args)
            _, t0, numbers, count, _, x0, stride, _, g0 = args
            entries, groups = lanes.pointer(0, t0, F32), lanes.pointer(0, numbers, I32)
            bits, out = lanes.pointer(4, x0, I32), lanes.pointer(7, g0, F32)
            sums = [cgutils.alloca_once_value(builder, F32(0.0)) for _ in range(columns)]
            with cgutils.for_range(builder, count) as loop:
                group = builder.load(lanes.at(groups, loop.index))
                row = lanes.at(bits, builder.mul(builder.zext(builder.lshr(group, I32(3)), I64), stride))
                down = builder.shl(builder.and_(group, I32(7)), I32(2))
                table = lanes.at(entries, builder.shl(loop.index, I64(4)))
                for k, slot in enumerate(sums):
                    index = builder.and_(builder.lshr(builder.load(lanes.at(row, k)), down), I32(15))
                    value = builder.load(lanes.at(table, builder.zext(index, I64)))
                    builder.store(builder.fadd(builder.load(slot), value), slot)
            for k, slot in enumerate(sums):
                builder.store(builder.load(slot), lanes.at(out, k))
            return lanes.nothing()

        return signature, codegen

    return sum_singles


def _sum_planes(masked: bool) -> Any:
    @intrinsic
    def sum_planes(
        typing: Any,
        tables: Any,
        t0: Any,
        numbers: Any,
        count: Any,
        x: Any,
        x0: Any,
        stride: Any,
        gradient: Any,
        g0: Any,
        columns: Any,
    ) -> Any:
        """As `_sum_tables` with `PLANES`, for 32 inputs or, if ``masked``, the first ``columns`` of them."""
        place = types.intp
        signature = types.void(tables, place, place, place, x, place, place, gradient, place, place)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(context, builder, signature, args)
            _, t0, _, count, _, x0, stride, _, g0, columns = args
            entries, bits = lanes.pointer(0, t0, I8), lanes.at(lanes.pointer(4, I64(0), I8), x0)
            out = lanes.pointer(7, g0, F32)
            sums, own = lanes.registers(4, FLOATS8), cgutils.alloca_once(builder, BYTES32)
            # additions as multiplications by a 1 that LLVM cannot see: the unit that adds is busy with the look-ups
            kind = ir.FunctionType(FLOATS8, [FLOATS8])
            one = builder.asm(kind, "", "=x,0", [ir.Constant(FLOATS8, [1.0] * 8)], False)
            low_half = ir.Constant(BYTES32, [15] * 32)

            def bytes_of(pair: Any) -> Any:
                here = lanes.at(bits, builder.mul(pair, stride))
                if masked:
                    _copy_first(lanes, here, builder.bitcast(own, I8.as_pointer()), columns, BYTES32)
                return lanes.load(own if masked else here, BYTES32, 1)

            def add(group: Any, indices: Any) -> None:
                table, indices = lanes.at(entries, builder.shl(group, I64(6))), builder.and_(indices, low_half)
                planes = [_twice(lanes, lanes.at(table, 16 * k)) for k in range(4)]
                found = [lanes.call("llvm.x86.avx2.pshuf.b", BYTES32, plane, indices) for plane in planes]
                for slot, value in zip(sums, _floats(lanes, found)):
                    builder.store(lanes.call("llvm.fma.v8f32", FLOATS8, value, one, builder.load(slot)), slot)

            def add_pair(pair: Any) -> None:
                group, both = builder.shl(pair, I64(1)), bytes_of(pair)
                add(group, both)
                upper = builder.lshr(builder.bitcast(both, WORDS16), ir.Constant(WORDS16, [4] * 16))
                add(builder.add(group, I64(1)), builder.bitcast(upper, BYTES32))

            pairs = builder.lshr(count, I64(1))
            fours = builder.and_(pairs, I64(-4))
            if not masked:
                with cgutils.for_range_slice(builder, I64(0), fours, I64(4)) as (first, _):
                    for k in range(4):
                        add_pair(builder.add(first, I64(k)))
            with cgutils.for_range(builder, pairs, start=I64(0) if masked else fours) as loop:
                add_pair(loop.index)
            with builder.if_then(builder.trunc(count, I1)):
                add(builder.shl(pairs, I64(1)), bytes_of(pairs))
            for k, value in enumerate(_in_order(lanes, [builder.load(slot) for slot in sums])):
                few = lanes.first(builder.sub(columns, I64(8 * k)), 8) if masked else None
                lanes.store_few(value, lanes.at(out, 8 * k), few)
            return lanes.nothing()

        return signature, codegen

    return sum_planes


def _twice(lanes: Lanes, pointer: Any) -> Any:
    """16 bytes, twice."""
    bytes16 = ir.VectorType(I8, 16)
    order = ir.Constant(ir.VectorType(I32, 32), [*range(16), *range(16)])
    return lanes.builder.shuffle_vector(lanes.load(pointer, bytes16, 1), ir.Constant(bytes16, ir.Undefined), order)


def _merged(lanes: Lanes, a: Any, b: Any, vector: ir.VectorType) -> list[Any]:
    """Elements of a and b in turns, of the lower and of the upper half of each 128 bits."""
    a, b = (lanes.builder.bitcast(one, vector) for one in (a, b))
    count = vector.count
    half = count // 4
    lists = [
        [k + lane + count * other for lane in (0, count // 2) for k in range(start, start + half) for other in (0, 1)]
        for start in (0, half)
    ]
    return [lanes.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, count), order)) for order in lists]


def _floats(lanes: Lanes, planes: list[Any]) -> list[Any]:
    """Four vectors of float32 from the four planes of their bytes: vector k has elements 4 k .. of each 128 bits."""
    lower, upper = (_merged(lanes, planes[k], planes[k + 1], BYTES32) for k in (0, 2))
    merged = [one for a, b in zip(lower, upper) for one in _merged(lanes, a, b, WORDS16)]
    return [lanes.builder.bitcast(one, FLOATS8) for one in merged]


def _in_order(lanes: Lanes, values: list[Any]) -> list[Any]:
    """The vectors of `_floats`, each of eight elements in a row."""
    orders = [ir.Constant(ir.VectorType(I32, 8), [*range(at, at + 4), *range(at + 8, at + 12)]) for at in (0, 4)]
    pairs = values[0:2], values[2:4]
    return [lanes.builder.shuffle_vector(*pair, order) for order in orders for pair in pairs]


_sum_tables_whole, _sum_tables_some = _sum_tables(GRADIENT_VECTORS, False), _sum_tables(GRADIENT_VECTORS // 2, True)
_sum_tables_few = _sum_tables(1, True)
_sum_planes_whole, _sum_planes_few = _sum_planes(False), _sum_planes(True)
_sum_eight, _sum_one = _sum_singles(8), _sum_singles(1)


def _with_planes(tables, t0, numbers, count, x, x0, stride, gradient, g0, columns):
    for k in range(0, columns, 32):
        if columns >= 32:
            k = min(k, columns - 32)  # the last sum some columns twice
            _sum_planes_whole(tables, t0, numbers, count, x, x0 + k, stride, gradient, g0 + k, 32)
        else:
            _sum_planes_few(tables, t0, numbers, count, x, x0, stride, gradient, g0, columns)


def _with_vectors(tables, t0, numbers, count, x, x0, stride, gradient, g0, columns):
    k = 0
    while k < columns:
        if columns - k >= 16 * GRADIENT_VECTORS:
            _sum_tables_whole(tables, t0, numbers, count, x, x0 + k, stride, gradient, g0 + k, 0)
            k += 16 * GRADIENT_VECTORS
        elif columns - k > 16:
            _sum_tables_some(tables, t0, numbers, count, x, x0 + k, stride, gradient, g0 + k, columns - k)
            k += 16 * (GRADIENT_VECTORS // 2)
        else:
            _sum_tables_few(tables, t0, numbers, count, x, x0 + k, stride, gradient, g0 + k, columns - k)
            k += 16


def _with_numbers(tables, t0, numbers, count, x, x0, stride, gradient, g0, columns):
    k = 0
    while k < columns:
        if columns - k >= 8:
            _sum_eight(tables, t0, numbers, count, x, x0 + k, stride, gradient, g0 + k)
            k += 8
        else:
            _sum_one(tables, t0, numbers, count, x, x0 + k, stride, gradient, g0 + k)
            k += 1


#: as _sum_tables, for any number of columns
sum_tables = njit(**INLINED)(_with_planes if PLANES else _with_vectors if WIDE else _with_numbers)
