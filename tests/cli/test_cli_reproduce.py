"""The paper's tables, and the progress that is shown of runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("tinyfoa_cli", reason="the command line is not installed: run make test")

from cli_tools import one_error_line

from tinyfoa_np.papers import presets
from tinyfoa_np.run.events import Event

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


def test_a_quick_look_has_its_own_place(run, tmp_path):
    small = ["--network", "fc:20", "--limit", "100", "--epochs", "1", "--systems", "bp", "--jobs", "1", "--quiet"]
    code, out, err = run("reproduce", "table1", "--quick", "--datasets", "digits", *small)
    assert (code, err) == (0, "") and "10 times the published learning rates" in out.splitlines()[0]
    assert "1 seed " in out and "runs/table1-quick/table1.csv" in out
    code, _, err = run("reproduce", "slices", "--quick")
    assert code == 2 and "--quick is for tables" in one_error_line(err)


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
    assert process.returncode == 130 and "run the same command again to continue" in one_error_line(err)
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
        time.sleep(0.02)
        progress._compiling("dense_forward.forward")
        progress(Event("batch", 0, 1, 4, 10, 0.5, 7.0))
        progress(Event("layer", 0, test_error_pct=4.5))
    lines = console.export_text().splitlines()
    assert lines[0] == "compiling kernels (first run only, up to a minute): dense_forward.forward"
    assert lines[1:] == [
        "layer 1/2, epoch 2/3, batch 5/10: loss 0.5000, train error 7.00 %",
        "layer 1/2: test error 4.50 %",
    ]
