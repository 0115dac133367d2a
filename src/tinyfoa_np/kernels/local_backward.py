"""From the errors of a locally connected layer's products to those of the outputs of the layer below.

An input is in the patches of up to nine positions, each with separate weights for it. So the errors at a position are
gathered from those around it, tap by tap and output by output. Threads share the positions; results do not depend on
them.
"""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from . import dense_backward as dense
from .compiling import INLINED, njit
from .dense_backward import WORD, carry_back
from .simd import share


def scratch_shape(weights: np.dtype, outputs: int, depthwise: bool, threads: int) -> tuple[tuple, str]:
    """Shape and dtype of the scratch that :func:`backward` needs: a row for each thread.

    Parameters
    ----------
    weights : numpy.dtype
        uint64 (packed signs) or float32, which are read in place.
    outputs : int
        O, output channels.
    depthwise : bool
    threads : int
        T, at most as many as there are positions.
    """
    return (threads, 0 if depthwise else dense.scratch_shape(weights, outputs, WORD, 1)[0][1]), "float32"


def _weight(weights, o, tap):
    """Weight of a tap of output channel o of a depthwise layer at a position (an overload for each kind)."""
    raise TypeError


@overload(_weight, INLINED)
def _weight_by_kind(weights, o, tap):
    if weights.dtype == types.float32:
        return lambda weights, o, tap: weights[o, tap]

    def of_sign(weights, o, tap):
        return np.float32(1) if (weights[o // 8, 0, o % 8] >> np.uint64(tap)) & np.uint64(1) else np.float32(-1)

    return of_sign


@njit(error_model="numpy")
def _from_own_channels(du, samples, weights, tap, out):
    # du (O, B), weights of one position; out (I, B): each output of a depthwise layer has one input
    outputs, channels = du.shape[0], out.shape[0]
    for o in range(outputs):
        weight, error, own = _weight(weights, o, tap), du[o], out[o * channels // outputs]
        for s in range(samples):
            own[s] += weight * error[s]


@njit(error_model="numpy")
def _errors_at(place, rows, columns, du, samples, depthwise, weights, gain, thread, scratch, out):
    # one position of backward
    channels, batch = out.shape[1], out.shape[2]
    row, column, begun = place // columns, place % columns, False
    if depthwise:
        out[place, :, :samples] = np.float32(0)
    for tap in range(9):
        y, x = row + 1 - tap // 3, column + 1 - tap % 3  # in whose patch it is this tap
        if 0 <= y < rows and 0 <= x < columns:
            source = y * columns + x
            if depthwise:
                _from_own_channels(du[source], samples, weights[source], tap, out[place])
            else:
                for i in range(0, channels, WORD):
                    carry_back(
                        du[source],
                        samples,
                        weights[source],
                        tap * channels + i,
                        min(WORD, channels - i),
                        thread,
                        scratch,
                        out,
                        (place * channels + i) * batch,
                        begun,
                    )
            begun = True
    for i in range(channels):
        for s in range(samples):
            out[place, i, s] *= gain


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def backward(du, samples, rows, columns, depthwise, weights, gain, scratch, out):
    # du (P, O, B) float32; weights (P, ceil(O / 8), W, 8) uint64 | (P, O, F) float32; scratch as scratch_shape says, a
    # row for each of T threads; out (P, I, B) float32; P = ``rows`` ``columns``
    """The errors at a layer's inputs: gain * the sum of w du over taps and outputs, for the first ``samples``.

    Each sum runs over the taps, within each over the outputs in order, and is then multiplied by ``gain``.
    """
    threads = scratch.shape[0]
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, out.shape[0], 1)
        for place in range(begin, end):
            _errors_at(place, rows, columns, du, samples, depthwise, weights, gain, thread, scratch, out)
