"""Forward-only, on-device learning in plain NumPy and numba, inside an explicit memory arena."""

__version__ = "0.1.0"
