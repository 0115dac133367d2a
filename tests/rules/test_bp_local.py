"""Locally connected networks by backpropagation and by direct feedback alignment: kernels, steps and runs.

Steps are compared with the reference.
"""

import tempfile
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import golden_local
import network_tools
import numpy as np
import pytest
import random_twins
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_tools import Blank, run, same_bits
from network_tools import Network
from train_tools import arenas, least, made, metrics, outcome, recipe, until_done
from train_tools import run as train

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.kernels import local_backward
from tinyfoa_np.kernels import local_pool as pooling
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.model import model
from tinyfoa_np.reference import bits, random
from tinyfoa_np.reference import bp_local as local_bp
from tinyfoa_np.reference import dfa_local as local_dfa
from tinyfoa_np.reference import tinyfoa_local as local
from tinyfoa_np.reference.dense import Layer
from tinyfoa_np.reference.tinyfoa import loss
from tinyfoa_np.reports import audit as report
from tinyfoa_np.rules.bp_local import SIDE
from tinyfoa_np.storage.flash import Flash

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")
few = settings(deadline=None, max_examples=20)
NO_MASK = np.zeros((0, 0), np.uint64)


# The reference


def made_up(rng, channels, image, classes, depthwise=False, kind=np.float64):
    """A network's parameters, W within +-1."""
    layers, (below, R, C) = [], image
    for outputs in channels:
        W = rng.uniform(-0.9, 0.9, (outputs, 1 if depthwise else below, R, C, 9))
        layer = local.initial(W.astype(kind), rng.uniform(-1, 1, (outputs, R, C)).astype(kind))
        layers.append(
            layer._replace(
                gamma=rng.uniform(0.5, 1, outputs).astype(kind), beta=rng.uniform(-0.5, 0.5, outputs).astype(kind)
            )
        )
        below = outputs
    features = SIDE * SIDE * below
    W, b = rng.uniform(-1, 1, (classes, features)) / np.sqrt(features), rng.uniform(-0.1, 0.1, classes)
    return local_bp.Network(layers, Layer(W.astype(kind), b.astype(kind)))


def parts(network):
    """Names and arrays of all that trains."""
    trained = {f"{n}{k}": getattr(layer, n) for k, layer in enumerate(network.layers) for n in local.Layer._fields[:4]}
    return {**trained, "W": network.classifier.W, "b": network.classifier.b}


@pytest.mark.parametrize("depthwise", [False, True], ids=["full", "depthwise"])
@pytest.mark.parametrize("image", [(2, 3, 4), (1, 9, 8)], ids=["smaller", "larger"])
def test_the_reference_gradient_is_the_slope_of_the_loss(depthwise, image):
    rng = np.random.default_rng(3)
    network, toggles = made_up(rng, (3, 2, 5), image, 4, depthwise), {"binary_weights": False}
    X, labels = rng.normal(size=(4, *image)), rng.integers(0, 4, 4)
    options = {**toggles, "binary_activations": False, "dropout": (rng.random((4, SIDE * SIDE * 5)) < 0.8) / 0.8}
    slopes = parts(local_bp.gradient(local_bp.forward(X, network, **options)[0], network, labels, **options))
    for name, array in parts(network).items():
        places = rng.permutation(array.size)[:6]
        for place in places:
            at, before = np.unravel_index(place, array.shape), array.flat[place]
            sides = []
            for step in (1e-6, -1e-6):
                array[at] = before + step
                sides.append(loss(local_bp.forward(X, network, **options)[0].logits, labels))
            array[at] = before
            assert slopes[name][at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-8), (name, at)


@pytest.mark.parametrize("size", [1, 3, 6, 7, 8, 13, 28])
def test_bins_cover_a_side_and_are_as_equal_as_can_be(size):
    found = local_bp.bins(size)
    lengths = [part.stop - part.start for part in found]
    assert len(found) == SIDE and set(range(size)) == {k for part in found for k in range(size)[part]}
    assert max(lengths) - min(lengths) <= 1 + (size % SIDE > 0) and found[::-1] == [
        slice(size - part.stop, size - part.start) for part in found
    ]
    assert size % SIDE or lengths == [size // SIDE] * SIDE


# Kernels


@st.composite
def layers_of(draw):
    """Samples, B, O, I, rows, columns, threads and a generator of numbers: a batch of ``samples`` in room for B."""
    B = draw(st.integers(1, 40) | st.sampled_from([1, 16, 17, 100]))
    widths = st.integers(1, 20) | st.sampled_from([1, 8, 63, 64, 65, 130])
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    threads, seed = draw(st.integers(1, min(4, rows * columns))), draw(st.integers(0, 2**32 - 1))
    return draw(st.integers(1, B)), B, draw(widths), draw(widths), rows, columns, threads, np.random.default_rng(seed)


def packed(W):
    """Signs (P, O, F) as panels of eight outputs."""
    P, O, F = W.shape
    panels = np.zeros((P, -(-O // 8) * 8, -(-F // 64)), np.uint64)
    panels[:, :O] = bits.pack((W >= 0).reshape(P * O, F)).reshape(P, O, -1)
    return np.ascontiguousarray(panels.reshape(P, -1, 8, panels.shape[-1]).transpose(0, 1, 3, 2))


@pytest.mark.parametrize("signs", [True, False], ids=["signs", "floats"])
@pytest.mark.parametrize("depthwise", [False, True], ids=["full", "depthwise"])
@few
@given(layers_of())
def test_errors_go_down_as_in_the_reference(signs, depthwise, shape):
    samples, B, O, I, rows, columns, threads, rng = shape
    P, F = rows * columns, 9 if depthwise else 9 * I
    W, du = rng.uniform(-1, 1, (P, O, F)).astype(np.float32), rng.standard_normal((P, O, B)).astype(np.float32)
    gain = np.float32(np.abs(W.astype(np.float64)).mean() if signs else 1)
    weights, outs = packed(W) if signs else W, []
    for number in (threads, 1):
        scratch, kind = local_backward.scratch_shape(weights.dtype, O, depthwise, number)
        done = run(
            local_backward.backward,
            "scratch out",
            du=du,
            samples=samples,
            rows=rows,
            columns=columns,
            depthwise=depthwise,
            weights=weights,
            gain=gain,
            scratch=Blank(scratch, kind),
            out=Blank((P, I, B), "float32"),
        )
        assert done.written["scratch"].all()  # an audit looks for it
        assert done.written["out"][..., :samples].all() and not done.written["out"][..., samples:].any()
        outs.append(done.out[..., :samples].copy())
    assert same_bits(*outs)
    by_channel = W.reshape(rows, columns, O, 9, F // 9).transpose(2, 4, 0, 1, 3).astype(np.float64)
    errors = du[..., :samples].transpose(2, 1, 0).reshape(samples, O, rows, columns).astype(np.float64)
    theirs = local_bp.below(errors, by_channel, I, binary_weights=signs)
    ours = outs[0].transpose(2, 1, 0).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * (1 + 9 * O) ** 0.5 * (1 + np.abs(theirs).max()))


@st.composite
def images_of(draw):
    """Samples, B, O, rows, columns, threads and a generator of numbers."""
    B = draw(st.integers(1, 9))
    sides = st.integers(1, 16)
    seed = draw(st.integers(0, 2**32 - 1))
    return (
        draw(st.integers(1, B)),
        B,
        draw(st.integers(1, 70)),
        draw(sides),
        draw(sides),
        draw(st.integers(1, 3)),
        np.random.default_rng(seed),
    )


@pytest.mark.parametrize("binary", [True, False], ids=["bits", "values"])
@few
@given(images_of(), st.booleans())
def test_pooling_and_dropout(binary, shape, dropping):
    samples, B, O, rows, columns, threads, rng = shape
    h = rng.standard_normal((B, rows, columns, O)).astype(np.float32)
    held = bits.pack((h > 0).reshape(B, -1)) if binary else h.reshape(B, -1)
    seen = ((h > 0) if binary else h).astype(np.float64)[:samples].transpose(0, 3, 1, 2)
    kept, gain = rng.random((B, SIDE * SIDE * O)) < 0.8, np.float32(rng.uniform(0.1, 2))
    mask, factor = bits.pack(kept) if dropping else NO_MASK, kept[:samples] if dropping else 1
    arguments = {"samples": samples, "rows": rows, "columns": columns, "side": SIDE}
    done, alone = (
        run(
            pooling.pool,
            "out",
            values=held,
            channels=O,
            gain=gain,
            mask=mask,
            threads=number,
            out=Blank(kept.shape, "float32"),
            **arguments,
        )
        for number in (threads, 1)
    )
    assert same_bits(done.out[:samples], alone.out[:samples]) and not done.written["out"][samples:].any()
    np.testing.assert_allclose(done.out[:samples], gain * local_bp.pool(seen) * factor, rtol=1e-4, atol=1e-5)

    errors = rng.standard_normal((kept.shape[1], B)).astype(np.float32)
    dropped = run(pooling.drop_errors, "errors", errors=errors, samples=samples, mask=mask, gain=gain).errors
    own = errors.T[:samples].astype(np.float64) * gain * factor
    np.testing.assert_allclose(dropped.T[:samples], own, rtol=1e-6)
    assert same_bits(dropped[:, samples:].copy(), errors[:, samples:].copy())
    done, alone = (
        run(
            pooling.pool_gradient,
            "out",
            errors=errors,
            threads=number,
            out=Blank((rows * columns, O, B), "float32"),
            **arguments,
        )
        for number in (threads, 1)
    )
    assert same_bits(done.out[..., :samples].copy(), alone.out[..., :samples].copy())
    assert not done.written["out"][..., samples:].any()
    theirs = local_bp.pool_gradient(errors.T[:samples].astype(np.float64), seen.shape)
    ours = done.out[..., :samples].transpose(2, 1, 0).reshape(seen.shape)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * (1 + np.abs(theirs).max()))


# Steps of training


@st.composite
def cases(draw, algorithm):
    """A recipe, an image, classes, the samples of each step, threads, and how it is cut."""
    channels = draw(st.lists(st.integers(1, 20) | st.sampled_from([8, 64, 65]), min_size=1, max_size=3))
    side = draw(st.integers(1, min(3, *channels)))
    schedule = draw(st.sampled_from(["none", "slice", "frozen"])) if side > 1 and algorithm == "bp" else "none"
    batch = draw(st.integers(3, 20))
    which = recipe(
        network="lc:" + ",".join(map(str, channels)),
        algorithm=algorithm,
        batch=batch,
        shuffle=False,
        epochs=1,
        lr=0.05,
        schedule=schedule,
        slices=None if schedule == "none" else side,
        hold=None if schedule == "none" else "1",
        optimizer=draw(st.sampled_from(["sgd", "momentum"])),
        dropout=draw(st.sampled_from([0.0, 0.2])),
        lc_connect=draw(st.sampled_from(["full", "depthwise"])),
        binary_weights=draw(st.booleans()),
        binary_activations=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32)),
    ).validated()
    image = draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(st.integers(2, 9))
    counts = [*[batch] * draw(st.integers(0, 2)), draw(st.integers(2, batch))]
    cut = {"keep_products": draw(st.booleans()), "neurons": draw(st.sampled_from([1, 3, 256]))}
    return which, image, draw(st.integers(2, 11)), counts, draw(st.integers(1, 3)), cut


def turns(network, X, toggles, **options):
    """Whether rounding would decide something in a pass: a ReLU, a bit, a mask, a weight's sign."""
    done, _ = local_bp.forward(X, network, **toggles, **options)

    def near(values, where):
        return np.any(np.abs(values - where) < 2e-5)

    found = False
    for layer, passed in zip(network.layers, done.passed):
        v = layer.gamma[:, None, None] * passed.normal + layer.beta[:, None, None]
        found |= near(v, 0) or (toggles["binary_activations"] and near(v, 1))
        found |= toggles["binary_weights"] and (near(layer.W, 0) or near(np.abs(layer.W), 1))
        found |= np.any(passed.deviation < 0.02)  # what is divided by next to nothing
    return found


def projections(which, image, classes, channels):
    """DFA's fixed B_k as the reference has them, (C, O R S)."""
    rows, columns = image[1:]
    found = []
    for k, outputs in enumerate(channels):
        width = outputs * rows * columns
        options = {"seed": which.seed, "layer": k, "purpose": random.PROJECTION}
        ours = random_twins.bounded(width, classes, 1 / np.sqrt(width), **options)
        found.append(ours.reshape(-1, outputs, classes).transpose(2, 1, 0).reshape(classes, width))
    return found


@pytest.mark.parametrize("algorithm", ["bp", "dfa"])
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_steps_are_those_of_the_reference(algorithm, data):
    which, image, classes, counts, threads, cut = data.draw(cases(algorithm))
    rng = np.random.default_rng(which.seed)
    network = made_up(
        rng, tuple(map(int, which.network[3:].split(","))), image, classes, which.lc_connect == "depthwise", np.float32
    )
    batches = [
        (rng.standard_normal((count, *image)).astype(np.float32), rng.integers(0, classes, count)) for count in counts
    ]
    toggles = {"binary_weights": which.binary_weights, "binary_activations": which.binary_activations}
    features, keep = network.classifier.W.shape[1], 1 - which.dropout
    options = (
        [
            random_twins.dropout_bits(
                count, features, round(65536 * keep), step=step, layer=len(network.layers), seed=which.seed
            ).astype(np.float32)
            / np.float32(keep)
            for step, count in enumerate(counts)
        ]
        if which.dropout
        else [1.0] * len(counts)
    )
    channels = [len(layer.W) for layer in network.layers]
    train = local_bp.train
    if algorithm == "dfa":
        train = partial(local_dfa.train, feedback=projections(which, image, classes, channels))
    rules = {"schedule": which.schedule, "slices": which.slices, "hold": 1, "optimizer": which.optimizer, "lr": 0.05}
    double = local_bp.Network(
        [local.Layer(*(part.astype(np.float64) for part in layer)) for layer in network.layers],
        Layer(*(part.astype(np.float64) for part in network.classifier)),
    )
    for step, (X, _) in enumerate(batches):
        now = train(batches[:step], double, dropout=options, **rules, **toggles).network if step else double
        assume(not turns(now, X, toggles, dropout=options[step]))
    theirs = train(batches, double, dropout=options, **rules, **toggles)
    assume(not any(turns(theirs.network, X, toggles, trained=True) for X, _ in batches))
    scales = local_bp.inference_scales(batches, theirs.network, **toggles)

    with tempfile.TemporaryDirectory() as folder, Flash.create(Path(folder) / "flash", "steps") as flash:
        own = Encoding("real", prod(image), image=image)
        ours = Network(which, own, classes, len(counts), flash, threads, **cut)
        stage = ours.stage
        ours.arena.enter("initialize")
        for layer, given_ in zip(stage.local, network.layers):
            layer.initialize(flash, *golden_local.given(layer, *given_[:4]))
        stage.layers[-1].initialize(flash, *network_tools.given(*network.classifier))
        stage.restore(flash)
        losses = [
            ours.step(step, X.reshape(len(X), -1), labels).loss / len(X) for step, (X, labels) in enumerate(batches)
        ]
        np.testing.assert_allclose(losses, theirs.losses, rtol=1e-4)
        ours.arena.enter("load")
        for layer, expected in zip(stage.local, theirs.network.layers):
            for name, array in zip(
                ("W", "b", "gamma", "beta", "mean", "variance"), golden_local.parameters(flash, layer)
            ):
                wanted = getattr(expected, name)
                worst = np.abs(array - wanted).max()
                assert worst <= 1e-3 * max(0.1, np.abs(wanted).max()), (layer.number, name, worst)
        for array, wanted in zip(
            (network_tools.weights(flash, stage.layers[-1]), stage.layers[-1].ram.bias), theirs.network.classifier
        ):
            np.testing.assert_allclose(array, wanted, atol=1e-4)
        stage.begin_hand_over(flash)
        for X, labels in batches:
            ours.load(X.reshape(len(X), -1), labels)
            stage.hand_over(flash, whole(len(X)), True)
            wanted = local_bp.forward(X, theirs.network, **toggles, trained=True)[0].logits
            np.testing.assert_allclose(stage.ram.logits[:, : len(X)].T, wanted, atol=1e-3 * (1 + np.abs(wanted).max()))
        stage.settle(sum(counts))
        expected = scales if which.binary_activations else [1.0] * len(network.layers)
        np.testing.assert_allclose(stage.scales, expected, rtol=1e-3)


# Runs


def images(kind="bytes", shape=(2, 5, 6), samples=40, tests=9, classes=3):
    return replace(made(kind, samples, tests, prod(shape), classes), image=shape)


def backprop(network="lc:11,9", **options):
    return recipe(**{"network": network, "algorithm": "bp", "lr": 0.01, "batch": 16, **options})


CASES = [
    {},
    {"schedule": "frozen"},
    {"schedule": "slice", "slices": 3, "hold": "1"},
    {"lc_connect": "depthwise"},
    {"binary_weights": False},
    {"binary_activations": False, "dropout": 0.0, "moments": "int8"},
    {"binary_weights": False, "binary_activations": False, "lc_connect": "depthwise", "schedule": "frozen"},
    {"algorithm": "dfa"},
    {"algorithm": "dfa", "binary_weights": False, "lc_connect": "depthwise", "dropout": 0.0},
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: "-".join(map(str, options.values())) or "default")
def test_every_byte_is_accounted_for_and_no_choice_shows_in_the_model(tmp_path, options):
    """Audited; then on another number of threads in the least RAM, and after interruptions: the same model."""
    which, dataset = backprop(epochs=2, **options), images("real" if options.get("slices") else "bytes")
    audited = train(tmp_path, which, dataset, audit=True, threads=2)
    assert audited["findings"] == []
    smallest = least(tmp_path, which, dataset, threads=1)
    small = train(tmp_path, which, dataset, ram=smallest, threads=1, audit=True)
    resumed = until_done(which, dataset, tmp_path / "resumed", [4, 9], threads=3, commit_every=2)
    assert small["findings"] == []
    assert smallest <= audited["arena"]["planned_bytes"]
    for result in (small, resumed):
        assert metrics(result) == metrics(audited)
        assert result["model_sha256"] == audited["model_sha256"]
        assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(result))


@settings(max_examples=5)
@given(st.data())
def test_memory_of_any_shape(tmp_path_factory, data):
    """One row, one channel, one sample, fewer samples than a batch, more threads than positions: all audited."""
    draw, where = data.draw, tmp_path_factory.mktemp("any")
    shape = tuple(draw(st.integers(1, most)) for most in (3, 6, 6))
    channels = draw(st.lists(st.integers(1, 70), min_size=1, max_size=2))
    which = recipe(
        network="lc:" + ",".join(map(str, channels)),
        algorithm="bp",
        batch=draw(st.integers(1, 40)),
        lc_connect=draw(st.sampled_from(["full", "depthwise"])),
        binary_weights=draw(st.booleans()),
    )
    dataset = images(shape=shape, samples=draw(st.integers(1, 50)), tests=draw(st.integers(1, 50)))
    audited = train(where, which, dataset, threads=draw(st.integers(1, 5)), audit=True)
    plain = train(where, which, dataset, ram=least(where, which, dataset, threads=1), threads=1)
    assert audited["findings"] == [] and plain["model_sha256"] == audited["model_sha256"]


@pytest.mark.parametrize(
    "options", [{}, {"binary_activations": False}, {"lc_connect": "depthwise"}, {"algorithm": "dfa"}]
)
def test_a_model_answers_as_training_did(tmp_path, options):
    which, dataset = backprop(epochs=2, **options), images(shape=(1, 8, 9), samples=80, tests=40)
    result = train(tmp_path, which, dataset)
    trained = model.load(Path(result["run_dir"]) / "model.safetensors")
    wrong = trained.predict(dataset.test.inputs) != dataset.test.labels
    assert 100 * wrong.mean() == pytest.approx(result["error_pct"])
    alone = np.concatenate([trained.logits(sample[None]) for sample in dataset.test.inputs])
    assert (alone == trained.logits(dataset.test.inputs)).all()  # an answer depends on its own sample alone
    assert [layer.inputs.width for layer in trained.layers] == [72, 11 * 72, 49 * 9]


@pytest.mark.parametrize("algorithm", ["bp", "dfa"])
def test_made_images_are_learnt_and_dropout_makes_a_difference(tmp_path, algorithm):
    dataset, digests = images(samples=300, tests=60), set()
    for dropout in (0.0, 0.2):
        result = train(tmp_path, backprop("lc:8,8", algorithm=algorithm, epochs=8, dropout=dropout), dataset)
        assert result["error_pct"] < 20
        digests.add(result["model_sha256"])
    assert len(digests) == 2


@pytest.mark.parametrize("connect", ["full", "depthwise"])
@pytest.mark.parametrize("network", ["lc:8,12", "lc:5"])
def test_the_report_adds_up(tmp_path, connect, network):
    directory = train(tmp_path, backprop(network, schedule="frozen", lc_connect=connect), images())["run_dir"]
    found = report.audit(directory)
    assert found["ok"] and found["whole_network"], found["problems"]
    for step in found["paper"].values():
        assert step["paper_bytes"] + sum(row["difference_bytes"] for row in step["rows"]) == step["planned_bytes"]
        assert any("the paper counts one" in row["what"] for row in step["rows"]) == (connect == "full")
        assert not any(row["what"].startswith("region ") for row in step["rows"])


# What is refused


@pytest.mark.parametrize(
    "which, dataset, says",
    [
        (backprop(), made(), "not images"),
        (backprop("lc:2,2", schedule="frozen", slices=3), images(), "at most 2"),
    ],
)
def test_recipes_that_do_not_go_with_the_data(tmp_path, which, dataset, says):
    assert outcome(train, tmp_path, which, dataset)[0] is BadRequest
    assert says in outcome(train, tmp_path, which, dataset)[1]


@pytest.mark.parametrize(
    "options, says",
    [
        ({"algorithm": "pepita"}, "does not train locally connected networks: choose one of tinyfoa, bp, dfa"),
        ({"algorithm": "tinyfoa", "dropout": 0.2}, "dropout does not apply to algorithm tinyfoa"),
        ({"network": "fc:5", "dropout": 0.2}, "dropout does not apply to algorithm bp, except on locally connected"),
        ({"dropout": 1.0}, "from 0 to below 1"),
        ({"schedule": "stream"}, "has no schedule stream"),
        ({"recompute": True}, "recompute does not apply"),
    ],
)
def test_recipes_that_have_no_meaning(options, says):
    kind, message = outcome(recipe(**{"algorithm": "bp", "network": "lc:4,4", **options}).validated)
    assert kind is BadRequest and says in message


def test_what_is_not_said_is_as_published():
    which = recipe(algorithm="bp", network="lc:4,4").validated()
    assert (which.lc_connect, which.normalize, which.dropout, which.schedule) == ("full", "unit", 0.2, "none")
    assert recipe(algorithm="bp", network="fc:4").validated().dropout is None
