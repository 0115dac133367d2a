"""Tables from CSV files in the wild, with various separators, decimal marks, quotes and gaps."""

from __future__ import annotations

import csv
import io
import itertools
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tinyfoa_np.data import cells, csv_form, one_hot, roles
from tinyfoa_np.data.arrays import first_line
from tinyfoa_np.data.limits import LIMIT, opened, too_large
from tinyfoa_np.data.one_hot import Values
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.data.roles import Known, Roles
from tinyfoa_np.errors import BadRequest

#: a label takes two bytes in flash
MOST_CLASSES = 65536


class Coded(NamedTuple):
    """A column with few distinct values: ``values`` in order of first occurrence, and indices ``codes`` (N,) int64."""

    codes: np.ndarray
    values: list[str]


class Table(NamedTuple):
    """The content of a table.

    Attributes
    ----------
    inputs : ndarray (N, I), float64
        NaN if a value is missing.
    labels, groups : Coded or None
    times : ndarray (N,), float64, or None
    names : list of str or None
        Names of the inputs from the header; None without a header.
    label : str or None
        Name of the labels.
    known : Known
        Description of the columns for finding them in another table.
    left_out : dict
        Names of columns that are not inputs, with reasons.
    """

    inputs: np.ndarray
    labels: Coded | None
    groups: Coded | None
    times: np.ndarray | None
    names: list[str] | None
    label: str | None
    known: Known
    left_out: dict[str, str]


Choice = Callable[[Sequence[str] | None, Sequence[Sequence[str]], int], tuple[Roles, dict[int, str]]]


def read(path: Path, reading: Reading | None = None, limit: int = LIMIT) -> Table:
    """Read a table to train on.

    Raises
    ------
    BadRequest
        With the line and the column of the error, or an instruction.
    """
    reading = (reading or Reading()).validated()

    def choose(names: Sequence[str] | None, rows: Sequence[Sequence[str]], count: int) -> tuple[Roles, dict[int, str]]:
        return roles.assigned(str(path), names, rows, count, reading)

    names, count, which, left_out, columns = _columns(path, choose, reading, None, limit)
    return of_training_samples(columns, names, count, which, left_out, reading)


def read_new(path: Path, known: Known, limit: int = LIMIT) -> Table:
    """Read new samples from a table, with or without labels; it must have the training columns, in any order.

    Raises
    ------
    BadRequest
        With the line and the column of the error, or the expected columns.
    """

    def choose(names: Sequence[str] | None, rows: Sequence[Sequence[str]], count: int) -> tuple[Roles, dict[int, str]]:
        return roles.in_new_table(str(path), names, count, known), {}

    _, _, _, _, columns = _columns(path, choose, known.reading, known, limit)
    return of_new_samples(columns, known)


#: inputs, labels, groups, times, and the values of inputs that have one column per value, by their position
Columns = tuple[np.ndarray, Coded | None, Coded | None, np.ndarray | None, dict[int, Values]]


def of_new_samples(columns: Columns, known: Known) -> Table:
    """Make a table of new samples."""
    inputs, labels, groups, times, values = columns
    return Table(one_hot.spread(inputs, values)[0], labels, groups, times, known.names, known.label, known, {})


def of_training_samples(
    columns: Columns, names: Sequence[str] | None, count: int, which: Roles, left_out: dict[int, str], reading: Reading
) -> Table:
    """Make a table after examining its numeric columns: times and identifiers among them are omitted."""
    inputs, labels, groups, times, values = columns
    kept = set(which.one_hot) | {roles.place_of("", names, count, name) for name in reading.keep}
    why = {
        n: reason
        for k, n in enumerate(which.inputs)
        if n not in kept and (reason := roles.why_no_input(names[n] if names else str(n + 1), inputs[:, k]))
    }
    if len(why) < len(which.inputs):
        left_out = left_out | why
        stay = [k for k, n in enumerate(which.inputs) if n not in why]
        inputs = inputs if not why else np.ascontiguousarray(inputs[:, stay])
        values = {stay.index(k): own for k, own in values.items()}
        which = which._replace(inputs=[which.inputs[k] for k in stay])
    inputs, ordered = one_hot.spread(inputs, values)
    called = [names[n] for n in which.inputs] if names else None
    label = names[which.label] if names and which.label >= 0 else None
    distinct = called if called and len(set(called)) == len(called) else None
    known = Known(reading, distinct, label, which.inputs, count, which.label, values=ordered)
    reasons = {names[n] if names and names[n] else str(n + 1): reason for n, reason in sorted(left_out.items())}
    called = called and one_hot.names_of(called, ordered)
    return Table(inputs, labels, groups, times, called, label, known, reasons)


# -- reading -----------------------------------------------------------------------------------------------------------


def _columns(
    path: Path, choose: Choice, reading: Reading, known: Known | None, limit: int
) -> tuple[list[str] | None, int, Roles, dict[int, str], Columns]:
    """Header, number of columns, their roles and their content; decoded as UTF-8, or as an old spreadsheet's text."""
    with opened(path, limit) as file:
        encoding = csv_form.encoding_of(file.read(2))
        try:
            try:
                return _parsed(path, file, encoding, choose, reading, known, limit)
            except UnicodeError:
                found = _parsed(path, file, "cp1252", choose, reading, known, limit)
            warnings.warn(f"{path} is not UTF-8: read as Windows-1252", stacklevel=5)
            return found
        except BadRequest:
            raise
        except UnicodeError as error:
            raise BadRequest(f"{path} is not a CSV file: it is not text in UTF-8 or Windows-1252") from error
        except csv.Error as error:
            raise BadRequest(f"{path} is not a CSV file: {first_line(error)}") from error
        except ValueError as error:
            raise BadRequest(f"{path}: {first_line(error)}") from error
        except OSError as error:
            raise BadRequest(f"{path} cannot be read: {error.strerror or error}") from error


def _parsed(
    path: Path, file: BinaryIO, encoding: str, choose: Choice, reading: Reading, known: Known | None, limit: int
) -> tuple[list[str] | None, int, Roles, dict[int, str], Columns]:
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        lines = csv_form.lines_of(text)
        sample = csv_form.sample_of(lines)
        labelled = known is None
        form = csv_form.form_of(sample, reading.header, known.names if known else None, labelled)
        count = len(form.names or next(iter(form.rows), ()))
        which, left_out = choose(form.names, form.rows, count)
        body = itertools.chain(sample[form.skipped :], lines)
        taken = _Taken(path, form, which, count, reading.missing == "median", limit, known)
        taken.take(body, header=form.names is not None and not form.commented)
        return form.names, count, which, left_out, taken.columns()
    finally:
        text.detach()


class _Taken:
    """The part of a table read so far."""

    def __init__(
        self,
        path: Path,
        form: csv_form.Form,
        which: Roles,
        count: int,
        gaps: bool,
        limit: int,
        known: Known | None = None,
    ) -> None:
        self.path, self.form, self.which, self.count, self.gaps, self.limit = path, form, which, count, gaps, limit
        self.values = array("d")
        self.labels, self.groups = _Codes(), _Codes()
        self.times: list[str] = []
        self.values_of = {
            n: Values(f"{path}: {roles.called(form.names, n)}", known.values[k] if known and known.values else None)
            for k, n in enumerate(which.inputs)
            if n in which.one_hot
        }
        self.mark = ""  # decimal mark, once one is seen
        # whether a number shows that commas are decimal, not thousands separators; where such a comma was seen first
        self.decimal, self.thousands = False, ""

    def take(self, lines: Iterator[str], header: bool) -> None:
        """Read all rows, after the header if there is one."""
        picked = itemgetter(*self.which.inputs) if len(self.which.inputs) > 1 else None
        only, label, group, time = self.which.inputs[0], self.which.label, self.which.group, self.which.time
        reader = csv.reader(lines, delimiter=self.form.delimiter, strict=True)
        for fields in reader:
            if not any(field and not field.isspace() for field in fields):
                continue
            if header:
                header = False
                continue
            line = reader.line_num + self.form.skipped
            if len(fields) == self.count + 1 and not fields[-1].strip():
                fields.pop()  # trailing separator
            if len(fields) != self.count:
                raise BadRequest(f"{self.path}, line {line}: {len(fields)} columns, not {self.count}")
            for n, values in self.values_of.items():
                code = values.number(fields[n].strip(), self._where(line, n))
                fields[n] = f"{code:.0f}" if code == code else ""
            self._numbers(picked(fields) if picked else (fields[only],), line)
            if label >= 0:
                self.labels.add(self._given(fields, label, line))
                if len(self.labels.codes_of) > MOST_CLASSES:
                    what = roles.called(self.form.names, label)
                    raise BadRequest(f"{self.path}: {what} has more than {MOST_CLASSES:,} classes; is it the label?")
            if group >= 0:
                self.groups.add(self._given(fields, group, line))
            if time >= 0:
                self.times.append(self._given(fields, time, line))
            if 8 * len(self.values) + 100 * (len(self.times) + len(self.groups.codes_of)) > self.limit:
                raise too_large(f"{self.path}, in memory,", 8 * len(self.values), self.limit)

    def _given(self, fields: Sequence[str], place: int, line: int) -> str:
        """A field that must not be missing."""
        field = fields[place].strip()
        if cells.is_missing(field):
            means = f" (if {field!r} is a name, choose another)" if field else ""
            raise BadRequest(
                f"{self._where(line, place)}: a value is missing{means}; fill it in, or leave the line out"
            )
        if control := cells.control_character(field):
            raise BadRequest(f"{self._where(line, place)}: {field[:40]!r} is not text: it contains {control!r}")
        return field

    def _numbers(self, fields: Sequence[str], line: int) -> None:
        """The inputs of a row: all at once if they are plain numbers, otherwise field by field."""
        together = " ".join(fields)
        if self.mark != "," and together.isascii() and "_" not in together:
            try:
                row = array("d", map(float, fields))
                total = sum(row)
                if total - total == 0:  # neither NaN nor infinite
                    self.values.extend(row)
                    if not self.mark and "." in together:
                        self.mark = "."
                    return
            except ValueError:
                pass
        for n, field in zip(self.which.inputs, fields):
            self.values.append(self._number(field.strip(), n, line))

    def _number(self, field: str, place: int, line: int) -> float:
        if cells.is_missing(field):
            if self.gaps:
                return float("nan")
            raise BadRequest(
                f"{self._where(line, place)}: a value is missing; fill it in, leave the line out, or train with "
                "--missing median"
            )
        if not cells.is_number(field):
            raise BadRequest(self._wrong(field, place, line))
        mark = "," if "," in field else "." if "." in field else ""
        if mark and self.mark and mark != self.mark:
            raise BadRequest(
                f"{self._where(line, place)}: {field[:40]!r} is not written as other numbers are: use a decimal point "
                "everywhere, or a comma, and no thousands separators"
            )
        if mark == "," and self.form.delimiter == "," and not self.decimal:
            self.decimal = not cells.may_be_thousands(field)
            self.thousands = self.thousands or f"{self._where(line, place)}: {field[:40]!r}"
        self.mark = self.mark or mark
        value = cells.number(field)
        if value - value != 0:
            raise BadRequest(f"{self._where(line, place)}: {field[:40]!r} is too large")
        return value

    def _wrong(self, field: str, place: int, line: int) -> str:
        problem = f"{self._where(line, place)}: {field[:40]!r} is not a number"
        if field.strip("+-").lower() in ("inf", "infinity"):
            return f"{problem} that can be trained on: infinite values are missing values; fill them in"
        if any(mark in field for mark in ".,") and field.translate({ord(c): None for c in ".,' +-"}).isdecimal():
            return f"{problem}: use a decimal point, and no thousands separators"
        if self.which.label < 0 or self.form.names and roles.named_label(self.form.names) >= 0:
            return problem
        return (
            f"{problem}; the label, which may be text, is the column named {', '.join(csv_form.LABELS)}, or the last: "
            "use --label COLUMN, or leave this one out with --drop COLUMN"
        )

    def _where(self, line: int, place: int) -> str:
        return f"{self.path}, line {line}, {roles.called(self.form.names, place)}"

    def columns(self) -> Columns:
        """Inputs, labels, groups and times; raises `BadRequest` if all commas may be thousands separators."""
        if self.thousands and not self.decimal:
            raise BadRequest(f"{self.thousands} may mean thousands or decimals: use a decimal point, and no separators")
        width = max(1, len(self.which.inputs))
        inputs = np.frombuffer(self.values, np.float64).reshape(-1, width) if self.values else np.zeros((0, width))
        labels, groups = (
            codes.coded() if place >= 0 else None
            for codes, place in ((self.labels, self.which.label), (self.groups, self.which.group))
        )
        times = None
        if self.which.time >= 0:
            times = np.array(cells.moments(self.times, roles.called(self.form.names, self.which.time)), np.float64)
        values = {k: self.values_of[n] for k, n in enumerate(self.which.inputs) if n in self.values_of}
        return inputs, labels, groups, times, values


class _Codes:
    """Encoder of texts as numbers, in order of first occurrence."""

    def __init__(self) -> None:
        self.codes = array("i")
        self.codes_of: dict[str, int] = {}

    def add(self, text: str) -> None:
        self.codes.append(self.codes_of.setdefault(text, len(self.codes_of)))

    def coded(self) -> Coded:
        return Coded(np.array(self.codes, np.int64), list(self.codes_of))
