"""Tables in memory: frames of pandas or polars, read like a CSV file of the same content."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyfoa_np.data import cells, roles
from tinyfoa_np.data.csv_table import Coded, Columns, Table, of_new_samples, of_training_samples
from tinyfoa_np.data.one_hot import Values
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.data.roles import Known, Roles
from tinyfoa_np.errors import BadRequest

_SAMPLE = 200


def is_frame(source: object) -> bool:
    """Whether this is a pandas or polars frame, lazy or not, or has a similar interface."""
    lazy = hasattr(source, "collect_schema")
    return lazy or hasattr(source, "columns") and hasattr(source, "shape") and hasattr(source, "__getitem__")


def read(frame: Any, name: str, reading: Reading | None = None) -> Table:
    """Read a frame to train on; its index is not a column.

    Raises
    ------
    BadRequest
        With the row and the column of the error, or an instruction.
    """
    reading = (reading or Reading()).validated()
    names, columns = _columns(frame, name)
    sample = [list(row) for row in zip(*(_texts(column[:_SAMPLE]) for column in columns))]
    which, left_out = roles.assigned(name, names, sample, len(names), reading)
    taken = _taken(name, names, columns, which, reading)
    return of_training_samples(taken, names, len(names), which, left_out, reading)


def read_new(frame: Any, name: str, known: Known) -> Table:
    """Read new samples from a frame, finding columns by name: see :func:`.csv_table.read_new`."""
    names, columns = _columns(frame, name)
    which = roles.in_new_table(name, names, len(names), known)
    return of_new_samples(_taken(name, names, columns, which, known.reading, known), known)


def _columns(frame: Any, name: str) -> tuple[list[str], list[np.ndarray]]:
    """Names and contents of a frame's columns; a lazy frame is collected."""
    if not is_frame(frame):
        raise BadRequest(f"{name} is of type {type(frame).__name__}: give a frame of pandas or polars")
    frame = frame.collect() if hasattr(frame, "collect") else frame
    names = [str(column).strip() for column in frame.columns]
    if len(set(names)) < len(names):
        raise BadRequest(f"{name} has two columns of one name: give each its own")
    return names, [np.asarray(frame[column].to_numpy()) for column in frame.columns]


def _taken(
    name: str,
    names: list[str],
    columns: list[np.ndarray],
    which: Roles,
    reading: Reading,
    known: Known | None = None,
) -> Columns:
    gaps = reading.missing == "median"
    inputs = np.empty((len(columns[0]), len(which.inputs)))
    values: dict[int, Values] = {}
    for k, n in enumerate(which.inputs):
        what = f"{name}, column {names[n]!r}"
        if n in which.one_hot:
            values[k] = own = Values(what, known.values[k] if known and known.values else None)
            inputs[:, k] = [own.number(text, f"{what}, row {row + 1}") for row, text in enumerate(_texts(columns[n]))]
        else:
            inputs[:, k] = _numbers(columns[n], what)
        missing = np.isnan(inputs[:, k])
        if missing.any() and not gaps:
            raise BadRequest(
                f"{name}, row {int(missing.argmax()) + 1}, column {names[n]!r}: a value is missing; fill it in, leave "
                "the row out, or use missing='median'"
            )
    labels, groups = (
        _coded(_given(columns[n], f"{name}, column {names[n]!r}")) if n >= 0 else None
        for n in (which.label, which.group)
    )
    times = None
    if which.time >= 0:
        times = _times(columns[which.time], f"{name}, column {names[which.time]!r}")
    return inputs, labels, groups, times, values


def _numbers(column: np.ndarray, what: str) -> np.ndarray:
    """A column as float64, NaN for missing values."""
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    found = np.empty(len(column))
    for n, text in enumerate(_texts(column)):
        try:
            found[n] = np.nan if cells.is_missing(text) else cells.number(text)
        except ValueError:
            raise BadRequest(f"{what}, row {n + 1}: {text[:40]!r} is not a number") from None
    return found


def _times(column: np.ndarray, what: str) -> np.ndarray:
    if column.dtype.kind in "fM" and (missing := np.isnan(column)).any():
        raise _missing(what, int(missing.argmax()))
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    if column.dtype.kind == "M":
        return column.astype("datetime64[ns]").astype(np.int64).astype(np.float64)
    try:
        return np.array(cells.moments(_given(column, what), what), np.float64)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _given(column: np.ndarray, what: str) -> list[str]:
    """A column as texts; none may be missing."""
    texts = _texts(column)
    missing = next((n for n, text in enumerate(texts) if cells.is_missing(text)), None)
    if missing is not None:
        raise _missing(what, missing)
    for n, text in enumerate(texts):
        if control := cells.control_character(text):
            raise BadRequest(f"{what}, row {n + 1}: {text[:40]!r} is not text: it contains {control!r}")
    return texts


def _missing(what: str, row: int) -> BadRequest:
    return BadRequest(f"{what}, row {row + 1}: a value is missing; fill it in, or leave the row out")


def _texts(column: np.ndarray) -> list[str]:
    """A column as in a CSV file: integers without a decimal point, empty text for missing values."""
    if column.dtype.kind == "b":
        return [str(int(value)) for value in column.tolist()]
    if column.dtype.kind == "M":
        return [str(value).replace("T", " ")[:26] for value in column]
    return ["" if value is None else str(value).strip() for value in column.tolist()]


def _coded(texts: list[str]) -> Coded:
    codes: dict[str, int] = {}
    numbers = [codes.setdefault(text, len(codes)) for text in texts]
    return Coded(np.array(numbers, np.int64), list(codes))
