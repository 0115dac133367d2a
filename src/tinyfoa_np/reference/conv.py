"""Convolution, batch norm, ReLU and pooling, each with its gradient.

Feature maps are (B, C, R, S): batch, channels, rows, columns. The output size is the input size divided by the stride,
rounded up. The window of output 0 begins (K - 1) // 2 before the input, for a window of length K: padding is 1 for
3 x 3 and 0 for 1 x 1. Values beyond the border are 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

EPSILON, MOMENTUM = 1e-5, 0.1


def windows(X: np.ndarray, kernel: tuple[int, int], stride: int) -> np.ndarray:
    """Extract the input window of each output.

    Parameters
    ----------
    X : ndarray of float, (B, C, R, S)
    kernel : (int, int)
        Rows K and columns L of a window.
    stride : int

    Returns
    -------
    ndarray of float, (B, C, ceil(R / stride), ceil(S / stride), K, L)
    """
    B, C, R, S = X.shape
    (K, L), out = kernel, (-(-R // stride), -(-S // stride))
    padded = np.zeros((B, C, stride * (out[0] - 1) + K + R, stride * (out[1] - 1) + L + S), X.dtype)
    padded[:, :, (K - 1) // 2 :, (L - 1) // 2 :][:, :, :R, :S] = X
    seen = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    return seen[:, :, : stride * out[0] : stride, : stride * out[1] : stride]


def _spread(dwindows: np.ndarray, X: np.ndarray, stride: int) -> np.ndarray:
    """Add the gradients of windows (B, C, ., ., K, L) at their input positions; the result is like X."""
    B, C, R, S = X.shape
    rows, columns, K, L = dwindows.shape[2:]
    dpadded = np.zeros((B, C, stride * (rows - 1) + K + R, stride * (columns - 1) + L + S), dwindows.dtype)
    for k in range(K):
        for m in range(L):
            dpadded[:, :, k : k + stride * rows : stride, m : m + stride * columns : stride] += dwindows[..., k, m]
    return dpadded[:, :, (K - 1) // 2 :, (L - 1) // 2 :][:, :, :R, :S]


def convolution(X: np.ndarray, W: np.ndarray, b: np.ndarray | float = 0.0, stride: int = 1) -> np.ndarray:
    """Convolution z = W * X + b.

    Parameters
    ----------
    X : ndarray of float, (B, I, R, S)
    W : ndarray of float, (O, I, K, L)
    b : ndarray of float, (O,), optional
    stride : int

    Returns
    -------
    ndarray of float, (B, O, ., .)
    """
    seen = windows(X, W.shape[2:], stride)
    z = np.einsum("bihwkl,oikl->bohw", seen, W, optimize=True)
    biased: np.ndarray = z + np.reshape(b, (-1, 1, 1))
    return biased


def convolution_gradient(
    X: np.ndarray, W: np.ndarray, dz: np.ndarray, stride: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients (dX, dW, db) from dz (B, O, ., .); shapes as for :func:`convolution`."""
    dW = np.einsum("bihwkl,bohw->oikl", windows(X, W.shape[2:], stride), dz, optimize=True)
    dX = _spread(np.einsum("bohw,oikl->bihwkl", dz, W, optimize=True), X, stride)
    return dX, dW, dz.sum(axis=(0, 2, 3))


def depthwise(X: np.ndarray, W: np.ndarray, stride: int = 1) -> np.ndarray:
    """Depthwise convolution, one window per channel: X (B, C, R, S), W (C, 1, K, L), z (B, C, ., .)."""
    z: np.ndarray = np.einsum("bchwkl,cokl->bchw", windows(X, W.shape[2:], stride), W, optimize=True)
    return z


def depthwise_gradient(X: np.ndarray, W: np.ndarray, dz: np.ndarray, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Gradients (dX, dW) from dz; shapes as for :func:`depthwise`."""
    dW = np.einsum("bchwkl,bchw->ckl", windows(X, W.shape[2:], stride), dz, optimize=True)[:, None]
    return _spread(np.einsum("bchw,cokl->bchwkl", dz, W, optimize=True), X, stride), dW


class Normalized(NamedTuple):
    """The result of batch norm, and the values that its gradient needs."""

    v: np.ndarray  # (B, C, R, S)
    normal: np.ndarray  # (B, C, R, S), before gamma and beta
    deviation: np.ndarray  # (C,)
    mean: np.ndarray  # (C,), running, updated
    variance: np.ndarray  # (C,), running, updated


def batch_norm(
    z: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    *,
    training: bool,
    epsilon: float = EPSILON,
) -> Normalized:
    """Batch norm v = gamma (z - m) / sqrt(s + epsilon) + beta per channel, with m and s its mean and variance.

    In training, m and s are those of the batch, over samples and positions, and the running statistics move a tenth of
    the way to them (using the unbiased variance). Otherwise m and s are the running statistics.

    Parameters
    ----------
    z : ndarray of float, (B, C, R, S)
    gamma, beta, mean, variance : ndarray of float, (C,)
    training : bool
    epsilon : float
    """
    if training:
        count, own = z.size // z.shape[1], (z.mean(axis=(0, 2, 3)), z.var(axis=(0, 2, 3)))
        unbiased = own[1] * (count / max(1, count - 1))
        mean, variance = mean + MOMENTUM * (own[0] - mean), variance + MOMENTUM * (unbiased - variance)
        mean, variance = mean.astype(z.dtype), variance.astype(z.dtype)
    else:
        own = mean, variance
    deviation = np.sqrt(own[1] + z.dtype.type(epsilon))
    normal = (z - _channels(own[0])) / _channels(deviation)
    return Normalized(_channels(gamma) * normal + _channels(beta), normal, deviation, mean, variance)


def batch_norm_gradient(
    done: Normalized, gamma: np.ndarray, dv: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients (dz, dgamma, dbeta) from dv, in training: the batch's mean and deviation depend on all its values."""
    over = (0, 2, 3)
    dnormal = dv * _channels(gamma)
    means = dnormal.mean(axis=over), (dnormal * done.normal).mean(axis=over)
    dz = (dnormal - _channels(means[0]) - done.normal * _channels(means[1])) / _channels(done.deviation)
    return dz, (dv * done.normal).sum(axis=over), dv.sum(axis=over)


def average_pool(X: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Means of adjacent K x L windows; remaining rows and columns at the bottom and right are ignored.

    Shapes (B, C, R, S) and (B, C, R // K, S // L), for ``size`` (K, L).
    """
    (B, C, R, S), (K, L) = X.shape, size
    rows, columns = R // K, S // L
    pooled: np.ndarray = X[:, :, : rows * K, : columns * L].reshape(B, C, rows, K, columns, L).mean(axis=(3, 5))
    return pooled


def average_pool_gradient(X: np.ndarray, size: tuple[int, int], dout: np.ndarray) -> np.ndarray:
    """Gradient dX, like X, from dout, like the result of :func:`average_pool`."""
    dX = np.zeros_like(X)
    spread = dout.repeat(size[0], axis=2).repeat(size[1], axis=3) / X.dtype.type(size[0] * size[1])
    dX[:, :, : spread.shape[2], : spread.shape[3]] = spread
    return dX


def max_pool(X: np.ndarray, size: int = 2) -> np.ndarray:
    """Maxima of adjacent K x K windows; remaining rows and columns at the bottom and right are ignored.

    Shapes (B, C, R, S) and (B, C, R // K, S // K), for ``size`` K.
    """
    B, C, R, S = X.shape
    rows, columns = R // size, S // size
    squares = X[:, :, : rows * size, : columns * size].reshape(B, C, rows, size, columns, size)
    pooled: np.ndarray = squares.max(axis=(3, 5))
    return pooled


def max_pool_gradient(X: np.ndarray, size: int, dout: np.ndarray) -> np.ndarray:
    """Gradient dX, like X, from dout, like the result of :func:`max_pool`: all of it goes to the first maximum."""
    B, C, R, S = X.shape
    rows, columns = R // size, S // size
    parts = X[:, :, : rows * size, : columns * size].reshape(B, C, rows, size, columns, size)
    parts = parts.transpose(0, 1, 2, 4, 3, 5).reshape(B, C, rows, columns, size * size)
    spread = np.zeros_like(parts)
    np.put_along_axis(spread, parts.argmax(axis=4)[..., None], dout[..., None], axis=4)
    dX = np.zeros_like(X)
    spread = spread.reshape(B, C, rows, columns, size, size).transpose(0, 1, 2, 4, 3, 5)
    dX[:, :, : rows * size, : columns * size] = spread.reshape(B, C, rows * size, columns * size)
    return dX


def _channels(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]
