"""Softmax, cross-entropy and its error."""

from __future__ import annotations

import numpy as np

from .compiling import njit
from .maths import exp, log


@njit(nogil=True, cache=True, error_model="numpy")
def softmax_cross_entropy(logits, samples, scale, labels, error, result, of):
    # logits (C, B), labels (B,) uint16, error (C, B), result (2,) float64
    """p = softmax(scale * logits); error = (p - onehot) / of; result += summed cross-entropy, wrong answers.

    ``of`` is the number of samples in the whole batch, of which these may be a part.
    The prediction is the class with the largest logit, the first if several are equal. ``result`` may become NaN or
    infinite; the caller checks it.
    """
    classes = logits.shape[0]
    for s in range(samples):
        best = 0
        for c in range(1, classes):
            if logits[c, s] > logits[best, s]:
                best = c
        top = scale * logits[best, s]
        total = 0.0
        for c in range(classes):
            total += exp(np.float64(scale * logits[c, s] - top))
        label = np.int64(labels[s])
        for c in range(classes):
            p = exp(np.float64(scale * logits[c, s] - top)) / total
            error[c, s] = np.float32((p - (1.0 if c == label else 0.0)) / of)
        result[0] += log(total) - np.float64(scale * logits[label, s] - top)
        result[1] += 1.0 if best != label else 0.0
