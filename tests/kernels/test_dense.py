"""Every kernel against its plain NumPy twin, on awkward shapes; and its own results, which no cutting may change.

A kernel rounds to float32, its twin is run in float64: the tolerances are bounds on the difference, from the number of
roundings and the magnitudes that are summed. A mask is compared on the kernel's own z, as a rounding may flip it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dense_tools import (
    LAYER,
    WIDE,
    few,
    given_errors,
    make_errors,
    more,
    ranges,
    seeds,
    shapes,
    sizes,
    threads,
)
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_tools import (
    EPS,
    KINDS,
    STORED,
    Blank,
    exact_sum,
    make_batch,
    make_inputs,
    make_weights,
    pack_active,
    run,
    run_backward,
    run_forward,
    run_gradient,
    same_bits,
    stored,
    turned,
)
from numba import njit

from tinyfoa_np.kernels import dense_forward as forward
from tinyfoa_np.kernels import dense_gradient as gradient_kernels
from tinyfoa_np.kernels import loss, simd
from tinyfoa_np.kernels.operands import Given, Projected
from tinyfoa_np.kernels.tables import PLANES
from tinyfoa_np.reference import bits, tinyfoa

# Forward --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True], ids=["relu", "bits_out"])
@pytest.mark.parametrize("form", STORED)
@pytest.mark.parametrize("kind", KINDS)
@few
@given(LAYER, seeds)
@example((1, 1, 1, 1, 1), 0)
@example((33, 40, 257, 131, 11), 1)
def test_forward_equals_its_reference(kind, form, binary, shape, seed):
    samples, B, I, O, C = shape
    batch = make_batch(seed, kind, form, binary, *shape)
    done = run_forward(batch, tile=O)
    z = done.z[:, :samples].T.astype(np.float64)  # (samples, O): with one tile, the whole of it

    W = batch.W.astype(np.float64)
    toggles = {"binary_weights": form == "signs", "binary_activations": binary}
    theirs, _ = tinyfoa.forward(batch.inputs.X[:samples], W, batch.b.astype(np.float64), **toggles)
    Wb = tinyfoa.binarize_weights(W)[0] if form == "signs" else W
    roundings = 5 if form == "signs" and kind != "real" else I + 5  # popcounts are exact
    bound = roundings * EPS * (batch.inputs.size[:samples] @ np.abs(Wb).T + np.abs(batch.b))
    assert (np.abs(z - theirs) <= bound).all()

    limit = 1 if binary else np.inf
    groups = -(-samples // 16)
    np.testing.assert_array_equal(done.active[:, :groups], pack_active(((z > 0) & (z < limit)).T))
    assert done.abs_z.sum() == exact_sum(z, 2.0**20)

    h = (z > 0).astype(np.float64) if binary else np.maximum(z, 0)  # the scale comes after the logits
    P = batch.P.astype(np.float64).T
    bound = (O + 1) * EPS * tinyfoa.logits(np.abs(h), np.abs(P))
    assert (np.abs(done.logits[:, :samples].T - tinyfoa.logits(h, P)) <= bound).all()
    outputs = bits.pack(z > 0) if binary else np.maximum(z, 0).astype(np.float32)
    np.testing.assert_array_equal(done.outputs[:samples], outputs)

    names = ("z", "results.logits", "results.outputs")
    for written in (done.written[n].T if "outputs" in n else done.written[n] for n in names):
        assert (written == (np.arange(B) < samples)).all()  # the region's other samples are left alone
    assert (done.written["results.active"] == (np.arange(-(-B // 16)) < groups)).all()


@pytest.mark.parametrize("kind", ["bits", "bytes"])
@more
@given(LAYER, st.booleans(), seeds)
@example((64, 64, 2100, 70, 1), True, 2)
def test_popcount_products_are_exact(kind, shape, binary, seed):
    samples, B, I, O, _ = shape
    batch = make_batch(seed, kind, "signs", binary, *shape)
    plain = batch.inputs._replace(gain=np.float32(1), scale=np.float32(1), offset=np.float32(0))
    batch = batch._replace(inputs=plain, b=np.zeros(O, np.float32), alpha=1.0)
    done = run_forward(batch, tile=O)
    z = done.z[:, :samples].T
    rows = bits.panel_rows(stored(batch.W, "signs"), O)
    values, signs = batch.inputs.operand[:samples], np.where(batch.W >= 0, 1, -1)
    if kind == "bits":
        np.testing.assert_array_equal(z, bits.and_dot(values, rows))
        np.testing.assert_array_equal(z, bits.xnor_dot(values, rows))
        values = bits.unpack(values, I)
    else:
        np.testing.assert_array_equal(z, bits.byte_dot(values, rows))
    np.testing.assert_array_equal(z, values.astype(np.int64) @ signs.T)
    on = (z.T > 0) & (not binary)  # no integer lies within both strict bounds
    np.testing.assert_array_equal(done.active[:, : -(-samples // 16)], pack_active(on))


@pytest.mark.parametrize("binary", [False, True], ids=["relu", "bits_out"])
@pytest.mark.parametrize("form", STORED)
@pytest.mark.parametrize("kind", KINDS)
@few
@given(st.data())
def test_forward_gives_the_same_bits_however_it_is_cut(kind, form, binary, data):
    shape = data.draw(LAYER)
    samples, _, _, O, _ = shape
    batch = make_batch(data.draw(seeds), kind, form, binary, *shape)
    whole = run_forward(batch, tile=O)
    cuts = data.draw(st.lists(st.sampled_from(range(8, O, 8)), max_size=3, unique=True)) if O > 8 else []
    inner = range(16, samples, 16)
    parts = data.draw(st.lists(st.sampled_from(inner), max_size=2, unique=True)) if inner else []
    active_first, active_last = data.draw(ranges(O))
    done = run_forward(
        batch,
        data.draw(st.sampled_from([8, 64, 128, 256, O])),
        data.draw(threads),
        sorted(cuts),
        active_first,
        active_last - active_first,
        sorted(parts),
    )
    last = max(parts, default=0)
    assert same_bits(done.logits[:, :samples], whole.logits[:, :samples])
    assert same_bits(done.outputs[: samples - last], whole.outputs[last:samples])
    assert same_bits(done.active, whole.active[active_first:active_last])
    assert done.abs_z.sum() == whole.abs_z.sum()


def test_forward_can_leave_out_masks_outputs_and_logits():
    """As a pass does that only hands over, or only evaluates."""
    batch = make_batch(3, "bits", "signs", True, 20, 20, 100, 70, 3)
    whole = run_forward(batch, tile=64)
    arguments = {
        "inputs": batch.inputs.operand,
        "samples": 20,
        "scale": np.float32(1),
        "offset": np.float32(0),
        "columns": 100,
        "binary": True,
        "unit": 2.0**20,
        "scratch": Blank((20,), "int32"),
        "z": Blank((64, 20), "float32"),
    }
    for C, outputs in ((0, Blank((20, 2), "uint64")), (3, Blank((0, 0), "uint64"))):
        P = batch.P[:, :C].copy()
        neurons = forward.Neurons(0, 70, stored(batch.W, "signs"), batch.b, batch.gain, P)
        active, logits = Blank((0, 2), "uint16"), Blank((C, 20), "float32")
        results = forward.Results(0, active, 0, logits, outputs, np.array([5]))
        writes = "scratch z results.logits results.outputs results.abs_z"
        done = run(forward.forward, writes, neurons=neurons, results=results, **arguments)
        assert done.results.abs_z.sum() == whole.abs_z.sum() + 5  # the sum grows
        if C:
            assert same_bits(done.results.logits, whole.logits)
        else:
            assert same_bits(done.results.outputs, whole.outputs)


@pytest.mark.parametrize("binary", [False, True], ids=["relu", "bits_out"])
def test_a_z_beyond_all_bounds_counts_as_the_bound(binary):
    batch = make_batch(4, "bits", "signs", binary, 3, 3, 10, 5, 2)
    batch = batch._replace(b=np.array([np.nan, np.inf, -np.inf, 2.0**21, 0], np.float32), alpha=0.0)
    done = run_forward(batch, tile=5)
    assert done.abs_z.sum() == 3 * 4 * 2**20 * 2**20
    assert same_bits(done.active, pack_active(np.array([[0], [0], [0], [not binary], [0]], bool) * np.ones(3, bool)))


# Backward -------------------------------------------------------------------------------------------------------------

# Weights are at hand for 64 neurons and 64 inputs at a time.
BACKWARD = shapes(sizes(150, 64, 128), sizes(200, 8, 64, 65, 128), st.just(0))


def make_dz(rng, samples, B, O):
    """dz (O, B), half of it 0 as after ReLU; of samples that do not count, NaN."""
    dz = (rng.standard_normal((O, B)) * rng.choice([0, 1], (O, B))).astype(np.float32)
    dz[:, samples:] = np.nan
    return dz


@njit
def sum_in_order(W, dz, out):
    """W^T dz, each sum over the neurons in order, each step fused."""
    for i in range(out.shape[0]):
        for s in range(out.shape[1]):
            total = np.float32(0)
            for o in range(len(dz)):
                total = simd.fma(W[o, i], dz[o, s], total)
            out[i, s] = total


@pytest.mark.parametrize("form", STORED)
@more
@given(BACKWARD, seeds, st.booleans())
@example((1, 1, 1, 1, 0), 0, True)
@example((130, 130, 70, 140, 0), 1, False)
def test_backward_equals_its_reference(form, shape, seed, masked):
    samples, B, I, O, _ = shape
    rng = np.random.default_rng(seed)
    W, dz, gain = make_weights(rng, O, I), make_dz(rng, samples, B, O), np.float32(rng.uniform(0.1, 2))
    passes = rng.random((I, B)) < (0.5 if masked else 1)
    active = pack_active(passes) if masked else np.zeros((0, -(-B // 16)), np.uint16)
    done = run_backward(dz, samples, W, form, gain, active)
    assert (done.written["out"] == (np.arange(B) < samples)).all()

    out, passes, dz = done.out[:, :samples], passes[:, :samples], dz[:, :samples]
    Wb = np.where(W >= 0, np.float32(1), np.float32(-1)) if form == "signs" else W
    theirs = passes * (float(gain) * (Wb.T.astype(np.float64) @ dz.astype(np.float64)))
    bound = (O + 2) * EPS * float(gain) * (np.abs(Wb.T).astype(np.float64) @ np.abs(dz))
    assert (np.abs(out - theirs) <= bound).all()

    exactly = np.zeros_like(out)
    sum_in_order(Wb, dz, exactly)
    assert same_bits(np.ascontiguousarray(out), np.where(passes, gain * exactly, np.float32(0)))


@pytest.mark.parametrize("form", STORED)
@few
@given(BACKWARD, seeds, threads)
def test_backward_gives_the_same_bits_for_any_number_of_threads(form, shape, seed, many):
    samples, B, I, O, _ = shape
    rng = np.random.default_rng(seed)
    W, dz, active = make_weights(rng, O, I), make_dz(rng, samples, B, O), pack_active(rng.random((I, B)) < 0.5)
    whole, done = (run_backward(dz, samples, W, form, np.float32(0.5), active, n) for n in (1, many))
    assert same_bits(whole.out[:, :samples], done.out[:, :samples])
    assert done.written["scratch"].all()  # no row for a thread without a share, and none too long


# Loss -----------------------------------------------------------------------------------------------------------------


@more
@given(
    shapes(st.just(1), st.just(1), st.integers(1, 30)),
    st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
    st.integers(0, 9),
    seeds,
)
@example((1, 1, 1, 1, 1), 1.0, 0, 0)
def test_softmax_and_loss_equal_their_reference(shape, spread, whole, seed):
    samples, B, _, _, C = shape
    rng = np.random.default_rng(seed)
    logits = (spread * rng.standard_normal((C, B))).astype(np.float32)
    logits[:, rng.random(B) < 0.2] = 0  # equal logits: the first class is the answer
    labels, scale = rng.integers(0, C, B).astype(np.uint16), np.float32(rng.uniform(0.1, 3))
    before = np.array([1.5, 7.0])
    done = run(
        loss.softmax_cross_entropy,
        "error result",
        logits=logits,
        samples=samples,
        scale=scale,
        labels=labels,
        error=Blank((C, B), "float32"),
        result=before,
        of=samples + whole,
    )
    assert (done.written["error"] == (np.arange(B) < samples)).all()

    a, own = (scale * logits)[:, :samples].T.astype(np.float64), labels[:samples]
    # p changes by no more than p times the rounding of an exponent, and x exp(-x) < 1 / 2
    theirs, of = tinyfoa.error(a, own), samples + whole  # of a whole batch, of which these may be a part
    np.testing.assert_allclose(done.error[:, :samples].T, theirs * samples / of, rtol=0, atol=2 * EPS / of)
    spans = a.max(axis=1) - a.min(axis=1)
    total, wrong = done.result - before
    assert abs(total - samples * tinyfoa.loss(a, own)) <= EPS * spans.sum() + 1e-13 * samples * (1 + np.log(C))
    assert wrong == (a.argmax(axis=1) != own).sum()


def test_the_loss_shows_what_is_not_a_number():
    for hopeless in (np.nan, np.inf):
        logits = np.array([[hopeless], [0.0]], np.float32)
        done = run(
            loss.softmax_cross_entropy,
            "error result",
            logits=logits,
            samples=1,
            scale=np.float32(1),
            labels=np.ones(1, np.uint16),
            error=Blank((2, 1), "float32"),
            result=np.zeros(2),
            of=1,
        )
        assert not np.isfinite(done.result[0])


# Gradient -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@more
@given(st.data())
def test_gradient_equals_its_reference(kind, data):
    samples, B, I, O, C = shape = data.draw(WIDE)
    binary, straight = data.draw(st.booleans()), data.draw(st.booleans())
    (first, last), (low, high) = data.draw(ranges(O)), data.draw(ranges(I))
    rng = np.random.default_rng(data.draw(seeds))
    inputs, W, P = make_inputs(rng, kind, B, I), make_weights(rng, O, I), rng.standard_normal((O, C)).astype(np.float32)
    z, a, labels, error, active = make_errors(rng, samples, B, O, C, binary)
    rect, first_row = (first, last, low, high), data.draw(st.integers(0, first))
    dW, db = run_gradient(inputs, samples, Projected(error, P, active, 0), W, rect, first_row, straight)

    dz, dW_theirs, db_theirs = tinyfoa.gradient(
        inputs.X[:samples],
        W.astype(np.float64),
        z[:samples].astype(np.float64),
        a[:samples],
        labels[:samples],
        P.T.astype(np.float64),
        binary_weights=straight,
        binary_activations=binary,
    )
    size = np.abs(error[:, :samples].T.astype(np.float64)) @ np.abs(P.T) * (dz != 0)  # (samples, O)
    roundings = (C + samples + 8) * EPS
    bound = roundings * (size.T @ inputs.size[:samples])[first:last, low:high]
    assert (np.abs(dW - dW_theirs[first:last, low:high]) <= bound).all(), shape
    assert (np.abs(db - db_theirs[first:last]) <= roundings * size.sum(axis=0)[first:last]).all()


@more
@given(st.data())
def test_gradient_of_bits_is_summed_in_fours(data):
    samples, B, I, O, _ = data.draw(WIDE)
    (first, last), (low, high) = data.draw(ranges(O)), data.draw(ranges(I))
    rng = np.random.default_rng(data.draw(seeds))
    inputs, W, source = make_inputs(rng, "bits", B, I), make_weights(rng, O, I), given_errors(rng, B, O, False)
    dW, db = run_gradient(inputs, samples, source, W, (first, last, low, high), 0, straight=False)
    dz = source.dz[first:last, :samples].T
    own = bits.unpack(inputs.operand, I)[:samples, low:high]
    assert same_bits(dW, np.float32(inputs.gain * inputs.scale) * bits.bits_gradient(dz, own) + np.float32(0))
    assert same_bits(db, bits.sum_in_fours(dz))
    for kind in KINDS[1:]:  # of others one by one: micro-batches may end anywhere
        _, db = run_gradient(make_inputs(rng, kind, B, I), samples, source, W, (first, last, low, high))
        assert same_bits(db, np.add.accumulate(dz)[-1] + np.float32(0))


@more
@given(st.data())
def test_bits_are_turned_as_the_reference_turns_them(data):
    samples, B, I, *_ = data.draw(WIDE)
    low, high = data.draw(ranges(I))
    inputs = make_inputs(np.random.default_rng(data.draw(seeds)), "bits", B, I)
    done = run(
        gradient_kernels.turn,
        "out",
        values=inputs.operand,
        samples=samples,
        low=low,
        high=high,
        out=Blank(gradient_kernels.turned_shape(samples, high - low), "uint32"),
    )
    assert same_bits(done.out, turned(bits.unpack(inputs.operand, I)[:samples, low:high]))


@pytest.mark.parametrize("factor", [False, True], ids=["batch_scale", "sample_scales"])
@pytest.mark.parametrize("kind", KINDS)
@more
@given(st.data())
def test_gradient_of_given_errors_equals_its_reference(kind, factor, data):
    samples, B, I, O, _ = data.draw(WIDE)
    straight, (first, last), (low, high) = data.draw(st.booleans()), data.draw(ranges(O)), data.draw(ranges(I))
    rng = np.random.default_rng(data.draw(seeds))
    inputs, W, source = make_inputs(rng, kind, B, I), make_weights(rng, O, I), given_errors(rng, B, O, factor)
    source.dz[:, samples:] = np.nan  # they must not be read
    rect, first_row = (first, last, low, high), data.draw(st.integers(0, first))
    dW, db = run_gradient(inputs, samples, source, W, rect, first_row, straight)

    dz, X = source.dz[first:last, :samples].astype(np.float64), inputs.X[:samples, low:high]
    if factor:  # of the values; the offset is no part of them
        X = source.factor[:samples, None] * (X - float(inputs.offset)) + float(inputs.offset)
    passes = (np.abs(W) < 1)[first:last, low:high] | (not straight)
    bound = (samples + 8) * EPS * (np.abs(dz) @ (2 * inputs.size[:samples, low:high]))
    assert (np.abs(dW - (dz @ X) * passes) <= bound).all()
    assert (np.abs(db - dz.sum(axis=1)) <= samples * EPS * np.abs(dz).sum(axis=1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_that_is_not_a_number_is_not_left_out(kind):
    rng = np.random.default_rng(0)
    inputs, W = make_inputs(rng, kind, 4, 5), np.zeros((2, 5), np.float32)
    dz = np.array([[0, np.nan, 0, 0], [0, 0, 1, 0]], np.float32)
    dW, db = run_gradient(inputs, 4, Given(dz, 0, np.zeros(0, np.float32)), W, (0, 2, 0, 5))
    assert np.isnan(dW[0]).all() and np.isnan(db[0])
    assert np.isfinite(dW[1]).all() and db[1] == 1


@njit
def _tabled(values, source, samples, dz, listed):
    return gradient_kernels.row_errors(values, source, 0, samples, dz, listed, 0, 0, np.float32(0))[0]


@pytest.mark.skipif(PLANES, reason="with AVX2 all groups have one")
def test_groups_of_four_samples_without_errors_have_no_table():
    errors = np.zeros((1, 42), np.float32)
    errors[0, [5, 17, 19, 41]] = 1, 2, 3, 4
    dz = np.full((1, gradient_kernels.table_width(42)), np.nan, np.float32)
    source, nothing = Given(errors, 0, np.zeros(0, np.float32)), np.zeros((1, 0), np.int32)
    count = _tabled(np.zeros((2, 1), np.uint32), source, 42, dz, nothing)
    tables, groups = np.split(dz[0], [16 * 11])
    assert groups.view(np.int32)[:count].tolist() == [1, 4, 10]
    assert (tables.reshape(11, 16)[:3, [0, 2, 8, 10, 15]] == [[0, 1, 0, 1, 1], [0, 2, 3, 5, 5], [0, 4, 0, 4, 4]]).all()


@given(st.integers(0, 500), st.integers(1, 9), st.sampled_from([1, 16]))
def test_the_shares_of_the_threads_make_up_the_whole(count, many, step):
    shares = [simd.share.py_func(thread, many, count, step) for thread in range(many)]
    assert [first for first, _ in shares] == [0, *(last for _, last in shares[:-1])]
    assert shares[-1][1] == count
    assert all(first % step == 0 for first, last in shares if first < last)
    assert max(last - first for first, last in shares) <= -(-count // (many * step)) * step


# What a kernel touches ------------------------------------------------------------------------------------------------


def test_no_kernel_reads_or_writes_out_of_bounds(tmp_path):
    """Compiled anew with numba's bounds check, so with a cache of its own."""
    folders = os.pathsep.join(filter(None, sys.path))
    switches = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": folders}
    script = Path(__file__).parents[1] / "tools" / "kernel_bounds.py"
    done = subprocess.run(
        [sys.executable, script], env=os.environ | switches, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.stdout.splitlines() == [
        "bits signs stay within their arrays",
        "bytes signs stay within their arrays",
        "real floats stay within their arrays",
        "numba says: index is out of bounds",
    ], done.stdout + done.stderr
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS)  # it ends with a forbidden look behind an array


def beyond(array):
    """The element behind the last."""
    return np.lib.stride_tricks.as_strided(array[-1:], (2,))[1:]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda a, out: a.put(0, 5), "wrote into a"),
        (lambda a, out: beyond(out).put(0, 1), "outside its arrays"),
        (lambda a, out: out.put(0, beyond(a)), "out depends on memory"),
        (lambda a, out: out.put(0, out[1] + 1), "out depends on memory"),
        (lambda a, out: float(out[0] > 0), "returns depends on memory"),
        (lambda a, out: out.put(1, a[0]), None),
    ],
)
def test_the_instrument_sees_a_fault(fault, message):
    def kernel(a, out):
        return fault(a, out)

    kernel.py_func = kernel
    arguments = {"a": np.ones(3, np.float32), "out": Blank((3,), "float32")}
    if message is None:
        assert run(kernel, "out", **arguments).written["out"].tolist() == [False, True, False]
    else:
        with pytest.raises(AssertionError, match=message):
            run(kernel, "out", **arguments)
