"""What only time-local PEPITA computes: activations that are their own errors, and the errors of the top layer."""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .simd import share


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def activate(z, samples, mask, grown, factor, outputs, threads):
    # z (O, B); mask (B, W) uint64 | (0, 0); outputs (B, O) float32
    """Outputs h = max(z, 0), times ``grown`` where the mask has a bit and 0 elsewhere; z becomes ``factor`` h."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, z.shape[0], 64)
        for o in range(begin, end):
            for s in range(samples):
                kept = mask.shape[0] == 0 or (mask[s, o >> 6] >> np.uint64(o & 63)) & np.uint64(1)
                h = max(z[o, s], np.float32(0)) * grown if kept else np.float32(0)
                outputs[s, o] = h
                z[o, s] = factor * h


@njit(nogil=True, cache=True, error_model="numpy")
def top(error, samples, labels, hebbian, out):
    # error (C, B), (p - Y) / B; labels (B,) uint16; out (C, B)
    """``out`` = p / B if ``hebbian``, else -Y / B."""
    part = np.float32(1) / np.float32(samples)
    for c in range(error.shape[0]):
        for s in range(samples):
            label = part if labels[s] == c else np.float32(0)
            out[c, s] = error[c, s] + label if hebbian else -label
