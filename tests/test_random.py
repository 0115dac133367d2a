"""Random numbers of the kernels against their NumPy twins, and exp, log and cosine against decimal arithmetic."""

import decimal
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_tools import Blank, run, same_bits

from tinyfoa_np.kernels import intrinsics
from tinyfoa_np.kernels import random as kernels
from tinyfoa_np.reference import random

words = st.integers(0, 2**64 - 1)


def test_purposes_are_those_of_the_reference():
    names = "WEIGHT", "BIAS", "PROJECTION", "SHUFFLE"
    assert [getattr(kernels, name) for name in names] == [getattr(random, name) for name in names]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
@example([0] * 6)
@example([2**32 - 1] * 6)
@example([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0])
def test_philox_equals_its_reference(six):
    theirs = random.philox(np.array(six[:4], np.uint32), np.array(six[4:], np.uint32))
    assert list(kernels.philox(*map(np.uint64, six))) == theirs.tolist()


@settings(deadline=None, max_examples=200)
@given(words, st.integers(0, 2**32 - 1), st.integers(1, 4), words)
@example(2**64 - 1, 2**32 - 1, 4, 2**64 - 1)
def test_blocks_equal_their_reference(index, layer, purpose, seed):
    theirs = random.blocks(index, 1, seed=seed, layer=layer, purpose=purpose)[0]
    assert list(kernels.block(np.uint64(index), layer, purpose, np.uint64(seed))) == theirs.tolist()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_slice_of_the_weights_can_be_made_alone(data):
    O, I = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    first, low = data.draw(st.integers(0, O - 1)), data.draw(st.integers(0, I - 1))
    last, high = data.draw(st.integers(first + 1, O)), data.draw(st.integers(low + 1, I))
    seed, layer = data.draw(st.sampled_from([0, 2**32, 2**63, 2**64 - 1]) | words), data.draw(st.integers(0, 99))
    size = (last - first) * (high - low)
    done = run(
        kernels.uniform, "out", out=Blank((size,), "float32"), first=first, last=last, low=low, high=high, columns=I,
        layer=layer, purpose=kernels.WEIGHT, seed=np.uint64(seed), bound=np.float32(1 / math.sqrt(I)),
    )  # fmt: skip
    assert done.written["out"].all()
    theirs = random.weights(O, I, seed=seed, layer=layer)[first:last, low:high]
    assert same_bits(done.out.reshape(theirs.shape), theirs.copy())
    assert np.abs(done.out).max() < np.float32(1 / math.sqrt(I))


def test_biases_equal_their_reference():
    done = run(
        kernels.uniform, "out", out=Blank((11,), "float32"), first=0, last=11, low=0, high=1, columns=1, layer=3,
        purpose=kernels.BIAS, seed=np.uint64(5), bound=np.float32(1 / math.sqrt(7)),
    )  # fmt: skip
    assert same_bits(done.out, random.biases(11, 7, seed=5, layer=3))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 12), words, st.integers(0, 99))
def test_projection_equals_its_reference(O, C, seed, layer):
    deviation = math.sqrt(2 / O)
    out = Blank((O, C), "float32")
    done = run(kernels.normal, "out", out=out, layer=layer, seed=np.uint64(seed), deviation=deviation)
    assert done.written["out"].all()
    # both are made in float64 and rounded once; near 0 the cosine of NumPy's rounded angle is off by a few 1e-16
    theirs = random.projection(C, O, seed=seed, layer=layer).T
    np.testing.assert_allclose(done.out, theirs, rtol=2**-23, atol=1e-14 * deviation)


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
    assert units_off(intrinsics.exp(x), "exp", x) <= 2
    np.testing.assert_allclose(intrinsics.exp(x), np.exp(x), rtol=3 * 2**-52)


def test_exp_of_what_is_far_below():
    assert [intrinsics.exp(x) for x in (-700.5, -1e6, -math.inf)] == [0, 0, 0]
    assert math.isnan(intrinsics.exp(math.nan))


@settings(deadline=None, max_examples=1000)
@given(st.floats(0, exclude_min=True, allow_infinity=False) | st.floats(0, 4, exclude_min=True) | st.floats(0.9, 1.1))
@example(1.0)
@example(2.0)
@example(0.5**0.5)
@example(5e-324)
@example(2.0**-65)
def test_log(x):
    assert units_off(intrinsics.log(x), "ln", x) <= 3
    np.testing.assert_allclose(intrinsics.log(x), np.log(x), rtol=4 * 2**-52)


@settings(deadline=None, max_examples=1000)
@given(st.integers(0, 2**24 - 1).map(lambda k: k / 2**24) | st.floats(0, 1, exclude_max=True))
@example(0.0)
@example(0.25)
@example(0.5)
@example(0.75)
@example(1 - 2**-53)
def test_cos_turn(turn):
    found = intrinsics.cos_turn(turn)
    assert abs(decimal.Decimal(found) - exact("cos", turn)) <= decimal.Decimal("4e-16")
    assert abs(found - np.cos(2 * np.pi * turn)) <= 1e-15


@pytest.mark.parametrize(("turn", "cosine"), [(0.0, 1), (0.5, -1)])
def test_cos_turn_is_exact_where_it_is_whole(turn, cosine):
    assert intrinsics.cos_turn(turn) == cosine
