"""GIFF's own kernels against their plain NumPy twin, on awkward shapes; threads do not show in any bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_tools import EPS, Blank, on_threads, only_samples, run

from tinyfoa_np.kernels import giff
from tinyfoa_np.reference import giff as giff_reference

few = settings(deadline=None, max_examples=15)


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@few
@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 30),
    st.integers(2, 6),
    st.integers(1, 3),
    st.sampled_from(["add", "mul"]),
    st.sampled_from([0.0, 2.0, 400.0]),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_giff(samples, places, width, classes, k, merge, theta, threads, seed):
    rng = np.random.default_rng(seed)
    d, W, b = numbers(rng, samples + 1, places, width), numbers(rng, classes, k * width), numbers(rng, k * width)
    code, labels = getattr(giff, merge.upper()), rng.integers(0, classes, (2, samples + 1)).astype(np.uint16)
    q = run(giff.latent, "q", weight=W, bias=b, width=k, q=Blank((classes, width), "float32")).q
    wide = giff_reference.latent(W.T.astype(np.float64), b.astype(np.float64), k)
    np.testing.assert_allclose(q, wide, rtol=8 * EPS, atol=8 * EPS)
    sums = {"moments": Blank((samples + 1, width), "float64"), "squares": Blank((samples + 1,), "float64")}
    if places > 1:
        done = on_threads(giff.measure, "moments squares", threads, d=d, samples=samples, merge=code, **sums)
        sums = {name: getattr(done, name) for name in sums}

    one = giff_reference.MERGES[merge]
    D = d[:samples].astype(np.float64).transpose(0, 2, 1)[..., None]  # (B, O, P, 1), or a vector
    D = D[:, :, 0, 0] if places == 1 else D
    spread = [np.broadcast_to(row.astype(np.float64).reshape(1, -1, *[1] * (D.ndim - 2)), D.shape) for row in q]
    goodness = np.stack([giff_reference.goodness(one.merged(D, row)) for row in spread])  # (C, B)
    shared = {"d": d, "samples": samples, "merge": code, "q": q, **sums}
    done = on_threads(giff.score, "scores", threads, **shared, scores=np.ones((classes, samples + 1)))
    np.testing.assert_allclose(done.scores[:, :samples], 1 + goodness, rtol=1e-9, atol=1e-9)
    assert (done.scores[:, samples] == 1).all()

    own = np.arange(samples)
    right, wrong = (goodness[row[:samples], own] for row in labels)
    judged = run(
        giff.loss_and_slopes,
        "coefficient",
        **shared,
        labels=labels[0],
        wrong=labels[1],
        theta=theta,
        sharpness=0.0,
        of=samples + 3,
        coefficient=Blank((2, samples + 1), "float64"),
    )
    expected = giff_reference.loss(goodness.T, *labels[:, :samples], theta)[0]
    assert judged.returned == pytest.approx(samples * expected, rel=1e-9)
    others = np.where(np.eye(classes, dtype=bool)[labels[0, :samples]], -np.inf, goodness.T).max(axis=1)
    done = on_threads(giff.margins, "margin", threads, **shared, labels=labels[0], margin=np.ones(samples + 1))
    np.testing.assert_allclose(done.margin[:samples], 1 + right - others, rtol=1e-9, atol=1e-9)
    assert done.margin[samples] == 1
    shared = {
        "d": d,
        "samples": samples,
        "merge": code,
        "q": q,
        "labels": labels[0],
        "wrong": labels[1],
        "coefficient": np.nan_to_num(judged.coefficient),
    }
    dd, dq = np.zeros_like(D), np.zeros((classes, width))
    for row, sign, g in ((labels[0], -1, right), (labels[1], 1, wrong)):
        slope = sign * 0.5 * (1 + np.tanh(0.5 * sign * (g - theta))) / (samples + 3)
        slope = slope / (1 if places == 1 else places * width)
        Q = np.stack([spread[label][0] for label in row[:samples]])
        back = one.back(D, Q, 2 * one.merged(D, Q) * slope.reshape(-1, *[1] * (D.ndim - 1)))
        dd += back[0]
        np.add.at(dq, row[:samples], back[1].sum(axis=tuple(range(2, D.ndim))))
    done = on_threads(giff.errors, "dd", threads, **shared, dd=Blank(d.shape, "float32"))
    only_samples(done, "dd", samples)
    theirs = dd.reshape(samples, width, places).transpose(0, 2, 1)
    np.testing.assert_allclose(done.dd[:samples], theirs, rtol=1e-5, atol=8 * EPS * np.abs(theirs).max())
    kept = {name: value for name, value in sums.items() if name == "moments"}
    done = on_threads(
        giff.latent_errors, "dq", threads, **shared, **kept, begun=False, dq=Blank((classes, width), "float64")
    )
    np.testing.assert_allclose(done.dq, dq, rtol=1e-9, atol=1e-12)
    done = run(
        giff.latent_back,
        "dweight dbias",
        weight=W,
        bias=b,
        width=k,
        dq=done.dq,
        dweight=Blank(W.shape, "float32"),
        dbias=Blank(b.shape, "float32"),
    )
    slopes = giff_reference.latent_gradient(W.T, b, k, dq)
    np.testing.assert_allclose(done.dweight.T, slopes[0], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(done.dbias, slopes[1], rtol=1e-5, atol=classes * EPS * np.abs(dq).max())


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 3.0])
@given(
    st.integers(1, 5),
    st.sampled_from([1, 2, 12]),
    st.integers(1, 9),
    st.integers(2, 7),
    st.sampled_from(["add", "mul"]),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_giff_over_all_labels(sharpness, samples, places, width, classes, merge, threads, seed):
    rng = np.random.default_rng(seed)
    d, q = numbers(rng, samples + 1, places, width), np.abs(numbers(rng, classes, width))
    code, theta = getattr(giff, merge.upper()), 2.0
    labels, nobody = rng.integers(0, classes, samples + 1).astype(np.uint16), np.zeros(0, np.uint16)
    sums = {"moments": Blank((samples + 1, width), "float64"), "squares": Blank((samples + 1,), "float64")}
    if places > 1:
        done = on_threads(giff.measure, "moments squares", threads, d=d, samples=samples, merge=code, **sums)
        sums = {name: getattr(done, name) for name in sums}
    one, wide = giff_reference.MERGES[merge], q.astype(np.float64)
    D = d[:samples].astype(np.float64).transpose(0, 2, 1)[..., None]
    D = D[:, :, 0, 0] if places == 1 else D
    a = giff_reference.class_scores(D, wide, one)
    expected, da = giff_reference.loss(a, labels[:samples], None, None if sharpness else theta, sharpness)
    shared = {"d": d, "samples": samples, "merge": code, "q": q, "labels": labels, "wrong": nobody}
    judged = run(
        giff.loss_and_slopes,
        "coefficient",
        **shared,
        **sums,
        theta=theta,
        sharpness=sharpness,
        of=samples,
        coefficient=Blank((classes, samples + 1), "float64"),
    )
    assert judged.returned == pytest.approx(samples * expected, rel=1e-9, abs=1e-9)
    dd, dq = np.zeros_like(D), np.zeros((classes, width))
    for c in range(classes):
        Q = np.broadcast_to(wide[c].reshape(1, -1, *[1] * (D.ndim - 2)), D.shape)
        slope = da[:, c] / (1 if places == 1 else places * width)
        back = one.back(D, Q, 2 * one.merged(D, Q) * slope.reshape(-1, *[1] * (D.ndim - 1)))
        dd += back[0]
        dq[c] = back[1].sum(axis=(0, *range(2, D.ndim)))
    shared["coefficient"] = np.nan_to_num(judged.coefficient)
    done = on_threads(giff.errors, "dd", threads, **shared, dd=Blank(d.shape, "float32"))
    theirs = dd.reshape(samples, width, places).transpose(0, 2, 1)
    scale = np.abs(da).max() * np.abs(D).max() * max(1, np.abs(wide).max()) ** 2
    np.testing.assert_allclose(done.dd[:samples], theirs, rtol=1e-5, atol=32 * EPS * max(scale, 1e-30))
    kept = {name: value for name, value in sums.items() if name == "moments"}
    done = on_threads(
        giff.latent_errors, "dq", threads, **shared, **kept, begun=False, dq=Blank((classes, width), "float64")
    )
    np.testing.assert_allclose(done.dq, dq, rtol=1e-9, atol=1e-9 * max(1, np.abs(dq).max()))
