"""Runs from the command line: trained, interrupted, resumed, evaluated and audited."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tinyfoa_cli", reason="the command line is not installed: run make test")

from cli_tools import SMALL, one_error_line, tinyfoa

from tinyfoa_np import catalogue, data, errors
from tinyfoa_np.papers import presets
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import train as training
from tinyfoa_np.run.events import ignored


def test_train_prints_one_json_object_and_progress_elsewhere(trained):
    out, result, err = trained
    assert set(result) >= {
        "error_pct",
        "layer_errors_pct",
        "seconds_per_epoch",
        "model_sha256",
        "arena",
        "flash",
        "run_dir",
        "recipe",
    }
    assert result["run_dir"] == str(out) and result["recipe"]["epochs"] == 4
    assert result["error_pct"] == result["layer_errors_pct"][-1] and len(result["layer_errors_pct"]) == 2
    assert "layer 1/2" in err and "layer 2/2: test error" in err
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.json",
        "data.json",
        "flash",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.json",
    ]


def test_options_reach_the_recipe_and_the_trainer(run, monkeypatch):
    monkeypatch.setattr("tinyfoa_np.defaults.apply", lambda *_: False)  # the rule of defaults has its own tests
    seen = {}

    def fake(recipe, dataset, run_dir, **others):
        seen.update(recipe=recipe, dataset=dataset, run_dir=run_dir, **others)
        raise errors.CheckFailed("seen")

    monkeypatch.setattr(training, "train", fake)
    options = "--network fc:9,8 --slices 3 --schedule frozen --hold 3epochs --epochs 4 --batch 5 --lr 0.5 --seed 6"
    options += " --optimizer sgd --no-binary-weights --no-binary-activations --recompute --limit 7"
    options += " --ram 1MiB --threads 2 --commit-every 9 --audit --quiet --out there"
    run("train", "digits", *options.split())
    assert (
        seen["recipe"]
        == Recipe(
            dataset="digits",
            network="fc:9,8",
            slices=3,
            schedule="frozen",
            hold="3epochs",
            epochs=4,
            batch=5,
            lr=0.5,
            seed=6,
            optimizer="sgd",
            binary_weights=False,
            binary_activations=False,
            recompute=True,
            limit=7,
        ).validated()
    )
    assert (seen["ram"], seen["threads"], seen["commit_every"]) == (2**20, 2, 9)
    assert seen["audit"] is True and seen["resume"] is False and seen["on_event"] is ignored
    assert seen["run_dir"] == Path("there") and seen["dataset"].name == "digits"
    run("train", "digits", "--exchanges", "16")
    assert seen["recipe"] == Recipe(exchanges=16).validated() and seen["on_event"] is not ignored
    run("train", "digits", "--slices", "8", "--visits", "3", "--order", "rows")
    assert seen["recipe"] == Recipe(slices=8, visits=3, order="rows").validated()
    run("train", "digits", "--slices", "16")
    assert (seen["recipe"].exchanges, seen["recipe"].order) == (128, "diagonal")


def test_options_of_each_algorithm_and_presets_reach_the_recipe(run, monkeypatch):
    monkeypatch.setattr("tinyfoa_np.defaults.apply", lambda *_: False)  # the rule of defaults has its own tests
    seen = []

    def fake(recipe, *_, **__):
        seen.append(recipe)
        raise errors.CheckFailed("seen")

    monkeypatch.setattr(training, "train", fake)
    options = "--algorithm ff --decay 0 --classifier-lr 0.5 --classifier-decay 0.25 --label-scale 5 --peer 0.125"
    options += " --lr-schedule cooldown --normalize standard --no-shuffle"
    run("train", "digits", *options.split())
    assert (
        seen.pop()
        == Recipe(
            algorithm="ff",
            decay=0,
            classifier_lr=0.5,
            classifier_decay=0.25,
            label_scale=5,
            peer=0.125,
            lr_schedule="cooldown",
            normalize="standard",
            shuffle=False,
        ).validated()
    )
    run("train", "digits", "--algorithm", "pepita", "--dropout", "0.5", "--shuffle")
    assert seen.pop() == Recipe(algorithm="pepita", dropout=0.5, shuffle=True).validated()
    run("train", "digits", "--preset", "paper", "--algorithm", "pepita", "--epochs", "7")
    fields = presets.paper("pepita", "digits")
    assert seen.pop() == Recipe(**{**fields, "epochs": 7}).validated()
    run("train", "digits", "--preset", "paper", "--algorithm", "bp", "--schedule", "frozen", "--no-binary-weights")
    assert seen.pop() == Recipe(**presets.paper("bp", "digits", binary_weights=False, vertical=True)).validated()


def test_help_says_whose_an_option_is_and_what_each_takes(run):
    text = " ".join(run("train", "--help")[1].split())
    assert "--peer WEIGHT ff: weight of the peer normalization. [default: 0.03]" in text
    for name, value, shown in (("lr", 1e-4, "0.0001"), ("lr", 1e-3, "0.001"), ("shuffle", True, "shuffle")):
        *most, last = (entry.name for entry in catalogue.algorithms() if entry.defaults[name] == value)
        assert f" {shown} with {', '.join(most)} and {last}" in text
    assert "None" not in text


def test_train_for_people(run):
    code, out, err = run("train", "digits", *SMALL, "--quiet")
    assert (code, err) == (0, "")
    assert re.match(r"test error +\d+\.\d\d %", out) and "runs/digits-tinyfoa-1" in out


def test_a_run_directory_that_exists_is_left_alone(run, trained):
    out, _, _ = trained
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, _, err = run("train", "digits", *SMALL, "--out", out)
    assert code == 2 and f"--resume {out}" in one_error_line(err)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_resume_refuses_options_that_contradict_the_run(run, trained):
    out, result, _ = trained
    for option, value, says in (
        ("--epochs", "3", "epochs 4, not 3"),
        ("--hold", "7", "hold 1epoch, not 7"),
        ("--network", "fc:41x2", "network fc:40x2"),
        ("--algorithm", "drtp", "algorithm tinyfoa, not drtp"),
        ("--schedule", "stream", "schedule slice, not stream"),
        ("--normalize", "unit", "normalize standard, not unit"),
        ("--preset", "paper", "network fc:40x2, not fc:2000x4"),
        ("--peer", "1", "not apply"),
    ):
        code, _, err = run("train", "--resume", out, option, value)
        assert code == 2 and says in one_error_line(err)
    code, stdout, err = run("train", "digits", "--resume", out, *SMALL, "--schedule", "auto", "--json")
    assert code == 0, err
    assert json.loads(stdout)["model_sha256"] == result["model_sha256"]
    chosen = ["--batch", "20", "--lr", "0.01"]
    assert run("train", "--resume", out, "--preset", "paper", *SMALL, *chosen, "--quiet")[0] == 0


# Networks that train as a whole

WHOLE = {
    "bp": ["--schedule", "slice", "--hold", "2", "--epochs", "8"],
    "drtp": ["--lr", "1e-3", "--lr-schedule", "cooldown"],
    "pepita": ["--lr", "1e-2", "--lr-schedule", "drop:50%"],
    "ff": ["--lr", "1e-2"],
}


@pytest.mark.parametrize("algorithm", WHOLE)
def test_each_algorithm_trains_and_its_model_answers(run, algorithm, tmp_path):
    options = ["--algorithm", algorithm, *SMALL, *WHOLE[algorithm], "--seed", "3", "--audit", "--json"]
    code, out, err = run("train", "digits", *options)
    assert code == 0, err
    assert "training: test error" in err and "layer 2" not in err
    result = json.loads(out.splitlines()[-1])
    assert set(result) == {
        "error_pct",
        "layer_errors_pct",
        "seconds_per_epoch",
        "model_sha256",
        "arena",
        "flash",
        "run_dir",
        "recipe",
        "findings",
        "beside",
    }
    assert result["run_dir"] == f"runs/digits-{algorithm}-1" and result["findings"] == []
    assert result["layer_errors_pct"] == [result["error_pct"]] and len(result["seconds_per_epoch"]) == 1
    asked = {"algorithm": algorithm, "seed": 3, "network": "fc:40x2", "limit": 300}
    assert {name: result["recipe"][name] for name in asked} == asked
    arena = result["arena"]
    assert arena["planned_bytes"] == arena["accounted_bytes"] == arena["watermark_bytes"] > 0
    assert len(result["model_sha256"]) == 64 and result["flash"]["written_bytes"] > 0

    code, out, _ = run("evaluate", result["run_dir"], "--json")
    assert code == 0 and json.loads(out)["error_pct"] == result["error_pct"]
    test = data.load("digits").test
    np.save("images.npy", test.inputs)
    classes = np.array(run("predict", result["run_dir"], "images.npy")[1].split(), int)
    assert 100 * np.count_nonzero(classes != test.labels) / len(classes) == result["error_pct"]

    code, out, err = run("audit", result["run_dir"], "--quick")
    assert (code, err) == (0, "") and f"{arena['planned_bytes']:,} bytes" in out.splitlines()[0]
    assert "every byte is accounted for" in out and "region " not in out.split("Bytes from the paper")[-1]
    code, out, _ = run("train", "--resume", result["run_dir"], "--json", "--quiet")
    assert code == 0 and json.loads(out)["model_sha256"] == result["model_sha256"]
    code, out, err = run("train", "--resume", result["run_dir"], "--algorithm", "tinyfoa")
    assert code == 2 and f"algorithm {algorithm}, not tinyfoa" in one_error_line(err)


def test_people_are_told_of_no_layers_where_there_is_one_network(run):
    code, out, _ = run("train", "digits", "--algorithm", "bp", *SMALL, "--quiet")
    assert code == 0 and re.match(r"test error +\d+\.\d\d %\n", out)


@pytest.mark.parametrize("classes, inputs", [(1, 64), (10, 9)])
def test_ff_needs_two_classes_and_an_input_for_each(run, monkeypatch, tmp_path, classes, inputs):
    def some(*_, **__):
        parts = [
            data.Split(split.inputs[:, :inputs], np.minimum(split.labels, classes - 1))
            for split in (digits.train, digits.test)
        ]
        return data.Dataset("digits", *parts, classes)

    digits = data.load("digits")
    monkeypatch.setattr(data, "load", some)
    code, out, err = run("train", "digits", "--algorithm", "ff", *SMALL)
    assert (code, out) == (2, "")
    assert f"one of {classes} labels into {inputs} inputs" in one_error_line(err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("algorithm", ["bp", "drtp"])
def test_a_run_that_diverges_ends_with_one_line_and_1(run, tmp_path, algorithm):
    options = ["--algorithm", algorithm, "--no-binary-weights", "--lr", "1e29", *SMALL, "--json", "--out", "out"]
    code, out, err = run("train", "digits", *options)
    assert (code, out) == (1, "")
    assert "diverged in epoch 1, batch" in one_error_line(err) and "smaller --lr" in err
    assert not (tmp_path / "out" / "model.safetensors").exists()


LONGER = ["--network", "fc:40x2", "--epochs", "8", "--json", "--threads", "1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of a run that nothing interrupted."""
    done = tinyfoa("train", "digits", *LONGER, "--out", tmp_path_factory.mktemp("cli") / "whole")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"numerics": 2, "epochs": "many"}', bytes(range(256))])
def test_resume_names_a_damaged_recipe(run, tmp_path, content):
    (tmp_path / "recipe.json").write_bytes(content)
    assert "holds no commit" in run("train", "--resume", ".")[2]  # nothing is lost: it can be started again
    (tmp_path / "audit.json").write_bytes(b"{}")
    code, out, err = run("train", "--resume", ".")
    assert (code, out) == (1, "") and "recipe.json is damaged" in one_error_line(err)


@pytest.mark.parametrize("epochs", [1, 10], ids=["first layer", "second layer"])
def test_ctrl_c_says_how_to_go_on_and_resume_ends_with_the_same_bits(tmp_path, whole, epochs):
    out = tmp_path / "broken off"
    command = [sys.executable, "-m", "tinyfoa_cli", "train", "digits", *LONGER, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= epochs):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    stdout, err = process.communicate(timeout=600)
    assert (process.returncode, stdout) == (130, ""), err
    assert f"tinyfoa train --resume {shlex.quote(str(out))}" in err.splitlines()[-1] and "Traceback" not in err
    assert not (out / "model.safetensors").exists()
    assert "tinyfoa train --resume" in one_error_line(tinyfoa("evaluate", out).stderr)
    resumed = tinyfoa("train", "--resume", out, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["model_sha256"] == whole["model_sha256"]


def test_evaluate_and_predict_agree_with_training(run, trained, tmp_path):
    out, result, _ = trained
    code, stdout, _ = run("evaluate", out, "--json")
    assert code == 0 and json.loads(stdout)["error_pct"] == pytest.approx(result["error_pct"])
    test = data.load("digits").test
    np.save("images.npy", test.inputs.reshape(-1, 8, 8))
    code, stdout, _ = run("predict", out, "images.npy")
    classes = np.array(stdout.split(), int)
    assert code == 0 and 100 * (classes != test.labels).mean() == pytest.approx(result["error_pct"])
    assert run("predict", out / "model.safetensors", "images.npy", "--out", "classes.npy")[:2] == (0, "")
    np.testing.assert_array_equal(np.load("classes.npy"), classes)
    said = json.loads(run("predict", out, "images.npy", "--json")[1])
    assert said["classes"] == classes.tolist()
    assert said["memory"]["planned_bytes"] == said["memory"]["watermark_bytes"] > 0


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((3, 63), np.uint8), 2),
        (np.zeros((3, 64)), 2),
        (np.zeros(64, np.uint8), 2),
        (np.array([{}], object), 2),
        (np.zeros((0, 64), np.uint8), 0),
    ],
)
def test_predict_refuses_what_is_no_sample(run, trained, array, code):
    np.save("samples.npy", array)
    ended, out, err = run("predict", trained[0], "samples.npy")
    assert ended == code and out.strip() == ""
    assert code == 0 or one_error_line(err)


def test_predict_refuses_what_is_no_array(run, trained):
    Path("text.npy").write_text("1 2 3")
    assert "not an .npy file" in one_error_line(run("predict", trained[0], "text.npy")[2])
    code, _, err = run("predict", trained[0], "nothing.npy")
    assert code == 2 and "nothing.npy does not exist" in one_error_line(err)


def test_evaluate_names_a_damaged_model(run, trained, tmp_path):
    content = (trained[0] / "model.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    code, _, err = run("evaluate", "half.safetensors")
    assert code == 1 and "half.safetensors" in one_error_line(err)


def test_audit(run, trained):
    out, result, _ = trained
    code, stdout, err = run("audit", out, "--json")
    assert (code, err) == (0, "")
    report = json.loads(stdout)
    assert report["ok"] and report["problems"] == [] and report["evidence"]["ok"]
    assert report["arena"] == {name: value for name, value in result["arena"].items() if name != "phases"}
    code, stdout, err = run("audit", out, "--no-evidence")
    assert (code, err) == (0, "")
    assert stdout.startswith(f"planned = accounted for = watermark: {result['arena']['planned_bytes']:,} bytes")
    for part in ("every byte is accounted for", "hand-over", "projection", "the paper's formula"):
        assert part in stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_spelled_or_written_is_no_traceback(trained):
    done = tinyfoa("audit", trained[0], "--quick", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tinyfoa_cli", "data", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "No space left on device" in one_error_line(done.stderr)


def test_audit_fails_where_the_measurements_disagree(run, trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "copy")
    record = tmp_path / "copy" / "audit.json"
    content = json.loads(record.read_text())
    content["arena"]["watermark_bytes"] -= 1
    record.write_text(json.dumps(content))
    code, stdout, err = run("audit", "copy", "--no-evidence")
    assert code == 1 and "disagree" in one_error_line(err) and "planned = accounted" not in stdout
    record.write_text(record.read_text()[:100])
    code, stdout, err = run("audit", "copy")
    assert (code, stdout) == (1, "") and "audit.json" in one_error_line(err)
