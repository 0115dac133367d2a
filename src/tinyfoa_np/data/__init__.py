"""Data sets: finding their files, verifying them, and loading their samples as arrays.

There is one module per family of data sets, each with ``SETS``, its data sets by name; this module finds all of them by
name. NumPy is imported only when something is loaded.

A name ending in ``-unverified``, such as ``cifar10-unverified``, stands for files in the data set's layout that need
not be the published ones. The data are then identified by the digest of the samples. A name that is a path, or several
paths separated by commas, stands for your own files: :mod:`tinyfoa_np.data.user_files`.

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
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.data.search_path import Place, listed
from tinyfoa_np.errors import BadRequest

__all__ = [
    "Dataset",
    "Reading",
    "Split",
    "fetch",
    "find",
    "from_frame",
    "is_files",
    "load",
    "names",
    "samples",
    "shape",
    "short",
    "verify",
]

#: the module of each data set
_HOMES = {
    "digits": "digits",
    "mnist": "mnist",
    "fashion-mnist": "mnist",
    "cifar10": "cifar",
    "cifar100": "cifar",
    "mitbih": "mitbih",
    "mitbih-natural": "mitbih",
    "mitbih-interpatient": "mitbih",
}
UNVERIFIED = "-unverified"


class Source(Protocol):
    """A data set with a name."""

    @property
    def name(self) -> str: ...

    @property
    def samples(self) -> tuple[int, int]: ...

    def shape(self) -> Dataset: ...

    def find(self, data_dir: Place = None) -> str: ...

    def load(
        self, data_dir: Place = None, unverified: bool = False, on_progress: Callable[[int, int, str], None] = ...
    ) -> Dataset: ...

    def verify(self, data_dir: Place = None) -> list[tuple[str, bool, str]]: ...


def names() -> tuple[str, ...]:
    """Names of the data sets known to `load`."""
    return tuple(_HOMES)


def load(
    name: str,
    data_dir: Place = None,
    *,
    reading: Reading | None = None,
    max_bytes: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Dataset:
    """Find a data set's files, verify them against their published digests and return the samples.

    Parameters
    ----------
    name : str
        One of `names`; a name ending in ``-unverified`` skips the comparison with published digests.
    data_dir : path, optional
        Searched first; then ``$TINYFOA_DATA``, then the user's cache directory.
    reading : Reading, optional
        How to read files of your own.
    max_bytes : int, optional
        Maximum memory for a file of your own; by default 2 GiB.
    on_progress : callable, optional
        Called with the progress, the total, and a description, if loading takes long.

    Raises
    ------
    BadRequest
        Unknown name or missing data; the message says how to get the data and where to put them.
    CheckFailed
        A file is truncated or altered; the message names it.
    """
    source, unverified = _source(name, reading, max_bytes)
    more = {"on_progress": on_progress} if on_progress else {}
    return replace(source.load(data_dir, unverified, **more), name=name)


def verify(name: str, data_dir: Place = None) -> list[tuple[str, bool, str]]:
    """Compare each file of a data set with its published digest.

    Returns
    -------
    list of (file, ok, detail)
        One row per file; ``detail`` is a short description of the result.

    Raises
    ------
    BadRequest
        Unknown name, or missing data.
    """
    return _source(name)[0].verify(data_dir)


def find(name: str, data_dir: Place = None) -> str:
    """Say where a data set was found; raises `BadRequest` with instructions if it was not."""
    return _source(name)[0].find(data_dir)


def fetch(name: str, data_dir: Place = None, *, on_progress: Callable[[int, int, str], None] | None = None) -> str:
    """Download missing files of a data set from its publishers and verify them; return their location.

    Parameters
    ----------
    name : str
        One of `names`.
    data_dir : path, optional
        Target directory; by default ``$TINYFOA_DATA``, else the user's cache directory.
    on_progress : callable, optional
        Called with the bytes received, the total, and a description.

    Raises
    ------
    BadRequest
        Unknown name, a data set that cannot be downloaded, or no network; the message says what to put where.
    CheckFailed
        The received files differ from the published ones.
    """
    from tinyfoa_np.data import download
    from tinyfoa_np.data.published import quiet

    files = getattr(_source(name)[0], "fetched", None)
    if files is None:
        place = "it is a file of your own" if is_files(name) else f"{find(name)} has it"
        raise BadRequest(f"{name} is not a download: {place}")
    return str(download.fetch(files, data_dir, on_progress or quiet))


def from_frame(frame: Any, test: Any = None, *, name: str = "frame", **how: Any) -> Dataset:
    """Make a data set from a pandas or polars frame: :func:`tinyfoa_np.data.user_files.from_frame`."""
    from tinyfoa_np.data import user_files

    return user_files.from_frame(frame, test, name=name, **how)


def shape(name: str, *, reading: Reading | None = None, max_bytes: int | None = None) -> Dataset:
    """The data set without its samples: zeros of the same number and type, without looking for the files.

    Files of your own are read, as their shape is not known otherwise.
    """
    return replace(_source(name, reading, max_bytes)[0].shape(), name=name)


def samples(name: str) -> tuple[int, int]:
    """Numbers of training and test samples, without looking for the files."""
    return _source(name)[0].samples


def is_files(name: str) -> bool:
    """Whether a name refers to your own files, such as ``data.csv``: :mod:`tinyfoa_np.data.user_files`."""
    return all(part.lower().endswith((".csv", ".npz", ".npy")) for part in listed(name))


def short(name: str) -> str:
    """A data set's name for use in a directory name; for your own files, the first file's stem."""
    return os.path.splitext(os.path.basename(listed(name)[0]))[0] if is_files(name) else name


def _source(name: str, reading: Reading | None = None, max_bytes: int | None = None) -> tuple[Source, bool]:
    """Look up a data set by name; also return whether its files may differ from the published ones."""
    if is_files(name):
        from tinyfoa_np.data.user_files import Own

        return Own(name, reading, max_bytes), False
    base = name.removesuffix(UNVERIFIED)
    if base in _HOMES and reading is not None and (asked := reading.to_record()):
        option = min(asked).replace("_", "-")
        raise BadRequest(f"--{option} applies to files of your own, and {name} is a known data set: leave it out")
    if base not in _HOMES:
        if os.path.isfile(name):
            raise BadRequest(f"{name} is in no format that can be read: save it as .csv (or .npz, .npy)")
        raise BadRequest(f"unknown data set {name!r}; known are {', '.join(_HOMES)}, and files: .csv, .npz, .npy")
    return importlib.import_module(f"{__name__}.{_HOMES[base]}").SETS[base], base != name
