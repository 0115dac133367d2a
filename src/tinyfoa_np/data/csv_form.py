"""Detect the form of a CSV file: its encoding, the separator of its columns, and whether its first line names them.

Python's `csv.Sniffer` counts characters, quoted or not. Here the CSV reader tries each separator on the first lines;
the best one yields rows of equal width made of numbers.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TextIO

from tinyfoa_np.data.cells import is_missing, is_number, is_time, number
from tinyfoa_np.data.limits import LINE

DELIMITERS = ",;\t|"
#: lower-case column names that denote the label
LABELS = ("label", "class", "target", "y")
#: number of lines and characters examined at the beginning
_LINES, _CHARACTERS = 200, 1 << 20
AMBIGUOUS = "its first line may be a sample or the columns' names: use --header or --no-header"


class Form(NamedTuple):
    """How to read a file.

    Attributes
    ----------
    delimiter : str
    skipped : int
        Number of lines before the table: ``sep=;``, comments.
    rows : list of list of str
        The first rows, without the header.
    names : list of str or None
        Column names from the header, if there is one.
    commented : bool
        Whether the column names are in a comment before the table.
    """

    delimiter: str
    skipped: int
    rows: list[list[str]]
    names: list[str] | None
    commented: bool = False


def lines_of(file: TextIO) -> Iterator[str]:
    """The lines of a text file, none longer than :data:`.limits.LINE`.

    Raises
    ------
    ValueError
        If a line is longer.
    """
    while line := file.readline(LINE + 1):
        if len(line) > LINE:
            raise ValueError(f"a line is longer than {LINE:,} characters")
        yield line


def encoding_of(start: bytes) -> str:
    """Encoding of a file by its first bytes: UTF-8, or UTF-16 as in a spreadsheet's "Unicode text"."""
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def form_of(
    lines: Sequence[str], header: bool | None = None, wanted: Sequence[str] | None = None, labelled: bool = True
) -> Form:
    """Detect the form of a file from its first lines.

    Parameters
    ----------
    lines : sequence of str
    header : bool, optional
        Whether the first line names the columns; by default detected.
    wanted : sequence of str, optional
        Column names; a line that contains all of them is the header.
    labelled : bool
        As for :func:`is_header`.

    Raises
    ------
    ValueError
        If the form is ambiguous; the message says what to do.
    """
    skipped, separator, comment = _before(lines)
    sample = lines[skipped:]
    delimiter = separator or max(DELIMITERS, key=lambda each: _fitness(sample, each))
    rows = _rows(sample, delimiter)
    if not rows:
        list(csv.reader(sample, delimiter=delimiter, strict=True))  # raises an error that describes the first line
        return Form(delimiter, skipped, [], None)
    names = [field.strip() for field in rows[0]]
    if header or header is None and wanted and set(wanted) <= set(names):
        return Form(delimiter, skipped, rows[1:], names)
    if comment and header is None:  # as written by NumPy's savetxt: # a,b,label
        named = [field.strip() for field in _rows([comment], delimiter)[0]]
        if len(named) == len(names) and not any(map(is_number, named)):
            return Form(delimiter, skipped, rows, named, commented=True)
    if header is None and is_header(rows, labelled):
        return Form(delimiter, skipped, rows[1:], names)
    return Form(delimiter, skipped, rows, None)


def sample_of(lines: Iterator[str]) -> list[str]:
    """The first lines, as many as are examined."""
    sample, size = [], 0
    for line in lines:
        sample.append(line)
        size += len(line)
        if len(sample) == _LINES or size > _CHARACTERS:
            break
    return sample


def _before(lines: Sequence[str]) -> tuple[int, str | None, str]:
    """Number of lines before the table, the separator given in one of them, and the last comment's text."""
    separator, comment, n = None, "", 0
    for n, line in enumerate(lines):
        text = line.strip().strip('"')
        match = re.fullmatch(r"(?i)sep=(.)", line.strip("\r\n").strip('"'))
        if match and not n:
            separator = match[1]
        elif text.startswith("#"):
            comment = text.lstrip("# ")
        elif text:
            return n, separator, comment
    return (n + 1 if lines else 0), separator, comment


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """The rows of some lines, up to the first malformed one; an empty last column is omitted."""
    rows = []
    try:
        for fields in csv.reader(lines, delimiter=delimiter, strict=True):
            if any(field.strip() for field in fields):
                rows.append(fields)
    except csv.Error:
        pass  # a quoted field cut off by the sample, or damage that reading will report
    return trimmed(rows)


def trimmed(rows: list[list[str]]) -> list[list[str]]:
    """Remove the empty field after a trailing separator from all rows, with or without one in the header."""
    if not rows or len(rows[0]) < 2:
        return rows
    width = Counter(map(len, rows[1:] or rows)).most_common(1)[0][0]
    if all(not row[-1].strip() for row in rows[1:] or rows if len(row) == width):
        if len(rows[0]) == width - 1 or not rows[0][-1].strip():
            return [row[: width - 1] if len(row) == width and not row[-1].strip() else row for row in rows]
    return rows


def _fitness(lines: Sequence[str], delimiter: str) -> tuple[float, int, int]:
    """Rate a separator: rows of equal width, fields that are numbers; text without other separators; then the width."""
    rows = _rows(lines, delimiter)
    if not rows:
        return 0.0, 0, 1
    width, same = Counter(map(len, rows)).most_common(1)[0]
    if width < 2:
        return 0.0, 0, 1
    fields = [field for row in rows[1:] or rows for field in row if not is_missing(field)]
    numbers = sum(map(is_number, fields)) + sum(map(is_time, fields))
    broken = 0 if len(rows) * 2 >= sum(1 for line in lines if line.strip()) else 1  # a misplaced quote
    torn = sum(any(each in field for each in DELIMITERS) for field in fields if not is_number(field))
    return same / len(rows) + numbers / max(1, len(fields)) - broken, -torn, width


# -- the header --------------------------------------------------------------------------------------------------------


def is_header(rows: Sequence[Sequence[str]], labelled: bool = True) -> bool:
    """Whether the first of some rows names the columns.

    It does if one of its fields is called label, class, target or y; if it has text above numbers or times; or if its
    numbers count up, or increase and lie far from all values in the columns below.

    Parameters
    ----------
    rows : sequence of sequence of str
    labelled : bool
        Whether the last column may be a label; if not, numeric names are not considered.

    Raises
    ------
    ValueError
        If the row is ambiguous.
    """
    first, below = [field.strip() for field in rows[0]], [row for row in rows[1:] if len(row) == len(rows[0])]
    if any(name.lower() in LABELS for name in first):
        return True
    if not below:
        return not any(map(is_number, first)) and any(not is_missing(name) for name in first)
    columns = [[field for row in below if not is_missing(field := row[n].strip())] for n in range(len(first))]
    kinds = [_kind(column) for column in columns]
    inputs = len(first) - labelled
    judged = [(name, kind) for name, kind in zip(first[:inputs], kinds) if kind != "text" and not is_missing(name)]
    odd = sum(_kind([name]) != kind for name, kind in judged)  # names above numbers or times
    if not labelled:
        return odd > 0 and odd == len(judged)
    label, again = first[-1], first[-1] in columns[-1]
    if kinds[-1] != "text" and not again and not is_missing(label) and _kind([label]) == "text":
        return True
    if odd:
        return odd == len(judged) or not again or _counts(first[:-1])
    if judged and (_counts(first) or _counts(first[:-1]) and not again) and not any(_counts(row) for row in below[:20]):
        decimals = any(column and all("." in f or "," in f for f in column) for column in columns[:-1])
        if not decimals and len(first) <= 5:
            raise ValueError(AMBIGUOUS)
        return True
    if not judged and not again and not any(map(is_missing, first)):  # all inputs are text
        return all(name not in column for name, column in zip(first, columns))
    rising = [float(name) for name in first[:-1] if is_number(name) and "," not in name]
    if again or len(rising) < 3 or len(rising) < len(judged) or not all(a < b for a, b in pairwise(rising)):
        return False
    if all(_far(name, column) for name, column, kind in zip(first, columns, kinds) if kind == "number"):
        return True
    if kinds[-1] == "text":
        raise ValueError(AMBIGUOUS)
    return False


def _kind(fields: Sequence[str]) -> str:
    """The kind of most fields: number, time or text; number if there are no fields."""
    if not fields:
        return "number"
    if 2 * sum(map(is_number, fields)) >= len(fields):
        return "number"
    return "time" if 2 * sum(map(is_time, fields)) >= len(fields) else "text"


def _counts(fields: Sequence[str]) -> bool:
    """Whether fields are at least three integers counting up from 0 or 1; the first field may be empty or text."""
    names = fields[0 if fields and re.fullmatch("[01]", fields[0]) else 1 :]
    if len(names) < 3 or names[0] not in ("0", "1"):
        return False
    return all(name == str(n) for n, name in enumerate(names, int(names[0])))


def _far(name: str, column: Sequence[str]) -> bool:
    """Whether a number is further from all values of a column than they are from each other."""
    held = [number(field) for field in column if is_number(field)]
    return not held or not min(held) * 2 - max(held) <= number(name) <= max(held) * 2 - min(held)
