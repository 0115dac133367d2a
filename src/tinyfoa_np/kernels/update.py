"""From the errors of a batch to new weights: gradient, optimizer, clamp, packed signs and the sum of |W| in one pass.

The errors at a layer's outputs are projected from those at the logits (TinyFoA, DRTP) or given; samples whose error is
zero are left out. Threads share the rows (neurons) of a tile; a row is walked in runs that stay in the nearest cache,
so no gradient is ever stored whole. A gradient element is summed over the samples in their order, whatever the runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from .intrinsics import (
    GRADIENT_COLUMNS,
    GRADIENT_WORDS,
    fma,
    prefetch,
    share,
    sign_bits,
    sum_bits_word,
    sum_bits_words,
    sum_columns_block,
    sum_columns_few,
)

SGD, MOMENTUM, NESTEROV, ADAM = range(4)
#: columns of a neuron's gradient that exist at a time, per thread: a run
RUN = 1024
#: a weight beyond it counts as lost: the exact sum of |W| has no room for it
LARGEST = 256.0


class Inputs(NamedTuple):
    """A batch of inputs as it is held: X = scale * values + offset."""

    values: np.ndarray  # (B, W) uint64: packed bits | (B, I) uint8 | (B, I) float32
    scale: Any  # float32
    offset: Any  # float32


class Projected(NamedTuple):
    """Errors at the outputs as a projection of the errors at the logits: dz = (error P) [active]."""

    error: np.ndarray  # (C, B) float32
    projection: np.ndarray  # (O, C) float32
    active: np.ndarray  # (rows, G) uint16: bit s % 16 of word s // 16 for sample s
    first: int  # the neuron of active's row 0


class Given(NamedTuple):
    """Errors at the outputs that have been computed: dz."""

    dz: np.ndarray  # (rows, B) float32
    first: int  # the neuron of its row 0
    factor: np.ndarray  # (B,) float32: each sample's inputs are to be multiplied by its own | (0,): by nothing


class Resident(NamedTuple):
    """A slice's weights with their moments, row by row; (0,) where the optimizer has none."""

    weight: np.ndarray  # (size,) float32
    moment1: np.ndarray  # (size,) | (0,) float32
    moment2: np.ndarray  # (size,) | (0,) float32


class Biases(NamedTuple):
    """A layer's biases, with the moments of those that belong to the slice's neurons."""

    bias: np.ndarray  # (O,) float32
    moment1: np.ndarray  # (rows,) | (0,) float32
    moment2: np.ndarray  # (rows,) | (0,) float32


class Step(NamedTuple):
    """An optimizer and the numbers of one step, all float32."""

    optimizer: int  # SGD, MOMENTUM, NESTEROV or ADAM
    rate: Any  # the learning rate; Adam's over its first bias correction
    root: Any  # one over the square root of Adam's second bias correction
    decay: Any  # decay * w is added to the gradient of w
    limit: Any  # new values are clamped to +-limit; infinity: they are not


class Scratch(NamedTuple):
    """What each of T threads computes in."""

    gradient: np.ndarray  # (T, run_width) float32
    dz: np.ndarray  # (T, B) float32
    listed: np.ndarray  # (T, B) int32


def _listed_errors(source, row, samples, scratch, thread):
    """One neuron's samples whose dz is not zero, in order, and their dz, as the head of the thread's scratch.

    Returns how many there are, and the sum of dz. An overload for each kind of source.
    """
    raise TypeError


@overload(_listed_errors, inline="never")
def _listed_errors_by_source(source, row, samples, scratch, thread):
    return _listed_of_given if source.instance_class is Given else _listed_of_projected


def _listed_of_given(source, row, samples, scratch, thread):
    # source: Given
    own, values, order = source.dz[row - source.first], scratch.dz[thread], scratch.listed[thread]
    count, total = 0, np.float32(0)
    for s in range(samples):
        value = own[s]
        values[count] = value * source.factor[s] if source.factor.size else value
        order[count] = s  # both overwritten by the next, if the error is zero
        total += value
        count += value != np.float32(0)
    return count, total


def _listed_of_projected(source, row, samples, scratch, thread):
    # source: Projected; the samples that are not active are listed, too, behind the others
    error, projection, active = source.error, source.projection, source.active[row - source.first]
    own, order = scratch.dz[thread], scratch.listed[thread]
    classes, c = error.shape[0], 0
    for s in range(samples):
        own[s] = np.float32(0)
    while c + 5 <= classes:  # five classes a pass: the sum over the classes stays in a register, and in order
        e0, e1, e2, e3, e4 = error[c], error[c + 1], error[c + 2], error[c + 3], error[c + 4]
        p = projection[row, c : c + 5]
        p0, p1, p2, p3, p4 = p[0], p[1], p[2], p[3], p[4]
        for s in range(samples):
            own[s] = ((((own[s] + e0[s] * p0) + e1[s] * p1) + e2[s] * p2) + e3[s] * p3) + e4[s] * p4
        c += 5
    for rest in range(c, classes):
        p0, e0 = projection[row, rest], error[rest]
        for s in range(samples):
            own[s] += e0[s] * p0
    count, end, total = 0, samples - 1, np.float32(0)
    for s in range(samples):  # without branches, which would be mispredicted half the time
        on = (active[s >> 4] >> (s & 15)) & 1
        value = own[s]
        own[count] = value  # overwritten by the next, unless it is active
        order[count if on else end] = s
        total += value if on else np.float32(0)
        count += on
        end -= 1 - on
    return count, total


def _gradient_run(inputs, low, high, count, thread, dz, listed, gradient):
    """gradient[thread, skip + k] = sum over the listed samples of dz x[low + k], up to column ``high``; returns skip.

    An overload for packed bits, one for columns of bytes or floats.
    """
    raise TypeError


@overload(_gradient_run, inline="never")
def _gradient_run_by_kind(inputs, low, high, count, thread, dz, listed, gradient):
    if inputs.dtype == types.uint64:
        return _run_of_bits
    return _run_of_columns


def _run_of_bits(inputs, low, high, count, thread, dz, listed, gradient):
    # inputs (B, W) uint64: whole words, so that the run may begin before ``low`` and end after ``high``
    word, end, stride = low // 64, (high + 63) // 64, inputs.shape[1]
    at, out = thread * dz.shape[1], thread * gradient.shape[1]
    while word < end:
        if end - word >= GRADIENT_WORDS:
            sum_bits_words(listed, dz, at, count, inputs, word, stride, gradient, out)
            word, out = word + GRADIENT_WORDS, out + 64 * GRADIENT_WORDS
        else:
            sum_bits_word(listed, dz, at, count, inputs, word, stride, gradient, out)
            word, out = word + 1, out + 64
    return low % 64


def _run_of_columns(inputs, low, high, count, thread, dz, listed, gradient):
    # inputs (B, I) uint8 or float32
    stride = inputs.shape[1]
    at, out = thread * dz.shape[1], thread * gradient.shape[1]
    column = low
    while column < high:
        if high - column >= GRADIENT_COLUMNS:
            sum_columns_block(listed, dz, at, count, inputs, column, stride, gradient, out)
            column, out = column + GRADIENT_COLUMNS, out + GRADIENT_COLUMNS
        elif high - column >= 16:
            sum_columns_few(listed, dz, at, count, inputs, column, stride, gradient, out)
            column, out = column + 16, out + 16
        else:
            total = np.float32(0)
            for k in range(count):
                total = fma(dz[thread, k], np.float32(inputs[listed[thread, k], column]), total)
            gradient[thread, out - thread * gradient.shape[1]] = total
            column, out = column + 1, out + 1
    return 0


@njit(nogil=True, cache=True, error_model="numpy")
def _run_end(column, high):
    # runs end at multiples of RUN columns, which are whole words
    return min(high, (column // RUN + 1) * RUN)


def run_width(low: int, high: int, packed: bool) -> int:
    """The most elements of the scratch ``gradient`` that a run of columns ``low`` to ``high`` takes.

    Packed inputs are walked in whole words, so their runs begin and end on multiples of 64.
    """
    widest, column = 0, low
    while column < high:
        end = min(high, (column // RUN + 1) * RUN)
        widest = max(widest, 64 * (-(-end // 64) - column // 64) if packed else end - column)
        column = end
    return widest


@njit(nogil=True, cache=True, error_model="numpy")
def _step(step, rate, w, m, v, g, scale, shift, straight, unit):
    # w, g (n,); m, v (n,) or (0,)
    """The optimizer's step on n elements with gradient scale * g + shift, at ``rate``, which may differ from step's.

    Returns the sum of |w| in steps of 1 / unit, or -1 if a weight or a moment is lost.
    """
    root, decay, limit, infinite = step.root, step.decay, step.limit, np.float32(np.inf)
    lost = False
    open_below = np.float32(1) if straight else infinite  # the straight-through mask of binary weights
    for k in range(w.size):
        slope = scale * g[k] + shift if abs(w[k]) < open_below else np.float32(0)
        g[k] = slope + decay * w[k] if decay != np.float32(0) else slope
    if step.optimizer == ADAM:
        for k in range(w.size):
            mean = m[k] + (g[k] - m[k]) * np.float32(0.1)
            square = v[k] * np.float32(0.999) + g[k] * g[k] * np.float32(0.001)
            m[k], v[k] = mean, square
            lost = lost | (not square < infinite)
            w[k] = min(max(w[k] - rate * mean / (np.sqrt(square) * root + np.float32(1e-8)), -limit), limit)
    elif step.optimizer == SGD:
        for k in range(w.size):
            w[k] = min(max(w[k] - rate * g[k], -limit), limit)
    else:
        ahead = step.optimizer == NESTEROV
        for k in range(w.size):
            mean = m[k] * np.float32(0.9) + g[k]
            m[k] = mean
            lost = lost | (not abs(mean) < infinite)
            slope = g[k] + np.float32(0.9) * mean if ahead else mean
            w[k] = min(max(w[k] - rate * slope, -limit), limit)
    total, largest = np.int64(0), min(limit, np.float32(LARGEST))
    for k in range(w.size):
        size = abs(w[k])
        total += np.int64(np.float64(size) * unit + 0.5)
        lost = lost | (not size <= largest)
    return np.int64(-1) if lost else total


@njit(nogil=True, cache=True, error_model="numpy")
def _bias_step(step, biases, row, k, slope):
    # the same for one bias, of neuron ``row``, with its moments at k; no mask. Returns 0, or -1 if the bias is lost
    bias, m, v = biases.bias, biases.moment1, biases.moment2
    if step.decay != np.float32(0):
        slope = slope + step.decay * bias[row]
    move = step.rate * slope
    if step.optimizer == ADAM:
        m[k] += (slope - m[k]) * np.float32(0.1)
        v[k] = v[k] * np.float32(0.999) + slope * slope * np.float32(0.001)
        move = step.rate * m[k] / (np.sqrt(v[k]) * step.root + np.float32(1e-8))
    elif step.optimizer != SGD:
        m[k] = m[k] * np.float32(0.9) + slope
        move = step.rate * (slope + np.float32(0.9) * m[k] if step.optimizer == NESTEROV else m[k])
    new = min(max(bias[row] - move, -step.limit), step.limit)
    bias[row] = new
    return np.int64(0) if abs(new) <= step.limit and abs(new) < np.float32(np.inf) else np.int64(-1)


def _publish(weights, row, w, at, low, high):
    """Hands w[at:] of columns low..high of a neuron to the forward pass: signs or a copy (an overload for each)."""
    raise TypeError


@overload(_publish, inline="never")
def _publish_by_kind(weights, row, w, at, low, high):
    if weights.dtype == types.float32:

        def copy(weights, row, w, at, low, high):
            # weights (O, I) float32
            for i in range(high - low):
                weights[row, low + i] = w[at + i]

        return copy

    def signs(weights, row, w, at, low, high):
        # weights (ceil(O / 8), W, 8) uint64: a word that the columns share with others keeps the others' bits
        panel, lane = row // 8, row % 8
        for k in range(low // 64, (high + 63) // 64):
            begin, end = max(low, 64 * k), min(high, 64 * k + 64)
            count, shift = end - begin, np.uint64(begin & 63)
            own = (~np.uint64(0) >> np.uint64(64 - count)) << shift
            bits = sign_bits(w, at + begin - low, count) << shift
            weights[panel, k, lane] = (weights[panel, k, lane] & ~own) | bits

    return signs


@njit(nogil=True, cache=True, error_model="numpy")
def _plus(total, part):
    # sums of |w|, of which one below 0 says that numbers were lost
    return np.int64(-1) if total < 0 or part < 0 else total + part


@njit(nogil=True, cache=True, error_model="numpy")
def _update_row(
    thread, row, low, high, left, right, inputs, shift, count, resident, at, weights, step, straight, unit, scratch
):
    # columns low..high of one neuron, column c at position at + c of the slice's flat arrays; left..right stay
    weight, moment1, moment2 = resident.weight, resident.moment1, resident.moment2
    total, column = np.int64(0), low
    while column < high:
        end = _run_end(column, high)
        # the gradient works in the nearest cache: meanwhile the slice's elements can come from memory
        prefetch(weight, at + column, end - column)
        if step.optimizer != SGD:
            prefetch(moment1, at + column, end - column)
        if step.optimizer == ADAM:
            prefetch(moment2, at + column, end - column)
        skip = _gradient_run(inputs.values, column, end, count, thread, scratch.dz, scratch.listed, scratch.gradient)
        for part in range(3):  # before, within and after the columns that stay
            a = column if part == 0 else min(max(left if part == 1 else right, column), end)
            b = end if part == 2 else min(max(left if part == 0 else right, column), end)
            if a < b:
                g = scratch.gradient[thread, skip + a - column : skip + b - column]
                w = weight[at + a : at + b]
                m = moment1[at + a : at + b] if step.optimizer != SGD else moment1
                v = moment2[at + a : at + b] if step.optimizer == ADAM else moment2
                rate = np.float32(0) if part == 1 else step.rate
                total = _plus(total, _step(step, rate, w, m, v, g, inputs.scale, shift, straight, unit))
        _publish(weights, row, weight, at + column, column, end)
        column = end
    return total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update(
    inputs, samples, source, part, resident, weights, still, biases, step, bias_step, train_bias, straight, unit,
    scratch, abs_w,
):
    # inputs: Inputs; source: Projected | Given; part (4,): a slice's first, last, low, high; resident: Resident;
    # weights: what forward reads; still (4,); biases: Biases; step, bias_step: Step; scratch: Scratch; abs_w (T,) int64
    """One optimizer step of columns ``low`` to ``high`` of neurons ``first`` to ``last``, and of their biases if asked.

    The gradient of an element is scale * (sum of dz values) + offset * (sum of dz), zero where |w| >= 1 if
    ``straight``, plus decay * w. ``still`` = (first, last, low, high) is the rectangle whose moments move but whose
    weights stay (the published schedule's frozen slice). ``abs_w[thread]`` grows by the new sum of |W| in steps of
    1 / ``unit``, and becomes -1 when a number is lost: no longer finite, or a weight beyond :data:`LARGEST`.
    """
    threads, (first, last, low, high) = abs_w.shape[0], part
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, last - first, 1)
        total = np.int64(0)
        for row in range(first + begin, first + end):
            count, sum_dz = _listed_errors(source, row, samples, scratch, thread)
            if train_bias:
                total = _plus(total, _bias_step(bias_step, biases, row, row - first, sum_dz))
            at = (row - first) * (high - low) - low
            held = still[0] <= row < still[1]
            part_sum = _update_row(
                thread, row, low, high, still[2] if held else high, still[3] if held else high, inputs,
                inputs.offset * sum_dz, count, resident, at, weights, step, straight, unit, scratch,
            )
            total = _plus(total, part_sum)
        abs_w[thread] = _plus(abs_w[thread], total)


@njit(nogil=True, cache=True, error_model="numpy")
def slice_gradient(inputs, samples, source, part, weight, straight, scratch, out, bias_out):
    # as update; weight and out flat ((last - first) (high - low),), bias_out (last - first,)
    """The gradient of a slice alone, stored whole: what :func:`update` uses run by run, for tests and inspection."""
    first, last, low, high = part
    for row in range(first, last):
        count, sum_dz = _listed_errors(source, row, samples, scratch, 0)
        bias_out[row - first] = sum_dz
        at = (row - first) * (high - low) - low
        column = low
        while column < high:
            end = _run_end(column, high)
            skip = _gradient_run(inputs.values, column, end, count, 0, scratch.dz, scratch.listed, scratch.gradient)
            for i in range(column, end):
                passes = not straight or abs(weight[at + i]) < np.float32(1)
                value = inputs.scale * scratch.gradient[0, skip + i - column] + inputs.offset * sum_dz
                out[at + i] = value if passes else np.float32(0)
            column = end


@njit(nogil=True, cache=True, error_model="numpy")
def publish_slice(weight, first, last, low, high, weights, unit):
    # weight flat ((last - first) (high - low),), weights as in update
    """Hands a whole slice to the forward pass, as :func:`update` does; returns its sum of |W| in 1 / unit."""
    total = np.int64(0)
    for row in range(first, last):
        at = (row - first) * (high - low)
        _publish(weights, row, weight, at, low, high)
        for k in range(at, at + high - low):
            total += np.int64(np.float64(abs(weight[k])) * unit + 0.5)
    return total
