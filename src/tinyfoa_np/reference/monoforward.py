"""Mono-Forward: each layer learns through its own head, which is trained too.

Gong and others, "Mono-Forward", arXiv 2501.09238. The goodness of every class is G = h M^T; its softmax cross-entropy
trains both the layer and M. Layers train one after another, or in turn within each step. A convolutional layer has a
head on all numbers of its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .biofo import forward_map, gradient_map
from .optimizers import Adam
from .tinyfoa import clamp, error, forward, gradient, logits, loss
from .training import Batch, steps


class Layer(NamedTuple):
    """A layer with its head, or their gradients."""

    W: np.ndarray  # (O, I), or (O, I, 3, 3) of a convolution
    b: np.ndarray  # (O,)
    M: np.ndarray  # (C, O), or (C, N) for the N numbers of a convolution's output


class Trained(NamedTuple):
    """The result of :func:`train`."""

    layers: list[Layer]  # after the last step, lowest first
    losses: np.ndarray  # (steps, L), float64: before each update
    first: list[Layer]  # gradients at step 0
    outputs: list[list[np.ndarray]]  # of each layer, (B, O) per batch: inputs of the next; empty if trained in turn


def gradients(X: np.ndarray, layer: Layer, labels: np.ndarray, **toggles: Any) -> tuple[Layer, np.ndarray, float]:
    """Gradients of one layer, its activations h (B, O) and its loss, for one batch.

    ::

        G = h M^T,  p = softmax(G)
        dM = ((p - Y) / B)^T h
        dz = ((p - Y) / B) M [z > 0] [|z| < 1]      dW, db from dz as in :func:`.tinyfoa.gradient`

    Parameters
    ----------
    X : ndarray of float, (B, I)
    layer : Layer
    labels : ndarray of integer, (B,)
    **toggles
        ``binary_weights``, ``binary_activations``.
    """
    z, h = forward(X, layer.W, layer.b, **toggles)
    G = logits(h, layer.M)
    _, dW, db = gradient(X, layer.W, z, G, labels, layer.M, **toggles)
    return Layer(dW, db, error(G, labels).T @ h), h, loss(G, labels)


def train(
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    *,
    together: bool = False,
    epochs: int = 1,
    lr: float = 1e-3,
    binary_weights: bool = False,
    binary_activations: bool = False,
) -> Trained:
    """Train all layers with Adam, each alone: no gradient flows into a layer's inputs.

    Parameters
    ----------
    batches : sequence of (X, labels)
    layers : sequence of Layer
        Initial layers. With binary weights, W and b are clamped to +-1 after each step; M is not.
    together : bool
        Whether all layers step in turn on each batch, passing on activations from before their step. Otherwise a layer
        finishes its epochs before the next one starts.
    epochs : int
    lr : float
        Step size.
    binary_weights, binary_activations : bool
        As in :func:`.tinyfoa.forward`.

    Returns
    -------
    Trained
    """
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    layers = list(layers)
    optimizers = [[Adam(lr) for _ in layer] for layer in layers]
    losses = np.empty((epochs * len(batches), len(layers)))
    first: list[Layer] = [layers[0]] * len(layers)

    def step(k: int, t: int, X: np.ndarray, labels: np.ndarray) -> np.ndarray:
        slopes, h, losses[t, k] = gradients(X, layers[k], labels, **toggles)
        if t == 0:
            first[k] = slopes
        W, b, M = (o.step(w, g) for o, w, g in zip(optimizers[k], layers[k], slopes))
        layers[k] = Layer(clamp(W), clamp(b), M) if binary_weights else Layer(W, b, M)
        return h

    if together:
        for t, (h, labels) in steps(batches, epochs):
            for k in range(len(layers)):
                h = step(k, t, h, labels)
        return Trained(layers, losses, first, [])
    outputs = []
    for k in range(len(layers)):
        for t, batch in steps(batches, epochs):
            step(k, t, *batch)
        outputs.append([forward(X, layers[k].W, layers[k].b, **toggles)[1] for X, _ in batches])
        batches = [(h, labels) for h, (_, labels) in zip(outputs[-1], batches)]
    return Trained(layers, losses, first, outputs)


def map_gradients(
    X: np.ndarray, layer: Layer, labels: np.ndarray, *, pooled: bool = False
) -> tuple[Layer, np.ndarray, np.ndarray, float]:
    """Gradients of a convolutional layer with ReLU, its output h, its goodness and its loss, for one batch.

    ::

        h = max(W * X + b, 0), if ``pooled`` its 2 x 2 maxima;  G = h M^T,  p = softmax(G)
        dM = ((p - Y) / B)^T h
        dh = ((p - Y) / B) M, back through maxima and ReLU;  dW = X * dz,  db = sum dz

    Parameters
    ----------
    X : ndarray of float, (B, I, R, S)
    layer : Layer
    labels : ndarray of integer, (B,)
    pooled : bool

    Returns
    -------
    slopes : Layer
    h : ndarray of float, (B, O, R, S), or (B, O, R // 2, S // 2)
    G : ndarray of float, (B, C)
    loss : float
    """
    r, h = forward_map(X, layer.W, layer.b, pooled)
    flat = h.reshape(len(h), -1)
    G = logits(flat, layer.M)
    dG = error(G, labels)
    return Layer(*gradient_map(X, layer.W, r, h, dG @ layer.M), dG.T @ flat), h, G, loss(G, labels)


def train_map(
    batches: Sequence[Batch],
    layer: Layer,
    *,
    pooled: bool = False,
    epochs: int = 1,
    lr: float = 1e-3,
    head_lr: float = 1e-3,
) -> Trained:
    """Train one convolutional layer and its head with Adam, on images X (B, I, R, S); see :func:`map_gradients`."""
    optimizers = Adam(lr), Adam(lr), Adam(head_lr)
    losses = np.empty((epochs * len(batches), 1))
    first = layer
    for t, (X, labels) in steps(batches, epochs):
        slopes, _, _, losses[t, 0] = map_gradients(X, layer, labels, pooled=pooled)
        first = slopes if t == 0 else first
        layer = Layer(*(o.step(w, g) for o, w, g in zip(optimizers, layer, slopes)))
    outputs = [forward_map(X, layer.W, layer.b, pooled)[1] for X, _ in batches]
    return Trained([layer], losses, [first], [outputs])


def class_goodness(
    X: np.ndarray, layers: Sequence[Layer], *, scales: Sequence[float] | None = None, **toggles: Any
) -> list[np.ndarray]:
    """Goodness G (B, C) of each layer; the predicted class has the largest entry of their sum, or of the last layer's.

    ``scales`` are the stored s of binary activations; by default each batch uses its own.
    """
    found, h = [], X
    for k, layer in enumerate(layers):
        h = forward(h, layer.W, layer.b, scale=None if scales is None else scales[k], **toggles)[1]
        found.append(logits(h, layer.M))
    return found
