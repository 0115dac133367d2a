"""Tables: CSV files with commas, semicolons or tabs, with a header or none.

The label is the column whose header is ``label``, ``class``, ``target`` or ``y``, and the last one where no header says
so; all other columns are numbers.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyfoa_np.errors import BadRequest

LABELS = ("label", "class", "target", "y")
_MISSING = ("", "na", "n/a", "null", "none", "?")


class Table(NamedTuple):
    """What a table holds.

    Attributes
    ----------
    names : list of str or None
        What the header calls the inputs; None without one.
    label : str or None
        What it calls the labels.
    inputs : ndarray (N, I), float64
    labels : ndarray (N,), text
        Empty where there are none.
    """

    names: list[str] | None
    label: str | None
    inputs: np.ndarray
    labels: np.ndarray


def read(path: Path) -> Table:
    """A table with labels; raises `BadRequest` with the line and the column that is wrong."""
    return _read(path, None, None)


def inputs_of(path: Path, width: int, names: Sequence[str] | None = None) -> np.ndarray:
    """The ``width`` inputs (N, I) float64 of each sample, of a table with labels or without.

    Where it has a header and ``names`` are known, columns are found by their names, and all others passed over.

    Raises
    ------
    BadRequest
        With the line and the column that is wrong, or the columns that would be right.
    """
    return _read(path, width, list(names) if names else None).inputs


def _read(path: Path, width: int | None, wanted: list[str] | None) -> Table:
    values, labels = array("d"), []
    header: list[str] | None = None
    columns, label, count = [], -1, 0  # which are inputs, which is the label (-1: none), how many there are
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            for fields in lines:
                if not any(field.strip() for field in fields):
                    continue
                if not count:
                    count = len(fields)
                    header = _header(fields, width)
                    label = _label(path, header, count, width, wanted)
                    columns = _columns(path, header, count, label, width, wanted)
                    if header is not None:
                        continue
                where = f"{path}, line {lines.line_num}"
                if len(fields) != count:
                    raise BadRequest(f"{where}: {len(fields)} columns, not {count}")
                if label >= 0:
                    labels.append(fields[label].strip())
                for n in columns:
                    try:
                        values.append(float(fields[n]))
                    except ValueError:
                        raise BadRequest(_wrong(where, header, n, fields[n], delimiter)) from None
    except (OSError, UnicodeError, csv.Error) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise BadRequest(f"{path} is no CSV: {first_line}") from error
    if "" in labels:
        raise BadRequest(f"{path}: sample {labels.index('') + 1} has no label")
    inputs = np.frombuffer(values, np.float64).reshape(-1, max(1, len(columns)))
    names = [header[n] for n in columns] if header else None
    return Table(names, header[label] if header and label >= 0 else None, inputs, np.array(labels, dtype=str))


def _header(fields: list[str], width: int | None) -> list[str] | None:
    """The first line, if it is a header: one with text in another column than the label's."""
    names = [field.strip() for field in fields]
    label = _named(names)
    label = len(names) - 1 if label < 0 and len(names) != width else label
    return names if not all(is_number(name) for n, name in enumerate(names) if n != label) else None


def _named(names: Sequence[str]) -> int:
    """The column whose header says that it is the label; -1 where none does."""
    small = [name.lower() for name in names]
    return next((small.index(name) for name in LABELS if name in small), -1)


def _label(path: Path, header: list[str] | None, count: int, width: int | None, wanted: list[str] | None) -> int:
    label = _named(header) if header else -1
    if header and wanted:
        return -1 if label >= 0 and header[label] in wanted else label
    if width is None:
        if count < 2:
            raise BadRequest(f"{path} has one column: inputs and a label, with commas, would be right")
        return label if label >= 0 else count - 1
    if count not in (width, width + 1):
        raise BadRequest(f"{path} has {count} columns: {width} would be right, or one more with a label")
    if count == width:
        return -1
    if header and label < 0:
        raise BadRequest(f"{path} has {count} columns, none of them called {', '.join(LABELS)}: {width} would be right")
    return label if label >= 0 else count - 1


def _columns(
    path: Path, header: list[str] | None, count: int, label: int, width: int | None, wanted: list[str] | None
) -> list[int]:
    if not (header and wanted):
        return [n for n in range(count) if n != label]
    missing = [name for name in wanted if name not in header]
    if missing:
        shown = ", ".join(map(repr, missing[:4])) + (" and others" if len(missing) > 4 else "")
        raise BadRequest(f"{path} has no column {shown}: the model was trained on {', '.join(wanted)[:200]}")
    return [header.index(name) for name in wanted]


def _wrong(where: str, header: list[str] | None, column: int, field: str, delimiter: str) -> str:
    name = f"column {header[column][:40]!r}" if header else f"column {column + 1}"
    if field.strip().lower() in _MISSING:
        return f"{where}, {name}: a value is missing; fill it in, or leave the line out"
    told = f"{where}, {name}: {field[:40]!r} is no number"
    if delimiter != "," and is_number(field.replace(",", ".", 1)):
        return f"{told}; decimals begin with a point"
    if header and _named(header) >= 0:
        return told
    return f"{told}; the label, which may be text, is the column whose header is {', '.join(LABELS)}, or else the last"


def is_number(field: str) -> bool:
    """Whether text is a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def counting(inputs: np.ndarray) -> list[int]:
    """Columns of (N, I) that count the rows, from 0 or from 1."""
    rows = np.arange(len(inputs))
    steady = [n for n in range(inputs.shape[1]) if len(rows) > 2 and (inputs[:, n] - inputs[0, n] == rows).all()]
    return [n for n in steady if inputs[0, n] in (0, 1)]
