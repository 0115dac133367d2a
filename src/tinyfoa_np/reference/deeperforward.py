"""DeeperForward: forward-only convolutional layers with mean goodness and shortcuts between layers.

Sun and others, "DeeperForward: Enhanced Forward-Forward Training for Deeper and Better Performance", ICLR 2025. Each
layer is a convolution without bias and a ReLU; the goodness of a class is the mean of its block of channels. Outputs
are normalized block by block before the next layer reads them, so that goodness does not leak upward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .conv import average_pool, convolution, convolution_gradient
from .optimizers import AdamW
from .tinyfoa import error, loss
from .training import Batch, steps

EPSILON = 1e-5


class Unit(NamedTuple):
    """The operations around a layer's convolution."""

    stride: int = 1
    pooled: bool = False  # 2 x 2 means before the convolution
    shortcut: str = "none"  # after it: "add" or "concat" the kept activations
    keep: bool = False  # keep the result for a later shortcut
    halve_kept: bool = False  # keep it as 2 x 2 means


def normalized(x: np.ndarray, groups: int) -> np.ndarray:
    """Normalize each sample's groups of channels to mean 0 and variance 1, (B, O, R, S); one group is layer norm."""
    parts = x.reshape(len(x), groups, -1)
    centred = parts - parts.mean(axis=2, keepdims=True)
    variance = np.square(centred).mean(axis=2, keepdims=True)
    unit: np.ndarray = (centred / np.sqrt(variance + x.dtype.type(EPSILON))).reshape(x.shape)
    return unit


def forward(x: np.ndarray, W: np.ndarray, stride: int) -> np.ndarray:
    """Run a layer, y = max(W * x, 0): x (B, I, R, S), W (O, I, K, K), y (B, O, ., .)."""
    h: np.ndarray = np.maximum(convolution(x, W, stride=stride), 0)
    return h


def class_goodness(y: np.ndarray, classes: int) -> np.ndarray:
    """Goodness G (B, C): for each class, the mean of y over its block of channels and over space."""
    means: np.ndarray = y.reshape(len(y), classes, -1).mean(axis=2)
    return means


def gradient(x: np.ndarray, W: np.ndarray, y: np.ndarray, labels: np.ndarray, classes: int, stride: int) -> np.ndarray:
    """Gradient dW of the cross-entropy of G: dy = (softmax(G) - Y) / B / (entries of a block) where y > 0, else 0."""
    dG = error(class_goodness(y, classes), labels)
    block = y[0].size // classes
    dy = np.broadcast_to((dG / y.dtype.type(block))[:, :, None], (len(y), classes, block)).reshape(y.shape)
    return convolution_gradient(x, W, dy * (y > 0), stride)[1]


def passed_on(y: np.ndarray, kept: np.ndarray | None, unit: Unit, classes: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs of the next layer, and the activations kept for a later shortcut."""
    x = normalized(y, classes)
    if unit.shortcut != "none":
        assert kept is not None
        x = x + kept if unit.shortcut == "add" else np.concatenate([x, kept], axis=1)
    if unit.keep:
        kept = average_pool(x, (2, 2)) if unit.halve_kept else x
    return x, kept


class Trained(NamedTuple):
    """The result of :func:`train`."""

    weights: list[np.ndarray]  # (O, I, K, K) each, after the last step
    losses: np.ndarray  # (steps, L)
    first: list[np.ndarray]  # gradients at step 0
    first_goodness: list[np.ndarray]  # G (B, C) of each layer at step 0


def train(
    batches: Sequence[Batch],
    weights: Sequence[np.ndarray],
    units: Sequence[Unit],
    classes: int,
    *,
    lr: float = 0.08,
    decay: float = 5e-4,
) -> Trained:
    """Train with one step per batch, the layers in turn with AdamW; outputs are computed before a layer's step.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I, R, S); each sample is normalized here as a whole.
    weights : sequence of ndarray of float, (O, I, K, K) each
    units : sequence of Unit
    classes : int
    lr, decay : float
    """
    weights = list(weights)
    optimizers, losses = [AdamW(lr, decay) for _ in weights], np.empty((len(batches), len(weights)))
    first, first_goodness = [], []
    for t, (X, labels) in steps(batches):
        x, kept = normalized(X, 1), None
        for k, unit in enumerate(units):
            x = average_pool(x, (2, 2)) if unit.pooled else x
            y = forward(x, weights[k], unit.stride)
            G = class_goodness(y, classes)
            losses[t, k] = loss(G, labels)
            slope = gradient(x, weights[k], y, labels, classes, unit.stride)
            if t == 0:
                first.append(slope)
                first_goodness.append(G)
            x, kept = passed_on(y, kept, unit, classes)
            weights[k] = optimizers[k].step(weights[k], slope)
    return Trained(weights, losses, first, first_goodness)


def infer(
    X: np.ndarray, weights: Sequence[np.ndarray], units: Sequence[Unit], classes: int, start: int, end: int
) -> np.ndarray:
    """Sum of G (B, C) over the layers from ``start`` to ``end``, both included; the largest is the predicted class."""
    x, kept, total = normalized(X, 1), None, np.zeros((len(X), classes), X.dtype)
    for k, (W, unit) in enumerate(zip(weights, units)):
        x = average_pool(x, (2, 2)) if unit.pooled else x
        y = forward(x, W, unit.stride)
        if start <= k <= end:
            total = total + class_goodness(y, classes)
        x, kept = passed_on(y, kept, unit, classes)
    return total
