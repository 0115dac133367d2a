"""Training on a stream: epoch by epoch on samples that come and go, through crashes, within a budget."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_tools import (
    Crash,
    arenas,
    crash_at,
    made,
    metrics,
    model_file,
    outcome,
    recipe,
    run,
)

from tinyfoa_np.data import Split
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.model import model
from tinyfoa_np.reports import record
from tinyfoa_np.run.train import train

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

#: those whose layers train together are the same whether their epochs come one by one or not
ALONE = [
    {"network": "fc:33", "slices": 2, "optimizer": "adam"},
    {"network": "fc:33", "slices": 3, "exchanges": 4, "moments": "int8"},
    {"network": "fc:33", "schedule": "frozen"},
    {"algorithm": "bp", "schedule": "slice", "lr_schedule": "cooldown"},
    {"algorithm": "drtp"},
    {"algorithm": "pepita"},
    {"algorithm": "ff", "shuffle": True},
]


def parts(dataset, *bounds):
    """The data set's training samples in several, without a test set."""
    x, y = dataset.train.inputs, dataset.train.labels
    none = Split(x[:0], y[:0])
    return [replace(dataset, train=Split(x[a:b], y[a:b]), test=none) for a, b in zip((0, *bounds), (*bounds, len(y)))]


@pytest.mark.parametrize("options", ALONE, ids=lambda options: "-".join(map(str, options.values())))
def test_epochs_of_the_same_samples_one_by_one_are_a_training(tmp_path, options):
    which, dataset = recipe(epochs=4, lr=2e-3, **options), made(samples=96)
    whole = run(tmp_path, which, dataset)
    for _ in range(4):
        last = train(which, dataset, tmp_path / "stream", stream=True)
    assert last["model_sha256"] == whole["model_sha256"] and last["error_pct"] == whole["error_pct"]
    assert metrics(last) == metrics(whole)
    assert model_file(last["run_dir"]) == model_file(whole["run_dir"])


def test_epochs_come_again_after_the_last(tmp_path):
    """The schedule's place is that of the call: here which slice trains, of one in each call."""
    which, dataset = recipe(network="fc:30", epochs=4, slices=2, lr=0.01), made(samples=96)
    before, moved = None, []
    for _ in range(6):
        train(which, dataset, tmp_path / "run", stream=True)
        now = signs(tmp_path / "run", which)
        if before is not None:
            changed = (now != before).reshape(2, 15, 2, 35)
            moved.append(changed.any(axis=(1, 3)).ravel().tolist())
        before = now
    assert moved == [[k == turn % 4 for k in range(4)] for turn in range(1, 6)]
    assert [row["epoch"] for row in metrics({"run_dir": tmp_path / "run"})] == list(range(6))


def signs(directory, which):
    weights = model.load(Path(directory) / "model.safetensors").layers[0].weights
    bits = np.unpackbits(weights.transpose(0, 2, 1).copy().view(np.uint8), bitorder="little")
    return bits.reshape(weights.shape[0] * 8, -1)[:30, :70]


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "stream"},
        {"schedule": "stream", "binary_activations": False, "recompute": True},
        {"algorithm": "bp", "normalize": "standard", "binary_weights": False, "binary_activations": False},
    ],
)
def test_a_stream_is_learnt(tmp_path, options):
    """Samples come once, in parts of unlike sizes; what was learnt on the first is still there after the last."""
    which = recipe(network="fc:60,40", lr=3e-3, epochs=1, batch=16, **options)
    dataset = made(samples=900, tests=200)
    for part in parts(dataset, 200, 300, 301, 600):
        result = train(which, part, tmp_path / "run", stream=True)
        assert result["error_pct"] is None and set(result["layer_errors_pct"]) == {None}
    answers = model.load(tmp_path / "run" / "model.safetensors").predict(dataset.test.inputs)
    assert (answers == dataset.test.labels).mean() > 0.9
    assert record.disagreements(record.read(tmp_path / "run")) == []


def test_a_budget_and_an_audit_change_nothing(tmp_path):
    which, dataset = recipe(network="fc:64,40", slices=4, epochs=2), made(samples=200)
    least = 12_000
    results = {}
    for name, options in {"fast": {}, "small": {"ram": least}, "audit": {"audit": True, "ram": least}}.items():
        for part in parts(dataset, 70, 140):
            results[name] = train(which, part, tmp_path / name, stream=True, **options)
    assert len({result["model_sha256"] for result in results.values()}) == 1
    assert results["audit"]["findings"] == []
    assert all(watermark <= least for *_, watermark in arenas(results["small"]))


def test_a_crash_anywhere_loses_nothing(tmp_path):
    which, (first, second) = recipe(epochs=3), parts(made(samples=140), 70)
    train(which, first, tmp_path / "whole", stream=True)
    whole = train(which, second, tmp_path / "whole", stream=True)
    events = []
    train(which, second, tmp_path / "count", stream=True, on_event=events.append)
    for number in range(0, len(events), 3):
        where = tmp_path / f"crash{number}"
        train(which, first, where, stream=True)
        try:
            resumed = train(which, second, where, stream=True, on_event=crash_at(number))
        except Crash:
            resumed = train(which, None, where, resume=True)
        assert resumed["model_sha256"] == whole["model_sha256"] and metrics(resumed) == metrics(whole)


def test_a_crash_before_the_new_samples_are_there(tmp_path, monkeypatch):
    which, (first, second) = recipe(), parts(made(samples=140), 70)
    train(which, first, tmp_path / "run", stream=True)

    def gone(*_):
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr("tinyfoa_np.run.train._Run._encode", gone)
        train(which, second, tmp_path / "run", stream=True)
    assert outcome(train, which, None, tmp_path / "run", resume=True)[0] is CheckFailed
    result = train(which, second, tmp_path / "run", stream=True)
    train(which, first, tmp_path / "whole", stream=True)
    assert result["model_sha256"] == train(which, second, tmp_path / "whole", stream=True)["model_sha256"]


@pytest.mark.parametrize("kind, inputs, classes", [("real", 70, 3), ("bytes", 71, 3), ("bytes", 70, 4)])
def test_other_samples_are_refused(tmp_path, kind, inputs, classes):
    train(recipe(), made(), tmp_path / "run", stream=True)
    before = json.loads((tmp_path / "run" / "audit.json").read_text())
    what, message = outcome(train, recipe(), made(kind, inputs=inputs, classes=classes), tmp_path / "run", stream=True)
    assert what in (BadRequest, CheckFailed) and "samples of the same kind and scale are needed" in message
    assert train(recipe(), made(), tmp_path / "run", stream=True)["model_sha256"] != before["model_sha256"]


def test_bytes_that_are_seen_otherwise_and_a_resume_of_a_stream_are_refused(tmp_path):
    train(recipe(), made(), tmp_path / "run", stream=True)
    what, message = outcome(train, recipe(), replace(made(), offset=0.5), tmp_path / "run", stream=True)
    assert what is BadRequest and "offset -3.2" in message
    assert outcome(train, recipe(), made(), tmp_path / "run", stream=True, resume=True)[0] is BadRequest


def test_a_run_that_has_not_finished_and_one_that_is_lean_are_refused(tmp_path):
    with pytest.raises(Crash):
        train(recipe(), made(), tmp_path / "begun", stream=True, on_event=crash_at(5))
    assert outcome(train, recipe(), made(), tmp_path / "begun", stream=True)[1].startswith(str(tmp_path / "begun"))
    train(recipe(), made(), tmp_path / "lean", stream=True, lean=True)
    assert "lean" in outcome(train, recipe(), made(), tmp_path / "lean", stream=True)[1]


def test_a_finished_training_goes_on_as_a_stream(tmp_path):
    dataset, which = made(samples=300, tests=100), recipe(network="fc:60", schedule="stream", lr=2e-3, epochs=2)
    whole = train(which, parts(dataset, 100)[0], tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(which, parts(dataset, 100)[1], tmp_path / "run", stream=True)
    assert result["model_sha256"] != whole["model_sha256"]
    assert [row["epoch"] for row in metrics(result)] == [0, 1, 2]
    assert len(result["seconds_per_epoch"]) == len(result["layer_errors_pct"]) == 1
