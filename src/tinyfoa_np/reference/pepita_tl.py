"""PEPITA-TL, time-local PEPITA, and weight mirroring, on fully connected layers without biases.

Srinivasan, Mignacco, Sorbaro and others, "Forward learning with top-down feedback", ICLR 2024 (arXiv 2302.05440).
PEPITA (:mod:`.pepita`) keeps a layer's activations from the first pass until the second. Here each pass has its own
step, computed from the activations of that pass alone: Hebbian after the first pass, anti-Hebbian after the second.
Weight mirroring trains the feedback, a product of one matrix per layer, towards the transpose of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .optimizers import Momentum
from .tinyfoa import loss, softmax
from .training import steps

Batch = tuple[np.ndarray, np.ndarray]  # inputs X (B, I), labels (B,)


def forward(
    X: np.ndarray, weights: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """Forward pass h_0 = X, h_k+1 = max(D_k (h_k W_k^T), 0), at the top softmax(h W^T).

    Parameters
    ----------
    X : ndarray of float, (B, I)
    weights : sequence of ndarray of float, (O, I) each
    masks : sequence of ndarray of float, (B, O) each, optional
        Dropout D_k of each layer but the last: 0 or 1 / keep rate.

    Returns
    -------
    list of ndarray of float
        Inputs of every layer and, at the end, the outputs (B, C).
    """
    h = [X]
    for k, W in enumerate(weights[:-1]):
        z = h[-1] @ W.T
        h.append(np.maximum(z if masks is None else z * masks[k], 0))
    return [*h, softmax(h[-1] @ weights[-1].T)]


def hebbian(h: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Gradient of each layer in the first pass, h_k+1^T h_k / B; at the top h_k+1 is the softmax."""
    return [h[k + 1].T @ h[k] / len(h[0]) for k in range(len(h) - 1)]


def anti_hebbian(h: Sequence[np.ndarray], labels: np.ndarray) -> list[np.ndarray]:
    """Gradient of each layer in the second pass, -h_k+1^T h_k / B; at the top -Y^T h / B with Y one-hot."""
    Y = np.eye(h[-1].shape[1], dtype=h[0].dtype)[labels]
    return [-above.T @ below / len(Y) for below, above in zip(h, [*h[1:-1], Y])]


def modulated(X: np.ndarray, outputs: np.ndarray, labels: np.ndarray, feedback: np.ndarray) -> np.ndarray:
    """Inputs of the second pass, X - (p - Y) F^T, for feedback F (I, C)."""
    seen: np.ndarray = X - (outputs - np.eye(outputs.shape[1], dtype=X.dtype)[labels]) @ feedback.T
    return seen


class Trained(NamedTuple):
    """The result of :func:`train` and :func:`train_mirrored`."""

    weights: list[np.ndarray]  # after the last step, lowest first
    feedback: list[np.ndarray]  # (I, C), or the mirrored matrices
    losses: np.ndarray  # (steps,): cross-entropy as published, with a second softmax over the softmax output
    outputs: np.ndarray  # (B, C), of the first pass of step 0
    first: list[list[np.ndarray]]  # gradients of step 0, pass by pass
    between: list[np.ndarray]  # the weights between the passes of step 0


def train(
    batches: Sequence[Batch],
    weights: Sequence[np.ndarray],
    feedback: np.ndarray,
    masks: Sequence[Sequence[Sequence[np.ndarray]]] | None = None,
    *,
    lr: float = 0.01,
    decay: float = 1e-4,
) -> Trained:
    """Train with two steps per batch, with momentum 0.9 and weight decay, sharing one momentum buffer.

    Parameters
    ----------
    batches : sequence of (X, labels)
    weights : sequence of ndarray of float, (O, I) each
    feedback : ndarray of float, (I, C)
    masks : sequence, optional
        Dropout masks of :func:`forward`, for each batch and each of its two passes.
    lr, decay : float
    """
    weights, optimizers = list(weights), [Momentum(lr, decay) for _ in weights]
    losses = []
    for t, (X, labels) in steps(batches):
        first_masks, second_masks = (None, None) if masks is None else masks[t]
        h = forward(X, weights, first_masks)
        losses.append(loss(h[-1], labels))
        one = hebbian(h)
        weights = [o.step(W, g) for o, W, g in zip(optimizers, weights, one)]
        m = forward(modulated(X, h[-1], labels, feedback), weights, second_masks)
        two = anti_hebbian(m, labels)
        if t == 0:
            outputs, first, between = h[-1], [one, two], weights
        weights = [o.step(W, g) for o, W, g in zip(optimizers, weights, two)]
    return Trained(weights, [feedback], np.array(losses), outputs, first, between)


def train_mirrored(
    batches: Sequence[Batch],
    weights: Sequence[np.ndarray],
    feedback: Sequence[np.ndarray],
    noise: Sequence[Sequence[np.ndarray]],
    masks: Sequence[Sequence[np.ndarray]] | None = None,
    *,
    lr: float = 0.01,
    decay: float = 1e-4,
    deviation: float = 0.05,
    mirror_lr: float = 0.05,
    mirror_decay: float = 1e-3,
) -> Trained:
    """Train with one PEPITA step per batch and feedback F = F_0 F_1 ...; each F_k (in, out) is then mirrored.

    ::

        g_k = (h_k+1 - m_k+1)^T m_k / B,  at the top (p - Y)^T m / B       h of the first pass, m of the second
        n = 0.1 noise - its mean,  gF_k = -n^T f_k(n) / B                  f_k: layer k with its new weights
        F_k <- F_k - lr (gF_k + decay F_k), then times (sqrt(2 / I) deviation / std(F))^(1 / L)

    Parameters
    ----------
    batches, weights, masks, lr, decay
        As for :func:`train`, with one set of masks per batch, shared by both passes.
    feedback : sequence of ndarray of float, (in, out) each
    noise : sequence of sequences of ndarray of float
        Standard normals (B, in) for each batch and layer.
    deviation, mirror_lr, mirror_decay : float
    """
    weights, feedback, optimizers = list(weights), list(feedback), [Momentum(lr, decay) for _ in weights]
    losses = []
    for t, (X, labels) in steps(batches):
        kept = None if masks is None else masks[t]
        h = forward(X, weights, kept)
        losses.append(loss(h[-1], labels))
        error = h[-1] - np.eye(h[-1].shape[1], dtype=X.dtype)[labels]
        m = forward(modulated(X, h[-1], labels, _product(feedback)), weights, kept)
        differences = [a - b for a, b in zip(h[1:-1], m[1:-1])]
        slopes = [d.T @ below / len(X) for d, below in zip([*differences, error], m)]
        if t == 0:
            outputs, first, between = h[-1], [slopes], weights
        weights = [o.step(W, g) for o, W, g in zip(optimizers, weights, slopes)]
        mirrored = [_mirror(W, noise[t][k], top=k == len(weights) - 1) for k, W in enumerate(weights)]
        if t == 0:
            first.append(mirrored)
        rate, shrink = X.dtype.type(mirror_lr), X.dtype.type(mirror_decay)
        feedback = [F - rate * (g + shrink * F) for F, g in zip(feedback, mirrored)]
        size = np.sqrt(2 / len(feedback[0])) * deviation / _product(feedback).std(ddof=1)
        feedback = [F * X.dtype.type(size ** (1 / len(feedback))) for F in feedback]
    return Trained(weights, feedback, np.array(losses), outputs, first, between)


def _product(feedback: Sequence[np.ndarray]) -> np.ndarray:
    whole = feedback[0]
    for F in feedback[1:]:
        whole = whole @ F
    return whole


def _mirror(W: np.ndarray, noise: np.ndarray, top: bool) -> np.ndarray:
    n = W.dtype.type(0.1) * noise
    n = n - n.mean()
    z = n @ W.T
    slope: np.ndarray = -n.T @ (softmax(z) if top else np.maximum(z, 0)) / len(n)
    return slope
