"""Advice for a training that has learned nothing."""

from __future__ import annotations

import numpy as np

from ..recipe import Recipe


def majority_error(counts: np.ndarray) -> float:
    """Error in % of always predicting the most frequent class, given the ``counts`` (C,) of samples per class."""
    return 100.0 * (1 - float(counts.max()) / float(counts.sum()))


def advice(error: float, counts: np.ndarray, split: str, recipe: Recipe) -> str:
    """A warning if an error (%) is no better than that of the majority class in ``counts`` (C,), else empty."""
    baseline = majority_error(np.asarray(counts))
    if error < baseline or not baseline:
        return ""
    steps = ["a larger lr", "more epochs", "a smaller batch"]
    if recipe.normalize != "standard":
        steps.append("inputs scaled to mean 0 and deviation 1")
    bits = [name for name in ("weights", "activations") if getattr(recipe, f"binary_{name}")]
    if bits and not (recipe.deep or recipe.rule.real):
        steps.append(f"real {' and '.join(bits)}")
    return (
        f"the {split} error, {error:.1f} %, is no better than that of the most frequent class, "
        f"{baseline:.1f} %: try {', '.join(steps[:-1])} or {steps[-1]}"
    )
