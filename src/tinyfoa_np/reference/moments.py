"""An optimizer's moments in two bytes each, or in one: how they are written down, and how they are rounded.

A moment is rounded to one of its two neighbours, up with the probability that leaves its expectation as it was:
rounded to the nearest, a slow average stands still, as Adam's second moment moves by a thousandth at a step and its
neighbours lie further apart. Which of the two it becomes is decided by a counter (:mod:`.random`), not by a sequence.

    bfloat16    the upper half of a float32
    int8        a byte, and a byte for each block of 32 columns: the exponent of the block's unit. In units a byte is

                    0, 1, ... 31,  32, 34, ... 62,  64, 68, ... 124,  and so on: 16 steps to each octave

                the first moment has a sign and 7 bits of this, up to 1,984; the second, never negative, has 8 bits,
                up to 507,904. The unit is the smallest power of two with which the block's largest fits.

A second moment that is not 0 never becomes 0: below a unit it is rounded up to one, or Adam, which divides by its root,
would leap. Its unit is such that a first moment of one unit beside it moves a weight by about one learning rate.

As a block's unit is a power of two, and moves in powers of two, a byte's value is a byte's value in the larger unit as
well, unless it is among the smallest: moments that do not change are not rounded anew whenever their block's unit does.
"""

from __future__ import annotations

import numpy as np

from .random import blocks

MOMENT = 7  # purpose of the random numbers
BLOCK = 32  # columns that share a unit
FIRST, SECOND = 7, 15  # octaves of steps above the first 16: bits of the first moment, and of the second
_BIAS = 127  # of a float32's exponent


def words(rows: int, width: int, *, first: int, stride: int, seed: int, layer: int) -> np.ndarray:
    """A random word for each weight: its lower half rounds the first moment, its upper half the second.

    The eight Philox blocks from index ``first`` + row ``stride`` + 8 b on belong to columns 32 b and following of a
    row: column 32 b + j has word j // 8 of the block j % 8.

    Parameters
    ----------
    rows, width : int
    first, stride : int
        Index of the first block, and from one row to the next.
    seed, layer : int
        As in :func:`.random.blocks`.

    Returns
    -------
    ndarray of uint32, (rows, width)
    """
    count = -(-width // BLOCK)
    made = [
        blocks(first + row * stride, 8 * count, seed=seed, layer=layer, purpose=MOMENT).reshape(count, 8, 4)
        for row in range(rows)
    ]  # (blocks, 8, words)
    return np.stack(made).transpose(0, 1, 3, 2).reshape(rows, -1)[:, :width]


def halves(random: np.ndarray, second: bool) -> np.ndarray:
    """The 16 bits of a random word, uint32, that a first or a ``second`` moment is rounded with."""
    return random >> 16 if second else random & 0xFFFF


def write_bfloat16(values: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Moments of float32 rounded to their upper halves, uint16.

    Parameters
    ----------
    values : ndarray of float32, any shape
    bits : ndarray of uint32, the same shape
        16 random bits for each: added to what is cut off, they carry with the right probability.
    """
    rounded: np.ndarray = ((np.ascontiguousarray(values).view(np.uint32) + bits) >> 16).astype(np.uint16)
    return rounded


def read_bfloat16(codes: np.ndarray) -> np.ndarray:
    """What :func:`write_bfloat16` wrote, as float32."""
    return (codes.astype(np.uint32) << 16).view(np.float32)


def write_int8(values: np.ndarray, bits: np.ndarray, second: bool) -> tuple[np.ndarray, np.ndarray]:
    """Moments of float32 rounded to bytes.

    Parameters
    ----------
    values : ndarray of float32, (rows, width)
        Finite; of a ``second`` moment 0 or more.
    bits : ndarray of uint32, (rows, width)
        16 random bits for each: k stands for (k + 1/2) / 65,536.
    second : bool
        Which moment.

    Returns
    -------
    codes : ndarray of uint8, (rows, width)
        The number of the step; of a first moment the highest bit is its sign.
    exponents : ndarray of uint8, (rows, ceil(width / 32))
        Of each block's unit, 2 ** (exponent - 127); at least 1.
    """
    octaves = SECOND if second else FIRST
    rows, width = values.shape
    size = np.abs(values).astype(np.float64)
    padded = np.zeros((rows, -(-width // BLOCK) * BLOCK))
    padded[:, :width] = size
    largest = padded.reshape(rows, -1, BLOCK).max(axis=2)
    top = 31 * 2.0 ** (octaves - 1)
    exponents = np.maximum(np.ceil(np.log2(np.maximum(largest, 1e-300) / top)).astype(int) + _BIAS, 1)
    # a logarithm may be off where the largest is just as large as fits
    exponents += top * 2.0 ** (exponents - _BIAS) < largest
    exponents -= (top * 2.0 ** (exponents - 1 - _BIAS) >= largest) & (exponents > 1)

    units = size / np.repeat(2.0 ** (exponents - _BIAS), BLOCK, axis=1)[:, :width]
    octave = np.maximum(np.frexp(units)[1] - 5, 0)  # those below 32 are in the first, with steps of one unit
    step = np.floor(units / 2.0**octave + (bits + 0.5) / 65536).astype(int)
    codes = 16 * octave + step
    if second:
        codes = np.maximum(codes, values > 0)
    else:
        codes |= np.where(np.signbit(values), 128, 0)
    return codes.astype(np.uint8), exponents.astype(np.uint8)


def read_int8(codes: np.ndarray, exponents: np.ndarray, second: bool) -> np.ndarray:
    """What :func:`write_int8` wrote, as float32.

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
