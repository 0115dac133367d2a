"""How to read your own files: roles of columns, treatment of gaps, and division of a long log into samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tinyfoa_np.errors import BadRequest

MISSING = ("refuse", "median")
#: fields that are lists of columns
LISTS = ("drop", "keep", "one_hot")


@dataclass(frozen=True)
class Reading:
    """How to read a table. Columns are given by name in the header, or by number from 1.

    Parameters
    ----------
    label : str, optional
        Column of labels; by default the one called label, class, target or y, else the last.
    drop : tuple of str
        Columns to omit.
    keep : tuple of str
        Columns to train on even if they look like times or identifiers.
    one_hot : tuple of str
        Columns of text, or of numbers that are codes: an input of 0 or 1 per value.
    group : str, optional
        Column of groups of related samples, for example a person's: the test set consists of whole groups.
    time : str, optional
        Column of times: the last fifth of the samples is the test set; with ``group``, the last fifth of each group.
    missing : str
        Treatment of missing values, one of :data:`MISSING`; ``median`` uses the median of the training samples.
    window, step : int, optional
        Cut a log into samples of ``window`` rows, starting every ``step`` rows (by default ``window``).
    header : bool, optional
        Whether the first line names the columns; by default detected.
    """

    label: str | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    one_hot: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    missing: str = "refuse"
    window: int | None = None
    step: int | None = None
    header: bool | None = None

    def validated(self) -> Reading:
        """A copy with ``step`` filled in, and lists as tuples.

        Raises
        ------
        BadRequest
            If a value is out of range, or two values contradict each other.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("label", "group", "time"):
            if values[name] is not None:
                values[name] = str(values[name])
        for name in LISTS:
            values[name] = (values[name],) if isinstance(values[name], (str, int)) else values[name]
            values[name] = tuple(map(str, values[name]))
        if self.missing not in MISSING:
            raise BadRequest(f"missing is {self.missing!r}: it must be one of {', '.join(MISSING)}")
        if self.step is not None and self.window is None:
            raise BadRequest("step applies with window only: give both")
        for name in ("window", "step"):
            value = values[name]
            if value is None:
                continue
            value = value.item() if hasattr(value, "item") else value  # convert NumPy integers
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
                raise BadRequest(f"{name} is {str(value)[:40]}: a number of rows from 1 on is needed")
            values[name] = value
        if values["window"] and values["step"] is None:
            values["step"] = values["window"]
        roles = [values[name] for name in ("label", "group", "time") if values[name] is not None]
        roles += [column for name in LISTS for column in values[name]]
        twice = next((name for n, name in enumerate(roles) if name in roles[:n]), None)
        if twice is not None:
            raise BadRequest(
                f"column {twice!r} is named twice among label, group, time, drop, keep and one-hot: name it once"
            )
        return Reading(**values)

    def to_record(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as a JSON-compatible dictionary."""
        usual = Reading()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value != getattr(usual, name)
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Reading:
        """Restore a reading from :meth:`to_record`; raises `BadRequest` if the record is invalid."""
        kinds: dict[str, Any] = {**dict.fromkeys(LISTS, list), "window": int, "step": int, "header": bool}
        known = {field.name for field in fields(cls)}
        for name, value in record.items():
            right = isinstance(value, kinds.get(name, str)) and (name not in ("window", "step") or type(value) is int)
            if name not in known or not right or isinstance(value, list) and not all(type(v) is str for v in value):
                raise BadRequest(f"not a way to read data: {str(name)[:40]} is {str(value)[:40]}")
        return cls(**record).validated()
