"""From the gradient of a batch to new weights: optimizer, clamp, packed signs and the sum of |W| in one pass.

Threads share the rows (neurons) of a slice. A row is processed in runs that stay in the nearest cache, so no gradient
is ever stored whole (:mod:`.dense_gradient`). Step and publishing are two passes, because a single one would be too
long a chain of instructions for the processor to overlap.
"""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .compiling import INLINED, njit
from .dense_gradient import BIT_RUN, gradient_run, row_errors, run_columns, tile_neurons
from .gradients import GRADIENT_COLUMNS, sum_columns
from .optimizers import multiply_coded, publish_run, step_coded, step_one, step_run
from .simd import share

#: columns of a row of the slice whose moments, where they are bytes, have a unit in common: whole blocks to a RUN
BLOCK = 32
#: a weight beyond it counts as lost: the exact sum of |W| has no room for it
LARGEST = 256.0


@njit(**INLINED)
def _step(step, rate, resident, at, gradient, g0, count, ahead, scale, shift, straight):
    """The optimizer's step on ``count`` weights, at ``rate`` instead of its own; return whether a moment is lost."""
    weight, moment1, moment2, _, _ = resident
    below = np.float32(1) if straight else np.float32(np.inf)  # the straight-through mask of binary weights
    numbers = scale, shift, below, rate, step.root, step.decay, step.limit
    return step_run(step.optimizer, weight, moment1, moment2, at, gradient, g0, count, ahead, *numbers)


@njit(error_model="numpy")
def take_bias_step(step, biases, row, k, slope):
    # the same for one bias, of neuron ``row``, with its moments at k; no mask. Returns 0, or -1 if the bias is lost
    bias, m, v = biases.bias, biases.moment1, biases.moment2
    if step.decay != np.float32(0):
        slope = slope + step.decay * bias[row]
    first, second = m[k] if m.size else np.float32(0), v[k] if v.size else np.float32(0)
    move, first, second = step_one(step.optimizer, slope, first, second, step.rate, step.root)
    if m.size:
        m[k] = first
    if v.size:
        v[k] = second
    new = min(max(bias[row] - move, -step.limit), step.limit)
    bias[row] = new
    return np.int64(0) if abs(new) <= step.limit and abs(new) < np.float32(np.inf) else np.int64(-1)


@njit(**INLINED)
def _plus(total, part):
    # sums of |w|, of which one below 0 says that numbers were lost
    return np.int64(-1) if total < 0 or part < 0 else total + part


@njit(**INLINED)
def publish_row(weight, at, low, high, largest, unit, published, row):
    """Publish columns ``low`` to ``high`` of a neuron for the forward pass; return their sum of |w|, or -1 if lost."""
    weights = published.weights
    out, total, column = _published_at(weights, row - published.first), np.int64(0), low
    while column < high:
        stop = min(high, (column // 1024 + 1) * 1024)
        total = _plus(total, publish_run(weight, at, column, stop, largest, unit, weights, out))
        column = stop
    return total


def _published_at(weights, row):
    """Position of a neuron's column 0 in the published weights."""
    raise TypeError


@overload(_published_at, INLINED)
def _published_at_by_kind(weights, row):
    if weights.dtype == types.float32:
        return lambda weights, row: row * weights.shape[1]  # (O, I)
    return lambda weights, row: row // 8 * weights.shape[1] * 8 + row % 8  # (ceil(O / 8), W, 8)


def _step_run(step, resident, draws, part, row, column, stop, still, gradient, origin, ahead, scale, shift, straight):
    """Run the optimizer's step on a run of a neuron's columns, at rate 0 in ``still``; return whether a number is lost.

    The gradient of column c is at ``origin`` + c - column. There is an overload for moments that are numbers, and one
    for codes, for which a run must consist of whole blocks.
    """
    raise TypeError


@overload(_step_run, INLINED)
def _step_run_by_kind(
    step, resident, draws, part, row, column, stop, still, gradient, origin, ahead, scale, shift, straight
):
    moment = resident.types[resident.fields.index("moment1")]
    return _step_numbers if moment.dtype == types.float32 else _step_codes


def _step_numbers(
    step, resident, draws, part, row, column, stop, still, gradient, origin, ahead, scale, shift, straight
):
    first, _, low, high = part
    lost, at = False, (row - first) * (high - low) - low
    left, right = (still[2], still[3]) if still[0] <= row < still[1] else (high, high)
    for k in range(3):  # before, within and after the columns that stay
        a = column if k == 0 else min(max(left if k == 1 else right, column), stop)
        b = stop if k == 2 else min(max(left if k == 0 else right, column), stop)
        if a < b:
            rate, g0 = np.float32(0) if k == 1 else step.rate, origin + a - column
            lost |= _step(step, rate, resident, at + a, gradient, g0, b - a, ahead, scale, shift, straight)
    return lost


def _step_codes(step, resident, draws, part, row, column, stop, still, gradient, origin, ahead, scale, shift, straight):
    first, _, low, high = part
    weight, moment1, moment2, unit1, unit2 = resident
    block, blocks = (column - low) // BLOCK, (high - low + BLOCK - 1) // BLOCK
    left, right = (still[2] - column, still[3] - column) if still[0] <= row < still[1] else (0, 0)
    index = draws.index + draws.stride * np.uint64(row - first) + np.uint64(8 * block)
    below = np.float32(1) if straight else np.float32(np.inf)
    arrays = weight, moment1, moment2, unit1, unit2, (row - first) * (high - low) + column - low
    place = (row - first) * blocks + block, gradient, origin, stop - column, ahead, left, right
    source = draws.seed, draws.layer, draws.purpose, index
    numbers = scale, shift, below, step.rate, step.root, step.decay, step.limit
    return step_coded(step.optimizer, *arrays, *place, *source, *numbers)


@njit(error_model="numpy")
def update_rows(
    thread,
    begin,
    end,
    inputs,
    samples,
    source,
    part,
    resident,
    draws,
    published,
    still,
    biases,
    step,
    bias_step,
    train_bias,
    straight,
    unit,
    scratch,
):
    # as update
    """Neurons ``begin`` to ``end``; returns their sum of |W| in steps of 1 / unit, or -1 if a number is lost."""
    first, _, low, high = part
    values, scale, offset, origin = inputs
    weight = resident.weight
    gradient, dz, listed, _ = scratch
    total, largest = np.int64(0), min(step.limit, np.float32(LARGEST))
    width, batch = high - low, values.shape[0]
    tile = tile_neurons(values, dz)
    ahead = width if tile > 1 else BIT_RUN  # from a run to the next
    count, sum_dz = 0, np.float32(0)
    for top in range(begin, end, tile):
        bottom = min(top + tile, end) if tile > 1 else top + 1
        for row in range(top, bottom):
            own = (row - top) * (batch + 1)
            count, sum_dz = row_errors(values, source, row, samples, dz, listed, thread, own, np.float32(0))
            if tile > 1:  # behind the list
                listed[thread, own + batch], dz[thread, own + batch] = count, sum_dz
            if train_bias:
                total = _plus(total, take_bias_step(bias_step, biases, row, row - first, sum_dz))
        for column in range(low, high, run_columns(values)):
            stop = min(high, column + run_columns(values))
            for row in range(top, bottom):
                own = (row - top) * (batch + 1)
                if tile > 1:
                    count, sum_dz = listed[thread, own + batch], dz[thread, own + batch]
                gradient_run(values, column - origin, stop - origin, count, thread, own, dz, listed, gradient)
                head, shift = thread * gradient.shape[1], offset * sum_dz
                lost = _step_run(
                    step, resident, draws, part, row, column, stop, still, gradient, head, ahead, scale, shift, straight
                )
                total = np.int64(-1) if lost else total
        for row in range(top, bottom):
            total = _plus(
                total, publish_row(weight, (row - first) * width - low, low, high, largest, unit, published, row)
            )
    return total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update(
    inputs,
    samples,
    source,
    part,
    resident,
    draws,
    published,
    still,
    biases,
    step,
    bias_step,
    train_bias,
    straight,
    unit,
    scratch,
    abs_w,
):
    # inputs: Inputs; source: Projected | Given; part (4,): first, last, low, high of a slice or of some of its rows;
    # resident: Resident, draws: Draws, both of those rows; published: Published; still (4,); biases: Biases;
    # step, bias_step: Step; scratch: Scratch; abs_w (T,) int64
    """One optimizer step of columns ``low`` to ``high`` of neurons ``first`` to ``last``, and of their biases if asked.

    The gradient of an element is scale * (sum of dz values) + offset * (sum of dz), zero where |w| >= 1 if
    ``straight``, plus decay * w. ``still`` = (first, last, low, high) is the rectangle whose moments move but whose
    weights stay (the published schedule's frozen slice). ``abs_w[thread]`` increases by the new sum of |W| in steps of
    1 / ``unit``, and becomes -1 if a number is lost: no longer finite, or a weight beyond :data:`LARGEST`.
    """
    threads, first, last = abs_w.shape[0], part[0], part[1]
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, last - first, 1)
        total = update_rows(
            thread,
            first + begin,
            first + end,
            inputs,
            samples,
            source,
            part,
            resident,
            draws,
            published,
            still,
            biases,
            step,
            bias_step,
            train_bias,
            straight,
            unit,
            scratch,
        )
        abs_w[thread] = _plus(abs_w[thread], total)


@njit(error_model="numpy")
def _add_rows(thread, begin, end, values, samples, source, part, scratch, sums, bias_sums, begun):
    # as add_gradient
    first, _, low, high = part
    _, dz, listed, _ = scratch
    for row in range(begin, end):
        total = bias_sums[row - first] if begun else np.float32(0)
        count, bias_sums[row - first] = row_errors(values, source, row, samples, dz, listed, thread, 0, total)
        at = (row - first) * (high - low) - low
        for column in range(low, high, GRADIENT_COLUMNS):
            sum_columns(
                listed,
                dz,
                thread * dz.shape[1],
                count,
                values,
                column,
                values.shape[1],
                sums,
                at + column,
                high - column,
                begun,
            )


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def add_gradient(values, samples, source, part, scratch, sums, bias_sums, begun, threads):
    # values (B, I) uint8 | float32; source: Given without factor; part (4,); scratch: Scratch; sums flat
    # ((last - first) (high - low),); bias_sums (last - first,)
    """Add a micro-batch to the sums of dz values and of dz from which a batch's gradient is computed.

    If ``begun``, the sums continue sample after sample, so that in the end they have the same bits as over the batch.
    """
    first, last = part[0], part[1]
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, last - first, 1)
        _add_rows(thread, first + begin, first + end, values, samples, source, part, scratch, sums, bias_sums, begun)


@njit(error_model="numpy")
def _update_rows_from(
    begin,
    end,
    sums,
    bias_sums,
    scale,
    offset,
    part,
    resident,
    draws,
    published,
    still,
    biases,
    step,
    bias_step,
    train_bias,
    straight,
    unit,
):
    # as update_from
    """Neurons ``begin`` to ``end``; returns their sum of |W| in steps of 1 / unit, or -1 if a number is lost."""
    first, _, low, high = part
    total, largest = np.int64(0), min(step.limit, np.float32(LARGEST))
    for row in range(begin, end):
        sum_dz = bias_sums[row - first]
        if train_bias:
            total = _plus(total, take_bias_step(bias_step, biases, row, row - first, sum_dz))
        at = (row - first) * (high - low) - low
        lost = _step_run(
            step,
            resident,
            draws,
            part,
            row,
            low,
            high,
            still,
            sums,
            at + low,
            high - low,
            scale,
            offset * sum_dz,
            straight,
        )
        total = np.int64(-1) if lost else total
        total = _plus(total, publish_row(resident.weight, at, low, high, largest, unit, published, row))
    return total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update_from(
    sums,
    bias_sums,
    scale,
    offset,
    part,
    resident,
    draws,
    published,
    still,
    biases,
    step,
    bias_step,
    train_bias,
    straight,
    unit,
    abs_w,
):
    # sums, bias_sums as in add_gradient; the rest as in update
    """The step of :func:`update`, from the sums of :func:`add_gradient`."""
    threads, first, last = abs_w.shape[0], part[0], part[1]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, last - first, 1)
        total = _update_rows_from(
            first + begin,
            first + end,
            sums,
            bias_sums,
            scale,
            offset,
            part,
            resident,
            draws,
            published,
            still,
            biases,
            step,
            bias_step,
            train_bias,
            straight,
            unit,
        )
        abs_w[lane] = _plus(abs_w[lane], total)


@njit(nogil=True, cache=True, error_model="numpy")
def multiply_moments(part, resident, draws, factor):
    # part (4,), resident: Resident with one moment, codes; draws: Draws
    """Multiply the moments of a slice by ``factor``, rounded as after a step."""
    first, last, low, high = part
    weight, moment1, moment2, unit1, unit2 = resident
    width, none, all_of_them = high - low, np.float32(0), np.float32(np.inf)
    for row in range(last - first):
        at, block = row * width, row * ((width + BLOCK - 1) // BLOCK)
        index = draws.index + draws.stride * np.uint64(row)
        multiply_coded(
            0,
            weight,
            moment1,
            moment2,
            unit1,
            unit2,
            at,
            block,
            weight,
            at,
            width,
            0,
            0,
            0,
            draws.seed,
            draws.layer,
            draws.purpose,
            index,
            none,
            none,
            all_of_them,
            none,
            factor,
            none,
            all_of_them,
        )


@njit(nogil=True, cache=True, error_model="numpy")
def publish_slice(weight, first, last, low, high, published, unit):
    # weight flat ((last - first) (high - low),), published as in update
    """Publish rows of a slice for the forward pass, as :func:`update` does; return their sum of |W| in 1 / unit."""
    total = np.int64(0)
    for row in range(first, last):
        at = (row - first) * (high - low) - low
        total += publish_row(weight, at, low, high, np.float32(LARGEST), unit, published, row)
    return total
