"""LightFF: forward-forward inference that stops at the first sufficiently confident layer.

Aminifar and others, "LightFF", ECAI 2024 (arXiv 2404.05241). There are two scores of a label after k layers. MP runs
one pass per label and uses the goodness so far. OP runs one neutral pass and applies a linear classifier to the
activations so far. The published script compares the true test label's score with a threshold; ``free`` here does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dense import Layer
from .ff import normalize, with_labels, without_label
from .tinyfoa import softmax


def activations(v: np.ndarray, layers: Sequence[Layer]) -> list[np.ndarray]:
    """Activations u_k = max(norm(u_k-1) W^T + b, 0) of each layer, (B, O), from labelled inputs (B, I)."""
    found = []
    for W, b in layers:
        found.append(np.maximum(normalize(v) @ W.T + b, 0))
        v = found[-1]
    return found


def multi_pass_scores(X: np.ndarray, layers: Sequence[Layer], classes: int) -> np.ndarray:
    """Scores (L, B, C) from one pass per label: the goodness of the first layer, then the sum over all later layers."""
    per_label = []
    for c in range(classes):
        u = activations(with_labels(X, np.full(len(X), c), classes), layers)
        squares = np.stack([np.square(uk).sum(axis=1) for uk in u])
        per_label.append(np.concatenate([squares[:1], squares[1:].cumsum(axis=0)]))
    return np.stack(per_label, axis=2)


def one_pass_scores(
    X: np.ndarray, layers: Sequence[Layer], classifiers: Sequence[np.ndarray], classes: int
) -> np.ndarray:
    """Scores (L, B, C) from one neutral pass: C_k [u_0 .. u_k] minus the largest, C_k (C, O_0 + .. + O_k)."""
    u = activations(without_label(X, classes), layers)
    raw = [np.concatenate(u[: k + 1], axis=1) @ C.T for k, C in enumerate(classifiers)]
    return np.stack([a - a.max(axis=1, keepdims=True) for a in raw])


def confidences(scores: np.ndarray, labels: np.ndarray | None, probabilities: bool) -> np.ndarray:
    """Values to compare with a threshold, (L, B): the score of the label, or the largest score if labels are None.

    ``probabilities`` applies a softmax over labels first. OP needs this, as its largest score is always 0.
    """
    scores = softmax(scores.reshape(-1, scores.shape[2])).reshape(scores.shape) if probabilities else scores
    return scores.max(axis=2) if labels is None else scores[:, np.arange(len(labels)), labels]


def thresholds(scores: np.ndarray, labels: np.ndarray, probabilities: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (L,) of the true label's score over the training set; stop at mean - deviation."""
    true = confidences(scores, labels, probabilities)
    return true.mean(axis=1), true.std(axis=1)


def exits(
    scores: np.ndarray,
    mean: np.ndarray,
    deviation: np.ndarray,
    labels: np.ndarray | None = None,
    probabilities: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The layer at which each sample stops (B,), at most the last, and the predicted class there (B,).

    ``labels`` are those of the test samples, which the published script uses.
    """
    sure = confidences(scores, labels, probabilities) >= (mean - deviation)[:, None]
    stop = np.where(sure.any(axis=0), sure.argmax(axis=0), len(scores) - 1)
    return stop, scores[stop, np.arange(scores.shape[1])].argmax(axis=1)
