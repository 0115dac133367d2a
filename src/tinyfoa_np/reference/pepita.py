"""PEPITA on fully connected layers: present the error to perturb the input to modulate activity.

Dellaferrera and Kreiman, "Error-driven input modulation: solving the credit assignment problem without a backward
pass", ICML 2022. There are two forward passes: one of the inputs, and one of the inputs plus the error of the first
pass, projected through a fixed random matrix. A layer's update is the difference of its activations between the passes.
There are no biases. The last layer, a softmax, always has full precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .dense import linear, magnitude, mean_magnitudes
from .optimizers import Velocity
from .tinyfoa import clamp, softmax
from .training import steps

Batch = tuple[np.ndarray, np.ndarray, Sequence[np.ndarray] | None]  # inputs X (B, I), labels (B,), dropout (B, O) each


def forward(
    X: np.ndarray,
    weights: Sequence[np.ndarray],
    dropout: Sequence[np.ndarray] | None = None,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pass a batch through all layers: h_0 = X, z_k = h_k Wb_k^T, h_k+1 = D_k s_k [z_k > 0] or D_k max(z_k, 0).

    At the top Wb = W and the outputs are softmax(z). Below, Wb = alpha sign(W), as in :func:`.dense.linear`, and
    s_k = mean |z_k| over this batch, before dropout.

    Parameters
    ----------
    X : ndarray of float, (B, I)
    weights : sequence of ndarray of float, (O, I) each
        Lowest layer first, at least one.
    dropout : sequence of ndarray of float, (B, O) each, optional
        D_k for each layer but the last: 0, or 1 / keep rate if the activation is kept. None for inference.
    binary_weights, binary_activations : bool
        Whether all layers but the last are binary. The two options are independent.
    scales : sequence of float, optional
        Stored scales s_k for inference, from :func:`inference_scales`; by default each batch uses its own.

    Returns
    -------
    h, z : lists of ndarray of float
        h: inputs (B, I) of each layer and, at the end, the outputs (B, C); z: pre-activations (B, O) of each.
    """
    h, z = [X], []
    for k, W in enumerate(weights[:-1]):
        z.append(linear(h[k], W, binary_weights=binary_weights))
        if binary_activations:
            s = magnitude(z[k]) if scales is None else scales[k]
            active = (s * (z[k] > 0)).astype(X.dtype)
        else:
            active = np.maximum(z[k], 0)
        h.append(active if dropout is None else active * dropout[k])
    z.append(h[-1] @ weights[-1].T)
    return [*h, softmax(z[-1])], z


def modulate(X: np.ndarray, outputs: np.ndarray, labels: np.ndarray, F: np.ndarray) -> np.ndarray:
    """Inputs of the second pass, X + e F^T with e = y - Y.

    Parameters
    ----------
    X : ndarray of float, (B, I)
    outputs : ndarray of float, (B, C)
        y of the first pass.
    labels : ndarray of integer, (B,)
    F : ndarray of float, (I, C)
        Fixed and random.

    Returns
    -------
    ndarray of float, (B, I)
    """
    modulated: np.ndarray = X + (outputs - np.eye(F.shape[1], dtype=X.dtype)[labels]) @ F.T
    return modulated


def ascent(h: Sequence[np.ndarray], modulated: Sequence[np.ndarray], labels: np.ndarray) -> list[np.ndarray]:
    """Ascent direction of each layer's weights, summed over the batch.

    ::

        dW_k   = (m_k+1 - h_k+1)^T m_k     h of the first pass, m of the second, dropout included; m_0 is X + e F^T
        dW_top = (Y - m_top+1)^T m_top     m_top+1 is the softmax of the second pass

    There are no straight-through masks, as nothing is differentiated.

    Parameters
    ----------
    h, modulated : sequences of ndarray of float
        From :func:`forward` of X and of :func:`modulate`.
    labels : ndarray of integer, (B,)

    Returns
    -------
    list of ndarray of float, (O, I) each
        Lowest layer first.
    """
    m = modulated
    Y = np.eye(m[-1].shape[1], dtype=m[-1].dtype)[labels]
    return [(m[k + 1] - h[k + 1]).T @ m[k] for k in range(len(m) - 2)] + [(Y - m[-1]).T @ m[-2]]


class Trained(NamedTuple):
    """The result of :func:`train`."""

    weights: list[np.ndarray]  # after the last step, lowest first
    losses: np.ndarray  # (steps,), float64: mean squared error of the first pass, over all B C outputs
    first: list[np.ndarray]  # the directions of step 0
    first_outputs: np.ndarray  # (B, C), of the first pass of step 0


def train(
    batches: Sequence[Batch],
    weights: Sequence[np.ndarray],
    F: np.ndarray,
    *,
    epochs: int = 1,
    lr: float = 1e-3,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> Trained:
    """Train all layers: one step per batch, in the given order, for `epochs` epochs.

    With v initially 0::

        v <- 0.9 v + lr dW / B
        W <- W + v, clamped to +-1, with or without binary weights, in the last layer too

    Parameters
    ----------
    batches : sequence of (X, labels, dropout)
        X (B, I) of float, labels (B,) of integer, dropout as in :func:`forward`, the same for both passes; B may differ
        between batches.
    weights : sequence of ndarray of float, (O, I) each
        Initial weights.
    F : ndarray of float, (I, C)
        Fixed and random.
    epochs : int
        Number of passes over the batches.
    lr : float
        Step size, constant here.
    binary_weights, binary_activations : bool
        As in :func:`forward`.

    Returns
    -------
    Trained
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    optimizers = [Velocity(lr) for _ in weights]

    weights, losses = list(weights), []
    for t, (X, labels, dropout) in steps(batches, epochs):
        h, _ = forward(X, weights, dropout, **toggles)
        m, _ = forward(modulate(X, h[-1], labels, F), weights, dropout, **toggles)
        losses.append(np.mean((h[-1].astype(np.float64) - np.eye(F.shape[1])[labels]) ** 2))
        directions = ascent(h, m, labels)
        if t == 0:
            first, first_outputs = directions, h[-1]
        weights = [clamp(o.step(W, dW / len(X))) for o, W, dW in zip(optimizers, weights, directions)]
    return Trained(weights, np.array(losses), first, first_outputs)


def inference_scales(
    inputs: Iterable[np.ndarray],
    weights: Sequence[np.ndarray],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> list[float]:
    """Scale s_k of each layer but the last for inference: mean |z_k| over the training set, without dropout.

    Parameters
    ----------
    inputs : iterable of ndarray of float, (B, I) each
    weights, binary_weights, binary_activations
        As in :func:`forward`; see :func:`.dense.mean_magnitudes`.
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    return mean_magnitudes(forward(X, weights, **toggles)[1][:-1] for X in inputs)


def predict(
    X: np.ndarray,
    weights: Sequence[np.ndarray],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> np.ndarray:
    """Predict class numbers by the largest output of one pass without dropout; parameters as in :func:`forward`.

    Returns
    -------
    ndarray of int64, (N,)
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    classes: np.ndarray = forward(X, weights, **toggles, scales=scales)[0][-1].argmax(axis=1)
    return classes
