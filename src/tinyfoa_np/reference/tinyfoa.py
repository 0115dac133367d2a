"""TinyFoA on fully connected layers, as the equations of the paper and of the authors' published code say it.

Huang and Aminifar, "TinyFoA: Memory Efficient Forward-Only Algorithm for On-Device Learning", AAAI 2025. Each layer
has its own fixed random classifier P and learns from its loss alone, so no error ever travels down through layers.
Layers train one after another, lowest first; what a trained layer puts out is what the next one trains on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import random
from .training import Batch, Sliced, Turns, optimizer_of, steps

# One batch through one layer ------------------------------------------------------------------------------------------


def binarize_weights(W: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights of one bit and a common scale, Wb = alpha sign(W) with alpha = mean |W|.

    Parameters
    ----------
    W : ndarray of float, (O, I)
        The WHOLE layer, as the last step left it. The sign of 0 is +1.

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
    """What a layer makes of a batch: z = X Wb^T + b, then h = s [z > 0], or h = max(z, 0).

    Parameters
    ----------
    X : ndarray of float, (B, I)
    W, b : ndarray of float, (O, I) and (O,)
    binary_weights : bool
        Whether Wb is :func:`binarize_weights` of W, or W itself.
    binary_activations : bool
        Whether h has one bit and a common scale s (a z of 0 gives bit 0), or is the ReLU of z.
    scale : float, optional
        s. In training it is mean |z| of this very batch, the default. In inference it must be a stored one, or a
        sample's answer would depend on the samples beside it: :func:`mean_magnitude` of the training set.

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
    """What the fixed classifier says of a layer's activations, a = h P^T.

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
    e = np.exp(a - a.max(axis=1, keepdims=True))  # the largest exponent is 0: nothing overflows
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
    """What the loss sends back to the logits, its gradient (p - Y) / B with p = softmax(a) and Y one-hot.

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
    """Gradient of the loss, with straight-through estimators where something was binarized.

    ::

        dz = ((p - Y) / B) P [z > 0] [|z| < 1]      the last factor only with binary activations
        dW = dz^T X [|W| < 1]                       the last factor only with binary weights
        db = sum of dz over the batch

    The straight-through masks are strict, as in the authors' code (the paper's text says <= 1); the scales alpha and s
    carry no gradient. B is the size of this batch, so a last batch that is not full weighs as much as the others.

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
    """Keep weights or biases within +-1, the range in which the straight-through estimator lets them learn."""
    kept: np.ndarray = np.clip(w, -1, 1)
    return kept


# One layer over all its steps -----------------------------------------------------------------------------------------


class TrainedLayer(NamedTuple):
    """What :func:`train_layer` returns."""

    W: np.ndarray  # (O, I), after the last step
    b: np.ndarray  # (O,)
    losses: np.ndarray  # (steps,), float64: the loss of each step, before its update
    dW_first: np.ndarray  # gradients at step 0 of what trained then: (O, I), or that of the first slice
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
    """Train one layer: a step for every batch, in the order given, `epochs` times over.

    The schedules differ in what of the gradient becomes an update:

    - ``none``: the whole layer trains, with one optimizer.
    - ``slice``: slice (j, i) of the M x M grid trains, with the biases of rows j; at the end of a hold the next slice
      takes its place. Each slice, and each group of biases, has its own optimizer state and step count. With several
      `visits` so many slices train in every step, one after another, all from one forward pass; a group of biases that
      they share steps once.
    - ``stream``: every slice trains in every step, all from one forward pass; each group of biases steps once. Equal
      to ``none``, as neither the gradient nor the optimizer mixes weights.
    - ``frozen``: as ``none``, moments included, and then the weights of slice (q, q), q = (hold + 1) mod M, are put
      back as they were. All biases train. This is what the authors' published script does.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I) of float, labels (B,) of integer; B may differ from batch to batch.
    W, b : ndarray of float, (O, I) and (O,)
        Initial weights and biases.
    P : ndarray of float, (C, O)
        Fixed projection.
    slices, schedule, hold, exchanges, visits, order
        As for :class:`.training.Turns`; ``none`` has no use for slices.
    epochs : int
        How often the batches are gone through.
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
        For a schedule or optimizer that does not exist, more slices than rows or columns, both `hold` and `exchanges`,
        or nothing to train on.
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
    """Outputs of a trained layer for every batch: what the next layer trains on.

    With binary activations each batch keeps the scale s that is its own.

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
    """The one scale s that a layer keeps for inference: mean |z| over all samples and neurons of the hand-over pass.

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
    """One trained layer, with all that inference needs."""

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
    """Train a network, layer after layer, each on what the one below hands over.

    Parameters
    ----------
    batches : sequence of (X, labels)
        The training set; X (B, I) of float32, labels (B,) of integer.
    widths : sequence of int
        O of each layer, lowest first.
    classes : int
        C.
    seed : int
        Initial weights, biases and projections are made from it (:mod:`.random`).
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
    """Class numbers, by the largest logit of the last layer.

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
