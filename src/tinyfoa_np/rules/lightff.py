"""LightFF: answers of a network trained by forward-forward that stop at the first confident layer.

Aminifar and others, "LightFF: Lightweight Inference for Forward-Forward Algorithm", ECAI 2024 (arXiv 2404.05241).
Training is that of :mod:`.ff`. With one pass per label, u_k(c) are the activations of layer k with label c:

    score           s_0(c) = |u_0(c)|^2,  s_k(c) = |u_1(c)|^2 + .. + |u_k(c)|^2    (forward-forward adds up all layers)
    calibration     m_k, d_k: mean and deviation of s_k(right label) over the training set
    exit            at the first layer with max over c of s_k(c) >= m_k - factor d_k, or at the last one
    prediction      the label with the largest score at that layer

With one pass in all, u_k are the activations of a sample with 1/C for each label, and every layer has a classifier
(``--classifiers each`` in training), trained beside the layers, which it does not change:

    score           p_k = softmax(C_k [u_0, .., u_k])
    calibration     m_k, d_k: mean and deviation of p_k(right label) over the training set
    exit            at the first layer with max over c of p_k(c) >= m_k - factor d_k, or at the last one

The factor is 1 in the paper. A larger one lets more samples stop early. The published test loop compares the score of
the right test label with the threshold, so it needs to know the label; the largest score is used here. (The published
score of one pass is C_k [u_0, .., u_k] minus its largest entry, so that the largest would always be 0.)

All labels of some samples pass through a layer together, and the rows of samples that stop are removed. With one pass,
the samples of a batch continue together until all have stopped.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..kernels import ff as ff_kernels
from .classifiers import NO_LABELS, ClassifiedStage
from .goodness import GoodnessStage


def _pass(stage: GoodnessStage, k: int, rows: int) -> np.ndarray:
    """Run layer k on the rows in the arena; return the goodness of each."""
    outputs, own = stage._values(k + 1, rows), stage._row_factor(k)
    stage._layer(k, stage._values(k, rows), stage._factor(k), rows, stage.scales[k], outputs, own)
    return stage.ram.goodness[:rows].copy()


def _hand_on(stage: GoodnessStage, k: int, rows: int, kept: np.ndarray) -> None:
    """Move the outputs of layer k in these rows to the front, as the inputs of the next layer."""
    outputs, own = stage._values(k + 1, rows), stage._row_factor(k)
    if len(kept) < rows:
        outputs[: len(kept)], own[: len(kept)] = outputs[kept], own[kept]
    if not stage.binary:
        ff_kernels.normalize(outputs, len(kept), own, stage.cores)


def right_scores(stage: GoodnessStage, samples: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Scores (L, n) of the right labels (n,) of at most B encoded samples, in float64."""
    rows, found = len(samples), np.zeros((stage.top, len(samples)))
    stage.arena.enter("evaluate")
    stage.ram.inputs[:rows] = samples
    stage.ram.guess[:rows] = labels
    stage._embed(rows, stage.ram.guess)
    for k in range(stage.top):
        goodness = _pass(stage, k, rows)
        found[k] = goodness if k < 2 else found[k - 1] + goodness
        _hand_on(stage, k, rows, np.arange(rows))
    return found


def answers(stage: GoodnessStage, samples: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes (n,) of encoded samples, and the layer (n,) at which each stops, from 0.

    Parameters
    ----------
    stage : GoodnessStage
        A trained network in an arena for B samples, 2 B at least the number of classes.
    samples : ndarray (n, columns)
    limits : ndarray (L,)
        A sample stops at the first layer whose largest score is at least this.
    """
    classes, stops = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
    together = 2 * stage.B // stage.C
    for start in range(0, len(samples), together):
        part = samples[start : start + together]
        going, score = np.arange(start, start + len(part)), np.zeros((stage.C, len(part)))
        stage.arena.enter("evaluate")
        stage.ram.inputs[: len(part)] = part
        for label in range(stage.C):
            stage.ram.guess[:] = label
            stage._embed(len(part), stage.ram.guess, label * len(part))
        for k in range(stage.top):
            rows = stage.C * len(going)
            goodness = _pass(stage, k, rows).reshape(stage.C, -1)
            score = goodness if k < 2 else score + goodness  # of the layers from the second on
            sure = score.max(axis=0) >= limits[k]
            if k + 1 == stage.top:
                sure[:] = True
            classes[going[sure]], stops[going[sure]] = score[:, sure].argmax(axis=0), k
            going, score = going[~sure], score[:, ~sure]
            if not len(going):
                break
            _hand_on(stage, k, rows, np.flatnonzero(np.tile(~sure, stage.C)))
    return classes, stops


def _one_pass(stage: ClassifiedStage, samples: np.ndarray) -> Iterator[np.ndarray]:
    """Probabilities (C, n) of the labels of at most B encoded samples after each layer, in one pass without a label."""
    rows = len(samples)
    stage.arena.enter("evaluate")
    stage.ram.inputs[:rows] = samples
    stage._embed(rows, NO_LABELS)
    for k in range(stage.top):
        stage.feature(k, rows, stage.scales[k])
        stage.classify(k, rows, stage.scales, stage.ram.scores)
        logits = stage.ram.scores[:, :rows]
        powers = np.exp(logits - logits.max(axis=0))
        yield powers / powers.sum(axis=0)


def right_probabilities(stage: ClassifiedStage, samples: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probabilities (L, n) of the right labels (n,) of at most B encoded samples after each layer, in one pass."""
    return np.stack([found[labels, np.arange(len(labels))] for found in _one_pass(stage, samples)])


def one_pass_answers(stage: ClassifiedStage, samples: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes and the layers at which samples stop, as :func:`answers`, but in one pass."""
    classes, stops = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
    for start in range(0, len(samples), stage.B):
        part = slice(start, start + stage.B)
        going = np.ones(len(samples[part]), bool)
        for k, found in enumerate(_one_pass(stage, samples[part])):
            sure = going & ((found.max(axis=0) >= limits[k]) | (k + 1 == stage.top))
            classes[part][sure], stops[part][sure] = found.argmax(axis=0)[sure], k
            going &= ~sure
            if not going.any():
                break
    return classes, stops
