"""The numerics version, and host arithmetic that affects weights: no result depends on a libm."""

from __future__ import annotations

from math import frexp

from .errors import OtherNumerics

#: increased when the same recipe and data no longer give the same bits; docs/numerics.md describes the current version
NUMERICS = 2
#: the last version of this package with each earlier number
LAST_VERSIONS = {1: "0.1.0"}


def check(number: object) -> None:
    """Refuse results computed with other numerics.

    Raises
    ------
    OtherNumerics
        The message names the version that computed them.
    """
    if number == NUMERICS and not isinstance(number, bool):
        return
    version = LAST_VERSIONS.get(number, "another version") if isinstance(number, int) else "another version"
    number = number if isinstance(number, int) else "unknown"
    raise OtherNumerics(
        f"made by tinyfoa-np {version} (numerics {number}); this version computes other bits (numerics {NUMERICS}): use"
        f" tinyfoa-np {version}, or train again"
    )


def power(base: float, exponent: int) -> float:
    """base**exponent by repeated squaring in float64, starting at the exponent's lowest bit.

    Raises
    ------
    ValueError
        If the exponent is negative: its lowest bits would never end.
    """
    if exponent < 0:
        raise ValueError(f"exponent {exponent} is negative")
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def cosine(half_turns: float) -> float:
    """cos(pi x) in float64 for x from 0 to 1: Taylor series of the angle's distance from 0 or pi, term by term."""
    near = min(half_turns, 1.0 - half_turns) * 3.141592653589793
    term = total = 1.0
    for k in range(1, 13):
        term *= -(near * near) / ((2 * k - 1) * (2 * k))
        total += term
    return total if half_turns <= 0.5 else -total


def ceil_log2(value: float) -> int:
    """The smallest e with 2**e >= value, for a finite ``value`` above 0."""
    mantissa, exponent = frexp(value)
    return exponent - (mantissa == 0.5)
