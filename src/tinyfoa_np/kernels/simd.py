"""Vector building blocks that numba lacks, written as LLVM IR and shared by all kernels.

Functions here and in :mod:`.products`, :mod:`.gradients`, :mod:`.tables` and :mod:`.optimizers` work on flat positions
in C-contiguous arrays (``array, start`` pairs) and keep their accumulators in vector registers. LLVM lowers the fixed
vector types (``<8 x i64>``, ``<16 x float>``) for the instructions of the CPU: AVX-512, AVX2 or NEON. The number of
accumulators kept at a time depends on the CPU, their content does not.

No function uses fast-math; every floating-point sum runs in the order its docstring states.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import INLINED, njit

I1, I8, I16, I32, I64, F32 = (*(ir.IntType(n) for n in (1, 8, 16, 32, 64)), ir.FloatType())
WORDS8 = ir.VectorType(I64, 8)  # one 64-bit word of eight neurons
FLOATS16, INTS16, MASK16 = ir.VectorType(F32, 16), ir.VectorType(I32, 16), ir.VectorType(I1, 16)


def _has(feature: str) -> bool:
    """Whether kernels are compiled for a processor with a feature, by LLVM's name."""
    asked = numba.config.CPU_FEATURES
    if asked is None:
        return bool(llvmlite.binding.get_host_cpu_features().get(feature, False))
    return f"+{feature}" in asked.split(",")


WIDE, AVX2, BYTE_DOTS = _has("avx512f"), _has("avx2"), _has("avx512vnni")
#: whether the elements of a vector under a mask can be moved together
COMPRESSES = WIDE


class Lanes:
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
        build, few = self.builder, I64(lanes)
        count = build.trunc(build.select(build.icmp_signed("<", count, few), count, few), I32)
        numbers = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
        return build.icmp_signed("<", numbers, self.splat(count, lanes))

    def mask(self, word: Any) -> Any:
        """The 16 bits of a word as a mask. Without AVX-512, LLVM would insert them one by one."""
        if WIDE:
            return self.builder.bitcast(word, MASK16)
        words, bits = self.splat(self.builder.zext(word, I32), 16), ir.Constant(INTS16, [1 << k for k in range(16)])
        return self.builder.icmp_unsigned("!=", self.builder.and_(words, bits), self.integers(0))

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

    def store_first(self, value: Any, pointer: Any, count: Any) -> None:
        """Store the first ``count`` of 16 float32. Masked stores of AVX2 take long on AMD's processors."""
        build = self.builder
        if WIDE:
            self.masked_store(value, pointer, self.first(count, 16))
            return
        with build.if_else(build.icmp_signed(">=", count, I64(16))) as (whole, part):
            with whole:
                self.store(value, pointer, 4)
            with part, build.if_then(build.icmp_signed(">", count, I64(0))):
                copy = build.bitcast(cgutils.alloca_once_value(build, value), F32.as_pointer())
                done = I64(0)
                for size in (8, 4, 2, 1):
                    some = build.and_(count, I64(size))
                    with build.if_then(build.icmp_signed("!=", some, I64(0))):
                        piece = self.load(self.at(copy, done), ir.VectorType(F32, size), 4)
                        self.store(piece, self.at(pointer, done), 4)
                    done = build.add(done, some)

    def prefetch(self, pointer: Any) -> None:
        """Prefetch a line of memory that will be written soon; changes nothing."""
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


def transposed(lanes: Lanes, rows: list[Any]) -> list[Any]:
    """Transpose a square block, 8 x 8 or 16 x 16, by three or four perfect shuffles."""
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
def trailing_zeros(typing: Any, word: Any) -> Any:
    """The lowest set bit of a 64-bit word that is not 0, as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], I1(1))

    return types.int64(types.uint64), codegen


@intrinsic
def prefetch_read(typing: Any, array: Any, start: Any, count: Any) -> Any:
    """Prefetch ``count`` float32 values that will be read soon; changes nothing."""
    signature = types.void(array, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        begin = builder.bitcast(lanes.pointer(0, args[1], F32), I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        lines = builder.udiv(builder.add(args[2], I64(15)), I64(16))
        with cgutils.for_range(builder, lines) as loop:
            line = builder.gep(begin, [builder.mul(loop.index, I64(64))])
            builder.call(call, [line, I32(0), I32(2), I32(1)])  # for reading, into the second-level cache, data
        return lanes.nothing()

    return signature, codegen


@intrinsic
def write_signs(typing: Any, word: Any, out: Any, start: Any) -> Any:
    """out[start + i] = +1.0 where bit i of a 64-bit word is set, else -1.0."""
    signature = types.void(types.uint64, out, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        floats = ir.VectorType(F32, 64)
        mask = builder.bitcast(args[0], ir.VectorType(I1, 64))
        signs = builder.select(mask, ir.Constant(floats, [1.0] * 64), ir.Constant(floats, [-1.0] * 64))
        lanes.store(signs, lanes.pointer(1, args[2], F32), 4)
        return lanes.nothing()

    return signature, codegen


@njit(**INLINED)
def share(thread, threads, count, step):
    """The part of ``count`` for ``thread``: its first and its end, at multiples of ``step``."""
    blocks = (count + step - 1) // step
    return min(thread * blocks // threads * step, count), min((thread + 1) * blocks // threads * step, count)
