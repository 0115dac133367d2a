"""TinyFoA on fully connected layers, following the equations of the paper and of the authors' published code.

Huang and Aminifar, "TinyFoA: Memory Efficient Forward-Only Algorithm for On-Device Learning", AAAI 2025. Each layer
has its own fixed random classifier P and learns from its own loss alone, so no error travels down through the layers.
Layers train one after another, lowest first; the outputs of a trained layer are the inputs of the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import random
from .training import Batch, Sliced, Turns, optimizer_of, steps

# One batch through one layer ------------------------------------------------------------------------------------------


def binarize_weights(W: np.ndarray) -> tuple[np.ndarray, float]:
    """Binarize weights with a common scale: Wb = alpha sign(W) with alpha = mean |W|.

    Parameters
    ----------
    W : ndarray of float, (O, I)
        The WHOLE layer, as of the last step. The sign of 0 is +1.

    Returns
    -------
    Wb : ndarray of float, (O, I)
    alpha : float
    """
    alpha = float(np.abs(W).mean(dtype=np.float64))
    return (alpha * np.where(W >= 0, 1.0, -1.0)).astype(W.dtype), alpha


def forward(
    X: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Run a layer on a batch: z = X Wb^T + b, then h = s [z > 0], or h = max(z, 0).

    Parameters
    ----------
    X : ndarray of float, (B, I)
    W, b : ndarray of float, (O, I) and (O,)
    binary_weights : bool
        Whether Wb is :func:`binarize_weights` of W, or W itself.
    binary_activations : bool
        Whether h is binary with a common scale s (z = 0 gives bit 0), or the ReLU of z.
    scale : float, optional
        s. By default mean |z| of this batch, as in training. In inference it must be a stored scale, see
        :func:`mean_magnitude`; otherwise the prediction for a sample would depend on the other samples in the batch.

    Returns
    -------
    z, h : ndarray of float, (B, O)
        Pre-activations and activations.
    """
    Wb = binarize_weights(W)[0] if binary_weights else W
    z = X @ Wb.T + b
    if not binary_activations:
        return z, np.maximum(z, 0)
    s = float(np.abs(z).mean(dtype=np.float64)) if scale is None else scale
    return z, (s * (z > 0)).astype(z.dtype)


def logits(h: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Logits of the fixed classifier for a layer's activations, a = h P^T.

    Parameters
    ----------
    h : ndarray of float, (B, O)
    P : ndarray of float, (C, O)

    Returns
    -------
    a : ndarray of float, (B, C)
    """
    a: np.ndarray = h @ P.T
    return a


def softmax(a: np.ndarray) -> np.ndarray:
    """Probabilities of the classes, p_c = exp(a_c) / sum exp(a). Shapes (B, C) and (B, C)."""
    e = np.exp(a - a.max(axis=1, keepdims=True))  # the largest exponent is 0, so nothing overflows
    p: np.ndarray = e / e.sum(axis=1, keepdims=True)
    return p


def loss(a: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy over the batch, in nats and float64: the mean of log(sum exp(a)) - a_label.

    Parameters
    ----------
    a : ndarray of float, (B, C)
        Logits.
    labels : ndarray of integer, (B,)
        Class numbers, from 0.

    Returns
    -------
    float
    """
    a = a.astype(np.float64)
    a = a - a.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(a).sum(axis=1)) - a[np.arange(len(labels)), labels]))


def error(a: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Gradient of the loss with respect to the logits, (p - Y) / B with p = softmax(a) and Y one-hot.

    Parameters
    ----------
    a : ndarray of float, (B, C)
        Logits.
    labels : ndarray of integer, (B,)
        Class numbers, from 0.

    Returns
    -------
    ndarray of float, (B, C)
    """
    B, C = a.shape
    Y = np.eye(C, dtype=a.dtype)[labels]
    da: np.ndarray = (softmax(a) - Y) / B
    return da


def gradient(
    X: np.ndarray,
    W: np.ndarray,
    z: np.ndarray,
    a: np.ndarray,
    labels: np.ndarray,
    P: np.ndarray,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of the loss, with straight-through estimators for binarized quantities.

    ::

        dz = ((p - Y) / B) P [z > 0] [|z| < 1]      the last factor only with binary activations
        dW = dz^T X [|W| < 1]                       the last factor only with binary weights
        db = sum of dz over the batch

    The straight-through masks are strict, as in the authors' code (the paper's text says <= 1); the scales alpha and s
    carry no gradient. B is the size of this batch, so a smaller last batch has the same weight as the others.

    Parameters
    ----------
    X : ndarray of float, (B, I)
    W : ndarray of float, (O, I)
    z : ndarray of float, (B, O)
        Pre-activations, from :func:`forward`.
    a : ndarray of float, (B, C)
        Logits, from :func:`logits`.
    labels : ndarray of integer, (B,)
    P : ndarray of float, (C, O)

    Returns
    -------
    dz, dW, db : ndarray of float, (B, O), (O, I), (O,)
    """
    dz = error(a, labels) @ P * (z > 0)
    if binary_activations:
        dz = dz * (np.abs(z) < 1)
    dW = dz.T @ X
    if binary_weights:
        dW = dW * (np.abs(W) < 1)
    return dz, dW, dz.sum(axis=0)


def clamp(w: np.ndarray) -> np.ndarray:
    """Clip weights or biases to +-1, the range in which the straight-through estimator lets them learn."""
    kept: np.ndarray = np.clip(w, -1, 1)
    return kept


# One layer over all its steps -----------------------------------------------------------------------------------------


class TrainedLayer(NamedTuple):
    """The result of :func:`train_layer`."""

    W: np.ndarray  # (O, I), after the last step
    b: np.ndarray  # (O,)
    losses: np.ndarray  # (steps,), float64: the loss of each step, before its update
    dW_first: np.ndarray  # gradients at step 0 of the parameters trained then: (O, I), or that of the first slice
    db_first: np.ndarray  # (O,), or that of one group of biases


def train_layer(
    batches: Sequence[Batch],
    W: np.ndarray,
    b: np.ndarray,
    P: np.ndarray,
    *,
    slices: int = 2,
    schedule: str = "slice",
    hold: int | None = None,
    exchanges: int | None = None,
    visits: int = 1,
    order: str = "rows",
    epochs: int = 1,
    optimizer: str = "adam",
    lr: float = 1e-4,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> TrainedLayer:
    """Train one layer: one step per batch, in the given order, for `epochs` epochs.

    The schedule determines which part of the gradient is applied:

    - ``none``: the whole layer trains, with one optimizer.
    - ``slice``: slice (j, i) of the M x M grid trains, with the biases of rows j; at the end of a hold the next slice
      replaces it. Each slice, and each group of biases, has its own optimizer state and step count. If `visits` is
      greater than 1, that number of slices train in every step, one after another, from a single forward pass; a group
      of biases that they share steps once.
    - ``stream``: every slice trains in every step, from a single forward pass; each group of biases steps once. Equal
      to ``none``, as neither the gradient nor the optimizer mixes weights.
    - ``frozen``: as ``none``, including moments, but then the weights of slice (q, q), q = (hold + 1) mod M, are
      restored. All biases train. This is what the authors' published script does.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I) of float, labels (B,) of integer; B may differ from batch to batch.
    W, b : ndarray of float, (O, I) and (O,)
        Initial weights and biases.
    P : ndarray of float, (C, O)
        Fixed projection.
    slices, schedule, hold, exchanges, visits, order
        As for :class:`.training.Turns`; ``none`` does not use slices.
    epochs : int
        Number of passes over the batches.
    optimizer : {"adam", "momentum", "sgd"}
    lr : float
        Step size.
    binary_weights, binary_activations : bool
        As in :func:`forward`.

    Returns
    -------
    TrainedLayer

    Raises
    ------
    ValueError
        For an unknown schedule or optimizer, more slices than rows or columns, both `hold` and `exchanges`, or nothing
        to train on.
    """
    turns = Turns(len(batches), epochs, slices, schedule, hold, exchanges, visits, order)
    optimizers = Sliced(W.shape, turns.side, optimizer_of(optimizer, lr))
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    W, b, losses = W.copy(), b.copy(), []
    for t, (X, labels) in steps(batches, epochs):
        z, h = forward(X, W, b, **toggles)
        a = logits(h, P)
        losses.append(loss(a, labels))
        _, dW, db = gradient(X, W, z, a, labels, P, **toggles)
        if t == 0:
            rows, columns = optimizers.rows[0], optimizers.columns[0]
            first = (dW[rows, columns], db[rows]) if schedule == "slice" else (dW, db)
        before = W.copy()
        optimizers.step(W, b, dW, db, turns.training(t, turns.side))
        turns.put_back(t, W, before)
        W, b = clamp(W), clamp(b)
    return TrainedLayer(W, b, np.array(losses), *first)


def hand_over(
    batches: Iterable[Batch],
    W: np.ndarray,
    b: np.ndarray,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> list[np.ndarray]:
    """Outputs of a trained layer for every batch, the inputs of the next layer.

    With binary activations each batch keeps its own scale s.

    Parameters
    ----------
    batches : iterable of (X, labels)
        As in :func:`train_layer`.
    W, b : ndarray of float, (O, I) and (O,)
        The trained layer.

    Returns
    -------
    list of ndarray of float, (B, O) each
    """
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    return [forward(X, W, b, **toggles)[1] for X, _ in batches]


def mean_magnitude(batches: Iterable[Batch], W: np.ndarray, b: np.ndarray, *, binary_weights: bool = True) -> float:
    """The scale s of a layer for inference: mean |z| over all samples and neurons of the hand-over pass.

    Parameters as in :func:`hand_over`; the result is sum |z| / (N O) for N samples in all.
    """
    total, count = 0.0, 0
    for X, _ in batches:
        z, _ = forward(X, W, b, binary_weights=binary_weights)
        total += float(np.abs(z).sum(dtype=np.float64))
        count += z.size
    return total / count


# A network ------------------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """One trained layer, with everything that inference needs."""

    W: np.ndarray  # (O, I)
    b: np.ndarray  # (O,)
    P: np.ndarray  # (C, O)
    scale: float  # s of inference


def train(
    batches: Sequence[Batch],
    widths: Sequence[int],
    classes: int,
    *,
    seed: int = 0,
    binary_weights: bool = True,
    binary_activations: bool = True,
    **options: Any,
) -> list[Layer]:
    """Train a network layer by layer, each layer on the outputs of the one below.

    Parameters
    ----------
    batches : sequence of (X, labels)
        The training set; X (B, I) of float32, labels (B,) of integer.
    widths : sequence of int
        O of each layer, lowest first.
    classes : int
        C.
    seed : int
        Seed of initial weights, biases and projections (:mod:`.random`).
    binary_weights, binary_activations : bool
        As in :func:`forward`.
    **options
        The other options of :func:`train_layer`, the same for every layer.

    Returns
    -------
    list of Layer
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    layers = []
    for number, outputs in enumerate(widths):
        inputs = batches[0][0].shape[1]
        W = random.weights(outputs, inputs, seed=seed, layer=number)
        b = random.biases(outputs, inputs, seed=seed, layer=number)
        P = random.projection(classes, outputs, seed=seed, layer=number)
        W, b, *_ = train_layer(batches, W, b, P, **toggles, **options)
        layers.append(Layer(W, b, P, mean_magnitude(batches, W, b, binary_weights=binary_weights)))
        handed_over = hand_over(batches, W, b, **toggles)
        batches = [(h, labels) for h, (_, labels) in zip(handed_over, batches)]
    return layers


def predict(
    X: np.ndarray, layers: Iterable[Layer], *, binary_weights: bool = True, binary_activations: bool = True
) -> np.ndarray:
    """Predict class numbers by the largest logit of the last layer.

    Parameters
    ----------
    X : ndarray of float, (N, I)
    layers : iterable of Layer
        From :func:`train`; at least one.
    binary_weights, binary_activations : bool
        As in training.

    Returns
    -------
    ndarray of int64, (N,)
    """
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    h = X
    for layer in layers:
        _, h = forward(h, layer.W, layer.b, **toggles, scale=layer.scale)
    classes: np.ndarray = logits(h, layer.P).argmax(axis=1)
    return classes
