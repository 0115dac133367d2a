"""From the gradient of one layer's z to that of the layer below: gain W^T dz, where the neuron below was active.

Threads share the inputs. Each thread processes a word (64 inputs) at a time, with the weights of some neurons in its
nearest cache. A sum over the neurons continues in their order, so results do not depend on tiles or threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .compiling import INLINED, njit
from .gradients import scale_where
from .products import DENSE_ROWS, dense_product
from .simd import prefetch_read, share, write_signs

#: inputs that go together: a word of signs
WORD = 64
#: neurons whose weights are at hand at a time: 16 KiB
NEURONS = 64


def scratch_shape(weights: np.dtype, outputs: int, inputs: int, threads: int) -> tuple[tuple, str]:
    """Shape and dtype of the scratch that :func:`backward` needs: a row for each thread that gets a share.

    Parameters
    ----------
    weights : numpy.dtype
        uint64 (packed signs) or float32, which are read in place.
    outputs, inputs, threads : int
        O, I and the maximum number of threads.
    """
    signs = min(NEURONS, outputs) * WORD if weights == np.uint64 else 0
    return (min(threads, -(-inputs // WORD)), signs), "float32"


def _at_hand(weights, neuron, neurons, column, scratch, thread):
    """Where the float32 weights of these neurons stand, for the inputs from ``column`` on, which lie side by side:
    array, first position, positions from neuron to neuron (an overload for each kind). Of signs it is a word's."""
    raise TypeError


@overload(_at_hand, INLINED)
def _at_hand_by_kind(weights, neuron, neurons, column, scratch, thread):
    if weights.dtype == types.float32:

        def whole(weights, neuron, neurons, column, scratch, thread):
            return weights, neuron * weights.shape[1] + column, weights.shape[1]

        return whole

    def written_out(weights, neuron, neurons, column, scratch, thread):
        own, at, down = thread * scratch.shape[1], column // WORD, np.uint64(column % WORD)
        for o in range(neurons):
            panel, lane = (neuron + o) // 8, (neuron + o) % 8
            word = weights[panel, at, lane] >> down
            if down > 0 and at + 1 < weights.shape[1]:
                word |= weights[panel, at + 1, lane] << (np.uint64(WORD) - down)
            write_signs(word, scratch, own + o * WORD)
        return scratch, own, WORD

    return written_out


def _ask_for(weights, neuron, neurons, column):
    """Prefetch weights while others are multiplied, if they are many bytes (an overload for each kind)."""
    raise TypeError


@overload(_ask_for, INLINED)
def _ask_for_by_kind(weights, neuron, neurons, column):
    if weights.dtype == types.uint64:
        return lambda weights, neuron, neurons, column: None

    def rows(weights, neuron, neurons, column):
        for o in range(neuron, min(neuron + neurons, weights.shape[0])):
            prefetch_read(weights, o * weights.shape[1] + column, WORD)

    return rows


@njit(**INLINED)
def carry_back(dz, samples, weights, column, width, thread, scratch, out, at, begun):
    # dz (O, B); weights of backward; out flat from ``at`` on: ``width`` rows (B,), at most WORD
    """out[i] = sum of w[o, column + i] dz[o], neuron by neuron; continues an earlier sum if ``begun``."""
    outputs, batch = dz.shape
    for neuron in range(0, outputs, NEURONS):
        neurons = min(NEURONS, outputs - neuron)
        source, start, step = _at_hand(weights, neuron, neurons, column, scratch, thread)
        for i in range(0, width, DENSE_ROWS):
            _ask_for(weights, neuron + NEURONS + i, DENSE_ROWS, column)  # the next neurons', a few at a time
            dense_product(
                source,
                start + i,
                1,
                step,
                min(DENSE_ROWS, width - i),
                dz,
                neuron * batch,
                batch,
                neurons,
                out,
                at + i * batch,
                batch,
                samples,
                begun or neuron > 0,
            )


@njit(error_model="numpy")
def _backward_share(thread, begin, end, dz, samples, weights, gain, active, scratch, out):
    # inputs begin..end: see backward
    batch = dz.shape[1]
    for column in range(begin, end, WORD):
        width = min(WORD, end - column)
        carry_back(dz, samples, weights, column, width, thread, scratch, out, column * batch, False)
        if active.shape[0] > 0:
            for g in range((samples + 15) // 16):
                at, few = column * batch + 16 * g, min(16, samples - 16 * g)
                groups = active.shape[1]
                scale_where(out, at, batch, width, few, gain, active, column * groups + g, groups)
        else:
            for i in range(column, column + width):
                for s in range(samples):
                    out[i, s] *= gain


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def backward(dz, samples, weights, columns, gain, active, scratch, out):
    # dz (O, B); weights (ceil(O / 8), W, 8) uint64 | (O, I) float32; active (I, G) uint16 | (0, G); scratch as
    # scratch_shape says, a row for each of T threads; out (I, B), I = ``columns``
    """out = gain * (W^T dz) for the first ``samples`` of a batch, and 0 if the bit of ``active`` is not set.

    Each sum runs over the neurons in order, each step a fused multiply-add (of +-1 for signs), and is then multiplied
    by ``gain``. ``active`` of the layer below is as written by :func:`.dense_forward.forward`: bit s % 16 of
    [i, s // 16]; without rows, all errors pass.
    """
    threads = scratch.shape[0]
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, columns, WORD)
        if begin < end:
            _backward_share(thread, begin, end, dz, samples, weights, gain, active, scratch, out)
