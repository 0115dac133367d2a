"""Your own data: a CSV file, an .npz file, or a pair of .npy files, with separate or split-off test samples.

Files are separated by commas, training files first:

    data.csv                            a fifth of it becomes the test set
    train.csv,test.csv
    data.npz                            x, y, or x_train, y_train; with x_test, y_test for your own split
    x.npy,y.npy                         inputs and labels; x.npy,y.npy,x_test.npy,y_test.npy for your own split

The label in a CSV file is the column named ``label``, ``class``, ``target`` or ``y``, or else the last; all others are
numbers. :class:`.reading.Reading` has the options. Frames of pandas and polars are read in the same way.

Inputs (N, ...) are flattened to rows. Arrays of bytes (uint8) stay bytes; all other numbers are scaled column by
column, see :class:`tinyfoa_np.data.dataset.Columns`. Labels may be integers or text. If they are not 0 to C - 1,
classes are numbered in the labels' order, and the order is recorded.

Without test samples, all samples are shuffled (seed 0, whatever the recipe's seed) and the last fifth is the test set.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinyfoa_np.data import csv_table, drift, frames, splits, windows
from tinyfoa_np.data import labels as labelling
from tinyfoa_np.data.arrays import from_archive, from_npy, shown
from tinyfoa_np.data.csv_table import Coded, Table
from tinyfoa_np.data.dataset import Columns, Dataset, Split, fingerprint, not_finite
from tinyfoa_np.data.limits import LIMIT, too_large
from tinyfoa_np.data.published import Progress, quiet
from tinyfoa_np.data.reading import LISTS, Reading
from tinyfoa_np.data.roles import Known
from tinyfoa_np.data.search_path import Place, listed
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import NORMALIZATIONS

SEED = 0
#: one in this many samples is a test sample, if there is no split
OTHERS = 5
_ARRAYS = "x and y, or x_train and y_train, and x_test and y_test if present"


class Part(NamedTuple):
    """Samples of one file.

    Attributes
    ----------
    name : str
        Name of the file in messages.
    inputs : ndarray (N, ...)
    labels : Coded or None
    groups : Coded or None
    times : ndarray (N,), float64, or None
    first : ndarray (N,), int64, or None
        First row of each sample, for samples that are windows.
    """

    name: str
    inputs: np.ndarray
    labels: Coded | None
    groups: Coded | None = None
    times: np.ndarray | None = None
    first: np.ndarray | None = None


class Own:
    """Your own files as a data set."""

    def __init__(self, name: str, reading: Reading | None = None, limit: int | None = None) -> None:
        self.name, self.reading = name, (reading or Reading()).validated()
        self.limit = LIMIT if limit is None else limit

    @property
    def samples(self) -> tuple[int, int]:
        """Numbers of training and of test samples."""
        loaded = self.load()
        return len(loaded.train.labels), len(loaded.test.labels)

    def shape(self) -> Dataset:
        """The data set itself, as its shape is known only from the files."""
        return self.load()

    def find(self, data_dir: Place = None) -> str:
        """Paths of the files; raises `BadRequest` if one is missing."""
        return ", ".join(str(path) for path in _paths(self.name))

    def verify(self, data_dir: Place = None) -> list[tuple[str, bool, str]]:
        """One row with the digest of the samples; there is no digest to compare it with."""
        return [(self.name, True, f"sha256 of the samples {self.load().digest}")]

    def load(self, data_dir: Place = None, unverified: bool = False, on_progress: Progress = quiet) -> Dataset:
        """Load the samples, with their digest and origin.

        Raises
        ------
        BadRequest
            A file is missing, is in none of the formats above, or contains data that cannot be trained on; the message
            names the file and the expected content.
        """
        paths = _paths(self.name)
        parts, known, origin = _parts(paths, self.reading, self.limit)
        return prepared(self.name, parts, known, {"files": [str(path) for path in paths]} | origin, self.limit)


def from_frame(frame: Any, test: Any = None, *, name: str = "frame", **how: Any) -> Dataset:
    """Make a data set from a pandas or polars frame.

    Parameters
    ----------
    frame : DataFrame
        Training samples, from which test samples are split off unless ``test`` is given.
    test : DataFrame, optional
        Test samples, with the same columns in any order.
    name : str
        Name of the data set in recipes and messages.
    **how
        The fields of :class:`.reading.Reading`: ``label="activity"``, ``group="subject"``, ...

    Raises
    ------
    BadRequest
        If the data cannot be trained on.
    """
    try:
        reading = Reading(**how).validated()
    except TypeError as error:
        raise BadRequest(f"from_frame: {error}") from None
    table = frames.read(frame, name, reading)
    parts = [_part(name, table)]
    if test is not None:
        parts.append(_part(f"{name}, test", frames.read_new(test, f"{name}, test", table.known)))
    return prepared(name, parts, table.known, _told(name, table))


def prepared(name: str, parts: list[Part], known: Known, origin: dict[str, Any], limit: int = LIMIT) -> Dataset:
    """Make a data set of samples: cut into windows, number classes, split, fill gaps, scale columns.

    Raises
    ------
    BadRequest
        If the samples cannot be trained on.
    """
    if len(parts) > 2:
        raise BadRequest(f"{name} holds {len(parts)} sets of samples: one to train on, one to test on at most")
    reading, image = known.reading, None if known.reading.window else _image(parts[0].inputs.shape[1:])
    parts = [_rows(part, reading.missing == "median", limit) for part in parts]
    width = parts[0].inputs.shape[1]
    if reading.window:
        parts = [cut(part, reading, limit) for part in parts]
        origin["window"] = f"samples of {reading.window} rows, a new one every {reading.step}"
    labels = [(part.name, part.labels) for part in parts if part.labels]
    numbers, named, classes = labelling.numbered(labels, str(origin.get("label") or ""))
    if len(parts) == 1:
        train, test = _split(name, parts[0], numbers[0], reading, origin)
    else:
        if reading.group is not None and not reading.window or reading.time is not None and not reading.window:
            raise BadRequest("--group and --time choose the test samples, but there is a file of them: leave one out")
        train, test = (Split(part.inputs, labels) for part, labels in zip(parts, numbers))
    if test.inputs.shape[1] != train.inputs.shape[1] or (test.inputs.dtype == np.uint8) != (
        train.inputs.dtype == np.uint8
    ):
        raise BadRequest(
            f"{parts[1].name} has {test.inputs.shape[1]} inputs per sample, {test.inputs.dtype}: "
            f"{train.inputs.shape[1]}, {train.inputs.dtype}, as in {parts[0].name}, are needed"
        )
    if reading.missing == "median":
        known = known._replace(medians=_medians(name, train.inputs, width))
        train, test = (Split(filled(split.inputs, known.medians), split.labels) for split in (train, test))
    drift = _drift(name, train, test, parts[0], numbers[0], known)
    if named:
        origin["labels"] = named
    if origin.get("columns") and reading.window:
        origin["columns"] = [f"{column}[{t}]" for t in range(reading.window) for column in origin["columns"]]
    origin["reading"] = known.to_record()
    return replace(scaled(name, train, test, classes, width, origin), image=image, drift=drift)


def _drift(name: str, train: Split, test: Split, part: Part, labels: np.ndarray, known: Known) -> str:
    """A warning about columns that drift between training and test samples, or between groups; empty if none do."""
    if train.inputs.dtype == np.uint8:
        return ""
    called = known.called()
    found = drift.outside(train.inputs, test.inputs, len(called))
    if part.groups is not None and not np.isnan(part.inputs).any():
        found |= drift.between(part.inputs, labels, part.groups.codes, len(called), str(known.reading.group))
    return drift.warning(name, found, called, Path(part.name).suffix.lower() not in (".npy", ".npz"))


def scaled(name: str, train: Split, test: Split, classes: int, width: int, origin: dict[str, Any]) -> Dataset:
    """Make a data set whose ``width`` columns are scaled by the training samples; refuse values too large to scale."""
    if train.inputs.dtype == np.uint8:
        share = np.bincount(train.inputs.ravel(), minlength=256) / train.inputs.size
        mean = float(share @ np.arange(256))
        deviation = float(share @ (np.arange(256) - mean) ** 2) ** 0.5 or 1.0
        digest = fingerprint(train, test)
        return Dataset(name, train, test, classes, 1 / deviation, -mean / deviation, digest=digest, origin=origin)
    kind = np.result_type(train.inputs, test.inputs)
    train, test = (Split(split.inputs.astype(kind, copy=False), split.labels) for split in (train, test))
    with np.errstate(over="ignore", invalid="ignore"):
        columns = Columns.of(train.inputs, width)
        dataset = Dataset(name, train, test, classes, columns=columns, digest=fingerprint(train, test), origin=origin)
        ends = [
            end for split in (train, test) if len(split.inputs) for end in (split.inputs.min(0), split.inputs.max(0))
        ]
        for normalize in NORMALIZATIONS:
            if not np.isfinite(dataset.encoded(np.stack(ends), normalize)).all():
                raise BadRequest(f"{name} holds numbers too large to be put on one scale in float32")
    return dataset


def _split(name: str, part: Part, labels: np.ndarray, reading: Reading, origin: dict[str, Any]) -> tuple[Split, Split]:
    """Training and test samples of one file."""
    count = len(labels)
    if count < 2:
        raise BadRequest(f"{name} has 1 sample: at least 2 are needed, to train and to test on")
    order = splits.shuffled(count, SEED)
    if reading.group is None and reading.time is None and part.first is None:
        tested = max(1, count // OTHERS)
        origin["split"] = f"the last {tested} of {count} samples shuffled with seed {SEED} are tested on"
        rows = order[:-tested], order[-tested:]
        return tuple(Split(part.inputs[chosen], labels[chosen]) for chosen in rows)  # type: ignore[return-value]
    groups = part.groups.codes if part.groups else None
    if part.times is not None:
        chosen = splits.by_time(part.times, groups, OTHERS)
        rule = f"the last fifth by {reading.time}" + (f" of each {reading.group}" if part.groups else "")
    elif part.groups:
        chosen = splits.by_group(labels, part.groups.codes, part.groups.values, OTHERS, SEED)
        names = sorted({part.groups.values[code] for code in np.unique(part.groups.codes[chosen])})
        rule = f"{reading.group} {', '.join(map(shown, names))}"
    else:
        chosen = splits.by_class(labels, OTHERS)
        rule = "the last fifth of each class"
    trained = ~chosen if part.first is None else splits.apart(part.first, reading.window or 1, chosen)
    if not chosen.any() or not trained.any():
        by = (
            f"by {reading.group}"
            if part.groups and part.times is None
            else f"by {reading.time}"
            if reading.time
            else "them"
        )
        raise BadRequest(f"{name} cannot be split {by}: no fifth can be spared without losing a class or all samples")
    lost = set(np.unique(labels).tolist()) - set(np.unique(labels[trained]).tolist())
    if lost:
        spelled = (
            part.labels.values[part.labels.codes[int((labels == min(lost)).argmax())]] if part.labels else min(lost)
        )
        raise BadRequest(f"{name} has class {shown(spelled)} in the test samples only ({rule}): nothing would learn it")
    left = count - int(trained.sum()) - int(chosen.sum())
    origin["split"] = f"tested on: {rule}, {int(chosen.sum())} of {count} samples" + (
        f"; {left} that share rows with them are left out" if left else ""
    )
    rows = order[trained[order]], np.flatnonzero(chosen)
    return tuple(Split(part.inputs[chosen], labels[chosen]) for chosen in rows)  # type: ignore[return-value]


def described(dataset: Dataset) -> str:
    """A one-line summary of your files as read: inputs, label, classes, and numbers of samples."""
    origin, inputs = dataset.origin or {}, dataset.train.inputs.shape[1]
    reading = origin.get("reading") or {}
    names, label, classes = (origin.get(what) or () for what in ("columns", "label", "labels"))
    window = (reading.get("reading") or {}).get("window")
    if window and names:
        width = inputs // window
        text = (
            f"{width} inputs{_listed([each.removesuffix('[0]') for each in names[:width]])} in windows of {window} rows"
        )
    else:
        text = f"{inputs} input{'s' * (inputs > 1)}{_listed(names)}"
    text += f", label {shown(label)!r}" if label else ""
    text += f", {dataset.classes} classes{_listed(classes)}"
    return f"{text}; {len(dataset.train.labels):,} samples to train on, {len(dataset.test.labels):,} to test on"


def _listed(names: Sequence[object]) -> str:
    listed = ", ".join(map(shown, names[:8])) + (", ..." if len(names) > 8 else "")
    return f" ({listed})" if names else ""


# -- files -----------------------------------------------------------------------------------------------------------


def _paths(name: str) -> list[Path]:
    paths = [Path(part).expanduser() for part in listed(name)]
    if len(paths) > 1 and Path(name).is_file():
        return [Path(name)]  # a comma in the path of a single file
    for path in paths:
        if not path.exists():
            several = ": name your data's files, with commas between them" if "," in name else ""
            raise BadRequest(f"{path} does not exist{several}")
    return paths


def _parts(paths: list[Path], reading: Reading, limit: int) -> tuple[list[Part], Known, dict[str, Any]]:
    """Samples of all files in order; the description of the first table, and names from its header."""
    parts: list[Part] = []
    known, origin = None, {}
    rest = list(paths)
    while rest:
        path = rest.pop(0)
        suffix = path.suffix.lower()
        if suffix == ".csv" and known is None and not parts:
            table = from_csv(path, reading, limit)
            known, origin = table.known, _told(str(path), table)
            parts.append(_part(str(path), table))
        elif suffix == ".csv":
            parts.append(_part(str(path), csv_table.read_new(path, known or _plain(parts[0], reading), limit)))
        elif suffix == ".npz":
            parts += from_npz(path, reading, limit)
        elif rest and rest[0].suffix.lower() == ".npy":
            other = rest.pop(0)
            inputs, given = from_npy(path, limit), from_npy(other, limit)
            parts.append(Part(str(path), inputs, labelling.coded(str(path), given, _count(str(path), inputs))))
        else:
            raise BadRequest(f"{path} has inputs without labels: write both, {path},LABELS.npy")
        if suffix != ".csv" and (roles := reading.to_record().keys() & {"label", *LISTS, "time", "header"}):
            raise BadRequest(
                f"--{min(roles).replace('_', '-')} applies to tables only, and {path} is not a table: leave it out"
            )
    for part in parts:
        if part.labels is None:
            raise BadRequest(f"{part.name} has no labels")
    return parts, known or _plain(parts[0], reading), origin


def _part(name: str, table: Table) -> Part:
    return Part(name, table.inputs, table.labels, table.groups, table.times)


def _told(name: str, table: Table) -> dict[str, Any]:
    """Column names from a table's header; warns of omitted columns."""
    for column, reason in table.left_out.items():
        kept = f"--keep {column}" if column else "--keep"
        warnings.warn(
            f"{name}: column {shown(column)!r} is left out, it looks like {reason}; {kept} trains on it", stacklevel=4
        )
    origin: dict[str, Any] = {"left_out": table.left_out} if table.left_out else {}
    if table.known.names:
        origin |= {"columns": table.names, "label": table.label}
    return origin


def _plain(part: Part, reading: Reading) -> Known:
    """Description of array samples: all columns are inputs, and a label follows them if there is one."""
    width = int(np.prod(part.inputs.shape[1:], dtype=np.int64)) if part.inputs.ndim > 1 else 1
    return Known(reading, None, None, list(range(width)), width + 1, width)


def from_csv(path: Path, reading: Reading | None = None, limit: int = LIMIT) -> Table:
    """Read a table to train on: :func:`.csv_table.read`."""
    return csv_table.read(path, reading, limit)


def from_npz(path: Path, reading: Reading | None = None, limit: int = LIMIT) -> list[Part]:
    """Read one or two sets of samples from an .npz file; raises `BadRequest` if it has other arrays."""
    group = (reading.group or "").lower() if reading else ""
    wanted = ("x", "y", "x_train", "y_train", "x_test", "y_test")
    arrays = from_archive(path, (*wanted, group), limit)
    there = ", ".join(map(shown, arrays))[:80]
    train = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    if not set(train) <= set(arrays) or ("x_test" in arrays) != ("y_test" in arrays):
        raise BadRequest(f"{path} holds {there or 'nothing'}: {_ARRAYS} are needed")
    if group and (group not in arrays or "x_test" in arrays):
        raise BadRequest(f"{path} holds {there}: --group needs x, y and an array of that name")
    parts = []
    for name, x, y in ((str(path), *train), (f"{path}, x_test", "x_test", "y_test")):
        if x in arrays:
            count = _count(name, arrays[x])
            groups = labelling.coded(f"{path}, {group}", arrays[group], count) if group else None
            parts.append(Part(name, arrays[x], labelling.coded(name, arrays[y], count), groups))
    return parts


def _count(name: str, inputs: np.ndarray) -> int:
    if inputs.ndim > 1 and not len(inputs):
        raise BadRequest(f"{name} has no samples")
    if inputs.ndim < 2 or not inputs.size:
        raise BadRequest(f"{name} has inputs {inputs.shape}: N rows, one sample each, are needed")
    return len(inputs)


# -- new samples -----------------------------------------------------------------------------------------------------


class Trained(Protocol):
    """The required interface of a :class:`tinyfoa_np.model.model.Model`."""

    @property
    def inputs(self) -> Any: ...

    @property
    def classes(self) -> int: ...

    @property
    def labels(self) -> list[str | int] | None: ...

    @property
    def columns(self) -> list[str] | None: ...

    @property
    def reading(self) -> dict[str, Any] | None: ...


def samples_of(source: Any, model: Trained, limit: int | None = None) -> Part:
    """Read new samples for a model: a file like its training file, with or without labels, or a frame.

    From an .npz file, ``x``, or ``x_test``, or the only array is read; from a table, the training columns. Windows are
    cut and missing values filled as in training.

    Parameters
    ----------
    source : path or DataFrame
    model : Model
    limit : int, optional
        Maximum memory for the file, in bytes.

    Returns
    -------
    Part
        With inputs (N, ...), and labels if available.

    Raises
    ------
    BadRequest
        The file is missing, in none of the formats, or lacks a column.
    """
    width, limit = model.inputs.width, LIMIT if limit is None else limit
    if model.reading:
        known = Known.from_record(model.reading)
    else:
        known = Known(Reading(), model.columns, None, list(range(width)), width + 1, width)
    reading = known.reading
    if frames.is_frame(source):
        part = _part("the frame", frames.read_new(source, "the frame", known))
    else:
        path = Path(source).expanduser()
        suffix = path.suffix.lower()
        if suffix == ".csv":
            part = _part(str(path), csv_table.read_new(path, known, limit))
        elif suffix == ".npz":
            part = _new_arrays(path, limit)
        elif suffix != ".npy":
            raise BadRequest(f"{path} is neither .csv, .npz nor .npy: name a file of samples")
        else:
            part = Part(str(path), from_npy(path, limit), None)
    if reading.window and part.inputs.ndim == 2 and part.inputs.shape[1] != width:
        part = cut(part, reading, limit)
    if known.medians is not None and part.inputs.ndim == 2 and part.inputs.dtype.kind == "f":
        if part.inputs.shape[1] % len(known.medians) == 0:
            part = part._replace(inputs=filled(part.inputs, known.medians))
    return part


def labelled(source: Any, model: Trained, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """New samples (N, I), read as by :func:`samples_of`, and their class numbers (N,).

    Raises
    ------
    BadRequest
        As for :func:`samples_of`; also if there are no labels, or a label is not one of the model's classes.
    """
    part = samples_of(source, model, limit)
    if part.labels is None:
        raise BadRequest(f"{part.name} has no labels: to evaluate a model, samples and labels are needed")
    classes = model.labels or list(range(model.classes))
    return part.inputs.reshape(_count(part.name, part.inputs), -1), labelling.recoded(
        part.name, part.labels, classes, "the model"
    )


def _new_arrays(path: Path, limit: int) -> Part:
    arrays = from_archive(path, (), limit)
    name = next((n for n in ("x", "x_test") if n in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise BadRequest(f"{path} holds {', '.join(map(shown, arrays))[:80] or 'nothing'}: x or x_test is needed")
    labels = arrays.get(name.replace("x", "y")) if name in ("x", "x_test") else None
    inputs = arrays[name]
    return Part(
        str(path), inputs, None if labels is None else labelling.coded(str(path), labels, _count(str(path), inputs))
    )


# -- samples ---------------------------------------------------------------------------------------------------------


def _image(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Channels, rows and columns of samples in that order, or of rows and columns; None of others."""
    if len(shape) == 2:
        return 1, *shape
    if len(shape) != 3 or shape[2] <= 4 < min(shape[:2]):  # some files have channels last
        return None
    return shape[0], shape[1], shape[2]


def _rows(part: Part, gaps: bool, limit: int) -> Part:
    """Flatten inputs to (N, I) uint8, float32 or float64 in C order; float64 if float32 would change a number."""
    name, inputs = part.name, part.inputs
    _count(name, inputs)
    if inputs.dtype.kind not in "fiub":
        raise BadRequest(f"{name} has {inputs.dtype} inputs: numbers are needed")
    rows = inputs.reshape(len(inputs), -1)
    if rows.dtype != np.uint8:
        if rows.size * 4 > limit:
            raise too_large(f"{name}, as float32,", rows.size * 4, limit)
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = rows.astype(np.float32)
            finite = np.isfinite(narrow) | (np.isnan(narrow) if gaps else False)
            if not (whole := finite.all(axis=1)).all():
                row = int(whole.argmin())
                raise BadRequest(f"{name}: sample {row + 1} holds {not_finite(rows[row])}")
            wide = rows.astype(np.float64, copy=False)
            rows = narrow if ((narrow == wide) | np.isnan(wide)).all() else wide
    return part._replace(inputs=np.ascontiguousarray(rows))


def cut(part: Part, reading: Reading, limit: int) -> Part:
    """Cut rows into windows, in order of time and never across groups, labelled by the majority of their rows."""
    assert reading.window and reading.step
    if part.times is not None:
        by_group = () if part.groups is None else (part.groups.codes,)
        order = np.lexsort((part.times, *by_group))
        part = part._replace(
            inputs=part.inputs[order],
            times=part.times[order],
            labels=_at(part.labels, order),
            groups=_at(part.groups, order),
        )
    first = windows.starts(len(part.inputs), reading.window, reading.step, part.groups and part.groups.codes)
    inputs = windows.cut(part.name, part.inputs, first, reading.window, limit)
    labels = part.labels and part.labels._replace(codes=windows.majority(part.labels.codes, first, reading.window))
    return part._replace(
        inputs=inputs,
        labels=labels and _at(labels, np.arange(len(first))),
        groups=_at(part.groups, first),
        times=None if part.times is None else part.times[first],
        first=first,
    )


def _at(column: Coded | None, rows: np.ndarray) -> Coded | None:
    """A column's values at some rows, without values that do not occur there."""
    if column is None:
        return None
    there, codes = np.unique(column.codes[rows], return_inverse=True)
    return Coded(codes.reshape(-1), [column.values[code] for code in there])


def _medians(name: str, inputs: np.ndarray, width: int) -> np.ndarray:
    """Medians (width,) float64 of the training samples' columns; raises `BadRequest` if a column has no value."""
    if inputs.dtype == np.uint8:
        return np.zeros(width)
    columns = inputs.reshape(-1, width)
    empty = np.isnan(columns).all(axis=0)
    if empty.any():
        raise BadRequest(
            f"{name}: input {int(empty.argmax()) + 1} has no value in any training sample: leave it out (--drop)"
        )
    return np.nanmedian(columns.astype(np.float64), axis=0)


def filled(inputs: np.ndarray, medians: np.ndarray | None) -> np.ndarray:
    """Samples (n, I) with NaN replaced by the medians of their columns."""
    if medians is None or inputs.dtype == np.uint8 or not np.isnan(inputs).any():
        return inputs
    wide = inputs.astype(np.float64).reshape(-1, len(medians))
    return np.where(np.isnan(wide), medians, wide).reshape(inputs.shape)
