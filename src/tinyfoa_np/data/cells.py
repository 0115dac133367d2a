"""Interpretation of a table's field: a number, a time, a missing value, or other text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from unicodedata import category

#: lower-case texts that stand for a missing value, in inputs and labels alike
MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "nat", "null", "none", "?"))
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+|\d*,\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_WHOLE = re.compile(r"([+-]?(?:0|[1-9]\d{0,18}))(?:\.0*)?", re.ASCII)
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp][Mm])?"
_ZONE = r"(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?"
_DATE = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})|\d{1,2}[- ][A-Za-z]{3}[- ]\d{2,4}"
_TIME = re.compile(rf"(?:(?:{_DATE})(?:(?:T|,? +){_CLOCK})?|{_CLOCK}){_ZONE}", re.ASCII)


def is_missing(field: str) -> bool:
    """Whether a field stands for a missing value."""
    return field.strip().lower() in MISSING


def control_character(text: str) -> str:
    """The first character that no text contains, such as a zero byte; empty if there is none."""
    if text.isprintable():
        return ""
    return next((each for each in text if category(each) == "Cc" and each not in "\t\n\r"), "")


def is_number(field: str) -> bool:
    """Whether text is a decimal number in ASCII, with a decimal point or comma; 1_000 and inf are not."""
    return _NUMBER.fullmatch(field.strip()) is not None


def may_be_thousands(field: str) -> bool:
    """Whether the comma of a number can be a thousands separator, as in 1,234."""
    return _THOUSANDS.fullmatch(field.strip()) is not None


def is_time(field: str) -> bool:
    """Whether text is a date, a time of day, or both."""
    return _TIME.fullmatch(field.strip()) is not None


def number(field: str) -> float:
    """The number in a field; raises ValueError if it is not a number."""
    text = field.strip()
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a number")
    return float(text.replace(",", "."))


def whole(label: str) -> int | None:
    """The integer that a label spells, such as 3, -1, +1 or 2.0; None for any other text, and for 007."""
    match = _WHOLE.fullmatch(label)
    value = int(match[1]) if match else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


def moments(fields: Sequence[str], where: str) -> list[float]:
    """Convert fields to times, in seconds or in the column's own unit; fields are numbers, or dates and times.

    Parameters
    ----------
    fields : sequence of str
        Fields of one column.
    where : str
        Name of the column in messages.

    Raises
    ------
    ValueError
        If a field is neither, or if day and month are ambiguous; the message gives the reason.
    """
    if all(_NUMBER.fullmatch(field) for field in fields):
        return [number(field) for field in fields]
    parts = [re.match(r"(\d{1,2})[-/.](\d{1,2})[-/.]", field) for field in fields]
    first, second = (max((int(m[k]) for m in parts if m), default=0) for k in (1, 2))
    slashes = any(m and "/" in m[0] for m in parts)
    if slashes and first <= 12 and second <= 12:
        raise ValueError(f"{where}: day and month cannot be told apart in {fields[0]!r}: write 2024-12-31")
    order = "%m/%d" if slashes and second > 12 else "%d/%m"
    return [_moment(field, order, where) for field in fields]


def _moment(field: str, order: str, where: str) -> float:
    text = re.sub(r"(?<=\d),(?=\d)", ".", field.strip().replace("UTC", "Z").replace(" Z", "Z"))
    day, _, rest = text.replace("T", " ").partition(" ")
    day, rest = ("", day) if ":" in day else (day.replace(".", "/").replace("-", "/"), rest.strip())
    zone = re.search(r"(Z|[+-]\d{2}:?\d{2})$", rest)
    clock = rest[: zone.start()] if zone else rest
    dates = ("%Y/%m/%d",) if re.match(r"\d{4}/", day) else (f"{order}/%Y", f"{order}/%y") if day else ("",)
    clocks = ("%H:%M:%S.%f", "%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p") if clock else ("",)
    for date in dates:
        for style in clocks:
            try:
                read = datetime.strptime(f"{day} {clock[:15] if '.' in clock else clock}", f"{date} {style}")
                offset = datetime.strptime(zone[1], "%z").utcoffset() if zone else None
            except ValueError:
                continue
            seconds = (read.replace(tzinfo=timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()
            return seconds - (offset.total_seconds() if offset else 0)
    raise ValueError(f"{where}: {field[:40]!r} is not a time: write numbers, or 2024-12-31 23:59:59")
