"""Data sets: where their files are, whether they are whole, and their samples as arrays.

One module per data set, each with ``SAMPLES`` (training, test), ``shape()``, ``find(data_dir)``, ``load(data_dir)`` and
``verify(data_dir)``; this one knows them by name. NumPy is imported only when something is loaded.

Examples
--------
>>> from tinyfoa_np import data
>>> digits = data.load("digits")
>>> digits.train.inputs.shape, digits.train.inputs.dtype, digits.classes
((1437, 64), dtype('uint8'), 10)
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.errors import BadRequest

__all__ = ["Dataset", "Split", "find", "load", "names", "samples", "shape", "verify"]

_NAMES = ("digits", "mnist")


def names() -> tuple[str, ...]:
    """Names of the data sets that `load` knows."""
    return _NAMES


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Find a data set's files, verify them against their published digests and return the samples.

    Parameters
    ----------
    name : str
        One of `names`.
    data_dir : path, optional
        Looked into first; then ``$TINYFOA_DATA``, then the user's cache directory.

    Raises
    ------
    BadRequest
        Unknown name, or data that are not there; the message says how to get them and where to put them.
    CheckFailed
        A file is truncated or altered; the message names it.
    """
    return _module(name).load(data_dir)


def verify(name: str, data_dir: str | os.PathLike[str] | None = None) -> list[tuple[str, bool, str]]:
    """Compare each file of a data set with its published digest.

    Returns
    -------
    list of (file, ok, detail)
        One row per file; ``detail`` says what was found, in a few words.

    Raises
    ------
    BadRequest
        Unknown name, or data that are not there.
    """
    return _module(name).verify(data_dir)


def find(name: str, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Say where a data set was found; raises `BadRequest` with how to get it where it was not."""
    return _module(name).find(data_dir)


def shape(name: str) -> Dataset:
    """The data set without its samples: all zeros, of their number and kind, known without looking for the files."""
    return _module(name).shape()


def samples(name: str) -> tuple[int, int]:
    """Numbers of training and of test samples, known without looking for the files."""
    return _module(name).SAMPLES


def _module(name: str) -> ModuleType:
    if name not in _NAMES:
        raise BadRequest(f"unknown data set {name!r}; known are {', '.join(_NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")
