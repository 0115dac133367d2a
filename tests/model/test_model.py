"""A trained model: it answers as training measured, sample by sample, and a damaged file is refused."""

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save as to_bytes
from safetensors.numpy import save_file
from train_tools import WIDTH, made, outcome, recipe, run, seen, weights

from tinyfoa_np.data.dataset import Columns
from tinyfoa_np.errors import BadRequest, CheckFailed, OtherNumerics
from tinyfoa_np.model import model
from tinyfoa_np.reference import random, tinyfoa
from tinyfoa_np.rules.fit import Layout

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

KINDS = list(product(("bytes", "real"), (True, False), (True, False)))
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(dataset, recipe, result, model) for the form of the data and both toggles, trained once each."""
    where, known = tmp_path_factory.mktemp("models"), {}

    def get(kind="bytes", binary_weights=True, binary_activations=True):
        key = kind, binary_weights, binary_activations
        if key not in known:
            which = recipe(
                network="fc:133,20",
                epochs=4,
                lr=3e-3,
                batch=32,
                binary_weights=binary_weights,
                binary_activations=binary_activations,
                schedule="stream",
            )
            dataset = made(kind, samples=150, tests=300)
            wrong = (dataset.test.labels + (np.arange(300) % 10 == 0)) % dataset.classes  # so that no test error is 0
            dataset = replace(dataset, test=replace(dataset.test, labels=wrong))
            result = run(where, which, dataset)
            known[key] = dataset, which, result, model.load(Path(result["run_dir"]) / FILE)
        return known[key]

    return get


# Answers


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_answers_are_those_that_training_measured(trained, kind, binary_weights, binary_activations):
    dataset, which, result, ours = trained(kind, binary_weights, binary_activations)
    answers = ours.predict(dataset.test.inputs)
    assert answers.dtype == np.int64 and answers.shape == (300,)
    assert 100.0 * np.count_nonzero(answers != dataset.test.labels) / 300 == result["error_pct"]
    assert 0 < result["error_pct"] < 60  # learnt, not perfectly: agreement says something
    assert ours.recipe == which.validated() and ours.classes == dataset.classes


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_an_answer_does_not_depend_on_its_neighbours(trained, kind, binary_weights, binary_activations):
    dataset, _, _, ours = trained(kind, binary_weights, binary_activations)
    x = dataset.test.inputs[:270]  # more than the model takes at a time
    together = ours.logits(x)
    assert together.shape == (270, dataset.classes) and together.dtype == np.float32
    assert (np.concatenate([ours.logits(x[n : n + 1]) for n in range(len(x))]) == together).all()
    order = np.random.default_rng(0).permutation(len(x))
    assert (ours.logits(x[order]) == together[order]).all()
    assert (ours.predict(x) == together.argmax(axis=1)).mean() > 0.99  # but for ties that the scale rounds together


@pytest.mark.parametrize("kind, binary_weights, binary_activations", KINDS)
def test_logits_are_those_of_the_reference(trained, kind, binary_weights, binary_activations):
    """The trained weights from flash, the scales s from the training set, and plain NumPy."""
    dataset, which, result, ours = trained(kind, binary_weights, binary_activations)
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    inputs, labels = seen(dataset, dataset.train), dataset.train.labels
    batches = [(inputs[k : k + 32], labels[k : k + 32]) for k in range(0, len(labels), 32)]
    h = seen(dataset, dataset.test)
    for number, (W, b) in enumerate(weights(result["run_dir"], which)):
        scale = tinyfoa.mean_magnitude(batches, W, b, binary_weights=binary_weights)
        assert ours.layers[number].scale == pytest.approx(scale if binary_activations else 1, rel=1e-5)
        _, h = tinyfoa.forward(h, W, b, **toggles, scale=scale)
        handed = tinyfoa.hand_over(batches, W, b, **toggles)
        batches = [(out, y) for out, (_, y) in zip(handed, batches)]
    P = random.projection(dataset.classes, len(W), seed=which.seed, layer=1)
    theirs, mine = tinyfoa.logits(h, P), ours.logits(dataset.test.inputs)
    apart = np.abs(mine - theirs).max(axis=1) / np.abs(theirs).max()
    # a z within rounding of 0 may switch a bit on here and not there: then the sample differs, and few may
    assert (apart < 1e-4).mean() > 0.97
    assert (ours.predict(dataset.test.inputs) == theirs.argmax(axis=1)).mean() > 0.97


def test_no_samples_no_answers(trained):
    for kind in ("bytes", "real"):
        dataset, _, _, ours = trained(kind)
        assert ours.predict(dataset.test.inputs[:0]).shape == (0,)
        assert ours.logits(dataset.test.inputs[:0]).shape == (0, dataset.classes)


def test_real_numbers_of_any_type(trained):
    dataset, _, _, ours = trained("real")
    x = np.round(dataset.test.inputs * 4)
    wanted = ours.predict(x)
    for kind in (np.float64, np.int32, np.float16, ">f4"):
        assert (ours.predict(x.astype(kind)) == wanted).all()
    assert (ours.predict(np.asfortranarray(x)) == wanted).all()
    assert (ours.predict(x.tolist()) == wanted).all()


@pytest.mark.parametrize(
    "kind, change, says",
    [
        ("bytes", lambda x: x[0], f"(N, {WIDTH})"),
        ("bytes", lambda x: x[:, :-1], f"(N, {WIDTH})"),
        ("bytes", lambda x: x[None], f"(N, {WIDTH})"),
        ("bytes", lambda x: x.astype(np.float32), "uint8"),
        ("bytes", lambda x: x.astype(np.int64), "uint8"),
        ("real", lambda x: x.astype(complex), "real numbers"),
        ("real", lambda x: x.astype(str), "real numbers"),
        ("real", lambda x: np.where(x == x[0, 0], np.nan, x), "NaN"),
        ("real", lambda x: np.where(x == x[0, 0], np.inf, x), "infinite"),
        ("real", lambda x: x.astype(np.float64) * 1e300, "beyond 3.4e38"),
    ],
)
def test_samples_that_cannot_be_answered(trained, kind, change, says):
    dataset, _, _, ours = trained(kind)
    what, message = outcome(ours.predict, change(dataset.test.inputs[:5]))
    assert what is BadRequest and says in message


# The file


def test_a_model_is_its_file_and_nothing_else(trained, tmp_path):
    dataset, _, result, ours = trained()
    copy = tmp_path / "copy.bin"
    copy.write_bytes((Path(result["run_dir"]) / FILE).read_bytes())
    assert (model.load(str(copy)).logits(dataset.test.inputs) == ours.logits(dataset.test.inputs)).all()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a small model, and a place to damage them in."""
    where = tmp_path_factory.mktemp("small")
    result = run(where, recipe(network="fc:9,5"), made())
    return (Path(result["run_dir"]) / FILE).read_bytes(), where / FILE


def refused(path, content):
    path.write_bytes(content)
    what, message = outcome(model.load, path)
    assert what is CheckFailed and str(path) in message


@settings(max_examples=400)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(whole, place, bit):
    """Only what has no meaning may go unnoticed: a blank, the last digit of a number that reads the same without."""
    content, path = whole
    path.write_bytes(content)
    ours = model.load(path)
    altered = bytearray(content)
    altered[int(place * len(content))] ^= 1 << bit
    path.write_bytes(altered)
    try:
        theirs = model.load(path)
    except (CheckFailed, OtherNumerics) as error:  # without its numerics, a model reads as one of version 0.1.0
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert (theirs.recipe, theirs.classes, len(theirs.layers)) == (ours.recipe, ours.classes, len(ours.layers))
    for mine, other in zip(ours.layers, theirs.layers):
        assert (mine.inputs, mine.alpha, mine.scale) == (other.inputs, other.alpha, other.scale)
        for name in ("weights", "bias"):
            assert getattr(mine, name).tobytes() == getattr(other, name).tobytes()


def test_a_flipped_bit_in_the_numbers_is_refused(whole):
    """The tensors end the file: every byte of theirs, one bit each."""
    content, path = whole
    for offset in range(int.from_bytes(content[:8], "little") + 8, len(content)):
        altered = bytearray(content)
        altered[offset] ^= 1 << (offset % 8)
        refused(path, altered)


@example(0)
@example(7)
@example(8)
@example(9)
@settings(max_examples=60)
@given(st.integers(0, 10**4))
def test_a_truncated_file_is_refused(whole, length):
    content, path = whole
    refused(path, content[: length % len(content)])


@pytest.mark.parametrize("more", [b"\0", b"x" * 100])
def test_a_longer_file_is_refused(whole, more):
    refused(whole[1], whole[0] + more)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), b"\xff" * 64, b'{"format": "tinyfoa-np model 1"}'])
def test_a_file_that_is_something_else_is_refused(whole, content):
    refused(whole[1], content)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "other"}, {"format": model.FORMAT}])
def test_somebody_elses_tensors_are_refused(tmp_path, metadata):
    save_file({"layer0.weights": np.zeros((3, 3), np.float32)}, tmp_path / FILE, metadata)
    what, message = outcome(model.load, tmp_path / FILE)
    assert what is CheckFailed and "model" in message


@pytest.mark.parametrize("path", ["nothing.safetensors", "."])
def test_no_file_no_model(tmp_path, path):
    what, message = outcome(model.load, tmp_path / path)
    assert what is BadRequest and "there is no model" in message


def test_a_file_is_there_whole_or_not_at_all(trained, tmp_path, monkeypatch):
    dataset, which, _, _ = trained()

    replaced = os.replace

    def full(part, path):
        if Path(path).name == FILE:
            raise OSError("disk full")
        replaced(part, path)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckFailed, match="disk full"):
        run(tmp_path, replace(which, network="fc:9"), dataset)
    assert not [*tmp_path.rglob(FILE), *tmp_path.rglob("*.part")]


def test_recipes_of_all_kinds_survive_the_file(tmp_path):
    for options in ({"seed": 2**64 - 1, "limit": 40}, {"exchanges": 9}, {"schedule": "frozen", "hold": "3"}):
        which, dataset = recipe(network="fc:9", **options), made()
        result = run(tmp_path, which, dataset)
        loaded = model.load(Path(result["run_dir"]) / FILE)
        assert loaded.recipe == which.validated()
        assert json.loads(loaded.recipe.to_json()) == result["recipe"]
        wrong = np.count_nonzero(loaded.predict(dataset.test.inputs) != dataset.test.labels)
        assert 100.0 * wrong / 20 == result["error_pct"]


CASES = {
    "real weights": {"binary_weights": False, "lr": 3e-3},
    "one thread, smallest budget": {"network": "fc:133,20", "ram": 0},
    "a column for each input": {"kind": "real", "binary_activations": False},
    "positions in slices": {"network": "lc:4,6", "slices": 2, "schedule": "slice", "image": (1, 8, 8)},
    "whole": {"algorithm": "bp", "network": "resnet8", "image": (1, 12, 12)},
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_in_pieces_is_what_safetensors_writes(tmp_path, case):
    """Also where the buffer holds 256 bytes, and with names and statistics of columns."""
    options = {"epochs": 2, "batch": 16, **CASES[case]}
    image, kind, ram = options.pop("image", None), options.pop("kind", "bytes"), options.pop("ram", None)
    dataset = made(kind, inputs=int(np.prod(image or 70)))
    if image:
        dataset = replace(dataset, image=image)
    if kind == "real":
        names = [f'Spalte "{k}" \\ é\n' for k in range(70)]
        dataset = replace(
            dataset,
            columns=Columns.of(dataset.train.inputs),
            origin={"columns": names, "labels": ["a", "b", "ç" * 300]},
        )
    which = recipe(**options)
    budget = Layout(which.validated(), dataset, 1).least() if ram == 0 else None
    path = Path(run(tmp_path, which, dataset, ram=budget, threads=1)["run_dir"]) / FILE
    with safe_open(path, "numpy") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    assert path.read_bytes() == to_bytes(tensors, about)
    sealed = json.loads(about[model.METADATA])
    assert about[model.METADATA] == json.dumps(sealed) and sealed["sha256"] == model._digest(tensors, sealed)
    if kind == "real":
        shift, factor = dataset.columns.affine("standard")
        assert (tensors["inputs.shift"] == shift).all() and (tensors["inputs.factor"] == factor).all()
        assert sealed["columns"] == names and model.load(path).labels == ["a", "b", "ç" * 300]


def test_the_digest_covers_names_kinds_and_shapes():
    """Equal bytes under another name, dtype or shape are another model."""
    about = {"format": 1, "recipe": {}, "classes": 2, "layers": []}
    same = np.arange(8, dtype=np.float32)
    others = [{"a": same}, {"b": same}, {"a": same.view(np.int32)}, {"a": same.reshape(2, 4)}]
    assert len({model._digest(tensors, about) for tensors in others}) == len(others)


def test_a_model_says_in_a_line_or_a_table_what_it_is(tmp_path):
    result = run(tmp_path, recipe(network="fc:20"), made())
    ours = model.load(Path(result["run_dir"]) / "model.safetensors")
    assert (
        repr(ours)
        == f"Model(algorithm TinyFoA, network fc:20, inputs 70 (bytes), classes 3, size {ours.nbytes:,} bytes)"
    )
    assert ours.nbytes == sum(layer.weights.nbytes + layer.bias.nbytes for layer in ours.layers)
    assert "<td>fc:20</td>" in ours._repr_html_() and len(ours._repr_html_()) < 1000
