"""Data of your own: a CSV, an .npz, or a pair of .npy files, with samples to test on beside it or split off it.

Files are separated by commas, those to train on first:

    data.csv                            a fifth of it is split off and tested on
    train.csv,test.csv
    data.npz                            x, y, or x_train, y_train; with x_test, y_test the split is yours
    x.npy,y.npy                         inputs and labels; x.npy,y.npy,x_test.npy,y_test.npy with your split

In a CSV (commas, semicolons or tabs; a header or none) the label is the column whose header is ``label``, ``class``,
``target`` or ``y``, and the last one where no header says so; all other columns are numbers.

Inputs (N, ...) are taken row by row; arrays of bytes (uint8) stay bytes, all other numbers become float32, and each
column is put on one scale: see :class:`tinyfoa_np.data.dataset.Columns`. Labels may be whole numbers or text. Where
they are not 0 to C - 1, classes are numbered in the labels' order, and the order is written down.

Without samples to test on, all are shuffled, with seed 0 whatever the recipe's seed, and the last fifth is tested on.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyfoa_np.data import csv_table as table
from tinyfoa_np.data.csv_table import LABELS, is_number
from tinyfoa_np.data.dataset import Columns, Dataset, Split, fingerprint
from tinyfoa_np.data.published import Progress, quiet
from tinyfoa_np.data.splits import shuffled
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import NORMALIZATIONS

SEED = 0
#: samples to each test sample, where there is no split
OTHERS = 5
_ARRAYS = "x and y, or x_train and y_train, and x_test and y_test if they are there"

Part = tuple[str, np.ndarray, np.ndarray]  # what to call it, inputs (N, ...), labels (N,)


class Own:
    """Your own files, as a data set."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def samples(self) -> tuple[int, int]:
        """Numbers of training and of test samples."""
        loaded = self.load()
        return len(loaded.train.labels), len(loaded.test.labels)

    def shape(self) -> Dataset:
        """The data set itself: only its files know its shape."""
        return self.load()

    def find(self, data_dir: str | os.PathLike[str] | None = None) -> str:
        """The files, which must be there; raises `BadRequest` where one is not."""
        return ", ".join(str(path) for path in _paths(self.name))

    def verify(self, data_dir: str | os.PathLike[str] | None = None) -> list[tuple[str, bool, str]]:
        """One row: the digest of the samples; there is none to compare it with."""
        return [(self.name, True, f"sha256 of the samples {self.load().digest}")]

    def load(
        self, data_dir: str | os.PathLike[str] | None = None, unverified: bool = False, on_progress: Progress = quiet
    ) -> Dataset:
        """The samples, with what identifies them.

        Raises
        ------
        BadRequest
            A file is missing, is in none of the formats above, or holds what cannot be trained on; the message says
            which file, and what would be right.
        """
        paths = _paths(self.name)
        origin: dict[str, Any] = {"files": [str(path) for path in paths]}
        parts = [(name, *_rows(name, inputs, labels)) for name, inputs, labels in _parts(paths, origin)]
        if len(parts) > 2:
            raise BadRequest(f"{self.name} holds {len(parts)} sets of samples: one to train on, one to test on at most")
        classes, named = _numbered(parts)
        splits = [Split(inputs, labels) for (_, inputs, _), labels in zip(parts, classes)]
        if len(splits) == 1:
            whole = splits[0]
            if len(whole.labels) < 2:
                raise BadRequest(f"{self.name} has 1 sample: at least 2 are needed, to train and to test on")
            order, tested = shuffled(len(whole.labels), SEED), max(1, len(whole.labels) // OTHERS)
            splits = [Split(whole.inputs[rows], whole.labels[rows]) for rows in (order[:-tested], order[-tested:])]
            origin["split"] = f"the last {tested} of {len(order)} samples shuffled with seed {SEED} are tested on"
        train, test = splits
        if test.inputs.shape[1] != train.inputs.shape[1] or test.inputs.dtype != train.inputs.dtype:
            raise BadRequest(
                f"{parts[1][0]} has {test.inputs.shape[1]} inputs a sample, {test.inputs.dtype}: "
                f"{train.inputs.shape[1]}, {train.inputs.dtype}, as in {parts[0][0]}, would be right"
            )
        if named:
            origin["labels"] = named
        more: dict[str, Any] = {"origin": origin, "digest": fingerprint(train, test)}
        count = len(named) if named else int(max(labels.max() for labels in classes)) + 1
        if train.inputs.dtype == np.uint8:
            share = np.bincount(train.inputs.ravel(), minlength=256) / train.inputs.size
            mean = float(share @ np.arange(256))
            deviation = float(share @ (np.arange(256) - mean) ** 2) ** 0.5 or 1.0
            return Dataset(self.name, train, test, count, 1 / deviation, -mean / deviation, **more)
        with np.errstate(over="ignore", invalid="ignore"):
            dataset = Dataset(self.name, train, test, count, columns=Columns.of(train.inputs), **more)
            for normalize in NORMALIZATIONS:
                if not all(np.isfinite(dataset.encoded(split.inputs, normalize)).all() for split in splits):
                    raise BadRequest(f"{self.name} holds numbers too large to be put on one scale in float32")
        return dataset


def described(dataset: Dataset) -> str:
    """What was made of your files, in a line: inputs, label, classes, and how many samples."""
    origin, inputs = dataset.origin or {}, dataset.train.inputs.shape[1]
    names, label, classes = (origin.get(what) or () for what in ("columns", "label", "labels"))
    told = f"{inputs} input{'s' * (inputs > 1)}{_listed(names)}"
    told += f", label {label!r}" if label else ""
    told += f", {dataset.classes} classes{_listed(classes)}"
    return f"{told}; {len(dataset.train.labels):,} samples to train on, {len(dataset.test.labels):,} to test on"


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(map(_shown, names[:8])) + (", ..." if len(names) > 8 else "")
    return f" ({shown})" if names else ""


def _paths(name: str) -> list[Path]:
    paths = [Path(part.strip()).expanduser() for part in name.split(",")]
    for path in paths:
        if not path.is_file():
            several = ": name your data's files, with commas between them" if "," in name else ""
            raise BadRequest(f"there is no file {path}{several}")
    return paths


# -- files -----------------------------------------------------------------------------------------------------------


def _parts(paths: list[Path], origin: dict[str, Any]) -> list[Part]:
    """Inputs and labels of all files, in their order; ``origin`` gets what a table's header calls them."""
    parts: list[Part] = []
    rest = list(paths)
    while rest:
        path = rest.pop(0)
        suffix = path.suffix.lower()
        if suffix == ".csv":
            found = from_csv(path)
            if parts and found.names and origin.get("columns", found.names) != found.names:
                raise BadRequest(f"{path} has other columns than {parts[0][0]}: {', '.join(origin['columns'])[:200]}")
            if not parts and found.names and len(set(found.names)) == len(found.names):
                origin |= {"columns": found.names, "label": found.label}
            parts.append((str(path), found.inputs, found.labels))
        elif suffix == ".npz":
            parts += from_npz(path)
        elif rest and rest[0].suffix.lower() == ".npy":
            parts.append((str(path), from_npy(path), from_npy(rest.pop(0))))
        else:
            raise BadRequest(f"{path} are inputs without labels: write both, {path},LABELS.npy")
    return parts


def from_npy(path: Path) -> np.ndarray:
    """The array in an .npy file; raises `BadRequest` where there is none of numbers or text."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # whatever a garbled header leads NumPy's parser to
        raise BadRequest(f"{path} is no .npy file of numbers: {_first_line(error)}") from error


def from_npz(path: Path) -> list[Part]:
    """One or two sets of samples of an .npz file; raises `BadRequest` where it has others."""
    arrays = _arrays(path, ("x", "y", "x_train", "y_train", "x_test", "y_test"))
    there = ", ".join(map(_shown, arrays))[:80]
    train = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    if not set(train) <= set(arrays) or ("x_test" in arrays) != ("y_test" in arrays):
        raise BadRequest(f"{path} holds {there or 'nothing'}: {_ARRAYS} would be right")
    parts = [(str(path), arrays[train[0]], arrays[train[1]])]
    if "x_test" in arrays:
        parts.append((f"{path}, x_test", arrays["x_test"], arrays["y_test"]))
    return parts


def _arrays(path: Path, wanted: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name in small letters; of those not ``wanted``, where some are, empty ones."""
    try:
        with np.load(path, allow_pickle=False) as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            names = {name.lower(): name for name in file.files}
            arrays = {low: file[name] if not wanted or low in wanted else np.zeros(0) for low, name in names.items()}
            if not all(isinstance(each, np.ndarray) for each in arrays.values()):
                raise ValueError("a member is no array")
    except Exception as error:  # whatever a garbled archive leads NumPy's and Python's parsers to
        raise BadRequest(f"{path} is no .npz file of numbers: {_first_line(error)}") from error
    return arrays


def from_csv(path: Path) -> table.Table:
    """A table, with a warning for columns that count its rows: :func:`.csv_table.read`."""
    found = table.read(path)
    for n in table.counting(found.inputs):
        name = repr(found.names[n][:40]) if found.names and found.names[n] else str(n + 1)
        warnings.warn(f"{path}: column {name} counts the rows; leave it out, unless it means something", stacklevel=2)
    return found


def inputs_of(path: Path, width: int, names: Sequence[str] | None = None) -> np.ndarray:
    """Samples (N, ...) to be answered, of ``width`` inputs each: a file as it is trained on, with labels or without.

    Of an .npz ``x``, or ``x_test``, or the only array; of a table the columns called ``names``, or those that are no
    label: :func:`.csv_table.inputs_of`.

    Raises
    ------
    BadRequest
        The file is missing, or in none of the formats.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise BadRequest(f"there is no file {path}")
    if suffix == ".csv":
        return table.inputs_of(path, width, names)
    if suffix != ".npz":
        return from_npy(path)
    arrays = _arrays(path)
    name = next((n for n in ("x", "x_test") if n in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise BadRequest(f"{path} holds {', '.join(map(_shown, arrays))[:80] or 'nothing'}: x or x_test would be right")
    return arrays[name]


def labelled(
    path: Path, width: int, names: Sequence[str] | None, known: int | Sequence[str | int]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples (N, I) to be answered, as by :func:`inputs_of`, and the numbers (N,) of their classes.

    Parameters
    ----------
    path : Path
    width : int
        I.
    names : sequence of str, optional
        What the columns were called in training.
    known : int or sequence
        C, or what class 0, 1, and so on were called.

    Raises
    ------
    BadRequest
        The file is missing, in none of the formats, has no labels, or one that is no class.
    """
    inputs = inputs_of(path, width, names)
    parts = _parts([path], {})
    (_, rows, labels) = next((part for part in parts if part[0].endswith("x_test")), parts[0])
    labels = _whole(str(path), labels.reshape(-1))
    if len(labels) != len(inputs):
        raise BadRequest(f"{path} has {len(inputs)} samples and {len(labels)} labels: each needs one")
    classes = list(range(known)) if isinstance(known, int) else list(known)
    numbers = {str(label): number for number, label in enumerate(classes)}
    found = [numbers.get(str(label), -1) for label in labels.tolist()]
    if -1 in found:
        strange = labels[found.index(-1)]
        raise BadRequest(f"{path} has a label {_shown(strange)}, which is none of the classes {_listed(classes)}")
    return inputs.reshape(len(inputs), -1), np.array(found, np.int64)


def _shown(value: object) -> str:
    """A label or a name for a message: text that holds more than letters and the like as Python writes it."""
    text = str(value)[:40]
    return text if text.isprintable() and text.strip() else repr(text)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]


# -- samples ---------------------------------------------------------------------------------------------------------


def _rows(name: str, inputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, I) uint8 or float32, C order, and labels (N,) as text or whole numbers."""
    if inputs.ndim < 2 or not inputs.size:
        raise BadRequest(f"{name} has inputs {inputs.shape}: N rows, one sample each, would be right")
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != inputs.shape[:1]:
        raise BadRequest(f"{name} has inputs {inputs.shape} and labels {labels.shape}: one label a sample is needed")
    if inputs.dtype.kind not in "fiub":
        raise BadRequest(f"{name} has {inputs.dtype} inputs: numbers would be right")
    rows = inputs.reshape(len(inputs), -1)
    if rows.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            rows = rows.astype(np.float32)
        if not (finite := np.isfinite(rows).all(axis=1)).all():
            raise BadRequest(f"{name}: sample {int(finite.argmin()) + 1} holds NaN or infinite values")
    return np.ascontiguousarray(rows), _whole(name, labels)


def _whole(name: str, labels: np.ndarray) -> np.ndarray:
    """Labels as int64, if all are whole numbers, or else as text."""
    if labels.dtype.kind in "US":
        try:
            text = labels.astype(str)
        except UnicodeError as error:
            raise BadRequest(f"{name} has labels that are no text") from error
        if not all(is_number(label) for label in np.unique(text)):
            return text
        labels = text.astype(np.float64)
    if labels.dtype.kind not in "fiub":
        raise BadRequest(f"{name} has {labels.dtype} labels: whole numbers or text would be right")
    with np.errstate(invalid="ignore", over="ignore"):
        whole = labels.astype(np.int64)
        same = whole == labels
    if not same.all():
        wrong = labels[int(same.argmin())]
        raise BadRequest(
            f"{name} has a label {wrong}, which is no whole number: is it the label? In a CSV that is the column whose "
            f"header is {', '.join(LABELS)}, or else the last"
        )
    return whole


def _numbered(parts: list[tuple[str, np.ndarray, np.ndarray]]) -> tuple[list[np.ndarray], list[str | int] | None]:
    """Class numbers of each set's labels, and the labels in their order where they are not 0 to C - 1 themselves."""
    name, _, labels = parts[0]
    known = np.unique(labels)
    if len(known) < 2:
        raise BadRequest(f"{name} has one class only, {_shown(known[0])}: there is nothing to tell apart")
    if 2 * len(known) > len(labels) + 3:
        raise BadRequest(
            f"{name} has {len(known)} classes in {len(labels)} samples: is it the label? In a CSV that is the column "
            f"whose header is {', '.join(LABELS)}, or else the last"
        )
    for other, _, tested in parts[1:]:
        if tested.dtype.kind != labels.dtype.kind or not np.isin(tested, known).all():
            strange = next(label for label in np.unique(tested).tolist() if label not in set(known.tolist()))
            raise BadRequest(f"{other} has a label {_shown(strange)} that {name} does not have")
    numbers = [np.searchsorted(known, tested) for _, _, tested in parts]
    plain = known.dtype.kind == "i" and (known == np.arange(len(known))).all()
    return numbers, None if plain else known.tolist()
