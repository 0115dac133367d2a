"""Columns of text as inputs: one column of 0 and 1 per value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyfoa_np.data import cells
from tinyfoa_np.errors import BadRequest

#: maximum number of values of a column
MOST_VALUES = 256


class Values:
    """The values of a column, and their numbers.

    Parameters
    ----------
    where : str
        Name of the file and the column in messages.
    known : sequence of str, optional
        The values of the training samples; any others are refused. By default values are collected.
    """

    def __init__(self, where: str, known: Sequence[str] | None = None) -> None:
        self.where, self.fixed = where, known is not None
        self.numbers = {value: n for n, value in enumerate(known or ())}

    def number(self, text: str, at: str) -> float:
        """Number of a value; NaN if it is missing.

        Raises
        ------
        BadRequest
            If a value was not among the training samples', is not text, or is one too many; ``at`` says where it is.
        """
        if cells.is_missing(text):
            return float("nan")
        found = self.numbers.get(text)
        if found is not None:
            return float(found)
        if self.fixed:
            known = ", ".join(map(repr, self.numbers))[:200]
            raise BadRequest(f"{at}: {text[:40]!r} is none of the values trained on: {known}")
        if control := cells.control_character(text):
            raise BadRequest(f"{at}: {text[:40]!r} is not text: it contains {control!r}")
        if len(self.numbers) == MOST_VALUES:
            raise BadRequest(f"{self.where} has more than {MOST_VALUES} values: leave it out (--drop), or group them")
        return float(self.numbers.setdefault(text, len(self.numbers)))

    def in_order(self) -> list[str]:
        """The values, sorted, so that the order of samples has no influence; a training column must have one."""
        if not self.numbers:
            raise BadRequest(f"{self.where} has no value: leave it out (--drop)")
        return list(self.numbers) if self.fixed else sorted(self.numbers)


def spread(inputs: np.ndarray, columns: dict[int, Values]) -> tuple[np.ndarray, list[list[str]] | None]:
    """Replace columns of numbers of values by columns of 0 and 1.

    Parameters
    ----------
    inputs : ndarray (N, K), float64
    columns : dict of int to Values
        The values of such columns, by their position among the K.

    Returns
    -------
    ndarray (N, I), float64
        A missing value is NaN in all of its column's new ones.
    list of K lists of str, or None
        The values in order, empty for other columns; None if there are no such columns.
    """
    if not columns:
        return inputs, None
    values: list[list[str]] = [columns[k].in_order() if k in columns else [] for k in range(inputs.shape[1])]
    parts = []
    for k, own in enumerate(values):
        column = inputs[:, k : k + 1]
        if own:
            hot = (column == [columns[k].numbers[value] for value in own]).astype(np.float64)
            column = np.where(np.isnan(column), np.nan, hot)
        parts.append(column)
    return np.concatenate(parts, axis=1), values


def names_of(names: Sequence[str], values: list[list[str]] | None) -> list[str]:
    """Names of inputs after :func:`spread`: ``mode=belt`` for a value of the column ``mode``.

    Examples
    --------
    >>> names_of(["x", "mode"], [[], ["belt", "wrist"]])
    ['x', 'mode=belt', 'mode=wrist']
    """
    if values is None:
        return list(names)
    return [f"{name}={value}" if value else name for name, own in zip(names, values) for value in own or [""]]


def width_of(values: list[list[str]] | None, columns: int) -> int:
    """Number of inputs after :func:`spread`."""
    return columns if values is None else sum(max(1, len(own)) for own in values)
