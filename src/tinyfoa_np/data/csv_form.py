"""What a CSV file looks like: its encoding, what separates its columns, and whether its first line names them.

Python's own `csv.Sniffer` counts characters, quoted or not. Here each separator is tried on the first lines by the
reader that will read the file: right is the one that makes rows of one width out of numbers.
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
#: names, in small letters, that say that a column is the label
LABELS = ("label", "class", "target", "y")
#: lines and characters that are looked at before the first is read
_LINES, _CHARACTERS = 200, 1 << 20
AMBIGUOUS = "its first line may be a sample or the columns' names: use --header or --no-header"


class Form(NamedTuple):
    """How a file is to be read.

    Attributes
    ----------
    delimiter : str
    skipped : int
        Lines before the table: ``sep=;``, comments.
    rows : list of list of str
        The first rows, without the names of the columns.
    names : list of str or None
        What the first line of the table calls the columns, if it does.
    commented : bool
        Whether a comment before the table has the names.
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
        If one is.
    """
    while line := file.readline(LINE + 1):
        if len(line) > LINE:
            raise ValueError(f"a line is longer than {LINE:,} characters")
        yield line


def encoding_of(start: bytes) -> str:
    """The encoding of a file that begins so: UTF-8, or the UTF-16 of a spreadsheet's "Unicode text"."""
    return "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def form_of(
    lines: Sequence[str], header: bool | None = None, wanted: Sequence[str] | None = None, labelled: bool = True
) -> Form:
    """What a file is like whose first lines these are.

    Parameters
    ----------
    lines : sequence of str
    header : bool, optional
        Whether the first line names the columns; without it, that is found out.
    wanted : sequence of str, optional
        Names of columns: a line that has them all is the header.
    labelled : bool
        As for :func:`is_header`.

    Raises
    ------
    ValueError
        If that cannot be found out; the message says what to do.
    """
    skipped, told, comment = _before(lines)
    sample = lines[skipped:]
    delimiter = told or max(DELIMITERS, key=lambda each: _fitness(sample, each))
    rows = _rows(sample, delimiter)
    if not rows:
        list(csv.reader(sample, delimiter=delimiter, strict=True))  # says what is wrong with the first line
        return Form(delimiter, skipped, [], None)
    names = [field.strip() for field in rows[0]]
    if header or header is None and wanted and set(wanted) <= set(names):
        return Form(delimiter, skipped, rows[1:], names)
    if comment and header is None:  # as NumPy's savetxt writes it: # a,b,label
        named = [field.strip() for field in _rows([comment], delimiter)[0]]
        if len(named) == len(names) and not any(map(is_number, named)):
            return Form(delimiter, skipped, rows, named, commented=True)
    if header is None and is_header(rows, labelled):
        return Form(delimiter, skipped, rows[1:], names)
    return Form(delimiter, skipped, rows, None)


def sample_of(lines: Iterator[str]) -> list[str]:
    """The first lines, as many as are looked at."""
    sample, size = [], 0
    for line in lines:
        sample.append(line)
        size += len(line)
        if len(sample) == _LINES or size > _CHARACTERS:
            break
    return sample


def _before(lines: Sequence[str]) -> tuple[int, str | None, str]:
    """How many lines come before the table, the separator that one of them names, and the last comment's text."""
    told, comment, n = None, "", 0
    for n, line in enumerate(lines):
        text = line.strip().strip('"')
        match = re.fullmatch(r"(?i)sep=(.)", line.strip("\r\n").strip('"'))
        if match and not n:
            told = match[1]
        elif text.startswith("#"):
            comment = text.lstrip("# ")
        elif text:
            return n, told, comment
    return (n + 1 if lines else 0), told, comment


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """The rows of some lines, up to one that is not well formed; an empty last column is left out."""
    rows = []
    try:
        for fields in csv.reader(lines, delimiter=delimiter, strict=True):
            if any(field.strip() for field in fields):
                rows.append(fields)
    except csv.Error:
        pass  # a quoted field that the sample cuts, or damage that reading will report
    return trimmed(rows)


def trimmed(rows: list[list[str]]) -> list[list[str]]:
    """Rows without the empty field that follows a separator at the end of every line, the header's or not."""
    if not rows or len(rows[0]) < 2:
        return rows
    width = Counter(map(len, rows[1:] or rows)).most_common(1)[0][0]
    if all(not row[-1].strip() for row in rows[1:] or rows if len(row) == width):
        if len(rows[0]) == width - 1 or not rows[0][-1].strip():
            return [row[: width - 1] if len(row) == width and not row[-1].strip() else row for row in rows]
    return rows


def _fitness(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """How well a separator fits: rows of one width, fields that are numbers; then the number of columns."""
    rows = _rows(lines, delimiter)
    if not rows:
        return 0.0, 1
    width, same = Counter(map(len, rows)).most_common(1)[0]
    if width < 2:
        return 0.0, 1
    fields = [field for row in rows[1:] or rows for field in row if not is_missing(field)]
    numbers = sum(map(is_number, fields)) + sum(map(is_time, fields))
    broken = 0 if len(rows) * 2 >= sum(1 for line in lines if line.strip()) else 1  # a quote where none may be
    return same / len(rows) + numbers / max(1, len(fields)) - broken, width


# -- the header --------------------------------------------------------------------------------------------------------


def is_header(rows: Sequence[Sequence[str]], labelled: bool = True) -> bool:
    """Whether the first of some rows names the columns.

    It does if one of its fields is called label, class, target or y; if it has text where the rows below have numbers
    or times; or if its numbers count up, or rise and lie far from everything that the columns below have.

    Parameters
    ----------
    rows : sequence of sequence of str
    labelled : bool
        Whether the last column may be a label; without one, names that are numbers are not looked for.

    Raises
    ------
    ValueError
        If it may be either.
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
    odd = sum(_kind([name]) != kind for name, kind in judged)  # names over numbers or times
    if not labelled:
        return odd > 0 and odd == len(judged)
    label, again = first[-1], first[-1] in columns[-1]
    if kinds[-1] != "text" and not is_missing(label) and _kind([label]) == "text":
        return True
    if odd:
        return odd == len(judged) or not again or _counts(first[:-1])
    if judged and (_counts(first) or _counts(first[:-1]) and not again) and not any(_counts(row) for row in below[:20]):
        decimals = any(column and all("." in f or "," in f for f in column) for column in columns[:-1])
        if not decimals and len(first) <= 5:
            raise ValueError(AMBIGUOUS)
        return True
    if not judged and not again and not any(map(is_missing, first)):  # all the inputs are text
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
    """What most of some fields are: number, time or text; number where there are none."""
    if not fields:
        return "number"
    if 2 * sum(map(is_number, fields)) >= len(fields):
        return "number"
    return "time" if 2 * sum(map(is_time, fields)) >= len(fields) else "text"


def _counts(fields: Sequence[str]) -> bool:
    """Whether fields are whole numbers that count from 0 or 1 on, three at least; the first may be empty or text."""
    names = fields[0 if fields and re.fullmatch("[01]", fields[0]) else 1 :]
    if len(names) < 3 or names[0] not in ("0", "1"):
        return False
    return all(name == str(n) for n, name in enumerate(names, int(names[0])))


def _far(name: str, column: Sequence[str]) -> bool:
    """Whether a number is further from all those of a column than they are from each other."""
    held = [number(field) for field in column if is_number(field)]
    return not held or not min(held) * 2 - max(held) <= number(name) <= max(held) * 2 - min(held)
