"""Models from strangers, all checksums right: what training could not have written is refused before kernels see it."""

import random
import struct
from dataclasses import replace

import numpy as np
import pytest
from hostile_tools import changed_model, opened_model, sealed
from safetensors.numpy import save
from train_tools import made, outcome, recipe, run

from tinyfoa_np.errors import CheckFailed, TinyFoAError
from tinyfoa_np.model import form, model

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

IMAGE = (1, 8, 8)
RECIPES = {
    "bits": recipe(network="fc:21,9", epochs=1),
    "real": recipe(network="fc:21,9", epochs=1, binary_weights=False, binary_activations=False),
    "local": recipe(network="lc:3,2", epochs=1, slices=2),
    "ff": recipe(network="fc:21,9", epochs=1, algorithm="ff"),
    "drtp": recipe(network="fc:21,9", epochs=1, algorithm="drtp"),
    "biofo": recipe(network="fc:21,9", epochs=1, algorithm="biofo"),
    "giff": recipe(network="cnn", epochs=1, algorithm="giff"),
    "bp": recipe(network="resnet8", epochs=1, algorithm="bp"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model file of a small run of each kind, what is in it, and samples that it takes."""
    known = {}

    def get(name):
        if name not in known:
            dataset = replace(made("real" if name == "real" else "bytes", inputs=64), image=IMAGE)
            result = run(tmp_path_factory.mktemp(name), RECIPES[name], dataset)
            path = tmp_path_factory.mktemp("file") / "model.safetensors"
            path.write_bytes((tmp_path_factory.getbasetemp() / result["run_dir"] / path.name).read_bytes())
            known[name] = path, opened_model(path), dataset.test.inputs
        return known[name]

    return get


def refused(path, content):
    path = path.with_name("hostile.safetensors")
    path.write_bytes(content)
    what, message = outcome(model.load, path)
    assert what is CheckFailed and "\n" not in message, message
    return message


def changing(about, layer=None, **values):
    """What is said about a model, or one of its layers, with other values."""
    if layer is None:
        return {**about, **values}
    layers = [{**known, **values} if number == layer else known for number, known in enumerate(about["layers"])]
    return {**about, "layers": layers}


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_resealed_unchanged_is_the_same_model(trained, name):
    path, (tensors, about), samples = trained(name)
    again = path.with_name("again.safetensors")
    again.write_bytes(sealed(tensors, about))
    assert (model.load(again).scores(samples) == model.load(path).scores(samples)).all()


def test_more_outputs_and_biases_than_weights(trained):
    """Such a file overwrote the heap."""
    path, (tensors, about), _ = trained("bits")
    grown, larger = {**tensors, "layer1.bias": np.zeros(4096, np.float32)}, changing(about, 1, outputs=4096)
    assert "layer1.bias is F32 [4096], not float32 [9]" in refused(path, sealed(grown, larger))
    assert "layer 2 is not what its recipe says" in refused(path, sealed(tensors, larger))


@pytest.mark.parametrize("classes", [-1, 0, 65537, 10**9, 1.5, None, "3", True, [3]])
def test_classes(trained, classes):
    path, (tensors, about), _ = trained("bits")
    assert "classes" in refused(path, sealed(tensors, changing(about, classes=classes)))


@pytest.mark.parametrize("name", ["bits", "real", "local", "biofo"])
def test_many_classes_take_little_memory(trained, name, monkeypatch):
    """No tensor depends on the number of classes, as the head is generated: a small file took 69 MB more."""
    path, (tensors, about), samples = trained(name)
    hostile = path.with_name("hostile.safetensors")
    hostile.write_bytes(sealed(tensors, changing(about, classes=65535)))
    ours, x = model.load(hostile), np.resize(samples, (40, 64))
    answers = ours.predict(x)
    assert ours.memory["planned_bytes"] < 12e6
    assert ours.memory["planned_bytes"] == ours.memory["accounted_bytes"] == ours.memory["watermark_bytes"]
    monkeypatch.setattr(form, "HEAD", 1 << 40)
    monkeypatch.setattr(model, "SCORES", 1 << 40)
    whole = model.load(hostile)
    assert (whole.predict(x) == answers).all() and whole.memory["planned_bytes"] > ours.memory["planned_bytes"]
    assert (whole.scores(x[:20]) == ours.scores(x[:20])).all()


@pytest.mark.parametrize(
    "field, value",
    [
        ("alpha", float("nan")),
        ("alpha", -1),
        ("alpha", None),
        ("scale", float("inf")),
        ("scale", "1"),
        ("scale", 1e300),
        ("width", 22),
        ("kind", "real"),
        ("kind", []),
        ("input_scale", 2.0),
        ("image", [1, 3, 7]),
        ("outputs", True),
        ("shape", {"inputs": 1}),
        ("digest", 5),
    ],
)
def test_numbers_of_a_layer(trained, field, value):
    path, (tensors, about), _ = trained("bits")
    refused(path, sealed(tensors, changing(about, 1, **{field: value})))


@pytest.mark.parametrize(
    "values",
    [
        {"width": 2**31},
        {"width": 0},
        {"width": -64},
        {"image": [1, 8, 7]},
        {"image": [8, 8]},
        {"image": [-8, -8, 1]},
        {"kind": "bits"},
        {"input_scale": float("nan")},
        {"input_offset": 1e39},
        {"input_scale": None},
    ],
)
def test_what_samples_are(trained, values):
    path, (tensors, about), _ = trained("local")
    refused(path, sealed(tensors, changing(about, 0, **values)))


@pytest.mark.parametrize("name", RECIPES)
def test_every_tensor_must_be_what_the_recipe_says(trained, name):
    path, (tensors, about), _ = trained(name)
    for which, tensor in tensors.items():
        for wrong in (
            tensor.astype(np.float64),
            tensor.reshape(1, *tensor.shape),
            np.concatenate([tensor, tensor]),
            tensor[:-1],
            tensor.astype(np.uint8),
            tensor.view(np.uint8),
        ):
            if wrong.shape != tensor.shape or wrong.dtype != tensor.dtype:
                assert which in refused(path, sealed({**tensors, which: wrong}, about))
        refused(path, sealed({k: v for k, v in tensors.items() if k != which}, about))
        if tensor.dtype == np.float32 and tensor.size:
            lost = tensor.copy()
            lost.reshape(-1)[-1] = np.nan
            assert "finite" in refused(path, sealed({**tensors, which: lost}, about))
    surplus = refused(path, sealed({**tensors, "layer9.weights": tensors["layer0.weights"]}, about))
    assert "tensor 'layer9.weights' is not one that its recipe has" in surplus
    lacking = {key: value for key, value in tensors.items() if key != "layer0.weights"}
    assert "tensor 'layer0.weights' is missing" in refused(path, sealed(lacking, about))


def test_signs_without_weights(trained):
    path, (tensors, about), _ = trained("bits")
    for at in ((0, 0, 0), (-1, 0, 7)):  # an input beyond the 21st; a neuron beyond the 9th
        weights = tensors["layer1.weights"].copy()
        weights[at] |= np.uint64(1 << 63 if at[0] == 0 else 1)
        assert "signs" in refused(path, sealed({**tensors, "layer1.weights": weights}, about))


def test_columns_and_labels(trained):
    path, (tensors, about), _ = trained("real")
    for names in (["a"], ["a", "b", 3.5], {"a": 1}, "abc", ["a", "b", None], ["a", "b", "c", "d"]):
        refused(path, sealed(tensors, {**about, "labels": names}))
    refused(path, sealed(tensors, {**about, "columns": list(range(64))}))
    shift = {"inputs.shift": np.zeros(64, np.float32)}
    refused(path, sealed({**tensors, **shift}, about))
    for factor in (np.zeros(63, np.float32), np.zeros(64), np.full(64, np.inf, np.float32)):
        refused(path, sealed({**tensors, **shift, "inputs.factor": factor}, about))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{}",
        "[]",
        "3",
        '{"format":' * 20_000,
        "[]," * 200_000,
        '"' + "1" * 9000,
    ],
)
def test_what_is_said_is_no_json_of_ours(trained, text):
    path, (tensors, _), _ = trained("bits")
    refused(path, save(tensors, {model.METADATA: text}))


def test_a_header_that_no_model_has(trained):
    path, _, _ = trained("bits")
    for header in (2**40, 2**63, model.HEADER_LIMIT + 1):
        assert "header" in refused(path, struct.pack("<Q", header) + bytes(100))


@pytest.mark.parametrize("name", RECIPES)
def test_changed_at_random(trained, name):
    """One thing is changed, and the checksum made to hold: it is refused, or answers as a model does."""
    path, known, samples = trained(name)
    rng, hostile, accepted = random.Random(name), path.with_name("hostile.safetensors"), 0
    for _ in range(150):
        hostile.write_bytes(changed_model(*known, rng))
        try:
            ours = model.load(hostile)
            answers = ours.predict(samples if ours.inputs.kind == "bytes" else samples.astype(np.float32))
        except TinyFoAError as error:
            assert "\n" not in str(error)
            continue
        accepted += 1
        assert 0 <= answers.min() and answers.max() < ours.classes
    assert accepted < 100  # what may be other without being wrong: weights, names, the seed of binary networks
