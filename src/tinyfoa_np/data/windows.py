"""Cut a long log into samples: windows of rows, none across groups."""

from __future__ import annotations

import numpy as np

from tinyfoa_np.errors import BadRequest


def starts(rows: int, window: int, step: int, groups: np.ndarray | None = None) -> np.ndarray:
    """First rows (n,) int64 of the windows: every ``step`` rows from the beginning of each run of a group.

    Parameters
    ----------
    rows, window, step : int
    groups : ndarray (rows,), integer, optional
        Group of each row; separated rows of the same group are separate runs.

    Examples
    --------
    >>> starts(10, 4, 2).tolist()
    [0, 2, 4, 6]
    >>> starts(10, 4, 2, np.array([0] * 5 + [1] * 5)).tolist()
    [0, 5]
    """
    ends = [0, rows] if groups is None else [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), rows]
    runs = [np.arange(begin, end - window + 1, step) for begin, end in zip(ends, ends[1:])]
    return np.concatenate(runs).astype(np.int64) if runs else np.zeros(0, np.int64)


def cut(name: str, inputs: np.ndarray, first: np.ndarray, window: int, limit: int) -> np.ndarray:
    """Samples (n, window I) from rows (N, I), row after row, so that a ring buffer of rows is a sample.

    Raises
    ------
    BadRequest
        If there is no complete window, or the windows take more than ``limit`` bytes.
    """
    if not len(first):
        raise BadRequest(f"{name} has no {window} rows in a row: use a smaller --window")
    nbytes = len(first) * window * inputs.shape[1] * inputs.itemsize
    if nbytes > limit:
        raise BadRequest(f"the windows of {name} take {nbytes:,} bytes, at most {limit:,}: use a larger --step")
    return inputs[first[:, None] + np.arange(window)].reshape(len(first), -1)


def majority(codes: np.ndarray, first: np.ndarray, window: int) -> np.ndarray:
    """The most frequent code (n,) among the rows of each window; the smallest on a tie.

    Examples
    --------
    >>> majority(np.array([0, 0, 1, 1, 1, 0]), np.array([0, 3]), 3).tolist()
    [0, 1]
    """
    best, found = np.zeros(len(first), np.int64), np.zeros(len(first), np.int64)
    for code in range(int(codes.max(initial=-1)) + 1):
        sums = np.concatenate([[0], np.cumsum(codes == code)])
        count = sums[first + window] - sums[first]
        found[count > best] = code
        best = np.maximum(best, count)
    return found
