"""From a batch to its logits: z = gain (x . w) + bias, activations and masks, and the sums over classes.

Threads share the samples, each thread runs over tiles of neurons that fit its nearest cache; a sample's logits are
summed from tile to tile in the order of the neurons, so results do not depend on tiles or threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import overload

from .compiling import INLINED, njit
from .products import (
    BYTE_NEURONS,
    BYTE_SAMPLES,
    CLASS_VECTORS,
    CLASSES,
    DENSE_ROWS,
    SAMPLES,
    class_sums_block,
    class_sums_one,
    dense_product,
    dot_bytes_block,
    dot_bytes_sample,
    dot_panel_samples,
    finish_rows,
    turn_over,
)
from .simd import popcount, share, write_signs

#: inputs that a dense product turns over at a time: whole words
DENSE_INPUTS = 128
#: |z| above this counts as this in the sum that gives the activations' scale
ABS_Z_RANGE = 2.0**20


def scratch_shape(inputs: np.dtype, weights: np.dtype, batch: int, words: int, threads: int) -> tuple[tuple, str]:
    """Shape and dtype of the scratch that :func:`forward` needs for these operands.

    Parameters
    ----------
    inputs : numpy.dtype
        uint64 (packed bits), uint8 (bytes) or float32.
    weights : numpy.dtype
        uint64 (packed signs) or float32.
    batch, words, threads : int
        Samples of a full batch, words of a packed row, threads.
    """
    if weights == np.uint64 and inputs != np.float32:
        return (batch,), "int32"  # set bits of each sample, or the sum of its bytes
    signs = DENSE_ROWS * DENSE_INPUTS if weights == np.uint64 else 0
    return (threads, _room.py_func(batch, threads) * DENSE_INPUTS + signs), "float32"


@njit(**INLINED)
def _room(batch, threads):
    # samples that a thread turns over: the most that fall to one, in whole vectors
    return (batch + 16 * threads - 1) // (16 * threads) * 16


def linear(inputs, begin, end, weights, neuron, neurons, columns, scale, offset, scratch, thread, z, z0, row):
    """z = x . w for one tile of neurons and samples begin..end (an overload for each kind).

    z is flat: neuron r of the tile and sample begin + s are at z0 + r * row + s.
    """
    raise TypeError


@overload(linear, inline="never")
def _linear_by_kind(inputs, begin, end, weights, neuron, neurons, columns, scale, offset, scratch, thread, z, z0, row):
    if weights.dtype == types.uint64 and inputs.dtype == types.uint64:
        return _bits_by_signs
    if weights.dtype == types.uint64 and inputs.dtype == types.uint8:
        return _bytes_by_signs
    return _dense_product


def _bits_by_signs(inputs, begin, end, weights, neuron, neurons, columns, scale, offset, scratch, thread, z, z0, row):
    # inputs (B, W) uint64, weights (panels, W, 8) uint64, scratch (B,) int32: popcounts of AND, because one
    # correction per sample (its own set bits) then serves every neuron, and padding bits can only be zero; with an
    # offset an input is bit + offset, which adds offset * (sum of signs)
    words = inputs.shape[1]
    if neuron == 0:
        for b in range(begin, end):
            count = 0
            for k in range(words):
                count += popcount(inputs[b, k])
            scratch[b] = count
    for r in range(0, neurons, 8):
        panel = (neuron + r) // 8
        b = begin
        if r + 8 <= neurons and end - begin >= SAMPLES:
            while b < end:  # the last block may go over samples of the one before: to the same integers
                s = min(b, end - SAMPLES)
                out = z0 + r * row + s - begin
                dot_panel_samples(inputs, s * words, words, scratch, s, weights, panel * words * 8, words, z, out, row)
                b += SAMPLES
            b = end
        for s in range(b, end):
            for lane in range(min(8, neurons - r)):
                count = 0
                for k in range(words):
                    count += popcount(inputs[s, k] & weights[panel, k, lane])
                z[z0 + (r + lane) * row + s - begin] = np.float32(2 * count - scratch[s])
    if offset != 0:
        for r in range(neurons):
            signs = 0
            for k in range(words):
                signs += popcount(weights[(neuron + r) // 8, k, (neuron + r) % 8])
            shift = offset * np.float32(2 * signs - columns)
            for s in range(end - begin):
                z[z0 + r * row + s] += shift


def _bytes_by_signs(inputs, begin, end, weights, neuron, neurons, columns, scale, offset, scratch, thread, z, z0, row):
    # inputs (B, I) uint8, weights (panels, W, 8) uint64, scratch (B,) int32: of a sample's bytes those with weight +1
    # are added, twice, less the sum of all; x = scale * byte + offset gives scale * dot + offset * (sum of signs)
    words = weights.shape[1]
    if neuron == 0:
        for b in range(begin, end):
            total = 0
            for i in range(columns):
                total += inputs[b, i]
            scratch[b] = total
    blocks = end - begin >= BYTE_SAMPLES
    step = BYTE_NEURONS if blocks else 8
    # some samples stay in the nearest cache for all neurons
    for s0 in range(begin, end, BYTE_SAMPLES):
        s = min(s0, end - BYTE_SAMPLES)  # the last block may go over samples of the one before: to the same integers
        for r in range(0, neurons, step):
            own = ((neuron + r) // 8 * words * 8) + (neuron + r) % 8
            if blocks:
                dot_bytes_block(
                    inputs,
                    s * columns,
                    columns,
                    columns,
                    scratch,
                    s,
                    weights,
                    own,
                    z,
                    z0 + r * row + s - begin,
                    row,
                    neurons - r,
                )
            else:
                for b in range(begin, end):
                    dot_bytes_sample(
                        inputs,
                        b * columns,
                        columns,
                        columns,
                        scratch,
                        b,
                        weights,
                        own,
                        z,
                        z0 + r * row + b - begin,
                        row,
                        neurons - r,
                    )
    for r in range(neurons):
        signs = 0
        for k in range(words):
            signs += popcount(weights[(neuron + r) // 8, k, (neuron + r) % 8])
        shift, at = offset * np.float32(2 * signs - columns), z0 + r * row
        for s in range(at, at + end - begin):
            z[s] = scale * z[s] + shift


def _dense_product(inputs, begin, end, weights, neuron, neurons, columns, scale, offset, scratch, thread, z, z0, row):
    # any inputs by any weights in float32, summed over the inputs in order: the samples are turned over, DENSE_INPUTS
    # inputs at a time; packed signs are written out as +-1, packed bits as 0 and 1, bytes as scale * byte + offset.
    # Every byte of the scratch is written, whatever the width: what is absent, as 0.
    samples = end - begin
    room = _room(inputs.shape[0], scratch.shape[0])
    own = thread * scratch.shape[1]
    signs = own + room * DENSE_INPUTS
    flat = scratch.reshape(scratch.size)
    for i0 in range(0, columns, DENSE_INPUTS):
        width = min(DENSE_INPUTS, columns - i0)
        for i in range(0, DENSE_INPUTS, 16):
            for s in range(0, room, 16):
                few = samples - s if i < width else 0
                turn_over(
                    inputs,
                    inputs.shape[1],
                    begin + s,
                    few,
                    i0 + i,
                    width - i,
                    scale,
                    offset,
                    flat,
                    own + i * room + s,
                    room,
                )
        for r in range(0, neurons, DENSE_ROWS):
            rows = min(DENSE_ROWS, neurons - r)
            source, start, stride = _rows(weights, neuron + r, rows, i0, columns, flat, signs)
            out = z0 + r * row
            dense_product(source, start, stride, 1, rows, flat, own, room, width, z, out, row, samples, i0 > 0)


def _rows(weights, neuron, rows, column, columns, flat, signs):
    """Location of these neurons' float32 weights: array, first position, stride (an overload for each kind)."""
    raise TypeError


@overload(_rows, INLINED)
def _rows_by_kind(weights, neuron, rows, column, columns, flat, signs):
    if weights.dtype == types.float32:

        def whole(weights, neuron, rows, column, columns, flat, signs):
            return weights, neuron * columns + column, columns

        return whole

    def written_out(weights, neuron, rows, column, columns, flat, signs):
        # every byte of the scratch is written, whatever the width: absent rows and columns as those of zero bits
        for r in range(DENSE_ROWS):
            for k in range(DENSE_INPUTS // 64):
                word, at = np.uint64(0), column // 64 + k
                if r < rows and at < weights.shape[1]:
                    word = weights[(neuron + r) // 8, at, (neuron + r) % 8]
                write_signs(word, flat, signs + r * DENSE_INPUTS + 64 * k)
        return flat, signs, DENSE_INPUTS

    return written_out


def emit(outputs, first, neurons, begin, end, z, z0, row):
    """Outputs of a trained layer for one tile of neurons: packed bits or max(z, 0) (an overload for each)."""
    raise TypeError


@overload(emit, inline="never")
def _emit_by_kind(outputs, first, neurons, begin, end, z, z0, row):
    if outputs.dtype == types.uint64:

        def bits(outputs, first, neurons, begin, end, z, z0, row):
            # outputs (B, ceil(O / 64)) uint64; a tile may begin within a word, which the one before has begun
            r0 = 0
            while r0 < neurons:
                k, bit = (first + r0) // 64, (first + r0) % 64
                stop = min(r0 + 64 - bit, neurons)
                for b in range(begin, end):
                    word = outputs[b, k] if bit else np.uint64(0)
                    for r in range(r0, stop):
                        word |= np.uint64(z[z0 + r * row + b - begin] > 0) << np.uint64(bit + r - r0)
                    outputs[b, k] = word
                r0 = stop

        return bits

    def values(outputs, first, neurons, begin, end, z, z0, row):
        # outputs (B, O) float32, turned over: some samples at a time, whose rows stay in the nearest cache
        for b0 in range(begin, end, 16):
            for r in range(neurons):
                for b in range(b0, min(b0 + 16, end)):
                    outputs[b, first + r] = max(z[z0 + r * row + b - begin], np.float32(0))

    return values


class Neurons(NamedTuple):
    """Neurons ``first`` to ``last`` of a layer, ``first`` a multiple of 8: z = gain (x . w) + b."""

    first: int
    last: int
    weights: np.ndarray  # theirs: (ceil(n / 8), W, 8) uint64 | (n, I) float32
    bias: np.ndarray  # of the layer: (O,) float32 | (0,): none
    gain: Any  # float32
    projection: np.ndarray  # theirs: (n, C) float32


class Results(NamedTuple):
    """Results of a pass besides z; arrays without rows are not computed."""

    start: int  # what active and logits call the first sample of these inputs: a multiple of 16
    active: np.ndarray  # (rows, G) uint16
    active_first: int  # the neuron of active's row 0
    logits: np.ndarray  # (C, B) float32
    outputs: np.ndarray  # (B, ceil(O / 64)) uint64 | (B, O) float32
    abs_z: np.ndarray  # (T,) int64


@njit(error_model="numpy")
def _forward_share(
    thread, begin, end, inputs, scale, offset, columns, neurons, binary, unit, scratch, z, z0, row, tile, results
):
    # samples begin..end of the inputs, ``tile`` neurons at a time, whose z stands from z0 on in the flat z, ``row``
    # from neuron to neuron: see forward
    first, last, weights, bias, gain, projection = neurons
    start, active, active_first, logits, outputs, abs_z = results
    limit = np.float32(1) if binary else np.float32(np.inf)
    classes = projection.shape[1]
    total = np.int64(0)
    for c in range(classes):
        if first == 0:
            logits[c, start + begin : start + end] = np.float32(0)
    for low in range(first, last, tile):
        count = min(tile, last - low)
        linear(inputs, begin, end, weights, low - first, count, columns, scale, offset, scratch, thread, z, z0, row)
        marks = active.shape[1]
        total += finish_rows(
            z,
            z0,
            row,
            count,
            end - begin,
            gain,
            bias,
            low,
            bias.shape[0] > 0,
            unit,
            ABS_Z_RANGE,
            limit,
            active,
            (low - active_first) * marks + (start + begin) // 16,
            marks,
            active_first - low,
            active_first + active.shape[0] - low,
        )
        for b in range(begin, end, 16 * CLASS_VECTORS):
            at, few, c = start + b, min(16 * CLASS_VECTORS, end - b), 0
            while c < classes:
                head, out = (low - first) * classes + c, c * logits.shape[1] + at
                own, stride = z0 + b - begin, logits.shape[1]
                if c + CLASSES <= classes:
                    class_sums_block(z, own, row, count, projection, head, classes, binary, logits, out, stride, few)
                    c += CLASSES
                else:
                    class_sums_one(z, own, row, count, projection, head, classes, binary, logits, out, stride, few)
                    c += 1
        if outputs.shape[0] > 0:
            emit(outputs, low, count, begin, end, z, z0, row)
    abs_z[thread] += total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def forward(inputs, samples, scale, offset, columns, neurons, binary, unit, scratch, z, results):
    # inputs (B, W) uint64 | (B, I) uint8 | (B, I) float32; neurons: Neurons; z (To, B); results: Results
    """Forward pass of some neurons over the first ``samples`` of the inputs, which are scale * value + offset.

    ``active`` receives bit s % 16 of [o, s // 16]: z > 0, and z < 1 if ``binary``, for neurons from ``active_first``
    on. ``logits`` receives, continuing after the neurons before, the sum over neurons of P[o] [z > 0] if ``binary``,
    else of P[o] max(z, 0). If z has a row for each neuron, it is kept whole. ``abs_z[thread]`` increases by the sum of
    |z| in steps of 1 / ``unit``.
    """
    threads = results.abs_z.shape[0]
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, samples, 16)
        if begin < end:
            z0, row = begin, z.shape[1]
            if z.shape[0] < neurons.last - neurons.first:
                # nobody looks into a tile of z: each thread has a part of its own, for where rows are shared, threads
                # wait for each other's cache lines
                z0, row = z.shape[0] * begin, (z.shape[1] if end == samples else end) - begin
            _forward_share(
                thread,
                begin,
                end,
                inputs,
                scale,
                offset,
                columns,
                neurons,
                binary,
                unit,
                scratch,
                z.reshape(z.size),
                z0,
                row,
                z.shape[0],
                results,
            )
