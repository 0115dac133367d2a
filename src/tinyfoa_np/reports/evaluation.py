"""Quality of a trained model: error, confusion matrix, precision and recall per class, and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadRequest
from ..run.advice import majority_error

if TYPE_CHECKING:
    from ..model import Model

#: number of confidence intervals for calibration
BINS = 10
#: maximum number of classes of a confusion matrix, and of a table with a row for every class; number of mistakes listed
MOST_CONFUSED, MANY, MISTAKES = 1000, 100, 10


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
        frequent class; ``confusion`` (C, C), a row per true class and a column per prediction, None for more than
        :data:`MOST_CONFUSED` classes; ``mistakes``, the most frequent ones, with ``samples``, the true ``label`` and
        the ``answer``; ``classes``, with ``label``, ``samples``, ``precision``, ``recall`` and ``f1`` of each, None if
        the divisor is 0; ``macro_f1``, the mean of those that are not None; and ``calibration``, with
        ``expected_error_pct``, the mean difference between confidence (the softmax of the scores) and accuracy over
        :data:`BINS` intervals of confidence, and these ``bins``. Shares are from 0 to 1, errors in %.

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
    return _evaluation([(slice(0, len(scores)), scores)], labels, scores.shape[1], names)


def of_model(model: Model, inputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """:func:`evaluation` of a model's answers to samples (N, I); only some samples' scores are in memory at a time."""
    return _evaluation(model.scores_by_part(inputs), labels, model.classes, model.labels)


def _evaluation(
    parts: Iterable[tuple[slice, np.ndarray]], labels: np.ndarray, classes: int, names: Sequence[object] | None
) -> dict[str, Any]:
    count = len(labels)
    if not count:
        raise BadRequest("there are no samples to evaluate")
    answers, sure = np.zeros(count, np.int64), np.zeros(count)
    for part, scores in parts:
        answers[part] = scores.argmax(axis=1)
        sure[part] = 1 / np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True)).sum(axis=1)
    good = answers == labels
    right, are, said = (np.bincount(each, minlength=classes) for each in (labels[good], labels, answers))
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
        "confusion": _confusion(labels, answers, classes),
        "mistakes": _mistakes(labels[~good], answers[~good], called),
        "calibration": _calibration(sure, good),
    }


def occurring(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows ``classes`` of an evaluation; of very many, those with samples or answers."""
    rows: list[dict[str, Any]] = found["classes"]
    return rows if len(rows) <= MANY else [row for row in rows if row["f1"] is not None]


def _confusion(labels: np.ndarray, answers: np.ndarray, classes: int) -> list[list[int]] | None:
    if classes > MOST_CONFUSED:
        return None
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    return confusion.tolist()


def _mistakes(labels: np.ndarray, answers: np.ndarray, called: Sequence[object]) -> list[dict[str, Any]]:
    pairs, counts = np.unique(np.stack([labels, answers]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MISTAKES]  # pairs are sorted
    return [
        {"samples": int(counts[k]), "label": called[pairs[0, k]], "answer": called[pairs[1, k]]} for k in order.tolist()
    ]


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _calibration(sure: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins, apart = [], 0.0
    for k in range(BINS):
        held = place == k
        if n := int(held.sum()):
            confidence, accuracy = float(sure[held].mean()), float(right[held].mean())
            bins.append({"from": k / BINS, "samples": n, "confidence": confidence, "accuracy": accuracy})
            apart += n * abs(confidence - accuracy)
    return {"expected_error_pct": 100 * apart / len(right), "bins": bins}
