"""Locally connected layers: 3 x 3 convolution with weights of its own at every position, batch norm, and back again.

At one position such a layer is a dense one, of the outputs there on the patch around it: products, gradients and steps
are those of :mod:`.forward` and :mod:`.update`, position by position. A patch has the inputs of tap k (row by row, the
centre is 4) and channel i at k I + i; beyond the border they are 0.

A step passes over all positions four times: :func:`statistics` of u, which batch norm needs before :func:`forward` can
go on to the logits; then, for the channels that train, :func:`slopes` (the sums that batch norm sends back), before
:func:`update` has the errors of u. What is not kept of u in between is computed again, to the same bits.

Threads share the positions of a tile, or in :func:`forward` the samples; every sum over samples and positions runs in
their order: double precision, or exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from . import update as dense
from .forward import ABS_Z_RANGE, emit, linear
from .intrinsics import CLASSES, class_sums_block, class_sums_one, popcount, share
from .update import Biases, Draws, Given, Inputs, Published, Resident, publish_row, take_bias_step, update_rows

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch norm


class Images(NamedTuple):
    """A batch of images as it is held; what is seen is scale * value + offset, of bits the value alone.

    Value (channel i, position p) of a sample is element i channel_step + p place_step of its row; as packed bits it is
    bit p I + i.
    """

    values: np.ndarray  # (B, ceil(P I / 64)) uint64: packed bits | (B, P I) uint8 | (B, P I) float32
    scale: Any  # float32
    offset: Any  # float32
    channels: int  # I
    rows: int
    columns: int  # P = rows columns positions
    channel_step: int
    place_step: int


class Layer(NamedTuple):
    """What does not depend on the position: z = gain (x . w) + b, then batch norm, then max(v, 0)."""

    channels: int  # O
    groups: int  # M, of output channels: as numpy.array_split cuts them
    depthwise: bool  # output o reads input channel o I // O alone, otherwise all
    binary: bool  # activations
    gain: Any  # float32
    bias: np.ndarray  # ((P + 2) O,) float32, group by group: b of each position, gamma, beta, each (Og,)
    norm: np.ndarray  # (2, O) float32: mean of u, one over its deviation


class Places(NamedTuple):
    """Positions ``first`` to ``last``: n of them."""

    first: int
    last: int
    weights: np.ndarray  # theirs: (n, ceil(O / 8), W, 8) uint64: packed signs | (n, O, F) float32, F inputs a patch
    head: np.ndarray  # theirs: (n O, C) float32: how much each output counts in the logits


class Room(NamedTuple):
    """What each of T threads computes in."""

    patch: np.ndarray  # (T, B, ceil(F / 64)) uint64 | (T, B, F) float32
    scratch: np.ndarray  # (T, ..) as forward.scratch_shape says for one thread
    u: np.ndarray  # (T O B,) float32 | where u is kept, T Og B, at least O B
    dv: np.ndarray  # (T, B) float32
    kept: np.ndarray  # (P, O, B) float32: u of the whole batch | (0, O, B): it is not kept


@njit(inline="always")
def bounds(layer, group):
    """First and last channel of a group."""
    short, longer = layer.channels // layer.groups, layer.channels % layer.groups
    first = group * short + min(group, longer)
    return first, first + short + (1 if group < longer else 0)


@njit(inline="always")
def _biases_at(places, first, last, place):
    # where b of a group's channels begin at a position; gamma and beta are those of two more
    return (places + 2) * first + place * (last - first)


def _gather(images, place, low, high, begin, end, patch):
    """The patch of a position, channels ``low`` to ``high``, for some samples (an overload for bits and for values)."""
    raise TypeError


@overload(_gather, inline="never")
def _gather_by_kind(images, place, low, high, begin, end, patch):
    return _gather_bits if patch.dtype == types.uint64 else _gather_values


def _gather_bits(images, place, low, high, begin, end, patch):
    # taps that follow each other in a row lie together, where all channels are taken
    values, channels, columns, some = images.values, images.channels, images.columns, high - low
    row, column = place // columns, place % columns
    for s in range(begin, end):
        for k in range(patch.shape[1]):
            patch[s, k] = np.uint64(0)
    taps = min(column + 2, columns) - max(column - 1, 0)
    together = taps if some == channels else 1
    for y in range(max(row - 1, 0), min(row + 2, images.rows)):
        for x in range(max(column - 1, 0), min(column + 2, columns), together):
            source = (y * columns + x) * channels + low
            target = (3 * (y - row + 1) + x - column + 1) * some
            for done in range(0, together * some, 64):
                few = min(64, together * some - done)
                a, b = (source + done) // 64, (target + done) // 64
                down, up = np.uint64((source + done) % 64), np.uint64((target + done) % 64)
                mask = ~np.uint64(0) >> np.uint64(64 - few)
                beyond, above = np.int64(down) + few > 64, np.int64(up) + few > 64
                for s in range(begin, end):
                    word = values[s, a] >> down
                    if beyond:
                        word |= values[s, a + 1] << (np.uint64(64) - down)
                    word &= mask
                    patch[s, b] |= word << up
                    if above:
                        patch[s, b + 1] |= word >> (np.uint64(64) - up)


def _gather_values(images, place, low, high, begin, end, patch):
    values, columns, some, step = images.values, images.columns, high - low, images.channel_step
    row, column = place // columns, place % columns
    for tap in range(9):
        y, x, target = row + tap // 3 - 1, column + tap % 3 - 1, tap * some
        inside = 0 <= y < images.rows and 0 <= x < columns
        source = (y * columns + x) * images.place_step + low * step
        for s in range(begin, end):
            for i in range(some):
                value = np.float32(0)
                if inside:
                    value = images.scale * np.float32(values[s, source + i * step]) + images.offset
                patch[s, target + i] = value


def _patch_scale(images, patch):
    """What a patch's values count for: bits their scale, the others are as they are seen (an overload for each)."""
    raise TypeError


@overload(_patch_scale, inline="always")
def _patch_scale_by_kind(images, patch):
    if patch.dtype == types.uint64:
        return lambda images, patch: images.scale
    return lambda images, patch: np.float32(1)


def _from_channel(weights, first):
    """A position's weights from a channel on, of packed signs a multiple of 8 (an overload for each kind)."""
    raise TypeError


@overload(_from_channel, inline="always")
def _from_channel_by_kind(weights, first):
    if weights.dtype == types.uint64:
        return lambda weights, first: weights[first // 8 :]
    return lambda weights, first: weights[first:]


def _one_channel(patch, begin, end, weights, o, scratch, u, at):
    """x . w of one output that has a patch of its own, nine inputs (an overload for bits by signs, one for others)."""
    raise TypeError


@overload(_one_channel, inline="never")
def _one_channel_by_kind(patch, begin, end, weights, o, scratch, u, at):
    if patch.dtype == types.uint64 and weights.dtype == types.uint64:

        def of_bits(patch, begin, end, weights, o, scratch, u, at):
            word = weights[o // 8, 0, o % 8]
            for s in range(begin, end):
                bits = patch[s, 0]
                u[at + s - begin] = np.float32(2 * popcount(bits & word) - popcount(bits))

        return of_bits

    def of_others(patch, begin, end, weights, o, scratch, u, at):
        one, none = np.float32(1), np.float32(0)
        linear(patch, begin, end, weights, o, 1, 9, one, none, scratch, 0, u, at, end - begin)

    return of_others


@njit(inline="always")
def _input_channel(images, layer, o):
    return o * images.channels // layer.channels


@njit(nogil=True, cache=True, error_model="numpy")
def _products(images, begin, end, layer, weights, place, first, last, patch, scratch, u, u0, row):
    # u of channels ``first`` to ``last`` at a position, u flat: channel o of sample s at u0 + o row + s; of packed
    # signs also those of the first panel's channels before ``first``
    one, none = np.float32(1), np.float32(0)
    if layer.depthwise:
        gathered = -1
        for o in range(first, last):
            channel = _input_channel(images, layer, o)
            if channel != gathered:
                _gather(images, place, channel, channel + 1, begin, end, patch)
                gathered = channel
            _one_channel(patch, begin, end, weights, o, scratch, u, u0 + o * row + begin)
    else:
        top = first // 8 * 8
        _gather(images, place, 0, images.channels, begin, end, patch)
        linear(
            patch, begin, end, _from_channel(weights, top), 0, last - top, 9 * images.channels, one, none, scratch, 0,
            u, u0 + top * row + begin, row,
        )
    places = images.rows * images.columns
    for group in range(layer.groups):
        c0, c1 = bounds(layer, group)
        base = _biases_at(places, c0, c1, place) - c0
        for o in range(max(first, c0), min(last, c1)):
            bias = layer.bias[base + o]
            for s in range(u0 + o * row + begin, u0 + o * row + end):
                u[s] = layer.gain * u[s] + bias


@njit(inline="always")
def _sums(values, at, count):
    """The sum of some values and of their squares, in double precision: of every fourth, then of the four."""
    a0, a1, a2, a3, b0, b1, b2, b3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = count // 4 * 4
    for k in range(at, at + whole, 4):
        v0, v1 = np.float64(values[k]), np.float64(values[k + 1])
        v2, v3 = np.float64(values[k + 2]), np.float64(values[k + 3])
        a0, a1, a2, a3 = a0 + v0, a1 + v1, a2 + v2, a3 + v3
        b0, b1, b2, b3 = b0 + v0 * v0, b1 + v1 * v1, b2 + v2 * v2, b3 + v3 * v3
    for k in range(at + whole, at + count):
        value = np.float64(values[k])
        a0, b0 = a0 + value, b0 + value * value
    return (a0 + a1) + (a2 + a3), (b0 + b1) + (b2 + b3)


@njit(inline="always")
def _add_up(places, sums, first, last, totals):
    # totals (2, O) go on over the positions of a tile, in their order
    for o in range(first, last):
        for k in range(2):
            total = 0.0 if places.first == 0 else totals[k, o]
            for n in range(places.last - places.first):
                total += sums[n, k, o]
            totals[k, o] = total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def statistics(images, samples, layer, places, room, sums, totals):
    # images: Images; layer: Layer; places: Places; room: Room; sums (n, 2, O) float64; totals (2, O) float64
    """The sums of u and of u^2 by channel, over a batch and, tile after tile, over all positions. u may be kept."""
    threads, channels, batch = room.patch.shape[0], layer.channels, room.patch.shape[1]
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, places.last - places.first, 1)
        u, u0 = room.u, thread * channels * batch
        for n in range(begin, end):
            place = places.first + n
            if room.kept.shape[0]:
                u, u0 = room.kept.reshape(room.kept.size), place * channels * batch
            _products(
                images, 0, samples, layer, places.weights[n], place, 0, channels, room.patch[thread],
                room.scratch[thread], u, u0, batch,
            )
            for o in range(channels):
                sums[n, 0, o], sums[n, 1, o] = _sums(u, u0 + o * batch, samples)
    _add_up(places, sums, 0, channels, totals)


@njit(nogil=True, cache=True, error_model="numpy")
def batch_norm(totals, count, norm, running):
    # totals (2, O) float64; norm (2, O) float32: see Layer; running (2, O) float32: mean and variance
    """What batch norm takes out, from the sums over ``count`` values a channel; moves the running statistics on."""
    for o in range(norm.shape[1]):
        mean = totals[0, o] / count
        variance = max(totals[1, o] / count - mean * mean, 0.0)
        norm[0, o], norm[1, o] = mean, 1.0 / np.sqrt(variance + EPSILON)
        unbiased = variance * (count / max(1, count - 1))
        running[0, o] = (1.0 - MOMENTUM) * running[0, o] + MOMENTUM * mean
        running[1, o] = (1.0 - MOMENTUM) * running[1, o] + MOMENTUM * unbiased


@njit(nogil=True, cache=True, error_model="numpy")
def running_norm(running, norm):
    # as batch_norm
    """What batch norm takes out in inference."""
    for o in range(norm.shape[1]):
        norm[0, o], norm[1, o] = running[0, o], 1.0 / np.sqrt(np.float64(running[1, o]) + EPSILON)


@njit(nogil=True, cache=True, error_model="numpy")
def _forward_share(thread, begin, end, images, layer, places, fresh, unit, room, logits, outputs, abs_r):
    # samples begin..end: see forward
    channels, batch, classes = layer.channels, room.patch.shape[1], logits.shape[0]
    # each thread has a part of its own: where rows are shared, threads wait for each other's cache lines
    row, positions = end - begin, images.rows * images.columns
    v, v0 = room.u, (channels - 1) * begin  # of sample s of channel o: v0 + o row + s
    total = np.int64(0)
    if places.first == 0:
        for c in range(classes):
            logits[c, begin:end] = np.float32(0)
    for n in range(places.last - places.first):
        place, u, u0, u_row = places.first + n, v, v0, row
        if fresh:
            u, u0, u_row = room.kept.reshape(room.kept.size), place * channels * batch, batch
        else:
            _products(
                images, begin, end, layer, places.weights[n], place, 0, channels, room.patch[thread],
                room.scratch[thread], v, v0, row,
            )
        for group in range(layer.groups):
            c0, c1 = bounds(layer, group)
            top = _biases_at(positions, c0, c1, positions) - c0
            for o in range(c0, c1):
                mean, inverse = layer.norm[0, o], layer.norm[1, o]
                gamma, beta = layer.bias[top + o], layer.bias[top + c1 - c0 + o]
                at, to = u0 + o * u_row, v0 + o * row
                for s in range(begin, end):
                    value = gamma * ((u[at + s] - mean) * inverse) + beta
                    v[to + s] = value
                    size = np.float64(value if value > 0 else np.float32(0))
                    size = size if size < ABS_Z_RANGE else np.float64(ABS_Z_RANGE)
                    total += np.int64(size * unit + 0.5)
        for b in range(begin, end, 16):
            c = 0
            while c < classes:
                at, few = c * logits.shape[1] + b, min(16, end - b)
                head = n * channels * classes + c
                if c + CLASSES <= classes:
                    class_sums_block(
                        v, v0 + b, row, channels, places.head, head, classes, layer.binary, logits, at,
                        logits.shape[1], few,
                    )
                    c += CLASSES
                else:
                    class_sums_one(
                        v, v0 + b, row, channels, places.head, head, classes, layer.binary, logits, at,
                        logits.shape[1], few,
                    )
                    c += 1
        if outputs.shape[0] > 0:
            emit(outputs, place * channels, channels, begin, end, v, v0 + begin, row)
    abs_r[thread] += total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def forward(images, samples, layer, places, fresh, unit, room, logits, outputs, abs_r):
    # images: Images; layer: Layer; places: Places; room: Room; logits (C, B) float32; abs_r (T,) int64;
    # outputs (B, ceil(P O / 64)) uint64 | (B, P O) float32 | without rows: not wanted
    """Batch norm, max(v, 0), logits and what the layer hands on: bit or value (position, channel) p O + o.

    ``fresh``: u of this batch is kept. ``logits`` gets, or carries on after the positions before, the sum of head
    times [v > 0] if activations are binary, else times max(v, 0). ``abs_r[thread]`` grows by the sum of max(v, 0) in
    steps of 1 / ``unit``.
    """
    threads = room.patch.shape[0]
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, samples, 16)
        if begin < end:
            _forward_share(thread, begin, end, images, layer, places, fresh, unit, room, logits, outputs, abs_r)


@njit(nogil=True, cache=True, error_model="numpy")
def scale_logits(logits, samples, scale, shift):
    # logits (C, B), shift (C,) float32
    """logits = scale * logits + shift: what bits stand for, and the head's bias."""
    for c in range(logits.shape[0]):
        for s in range(samples):
            logits[c, s] = scale * logits[c, s] + shift[c]


@njit(inline="always")
def _normal(layer, u, o):
    return (u - layer.norm[0, o]) * layer.norm[1, o]


@njit(nogil=True, cache=True, error_model="numpy")
def _errors(images, samples, layer, places, group, n, o, error, u, at, dv, d0):
    # dv of one output: the head's errors where 0 < v, and v < 1 if activations are binary; u from at, dv from d0, flat
    c0, c1 = bounds(layer, group)
    positions, stride, classes = images.rows * images.columns, error.shape[1], error.shape[0]
    top = _biases_at(positions, c0, c1, positions) - c0
    gamma, beta = layer.bias[top + o], layer.bias[top + c1 - c0 + o]
    errors, head = error.reshape(error.size), places.head.reshape(places.head.size)
    limit = np.float32(1) if layer.binary else np.float32(np.inf)
    row = (n * layer.channels + o) * classes
    for s in range(samples):
        dv[d0 + s] = errors[s] * head[row]
    for c in range(1, classes):
        weight, here = head[row + c], c * stride
        for s in range(samples):
            dv[d0 + s] += errors[here + s] * weight
    for s in range(samples):
        v = gamma * _normal(layer, u[at + s], o) + beta
        dv[d0 + s] = dv[d0 + s] if v > 0 and v < limit else np.float32(0)
    return gamma


@njit(inline="always")
def _error_sums(layer, o, dv, d0, u, at, samples):
    """The sums of dv and of dv times the normalized u, as :func:`_sums` adds."""
    a0, a1, a2, a3, b0, b1, b2, b3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = samples // 4 * 4
    for k in range(0, whole, 4):
        v0, v1 = np.float64(dv[d0 + k]), np.float64(dv[d0 + k + 1])
        v2, v3 = np.float64(dv[d0 + k + 2]), np.float64(dv[d0 + k + 3])
        a0, a1, a2, a3 = a0 + v0, a1 + v1, a2 + v2, a3 + v3
        b0, b1 = b0 + v0 * _normal(layer, u[at + k], o), b1 + v1 * _normal(layer, u[at + k + 1], o)
        b2, b3 = b2 + v2 * _normal(layer, u[at + k + 2], o), b3 + v3 * _normal(layer, u[at + k + 3], o)
    for k in range(whole, samples):
        value = np.float64(dv[d0 + k])
        a0, b0 = a0 + value, b0 + value * _normal(layer, u[at + k], o)
    return (a0 + a1) + (a2 + a3), (b0 + b1) + (b2 + b3)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def slopes(images, samples, layer, places, group, fresh, error, room, sums, totals):
    # as statistics; error (C, B) float32
    """The gradients of beta and gamma of a group: the sums of dv, and of dv times the normalized u."""
    threads, channels, batch = room.patch.shape[0], layer.channels, room.patch.shape[1]
    first, last = bounds(layer, group)
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, places.last - places.first, 1)
        u, u0 = room.u, thread * channels * batch
        dv, d0 = room.dv.reshape(room.dv.size), thread * batch
        for n in range(begin, end):
            place = places.first + n
            if fresh:
                u, u0 = room.kept.reshape(room.kept.size), place * channels * batch
            else:
                _products(
                    images, 0, samples, layer, places.weights[n], place, first, last, room.patch[thread],
                    room.scratch[thread], u, u0, batch,
                )
            for o in range(first, last):
                _errors(images, samples, layer, places, group, n, o, error, u, u0 + o * batch, dv, d0)
                sums[n, 0, o], sums[n, 1, o] = _error_sums(layer, o, dv, d0, u, u0 + o * batch, samples)
    _add_up(places, sums, first, last, totals)


@njit(nogil=True, cache=True, error_model="numpy")
def _errors_below(thread, n, images, samples, layer, places, group, fresh, error, room, totals):
    # du (Og, B) of a group at a position, in the thread's part of u: what batch norm sends back of dv
    channels, batch = layer.channels, room.patch.shape[1]
    first, last = bounds(layer, group)
    place, count = places.first + n, np.float64(samples * images.rows * images.columns)
    dv, d0, du = room.dv.reshape(room.dv.size), thread * batch, room.u
    if fresh:
        u, at, du0 = room.kept.reshape(room.kept.size), place * channels * batch, thread * (last - first) * batch
    else:
        u, at = room.u, thread * channels * batch
        du0 = at + first * batch  # over u
        _products(
            images, 0, samples, layer, places.weights[n], place, first, last, room.patch[thread], room.scratch[thread],
            u, at, batch,
        )
    for o in range(first, last):
        own, here = du0 + (o - first) * batch, at + o * batch
        gamma = _errors(images, samples, layer, places, group, n, o, error, u, here, dv, d0)
        mean, slope = np.float32(totals[0, o] / count), np.float32(totals[1, o] / count)
        factor = gamma * layer.norm[1, o]
        for s in range(samples):
            du[own + s] = factor * (dv[d0 + s] - mean - _normal(layer, u[here + s], o) * slope)
    return du[du0 : du0 + (last - first) * batch].reshape(last - first, batch)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update(
    images, samples, layer, places, group, fresh, error, room, totals, resident, draws, biases, still, step, bias_step,
    straight, unit, scratch, abs_w,
):
    # as slopes; resident: Resident, draws: Draws, of the tile's rows: position by position, channel by channel;
    # biases: Biases, with moments ((P + 2) Og,) of the group; still (2,): channels of the group that do not move, or
    # none; step, bias_step: Step; scratch: Scratch; abs_w (T,) int64
    """One optimizer step of a group's weights and biases at some positions: see :func:`.update.update`.

    ``totals`` are those of :func:`slopes` over all positions; the scale of inputs that are bits is in ``images``.
    """
    threads = room.patch.shape[0]
    first, last = bounds(layer, group)
    some, positions = last - first, images.rows * images.columns
    width = 9 if layer.depthwise else 9 * images.channels
    blocks = (width + dense.BLOCK - 1) // dense.BLOCK if resident.unit1.size else 0
    scale = _patch_scale(images, room.patch)
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, places.last - places.first, 1)
        total, patch = np.int64(0), room.patch[thread]
        for n in range(begin, end):
            place = places.first + n
            du = _errors_below(thread, n, images, samples, layer, places, group, fresh, error, room, totals)
            inputs = Inputs(patch, scale, np.float32(0), 0)
            published = Published(places.weights[n], -first)
            gathered = -1
            for r in range(0, some, 1 if layer.depthwise else some):
                # all of the group's channels, or one that has a patch of its own: rows r to stop of the position
                stop = r + 1 if layer.depthwise else some
                channel = _input_channel(images, layer, first + r)
                if not layer.depthwise:
                    if fresh:
                        _gather(images, place, 0, images.channels, 0, samples, patch)
                elif channel != gathered:
                    _gather(images, place, channel, channel + 1, 0, samples, patch)
                    gathered = channel
                row, at = n * some + r, _biases_at(positions, first, last, place) + r
                own = Resident(
                    resident.weight[row * width :], resident.moment1[row * width :], resident.moment2[row * width :],
                    resident.unit1[row * blocks :], resident.unit2[row * blocks :],
                )
                random = Draws(
                    draws.seed, draws.layer, draws.purpose, draws.index + draws.stride * np.uint64(row), draws.stride
                )
                head = place * some
                own_biases = Biases(biases.bias[at - r :], biases.moment1[head + r :], biases.moment2[head + r :])
                rows = update_rows(
                    thread, r, stop, inputs, samples, Given(du, 0, room.dv[0, :0]),
                    (r, stop, 0, width), own, random, published, (still[0], still[1], 0, width), own_biases, step,
                    bias_step, True, straight, unit, scratch,
                )
                total = np.int64(-1) if total < 0 or rows < 0 else total + rows
        abs_w[thread] = np.int64(-1) if abs_w[thread] < 0 or total < 0 else abs_w[thread] + total


@njit(nogil=True, cache=True, error_model="numpy")
def gradient(images, samples, layer, places, group, fresh, error, room, totals, weight, straight, scratch, out, bias):
    # as update; weight and out flat (n Og F,), bias flat (n Og,), of the tile's rows
    """The gradient of a group at some positions alone, stored whole: for tests and inspection."""
    first, last = bounds(layer, group)
    some, width = last - first, 9 if layer.depthwise else 9 * images.channels
    scale = _patch_scale(images, room.patch)
    patch = room.patch[0]
    for n in range(places.last - places.first):
        du = _errors_below(0, n, images, samples, layer, places, group, fresh, error, room, totals)
        for r in range(0, some, 1 if layer.depthwise else some):
            stop, channel = r + 1 if layer.depthwise else some, _input_channel(images, layer, first + r)
            if layer.depthwise:
                _gather(images, places.first + n, channel, channel + 1, 0, samples, patch)
            elif fresh:
                _gather(images, places.first + n, 0, images.channels, 0, samples, patch)
            row = n * some + r
            dense.slice_gradient(
                Inputs(patch, scale, np.float32(0), 0), samples, Given(du, 0, room.dv[0, :0]),
                (r, stop, 0, width), weight[row * width :], straight, scratch, out[row * width :], bias[row:],
            )


@njit(nogil=True, cache=True, error_model="numpy")
def update_norm(places, layer, group, totals, biases, step):
    # totals: of slopes; biases: Biases as in update; step: Step; ``places`` P
    """The optimizer's step of a group's gamma and beta; returns whether one of them is lost."""
    first, last = bounds(layer, group)
    some, lost = last - first, False
    for r in range(some):
        for k, slope in ((0, totals[1, first + r]), (1, totals[0, first + r])):
            at = (places + k) * some + r
            lost |= take_bias_step(step, biases, (places + 2) * first + at, at, np.float32(slope)) < 0
    return lost


@njit(nogil=True, cache=True, error_model="numpy")
def publish(weight, first, last, width, weights, unit):
    # weight flat (n (last - first) F,), F = width; weights as in Places
    """Hands channels ``first`` to ``last`` of some positions to the forward pass; returns their sum of |W| in 1 / unit."""
    total = np.int64(0)
    for n in range(weights.shape[0]):
        for r in range(last - first):
            at = (n * (last - first) + r) * width
            total += publish_row(
                weight, at, 0, width, np.float32(dense.LARGEST), unit, Published(weights[n], -first), r
            )
    return total
