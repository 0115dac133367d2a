"""Columns that drift: their values depend on whom or when samples are from, more than on the class.

Two signs of it are looked for. A large share of the test values lies outside the range of the training values: by
chance that is about 2 in N. Or nearly all of a column's variance that classes do not explain lies between groups, as
for a temperature measured on one day per person: a network can recognize the person by it, and then the class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyfoa_np.data.arrays import shown

#: share of test values outside the training range; minimum number of them, and of samples per group on average; share
#: of variance between groups
OUTSIDE, LEAST, BETWEEN = 0.25, 10, 0.9
#: minimum number of groups, and maximum share of the variance that classes explain
GROUPS, EXPLAINED = 3, 0.5
#: maximum number of columns that a warning names
NAMED = 4


def outside(train: np.ndarray, test: np.ndarray, width: int) -> dict[int, str]:
    """Columns of which many test values are outside the training range, with the reason.

    Parameters
    ----------
    train, test : ndarray (n, I), float
        Samples; rows of ``width`` columns follow one another in each.
    width : int

    Examples
    --------
    >>> outside(np.arange(20.0).reshape(-1, 1), np.arange(15.0, 35).reshape(-1, 1), 1)
    {0: '75 % of the test values are outside the range of the training samples'}
    """
    if not len(train) or not len(test):
        return {}
    rows, values = train.reshape(-1, width), test.reshape(-1, width)
    counts = ((values < rows.min(axis=0)) | (values > rows.max(axis=0))).sum(axis=0)
    return {
        column: f"{100 * count / len(values):.0f} % of the test values are outside the range of the training samples"
        for column, count in enumerate(counts.tolist())
        if count >= max(LEAST, OUTSIDE * len(values))
    }


def between(inputs: np.ndarray, labels: np.ndarray, groups: np.ndarray, width: int, named: str) -> dict[int, str]:
    """Columns whose variance lies between groups, beyond what classes explain, with the reason.

    Parameters
    ----------
    inputs : ndarray (N, I), float
        Samples; rows of ``width`` columns follow one another in each.
    labels, groups : ndarray (N,), integer from 0
    width : int
    named : str
        Name of the groups' column.
    """
    count = int(groups.max(initial=0)) + 1
    if count < GROUPS or len(inputs) < LEAST * count:
        return {}
    means = inputs.reshape(len(inputs), -1, width).mean(axis=1, dtype=np.float64)
    total = inputs.reshape(-1, width).var(axis=0, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_class, by_group = (_variance_between(means, codes) / total for codes in (labels, groups))
        left = (by_group - by_class) / (1 - by_class)
    return {
        column: f"nearly all of the variance is between groups by {shown(named)}"
        for column in np.flatnonzero((left >= BETWEEN) & (by_class <= EXPLAINED)).tolist()
    }


def warning(name: str, found: dict[int, str], called: Sequence[str], table: bool = True) -> str:
    """One line about the columns found, at most :data:`NAMED` of them; empty if there are none.

    Parameters
    ----------
    name : str
        Name of the data.
    found : dict of int to str
        Inputs, with the reason.
    called : sequence of str
        For each input, the name of its column; several inputs may be of one column.
    table : bool
        Whether ``--drop`` leaves columns of the data out.

    Examples
    --------
    >>> warning("log.csv", {1: "moves"}, ["x", "temp"])
    "log.csv has columns that drift: 'temp' (moves); leave out with --drop those that do not describe the class"
    """
    first: dict[str, str] = {}
    for n in sorted(found):
        first.setdefault(called[n], found[n])
    if not first:
        return ""
    reasons: dict[str, list[str]] = {}
    for column in list(first)[:NAMED]:
        reasons.setdefault(first[column], []).append(repr(shown(column)))
    listed = ", ".join(f"{', '.join(columns)} ({reason})" for reason, columns in reasons.items())
    more = f" and {len(first) - NAMED} more" if len(first) > NAMED else ""
    how = "leave out with --drop" if table else "remove"
    return f"{name} has columns that drift: {listed}{more}; {how} those that do not describe the class"


def _variance_between(means: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Variance of the means of classes or groups, weighted by their samples, for each column of (N, width)."""
    counts = np.bincount(codes)
    found = np.empty(means.shape[1])
    for column in range(means.shape[1]):
        sums = np.bincount(codes, means[:, column])
        own = sums[counts > 0] / counts[counts > 0]
        found[column] = np.average((own - means[:, column].mean()) ** 2, weights=counts[counts > 0])
    return found
