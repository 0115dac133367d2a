"""Exported models: other programs give the same answers, and files hold what they say."""

import io
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from export_tools import CASES
from train_tools import made, recipe, run, seen

from tinyfoa_np import catalogue
from tinyfoa_np.data.dataset import Columns
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import export, model
from tinyfoa_np.model.export.answers import answer_of
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

KINDS = [*product(("bytes", "real"), (True, False), (True, False)), ("columns", True, True), ("columns", False, False)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(dataset with 1,000 test samples, model) for the form of the data and both toggles, trained once each."""
    where, known = tmp_path_factory.mktemp("models"), {}

    def get(kind="bytes", binary_weights=True, binary_activations=True):
        key = kind, binary_weights, binary_activations
        if key not in known:
            which = recipe(
                network="fc:133,40",
                epochs=4,
                lr=3e-3,
                schedule="stream",
                binary_weights=binary_weights,
                binary_activations=binary_activations,
            )
            dataset = made("bytes" if kind == "bytes" else "real", samples=400, tests=1000, classes=7)
            if kind == "columns":  # each on a scale of its own, which the model puts on one
                scale = np.geomspace(1e-3, 1e3, dataset.train.inputs.shape[1]).astype(np.float32)
                parts = [replace(s, inputs=s.inputs * scale + 5 * scale) for s in (dataset.train, dataset.test)]
                dataset = replace(dataset, train=parts[0], test=parts[1], columns=Columns.of(parts[0].inputs))
            result = run(where, which, dataset)
            assert result["error_pct"] < 20
            # half of one, half of another: so that answers are no foregone conclusion
            x = dataset.test.inputs
            halves = x // 2 + x[::-1] // 2 if kind == "bytes" else (x + x[::-1]) / 2
            dataset = replace(dataset, test=replace(dataset.test, inputs=halves))
            known[key] = dataset, model.load(Path(result["run_dir"]) / "model.safetensors")
        return known[key]

    return get


# NumPy


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_npz_suffices_for_the_answers(trained, kind, binary_weights, binary_activations):
    """Plain NumPy on what the file holds; where sums of real numbers differ in their order, few answers may."""
    dataset, ours = trained(kind, binary_weights, binary_activations)
    with np.load(io.BytesIO(export.export(ours, "npz")["model.npz"]), allow_pickle=False) as arrays:
        held = dict(arrays)
    assert json.loads(str(held["recipe"])) == json.loads(ours.recipe.to_json())
    h = dataset.test.inputs.astype(np.float64)
    if kind == "bytes":
        h = h * held["input_scale"] + held["input_offset"]
        assert np.allclose(h, seen(dataset, dataset.test), atol=1e-5)
    if kind == "columns":
        h = (h - held["input_shift"]) * held["input_factor"]
        assert np.abs(h).max() < 10
    for number in range(2):
        if binary_weights:
            packed = held[f"layer{number}.signs"]
            assert packed.dtype == np.dtype("<u4")
            spread = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little")
            W = held[f"layer{number}.alpha"] * (2.0 * spread[:, : h.shape[1]] - 1)
        else:
            W = held[f"layer{number}.weights"]
        z = h @ W.T.astype(np.float64) + held[f"layer{number}.bias"]
        h = held[f"layer{number}.scale"] * (z > 0) if binary_activations else np.maximum(z, 0)
    answers = (h @ held["projection"]).argmax(axis=1)
    assert (answers == ours.predict(dataset.test.inputs)).mean() > 0.99


def test_packed_signs_are_those_of_the_panels(trained):
    _, ours = trained()
    for layer in ours.layers:
        ones = bits.unpack_panels(layer.weights, layer.outputs, layer.inputs.width)
        packed = export.signs(layer)
        for o, i in ((0, 0), (layer.outputs - 1, layer.inputs.width - 1), (5, 37)):
            assert packed[o, i // 32] >> (i % 32) & 1 == ones[o, i]
        assert (export.unpacked(packed, layer.inputs.width) == np.where(ones, 1, -1)).all()


@pytest.mark.parametrize("algorithm", ["bp", "drtp", "pepita", "ff"])
def test_npz_holds_the_layers_of_any_model(tmp_path, algorithm):
    result = run(tmp_path, recipe(algorithm=algorithm), made())
    ours = model.load(Path(result["run_dir"]) / "model.safetensors")
    with np.load(io.BytesIO(export.export(ours, "npz")["model.npz"])) as arrays:
        for number, layer in enumerate(ours.layers):
            assert arrays[f"layer{number}.scale"] == layer.scale
            held = export.signs(layer) if layer.weights.dtype == np.uint64 else layer.weights
            name = "signs" if layer.weights.dtype == np.uint64 else "weights"
            assert (arrays[f"layer{number}.{name}"] == held).all() and len(held) == layer.outputs


def test_npz_holds_the_batch_norm_of_locally_connected_layers(tmp_path):
    images = replace(made(inputs=64), image=(1, 8, 8))
    result = run(tmp_path, recipe(network="lc:4,6", epochs=2), images)
    ours = model.load(Path(result["run_dir"]) / "model.safetensors")
    with np.load(io.BytesIO(export.export(ours, "npz")["model.npz"])) as arrays:
        for number, layer in enumerate(ours.layers):
            held = {name: arrays[f"layer{number}.{name}"] for name in ("bias", "gamma", "beta", "mean", "variance")}
            *bias, gamma, beta = layer.bias.reshape(-1, layer.shape.channels)
            mean, variance = layer.running
            wanted = {"bias": bias, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
            assert all(np.array_equal(held[name], wanted[name]) for name in held)
            assert (held["variance"] > 0).all() and not np.array_equal(held["mean"], held["variance"])


@pytest.mark.parametrize("algorithm, network", [("tinyfoa", "lc:4,6"), ("biofo", "conv:6k5,m2,f10")])
def test_npz_holds_all_of_a_fixed_projection(tmp_path, algorithm, network):
    images = replace(made(inputs=64), image=(1, 8, 8))
    result = run(tmp_path, recipe(algorithm=algorithm, network=network, epochs=2, schedule="auto"), images)
    ours = model.load(Path(result["run_dir"]) / "model.safetensors")
    with np.load(io.BytesIO(export.export(ours, "npz")["model.npz"])) as arrays:
        held, bias = arrays["projection"], arrays["projection_bias"]
    last = answer_of(ours).steps[-1]
    scale = np.float32(ours.layers[-1].scale or 1.0)
    weights, wanted = (last.weights.T, last.bias * scale) if algorithm == "tinyfoa" else (last.weights, last.bias)
    assert held.shape == weights.shape and (held == weights).all()
    assert bias.any() and np.allclose(bias, wanted, rtol=1e-6)


# ONNX


def test_every_rule_of_the_catalogue_is_exported():
    tested = {options.get("algorithm", "tinyfoa") for _, _, options in CASES}
    assert all(entry.answers for entry in catalogue._OWN)
    assert tested == {entry.name for entry in catalogue._OWN}


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_onnx_answers(trained, kind, binary_weights, binary_activations):
    """The same but for ties: whole numbers are exact, real sums within rounding."""
    pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra test)")
    dataset, ours = trained(kind, binary_weights, binary_activations)
    content = export.export(ours, "onnx")["model.onnx"]
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    answers, logits = session.run(["class", "logits"], {"samples": dataset.test.inputs})
    assert answers.dtype == np.int64 and logits.shape == (1000, 7)
    wanted = ours.scores(dataset.test.inputs)
    apart = np.abs(logits - wanted).max(axis=1) / np.abs(wanted).max()
    exact = binary_weights and kind == "bytes" and binary_activations
    # elsewhere a z within rounding of 0 may switch a bit on here and not there
    assert (apart < 1e-5).mean() >= (1 if exact or not binary_activations else 0.98)
    best = np.sort(wanted, axis=1)
    tied = best[:, -1] - best[:, -2] < 1e-5 * np.abs(wanted).max()
    differ = answers != ours.predict(dataset.test.inputs)
    assert not differ[~tied & (apart < 1e-5)].any() and differ.mean() <= (0 if exact else 0.01)


def test_onnx_files_pass_the_checker_and_hold_the_recipe(trained):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    _, ours = trained()
    loaded = onnx.load_from_string(export.export(ours, "onnx")["model.onnx"])
    onnx.checker.check_model(loaded, full_check=True)
    [held] = [entry.value for entry in loaded.metadata_props if entry.key == "recipe"]
    assert Recipe.from_json(held) == ours.recipe


def test_without_onnx_there_is_a_message(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BadRequest, match=r"pip install \"\.\[onnx\]\""):
        export.export(trained()[1], "onnx")


def test_a_rule_that_does_not_say_how_it_answers_has_arrays_only(trained, monkeypatch):
    _, ours = trained()
    monkeypatch.setitem(catalogue._known, "tinyfoa", replace(ours.recipe.rule, answers=None))
    assert export.export(ours, "npz")
    for to in ("c-header", "onnx"):
        with pytest.raises(BadRequest, match="tinyfoa does not say how its networks answer: --to npz"):
            export.export(ours, to)


def test_an_unknown_format_is_refused(trained):
    with pytest.raises(BadRequest, match="one of npz, c-header, onnx"):
        export.export(trained()[1], "pdf")
