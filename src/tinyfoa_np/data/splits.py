"""Division into training and test samples, and balancing of classes: reproducible, by counter.

Nothing is drawn in sequence: sample n has its own random key, made from the seed and n. A shuffle sorts the samples by
their keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyfoa_np.reference import random

#: purpose of the keys, far from the purposes of random numbers in training
SPLIT = 64


def shuffled(count: int, seed: int) -> np.ndarray:
    """The numbers 0 to `count` - 1 in random order, int64; samples with equal keys keep their order.

    Examples
    --------
    >>> sorted(shuffled(5, seed=0).tolist())
    [0, 1, 2, 3, 4]
    """
    words = random.blocks(0, count, seed=seed, layer=0, purpose=SPLIT).astype(np.uint64)
    return np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable")


def split(labels: np.ndarray, test: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test samples, each in random order, with a given number of test samples per class.

    Parameters
    ----------
    labels : ndarray (N,), integer
    test : sequence of int, (C,)
        Number of test samples of class c, at most the number available.
    seed : int

    Returns
    -------
    tuple of ndarray, int64
        Indices; together all N, without repetition.
    """
    order = shuffled(len(labels), seed)
    tested = np.zeros(len(labels), bool)
    for label, count in enumerate(test):
        tested[order[labels[order] == label][:count]] = True
    return order[~tested[order]], order[tested[order]]


def balanced(labels: np.ndarray, each: int, classes: int, seed: int) -> np.ndarray:
    """Indices with the same number of samples of every class, in random order.

    A class with more samples contributes its first `each`; one with fewer is repeated from its first on.

    Parameters
    ----------
    labels : ndarray (N,), integer
        Labels of samples that are already in random order.
    each : int
        Samples per class in the result.
    classes : int
        C; every class must have at least one sample.
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
    """Test samples by group: those of one in ``share`` groups, rounded up, chosen at random.

    A group stays in training if a class would otherwise be missing there. The order of the groups in the file has no
    influence.

    Parameters
    ----------
    labels, groups : ndarray (N,), integer
    names : sequence of str
        Names of the groups.
    share, seed : int

    Returns
    -------
    ndarray (N,), bool
        All False if no group can be used for testing.
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
    """Test samples by time: the last one in ``share``, of each group if there are groups; (N,) bool.

    Samples with equal times stay together, in training.

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
    """Test samples by class: the last one in ``share`` of each class, in order; (N,) bool."""
    tested = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        tested[rows[len(rows) - len(rows) // share :]] = True
    return tested


def apart(first: np.ndarray, window: int, tested: np.ndarray) -> np.ndarray:
    """Windows that can be used for training: those that share no row with a test window; (n,) bool.

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
