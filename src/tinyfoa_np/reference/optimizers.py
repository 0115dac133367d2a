"""Gradient descent in three forms, and further optimizers that only other rules use.

An optimizer here holds the state of ONE slice of weights, or of one group of biases, and counts its own steps: the
step count of a slice in flash does not change. All compute as PyTorch does, in the dtype of the weights.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np


class Optimizer(Protocol):
    """The interface of optimizers."""

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray: ...


class SGD:
    """Plain gradient descent, w <- w - lr g.

    Parameters
    ----------
    lr : float
        Step size.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Take one step.

        Parameters
        ----------
        w, g : ndarray of float, any shape, the same for both
            Weights and their gradient.

        Returns
        -------
        ndarray, like `w`
            The new weights.
        """
        return w - self.lr * g


class Momentum:
    """Gradient descent with momentum, u <- 0.9 u + g, w <- w - lr u (Polyak 1964, in PyTorch's scaling).

    Parameters
    ----------
    lr : float
        Step size; it can be changed between steps.
    decay : float, optional
        Weight decay: g is replaced by g + decay w.
    """

    MU = 0.9

    def __init__(self, lr: float, decay: float = 0.0) -> None:
        self.lr = lr
        self.decay = decay
        self.u: np.ndarray | float = 0.0  # gets the shape of the weights at the first step

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Take one step; parameters and result as in :meth:`SGD.step`."""
        if self.decay:
            g = g + self.decay * w
        self.u = self.MU * self.u + g
        return w - self.lr * self.u


class Nesterov:
    """Nesterov momentum, u <- 0.9 u + g, w <- w - lr (g + 0.9 u) (Nesterov 1983, in PyTorch's form).

    Parameters
    ----------
    lr : float
        Step size.
    """

    MU = 0.9

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.u: np.ndarray | float = 0.0  # gets the shape of the weights at the first step

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Take one step; parameters and result as in :meth:`SGD.step`."""
        self.u = self.MU * self.u + g
        return w - self.lr * (g + self.MU * self.u)


class Velocity:
    """Momentum that accumulates steps, not gradients: v <- 0.9 v + lr d, w <- w + v, for an ascent direction d.

    With a constant step size it equals :class:`Momentum` with g = -d. After a change of `lr`, accumulated steps keep
    their size. PEPITA's published code uses this form.

    Parameters
    ----------
    lr : float
        Step size; it can be changed between steps.
    """

    MU = 0.9

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.v: np.ndarray | float = 0.0  # gets the shape of the weights at the first step

    def step(self, w: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Take one step.

        Parameters
        ----------
        w, d : ndarray of float, any shape, the same for both
            Weights, and the direction to move them in.

        Returns
        -------
        ndarray, like `w`
            The new weights.
        """
        self.v = self.MU * self.v + self.lr * d
        return w + self.v


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) with the usual constants 0.9, 0.999 and 1e-8.

    At the t-th step, counted from 1::

        m <- 0.9   m + 0.1   g
        v <- 0.999 v + 0.001 g^2
        w <- w - lr / (1 - 0.9^t) * m / (sqrt(v) / sqrt(1 - 0.999^t) + 1e-8)

    The two corrections are scalars: they are computed in double precision before they are applied to float32 arrays.

    Parameters
    ----------
    lr : float
        Step size.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.t = 0
        self.m: np.ndarray | float = 0.0  # both get the shape of the weights at the first step
        self.v: np.ndarray | float = 0.0

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Take one step; parameters and result as in :meth:`SGD.step`."""
        self.t += 1
        self.m = self.BETA1 * self.m + (1 - self.BETA1) * g
        self.v = self.BETA2 * self.v + (1 - self.BETA2) * g * g
        step_size = self.lr / (1 - self.BETA1**self.t)
        denominator = np.sqrt(self.v) / math.sqrt(1 - self.BETA2**self.t) + self.EPSILON
        return w - step_size * (self.m / denominator)


class AdamW(Adam):
    """Adam with decoupled weight decay: w <- (1 - lr decay) w, then Adam's step (Loshchilov, Hutter 2019).

    Parameters
    ----------
    lr : float
        Step size.
    decay : float
    """

    def __init__(self, lr: float, decay: float) -> None:
        super().__init__(lr)
        self.decay = decay

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Take one step; parameters and result as in :meth:`SGD.step`."""
        return super().step(w * w.dtype.type(1 - self.lr * self.decay), g)


class Bop:
    """Flips of binary weights +-a: m <- m + gamma (g - m), and w <- -w where |m| > tau and m has the sign of w.

    Helwegen and others, "Latent weights do not exist: rethinking binarized neural network optimization", NeurIPS 2019.

    Parameters
    ----------
    gamma : float
        How fast the moment follows the gradient.
    tau : float
        The threshold.
    """

    def __init__(self, gamma: float, tau: float) -> None:
        self.gamma, self.tau = gamma, tau
        self.m: np.ndarray | float = 0.0  # gets the shape of the weights at the first step

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Take one step; parameters and result as in :meth:`SGD.step`."""
        self.m = self.m + w.dtype.type(self.gamma) * (g - self.m)
        return np.where((np.abs(self.m) > w.dtype.type(self.tau)) & (self.m * w > 0), -w, w)


OPTIMIZERS: dict[str, type[Adam] | type[Momentum] | type[SGD]] = {"adam": Adam, "momentum": Momentum, "sgd": SGD}
