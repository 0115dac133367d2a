"""Mono-Forward's convolutions by the compiled kernels, beside the plain NumPy reference."""

import numpy as np
import pytest
from deep_tools import Run

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import monoforward
from tinyfoa_np.storage.flash import Flash

CLASSES, IMAGE, WIDTH, SAMPLES, STEPS = 7, (3, 8, 8), 9, 11, 6
LR, HEAD_LR = 0.01, 0.003


def recipe(**fields):
    own = {"network": "conv:8", "lr": LR, "epochs": 1, "batch": SAMPLES, "options": {"head_lr": HEAD_LR}}
    return Recipe(algorithm="monoforward", **{**own, **fields}).validated()


def drawn(seed, places):
    """Batches, and a layer with its head."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(STEPS, SAMPLES, *IMAGE)).astype(np.float32)
    shapes = ((WIDTH, 3, 3, 3), 27), ((WIDTH,), 27), ((CLASSES, WIDTH * places), WIDTH * places)
    W, b, M = (rng.uniform(-(n**-0.5), n**-0.5, shape).astype(np.float32) for shape, n in shapes)
    return list(zip(X, rng.integers(0, CLASSES, (STEPS, SAMPLES)))), monoforward.Layer(W, b, M)


def laid_out(group, M):
    """A head (C, N), channel by channel, as the kernels have it: (N, C), position by position."""
    rows, columns, channels = group.program.shapes[-1]
    return M.reshape(CLASSES, channels, rows, columns).transpose(2, 3, 1, 0).reshape(-1, CLASSES)


@pytest.mark.parametrize("pooled", [False, True])
def test_kernels_and_reference_agree(pooled, tmp_path, monkeypatch):
    batches, layer = drawn(3, 16 if pooled else 64)
    expected = monoforward.train_map(batches, layer, pooled=pooled, lr=LR, head_lr=HEAD_LR)
    unit = [("plain", 3, WIDTH, 1, 3, 3), *([("maxpool", 2, 2)] if pooled else [])]
    with Flash.create(tmp_path / "flash", "reference") as flash:
        run = Run(recipe(), [unit], IMAGE, CLASSES, STEPS, flash, monkeypatch)
        (group,) = run.stage.layers
        run.put(0, {"0.c.weight": layer.W, "0.c.bias": layer.b})
        run.stage.head_of(group)[0][:] = laid_out(group, layer.M)
        for step, (X, labels) in enumerate(batches):
            outcome = run.step(step, X, labels)
            assert outcome.loss / SAMPLES == pytest.approx(expected.losses[step, 0], rel=1e-5)
            if step == 0:  # Adam's first moment is a tenth of the gradient
                moments = {"weights": 10 * group.ram.moment1}
                slopes, head = run.get(0, moments), moments["weights"][group.program.parameters :]
                first = expected.first[0]
                for ours, theirs in (
                    (slopes["0.c.weight"], first.W),
                    (slopes["0.c.bias"], first.b),
                    (head.reshape(group.extra), laid_out(group, first.M)),
                ):
                    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
        end, trained = run.get(0), expected.layers[0]
        for ours, theirs in (
            (end["0.c.weight"], trained.W),
            (end["0.c.bias"], trained.b),
            (run.stage.head_of(group)[0], laid_out(group, trained.M)),
        ):
            assert np.abs(ours - theirs).max() <= 2e-4 * np.abs(theirs).max()
        X, labels = batches[-1]
        run.load(X, labels)
        run.stage.infer(SAMPLES, "evaluate")
        _, h, G, _ = monoforward.map_gradients(X, trained, labels, pooled=pooled)
        np.testing.assert_allclose(group.output[:SAMPLES], h.transpose(0, 2, 3, 1), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(run.stage.scores(SAMPLES).T, G, rtol=1e-3, atol=1e-3)


def test_gradients_of_the_reference_are_those_of_its_loss():
    """By central differences in float64."""
    batches, layer = drawn(4, 16)
    X, labels = batches[0]
    layer = monoforward.Layer(*(array.astype(np.float64) for array in layer))
    slopes, *_ = monoforward.map_gradients(X.astype(np.float64), layer, labels, pooled=True)
    rng = np.random.default_rng(0)
    for name in monoforward.Layer._fields:
        array, direction = getattr(layer, name), rng.normal(size=getattr(layer, name).shape)
        up, down = (
            monoforward.map_gradients(
                X.astype(np.float64), layer._replace(**{name: array + e * direction}), labels, pooled=True
            )[3]
            for e in (1e-6, -1e-6)
        )
        assert (up - down) / 2e-6 == pytest.approx((getattr(slopes, name) * direction).sum(), rel=1e-5)


def test_a_schedule_runs_once_for_each_layer(tmp_path, monkeypatch):
    """Two layers in six epochs, of two steps each: the rate falls twice, over three epochs."""
    units = [[("plain", 3, 9, 1, 3, 3)], [("plain", 9, 5, 1, 3, 3)]]
    asked = recipe(epochs=6, lr_schedule="exponential:0.5", optimizer="sgd")
    with Flash.create(tmp_path / "flash", "schedule") as flash:
        stage = Run(asked, units, IMAGE, CLASSES, 2, flash, monkeypatch).stage
        rates = []
        for step in range(12):
            stage.t = step + 1
            rates.append(float(stage.move(asked, step).rate))
    with Flash.create(tmp_path / "fewest", "schedule") as flash:
        Run(recipe(epochs=2), units, IMAGE, CLASSES, 2, flash, monkeypatch)  # one each is enough
    halves = [np.float32(LR) * 0.5**epoch for epoch in (0, 2, 4)]
    np.testing.assert_allclose(rates, np.repeat(2 * halves, 2), rtol=1e-6)


@pytest.mark.parametrize(
    "layers, fields, words",
    [
        ([("normed", 3, 4, 1, 3, 3)], {}, "algorithm monoforward trains layers without batch norm"),
        ([("plain", 3, 4, 1, 3, 3)], {"epochs": 1}, "algorithm monoforward trains 2 layers .* --epochs 2"),
    ],
)
def test_what_has_no_meaning_is_refused(layers, fields, words, tmp_path, monkeypatch):
    asked = recipe(**{"epochs": 2, **fields})
    with Flash.create(tmp_path / "flash", "refused") as flash, pytest.raises(BadRequest, match=words):
        Run(asked, [layers, [("plain", 4, 5, 1, 3, 3)]], IMAGE, CLASSES, 1, flash, monkeypatch)
