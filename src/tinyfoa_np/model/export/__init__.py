"""Export of trained models: arrays for NumPy, C for firmware, a graph for ONNX runtimes.

``npz`` contains the arrays of any model. The other formats contain the computation of a prediction (:mod:`.answers`),
for every algorithm whose catalogue entry defines it. docs/models.md describes the layouts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import BadRequest
from ...kernels.launching import launched
from ..model import Model
from . import c_header, npz, onnx_graph
from .packed import fully_connected, signs, unpacked

__all__ = ["FORMATS", "WRITERS", "export", "fully_connected", "signs", "unpacked"]

#: export formats: functions from a model to files by path
WRITERS: dict[str, Callable[..., dict[str, bytes]]] = {
    "npz": lambda model: {"model.npz": npz.file(model)},
    "c-header": c_header.files,
    "onnx": lambda model: {"model.onnx": onnx_graph.file(model)},
}
#: name of a format's single file, or of the directory for its files
FORMATS = {"npz": "model.npz", "c-header": "firmware", "onnx": "model.onnx"}


def export(model: Model, to: str, limits: np.ndarray | None = None) -> dict[str, bytes]:
    """Export a model; return the files' contents by name.

    Parameters
    ----------
    model : Model
    to : str
        One of :data:`WRITERS`.
    limits : ndarray (L,), optional
        For ``c-header`` and a model of ``ff``: scores at which an answer stops after each layer
        (:meth:`tinyfoa_np.model.exits.Thresholds.limits`).

    Raises
    ------
    BadRequest
        If the format does not exist, does not support this model, or needs a library that is not installed.
    """
    if to not in WRITERS:
        raise BadRequest(f"there is no export to {to!r}: it must be one of {', '.join(WRITERS)}")
    if limits is not None and to != "c-header":
        raise BadRequest(f"--exit needs a program that stops early: --to c-header writes one, --to {to} does not")
    with launched():  # fixed heads are generated
        return WRITERS[to](model) if limits is None else WRITERS[to](model, limits)
