"""Patches: the 3 x 3 inputs that a locally connected layer reads around a position, for a batch of images.

A patch has the inputs of tap k (row by row, the centre is 4) and channel i at k I + i; beyond the border they are 0.
For bits, :func:`gather` reads all channels, and :func:`gather_channel` extracts a channel's own nine.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from .compiling import INLINED


class Images(NamedTuple):
    """A batch of images as stored; an input is scale * value + offset, or the value alone for bits.

    Value (channel i, position p) of a sample is element i channel_step + p place_step of its row; as packed bits it is
    bit p I + i.
    """

    values: np.ndarray  # (B, ceil(P I / 64)) uint64: packed bits | (B, P I) uint8 | (B, P I) float32
    scale: Any  # float32
    offset: Any  # float32
    channels: int  # I
    rows: int
    columns: int  # P = rows columns positions
    channel_step: int
    place_step: int


def gather(images, place, low, high, begin, end, patch):
    """The patch of a position, channels ``low`` to ``high``, for some samples (an overload for bits, of all channels,
    and for values).
    """
    raise TypeError


@overload(gather, inline="never")
def _gather_by_kind(images, place, low, high, begin, end, patch):
    return _gather_bits if patch.dtype == types.uint64 else _gather_values


def _gather_bits(images, place, low, high, begin, end, patch):
    # taps that follow each other in a row lie together
    values, channels, columns = images.values, images.channels, images.columns
    row, column = place // columns, place % columns
    for s in range(begin, end):
        for k in range(patch.shape[1]):
            patch[s, k] = np.uint64(0)
    left = max(column - 1, 0)
    together = (min(column + 2, columns) - left) * channels
    for y in range(max(row - 1, 0), min(row + 2, images.rows)):
        source = (y * columns + left) * channels
        target = (3 * (y - row + 1) + left - column + 1) * channels
        for done in range(0, together, 64):
            few = min(64, together - done)
            a, b = (source + done) // 64, (target + done) // 64
            down, up = np.uint64((source + done) % 64), np.uint64((target + done) % 64)
            mask = ~np.uint64(0) >> np.uint64(64 - few)
            beyond, above = np.int64(down) + few > 64, np.int64(up) + few > 64
            for s in range(begin, end):
                word = values[s, a] >> down
                if beyond:
                    word |= values[s, a + 1] << (np.uint64(64) - down)
                word &= mask
                patch[s, b] |= word << up
                if above:
                    patch[s, b + 1] |= word >> (np.uint64(64) - up)


def _gather_values(images, place, low, high, begin, end, patch):
    values, columns, some, step = images.values, images.columns, high - low, images.channel_step
    row, column = place // columns, place % columns
    for tap in range(9):
        y, x, target = row + tap // 3 - 1, column + tap % 3 - 1, tap * some
        inside = 0 <= y < images.rows and 0 <= x < columns
        source = (y * columns + x) * images.place_step + low * step
        for s in range(begin, end):
            for i in range(some):
                value = np.float32(0)
                if inside:
                    value = images.scale * np.float32(values[s, source + i * step]) + images.offset
                patch[s, target + i] = value


def patch_scale(images, patch):
    """Scale of a patch's values: the scale for bits; other values are already scaled (an overload for each)."""
    raise TypeError


@overload(patch_scale, INLINED)
def _patch_scale_by_kind(images, patch):
    if patch.dtype == types.uint64:
        return lambda images, patch: images.scale
    return lambda images, patch: np.float32(1)


def own_patch(patch):
    """Location of a channel's own patch (an overload for each kind)."""
    raise TypeError


@overload(own_patch, INLINED)
def _own_patch_by_kind(patch):
    if patch.dtype == types.uint64:
        # patch (B, 1 + W) holds nine bits of one channel (B, 1), and then those of all channels, as words (W, B)
        return lambda patch: patch.reshape(patch.size)[: patch.shape[0]].reshape(patch.shape[0], 1)
    return lambda patch: patch


def gather_channel(images, place, channel, anew, samples, patch):
    """The patch of one channel; ``anew``: the first at a position (an overload for each kind)."""
    raise TypeError


@overload(gather_channel, inline="never")
def _gather_channel_by_kind(images, place, channel, anew, samples, patch):
    if patch.dtype != types.uint64:

        def values(images, place, channel, anew, samples, patch):
            gather(images, place, channel, channel + 1, 0, samples, patch)

        return values

    def bits(images, place, channel, anew, samples, patch):
        # samples lie side by side, so that a bit is taken out of several at once
        held, flat = patch.shape[0], patch.reshape(patch.size)
        every = flat[held:].reshape(patch.shape[1] - 1, held)
        if anew:
            gather(images, place, 0, images.channels, 0, samples, every.T)
        own = flat[:samples]
        for tap in range(9):
            bit = tap * images.channels + channel
            words, down, up = every[bit // 64, :samples], np.uint64(bit % 64), np.uint64(tap)
            for s in range(samples):
                one = ((words[s] >> down) & np.uint64(1)) << up
                own[s] = own[s] | one if tap else one

    return bits
