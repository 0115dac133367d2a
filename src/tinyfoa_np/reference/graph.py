"""Layers of deeper networks, built from a description: forward pass and gradient.

A description is a tuple that begins with its kind:

    ("dense", I, O)                 ReLU of a linear layer
    ("linear", I, O)                a linear layer; feature maps are flattened, channel by channel
    ("conv", I, O, stride)          ReLU of a 3 x 3 convolution with biases
    ("plain", I, O, stride, K, L)   ReLU of a K x L convolution
    ("normed", I, O, stride, K, L)  ReLU of batch norm of a K x L convolution
    ("residual", I, O, stride)      ReLU of normed 3 x 3, 3 x 3, batch norm, plus a shortcut: the input itself, or a
                                    strided 1 x 1 convolution of it if shapes differ
    ("dsconv", I, O, stride)        ReLU of batch norm of a depthwise 3 x 3, then of a 1 x 1 convolution
    ("pool", K, L)                  average pooling of K x L positions
    ("maxpool", K, K)               max pooling of K x K positions

Only "conv", "dense" and "linear" have biases. Parameters are arrays under PyTorch's names for them, prefixed by the
number of their layer: "0.c.weight".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .conv import (
    average_pool,
    average_pool_gradient,
    batch_norm,
    batch_norm_gradient,
    convolution,
    convolution_gradient,
    depthwise,
    depthwise_gradient,
    max_pool,
    max_pool_gradient,
)

Description = tuple[Any, ...]
Arrays = dict[str, np.ndarray]
#: maps the gradient of a layer's output to the gradients of its input and of its parameters
Back = Callable[[np.ndarray], tuple[np.ndarray, Arrays]]


class _Own:
    """The parameters of one layer, and its updated running statistics."""

    def __init__(
        self, arrays: Mapping[str, np.ndarray], number: int, training: bool, feedback: Mapping[str, np.ndarray]
    ) -> None:
        self.arrays, self.prefix, self.training, self.moved = arrays, f"{number}.", training, Arrays()
        self.feedback = feedback

    def down(self, name: str) -> np.ndarray:
        """What an error passes down through: the weights, or a fixed array in their place."""
        return self.feedback.get(self.prefix + name, self.arrays[self.prefix + name])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[self.prefix + name]

    def normalize(self, name: str, z: np.ndarray) -> tuple[np.ndarray, Back]:
        parameters = [self[f"{name}.{what}"] for what in ("weight", "bias", "running_mean", "running_var")]
        done = batch_norm(z, *parameters, training=self.training)
        self.moved[self.prefix + f"{name}.running_mean"] = done.mean
        self.moved[self.prefix + f"{name}.running_var"] = done.variance

        def back(dv: np.ndarray) -> tuple[np.ndarray, Arrays]:
            dz, dgamma, dbeta = batch_norm_gradient(done, parameters[0], dv)
            return dz, {f"{name}.weight": dgamma, f"{name}.bias": dbeta}

        return done.v, back

    def convolve(self, name: str, X: np.ndarray, stride: int, biased: bool = False) -> tuple[np.ndarray, Back]:
        W = self[f"{name}.weight"]

        def back(dz: np.ndarray) -> tuple[np.ndarray, Arrays]:
            dX, dW, db = convolution_gradient(X, self.down(f"{name}.weight"), dz, stride)
            return dX, {f"{name}.weight": dW} | ({f"{name}.bias": db} if biased else {})

        return convolution(X, W, self[f"{name}.bias"] if biased else 0.0, stride), back

    def depthwise(self, name: str, X: np.ndarray, stride: int) -> tuple[np.ndarray, Back]:
        W = self[f"{name}.weight"]

        def back(dz: np.ndarray) -> tuple[np.ndarray, Arrays]:
            dX, dW = depthwise_gradient(X, self.down(f"{name}.weight"), dz, stride)
            return dX, {f"{name}.weight": dW}

        return depthwise(X, W, stride), back


def _relu(z: np.ndarray) -> tuple[np.ndarray, Back]:
    return np.maximum(z, 0), lambda dout: (dout * (z > 0), {})


def _chain(*backs: Back) -> Back:
    """Compose backward functions, applying the last one first."""

    def back(dout: np.ndarray) -> tuple[np.ndarray, Arrays]:
        gradients = Arrays()
        for one in reversed(backs):
            dout, own = one(dout)
            gradients |= own
        return dout, gradients

    return back


def _linear(X: np.ndarray, own: _Own) -> tuple[np.ndarray, Back]:
    W, flat = own["fc.weight"], X.reshape(len(X), -1)

    def back(dz: np.ndarray) -> tuple[np.ndarray, Arrays]:
        return (dz @ own.down("fc.weight")).reshape(X.shape), {"fc.weight": dz.T @ flat, "fc.bias": dz.sum(axis=0)}

    return flat @ W.T + own["fc.bias"], back


def _dense(X: np.ndarray, own: _Own) -> tuple[np.ndarray, Back]:
    z, linear = _linear(X, own)
    h, relu = _relu(z)
    return h, _chain(linear, relu)


def _conv(X: np.ndarray, own: _Own, stride: int) -> tuple[np.ndarray, Back]:
    z, convolve = own.convolve("c", X, stride, biased=True)
    h, relu = _relu(z)
    return h, _chain(convolve, relu)


def _plain(X: np.ndarray, own: _Own, stride: int) -> tuple[np.ndarray, Back]:
    z, convolve = own.convolve("c", X, stride)
    h, relu = _relu(z)
    return h, _chain(convolve, relu)


def _normed(X: np.ndarray, own: _Own, stride: int, conv: str = "c", norm: str = "b1") -> tuple[np.ndarray, Back]:
    z, convolve = own.convolve(conv, X, stride)
    v, normalize = own.normalize(norm, z)
    h, relu = _relu(v)
    return h, _chain(convolve, normalize, relu)


def _residual(X: np.ndarray, own: _Own, stride: int, same: bool) -> tuple[np.ndarray, Back]:
    inner, first = _normed(X, own, stride, "c1", "b1")
    z, second = own.convolve("c2", inner, 1)
    v, normalize = own.normalize("b2", z)
    short, shortcut = (X, None) if same else own.convolve("sc", X, stride)
    h, relu = _relu(v + short)

    def back(dout: np.ndarray) -> tuple[np.ndarray, Arrays]:
        dsum, _ = relu(dout)
        dX, gradients = _chain(first, second, normalize)(dsum)
        dshort, own = shortcut(dsum) if shortcut else (dsum, Arrays())
        return dX + dshort, gradients | own

    return h, back


def _dsconv(X: np.ndarray, own: _Own, stride: int) -> tuple[np.ndarray, Back]:
    z, deep = own.depthwise("dw", X, stride)
    v, normalize = own.normalize("b1", z)
    inner, relu = _relu(v)
    h, pointwise = _normed(inner, own, 1, "pw", "b2")
    return h, _chain(deep, normalize, relu, pointwise)


def _pool(X: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Back]:
    return average_pool(X, size), lambda dout: (average_pool_gradient(X, size, dout), {})


def _layer(X: np.ndarray, description: Description, own: _Own) -> tuple[np.ndarray, Back]:
    kind, *rest = description
    if kind == "pool":
        return _pool(X, (rest[0], rest[1]))
    if kind == "maxpool":
        return max_pool(X, rest[0]), lambda dout: (max_pool_gradient(X, rest[0], dout), {})
    if kind in ("dense", "linear"):
        return (_dense if kind == "dense" else _linear)(X, own)
    inputs, outputs, stride = rest[:3]
    if kind == "residual":
        return _residual(X, own, stride, inputs == outputs and stride == 1)
    return {"conv": _conv, "plain": _plain, "normed": _normed, "dsconv": _dsconv}[kind](X, own, stride)


def forward(
    X: np.ndarray,
    layers: Sequence[Description],
    parameters: Mapping[str, np.ndarray],
    *,
    training: bool = False,
    feedback: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, list[Back], Arrays]:
    """Pass a batch through layers.

    Parameters
    ----------
    X : ndarray of float, (B, I) or (B, I, R, S)
    layers : sequence of descriptions
    parameters : mapping of str to ndarray
    training : bool
        Whether batch norm uses the batch's statistics and updates the running ones.
    feedback : mapping of str to ndarray, optional
        Arrays in place of weights, for the backward pass only: feedback alignment.

    Returns
    -------
    h : ndarray of float
        The last layer's output.
    back : list
        For :func:`gradient`.
    moved : dict of str to ndarray
        The current running statistics.
    """
    backs, moved = [], Arrays()
    for number, description in enumerate(layers):
        own = _Own(parameters, number, training, feedback or {})
        X, back = _layer(X, description, own)
        backs.append(back)
        moved |= own.moved
    return X, backs, moved


def gradient(back: Sequence[Back], dout: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """Gradients of the inputs of :func:`forward`, X and the parameters, from the gradient of its output."""
    gradients = Arrays()
    for number in reversed(range(len(back))):
        dout, own = back[number](dout)
        gradients |= {f"{number}.{name}": value for name, value in own.items()}
    return dout, gradients
