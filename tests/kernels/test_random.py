"""Random numbers of the kernels against their NumPy twins, and exp, log and cosine against decimal arithmetic."""

import decimal
import math

import numpy as np
import pytest
import random_twins
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_tools import Blank, called, run, same_bits

from tinyfoa_np.kernels import augment, maths
from tinyfoa_np.kernels import random as kernels
from tinyfoa_np.reference import bits, random

words = st.integers(0, 2**64 - 1)


def test_purposes_are_those_of_the_reference():
    names = "WEIGHT", "BIAS", "PROJECTION", "SHUFFLE"
    assert [getattr(kernels, name) for name in names] == [getattr(random, name) for name in names]
    assert (kernels.MASK, kernels.WRONG) == (random_twins.MASK, random_twins.WRONG)
    assert (
        len({getattr(kernels, name) for name in (*names, "MASK", "WRONG", "MOMENT", "RESCALE", "ORDER", "TERNARY")})
        == 10
    )
    assert kernels.ORDER == random.ORDER and augment.AUGMENT not in {kernels.ORDER, kernels.RESCALE}


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
@example([0] * 6)
@example([2**32 - 1] * 6)
@example([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0])
def test_philox_equals_its_reference(six):
    theirs = random.philox(np.array(six[:4], np.uint32), np.array(six[4:], np.uint32))
    assert list(called(kernels.philox)(*map(np.uint64, six))) == theirs.tolist()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 2**40), st.integers(0, 2**32 - 1), words, st.data())
@example(1, 0, 0, None)
def test_turns_equal_their_reference(count, epoch, seed, data):
    place = data.draw(st.integers(0, count - 1)) if data else 0
    ours = kernels.turn(place, count, epoch, np.uint64(seed))
    assert ours == random.turn(place, count, epoch, seed=seed) and 0 <= ours < count


@pytest.mark.parametrize("classes, outputs, first", [(3, 7, 0), (10, 33, 5), (2, 1, 0)])
def test_a_ternary_head_equals_its_reference(classes, outputs, first):
    ours = np.full((outputs - first, classes), 9, np.float32)
    kernels.ternary(ours, first, outputs, 2, np.uint64(5))
    theirs = random.ternary(classes, outputs, seed=5, layer=2)
    assert (ours == theirs.T[first:]).all()
    assert (theirs == 1).sum() == (theirs == -1).sum() == classes * outputs // 6


@pytest.mark.parametrize("count", [1, 2, 5, 64, 1000])
def test_turns_are_another_order_in_every_epoch(count):
    orders = [[kernels.turn(place, count, epoch, np.uint64(3)) for place in range(count)] for epoch in range(4)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert count < 64 or len(set(map(tuple, orders))) == 4
    if count == 1000:  # and no order is near the old one, or its neighbours together
        order = np.array(orders[0])
        assert 280 < np.abs(np.diff(order)).mean() < 390 and 200 < np.sum(order[:500] < 500) < 300


@settings(deadline=None, max_examples=200)
@given(words, st.integers(0, 2**32 - 1), st.integers(1, 4), words)
@example(2**64 - 1, 2**32 - 1, 4, 2**64 - 1)
def test_blocks_equal_their_reference(index, layer, purpose, seed):
    theirs = random.blocks(index, 1, seed=seed, layer=layer, purpose=purpose)[0]
    assert list(called(kernels.block)(np.uint64(index), layer, purpose, np.uint64(seed))) == theirs.tolist()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_slice_of_the_weights_can_be_made_alone(data):
    O, I = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    first, low = data.draw(st.integers(0, O - 1)), data.draw(st.integers(0, I - 1))
    last, high = data.draw(st.integers(first + 1, O)), data.draw(st.integers(low + 1, I))
    seed, layer = data.draw(st.sampled_from([0, 2**32, 2**63, 2**64 - 1]) | words), data.draw(st.integers(0, 99))
    size = (last - first) * (high - low)
    done = run(
        kernels.uniform,
        "out",
        out=Blank((size,), "float32"),
        first=first,
        last=last,
        low=low,
        high=high,
        columns=I,
        layer=layer,
        purpose=kernels.WEIGHT,
        seed=np.uint64(seed),
        bound=np.float32(1 / math.sqrt(I)),
    )
    assert done.written["out"].all()
    theirs = random.weights(O, I, seed=seed, layer=layer)[first:last, low:high]
    assert same_bits(done.out.reshape(theirs.shape), theirs.copy())
    assert np.abs(done.out).max() < np.float32(1 / math.sqrt(I))


def test_biases_equal_their_reference():
    done = run(
        kernels.uniform,
        "out",
        out=Blank((11,), "float32"),
        first=0,
        last=11,
        low=0,
        high=1,
        columns=1,
        layer=3,
        purpose=kernels.BIAS,
        seed=np.uint64(5),
        bound=np.float32(1 / math.sqrt(7)),
    )
    assert same_bits(done.out, random.biases(11, 7, seed=5, layer=3))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 12), words, st.integers(0, 99), st.data())
def test_projection_equals_its_reference(O, C, seed, layer, data):
    """All of it, and any of its rows by themselves."""
    deviation = math.sqrt(2 / O)
    given = {"layer": layer, "seed": np.uint64(seed), "deviation": deviation}
    done = run(kernels.normal, "out", out=Blank((O, C), "float32"), first=0, **given)
    assert done.written["out"].all()
    # both are made in float64 and rounded once; near 0 the cosine of NumPy's rounded angle is off by a few 1e-16
    theirs = random.projection(C, O, seed=seed, layer=layer).T
    np.testing.assert_allclose(done.out, theirs, rtol=2**-23, atol=1e-14 * deviation)
    first = data.draw(st.integers(0, O - 1))
    rows = data.draw(st.integers(1, O - first))
    some = run(kernels.normal, "out", out=Blank((rows, C), "float32"), first=first, **given)
    assert some.written["out"].all() and same_bits(some.out, done.out[first : first + rows])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 40), words, st.integers(0, 99))
@example(1, 1, 2**64 - 1, 0)
def test_normal_weights_equal_their_reference(O, I, seed, layer):
    first, given = layer % (O * I), {"layer": layer, "purpose": kernels.WEIGHT, "seed": np.uint64(seed)}
    out = Blank((O * I - first,), "float32")
    done = run(kernels.normals, "out", out=out, first=first, deviation=0.25, **given)
    assert done.written["out"].all()
    theirs = random_twins.normal_weights(O, I, 0.25, seed=seed, layer=layer).ravel()
    np.testing.assert_allclose(done.out, theirs[first:], rtol=2**-23, atol=1e-14)


def test_normal_weights_are_normal():
    out = np.zeros(200_001, np.float32)
    kernels.normals(out, 0, 2, kernels.WEIGHT, np.uint64(5), 0.5)
    z = out / 0.5
    assert abs(z.mean()) < 5 / math.sqrt(z.size) and abs(z.std() - 1) < 5 / math.sqrt(2 * z.size)
    for bound, share in ((0.5, 0.38292), (1, 0.68269), (2, 0.95450), (3, 0.99730)):
        assert abs((np.abs(z) < bound).mean() - share) < 5 * math.sqrt(share * (1 - share) / z.size)
    pairs = z[: z.size // 2 * 2].reshape(-1, 2)  # the two numbers of a block
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 5 / math.sqrt(len(pairs))


# The order of samples


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), words)
@example(1, 0)
@example(2, 2**64 - 1)
def test_shuffle_equals_its_twin_and_is_a_permutation(count, seed):
    done = run(kernels.shuffle, "order", order=np.arange(count), seed=np.uint64(seed))
    assert sorted(done.order) == list(range(count))
    assert done.order.tolist() == random_twins.shuffled(count, seed).tolist()


def test_every_order_comes_equally_often():
    counts = {}
    for seed in range(6000):
        order = np.arange(4)
        kernels.shuffle(order, np.uint64(seed))
        counts[tuple(order)] = counts.get(tuple(order), 0) + 1
    assert len(counts) == 24
    assert sum((count - 250) ** 2 / 250 for count in counts.values()) < 50  # chi squared, 23 degrees: 1 in 1000


# Dropout


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_masks_equal_their_twin(data):
    B, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 200) | st.sampled_from([63, 64, 65, 128]))
    samples, step = data.draw(st.integers(1, B)), data.draw(st.integers(0, 10**6) | st.just(2**31))
    first = data.draw(st.integers(0, 100))
    kept = data.draw(st.integers(0, 65536) | st.sampled_from([0, 1, 32768, 65535, 65536]))
    seed, layer = data.draw(words), data.draw(st.integers(0, 99))
    done = run(
        kernels.mask,
        "out",
        out=Blank((B, -(-width // 64)), "uint64"),
        first=first,
        samples=samples,
        width=width,
        kept=np.uint64(kept),
        step=step,
        layer=layer,
        seed=np.uint64(seed),
        threads=data.draw(st.integers(1, 5)),
    )
    assert (done.written["out"].T == (np.arange(B) < samples)).all()
    theirs = random_twins.dropout_bits(first + samples, width, kept, step=step, layer=layer, seed=seed)[first:]
    assert (done.out[:samples] == bits.pack(theirs)).all()  # and 0 beyond the width
    if kept in (0, 65536):
        assert (theirs == (kept > 0)).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_mask_keeps_its_share_anew_in_each_step_and_layer(share):
    """Of all, of samples, of neurons, of neighbours, within five or six deviations; and no two masks are alike."""
    samples, width = 300, 1000
    masks = []
    for step, layer in ((0, 0), (1, 0), (0, 1)):
        out = np.zeros((samples, 16), np.uint64)
        kernels.mask(out, 0, samples, width, np.uint64(round(share * 65536)), step, layer, np.uint64(3), 2)
        masks.append(bits.unpack(out, width))
    variance = share * (1 - share)
    for mask in masks:
        assert abs(mask.mean() - share) < 5 * math.sqrt(variance / mask.size)
        assert np.abs(mask.mean(axis=0) - share).max() < 6 * math.sqrt(variance / samples)
        assert np.abs(mask.mean(axis=1) - share).max() < 6 * math.sqrt(variance / width)
        both = (mask[:, 1:] & mask[:, :-1]).mean()
        assert abs(both - share**2) < 5 * math.sqrt(share**2 * (1 - share**2) / mask.size)
    for other in masks[1:]:
        assert abs((masks[0] & other).mean() - share**2) < 5 * math.sqrt(share**2 / other.size)


# Wrong labels


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_wrong_labels_equal_their_twin_and_are_wrong(data):
    B, classes = data.draw(st.integers(1, 60)), data.draw(st.integers(2, 12) | st.sampled_from([2, 1000, 65536]))
    samples, seed = data.draw(st.integers(1, B)), data.draw(words)
    draw = np.random.default_rng(seed)
    labels = draw.choice([0, classes - 1, *draw.integers(0, classes, 5)], B).astype(np.uint16)
    epoch, first = data.draw(st.integers(0, 10**4)), data.draw(st.integers(0, 2**32 - 100))
    done = run(
        kernels.wrong_labels,
        "out",
        labels=labels,
        samples=samples,
        classes=classes,
        epoch=epoch,
        first=first,
        out=Blank((B,), "uint16"),
        seed=np.uint64(seed),
    )
    assert (done.written["out"] == (np.arange(B) < samples)).all()
    wrong = done.out[:samples].astype(np.int64)
    assert (wrong != labels[:samples]).all() and (wrong < classes).all()
    theirs = random_twins.wrong_labels(labels[:samples].astype(np.int64), classes, epoch=epoch, first=first, seed=seed)
    assert wrong.tolist() == theirs.tolist()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_every_other_label_comes_equally_often(classes):
    samples = 1000 * classes * (classes - 1)
    labels = (np.arange(samples) % classes).astype(np.uint16)
    wrong = np.zeros((2, samples), np.uint16)
    for epoch, out in enumerate(wrong):
        kernels.wrong_labels(labels, samples, classes, epoch, 0, out, np.uint64(1))
        counts = np.bincount(labels.astype(int) * classes + out, minlength=classes**2).reshape(classes, classes)
        assert not counts.diagonal().any()
        others = counts[~np.eye(classes, dtype=bool)]
        assert np.abs(others - 1000).max() <= 5 * math.sqrt(1000)
        if classes > 2:  # with two there is but one
            again = np.zeros(samples, np.uint16)  # a batch of the middle, alone
            kernels.wrong_labels(labels[70:], 30, classes, epoch, 70, again, np.uint64(1))
            assert (again[:30] == out[70:100]).all()
    alike = (wrong[0] == wrong[1]).mean()  # each epoch draws anew
    expected = 1 / (classes - 1)
    assert abs(alike - expected) <= 5 * math.sqrt(expected * (1 - expected) / samples)


# One scalar routine each, to the digits they promise ------------------------------------------------------------------

PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def exact(function, x):
    """exp, ln or cos(2 pi x) of a float to 40 digits."""
    with decimal.localcontext() as context:
        context.prec, context.Emin, context.Emax = 40, -9999, 9999
        x = decimal.Decimal(x)
        if function != "cos":
            return getattr(x, function)()
        square, term, total = (2 * PI * x) ** 2, decimal.Decimal(1), decimal.Decimal(0)
        for k in range(0, 90, 2):  # Taylor's series: the largest term is below 100, the last below 1e-60
            total += term
            term = -term * square / ((k + 1) * (k + 2))
        return total


def units_off(found, function, x):
    """How far a float is from the exact value, in units of the last place of that value."""
    value = exact(function, x)
    with decimal.localcontext() as context:
        context.prec = 40
        return abs((decimal.Decimal(found) - value) / decimal.Decimal(math.ulp(float(value))))


@settings(deadline=None, max_examples=1000)
@given(st.floats(-700, 700) | st.floats(-40, 0))
@example(0.0)
@example(-700.0)
@example(700.0)
@example(-math.log(2) / 2)
def test_exp(x):
    assert units_off(called(maths.exp)(x), "exp", x) <= 2
    np.testing.assert_allclose(called(maths.exp)(x), np.exp(x), rtol=3 * 2**-52)


def test_exp_of_what_is_far_below():
    assert [called(maths.exp)(x) for x in (-700.5, -1e6, -math.inf)] == [0, 0, 0]
    assert math.isnan(called(maths.exp)(math.nan))


@settings(deadline=None, max_examples=1000)
@given(st.floats(0, exclude_min=True, allow_infinity=False) | st.floats(0, 4, exclude_min=True) | st.floats(0.9, 1.1))
@example(1.0)
@example(2.0)
@example(0.5**0.5)
@example(5e-324)
@example(2.0**-65)
def test_log(x):
    assert units_off(called(maths.log)(x), "ln", x) <= 3
    np.testing.assert_allclose(called(maths.log)(x), np.log(x), rtol=4 * 2**-52)


@settings(deadline=None, max_examples=1000)
@given(st.integers(0, 2**24 - 1).map(lambda k: k / 2**24) | st.floats(0, 1, exclude_max=True))
@example(0.0)
@example(0.25)
@example(0.5)
@example(0.75)
@example(1 - 2**-53)
def test_cos_turn(turn):
    found = called(maths.cos_turn)(turn)
    assert abs(decimal.Decimal(found) - exact("cos", turn)) <= decimal.Decimal("4e-16")
    assert abs(found - np.cos(2 * np.pi * turn)) <= 1e-15


@pytest.mark.parametrize(("turn", "cosine"), [(0.0, 1), (0.5, -1)])
def test_cos_turn_is_exact_where_it_is_whole(turn, cosine):
    assert called(maths.cos_turn)(turn) == cosine
