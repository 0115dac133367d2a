"""Models of BP, DRTP, PEPITA and FF: they answer as training measured, to the bit, and as the reference does."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import reference_training
from train_tools import WIDTH, made, model_file, outcome, recipe, run, scaled, seen, weights

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.kernels import drtp as drtp_kernels
from tinyfoa_np.model import inference, model
from tinyfoa_np.rules import bp, ff, pepita, tinyfoa
from tinyfoa_np.run.train import train

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

FILE = "model.safetensors"
RECIPES = {
    "tinyfoa": {"schedule": "stream", "lr": 3e-3},
    "bp": {"lr": 1e-3},
    "drtp": {"lr": 3e-3},
    "pepita": {"lr": 1e-2},
    "ff": {"lr": 1e-2},
}
KINDS = list(product(RECIPES, (True, False), (True, False)))


class Notes:
    """What a network's own passes over the test samples, when it is trained, say of each class."""

    def __init__(self, patch):
        self.parts, self.on = [], False
        for kind, get in (
            (bp.Network, lambda net, n: net.ram.logits[:, :n]),
            (pepita.Network, lambda net, n: net.ram.logits[:, :n]),
            (ff.Network, lambda net, n: net.ram.scores[:, :n]),
            (tinyfoa.Layer, lambda layer, n: layer.ram.logits[:, :n]),
        ):
            patch.setattr(kind, "hand_over", self._noting(kind.hand_over, get))
        kernel = drtp_kernels.output

        def output(z, samples, labels, scale, binary, *rest):
            q = np.where(z >= 0, np.float32(1), np.float32(-1)) if binary else z
            self.parts.append(q[:, :samples].copy())
            return kernel(z, samples, labels, scale, binary, *rest)

        patch.setattr(drtp_kernels, "output", output)

    def _noting(self, hand_over, get):
        def note(network, flash, part, trained):
            done = hand_over(network, flash, part, trained)
            if part.ends:
                self.parts.append(get(network, part.samples).copy())
            return done

        return note

    def last(self, samples):
        """Of so many samples, those noted last: (N, C)."""
        return np.concatenate(self.parts, axis=1)[:, -samples:].T


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(dataset, recipe, result, model, notes of its own passes) of an algorithm with its toggles, trained once each."""
    where, known = tmp_path_factory.mktemp("models"), {}

    def get(algorithm, binary_weights=True, binary_activations=True):
        key = algorithm, binary_weights, binary_activations
        if key not in known:
            which = recipe(
                algorithm=algorithm,
                network="fc:133,20",
                epochs=6,
                normalize="standard",
                binary_weights=binary_weights,
                binary_activations=binary_activations,
                **RECIPES[algorithm],
            )
            dataset = made("bytes" if binary_weights != binary_activations else "real", samples=150, tests=300)
            wrong = (dataset.test.labels + (np.arange(300) % 10 == 0)) % dataset.classes  # so that no test error is 0
            dataset = replace(dataset, test=replace(dataset.test, labels=wrong))
            with pytest.MonkeyPatch.context() as patch:
                notes = Notes(patch)
                result = run(where, which, dataset)
            ours = model.load(Path(result["run_dir"]) / FILE)
            known[key] = dataset, which, result, ours, notes.last(300)
        return known[key]

    return get


# Answers


@pytest.mark.parametrize("algorithm, binary_weights, binary_activations", KINDS)
def test_answers_are_those_that_training_measured(trained, algorithm, binary_weights, binary_activations):
    dataset, which, result, ours, own = trained(algorithm, binary_weights, binary_activations)
    answers = ours.predict(dataset.test.inputs)
    assert answers.dtype == np.int64 and answers.shape == (300,)
    assert 100.0 * np.count_nonzero(answers != dataset.test.labels) / 300 == result["error_pct"]
    assert (answers == own.argmax(axis=1)).all()
    assert 0 < result["error_pct"] < 65  # learnt, not perfectly: agreement says something
    assert ours.recipe == which.validated() and ours.classes == dataset.classes


@pytest.mark.parametrize("algorithm, binary_weights, binary_activations", KINDS)
def test_logits_are_those_of_its_own_passes(trained, algorithm, binary_weights, binary_activations):
    """Bit for bit: what a sample's answer hangs on may be the last one."""
    dataset, which, _, ours, own = trained(algorithm, binary_weights, binary_activations)
    logits = ours.logits(dataset.test.inputs)
    assert logits.dtype == np.float32 and logits.shape == (300, dataset.classes)
    scale = np.float32(ours.layers[-1].scale) if algorithm == "tinyfoa" else np.float32(1)
    assert (logits == own.astype(np.float32) * scale).all()
    for part in (slice(0, 150), slice(150, 300)):
        with ours.inference(150) as at_work:
            exactly = at_work.scores(dataset.test.inputs[part]).T  # FF's in double precision
        assert exactly.dtype == own.dtype and (exactly == own[part]).all()


@pytest.mark.parametrize("algorithm", RECIPES)
def test_logits_are_those_of_its_own_passes_whatever_the_scales(tmp_path, monkeypatch, algorithm):
    """Which scale rounds to which float32 is chance: some more of them."""
    notes = Notes(monkeypatch)
    for seed in range(8):
        which = recipe(algorithm=algorithm, network="fc:9,5", seed=seed, slices=1)
        dataset = made(samples=40, seed=seed)
        result = run(tmp_path, which, dataset)
        ours = model.load(Path(result["run_dir"]) / FILE)
        own = notes.last(20)
        scale = np.float32(ours.layers[-1].scale) if algorithm == "tinyfoa" else np.float32(1)
        assert (ours.logits(dataset.test.inputs) == own.astype(np.float32) * scale).all()
        assert (ours.predict(dataset.test.inputs) == own.argmax(axis=1)).all()


@pytest.mark.parametrize("algorithm, binary_weights, binary_activations", KINDS)
def test_an_answer_does_not_depend_on_its_neighbours(trained, algorithm, binary_weights, binary_activations):
    dataset, _, _, ours, _ = trained(algorithm, binary_weights, binary_activations)
    x = dataset.test.inputs[:270]  # more than the model takes at a time
    together = ours.logits(x)
    assert (np.concatenate([ours.logits(x[n : n + 1]) for n in range(0, 270, 9)]) == together[::9]).all()
    order = np.random.default_rng(0).permutation(len(x))
    assert (ours.logits(x[order]) == together[order]).all()
    assert (ours.predict(x[order]) == ours.predict(x)[order]).all()


@pytest.mark.parametrize("algorithm, binary_weights, binary_activations", [k for k in KINDS if k[0] != "tinyfoa"])
def test_answers_are_those_of_the_reference(trained, algorithm, binary_weights, binary_activations):
    """The trained weights from flash, the scales s from the training set, and plain NumPy."""
    dataset, which, result, ours, _ = trained(algorithm, binary_weights, binary_activations)
    layers = weights(result["run_dir"], which)
    start = reference_training.setting(which, dataset)
    binary = binary_activations and (binary_weights or algorithm in ("bp", "pepita"))
    scales = reference_training.inference_scales(start, layers)
    hidden = [layer.scale for layer in ours.layers[:2]]
    assert hidden == pytest.approx(scales[:2] if binary else [1, 1], rel=1e-5)
    assert all(layer.scale == 1 for layer in ours.layers[2:])
    stored = [*hidden, *scales[2:]]  # DRTP's reference has one for its output layer, too
    theirs = reference_training.scores(start, seen(dataset, dataset.test, start.which.normalize), layers, stored)
    mine = ours.logits(dataset.test.inputs)
    if algorithm == "drtp":  # whose outputs are compared with what goes into their sigmoid
        mine = 1 / (1 + np.exp(-mine * (scales[-1] if binary else 1)))
    apart = np.abs(mine - theirs).max(axis=1) / np.abs(theirs).max()
    # a z within rounding of 0 may switch a bit on here and not there: then the sample differs, and few may
    assert (apart < 1e-4).mean() > 0.98
    assert (ours.predict(dataset.test.inputs) == theirs.argmax(axis=1)).mean() > 0.98


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_scale_and_rounding_change_no_answer(trained, monkeypatch, kind):
    """Two scores that are one as logits: the larger one is still the answer."""
    _, _, _, ours, _ = trained("tinyfoa")
    scale = np.float32(ours.layers[-1].scale)
    if kind == np.float32:
        pairs = ((np.float32(1 + k / 1000), np.nextafter(np.float32(1 + k / 1000), np.float32(9))) for k in range(1000))
        pair = next(pair for pair in pairs if pair[0] * scale == pair[1] * scale)
    else:
        pair = 1.0, 1.0 + 1e-12
    monkeypatch.setattr(inference.Inference, "scores", lambda *_: np.array([[0], *([value] for value in pair)], kind))
    x = np.zeros((1, WIDTH), np.float32)
    logits = ours.logits(x)[0]
    assert logits[1] == logits[2] == np.float32(pair[0]) * scale
    assert ours.predict(x) == [2]


@pytest.mark.parametrize("algorithm", RECIPES)
def test_sure_answers_are_measured_alike(tmp_path, algorithm):
    """Where all numbers are so large that many outputs, or their differences, are no longer told apart in float32."""
    which = recipe(
        algorithm=algorithm,
        network="fc:20",
        lr=0.3,
        epochs=3,
        slices=1,
        normalize="unit",
        binary_weights=False,
        binary_activations=False,
    )
    dataset = scaled(made("real", tests=300), 40.0)
    result = run(tmp_path, which, dataset)
    answers = model.load(Path(result["run_dir"]) / FILE).predict(dataset.test.inputs)
    assert 100.0 * np.count_nonzero(answers != dataset.test.labels) / 300 == result["error_pct"]


# What is no sample


@pytest.mark.parametrize("algorithm", ["bp", "drtp", "pepita", "ff"])
def test_samples_that_cannot_be_answered(trained, algorithm):
    for toggles, says in (((True, False), "uint8"), ((True, True), "NaN")):  # trained on bytes, on real numbers
        dataset, _, _, ours, _ = trained(algorithm, *toggles)
        x = dataset.test.inputs[:5]
        for wrong in (x[0], x[:, :-1], x[None]):
            what, message = outcome(ours.predict, wrong)
            assert what is BadRequest and f"(N, {WIDTH})" in message
        what, message = outcome(ours.predict, x * np.float32("nan"))
        assert what is BadRequest and says in message
        assert ours.predict(x[:0]).shape == (0,) and ours.logits(x[:0]).shape == (0, dataset.classes)


# The file


@pytest.mark.parametrize("algorithm", ["bp", "drtp", "pepita", "ff"])
def test_a_finished_run_that_is_resumed_writes_the_same_file(trained, algorithm):
    dataset, which, result, ours, _ = trained(algorithm)
    before = model_file(result["run_dir"])
    assert train(which, None, result["run_dir"], resume=True)["model_sha256"] == result["model_sha256"]
    assert model_file(result["run_dir"]) == before
    again = model.load(Path(result["run_dir"]) / FILE)
    assert (again.logits(dataset.test.inputs) == ours.logits(dataset.test.inputs)).all()


@pytest.mark.parametrize("algorithm", ["bp", "drtp", "pepita", "ff"])
def test_a_model_holds_its_layers_and_nothing_else(trained, algorithm):
    _, _, result, ours, _ = trained(algorithm)
    _, tensors = model_file(result["run_dir"])
    count = 4 if algorithm == "ff" else 3  # FF's classifier has a part for each layer
    names = [f"layer{k}.{what}" for k in range(count) for what in ("bias", "weights")]
    assert sorted(tensors) == names
    kinds = [layer.inputs.kind for layer in ours.layers]
    assert kinds == (["real", "bits", "bits", "bits"] if algorithm == "ff" else ["real", "bits", "bits"])
    signs = {"bp": 2, "drtp": 3, "pepita": 2, "ff": 2}[algorithm]
    assert [layer.weights.dtype == np.uint64 for layer in ours.layers] == [k < signs for k in range(count)]
    assert all((layer.alpha == 1) == (k >= signs) for k, layer in enumerate(ours.layers))
    biases = {"bp": 3, "drtp": 3, "pepita": 0, "ff": 2}[algorithm]
    assert [len(layer.bias) > 0 for layer in ours.layers] == [k < biases for k in range(count)]
