"""Bop's kernels against its plain NumPy twin, on awkward shapes; threads do not show in any bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_tools import Blank, make_inputs, run, same_bits

from tinyfoa_np.kernels import bop
from tinyfoa_np.kernels import dense_gradient as gradients
from tinyfoa_np.kernels import random as random_kernels
from tinyfoa_np.kernels.operands import Biases, Given, Inputs, Published, Scratch, Step
from tinyfoa_np.kernels.optimizers import NUMBERS
from tinyfoa_np.reference import bits
from tinyfoa_np.reference.optimizers import Bop

few = settings(deadline=None, max_examples=12)
GAMMA, TAU = np.float32(0.25), np.float32(0.1)


def made(kind, B, O, I, seed):
    """Errors, inputs as the gradient takes them, signs, moments, and a slice that begins inside a panel and a word."""
    rng = np.random.default_rng(seed)
    inputs = make_inputs(rng, kind, B, I)
    first, low = int(rng.integers(0, O)), int(rng.integers(0, I))
    part = first, int(rng.integers(first + 1, O + 1)), low, int(rng.integers(low + 1, I + 1))
    dz = (rng.standard_normal((O, B)) * (rng.random((O, B)) < 0.7)).astype(np.float32)
    signs = np.where(rng.random((O, I)) < 0.5, np.float32(1), np.float32(-1))
    return rng, inputs, part, dz, signs


@pytest.mark.parametrize("kind", ["bits", "bytes", "real"])
@few
@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 140), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_step(kind, B, O, I, threads, seed):
    rng, inputs, (first, last, low, high), dz, signs = made(kind, B, O, I, seed)
    rows, width, operand = last - first, high - low, inputs.operand
    origin = 0
    if kind == "bits":
        operand = np.zeros(gradients.turned_shape(B, width), np.uint32)
        gradients.turn(inputs.operand, B, low, high, operand)
        origin = low
    gain = inputs.gain if kind == "bits" else np.float32(1)
    moment = rng.standard_normal((rows, width)).astype(np.float32) * np.float32(0.2)
    biases = Biases(rng.standard_normal(O).astype(np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    step = Step(NUMBERS["sgd"], np.float32(0.5), np.float32(1), np.float32(0), np.float32(np.inf))
    lists = gradients.table_width(B) if kind == "bits" else gradients.list_width(B, 1)
    scale, runs = inputs.scale * gain, gradients.run_width(width, kind == "bits")
    arrays = {"gradient": Blank((threads, runs), "float32"), "dz": Blank((threads, lists), "float32")}
    arrays["listed"] = Blank((threads, 0 if kind == "bits" else lists), "int32")

    def on(number):
        own = {name: Blank((number, *blank.shape[1:]), blank.dtype) for name, blank in arrays.items()}
        return run(
            bop.update,
            "moment published.weights biases.bias lost scratch.gradient scratch.dz scratch.listed",
            inputs=Inputs(operand, scale, inputs.offset, origin),
            samples=B,
            source=Given(dz, 0, np.zeros(0, np.float32)),
            part=(first, last, low, high),
            moment=moment.ravel(),
            published=Published(bits.pack_panels(signs), 0),
            biases=biases,
            bias_step=step,
            train_bias=True,
            gamma=GAMMA,
            tau=TAU,
            scratch=Scratch(*own.values(), np.zeros((0, 0), np.uint32)),
            lost=np.zeros(number, np.int64),
        )

    done, alone = on(threads), on(1)
    assert same_bits(done.moment, alone.moment) and same_bits(done.published.weights, alone.published.weights)
    assert not done.lost.any()
    X = inputs.X[:, low:high]
    twin, W = Bop(GAMMA, TAU), signs.copy()
    twin.m = moment.astype(np.float64)
    slopes = dz[first:last].astype(np.float64) @ X
    W[first:last, low:high] = twin.step(W[first:last, low:high].astype(np.float64), slopes)
    size = np.abs(dz[first:last]).astype(np.float64) @ inputs.size[:, low:high] + 1
    assert (np.abs(done.moment.reshape(rows, width) - twin.m) <= 1e-5 * size).all()
    clear = np.ones((O, I), bool)  # but where the moment is at the threshold, but for rounding
    clear[first:last, low:high] = np.abs(np.abs(twin.m) - TAU) > 1e-5 * size
    ours = np.where(bits.unpack_panels(done.published.weights, O, I), 1, -1)
    assert (ours == W)[clear].all()
    np.testing.assert_allclose(
        done.biases.bias[first:last], biases.bias[first:last] - 0.5 * dz[first:last].sum(axis=1), rtol=1e-4, atol=1e-4
    )


def test_first_signs_are_those_of_the_uniform_weights():
    O, I, seed = 19, 77, np.uint64(5)
    W = np.zeros(O * I, np.float32)
    random_kernels.uniform(W, 0, O, 0, I, I, 3, random_kernels.WEIGHT, seed, np.float32(0.1))
    packed = np.full((3, 2, 8), 7, np.uint64)
    bop.initial_signs(packed, O, I, 3, random_kernels.WEIGHT, seed)
    assert same_bits(packed, bits.pack_panels(W.reshape(O, I)))
    row = np.zeros(40, np.float32)
    bop.unpack(packed, 11, 30, row)
    np.testing.assert_array_equal(row, np.where(W.reshape(O, I)[11, 30:70] >= 0, 1, -1))
