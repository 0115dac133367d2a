"""Estimators: scikit-learn's own checks, the same models as without it, streams, and what is refused."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from train_tools import recipe

pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn 1.6 is not installed (extra sklearn)")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import tinyfoa_np
from tinyfoa_np import BPClassifier, TinyFoAClassifier
from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.data.weights import in_order, repeats
from tinyfoa_np.model import model
from tinyfoa_np.reports import audit as report
from tinyfoa_np.run.start import further
from tinyfoa_np.run.train import train

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

CLASSIFIERS = [getattr(tinyfoa_np, name) for name in tinyfoa_np.ESTIMATORS]
REAL = {"binary_weights": False, "binary_activations": False}


def small(kind=TinyFoAClassifier, **options):
    """A quick classifier."""
    usual = {"network": "fc:40", "epochs": 8, "batch": 16, "lr": 0.01, "threads": 1, "random_state": 0}
    return kind(**{**usual, **options})


@pytest.fixture(scope="module")
def digits():
    """Training and test samples (N, 64) as bytes, and labels."""
    X, y = load_digits(return_X_y=True)
    return X[:600].astype(np.uint8), y[:600], X[600:900].astype(np.uint8), y[600:900]


# scikit-learn's conventions


#: weights are repetitions of samples; a class that weighs 10 million times as much is more than they can express
EXPECTED = {"check_class_weight_classifiers": "weights are repetitions of samples, in whole numbers"}


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator(kind):
    """What scikit-learn asks of a classifier; the task is one of two features, on which binary layers learn little."""
    results = check_estimator(small(kind, **REAL), on_fail=None, expected_failed_checks=EXPECTED)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed and sum(result["status"] == "passed" for result in results) > 45


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator_with_everything_binary():
    classifier = small(schedule="stream", network="fc:100", epochs=30)
    results = check_estimator(classifier, on_fail=None, expected_failed_checks=EXPECTED)
    assert not {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}


def test_in_a_pipeline_a_search_and_a_cross_validation(digits):
    X, y, *_ = digits
    scaled = make_pipeline(StandardScaler(), small(schedule="stream", epochs=4))
    assert cross_val_score(scaled, X, y, cv=2).min() > 0.5
    search = GridSearchCV(small(schedule="stream", epochs=2), {"lr": [1e-5, 0.01], "network": ["fc:40"]}, cv=2)
    assert search.fit(X, y).best_params_["lr"] == 0.01


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_clone_and_pickle(kind, digits):
    X, y, tests, _ = digits
    fitted = small(kind, epochs=2).fit(X, y)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert (loaded.predict(tests) == fitted.predict(tests)).all()
    assert (loaded.predict_proba(tests) == fitted.predict_proba(tests)).all()
    again = clone(fitted)
    with pytest.raises(NotFittedError):
        again.predict(tests)
    assert again.fit(X, y).model_sha256_ == fitted.model_sha256_


def test_the_constructor_only_stores():
    options = {"network": 1, "epochs": "two", "ram": -3, "random_state": object(), "run_dir": "/nowhere"}
    stored = TinyFoAClassifier(**options).get_params()
    assert {name: stored[name] for name in options} == options


def test_every_field_of_a_recipe_is_a_parameter():
    fields = set(recipe().__dataclass_fields__) - {"dataset", "digest", "algorithm", "seed", "limit"}
    own = {"image", "random_state", "ram", "threads", "run_dir", "class_weight", "early_stopping", "n_iter_no_change"}
    assert fields | own | {"warm_start", "verbose"} == set(TinyFoAClassifier().get_params())


# The same models as without it


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_fit_is_train(kind, digits, tmp_path):
    X, y, tests, _ = digits
    options = {"network": "fc:40", "epochs": 2, "batch": 16, "lr": 0.01, "binary_activations": kind.algorithm != "ff"}
    options["binary_weights"] = options["binary_activations"]
    fitted = kind(**options, random_state=3, threads=1).fit(X, y)
    order = in_order(X, y)
    held = np.hstack([np.zeros((600, 10), np.uint8), X]) if kind.algorithm == "ff" else X
    splits = Split(held[order], y[order]), Split(held[:0], y[:0])
    dataset = Dataset("samples", *splits, 10, 1 / X.std(), -X.mean() / X.std(), 1 / X.max())
    usual = {"dataset": "samples", "seed": 3, "shuffle": True, "normalize": "standard"}
    which = recipe(algorithm=kind.algorithm, **usual, **options)
    result = train(which, dataset, tmp_path / "run", threads=1)
    assert fitted.model_sha256_ == result["model_sha256"]
    if kind.algorithm != "ff":
        answers = model.load(tmp_path / "run" / "model.safetensors").predict(tests)
        assert (fitted.predict(tests) == answers).all()
    audited = report.audit(tmp_path / "run")
    assert fitted.memory_["ok"] and fitted.memory_["arena"] == audited["arena"]


def test_fine_tuning_is_that_of_train(digits, tmp_path):
    """From a model, with its recipe and scaling; a frozen layer keeps its weights; a further call goes on."""
    X, y, *_ = digits
    old = small(BPClassifier, network="fc:40,30", run_dir=tmp_path / "old", **REAL).fit(X[:300], y[:300])
    fitted = BPClassifier(start=tmp_path / "old", freeze="1", epochs=2, random_state=5, threads=1).fit(X[300:], y[300:])
    assert fitted.recipe_.network == "fc:40,30" and fitted.recipe_.lr == 0.01 and not fitted.recipe_.binary_weights
    assert (fitted.model_.layers[0].weights == old.model_.layers[0].weights).all()
    assert (fitted.model_.layers[1].weights != old.model_.layers[1].weights).any()
    order, split = in_order(X[300:], y[300:]), (X[300:], y[300:])
    held = Dataset("samples", Split(*(part[order] for part in split)), Split(X[:0], y[:0]), 10, 1.0, 0.0, 1.0)
    which = further(old.model_, "samples", epochs=2, freeze="1", seed=5)
    assert train(which, held, tmp_path / "new", start=old.model_)["model_sha256"] == fitted.model_sha256_
    again = clone(fitted).set_params(start=old.model_, warm_start=True, epochs=1).fit(*split).fit(*split)
    assert (again.model_.layers[0].weights == old.model_.layers[0].weights).all()
    with pytest.raises(ValueError, match="takes 64 inputs"):
        clone(fitted).fit(X[:, :20], y)
    with pytest.raises(ValueError, match="whose lower layers are not those"):
        clone(fitted).set_params(network="fc:41,30").fit(X, y)


def test_a_budget_changes_the_memory_and_nothing_else(digits):
    X, y, *_ = digits
    fast, slow = small(network="fc:100").fit(X, y), small(network="fc:100", ram=12_000).fit(X, y)
    assert fast.model_sha256_ == slow.model_sha256_
    sizes = [one.memory_["arena"]["watermark_bytes"] for one in (fast, slow)]
    assert sizes[1] <= 12_000 < sizes[0]


def test_probabilities_are_the_softmax_of_the_logits(digits):
    X, y, tests, truth = digits
    for kind in CLASSIFIERS:
        fitted = small(kind, epochs=4, **REAL).fit(X, y)
        sure = fitted.predict_proba(tests)
        assert sure.shape == (300, 10) and np.allclose(sure.sum(axis=1), 1) and (sure >= 0).all()
        assert (fitted.classes_[sure.argmax(axis=1)] == fitted.predict(tests)).all()
        assert fitted.score(tests, truth) == (fitted.predict(tests) == truth).mean()
        seen = np.hstack([np.zeros((300, 10), np.uint8), tests]) if kind.algorithm == "ff" else tests
        logits = fitted.model_.logits(seen).astype(float)
        apart = logits - logits.max(axis=1, keepdims=True)
        assert np.allclose(sure, np.exp(apart) / np.exp(apart).sum(axis=1, keepdims=True), atol=1e-3)


def test_a_binary_network_learns_digits(digits):
    X, y, tests, truth = digits
    assert small(network="fc:200", schedule="stream", epochs=15, batch=10, lr=0.002).fit(X, y).score(tests, truth) > 0.8


def test_classes_may_be_anything(digits):
    X, y, tests, _ = digits
    names = np.array([f"digit {n}" for n in range(10)], dtype=object)
    plain, named = small().fit(X, y), small().fit(X, names[y])
    assert (names[plain.predict(tests)] == named.predict(tests)).all() and list(named.classes_) == sorted(names)
    odd = small().fit(X, 2 * y - 7)
    assert (odd.predict(tests) == 2 * plain.predict(tests) - 7).all() and odd.model_sha256_ == named.model_sha256_


def test_random_states(digits):
    X, y, *_ = digits

    def sha(state):
        return small(random_state=state, epochs=1).fit(X, y).model_sha256_

    assert sha(1) == sha(np.int64(1)) != sha(2)
    assert sha(np.random.RandomState(5)) == sha(np.random.RandomState(5))
    assert sha(None) != sha(None)
    source = np.random.RandomState(5)
    assert sha(source) != sha(source)


# Networks for images


IMAGES = {
    "giff_cnn": ("GIFFClassifier", {"network": "cnn", "groups": "1,2|3", "theta": 5.0, "label_width": 2, "lr": 0.005}),
    "giff_mul": ("GIFFClassifier", {"network": "fc:60", "merge": "mul", "rms": False, "theta": 20.0}),
    "bp_cnn": ("BPClassifier", {"network": "cnn", "lr": 0.005}),
    "lc": ("TinyFoAClassifier", {"network": "lc:8", "lc_connect": "depthwise", "schedule": "stream"}),
    "lc-bp": ("BPClassifier", {"network": "lc:8", "dropout": 0.1, "binary_activations": False}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_networks_that_read_images(digits, name):
    """Learnt, then answered by the model's file, which knows what a sample is."""
    X, y, tests, truth = digits
    kind, options = IMAGES[name]
    fitted = small(getattr(tinyfoa_np, kind), image=(1, 8, 8), **options).fit(X, y)
    assert fitted.score(tests, truth) > 0.5 and fitted.memory_["ok"]
    assert fitted.model_.inputs.image == (1, 8, 8)
    assert (fitted.predict_proba(tests).argmax(axis=1) == fitted.predict(tests)).all()


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("GIFFClassifier", {"network": "cnn"}, "takes images, and these samples are not images"),
        ("GIFFClassifier", {"network": "mlp", "schedule": "slice"}, "no schedule slice: it trains whole layers"),
        ("GIFFClassifier", {"network": "cnn", "image": (8, 8)}, "channels, rows and columns of 64 features"),
        ("GIFFClassifier", {"network": "mlp", "image": 8}, "channels, rows and columns of 64 features"),
        ("FFClassifier", {"image": (1, 8, 9)}, "channels, rows and columns of 64 features"),
        ("TinyFoAClassifier", {"network": "lc:8"}, "are not images"),
        ("TinyFoAClassifier", {"lc_connect": "full"}, "locally connected networks only"),
        ("BPClassifier", {"network": "cnn", "image": (1, 8, 8), "theta": 1.0}, "does not apply to algorithm bp"),
    ],
)
def test_what_does_not_go_with_images_is_one_line(digits, name, options, says):
    X, y, *_ = digits
    with pytest.raises(ValueError, match=says) as info:
        small(getattr(tinyfoa_np, name), **options).fit(X, y)
    assert "\n" not in str(info.value)


# Bytes and real numbers


def test_bytes_stay_bytes(digits):
    X, y, tests, _ = digits
    fitted = small().fit(X, y)
    assert fitted.model_.inputs.kind == "bytes"
    wanted = fitted.predict(tests)
    for kind in (float, np.int64, np.float32):
        assert (fitted.predict(tests.astype(kind)) == wanted).all()
    for wrong in (tests + 0.5, tests - 1.0, tests.astype(int) + 256):
        with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
            fitted.predict(wrong)
    assert small().fit(X.astype(float), y).model_.inputs.kind == "real"


def test_all_bytes_alike_and_layouts(digits):
    X, y, *_ = digits
    fitted = small(epochs=1).fit(X, y)
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    for same in (np.asfortranarray(X), strided):
        assert small(epochs=1).fit(same, y).model_sha256_ == fitted.model_sha256_
    assert small(epochs=1, normalize="unit").fit(np.zeros((20, 4), np.uint8), [0, 1] * 10).predict([[0] * 4]) in (0, 1)


# Streams


@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_partial_fit_on_the_same_samples_is_fit(kind, digits):
    X, y, *_ = digits
    whole, stream = small(kind, epochs=3).fit(X, y), small(kind, epochs=3)
    for _ in range(3):
        stream.partial_fit(X, y, classes=range(10))
    assert stream.model_sha256_ == whole.model_sha256_


def test_a_stream_is_learnt(digits):
    X, y, tests, truth = digits
    stream = small(network="fc:200,100", schedule="stream", lr=0.003, epochs=1)
    scores = []
    for _ in range(4):
        for part in np.array_split(np.arange(len(X)), 6):
            stream.partial_fit(X[part], y[part], classes=np.arange(10))
        scores.append(stream.score(tests, truth))
    assert scores[-1] > max(0.6, scores[0])
    assert stream.memory_["ok"]


def test_partial_fit_goes_on_after_fit_and_fit_begins_anew(digits):
    X, y, *_ = digits
    one = small(epochs=1).fit(X, y)
    before = one.model_sha256_
    assert one.partial_fit(X[:50], y[:50]).model_sha256_ != before
    assert one.fit(X, y).model_sha256_ == before


def test_a_stream_outlives_its_process_with_a_run_directory(digits, tmp_path):
    X, y, *_ = digits
    whole = small(epochs=2, random_state=1)
    for part in (slice(300), slice(300, 600)):
        whole.partial_fit(X[part], y[part], classes=range(10))
    options = {"epochs": 2, "random_state": 1, "run_dir": tmp_path / "run"}
    first = small(**options).partial_fit(X[:300], y[:300], classes=range(10))
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert pickle.loads(pickle.dumps(first)).partial_fit(X[300:], y[300:]).model_sha256_ == whole.model_sha256_
    another = small(**{**options, "run_dir": tmp_path / "copy"}).partial_fit(X[300:], y[300:], classes=range(10))
    assert another.model_sha256_ == whole.model_sha256_  # and sees bytes as the first samples made it see them


def test_what_partial_fit_refuses(digits):
    X, y, *_ = digits
    with pytest.raises(ValueError, match="needs classes"):
        small().partial_fit(X, y)
    stream = small(epochs=1).partial_fit(X[:40], y[:40], classes=range(10))
    with pytest.raises(ValueError, match="not among the classes"):
        stream.partial_fit(X[:2], [3, 12])
    with pytest.raises(ValueError, match="in the first call"):
        stream.partial_fit(X[:2], y[:2], classes=range(5))
    with pytest.raises(ValueError, match="no bytes"):
        stream.partial_fit(X[:40] + 0.5, y[:40])
    with pytest.raises(ValueError, match="give run_dir"):
        pickle.loads(pickle.dumps(stream)).partial_fit(X, y)
    stream.partial_fit(X[40:80], y[40:80])


# What is refused, and what is left behind


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"network": "fc:0"}, "is not understood"),
        ({"epochs": 0}, "epochs"),
        ({"dropout": 0.1}, "does not apply to algorithm tinyfoa"),
        ({"ram": 100}, "does not fit into 100 bytes"),
        ({"random_state": -1}, "seed"),
        ({"slices": 41}, "at most 40"),
    ],
)
def test_bad_parameters_are_value_errors_of_one_line(digits, options, says):
    X, y, *_ = digits
    with pytest.raises(ValueError, match=says) as info:
        small(**options).fit(X, y)
    assert "\n" not in str(info.value)


def test_one_class_is_refused(digits):
    X, *_ = digits
    with pytest.raises(ValueError, match="only one class"):
        small().fit(X, np.ones(len(X)))


def test_numbers_too_large_for_float32():
    with pytest.raises(ValueError, match="float32"):
        small().fit(np.full((20, 4), 1e300), [0, 1] * 10)


def test_a_run_directory_is_one_that_the_commands_read(digits, tmp_path):
    X, y, *_ = digits
    fitted = small(run_dir=tmp_path / "run", epochs=2).fit(X, y)
    assert report.audit(tmp_path / "run")["arena"] == fitted.memory_["arena"]
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["dataset"] == "samples"


def test_a_temporary_directory_goes_with_its_estimator(digits, monkeypatch, tmp_path):
    X, y, *_ = digits
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fitted = small(epochs=1).fit(X, y)
    assert len(os.listdir(tmp_path)) == 1
    other = pickle.loads(pickle.dumps(fitted))
    del fitted
    assert os.listdir(tmp_path) == [] and len(other.predict(X)) == 600
    assert small(epochs=1).fit(X, y).fit(X, y) and len(os.listdir(tmp_path)) <= 1  # one, not two
    failed = small(ram=10)
    with pytest.raises(ValueError, match="does not fit"):
        failed.fit(X, y)
    with pytest.raises(NotFittedError):
        failed.predict(X)
    assert failed.set_params(ram=None).partial_fit(X, y, classes=range(10)).score(X, y) >= 0
    del failed
    assert os.listdir(tmp_path) == []


def test_without_scikit_learn_there_is_a_message_and_the_rest_works():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import tinyfoa_np, tinyfoa_np.run.train; assert 'TinyFoAClassifier' in dir(tinyfoa_np)\n"
        "try: tinyfoa_np.TinyFoAClassifier\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "scikit-learn" in done.stdout and "[sklearn]" in done.stdout and done.stdout.count("\n") == 1
    with pytest.raises(AttributeError, match="no attribute 'dreams'"):
        tinyfoa_np.dreams  # noqa: B018


# Weights, held-out samples, scaling: what scikit-learn's users expect beside fit and predict


def test_weights_are_repetitions_and_the_order_of_samples_is_nothing(digits):
    X, y, *_ = digits
    X, y, often = X[:90], y[:90], np.arange(90) % 3
    weighted = small(epochs=2).fit(X, y, sample_weight=often).model_sha256_
    repeated = small(epochs=2).fit(np.repeat(X, often, axis=0)[::-1], np.repeat(y, often)[::-1]).model_sha256_
    assert weighted == repeated != small(epochs=2).fit(X, y).model_sha256_
    assert small(epochs=2, shuffle=False).fit(X[::-1], y[::-1]).model_sha256_ != weighted


def test_balanced_classes_count_the_same():
    """A class of 40 samples beside one of 400, on overlapping features: balanced, it is found as often as the other."""
    rng = np.random.default_rng(0)
    y = (np.arange(440) < 40).astype(int)
    X = rng.normal(size=(440, 6)) + y[:, None]
    found = {}
    for weight in (None, "balanced"):
        made = small(epochs=20, class_weight=weight, schedule="stream", **REAL).fit(X, y)
        found[weight] = (made.predict(X)[y == 1] == 1).mean()
    assert found["balanced"] > found[None] and found["balanced"] > 0.75


def test_weights_that_are_not_whole_are_rounded_over_all_samples():
    weights = np.random.default_rng(0).random(1000)
    often = repeats(weights)
    assert often.sum() == 1000 and np.abs(np.cumsum(often) - np.cumsum(weights) * 1000 / weights.sum()).max() <= 0.5


def test_sparse_samples_become_dense(digits):
    sparse = pytest.importorskip("scipy.sparse")
    X, y, tests, _ = digits
    dense, thin = small(epochs=2).fit(X, y), small(epochs=2).fit(sparse.csr_matrix(X), y)
    assert dense.model_sha256_ == thin.model_sha256_
    assert (thin.predict(sparse.csr_array(tests)) == dense.predict(tests)).all()


def test_training_stops_when_samples_set_aside_get_no_better(digits):
    X, y, tests, truth = digits
    for kind, layers in ((TinyFoAClassifier, 2), (tinyfoa_np.BPClassifier, 1)):
        options = {"network": "fc:40x2", "epochs": 60, "n_iter_no_change": 3, "lr": 0.02}
        stopped = small(kind, early_stopping=True, **options).fit(X, y, eval_set=(tests, truth))
        assert stopped.n_iter_ < 60 and len(stopped.loss_curve_) == len(stopped.history_)
        for layer in range(layers):
            errors = [row.test_error_pct for row in stopped.history_ if row.layer == layer]
            assert np.argmin(errors) == len(errors) - 4  # the first of the lowest, then three without a lower one
    watched = small(epochs=3).fit(X, y, eval_set=(tests, truth))
    assert watched.history_[-1].test_error_pct is not None and watched.n_iter_ == 3
    assert watched.model_sha256_ == small(epochs=3).fit(X, y).model_sha256_
    assert small(epochs=2, early_stopping=True).fit(X, y).history_[-1].test_error_pct is not None


def test_a_warm_start_goes_on(digits):
    X, y, *_ = digits
    usual = {"kind": tinyfoa_np.BPClassifier, "lr_schedule": "constant"}
    whole = small(epochs=2, **usual).fit(X, y)
    twice = small(epochs=1, warm_start=True, **usual).fit(X, y)
    first = twice.model_sha256_
    assert first != twice.fit(X, y).model_sha256_ == whole.model_sha256_
    with pytest.raises(ValueError, match="continues with"):
        twice.fit(X, y + 5)


def test_a_warm_start_stops_early_by_the_last_layers_error(digits):
    X, y, tests, truth = digits
    fitted = small(network="fc:40x2", epochs=40, lr=0.02, n_iter_no_change=2, warm_start=True, early_stopping=True)
    fitted.fit(X, y, eval_set=(tests, truth)).fit(X, y, eval_set=(tests, truth))
    further = [row for row in fitted.history_ if row.layer == 1]
    errors = [row.test_error_pct for row in further]
    assert len(errors) < 40


def test_the_decision_is_that_of_the_logits(digits):
    X, y, tests, _ = digits
    for labels in (y, y > 4):
        fitted = small(epochs=2).fit(X, labels)
        decided = fitted.decision_function(tests)
        answers = (decided > 0).astype(int) if decided.ndim == 1 else decided.argmax(axis=1)
        assert (fitted.classes_[answers] == fitted.predict(tests)).all()
        assert decided.shape == ((300,) if len(fitted.classes_) == 2 else (300, 10))


def test_scaling_becomes_part_of_the_model(digits):
    X, y, tests, _ = digits
    X, tests = X * np.float32(1000) + 7, tests * np.float32(1000) + 7
    for normalize in ("standard", "unit"):
        fitted = small(epochs=2, normalize=normalize).fit(X, y)
        shift, factor = fitted.model_.affine
        seen = (fitted._held(X) - shift) * factor
        ends = seen.min(axis=0), seen.max(axis=0)
        if normalize == "standard":
            ends = seen.mean(axis=0), seen.std(axis=0)
        varies = X.std(axis=0) > 0
        assert np.allclose(ends[0], 0, atol=1e-3) and np.allclose(ends[1][varies], 1, atol=1e-3)
        assert (fitted.predict(tests) == fitted.model_.predict(tests)).all()
    with pytest.warns(UserWarning, match="differ in scale"):
        small(epochs=1, lr=1e-6).fit(X * np.where(np.arange(64) % 2, 1, 1e-6), y)


def test_a_second_fit_replaces_the_run_and_nothing_else(digits, tmp_path):
    X, y, *_ = digits
    fitted = small(epochs=1, run_dir=tmp_path / "run")
    first = fitted.fit(X, y).model_sha256_
    assert fitted.fit(X[:300], y[:300]).model_sha256_ != first == fitted.fit(X, y).model_sha256_
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="thesis.tex, which no training wrote"):
        fitted.fit(X, y)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "mine" and (tmp_path / "run" / "flash").is_dir()


def test_runs_know_what_classes_and_columns_are_called(digits, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y, *_ = digits
    names = [f"pixel {n}" for n in range(64)]
    fitted = small(epochs=1, run_dir=tmp_path / "run")
    fitted.fit(pandas.DataFrame(X, columns=names), np.array(["even", "odd"])[y % 2])
    loaded = model.load(tmp_path / "run" / "model.safetensors")
    assert loaded.labels == ["even", "odd"] and loaded.columns == names


def test_nothing_waits_for_the_disk_without_a_run_directory(digits, tmp_path, monkeypatch):
    X, y, *_ = digits
    synced = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, synced.append, raising=False)
    small(epochs=2).fit(X, y)
    assert not synced
    small(epochs=2, run_dir=tmp_path / "run").fit(X, y)
    assert synced


def test_a_training_that_learns_nothing_says_so(digits):
    X, y, *_ = digits
    with pytest.warns(UserWarning, match="no better than that of the most frequent class, 10.0 %: try a larger lr"):
        small(epochs=1, lr=1e-30).fit(X[:200], np.arange(200) % 10 == 0)
