"""What only PEPITA computes: activations with dropout, modulated inputs, errors as differences of two passes."""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .compiling import njit
from .simd import share


def _first(outputs, first, last, samples, z, mask, grown):
    """Outputs of neurons first..last in the first pass (an overload for bits, one for values)."""
    raise TypeError


@overload(_first, inline="never")
def _first_by_kind(outputs, first, last, samples, z, mask, grown):
    if outputs.dtype == types.uint64:

        def bits(outputs, first, last, samples, z, mask, grown):
            # outputs (B, W) uint64; first is a multiple of 64
            for o0 in range(first, last, 64):
                for s in range(samples):
                    word = np.uint64(0)
                    for o in range(o0, min(o0 + 64, last)):
                        word |= np.uint64(z[o, s] > 0) << np.uint64(o - o0)
                    outputs[s, o0 // 64] = word & mask[s, o0 // 64] if mask.shape[0] else word

        return bits

    def values(outputs, first, last, samples, z, mask, grown):
        # outputs (B, O) float32
        for o in range(first, last):
            for s in range(samples):
                kept = mask.shape[0] == 0 or (mask[s, o >> 6] >> np.uint64(o & 63)) & np.uint64(1)
                outputs[s, o] = max(z[o, s], np.float32(0)) * grown if kept else np.float32(0)

    return values


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def first(z, samples, mask, grown, outputs, threads):
    # z (O, B); mask (B, W) uint64 | (0, 0); outputs (B, W) uint64 | (B, O) float32
    """Outputs of the first pass: [z > 0] or max(z, 0), where the mask has a bit; values are multiplied by ``grown``.

    Without a mask all are kept.
    """
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, z.shape[0], 64)
        _first(outputs, begin, end, samples, z, mask, grown)


def _second(outputs, first, last, samples, of, z, mask, grown, before, now):
    """The second pass of neurons first..last: its outputs replace those of the first; z receives their difference."""
    raise TypeError


@overload(_second, inline="never")
def _second_by_kind(outputs, first, last, samples, of, z, mask, grown, before, now):
    if outputs.dtype == types.uint64:

        def bits(outputs, first, last, samples, of, z, mask, grown, before, now):
            share = np.float32(1) / np.float32(of)
            for o0 in range(first, last, 64):
                for s in range(samples):
                    old, word = outputs[s, o0 // 64], np.uint64(0)
                    for o in range(o0, min(o0 + 64, last)):
                        word |= np.uint64(z[o, s] > 0) << np.uint64(o - o0)
                    if mask.shape[0]:
                        word &= mask[s, o0 // 64]
                    outputs[s, o0 // 64] = word
                    for o in range(o0, min(o0 + 64, last)):
                        h = before if (old >> np.uint64(o - o0)) & np.uint64(1) else np.float32(0)
                        m = now if (word >> np.uint64(o - o0)) & np.uint64(1) else np.float32(0)
                        z[o, s] = (h - m) * share

        return bits

    def values(outputs, first, last, samples, of, z, mask, grown, before, now):
        share = np.float32(1) / np.float32(of)
        for o in range(first, last):
            for s in range(samples):
                kept = mask.shape[0] == 0 or (mask[s, o >> 6] >> np.uint64(o & 63)) & np.uint64(1)
                m = max(z[o, s], np.float32(0)) * grown if kept else np.float32(0)
                h = outputs[s, o]
                outputs[s, o] = m
                z[o, s] = (h - m) * share

    return values


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def second(z, samples, of, mask, grown, before, now, outputs, threads):
    # z (O, B), becomes dz; mask (B, W) uint64 | (0, 0); outputs (B, W) uint64 | (B, O) float32
    """Outputs m of the second pass in place of those of the first, h, and dz = (h - m) / B, with B = ``of``.

    If outputs are bits, their value is ``before`` in the first pass and ``now`` in the second.
    """
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, z.shape[0], 64)
        _second(outputs, begin, end, samples, of, z, mask, grown, before, now)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def modulate(inputs, scale, offset, samples, of, error, projection, out, threads):
    # inputs (B, I) uint8 | float32; error (C, B): (y - Y) / ``of``; projection (I, C); out (B, I) float32
    """The inputs of the second pass: x + (y - Y) F^T, with x = scale * input + offset."""
    classes = error.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            row = out[s]
            for i in range(row.size):
                row[i] = scale * np.float32(inputs[s, i]) + offset
            for c in range(classes):
                e = error[c, s] * np.float32(of)
                for i in range(row.size):
                    row[i] += e * projection[i, c]


@njit(nogil=True, cache=True, error_model="numpy")
def squared_error(error, samples, of):
    # error (C, B): (y - Y) / ``of``
    """Summed over the batch: each sample's mean over the classes of (y - Y)^2."""
    total = 0.0
    for c in range(error.shape[0]):
        for s in range(samples):
            e = np.float64(error[c, s]) * of
            total += e * e
    return total / error.shape[0]
