"""Between a locally connected network and its classifier: means over parts of an image, and dropout.

The image is cut into ``side`` x ``side`` bins: rows floor(y R / side) to ceil((y + 1) R / side) of R, columns alike.
They overlap if a side is not a multiple, and repeat rows if there are fewer. Feature (bin, channel) is bin O + o.
"""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .compiling import INLINED, njit
from .simd import share


@njit(**INLINED)
def _bounds(k, side, size):
    """First and last row, or column, of a bin."""
    return k * size // side, ((k + 1) * size + side - 1) // side


@njit(**INLINED)
def _kept(mask, s, f):
    """Whether dropout keeps a feature."""
    return mask.shape[0] == 0 or (mask[s, f >> 6] >> np.uint64(f & 63)) & np.uint64(1) != 0


def _add_place(values, s, at, out):
    """Add the channels of one position of a sample, from element ``at`` on (an overload for bits, one for values)."""
    raise TypeError


@overload(_add_place, INLINED)
def _add_place_by_kind(values, s, at, out):
    if values.dtype == types.uint64:

        def bits(values, s, at, out):
            for o in range(out.size):
                bit = at + o
                out[o] += np.float32((values[s, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1))

        return bits

    def numbers(values, s, at, out):
        own = values[s, at : at + out.size]
        for o in range(out.size):
            out[o] += own[o]

    return numbers


@njit(error_model="numpy")
def _pool_sample(s, values, rows, columns, channels, side, gain, mask, out):
    for place in range(side * side):
        y0, y1 = _bounds(place // side, side, rows)
        x0, x1 = _bounds(place % side, side, columns)
        own = out[s, place * channels : (place + 1) * channels]
        own[:] = np.float32(0)
        for y in range(y0, y1):
            for x in range(x0, x1):
                _add_place(values, s, (y * columns + x) * channels, own)
        factor = gain / np.float32((y1 - y0) * (x1 - x0))
        for o in range(channels):
            own[o] = own[o] * factor if _kept(mask, s, place * channels + o) else np.float32(0)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def pool(values, samples, rows, columns, channels, side, gain, mask, out, threads):
    # values (B, ceil(P O / 64)) uint64 | (B, P O) float32, position by position; mask (B, ceil(F / 64)) uint64 |
    # (0, 0); out (B, F) float32, F = side side O
    """``gain`` times the mean of each bin and channel, 0 where the mask has no bit; without a mask all are kept."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            _pool_sample(s, values, rows, columns, channels, side, gain, mask, out)


@njit(nogil=True, cache=True, error_model="numpy")
def drop_errors(errors, samples, mask, gain):
    # errors (F, B) float32, in place; mask as in pool
    """Errors of the means: ``gain`` times those of the features, 0 where the mask has no bit."""
    for f in range(errors.shape[0]):
        for s in range(samples):
            errors[f, s] = errors[f, s] * gain if _kept(mask, s, f) else np.float32(0)


@njit(error_model="numpy")
def _errors_at(place, errors, samples, rows, columns, side, out):
    row, column, channels = place // columns, place % columns, out.shape[1]
    out[place, :, :samples] = np.float32(0)
    for y in range(side):
        y0, y1 = _bounds(y, side, rows)
        for x in range(side):
            x0, x1 = _bounds(x, side, columns)
            if y0 <= row < y1 and x0 <= column < x1:
                share_of = np.float32(1) / np.float32((y1 - y0) * (x1 - x0))
                for o in range(channels):
                    own, error = out[place, o], errors[(y * side + x) * channels + o]
                    for s in range(samples):
                        own[s] += error[s] * share_of


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def pool_gradient(errors, samples, rows, columns, side, out, threads):
    # errors (F, B) float32, of the means; out (P, O, B) float32
    """Errors of the inputs of :func:`pool`, without its gain: the sum over all bins that contain a position."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, out.shape[0], 1)
        for place in range(begin, end):
            _errors_at(place, errors, samples, rows, columns, side, out)
