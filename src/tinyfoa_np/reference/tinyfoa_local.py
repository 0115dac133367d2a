"""TinyFoA on locally connected layers: 3 x 3 convolutions with separate weights for every position.

As in :mod:`.tinyfoa`, each layer learns from its own fixed random head, and layers train one after another. With
weights W (O, I, R, C, 9), biases b (O, R, C), batch norm's gamma and beta (O,), and inputs X (B, I, R, C):

    binary weights      Wb = alpha sign(W),  alpha = mean |W| over the whole layer, at this step
    products            u = b + sum over i and the nine neighbours of Wb x,  0 beyond the border
    batch norm          v = gamma (u - mean) / sqrt(variance + 1e-5) + beta,  by channel, over batch and positions
    ReLU                r = max(v, 0)
    binary activations  s = mean |r| over the whole batch;  h = s [r > 0]       (otherwise h = r)
    logits              a = h H^T + c for a fixed head H (C, O R C), c (C,)
    gradient            dv = ((p - Y) / B) H [r > 0] [|r| < 1]                  ([|r| < 1] only with binary activations)
                        du by the gradient of batch norm;  dW = du x [|W| < 1]  ([|W| < 1] only with binary weights)
    update              the optimizer's step, then W, b, gamma and beta clamped to +-1

Training uses the batch's mean and variance; hand-over to the next layer and inference use the running ones:
running <- 0.9 running + 0.1 of the batch, with the unbiased variance. A slice is a group of output channels: its
weights, biases, gamma and beta train, with their own optimizer state; running statistics move for all channels. With
schedule ``frozen`` everything trains, but the weights of one group are restored after the step.

In a depthwise layer, W (O, 1, R, C, 9), each output channel reads a single input channel, given by :func:`reads`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .optimizers import Optimizer
from .slices import cuts
from .tinyfoa import binarize_weights, clamp, error, logits, loss
from .training import Batch, Turns, optimizer_of, steps

EPSILON, MOMENTUM = 1e-5, 0.1


class Layer(NamedTuple):
    """The trainable parameters of a layer, or their gradients, and batch norm's running statistics."""

    W: np.ndarray  # (O, I, R, C, 9)
    b: np.ndarray  # (O, R, C)
    gamma: np.ndarray  # (O,)
    beta: np.ndarray  # (O,)
    mean: np.ndarray  # (O,), running
    variance: np.ndarray  # (O,), running


class Passed(NamedTuple):
    """The values of a forward pass that the gradient needs."""

    P: np.ndarray  # (B, I, R, C, 9), the inputs' neighbourhoods
    normal: np.ndarray  # (B, O, R, C), u normalized
    deviation: np.ndarray  # (O,), sqrt(variance + 1e-5) of u
    r: np.ndarray  # (B, O, R, C)
    h: np.ndarray  # (B, O, R, C)


def initial(W: np.ndarray, b: np.ndarray) -> Layer:
    """A layer with these weights and biases and initial batch norm: gamma 1, beta 0, mean 0, variance 1."""
    one, zero = np.ones(len(W), W.dtype), np.zeros(len(W), W.dtype)
    return Layer(W, b, one, zero, zero, one)


def neighbourhoods(X: np.ndarray) -> np.ndarray:
    """Extract the 3 x 3 neighbourhood of every position, in row-major order, with 0 beyond the border.

    Parameters
    ----------
    X : ndarray of float, (B, I, R, C)

    Returns
    -------
    ndarray of float, (B, I, R, C, 9)
    """
    B, I, R, C = X.shape
    padded = np.zeros((B, I, R + 2, C + 2), X.dtype)
    padded[:, :, 1:-1, 1:-1] = X
    return np.stack([padded[:, :, y : y + R, x : x + C] for y in range(3) for x in range(3)], axis=-1)


def reads(outputs: int, inputs: int) -> np.ndarray:
    """Input channel read by each output channel of a depthwise layer (O,): o I / O, rounded down."""
    return np.arange(outputs) * inputs // outputs


def products(P: np.ndarray, W: np.ndarray, b: np.ndarray, *, binary_weights: bool = True) -> np.ndarray:
    """Products u = b + sum of Wb x over channels and neighbours, with Wb = alpha sign(W) or W.

    Parameters
    ----------
    P : ndarray of float, (B, I, R, C, 9)
        From :func:`neighbourhoods`.
    W, b : ndarray of float, (O, I, R, C, 9) or, depthwise, (O, 1, R, C, 9), and (O, R, C)
    binary_weights : bool

    Returns
    -------
    u : ndarray of float, (B, O, R, C)
    """
    Wb = binarize_weights(W)[0] if binary_weights else W
    u: np.ndarray
    if W.shape[1] < P.shape[1]:
        u = np.einsum("borck,orck->borc", P[:, reads(len(W), P.shape[1])], Wb[:, 0], optimize=True) + b
    else:
        u = np.einsum("birck,oirck->borc", P, Wb, optimize=True) + b
    return u


def forward(
    X: np.ndarray,
    layer: Layer,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    trained: bool = False,
    scale: float | None = None,
) -> tuple[Passed, Layer]:
    """Run a layer on a batch; return its values and the layer with updated running statistics.

    Parameters
    ----------
    X : ndarray of float, (B, I, R, C)
    layer : Layer
    binary_weights, binary_activations : bool
    trained : bool
        Normalize with the running statistics and do not update them, as in inference.
    scale : float, optional
        s for inference; by default mean r of this batch.
    """
    P = neighbourhoods(X)
    u = products(P, layer.W, layer.b, binary_weights=binary_weights)
    if trained:
        mean, variance = layer.mean, layer.variance
    else:
        mean, variance = u.mean(axis=(0, 2, 3)), u.var(axis=(0, 2, 3))
        count = u.size // u.shape[1]
        layer = layer._replace(
            mean=(1 - MOMENTUM) * layer.mean + MOMENTUM * mean,
            variance=(1 - MOMENTUM) * layer.variance + MOMENTUM * variance * (count / max(1, count - 1)),
        )
    deviation = np.sqrt(variance + u.dtype.type(EPSILON))
    normal = (u - _by_channel(mean)) / _by_channel(deviation)
    r = np.maximum(_by_channel(layer.gamma) * normal + _by_channel(layer.beta), 0)
    if not binary_activations:
        return Passed(P, normal, deviation, r, r), layer
    s = float(r.mean(dtype=np.float64)) if scale is None else scale
    return Passed(P, normal, deviation, r, (s * (r > 0)).astype(r.dtype)), layer


def gradient(
    passed: Passed,
    layer: Layer,
    a: np.ndarray,
    labels: np.ndarray,
    H: np.ndarray,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> Layer:
    """Gradients of the mean loss, stored as a :class:`Layer`; those of the running statistics are 0.

    Parameters
    ----------
    passed : Passed
    layer : Layer
    a : ndarray of float, (B, C)
        Logits.
    labels : ndarray of integer, (B,)
    H : ndarray of float, (C, O R C)
        The fixed head.
    binary_weights, binary_activations : bool
    """
    dh = (error(a, labels) @ H).reshape(passed.r.shape)
    return sent_back(passed, layer, dh, binary_weights=binary_weights, binary_activations=binary_activations)[0]


def sent_back(
    passed: Passed, layer: Layer, dh: np.ndarray, *, binary_weights: bool = True, binary_activations: bool = True
) -> tuple[Layer, np.ndarray]:
    """Gradients of a layer from the errors dh (B, O, R, C) at its outputs, and the errors du at its products.

    The scales s (activations) and alpha (weights) carry no gradient.
    """
    P, normal, deviation, r, _ = passed
    dv = dh * (r > 0)
    if binary_activations:
        dv = dv * (np.abs(r) < 1)
    places = (0, 2, 3)
    dgamma, dbeta = (dv * normal).sum(axis=places), dv.sum(axis=places)
    # the mean and the deviation depend on all values of u
    dnormal = dv * _by_channel(layer.gamma)
    du = dnormal - _by_channel(dnormal.mean(axis=places)) - normal * _by_channel((dnormal * normal).mean(axis=places))
    du = du / _by_channel(deviation)
    if layer.W.shape[1] < P.shape[1]:
        dW = np.einsum("borc,borck->orck", du, P[:, reads(len(layer.W), P.shape[1])], optimize=True)[:, None]
    else:
        dW = np.einsum("borc,birck->oirck", du, P, optimize=True)
    if binary_weights:
        dW = dW * (np.abs(layer.W) < 1)
    none = np.zeros_like(layer.mean)
    return Layer(dW, du.sum(axis=0), dgamma, dbeta, none, none), du


class Grouped:
    """The optimizers of a layer: one per group of its output channels and array.

    Parameters
    ----------
    outputs, groups : int
        Number of output channels, and number of groups.
    new : callable
        Function that makes an optimizer.
    """

    def __init__(self, outputs: int, groups: int, new: Callable[[], Optimizer]) -> None:
        self.groups = cuts(outputs, groups)
        self.optimizers = [{name: new() for name in ("W", "b", "gamma", "beta")} for _ in self.groups]

    def step(self, layer: Layer, slopes: Layer, training: Sequence[int]) -> Layer:
        """The layer with these groups updated, and all trained parameters clamped to +-1."""
        moved = {name: getattr(layer, name).copy() for name in ("W", "b", "gamma", "beta")}
        for number in training:
            part = self.groups[number]
            for name, new in moved.items():
                new[part] = self.optimizers[number][name].step(new[part], getattr(slopes, name)[part])
        return layer._replace(**{name: clamp(new) for name, new in moved.items()})


class TrainedLayer(NamedTuple):
    """The result of :func:`train_layer`."""

    layer: Layer
    losses: np.ndarray  # (steps,), float64: the loss of each step, before its update
    first: Layer  # gradients at step 0, of the parameters trained then


def train_layer(
    batches: Sequence[Batch],
    layer: Layer,
    H: np.ndarray,
    c: np.ndarray | float = 0.0,
    *,
    slices: int = 1,
    schedule: str = "slice",
    hold: int | None = None,
    optimizer: str = "adam",
    lr: float = 1e-4,
    epochs: int = 1,
    binary_weights: bool = True,
    binary_activations: bool = True,
) -> TrainedLayer:
    """Train a layer.

    Parameters
    ----------
    batches : sequence of (X, labels)
        X (B, I, R, C).
    layer : Layer
    H, c : ndarray of float, (C, O R C) and (C,)
        The fixed head.
    slices : int
        Groups of output channels, of equal size or the first ones larger by 1; 1 trains the whole layer in each step.
    schedule : str
        ``slice``: one group after another trains; ``frozen``: all but the weights of one group, from the second group
        on.
    hold : int, optional
        Steps per group; by default one epoch.
    optimizer, lr, epochs
        As in :func:`.tinyfoa.train_layer`.
    binary_weights, binary_activations : bool
    """
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    turns = Turns(len(batches), epochs, slices, schedule, hold)
    optimizers = Grouped(len(layer.W), turns.side, optimizer_of(optimizer, lr))
    losses = []
    for t, (X, labels) in steps(batches, epochs):
        passed, layer = forward(X, layer, **toggles)
        a = logits(passed.h.reshape(len(X), -1), H) + c
        losses.append(loss(a, labels))
        slopes = gradient(passed, layer, a, labels, H, **toggles)
        if t == 0:
            first = Layer(*(slope[optimizers.groups[0]] for slope in slopes)) if schedule == "slice" else slopes
        before, layer = layer.W, optimizers.step(layer, slopes, turns.groups(t))
        turns.put_back(t, layer.W, before, sides=1)
    return TrainedLayer(layer, np.array(losses), first)


def hand_over(
    batches: Iterable[Batch], layer: Layer, *, binary_weights: bool = True, binary_activations: bool = True
) -> list[np.ndarray]:
    """Outputs (B, O, R, C) of a trained layer for every batch, each with its own scale s."""
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    return [forward(X, layer, **toggles, trained=True)[0].h for X, _ in batches]


def _by_channel(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]
