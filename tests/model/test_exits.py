"""Answers that stop at the first confident layer: golden files, samples in groups, thresholds from strangers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from golden_files import golden_files
from train_tools import arenas, made, outcome, run, until_done

from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.trained import TrainedLayer
from tinyfoa_np.model import exits, model
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits
from tinyfoa_np.rules import lightff

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

REAL = {"binary_weights": False, "binary_activations": False}


def answers_are_golden(trained, arrays, known):
    """Answers and the layers that give them, of the test samples alone and 15 times over."""
    answers, stops = exits.predict(trained, arrays["x_test"], known.limits())
    np.testing.assert_array_equal(stops, arrays["exit_free"])
    np.testing.assert_array_equal(answers, arrays["answer_free"])
    many, _ = exits.predict(trained, np.tile(arrays["x_test"], (15, 1)), known.limits())  # in several groups
    np.testing.assert_array_equal(many, np.tile(answers, 15))


@pytest.mark.parametrize("path", golden_files("lightff_mp*.npz"), ids=lambda path: path.stem)
def test_golden(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    count = json.loads(str(arrays["meta"]))["n_layers"]
    classes = arrays["score_test"].shape[2]
    weights = [(arrays[f"W{k}"], arrays[f"b{k}"]) for k in range(count)]
    recipe = Recipe(algorithm="ff", network="fc:" + ",".join(str(len(b)) for _, b in weights), **REAL).validated()
    layers = [TrainedLayer(Encoding("real", W.shape[1]), W, b, 1.0, 1.0, len(b)) for W, b in weights]
    trained = model.Model(recipe, classes, layers)
    known = exits.calibrated(trained, arrays["x_train"], arrays["y_train"])
    for ours, name in ((known.mean, "mean"), (known.deviation, "std")):
        np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=1e-5 * np.abs(arrays[name]).max())
    answers_are_golden(trained, arrays, known)
    assert exits.products(trained)[-1] == classes * sum(W.size for W, _ in weights)


@pytest.mark.parametrize("path", golden_files("lightff_op*.npz"), ids=lambda path: path.stem)
def test_golden_of_one_pass(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    count, classes = json.loads(str(arrays["meta"]))["n_layers"], arrays["score_test"].shape[2]
    weights = [(arrays[f"W{k}"], arrays[f"b{k}"]) for k in range(count)]
    network = "fc:" + ",".join(str(len(b)) for _, b in weights)
    which = Recipe(algorithm="ff", network=network, options={"classifiers": "each"}, **REAL).validated()
    layers = [TrainedLayer(Encoding("real", W.shape[1]), W, b, 1.0, 1.0, len(b)) for W, b in weights]
    ends = np.cumsum([0, *(layer.outputs for layer in layers)])
    for k in (count - 1, *range(count - 1)):  # the last classifier comes first
        for first, last in zip(ends, ends[1 : k + 2]):
            part = np.ascontiguousarray(arrays[f"C{k}"][:, first:last])
            none = np.zeros(0, np.float32)
            layers.append(TrainedLayer(Encoding("real", last - first), part, none, 1.0, 1.0, classes))
    trained = model.Model(which, classes, layers)
    for split in ("train", "test"):
        x, scores = arrays[f"x_{split}"], []
        with trained.inference(len(x)) as inference:
            (stage,) = inference.stages
            for _ in lightff._one_pass(stage, x):
                scores.append(stage.ram.scores[:, : len(x)].T - stage.ram.scores[:, : len(x)].max(axis=0)[:, None])
        theirs = arrays[f"score_{split}"]
        np.testing.assert_allclose(scores, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
        if split == "train":  # the published thresholds are those of the scores
            right = np.stack(scores)[:, np.arange(len(x)), arrays["y_train"]]
            for ours, name in ((right.mean(axis=1), "mean"), (right.std(axis=1), "std")):
                np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=1e-5 * np.abs(arrays[name]).max())
    known = exits.calibrated(trained, arrays["x_train"], arrays["y_train"])
    for ours, name in ((known.mean, "mean_free"), (known.deviation, "std_free")):
        np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=1e-5 * np.abs(arrays[name]).max())
    answers_are_golden(trained, arrays, known)
    every = sum(W.size for W, _ in weights) + sum(arrays[f"C{k}"].size for k in range(count))
    assert exits.products(trained)[-1] == every


@pytest.mark.parametrize("toggles", [(False, False), (True, False), (True, True)], ids=str)
def test_classifiers_of_each_layer(tmp_path, toggles):
    """Bytes as planned, one model however a run goes; the layers are those without them, and the classifiers learn."""
    real = {"binary_weights": toggles[0], "binary_activations": toggles[1]}
    dataset = made(samples=200, tests=60)
    fields = {"dataset": "made", "algorithm": "ff", "network": "fc:33,20,17", "epochs": 8, "batch": 20, "lr": 1e-2}
    which = Recipe(**fields, **real, classifier_lr=0.1, options={"classifiers": "each"})
    audited = run(tmp_path, which, dataset, audit=True, threads=2)
    assert audited["findings"] == []
    assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(audited))
    crashed = until_done(which, dataset, tmp_path / "run", [2, 9], commit_every=1, threads=3)
    plain = run(tmp_path, replace(which, options={}), dataset, threads=1)
    assert crashed["model_sha256"] == audited["model_sha256"] != plain["model_sha256"]
    assert crashed["error_pct"] == plain["error_pct"]
    loaded, other = (model.load(f"{done['run_dir']}/model.safetensors") for done in (audited, plain))
    assert all((one.weights == two.weights).all() for one, two in zip(loaded.layers[:3], other.layers[:3]))
    for limit in (-np.inf, np.inf):  # the first classifier, the last one
        answers, stops = exits.predict(loaded, dataset.test.inputs, np.full(3, limit))
        assert (stops == (0 if limit < 0 else 2)).all()
        if not toggles[1]:  # with bits, forward-forward stays at chance
            assert np.mean(answers != dataset.test.labels) <= 0.45  # two thirds, by chance
    with loaded.inference(60) as inference:
        (stage,) = inference.stages
        for k, _ in enumerate(lightff._one_pass(stage, loaded.encoded(dataset.test.inputs))):
            logits = 0
            for j, number in enumerate(stage.exits[k]):
                u = stage.ram[f"feature{j}"]
                u = stage.scales[j] * bits.unpack(u, stage.widths[j]) if toggles[1] else u
                logits = logits + u @ loaded.layers[number].weights.T
            np.testing.assert_allclose(stage.ram.scores, logits.T, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("toggles", [(False, False), (True, False), (True, True)], ids=str)
def test_one_layer_answers_as_ever(tmp_path, toggles):
    """The score of the first layer is all of a network of one; no sample can stop earlier."""
    real = {"binary_weights": toggles[0], "binary_activations": toggles[1]}
    dataset = made()
    which = Recipe(dataset="made", algorithm="ff", network="fc:33", epochs=2, batch=32, lr=1e-2, **real)
    trained = model.load(f"{run(tmp_path, which, dataset)['run_dir']}/model.safetensors")
    for limit in (-np.inf, np.inf):
        answers, stops = exits.predict(trained, dataset.test.inputs, np.array([limit]))
        np.testing.assert_array_equal(answers, trained.predict(dataset.test.inputs))
        assert not stops.any()


def test_thresholds_are_kept_and_checked(tmp_path):
    dataset = made()
    which = Recipe(dataset="made", algorithm="ff", network="fc:33,20", epochs=1, batch=32)
    path = tmp_path / "run1" / "model.safetensors"
    trained = model.load(run(tmp_path, which, dataset)["run_dir"] + "/model.safetensors")
    path.parent.mkdir(exist_ok=True)
    what, message = outcome(exits.Thresholds.load, path, trained)
    assert what is BadRequest and "evaluate with --exit" in message
    known = exits.calibrated(trained, dataset.train.inputs, dataset.train.labels)
    known.save(path)
    assert exits.Thresholds.load(path, trained) == known
    stops = [exits.predict(trained, dataset.test.inputs, known.limits(factor))[1] for factor in (1e9, 1.0, -1e9)]
    assert not stops[0].any() and (stops[2] == 1).all()
    for damage in ("{}", "[]", '{"mean": [1.0], "deviation": [1.0]}', '{"mean": [1.0, NaN], "deviation": [1.0, 1.0]}'):
        path.with_name(exits.NAME).write_text(damage)
        assert outcome(exits.Thresholds.load, path, trained)[0] is CheckFailed


def test_other_rules_have_no_exits(tmp_path):
    dataset = made()
    which = Recipe(dataset="made", network="fc:9", epochs=1, batch=32)
    trained = model.load(run(tmp_path, which, dataset)["run_dir"] + "/model.safetensors")
    what, message = outcome(exits.products, trained)
    assert what is BadRequest and "not of tinyfoa" in message
