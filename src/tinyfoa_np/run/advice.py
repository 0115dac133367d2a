"""Advice for a training that has learned nothing."""

from __future__ import annotations

import numpy as np

from ..recipe import Recipe

#: share in % of the samples outside the most frequent class below which they are rare
RARE = 8


def majority_error(counts: np.ndarray) -> float:
    """Error in % of always predicting the most frequent class, given the ``counts`` (C,) of samples per class."""
    return 100.0 * (1 - float(counts.max()) / float(counts.sum()))


def advice(error: float, counts: np.ndarray, split: str, recipe: Recipe) -> str:
    """A warning if an error (%) is no better than that of the majority class in ``counts`` (C,), else empty."""
    baseline = majority_error(np.asarray(counts))
    if error < baseline or not baseline:
        return ""
    told = f"the {split} error, {error:.1f} %, is no better than that of the most frequent class, {baseline:.1f} %"
    if baseline < RARE:
        return (
            f"{told}: look at the recall of the rare classes (tinyfoa evaluate), and repeat their samples, or use an"
            ' estimator with class_weight="balanced"'
        )
    steps = ["a larger lr", "more epochs", "a smaller batch"]
    if recipe.normalize != "standard":
        steps.append("inputs scaled to mean 0 and deviation 1")
    bits = [name for name in ("weights", "activations") if getattr(recipe, f"binary_{name}")]
    if bits and not (recipe.deep or recipe.rule.real):
        steps.append(f"real {' and '.join(bits)}")
    return f"{told}: try {', '.join(steps[:-1])} or {steps[-1]}"
