"""Bio-FO: layers trained one after another through a fixed random head, without clamping.

Huang, Aminifar and others, "Bio-FO", MLSys 2025. The equations of a layer are those of :mod:`.tinyfoa` with real
weights. The head is a matrix of +1, -1 and 0, or of standard normals, and the whole layer trains. Binary weights and
activations are not published; they follow TinyFoA's conventions, including the clamp.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .conv import convolution, convolution_gradient, max_pool, max_pool_gradient
from .tinyfoa import TrainedLayer, clamp, error, forward, gradient, logits, loss
from .training import Batch, optimizer_of, steps


def train_layer(
    batches: Sequence[Batch],
    W: np.ndarray,
    b: np.ndarray,
    P: np.ndarray,
    *,
    epochs: int = 1,
    optimizer: str = "adam",
    lr: float = 1e-4,
    binary_weights: bool = False,
    binary_activations: bool = False,
) -> TrainedLayer:
    """Train one layer: one step per batch, in the given order, for `epochs` epochs.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I) of float, labels (B,) of integer.
    W, b : ndarray of float, (O, I) and (O,)
        Initial weights and biases.
    P : ndarray of float, (C, O)
        Fixed head.
    epochs, optimizer, lr, binary_weights, binary_activations
        As for :func:`.tinyfoa.train_layer`.

    Returns
    -------
    TrainedLayer
    """
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    new = optimizer_of(optimizer, lr)
    weight_optimizer, bias_optimizer = new(), new()
    losses = []
    for t, (X, labels) in steps(batches, epochs):
        z, h = forward(X, W, b, **toggles)
        a = logits(h, P)
        losses.append(loss(a, labels))
        _, dW, db = gradient(X, W, z, a, labels, P, **toggles)
        if t == 0:
            first = dW, db
        W, b = weight_optimizer.step(W, dW), bias_optimizer.step(b, db)
        if binary_weights:
            W, b = clamp(W), clamp(b)
    return TrainedLayer(W, b, np.array(losses), *first)


def forward_map(X: np.ndarray, W: np.ndarray, b: np.ndarray, pooled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Run a convolutional layer: r = max(W * X + b, 0), and its output h, which is r or the 2 x 2 maxima of r.

    Parameters
    ----------
    X : ndarray of float, (B, I, R, S)
    W, b : ndarray of float, (O, I, 3, 3) and (O,)
    pooled : bool

    Returns
    -------
    r, h : ndarray of float, (B, O, R, S), and the same shape or (B, O, R // 2, S // 2)
    """
    r = np.maximum(convolution(X, W, b), 0)
    return r, max_pool(r) if pooled else r


def gradient_map(
    X: np.ndarray, W: np.ndarray, r: np.ndarray, h: np.ndarray, dh: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (dW, db) of a convolutional layer from dh, like h but flat (B, O R S); see :func:`forward_map`."""
    dr = dh.reshape(h.shape)
    if h.shape != r.shape:
        dr = max_pool_gradient(r, 2, dr)
    _, dW, db = convolution_gradient(X, W, dr * (r > 0))
    return dW, db


def train_map(
    batches: Sequence[Batch],
    W: np.ndarray,
    b: np.ndarray,
    P: np.ndarray,
    Pb: np.ndarray,
    *,
    pooled: bool,
    epochs: int = 1,
    optimizer: str = "adam",
    lr: float = 1e-4,
) -> TrainedLayer:
    """Train one convolutional layer, as :func:`train_layer`: maps X (B, I, R, S), head P (C, O R S), Pb (C,)."""
    new = optimizer_of(optimizer, lr)
    weight_optimizer, bias_optimizer = new(), new()
    losses = []
    for t, (X, labels) in steps(batches, epochs):
        r, h = forward_map(X, W, b, pooled)
        a = logits(h.reshape(len(h), -1), P) + Pb
        losses.append(loss(a, labels))
        dW, db = gradient_map(X, W, r, h, error(a, labels) @ P)
        if t == 0:
            first = dW, db
        W, b = weight_optimizer.step(W, dW), bias_optimizer.step(b, db)
    return TrainedLayer(W, b, np.array(losses), *first)
