"""The command line of tinyfoa-np: one file per command; each parses, calls the package and prints, and does no maths.

Nothing here imports NumPy or numba at its top, so that ``tinyfoa --help`` answers at once.
"""
