"""An optimizer's moments in two bytes or one byte each: formats and stochastic rounding.

A moment is rounded to one of its two neighbours at random, such that its expectation does not change. With rounding to
nearest, a slow average would stop moving: Adam's second moment moves by a thousandth per step, and its neighbours are
further apart. The random bits come from a counter (:mod:`.random`), not from a sequence.

    bfloat16    the upper half of a float32
    int8        a byte per moment, and a byte per block of 32 columns: its unit's exponent. In units, a byte is one of

                    0, 1, ... 31,  32, 34, ... 62,  64, 68, ... 124,  and so on: 16 steps to each octave

                the first moment has a sign and 7 bits of this, up to 1,984; the second, never negative, has 8 bits,
                up to 507,904. The unit is the smallest power of two for which the largest moment of the block fits.

A nonzero second moment never becomes 0: below one unit it is rounded up to one. Otherwise Adam, which divides by its
root, would take a huge step. With the unit chosen, a first moment of one unit then moves a weight by about lr.

Units are powers of two, so a byte's value is also representable in the next larger unit, unless it is among the
smallest. Hence moments that do not change are not rounded again when their block's unit changes.
"""

from __future__ import annotations

import numpy as np

from .random import blocks

MOMENT = 7  # purpose of the random numbers
BLOCK = 32  # columns that share a unit
FIRST, SECOND = 7, 15  # octaves of steps above the first 16: bits of the first moment, and of the second
_BIAS = 127  # of a float32's exponent


def words(rows: int, width: int, *, first: int, stride: int, seed: int, layer: int) -> np.ndarray:
    """A random word per weight: its lower half rounds the first moment, its upper half the second.

    The eight Philox blocks starting at index ``first`` + row ``stride`` + 8 b belong to columns 32 b to 32 b + 31 of a
    row: column 32 b + j has word j // 8 of block j % 8.

    Parameters
    ----------
    rows, width : int
    first, stride : int
        Index of the first block, and distance between the first blocks of consecutive rows.
    seed, layer : int
        As in :func:`.random.blocks`.

    Returns
    -------
    ndarray of uint32, (rows, width)
    """
    count = -(-width // BLOCK)
    parts = [
        blocks(first + row * stride, 8 * count, seed=seed, layer=layer, purpose=MOMENT).reshape(count, 8, 4)
        for row in range(rows)
    ]  # (blocks, 8, words)
    return np.stack(parts).transpose(0, 1, 3, 2).reshape(rows, -1)[:, :width]


def halves(random: np.ndarray, second: bool) -> np.ndarray:
    """The 16 bits of a random word, uint32, that round a first or a ``second`` moment."""
    return random >> 16 if second else random & 0xFFFF


def write_bfloat16(values: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Round float32 moments to their upper halves, uint16.

    Parameters
    ----------
    values : ndarray of float32, any shape
    bits : ndarray of uint32, the same shape
        16 random bits per moment. Adding them to the part cut off carries with the right probability.
    """
    rounded: np.ndarray = ((np.ascontiguousarray(values).view(np.uint32) + bits) >> 16).astype(np.uint16)
    return rounded


def read_bfloat16(codes: np.ndarray) -> np.ndarray:
    """Read moments written by :func:`write_bfloat16`, as float32."""
    return (codes.astype(np.uint32) << 16).view(np.float32)


def write_int8(values: np.ndarray, bits: np.ndarray, second: bool) -> tuple[np.ndarray, np.ndarray]:
    """Round float32 moments to bytes.

    Parameters
    ----------
    values : ndarray of float32, (rows, width)
        Finite; at least 0 for a ``second`` moment.
    bits : ndarray of uint32, (rows, width)
        16 random bits per moment: k stands for (k + 1/2) / 65,536.
    second : bool
        Which moment the values are.

    Returns
    -------
    codes : ndarray of uint8, (rows, width)
        The number of the step; for a first moment the highest bit is its sign.
    exponents : ndarray of uint8, (rows, ceil(width / 32))
        For each block, its unit is 2 ** (exponent - 127); at least 1.
    """
    octaves = SECOND if second else FIRST
    rows, width = values.shape
    size = np.abs(values).astype(np.float64)
    padded = np.zeros((rows, -(-width // BLOCK) * BLOCK))
    padded[:, :width] = size
    largest = padded.reshape(rows, -1, BLOCK).max(axis=2)
    top = 31 * 2.0 ** (octaves - 1)
    exponents = np.maximum(np.ceil(np.log2(np.maximum(largest, 1e-300) / top)).astype(int) + _BIAS, 1)
    # the logarithm may be off by one if the largest moment only just fits
    exponents += top * 2.0 ** (exponents - _BIAS) < largest
    exponents -= (top * 2.0 ** (exponents - 1 - _BIAS) >= largest) & (exponents > 1)

    units = size / np.repeat(2.0 ** (exponents - _BIAS), BLOCK, axis=1)[:, :width]
    octave = np.maximum(np.frexp(units)[1] - 5, 0)  # units below 32 are in the first octave, with steps of one unit
    step = np.floor(units / 2.0**octave + (bits + 0.5) / 65536).astype(int)
    codes = 16 * octave + step
    if second:
        codes = np.maximum(codes, values > 0)
    else:
        codes |= np.where(np.signbit(values), 128, 0)
    return codes.astype(np.uint8), exponents.astype(np.uint8)


def read_int8(codes: np.ndarray, exponents: np.ndarray, second: bool) -> np.ndarray:
    """Read moments written by :func:`write_int8`, as float32.

    Parameters
    ----------
    codes, exponents : ndarray of uint8, (rows, width) and (rows, ceil(width / 32))
    second : bool

    Returns
    -------
    ndarray of float32, (rows, width)
    """
    code = (codes if second else codes & 127).astype(int)
    octave = np.maximum(code // 16, 1) - 1
    units = (code - 16 * octave) * 2.0**octave
    size = units * np.repeat(2.0 ** (exponents.astype(int) - _BIAS), BLOCK, axis=1)[:, : codes.shape[1]]
    sign = np.where((codes >= 128) & (not second), -1.0, 1.0)
    values: np.ndarray = (sign * size).astype(np.float32)
    return values
