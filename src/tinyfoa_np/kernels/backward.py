"""From the gradient of one layer's z to that of the layer below: gain W^T dz, where the neuron below was active.

Threads share the inputs. Each walks over them a word (64 inputs) at a time, with the weights of some neurons at hand in
its nearest cache; a sum over the neurons is carried on in their order, so neither the cutting nor the threads show.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from .intrinsics import dense_product, scale_where, share, write_signs

#: neurons whose weights are at hand at a time
NEURONS = 128
#: inputs that go together: a word of signs
WORD = 64
ALL = np.uint16(0xFFFF)


def scratch_shape(weights: np.dtype, outputs: int, inputs: int, threads: int) -> tuple[tuple, str]:
    """Shape and dtype of the scratch that :func:`backward` needs: a row for each thread that gets a share.

    Parameters
    ----------
    weights : numpy.dtype
        uint64 (packed signs) or float32, which are read where they stand.
    outputs, inputs, threads : int
        O, I and threads at most.
    """
    signs = min(NEURONS, outputs) * WORD if weights == np.uint64 else 0
    return (min(threads, -(-inputs // WORD)), signs), "float32"


def _at_hand(weights, neuron, neurons, column, scratch, thread):
    """Where the float32 weights of these neurons stand, for the inputs from ``column`` on, which lie side by side:
    array, first position, positions from neuron to neuron (an overload for each kind)."""
    raise TypeError


@overload(_at_hand, inline="always")
def _at_hand_by_kind(weights, neuron, neurons, column, scratch, thread):
    if weights.dtype == types.float32:

        def whole(weights, neuron, neurons, column, scratch, thread):
            return weights, neuron * weights.shape[1] + column, weights.shape[1]

        return whole

    def written_out(weights, neuron, neurons, column, scratch, thread):
        own = thread * scratch.shape[1]
        for o in range(neurons):
            word = weights[(neuron + o) // 8, column // WORD, (neuron + o) % 8]
            write_signs(word, scratch, own + o * WORD)
        return scratch, own, WORD

    return written_out


@njit(nogil=True, cache=True, error_model="numpy")
def _backward_share(thread, begin, end, dz, samples, weights, gain, active, scratch, out):
    # inputs begin..end: see backward
    outputs, batch = dz.shape
    for column in range(begin, end, WORD):
        width = min(WORD, end - column)
        for neuron in range(0, outputs, NEURONS):
            neurons = min(NEURONS, outputs - neuron)
            source, start, step = _at_hand(weights, neuron, neurons, column, scratch, thread)
            dense_product(
                source, start, 1, step, width, dz, neuron * batch, batch, neurons, out, column * batch, batch,
                samples, neuron > 0,
            )
        for i in range(column, column + width):
            for g in range((samples + 15) // 16):
                passes = active[i, g] if active.shape[0] else ALL
                at, few = i * batch + 16 * g, samples - 16 * g
                if few >= 16:
                    scale_where(out, at, 16, gain, passes)
                else:
                    scale_where(out, at, few, gain, passes)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def backward(dz, samples, weights, columns, gain, active, scratch, out):
    # dz (O, B); weights (ceil(O / 8), W, 8) uint64 | (O, I) float32; active (I, G) uint16 | (0, G); scratch as
    # scratch_shape says, a row for each of T threads; out (I, B), I = ``columns``
    """out = gain * (W^T dz) for the first ``samples`` of a batch, and 0 where a bit of ``active`` is not set.

    Each sum runs over the neurons in order, each step a fused multiply-add (with signs, of +-1); the product with
    ``gain`` comes after. ``active`` of the layer below is what :func:`~tinyfoa_np.kernels.forward.forward` writes: bit
    s % 16 of [i, s // 16]; without rows, every gradient passes.
    """
    threads = scratch.shape[0]
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, columns, WORD)
        if begin < end:
            _backward_share(thread, begin, end, dz, samples, weights, gain, active, scratch, out)
