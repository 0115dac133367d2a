"""The reference of the systems TinyFoA is compared with, where no golden file says what is right."""

import numpy as np
import pytest

from tinyfoa_np.reference import bp, drtp, ff, pepita
from tinyfoa_np.reference.dense import Layer, linear
from tinyfoa_np.reference.optimizers import Momentum, Velocity

B, I, O, C, STEPS = 6, 11, 9, 3, 5


def network(seed=0):
    """Two hidden layers and an output, and a batch for each step."""
    rng = np.random.default_rng(seed)
    shapes = [(O, I), (O, O), (C, O)]
    layers = [Layer(*(rng.uniform(-0.5, 0.5, s).astype(np.float32) for s in (shape, shape[:1]))) for shape in shapes]
    X = rng.standard_normal((STEPS, B, I)).astype(np.float32)
    return layers, list(zip(X, rng.integers(C, size=(STEPS, B)))), rng


def flat(layers):
    return np.concatenate([part.ravel() for layer in layers for part in layer])


@pytest.mark.parametrize(("schedule", "slices"), [("stream", 3), ("slice", 1)])
def test_bp_that_trains_every_slice_is_bp(schedule, slices):
    layers, batches, _ = network()
    whole = bp.train(batches, layers, lr=0.01)
    cut = bp.train(batches, layers, lr=0.01, schedule=schedule, slices=slices, hold=1)
    np.testing.assert_array_equal(flat(cut.layers), flat(whole.layers))


def test_bp_trains_one_slice_of_hidden_layers_and_all_of_the_last():
    layers, batches, _ = network()
    trained = bp.train(
        batches[:2], layers, schedule="slice", slices=3, hold=1, lr=0.01, binary_activations=False
    ).layers
    for before, after in zip(layers[:2], trained[:2]):
        moved = before.W != after.W
        columns = np.array_split(np.arange(moved.shape[1]), 3)
        assert moved[:3, columns[0]].any() and moved[:3, columns[1]].any()
        assert not moved[3:].any() and not moved[:, columns[2]].any()
        assert np.any(before.b[:3] != after.b[:3]) and np.all(before.b[3:] == after.b[3:])
    assert np.mean(layers[2].W != trained[2].W) > 0.5


def test_equal_terms_cancel_exactly():
    X = np.float32([[0.1, 0, 0.1, 0.1, 0.1, 0.1, 0.1]]) * np.float32(1.1)
    W = np.float32([[0.3, 0.2, 0.7, 0.1, -0.1, -0.2, -0.9]])
    assert linear(X, W) == 0


def test_velocity_is_momentum_until_its_step_size_changes():
    w = np.array([1.0, -2.0])
    velocity, momentum, by_velocity, by_momentum = Velocity(0.1), Momentum(0.1), w, w
    for g in (w, 2 * w, -w):
        by_velocity, by_momentum = velocity.step(by_velocity, -g), momentum.step(by_momentum, g)
        np.testing.assert_allclose(by_velocity, by_momentum)
    velocity.lr = momentum.lr = 0.01
    assert np.all(velocity.step(by_velocity, -w) != momentum.step(by_momentum, w))


def test_predictions_do_not_depend_on_neighbours_with_stored_scales():
    layers, batches, rng = network()
    X, _ = batches[0]
    hidden = layers[:2]
    wrong = [(X, labels, (labels + 1) % C) for X, labels in batches]
    weights, dropless = [layer.W for layer in layers], [X for X, _ in batches]
    cases = {
        "bp": (lambda X, scales: bp.predict(X, layers, scales=scales), bp.inference_scales(batches, layers)),
        "drtp": (lambda X, scales: drtp.predict(X, layers, scales=scales), drtp.inference_scales(batches, layers)),
        "ff": (lambda X, scales: ff.predict(X, hidden, C, scales=scales), ff.inference_scales(wrong, hidden, C)),
        "pepita": (
            lambda X, scales: pepita.predict(X, weights, scales=scales),
            pepita.inference_scales(dropless, weights),
        ),
    }
    for name, (predict, scales) in cases.items():
        together = predict(X, scales)
        assert together.shape == (B,) and together.dtype == np.int64
        np.testing.assert_array_equal([predict(X[n : n + 1], scales)[0] for n in range(B)], together, err_msg=name)
