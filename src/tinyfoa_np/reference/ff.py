"""The forward-forward algorithm on fully connected layers, as in the code that TinyFoA's authors compare with.

Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations", 2022. The label is written into the inputs.
There are two passes, one with the right label and one with a wrong one. Each layer learns to be active in the first
and silent in the second, from its own activations alone. All layers train in the same step. Only the direction of a
layer's activations reaches the next layer; their length would reveal what the layer has learned.

A linear classifier is trained alongside, on the activations of all layers for inputs without a label. It can predict
the class of a sample. Better, the predicted class is the label that makes the layers most active (:func:`predict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .dense import Layer, linear, magnitude, mean_magnitudes
from .optimizers import Momentum
from .tinyfoa import clamp, error, loss
from .training import steps

EPSILON = 1e-8  # avoids division by 0 for a silent layer
PEER = 0.03  # weight of the peer normalization
MEMORY = 0.9  # decay of the running mean activities
FIRST_MEAN = 0.5  # their initial value
DECAY, CLASSIFIER_DECAY = 3e-4, 3e-3  # weight decay of layers and classifier

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # inputs X (B, I), labels (B,), wrong labels (B,)


# Inputs ---------------------------------------------------------------------------------------------------------------


def with_labels(X: np.ndarray, labels: np.ndarray, classes: int, strength: float = 1.0) -> np.ndarray:
    """Write labels over the first C inputs: `strength` at the class, 0 elsewhere.

    Parameters
    ----------
    X : ndarray of float, (B, I)
    labels : ndarray of integer, (B,)
    classes : int
        C, at most I.
    strength : float

    Returns
    -------
    ndarray of float, (B, I)
    """
    X = X.copy()
    X[:, :classes] = strength * np.eye(classes, dtype=X.dtype)[labels]
    return X


def without_label(X: np.ndarray, classes: int) -> np.ndarray:
    """Write 1/C over the first C inputs, which favours no class, for the classifier. (B, I) and (B, I)."""
    X = X.copy()
    X[:, :classes] = 1 / classes
    return X


def normalize(h: np.ndarray) -> np.ndarray:
    """Divide each row by its root mean square: h / (sqrt(mean h^2) + 1e-8). Shapes (B, O) and (B, O)."""
    unit: np.ndarray = h / (np.sqrt(np.mean(h * h, axis=1, keepdims=True)) + EPSILON)
    return unit


# One batch ------------------------------------------------------------------------------------------------------------


def forward(
    X: np.ndarray,
    layers: Sequence[Layer],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Pass a batch through all layers: x_0 = norm(X), z_k = x_k Wb_k^T + b_k, h_k = s_k [z_k > 0] or max(z_k, 0).

    The next layer's input is x_k+1 = norm(h_k), see :func:`normalize`. Wb = alpha sign(W), as in :func:`.dense.linear`,
    and s_k = mean |z_k| over all rows of this batch. The norm removes s, but goodness and losses include it.

    Parameters
    ----------
    X : ndarray of float, (B, I)
        Inputs with a label written into them. In training, 2 B rows: right labels, then wrong labels.
    layers : sequence of Layer
        Lowest first, at least one.
    binary_weights, binary_activations : bool
        Whether all layers are binary. Without binary weights, activations are never binary, whatever this option says:
        in the published code only the layer with binary weights can binarize them.
    scales : sequence of float, optional
        Stored scales s_k for inference, from :func:`inference_scales`; by default each batch uses its own.

    Returns
    -------
    x, z, h : lists of ndarray of float
        For each layer, lowest first: inputs (B, I), pre-activations (B, O), activations (B, O). x has one more item at
        the end, norm(h) of the last layer.
    """
    x, z, h = [normalize(X)], [], []
    for k, (W, b) in enumerate(layers):
        z.append(linear(x[k], W, b, binary_weights=binary_weights))
        if binary_weights and binary_activations:
            s = magnitude(z[k]) if scales is None else scales[k]
            h.append((s * (z[k] > 0)).astype(X.dtype))
        else:
            h.append(np.maximum(z[k], 0))
        x.append(normalize(h[k]))
    return x, z, h


def goodness(h: np.ndarray) -> np.ndarray:
    """Goodness of a layer: the sum of h^2 over its neurons. Shapes (B, O) and (B,)."""
    own: np.ndarray = np.sum(h * h, axis=1)
    return own


def layer_loss(h: np.ndarray) -> float:
    """Logistic loss of the goodness: mean of log(1 + exp(-l)) for right labels and log(1 + exp(l)) for wrong ones.

    l = goodness - O; right labels are the first half of the rows, wrong labels the second. Computed in float64.

    Parameters
    ----------
    Activations: right labels, then wrong labels.
        Activations: right labels, then wrong ones.
    """
    excess = goodness(h.astype(np.float64)) - h.shape[1]
    half = len(h) // 2
    return float(np.mean(np.logaddexp(0, np.concatenate([-excess[:half], excess[half:]]))))


def mean_activity(h: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Running mean activity of each neuron, m <- 0.9 m + 0.1 mean h over the right labels.

    Parameters
    ----------
    h : ndarray of float, (2 B, O)
    before : ndarray of float, (O,)
        m after the last step, initially 0.5.

    Returns
    -------
    m : ndarray of float, (O,)
    """
    m: np.ndarray = (MEMORY * before + (1 - MEMORY) * h[: len(h) // 2].mean(axis=0)).astype(h.dtype)
    return m


def peer_loss(m: np.ndarray) -> float:
    """Peer normalization loss: the variance of m (O,) over the neurons, in float64."""
    return float(np.var(m.astype(np.float64)))


def gradient(
    x: np.ndarray,
    z: np.ndarray,
    h: np.ndarray,
    m: np.ndarray,
    W: np.ndarray,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> Layer:
    """Gradient of one layer's loss, :func:`layer_loss` + 0.03 :func:`peer_loss`; independent of all other layers.

    ::

        l  = goodness - O,  p = 1 / (1 + exp(-l)),  Y = 1 in rows of right labels, 0 in rows of wrong labels
        dh = ((p - Y) / 2B) 2 h
           + 0.03 (2 / O) (m - mean m) (0.1 / B)    only in rows of right labels
        dz = dh [|z| < 1]                           the factor only with binary weights and activations
        dW = dz^T x [|W| < 1]                       the last factor only with binary weights
        db = sum of dz over the batch

    There is no factor [z > 0]: the ReLU passes its gradient through, so that peer normalization reaches inactive
    neurons. Of the running mean, only this batch's contribution carries a gradient.

    Parameters
    ----------
    x : ndarray of float, (2 B, I)
    z, h : ndarray of float, (2 B, O)
        All of this layer, from :func:`forward`.
    m : ndarray of float, (O,)
        From :func:`mean_activity`, including this batch.
    W : ndarray of float, (O, I)

    Returns
    -------
    Layer
        (dW, db).
    """
    rows, outputs = h.shape
    right = np.arange(rows) < rows // 2  # (2 B,)
    p = 0.5 * (1 + np.tanh(0.5 * (goodness(h) - outputs)))  # the logistic function, without overflow
    dh = ((p - right) / rows)[:, None] * 2 * h
    dh += PEER * (2 / outputs) * (m - m.mean()) * ((1 - MEMORY) / (rows // 2)) * right[:, None]
    dz = dh.astype(z.dtype)
    if binary_weights and binary_activations:
        dz = dz * (np.abs(z) < 1)
    dW = dz.T @ x
    if binary_weights:
        dW = dW * (np.abs(W) < 1)
    return Layer(dW, dz.sum(axis=0))


def features(x: Sequence[np.ndarray]) -> np.ndarray:
    """Inputs of the classifier: norm(h) of all layers side by side, (B, sum of O), from x of :func:`forward`."""
    return np.concatenate(x[1:], axis=1)


def classifier_gradient(f: np.ndarray, labels: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Gradient of the mean cross-entropy of logits f C^T, dC = ((softmax(f C^T) - Y) / B)^T f.

    Parameters
    ----------
    f : ndarray of float, (B, F)
        :func:`features` of inputs :func:`without_label`.
    labels : ndarray of integer, (B,)
    C : ndarray of float, (C, F)

    Returns
    -------
    ndarray of float, (C, F)
    """
    dC: np.ndarray = error(f @ C.T, labels).T @ f
    return dC


# Training -------------------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """The result of :func:`train`."""

    layers: list[Layer]  # after the last step, lowest first
    classifier: np.ndarray  # (C, F)
    losses: np.ndarray  # (steps, L + 2), float64: each layer's, the sum of their peer losses, the classifier's
    first: list[Layer]  # the gradients at step 0
    first_classifier: np.ndarray  # (C, F)


def train(
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    classifier: np.ndarray,
    *,
    strength: float = 1.0,
    epochs: int = 1,
    lr: float = 1e-3,
    lr_classifier: float = 1e-2,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> Trained:
    """Train all layers and the classifier: one step per batch, in the given order, for `epochs` epochs.

    A step first runs the forward passes of all layers, with labels and without. Then all layers are updated with
    momentum 0.9 and weight decay, 3e-4 for weights and biases and 3e-3 for the classifier. Finally all parameters are
    clamped to +-1, whether weights are binary or not.

    Parameters
    ----------
    batches : sequence of (X, labels, wrong labels)
        X (B, I) of float, both labels (B,) of integer; B may differ from batch to batch.
    layers : sequence of Layer
        Initial weights and biases.
    classifier : ndarray of float, (C, F)
        Initial weights of the classifier, with F the sum of the layers' O. It has no bias.
    strength : float
        Value of a written label, as in :func:`with_labels`.
    epochs : int
        Number of passes over the batches.
    lr, lr_classifier : float
        Step sizes, constant here.
    binary_weights, binary_activations : bool
        As in :func:`forward`. The classifier has neither.

    Returns
    -------
    Trained
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    optimizers = [(Momentum(lr, DECAY), Momentum(lr, DECAY)) for _ in layers]  # of weights, of biases
    classifier_optimizer = Momentum(lr_classifier, CLASSIFIER_DECAY)

    layers, C, classes = list(layers), classifier, len(classifier)
    m = [np.full_like(b, FIRST_MEAN) for _, b in layers]
    losses = []
    for t, (X, labels, wrong) in steps(batches, epochs):
        both = [with_labels(X, label, classes, strength) for label in (labels, wrong)]
        x, z, h = forward(np.concatenate(both), layers, **toggles)
        m = [mean_activity(hk, mk) for hk, mk in zip(h, m)]
        f = features(forward(without_label(X, classes), layers, **toggles)[0])
        losses.append([*map(layer_loss, h), sum(map(peer_loss, m)), loss(f @ C.T, labels)])

        gradients = [gradient(x[k], z[k], h[k], m[k], layers[k].W, **toggles) for k in range(len(layers))]
        dC = classifier_gradient(f, labels, C)
        if t == 0:
            first, first_classifier = gradients, dC

        for k, (W, b) in enumerate(layers):
            of_weights, of_biases = optimizers[k]
            layers[k] = Layer(clamp(of_weights.step(W, gradients[k].W)), clamp(of_biases.step(b, gradients[k].b)))
        C = clamp(classifier_optimizer.step(C, dC))
    return Trained(layers, C, np.array(losses), first, first_classifier)


# Inference ------------------------------------------------------------------------------------------------------------


def _labelled(X: np.ndarray, classes: int, strength: float) -> Iterator[np.ndarray]:
    """Yield the inputs X (N, I) with class 0 written into all of them, then with class 1, and so on."""
    return (with_labels(X, np.full(len(X), c), classes, strength) for c in range(classes))


def inference_scales(
    batches: Iterable[Batch],
    layers: Sequence[Layer],
    classes: int,
    *,
    strength: float = 1.0,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> list[float]:
    """Scale s_k of each layer for inference: mean |z_k| over the training set, with every label once.

    Parameters as in :func:`train`; see :func:`.dense.mean_magnitudes`.
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    labelled = (L for X, _, _ in batches for L in _labelled(X, classes, strength))
    return mean_magnitudes(forward(L, layers, **toggles)[1] for L in labelled)


def class_goodness(
    X: np.ndarray,
    layers: Sequence[Layer],
    classes: int,
    *,
    strength: float = 1.0,
    binary_weights: bool = True,
    binary_activations: bool = True,
    scales: Sequence[float] | None = None,
) -> np.ndarray:
    """Goodness of every label, one pass per label: :func:`goodness` summed over ALL layers, including the first.

    Parameters
    ----------
    X : ndarray of float, (N, I)
    classes : int
        C.
    layers, strength, binary_weights, binary_activations, scales
        As in :func:`forward` and :func:`train`. Without stored scales each pass uses its own, mean |z| over the N rows.

    Returns
    -------
    ndarray of float, (N, C)
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    passes = (forward(L, layers, **toggles, scales=scales)[2] for L in _labelled(X, classes, strength))
    return np.stack([np.sum([goodness(hk) for hk in h], axis=0) for h in passes], axis=1)


def predict(X: np.ndarray, layers: Sequence[Layer], classes: int, **options: Any) -> np.ndarray:
    """Predict class numbers by the largest goodness; parameters as in :func:`class_goodness`.

    Returns
    -------
    ndarray of int64, (N,)
    """
    answers: np.ndarray = class_goodness(X, layers, classes, **options).argmax(axis=1)
    return answers
