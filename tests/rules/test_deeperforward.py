"""DeeperForward through residual networks: beside its plain NumPy twin, in micro-batches, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from deep_tools import Run
from train_tools import least, made, outcome, run

from tinyfoa_np.architectures import architecture
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import deeperforward as reference
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.rules.shortcuts import input_shapes, layers_of
from tinyfoa_np.storage.flash import Flash

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def images(image, samples=23):
    return replace(made("bytes", inputs=math.prod(image), samples=samples, tests=7), image=image)


def unit(layers, number):
    """A layer as the reference has it: the shortcut behind it, where the kernels have it in front of the next one."""
    behind = layers[number + 1] if number + 1 < len(layers) else layers[number]._replace(shortcut="", keep=0)
    return reference.Unit(
        layers[number].chain[-1][3], False, behind.shortcut or "none", behind.keep > 0, behind.keep == 2
    )


@pytest.mark.parametrize(("image", "classes", "widths"), [((3, 8, 12), 5, (20, 40, 80)), ((1, 4, 4), 2, (16, 32, 64))])
def test_resnet8_beside_the_reference(tmp_path, monkeypatch, image, classes, widths):
    rng, steps, samples = np.random.default_rng(1), 3, 6
    X = rng.standard_normal((steps, samples, *image)).astype(np.float32)
    labels = rng.integers(0, classes, (steps, samples))
    recipe = Recipe(algorithm="deeperforward", network="resnet8", epochs=1, batch=samples).validated()
    network = architecture("resnet8", int(np.prod(image)), image, classes)
    with Flash.create(tmp_path / "flash", "twin") as flash:
        run_ = Run(recipe, network.units, image, classes, steps, flash, monkeypatch)
        layers = run_.stage.layout
        assert [own.chain[0][2] for own in layers] == [widths[0]] * 3 + [widths[1]] * 2 + [widths[2]] * 2
        weights = [run_.get(g)["0.c.weight"] for g in range(7)]
        losses = []
        for step in range(steps):
            assert not run_.step(step, X[step], labels[step]).diverged
            losses.append(list(run_.stage.losses))
        ours = [run_.get(g)["0.c.weight"] for g in range(7)]
        run_.load(X[-1], labels[-1])
        run_.stage.infer(samples, "evaluate")
        scores = run_.stage.scores(samples).T.copy()
    units = [unit(layers, number) for number in range(7)]
    assert [one.shortcut for one in units] == ["none", "none", "concat", "none", "concat", "none", "none"]
    batches = list(zip(X, labels))
    done = reference.train(batches, weights, units, classes, lr=recipe.lr, decay=recipe.decay)
    np.testing.assert_allclose(losses, done.losses, rtol=2e-5)
    for mine, theirs in zip(ours, done.weights):
        off = np.abs(mine - theirs) > 2e-4 * np.abs(theirs).max()
        assert off.mean() < 5e-4  # where a gradient is nearly 0, Adam magnifies its rounding
    total = reference.infer(X[-1], ours, units, classes, 1, 6)
    np.testing.assert_allclose(scores, total, atol=1e-5 * np.abs(total).max())


def test_the_layers_of_resnet17_are_those_published():
    """Behind the stem: none, add, none, concat for each resolution, whose last input is halved."""
    network = architecture("resnet17", 3072, (3, 32, 32), 10)
    layers = layers_of(network, 10)
    widths = [100] * 5 + [200] * 4 + [400] * 4 + [800] * 4
    assert [own.chain for own in layers] == [
        [("plain", below, width, 2 if number in (5, 9, 13) else 1, 3, 3)]
        for number, (below, width) in enumerate(zip([3, *(width for width in widths[1:])], widths))
    ]
    assert [own.shortcut for own in layers] == ["", "", "", "add", "", *["concat", "", "add", ""] * 3]
    assert [own.keep for own in layers] == [0, 1, 0, 1, 0, *[2, 0, 1, 0] * 2, 2, 0, 0, 0]
    assert [shape for *shape, _ in input_shapes(layers, network.shape)][::4] == [[n, n] for n in (32, 32, 16, 8, 4)]


def drawn(rng, classes, shape):
    """Random layers with shortcuts of all kinds, that fit."""
    layers, kept = [], None
    rows, columns, channels = shape
    for number in range(7):
        before, stride = [], int(rng.integers(1, 3)) if rows % 2 == columns % 2 == 0 else 1
        if kept and kept[:2] == (rows, columns):
            how = rng.choice(["add", "concat", ""] if kept[2] == channels else ["concat", ""])
            channels += kept[2] if how == "concat" else 0
            before += [(str(how),)] if how else []
        if number and rng.random() < 0.6:
            before.append(("keep", stride))
            kept = rows // stride, columns // stride, channels
        width = int(classes * rng.integers(1, 4)) if rng.random() < 0.5 or not number else channels
        layers.append([*before, ("plain", channels, width, stride, 3, 3)])
        rows, columns, channels = rows // stride, columns // stride, width
    return layers


@pytest.mark.parametrize("seed", range(4))
def test_random_shortcuts_beside_the_reference(tmp_path, monkeypatch, seed):
    rng, classes, samples = np.random.default_rng(seed), 3, 5
    X = rng.standard_normal((2, samples, 2, 8, 12)).astype(np.float32)
    labels = rng.integers(0, classes, (2, samples))
    recipe = Recipe(algorithm="deeperforward", network="fc:9", epochs=1, batch=samples, lr=1e-3).validated()
    layers = drawn(rng, classes, (8, 12, 2))
    with Flash.create(tmp_path / "flash", "twin") as flash:
        run_ = Run(recipe, layers, (2, 8, 12), classes, 2, flash, monkeypatch)
        weights = [run_.get(g)["0.c.weight"] for g in range(7)]
        losses = []
        for step in range(2):
            assert not run_.step(step, X[step], labels[step]).diverged
            losses.append(list(run_.stage.losses))
        units = [unit(run_.stage.layout, number) for number in range(7)]
    done = reference.train(list(zip(X, labels)), weights, units, classes, lr=recipe.lr, decay=recipe.decay)
    np.testing.assert_allclose(losses, done.losses, rtol=5e-5)


def test_micro_batches_give_the_same_model(tmp_path):
    """Without batch norm, a batch can be divided."""
    dataset = images((3, 8, 8), samples=45)
    which = Recipe("made", "resnet8", "deeperforward", epochs=1, batch=20, dropout=0.25)
    whole = run(tmp_path, which, dataset, threads=2)
    small = run(tmp_path, which, dataset, ram=least(tmp_path, which, dataset, threads=1), threads=1)
    assert small["model_sha256"] == whole["model_sha256"]
    assert small["arena"]["watermark_bytes"] < whole["arena"]["watermark_bytes"]


def test_a_shortcut_that_is_not_halved_takes_no_copy():
    plan = Layout(Recipe("made", "resnet8", "deeperforward").validated(), images((3, 8, 8)), 1).fit(None)[0].plan
    names = {region.name for region in plan.regions}
    assert {name for name in names if name.endswith(".kept")} == {"g3.kept"}  # of layer 3, for layer 5
    kept = next(region for region in plan.regions if region.name == "g0.v1")  # for layer 3
    assert kept.lives("update:2.0") and kept.lives("forward:3.0") and not kept.lives("gradient:3.1")


@pytest.mark.parametrize(
    ("network", "image", "words"),
    [
        ("resnet8", (3, 9, 8), "even number of rows"),
        ("resnet8", (1, 8, 9), "even number of rows"),
        ("dscnn", (1, 12, 12), "or resnet17"),
        ("conv:8", (1, 8, 8), "multiples of 3"),
    ],
)
def test_what_is_refused(network, image, words):
    which = Recipe("made", network, "deeperforward").validated()
    what, message = outcome(lambda: Layout(which, images(image), 1).fit(None))
    assert what is BadRequest and words in message
