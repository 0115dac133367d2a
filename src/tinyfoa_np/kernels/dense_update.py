"""From the errors of a batch to new weights: gradient, optimizer, clamp, packed signs and the sum of |W| in one pass.

The errors at a layer's outputs are projected from those at the logits (TinyFoA, DRTP) or given; samples whose error is
zero count for nothing. Threads share the rows (neurons) of a slice; a row is walked in runs that stay in the nearest
cache, so no gradient is ever stored whole. With bytes and real inputs, gradients of weights and biases are summed over
the samples in their order; with bits in groups of four: of samples 4 g to 4 g + 3 those that count are added in their
order, and the groups' sums are added in theirs. Four errors have 16 possible sums: they are computed once per neuron,
and the four samples' bits of an input select one.
Step and publishing are two passes, as one would be too long a chain of instructions for the processor to overlap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from .intrinsics import (
    COMPRESSES,
    GRADIENT_COLUMNS,
    copy_errors,
    count_up,
    make_tables,
    move_up,
    multiply_coded,
    project_errors,
    publish_run,
    share,
    step_adam,
    step_coded_adam,
    step_coded_momentum,
    step_coded_nesterov,
    step_momentum,
    step_nesterov,
    step_sgd,
    sum_columns,
    sum_in_fours,
    sum_tables,
    trailing_zeros,
    turn_word,
)

SGD, MOMENTUM, NESTEROV, ADAM = range(4)
#: columns of a neuron's gradient that exist at a time, per thread: a run; of packed bits, so few that the step of one
#: run overlaps the gradient of the next, and of bytes or floats, of which 100 samples then stay in the nearest cache
BIT_RUN, RUN = 128, 96
#: columns of a row of the slice whose moments, where they are bytes, have a unit in common: whole blocks to a RUN
BLOCK = 32
#: neurons that a run of floats serves before the next
NEURONS = 16
#: a weight beyond it counts as lost: the exact sum of |W| has no room for it
LARGEST = 256.0


class Inputs(NamedTuple):
    """A batch of inputs as it is held: X = scale * values + offset."""

    values: np.ndarray  # (ceil(B / 32), I) uint32: bits as turn writes them | (B, I) uint8 | (B, I) float32
    scale: Any  # float32
    offset: Any  # float32
    first: int = 0  # the column of the layer that values begin with


class Projected(NamedTuple):
    """Errors at the outputs as a projection of the errors at the logits: dz = (error P) [active]."""

    error: np.ndarray  # (C, B) float32
    projection: np.ndarray  # (rows, C) float32
    active: np.ndarray  # (rows, G) uint16: bit s % 16 of word s // 16 for sample s
    first: int  # the neuron of their row 0


class Given(NamedTuple):
    """Errors at the outputs that have been computed: dz."""

    dz: np.ndarray  # (rows, B) float32
    first: int  # the neuron of its row 0
    factor: np.ndarray  # (B,) float32: each sample's inputs are to be multiplied by its own | (0,): by nothing


class Resident(NamedTuple):
    """A slice's weights with their moments, row by row; (0,) where the optimizer has none.

    Moments are numbers, or codes in two bytes or one (:mod:`tinyfoa_np.reference.moments`): of bytes each row has units
    for its blocks of 32 columns, n of them.
    """

    weight: np.ndarray  # (size,) float32
    moment1: np.ndarray  # (size,) | (0,) float32 | uint16 | uint8
    moment2: np.ndarray  # the same
    unit1: np.ndarray  # (rows n,) | (0,) uint8
    unit2: np.ndarray  # the same


class Draws(NamedTuple):
    """Which random bits round a slice's moments where they are codes: Philox blocks, eight for 32 columns of a row."""

    seed: Any  # uint64
    layer: Any  # uint64
    purpose: Any  # uint64
    index: Any  # uint64: the first block of the first row
    stride: Any  # uint64: from one row to the next


class Published(NamedTuple):
    """What the forward pass reads: of all neurons, or of some of them."""

    weights: np.ndarray  # (ceil(n / 8), W, 8) uint64 | (n, I) float32
    first: int  # the neuron of its row 0; of packed signs a multiple of 8


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
    dz: np.ndarray  # (T, list_width) float32; of bits (T, table_width)
    listed: np.ndarray  # (T, list_width) int32; of bits (T, 0)
    turned: np.ndarray  # (ceil(B / 32), columns) uint32: where packed bits are turned; of bytes or floats (0, 0)


def _errors(source, row, start, samples, dz, at):
    """dz of one neuron for up to 64 samples from ``start``, flat from dz[at]; returns those not left out, as bits.

    An overload for each kind of source.
    """
    raise TypeError


@overload(_errors, inline="always")
def _errors_by_source(source, row, start, samples, dz, at):
    return _given_errors if source.instance_class is Given else _projected_errors


def _given_errors(source, row, start, samples, dz, at):
    # source: Given
    return copy_errors(source.dz, (row - source.first) * source.dz.shape[1] + start, dz, at, samples)


def _projected_errors(source, row, start, samples, dz, at):
    # source: Projected
    error, projection, active, classes = source.error, source.projection, source.active, source.error.shape[0]
    own = row - source.first
    return project_errors(
        error,
        start,
        error.shape[1],
        classes,
        projection,
        own * classes,
        active,
        own * active.shape[1] + start // 16,
        dz,
        at,
        samples,
    )


def _times_factor(source, value, s):
    """What a sample's dz counts for in the gradient of a weight."""
    raise TypeError


@overload(_times_factor, inline="always")
def _times_factor_by_source(source, value, s):
    if source.instance_class is Given:
        return lambda source, value, s: value * source.factor[s] if source.factor.size else value
    return lambda source, value, s: value


def _has_factor(source):
    """Whether samples' dz count for something else in the gradient of a weight."""
    raise TypeError


@overload(_has_factor, inline="always")
def _has_factor_by_source(source):
    if source.instance_class is Given:
        return lambda source: source.factor.size > 0
    return lambda source: False


@njit(nogil=True, cache=True, error_model="numpy")
def turn(values, samples, low, high, out):
    # values (B, W) uint64; out (ceil(B / 32), high - low) uint32
    """Packed bits as the gradient takes them: input low + i of sample s becomes bit s % 32 of out[s // 32, i].

    Bits of a last word that stand for no sample are 0.
    """
    stride, width = values.shape[1], high - low
    for block in range((samples + 31) // 32):
        few = min(32, samples - 32 * block)
        for column in range(low, high, 64):
            word, down = column // 64, column % 64
            turn_word(
                values,
                32 * block * stride + word,
                stride,
                few,
                down,
                down > 0 and word + 1 < stride,
                out,
                block * width + column - low,
                high - column,
            )


def _row_errors(values, source, row, samples, dz, listed, thread, at, total):
    """One neuron's dz as its gradient takes them: how many entries they are, and ``total`` + the sum of dz.

    With bytes or floats the samples whose dz is not zero, in order, and their dz: listed and dz [thread, at : at +
    count]. With bits the tables of sums, 16 floats for each group of four samples: dz[thread, : 16 count].
    """
    raise TypeError


@overload(_row_errors, inline="always")
def _row_errors_by_kind(values, source, row, samples, dz, listed, thread, at, total):
    if values.dtype == types.uint32:
        return _tabled_errors
    return _listed_errors


def _tabled_errors(values, source, row, samples, dz, listed, thread, at, total):
    groups, tables = (samples + 3) // 4, thread * dz.shape[1]
    own = tables + dz.shape[1] // 20 * 16  # errors stand behind the tables
    for start in range(0, samples, 64):
        few = min(64, samples - start)
        bits = _errors(source, row, start, few, dz, own + start)
        total = sum_in_fours(dz, own + start, bits, (few + 3) // 4 * 4, total)
    if _has_factor(source):
        flat = dz.reshape(dz.size)
        for s in range(samples):
            flat[own + s] = _times_factor(source, flat[own + s], s) if flat[own + s] != 0 else np.float32(0)
    make_tables(dz, own, groups, tables)
    return groups, total


def _listed_errors(values, source, row, samples, dz, listed, thread, at, total):
    count, own, together = 0, thread * dz.shape[1] + at, COMPRESSES and not _has_factor(source)
    for start in range(0, samples, 64):
        few, head = min(64, samples - start), own + start
        bits = _errors(source, row, start, few, dz, head)
        count_up(listed, head, start, few)  # behind the list, too, every byte is to be written: an audit looks for it
        if together:
            count += move_up(dz, head, start, bits, listed, own + count, own + count)
            continue
        while bits:
            s = start + trailing_zeros(bits)
            bits &= bits - np.uint64(1)
            value = dz[thread, at + s]
            dz[thread, at + count] = _times_factor(source, value, s)  # count <= s
            listed[thread, at + count] = s
            total += value
            count += 1
    if together:
        for k in range(count):
            total += dz[thread, at + k]
    return count, total


def _gradient_run(values, low, high, count, thread, at, dz, listed, gradient):
    """gradient[thread, k] = sum over the samples of dz x[low + k], up to column ``high``, from what _row_errors left.

    An overload for bits, one for columns of bytes or floats.
    """
    raise TypeError


@overload(_gradient_run, inline="always")
def _gradient_run_by_kind(values, low, high, count, thread, at, dz, listed, gradient):
    if values.dtype == types.uint32:
        return _run_of_bits
    return _run_of_columns


def _run_of_bits(values, low, high, count, thread, at, dz, listed, gradient):
    # values (ceil(B / 32), I) uint32
    sum_tables(
        dz, thread * dz.shape[1], count, values, low, values.shape[1], gradient, thread * gradient.shape[1], high - low
    )


def _run_of_columns(values, low, high, count, thread, at, dz, listed, gradient):
    # values (B, I) uint8 or float32
    stride, out = values.shape[1], thread * gradient.shape[1] - low
    for column in range(low, high, GRADIENT_COLUMNS):
        sum_columns(
            listed,
            dz,
            thread * dz.shape[1] + at,
            count,
            values,
            column,
            stride,
            gradient,
            out + column,
            high - column,
            False,
        )


def _run(values):
    """Columns of a run."""
    raise TypeError


@overload(_run, inline="always")
def _run_by_kind(values):
    if values.dtype == types.uint32:
        return lambda values: BIT_RUN
    return lambda values: RUN


def _tile(values, dz):
    """Neurons whose lists are kept while a run is walked: as many as scratch has room for; with bits one."""
    raise TypeError


@overload(_tile, inline="always")
def _tile_by_kind(values, dz):
    if values.dtype == types.uint32:
        return lambda values, dz: 1
    return lambda values, dz: max(1, dz.shape[1] // (values.shape[0] + 1))


def run_width(columns: int, bits: bool) -> int:
    """The elements of the scratch ``gradient`` that a slice of so many columns takes."""
    return min(BIT_RUN if bits else RUN, columns)


def turned_shape(batch: int, columns: int) -> tuple[int, int]:
    """Shape of the bits of so many columns as :func:`turn` writes them, uint32."""
    return -(-batch // 32), columns


def table_width(batch: int) -> int:
    """The second dimension of the scratch ``dz`` with bits: 16 sums and four errors for each group of four samples."""
    return 20 * -(-batch // 4)


def list_width(batch: int, neurons: int = NEURONS) -> int:
    """The second dimension of the scratch ``dz`` and ``listed`` that keeps the lists of so many neurons at a time.

    One is enough; floats come from the nearest cache only if a run of them serves more.
    """
    return neurons * (batch + 1) if neurons > 1 else batch


@njit(inline="always")
def _step(step, rate, resident, at, gradient, g0, count, ahead, scale, shift, straight):
    """The optimizer's step on ``count`` weights at ``rate``, which may differ from step's: whether a moment is lost."""
    weight, moment1, moment2, _, _ = resident
    below = np.float32(1) if straight else np.float32(np.inf)  # the straight-through mask of binary weights
    numbers = scale, shift, below, rate, step.root, step.decay, step.limit
    if step.optimizer == ADAM:
        return step_adam(weight, moment1, moment2, at, gradient, g0, count, ahead, *numbers)
    if step.optimizer == NESTEROV:
        return step_nesterov(weight, moment1, moment2, at, gradient, g0, count, ahead, *numbers)
    if step.optimizer == MOMENTUM:
        return step_momentum(weight, moment1, moment2, at, gradient, g0, count, ahead, *numbers)
    return step_sgd(weight, moment1, moment2, at, gradient, g0, count, ahead, *numbers)


@njit(nogil=True, cache=True, error_model="numpy")
def take_bias_step(step, biases, row, k, slope):
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


@njit(inline="always")
def _plus(total, part):
    # sums of |w|, of which one below 0 says that numbers were lost
    return np.int64(-1) if total < 0 or part < 0 else total + part


@njit(inline="always")
def publish_row(weight, at, low, high, largest, unit, published, row):
    """Hands columns ``low`` to ``high`` of one neuron to the forward pass: their sum of |w|, -1 if one is lost."""
    weights = published.weights
    out, total, column = _published_at(weights, row - published.first), np.int64(0), low
    while column < high:
        stop = min(high, (column // 1024 + 1) * 1024)
        total = _plus(total, publish_run(weight, at, column, stop, largest, unit, weights, out))
        column = stop
    return total


def _published_at(weights, row):
    """Where column 0 of a neuron lies in what the forward pass reads."""
    raise TypeError


@overload(_published_at, inline="always")
def _published_at_by_kind(weights, row):
    if weights.dtype == types.float32:
        return lambda weights, row: row * weights.shape[1]  # (O, I)
    return lambda weights, row: row // 8 * weights.shape[1] * 8 + row % 8  # (ceil(O / 8), W, 8)


def _step_run(step, resident, draws, part, row, column, stop, still, gradient, origin, ahead, scale, shift, straight):
    """The optimizer's step on a run of a neuron's columns, those of ``still`` at no rate: whether a number is lost.

    The gradient of column c stands at ``origin`` + c - column. An overload for moments that are numbers, one for codes,
    of which a run is to be whole blocks.
    """
    raise TypeError


@overload(_step_run, inline="always")
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
    if step.optimizer == ADAM:
        return step_coded_adam(*arrays, *place, *source, *numbers)
    if step.optimizer == NESTEROV:
        return step_coded_nesterov(*arrays, *place, *source, *numbers)
    return step_coded_momentum(*arrays, *place, *source, *numbers)


@njit(nogil=True, cache=True, error_model="numpy")
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
    tile = _tile(values, dz)
    ahead = width if tile > 1 else BIT_RUN  # from a run to the next
    count, sum_dz = 0, np.float32(0)
    for top in range(begin, end, tile):
        bottom = min(top + tile, end) if tile > 1 else top + 1
        for row in range(top, bottom):
            own = (row - top) * (batch + 1)
            count, sum_dz = _row_errors(values, source, row, samples, dz, listed, thread, own, np.float32(0))
            if tile > 1:  # behind the list
                listed[thread, own + batch], dz[thread, own + batch] = count, sum_dz
            if train_bias:
                total = _plus(total, take_bias_step(bias_step, biases, row, row - first, sum_dz))
        for column in range(low, high, _run(values)):
            stop = min(high, column + _run(values))
            for row in range(top, bottom):
                own = (row - top) * (batch + 1)
                if tile > 1:
                    count, sum_dz = listed[thread, own + batch], dz[thread, own + batch]
                _gradient_run(values, column - origin, stop - origin, count, thread, own, dz, listed, gradient)
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
    weights stay (the published schedule's frozen slice). ``abs_w[thread]`` grows by the new sum of |W| in steps of
    1 / ``unit``, and becomes -1 when a number is lost: no longer finite, or a weight beyond :data:`LARGEST`.
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


@njit(nogil=True, cache=True, error_model="numpy")
def _add_rows(thread, begin, end, values, samples, source, part, scratch, sums, bias_sums, begun):
    # as add_gradient
    first, _, low, high = part
    _, dz, listed, _ = scratch
    for row in range(begin, end):
        total = bias_sums[row - first] if begun else np.float32(0)
        count, bias_sums[row - first] = _row_errors(values, source, row, samples, dz, listed, thread, 0, total)
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
    """Adds a micro-batch to the sums of dz values and of dz that a batch's gradient is made of.

    Where one was ``begun`` the sums go on, sample after sample: in the end they have the bits of those over the batch.
    """
    first, last = part[0], part[1]
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, last - first, 1)
        _add_rows(thread, first + begin, first + end, values, samples, source, part, scratch, sums, bias_sums, begun)


@njit(nogil=True, cache=True, error_model="numpy")
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
    """The step of :func:`update` from sums that :func:`add_gradient` has put together."""
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
    """Multiplies the moments of a slice by ``factor``, rounded as after a step."""
    first, last, low, high = part
    weight, moment1, moment2, unit1, unit2 = resident
    width, none, all_of_them = high - low, np.float32(0), np.float32(np.inf)
    for row in range(last - first):
        at, block = row * width, row * ((width + BLOCK - 1) // BLOCK)
        index = draws.index + draws.stride * np.uint64(row)
        multiply_coded(
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
def slice_gradient(inputs, samples, source, part, weight, straight, scratch, out, bias_out):
    # as update; weight and out flat ((last - first) (high - low),), bias_out (last - first,)
    """The gradient of a slice alone, stored whole: what :func:`update` uses run by run, for tests and inspection."""
    first, last, low, high = part
    for row in range(first, last):
        count, sum_dz = _row_errors(
            inputs.values, source, row, samples, scratch.dz, scratch.listed, 0, 0, np.float32(0)
        )
        bias_out[row - first] = sum_dz
        at = (row - first) * (high - low) - low
        for column in range(low, high, _run(inputs.values)):
            end = min(high, column + _run(inputs.values))
            _gradient_run(
                inputs.values,
                column - inputs.first,
                end - inputs.first,
                count,
                0,
                0,
                scratch.dz,
                scratch.listed,
                scratch.gradient,
            )
            for i in range(column, end):
                passes = not straight or abs(weight[at + i]) < np.float32(1)
                value = inputs.scale * scratch.gradient[0, i - column] + inputs.offset * sum_dz
                out[at + i] = value if passes else np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def publish_slice(weight, first, last, low, high, published, unit):
    # weight flat ((last - first) (high - low),), published as in update
    """Hands rows of a slice to the forward pass, as :func:`update` does; returns their sum of |W| in 1 / unit."""
    total = np.int64(0)
    for row in range(first, last):
        at = (row - first) * (high - low) - low
        total += publish_row(weight, at, low, high, np.float32(LARGEST), unit, published, row)
    return total
