"""Answers that stop at the first confident layer: golden files, samples in groups, thresholds from strangers."""

import json

import numpy as np
import pytest
from golden_files import golden_files
from train_tools import made, outcome, run

from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.trained import TrainedLayer
from tinyfoa_np.model import exits, model
from tinyfoa_np.recipe import Recipe

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.mark.parametrize("path", golden_files("lightff_mp*.npz"), ids=lambda path: path.stem)
def test_golden(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    count = json.loads(str(arrays["meta"]))["n_layers"]
    classes = arrays["score_test"].shape[2]
    weights = [(arrays[f"W{k}"], arrays[f"b{k}"]) for k in range(count)]
    real = {"binary_weights": False, "binary_activations": False}
    recipe = Recipe(algorithm="ff", network="fc:" + ",".join(str(len(b)) for _, b in weights), **real).validated()
    layers = [TrainedLayer(Encoding("real", W.shape[1]), W, b, 1.0, 1.0, len(b)) for W, b in weights]
    trained = model.Model(recipe, classes, layers)
    known = exits.calibrated(trained, arrays["x_train"], arrays["y_train"])
    for ours, name in ((known.mean, "mean"), (known.deviation, "std")):
        np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=1e-5 * np.abs(arrays[name]).max())
    answers, stops = exits.predict(trained, arrays["x_test"], known.limits())
    np.testing.assert_array_equal(stops, arrays["exit_free"])
    np.testing.assert_array_equal(answers, arrays["answer_free"])
    many, _ = exits.predict(trained, np.tile(arrays["x_test"], (15, 1)), known.limits())  # in several groups
    np.testing.assert_array_equal(many, np.tile(answers, 15))
    assert exits.products(trained)[-1] == classes * sum(W.size for W, _ in weights)


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
