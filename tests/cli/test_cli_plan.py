"""``tinyfoa plan``: its verdicts, its exit codes, and that training agrees with it."""

import json
from pathlib import Path

import pytest
from cli_tools import SMALL, one_error_line


def test_a_plan_that_fits_says_so_first_and_needs_no_data(run, tmp_path):
    code, out, err = run("plan", "mnist", "--slices", "16", "--ram", "128KiB", "--threads", "2")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "fits"
    assert "of 131,072 bytes" in out and "projection regenerated" in out
    assert "GB written in" in out and "2 threads;" in out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_what_it_is_of(run):
    """The data determine what was not given, so the recipe is printed; everything fits a terminal."""
    rows = "".join(f"{k % 7},{k * k % 11},{'no' if k % 3 else 'yes'}\n" for k in range(60))
    Path("log.csv").write_text(f"a,b,label\n{rows}")
    for options in (["--board", "nrf52810"], ["--ram", "4KiB"]):
        code, out, err = run("plan", "log.csv", *options)
        assert (code, err) == (1, "") and max(map(len, out.splitlines())) <= 80
        assert "recipe  tinyfoa on log.csv, fc:300, 2 x 2 slices, schedule slice,\n" in out
        assert "        real weights, real activations, adam, batch 20, 100 epochs\n" in out
    assert "--binary-weights" in out.split("What would make it fit")[1]
    code, _, err = run("train", "log.csv", "--ram", "2KiB", "--threads", "1")
    assert code == 2 and "binary weights and activations, a smaller batch or more slices need less" in err


def test_a_plan_that_does_not_fit_ends_with_1_and_what_would(run):
    code, out, err = run("plan", "mnist", "--ram", "50kB")
    assert (code, err) == (1, "")
    verdict = out.splitlines()[0]
    assert verdict.startswith("does not fit: the smallest RAM is ") and verdict.endswith("there are 50,000")
    assert "--slices" in out.split("What would make it fit")[1]


def test_training_takes_what_the_plan_said(run):
    ram = []
    for _ in range(2):
        code, out, _ = run("plan", "digits", *SMALL, *ram, "--slices", "4", "--threads", "1", "--json")
        said = json.loads(out)
        assert code == 0 and said["fits"]
        options = ["--quiet", "--json", "--out", f"run{len(ram)}", "--threads", "1", "--slices", "4"]
        code, out, err = run("train", "digits", *SMALL, *ram, *options)
        assert code == 0, err
        assert json.loads(out)["arena"]["watermark_bytes"] == said["ram"]["planned_bytes"]
        ram = ["--ram", str(said["ram"]["least_bytes"])]


def test_a_budget_s_choice_is_told_before_training(run):
    code, _, err = run("train", "digits", *SMALL, "--slices", "4", "--ram", "16000", "--threads", "1")
    assert code == 0 and "of 16,000 bytes of RAM" in err and "layer 1: " in err


def test_boards(run):
    digits = ["plan", "digits", "--network", "fc:200x2", "--epochs", "5"]
    code, out, _ = run(*digits, "--boards", "--storage", "8GB", "--json")
    results = json.loads(out)
    assert code == 0 and len(results) >= 20 and results["stm32f746"]["fits"] and not results["stm32f103"]["fits"]
    code, out, _ = run(*digits, "--boards")
    assert code == 0 and all(name in out for name in results) and max(map(len, out.splitlines())) <= 80
    code, out, err = run(*digits, "--board", "STM32F103", "--json")
    assert (code, err) == (1, "") and json.loads(out)["board"] == "stm32f103" and not json.loads(out)["fits"]
    code, out, _ = run(*digits, "--board", "stm32l432")
    assert code == 1 and out.startswith("does not fit: internal flash would hold")
    assert "--storage 8GB" in out.split("What would make it fit")[1]
    code, out, _ = run(*digits, "--board", "stm32f767", "--ram", "64KiB")
    assert code == 0 and "of 65,536 bytes" in out
    code, out, _ = run(*digits, "--board", "rp2350")  # its only flash is beside the chip
    assert code == 0 and "of 4,063,232 bytes" in out
    code, out, _ = run(*digits, "--board", "stm32f767")
    assert code == 0 and "of 16,384 reserved" in out and "survives" in out and "whole pages of 262,144" in out
    assert "one instruction per cycle" in out and "bookkeeping" in out and "stack" in out and "code" in out
    code, out, _ = run(*digits, "--board", "stm32f767", "--reserve-flash", "1MiB", "--json")
    assert json.loads(out)["flash"]["nbytes"] == 1 << 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan"], "name a data set"),
        (["plan", "fish"], "unknown data set 'fish'"),
        (["plan", "digits", "--board", "stm32"], "several boards have 'stm32'"),
        (["plan", "digits", "--board", "stm33f746"], "closest are stm32f746"),
        (["plan", "digits", "--reserve-flash", "1kB"], "--board"),
        (["plan", "digits", "--board", "stm32f746", "--storage", "external"], "no flash beside the chip"),
        (["plan", "digits", "--board", "rp2350", "--boards"], "give one of them"),
        (["plan", "digits", "--reserve", "1kB"], "--board"),
        (["plan", "digits", "--storage", "external"], "--board"),
        (["plan", "digits", "--storage", "shoebox"], "'shoebox'"),
        (["plan", "digits", "--slices", "1000"], "at most 64"),
        (["plan", "digits", "--epochs", "0"], "at least 1"),
    ],
)
def test_bad_requests(run, arguments, says):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in one_error_line(err)
