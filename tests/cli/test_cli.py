"""The command line: what it accepts, what it prints where, and how it ends."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

pytest.importorskip("tinyfoa_cli", reason="the command line is not installed: run make test")

from cli_tools import SMALL, one_error_line, tinyfoa
from tinyfoa_cli import main as cli_main
from tinyfoa_cli.options import Bytes
from tinyfoa_cli.runs import new_run

from tinyfoa_np import data, errors
from tinyfoa_np.papers import presets
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import train as training
from tinyfoa_np.run.events import Event


def commands(group, prefix=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


# Help


def test_help_is_quick_and_imports_nothing_heavy():
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert tinyfoa("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # of the processor, not of the wall's clock: that one also measures what else this computer is doing
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5
    code = "import sys, tinyfoa_cli.main; print([m for m in ('numpy', 'numba', 'rich') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_every_command_and_option_explains_itself(run):
    for name, command in commands(cli_main.tinyfoa):
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (name, option.name)
        code, out, _ = run(*name, "--help")
        assert code == 0 and "Options:" in out
        if name[0] != "data":
            assert f"tinyfoa {name[0]} " in out.split("Examples:")[1]
    assert "tinyfoa data verify" in run("data", "--help")[1].split("Examples:")[1]
    assert run()[:2] == run("--help")[:2]


def test_train_offers_every_field_of_the_recipe():
    options = {option.name for option in cli_main.train.params}
    assert set(Recipe.__dataclass_fields__) - {"digest", "options"} <= options  # the data's, and other packages'


# Bad requests


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65536),
        ("64KiB", 65536),
        ("64 kib", 65536),
        ("500kB", 500_000),
        ("1MiB", 2**20),
        ("2MB", 2 * 10**6),
        ("1.5MiB", 3 * 2**19),
        ("1GiB", 2**30),
        ("7B", 7),
    ],
)
def test_sizes(text, size):
    assert Bytes().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "12XB", "-1", "64K", "KiB", "1e6", "0x10"])
def test_no_sizes(text):
    with pytest.raises(click.BadParameter, match="64KiB"):
        Bytes().convert(text, None, None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train"], "name a data set"),
        (["train", "digitz"], "unknown data set 'digitz'"),
        (["train", "digits", "--epohcs", "3"], "No such option"),
        (["train", "digits", "--epochs", "many"], "not a valid integer"),
        (["train", "digits", "--epochs", "0"], "at least 1"),
        (["train", "digits", "--schedule", "random"], "'slice', 'stream', 'frozen'"),
        (["train", "digits", "--algorithm", "magic"], "tinyfoa"),
        (["train", "digits", "--network", "fc:"], "network"),
        (["train", "digits", "--slices", "0"], "at least 1"),
        (["train", "digits", "--network", "fc:40x2", "--slices", "41"], "slices"),
        (["train", "digits", "--hold", "soon"], "1epoch"),
        (["train", "digits", "--hold", "1epoch", "--exchanges", "8"], "one of them"),
        (["train", "digits", "--lr", "nan"], "lr"),
        (["train", "digits", "--lr-schedule", "linear"], "drop:60%,90%"),
        (["train", "digits", "--peer", "1"], "peer has no meaning for algorithm tinyfoa"),
        (["train", "digits", "--algorithm", "ff", "--dropout", "0.5"], "dropout has no meaning for algorithm ff"),
        (["train", "digits", "--algorithm", "drtp", "--schedule", "slice"], "drtp has no schedule slice"),
        (["train", "digits", "--algorithm", "drtp", "--slices", "2"], "whole layers"),
        (["train", "digits", "--algorithm", "pepita", "--hold", "1epoch"], "no meaning"),
        (["train", "digits", "--algorithm", "bp", "--slices", "2"], "whole layers"),
        (["train", "digits", "--algorithm", "bp", "--schedule", "stream"], "none or slice or frozen"),
        (["train", "digits", "--algorithm", "bp", "--dropout", "0.1"], "dropout has no meaning for algorithm bp"),
        (["train", "digits", "--algorithm", "bp", "--recompute"], "recompute has no meaning"),
        (["train", "digits", "--algorithm", "pepita", "--dropout", "1"], "from 0 to below 1"),
        (["train", "digits", "--algorithm", "bp", "--ram", "1KiB", *SMALL], "bp holds the weights of all layers"),
        (["train", "digits", "--preset", "best"], "'paper'"),
        (["train", "digits", "--preset", "paper", "--algorithm", "bp", "--recompute"], "recompute"),
        (["train", "digits", "--ram", "plenty"], "64KiB"),
        (["train", "digits", "--ram", "1KiB", *SMALL], "it needs"),
        (["train", "mnist", "--data-dir", "nowhere"], "does not exist"),
        (["train", "--resume", "nowhere"], "there is no directory nowhere"),
        (["train", "--resume", "a", "--out", "b"], "--out"),
        (["trian"], "No such command"),
        (["audit"], "Missing argument"),
        (["audit", "nowhere"], "there is no directory nowhere"),
        (["plot"], "Missing argument"),
        (["plot", "nowhere"], "there is no directory nowhere"),
        (["plot", "nowhere", "--kind", "dreams"], "'dreams' is not one of 'memory'"),
        (["plot", "nowhere", "--layer", "top"], "not a valid integer"),
        (["evaluate", "nowhere"], "there is no directory nowhere"),
        (["predict", "nowhere", "x.npy"], "there is no directory nowhere"),
        (["data", "verify", "imagenet"], "digits, mnist"),
        (["reproduce"], "Missing argument"),
        (["reproduce", "table9"], "'table1', 'table2'"),
        (["reproduce", "table1", "--systems", "bp+v"], "Table 1 has no system 'bp+v'"),
        (["reproduce", "table1", "--lines", "auto"], "--systems"),
        (["reproduce", "slices", "--systems", "bp"], "--lines"),
        (["reproduce", "slices", "--datasets", "digits", "--lines", "up"], "no line begins with 'up'"),
        (["reproduce", "exchanges", "--datasets", "digits", "--at", "some"], "whole numbers"),
        (["reproduce", "table2", "--datasets", "digits,imagenet"], "unknown data set 'imagenet'"),
        (["reproduce", "table2", "--datasets", "digits", "--epochs", "0"], "at least 1"),
        (["reproduce", "table2", "--datasets", "digits", "--network", "lc:3"], "network"),
        (["reproduce", "table2", "--seeds", "0"], "seeds"),
        (["reproduce", "table2", "--jobs", "many"], "jobs"),
        (["reproduce", "table2", "--systems", "bp+v", "--data-dir", "nowhere"], "does not exist"),
    ],
)
def test_bad_requests_end_with_one_line_and_2_and_leave_nothing(run, tmp_path, arguments, says):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and "chosen:" not in err  # what is refused has chosen nothing
    assert says in one_error_line(err)
    assert list(tmp_path.iterdir()) == []


def test_missing_mnist_says_what_to_fetch(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TINYFOA_DATA", raising=False)
    code, _, err = run("train", "mnist")
    assert code == 2 and "train-images-idx3-ubyte.gz" in one_error_line(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (errors.CheckFailed("two\nlines"), 1, "two lines"),
        (errors.BadRequest("--ram 1 is too small"), 2, "--ram 1 is too small"),
        (OSError(28, "No space left on device", "flash/weights"), 1, "No space left on device: flash/weights"),
        (OSError("odd"), 1, "odd"),
        (MemoryError(), 1, "out of memory"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "9 TiB"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyError("surprise"), 1, "internal error, KeyError"),
    ],
)
def test_no_error_ends_in_a_traceback(run, tmp_path, monkeypatch, error, code, says):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(training, "train", fail)
    ended, out, err = run("train", "digits", *SMALL)
    assert (ended, out) == (code, "")
    assert says in one_error_line(err.lstrip("\n"))
    assert list(tmp_path.iterdir()) == []
    for arguments in (["--debug", "train", "digits", *SMALL], ["train", "digits", "--debug", *SMALL]):
        ended, _, err = run(*arguments)
        assert ended == code and "Traceback (most recent call last)" in err and says in err.splitlines()[-1]


# Run directories


def test_new_runs_are_numbered_made_at_once_and_removed_when_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_run(None, "digits", "tinyfoa") as first, new_run(None, "digits", "tinyfoa") as second:
        assert (first, second) == (Path("runs/digits-tinyfoa-1"), Path("runs/digits-tinyfoa-2"))
        assert first.is_dir() and second.is_dir()
        (second / "recipe.json").write_text("{}")
    assert not first.exists() and second.exists()


def test_a_given_directory_may_exist_but_only_empty(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with new_run(str(empty), "digits", "tinyfoa") as path:
        assert path == empty
    assert empty.is_dir()
    with new_run(str(tmp_path / "deep" / "er"), "digits", "tinyfoa") as path:
        assert path.is_dir()
    assert not (tmp_path / "deep").exists()
    (empty / "file").touch()
    for taken, says in ((empty, "not empty"), (empty / "file", "is a file")):
        with pytest.raises(errors.BadRequest, match=says), new_run(str(taken), "digits", "tinyfoa"):
            pytest.fail("was given a directory in use")
    assert (empty / "file").exists()


# Data


def test_data_list_and_verify(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TINYFOA_DATA", raising=False)
    code, out, _ = run("data", "list")
    assert code == 0 and re.search(r"^digits +1,437 \+ +360 +scikit-learn$", out, re.MULTILINE)
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--json")[1])}
    assert rows["digits"]["found"] and not rows["mnist"]["found"] and "https://" in rows["mnist"]["where"]
    code, out, err = run("data", "verify", "--json")
    assert code == 0 and [row["ok"] for row in json.loads(out)] == [True] and "mnist" in err
    assert run("data", "verify", "mnist")[0] == 2


def test_data_verify_names_what_is_altered(run, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name in data.mnist.DIGESTS:
        (folder / name).write_bytes(b"not MNIST")
    code, out, err = run("data", "verify", "mnist", "--data-dir", tmp_path)
    assert code == 1 and out.count("ALTERED") == 4 and "t10k-labels-idx1-ubyte" in one_error_line(err)
    code, _, err = run("train", "mnist", "--data-dir", tmp_path)
    assert code == 1 and "train-images-idx3-ubyte" in one_error_line(err)


# Training, and what comes after


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
    assert seen["audit"] is True and seen["resume"] is False and seen["on_event"] is None
    assert seen["run_dir"] == Path("there") and seen["dataset"].name == "digits"
    run("train", "digits", "--exchanges", "16")
    assert seen["recipe"] == Recipe(exchanges=16).validated() and seen["on_event"] is not None
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
    assert "[default: 0.0001 with tinyfoa, bp, drtp and dfa; 0.001 with pepita, ff and giff]" in text
    assert "shuffle with drtp, dfa, ff and giff]" in text and "None" not in text


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
        ("--peer", "1", "no meaning"),
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
    assert code == 2 and "there is no file nothing.npy" in one_error_line(err)


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


# Pictures


@pytest.fixture
def finished(trained, tmp_path):
    """What `plot` reads of the finished run, in a directory of its own."""
    directory = tmp_path / "copy"
    directory.mkdir()
    for name in ("recipe.json", "audit.json"):
        shutil.copy(trained[0] / name, directory)
    return directory


@pytest.fixture
def matplotlib():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot): make test installs it")


@pytest.mark.usefixtures("matplotlib")
def test_plot_writes_where_it_says(run, finished, tmp_path):
    assert run("plot", finished) == (0, f"{finished / 'memory.png'}\n", "")
    assert (finished / "memory.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = run("plot", finished, "--kind", "memory", "--layer", 1, "--out", "first.svg")
    assert (code, out, err) == (0, "first.svg\n", "")
    assert "layer 1 of 2" in (tmp_path / "first.svg").read_text()
    assert sorted(path.name for path in finished.iterdir()) == ["audit.json", "memory.png", "recipe.json"]


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kind", "dreams"], "'dreams' is not one of 'memory'"),
        (["--out", "memory.pdf"], ".png or .svg"),
        (["--out", "nowhere/memory.png"], "nowhere is not a directory"),
        (["--layer", "3"], "its layers are 1 to 2"),
    ],
)
def test_plot_refuses_and_leaves_nothing(run, finished, tmp_path, arguments, says):
    code, out, err = run("plot", finished, *arguments)
    assert (code, out) == (2, "") and says in one_error_line(err)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["audit.json", "copy", "recipe.json"]


@pytest.mark.usefixtures("matplotlib")
def test_plot_of_a_run_that_has_not_finished(run, finished):
    (finished / "audit.json").unlink()
    code, out, err = run("plot", finished)
    assert (code, out) == (2, "") and "when it finishes" in one_error_line(err)
    assert [path.name for path in finished.iterdir()] == ["recipe.json"]


def test_plot_without_matplotlib_says_how_to_get_it(run, finished, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("matplotlib.", "tinyfoa_np.plots."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tinyfoa_np.plots.canvas", raising=False)  # where an import before this one left it
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run("plot", finished)
    assert (code, out) == (2, "") and 'pip install ".[plot]"' in one_error_line(err)
    assert sorted(path.name for path in finished.iterdir()) == ["audit.json", "recipe.json"]


# The paper's tables

TABLE = ["reproduce", "table1", "--datasets", "digits", "--network", "fc:20x2", "--limit", "150", "--epochs", "2"]


def test_reproduce_prints_writes_and_trains_nothing_twice(run, tmp_path):
    command = [*TABLE, "--systems", "tinyfoa,bp+bw+ba+v", "--seeds", "2", "--jobs", "2"]
    code, out, err = run(*command, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert "2 epochs instead of the published 100" in result["caption"]
    assert [row["system"] for row in result["rows"]] == ["tinyfoa", "bp+bw+ba+v"]
    assert all(row["outcome"] == "2 seeds" and row["arena_mb"] > 0 for row in result["rows"])
    assert "digits bp+bw+ba+v: " in err and "(2 seeds)" in err
    assert json.loads((tmp_path / "runs" / "table1" / "table1.json").read_text()) == result
    runs = sorted((tmp_path / "runs" / "table1" / "digits").glob("*/seed-*"))
    assert len(runs) == 4 and not any((path / "flash").exists() for path in runs)
    report = json.loads(run("audit", runs[-1], "--quick", "--json")[1])
    assert report["arena"]["watermark_bytes"] in [row["arena_mb"] * 1e6 for row in result["rows"]]
    assert run("evaluate", runs[0])[0] == 0

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "table1" / "digits").rglob("*")}
    code, out, err = run(*command, "--quiet")
    assert (code, err) == (0, "")
    assert "2 epochs instead of the published 100" in out.splitlines()[0] and "runs/table1/table1.csv" in out
    for row in result["rows"]:
        assert re.search(rf"{re.escape(row['system'])} +digits +- +{row['error_pct']:.2f} \+- ", out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    code, _, err = run(*command, "--epochs", "3")
    assert code == 2 and "epochs 2, not 3: give another --out" in one_error_line(err)


def test_a_run_that_fails_is_an_exit_code_and_one_that_diverges_is_not(run, tmp_path, monkeypatch):
    paper = presets.paper

    def altered(algorithm, dataset, **toggles):
        fields = paper(algorithm, dataset, **toggles)
        return {**fields, **({"optimizer": "sgd", "lr": 1e29} if algorithm == "bp" else {"slices": 21})}

    monkeypatch.setattr(presets, "paper", altered)
    code, out, err = run(*TABLE, "--systems", "bp,tinyfoa", "--seeds", "1", "--json", "--quiet")
    assert code == 1 and "1 of 2 runs failed: digits tinyfoa seed 0: 21 slices" in one_error_line(err)
    assert [row["outcome"] for row in json.loads(out)["rows"]] == ["diverged (epoch 1)", "0 of 1 seed; seed 0 failed"]
    code, out, err = run(*TABLE, "--systems", "bp", "--seeds", "1")
    assert code == 0 and "diverged (epoch 1)" in out and "digits bp: diverged (epoch 1)" in err


def test_ctrl_c_stops_a_table_which_then_goes_on(run, tmp_path):
    command = [
        *TABLE,
        "--systems",
        "tinyfoa",
        "--seeds",
        "2",
        "--jobs",
        "1",
        "--epochs",
        "60",
        "--out",
        tmp_path / "out",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyfoa_cli", *map(str, command)], stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "out" / "digits" / "tinyfoa" / "seed-0" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130 and "the same command goes on from here" in one_error_line(err)
    assert "not finished" in (tmp_path / "out" / "table1.csv").read_text()
    code, out, err = run(*command, "--json", "--quiet")
    assert code == 0, err
    [row] = json.loads(out)["rows"]
    assert row["outcome"] == "2 seeds"
    same = [*TABLE[4:], "--epochs", "60", "--preset", "paper", "--quiet", "--json"]
    assert json.loads(run("train", "digits", *same)[1])["model_sha256"] == row["runs"][0]["model_sha256"]


def test_progress_of_many_runs():
    from rich.console import Console
    from tinyfoa_cli.progress import RunsProgress

    class Run:
        name = "mnist bp seed 0"

    console = Console(force_terminal=True, width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file, RunsProgress(4, console) as progress:
        progress(Run, 0.25, "epoch 3/12")
        [task] = progress.bars.tasks
        assert (task.completed, task.total, task.fields["done"]) == (0.25, 4, 0)
        assert task.fields["says"] == "mnist bp seed 0: epoch 3/12"
        progress(Run, 1.0, "")
        progress.row("mnist bp: 1.33 %")
        assert (task.completed, task.fields["done"]) == (1, 1)
    assert "mnist bp: 1.33 %" in console.export_text()


def test_progress_draws_bars_on_a_terminal():
    from rich.console import Console
    from tinyfoa_cli.progress import TrainingProgress

    console = Console(force_terminal=True, width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file, TrainingProgress(2, 3, console) as progress:
        progress(Event("batch", 0, 0, 4, 10, 0.5, 7.0))
        progress(Event("epoch", 0, 0, 0, 10, 0.25, 6.0, 5.0))
        progress(Event("layer", 0, test_error_pct=4.5))
        shown = {task.description: task for task in progress.bars.tasks}
        assert (shown["layer"].completed, shown["layer"].total) == (1, 2)
        assert (shown["epoch"].completed, shown["epoch"].total) == (1, 3)
        assert (shown["batch"].completed, shown["batch"].total) == (5, 10)
        assert shown["epoch"].fields["says"] == "loss 0.2500, train error 6.00 %, test error 5.00 %"


def test_progress_in_a_log(monkeypatch):
    """A line as a layer ends, of epochs and batches now and then, and why the first step takes long."""
    from rich.console import Console
    from tinyfoa_cli.progress import TrainingProgress

    monkeypatch.setattr(TrainingProgress, "PATIENCE", 0.01)
    monkeypatch.setattr(TrainingProgress, "SILENCE", 0.0)
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file, TrainingProgress(2, 3, console) as progress:
        progress.waiting.join()
        progress(Event("batch", 0, 1, 4, 10, 0.5, 7.0))
        progress(Event("layer", 0, test_error_pct=4.5))
    lines = console.export_text().splitlines()
    assert lines[0].startswith("kernels are compiled")
    assert lines[1:] == [
        "layer 1/2, epoch 2/3, batch 5/10: loss 0.5000, train error 7.00 %",
        "layer 1/2: test error 4.50 %",
    ]
