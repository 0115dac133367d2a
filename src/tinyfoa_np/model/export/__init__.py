"""A trained model for other programs: arrays for NumPy, C for firmware, a graph for ONNX runtimes.

``npz`` holds the arrays of any model. The others hold what a model does with them (:mod:`.answers`), for every
algorithm whose catalogue entry says how its networks answer. docs/models.md has the layouts.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import BadRequest
from ..model import Model
from . import c_header, npz, onnx_graph
from .packed import fully_connected, signs, unpacked

__all__ = ["FORMATS", "WRITERS", "export", "fully_connected", "signs", "unpacked"]

#: what can be written: from a model to the files, by their paths
WRITERS: dict[str, Callable[[Model], dict[str, bytes]]] = {
    "npz": lambda model: {"model.npz": npz.file(model)},
    "c-header": c_header.files,
    "onnx": lambda model: {"model.onnx": onnx_graph.file(model)},
}
#: what a format's one file is called, or the directory for its files
FORMATS = {"npz": "model.npz", "c-header": "firmware", "onnx": "model.onnx"}


def export(model: Model, to: str) -> dict[str, bytes]:
    """The files of an export: their contents, by name.

    Parameters
    ----------
    model : Model
    to : str
        One of :data:`WRITERS`.

    Raises
    ------
    BadRequest
        If there is no such format, it cannot hold this model, or the library that writes it is not installed.
    """
    if to not in WRITERS:
        raise BadRequest(f"there is no export to {to!r}: it must be one of {', '.join(WRITERS)}")
    return WRITERS[to](model)
