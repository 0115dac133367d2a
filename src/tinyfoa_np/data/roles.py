"""Roles of a table's columns: inputs, label, group, time, and columns omitted as uninformative.

A time or an identifier among the inputs lets a network recognize samples by when or from whom they come. This works on
test samples shuffled out of the same log, and on nothing else. Such columns are detected by their values and names,
omitted and reported; ``keep`` trains on them nevertheless.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyfoa_np.data.cells import is_missing, is_number, is_time, whole
from tinyfoa_np.data.csv_form import LABELS
from tinyfoa_np.data.one_hot import MOST_VALUES, width_of
from tinyfoa_np.data.reading import LISTS, Reading
from tinyfoa_np.errors import BadRequest

TIME, IDENTIFIER, COUNTER = "times", "identifiers", "a count of the rows"
_TIMES = frozenset(("time", "timestamp", "timestamps", "datetime", "date", "ts", "epoch", "millis", "micros", "uptime"))
_WHO = frozenset(("id", "ids", "uuid", "guid", "subject", "participant", "patient", "user", "session"))
_WHICH = frozenset(("index", "idx", "row", "nr", "no", "number", "seq", "sequence", "sample", "record", "unnamed"))
#: minimum number of rows for which order and differences of all values are not a coincidence
_ENOUGH = 20


class Roles(NamedTuple):
    """Positions of a table's columns by role, from 0; -1 if there is none.

    ``inputs`` are in the order in which the network sees them; those in ``one_hot`` become an input per value.
    """

    inputs: list[int]
    label: int = -1
    group: int = -1
    time: int = -1
    one_hot: tuple[int, ...] = ()


class Known(NamedTuple):
    """Description of the training table, for finding its columns in another table.

    Attributes
    ----------
    reading : Reading
    names : list of str or None
        Names of the inputs; None if there was no header.
    label : str or None
        Name of the label in the header.
    places : list of int
        Positions of the inputs.
    total : int
        Number of columns of the table.
    label_at : int
        Position of the label.
    medians : ndarray (I,), float64, or None
        Replacements for missing values, for each input that the network sees.
    values : list of lists of str, or None
        For each input column, its values if there is an input of 0 or 1 per value, otherwise an empty list.
    """

    reading: Reading
    names: list[str] | None
    label: str | None
    places: list[int]
    total: int
    label_at: int
    medians: np.ndarray | None = None
    values: list[list[str]] | None = None

    def called(self) -> list[str]:
        """For each input that the network sees, its column as :func:`place_of` finds it: a name, or a number from 1."""
        columns = self.names or [str(place + 1) for place in self.places]
        values = self.values or [[]] * len(columns)
        return [column for column, own in zip(columns, values) for _ in own or [""]]

    def to_record(self) -> dict[str, Any]:
        """A JSON-compatible dictionary of the fields."""
        about = self._asdict() | {"reading": self.reading.to_record()}
        about["medians"] = None if self.medians is None else self.medians.tolist()
        return {name: value for name, value in about.items() if value is not None}

    @classmethod
    def from_record(cls, record: Any) -> Known:
        """Restore the description from :meth:`to_record`; raises `BadRequest` if the record is invalid."""
        try:
            about = dict(record)
            reading = Reading.from_record(about.pop("reading"))
            names, label, medians, values = (about.pop(name, None) for name in ("names", "label", "medians", "values"))
            known = cls(reading, names, label, **about)
            places, width = known.places, len(known.places)
            if not all(type(n) is int for n in (known.total, known.label_at, *places)):
                raise ValueError("a place is not a number")
            if not width or len(set(places)) < width or not 0 <= min(places) <= max(places) < known.total <= 2**24:
                raise ValueError("places are not those of columns")
            if not -1 <= known.label_at < known.total or known.label_at in places:
                raise ValueError("the label has no place")
            if names is not None:
                distinct = all(type(name) is str for name in names) and len(set(names)) == width
                if len(names) != width or not distinct:
                    raise ValueError("names are not those of the inputs")
            if label is not None and type(label) is not str:
                raise ValueError("the label has no name")
            if values is not None:
                _check_values(values, width)
                known = known._replace(values=values)
            if medians is not None:
                if len(medians) != width_of(values, width) or not all(type(value) in (int, float) for value in medians):
                    raise ValueError("medians are not those of the inputs")
                known = known._replace(medians=(finite := np.array(medians, np.float64)))
                if not np.isfinite(finite).all():
                    raise ValueError("a median is not finite")
            return known
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise BadRequest(f"how the samples were read is not known: {error}") from error


def _check_values(values: Any, width: int) -> None:
    """Refuse values that are not one list per column, of different texts; raises ValueError or TypeError."""
    if type(values) is not list or len(values) != width:
        raise ValueError("values are not those of the inputs")
    for own in values:
        right = type(own) is list and len(own) <= MOST_VALUES and all(type(value) is str for value in own)
        if not right or len(set(own)) < len(own) or any(map(is_missing, own)):
            raise ValueError("values are not those of a column")


# -- a table to train on -----------------------------------------------------------------------------------------------


def assigned(
    path: str, names: Sequence[str] | None, rows: Sequence[Sequence[str]], count: int, reading: Reading
) -> tuple[Roles, dict[int, str]]:
    """Roles of a table's columns, and the omitted columns with reasons, as far as its first rows determine them.

    Raises
    ------
    BadRequest
        If a named column is missing, or an input column contains text.
    """
    if not count:
        raise BadRequest(f"{path} is empty")
    if count < 2:
        raise BadRequest(f"{path} has one column: inputs and a label are needed, with commas between them")
    places = {name: place_of(path, names, count, getattr(reading, name)) for name in ("label", "group", "time")}
    dropped, kept, one_hot = (
        {place_of(path, names, count, column) for column in getattr(reading, name)} for name in LISTS
    )
    if places["label"] < 0:
        free = [n for n in range(count) if n not in dropped | kept | one_hot | {places["group"], places["time"]}]
        if not free:
            raise BadRequest(f"{path} has no column left for the label: use --label COLUMN")
        named = named_label(names, rows) if names else -1
        places["label"] = named if named in free else free[-1]
    roles = [*places.values(), *dropped]
    if len({n for n in (*roles, *kept, *one_hot) if n >= 0}) < sum(n >= 0 for n in roles) + len(kept) + len(one_hot):
        raise BadRequest(
            f"{path}: a column is named twice among label, group, time, drop, keep and one-hot: name it once"
        )
    inputs, left_out = [], {}
    texts: dict[int, str] = {}
    for n in range(count):
        if n in roles:
            continue
        fields = [field for row in rows if len(row) == count and not is_missing(field := row[n].strip())]
        if n not in kept | one_hot and fields and not any(map(is_number, fields)):
            why = _text(names, n, fields)
            if why:
                left_out[n] = why
                continue
            if len(fields) >= 3:  # with fewer, reading reports the line
                texts[n] = fields[0]
        inputs.append(n)
    if texts:
        raise _of_text(path, names, texts)
    if not inputs:
        raise BadRequest(f"{path} has no column left for the inputs")
    return Roles(inputs, **places, one_hot=tuple(sorted(one_hot))), left_out


def place_of(path: str, names: Sequence[str] | None, count: int, column: str | None) -> int:
    """Position of a column by its name, or by its number from 1; -1 for None.

    Raises
    ------
    BadRequest
        If there is none, or more than one.
    """
    if column is None:
        return -1
    lower = column.strip().lower()
    exact = [n for n, name in enumerate(names or ()) if name == column]
    for found in (exact, [n for n, name in enumerate(names or ()) if name.lower() == lower]):
        if len(found) > 1:
            raise BadRequest(f"{path} has {len(found)} columns called {column!r}: name it by its number, from 1")
        if found:
            return found[0]
    if column.isascii() and column.isdigit() and len(column) < 9 and 1 <= int(column) <= count:
        return int(column) - 1
    has = f"it has {', '.join(map(repr, names))}"[:200] if names else f"it has {count}, without names"
    raise BadRequest(f"{path} has no column {column!r}: {has}")


def named_label(names: Sequence[str], rows: Sequence[Sequence[str]] = ()) -> int:
    """Position of the column whose header says that it is the label; -1 if there is none.

    ``y`` next to ``z``, or with measurements in the first rows, is an axis of a sensor, not a label.
    """
    small = [name.lower() for name in names]
    found = next((name for name in LABELS if name in small), None)
    if found is None:
        return -1
    place = small.index(found)
    fields = [row[place].strip() for row in rows if len(row) == len(small)]
    if found == "y" and ("z" in small or any(is_number(field) and whole(field) is None for field in fields)):
        return -1
    return place


def called(names: Sequence[str] | None, place: int) -> str:
    """Name of a column for messages."""
    return f"column {names[place][:40]!r}" if names and names[place] else f"column {place + 1}"


def _text(names: Sequence[str] | None, place: int, fields: Sequence[str]) -> str | None:
    """The reason for omitting a column of text; None if there is none."""
    if 2 * sum(map(is_time, fields)) > len(fields):
        return TIME
    if len(fields) >= _ENOUGH and len(set(fields)) == len(fields) or names and _words(names[place]) & _WHO:
        return IDENTIFIER
    return None


def _of_text(path: str, names: Sequence[str] | None, texts: dict[int, str]) -> BadRequest:
    """An error that names all columns of text, each with one of its values, and what can be done."""
    named = [names[place] if names and names[place] else str(place + 1) for place in texts]
    first, every = named[0], ",".join(named)
    if len(texts) == 1:
        what = f"{called(names, min(texts))} holds text ({texts[min(texts)][:40]!r}), not numbers; is it"
    else:
        shown = ", ".join(f"{called(names, place)} ({text[:20]!r})" for place, text in texts.items())
        what = f"{shown[:200]} hold text, not numbers; are they"
    return BadRequest(
        f"{path}: {what} the label (--label {first}), whom samples are from (--group {first}), inputs of 0 or 1 per "
        f"value (--one-hot {every}), or to be left out (--drop {every})?"
    )


# -- what numbers tell -------------------------------------------------------------------------------------------------


def why_no_input(name: str, values: np.ndarray) -> str | None:
    """The reason why a numeric column (N,), in table order, is not an input (time, identifier); None if it is one."""
    values = values[np.isfinite(values)]
    if len(values) < 3:
        return None
    words, steps = _words(name), np.diff(values)
    whole = bool((values == np.floor(values)).all())
    if whole and (steps == 1).all() and (values[0] in (0, 1) or len(values) >= _ENOUGH):
        return COUNTER
    rising = (steps >= 0).mean() >= 0.95 and (steps != 0).mean() >= 0.5
    if rising and (words & _TIMES or any(1e9 * unit <= values.min() <= values.max() < 2.5e9 * unit for unit in _UNITS)):
        return TIME
    if len(values) >= _ENOUGH and steps[0] > 0:
        even = (values[-1] - values[0]) / len(steps)
        if np.abs(values - values[0] - even * np.arange(len(values))).max() <= 0.01 * even:
            return TIME
    if whole and words & _WHO:
        return IDENTIFIER
    if whole and (len(values) >= _ENOUGH or words & _WHICH or not name):
        ordered = np.sort(values)
        if (ordered[1:] > ordered[:-1]).all() and (
            words & _WHICH or not name or ordered[-1] - ordered[0] < len(values)
        ):
            return IDENTIFIER
    return None


_UNITS = (1, 1e3, 1e6, 1e9)  # seconds, milliseconds, and so on, since 1970


def _words(name: str) -> set[str]:
    """The words in a column's name: subject_id, subjectId and "Subject ID" have two."""
    return set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


# -- a table of new samples --------------------------------------------------------------------------------------------


def in_new_table(path: str, names: Sequence[str] | None, count: int, known: Known) -> Roles:
    """Roles of the columns of another table: by name if both have a header, else by position.

    Raises
    ------
    BadRequest
        If a column is missing; the message says which, or the expected number of columns.
    """
    reading = known.reading
    if names and known.names:
        missing = [name for name in known.names if name not in names]
        if missing:
            shown = ", ".join(map(repr, missing[:4])) + (" and others" if len(missing) > 4 else "")
            raise BadRequest(f"{path} has no column {shown}: the model was trained on {', '.join(known.names)[:200]}")
        label = names.index(known.label) if known.label in names else named_label(names)
        label = -1 if label >= 0 and names[label] in known.names else label
        group, time = (_there(path, names, count, column) for column in (reading.group, reading.time))
        inputs = [names.index(name) for name in known.names]
        return Roles(inputs, label, group, time, _with_values(inputs, known))
    if count == known.total:
        group, time = (_there(path, names, count, column) for column in (reading.group, reading.time))
        return Roles(known.places, known.label_at, group, time, _with_values(known.places, known))
    if count == known.total - 1 and known.label_at >= 0:
        inputs = [n - (n > known.label_at) for n in known.places]
        return Roles(inputs, one_hot=_with_values(inputs, known))
    if count == len(known.places):
        return Roles(list(range(count)), one_hot=_with_values(range(count), known))
    more = "" if known.label_at < 0 else f", or {known.total - 1} without a label"
    raise BadRequest(f"{path} has {count} columns: {known.total}{more} are needed, as in training")


def _with_values(places: Sequence[int], known: Known) -> tuple[int, ...]:
    """The places of input columns that have an input per value."""
    return tuple(n for n, own in zip(places, known.values or ()) if own)


def _there(path: str, names: Sequence[str] | None, count: int, column: str | None) -> int:
    """Position of an optional column of new samples; -1 if it is missing."""
    try:
        return place_of(path, names, count, column)
    except BadRequest:
        return -1
