"""Backpropagation through locally connected layers: what TinyFoA's Table 3 measures it against.

The layers are those of :mod:`.tinyfoa_local`; their outputs' means over 7 x 7 parts of the image, with dropout in
training, go to a linear classifier of full precision. Every layer trains in every step, by the gradient of one loss.
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

SIDE = 7  # parts of the image along each side


class Network(NamedTuple):
    """All that trains, or the gradients of it."""

    layers: list[Layer]  # lowest first
    classifier: layers.Layer  # W (C, SIDE SIDE O), b (C,)


def bins(size: int) -> list[slice]:
    """The parts that a side of so many pixels is cut into: floor(k size / 7) to ceil((k + 1) size / 7).

    They overlap where the size is no multiple of 7, and repeat pixels where it is smaller.
    """
    return [slice(k * size // SIDE, -(-(k + 1) * size // SIDE)) for k in range(SIDE)]


def pool(h: np.ndarray) -> np.ndarray:
    """Means over the parts of an image.

    Parameters
    ----------
    h : ndarray of float, (B, O, R, C)

    Returns
    -------
    ndarray of float, (B, SIDE SIDE O)
        Part by part, row by row, the channels of each side by side.
    """
    _, _, R, C = h.shape
    parts = [h[:, :, rows, columns].mean(axis=(2, 3)) for rows in bins(R) for columns in bins(C)]
    return np.stack(parts, axis=1).reshape(len(h), -1)


def pool_gradient(df: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What errors df (B, SIDE SIDE O) at the means are at their inputs, of ``shape`` (B, O, R, C)."""
    B, O, R, C = shape
    dh, df = np.zeros(shape, df.dtype), df.reshape(B, SIDE, SIDE, O)
    for y, rows in enumerate(bins(R)):
        for x, columns in enumerate(bins(C)):
            part = dh[:, :, rows, columns]
            part += (df[:, y, x] / (part.shape[2] * part.shape[3]))[:, :, None, None]
    return dh


def below(du: np.ndarray, W: np.ndarray, channels: int, *, binary_weights: bool = True) -> np.ndarray:
    """The errors at the inputs of a layer: the transpose of :func:`.tinyfoa_local.products`.

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
    """What a forward pass leaves for the gradient."""

    passed: list[Passed]  # of each layer
    features: np.ndarray  # (B, SIDE SIDE O): what the classifier reads
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
    """A batch through all layers, and the network with its running statistics moved on.

    Parameters
    ----------
    X : ndarray of float, (B, I, R, C)
    network : Network
    binary_weights, binary_activations : bool
        Of all layers but the classifier.
    dropout : ndarray of float, (B, SIDE SIDE O)
        What each mean is multiplied by: 0, or one over the rate at which they are kept.
    trained : bool
        Normalize with the running statistics, and leave them, as inference does.
    scales : sequence of float, optional
        Stored s of each layer, in place of this batch's own.
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
    """Gradient of the mean cross-entropy, by the chain rule, from the top down; parameters as in :func:`forward`."""
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
    """What :func:`train` returns."""

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
    """Trains all layers: a step for every batch, `epochs` times over.

    All that trains is clamped to +-1 after its update, the classifier, too.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I, R, C).
    network : Network
    slopes_of : callable
        What :func:`gradient` does, or another rule.
    dropout : sequence of ndarray of float, (B, SIDE SIDE O)
        As in :func:`forward`, of each step; none without it.
    slices, schedule, hold, optimizer, lr, epochs
        As for :func:`.tinyfoa_local.train_layer`, in all locally connected layers in unison; ``none`` trains all.
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
    """The scale s that each layer keeps for inference: mean r over the training set, by running statistics."""
    toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    passes = (forward(X, network, **toggles, trained=True)[0] for X, _ in batches)
    return mean_magnitudes([passed.r for passed in done.passed] for done in passes)
