"""Direct random target projection on fully connected layers.

Frenkel, Lefebvre and Bol, "Learning without feedback: fixed random learning signals allow for feedforward training of
deep neural networks", Frontiers in Neuroscience 2021. A hidden layer receives the label through a fixed random matrix,
not the error at the top, so it can be updated as soon as its forward pass is done. Only the output layer receives the
error. The published code used by TinyFoA's authors binarizes pre-activations BEFORE tanh and sigmoid, in the output
layer too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .dense import Layer, Trained, linear, magnitude, mean_magnitudes
from .optimizers import Nesterov
from .training import Batch, steps


def forward(
    X: np.ndarray,
    layers: Sequence[Layer],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pass a batch through all layers: z_k = h_k Wb_k^T + b_k, h_k+1 = tanh(q_k), at the top 1 / (1 + exp(-q_k)).

    h_0 = X. q_k = s_k sign(z_k) with binary activations, where s_k = mean |z_k| over this batch; otherwise q_k = z_k.
    The sign of 0 is +1. Wb = alpha sign(W), as in :func:`.dense.linear`.

    Parameters
    ----------
    X : ndarray of float, (B, I)
    layers : sequence of Layer
        Lowest first, at least one; the last one has one output per class.
    binary_weights, binary_activations : bool
        Whether all layers, including the last, are binary. Without binary weights, activations are never binary,
        whatever this option says: in the published code only the layer with binary weights can binarize them.
    scales : sequence of float, optional
        Stored scales s_k for inference, from :func:`inference_scales`; by default each batch uses its own.

    Returns
    -------
    h, z : lists of ndarray of float
        h: inputs (B, I) of each layer and, at the end, the outputs (B, C); z: pre-activations (B, O) of each.
    """
    h, z = [X], []
    for k, (W, b) in enumerate(layers):
        q = linear(h[k], W, b, binary_weights=binary_weights)
        z.append(q)
        if binary_weights and binary_activations:
            s = magnitude(q) if scales is None else scales[k]
            q = (s * np.where(q >= 0, 1.0, -1.0)).astype(X.dtype)
        h.append(np.tanh(q) if k + 1 < len(layers) else 0.5 * (1 + np.tanh(0.5 * q)))  # the logistic function
    return h, z


def loss(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Binary cross-entropy, -Y log(y) - (1 - Y) log(1 - y), averaged over all B C outputs, in float64.

    Logarithms are clipped at -100 from below.

    Parameters
    ----------
    outputs : ndarray of float, (B, C)
        y, from 0 to 1.
    labels : ndarray of integer, (B,)
    """
    y = outputs.astype(np.float64)
    of_label = np.arange(y.shape[1]) == labels[:, None]  # (B, C), Y
    with np.errstate(divide="ignore"):
        return float(-np.mean(np.maximum(np.log(np.where(of_label, y, 1 - y)), -100)))


def gradient(
    h: Sequence[np.ndarray],
    z: Sequence[np.ndarray],
    labels: np.ndarray,
    layers: Sequence[Layer],
    projections: Sequence[np.ndarray],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> list[Layer]:
    """Update directions of every layer; at the top, this is the gradient of :func:`loss`.

    ::

        dz_top = ((y - Y) / (B C)) [|z_top| < 1]
        dz_k   = (Y P_k) (1 - h_k+1^2) [|z_k| < 1]        [|z| < 1] only with binary weights and activations
        dW_k   = dz_k^T h_k [|W_k| < 1]                   the last factor only with binary weights
        db_k   = sum of dz_k over the batch

    Y P_k is the label's row of P_k. It is divided neither by B nor by C, so hidden layers learn B C times faster than
    with a mean loss.

    Parameters
    ----------
    h, z : sequences of ndarray of float
        From :func:`forward`.
    labels : ndarray of integer, (B,)
    layers : sequence of Layer
        As given to :func:`forward`.
    projections : sequence of ndarray of float, (C, O) each
        P_k, fixed and random, for every layer but the last.

    Returns
    -------
    list of Layer
        (dW, db) of each layer, lowest first.
    """
    top = len(layers) - 1
    Y = np.eye(h[-1].shape[1], dtype=h[-1].dtype)[labels]
    gradients = []
    for k, (W, _) in enumerate(layers):
        dz = (h[-1] - Y) / Y.size if k == top else Y @ projections[k] * (1 - h[k + 1] * h[k + 1])
        if binary_weights and binary_activations:
            dz = dz * (np.abs(z[k]) < 1)
        dW = dz.T @ h[k]
        if binary_weights:
            dW = dW * (np.abs(W) < 1)
        gradients.append(Layer(dW, dz.sum(axis=0)))
    return gradients


def train(
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    projections: Sequence[np.ndarray],
    *,
    epochs: int = 1,
    lr: float = 1e-4,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> Trained:
    """Train all layers by Nesterov momentum: one step per batch, in the given order, for `epochs` epochs.

    There is no clamping and no weight decay.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I) of float, labels (B,) of integer; B may differ from batch to batch.
    layers : sequence of Layer
        Initial weights and biases.
    projections : sequence of ndarray of float, (C, O) each
        For every layer but the last.
    epochs : int
        Number of passes over the batches.
    lr : float
        Step size.
    binary_weights, binary_activations : bool
        As in :func:`forward`.

    Returns
    -------
    Trained
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    optimizers = [(Nesterov(lr), Nesterov(lr)) for _ in layers]  # of weights, of biases

    layers, losses = list(layers), []
    for t, (X, labels) in steps(batches, epochs):
        h, z = forward(X, layers, **toggles)
        losses.append(loss(h[-1], labels))
        gradients = gradient(h, z, labels, layers, projections, **toggles)
        if t == 0:
            first = gradients
        for k, (W, b) in enumerate(layers):
            of_weights, of_biases = optimizers[k]
            layers[k] = Layer(of_weights.step(W, gradients[k].W), of_biases.step(b, gradients[k].b))
    return Trained(layers, np.array(losses), first)


def inference_scales(
    batches: Iterable[Batch], layers: Sequence[Layer], *, binary_weights: bool = True, binary_activations: bool = True
) -> list[float]:
    """Scale s_k of each layer for inference: mean |z_k| over the training set.

    Parameters as in :func:`train`; see :func:`.dense.mean_magnitudes`.
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    return mean_magnitudes(forward(X, layers, **toggles)[1] for X, _ in batches)


def predict(
    X: np.ndarray,
    layers: Sequence[Layer],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> np.ndarray:
    """Predict class numbers by the largest output; parameters as in :func:`forward`.

    Binary outputs have two values, so ties are common; the lowest class number wins.

    Returns
    -------
    ndarray of int64, (N,)
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    classes: np.ndarray = forward(X, layers, **toggles, scales=scales)[0][-1].argmax(axis=1)
    return classes
