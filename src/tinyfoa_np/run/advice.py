"""Advice for a training that has learned nothing."""

from __future__ import annotations

import numpy as np


def majority_error(counts: np.ndarray) -> float:
    """Error in % of always predicting the most frequent class, given the ``counts`` (C,) of samples per class."""
    return 100.0 * (1 - float(counts.max()) / float(counts.sum()))


def advice(error: float, counts: np.ndarray, split: str) -> str:
    """A warning if an error (%) is no better than that of the majority class in ``counts`` (C,), else empty."""
    baseline = majority_error(np.asarray(counts))
    if error < baseline or not baseline:
        return ""
    return (
        f"the {split} error, {error:.1f} %, is no better than that of the most frequent class, "
        f"{baseline:.1f} %: try a larger lr, more epochs, a smaller batch, scaled inputs, or real weights"
    )
