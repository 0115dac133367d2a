"""Training that stops: killed, interrupted, diverging, refused; what is left can be resumed, to the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from train_tools import (
    WIDTH,
    Crash,
    crash_at,
    digest,
    is_committed,
    made,
    metrics,
    model_file,
    opened,
    outcome,
    recipe,
    run,
    same,
    scaled,
    signal_at,
    until_done,
    weights,
)

from tinyfoa_np.data import Split
from tinyfoa_np.errors import BadRequest, CheckFailed, TinyFoAError
from tinyfoa_np.run.directory import BEGUN
from tinyfoa_np.run.events import Diverged, Interrupted
from tinyfoa_np.run.train import train

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

WHICH = recipe(epochs=3, slices=2)
OPTIONS = [
    {},
    {"schedule": "stream", "slices": 3},
    {"schedule": "frozen", "optimizer": "momentum"},
    {"recompute": True},
    {"binary_activations": False, "exchanges": 7},
    {"binary_weights": False, "hold": "2", "optimizer": "sgd"},
    {"moments": "int8", "hold": "2"},
    {"moments": "bfloat16", "schedule": "stream", "optimizer": "nesterov"},
]


# Killed


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Each recipe trained without interruption, once."""
    where, runs = tmp_path_factory.mktemp("whole"), {}

    def get(number):
        if number not in runs:
            runs[number] = run(where, replace(WHICH, **OPTIONS[number]), made())
        return runs[number]

    return get


@settings(max_examples=40)
@given(
    st.integers(0, len(OPTIONS) - 1),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
    st.sampled_from([None, 1, 2, 3]),
    st.booleans(),
)
def test_a_crash_at_any_event_loses_nothing_that_shows(tmp_path_factory, whole_runs, number, crashes, every, audit):
    which, where = replace(WHICH, **OPTIONS[number]), tmp_path_factory.mktemp("crash") / "run"
    resumed = until_done(which, made(), where, crashes, commit_every=every, audit=audit)
    same(resumed, whole_runs(number))
    if audit:
        assert resumed["findings"] == []


@pytest.mark.parametrize(
    "kind, layer", [*product(("batch", "epoch", "handover", "layer"), (0, 1)), ("start", 0), ("done", 0)]
)
def test_a_crash_at_each_kind_of_event(tmp_path, whole_runs, kind, layer):
    die = crash_at(lambda event: (event.kind, event.layer) == (kind, layer))
    with pytest.raises(Crash):
        train(WHICH, made(), tmp_path / "run", on_event=die)
    same(train(WHICH, made(), tmp_path / "run", resume=True), whole_runs(0))


def test_a_commit_at_the_last_batch_of_an_epoch_can_be_resumed(tmp_path, whole_runs):
    """The epoch's test error is still to be measured then."""
    with pytest.raises(Crash):
        at_the_end = crash_at(lambda event: event.kind == "epoch" and event.epoch == 1)
        train(WHICH, made(), tmp_path / "run", commit_every=3, on_event=at_the_end)
    with opened(tmp_path / "run", WHICH) as flash:
        assert (flash.meta["epoch"], flash.meta["batch"]) == (1, 3)
    same(train(WHICH, made(), tmp_path / "run", resume=True), whole_runs(0))


CHILD = """
import sys
from pathlib import Path
from train_tools import made, recipe
from tinyfoa_np.run.train import train
where = Path(sys.argv[1])
which = recipe(network="fc:200,100", epochs=40, schedule="stream", hold=None)
print("go", flush=True)
result = train(which, made(samples=230, tests=50), where, threads=2, resume=where.exists(), commit_every=5,
               on_event=lambda event: event.kind == "start" and print("training", flush=True))
print(result["model_sha256"])
"""


def test_kill_9_at_random_moments(tmp_path):
    """A process that is killed again and again, at random moments, ends with the model of one that was not."""
    which = recipe(network="fc:200,100", epochs=40, schedule="stream")
    whole, begun = None, time.perf_counter()
    whole = train(which, made(samples=230, tests=50), tmp_path / "whole", threads=2)
    seconds = time.perf_counter() - begun
    here, package = Path(__file__).parents[1], Path(sys.modules[train.__module__].__file__).parents[2]
    paths = [str(here / "tools"), str(package), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    dice, where = random.Random(0), tmp_path / "killed"
    kills, printed = 0, ""
    for _ in range(60):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(where)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as child:
            assert child.stdout.readline() == "go\n", child.stderr.read()
            if kills < 20:
                if child.stdout.readline() == "training\n":
                    time.sleep(dice.uniform(0, seconds / 8))
                child.kill()
            printed, errors = child.communicate()
        if child.returncode == -signal.SIGKILL:
            kills += 1
        else:
            break
    assert child.returncode == 0, errors
    assert kills >= 15
    assert printed.split()[-1] == whole["model_sha256"]
    rows = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in row if key != "seconds"} for row in rows] == metrics(whole)
    assert model_file(where) == model_file(whole["run_dir"])


def test_killed_before_the_first_commit_can_only_be_started_over(tmp_path, monkeypatch, whole_runs):
    """Nothing is lost then; neither `resume` nor a new run may send the user round in circles."""
    from tinyfoa_np.run.train import _Run

    encode = _Run._encode

    def die(self, name, *rest):
        encode(self, name, *rest)
        if name == "test":
            raise Crash

    monkeypatch.setattr(_Run, "_encode", die)
    with pytest.raises(Crash):
        train(WHICH, made(), tmp_path / "run")
    monkeypatch.undo()
    assert not is_committed(tmp_path / "run")
    kind, message = outcome(train, WHICH, made(), tmp_path / "run", resume=True)
    assert issubclass(kind, TinyFoAError) and "begin a new run" in message
    same(train(WHICH, made(), tmp_path / "run"), whole_runs(0))


def test_a_committed_run_has_its_recipe(tmp_path, monkeypatch):
    """Whoever resumes by directory alone reads the recipe there: it must exist once there is something to resume."""
    from tinyfoa_np.storage import flash

    commit = flash.Flash.commit

    def die(self, *args):
        commit(self, *args)
        raise Crash

    monkeypatch.setattr(flash.Flash, "commit", die)
    with pytest.raises(Crash):
        train(WHICH, made(), tmp_path / "run")
    assert (tmp_path / "run" / "recipe.json").read_text() == WHICH.validated().to_json()


# Interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "where",
    [
        ("batch", 0, 0, 0),
        ("batch", 0, 1, 1),
        ("batch", 0, 2, 2),
        ("epoch", 0, 1, 0),
        ("handover", 0, 0, 1),
        ("batch", 1, 2, 2),
    ],
    ids=str,
)
def test_ctrl_c_commits_and_can_be_resumed(tmp_path, whole_runs, where, number):
    stop = signal_at(lambda event: (event.kind, event.layer, event.epoch, event.batch) == where, number)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as interrupted:
        train(WHICH, made(), tmp_path / "run", on_event=stop)
    assert interrupted.value.exit_code == 130
    assert "\n" not in str(interrupted.value) and f"--resume {tmp_path / 'run'}" in str(interrupted.value)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    kind, layer, epoch, batch = where
    with opened(tmp_path / "run", WHICH) as flash:  # not one finished step is lost
        done = {"batch": (layer, epoch, batch + 1), "epoch": (layer, epoch + 1, 0), "handover": (layer + 1,)}[kind]
        assert tuple(flash.meta[key] for key in ("layer", "epoch", "batch"))[: len(done)] == done
    same(train(WHICH, made(), tmp_path / "run", resume=True), whole_runs(0))


def test_ctrl_c_in_the_last_hand_over_lets_it_finish(tmp_path, whole_runs):
    stop = signal_at(lambda event: event.kind == "handover" and event.layer == 1)
    same(train(WHICH, made(), tmp_path / "run", on_event=stop), whole_runs(0))


def test_a_second_ctrl_c_is_obeyed_at_once(tmp_path, whole_runs):
    def twice(event):
        if event.kind == "batch" and event.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(WHICH, made(), tmp_path / "run", on_event=twice)
    same(train(WHICH, made(), tmp_path / "run", resume=True), whole_runs(0))


def test_training_in_a_thread_leaves_signals_alone(tmp_path, whole_runs):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(WHICH, made(), tmp_path / "run")))
    thread.start()
    thread.join()
    same(results[0], whole_runs(0))


# Resumed


def test_a_finished_run_can_be_resumed_and_says_the_same(tmp_path, whole_runs):
    first = train(WHICH, made(), tmp_path / "run")
    assert train(WHICH, made(), tmp_path / "run", resume=True) == first
    same(first, whole_runs(0))


def test_resume_with_other_threads_and_ram(tmp_path, whole_runs):
    with pytest.raises(Crash):
        train(WHICH, made(), tmp_path / "run", threads=1, on_event=crash_at(9))
    result = train(WHICH, made(), tmp_path / "run", threads=4, ram=10**6, resume=True)
    assert result["model_sha256"] == whole_runs(0)["model_sha256"]


def test_another_recipe_cannot_resume_a_run(tmp_path):
    train(WHICH, made(), tmp_path / "run")
    kind, message = outcome(train, replace(WHICH, lr=1e-3), made(), tmp_path / "run", resume=True)
    assert issubclass(kind, CheckFailed) and "another recipe" in message


def test_a_run_that_is_not_there_cannot_be_resumed(tmp_path):
    kind, message = outcome(train, WHICH, made(), tmp_path / "run", resume=True)
    assert issubclass(kind, TinyFoAError) and "no commit" in message
    assert not (tmp_path / "run").exists()


def test_a_run_in_use_is_left_alone(tmp_path, whole_runs):
    met = []

    def look(event):
        if event.kind == "epoch" and not met:
            met.append(outcome(train, WHICH, made(), tmp_path / "run", resume=True))
            met.append(outcome(train, WHICH, made(), tmp_path / "run"))

    same(train(WHICH, made(), tmp_path / "run", on_event=look), whole_runs(0))
    assert "in use" in met[0][1]
    assert met[1][0] is BadRequest


@pytest.mark.parametrize("change", ["missing", "short"])
def test_metrics_that_are_not_all_there_are_not_made_up(tmp_path, change):
    with pytest.raises(Crash):
        train(WHICH, made(), tmp_path / "run", on_event=crash_at(lambda event: event.layer == 1))
    path = tmp_path / "run" / "metrics.jsonl"
    path.unlink() if change == "missing" else path.write_bytes(path.read_bytes()[:-9])
    kind, message = outcome(train, WHICH, made(), tmp_path / "run", resume=True)
    assert kind is CheckFailed and "metrics.jsonl" in message


# Diverging


@pytest.mark.parametrize("binary_weights", [True, False])
def test_a_loss_that_is_no_number_stops_training(tmp_path, binary_weights):
    which = recipe(network="fc:20", binary_weights=binary_weights, binary_activations=False, epochs=3)
    kind, message = outcome(train, which, scaled(made("real"), 3e38), tmp_path / "run")
    assert kind is Diverged
    assert "diverged in layer 1, epoch 1, batch" in message and "last commit" in message
    with opened(tmp_path / "run", which) as flash:
        assert flash.meta["layer"] == 0
        assert not flash.fallback
    assert {path.name for path in (tmp_path / "run").iterdir()} == set(BEGUN)


@settings(max_examples=60)
@example(False, False, "adam", "slice", 18.0, 20.0, 1)  # Adam's mean times its rate overflows
@example(True, True, "adam", "stream", 29.9, 0.0, 2)
@example(True, False, "adam", "slice", -3.0, 20.0, 2)  # the square of a gradient overflows
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from(["adam", "momentum", "sgd"]),
    st.sampled_from(["slice", "stream"]),
    st.floats(-6, 38),
    st.floats(-30, 38.5),
    st.integers(1, 2),
)
def test_what_is_kept_is_always_a_number(tmp_path_factory, bw, ba, optimizer, schedule, lr, factor, epochs):
    """However large inputs and steps are: a run ends with finite weights, or says that it diverged (or refuses)."""
    which = recipe(
        network="fc:20,9",
        binary_weights=bw,
        binary_activations=ba,
        optimizer=optimizer,
        schedule=schedule,
        lr=10.0**lr,
        epochs=epochs,
    )
    where = tmp_path_factory.mktemp("huge") / "run"
    try:
        result = train(which, scaled(made("real"), 10.0**factor), where)
    except BadRequest as refused:
        assert "lr" in str(refused)
        return
    except CheckFailed as failed:
        assert "diverged" in str(failed) and "\n" not in str(failed)
    else:
        assert result["model_sha256"] == digest(weights(where, which))
    for W, b in weights(where, which):
        assert np.isfinite(W).all() and np.isfinite(b).all()
        assert np.abs(W).max() <= 1 and np.abs(b).max() <= 1


# Refused


@pytest.mark.parametrize("content", ["notes.txt", "audit.json", "flash/weights"])
def test_a_directory_that_is_not_empty_is_refused(tmp_path, content):
    (tmp_path / "run" / content).parent.mkdir(parents=True)
    (tmp_path / "run" / content).write_text("mine")
    kind, message = outcome(train, WHICH, made(), tmp_path / "run")
    assert issubclass(kind, TinyFoAError) and "not empty" in message
    assert (tmp_path / "run" / content).read_text() == "mine"


def test_a_finished_run_is_not_written_over(tmp_path):
    first = train(WHICH, made(), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert outcome(train, WHICH, made(), tmp_path / "run")[0] is BadRequest
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert first["error_pct"] is not None


def test_an_empty_directory_is_taken(tmp_path, whole_runs):
    same(train(WHICH, made(), tmp_path), whole_runs(0))


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_in_the_way(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    assert outcome(train, WHICH, made(), f"{tmp_path / 'file'}{below}")[0] is BadRequest


def spoiled(part, inputs=None, labels=None, **others):
    dataset = made("real")
    split = getattr(dataset, part)
    inputs = split.inputs if inputs is None else inputs(split.inputs)
    labels = split.labels if labels is None else labels(split.labels)
    return replace(dataset, **{part: Split(inputs, labels)}, **others)


def put(value):
    def change(array):
        array = array.copy()
        array.flat[-1] = value
        return array

    return change


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    "change, says",
    [
        ({"inputs": put(np.nan)}, "NaN"),
        ({"inputs": put(-np.inf)}, "infinite"),
        ({"labels": put(3)}, "0 to 2"),
        ({"labels": put(-1)}, "0 to 2"),
        ({"labels": lambda y: y + 0.5}, "label"),
        ({"labels": lambda y: y[:-1]}, "as many labels"),
        ({"inputs": lambda x: x.astype(np.float64)}, "float64"),
        ({"inputs": lambda x: x.astype(np.int16)}, "int16"),
        ({"inputs": lambda x: x.ravel()}, "(N, I)"),
        ({"inputs": lambda x: x[:, :-1]}, f"{WIDTH - 1}|{WIDTH}"),
    ],
    ids=["nan", "inf", "label3", "label-1", "half", "fewer", "float64", "int16", "flat", "width"],
)
def test_samples_that_cannot_be_trained_on(tmp_path, part, change, says):
    kind, message = outcome(train, WHICH, spoiled(part, **change), tmp_path / "run")
    assert kind is BadRequest
    assert any(word in message for word in says.split("|")), message
    assert "made" in message
    assert not (tmp_path / "run").exists()


def test_without_samples_nothing_trains_but_there_need_be_none_to_test(tmp_path):
    none = {"inputs": lambda x: x[:0], "labels": lambda y: y[:0]}
    kind, message = outcome(train, WHICH, spoiled("train", **none), tmp_path / "run")
    assert kind is BadRequest and "at least one" in message
    result = train(WHICH, spoiled("test", **none), tmp_path / "run")
    assert result["error_pct"] is None and set(result["layer_errors_pct"]) == {None}
    assert {row["test_error_pct"] for row in metrics(result)} == {None}
    assert result["model_sha256"] == train(WHICH, spoiled("test"), tmp_path / "whole")["model_sha256"]


def test_bytes_to_train_and_numbers_to_test_do_not_go_together(tmp_path):
    mixed = replace(made("bytes"), test=made("real").test)
    assert outcome(train, WHICH, mixed, tmp_path / "run")[0] is BadRequest


@pytest.mark.parametrize("option", [{"slices": 21}, {"network": "fc:"}, {"epochs": 0}, {"network": "fc:9999999999999"}])
def test_a_recipe_that_cannot_be_trained_leaves_nothing(tmp_path, option):
    assert outcome(train, replace(WHICH, **option), made(), tmp_path / "run")[0] is BadRequest
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ram", [0, 1, 1000])
def test_too_little_ram_leaves_nothing(tmp_path, ram):
    kind, message = outcome(train, WHICH, made(), tmp_path / "run", ram=ram)
    assert kind is BadRequest and "RAM" in message
    assert not (tmp_path / "run").exists()


# Resumed with nothing but the directory


def test_a_resumed_run_needs_no_data_and_keeps_its_budget(tmp_path):
    whole = run(tmp_path, WHICH, made())
    least = whole["arena"]["planned_bytes"]
    with pytest.raises(Interrupted):
        train(
            WHICH,
            made(),
            tmp_path / "again",
            ram=least,
            threads=1,
            on_event=signal_at(lambda event: event.kind == "epoch" and event.layer == 1),
        )
    result = train(WHICH, None, tmp_path / "again", resume=True, threads=1)
    assert result["model_sha256"] == whole["model_sha256"]
    assert result["arena"]["budget_bytes"] == least
    (tmp_path / "again" / "data.json").write_text("{}")
    with pytest.raises(CheckFailed, match="data.json is missing or damaged"):
        train(WHICH, None, tmp_path / "again", resume=True)


def test_a_run_that_never_began_leaves_nothing(tmp_path, monkeypatch):
    from tinyfoa_np.run import train as training

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training._Run, "_encode", die)
    with pytest.raises(KeyboardInterrupt):
        train(WHICH, made(), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
