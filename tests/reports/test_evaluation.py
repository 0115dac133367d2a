"""Evaluations, beside scikit-learn's figures, and of a run's own test samples from its flash."""

import numpy as np
import pytest
from train_tools import recipe

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.reports.evaluation import evaluation, occurring, of_model
from tinyfoa_np.run import results

DRAW = np.random.default_rng(0)


def test_the_figures_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (extra sklearn)")
    scores, labels = DRAW.normal(size=(500, 4)), DRAW.integers(0, 3, 500)  # the last class never comes
    answers = scores.argmax(axis=1)
    found = evaluation(scores, labels, ["a", "b", "c", "d"])
    assert found["confusion"] == metrics.confusion_matrix(labels, answers, labels=range(4)).tolist()
    assert found["error_pct"] == pytest.approx(100 - 100 * metrics.accuracy_score(labels, answers))
    theirs = metrics.precision_recall_fscore_support(labels, answers, labels=range(4), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "samples"), theirs, strict=True):
        ours = [row[name] or 0 for row in found["classes"]]
        assert ours == pytest.approx(values.tolist())
    assert found["classes"][3]["recall"] is None and [row["label"] for row in found["classes"]] == list("abcd")
    assert found["majority_error_pct"] == pytest.approx(100 - 100 * np.bincount(labels).max() / 500)


def test_a_model_that_is_as_sure_as_it_is_right_is_calibrated():
    share = np.repeat(DRAW.uniform(0.55, 0.95, 50), 400)
    scores = np.stack([np.log(share), np.log(1 - share)], axis=1)
    labels = (DRAW.random(len(share)) > share).astype(int)
    good = evaluation(scores, labels)["calibration"]
    assert good["expected_error_pct"] < 2 and sum(row["samples"] for row in good["bins"]) == len(share)
    assert evaluation(20 * scores, labels)["calibration"]["expected_error_pct"] > 15


def test_no_samples():
    with pytest.raises(BadRequest, match="no samples"):
        evaluation(np.zeros((0, 3)), np.zeros(0, int))


@pytest.mark.parametrize("algorithm", ["tinyfoa", "bp"])
@pytest.mark.parametrize("kind", ["bytes", "real"])
def test_the_test_samples_of_a_run_come_from_its_flash(algorithm, kind, tmp_path, no_waiting_for_the_disk):
    from pins import made

    from tinyfoa_np.run.train import train

    data = made(kind)
    result = train(recipe(dataset="made", algorithm=algorithm, network="fc:20", epochs=2), data, tmp_path, threads=1)
    trained = results.model(tmp_path)
    unscaled, inputs, labels = results.tested(tmp_path, trained)
    scores = trained.scores(data.test.inputs)
    assert labels.tolist() == data.test.labels.tolist() and (unscaled.scores(inputs) == scores).all()
    found = of_model(unscaled, inputs, labels)
    assert found == evaluation(scores, labels, trained.labels) and found["error_pct"] == result["error_pct"]


def test_very_many_classes_take_little_memory():
    """A confusion matrix of 65,536 classes would take 34 GB."""
    scores, labels = DRAW.normal(size=(5, 65536)), np.array([0, 1, 1, 65535, 7])
    scores[range(5), [0, 2, 2, 65535, 9]] = 100
    found = evaluation(scores, labels)
    assert found["confusion"] is None and found["wrong"] == 3 and len(found["classes"]) == 65536
    assert [row["label"] for row in occurring(found)] == [0, 1, 2, 7, 9, 65535]
    mistakes = [tuple(row.values()) for row in found["mistakes"]]
    assert mistakes == [(2, 1, 2), (1, 7, 9)]
