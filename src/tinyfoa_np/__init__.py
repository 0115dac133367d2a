"""Forward-only, on-device learning in plain NumPy and numba, inside an explicit memory arena.

The estimators are imported with scikit-learn when they are asked for, not before.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

ESTIMATORS = (
    "TinyFoAClassifier", "BPClassifier", "DRTPClassifier", "PEPITAClassifier", "FFClassifier", "GIFFClassifier"
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ESTIMATORS:
        from . import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *ESTIMATORS])
