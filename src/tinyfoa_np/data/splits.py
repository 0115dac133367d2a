"""Which samples are trained on and which are tested on, and how classes are balanced: the same everywhere, by counter.

Nothing is drawn in sequence: sample n has a random key of its own, made from the seed and n, and a shuffle is the
samples in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyfoa_np.reference import random

#: what the keys are for; the purposes of training's random numbers are far below
SPLIT = 64


def shuffled(count: int, seed: int) -> np.ndarray:
    """The numbers 0 to `count` - 1 in a random order, int64; two equal keys keep their samples' order.

    Examples
    --------
    >>> sorted(shuffled(5, seed=0).tolist())
    [0, 1, 2, 3, 4]
    """
    words = random.blocks(0, count, seed=seed, layer=0, purpose=SPLIT).astype(np.uint64)
    return np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable")


def split(labels: np.ndarray, test: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test samples, each in random order, with a given number of test samples of each class.

    Parameters
    ----------
    labels : ndarray (N,), integer
    test : sequence of int, (C,)
        How many samples of class c are tested on; no more than there are.
    seed : int

    Returns
    -------
    tuple of ndarray, int64
        Indices; together all N, none twice.
    """
    order = shuffled(len(labels), seed)
    tested = np.zeros(len(labels), bool)
    for label, count in enumerate(test):
        tested[order[labels[order] == label][:count]] = True
    return order[~tested[order]], order[tested[order]]


def balanced(labels: np.ndarray, each: int, classes: int, seed: int) -> np.ndarray:
    """As many samples of every class, in random order: a class that has more gives its first `each`, one that has
    fewer is repeated from its first on.

    Parameters
    ----------
    labels : ndarray (N,), integer
        Of samples that are in random order themselves.
    each : int
        Samples of a class in the result.
    classes : int
        C; every class must have a sample.
    seed : int

    Returns
    -------
    ndarray (each C,), int64
        Indices.

    Examples
    --------
    >>> labels = np.array([0, 0, 1, 0])
    >>> sorted(balanced(labels, 2, 2, seed=0).tolist())
    [0, 1, 2, 2]
    """
    chosen = np.concatenate([np.resize(np.flatnonzero(labels == label), each) for label in range(classes)])
    rows: np.ndarray = chosen[shuffled(len(chosen), seed)]
    return rows


def by_group(labels: np.ndarray, groups: np.ndarray, names: Sequence[str], share: int, seed: int) -> np.ndarray:
    """Which samples are tested on: those of one in ``share`` groups, rounded up, chosen at random.

    A group without which a class would not be trained on stays; so does the order in which the file has the groups
    without influence.

    Parameters
    ----------
    labels, groups : ndarray (N,), integer
    names : sequence of str
        Of the groups.
    share, seed : int

    Returns
    -------
    ndarray (N,), bool
        All False where no group can be spared.
    """
    classes = int(labels.max()) + 1
    counts = np.zeros((len(names), classes), np.int64)
    np.add.at(counts, (groups, labels), 1)
    left, tested = counts.sum(axis=0), np.zeros(len(names), bool)
    by_name = sorted(range(len(names)), key=lambda n: names[n])
    for place in shuffled(len(names), seed):
        group = by_name[place]
        if tested.sum() < -(-len(names) // share) and (left - counts[group])[left > 0].all():
            left, tested[group] = left - counts[group], True
    chosen: np.ndarray = tested[groups]
    return chosen


def by_time(times: np.ndarray, groups: np.ndarray | None, share: int) -> np.ndarray:
    """Which samples are tested on: the last one in ``share`` by time, of each group if there are some; (N,) bool.

    Samples of one time stay together: all are trained on.

    Examples
    --------
    >>> by_time(np.array([3.0, 1.0, 5.0, 2.0, 4.0]), None, 5).tolist()
    [False, False, True, False, False]
    """
    tested = np.zeros(len(times), bool)
    for group in [0] if groups is None else np.unique(groups):
        rows = np.arange(len(times)) if groups is None else np.flatnonzero(groups == group)
        order = rows[np.argsort(times[rows], kind="stable")]
        late = order[len(order) - max(1, len(order) // share) :] if len(order) > 1 else order[:0]
        earlier = order[: len(order) - len(late)]
        tested[late[times[late] > times[earlier].max()] if len(earlier) else late] = True
    return tested


def by_class(labels: np.ndarray, share: int) -> np.ndarray:
    """Which samples are tested on: of each class the last one in ``share``, in their order; (N,) bool."""
    tested = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        tested[rows[len(rows) - len(rows) // share :]] = True
    return tested


def apart(first: np.ndarray, window: int, tested: np.ndarray) -> np.ndarray:
    """Which windows can be trained on: those that share no row with one that is tested on; (n,) bool.

    Parameters
    ----------
    first : ndarray (n,), int64
        The first row of each window, increasing.
    window : int
    tested : ndarray (n,), bool
    """
    marks = first[tested]
    if not len(marks):
        return ~tested
    after = np.searchsorted(marks, first)
    below, above = marks[np.maximum(after - 1, 0)], marks[np.minimum(after, len(marks) - 1)]
    clear: np.ndarray = ~tested & (np.abs(first - below) >= window) & (np.abs(first - above) >= window)
    return clear
