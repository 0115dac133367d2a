"""The kernels that update dense weights against their plain NumPy twin; their results, which no cutting may change.

Tolerances are bounds on roundings, as in test_dense.
"""

import itertools

import numpy as np
import pytest
from dense_tools import (
    WIDE,
    cut,
    few,
    given_errors,
    make_errors,
    more,
    ranges,
    seeds,
    sizes,
    threads,
)
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_tools import (
    EPS,
    KINDS,
    STORED,
    exact_sum,
    make_inputs,
    make_weights,
    run,
    run_gradient,
    run_update,
    run_update_in_parts,
    same_bits,
    stored,
)

from tinyfoa_np.kernels import dense_gradient as gradient_kernels
from tinyfoa_np.kernels import dense_update as update
from tinyfoa_np.kernels.operands import Given, Inputs, Projected, Published, Scratch
from tinyfoa_np.kernels.optimizers import MOMENTS
from tinyfoa_np.reference import bits, optimizers

OPTIMIZERS = {**optimizers.OPTIMIZERS, "nesterov": optimizers.Nesterov}


def make_update(data, kind):
    """Arguments of an update of a whole layer in its step t, as keywords of ``run_update``."""
    samples, B, I, O, C = data.draw(WIDE)
    rng = np.random.default_rng(data.draw(seeds))
    optimizer, form = data.draw(st.sampled_from(sorted(MOMENTS))), data.draw(st.sampled_from(STORED))
    t = data.draw(st.sampled_from([1, 2, 50, 5000]))

    def moments(*shape):
        """As they may be after t - 1 steps; the second is never negative."""
        m, v = (0 if t == 1 else 0.1) * rng.standard_normal((2, *shape)).astype(np.float32)
        return [m, v * v][: MOMENTS[optimizer]]

    W = make_weights(rng, O, I)
    if data.draw(st.booleans()):
        _, _, _, error, active = make_errors(rng, samples, B, O, C, data.draw(st.booleans()))
        source = Projected(error, rng.standard_normal((O, C)).astype(np.float32), active, 0)
    else:
        source = given_errors(rng, B, O, data.draw(st.booleans()))
    return {
        "inputs": make_inputs(rng, kind, B, I),
        "samples": samples,
        "source": source,
        "W": W,
        "rect": (0, O, 0, I),
        "moments": moments(O, I),
        "weights": stored(W, form),
        "bias": make_weights(rng, O, 1)[:, 0].copy(),
        "bias_moments": moments(O),
        "optimizer": optimizer,
        "t": t,
        "lr": data.draw(st.sampled_from([1e-4, 0.01, 2.0])),
        "decay": data.draw(st.sampled_from([0.0, 0.01])),
        "limit": data.draw(st.sampled_from([1.0, np.inf])),
        "straight": data.draw(st.booleans()),
        "still": data.draw(st.just((0, 0, 0, 0)) | st.builds(lambda r, c: (*r, *c), ranges(O), ranges(I))),
    }


def step_of_reference(w, moments, g, optimizer, t, lr, decay, limit):
    """New w and moments after step t in float64, and bounds on the roundings of float32."""
    w, g, moments = w.astype(np.float64), g.astype(np.float64), [m.astype(np.float64) for m in moments]
    theirs, names = OPTIMIZERS[optimizer](lr), {"adam": ["m", "v"], "sgd": []}.get(optimizer, ["u"])
    for name, value in zip(names, moments):
        setattr(theirs, name, value)
    if optimizer == "adam":
        theirs.t = t - 1
    new = theirs.step(w, g + decay * w).clip(-limit, limit)
    size = np.abs(g) + decay * np.abs(w) + (np.abs(moments[0]) if moments else 0)
    bounds = [4 * EPS * size, 8 * EPS * (np.abs(theirs.v) + 1e-37) if optimizer == "adam" else 0]
    if optimizer == "adam" and decay:  # g + decay w may be small where both are not
        bounds[1] += 0.001 * EPS * 8 * (np.abs(g) + decay * np.abs(w)) ** 2
    step = 2 * lr * size
    if optimizer == "adam":
        step /= (1 - 0.9**t) * (np.sqrt(theirs.v / (1 - 0.999**t)) + 1e-8)
    return new, 12 * EPS * step + 2 * EPS * np.abs(w), [(getattr(theirs, n), b) for n, b in zip(names, bounds)]


@pytest.mark.parametrize("kind", KINDS)
@more
@given(st.data())
def test_update_equals_its_reference(kind, data):
    given = make_update(data, kind)
    W, bias, weights, still = given["W"], given["bias"], given["weights"], given["still"]
    O, I = W.shape
    first, last, low, high = rect = *data.draw(ranges(O)), *data.draw(ranges(I))
    given |= {"rect": rect, "first_row": data.draw(st.integers(0, first)), "train_bias": data.draw(st.booleans())}
    done = run_update(**given)

    part, rows = (slice(first, last), slice(low, high)), slice(first, last)
    dW, db = run_gradient(**{name: given[name] for name in ("inputs", "samples", "source", "W", "rect", "straight")})
    pace = [given[name] for name in ("optimizer", "t", "lr", "decay", "limit")]
    new, bound, moments = step_of_reference(W[part], [m[part] for m in given["moments"]], dW, *pace)
    stays = np.zeros((O, I), bool)
    stays[still[0] : still[1], still[2] : still[3]] = True
    new = np.where(stays[part], W[part], new)
    assert (np.abs(done.W[part] - new) <= bound).all()
    for ours, (theirs, close) in zip(done.moments, moments):
        assert (np.abs(ours[part] - theirs) <= close).all()
    np.testing.assert_array_equal(done.W[stays], W[stays])
    assert np.abs(done.W).max() <= given["limit"]
    lost = np.abs(done.W[part]).max() > update.LARGEST
    assert done.abs_w.sum() == (-1 if lost else exact_sum(done.W[part], 2.0**30))

    published = bits.pack_panels(done.W) if weights.dtype == np.uint64 else done.W  # what is outside keeps its bits
    np.testing.assert_array_equal(done.weights, published)

    if given["train_bias"]:
        new, bound, moments = step_of_reference(bias[rows], [m[rows] for m in given["bias_moments"]], db, *pace)
        assert (np.abs(done.bias[rows] - new) <= bound).all()
        for ours, (theirs, close) in zip(done.bias_moments, moments):
            assert (np.abs(ours[rows] - theirs) <= close).all()
        others = np.delete(np.arange(O), np.arange(first, last))
        assert same_bits(done.bias[others], bias[others])
    else:
        assert same_bits(done.bias, bias)
        assert all(same_bits(*pair) for pair in zip(done.bias_moments, given["bias_moments"]))


@pytest.mark.parametrize("kind", KINDS)
@more
@given(st.data())
def test_update_gives_the_same_bits_however_it_is_cut(kind, data):
    given = make_update(data, kind)
    O, I = given["W"].shape
    whole = run_update(**given)
    rows, columns = cut(data.draw, 0, O), cut(data.draw, 0, I)
    parts = data.draw(st.permutations(list(itertools.product(zip(rows, rows[1:]), zip(columns, columns[1:])))))
    total = 0
    for (first, last), (low, high) in parts:
        given |= {"rect": (first, last, low, high), "train_bias": low == 0, "threads": data.draw(threads)}
        given |= {"neurons": data.draw(st.sampled_from([1, 2, 5]))}
        given |= {"first_row": data.draw(st.integers(0, first)), "first_published": data.draw(st.integers(0, first))}
        given |= {"first_column": data.draw(st.integers(0, low))}
        if given["weights"].dtype == np.uint64:
            given["first_published"] -= given["first_published"] % 8
        done = run_update(**given)
        given |= {name: getattr(done, name) for name in ("W", "moments", "weights", "bias", "bias_moments")}
        total += done.abs_w.sum()
    if whole.abs_w >= 0:
        assert total == whole.abs_w.sum()
    assert all(same_bits(getattr(done, name), getattr(whole, name)) for name in ("W", "weights", "bias"))
    for ours, theirs in zip(done.moments + done.bias_moments, whole.moments + whole.bias_moments):
        assert same_bits(ours, theirs)


@pytest.mark.parametrize("kind", ["bytes", "real"])
@few
@given(st.data())
def test_update_from_micro_batches_gives_the_same_bits(kind, data):
    """Sums that go on from part to part of a batch are those over the whole of it."""
    given = make_update(data, kind)
    (O, I), B = given["W"].shape, len(given["inputs"].operand)
    source = given_errors(np.random.default_rng(data.draw(seeds)), B, O, False)
    given |= {"source": source, "rect": (*data.draw(ranges(O)), *data.draw(ranges(I))), "threads": data.draw(threads)}
    whole = run_update(**given)
    done = run_update_in_parts(given, cut(data.draw, 0, given["samples"]))
    lost = whole.abs_w.min() < 0
    assert (done.abs_w.min() < 0) == lost and (lost or done.abs_w.sum() == whole.abs_w.sum())
    assert same_bits(done.published.weights, whole.weights) and same_bits(done.biases.bias, whole.bias)
    assert all(same_bits(*pair) for pair in zip(done.resident, whole.resident))
    assert all(same_bits(*pair) for pair in zip(done.biases, whole.biases))


@pytest.mark.parametrize("kind", KINDS)
@few
@given(st.data())
def test_update_steps_along_the_gradient_that_can_be_had_alone(kind, data):
    """Momentum at rest becomes the gradient itself."""
    given = make_update(data, kind) | {"optimizer": "momentum", "decay": 0.0}
    given |= {"moments": [np.zeros_like(given["W"])], "bias_moments": [np.zeros_like(given["bias"])]}
    done = run_update(**given)
    dW, db = run_gradient(**{name: given[name] for name in run_gradient.__code__.co_varnames if name in given})
    np.testing.assert_array_equal(done.moments[0], dW)
    np.testing.assert_array_equal(done.bias_moments[0], db)


@pytest.mark.parametrize("form", STORED)
@more
@given(st.data())
def test_published_slices_make_up_the_layer(form, data):
    O, I = data.draw(sizes(40, 64)), data.draw(sizes(300, 64, 128))
    W = make_weights(np.random.default_rng(data.draw(seeds)), O, I)
    rows, columns = cut(data.draw, 0, O), cut(data.draw, 0, I)
    weights, total = np.zeros_like(stored(W, form)), 0
    for (first, last), (low, high) in itertools.product(zip(rows, rows[1:]), zip(columns, columns[1:])):
        done = run(
            update.publish_slice,
            "published.weights",
            weight=W[first:last, low:high].ravel(),
            first=first,
            last=last,
            low=low,
            high=high,
            published=Published(weights, 0),
            unit=2.0**30,
        )
        weights, total = done.published.weights, total + done.returned
    np.testing.assert_array_equal(weights, stored(W, form))
    assert total == exact_sum(W, 2.0**30)


@more
@given(st.lists(st.floats(-256, 256, width=32), min_size=1, max_size=200), st.integers(-4, 32), seeds)
@example([1.0, -1.0, 0.0, -0.0, 256.0, 1e-45, 1.1754944e-38], 32, 0)
def test_the_sum_of_magnitudes_is_exact(values, exponent, seed):
    """Each rounded half up to steps of 1 / unit, ties and what double precision would just not round up among them."""
    rng, unit = np.random.default_rng(seed), 2.0**exponent
    halves = (rng.integers(0, min(2**16, int(256 * unit)), 200) + 0.5) / unit
    w = np.concatenate([values, halves, np.nextafter(np.float32(halves), np.float32(0))]).astype(np.float32)
    weights = np.zeros((1, -(-w.size // 64), 8), np.uint64)
    arguments = {"weight": w, "first": 0, "last": 1, "low": 0, "high": w.size, "unit": unit}
    done = run(update.publish_slice, "published.weights", published=Published(weights, 0), **arguments)
    assert done.returned == exact_sum(w, unit)


@pytest.mark.parametrize("handed", [True, False])
@pytest.mark.parametrize("kind", ["bits", "bytes", "real"])
def test_all_of_the_scratch_is_written_when_no_error_reaches_the_layer(kind, handed):
    """As in deep narrow networks, whose audit looks for bytes that are never written."""
    samples, columns, rows, classes = 22, 70, 3, 4
    bits, dtype = kind == "bits", {"bits": "uint32", "bytes": "uint8", "real": "float32"}[kind]
    values = np.ones(gradient_kernels.turned_shape(samples, columns) if bits else (samples, columns), dtype)
    width = gradient_kernels.table_width(samples) if bits else gradient_kernels.list_width(samples, 1)
    scratch = Scratch(
        np.full((1, gradient_kernels.run_width(columns, bits)), np.nan, np.float32),
        np.full((1, width), np.nan, np.float32),
        np.full((1, 0 if bits else width), -1, np.int32),
        np.zeros((0, 0), np.uint32),
    )
    none = np.zeros((rows, samples), np.float32), np.zeros((rows, 2), np.uint16)
    projection = np.ones((rows, classes), np.float32)
    projected = Projected(np.ones((classes, samples), np.float32), projection, none[1], 0)
    source = Given(none[0], 0, np.zeros(0, np.float32)) if handed else projected
    out, bias_out = np.ones(rows * columns, np.float32), np.ones(rows, np.float32)
    inputs = Inputs(values, np.float32(1), np.float32(0))
    part = (0, rows, 0, columns)
    gradient_kernels.slice_gradient(inputs, samples, source, part, out.copy(), False, scratch, out, bias_out)
    assert not np.isnan(scratch.dz).any() and not np.isnan(scratch.gradient).any() and (scratch.listed >= 0).all()
    assert not out.any() and not bias_out.any()
