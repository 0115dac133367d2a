"""What only feedback alignment computes: errors of a layer from those above, through a fixed matrix."""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .drtp import sent
from .simd import share


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def send_back(z, samples, error, feedback, size, binary, relu, sums, threads):
    # z (O, B), becomes dz; error (A, B); feedback (O, A); sums (T, B) scratch
    """dz from dh = feedback error by :func:`.drtp.sent` with the other arguments; z holds h, or with ``binary`` z.

    The A neurons above are added in their order.
    """
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, z.shape[0], 1)
        total = sums[lane]
        for o in range(first, last):
            row, own = z[o], feedback[o]
            for s in range(samples):
                total[s] = np.float32(0)
            for a in range(own.shape[0]):
                weight, above = own[a], error[a]
                for s in range(samples):
                    total[s] += weight * above[s]
            for s in range(samples):
                row[s] = sent(total[s], row[s], size, binary, relu)


@njit(nogil=True, cache=True, error_model="numpy")
def take_masks(z, samples, passes):
    # z (O, B), passes (O, ceil(B / 16)) uint16
    """Store the bits |z| < 1, and replace z by its sign over 2, which every mask passes."""
    for o in range(z.shape[0]):
        passes[o] = 0
        for s in range(samples):
            passes[o, s // 16] |= np.uint16(abs(z[o, s]) < np.float32(1)) << np.uint16(s % 16)
            z[o, s] = np.float32(0.5) if z[o, s] >= 0 else np.float32(-0.5)


@njit(nogil=True, cache=True, error_model="numpy")
def apply_masks(dz, samples, passes):
    # as take_masks
    """dz where its bit is set, else 0: in place."""
    for o in range(dz.shape[0]):
        for s in range(samples):
            kept = passes[o, s // 16] >> np.uint16(s % 16) & np.uint16(1)
            dz[o, s] = dz[o, s] if kept else np.float32(0)
