"""Bop (Helwegen and others, NeurIPS 2019): a step of binary weights that have no copy in full precision.

A weight is a bit of what the forward pass reads, 1 for +1; beside it there is one moment. The moment follows the
gradient, m <- m + gamma (g - m), and the bit flips where |m| > tau and m has the weight's own sign: there the weight
has been pushed towards the other value for long enough.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .dense_gradient import gradient_run, row_errors, run_columns
from .dense_update import take_bias_step
from .random import block
from .simd import share


@njit(error_model="numpy")
def _take(moment, at, gradient, g0, column, stop, scale, shift, gamma, tau, weights, panel, lane):
    """The step of columns ``column`` to ``stop`` of a neuron: whether a moment is no finite number any more."""
    lost = False
    for c in range(column, stop):
        slope = scale * gradient[g0 + c - column] + shift
        m = moment[at + c]
        m = m + gamma * (slope - m)
        moment[at + c] = m
        lost |= not abs(m) < np.float32(np.inf)
    while column < stop:
        word = column // 64
        end, bits, flips = min(stop, (word + 1) * 64), weights[panel, word, lane], np.uint64(0)
        for c in range(column, end):
            m, at_bit = moment[at + c], np.uint64(c % 64)
            positive = (bits >> at_bit) & np.uint64(1)
            flip = m > tau if positive else m < -tau
            flips |= np.uint64(flip) << at_bit
        weights[panel, word, lane] = bits ^ flips
        column = end
    return lost


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update(inputs, samples, source, part, moment, published, biases, bias_step, train_bias, gamma, tau, scratch, lost):
    # inputs: Inputs; source: Projected | Given; part (4,): first, last, low, high of a slice or of some of its rows;
    # moment flat ((last - first) (high - low),) float32; published: Published, packed; biases: Biases; bias_step: Step;
    # scratch: Scratch; lost (T,) int64
    """One step of columns ``low`` to ``high`` of neurons ``first`` to ``last``, and of their biases if asked.

    The gradient is that of :func:`.dense_update.update`, without a mask. ``lost[thread]`` becomes -1 when a number is
    no longer finite.
    """
    first, last, low, high = part
    values, scale, offset, origin = inputs
    gradient, dz, listed, _ = scratch
    threads, flat, weights = lost.shape[0], gradient.reshape(gradient.size), published.weights
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, last - first, 1)
        head = thread * gradient.shape[1]
        for row in range(first + begin, first + end):
            count, sum_dz = row_errors(values, source, row, samples, dz, listed, thread, 0, np.float32(0))
            if train_bias and take_bias_step(bias_step, biases, row, row - first, sum_dz) < 0:
                lost[thread] = -1
            at, place = (row - first) * (high - low) - low, row - published.first
            for column in range(low, high, run_columns(values)):
                stop = min(high, column + run_columns(values))
                gradient_run(values, column - origin, stop - origin, count, thread, 0, dz, listed, gradient)
                shift = offset * sum_dz
                if _take(
                    moment, at, flat, head, column, stop, scale, shift, gamma, tau, weights, place // 8, place % 8
                ):
                    lost[thread] = -1


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update_from(
    sums, bias_sums, scale, offset, part, moment, published, biases, bias_step, train_bias, gamma, tau, lost
):
    # sums, bias_sums as in dense_update.add_gradient; the rest as in update
    """The step of :func:`update` from sums that :func:`.dense_update.add_gradient` has put together."""
    first, last, low, high = part
    threads, weights = lost.shape[0], published.weights
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, last - first, 1)
        for row in range(first + begin, first + end):
            sum_dz = bias_sums[row - first]
            if train_bias and take_bias_step(bias_step, biases, row, row - first, sum_dz) < 0:
                lost[thread] = -1
            at, place = (row - first) * (high - low) - low, row - published.first
            if _take(
                moment,
                at,
                sums,
                at + low,
                low,
                high,
                scale,
                offset * sum_dz,
                gamma,
                tau,
                weights,
                place // 8,
                place % 8,
            ):
                lost[thread] = -1


@njit(nogil=True, cache=True, error_model="numpy")
def unpack(weights, o, low, out):
    # weights (ceil(O / 8), W, 8) uint64, out (n,) float32
    """Weights of neuron ``o`` from column ``low`` on as +1 and -1."""
    for k in range(out.size):
        i = low + k
        out[k] = np.float32(2 * np.int64((weights[o // 8, i // 64, o % 8] >> np.uint64(i % 64)) & np.uint64(1)) - 1)


@njit(nogil=True, cache=True, error_model="numpy")
def initial_signs(weights, outputs, inputs, layer, purpose, seed):
    # weights (ceil(O / 8), W, 8) uint64
    """The signs of the uniform initial weights of :func:`.random.uniform`, packed; all other bits are 0."""
    weights[:] = 0
    for o in range(outputs):
        for i in range(inputs):
            n = o * inputs + i
            word = block(n // 4, layer, purpose, seed)[n % 4]
            positive = np.uint64(2 * (word >> np.uint64(8)) > 16777215)
            weights[o // 8, i // 64, o % 8] |= positive << np.uint64(i % 64)
