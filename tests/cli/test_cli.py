"""The command line: what it accepts, what it prints where, and how it ends."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

pytest.importorskip("tinyfoa_cli", reason="the command line is not installed: run make test")

from cli_tools import SMALL, one_error_line, tinyfoa
from tinyfoa_cli import main as cli_main
from tinyfoa_cli.options import Bytes
from tinyfoa_cli.runs import new_run

from tinyfoa_np import catalogue, data, errors
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import train as training


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
        assert max(map(len, out.splitlines())) <= 80, name
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
        (["train", "digits", "--peer", "1"], "peer does not apply to algorithm tinyfoa"),
        (["train", "digits", "--algorithm", "ff", "--dropout", "0.5"], "dropout does not apply to algorithm ff"),
        (["train", "digits", "--algorithm", "drtp", "--schedule", "slice"], "drtp has no schedule slice"),
        (["train", "digits", "--algorithm", "drtp", "--slices", "2"], "whole layers"),
        (["train", "digits", "--algorithm", "pepita", "--hold", "1epoch"], "not apply"),
        (["train", "digits", "--algorithm", "bp", "--slices", "2"], "whole layers"),
        (["train", "digits", "--algorithm", "bp", "--schedule", "stream"], "none or slice or frozen"),
        (["train", "digits", "--algorithm", "bp", "--dropout", "0.1"], "dropout does not apply to algorithm bp"),
        (["train", "digits", "--algorithm", "bp", "--recompute"], "recompute does not apply"),
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
        (errors.CheckFailed("two\nlines"), 1, r"two\nlines"),
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


def test_help_comes_in_sections_and_whole_sentences(run):
    """Every command once, no description cut off, at most 80 columns; options of recipes by section."""
    main = pytest.importorskip("tinyfoa_cli.main")
    code, out, _ = run("--help")
    assert code == 0 and "..." not in out.partition("\n")[2] and max(map(len, out.splitlines())) <= 80
    commands = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    assert all(commands.count(name) >= 1 for name in main.tinyfoa.commands) and "Others" not in out
    for command in ("train", "plan"):
        out = run(command, "--help")[1]
        titles = [line.rstrip(":") for line in out.splitlines() if line[:1].isalpha() and line.endswith(":")]
        assert titles == ["Own data", "Recipe", "Options of one algorithm", "Options"]
        names = [line.split()[0].rstrip(",") for line in out.splitlines() if line.startswith("  --")]
        assert len(names) == len(set(names)) and {"--label", "--network", "--theta", "--ram"} <= set(names)


def test_a_group_without_a_command_shows_its_help(run):
    for group, section in (((), "Use a model:"), (("data",), "Commands:")):
        code, out, err = run(*group)
        assert (code, err) == (0, "") and section in out


def test_help_names_the_rules_that_have_slices_and_convolutions(run):
    said = " ".join(run("train", "--help")[1].replace("-\n", "-").split())
    slices, network, epochs = (
        said.split(f" {option} ")[1] for option in ("--slices M", "--network SPEC", "--epochs E")
    )
    for entry in catalogue.algorithms():
        sliced = entry.schedules != ("none",)
        assert (entry.name in slices.split(": divide")[0]) is sliced, entry.name
        assert (entry.name in epochs.split(", per layer")[0]) is entry.by_layer, entry.name
        named = network.split("64s2 (")[1].split("): a 5x5")[0]
        assert (entry.name in named.split(", ")) is ("graph" in entry.homes), entry.name


def test_data_list_fits_a_terminal(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TINYFOA_DATA", raising=False)
    out = run("data", "list")[1]
    assert max(map(len, out.splitlines())) <= 80 and "  tinyfoa data fetch mitbih-natural\n" in out
