"""The command line of tinyfoa-np, one file per command: each parses, calls the package and prints, without maths.

No module here imports NumPy or numba at its top, so that ``tinyfoa --help`` is fast.
"""
