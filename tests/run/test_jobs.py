"""Runs in processes of their own: done once, resumed where they were begun, stopped together, failing alone."""

import json
import os
import signal
from pathlib import Path

import pytest
from train_tools import Crash, crash_at

from tinyfoa_np import data
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import jobs as workers
from tinyfoa_np.run import train as training
from tinyfoa_np.run.events import Diverged
from tinyfoa_np.run.jobs import Run

pytest.importorskip("sklearn", reason="the runs here are on its digits")

KEPT = {"recipe.json", "data.json", "metrics.jsonl", "audit.json", "model.safetensors", "result.json"}
LONG = 20000  # epochs: more than any test waits for


def made(directory, name="run", **options):
    """A run that takes no time worth speaking of, unless told otherwise."""
    recipe = Recipe(**{"network": "fc:20x2", "epochs": 2, "limit": 150, "batch": 50, **options}).validated()
    return Run(name, recipe, Path(directory) / name)


def perform_all(runs, jobs=2, on_progress=lambda run, part, where: None):
    """How each run ended, by name."""
    ends = {}
    workers.perform_all(runs, jobs, on_progress, lambda run, reason: ends.update({run.name: reason}))
    return ends


# One run, in this process


def test_a_run_leaves_its_result_and_no_flash(tmp_path):
    run = made(tmp_path)
    assert workers.finished(run) is None and not workers.begun(run)
    result = workers.perform(run)
    assert {path.name for path in run.directory.iterdir()} == KEPT
    assert workers.finished(run) == json.loads(json.dumps(result))
    assert result["outcome"] == "finished" and len(result["layer_errors_pct"]) == 2
    assert len(result["warnings"]) == 1 and "only 2 of 4 slices per layer" in result["warnings"][0]


@pytest.mark.parametrize("at", [0, 5, 11, 17])
def test_a_run_that_was_broken_off_is_resumed(tmp_path, at):
    whole, broken = made(tmp_path, "whole", epochs=3), made(tmp_path, "broken", epochs=3)
    with pytest.raises(Crash):
        workers.perform(broken, crash_at(at))
    assert workers.begun(broken) and workers.finished(broken) is None
    assert workers.perform(broken)["model_sha256"] == workers.perform(whole)["model_sha256"]


def test_a_run_that_ended_before_its_result_was_written_is_not_trained_again(tmp_path):
    run = made(tmp_path, schedule="stream")
    training.train(run.recipe, data.load("digits"), run.directory, threads=1)
    before = (run.directory / "metrics.jsonl").read_bytes()
    kinds = []
    assert workers.perform(run, lambda event: kinds.append(event.kind))["outcome"] == "finished"
    assert kinds == ["start", "done"] and (run.directory / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(("epochs", "layer", "epoch"), [(0, 1, 1), (1, 1, 2), (2, 2, 1), (3, 2, 2)])
def test_a_run_that_diverges_is_done_and_says_where(tmp_path, monkeypatch, epochs, layer, epoch):
    def diverge(recipe, dataset, directory, **_):
        directory.mkdir()
        (directory / "flash").mkdir()
        (directory / "metrics.jsonl").write_text("{}\n" * epochs)
        raise Diverged("training diverged")

    monkeypatch.setattr(training, "train", diverge)
    run = made(tmp_path)
    workers.perform(run)
    result = workers.finished(run)
    assert (result["outcome"], result["layer"], result["epoch"]) == ("diverged", layer, epoch)
    assert result["message"] == "training diverged" and not (run.directory / "flash").exists()


def test_a_training_that_really_diverges(tmp_path):
    run = made(tmp_path, algorithm="bp", binary_weights=False, optimizer="sgd", lr=1e29)
    assert workers.perform(run)["outcome"] == "diverged"
    assert workers.finished(run)["epoch"] == 1


# What is in the way


def test_runs_of_another_recipe_are_left_alone(tmp_path):
    run, other = made(tmp_path), made(tmp_path, seed=3)
    with pytest.raises(Crash):
        workers.perform(run, crash_at(3))
    with pytest.raises(BadRequest, match="trained with seed 0, not 3: give another --out"):
        workers.begun(other)
    workers.perform(run)
    with pytest.raises(BadRequest, match="trained with seed 0, not 3"):
        workers.finished(other)
    assert workers.finished(run)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"outcome": "finished"}', '{"recipe": 3, "outcome": "x"}'])
def test_damaged_results_are_named(tmp_path, content):
    run = made(tmp_path)
    run.directory.mkdir()
    (run.directory / "result.json").write_text(content)
    with pytest.raises(CheckFailed, match="result.json is damaged"):
        workers.finished(run)


def test_a_directory_in_another_use_is_refused(tmp_path):
    run = made(tmp_path)
    run.directory.mkdir()
    assert not workers.begun(run)
    (run.directory / "notes.txt").write_text("mine")
    with pytest.raises(BadRequest, match="in the way"):
        workers.begun(run)
    (run.directory / "recipe.json").write_text("{")
    with pytest.raises(CheckFailed, match="recipe.json is damaged"):
        workers.begun(run)
    file = made(tmp_path, "file")
    file.directory.write_text("mine")
    with pytest.raises(BadRequest, match="in the way"):
        workers.begun(file)


# Many runs, in processes


def test_each_run_is_done_once_and_one_that_fails_stops_no_other(tmp_path):
    done, fresh = made(tmp_path, "done"), made(tmp_path, "fresh", seed=1)
    workers.perform(done)
    (done.directory / "flash").mkdir()  # as if it had been killed just before this was removed
    before = (done.directory / "result.json").stat().st_mtime_ns
    impossible = made(tmp_path, "impossible", slices=21)
    diverging = made(tmp_path, "diverging", algorithm="bp", binary_weights=False, optimizer="sgd", lr=1e29)
    parts = []
    ends = perform_all(
        [impossible, done, diverging, fresh], on_progress=lambda run, part, where: parts.append((part, where))
    )
    assert "slices" in ends.pop("impossible")
    assert ends == {"done": None, "fresh": None, "diverging": None}
    assert (done.directory / "result.json").stat().st_mtime_ns == before and not (done.directory / "flash").exists()
    assert workers.finished(fresh) and workers.finished(impossible) is None
    assert (1.0, "layer 2/2, epoch 2/2") in parts and all(0 < part <= 1 for part, _ in parts)
    assert workers.finished(diverging)["outcome"] == "diverged"


def test_a_killed_process_is_a_run_that_failed(tmp_path):
    child = workers._Child(made(tmp_path, epochs=LONG))
    assert child.listen(lambda *_: child.process.kill())
    while child.listen(lambda *_: None):
        pass
    assert child.ended() == "its process was ended by signal 9 (out of memory?)"


def test_a_process_whose_parent_is_gone_ends(tmp_path):
    run = made(tmp_path, epochs=LONG)
    child = workers._Child(run)
    child.listen(lambda *_: None)
    child.stdout.close()
    child.process.wait(60)
    child.stderr.close()
    assert workers.begun(run)


def test_what_a_process_said_last_is_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(workers.sys, "executable", "false")
    assert perform_all([made(tmp_path)]) == {"run": "its process ended with code 1"}


def test_ctrl_c_stops_all_runs_after_a_commit_and_they_go_on_later(tmp_path):
    runs = [made(tmp_path, f"run{seed}", epochs=LONG, seed=seed) for seed in range(3)]
    begun = set()

    def interrupt(run, part, where):
        first = run.name not in begun
        begun.add(run.name)
        if first and len(begun) == 2:  # once: a second one ends the processes without a commit
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(workers.Stopped, match="0 of 3 runs are done.*run the same command again") as stopped:
        perform_all(runs, on_progress=interrupt)
    assert stopped.value.exit_code == 130 and signal.getsignal(signal.SIGINT) is handler
    assert [workers.begun(run) for run in runs] == [run.name in begun for run in runs]
    seen = []
    with pytest.raises(Crash):
        workers.perform(runs[0], lambda event: (seen.append(event), event.kind == "batch" and crash_at(0)(event)))
    assert seen[-1].epoch > 0 or seen[-1].batch > 0


def test_a_second_ctrl_c_waits_for_nothing(tmp_path):
    run = made(tmp_path, epochs=LONG)

    def interrupt(*_):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)

    with pytest.raises(workers.Stopped):
        perform_all([run], on_progress=interrupt)
    assert workers.begun(run)


def test_an_error_in_the_parent_leaves_no_process_behind(tmp_path, monkeypatch):
    children = []

    class Child(workers._Child):
        def __init__(self, run):
            super().__init__(run)
            children.append(self)

    def fail(*_):
        raise OSError("no terminal")

    monkeypatch.setattr(workers, "_Child", Child)
    with pytest.raises(OSError, match="no terminal"):
        perform_all([made(tmp_path, epochs=LONG)], on_progress=fail)
    assert [child.process.poll() for child in children] == [-signal.SIGKILL]
