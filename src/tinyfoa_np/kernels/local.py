"""Locally connected layers: 3 x 3 convolution with separate weights at every position, batch norm, and backward.

At one position, such a layer is a dense layer that reads the patch around it: products, gradients and steps are those
of :mod:`.dense_forward` and :mod:`.dense_update`, position by position, for the patches of :mod:`.local_patches`.

:func:`products` makes u at some positions, n of them, a tile. A step goes over all tiles for :func:`statistics`, which
batch norm needs before :func:`forward` can continue to the logits; then, for the channels that train, for
:func:`slopes` (the sums that batch norm sends back) before :func:`update` has the errors of u. If u is not kept in
between, it is recomputed to the same bits.

Threads share the positions of a tile, or in :func:`forward` the samples; every sum over samples and positions runs in
their order, in double precision, or is exact.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.extending import overload

from . import dense_gradient as gradient_kernels
from . import dense_update as dense
from .compiling import INLINED, njit
from .dense_forward import ABS_Z_RANGE, emit, linear
from .dense_update import publish_row, take_bias_step, update_rows
from .local_norm import add_up
from .local_patches import gather, gather_channel, own_patch, patch_scale
from .operands import Biases, Draws, Given, Inputs, Published, Resident
from .products import CLASS_VECTORS, CLASSES, class_sums_block, class_sums_one
from .simd import popcount, share


class Layer(NamedTuple):
    """Values that do not depend on the position: u = gain (x . w) + b, v = gamma (u - mean) / deviation + beta."""

    channels: int  # O
    places: int  # P
    groups: int  # M, of output channels: as numpy.array_split cuts them
    depthwise: bool  # output o reads input channel o I // O alone, otherwise all
    binary: bool  # activations
    gain: Any  # float32
    bias: np.ndarray  # ((P + 2) O,) float32, group by group: b of each position, gamma, beta, each (Og,)
    norm: np.ndarray  # (2, O) float32: mean of u, one over its deviation


class Weights(NamedTuple):
    """The weights of a tile of positions, as the forward pass reads them."""

    first: int  # position
    values: np.ndarray  # (n, ceil(O / 8), W, 8) uint64: packed signs | (n, O, F) float32, F inputs a patch


class Head(NamedTuple):
    """Weights of a tile's outputs in the logits."""

    first: int  # position
    values: np.ndarray  # (n O, C) float32


class Above(NamedTuple):
    """Errors of the outputs at a tile of positions, from a layer above instead of a head."""

    first: int  # position
    values: np.ndarray  # (n, O, B) float32


@njit(**INLINED)
def bounds(layer, group):
    """First and last channel of a group."""
    short, longer = layer.channels // layer.groups, layer.channels % layer.groups
    first = group * short + min(group, longer)
    return first, first + short + (1 if group < longer else 0)


@njit(**INLINED)
def _biases_at(places, first, last, place):
    # where b of a group's channels begin at a position; gamma and beta are those of two more
    return (places + 2) * first + place * (last - first)


def _from_channel(weights, first):
    """A position's weights from a channel on, of packed signs a multiple of 8 (an overload for each kind)."""
    raise TypeError


@overload(_from_channel, INLINED)
def _from_channel_by_kind(weights, first):
    if weights.dtype == types.uint64:
        return lambda weights, first: weights[first // 8 :]
    return lambda weights, first: weights[first:]


def _channel_products(patch, samples, weights, first, last, scratch, u, row):
    """x . w of outputs that share a channel's patch, nine inputs (an overload for bits by signs, one for others)."""
    raise TypeError


@overload(_channel_products, inline="never")
def _channel_products_by_kind(patch, samples, weights, first, last, scratch, u, row):
    if patch.dtype == types.uint64 and weights.dtype == types.uint64:

        def of_bits(patch, samples, weights, first, last, scratch, u, row):
            for o in range(first, last):
                word, own, out = weights[o // 8, 0, o % 8], patch[:samples, 0], u[o * row : o * row + samples]
                for s in range(samples):
                    out[s] = np.float32(2 * popcount(own[s] & word) - popcount(own[s]))

        return of_bits

    def of_others(patch, samples, weights, first, last, scratch, u, row):
        one, none, some = np.float32(1), np.float32(0), last - first
        linear(patch, 0, samples, weights, first, some, 9, one, none, scratch, 0, u, first * row, row)

    return of_others


@njit(**INLINED)
def _input_channel(images, layer, o):
    return o * images.channels // layer.channels


@njit(error_model="numpy")
def _place_products(images, samples, layer, place, weights, first, last, patch, scratch, u):
    # u (O, B) of channels ``first`` to ``last`` at a position; of packed signs also those of the first panel before it
    one, none, row, flat = np.float32(1), np.float32(0), u.shape[1], u.reshape(u.size)
    if layer.depthwise:
        o = first
        while o < last:
            channel, stop = _input_channel(images, layer, o), o + 1
            while stop < last and _input_channel(images, layer, stop) == channel:
                stop += 1
            gather_channel(images, place, channel, o == first, samples, patch)
            _channel_products(own_patch(patch), samples, weights, o, stop, scratch, flat, row)
            o = stop
    else:
        top = first // 8 * 8
        gather(images, place, 0, images.channels, 0, samples, patch)
        linear(
            patch,
            0,
            samples,
            _from_channel(weights, top),
            0,
            last - top,
            9 * images.channels,
            one,
            none,
            scratch,
            0,
            flat,
            top * row,
            row,
        )
    for group in range(layer.groups):
        c0, c1 = bounds(layer, group)
        base = _biases_at(layer.places, c0, c1, place) - c0
        for o in range(max(first, c0), min(last, c1)):
            bias, own = layer.bias[base + o], u[o, :samples]
            for s in range(own.shape[0]):
                own[s] = layer.gain * own[s] + bias


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def products(images, samples, layer, weights, first, last, patch, scratch, u):
    # images: Images; layer: Layer; weights: Weights; u (n, O, B) float32; of each of T threads: patch
    # (T, B, ceil(F / 64)) uint64, depthwise (T, B, 1 + ceil(9 I / 64)) | (T, B, F) float32, scratch (T, ..) as
    # forward.scratch_shape says for one
    """u of channels ``first`` to ``last`` at a tile of positions.

    A product of bits and signs is an exact integer; the others are sums over the patch, in its order.
    """
    threads = patch.shape[0]
    for lane in prange(threads):
        thread = np.int64(lane)  # or everything below would be compiled for unsigned numbers, too
        begin, end = share(thread, threads, weights.values.shape[0], 1)
        for n in range(begin, end):
            _place_products(
                images,
                samples,
                layer,
                weights.first + n,
                weights.values[n],
                first,
                last,
                patch[thread],
                scratch[thread],
                u[n],
            )


@njit(error_model="numpy")
def _forward_share(thread, begin, end, u, layer, head, unit, v, logits, outputs, abs_r):
    # samples begin..end: see forward
    channels, classes, row = layer.channels, logits.shape[0], end - begin
    v0 = channels * begin  # each thread has a part of its own: where rows are shared, threads wait for each other
    total = np.int64(0)
    if head.first == 0:
        for c in range(classes):
            logits[c, begin:end] = np.float32(0)
    for n in range(u.shape[0]):
        for group in range(layer.groups):
            c0, c1 = bounds(layer, group)
            top = _biases_at(layer.places, c0, c1, layer.places) - c0
            for o in range(c0, c1):
                mean, inverse = layer.norm[0, o], layer.norm[1, o]
                gamma, beta = layer.bias[top + o], layer.bias[top + c1 - c0 + o]
                own, out = u[n, o, begin:end], v[v0 + o * row :]
                for s in range(row):
                    value = gamma * ((own[s] - mean) * inverse) + beta
                    out[s] = value
                    size = np.float64(value if value > 0 else np.float32(0))
                    size = size if size < ABS_Z_RANGE else np.float64(ABS_Z_RANGE)
                    total += np.int64(size * unit + 0.5)
        for b in range(0, row, 16 * CLASS_VECTORS):
            c = 0
            while c < classes:
                at, few = c * logits.shape[1] + begin + b, min(16 * CLASS_VECTORS, row - b)
                place = n * channels * classes + c
                if c + CLASSES <= classes:
                    class_sums_block(
                        v,
                        v0 + b,
                        row,
                        channels,
                        head.values,
                        place,
                        classes,
                        layer.binary,
                        logits,
                        at,
                        logits.shape[1],
                        few,
                    )
                    c += CLASSES
                else:
                    class_sums_one(
                        v,
                        v0 + b,
                        row,
                        channels,
                        head.values,
                        place,
                        classes,
                        layer.binary,
                        logits,
                        at,
                        logits.shape[1],
                        few,
                    )
                    c += 1
        if outputs.shape[0] > 0:
            emit(outputs, (head.first + n) * channels, channels, begin, end, v, v0, row)
    abs_r[thread] += total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def forward(u, samples, layer, head, unit, v, logits, outputs, abs_r):
    # u (n, O, B) float32; layer: Layer; head: Head; v (O B,) float32; logits (C, B) float32; abs_r (T,) int64;
    # outputs (B, ceil(P O / 64)) uint64 | (B, P O) float32 | without rows: not wanted
    """Batch norm, max(v, 0), logits and the layer's outputs: bit or value (position, channel) p O + o.

    ``logits`` receives, continuing after the positions before, the sum of head times [v > 0] if activations are binary,
    else times max(v, 0). ``abs_r[thread]`` increases by the sum of max(v, 0) in steps of 1 / ``unit``.
    """
    threads = abs_r.shape[0]
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, samples, 16)
        if begin < end:
            _forward_share(thread, begin, end, u, layer, head, unit, v, logits, outputs, abs_r)


@njit(nogil=True, cache=True, error_model="numpy")
def scale_logits(logits, samples, scale, shift):
    # logits (C, B), shift (C,) float32
    """logits = scale * logits + shift: the value of a bit, and the head's bias."""
    for c in range(logits.shape[0]):
        for s in range(samples):
            logits[c, s] = scale * logits[c, s] + shift[c]


@njit(**INLINED)
def _normal(layer, u, o):
    return (u - layer.norm[0, o]) * layer.norm[1, o]


def _sent_back(source, n, layer, o, error, dv):
    """dv (B,) = the errors at one output of position n of a tile (an overload for each kind of source)."""
    raise TypeError


@overload(_sent_back, INLINED)
def _sent_back_by_source(source, n, layer, o, error, dv):
    if source.instance_class is Above:

        def given(source, n, layer, o, error, dv):
            errors = source.values[n, o]
            for s in range(dv.shape[0]):
                dv[s] = errors[s]

        return given

    def projected(source, n, layer, o, error, dv):
        head = source.values[n * layer.channels + o]
        dv[:] = np.float32(0)
        for c in range(error.shape[0]):
            weight, errors = head[c], error[c]
            for s in range(dv.shape[0]):
                dv[s] += errors[s] * weight

    return projected


@njit(error_model="numpy")
def _errors(layer, group, n, o, source, error, u, dv):
    # dv (B,) of one output from its u (B,): what is sent back where 0 < v, and v < 1 if activations are binary
    c0, c1 = bounds(layer, group)
    top = _biases_at(layer.places, c0, c1, layer.places) - c0
    gamma, beta = layer.bias[top + o], layer.bias[top + c1 - c0 + o]
    limit = np.float32(1) if layer.binary else np.float32(np.inf)
    _sent_back(source, n, layer, o, error, dv)
    for s in range(u.shape[0]):
        v = gamma * _normal(layer, u[s], o) + beta
        dv[s] = dv[s] if v > 0 and v < limit else np.float32(0)
    return gamma


@njit(**INLINED)
def _error_sums(layer, o, dv, u):
    """The sums of dv and of dv times the normalized u, as :func:`_sums` adds."""
    a0, a1, a2, a3, b0, b1, b2, b3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    samples = u.shape[0]
    whole = samples // 4 * 4
    for k in range(0, whole, 4):
        v0, v1, v2, v3 = np.float64(dv[k]), np.float64(dv[k + 1]), np.float64(dv[k + 2]), np.float64(dv[k + 3])
        a0, a1, a2, a3 = a0 + v0, a1 + v1, a2 + v2, a3 + v3
        b0, b1 = b0 + v0 * _normal(layer, u[k], o), b1 + v1 * _normal(layer, u[k + 1], o)
        b2, b3 = b2 + v2 * _normal(layer, u[k + 2], o), b3 + v3 * _normal(layer, u[k + 3], o)
    for k in range(whole, samples):
        value = np.float64(dv[k])
        a0, b0 = a0 + value, b0 + value * _normal(layer, u[k], o)
    return (a0 + a1) + (a2 + a3), (b0 + b1) + (b2 + b3)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def slopes(u, samples, layer, group, source, error, dv, sums, totals):
    # u, sums, totals as in statistics; layer: Layer; source: Head, error (C, B) float32 | Above, error not read;
    # dv (T, B) float32
    """The gradients of beta and gamma of a group: the sums of dv, and of dv times the normalized u."""
    threads, count = dv.shape[0], u.shape[0]
    first, last = bounds(layer, group)
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, count, 1)
        for n in range(begin, end):
            for o in range(first, last):
                own, errors = u[n, o, :samples], dv[lane, :samples]
                _errors(layer, group, n, o, source, error, own, errors)
                sums[n, 0, o], sums[n, 1, o] = _error_sums(layer, o, errors, own)
    add_up(source.first > 0, sums, count, first, last, totals)


@njit(error_model="numpy")
def _errors_below(n, u, samples, layer, group, source, error, dv, totals):
    # du in the place of a group's u (O, B) at a position: what batch norm sends back of dv
    first, last = bounds(layer, group)
    count = np.float64(samples * layer.places)
    for o in range(first, last):
        own = u[o, :samples]
        gamma = _errors(layer, group, n, o, source, error, own, dv)
        mean, slope = np.float32(totals[0, o] / count), np.float32(totals[1, o] / count)
        factor = gamma * layer.norm[1, o]
        for s in range(samples):
            own[s] = factor * (dv[s] - mean - _normal(layer, own[s], o) * slope)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def errors(u, samples, layer, group, source, error, dv, totals):
    # as slopes, with totals over all positions
    """The errors du of a group, in place of its u."""
    threads = dv.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, u.shape[0], 1)
        for n in range(begin, end):
            _errors_below(n, u[n], samples, layer, group, source, error, dv[lane, :samples], totals)


def _taken(patch, samples, width, turned, thread):
    """A patch in the form the gradient reads (an overload for bits, which a thread transposes, and one for values)."""
    raise TypeError


@overload(_taken, INLINED)
def _taken_by_kind(patch, samples, width, turned, thread):
    if patch.dtype != types.uint64:
        return lambda patch, samples, width, turned, thread: patch

    def bits(patch, samples, width, turned, thread):
        rows = (patch.shape[0] + 31) // 32
        own = turned[thread * rows : (thread + 1) * rows, :width]
        gradient_kernels.turn(patch, samples, 0, width, own)
        return own

    return bits


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def update(
    du,
    images,
    samples,
    layer,
    group,
    patch,
    weights,
    resident,
    draws,
    biases,
    still,
    step,
    bias_step,
    straight,
    unit,
    scratch,
    abs_w,
):
    # du (n, O, B) float32, of errors; patch as in products; weights: Weights; resident: Resident, draws: Draws, of the
    # tile's rows: position by position, channel by channel; biases: Biases, with moments ((P + 2) Og,) of the group;
    # still (2,): channels of the group that do not move, or none; step, bias_step: Step; scratch: Scratch
    """One optimizer step of a group's weights and biases at a tile of positions: see :func:`.dense_update.update`."""
    threads = patch.shape[0]
    first, last = bounds(layer, group)
    some, width = last - first, 9 if layer.depthwise else 9 * images.channels
    blocks = (width + dense.BLOCK - 1) // dense.BLOCK if resident.unit1.size else 0
    scale = patch_scale(images, patch)
    for lane in prange(threads):
        thread = np.int64(lane)
        begin, end = share(thread, threads, weights.values.shape[0], 1)
        total, gathered = np.int64(0), -1
        around = own_patch(patch[thread]) if layer.depthwise else patch[thread]
        for n in range(begin, end):
            place = weights.first + n
            published = Published(weights.values[n], -first)
            source, gathered = Given(du[n], -first, du[n, 0, :0]), -1
            for r in range(0, some, 1 if layer.depthwise else some):
                # all of the group's channels, or one that has a patch of its own: rows r to stop of the position
                stop, channel = r + 1 if layer.depthwise else some, _input_channel(images, layer, first + r)
                if not layer.depthwise:
                    gather(images, place, 0, images.channels, 0, samples, around)
                elif channel != gathered:
                    gather_channel(images, place, channel, gathered < 0, samples, patch[thread])
                    gathered = channel
                inputs = Inputs(_taken(around, samples, width, scratch.turned, thread), scale, np.float32(0), 0)
                row, at = n * some + r, place * some + r
                own = Resident(
                    resident.weight[row * width :],
                    resident.moment1[row * width :],
                    resident.moment2[row * width :],
                    resident.unit1[row * blocks :],
                    resident.unit2[row * blocks :],
                )
                random = Draws(
                    draws.seed, draws.layer, draws.purpose, draws.index + draws.stride * np.uint64(row), draws.stride
                )
                own_biases = Biases(
                    biases.bias[(layer.places + 2) * first + place * some :], biases.moment1[at:], biases.moment2[at:]
                )
                rows = update_rows(
                    thread,
                    r,
                    stop,
                    inputs,
                    samples,
                    source,
                    (r, stop, 0, width),
                    own,
                    random,
                    published,
                    (still[0], still[1], 0, width),
                    own_biases,
                    step,
                    bias_step,
                    True,
                    straight,
                    unit,
                    scratch,
                )
                total = np.int64(-1) if total < 0 or rows < 0 else total + rows
        abs_w[thread] = np.int64(-1) if abs_w[thread] < 0 or total < 0 else abs_w[thread] + total


@njit(nogil=True, cache=True, error_model="numpy")
def gradient(du, images, samples, layer, group, patch, first_place, weight, straight, scratch, out, bias):
    # as update; weight and out flat (n Og F,), bias flat (n Og,), of the tile's rows
    """The gradient of a group at a tile of positions, stored whole, for tests and inspection."""
    first, last = bounds(layer, group)
    some, width = last - first, 9 if layer.depthwise else 9 * images.channels
    around = own_patch(patch[0]) if layer.depthwise else patch[0]
    scale = patch_scale(images, patch)
    for n in range(du.shape[0]):
        for r in range(0, some, 1 if layer.depthwise else some):
            stop, channel = r + 1 if layer.depthwise else some, _input_channel(images, layer, first + r)
            if layer.depthwise:
                gather_channel(images, first_place + n, channel, True, samples, patch[0])
            else:
                gather(images, first_place + n, 0, images.channels, 0, samples, patch[0])
            inputs = Inputs(_taken(around, samples, width, scratch.turned, 0), scale, np.float32(0), 0)
            row = n * some + r
            gradient_kernels.slice_gradient(
                inputs,
                samples,
                Given(du[n], -first, du[n, 0, :0]),
                (r, stop, 0, width),
                weight[row * width :],
                straight,
                scratch,
                out[row * width :],
                bias[row:],
            )


@njit(nogil=True, cache=True, error_model="numpy")
def update_norm(layer, group, totals, biases, step):
    # totals: of slopes; biases: Biases as in update; step: Step
    """The optimizer's step of a group's gamma and beta; returns whether one of them is lost."""
    first, last = bounds(layer, group)
    some, lost = last - first, False
    for r in range(some):
        for k, slope in ((0, totals[1, first + r]), (1, totals[0, first + r])):
            at = (layer.places + k) * some + r
            lost |= take_bias_step(step, biases, (layer.places + 2) * first + at, at, np.float32(slope)) < 0
    return lost


@njit(nogil=True, cache=True, error_model="numpy")
def publish(weight, first, last, width, weights, unit):
    # weight flat (n (last - first) F,), F = width; weights as in Places
    """Publish channels ``first`` to ``last`` of positions for the forward pass; return their sum of |W| in 1 / unit."""
    total = np.int64(0)
    for n in range(weights.shape[0]):
        for r in range(last - first):
            at = (n * (last - first) + r) * width
            total += publish_row(
                weight, at, 0, width, np.float32(dense.LARGEST), unit, Published(weights[n], -first), r
            )
    return total
