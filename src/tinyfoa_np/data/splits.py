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
    return chosen[shuffled(len(chosen), seed)]
