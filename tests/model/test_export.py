"""Exported models: other programs give the same answers, and files hold what they say."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from train_tools import made, recipe, run, seen

from tinyfoa_np.data.dataset import Columns
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import export, model
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits

pytestmark = [
    pytest.mark.filterwarnings("ignore:only .* slices will train"),  # these runs are short
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]

KINDS = [*product(("bytes", "real"), (True, False), (True, False)), ("columns", True, True), ("columns", False, False)]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "classify.c"
NUMBERS = ("signs", "weights", "bias", "projection", "shift", "factor")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]


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


# C


@pytest.mark.skipif(not COMPILERS, reason="neither gcc nor clang is installed")
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_c_answers_are_the_models(trained, tmp_path, kind, binary_weights, binary_activations, compiler):
    """Bit for bit: the last sample that is answered otherwise, in any of these forms, is one too many."""
    dataset, ours = trained(kind, binary_weights, binary_activations)
    (tmp_path / "model.h").write_bytes(export.export(ours, "c-header"))
    program, level = tmp_path / "classify", "-O2" if kind == "bytes" else "-O3"
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
    subprocess.run([compiler, *strict, level, f"-I{tmp_path}", EXAMPLE, "-o", program, "-lm"], check=True)
    done = subprocess.run([program], input=dataset.test.inputs.tobytes(), capture_output=True, check=True)
    answers = np.array(done.stdout.split(), int)
    assert answers.shape == (1000,) and len(set(answers)) == 7
    assert (answers == ours.predict(dataset.test.inputs)).all()


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_a_header_holds_the_numbers_of_the_model(trained, kind, binary_weights, binary_activations):
    _, ours = trained(kind, binary_weights, binary_activations)
    text = export.export(ours, "c-header").decode("ascii")
    assert max(map(len, text.splitlines())) <= 120

    def numbers(name):
        body = text.split(f" {name}[")[1].split("{")[1].split("}")[0]
        found = body.replace(",", "").split()
        return [int(n, 16) if n.startswith("0x") else np.float32(n.removesuffix("f")) for n in found]

    with np.load(io.BytesIO(export.export(ours, "npz"))) as arrays:
        for number in range(2):
            what = "signs" if binary_weights else "weights"
            assert numbers(f"tinyfoa_{what}{number}") == arrays[f"layer{number}.{what}"].ravel().tolist()
            assert numbers(f"tinyfoa_bias{number}") == arrays[f"layer{number}.bias"].tolist()
        assert numbers("tinyfoa_projection") == arrays["projection"].ravel().tolist()
        nbytes = sum(arrays[n].nbytes for n in arrays if n.endswith(NUMBERS))
    assert f" {nbytes:,} bytes of constants" in text


def test_a_name_cannot_end_the_comment(trained):
    _, ours = trained()
    named = model.Model(Recipe(**{**vars(ours.recipe), "dataset": "a*/b\\\né"}), ours.classes, ours.layers)
    assert "TinyFoA on a__b___" in export.export(named, "c-header").decode("ascii")


# NumPy


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_npz_suffices_for_the_answers(trained, kind, binary_weights, binary_activations):
    """Plain NumPy on what the file holds; where sums of real numbers differ in their order, few answers may."""
    dataset, ours = trained(kind, binary_weights, binary_activations)
    with np.load(io.BytesIO(export.export(ours, "npz")), allow_pickle=False) as arrays:
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
def test_npz_holds_any_model_and_the_others_refuse(tmp_path, algorithm):
    result = run(tmp_path, recipe(algorithm=algorithm), made())
    ours = model.load(Path(result["run_dir"]) / "model.safetensors")
    with np.load(io.BytesIO(export.export(ours, "npz"))) as arrays:
        for number, layer in enumerate(ours.layers):
            assert arrays[f"layer{number}.scale"] == layer.scale
            held = export.signs(layer) if layer.weights.dtype == np.uint64 else layer.weights
            name = "signs" if layer.weights.dtype == np.uint64 else "weights"
            assert (arrays[f"layer{number}.{name}"] == held).all() and len(held) == layer.outputs
    for to in ("c-header", "onnx"):
        with pytest.raises(BadRequest, match=f"not of {algorithm}: npz holds those, too"):
            export.export(ours, to)


# ONNX


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_onnx_answers(trained, kind, binary_weights, binary_activations):
    """The same but for ties: whole numbers are exact, real sums within rounding."""
    pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra test)")
    dataset, ours = trained(kind, binary_weights, binary_activations)
    content = export.export(ours, "onnx")
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
    loaded = onnx.load_from_string(export.export(ours, "onnx"))
    onnx.checker.check_model(loaded, full_check=True)
    [held] = [entry.value for entry in loaded.metadata_props if entry.key == "recipe"]
    assert Recipe.from_json(held) == ours.recipe


def test_without_onnx_there_is_a_message(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BadRequest, match=r"pip install \"\.\[onnx\]\""):
        export.export(trained()[1], "onnx")


def test_a_network_that_is_not_fully_connected_is_refused(trained):
    _, ours = trained()
    local = model.Model(Recipe(**{**vars(ours.recipe), "network": "lc:16"}), ours.classes, ours.layers)
    for to in export.FORMATS:
        with pytest.raises(BadRequest, match="not tinyfoa on lc:16"):
            export.export(local, to)


def test_an_unknown_format_is_refused(trained):
    with pytest.raises(BadRequest, match="one of npz, c-header, onnx"):
        export.export(trained()[1], "pdf")
