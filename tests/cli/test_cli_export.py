"""``tinyfoa export``: where it writes, what it prints, how it ends."""

import shutil
from dataclasses import replace

import pytest

pytest.importorskip("tinyfoa_cli", reason="the command line is not installed: run make test")

from cli_tools import one_error_line
from tinyfoa_cli.export import FORMATS

from tinyfoa_np.model import c_trainer, export
from tinyfoa_np.run.directory import read_recipe


def test_formats_are_the_packages():
    assert FORMATS == tuple(export.FORMATS)


def test_a_file_beside_the_model_or_where_it_is_said(run, trained, tmp_path):
    directory = trained[0]
    assert run("export", directory, "--to", "npz") == (0, f"{directory / 'model.npz'}\n", "")
    beside = (directory / "model.npz").read_bytes()
    model = directory / "model.safetensors"
    assert run("export", model, "--to", "npz", "--out", "other.npz") == (0, "other.npz\n", "")
    assert len((tmp_path / "other.npz").read_bytes()) == len(beside)
    (directory / "model.npz").unlink()


def test_a_library_goes_into_a_directory(run, trained, tmp_path):
    directory = trained[0]
    assert run("export", directory, "--to", "c-header") == (0, f"{directory / 'firmware'}\n", "")
    beside = (directory / "firmware" / "tinyfoa_classify.c").read_text()
    for _ in range(2):  # a directory that exists is written into
        assert run("export", directory, "--to", "c-header", "--out", "lib") == (0, "lib\n", "")
    assert (tmp_path / "lib" / "tinyfoa_classify.c").read_text() == beside and "fc:40x2" in beside
    assert (tmp_path / "lib" / "examples" / "classify" / "classify.ino").exists()
    (tmp_path / "file").touch()
    code, _, err = run("export", directory, "--to", "c-header", "--out", "file")
    assert code == 2 and "give a directory" in one_error_line(err)
    code, _, err = run("export", directory, "--to", "c-header", "--out", "file/lib")
    assert code == 1 and "cannot be written" in one_error_line(err)
    shutil.rmtree(directory / "firmware")


@pytest.mark.parametrize("name", ["firmware", "firmware/examples", "firmware/examples/classify"])
def test_a_library_follows_no_link_in_a_run(run, trained, tmp_path, name):
    directory, mine = trained[0], tmp_path / "mine"
    mine.mkdir()
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).symlink_to(mine)
    try:
        code, _, err = run("export", directory, "--to", "c-header")
        assert code == 1 and "is a symbolic link" in one_error_line(err) and not list(mine.iterdir())
    finally:
        (directory / name).unlink()
        shutil.rmtree(directory / "firmware", ignore_errors=True)
    (tmp_path / "lib").symlink_to(mine)  # one of the user's own
    assert run("export", directory, "--to", "c-header", "--out", "lib")[0] == 0 and list(mine.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere", "--to", "npz"], "there is no directory nowhere"),
        (["{run}", "--to", "pdf"], "'pdf' is not one of"),
        (["{run}"], "Missing option '--to'"),
    ],
)
def test_bad_requests(run, trained, arguments, says):
    code, out, err = run("export", *(argument.format(run=trained[0]) for argument in arguments))
    assert code == 2 and out == "" and says in one_error_line(err)


def test_a_file_that_cannot_be_written(run, trained):
    code, out, err = run("export", trained[0], "--to", "npz", "--out", "no/such/model.npz")
    assert code == 1 and out == "" and "cannot be written" in one_error_line(err)


def test_a_damaged_model_is_refused(run, trained, tmp_path):
    content = bytearray((trained[0] / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "bent.safetensors").write_bytes(content)
    code, _, err = run("export", "bent.safetensors", "--to", "npz")
    assert code == 1 and "altered" in one_error_line(err) and not (tmp_path / "model.npz").exists()


def test_a_trainer_of_own_data_has_the_recipe_of_training_with_signs(run, tmp_path, monkeypatch):
    rows = ["a,b,c,label", *(f"{k * 7 % 13},{k * k % 17 / 3:.3f},{k % 5},{'xy'[k % 2]}" for k in range(60))]
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
    layouts = []
    monkeypatch.setattr(c_trainer, "write", lambda layout, *_: layouts.append(layout))
    small = ("--network", "fc:20x2", "--epochs", "1")
    code, _, err = run("export", "own.csv", "--to", "c-trainer", *small)
    assert (code, err) == (0, "")
    bits = ("--binary-weights", "--binary-activations")
    assert run("train", "own.csv", *small, *bits, "--out", "signs", "--quiet")[0] == 0
    assert layouts[0].recipe == replace(read_recipe(tmp_path / "signs"), digest=None)
    assert layouts[0].recipe.shuffle  # a default for own data


def test_a_trainer_reads_a_log_as_training_does(run, tmp_path, monkeypatch):
    rows = ["who,place,x,y,z,move"]
    rows += [f"{k // 60},{'wb'[k // 60]},{k % 7},{k % 5},{k * k % 11},{'xy'[k // 30 % 2]}" for k in range(120)]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    layouts = []
    monkeypatch.setattr(c_trainer, "write", lambda layout, *_: layouts.append(layout))
    read = ("--group", "who", "--drop", "place", "--window", "5", "--step", "3")
    small = ("--network", "fc:10", "--epochs", "1", "--binary-weights", "--binary-activations")
    assert run("export", "log.csv", "--to", "c-trainer", *small, *read)[::2] == (0, "")
    assert run("train", "log.csv", *small, *read, "--out", "run", "--quiet")[0] == 0
    assert run("export", "run", "--to", "c-trainer")[::2] == (0, "")
    first, again = (layout.layers[0] for layout in layouts)
    assert first.I == again.I == 15 and layouts[0].arena_bytes == layouts[1].arena_bytes
    code, _, err = run("export", "run", "--to", "c-trainer", "--group", "who")
    assert code == 2 and "has a recipe of its own" in one_error_line(err)
    code, _, err = run("export", "run", "--to", "npz", "--drop", "place")
    assert code == 2 and "data, recipe and device options are for --to c-trainer" in one_error_line(err)
    (tmp_path / "log.csv").write_text("\n".join([*rows, *["1,b,0,0,0,x"] * 9]) + "\n")
    code, _, err = run("export", "run", "--to", "c-trainer")
    assert code == 2 and "does not contain the samples" in one_error_line(err)
