"""Feedback through fixed random matrices: FA, DFA, sDFA, and DRTP on convolutional networks.

- FA (Lillicrap, Cownden, Tweed, Akerman 2016): backpropagation with B_k in place of W_k on the way down.
- DFA (Nokland 2016): each hidden layer receives the output error through its own matrix.
- sDFA: the signs of that error only. DRTP (Frenkel, Lefebvre, Bol 2021): the label instead of it; see :mod:`.drtp`.

Hidden layers are tanh (or ReLU); the output is a sigmoid with binary cross-entropy, or a softmax with cross-entropy.
As in the published code of DRTP, the errors of DFA, sDFA and DRTP are not averaged over the batch; those of FA are, by
the chain rule. A convolution is followed by tanh and 2 x 2 max pooling; its feedback arrives before the pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .conv import convolution, convolution_gradient, max_pool, max_pool_gradient
from .dense import Layer, Trained
from .optimizers import OPTIMIZERS, Nesterov
from .tinyfoa import binarize_weights, loss, softmax
from .training import Batch, optimizer_of, steps

RULES = "fa", "dfa", "sdfa", "drtp"


class Pass(NamedTuple):
    """The values a layer computes for a batch."""

    inputs: np.ndarray  # (B, I) or (B, I, R, S)
    z: np.ndarray  # (B, O) or (B, O, R, S)
    h: np.ndarray  # after the activation function, before pooling


def forward(
    X: np.ndarray,
    layers: Sequence[Layer],
    *,
    relu: bool = False,
    sigmoid: bool = True,
    binary_weights: bool = False,
    binary_activations: bool = False,
) -> list[Pass]:
    """Pass a batch through all layers; the last h is the output o (B, C): a sigmoid, or the logits.

    ::

        z_k = h_k Wb_k^T + b_k,  Wb = s sign(W), s = mean |W|   (or W)
        a_k = s sign(z_k),  s = mean |z_k| over the batch        (or z_k)
        h_k+1 = tanh(a_k) or max(a_k, 0)

    Parameters
    ----------
    X : ndarray of float, (B, I) or (B, I, R, S)
    layers : sequence of Layer
        W (O, I), or (O, I, K, K) for a convolution.
    relu, sigmoid : bool
        Use ReLU instead of tanh; use a sigmoid at the top, or none.
    binary_weights, binary_activations : bool
        For all layers, including the last.
    """
    passes, h = [], X
    for k, (W, b) in enumerate(layers):
        Wb = binarize_weights(W)[0] if binary_weights else W
        if W.ndim == 2:
            h = h.reshape(len(h), -1)
        z = h @ Wb.T + b if W.ndim == 2 else convolution(h, Wb, b)
        a = (np.abs(z).mean(dtype=np.float64) * np.sign(z)).astype(z.dtype) if binary_activations else z
        if k + 1 == len(layers):
            own = 0.5 * (1 + np.tanh(0.5 * a)) if sigmoid else a
        else:
            own = np.maximum(a, 0) if relu else np.tanh(a)
        passes.append(Pass(h, z, own))
        h = max_pool(own) if W.ndim == 4 else own
    return passes


def output_loss(o: np.ndarray, labels: np.ndarray, sigmoid: bool) -> float:
    """Binary cross-entropy averaged over B C sigmoid outputs, or cross-entropy of logits averaged over B."""
    if not sigmoid:
        return loss(o, labels)
    right, o = np.eye(o.shape[1], dtype=bool)[labels], o.astype(np.float64)
    return float(-np.log(np.where(right, o, 1 - o)).mean())


def gradient(
    passes: Sequence[Pass],
    layers: Sequence[Layer],
    labels: np.ndarray,
    feedback: Sequence[np.ndarray | None],
    rule: str,
    *,
    relu: bool = False,
    sigmoid: bool = True,
    binary_weights: bool = False,
    binary_activations: bool = False,
    masked: bool = True,
) -> list[Layer]:
    """Update directions of each layer.

    ::

        e = o - Y,  d_top = e / (B C) with a sigmoid, e / B with a softmax
        dh_k     FA: dz_k+1 B_k+1    DFA: e B_k    sDFA: sign(e) B_k    DRTP: Y B_k
        d_k = dh_k (1 - h^2), or dh_k [h > 0] for a ReLU
        dz_k = d_k [|z_k| < 1]                  the last factor with binary activations
        dW_k = dz_k^T h_k [|W_k| < 1]           the last factor with binary weights;  db_k = sum dz_k

    Parameters
    ----------
    passes : sequence of Pass
        From :func:`forward`, with the same options.
    layers : sequence of Layer
    labels : ndarray of integer, (B,)
    feedback : sequence of ndarray
        B_k. For FA: like W_k, for all layers but the lowest. Otherwise: (C, ...) like h_k, for all layers but the last.
    rule : {"fa", "dfa", "sdfa", "drtp"}
    masked : bool
        For FA with binary activations: pass down dz, after its mask; otherwise d, as the published wrapper does.
    """
    o = passes[-1].h
    B, C = o.shape
    Y = np.eye(C, dtype=o.dtype)[labels]
    e = (o if sigmoid else softmax(o)) - Y
    top = len(layers) - 1
    slopes: list[Layer] = [layers[0]] * len(layers)
    handed: np.ndarray = e
    for k in range(top, -1, -1):
        (W, _), one = layers[k], passes[k]
        if k == top:
            d = e / o.dtype.type(B * C if sigmoid else B)
        else:
            dh = handed if rule == "fa" else _direct(rule, e, Y, feedback[k], one.h.shape)
            d = dh * (one.h > 0) if relu else dh * (1 - one.h * one.h)
        dz = d * (np.abs(one.z) < 1) if binary_activations else d
        if W.ndim == 2:
            dW, db = dz.T @ one.inputs, dz.sum(axis=0)
        else:
            _, dW, db = convolution_gradient(one.inputs, W, dz)
        slopes[k] = Layer(dW * (np.abs(W) < 1) if binary_weights else dW, db)
        if rule == "fa" and k > 0:
            handed = _down(dz if masked else d, feedback[k], one.inputs, passes[k - 1].h)
    return slopes


def _direct(rule: str, e: np.ndarray, Y: np.ndarray, B: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Error of a hidden layer's output, directly from the top."""
    assert B is not None
    sent = {"dfa": e, "sdfa": np.sign(e), "drtp": Y}[rule]
    sent_back: np.ndarray = (sent @ B.reshape(len(B), -1)).reshape(shape)
    return sent_back


def _down(dz: np.ndarray, B: np.ndarray | None, inputs: np.ndarray, below: np.ndarray) -> np.ndarray:
    """FA's error of the layer below at its h, from dz and B (like W), through the pooling between them if any."""
    assert B is not None
    dinputs = dz @ B if B.ndim == 2 else convolution_gradient(inputs, B, dz)[0]
    if below.ndim == 2:
        return dinputs
    return max_pool_gradient(below, 2, dinputs.reshape(*below.shape[:2], *(n // 2 for n in below.shape[2:])))


def train(
    batches: Sequence[Batch],
    layers: Sequence[Layer],
    feedback: Sequence[np.ndarray | None],
    rule: str,
    *,
    optimizer: str = "nesterov",
    lr: float = 1e-4,
    masked: bool = True,
    **options: Any,
) -> tuple[Trained, np.ndarray]:
    """Train all layers with one step per batch; also return the output (B, C) of the first pass.

    Parameters
    ----------
    batches, layers, feedback, rule, masked
        As for :func:`gradient`.
    optimizer : {"nesterov", "adam", "momentum", "sgd"}
    lr : float
    **options
        As for :func:`forward`.
    """
    new = optimizer_of(optimizer, lr, {"nesterov": Nesterov, **OPTIMIZERS})
    layers, optimizers = list(layers), [[new() for _ in layer] for layer in layers]
    losses = []
    for t, (X, labels) in steps(batches):
        passes = forward(X, layers, **options)
        losses.append(output_loss(passes[-1].h, labels, options.get("sigmoid", True)))
        slopes = gradient(passes, layers, labels, feedback, rule, masked=masked, **options)
        if t == 0:
            first, output = slopes, passes[-1].h
        layers = [
            Layer(*(o.step(w, g) for o, w, g in zip(own, layer, slope)))
            for own, layer, slope in zip(optimizers, layers, slopes)
        ]
    return Trained(layers, np.array(losses), first), output
