"""Forward-only, on-device learning in plain NumPy and numba, inside an explicit memory arena.

Where to begin:

- :mod:`.estimators`: classifiers for scikit-learn, ``from tinyfoa_np import TinyFoAClassifier``; they are imported with
  scikit-learn when they are asked for, not before.
- :func:`.train.train` with a :class:`.recipe.Recipe` and a data set of :mod:`.data`: what the command line calls.
- :func:`.model.load`: a trained model; :mod:`.model.export`: the same for other programs.
- :func:`.reports.forecast.forecast`: does a training fit; :func:`.reports.audit.audit`: what it took.
- :mod:`.reference`: each algorithm in plain NumPy, to be read; :mod:`.rules`: the same in the arena.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"

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
