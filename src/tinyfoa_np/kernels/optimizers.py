"""The optimizers, each defined once: for one number or for 16, with moments as float32 or as codes.

Moments in two bytes or one are described in tinyfoa_np.reference.moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..numerics import power
from .simd import F32, FLOATS16, I8, I16, I32, I64, INTS16, WORDS8, Lanes


class Rule(NamedTuple):
    """An optimizer.

    ``take(arithmetic, slope, *moments, rate, root)`` returns the decrease of the weight, and the new moments.
    ``arithmetic`` works on one number, for biases, or on 16.
    """

    name: str
    moments: int  # per weight
    take: Callable[..., tuple[Any, ...]]
    betas: tuple[float, float] | None = None  # decays of its two moments, if their bias is corrected


class _Arithmetic:
    """float32 operations on numbers, or on vectors of 16."""

    def __init__(self, lanes: Lanes, vector: bool = True) -> None:
        build = lanes.builder
        self.lanes, self.vector = lanes, vector
        self.add, self.subtract, self.multiply, self.divide = build.fadd, build.fsub, build.fmul, build.fdiv

    def number(self, value: float) -> Any:
        return self.lanes.constant(value) if self.vector else F32(float(np.float32(value)))

    def square_root(self, value: Any) -> Any:
        kind, name = (FLOATS16, "v16f32") if self.vector else (F32, "f32")
        return self.lanes.call(f"llvm.sqrt.{name}", kind, value)


def _sgd(a: _Arithmetic, slope: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    return (a.multiply(rate, slope),)


def _momentum(a: _Arithmetic, slope: Any, m: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    m = a.add(a.multiply(m, a.number(0.9)), slope)
    return a.multiply(rate, m), m


def _nesterov(a: _Arithmetic, slope: Any, m: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    m = a.add(a.multiply(m, a.number(0.9)), slope)
    return a.multiply(rate, a.add(slope, a.multiply(a.number(0.9), m))), m


def _adam(a: _Arithmetic, slope: Any, m: Any, v: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    # the bias corrections are in rate and root
    m = a.add(m, a.multiply(a.subtract(slope, m), a.number(0.1)))
    v = a.add(a.multiply(v, a.number(0.999)), a.multiply(a.multiply(slope, slope), a.number(0.001)))
    return a.divide(a.multiply(rate, m), a.add(a.multiply(a.square_root(v), root), a.number(1e-8))), m, v


#: all optimizers; kernels know them by their number here
RULES = (
    Rule("sgd", 0, _sgd),
    Rule("momentum", 1, _momentum),
    Rule("nesterov", 1, _nesterov),
    Rule("adam", 2, _adam, (0.9, 0.999)),
)
NUMBERS = {rule.name: number for number, rule in enumerate(RULES)}
MOMENTS = {rule.name: rule.moments for rule in RULES}


def rate_and_root(name: str, lr: float, t: int) -> tuple[np.float32, np.float32]:
    """The kernels' ``rate`` and ``root`` for step ``t``, counted from 1, at learning rate ``lr``.

    They include Adam's bias corrections: lr / (1 - 0.9^t) and 1 / sqrt(1 - 0.999^t). For the others they are lr and 1.
    """
    betas, root = RULES[NUMBERS[name]].betas, 1.0
    if betas:
        lr, root = lr / (1 - power(betas[0], t)), 1 / math.sqrt(1 - power(betas[1], t))
    return np.float32(lr), np.float32(root)


@intrinsic
def step_one(typing: Any, optimizer: Any, slope: Any, m: Any, v: Any, rate: Any, root: Any) -> Any:
    """One step for one number: its decrease, and its moments m and v, unchanged if the optimizer has none."""
    number = types.float32
    signature = types.UniTuple(number, 3)(types.int64, *[number] * 5)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        optimizer, slope, m, v, rate, root = args
        slots = [cgutils.alloca_once_value(builder, value) for value in (F32(0.0), m, v)]
        for number, rule in enumerate(RULES):
            with builder.if_then(builder.icmp_signed("==", optimizer, I64(number))):
                found = rule.take(_Arithmetic(lanes, False), slope, *(m, v)[: rule.moments], rate, root)
                for slot, value in zip(slots, found):
                    builder.store(value, slot)
        return context.make_tuple(builder, signature.return_type, [builder.load(slot) for slot in slots])

    return signature, codegen


def _slope(lanes: Lanes, w: Any, gradient: Any, scale: Any, shift: Any, below: Any, decay: Any, decays: bool) -> Any:
    """The gradient of 16 weights as the optimizer reads it."""
    build = lanes.builder
    slope = build.fadd(build.fmul(scale, gradient), shift)
    zero = ir.Constant(FLOATS16, None)
    slope = build.select(build.fcmp_ordered("<", lanes.magnitude(w), below), slope, zero)
    return build.fadd(slope, build.fmul(decay, w)) if decays else slope


def _moved(lanes: Lanes, w: Any, move: Any, limit: Any) -> Any:
    """w - move, clamped."""
    build, floor = lanes.builder, lanes.builder.fneg(limit)
    w = build.fsub(w, move)
    w = build.select(build.fcmp_ordered("<", w, floor), floor, w)  # NaN stays
    return build.select(build.fcmp_ordered(">", w, limit), limit, w)


@intrinsic
def step_run(
    typing: Any,
    optimizer: Any,
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
    """One step of an optimizer for ``count`` weights from flat position ``at``, with their moments m and v.

    The gradient is scale * gradient[g0 + k] + shift, or 0 unless |w| < ``below``, plus decay * w; the new w is clamped
    to +-``limit``. All float32. Values ``ahead`` positions further are prefetched: they are needed after the
    next gradient. Returns whether a moment is no longer a finite number.
    """
    place, number = types.intp, types.float32
    signature = types.boolean(types.int64, w, m, v, place, gradient, place, place, place, *[number] * 7)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
        arithmetic = _Arithmetic(lanes)
        gradients, start, count, ahead = lanes.pointer(5, args[6], F32), args[4], args[7], args[8]
        scale, shift, below, rate, root, decay, limit = (lanes.splat(value, 16) for value in args[9:])
        (worst,) = lanes.registers(1, INTS16)

        def group(rule: Rule, state: list[Any], k: Any, few: Any, decays: bool) -> None:
            places = [lanes.at(pointer, k) for pointer in state]
            for here in places:
                lanes.prefetch(lanes.at(here, ahead))
            w, *old = (lanes.load_few(here, few) for here in places)
            g = lanes.load_few(lanes.at(gradients, k), few)
            slope = _slope(lanes, w, g, scale, shift, below, decay, decays)
            move, *new = rule.take(arithmetic, slope, *old, rate, root)
            for value, here in zip((_moved(lanes, w, move, limit), *new), places):
                lanes.store_few(value, here, few)
            if new:  # of Adam's moments the second tells of both
                lanes.largest(worst, lanes.size_bits(new[-1], few))

        def all_groups(rule: Rule, decays: bool) -> None:
            state = [lanes.pointer(k, start, F32) for k in range(1, 2 + rule.moments)]
            whole = builder.and_(count, I64(-16))
            with cgutils.for_range_slice(builder, I64(0), whole, I64(16), I64) as (k, _):
                group(rule, state, k, None, decays)
            with builder.if_then(builder.icmp_signed("<", whole, count)):
                group(rule, state, whole, lanes.first(builder.sub(count, whole), 16), decays)

        for known, rule in enumerate(RULES):
            with builder.if_then(builder.icmp_signed("==", args[0], I64(known))):
                with builder.if_else(builder.fcmp_ordered("==", args[14], F32(0.0))) as (plain, decaying):
                    with plain:
                        all_groups(rule, False)
                    with decaying:
                        all_groups(rule, True)
        return lanes.exceeds(worst, lanes.integers(0x7F7FFFFF))  # infinity, NaN

    return signature, codegen


def _philox(lanes: Lanes, index: Any, layer: Any, purpose: Any, seed: Any) -> list[Any]:
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


def _draws(lanes: Lanes, words: list[Any]) -> list[Any]:
    """Four words of eight blocks as two vectors of 16: columns j and 16 + j of 32."""
    build, ints = lanes.builder, ir.VectorType(I32, 8)
    few = [build.trunc(word, ints) for word in words]
    order = ir.Constant(INTS16, list(range(16)))
    return [build.shuffle_vector(few[k], few[k + 1], order) for k in (0, 2)]


class _Halves:
    """Moments of 32 weights as upper halves of float32, bfloat16; ``second`` makes no difference."""

    element, scaled = I16, False

    def __init__(self, lanes: Lanes, second: bool) -> None:
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

    def __init__(self, lanes: Lanes, second: bool) -> None:
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


def _coded_stepper(rules: tuple[Rule, ...]) -> Any:
    @intrinsic
    def step_coded(
        typing: Any,
        optimizer: Any,
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
        """As :func:`step_run`, with m and v uint16 (bfloat16) or uint8 with their exponents.

        ``count`` weights from a block's first on: m_unit, v_unit (..) uint8 from ``unit``, one for each 32. Weights
        ``left`` to ``right`` of them stay. Random bits are those of the Philox blocks from ``index`` on, eight for
        each 32. Moments are float32 in registers only.
        """
        place, number, natural = types.intp, types.float32, types.uint64
        signature = types.boolean(
            types.int64, w, m, v, m_unit, v_unit, place, place, gradient, *[place] * 5, *[natural] * 4, *[number] * 7
        )

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(context, builder, signature, args)
            way, arithmetic = _Bytes if signature.args[2].dtype == types.uint8 else _Halves, _Arithmetic(lanes)
            kind = ir.VectorType(way.element, 16)
            weights, gradients = lanes.pointer(1, args[6], F32), lanes.pointer(8, args[9], F32)
            count, ahead, left, right, seed, layer, purpose, index = args[10:18]
            scale, shift, below, rate, root, decay, limit = (lanes.splat(value, 16) for value in args[18:])
            zero = ir.Constant(FLOATS16, None)
            (worst,) = lanes.registers(1, INTS16)
            decays = builder.fcmp_ordered("!=", args[23], F32(0.0))
            special = builder.or_(decays, builder.icmp_signed("<", left, right))

            def pace(k: Any) -> Any:
                """The rate of the 16 weights from k on."""
                columns = builder.add(lanes.splat(builder.trunc(k, I32), 16), ir.Constant(INTS16, list(range(16))))
                begin, end = (lanes.splat(builder.trunc(bound, I32), 16) for bound in (left, right))
                stays = builder.and_(builder.icmp_signed(">=", columns, begin), builder.icmp_signed("<", columns, end))
                return builder.select(stays, zero, rate)

            def all_of(rule: Rule) -> None:
                ways = [way(lanes, second) for second in (False, True)[: rule.moments]]
                codes = [lanes.pointer(2 + k, args[6], way.element) for k in range(rule.moments)]
                exponents = [lanes.pointer(4 + k, args[7], I8) for k in range(rule.moments)]

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
                    made: list[list[Any]] = [[] for _ in range(rule.moments)]
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
                        move, *new = rule.take(arithmetic, slope, *old, rate if plain else pace(start), root)
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

                with builder.if_else(special) as (then, otherwise):
                    with then:
                        all_blocks(False)
                    with otherwise:
                        all_blocks(True)

            for known, rule in enumerate(rules):
                if rule.moments:
                    with builder.if_then(builder.icmp_signed("==", args[0], I64(known))):
                        all_of(rule)
            return lanes.exceeds(worst, lanes.integers(0x7F7FFFFF))  # infinity, NaN

        return signature, codegen

    return step_coded


def _multiplied(a: _Arithmetic, slope: Any, m: Any, rate: Any, root: Any) -> tuple[Any, ...]:
    # no step: the weight stays, m is multiplied by root
    return a.number(0.0), a.multiply(m, root)


step_coded = _coded_stepper(RULES)
multiply_coded = _coded_stepper((Rule("multiplied", 1, _multiplied),))


@intrinsic
def publish_run(typing: Any, w: Any, at: Any, low: Any, high: Any, largest: Any, unit: Any, out: Any, o0: Any) -> Any:
    """Publish columns ``low`` to ``high`` of a neuron, at most 1,024, for the forward pass; return their sum of |w|.

    Column c is w[at + c]. It goes to out[o0 + c] if that is float32; if it is uint64, its sign to bit c % 64 of
    out[o0 + c // 64 * 8], the word's other bits being kept. The sum is in steps of 1 / ``unit``, a power of two up to
    2**32, each |w| rounded half up; it is -1 if one is not <= ``largest`` <= 256.
    """
    place = types.intp
    signature = types.int64(w, place, place, place, types.float32, types.float64, out, place)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, signature, args)
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
                few = own and lanes.mask(builder.trunc(builder.lshr(own, I64(16 * part)), I16))
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
