"""What only GIFF computes: the label channel, goodness of data merged with it, the loss, and their gradients.

Data d are (B, P, O): samples, positions (1 of a vector), channels. For feature maps, the goodness of all labels follows
from the sums over positions of d^2 if data and label are multiplied, or of d and of all d^2 if they are added.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiling import INLINED, njit
from .maths import exp, log, tanh
from .simd import share

ADD, MUL = range(2)


@njit(nogil=True, cache=True, error_model="numpy")
def latent(weight, bias, width, q):
    # weight (C, k O), bias (k O,), q (C, O) float32
    """q of every label: averages of ``width`` = k neighbouring ReLU units."""
    for label in range(q.shape[0]):
        for o in range(q.shape[1]):
            total = np.float32(0)
            for u in range(o * width, (o + 1) * width):
                total += max(weight[label, u] + bias[u], np.float32(0))
            q[label, o] = total / np.float32(width)


@njit(nogil=True, cache=True, error_model="numpy")
def latent_back(weight, bias, width, dq, dweight, dbias):
    # dq (C, O) float64; the rest as latent
    """The gradients of the label channel's weights and biases."""
    dbias[:] = 0
    for label in range(dq.shape[0]):
        for o in range(dq.shape[1]):
            part = np.float32(dq[label, o] / width)
            for u in range(o * width, (o + 1) * width):
                dweight[label, u] = part if weight[label, u] + bias[u] > np.float32(0) else np.float32(0)
                dbias[u] += dweight[label, u]


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def measure(d, samples, merge, moments, squares, threads):
    # d (B, P, O), moments (B, O) float64, squares (B,) float64
    """For feature maps, the sums over positions of d^2 (a product) or of d (a sum), and for a sum those of all d^2."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            own, total = moments[s], 0.0
            own[:] = 0
            for p in range(d.shape[1]):
                if merge == MUL:
                    for o in range(own.size):
                        value = np.float64(d[s, p, o])
                        own[o] += value * value
                else:
                    for o in range(own.size):
                        own[o] += np.float64(d[s, p, o])
                    for o in range(own.size):
                        total += np.float64(d[s, p, o]) * np.float64(d[s, p, o])
            squares[s] = total


@njit(**INLINED)
def _over(d):
    # the mean of feature maps, the sum of vectors
    return 1.0 / (d.shape[1] * d.shape[2]) if d.shape[1] > 1 else 1.0


@njit(**INLINED)
def _goodness(d, moments, squares, s, q, label, merge):
    total, positions = 0.0, d.shape[1]
    if positions == 1:
        for o in range(q.shape[1]):
            data, value = np.float64(d[s, 0, o]), np.float64(q[label, o])
            m = data * value if merge == MUL else data + value
            total += m * m
        return total
    for o in range(q.shape[1]):
        value = np.float64(q[label, o])
        if merge == MUL:
            total += moments[s, o] * (value * value)
        else:
            total += value * (2.0 * moments[s, o] + positions * value)
    return (total + squares[s]) * _over(d)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def score(d, samples, merge, moments, squares, q, scores, threads):
    # scores (C, B) float64; moments and squares of feature maps only; the rest as measure and latent
    """Add the goodness of every label to ``scores``."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            for c in range(q.shape[0]):
                scores[c, s] += _goodness(d, moments, squares, s, q, c, merge)


@njit(**INLINED)
def _listed(labels, wrong, s, k):
    # the k-th label of sample s in the loss: its own, then its wrong one or, without any, all others in their order
    own = np.int64(labels[s])
    if k == 0:
        return own
    if wrong.size:
        return np.int64(wrong[s])
    return k - 1 if k - 1 < own else k


@njit(nogil=True, cache=True, error_model="numpy")
def loss_and_slopes(d, samples, merge, moments, squares, q, labels, wrong, theta, sharpness, of, coefficient):
    # labels (B,) and wrong (B,) or (0,) uint16, coefficient (K, B) float64; the rest as score
    """The summed loss, and the factor of each label's m^2 in the gradient: the right label's, then the wrong ones'.

    K is 2 with one wrong label per sample, C without ``wrong``: then the loss is over all labels. The logistic loss is
    log(1 + exp(theta - g)) of right labels and log(1 + exp(g - theta)) of wrong ones, averaged over the wrong ones; the
    softmax loss, taken if the ``sharpness`` is not 0, is the cross-entropy of sharpness * g. Its mean is that of the
    batch's ``of`` samples.
    """
    total, over, count = 0.0, _over(d), coefficient.shape[0]
    for s in range(samples):
        for k in range(count):
            coefficient[k, s] = _goodness(d, moments, squares, s, q, _listed(labels, wrong, s, k), merge)
        if sharpness > 0:
            total += _softmax(coefficient[:, s], sharpness, 2.0 * over / of)
        else:
            for k in range(count):
                excess = coefficient[k, s] - theta
                x, share = (-excess, 1.0) if k == 0 else (excess, 1.0 / (count - 1))
                one = max(x, 0.0) + log(1.0 + exp(-abs(x))) + 0.0 * x  # exp and log do not pass a NaN on
                p = 0.5 + 0.5 * tanh(0.5 * x)
                total += one * share
                coefficient[k, s] = (-p if k == 0 else p * share) * 2.0 * over / of
    return total


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def margins(d, samples, merge, moments, squares, q, labels, margin, threads):
    # margin (B,) float64; the rest as loss_and_slopes
    """Adds to ``margin`` the distance of the right label's goodness from the largest one of all wrong labels."""
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            right, largest = np.int64(labels[s]), -np.inf
            for c in range(q.shape[0]):
                if c != right:
                    largest = max(largest, _goodness(d, moments, squares, s, q, c, merge))
            margin[s] += _goodness(d, moments, squares, s, q, right, merge)
            margin[s] += -largest


@njit(**INLINED)
def _softmax(values, sharpness, factor):
    # goodness, the right label's first, to slopes times factor; the cross-entropy of sharpness * goodness
    top, total = -np.inf, 0.0
    for k in range(values.size):
        values[k] *= sharpness
        top = max(top, values[k])
    right = values[0] - top
    for k in range(values.size):
        values[k] = exp(values[k] - top) + 0.0 * values[k]
        total += values[k]
    for k in range(values.size):
        values[k] = (values[k] / total - (1.0 if k == 0 else 0.0)) * (sharpness * factor)
    return log(total) - right


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def errors(d, samples, merge, q, labels, wrong, coefficient, dd, threads):
    # dd (B, P, O); the rest as loss_and_slopes
    """dd, the gradient for d: of a product d (c q^2 + c' q'^2 + ..), of a sum c (d + q) + c' (d + q') + .."""
    count = coefficient.shape[0]
    for lane in prange(threads):
        begin, end = share(np.int64(lane), threads, samples, 1)
        for s in range(begin, end):
            scale = np.float32(coefficient[0, s])
            for k in range(1, count):
                scale += np.float32(coefficient[k, s])
            mixed = dd[s, 0]  # until the end, what all positions share
            for k in range(count):
                own, a = q[_listed(labels, wrong, s, k)], np.float32(coefficient[k, s])
                for o in range(d.shape[2]):
                    term = a * own[o] * own[o] if merge == MUL else a * own[o]
                    mixed[o] = term if k == 0 else mixed[o] + term
            for p in range(d.shape[1] - 1, -1, -1):
                for o in range(d.shape[2]):
                    dd[s, p, o] = d[s, p, o] * mixed[o] if merge == MUL else d[s, p, o] * scale + mixed[o]


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def latent_errors(d, samples, merge, moments, q, labels, wrong, coefficient, begun, dq, threads):
    # dq (C, O) float64; the rest as loss_and_slopes
    """dq, the gradient of the loss for q, over the samples in their order; continues an earlier sum if ``begun``."""
    vectors = d.shape[1] == 1
    for lane in prange(threads):
        first, last = share(np.int64(lane), threads, q.shape[1], 8)
        for c in range(q.shape[0]):
            for o in range(first, last):
                dq[c, o] = dq[c, o] if begun else 0.0
        for s in range(samples):
            for k in range(coefficient.shape[0]):
                label = _listed(labels, wrong, s, k)
                for o in range(first, last):
                    value, data = np.float64(q[label, o]), np.float64(d[s, 0, o])
                    if merge == MUL:
                        own = data * data if vectors else moments[s, o]
                        dq[label, o] += coefficient[k, s] * (value * own)
                    else:
                        own = data if vectors else moments[s, o]
                        dq[label, o] += coefficient[k, s] * (own + d.shape[1] * value)
