"""The kernels that only DRTP, PEPITA or FF has, each against its plain NumPy twin, on awkward shapes.

As in test_kernels: a kernel reads and writes what it is given and nothing else, and threads do not show. What rounds is
compared within a few units of the last place.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_tools import EPS, Blank, exact_sum, on_threads, only_samples, run, same_bits

from tinyfoa_np.kernels import drtp, ff, pepita
from tinyfoa_np.reference import bits
from tinyfoa_np.reference import drtp as drtp_reference
from tinyfoa_np.reference import ff as ff_reference
from tinyfoa_np.reference import pepita as pepita_reference

NO_LABELS, NO_MASK, NO_FACTOR = np.zeros(0, np.uint16), np.zeros((0, 0), np.uint64), np.zeros(0, np.float32)
few = settings(deadline=None, max_examples=15)


@st.composite
def shapes(draw):
    """samples, B, O, C, threads and a generator of numbers: a batch of ``samples`` in a region for B."""
    B = draw(st.integers(1, 40) | st.sampled_from([1, 16, 17, 32]))
    widths = st.integers(1, 200) | st.sampled_from([1, 8, 63, 64, 65, 128, 129])
    classes = st.sampled_from([2, 3, 11])
    seed = draw(st.integers(0, 2**32 - 1))
    return draw(st.integers(1, B)), B, draw(widths), draw(classes), draw(st.integers(1, 5)), seed


def made_z(rng, O, B, spread=1.0):
    """z (O, B), at some places exactly 0, or -0, or +-1."""
    z = (rng.standard_normal((O, B)) * spread).astype(np.float32)
    return np.where(rng.random((O, B)) < 0.1, rng.choice(np.float32([0, -0.0, 1, -1]), (O, B)), z)


def kept_as(binary, rows, O):
    return Blank((rows, -(-O // 64)), "uint64") if binary else Blank((rows, O), "float32")


def only_columns(before, after, columns):
    assert same_bits(before[:, columns:].copy(), after[:, columns:].copy())


# DRTP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bits", "signs", "values"])
@pytest.mark.parametrize("relu", [False, True], ids=["tanh", "relu"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "looking"])
@few
@given(shapes())
@example((1, 1, 1, 2, 3, 0))
def test_drtp_hidden(kind, relu, training, shape):
    samples, B, O, C, threads, seed = shape
    rng = np.random.default_rng(seed)
    z, feedback = made_z(rng, O, B, 2), rng.standard_normal((O, C)).astype(np.float32)
    labels = rng.integers(0, C, B).astype(np.uint16)
    size, binary = np.float32(rng.uniform(0.1, 0.9)), kind != "values"
    done = on_threads(
        drtp.hidden,
        "z outputs",
        threads,
        z=z,
        samples=samples,
        labels=labels if training else NO_LABELS,
        feedback=feedback,
        size=size,
        binary=binary,
        relu=relu,
        outputs=kept_as(kind == "bits", B, O),
    )
    only_samples(done, "outputs", samples)
    only_columns(z, done.z, samples)
    before, own = z[:, :samples].T.astype(np.float64), labels[:samples]
    active = before > 0 if relu else before >= 0
    if binary:
        h = size * np.where(active, 1.0, 0.0 if relu else -1.0)
    else:
        h = np.maximum(before, 0) if relu else np.tanh(before)
    if kind == "bits":
        assert (bits.unpack(done.outputs[:samples], O) == active).all()
    else:
        np.testing.assert_allclose(done.outputs[:samples], h, rtol=2 * EPS, atol=0)
    if training:
        slope = h > 0 if relu else 1 - h * h
        theirs = feedback.astype(np.float64)[:, own].T * slope
        theirs = theirs * (np.abs(before) < 1) if binary else theirs
        assert (np.abs(done.z[:, :samples].T - theirs) <= 4 * EPS * np.abs(feedback[:, own].T)).all()
    elif binary:
        assert same_bits(done.z, z)


@pytest.mark.parametrize("binary", [True, False], ids=["bits", "values"])
@few
@given(shapes(), st.sampled_from([0.5, 3.0, 60.0]))
@example((1, 1, 1, 2, 1, 0), 400.0)
def test_drtp_output(binary, shape, spread):
    samples, B, _, C, _, seed = shape
    rng = np.random.default_rng(seed)
    z, of, scale = made_z(rng, C, B, spread), samples + int(rng.integers(0, 9)), float(rng.uniform(0.1, spread))
    labels, before = rng.integers(0, C, B).astype(np.uint16), np.array([1.5, 7.0])
    done = run(
        drtp.output, "z result", z=z, samples=samples, labels=labels, scale=scale, binary=binary, result=before, of=of
    )
    only_columns(z, done.z, samples)
    own, into = labels[:samples], z[:, :samples].T.astype(np.float64)
    q = np.where(into >= 0, scale, -scale) if binary else into
    y = 0.5 * (1 + np.tanh(0.5 * q))
    theirs = (y - np.eye(C)[own]) / (of * C) * (np.abs(into) < 1 if binary else 1)
    np.testing.assert_allclose(done.z[:, :samples].T, theirs, rtol=2 * EPS, atol=1e-15)
    loss, wrong = done.result - before
    if np.abs(q).max() < 10:  # beyond, rounding shows in 1 - y
        assert loss == pytest.approx(samples * drtp_reference.loss(y, own), rel=1e-9)
    assert 0 <= loss <= 100 * samples
    assert wrong == np.sum(q.argmax(axis=1) != own)  # also where many y are 1


def test_drtp_output_is_the_largest_however_sure_and_shows_what_is_no_number():
    z = np.array([[40.0, 50.0, np.inf, np.nan], [50.0, 40.0, 0.0, 0.0]], np.float32)
    for column, wrong in ((0, 0), (1, 1)):
        one, result = z[:, column : column + 1].copy(), np.zeros(2)
        drtp.output(one, 1, np.array([1], np.uint16), 1.0, False, result, 1)
        assert result[1] == wrong
    for column in (2, 3):
        one, result = z[:, column : column + 1].copy(), np.zeros(2)
        drtp.output(one, 1, np.array([1], np.uint16), 1.0, False, result, 1)
        assert np.isnan(result[0])


# PEPITA ---------------------------------------------------------------------------------------------------------------


def made_mask(rng, B, O, dropping):
    """Bits (B, O) that are kept, and as the kernels take them."""
    kept = rng.random((B, O)) < (0.7 if dropping else 1)
    return kept, bits.pack(kept) if dropping else NO_MASK


@pytest.mark.parametrize("binary", [True, False], ids=["bits", "values"])
@pytest.mark.parametrize("dropping", [True, False])
@few
@given(shapes())
@example((1, 1, 1, 2, 3, 0))
def test_pepita_passes(binary, dropping, shape):
    """The outputs of the first pass; of another z, those of the second, and how far they are apart."""
    samples, B, O, _, threads, seed = shape
    rng = np.random.default_rng(seed)
    kept, mask = made_mask(rng, B, O, dropping)
    grown, before, now = np.float32(rng.uniform(1, 2)), *rng.uniform(0.1, 2, 2).astype(np.float32)
    z, of = [made_z(rng, O, B) for _ in range(2)], samples + int(rng.integers(0, 9))

    def theirs(z, scale):
        values = z[:, :samples].T.astype(np.float64)
        h = (values > 0) * float(scale) if binary else np.maximum(values, 0) * float(grown)
        return h * kept[:samples]

    first = on_threads(
        pepita.first, "outputs", threads, z=z[0], samples=samples, mask=mask, grown=grown, outputs=kept_as(binary, B, O)
    )
    only_samples(first, "outputs", samples)
    second = on_threads(
        pepita.second,
        "z outputs",
        threads,
        z=z[1],
        samples=samples,
        of=of,
        mask=mask,
        grown=grown,
        before=before,
        now=now,
        outputs=first.outputs,
    )
    only_columns(z[1], second.z, samples)
    assert same_bits(second.outputs[samples:].copy(), first.outputs[samples:].copy())
    h, m = theirs(z[0], before), theirs(z[1], now)
    for outputs, wanted in ((first.outputs[:samples], h), (second.outputs[:samples], m)):
        if binary:
            assert (bits.unpack(outputs, O) == (wanted > 0)).all()
            assert (outputs == bits.pack(bits.unpack(outputs, O))).all()  # bits beyond the last neuron are 0
        else:
            np.testing.assert_allclose(outputs, wanted, rtol=EPS)
    assert (np.abs(second.z[:, :samples].T - (h - m) / of) <= 4 * EPS * (h + m) / of).all()


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@few
@given(shapes())
def test_pepita_modulates(kind, shape):
    samples, B, I, C, threads, seed = shape
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 256, (B, I)).astype(np.uint8) if kind == "uint8" else made_z(rng, B, I)
    scale, offset = np.float32([0.01, -0.8]) if kind == "uint8" else np.float32([1, 0])
    of, F = samples + int(rng.integers(0, 9)), rng.standard_normal((I, C)).astype(np.float32)
    labels, y = rng.integers(0, C, samples), rng.dirichlet(np.ones(C), samples)
    error = np.full((C, B), np.nan, np.float32)
    error[:, :samples] = ((y - np.eye(C)[labels]) / of).T
    done = on_threads(
        pepita.modulate,
        "out",
        threads,
        inputs=inputs,
        scale=scale,
        offset=offset,
        samples=samples,
        of=of,
        error=error,
        projection=F,
        out=Blank((B, I), "float32"),
    )
    only_samples(done, "out", samples)
    X = float(scale) * inputs[:samples].astype(np.float64) + float(offset)
    size = np.abs(X) + np.abs(offset) + 2 * np.abs(F).max() + 1
    theirs = pepita_reference.modulate(X, y, labels, F.astype(np.float64))
    assert (np.abs(done.out[:samples] - theirs) <= (C + 4) * EPS * size).all()
    squares = run(pepita.squared_error, "", error=error, samples=samples, of=of).returned
    assert squares == pytest.approx(samples * np.mean((y - np.eye(C)[labels]) ** 2), rel=1e-5, abs=1e-12)


# FF -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("labelled", [True, False])
@few
@given(shapes(), st.booleans())
def test_ff_embeds_labels(kind, labelled, shape, second):
    """The second half of the rows, too, which has the wrong labels."""
    samples, B, I, C, threads, seed = shape
    rng, I = np.random.default_rng(seed), max(I, C)
    inputs = rng.integers(0, 256, (B, I)).astype(np.uint8) if kind == "uint8" else made_z(rng, B, I)
    scale, offset = np.float32([0.01, -0.8]) if kind == "uint8" else np.float32([1, 0])
    labels, at = rng.integers(0, C, B).astype(np.uint16), samples if second else 0
    done = on_threads(
        ff.embed,
        "rows",
        threads,
        inputs=inputs,
        scale=scale,
        offset=offset,
        samples=samples,
        labels=labels if labelled else NO_LABELS,
        classes=C,
        strength=np.float32(3),
        at=at,
        rows=Blank((2 * B, I), "float32"),
    )
    assert (done.written["rows"].T == ((np.arange(2 * B) >= at) & (np.arange(2 * B) < at + samples))).all()
    X = float(scale) * inputs[:samples].astype(np.float64) + float(offset)
    theirs = ff_reference.with_labels(X, labels[:samples], C, 3.0) if labelled else ff_reference.without_label(X, C)
    norm = ff_reference.normalize(theirs)
    assert (np.abs(done.rows[at : at + samples] - norm) <= 8 * EPS * (np.abs(norm) + 1)).all()


def check_ff_errors(done, coefficient, own, h, samples, s, binary, threads):
    """The errors of a layer whose activations, slopes and running means are known, beside the reference's gradient."""
    (rows, O), peer = own.shape, 5.0
    right = np.arange(rows) < samples
    middle, _ = run(ff.average, "", mean=done.mean).returned
    moved = on_threads(
        ff.errors,
        "z",
        threads,
        z=done.z,
        samples=samples,
        scale=s,
        binary=binary,
        coefficient=coefficient,
        mean=done.mean,
        middle=middle,
        peer=peer,
    )
    only_columns(done.z, moved.z, rows)
    part = peer * (2 / O) * (done.mean.astype(np.float64) - middle) * (0.1 / samples)
    theirs = coefficient[:rows, None].astype(np.float64) * h + part * right[:, None]
    theirs = theirs * (np.abs(own) < 1) if binary else theirs
    assert (np.abs(moved.z[:, :rows].T - theirs) <= 4 * EPS * (np.abs(coefficient[:rows, None] * h) + 1)).all()
    with pytest.MonkeyPatch.context() as patch:  # and all of it as the reference's gradient has it
        patch.setattr(ff_reference, "PEER", peer)
        x, W = np.ones((rows, 1)), np.zeros((O, 1))
        toggles = {"binary_weights": binary, "binary_activations": binary}
        db = ff_reference.gradient(x, own.astype(np.float64), h, done.mean.astype(np.float64), W, **toggles).b
    ours = moved.z[:, :rows].astype(np.float64).sum(axis=1)
    assert (np.abs(ours - db) <= 1e-5 * (np.abs(theirs).sum(axis=0) + 1e-6)).all()


@pytest.mark.parametrize("binary", [True, False], ids=["bits", "values"])
@pytest.mark.parametrize("scaled", [True, False])
@few
@given(shapes())
@example((1, 1, 1, 2, 3, 0))
def test_ff_layer(binary, scaled, shape):
    """Activations, goodness, norms, running means and errors, one after the other."""
    samples, B, O, _, threads, seed = shape
    rng, rows = np.random.default_rng(seed), 2 * samples
    z, bias = made_z(rng, O, 2 * B), rng.uniform(-1, 1, O).astype(np.float32)
    factor = rng.uniform(0.2, 2, 2 * B).astype(np.float32) if scaled else NO_FACTOR
    arguments = {"z": z, "rows": rows, "bias": bias, "factor": factor, "unit": 2.0**20}
    done, alone = (
        run(ff.activate, "z outputs abs_z", **arguments, outputs=kept_as(binary, 2 * B, O), abs_z=np.ones(n, np.int64))
        for n in (threads, 1)
    )
    assert same_bits(done.z, alone.z) and same_bits(done.outputs, alone.outputs)
    only_samples(done, "outputs", rows)
    only_columns(z, done.z, rows)
    own, size = done.z[:, :rows].T, np.abs(z[:, :rows].T) * (factor[:rows, None] if scaled else 1) + np.abs(bias)
    before = z[:, :rows].T.astype(np.float64) * (factor[:rows, None].astype(np.float64) if scaled else 1) + bias
    assert (np.abs(own - before) <= 2 * EPS * size).all()
    assert done.abs_z.sum() - threads == alone.abs_z.sum() - 1 == exact_sum(own, 2.0**20)

    s = float(rng.uniform(0.1, 2)) if binary else 1.0
    h = s * (own > 0) if binary else np.maximum(own, 0).astype(np.float64)  # (rows, O)
    if binary:
        assert (done.outputs[:rows] == bits.pack(own > 0)).all()
    else:
        assert same_bits(done.outputs[:rows], np.maximum(own, np.float32(0)))
    blank = {"goodness": Blank((2 * B,), "float64"), "factor": Blank((2 * B,), "float32")}
    measured = on_threads(
        ff.measure, "goodness factor", threads, outputs=done.outputs, rows=rows, width=O, scale=s, **blank
    )
    only_samples(measured, "goodness", rows)
    only_samples(measured, "factor", rows)
    goodness = ff_reference.goodness(h)
    np.testing.assert_allclose(measured.goodness[:rows], goodness, rtol=1e-12)
    # for bits it is what a bit then stands for, for values what they are to be multiplied by
    np.testing.assert_allclose(measured.factor[:rows, None] * (h / s), ff_reference.normalize(h), rtol=4 * EPS)
    if not binary:
        normal = on_threads(ff.normalize, "outputs", threads, outputs=done.outputs, rows=rows, factor=measured.factor)
        np.testing.assert_allclose(normal.outputs[:rows], ff_reference.normalize(h), rtol=4 * EPS)
        assert same_bits(normal.outputs[rows:].copy(), done.outputs[rows:].copy())

    judged = run(
        ff.loss_and_slopes,
        "coefficient",
        goodness=measured.goodness,
        samples=samples,
        width=O,
        coefficient=Blank((2 * B,), "float32"),
    )
    only_samples(judged, "coefficient", rows)
    assert judged.returned == pytest.approx(ff_reference.layer_loss(h), rel=1e-9)
    p, right = 0.5 * (1 + np.tanh(0.5 * (goodness - O))), np.arange(rows) < samples
    np.testing.assert_allclose(judged.coefficient[:rows], (p - right) / samples, rtol=4 * EPS, atol=1e-12)

    mean = rng.uniform(0, 1, O).astype(np.float32)
    fields = {"z": done.z, "samples": samples, "scale": s, "binary": binary, "mean": mean}
    done = on_threads(ff.update_running_mean, "mean", threads, **fields)
    wanted = ff_reference.mean_activity(h, mean.astype(np.float64))
    np.testing.assert_allclose(done.mean, wanted, rtol=2 * EPS)
    middle, spread = run(ff.average, "", mean=done.mean).returned
    assert middle == pytest.approx(done.mean.mean(dtype=np.float64), rel=1e-12)
    assert spread == pytest.approx(ff_reference.peer_loss(done.mean), rel=1e-9, abs=1e-15)

    check_ff_errors(done, judged.coefficient, own, h, samples, s, binary, threads)


@few
@given(shapes(), st.booleans())
def test_ff_classifier_and_answers(shape, scaled):
    samples, B, _, C, _, seed = shape
    rng = np.random.default_rng(seed)
    z, logits = made_z(rng, C, B), made_z(rng, C, B)
    factor = rng.uniform(0.2, 2, B).astype(np.float32) if scaled else NO_FACTOR
    done = run(ff.add, "logits", z=z, samples=samples, factor=factor, logits=logits)
    only_columns(logits, done.logits, samples)
    theirs = logits.astype(np.float64) + z.astype(np.float64) * (factor if scaled else 1)
    assert (np.abs(done.logits - theirs)[:, :samples] <= 2 * EPS * (np.abs(logits) + 2 * np.abs(z))[:, :samples]).all()

    scores = rng.integers(0, 3, (C, B)) + rng.choice([0, 1e-14], (C, B))  # some are equal, some barely not
    labels = rng.integers(0, C, B).astype(np.uint16)
    wrong = run(ff.best, "", scores=scores, samples=samples, labels=labels).returned
    assert wrong == np.sum((scores.argmax(axis=0) != labels)[:samples])


def test_ff_loss_shows_what_is_not_a_number():
    for hopeless in (np.nan, np.inf, -np.inf):
        coefficient = np.zeros(2, np.float32)
        assert not np.isfinite(ff.loss_and_slopes(np.array([1.0, hopeless]), 1, 1, coefficient))
