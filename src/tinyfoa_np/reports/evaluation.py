"""Quality of a trained model: error, confusion matrix, precision and recall per class, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import BadRequest
from ..run.advice import majority_error

#: number of confidence intervals for calibration
BINS = 10


def evaluation(scores: np.ndarray, labels: np.ndarray, names: Sequence[object] | None = None) -> dict[str, Any]:
    """Evaluate a model on labelled samples.

    Parameters
    ----------
    scores : ndarray (N, C)
        The model's logits; the largest one is the prediction, the first one on a tie.
    labels : ndarray (N,), integer
        True classes, from 0 to C - 1.
    names : sequence, optional
        Names of the classes; by default their numbers.

    Returns
    -------
    dict
        ``error_pct``, ``wrong`` and ``samples``; ``majority_error_pct``, the error of always predicting the most
        frequent class; ``confusion`` (C, C), a row per true class and a column per prediction; ``classes``, with
        ``label``, ``samples``, ``precision``, ``recall`` and ``f1`` of each, None if the divisor is 0; ``macro_f1``,
        the mean of those that are not None; and ``calibration``, with ``expected_error_pct``, the mean difference
        between confidence (the softmax of the scores) and accuracy over :data:`BINS` intervals of confidence, and these
        ``bins``. Shares are from 0 to 1, errors in %.

    Raises
    ------
    BadRequest
        If there are no samples.

    Examples
    --------
    >>> found = evaluation(np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1]))
    >>> found["wrong"], found["confusion"], found["classes"][1]["recall"]
    (1, [[1, 0], [1, 1]], 0.5)
    """
    count, classes = scores.shape
    if not count:
        raise BadRequest("there are no samples to evaluate")
    answers = scores.argmax(axis=1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    right, are, said = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    called = list(range(classes)) if names is None else list(names)
    rows = [
        {
            "label": called[c],
            "samples": int(are[c]),
            "precision": _share(right[c], said[c]),
            "recall": _share(right[c], are[c]),
            "f1": _share(2 * right[c], are[c] + said[c]),
        }
        for c in range(classes)
    ]
    wrong = count - int(right.sum())
    f1 = [float(2 * part / both) for part, both in zip(right, are + said, strict=True) if both]
    return {
        "error_pct": 100 * wrong / count,
        "wrong": wrong,
        "samples": count,
        "majority_error_pct": majority_error(are),
        "macro_f1": float(np.mean(f1)),
        "classes": rows,
        "confusion": confusion.tolist(),
        "calibration": _calibration(scores, answers == labels),
    }


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _calibration(scores: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    raised = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    sure = raised.max(axis=1) / raised.sum(axis=1)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins, apart = [], 0.0
    for k in range(BINS):
        held = place == k
        if n := int(held.sum()):
            confidence, accuracy = float(sure[held].mean()), float(right[held].mean())
            bins.append({"from": k / BINS, "samples": n, "confidence": confidence, "accuracy": accuracy})
            apart += n * abs(confidence - accuracy)
    return {"expected_error_pct": 100 * apart / len(right), "bins": bins}
