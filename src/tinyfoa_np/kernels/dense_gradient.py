"""The gradient of a neuron's weights, a run of its columns at a time, from the errors of a batch.

The errors at a layer's outputs are projected from those at the logits (TinyFoA, DRTP) or given; samples whose error is
zero contribute nothing. With bytes and real inputs, gradients of weights and biases are summed over the samples in
their order; with bits in groups of four: of samples 4 g to 4 g + 3 those that count are added in their order, and the
groups' sums are added in theirs. Four errors have 16 possible sums: they are computed once per neuron, and the four
samples' bits of an input select one. A group without errors is left out: its sum is 0.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from .compiling import INLINED, njit
from .gradients import (
    GRADIENT_COLUMNS,
    copy_errors,
    count_up,
    move_up,
    project_errors,
    sum_columns,
    sum_in_fours,
)
from .operands import Given
from .simd import COMPRESSES, trailing_zeros
from .tables import make_tables, sum_tables, turn_word

#: columns of a neuron's gradient that exist at a time, per thread: a run; of packed bits, so few that the step of one
#: run overlaps the gradient of the next, and of bytes or floats, of which 100 samples then stay in the nearest cache
BIT_RUN, RUN = 128, 96


#: neurons that a run of floats serves before the next
NEURONS = 16


def _errors(source, row, start, samples, dz, at):
    """dz of one neuron for up to 64 samples from ``start``, flat from dz[at]; returns the samples that count, as bits.

    An overload for each kind of source.
    """
    raise TypeError


@overload(_errors, INLINED)
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
    """A sample's contribution dz to the gradient of a weight, including its factor."""
    raise TypeError


@overload(_times_factor, INLINED)
def _times_factor_by_source(source, value, s):
    if source.instance_class is Given:
        return lambda source, value, s: value * source.factor[s] if source.factor.size else value
    return lambda source, value, s: value


def _has_factor(source):
    """Whether samples have a factor in the gradient of a weight."""
    raise TypeError


@overload(_has_factor, INLINED)
def _has_factor_by_source(source):
    if source.instance_class is Given:
        return lambda source: source.factor.size > 0
    return lambda source: False


@njit(nogil=True, cache=True, error_model="numpy")
def turn(values, samples, low, high, out):
    # values (B, W) uint64; out (ceil(B / 32), high - low) uint32
    """Packed bits as the gradient takes them: input low + i of sample s becomes bit s % 32 of out[s // 32, i].

    Bits of a last word without a sample are 0.
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
                block * width,
                width,
                column - low,
                high - column,
            )


def row_errors(values, source, row, samples, dz, listed, thread, at, total):
    """One neuron's dz in the form the gradient reads: the number of entries, and ``total`` + the sum of dz.

    With bytes or floats the samples whose dz is not zero, in order, and their dz: listed and dz [thread, at : at +
    count]. With bits the tables of sums, 16 floats for each group of four samples with an error, in dz[thread, : 16
    count], and the groups' numbers, int32, in dz[thread] from :func:`_behind_tables` on.
    """
    raise TypeError


@overload(row_errors, INLINED)
def _row_errors_by_kind(values, source, row, samples, dz, listed, thread, at, total):
    if values.dtype == types.uint32:
        return _tabled_errors
    return _listed_errors


@njit(**INLINED)
def _behind_tables(dz):
    """Where the errors of a neuron, then the numbers of the groups that have one, begin in its part of dz."""
    return dz.shape[1] // 20 * 16


def _tabled_errors(values, source, row, samples, dz, listed, thread, at, total):
    groups, tables = (samples + 3) // 4, thread * dz.shape[1]
    own = tables + _behind_tables(dz)
    for start in range(0, samples, 64):
        few = min(64, samples - start)
        bits = _errors(source, row, start, few, dz, own + start)
        total = sum_in_fours(dz, own + start, bits, (few + 3) // 4 * 4, total)
    if _has_factor(source):
        for s in range(_behind_tables(dz), _behind_tables(dz) + samples):
            value = dz[thread, s]
            dz[thread, s] = _times_factor(source, value, s - _behind_tables(dz)) if value != 0 else np.float32(0)
    count = make_tables(dz, own, groups, tables)
    for k in range(16 * count, 16 * groups):  # every byte behind the tables is written, too: an audit looks for it
        dz[thread, k] = 0
    return count, total


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


def gradient_run(values, low, high, count, thread, at, dz, listed, gradient):
    """gradient[thread, k] = sum over the samples of dz x[low + k], up to column ``high``, from row_errors' output.

    An overload for bits, one for columns of bytes or floats.
    """
    raise TypeError


@overload(gradient_run, INLINED)
def _gradient_run_by_kind(values, low, high, count, thread, at, dz, listed, gradient):
    if values.dtype == types.uint32:
        return _run_of_bits
    return _run_of_columns


def _run_of_bits(values, low, high, count, thread, at, dz, listed, gradient):
    # values (ceil(B / 32), I) uint32
    tables, stride, out = thread * dz.shape[1], values.shape[1], thread * gradient.shape[1]
    numbers = tables + _behind_tables(dz)
    sum_tables(dz, tables, numbers, count, values, low, stride, gradient, out, high - low)


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


def run_columns(values):
    """Columns of a run."""
    raise TypeError


@overload(run_columns, INLINED)
def _run_columns_by_kind(values):
    if values.dtype == types.uint32:
        return lambda values: BIT_RUN
    return lambda values: RUN


def tile_neurons(values, dz):
    """Number of neurons whose lists are kept during a run: as many as fit into the scratch; one for bits."""
    raise TypeError


@overload(tile_neurons, INLINED)
def _tile_neurons_by_kind(values, dz):
    if values.dtype == types.uint32:
        return lambda values, dz: 1
    return lambda values, dz: max(1, dz.shape[1] // (values.shape[0] + 1))


def run_width(columns: int, bits: bool) -> int:
    """Elements of the scratch ``gradient`` for a slice with this number of columns."""
    return min(BIT_RUN if bits else RUN, columns)


def turned_shape(batch: int, columns: int) -> tuple[int, int]:
    """Shape of the bits of these columns as written by :func:`turn`, uint32."""
    return -(-batch // 32), columns


def table_width(batch: int) -> int:
    """The second dimension of the scratch ``dz`` with bits: 16 sums and four errors for each group of four samples."""
    return 20 * -(-batch // 4)


def list_width(batch: int, neurons: int = NEURONS) -> int:
    """The second dimension of the scratch ``dz`` and ``listed`` that holds the lists of these neurons at a time.

    One is enough; but floats are read from the nearest cache only if a run is used for several neurons.
    """
    return neurons * (batch + 1) if neurons > 1 else batch


@njit(nogil=True, cache=True, error_model="numpy")
def slice_gradient(inputs, samples, source, part, weight, straight, scratch, out, bias_out):
    # as update; weight and out flat ((last - first) (high - low),), bias_out (last - first,)
    """The gradient of a slice, stored whole, for tests and inspection; :func:`update` computes it run by run."""
    first, last, low, high = part
    for row in range(first, last):
        count, sum_dz = row_errors(inputs.values, source, row, samples, scratch.dz, scratch.listed, 0, 0, np.float32(0))
        bias_out[row - first] = sum_dz
        at = (row - first) * (high - low) - low
        for column in range(low, high, run_columns(inputs.values)):
            end = min(high, column + run_columns(inputs.values))
            gradient_run(
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
