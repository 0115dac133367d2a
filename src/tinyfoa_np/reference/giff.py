"""GIFF, the Generalized Inference Friendly Forward-Forward algorithm: any layers, local losses, one inference pass.

Layers are partitioned into groups. Each group has a data channel (its layers), a label channel, a loss and an
optimizer, and trains alone:

    data            d = layers(h)                       h: output of the group below, never differentiated through
    label           q(c) = ReLU(L onehot(c) + l)        k neighbouring units averaged for each output channel
    merge           m = d + q or d q                    q is constant over space
    goodness        g = sum m^2 (vectors), mean m^2 (feature maps)
    loss            logistic: mean of log(1 + exp(theta - g(right label))) + log(1 + exp(g(wrong label) - theta)),
                    the second term for one random wrong label (the paper), or its mean over all wrong labels;
                    softmax: cross-entropy of sharpness * g over all labels
    hand on         d from before the update, or d divided by its root mean square
    answer          the label with the largest goodness, summed over groups or of the last group

d is the same for the right and the wrong label, so a step takes one pass, and so does inference. The forward-forward
algorithm (:mod:`.ff`) takes one pass per label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import graph as blocks
from .ff import Batch, normalize
from .graph import Arrays, Description
from .optimizers import Adam
from .training import steps


class Merge(NamedTuple):
    """How data and label are merged: m, and the gradients of d and q from that of m. All have the shape of d."""

    merged: Callable[[np.ndarray, np.ndarray], np.ndarray]
    back: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


#: merges by name; any other :class:`Merge` can be used as well
MERGES = {
    "add": Merge(lambda d, q: d + q, lambda d, q, dm: (dm, dm)),
    "mul": Merge(lambda d, q: d * q, lambda d, q, dm: (dm * q, dm * d)),
}


class Group(NamedTuple):
    """Layers that train together."""

    layers: Sequence[Description]
    parameters: Arrays  # of the layers, including batch norm's running statistics
    W: np.ndarray  # (k O, C), the label channel's weights, O output channels
    b: np.ndarray  # (k O,)


# One batch ------------------------------------------------------------------------------------------------------------


def latent(W: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
    """q of every label, with ReLU units averaged in runs of ``width``. Shapes (k O, C), (k O,) and (C, O)."""
    units = np.maximum(W + b[:, None], 0)
    q: np.ndarray = units.reshape(-1, width, W.shape[1]).mean(axis=1).T
    return q


def latent_gradient(W: np.ndarray, b: np.ndarray, width: int, dq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients (dW, db) from dq (C, O)."""
    dW = (dq.T / width).repeat(width, axis=0) * (W + b[:, None] > 0)
    return dW, dW.sum(axis=1)


def goodness(m: np.ndarray) -> np.ndarray:
    """Goodness of a group (B,): the sum of m^2 for a vector (B, O), the mean of m^2 for feature maps (B, O, R, S)."""
    axes = tuple(range(1, m.ndim))
    own: np.ndarray = np.square(m).sum(axis=axes) if m.ndim == 2 else np.square(m).mean(axis=axes)
    return own


def loss(
    a: np.ndarray, labels: np.ndarray, wrong: np.ndarray | None, theta: float | None, sharpness: float = 1.0
) -> tuple[float, np.ndarray]:
    """Loss of a batch, in float64, and its gradient with respect to the goodness of every label.

    ::

        logistic, one wrong label     da_y = -sig(theta - a_y) / B,  da_w = sig(a_w - theta) / B
        logistic, all wrong labels    da_y as above,  da_c = sig(a_c - theta) / (B (C - 1)) for each c != y
        softmax                       da = sharpness (softmax(sharpness a) - Y) / B

    Parameters
    ----------
    a : ndarray of float, (B, C)
        Goodness of every label.
    labels : ndarray of integer, (B,)
    wrong : ndarray of integer, (B,), or None
        One wrong label per sample; None for all of them.
    theta : float or None
        None for the softmax loss.
    sharpness : float
        For the softmax loss: one over its temperature.

    Returns
    -------
    loss : float
    da : ndarray of float64, (B, C)
    """
    a, (B, C) = a.astype(np.float64), a.shape
    own, Y = np.arange(B), np.eye(C)[labels]
    if theta is None:
        p = np.exp(sharpness * (a - a.max(axis=1, keepdims=True)))
        p = p / p.sum(axis=1, keepdims=True)
        return float(-np.mean(np.log(p[own, labels]))), sharpness * (p - Y) / B
    share = (1 - Y) / (C - 1) if wrong is None else np.eye(C)[wrong]  # weight of each label as a wrong one
    terms = np.logaddexp(0, theta - a) * Y + np.logaddexp(0, a - theta) * share
    logistic = 0.5 * (1 + np.tanh(0.5 * (a - theta)))  # without overflow
    return float(terms.sum() / B), (share * logistic - Y * (1 - logistic)) / B


class Slopes(NamedTuple):
    """Gradients of a group's loss."""

    parameters: Arrays
    W: np.ndarray
    b: np.ndarray


class Passed(NamedTuple):
    """The results of a group's step before its update."""

    d: np.ndarray  # (B, O) or (B, O, R, S)
    loss: float
    slopes: Slopes
    moved: Arrays  # batch norm's updated running statistics


def class_scores(d: np.ndarray, q: np.ndarray, merge: Merge) -> np.ndarray:
    """Goodness (B, C) of every label, for data d (B, O) or (B, O, R, S) and the labels' q (C, O)."""
    return np.stack([goodness(merge.merged(d, _spread(one, d))) for one in q], axis=1)


def _spread(q: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Broadcast q (O,) of one label to the shape of d."""
    spread: np.ndarray = q.reshape(-1, *[1] * (d.ndim - 2)) * np.ones_like(d)
    return spread


def passed(
    h: np.ndarray,
    labels: np.ndarray,
    wrong: np.ndarray | None,
    group: Group,
    *,
    theta: float | None,
    width: int,
    merge: Merge,
    sharpness: float = 1.0,
) -> Passed:
    """A group's outputs, loss and gradients for a batch.

    Parameters
    ----------
    h : ndarray of float, (B, I) or (B, I, R, S)
    labels : ndarray of integer, (B,)
    wrong : ndarray of integer, (B,), or None
        As in :func:`loss`.
    group : Group
    theta : float or None
        The goodness threshold between right and wrong labels; None for the softmax loss.
    width : int
        k, label channel units per output channel.
    merge : Merge
    sharpness : float
        As in :func:`loss`.
    """
    d, back, moved = blocks.forward(h, group.layers, group.parameters, training=True)
    q = latent(group.W, group.b, width)
    value, da = loss(class_scores(d, q, merge), labels, wrong, theta, sharpness)
    dd, dq = np.zeros_like(d), np.zeros_like(q)
    for c in range(len(q)):
        spread = _spread(q[c], d)
        m = merge.merged(d, spread)
        slope = da[:, c] / (1 if d.ndim == 2 else m[0].size)
        own_dd, own_dq = merge.back(d, spread, 2 * m * slope.reshape(-1, *[1] * (d.ndim - 1)))
        dd += own_dd
        dq[c] = own_dq.sum(axis=(0, *range(2, d.ndim)))
    _, gradients = blocks.gradient(back, dd)
    slopes = Slopes(gradients, *latent_gradient(group.W, group.b, width, dq))
    return Passed(d, value, slopes, moved)


def handed_on(d: np.ndarray, normalized: bool) -> np.ndarray:
    """Inputs of the next group: d itself, or each sample of d divided by its root mean square."""
    return normalize(d.reshape(len(d), -1)).reshape(d.shape) if normalized else d


# Training -------------------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """The result of :func:`train`."""

    groups: list[Group]  # after the last step
    losses: np.ndarray  # (steps, groups), float64
    first: list[Slopes]  # at step 0


def train(
    batches: Sequence[Batch] | Sequence[tuple[np.ndarray, np.ndarray, None]],
    groups: Sequence[Group],
    *,
    theta: float | None,
    label_width: int = 1,
    merge: str | Merge = "mul",
    normalized: bool = False,
    sharpness: float = 1.0,
    lr: float = 1e-3,
    epochs: int = 1,
) -> Trained:
    """Train all groups by Adam: one step per batch, in the given order, for ``epochs`` epochs.

    In a step the groups train in turn; each passes on its outputs from before its own update.

    Parameters
    ----------
    batches : sequence of (X, labels, wrong labels)
        Wrong labels may be None: the loss is then over all labels.
    groups : sequence of Group
        Lowest first.
    theta, label_width, merge, sharpness
        As for :func:`passed`; a merge may be given by name.
    normalized : bool
        Whether outputs passed to the next group are divided by their root mean square.
    lr : float
    epochs : int
    """
    groups, merge = list(groups), MERGES[merge] if isinstance(merge, str) else merge
    optimizers: list[dict[str, Adam]] = [{} for _ in groups]
    losses, first = np.empty((epochs * len(batches), len(groups))), []
    for t, (h, labels, wrong) in steps(batches, epochs):
        for k, group in enumerate(groups):
            done = passed(h, labels, wrong, group, theta=theta, width=label_width, merge=merge, sharpness=sharpness)
            losses[t, k] = done.loss
            if t == 0:
                first.append(done.slopes)
            new = {
                name: optimizers[k].setdefault(name, Adam(lr)).step(value, slope)
                for name, value, slope in (
                    *((name, group.parameters[name], slope) for name, slope in done.slopes.parameters.items()),
                    ("label W", group.W, done.slopes.W),
                    ("label b", group.b, done.slopes.b),
                )
            }
            W, b = new.pop("label W"), new.pop("label b")
            groups[k] = Group(group.layers, group.parameters | done.moved | new, W, b)
            h = handed_on(done.d, normalized)
    return Trained(groups, losses, first)


# Inference ------------------------------------------------------------------------------------------------------------


def group_goodness(
    X: np.ndarray,
    groups: Sequence[Group],
    *,
    label_width: int = 1,
    merge: str | Merge = "mul",
    normalized: bool = False,
) -> list[np.ndarray]:
    """Goodness (N, C) of every label in each group, from one pass through the layers.

    Parameters as for :func:`train`; X (N, I) or (N, I, R, S).
    """
    merge, h = MERGES[merge] if isinstance(merge, str) else merge, X
    found = []
    for group in groups:
        d, _, _ = blocks.forward(h, group.layers, group.parameters)
        found.append(class_scores(d, latent(group.W, group.b, label_width), merge))
        h = handed_on(d, normalized)
    return found


def class_goodness(X: np.ndarray, groups: Sequence[Group], *, answer: str = "sum", **options: object) -> np.ndarray:
    """Goodness (N, C) of every label, summed over groups or of the ``last`` group; see :func:`group_goodness`."""
    found = group_goodness(X, groups, **options)  # type: ignore[arg-type]
    return found[-1] if answer == "last" else np.sum(found, axis=0)


def predict(X: np.ndarray, groups: Sequence[Group], **options: object) -> np.ndarray:
    """Predict class numbers (N,) by the largest goodness; parameters as for :func:`class_goodness`."""
    classes: np.ndarray = class_goodness(X, groups, **options).argmax(axis=1)  # type: ignore[arg-type]
    return classes


# From forward-forward -------------------------------------------------------------------------------------------------


def from_ff(W: np.ndarray, D: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights that make a GIFF layer with sum merge reproduce a forward-forward layer for one sample.

    FF's layer reads data and label side by side, h = ReLU(p + c) with p = D W_D^T and c = C W_C^T. GIFF's has one
    channel for each, h = ReLU(D V_D^T) + ReLU(C V_C^T). The signs of p, c and their sum define six regions, which
    determine how a neuron's weights change (appendix A.1 of GIFF's paper):

        p >= 0, c >= 0                 both stay
        p <  0, c <  0                 both stay: nothing is active
        p >= 0, c <  0, p + c >= 0     V_D = W_D (p + c) / p: the data weights absorb the label's share
        p >= 0, c <  0, p + c <  0     V_D = -W_D: the data channel becomes silent
        p <  0, c >= 0, p + c >= 0     V_C = W_C (p + c) / c
        p <  0, c >= 0, p + c <  0     V_C = -W_C

    Guaranteed: h is the same for this data sample with this label, up to rounding. Not guaranteed: with another sample
    or label, p and c may lie in other regions, and h may differ. The result shows that GIFF's layers can represent what
    FF's layers do, not that a trained network can be translated.

    Parameters
    ----------
    W : ndarray of float, (O, I + C)
        FF's weights, data columns first.
    D : ndarray of float, (I,) or (1, I)
        The data.
    C : ndarray of float, (C,) or (1, C)
        The label, as FF would write it.

    Returns
    -------
    V_D, V_C : ndarray of float, (O, I) and (O, C)
    """
    D, C = D.reshape(-1), C.reshape(-1)
    W_D, W_C = W[:, : D.size], W[:, D.size :]
    p, c = (W_D.astype(np.float64) @ D), (W_C.astype(np.float64) @ C)
    data, label = np.ones_like(p), np.ones_like(c)  # factor of each neuron's weights
    leads, total = (p >= 0) & (c < 0), p + c
    data[leads] = np.where(total[leads] >= 0, total[leads] / np.where(p[leads] > 0, p[leads], 1), -1)
    follows = (p < 0) & (c >= 0)
    label[follows] = np.where(total[follows] >= 0, total[follows] / np.where(c[follows] > 0, c[follows], 1), -1)
    return (data[:, None] * W_D).astype(W.dtype), (label[:, None] * W_C).astype(W.dtype)
