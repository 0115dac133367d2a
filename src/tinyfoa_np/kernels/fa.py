"""What only feedback alignment computes: errors of a layer from those above, through a fixed matrix."""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import njit
from .simd import share


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def send_back(z, samples, error, feedback, step, binary, sums, threads):
    # z (O, B), becomes dz; error (A, B); feedback (O, A); sums (T, B) scratch
    """dz = (feedback error) (1 - t^2), t = tanh z, which is in z already; with ``binary`` t = ``step``, where |z| < 1.

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
                t = step if binary else row[s]
                passes = not binary or abs(row[s]) < np.float32(1)
                row[s] = total[s] * (np.float32(1) - t * t) if passes else np.float32(0)
