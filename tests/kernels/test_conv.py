"""Convolutions, batch norm, pooling and GIFF's own kernels, each against its plain NumPy twin, on awkward shapes.

As in test_kernels: a kernel reads and writes what it is given and nothing else, and threads do not show in any bit.
"""

import math
import os
import subprocess
import sys

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_tools import EPS, Blank, in_one_block, on_threads, only_samples, run, same_bits

from tinyfoa_np.kernels import conv_backward as backward_kernels
from tinyfoa_np.kernels import conv_forward as forward_kernels
from tinyfoa_np.kernels import conv_norm_pool as maps
from tinyfoa_np.kernels import conv_tanh_pool as further
from tinyfoa_np.kernels import conv_update as update_kernels
from tinyfoa_np.kernels.optimizers import NUMBERS
from tinyfoa_np.reference import conv as reference

few = settings(deadline=None, max_examples=15)
NONE = np.zeros(0, np.float32)
#: one step of plain gradient descent at rate 1, from weights of 0: the gradient, but for its sign
DESCENT = update_kernels.Step(NUMBERS["sgd"], np.float32(1), np.float32(1))


@st.composite
def shapes(draw):
    """samples, B, rows, columns, inputs, outputs, window, stride, threads and a seed."""
    B = draw(st.integers(1, 4))
    places = st.integers(1, 9) | st.sampled_from([14, 19])
    width = st.integers(1, 40) | st.sampled_from([16, 48, 64, 70, 97, 130])
    window = draw(st.sampled_from([(3, 3), (1, 1), (10, 4)]))
    return (
        draw(st.integers(1, B)),
        B,
        draw(places),
        draw(places),
        draw(st.integers(1, 9)),
        draw(width),
        window,
        draw(st.integers(1, 3)),
        draw(st.integers(1, 4)),
        draw(st.integers(0, 2**32 - 1)),
    )


def inner(maps):
    """(B, R, S, C) of (B, C, R, S)."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


def outer(maps):
    return maps.transpose(0, 3, 1, 2)


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def close(ours, theirs, terms):
    """Whether they differ by no more than float32's rounding of so many terms, each about as large as 1."""
    assert ours.shape == theirs.shape
    assert np.isfinite(ours).all()
    assert (np.abs(ours - theirs) <= 4 * EPS * np.sqrt(terms) * (3 + np.abs(theirs))).all()


def made(shape, depthwise=False):
    """Maps, weights, z of them by the reference, and errors of z; in float64 for the reference."""
    samples, B, rows, columns, inputs, outputs, window, stride, threads, seed = shape
    rng = np.random.default_rng(seed)
    inputs, outputs = (outputs, outputs) if depthwise else (inputs, outputs)
    X = numbers(rng, B, inputs, rows, columns).astype(np.float64)
    W = numbers(rng, outputs, 1 if depthwise else inputs, *window).astype(np.float64)
    z = reference.depthwise(X, W, stride) if depthwise else reference.convolution(X, W, 0.0, stride)
    dz = numbers(rng, *z.shape).astype(np.float64)
    dz[samples:] = 0
    return rng, X, W, z, dz


def check_convolution(shape, lay_out=in_one_block):
    samples, B, _, _, inputs, outputs, (K, L), stride, threads, _ = shape
    rng, X, W, z, dz = made(shape)
    x, weight, errors = (a.astype(np.float32) for a in (inner(X), W.transpose(2, 3, 1, 0), inner(dz)))
    x, weight, bias = np.ascontiguousarray(x), np.ascontiguousarray(weight), numbers(rng, outputs)
    for b in (bias, NONE):
        done = on_threads(
            forward_kernels.convolve,
            "z",
            threads,
            lay_out=lay_out,
            x=x,
            samples=samples,
            weight=weight,
            bias=b,
            stride=stride,
            relu=len(b) > 0,
            z=Blank(inner(z).shape, "float32"),
        )
        only_samples(done, "z", samples)
        theirs = np.maximum(inner(z) + b, 0) if len(b) else inner(z)
        close(done.z[:samples], theirs[:samples], K * L * inputs)

    dX, dW, _ = reference.convolution_gradient(X, W, dz, stride)
    panel = Blank((threads, backward_kernels.panel_width(weight.shape)), "float32")
    before = numbers(rng, *x.shape)
    for carry in (False, True):
        done = on_threads(
            backward_kernels.convolve_back,
            "dx panel",
            threads,
            ("panel",),
            lay_out,
            dz=errors,
            samples=samples,
            weight=weight,
            stride=stride,
            carry=carry,
            panel=panel,
            dx=before if carry else Blank(x.shape, "float32"),
        )
        assert done.written.get("panel", np.ones(1)).all()
        theirs = inner(dX) + (before if carry else 0)
        close(done.dx[:samples], theirs[:samples], K * L * outputs)

    tensor = update_kernels.Tensor(np.zeros(weight.size, np.float32), NONE, NONE)
    for run_width in {update_kernels.run_width(weight.shape), outputs}:
        done = on_threads(
            update_kernels.train_convolution,
            "tensor.weight scratch lost",
            threads,
            ("scratch", "lost"),
            lay_out,
            x=x,
            samples=samples,
            dz=errors,
            window=(K, L),
            stride=stride,
            tensor=tensor,
            step=DESCENT,
            begun=False,
            ended=True,
            scratch=Blank((threads, run_width), "float32"),
            lost=Blank((threads,), "bool"),
        )
        assert done.written["scratch"].all() or threads > K * L * inputs
        assert not done.lost.any()
        close(-done.tensor.weight.reshape(weight.shape), dW.transpose(2, 3, 1, 0), z[0, 0].size * samples)


@few
@given(shapes())
@example((1, 1, 1, 1, 1, 1, (3, 3), 2, 3, 0))
@example((2, 2, 8, 8, 5, 64, (3, 3), 1, 2, 1))
def test_convolution(shape):
    check_convolution(shape)


@few
@given(shapes())
@example((2, 3, 5, 1, 1, 33, (3, 3), 2, 2, 0))
def test_depthwise(shape):
    samples, B, _, _, _, width, (K, L), stride, threads, _ = shape
    _, X, W, z, dz = made(shape, depthwise=True)
    x, weight, errors = (a.astype(np.float32) for a in (inner(X), W[:, 0].transpose(1, 2, 0), inner(dz)))
    x, weight = np.ascontiguousarray(x), np.ascontiguousarray(weight)
    done = on_threads(
        forward_kernels.convolve_depthwise,
        "z",
        threads,
        x=x,
        samples=samples,
        weight=weight,
        stride=stride,
        z=Blank(inner(z).shape, "float32"),
    )
    only_samples(done, "z", samples)
    close(done.z[:samples], inner(z)[:samples], K * L)
    dX, dW = reference.depthwise_gradient(X, W, dz, stride)
    done = on_threads(
        backward_kernels.convolve_depthwise_back,
        "dx panel",
        threads,
        ("panel",),
        dz=errors,
        samples=samples,
        weight=weight,
        stride=stride,
        panel=Blank((threads, backward_kernels.panel_width(weight.shape)), "float32"),
        dx=Blank(x.shape, "float32"),
    )
    only_samples(done, "dx", samples)
    close(done.dx[:samples], inner(dX)[:samples], K * L)
    done = on_threads(
        update_kernels.train_depthwise,
        "tensor.weight scratch lost",
        threads,
        ("scratch", "lost"),
        x=x,
        samples=samples,
        dz=errors,
        window=(K, L),
        stride=stride,
        tensor=update_kernels.Tensor(np.zeros(weight.size, np.float32), NONE, NONE),
        step=DESCENT,
        begun=False,
        ended=True,
        scratch=Blank((threads, update_kernels.run_width(weight.shape)), "float32"),
        lost=Blank((threads,), "bool"),
    )
    close(-done.tensor.weight.reshape(weight.shape), dW[:, 0].transpose(1, 2, 0), z[0, 0].size * samples)


@few
@given(st.integers(1, 40), st.integers(1, 150), st.integers(1, 150), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_connection(samples, inputs, outputs, threads, seed):
    rng = np.random.default_rng(seed)
    x, weight, bias = numbers(rng, samples + 1, inputs), numbers(rng, inputs, outputs), numbers(rng, outputs)
    own, W = x[:samples].astype(np.float64), weight.astype(np.float64)
    done = on_threads(
        forward_kernels.connect,
        "z",
        threads,
        x=x,
        samples=samples,
        weight=weight,
        bias=bias,
        relu=False,
        z=Blank((samples + 1, outputs), "float32"),
    )
    only_samples(done, "z", samples)
    close(done.z[:samples], own @ W + bias, inputs)
    dz = numbers(rng, samples + 1, outputs)
    done = on_threads(
        backward_kernels.connect_back,
        "dx panel",
        threads,
        ("panel",),
        dz=dz,
        samples=samples,
        weight=weight,
        carry=False,
        panel=Blank((threads, backward_kernels.panel_width(weight.shape)), "float32"),
        dx=Blank(x.shape, "float32"),
    )
    only_samples(done, "dx", samples)
    close(done.dx[:samples], dz[:samples] @ W.T, outputs)
    done = on_threads(
        update_kernels.train_connection,
        "tensor.weight scratch lost",
        threads,
        ("scratch", "lost"),
        x=x,
        samples=samples,
        dz=dz,
        tensor=update_kernels.Tensor(np.zeros(weight.size, np.float32), NONE, NONE),
        step=DESCENT,
        begun=False,
        ended=True,
        scratch=Blank((threads, 3 * outputs), "float32"),
        lost=Blank((threads,), "bool"),
    )
    close(-done.tensor.weight.reshape(weight.shape), own.T @ dz[:samples], samples)


@few
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_gradients_of_parts_have_the_bits_of_the_whole(first, second, threads, stride, seed):
    """Of biases and of weights, with a step only once all samples are there."""
    rng, samples = np.random.default_rng(seed), first + second
    parts = [(0, first), (first, second)]

    def trained(kernel, x, dz, weight, *window):
        found, own = [], min(threads, math.prod(weight[:-1]))
        for cut in ([(0, samples)], parts):
            tensor = update_kernels.Tensor(np.zeros(math.prod(weight), np.float32), NONE, NONE)
            scratch = np.full((own, update_kernels.run_width(weight, own, True)), np.nan, np.float32)
            lost = np.zeros(own, bool)
            for at, count in cut:
                assert not tensor.weight.any()
                ended = at + count == samples
                kernel(x[at:], count, dz[at:], *window, tensor, DESCENT, at > 0, ended, scratch, lost)
            found.append(tensor.weight)
        assert same_bits(*found) and found[0].any()

    trained(update_kernels.train_connection, numbers(rng, samples, 7), numbers(rng, samples, 5), (7, 5))
    x, places = numbers(rng, samples, 6, 5, 3), (-(-6 // stride), -(-5 // stride))
    trained(update_kernels.train_convolution, x, numbers(rng, samples, *places, 4), (3, 3, 3, 4), (3, 3), stride)
    trained(update_kernels.train_depthwise, x, numbers(rng, samples, *places, 3), (3, 3, 3), (3, 3), stride)

    dz, sums = numbers(rng, samples, 9), []
    for cut in ([(0, samples)], parts):
        partial, out = np.full((maps.CHUNKS, 1, 9), np.nan), np.zeros(9, np.float32)
        for at, count in cut:
            maps.sums(dz[at:], count, at, samples, partial, out, threads)
        sums.append(out)
    assert same_bits(*sums)


def test_a_lost_weight_is_told():
    x, dz = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    for bad in (np.nan, np.inf):
        dz[1, 2] = bad
        tensor = update_kernels.Tensor(*np.zeros((3, 12), np.float32))
        scratch, lost = np.zeros((1, 12), np.float32), np.zeros(1, bool)
        adam = update_kernels.Step(NUMBERS["adam"], np.float32(1e-3), np.float32(1))
        update_kernels.train_connection(x, 2, dz, tensor, adam, False, True, scratch, lost)
        assert lost.all()


# Batch norm, pooling --------------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 4), st.booleans(), st.integers(0, 2**32 - 1))
@example(1, 1, 1, True, 0)
def test_batch_norm(count, width, threads, training, seed):
    rng = np.random.default_rng(seed)
    z = numbers(rng, count + 1, width) * 3 + 5
    gamma, beta, mean = (numbers(rng, width) for _ in range(3))
    variance, beside = np.abs(numbers(rng, width)) + 0.1, numbers(rng, count + 1, width)
    partial, statistics = Blank((maps.CHUNKS, 2, width), "float64"), Blank((4, width), "float32")
    epsilon = 1e-5 if count % 2 else 1e-4
    own = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance, "epsilon": epsilon}
    own |= {"statistics": statistics}
    if training:
        looked = on_threads(
            maps.batch_stats, "mean variance partial statistics", threads, z=z, count=count, partial=partial, **own
        )
    else:
        looked = run(maps.running_stats, "statistics", **own)
    X = z[:count].T[None, :, :, None].astype(np.float64)  # (1, C, N, 1)
    wide = [value.astype(np.float64) for value in (gamma, beta, mean, variance)]
    theirs = reference.batch_norm(X, *wide, training=training, epsilon=epsilon)
    np.testing.assert_allclose(looked.mean, theirs.mean, rtol=4 * EPS, atol=4 * EPS)
    np.testing.assert_allclose(looked.variance, theirs.variance, rtol=4 * EPS, atol=1e-6)
    done = on_threads(
        maps.normalize,
        "h",
        threads,
        z=z,
        count=count,
        statistics=looked.statistics,
        shortcut=beside,
        relu=True,
        h=Blank(z.shape, "float32"),
    )
    only_samples(done, "h", count)
    v = theirs.v[0, :, :, 0].T
    # where a batch has next to no variance, what rounding leaves of it is divided by next to nothing
    limit = 8 * EPS * (np.abs(z[:count]) / theirs.deviation * np.abs(gamma) + np.abs(v) + 9)
    assert (np.abs(done.h[:count] - np.maximum(v + beside[:count], 0)) <= limit * 3).all()
    if not training or count == 1:
        return
    dv = numbers(rng, count + 1, width)
    back = on_threads(
        maps.normalize_back,
        "dz slopes partial",
        threads,
        dv=dv,
        z=z,
        count=count,
        statistics=looked.statistics,
        partial=partial,
        slopes=Blank((2 * width,), "float32"),
        dz=Blank(z.shape, "float32"),
    )
    dz, dgamma, dbeta = reference.batch_norm_gradient(theirs, wide[0], dv[:count].T[None, :, :, None])
    size = 40 * EPS * (1 + np.abs(z[:count]) / theirs.deviation).max() * np.sqrt(count)
    assert np.abs(back.slopes - np.concatenate([dgamma, dbeta])).max() <= size * (1 + np.abs(dgamma).max())
    scale = np.abs(gamma / theirs.deviation).max()
    assert np.abs(back.dz[:count] - dz[0, :, :, 0].T).max() <= size * (1 + scale) * 10


@few
@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_pool(samples, rows, columns, width, K, L, threads):
    rng = np.random.default_rng(rows * columns)
    X = numbers(rng, samples + 1, width, rows, columns)
    z = reference.average_pool(X, (K, L))
    done = on_threads(
        maps.pool, "z", threads, x=inner(X), samples=samples, rows=K, columns=L, z=Blank(inner(z).shape, "float32")
    )
    np.testing.assert_allclose(done.z[:samples], inner(z)[:samples], rtol=4 * EPS, atol=4 * EPS)
    dz = numbers(rng, *z.shape)
    back = on_threads(
        maps.pool_back,
        "dx",
        threads,
        dz=inner(dz),
        samples=samples,
        rows=K,
        columns=L,
        dx=Blank(inner(X).shape, "float32"),
    )
    only_samples(back, "dx", samples)
    theirs = reference.average_pool_gradient(X, (K, L), dz)
    np.testing.assert_allclose(back.dx[:samples], inner(theirs)[:samples], rtol=4 * EPS, atol=0)

    X = np.maximum(X, 0)  # with ties
    z, about = reference.max_pool(X, K), {"x": inner(X), "samples": samples, "rows": K, "columns": K}
    done = on_threads(further.largest, "z", threads, **about, z=Blank(inner(z).shape, "float32"))
    assert same_bits(done.z[:samples], inner(z)[:samples])
    dz = numbers(rng, *z.shape)
    back = on_threads(further.largest_back, "dx", threads, dz=inner(dz), **about, dx=Blank(inner(X).shape, "float32"))
    only_samples(back, "dx", samples)
    assert same_bits(back.dx[:samples] + 0, inner(reference.max_pool_gradient(X, K, dz))[:samples] + 0)


@few
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 4))
def test_what_is_done_in_place(count, width, threads):
    rng = np.random.default_rng(count * width)
    dh, h, partial = numbers(rng, count + 1, width), numbers(rng, count + 1, width), (maps.CHUNKS, 1, width)
    h[0] = 0
    done = on_threads(maps.rectify_back, "dh", threads, dh=dh, h=h, count=count)
    assert same_bits(done.dh, np.where((np.arange(count + 1) < count)[:, None] & ~(h > 0), np.float32(0), dh))
    done = on_threads(
        maps.sums,
        "partial out",
        threads,
        dz=dh,
        count=count,
        before=0,
        of=count,
        partial=Blank(partial, "float64"),
        out=Blank((width,), "float32"),
    )
    np.testing.assert_allclose(done.out, dh[:count].sum(axis=0, dtype=np.float64), rtol=2 * EPS, atol=1e-12)
    bytes_ = rng.integers(0, 256, (count + 1, 3 * width)).astype(np.uint8)
    done = on_threads(
        maps.spread,
        "maps",
        threads,
        inputs=bytes_,
        samples=count,
        scale=np.float32(0.5),
        offset=np.float32(-3),
        channels=3,
        maps=Blank((count + 1, width, 3), "float32"),
    )
    only_samples(done, "maps", count)
    assert (done.maps[:count] == bytes_[:count].reshape(count, 3, width).transpose(0, 2, 1) * 0.5 - 3).all()


def test_convolutions_stay_within_their_arrays():
    """In a process of its own, each array beside a page that nobody may touch."""
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stderr[-2000:]


if __name__ == "__main__":
    from kernel_bounds import between_forbidden_pages

    for shape in (
        (1, 1, 1, 1, 1, 1, (3, 3), 2, 1, 0),
        (2, 2, 7, 8, 5, 64, (3, 3), 1, 2, 1),
        (2, 3, 9, 6, 3, 97, (3, 3), 2, 2, 2),
        (1, 2, 19, 5, 1, 40, (10, 4), 2, 1, 3),
    ):
        check_convolution(shape, between_forbidden_pages)
