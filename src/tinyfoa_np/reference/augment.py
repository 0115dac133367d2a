"""Random augmentation of images, one sample at a time: flips, shifts and rotations drawn by counter."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .random import blocks

AUGMENT = 9  # purpose of the random numbers


class Change(NamedTuple):
    """The change applied to one image."""

    mirrored: bool
    down: int  # pixels
    right: int  # pixels
    turn: float  # of a full circle


def drawn(epoch: int, sample: int, *, seed: int, flip: bool, rows: int, columns: int, degrees: float) -> Change:
    """Draw the change of a sample in an epoch, both counted from 0.

    Parameters
    ----------
    flip : bool
        Whether to mirror half of the images.
    rows, columns : int
        Largest shift, in pixels.
    degrees : float
        Largest rotation, in degrees.
    """
    a, b, c, d = (int(word) for word in blocks((epoch << 32) + sample, 1, seed=seed, layer=0, purpose=AUGMENT)[0])
    down, right = ((word * (2 * most + 1) >> 32) - most for word, most in ((b, rows), (c, columns)))
    return Change(flip and a >= 2**31, down, right, (2 * (d / 2**32) - 1) * (degrees / 360))


def changed(image: np.ndarray, change: Change, *, zeros: bool) -> np.ndarray:
    """Apply a change to an image (C, R, S); the result has the same shape and dtype.

    Output pixel (r, k) shows the input at the position found by undoing the mirroring, the shift and the rotation about
    the centre, in that order. Between pixels the input is interpolated. Bytes are rounded, halves up.

    Parameters
    ----------
    image : ndarray of uint8 or float32, (C, R, S)
    change : Change
    zeros : bool
        Whether pixels outside the image are 0; otherwise they equal the nearest pixel inside.
    """
    _, R, S = image.shape
    r, k = np.meshgrid(np.arange(R), np.arange(S), indexing="ij")
    y = r - change.down - (R - 1) / 2
    x = (S - 1 - k if change.mirrored else k) - change.right - (S - 1) / 2
    cosine, sine = math.cos(2 * math.pi * change.turn), math.sin(2 * math.pi * change.turn)
    v, u = cosine * y + sine * x + (R - 1) / 2, cosine * x - sine * y + (S - 1) / 2
    top, left = np.floor(v).astype(int), np.floor(u).astype(int)
    p, q = v - top, u - left

    def pixels(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        inside = (i >= 0) & (i < R) & (j >= 0) & (j < S)
        found = image[:, i.clip(0, R - 1), j.clip(0, S - 1)].astype(np.float64)
        return np.where(inside, found, 0) if zeros else found

    above = (1 - q) * pixels(top, left) + q * pixels(top, left + 1)
    below = (1 - q) * pixels(top + 1, left) + q * pixels(top + 1, left + 1)
    value = (1 - p) * above + p * below
    rounded: np.ndarray = (np.floor(value + 0.5) if image.dtype == np.uint8 else value).astype(image.dtype)
    return rounded
