"""Moments in two bytes or one: what they stand for, that rounding leaves their expectation alone, kernels and twin."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_tools import (
    make_inputs,
    make_weights,
    resident,
    run,
    run_update,
    run_update_in_parts,
    same_bits,
    stored,
)

from tinyfoa_np.kernels import dense_gradient as gradient_kernels
from tinyfoa_np.kernels import dense_update as update
from tinyfoa_np.kernels import random as random_kernels
from tinyfoa_np.kernels.operands import Draws, Given
from tinyfoa_np.kernels.optimizers import MOMENTS
from tinyfoa_np.layers.moments import FORMATS
from tinyfoa_np.recipe import MOMENTS as NAMES
from tinyfoa_np.reference import moments
from tinyfoa_np.slices import Slice

CODED = "bfloat16", "int8"
FORMS = {"bits": "signs", "bytes": "signs", "real": "floats"}  # of weights, for each kind of inputs
EVERY = np.arange(65536, dtype=np.uint32)  # all that 16 random bits may be

seeds = st.integers(0, 2**32 - 1)
few = settings(deadline=None, max_examples=30)
sizes = st.integers(-40, 20).map(lambda k: 2.0**k) | st.floats(1e-12, 1e6)


def test_names_and_blocks_are_the_same_everywhere():
    assert tuple(FORMATS) == NAMES == ("float32", *CODED)
    assert (
        moments.BLOCK == update.BLOCK
        and gradient_kernels.RUN % update.BLOCK == gradient_kernels.BIT_RUN % update.BLOCK == 0
    )
    assert (moments.MOMENT, random_kernels.MOMENT) == (7, 7)
    assert [FORMATS[name].row_bytes(70) for name in FORMATS] == [280, 140, 73]
    assert [FORMATS[name].units(70) for name in FORMATS] == [0, 0, 3]


# What they stand for


def values_of_codes(second):
    """Of each byte in units, by the words of the module's docstring."""
    steps = [k * 2.0**octave for octave in range(moments.SECOND) for k in range(0 if octave == 0 else 16, 32)]
    return np.array(steps if second else steps[:128])


@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("exponent", [1, 100, 127, 200])
def test_a_byte_is_a_number_of_units(second, exponent):
    codes = np.arange(256, dtype=np.uint8).reshape(8, 32)
    read = moments.read_int8(codes, np.full((8, 1), exponent, np.uint8), second).ravel()
    units = values_of_codes(second)
    assert units[-1] == (507_904 if second else 1984)
    expected = units * 2.0 ** (exponent - 127)
    np.testing.assert_array_equal(read, expected if second else np.concatenate([expected, -expected]))
    if not second:
        assert (np.signbit(read) == (np.arange(256) >= 128)).all()


def block(values, width=moments.BLOCK):
    """One row, filled up with zeros."""
    row = np.zeros((1, width), np.float32)
    row[0, : len(values)] = values
    return row


def written(values, bits, second, name="int8"):
    """What float32 values become: as float32 again."""
    if name == "bfloat16":
        return moments.read_bfloat16(moments.write_bfloat16(values, bits))
    return moments.read_int8(*moments.write_int8(values, bits, second), second)


@few
@given(st.booleans(), st.integers(1, 100), sizes, seeds)
@example(False, 33, 1e-37, 0)
def test_a_byte_is_one_of_the_two_neighbours(second, width, size, seed):
    rng = np.random.default_rng(seed)
    values = (size * rng.standard_normal((3, width)) ** rng.choice([1, 3, 9])).astype(np.float32)
    values = np.abs(values) if second else values
    codes, exponents = moments.write_int8(values, rng.integers(0, 65536, values.shape).astype(np.uint32), second)
    units = np.repeat(2.0 ** (exponents.astype(int) - 127), moments.BLOCK, axis=1)[:, :width]
    read, grid = moments.read_int8(codes, exponents, second), values_of_codes(second)
    sizes = np.abs(values) / units
    below = grid[np.searchsorted(grid, sizes, side="right") - 1]
    above = grid[np.minimum(np.searchsorted(grid, sizes, side="left"), len(grid) - 1)]
    assert (sizes <= grid[-1]).all()
    ours = np.abs(read) / units
    raised = second & (ours == 1) & (0 < sizes) & (sizes < 1)
    assert ((ours == below) | (ours == above) | raised).all()
    assert ((read == 0) | (np.signbit(read) == np.signbit(values))).all()
    # and the unit is no larger than it must be
    for row, exponent in zip(values, exponents):
        for k, own in enumerate(exponent):
            largest = np.abs(row[k * moments.BLOCK : (k + 1) * moments.BLOCK]).max()
            assert own == 1 or grid[-1] * 2.0 ** (int(own) - 128) < largest


@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
def test_what_does_not_change_is_not_rounded_anew_when_its_unit_does(second):
    grid = values_of_codes(second)
    start = np.append(grid[32:63], 0).astype(np.float32)[None]
    once = moments.read_int8(*moments.write_int8(start, np.full((1, 32), 65535, np.uint32), second), second)
    np.testing.assert_array_equal(once, start)
    for largest in (grid[-1], 3.5 * grid[32]):
        start[0, 31] = largest
        for bits in (0, 65535):
            again = written(start, np.full((1, 32), bits, np.uint32), second)
            np.testing.assert_array_equal(again[0, :31], once[0, :31])


# Rounding


@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
@few
@given(st.floats(0, 1), sizes, st.booleans())
@example(0.5, 1.0, False)
@example(1e-6, 3.0, True)
@example(1 - 2**-20, 1.0, False)
def test_the_expectation_of_a_byte_is_what_it_was(second, part, size, negative):
    """Over all that the random bits may be: to the 2**-16th of a step. Below a unit, a second moment is a unit."""
    value = np.float32(size * part**4) * (-1 if negative and not second else 1)
    rows = np.repeat(block([size, value]), 65536, axis=0)
    bits = np.zeros(rows.shape, np.uint32)
    bits[:, 1] = EVERY
    codes, exponents = moments.write_int8(rows, bits, second)
    read = moments.read_int8(codes, exponents, second)[:, 1].astype(np.float64)
    unit = 2.0 ** (int(exponents[0, 0]) - 127)
    if second and 0 < value < unit:
        assert (read == unit).all()
        return
    step = max(np.ptp(read), unit)
    assert abs(read.mean() - value) <= 2.0**-16 * step
    assert value != 0 or not read.any()


@few
@given(st.floats(-(2.0**127), 2.0**127, width=32))
@example(0.0)
@example(1.0)
@example(1e-45)
def test_the_expectation_of_two_bytes_is_exactly_what_it_was(value):
    read = written(np.full(65536, value, np.float32), EVERY, False, "bfloat16")
    assert read.astype(np.float64).mean() == np.float32(value)


@pytest.mark.parametrize("name", CODED)
def test_a_slow_average_falls_as_it_should_and_stands_still_if_rounded_to_the_nearest(name):
    """Adam's second moment of a weight that has no gradient any more, beside one that keeps its block's unit up."""
    rng, steps = np.random.default_rng(0), 2000
    start = np.full((128, 32), 0.7, np.float32)
    start[:, 0] = 1
    at_random, nearest = (written(start, np.full(start.shape, 32768, np.uint32), True, name) for _ in range(2))
    first = at_random.copy()
    for _ in range(steps):
        for values, bits in ((at_random, rng.integers(0, 65536, start.shape)), (nearest, np.full(start.shape, 32768))):
            values *= np.float32(0.999)
            values[:, 0] = 1
            values[...] = written(values, bits.astype(np.uint32), True, name)
    wanted = first[:, 1:].mean() * 0.999**steps
    assert abs(at_random[:, 1:].mean() / wanted - 1) < 0.02
    assert same_bits(nearest, first)  # a thousandth is less than half a step


def test_a_second_moment_beside_a_huge_one_does_not_vanish():
    """Or a weight whose gradient is small would move by its first moment over 1e-8."""
    small = np.float32(1e-30)
    for bits in (0, 65535):
        read = written(block([1.0, small, 0.0]), np.full((1, 32), bits, np.uint32), True)
        assert read[0, 1] == 2.0**-18 and read[0, 2] == 0


@few
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 9), seeds)
def test_words_are_those_of_the_blocks_and_no_word_comes_twice(first, width, rows, seed):
    stride = 8 * -(-width // 32)
    words = moments.words(rows, width, first=first, stride=stride, seed=seed, layer=3)
    last = first + stride * (rows - 1) + 8 * ((width - 1) // 32)
    alone = moments.words(1, 1, first=last, stride=0, seed=seed, layer=3)
    assert words[-1, (width - 1) // 32 * 32] == alone[0, 0]
    assert np.unique(words).size >= words.size - 1  # of so few 32-bit words hardly two are alike


# The kernels


def make_update(data, kind, name):
    """Arguments of an update of a whole layer, as keywords of ``run_update``, and its moments as float32."""
    B, I = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 200) | st.sampled_from([1023, 1024, 1100, 2050]))
    O, rng = data.draw(st.integers(1, 24)), np.random.default_rng(data.draw(seeds))
    optimizer, t = data.draw(st.sampled_from(["adam", "momentum", "nesterov"])), data.draw(st.sampled_from([2, 5000]))
    W, dz = make_weights(rng, O, I), (rng.standard_normal((O, B)) * rng.choice([0, 1], (O, B))).astype(np.float32)
    spread = np.exp(rng.normal(0, data.draw(st.sampled_from([0, 1, 6])), (2, O, I)))
    normal = 0.1 * rng.standard_normal((2, O, I)) * spread * (rng.random((2, O, I)) < 0.9)
    kept = [normal[0].astype(np.float32), (normal[1] ** 2).astype(np.float32)][: MOMENTS[optimizer]]
    none = np.zeros(0, np.float32)
    return {
        "inputs": make_inputs(rng, kind, B, I),
        "samples": B,
        "source": Given(dz, 0, none),
        "W": W,
        "rect": (0, O, 0, I),
        "moments": kept,
        "weights": stored(W, FORMS[kind]),
        "bias": np.zeros(O, np.float32),
        "bias_moments": [np.zeros(O, np.float32)] * MOMENTS[optimizer],
        "optimizer": optimizer,
        "t": t,
        "lr": data.draw(st.sampled_from([1e-4, 0.01])),
        "decay": data.draw(st.sampled_from([0.0, 0.01])),
        "limit": 1.0,
        "straight": data.draw(st.booleans()),
        "threads": data.draw(st.integers(1, 4)),
        "still": data.draw(st.sampled_from([(0, 0, 0, 0), (0, O, 0, I), (O // 3, O, I // 3, I // 2 + 1)])),
    }


def write(name, number, values, words):
    """A moment as it is held: codes, and units if it has them."""
    bits = moments.halves(words, number == 1)
    if name == "bfloat16":
        return moments.write_bfloat16(values, bits), None
    return moments.write_int8(values, bits, number == 1)


def read(name, number, codes, units):
    if name == "bfloat16":
        return moments.read_bfloat16(codes)
    return moments.read_int8(codes, units, number == 1)


def coded(data, given, name):
    """The same update with moments as codes, of columns ``low`` to ``high``, and what they stand for; its draws."""
    (O, I), seed, index = given["W"].shape, data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 2**60))
    low = data.draw(st.integers(0, I - 1))
    high, layer = data.draw(st.integers(low + 1, I)), data.draw(st.integers(0, 99))
    stride = 8 * -(-(high - low) // 32) + data.draw(st.sampled_from([0, 8]))
    draws = Draws(*map(np.uint64, (seed, layer, random_kernels.MOMENT, index, stride)))
    words = moments.words(O, high - low, first=index, stride=stride, seed=seed, layer=layer)
    part, rng = (slice(None), slice(low, high)), np.random.default_rng(data.draw(seeds))
    held, units, numbers = [], [], []
    for number, values in enumerate(given["moments"]):
        codes, exponents = write(name, number, values[part], rng.integers(0, 2**32, words.shape).astype(np.uint32))
        whole, plain = (np.zeros((O, I), kind) for kind in (codes.dtype, np.float32))
        whole[part], plain[part] = codes, read(name, number, codes, exponents)
        held, numbers, units = held + [whole], numbers + [plain], units + [exponents]
    given |= {"rect": (0, O, low, high), "draws": draws, "moments": held}
    given["units"] = units if name == "int8" else []
    return part, words, numbers


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("kind", FORMS)
@few
@given(st.data())
def test_an_update_equals_that_of_float32_with_its_moments_read_and_written(kind, name, data):
    """To the bit: weights, biases, what is published, and the moments once they are rounded."""
    given = make_update(data, kind, name)
    part, words, numbers = coded(data, given, name)
    done = run_update(**given)
    plain = run_update(**{**given, "moments": numbers, "units": ()})
    for what in ("W", "bias", "weights", "abs_w"):
        assert same_bits(getattr(done, what), getattr(plain, what))
    assert all(same_bits(*pair) for pair in zip(done.bias_moments, plain.bias_moments))
    for number, (ours, theirs) in enumerate(zip(done.moments, plain.moments)):
        codes, units = write(name, number, theirs[part], words)
        np.testing.assert_array_equal(ours[part], codes)
        if name == "int8":
            np.testing.assert_array_equal(done.units[number], units)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("kind", FORMS)
@few
@given(st.data())
def test_an_update_gives_the_same_bits_however_it_is_cut(kind, name, data):
    """Into rows, in any order, on any number of threads; with bytes and floats from the sums of micro-batches, too."""
    given = make_update(data, kind, name)
    coded(data, given, name)
    O, (_, _, low, high) = len(given["W"]), given["rect"]
    whole = run_update(**given)
    if kind != "bits":
        cuts = sorted({0, data.draw(st.integers(0, given["samples"])), given["samples"]})
        done = run_update_in_parts(given, cuts)
        assert all(same_bits(*pair) for pair in zip(done.resident, whole.resident))
    between = data.draw(st.lists(st.integers(1, O - 1), max_size=3, unique=True)) if O > 1 else []
    rows, total = [0, *sorted(between), O], 0
    for first, last in data.draw(st.permutations(list(zip(rows, rows[1:])))):
        given |= {"rect": (first, last, low, high), "threads": data.draw(st.integers(1, 4))}
        given |= {"neurons": data.draw(st.sampled_from([1, 5]))}
        done = run_update(**given)
        given |= {what: getattr(done, what) for what in ("W", "moments", "units", "weights", "bias", "bias_moments")}
        total += done.abs_w.sum()
    assert total == whole.abs_w.sum()
    for what in ("W", "bias", "weights"):
        assert same_bits(given[what], getattr(whole, what))
    for what in ("moments", "units", "bias_moments"):
        assert all(same_bits(*pair) for pair in zip(given[what], getattr(whole, what)))


@pytest.mark.parametrize("name", CODED)
@few
@given(st.data())
def test_moments_are_multiplied_as_they_are_written(name, data):
    given = make_update(data, "real", name)
    given["moments"] = given["moments"][:1]
    part, words, numbers = coded(data, given, name)
    factor = np.float32(data.draw(st.sampled_from([10.0, 0.1, 2.0, 1.7])))
    arguments = resident(given["W"], given["moments"], given["units"], part)
    done = run(
        update.multiply_moments,
        "resident.moment1 resident.unit1 resident.weight",
        part=Slice(*given["rect"]),
        resident=arguments,
        draws=given["draws"],
        factor=factor,
    )
    codes, units = write(name, 0, numbers[0][part] * factor, words)
    np.testing.assert_array_equal(done.resident.moment1, codes.ravel())
    np.testing.assert_array_equal(done.resident.unit1, [] if units is None else units.ravel())
    assert same_bits(done.resident.weight, arguments.weight)
    if factor == 2:  # a power of two, which needs no rounding
        np.testing.assert_array_equal(read(name, 0, codes, units), 2 * numbers[0][part])


@pytest.mark.parametrize("name", CODED)
def test_a_moment_that_is_no_finite_number_is_told(name):
    W, none = np.zeros((1, 40), np.float32), np.zeros(0, np.float32)
    inputs = make_inputs(np.random.default_rng(0), "real", 1, 40)
    codes = np.zeros((1, 40), FORMATS[name].dtype)
    for size, sound in ((1.0, True), (1e30, False), (np.nan, False)):
        done = run_update(
            inputs,
            1,
            Given(np.full((1, 1), size, np.float32), 0, none),
            W,
            (0, 1, 0, 40),
            [codes, codes],
            stored(W, "floats"),
            np.zeros(1, np.float32),
            [np.zeros(1, np.float32)] * 2,
            "adam",
            units=[np.zeros((1, 2), np.uint8)] * 2 if name == "int8" else (),
        )
        assert (done.abs_w.min() >= 0) == sound
