"""Augmentation of images: flipped, moved and turned at random, in place, by counter.

The changes to a sample depend only on the seed, the epoch and the sample's number in its training set, not on threads,
micro-batches or interruptions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .maths import cos_turn
from .random import block
from .simd import share

AUGMENT = 9  # purpose of the random numbers


class Augmentation(NamedTuple):
    """How images are changed.

    Attributes
    ----------
    flip : bool
        Whether half of the images are mirrored, left to right.
    rows, columns : int
        Maximum shift in pixels, up or down and left or right.
    zeros : bool
        Whether pixels from outside the image are 0, as with a padded crop; otherwise they equal the nearest pixel.
    degrees : float
        Maximum rotation around the centre; pixels are then interpolated between their four neighbours.
    """

    flip: bool
    rows: int
    columns: int
    zeros: bool
    degrees: float


@njit(**INLINED)
def _offset(word, most):
    # uniform over -most .. most
    return np.int64((word * np.uint64(2 * most + 1)) >> np.uint64(32)) - most


@njit(**INLINED)
def _pixel(image, at, rows, columns, r, c, zeros):
    # one channel's pixel; outside 0, or the nearest
    if zeros and (r < 0 or r >= rows or c < 0 or c >= columns):
        return 0.0
    r, c = min(max(r, 0), rows - 1), min(max(c, 0), columns - 1)
    return np.float64(image[at + r * columns + c])


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def augment(inputs, samples, shape, change, epoch, first, seed, scratch, threads):
    # inputs (B, C R S) uint8 or float32, scratch (T, C R S) of the same type
    """Change ``samples`` images of ``shape`` (C, R, S), the first of which is sample ``first`` of its epoch.

    Block n of an epoch is for sample n: the highest bit of lane 0 decides on mirroring, lanes 1 and 2 give the shift of
    rows and columns, lane 3 the angle.
    """
    channels, rows, columns = shape
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        own = scratch[lane]
        for s in range(begin, end):
            index = (np.uint64(epoch) << np.uint64(32)) + np.uint64(first + s)
            a, b, c, d = block(index, 0, AUGMENT, seed)
            mirrored = change.flip and a >> np.uint64(31) != np.uint64(0)
            down, right = _offset(b, change.rows), _offset(c, change.columns)
            turn = (2.0 * (np.float64(d) * 2.0**-32) - 1.0) * (change.degrees / 360.0)
            own[:] = inputs[s]
            image = inputs[s]
            if not mirrored and down == 0 and right == 0 and turn == 0.0:
                continue
            if change.degrees == 0.0:
                for at in range(0, channels * rows * columns, rows * columns):
                    for r in range(rows):
                        for k in range(columns):
                            column = columns - 1 - k if mirrored else k
                            pixel = _pixel(own, at, rows, columns, r - down, column - right, change.zeros)
                            image[at + r * columns + k] = pixel
                continue
            whole = turn - np.floor(turn)
            quarter = whole + 0.75
            cosine, sine = cos_turn(whole), cos_turn(quarter - 1.0 if quarter >= 1.0 else quarter)
            middle, centre = 0.5 * (rows - 1), 0.5 * (columns - 1)
            for r in range(rows):
                for k in range(columns):
                    y = r - down - middle
                    x = (columns - 1 - k if mirrored else k) - right - centre
                    v, u = cosine * y + sine * x + middle, cosine * x - sine * y + centre
                    top, left = np.floor(v), np.floor(u)
                    p, q = v - top, u - left
                    i, j = np.int64(top), np.int64(left)
                    for at in range(0, channels * rows * columns, rows * columns):
                        above = (1.0 - q) * _pixel(own, at, rows, columns, i, j, change.zeros) + q * _pixel(
                            own, at, rows, columns, i, j + 1, change.zeros
                        )
                        below = (1.0 - q) * _pixel(own, at, rows, columns, i + 1, j, change.zeros) + q * _pixel(
                            own, at, rows, columns, i + 1, j + 1, change.zeros
                        )
                        value = (1.0 - p) * above + p * below
                        image[at + r * columns + k] = value if image.itemsize > 1 else np.floor(value + 0.5)
