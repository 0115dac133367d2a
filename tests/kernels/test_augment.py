"""Augmentation against its plain twin, and that neither threads nor micro-batches change it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfoa_np.kernels.augment import Augmentation, augment
from tinyfoa_np.reference import augment as reference


def made(dtype, samples, shape, seed):
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 256, (samples, int(np.prod(shape))))
    return values.astype(np.uint8) if dtype == "uint8" else (values / 7 - 11).astype(np.float32)


def kernel(inputs, shape, change, epoch, first, seed, threads=1):
    done, scratch = inputs.copy(), np.zeros((threads, inputs.shape[1]), inputs.dtype)
    augment(done, len(done), shape, change, epoch, first, np.uint64(seed), scratch, threads)
    return done


@settings(max_examples=60)
@given(
    st.sampled_from(["uint8", "float32"]),
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from([0.0, 15.0, 180.0]),
    st.integers(0, 2**40),
    st.integers(0, 3),
    st.integers(0, 2**64 - 1),
)
def test_twin(dtype, shape, flip, rows, columns, zeros, degrees, first, epoch, seed):
    inputs = made(dtype, 5, shape, seed % 1000)
    ours = kernel(inputs, shape, Augmentation(flip, rows, columns, zeros, degrees), epoch, first % 2**31, seed)
    for s, own in enumerate(ours):
        change = reference.drawn(
            epoch, first % 2**31 + s, seed=seed, flip=flip, rows=rows, columns=columns, degrees=degrees
        )
        theirs = reference.changed(inputs[s].reshape(shape), change, zeros=zeros).reshape(-1)
        if degrees == 0.0:
            np.testing.assert_array_equal(own, theirs)
        else:  # the cosines differ in their last bits, which can turn a rounding
            near = 1e-4 + (dtype == "uint8")
            np.testing.assert_allclose(own.astype(np.float64), theirs.astype(np.float64), rtol=1e-5, atol=near)


@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_same_bytes_on_threads_and_in_parts(degrees):
    shape, change = (3, 8, 8), Augmentation(True, 2, 2, True, degrees)
    inputs = made("uint8", 20, shape, 1)
    whole = kernel(inputs, shape, change, 1, 100, 7)
    assert (whole != inputs).any(axis=1).sum() > 15
    np.testing.assert_array_equal(kernel(inputs, shape, change, 1, 100, 7, threads=3), whole)
    parts = [kernel(inputs[k : k + 7], shape, change, 1, 100 + k, 7) for k in (0, 7, 14)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (kernel(inputs, shape, change, 2, 100, 7) != whole).any()


def test_a_mirrored_image_and_a_moved_one():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    mirrored = reference.changed(image, reference.Change(True, 0, 0, 0.0), zeros=True)
    assert mirrored.tolist() == [[[2, 1, 0], [5, 4, 3]]]
    moved = reference.changed(image, reference.Change(False, 1, 1, 0.0), zeros=True)
    assert moved.tolist() == [[[0, 0, 0], [0, 0, 1]]]
    nearest = reference.changed(image, reference.Change(False, 1, 1, 0.0), zeros=False)
    assert nearest.tolist() == [[[0, 0, 1], [0, 0, 1]]]


def test_a_quarter_turn():
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    turned = reference.changed(image, reference.Change(False, 0, 0, 0.25), zeros=False)[0]
    assert turned.tolist() == np.rot90(image[0], -1).tolist() or turned.tolist() == np.rot90(image[0]).tolist()
