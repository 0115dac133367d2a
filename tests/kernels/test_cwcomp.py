"""CwComp's own kernels, grouped convolutions too, against their plain NumPy twins; threads do not show in any bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_tools import EPS, Blank, on_threads, only_samples, run

from tinyfoa_np.kernels import conv_grouped, cwcomp
from tinyfoa_np.kernels.conv_update import Step, Tensor
from tinyfoa_np.kernels.optimizers import NUMBERS
from tinyfoa_np.reference import conv
from tinyfoa_np.reference import cwcomp as reference
from tinyfoa_np.reference.tinyfoa import error, loss, softmax

few = settings(deadline=None, max_examples=15)
NONE = np.zeros(0, np.float32)
#: one step of plain gradient descent at rate 1, from weights of 0: the gradient, but for its sign
DESCENT = Step(NUMBERS["sgd"], np.float32(1), np.float32(1))
seeds = st.integers(0, 2**32 - 1)


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def inner(maps):
    """(B, R, S, C) of (B, C, R, S)."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


@few
@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(2, 5),
    st.integers(1, 4),
    st.sampled_from([1, 3, 8, 16, 19, 33]),
    st.sampled_from([(3, 3), (1, 1), (5, 2)]),
    st.integers(1, 2),
    st.integers(1, 4),
    seeds,
)
def test_grouped_convolution(samples, rows, columns, groups, depth, width, window, stride, threads, seed):
    rng, B = np.random.default_rng(seed), samples + 1
    X = numbers(rng, B, groups * depth, rows, columns)
    W, b = numbers(rng, groups * width, depth, *window), numbers(rng, groups * width)
    parts = [np.split(array.astype(np.float64), groups, axis) for array, axis in ((X, 1), (W, 0), (b, 0))]
    z = np.concatenate([conv.convolution(x, w, c, stride) for x, w, c in zip(*parts)], axis=1)
    weight = np.ascontiguousarray(W.reshape(groups, width, depth, *window).transpose(0, 3, 4, 2, 1))
    done = on_threads(
        conv_grouped.convolve_grouped,
        "packed z",
        threads,
        per_thread=("packed",),
        x=inner(X),
        samples=samples,
        weight=weight,
        bias=b,
        stride=stride,
        relu=True,
        packed=Blank((threads, rows * columns * depth), "float32"),
        z=Blank(inner(z).shape, "float32"),
    )
    only_samples(done, "z", samples)
    terms = window[0] * window[1] * depth
    np.testing.assert_allclose(
        done.z[:samples], np.maximum(inner(z), 0)[:samples], rtol=0, atol=16 * EPS * np.sqrt(terms) * 4
    )
    dz = numbers(rng, *z.shape)
    dz[samples:] = 0
    slopes = [
        conv.convolution_gradient(x, w, d, stride)[1]
        for x, w, d in zip(*parts[:2], np.split(dz.astype(np.float64), groups, axis=1))
    ]
    own = min(threads, groups)
    done = on_threads(
        conv_grouped.train_grouped,
        "tensor.weight scratch lost",
        own,
        per_thread=("scratch", "lost"),
        x=inner(X),
        samples=samples,
        dz=inner(dz),
        groups=groups,
        window=window,
        stride=stride,
        tensor=Tensor(np.zeros(weight.size, np.float32), NONE, NONE),
        step=DESCENT,
        scratch=Blank((own, weight[0].size), "float32"),
        lost=Blank((own,), "bool"),
    )
    assert done.written["scratch"].all() and not done.lost.any()
    expected = np.concatenate(slopes).reshape(groups, width, depth, *window).transpose(0, 3, 4, 2, 1)
    limit = 16 * EPS * np.sqrt(samples * z[0, 0].size) * 4
    np.testing.assert_allclose(-done.tensor.weight.reshape(weight.shape), expected, rtol=0, atol=limit)


def test_a_lost_weight_of_a_group_is_told():
    x, dz = np.ones((2, 3, 3, 4), np.float32), np.ones((2, 3, 3, 6), np.float32)
    dz[1, 2, 0, 5] = np.nan
    tensor, lost = Tensor(*np.zeros((3, 2 * 9 * 2 * 3), np.float32)), np.zeros(2, bool)
    adam = Step(NUMBERS["adam"], np.float32(1e-3), np.float32(1))
    scratch = np.zeros((2, 9 * 2 * 3), np.float32)
    conv_grouped.train_grouped(x, 2, dz, 2, (3, 3), 1, tensor, adam, scratch, lost)
    assert list(lost) == [False, True]


@few
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), seeds)
def test_blocks(samples, places, size, blocks, threads, seed):
    rng, B, width = np.random.default_rng(seed), samples + 1, size * blocks
    y, slopes = numbers(rng, B, places, width), numbers(rng, blocks, B)
    done = on_threads(
        cwcomp.block_squares, "goodness", threads, y=y, samples=samples, goodness=Blank((blocks, B), "float32")
    )
    wide = y.astype(np.float64).transpose(0, 2, 1)[..., None]  # (B, O, P, 1), as the reference has them
    np.testing.assert_allclose(done.goodness[:, :samples].T, reference.class_goodness(wide, blocks)[:samples], 1e-6)
    assert not done.written["goodness"][:, samples:].any()
    done = on_threads(
        cwcomp.block_errors, "dy", threads, y=y, samples=samples, slopes=slopes, dy=Blank(y.shape, "float32")
    )
    only_samples(done, "dy", samples)
    expected = 2 * y * np.repeat(slopes.T, size, axis=1)[:, None] / (size * places)
    np.testing.assert_allclose(done.dy[:samples], expected[:samples], rtol=1e-6)


@few
@given(st.integers(1, 9), st.integers(1, 12), st.floats(0.1, 50), seeds)
def test_the_predictor_s_loss(samples, classes, spread, seed):
    rng, B = np.random.default_rng(seed), samples + 1
    logits, labels = numbers(rng, B, classes) * np.float32(spread), rng.integers(0, classes, B).astype(np.uint16)
    done = run(
        cwcomp.predictor_loss,
        "error result",
        logits=logits,
        samples=samples,
        labels=labels,
        error=Blank(logits.shape, "float32"),
        result=Blank((2,), "float64"),
    )
    only_samples(done, "error", samples)
    p = softmax(logits[:samples].astype(np.float64))
    dp = error(p, labels[:samples])
    expected = p * (dp - (dp * p).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(done.error[:samples], expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(done.result[0] / samples, loss(p, labels[:samples]), rtol=1e-6)
