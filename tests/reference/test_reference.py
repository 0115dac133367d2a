"""The reference against what it is defined by: published answers, other arithmetic, finite differences."""

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tinyfoa_np.reference import bits, optimizers, random, slices, tinyfoa

TOGGLES = [
    {"binary_weights": weights, "binary_activations": activations}
    for weights in (False, True)
    for activations in (False, True)
]


def toggle_id(toggles):
    return "bw{binary_weights:d}_ba{binary_activations:d}".format(**toggles)


@pytest.mark.parametrize("name", ["", ".slices", ".bits", ".random"])
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module("tinyfoa_np.reference" + name))
    assert found.attempted > 0
    assert found.failed == 0


# Random numbers -------------------------------------------------------------------------------------------------------


def philox_of_any_width(counter, key, multipliers, key_steps, width):
    """Philox4x<width>-10 in Python's own integers, after figure 3 of the paper."""
    (c0, c1, c2, c3), (k0, k1), mask = counter, key, 2**width - 1
    for _ in range(10):
        a, b = multipliers[0] * c0, multipliers[1] * c2
        c0, c1, c2, c3 = (b >> width) ^ c1 ^ k0, b & mask, (a >> width) ^ c3 ^ k1, a & mask
        k0, k1 = (k0 + key_steps[0]) & mask, (k1 + key_steps[1]) & mask
    return [c0, c1, c2, c3]


def philox64(counter, key):
    multipliers = 0xD2E7470EE14C6C93, 0xCA5A826395121157
    return philox_of_any_width(counter, key, multipliers, (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B), 64)


def philox32(counter, key):
    return philox_of_any_width(counter, key, (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 32)


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_answers(counter, key, answer):
    words = [np.array([int(word, 16) for word in text.split()], dtype=np.uint32) for text in (counter, key, answer)]
    result = random.philox(words[0], words[1])
    assert result.dtype == np.uint32
    np.testing.assert_array_equal(result, words[2])


@given(st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_philox_rounds_are_those_of_numpy(words):
    """NumPy has the 64-bit Philox only: it checks the twin in Python's integers, which at 32 bits checks ours.

    NumPy counts up before it draws, hence the counter one below.
    """
    counter, key = words[:4], words[4:]
    counter[0] = max(counter[0], 1)
    below = np.array([counter[0] - 1, *counter[1:]], dtype=np.uint64)
    numpys = np.random.Philox(counter=below, key=np.array(key, dtype=np.uint64)).random_raw(4)
    assert philox64(counter, key) == numpys.tolist()

    low = [word & 0xFFFFFFFF for word in words]
    ours = random.philox(np.array(low[:4], dtype=np.uint32), np.array(low[4:], dtype=np.uint32))
    assert philox32(low[:4], low[4:]) == ours.tolist()


def test_philox_takes_counters_of_any_shape():
    counters = np.arange(2 * 3 * 4, dtype=np.uint32).reshape(2, 3, 4)
    key = np.array([7, 8], dtype=np.uint32)
    result = random.philox(counters, key)
    assert result.shape == (2, 3, 4)
    np.testing.assert_array_equal(result[1, 2], random.philox(counters[1, 2], key))


def test_keying():
    """Seed and index are cut in halves, low word first; then layer, then purpose."""
    seed, index = 0x0123456789ABCDEF, 0x0000000500000007
    expected = philox32([7, 5, 3, random.BIAS], [0x89ABCDEF, 0x01234567])
    assert random.blocks(index, 1, seed=seed, layer=3, purpose=random.BIAS)[0].tolist() == expected


@pytest.mark.parametrize("sequence", [random.uniform, random.normal])
@given(st.integers(0, 40), st.integers(1, 40))
def test_any_stretch_can_be_made_alone(sequence, first, count):
    key = {"seed": 2**40 + 5, "layer": 2, "purpose": random.WEIGHT}
    whole = sequence(0, 80, 0.3, **key)
    np.testing.assert_array_equal(sequence(first, count, 0.3, **key), whole[first : first + count])


def test_uniform_numbers():
    w = random.weights(300, 100, seed=1, layer=0)
    assert w.dtype == np.float32 and w.shape == (300, 100)
    assert 0.0999 < np.abs(w).max() < 0.1 and np.abs(w).min() > 0
    assert abs(w.mean()) < 5 * 0.1 / np.sqrt(3 * w.size)
    np.testing.assert_allclose(w.std(), 0.1 / np.sqrt(3), rtol=0.01)

    # element (1, 2) is number 102: lane 2 of block 25; for three inputs the bound is no round number
    u = philox32([25, 0, 0, random.WEIGHT], [1, 0])[2]
    assert w[1, 2] == np.float32((2 * (u >> 8) + 1 - 2**24) / 2**24) * np.float32(0.1)
    u = philox32([1, 0, 4, random.BIAS], [1, 0])[3]
    b = random.biases(9, 3, seed=1, layer=4)
    assert b[7] == np.float32((2 * (u >> 8) + 1 - 2**24) / 2**24) * np.float32(1 / np.sqrt(3))


def test_normal_numbers():
    P = random.projection(10, 2000, seed=3, layer=1)
    deviation = np.sqrt(2 / 2000)
    assert P.dtype == np.float32 and P.shape == (10, 2000)
    assert abs(P.mean()) < 5 * deviation / np.sqrt(P.size)
    np.testing.assert_allclose(P.std(), deviation, rtol=0.02)
    np.testing.assert_allclose((P.astype(np.float64) ** 4).mean(), 3 * deviation**4, rtol=0.1)  # a normal's kurtosis

    lane = philox32([(4 * 10 + 6) // 2, 0, 1, random.PROJECTION], [3, 0])  # elements (c, o) = (6, 4) and (7, 4)
    u1, angle = (lane[0] * 2**32 + lane[1] + 0.5) / 2**64, 2 * np.pi * lane[2] / 2**32
    radius = np.sqrt(-2 * np.log(u1)) * deviation
    np.testing.assert_allclose(P[6:8, 4], [radius * np.cos(angle), radius * np.sin(angle)], rtol=1e-6)


def test_seeds_layers_and_purposes_share_nothing():
    key = {"seed": 0, "layer": 0, "purpose": random.WEIGHT}
    drawn = [random.blocks(0, 50, **key)]
    drawn += [random.blocks(0, 50, **{**key, name: 2}) for name in key]
    drawn += [random.blocks(0, 50, **{**key, "seed": 2**32})]
    assert len(np.unique(np.concatenate(drawn), axis=0)) == 50 * len(drawn)


# Bits -----------------------------------------------------------------------------------------------------------------

matrices_of_bits = npst.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 200)))


@given(matrices_of_bits)
def test_unpack_undoes_pack(array):
    words = bits.pack(array)
    assert words.dtype == np.uint64 and words.shape == (len(array), -(-array.shape[1] // 64))
    np.testing.assert_array_equal(bits.unpack(words, array.shape[1]), array)
    np.testing.assert_array_equal(bits.popcount(words), array.sum(axis=1))  # so the tail is zero


@given(matrices_of_bits)
def test_unpack_undoes_pack_panels(array):
    outputs, inputs = array.shape
    panels = bits.pack_panels(array)
    assert panels.dtype == np.uint64 and panels.shape == (-(-outputs // 8), -(-inputs // 64), 8)
    np.testing.assert_array_equal(bits.unpack_panels(panels, outputs, inputs), array)
    np.testing.assert_array_equal(bits.panel_rows(panels, outputs), bits.pack(array))
    assert bits.popcount(panels).sum() == array.sum()  # absent neurons and inputs are zero


def test_places_of_bits():
    array = np.zeros((11, 130), dtype=bool)
    array[10, 65] = True
    assert bits.pack(array)[10].tolist() == [0, 2, 0]
    panels = bits.pack_panels(array)
    assert panels[1, 1, 2] == 2 and np.count_nonzero(panels) == 1


def test_the_sign_of_zero_is_plus():
    assert bits.pack_panels(np.array([[-1.0, 0.0, -0.0, 2.0]]))[0, 0].tolist() == [0b1110, 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(tinyfoa.binarize_weights(np.array([[-1.0, 0.0, -0.0, 2.0]]))[0] > 0, [[0, 1, 1, 1]])


@given(st.data(), st.integers(1, 5), st.integers(1, 11), st.integers(1, 200))
def test_both_forms_count_what_multiplication_finds(data, count, outputs, inputs):
    h = data.draw(npst.arrays(bool, (count, inputs)))
    positive = data.draw(npst.arrays(bool, (outputs, inputs)))
    w = np.where(positive, 1.0, -1.0)
    expected = h.astype(np.float64) @ w.T
    h_words, w_words = bits.pack(h), bits.panel_rows(bits.pack_panels(w), outputs)
    np.testing.assert_array_equal(bits.and_dot(h_words, w_words), expected)
    np.testing.assert_array_equal(bits.xnor_dot(h_words, w_words), expected)


# Slices and schedules -------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.data())
def test_cuts_are_those_of_array_split(length, data):
    parts = data.draw(st.integers(1, length))
    whole = np.arange(length)
    ours = [whole[cut] for cut in slices.cuts(length, parts)]
    assert [part.tolist() for part in ours] == [part.tolist() for part in np.array_split(whole, parts)]


@pytest.mark.parametrize(("length", "parts"), [(3, 4), (3, 0), (0, 1)])
def test_cuts_refuses_what_leaves_a_slice_empty(length, parts):
    with pytest.raises(ValueError, match="slices"):
        slices.cuts(length, parts)


def test_order_of_slices():
    assert [slices.slice_at(k, 3) for k in range(9)] == slices.all_slices(3)
    assert slices.slice_at(9, 3) == (0, 0)
    assert [slices.frozen_at(k, 3) for k in range(5)] == [1, 2, 0, 1, 2]
    with pytest.raises(ValueError, match="held"):
        slices.hold_at(3, 0)


@given(st.integers(1, 200), st.data())
def test_exchanges_divide_all_steps_evenly(steps, data):
    exchanges = data.draw(st.integers(1, steps))
    holds = np.array([slices.hold_of_exchanges(t, steps, exchanges) for t in range(steps)])
    lengths = np.bincount(holds, minlength=exchanges)
    assert len(lengths) == exchanges and lengths.max() - lengths.min() <= 1
    for k in range(exchanges):  # hold k begins with the first step at or after k / exchanges of them all
        assert np.argmax(holds == k) == -(-k * steps // exchanges)


def problem(dtype=np.float32, inputs=7, outputs=9, classes=3, sizes=(6, 6, 4), seed=0):
    """Batches, W, b and P of one small layer: wide enough values that every mask has work to do."""
    rng = np.random.default_rng(seed)
    batches = [(rng.normal(size=(B, inputs)).astype(dtype), rng.integers(0, classes, B)) for B in sizes]
    W, b = rng.uniform(-0.8, 0.8, (outputs, inputs)), rng.uniform(-0.5, 0.5, outputs)
    W.flat[:2] = 1, -1
    return batches, W.astype(dtype), b.astype(dtype), rng.normal(size=(classes, outputs)).astype(dtype)


def every_slice_differs(old, new, side):
    """Which slices (j, i) of a matrix hold a number that changed."""
    rows, columns = slices.cuts(old.shape[0], side), slices.cuts(old.shape[1], side)
    return {(j, i) for j, i in slices.all_slices(side) if (old[rows[j], columns[i]] != new[rows[j], columns[i]]).any()}


@pytest.mark.parametrize("toggles", TOGGLES, ids=toggle_id)
@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_stream_is_training_the_whole_layer(side, optimizer, toggles):
    batches, W, b, P = problem()
    options = {"optimizer": optimizer, "lr": 0.02, "epochs": 3, **toggles}
    stream = tinyfoa.train_layer(batches, W, b, P, slices=side, schedule="stream", **options)
    whole = tinyfoa.train_layer(batches, W, b, P, schedule="none", **options)
    assert not np.array_equal(whole.W, W)
    for ours, theirs in zip(stream, whole):
        np.testing.assert_array_equal(ours, theirs)


def test_slice_trains_one_slice_at_a_time():
    batches, W, b, P = problem()
    options = {"slices": 3, "schedule": "slice", "lr": 0.02, "binary_activations": False}
    rows, columns = slices.cuts(9, 3), slices.cuts(7, 3)
    one = tinyfoa.train_layer(batches, W, b, P, **options)  # a hold is one epoch by default
    assert every_slice_differs(W, one.W, 3) == {(0, 0)}
    assert np.flatnonzero(one.b != b).max() < rows[0].stop

    five = tinyfoa.train_layer(batches, W, b, P, **options, epochs=5, hold=3)
    assert every_slice_differs(W, five.W, 3) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)}
    by_exchanges = tinyfoa.train_layer(batches, W, b, P, **options, epochs=5, exchanges=5)
    np.testing.assert_array_equal(by_exchanges.W, five.W)

    dW = tinyfoa.train_layer(batches, W, b, P, schedule="none", binary_activations=False).dW_first
    np.testing.assert_array_equal(one.dW_first, dW[rows[0], columns[0]])
    assert one.db_first.shape == (3,)


def test_a_resting_slice_does_not_age():
    """A slice that comes back goes on with the moments and step count it left with; so does a group of biases.

    With M = 2 and a hold of one step, slice (0, 0) trains at steps 0 and 4, the biases of its rows at 0, 1, 4 and 5.
    """
    batches, W, b, P = problem(sizes=(5,) * 6)
    options = {"slices": 2, "hold": 1, "lr": 0.01, "binary_activations": False}
    rows, columns = slices.cuts(9, 2)[0], slices.cuts(7, 2)[0]
    weight_adam, bias_adam = optimizers.Adam(0.01), optimizers.Adam(0.01)
    slice_weights, slice_biases = W[rows, columns], b[rows]
    for t, (X, labels) in enumerate(batches):
        now_W, now_b = tinyfoa.train_layer(batches[:t], W, b, P, **options)[:2] if t else (W, b)
        z, _, a = through(X, now_W, now_b, P, binary_activations=False)
        _, dW, db = tinyfoa.gradient(X, now_W, z, a, labels, P, binary_activations=False)
        if t in (0, 4):
            slice_weights = tinyfoa.clamp(weight_adam.step(slice_weights, dW[rows, columns]))
        if t in (0, 1, 4, 5):
            slice_biases = tinyfoa.clamp(bias_adam.step(slice_biases, db[rows]))
    result = tinyfoa.train_layer(batches, W, b, P, **options)
    np.testing.assert_array_equal(result.W[rows, columns], slice_weights)
    np.testing.assert_array_equal(result.b[rows], slice_biases)


def test_frozen_puts_back_weights_and_nothing_else():
    batches, W, b, P = problem()
    options = {"lr": 0.02, "binary_activations": False}
    frozen = tinyfoa.train_layer(batches[:1], W, b, P, slices=3, schedule="frozen", **options)
    whole = tinyfoa.train_layer(batches[:1], W, b, P, schedule="none", **options)
    part = slices.cuts(9, 3)[1], slices.cuts(7, 3)[1]  # the first hold freezes (1, 1)
    np.testing.assert_array_equal(frozen.W[part], W[part])
    assert every_slice_differs(frozen.W, whole.W, 3) == {(1, 1)}
    np.testing.assert_array_equal(frozen.b, whole.b)
    np.testing.assert_array_equal(frozen.dW_first, whole.dW_first)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule": "diagonal"}, "schedule"),
        ({"optimizer": "adagrad"}, "optimizer"),
        ({"slices": 8}, "8 slices"),
        ({"slices": 8, "schedule": "frozen"}, "8 slices"),
        ({"hold": 0}, "held"),
        ({"hold": 1, "exchanges": 4}, "one of them"),
        ({"epochs": 0}, "0 epochs"),
    ],
)
def test_train_layer_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        tinyfoa.train_layer(*problem(), **wrong)


def test_arguments_stay_as_they_were():
    batches, W, b, P = problem()
    W_before, b_before = W.copy(), b.copy()
    tinyfoa.train_layer(batches, W, b, P, schedule="stream", lr=0.1)
    np.testing.assert_array_equal(W, W_before)
    np.testing.assert_array_equal(b, b_before)


# Optimizers -----------------------------------------------------------------------------------------------------------


def test_momentum_and_sgd_by_hand():
    w, sgd, momentum = np.array([1.0]), optimizers.SGD(0.1), optimizers.Momentum(0.1)
    np.testing.assert_allclose(sgd.step(sgd.step(w, np.array([2.0])), np.array([1.0])), 1 - 0.2 - 0.1)
    np.testing.assert_allclose(momentum.step(momentum.step(w, np.array([2.0])), np.array([1.0])), 1 - 0.2 - 0.28)


@given(npst.arrays(np.float64, (5, 3), elements=st.floats(-10, 10)))
def test_adam_by_its_definition(gradients):
    """The moments are weighted means of all gradients so far; the first step goes lr against the sign."""
    adam, w = optimizers.Adam(0.01), np.zeros(3)
    for t, g in enumerate(gradients, start=1):
        before, w = w, adam.step(w, g)
        age = np.arange(t)[::-1, None]
        m = (0.9**age * gradients[:t]).sum(axis=0) / (0.9**age).sum()
        v = (0.999**age * gradients[:t] ** 2).sum(axis=0) / (0.999**age).sum()
        np.testing.assert_allclose(w - before, -0.01 * m / (np.sqrt(v) + 1e-8), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_float32_stays_float32(name):
    w = optimizers.OPTIMIZERS[name](1e-3).step(np.ones(4, np.float32), np.ones(4, np.float32))
    assert w.dtype == np.float32


# Gradient -------------------------------------------------------------------------------------------------------------


def finite_differences(f, x, step=1e-6):
    """df/dx of a number f(x), one element of x (float64, any shape) at a time."""
    slope = np.empty_like(x)
    for n in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[n] = step
        slope[n] = (f(x + shift) - f(x - shift)) / (2 * step)
    return slope


def through(X, W, b, P, **toggles):
    """z, h and logits of one batch."""
    z, h = tinyfoa.forward(X, W, b, **toggles)
    return z, h, tinyfoa.logits(h, P)


OFF = {"binary_weights": False, "binary_activations": False}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_gradient_is_the_slope_of_the_loss(seed, B, inputs, outputs, classes):
    ((X, labels),), W, b, P = problem(np.float64, inputs, outputs, classes, (B,), seed)
    z, _, a = through(X, W, b, P, **OFF)
    assume(np.abs(z).min() > 1e-4)  # at a kink of the ReLU there is no slope
    _, dW, db = tinyfoa.gradient(X, W, z, a, labels, P, **OFF)

    def loss_of(W, b):
        return tinyfoa.loss(through(X, W, b, P, **OFF)[2], labels)

    np.testing.assert_allclose(dW, finite_differences(lambda w: loss_of(w, b), W), atol=1e-7)
    np.testing.assert_allclose(db, finite_differences(lambda v: loss_of(W, v), b), atol=1e-7)


def test_straight_through_gradient_of_weights():
    """With binary weights dW is the slope in Wb, the scale held still, where |W| < 1."""
    ((X, labels),), W, b, P = problem(np.float64, sizes=(6,))
    toggles = {"binary_weights": True, "binary_activations": False}
    z, _, a = through(X, W, b, P, **toggles)
    _, dW, _ = tinyfoa.gradient(X, W, z, a, labels, P, **toggles)
    slope = finite_differences(
        lambda Wb: tinyfoa.loss(through(X, Wb, b, P, **OFF)[2], labels), tinyfoa.binarize_weights(W)[0]
    )
    outside = np.abs(W) >= 1
    assert np.abs(slope[outside]).max() > 1e-3 and (dW[outside] == 0).all()
    np.testing.assert_allclose(dW[~outside], slope[~outside], atol=1e-7)


def test_straight_through_gradient_of_activations():
    """With binary activations dz is the slope in h where 0 < z < 1, and 0 elsewhere."""
    ((X, labels),), W, b, P = problem(np.float64, sizes=(6,))
    z, h, a = through(X, W, b, P)
    dz, _, db = tinyfoa.gradient(X, W, z, a, labels, P)
    slope = finite_differences(lambda h: tinyfoa.loss(tinyfoa.logits(h, P), labels), h)
    inside = (z > 0) & (z < 1)
    assert inside.any() and (z > 1).any() and (z < 0).any()
    np.testing.assert_allclose(dz, np.where(inside, slope, 0), atol=1e-7)
    np.testing.assert_allclose(db, dz.sum(axis=0))


def test_masks_are_strict():
    X, W, P = np.ones((1, 1)), np.array([[1.0], [-1.0], [0.5], [0.25]]), np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    z, a, labels = np.array([[1.0, 0.0, 0.5, 0.5]]), np.zeros((1, 2)), np.array([1])
    dz, dW, _ = tinyfoa.gradient(X, W, z, a, labels, P)
    np.testing.assert_array_equal(dz, [[0, 0, 0.5, 0.5]])  # z = 1 and z = 0 are outside
    np.testing.assert_array_equal(dW[:, 0], [0, 0, 0.5, 0.5])
    dz, dW, _ = tinyfoa.gradient(X, W, z, a, labels, P, binary_activations=False)
    np.testing.assert_array_equal(dz, [[0.5, 0, 0.5, 0.5]])
    np.testing.assert_array_equal(dW[:, 0], [0, 0, 0.5, 0.5])  # W = 1 is outside


@pytest.mark.parametrize("toggles", TOGGLES, ids=toggle_id)
def test_float32_in_float32_out(toggles):
    ((X, labels), *_), W, b, P = problem()
    z, h, a = through(X, W, b, P, **toggles)
    found = [z, h, a, *tinyfoa.gradient(X, W, z, a, labels, P, **toggles)]
    assert {array.dtype for array in found} == {np.dtype(np.float32)}


# Forward, hand-over, network ------------------------------------------------------------------------------------------


def test_forward_by_hand():
    W, b, X = np.array([[0.5, -1.5], [0.0, -2.0]]), np.array([0.25, -0.75]), np.array([[1.0, 0.0], [1.0, 1.0]])
    Wb, alpha = tinyfoa.binarize_weights(W)
    assert alpha == 1.0
    np.testing.assert_array_equal(Wb, [[1, -1], [1, -1]])
    z, h = tinyfoa.forward(X, W, b)
    np.testing.assert_array_equal(z, [[1.25, 0.25], [0.25, -0.75]])
    np.testing.assert_array_equal(h, [[0.625, 0.625], [0.625, 0]])
    np.testing.assert_array_equal(tinyfoa.forward(X, W, b, scale=2.0)[1], [[2, 2], [2, 0]])
    np.testing.assert_array_equal(tinyfoa.forward(X, W, b, binary_activations=False)[1], np.maximum(z, 0))
    np.testing.assert_array_equal(tinyfoa.forward(X, W, b, binary_weights=False)[0], [[0.75, -0.75], [-0.75, -2.75]])


def test_a_z_of_zero_gives_bit_zero():
    _, h = tinyfoa.forward(np.array([[2.0]]), np.array([[1.0], [-1.0]]), np.array([-2.0, 4.0]))
    np.testing.assert_array_equal(h, [[0, 1]])


def test_loss_of_hopeless_and_perfect_logits():
    labels = np.array([0, 1])
    assert tinyfoa.loss(np.zeros((2, 4), np.float32), labels) == pytest.approx(np.log(4))
    assert tinyfoa.loss(np.array([[1e4, 0], [0, 1e4]], np.float32), labels) == 0
    assert tinyfoa.loss(np.array([[0, 1e4], [0, 1e4]], np.float32), labels) == pytest.approx(5e3)


def test_hand_over_keeps_the_scale_of_each_batch_and_inference_one_for_all():
    batches, W, b, _ = problem(sizes=(6, 6, 3))
    outputs = tinyfoa.hand_over(batches, W, b)
    magnitudes = []
    for (X, _), h in zip(batches, outputs):
        z, _ = tinyfoa.forward(X, W, b)
        magnitudes.append(np.abs(z))
        np.testing.assert_array_equal(np.unique(h), [0, np.abs(z).mean(dtype=np.float64).astype(np.float32)])
    scale = tinyfoa.mean_magnitude(batches, W, b)
    np.testing.assert_allclose(scale, np.concatenate(magnitudes).mean(dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize("toggles", TOGGLES, ids=toggle_id)
@pytest.mark.parametrize("schedule", ["slice", "stream", "frozen"])
def test_a_network_learns(schedule, toggles):
    """Four clouds of points, two layers, a last batch that is not full."""
    rng = np.random.default_rng(5)
    centres, labels = rng.normal(size=(4, 12)), rng.integers(0, 4, 110)
    x = (centres[labels] + 0.5 * rng.normal(size=(110, 12))).astype(np.float32)
    batches = [(x[start : start + 25], labels[start : start + 25]) for start in range(0, 110, 25)]
    layers = tinyfoa.train(
        batches, [40, 40], 4, seed=1, slices=2, schedule=schedule, hold=3, epochs=40, lr=0.03, **toggles
    )
    assert np.mean(tinyfoa.predict(x, layers, **toggles) == labels) > 0.95


def test_no_answer_depends_on_the_samples_beside_it():
    rng = np.random.default_rng(2)
    sizes = [(16, 10), (16, 16)]
    layers = [tinyfoa.Layer(rng.normal(size=s), rng.normal(size=16), rng.normal(size=(5, 16)), 0.5) for s in sizes]
    X = rng.normal(size=(60, 10)) * rng.uniform(0.1, 10, (60, 1))
    together = tinyfoa.predict(X, layers)
    assert len(np.unique(together)) > 1
    np.testing.assert_array_equal(together, np.concatenate([tinyfoa.predict(x[None], layers) for x in X]))
