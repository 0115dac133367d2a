"""Forward-only, on-device learning in plain NumPy and numba, inside an explicit memory arena.

The members of this module are imported on first use:

- :func:`train`, with a :class:`Recipe` and a data set of :mod:`.data`; :func:`load` for a trained model;
- :func:`plan`: whether a training will fit, before it runs; :func:`audit`: the memory that a run needed;
- :class:`Run`: a finished run, its metrics as a DataFrame and its pictures, for notebooks;
- classifiers for scikit-learn, one per algorithm: ``from tinyfoa_np import TinyFoAClassifier``.

Where to start reading: :mod:`.reference` has each algorithm in plain NumPy, :mod:`.rules` the versions in the arena,
:mod:`.catalogue` the list of algorithms, and :mod:`.model.export` the export to other programs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model.model import load as load
    from .notebook import Run as Run
    from .recipe import Recipe as Recipe
    from .reports.audit import audit as audit
    from .reports.forecast import forecast as plan
    from .run.train import train as train

__version__ = "0.2.0"

ESTIMATORS = (
    "TinyFoAClassifier",
    "BPClassifier",
    "DRTPClassifier",
    "PEPITAClassifier",
    "FFClassifier",
    "GIFFClassifier",
)
#: public names, and the modules that define them
_HOMES = {
    "train": "run.train:train",
    "Recipe": "recipe:Recipe",
    "load": "model.model:load",
    "Run": "notebook:Run",
    "plan": "reports.forecast:forecast",
    "audit": "reports.audit:audit",
    **{name: f"estimators:{name}" for name in ESTIMATORS},
}

__all__ = ["Recipe", "Run", "audit", "load", "plan", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f".{module}", __name__), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
