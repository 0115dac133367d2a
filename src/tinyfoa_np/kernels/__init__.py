"""Compiled kernels: arrays in, arrays out, no allocation; each has its plain twin in :mod:`tinyfoa_np.reference`.

Shapes use the letters of the equations: B samples of a batch, I inputs, O outputs, C classes, T threads,
W = ceil(I / 64) words, G = ceil(B / 16) groups of 16 samples. Flat arrays are documented with the shape they represent.

The division of work into threads and tiles never changes a result: integers are exact, and each floating-point sum has
one stated order. The kernels of one step follow each other in :mod:`.dense_forward`, :mod:`.loss`,
:mod:`.dense_backward` (where errors are passed down through the layers), :mod:`.dense_gradient` and
:mod:`.dense_update`. Their building blocks are written as vectors in LLVM IR: :mod:`.simd`, :mod:`.products`,
:mod:`.gradients`, :mod:`.tables`, :mod:`.optimizers`.
"""

import os

# Threads that wait for work spin for some microseconds, the time between two kernels of a step, and then sleep: GNU's
# OpenMP spins for milliseconds otherwise, which is ruinous where other programs use the cores, too. Read when the first
# parallel kernel starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
