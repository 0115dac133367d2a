"""CwComp: convolutional layers whose channels compete for the classes, with a loss per layer and no negative samples.

Papachristodoulou and others, "Convolutional Channel-wise Competitive Learning for the Forward-Forward Algorithm", AAAI
2024 (arXiv 2312.12668). The channels of a layer are divided into one block per class; the goodness of a class is the
mean square of its block. A softmax predictor on the outputs of the last layer is trained alongside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .conv import (
    Normalized,
    batch_norm,
    batch_norm_gradient,
    convolution,
    convolution_gradient,
    max_pool,
    max_pool_gradient,
)
from .optimizers import SGD, Adam
from .tinyfoa import error, loss, softmax
from .training import Batch, steps

EPSILON = 1e-4


class Layer(NamedTuple):
    """The parameters of a layer; in gradients the running statistics are empty."""

    W: np.ndarray  # (O, I, 3, 3); I is that of one block if channels are grouped
    b: np.ndarray  # (O,)
    gamma: np.ndarray  # (O,)
    beta: np.ndarray  # (O,)
    mean: np.ndarray  # (O,), running
    variance: np.ndarray  # (O,), running


class Pass(NamedTuple):
    """The values of a layer's forward pass that its gradient needs."""

    r: np.ndarray  # (B, O, R, S), after the ReLU
    normed: Normalized  # of r, or of r pooled if the layer pools; .v is the layer's output


def grouped(X: np.ndarray, W: np.ndarray, b: np.ndarray, groups: int) -> np.ndarray:
    """Grouped convolution: X (B, I, R, S), W (O, I / groups, 3, 3), result (B, O, R, S)."""
    parts = zip(np.split(X, groups, axis=1), np.split(W, groups), np.split(b, groups))
    return np.concatenate([convolution(x, w, c) for x, w, c in parts], axis=1)


def forward(X: np.ndarray, layer: Layer, groups: int, pooled: bool, *, training: bool) -> Pass:
    """Run a layer: y = BN(max pool(max(W * X + b, 0))), batch norm with epsilon 1e-4 and its own statistics.

    Parameters
    ----------
    X : ndarray of float, (B, I, R, S)
    layer : Layer
    groups : int
        1, or the number of classes.
    pooled : bool
        Whether to take 2 x 2 maxima before batch norm.
    training : bool
        Use batch statistics and update the running ones; otherwise use the running ones.
    """
    r = np.maximum(grouped(X, layer.W, layer.b, groups), 0)
    s = max_pool(r) if pooled else r
    normed = batch_norm(s, layer.gamma, layer.beta, layer.mean, layer.variance, training=training, epsilon=EPSILON)
    return Pass(r, normed)


def class_goodness(y: np.ndarray, classes: int) -> np.ndarray:
    """Goodness G (B, C): for each class, the mean of y^2 over its block of channels and over space; y (B, O, R, S)."""
    means: np.ndarray = np.square(y).reshape(len(y), classes, -1).mean(axis=2)
    return means


def gradient(X: np.ndarray, layer: Layer, done: Pass, labels: np.ndarray, classes: int, groups: int) -> Layer:
    """Gradient of the layer's cross-entropy of G; parameters as in :func:`forward`.

    ::

        dy = 2 y ((softmax(G) - Y) / B) / (entries of a block), then back through batch norm, pooling, ReLU, convolution
    """
    y = done.normed.v
    dG = error(class_goodness(y, classes), labels)
    block = y[0].size // classes
    dy = (2 * y.reshape(len(y), classes, -1) * dG[:, :, None] / y.dtype.type(block)).reshape(y.shape)
    ds, dgamma, dbeta = batch_norm_gradient(done.normed, layer.gamma, dy)
    dr = ds if ds.shape == done.r.shape else max_pool_gradient(done.r, 2, ds)
    dz = dr * (done.r > 0)
    parts = zip(np.split(X, groups, axis=1), np.split(layer.W, groups), np.split(dz, groups, axis=1))
    slopes = [convolution_gradient(x, w, d)[1:] for x, w, d in parts]
    dW, db = np.concatenate([s[0] for s in slopes]), np.concatenate([s[1] for s in slopes])
    return Layer(dW, db, dgamma, dbeta, *np.zeros((2, 0), dW.dtype))


class Trained(NamedTuple):
    """The result of :func:`train`."""

    layers: list[Layer]  # after the last step, lowest first
    predictor: tuple[np.ndarray, np.ndarray]  # S (C, features), Sb (C,)
    losses: np.ndarray  # (steps, L + 1): of layers (NaN if not trained), and of the predictor
    first: list[Layer | None]  # gradients at step 0, None if a layer is not trained
    first_predictor: tuple[np.ndarray, np.ndarray]
    first_passes: list[np.ndarray]  # y of each layer at step 0


def train(
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    predictor: tuple[np.ndarray, np.ndarray],
    classes: int,
    *,
    windows: Sequence[tuple[int, int]] | None = None,
    lr: float = 0.01,
    predictor_lr: float = 0.01,
) -> Trained:
    """Train with one step per batch: the layers in turn with Adam, then the predictor with gradient descent.

    Odd layers (counted from 0) have one group of channels per class, and pool. The predictor's loss is the
    cross-entropy of softmax(S y + Sb) taken as logits, as published: a second softmax.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I, R, S).
    layers : sequence of Layer
    predictor : (ndarray (C, features), ndarray (C,))
    classes : int
    windows : sequence of (int, int), optional
        For each layer, its first step and the step after its last. In other steps the layer is only evaluated, with
        batch statistics.
    lr, predictor_lr : float
    """
    layers, (S, Sb) = list(layers), predictor
    optimizers = [[Adam(lr) for _ in range(4)] for _ in layers]
    down, losses = SGD(predictor_lr), np.full((len(batches), len(layers) + 1), np.nan)
    first: list[Layer | None] = [None] * len(layers)
    first_passes = []
    for t, (X, labels) in steps(batches):
        h = X
        for k, layer in enumerate(layers):
            groups = classes if k % 2 else 1
            done = forward(h, layer, groups, bool(k % 2), training=True)
            if windows is None or windows[k][0] <= t < windows[k][1]:
                losses[t, k] = loss(class_goodness(done.normed.v, classes), labels)
                slopes = gradient(h, layer, done, labels, classes, groups)
                W, b, gamma, beta = (o.step(w, g) for o, w, g in zip(optimizers[k], layer, slopes))
                layer = layer._replace(W=W, b=b, gamma=gamma, beta=beta)
                if t == 0:
                    first[k] = slopes
            layers[k] = layer._replace(mean=done.normed.mean, variance=done.normed.variance)
            h = done.normed.v
            if t == 0:
                first_passes.append(h)
        flat = h.reshape(len(h), -1)
        p = softmax(flat @ S.T + Sb)
        losses[t, -1] = loss(p, labels)
        dp = error(p, labels)
        da = p * (dp - (dp * p).sum(axis=1, keepdims=True))
        dS, dSb = da.T @ flat, da.sum(axis=0)
        if t == 0:
            first_predictor = dS, dSb
        S, Sb = down.step(S, dS), down.step(Sb, dSb)
    return Trained(layers, (S, Sb), losses, first, first_predictor, first_passes)


def infer(
    X: np.ndarray, layers: Sequence[Layer], predictor: tuple[np.ndarray, np.ndarray], classes: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Goodness G (B, C) of each layer and the predictor's probabilities (B, C), with running statistics."""
    found, h = [], X
    for k, layer in enumerate(layers):
        h = forward(h, layer, classes if k % 2 else 1, bool(k % 2), training=False).normed.v
        found.append(class_goodness(h, classes))
    S, Sb = predictor
    return found, softmax(h.reshape(len(h), -1) @ S.T + Sb)
