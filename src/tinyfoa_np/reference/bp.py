"""Backpropagation through fully connected layers, the main baseline for TinyFoA.

Every layer trains in every step, by the gradient of a single loss at the top. All layers but the last can have binary
weights and binary activations, as in TinyFoA; the last layer (the logits) always has full precision. Hidden layers can
train one slice at a time ("vertical training"); the last layer always trains whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import tinyfoa
from .dense import Layer, Trained, mean_magnitudes
from .tinyfoa import binarize_weights, clamp, error, loss
from .training import Batch, Sliced, Turns, optimizer_of, steps


def forward(
    X: np.ndarray,
    layers: Sequence[Layer],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pass a batch through all layers, h_0 = X, z_k = h_k Wb_k^T + b_k, h_k+1 = s_k [z_k > 0] or max(z_k, 0).

    Wb = alpha sign(W), and s_k = mean |z_k|, as in :func:`.tinyfoa.forward`. The last layer has Wb = W and no
    activation: its z is the logits.

    Parameters
    ----------
    X : ndarray of float, (B, I)
    layers : sequence of Layer
        Lowest first, at least one.
    binary_weights, binary_activations : bool
        Whether all layers but the last are binary.
    scales : sequence of float, optional
        Stored scales s_k for inference, from :func:`inference_scales`; by default each batch uses its own.

    Returns
    -------
    h, z : lists of ndarray of float
        Inputs (B, I) and pre-activations (B, O) of each layer, lowest first.
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    h, z = [X], []
    for k, (W, b) in enumerate(layers[:-1]):
        zk, hk = tinyfoa.forward(h[-1], W, b, **toggles, scale=None if scales is None else scales[k])
        z.append(zk)
        h.append(hk)
    W, b = layers[-1]
    return h, [*z, h[-1] @ W.T + b]


def gradient(
    h: Sequence[np.ndarray],
    z: Sequence[np.ndarray],
    labels: np.ndarray,
    layers: Sequence[Layer],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> list[Layer]:
    """Gradient of the mean cross-entropy by the chain rule, from the top layer down.

    ::

        dz_top = (softmax(z_top) - Y) / B
        dz_k   = dz_k+1 Wb_k+1 [z_k > 0] [|z_k| < 1]      the last factor only with binary activations
        dW_k   = dz_k^T h_k [|W_k| < 1]                   the last factor only with binary weights, and not at the top
        db_k   = sum of dz_k over the batch

    Errors travel down through the weights of the forward pass: Wb = alpha sign(W) if weights are binary. The masks are
    strict; the scales alpha and s carry no gradient.

    Parameters
    ----------
    h, z : sequences of ndarray of float
        Of each layer, from :func:`forward`.
    labels : ndarray of integer, (B,)
    layers : sequence of Layer
        As given to :func:`forward`.

    Returns
    -------
    list of Layer
        (dW, db) of each layer, lowest first.
    """
    top = len(layers) - 1
    dz = error(z[top], labels)
    gradients = [Layer(dz.T @ h[top], dz.sum(axis=0))]
    for k in reversed(range(top)):
        above = layers[k + 1].W
        Wb = binarize_weights(above)[0] if binary_weights and k + 1 < top else above
        dz = dz @ Wb * (z[k] > 0)
        if binary_activations:
            dz = dz * (np.abs(z[k]) < 1)
        dW = dz.T @ h[k]
        if binary_weights:
            dW = dW * (np.abs(layers[k].W) < 1)
        gradients.insert(0, Layer(dW, dz.sum(axis=0)))
    return gradients


def train(
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    *,
    slices: int = 2,
    schedule: str = "none",
    hold: int | None = None,
    exchanges: int | None = None,
    epochs: int = 1,
    optimizer: str = "adam",
    lr: float = 1e-4,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> Trained:
    """Train all layers: one step per batch, in the given order, for `epochs` epochs.

    The schedules are those of :func:`.tinyfoa.train_layer`, applied to all hidden layers in unison: in ``slice``, slice
    (j, i) of each layer trains, with the biases of rows j; in ``frozen``, slice (q, q) of each layer is restored after
    the step. The last layer always trains whole.

    With binary weights, all weights and biases, including the last layer's, are clamped to +-1 after the update and
    before a frozen slice is restored. Without binary weights nothing is clamped.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I) of float, labels (B,) of integer; B may differ from batch to batch.
    layers : sequence of Layer
        Initial weights and biases.
    slices, schedule, hold, exchanges, epochs, optimizer, lr
        As for :func:`.tinyfoa.train_layer`.
    binary_weights, binary_activations : bool
        As in :func:`forward`.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        For an unknown schedule or optimizer, more slices than rows or columns, both `hold` and `exchanges`, or nothing
        to train on.
    """
    turns = Turns(len(batches), epochs, slices, schedule, hold, exchanges)
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    sides = [turns.side] * (len(layers) - 1) + [1]  # the last layer trains whole
    new = optimizer_of(optimizer, lr)
    optimizers = [Sliced(layer.W.shape, side, new) for layer, side in zip(layers, sides)]
    layers, losses = [Layer(W.copy(), b.copy()) for W, b in layers], []
    for t, (X, labels) in steps(batches, epochs):
        h, z = forward(X, layers, **toggles)
        losses.append(loss(z[-1], labels))
        gradients = gradient(h, z, labels, layers, **toggles)
        if t == 0:
            first = gradients
        for k, ((W, b), (dW, db)) in enumerate(zip(layers, gradients)):
            before = W.copy()
            optimizers[k].step(W, b, dW, db, turns.training(t, sides[k]))
            if binary_weights:
                W[:], b[:] = clamp(W), clamp(b)
            if k < len(layers) - 1:
                turns.put_back(t, W, before)
    return Trained(layers, np.array(losses), first)


def inference_scales(
    batches: Iterable[Batch], layers: Sequence[Layer], *, binary_weights: bool = True, binary_activations: bool = True
) -> list[float]:
    """Scale s_k of each hidden layer for inference: mean |z_k| over the training set.

    Parameters as in :func:`train`; see :func:`.dense.mean_magnitudes`.
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    return mean_magnitudes(forward(X, layers, **toggles)[1][:-1] for X, _ in batches)


def predict(
    X: np.ndarray,
    layers: Sequence[Layer],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> np.ndarray:
    """Predict class numbers by the largest logit; parameters as in :func:`forward`.

    Returns
    -------
    ndarray of int64, (N,)
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    classes: np.ndarray = forward(X, layers, **toggles, scales=scales)[1][-1].argmax(axis=1)
    return classes
