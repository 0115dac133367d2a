"""exp, log, cos and tanh by one scalar routine each, so that results do not depend on a platform's library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiling import INLINED, njit
from .simd import I64

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # ln 2 = high + low
_EXP_TERMS = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
_LOG_TERMS = tuple(1.0 / (2 * k + 1) for k in range(11, -1, -1))


@intrinsic
def power_of_two(typing: Any, k: Any) -> Any:
    """2.0**k as float64, for k in [-1022, 1023], assembled from its bits."""

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


@njit(**INLINED)
def exp(x):
    """e**x in float64, within 2 units in the last place for x in [-700, 700]; 0 below."""
    y = (-700.0 if x < -700.0 else x) / (_LN2_HIGH + _LN2_LOW) + 0.5
    k = np.int64(y)
    k -= k > y  # the integer below
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW  # |r| <= ln(2) / 2
    total = 0.0
    for term in _EXP_TERMS:
        total = total * r + term
    return total * power_of_two(k) if not x < -700.0 else 0.0


@njit(error_model="numpy")
def log(x):
    """ln x in float64, within 3 units in the last place, for x > 0."""
    if not x < np.inf:
        return x
    tiny = x < 2.0**-1022
    bits = _bits_of(x * 2.0**54 if tiny else x)
    return _log_of(_of_bits((bits & 0xFFFFFFFFFFFFF) | (1022 << 52)), (bits >> 52) - (1022 + 54 if tiny else 1022))


@njit(**INLINED)
def log_of_normal(x):
    """Like :func:`log`, bit for bit, for x that is neither subnormal nor infinite: a loop of them is vectorized."""
    bits = _bits_of(x)
    return _log_of(_of_bits((bits & 0xFFFFFFFFFFFFF) | (1022 << 52)), (bits >> 52) - 1022)


@njit(**INLINED)
def _log_of(mantissa, k):
    small = mantissa < 0.7071067811865476
    mantissa, k = (mantissa * 2.0 if small else mantissa), (k - 1 if small else k)
    s = (mantissa - 1.0) / (mantissa + 1.0)  # ln m = 2 artanh s, |s| < 0.172
    total = 0.0
    for term in _LOG_TERMS:
        total = total * (s * s) + term
    return 2.0 * s * total + (k * _LN2_HIGH + k * _LN2_LOW)


_COS_TERMS = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(13, -1, -1))


@njit(**INLINED)
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


@njit(**INLINED)
def tanh(x):
    """tanh x in float64, within 1e-15 of it; without branches, so that a loop of them is vectorized."""
    x = min(max(x, -20.0), 20.0)  # beyond, it is 1 to the last place
    k = np.int64(x * (2.0 / (_LN2_HIGH + _LN2_LOW)) + 64.5) - 64  # e**2x = 2**k e**r
    r = (2.0 * x - k * _LN2_HIGH) - k * _LN2_LOW  # |r| <= ln(2) / 2
    total = 0.0
    for term in _TANH_TERMS:
        total = total * r + term
    power = power_of_two(k)
    # e**2x - 1 = 2**k (e**r - 1) + (2**k - 1): small where x is, without loss
    less = power * (total * r) + (power - 1.0)
    return less / (less + 2.0)


_TANH_TERMS = tuple(1.0 / math.factorial(k) for k in range(14, 0, -1))  # of (e**r - 1) / r
