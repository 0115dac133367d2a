"""Locally connected layers: kernels against the reference; training against itself in any budget, on any threads."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from golden_local import run_kernels, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import arenas, least, made, metrics, outcome, recipe, run, until_done

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import model
from tinyfoa_np.reports import audit as report
from tinyfoa_np.rules.fit import Layout

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

NAMES = ("gW", "gb", "loss", "W", "b", "bn_weight", "bn_bias", "bn_mean", "bn_var")


# Kernels and reference


def trajectory(draw):
    """A layer on real numbers and one on bits, of an awkward shape, as a golden file would have them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    R, C, B, I, classes, steps = (
        *(draw(st.integers(1, 5)) for _ in range(2)),
        *(draw(st.integers(1, most)) for most in (20, 4, 7, 3)),
    )
    outputs, depthwise, toggles = draw(st.integers(1, 20)), draw(st.booleans()), [draw(st.booleans()) for _ in range(2)]
    side = draw(st.integers(1, min(3, outputs)))
    vertical = draw(st.sampled_from(["none", "slice", "frozen"])) if side > 1 else "none"
    meta = {
        "M": side,
        "vertical": vertical,
        "lr": 0.05,
        "binary_weights": toggles[0],
        "binary_activations": toggles[1],
    }
    x = rng.normal(size=(steps, B, I, R, C)).astype(np.float32)
    below = draw(st.integers(1, 70))
    handed = rng.normal(size=(steps, B, below, R, C)).astype(np.float32)
    if toggles[1]:
        handed = np.where(handed > 0, np.float32(0.7), np.float32(0))
    arrays = {"x": x, "h0_end_eval": handed, "y": rng.integers(0, classes, (steps, B))}
    for k, inputs in enumerate((I, below)):
        shape = outputs, 1 if depthwise else inputs, R, C, 9
        arrays[f"W{k}"] = rng.normal(size=shape).clip(-1, 1).astype(np.float32)
        arrays[f"b{k}"] = rng.normal(size=(outputs, R, C)).clip(-1, 1).astype(np.float32)
        arrays[f"B{k}"] = rng.normal(size=(classes, outputs * R * C)).astype(np.float32) / np.float32(4)
        arrays[f"Bb{k}"] = rng.normal(size=classes).astype(np.float32)
    return SimpleNamespace(meta=meta, arrays=arrays, layers=2, optimizer="sgd")


@settings(max_examples=15)
@given(st.data())
def test_a_layer_trains_as_the_reference_does(data):
    golden = trajectory(data.draw)
    tiling = {name: data.draw(st.booleans()) for name in ("stream_weights", "stream_slice", "keep_products")}
    ours, theirs = run_kernels(golden, {**tiling, "rows": data.draw(st.integers(1, 9))}), run_reference(golden)
    assert set(ours) == set(theirs)
    for key, array in theirs.items():
        worst = np.abs(ours[key].astype(np.float64) - array).max()
        assert ours[key].shape == array.shape and worst <= 1e-3 * max(0.1, np.abs(array).max()), (key, worst)


# Training


def images(kind="bytes", shape=(1, 5, 6), samples=40, tests=9, classes=3):
    return replace(made(kind, samples, tests, prod(shape), classes), image=shape)


def local(network="lc:11,9", **options):
    return recipe(network=network, lr=0.01, batch=16, **options)


CASES = [
    {},
    {"schedule": "stream"},
    {"schedule": "frozen"},
    {"slices": 3, "hold": "1"},
    {"slices": 3, "visits": 2},
    {"lc_connect": "depthwise"},
    {"moments": "int8"},
    {"optimizer": "momentum", "moments": "bfloat16"},
    {"optimizer": "sgd"},
    {"binary_weights": False},
    {"binary_activations": False, "schedule": "stream"},
    {"binary_weights": False, "binary_activations": False, "lc_connect": "depthwise"},
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: "-".join(map(str, options.values())) or "default")
def test_every_byte_is_accounted_for_and_no_choice_shows_in_the_model(tmp_path, options):
    """Audited; then with other threads, in the least RAM and in between, and after interruptions: the same model."""
    which, dataset = local(epochs=2, **options), images("real" if options.get("slices") else "bytes", (2, 5, 6))
    audited = run(tmp_path, which, dataset, audit=True, threads=2)
    assert audited["findings"] == []
    smallest = least(tmp_path, which, dataset, threads=1)
    small = run(tmp_path, which, dataset, ram=smallest, threads=1, audit=True)
    between = (smallest + audited["arena"]["planned_bytes"]) // 2
    resumed = until_done(which, dataset, tmp_path / "resumed", [4, 9], ram=between, threads=2, commit_every=2)
    assert small["findings"] == []
    for result, budget in ((small, smallest), (resumed, between)):
        assert metrics(result) == metrics(audited)
        assert result["model_sha256"] == audited["model_sha256"]
        assert result["layer_errors_pct"] == audited["layer_errors_pct"]
        assert all(planned == accounted == watermark <= budget for planned, accounted, watermark in arenas(result))


@settings(max_examples=8)
@given(st.data())
def test_memory_of_any_shape(tmp_path_factory, data):
    """One row, one channel, one sample, fewer samples than a batch, more threads than positions: all audited."""
    draw, where = data.draw, tmp_path_factory.mktemp("any")
    shape = tuple(draw(st.integers(1, most)) for most in (3, 6, 6))
    channels = draw(st.lists(st.integers(1, 70), min_size=1, max_size=2))
    which = recipe(
        network="lc:" + ",".join(map(str, channels)),
        slices=draw(st.integers(1, min(3, *channels))),
        schedule=draw(st.sampled_from(["slice", "stream"])),
        batch=draw(st.integers(1, 40)),
        lc_connect=draw(st.sampled_from(["full", "depthwise"])),
    )
    dataset = images(shape=shape, samples=draw(st.integers(1, 50)), tests=draw(st.integers(1, 50)))
    audited = run(where, which, dataset, threads=draw(st.integers(1, 5)), audit=True)
    plain = run(where, which, dataset, ram=least(where, which, dataset, threads=1), threads=1)
    assert audited["findings"] == [] and plain["model_sha256"] == audited["model_sha256"]
    for result in (plain, audited):
        assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(result))


@pytest.mark.parametrize(
    "options", [{"hold": "2"}, {"schedule": "stream"}, {"visits": 3, "hold": "1"}, {"moments": "int8"}], ids=str
)
def test_what_a_layout_moves_is_what_training_moves(tmp_path, options):
    """Bytes read and written by the steps of 8 epochs more: predicted, and counted."""
    dataset, which = images(shape=(1, 6, 6), samples=40, tests=20), recipe(network="lc:12,8", slices=4, batch=20)
    few, many = (replace(which, epochs=epochs, **options).validated() for epochs in (4, 12))
    layout = Layout(many, dataset, threads=1)
    for ram in (None, layout.least()):
        moved, predicted = np.zeros(2), np.zeros(2)
        for sign, which in ((-1, few), (1, many)):
            counted = run(tmp_path, which, dataset, ram=ram, threads=1)["flash"]
            moved += sign * np.array([counted["read_bytes"], counted["written_bytes"]])
            for one in Layout(which, dataset, threads=1).fit(ram):
                predicted += sign * 2 * which.epochs * np.array(one.stage.traffic())
                published = one.stage.parameters.published_bytes if one.tiling.stream_weights else 0
                predicted[0] += sign * which.epochs * (20 * (one.stage.inputs.row_bytes + 2) + 4 + published)  # tests
        np.testing.assert_allclose(moved, predicted, rtol=0.02)


def test_the_grid_of_stream_does_not_show(tmp_path):
    digests = {run(tmp_path, local(schedule="stream", slices=side), images())["model_sha256"] for side in (1, 2, 3)}
    assert len(digests) == 1


@pytest.mark.parametrize("options", [{}, {"binary_activations": False}, {"lc_connect": "depthwise"}])
def test_a_model_answers_as_training_did(tmp_path, options):
    which, dataset = local(epochs=2, slices=2, **options), images(samples=80, tests=40)
    result = run(tmp_path, which, dataset)
    trained = model.load(Path(result["run_dir"]) / "model.safetensors")
    wrong = trained.predict(dataset.test.inputs) != dataset.test.labels
    assert 100 * wrong.mean() == pytest.approx(result["error_pct"])
    alone = np.concatenate([trained.logits(sample[None]) for sample in dataset.test.inputs])
    assert (alone == trained.logits(dataset.test.inputs)).all()  # an answer depends on its own sample alone


def test_made_images_are_learnt(tmp_path):
    which = recipe(network="lc:16,16", epochs=8, lr=0.01)
    assert run(tmp_path, which, images(samples=300, tests=60))["error_pct"] < 20


@pytest.mark.parametrize("connect", ["full", "depthwise"])
@pytest.mark.parametrize("network", ["lc:8,12", "lc:12,4", "lc:5"])
def test_the_report_adds_up(tmp_path, connect, network):
    which, dataset = local(network, slices=2, lc_connect=connect), images(shape=(2, 5, 6))
    directory = run(tmp_path, which, dataset)["run_dir"]
    found = report.audit(directory)
    assert found["ok"], found["problems"]
    for step in found["paper"].values():
        assert step["paper_bytes"] + sum(row["difference_bytes"] for row in step["rows"]) == step["planned_bytes"]
        assert any("the paper counts one" in row["what"] for row in step["rows"]) == (connect == "full")
    record = json.loads((Path(directory) / "audit.json").read_text())
    assert record["image"] == [2, 5, 6]


# What is refused


@pytest.mark.parametrize(
    "which, dataset, says",
    [
        (local(), made(), "not images"),
        (local("lc:2,2", slices=3), images(), "at most 2"),
    ],
)
def test_recipes_that_do_not_go_with_the_data(tmp_path, which, dataset, says):
    assert outcome(run, tmp_path, which, dataset)[0] is BadRequest
    assert says in outcome(run, tmp_path, which, dataset)[1]


@pytest.mark.parametrize(
    "options, says",
    [
        ({"algorithm": "drtp"}, "does not train locally connected"),
        ({"recompute": True}, "recompute does not apply"),
        ({"order": "diagonal"}, "order diagonal does not apply"),
        ({"slices": 3, "visits": 4}, "3 groups of output channels are fewer"),
        ({"lc_connect": "half"}, "must be one of full, depthwise"),
        ({"network": "fc:5", "lc_connect": "full"}, "applies to locally connected networks only"),
    ],
)
def test_recipes_that_have_no_meaning(options, says):
    kind, message = outcome(recipe(**{"network": "lc:4,4", **options}).validated)
    assert kind is BadRequest and says in message


def test_what_is_not_said_is_as_published():
    which = recipe(network="lc:4,4", slices=4).validated()
    assert (which.lc_connect, which.normalize, which.order, which.hold) == ("full", "unit", "rows", "1epoch")
    assert recipe(network="fc:4").validated().lc_connect is None
