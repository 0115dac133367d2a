"""Data sets: where their files are, whether they are whole, and their samples as arrays.

One module per family of data sets, each with ``SETS``, its data sets by name; this one knows all of them by name. NumPy
is imported only when something is loaded.

A name with ``-unverified`` at its end, such as ``cifar10-unverified``, stands for files in the data set's layout that
need not be the published ones. What was trained on is then known by the digest of its samples. A name that is a path,
or several with commas, stands for your own files: :mod:`tinyfoa_np.data.user_files`.

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

#: the module that each data set is in
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
_Place = str | os.PathLike[str] | None


class Source(Protocol):
    """A data set that is known by name."""

    @property
    def name(self) -> str: ...

    @property
    def samples(self) -> tuple[int, int]: ...

    def shape(self) -> Dataset: ...

    def find(self, data_dir: _Place = None) -> str: ...

    def load(
        self, data_dir: _Place = None, unverified: bool = False, on_progress: Callable[[int, int, str], None] = ...
    ) -> Dataset: ...

    def verify(self, data_dir: _Place = None) -> list[tuple[str, bool, str]]: ...


def names() -> tuple[str, ...]:
    """Names of the data sets that `load` knows."""
    return tuple(_HOMES)


def load(
    name: str,
    data_dir: _Place = None,
    *,
    reading: Reading | None = None,
    max_bytes: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Dataset:
    """Find a data set's files, verify them against their published digests and return the samples.

    Parameters
    ----------
    name : str
        One of `names`; with ``-unverified`` at its end, nothing is compared with published digests.
    data_dir : path, optional
        Looked into first; then ``$TINYFOA_DATA``, then the user's cache directory.
    reading : Reading, optional
        How files of your own are read.
    max_bytes : int, optional
        The most that a file of your own may take in memory; 2 GiB without it.
    on_progress : callable, optional
        Called with what is done, of how much, and what it is, where loading takes long.

    Raises
    ------
    BadRequest
        Unknown name, or data that are not there; the message says how to get them and where to put them.
    CheckFailed
        A file is truncated or altered; the message names it.
    """
    source, unverified = _source(name, reading, max_bytes)
    more = {"on_progress": on_progress} if on_progress else {}
    return replace(source.load(data_dir, unverified, **more), name=name)


def verify(name: str, data_dir: _Place = None) -> list[tuple[str, bool, str]]:
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
    return _source(name)[0].verify(data_dir)


def find(name: str, data_dir: _Place = None) -> str:
    """Say where a data set was found; raises `BadRequest` with how to get it where it was not."""
    return _source(name)[0].find(data_dir)


def fetch(name: str, data_dir: _Place = None, *, on_progress: Callable[[int, int, str], None] | None = None) -> str:
    """Download what is missing of a data set from its publishers, verified; says where it is.

    Parameters
    ----------
    name : str
        One of `names`.
    data_dir : path, optional
        Where to; without it ``$TINYFOA_DATA``, or else the user's cache directory.
    on_progress : callable, optional
        Called with the bytes that are there, of how many, and of what.

    Raises
    ------
    BadRequest
        Unknown name, a data set that is no download, or no network; the message says what to put where instead.
    CheckFailed
        What was sent is not what was published.
    """
    from tinyfoa_np.data import download
    from tinyfoa_np.data.published import quiet

    files = getattr(_source(name)[0], "fetched", None)
    if files is None:
        raise BadRequest(f"{name} is no download: {find(name)} has it")
    return str(download.fetch(files, data_dir, on_progress or quiet))


def from_frame(frame: Any, test: Any = None, *, name: str = "frame", **how: Any) -> Dataset:
    """A data set of a pandas or polars frame: :func:`tinyfoa_np.data.user_files.from_frame`."""
    from tinyfoa_np.data import user_files

    return user_files.from_frame(frame, test, name=name, **how)


def shape(name: str, *, reading: Reading | None = None, max_bytes: int | None = None) -> Dataset:
    """The data set without its samples: all zeros, of their number and kind, known without looking for the files.

    Files of your own are read: only they know their shape.
    """
    return replace(_source(name, reading, max_bytes)[0].shape(), name=name)


def samples(name: str) -> tuple[int, int]:
    """Numbers of training and of test samples, known without looking for the files."""
    return _source(name)[0].samples


def is_files(name: str) -> bool:
    """Whether a name is that of your own files, such as ``data.csv``: :mod:`tinyfoa_np.data.user_files`."""
    return all(part.strip().lower().endswith((".csv", ".npz", ".npy")) for part in name.split(","))


def short(name: str) -> str:
    """A data set's name as part of a directory's: of your own files, the first one's without folder and suffix."""
    return os.path.splitext(os.path.basename(name.split(",")[0].strip()))[0] if is_files(name) else name


def _source(name: str, reading: Reading | None = None, max_bytes: int | None = None) -> tuple[Source, bool]:
    """A data set by its name, and whether its files may be other than the published ones."""
    if is_files(name):
        from tinyfoa_np.data.user_files import Own

        return Own(name, reading, max_bytes), False
    if reading is not None and (asked := reading.to_record()):
        raise BadRequest(f"--{min(asked)} is about files of your own, and {name} is a known data set: leave it out")
    base = name.removesuffix(UNVERIFIED)
    if base not in _HOMES:
        raise BadRequest(f"unknown data set {name!r}; known are {', '.join(_HOMES)}, and files: .csv, .npz, .npy")
    return importlib.import_module(f"{__name__}.{_HOMES[base]}").SETS[base], base != name
