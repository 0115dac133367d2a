"""Gradients in vectors: errors at the outputs, and their sums over a batch, from tables for bits, fused for others."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import F32, FLOATS16, I8, I16, I32, I64, INTS16, MASK16, WIDE, Lanes

#: columns of byte or float inputs that one pass over the active samples serves
GRADIENT_COLUMNS = 96 if WIDE else 32


@intrinsic
def sum_in_fours(typing: Any, dz: Any, d0: Any, bits: Any, room: Any, total: Any) -> Any:
    """``total`` + the sums of dz in groups of four samples, group after group; the errors not in ``bits`` become 0.

    dz float32 from d0: up to 64 samples, of which ``room`` are written. A group is summed from its first error on.
    """
    signature = types.float32(dz, types.intp, types.uint64, types.intp, types.float32)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        _, d0, bits, room, total = args
        errors, sums = lanes.pointer(0, d0, F32), cgutils.alloca_once(builder, F32)
        builder.store(total, sums)
        with cgutils.for_range(builder, builder.lshr(builder.add(room, I64(15)), I64(4))) as loop:
            start = builder.shl(loop.index, I64(4))
            here = lanes.at(errors, start)
            mask = lanes.mask(builder.trunc(builder.lshr(bits, start), I16))
            values = lanes.masked_load(here, mask)
            lanes.store_first(values, here, builder.sub(room, start))
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
    With ``carry``, the sum continues from the content of ``gradient``.
    """
    signature = types.void(
        samples, dz, types.intp, types.intp, x, types.intp, types.intp, gradient, types.intp, types.intp, types.boolean
    )

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
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
        lanes = Lanes(context, builder, signature, args)
        errors, projection = lanes.pointer(0, args[1], F32), lanes.pointer(4, args[5], F32)
        out, sums = lanes.pointer(8, args[9], F32), lanes.registers(4, FLOATS16)
        few = [lanes.first(builder.sub(args[10], I64(16 * k)), 16) for k in range(4)]
        with cgutils.for_range(builder, args[3]) as loop:
            weight = lanes.splat(builder.load(lanes.at(projection, loop.index)), 16)
            start = lanes.at(errors, builder.mul(loop.index, args[2]))
            for k, slot in enumerate(sums):
                lanes.add_to(slot, builder.fmul(lanes.masked_load(lanes.at(start, 16 * k), few[k]), weight))
        for k, slot in enumerate(sums):
            lanes.store_first(builder.load(slot), lanes.at(out, 16 * k), builder.sub(args[10], I64(16 * k)))
        groups = lanes.first(builder.udiv(builder.add(args[10], I64(15)), I64(16)), 4)
        words = lanes.masked_load(lanes.pointer(6, args[7], I16), groups, ir.VectorType(I16, 4))
        return builder.and_(builder.bitcast(words, I64), builder.bitcast(lanes.first(args[10], 64), I64))

    return signature, codegen


@intrinsic
def copy_errors(typing: Any, errors: Any, start: Any, dz: Any, d0: Any, samples: Any) -> Any:
    """dz[d0 + s] = errors[start + s] for up to 64 samples; returns those that are not 0, or NaN, as bits of a word."""
    signature = types.uint64(errors, types.intp, dz, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        source, target, word = lanes.pointer(0, args[1], F32), lanes.pointer(2, args[3], F32), I64(0)
        for k in range(4):
            count = builder.sub(args[4], I64(16 * k))
            values = lanes.masked_load(lanes.at(source, 16 * k), lanes.first(count, 16))
            lanes.store_first(values, lanes.at(target, 16 * k), count)
            bits = builder.bitcast(builder.fcmp_unordered("!=", values, ir.Constant(FLOATS16, None)), I16)
            word = builder.or_(word, builder.shl(builder.zext(bits, I64), I64(16 * k)))
        return word

    return signature, codegen


@intrinsic
def count_up(typing: Any, out: Any, start: Any, first: Any, count: Any) -> Any:
    """out[start + k] = first + k, int32, for up to 64 elements."""
    signature = types.void(out, types.intp, types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        target, base = lanes.pointer(0, args[1], F32), lanes.splat(builder.trunc(args[2], I32), 16)
        for k in range(0, 64, 16):
            numbers = builder.add(base, ir.Constant(INTS16, list(range(k, k + 16))))
            few = lanes.first(builder.sub(args[3], I64(k)), 16)
            lanes.masked_store(builder.bitcast(numbers, FLOATS16), lanes.at(target, k), few)
        return lanes.nothing()

    return signature, codegen


@intrinsic
def move_up(typing: Any, dz: Any, d0: Any, first: Any, bits: Any, listed: Any, d1: Any, l1: Any) -> Any:
    """Compact those of up to 64 errors whose bit is set: dz[d1 + k], and their numbers listed[l1 + k].

    dz float32 from d0, d1 <= d0; numbers count from ``first``, int32. Returns their number. Only if the processor can
    compress a vector (:data:`COMPRESSES`).
    """
    place = types.intp
    signature = types.int64(dz, place, types.int64, types.uint64, listed, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
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
def scale_where(
    typing: Any, z: Any, z0: Any, z_row: Any, rows: Any, count: Any, scale: Any, bits: Any, b0: Any, b_row: Any
) -> Any:
    """z[r, s] = scale * z[r, s] where bit s of bits[r] is set, else 0, for the first ``count`` (at most 16) of a row.

    z float32 from z0, bits uint16 from b0; ``z_row`` and ``b_row`` positions from one of the ``rows`` to the next.
    """
    place = types.intp
    signature = types.void(z, place, place, place, place, types.float32, bits, place, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        values, passes = lanes.pointer(0, args[1], F32), lanes.pointer(6, args[7], I16)
        few, factor = lanes.first(args[4], 16), lanes.splat(args[5], 16)
        with cgutils.for_range(builder, args[3]) as loop:
            here = lanes.at(values, builder.mul(loop.index, args[2]))
            word = builder.load(lanes.at(passes, builder.mul(loop.index, args[8])))
            scaled = builder.fmul(factor, lanes.masked_load(here, few))
            mask = lanes.mask(word)
            lanes.masked_store(builder.select(mask, scaled, ir.Constant(FLOATS16, None)), here, few)
        return lanes.nothing()

    return signature, codegen
