"""Backpropagation through locally connected layers, the baseline in TinyFoA's Table 3.

The layers are those of :mod:`.tinyfoa_local`. Their outputs are averaged over 7 x 7 parts of the image, with dropout in
training, and passed to a linear classifier of full precision. Every layer trains in every step, by a single loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import dense as layers
from . import tinyfoa_local as local
from .dense import mean_magnitudes
from .tinyfoa import binarize_weights, clamp, error, loss
from .tinyfoa_local import Layer, Passed
from .training import Batch, Turns, optimizer_of, steps

SIDE = 7  # parts per side of the image


class Network(NamedTuple):
    """The trainable parameters of a network, or their gradients."""

    layers: list[Layer]  # lowest first
    classifier: layers.Layer  # W (C, SIDE SIDE O), b (C,)


def bins(size: int) -> list[slice]:
    """The parts that a side of `size` pixels is cut into: floor(k size / 7) to ceil((k + 1) size / 7).

    They overlap if the size is not a multiple of 7, and repeat pixels if it is less than 7.
    """
    return [slice(k * size // SIDE, -(-(k + 1) * size // SIDE)) for k in range(SIDE)]


def pool(h: np.ndarray) -> np.ndarray:
    """Average over the parts of an image.

    Parameters
    ----------
    h : ndarray of float, (B, O, R, C)

    Returns
    -------
    ndarray of float, (B, SIDE SIDE O)
        Part by part in row-major order, with the channels of a part side by side.
    """
    _, _, R, C = h.shape
    parts = [h[:, :, rows, columns].mean(axis=(2, 3)) for rows in bins(R) for columns in bins(C)]
    return np.stack(parts, axis=1).reshape(len(h), -1)


def pool_gradient(df: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Distribute the errors df (B, SIDE SIDE O) at the means over their inputs, of ``shape`` (B, O, R, C)."""
    B, O, R, C = shape
    dh, df = np.zeros(shape, df.dtype), df.reshape(B, SIDE, SIDE, O)
    for y, rows in enumerate(bins(R)):
        for x, columns in enumerate(bins(C)):
            part = dh[:, :, rows, columns]
            part += (df[:, y, x] / (part.shape[2] * part.shape[3]))[:, :, None, None]
    return dh


def below(du: np.ndarray, W: np.ndarray, channels: int, *, binary_weights: bool = True) -> np.ndarray:
    """Errors at the inputs of a layer: the transpose of :func:`.tinyfoa_local.products`.

    Parameters
    ----------
    du : ndarray of float, (B, O, R, C)
        Errors at the products.
    W : ndarray of float, (O, I, R, C, 9) or, depthwise, (O, 1, R, C, 9)
    channels : int
        I.
    binary_weights : bool

    Returns
    -------
    ndarray of float, (B, I, R, C)
    """
    B, O, R, C = du.shape
    Wb = binarize_weights(W)[0] if binary_weights else W
    if W.shape[1] < channels:
        dP = np.zeros((B, channels, R, C, 9), du.dtype)
        for o, i in enumerate(local.reads(O, channels)):
            dP[:, i] += du[:, o, :, :, None] * Wb[o, 0]
    else:
        dP = np.einsum("borc,oirck->birck", du, Wb, optimize=True)
    padded = np.zeros((B, channels, R + 2, C + 2), du.dtype)
    for k in range(9):
        padded[:, :, k // 3 : k // 3 + R, k % 3 : k % 3 + C] += dP[..., k]
    return padded[:, :, 1:-1, 1:-1]


class Pass(NamedTuple):
    """The values of a forward pass that the gradient needs."""

    passed: list[Passed]  # one per layer
    features: np.ndarray  # (B, SIDE SIDE O), inputs of the classifier
    logits: np.ndarray  # (B, C)


def forward(
    X: np.ndarray,
    network: Network,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    dropout: np.ndarray | float = 1.0,
    trained: bool = False,
    scales: Sequence[float] | None = None,
) -> tuple[Pass, Network]:
    """Pass a batch through all layers; return the pass and the network with updated running statistics.

    Parameters
    ----------
    X : ndarray of float, (B, I, R, C)
    network : Network
    binary_weights, binary_activations : bool
        For all layers but the classifier.
    dropout : ndarray of float, (B, SIDE SIDE O)
        Factor of each mean: 0 if dropped, otherwise 1 / keep rate.
    trained : bool
        Normalize with the running statistics and do not update them, as in inference.
    scales : sequence of float, optional
        Stored s of each layer, used instead of this batch's own.
    """
    h, found, moved = X, [], []
    for k, layer in enumerate(network.layers):
        passed, layer = local.forward(
            h,
            layer,
            binary_weights=binary_weights,
            binary_activations=binary_activations,
            trained=trained,
            scale=None if scales is None else scales[k],
        )
        found.append(passed)
        moved.append(layer)
        h = passed.h
    features = pool(h) * dropout
    W, b = network.classifier
    return Pass(found, features, features @ W.T + b), Network(moved, network.classifier)


def gradient(
    done: Pass,
    network: Network,
    labels: np.ndarray,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    dropout: np.ndarray | float = 1.0,
) -> Network:
    """Gradient of the mean cross-entropy by the chain rule, from the top down; parameters as in :func:`forward`."""
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    dz, (W, _) = error(done.logits, labels), network.classifier
    dh, found = pool_gradient(dz @ W * dropout, done.passed[-1].h.shape), list[Layer]()
    for k in reversed(range(len(network.layers))):
        slopes, du = local.sent_back(done.passed[k], network.layers[k], dh, **toggles)
        found.insert(0, slopes)
        if k > 0:
            channels = done.passed[k].P.shape[1]
            dh = below(du, network.layers[k].W, channels, binary_weights=binary_weights)
    return Network(found, layers.Layer(dz.T @ done.features, dz.sum(axis=0)))


class Trained(NamedTuple):
    """The result of :func:`train`."""

    network: Network
    losses: np.ndarray  # (steps,), float64: the loss of each step, before its update
    first: Network  # gradients at step 0


def train(
    batches: Sequence[Batch],
    network: Network,
    *,
    slopes_of: Callable[..., Network] = gradient,
    dropout: Sequence[np.ndarray | float] = (),
    slices: int = 1,
    schedule: str = "none",
    hold: int | None = None,
    optimizer: str = "adam",
    lr: float = 1e-4,
    epochs: int = 1,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> Trained:
    """Train all layers: one step per batch, for `epochs` epochs.

    All trainable parameters, including the classifier's, are clamped to +-1 after their update.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I, R, C).
    network : Network
    slopes_of : callable
        A replacement for :func:`gradient`, to train with another rule.
    dropout : sequence of ndarray of float, (B, SIDE SIDE O)
        One per step, as in :func:`forward`; by default no dropout.
    slices, schedule, hold, optimizer, lr, epochs
        As for :func:`.tinyfoa_local.train_layer`, for all locally connected layers in unison; ``none`` trains whole
        layers.
    binary_weights, binary_activations : bool
    """
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    turns, new = Turns(len(batches), epochs, slices, schedule, hold), optimizer_of(optimizer, lr)
    optimizers = [local.Grouped(len(layer.W), turns.side, new) for layer in network.layers]
    top, losses = [new(), new()], []
    for t, (X, labels) in steps(batches, epochs):
        dropping = dropout[t] if dropout else 1.0
        done, network = forward(X, network, **toggles, dropout=dropping)
        losses.append(loss(done.logits, labels))
        slopes = slopes_of(done, network, labels, **toggles, dropout=dropping)
        if t == 0:
            first = slopes
        moved = []
        for k, (layer, own) in enumerate(zip(network.layers, slopes.layers)):
            moved.append(optimizers[k].step(layer, own, turns.groups(t)))
            turns.put_back(t, moved[k].W, layer.W, sides=1)
        both = [rule.step(w, dw) for rule, w, dw in zip(top, network.classifier, slopes.classifier)]
        network = Network(moved, layers.Layer(*map(clamp, both)))
    return Trained(network, np.array(losses), first)


def inference_scales(
    batches: Iterable[Batch], network: Network, *, binary_weights: bool = True, binary_activations: bool = True
) -> list[float]:
    """Scale s of each layer for inference: mean r over the training set, computed with the running statistics."""
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    passes = (forward(X, network, **toggles, trained=True)[0] for X, _ in batches)
    return mean_magnitudes([passed.r for passed in done.passed] for done in passes)
