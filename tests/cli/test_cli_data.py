"""Your own data on the command line, files that are not the published ones, and downloads."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_tools import one_error_line

from tinyfoa_np import defaults

OPTIONS = ["--network", "fc:64x2", "--slices", "1", "--epochs", "8", "--batch", "10", "--lr", "0.01"]


@pytest.fixture
def flowers(run, tmp_path):
    """A table of three kinds of flowers, named in its second column."""
    rng = np.random.default_rng(0)
    lines = ["petal,Class,sepal,noise"]
    for n in range(150):
        kind = n % 3
        petal, sepal = rng.normal(2 * kind, 0.5), rng.normal(3000 * kind, 700)
        lines.append(f"{petal:.3f},{'iris rose tulip'.split()[kind]},{sepal:.1f},{rng.random():.3f}")
    (tmp_path / "flowers.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "flowers.csv"


def test_from_a_table_to_answers(run, flowers, tmp_path):
    code, out, err = run("train", "flowers.csv", *OPTIONS, "--json", "--quiet")
    assert code == 0, err
    result = json.loads(out)
    assert result["run_dir"] == "runs/flowers-tinyfoa-1" and result["error_pct"] < 50
    code, out, _ = run("plan", "flowers.csv", *OPTIONS, "--json")
    planned = json.loads(out)
    assert code == 0 and {*planned["recipe"], "digest"} == set(result["recipe"])
    code, out, _ = run("evaluate", result["run_dir"], "--json")
    assert code == 0 and json.loads(out)["error_pct"] == pytest.approx(result["error_pct"])
    known = json.loads((tmp_path / result["run_dir"] / "data.json").read_text())
    assert known["origin"]["labels"] == ["iris", "rose", "tulip"] and known["digest"] == result["recipe"]["digest"]
    np.save("samples.npy", np.array([[0, 0, 0.5], [4, 6000, 0.5]]))
    code, out, _ = run("predict", result["run_dir"], "samples.npy")
    assert code == 0 and out.splitlines()[0] == "iris" and set(out.split()) <= {"iris", "rose", "tulip"}
    assert json.loads(run("predict", result["run_dir"], "samples.npy", "--json")[1])["classes"] == out.split()
    # and of what it was trained on, with labels and without
    rows = [line.split(",") for line in flowers.read_text().splitlines()]
    bare = [[petal, *rest] for petal, _, *rest in rows]
    Path("bare.csv").write_text("".join(",".join(row) + "\n" for row in bare))
    np.savez("bare.npz", x=np.array(bare[1:], float))
    answers = [run("predict", result["run_dir"], name) for name in ("flowers.csv", "bare.csv", "bare.npz")]
    assert [code for code, _, _ in answers] == [0, 0, 0], answers
    assert len(answers[0][1].splitlines()) == len(rows) - 1 and len({out for _, out, _ in answers}) == 1
    Path("wide.csv").write_text("1,2,3,4,5\n")
    np.savez("other.npz", a=np.zeros(3), b=np.zeros(3))
    assert "5 columns: 4, or 3 without a label are needed" in run("predict", result["run_dir"], "wide.csv")[2]
    turned = [[*row[::-1], str(n)] for n, row in enumerate(bare)]
    Path("turned.csv").write_text("".join(",".join(row) + "\n" for row in [[*turned[0][:-1], "id"], *turned[1:]]))
    assert run("predict", result["run_dir"], "turned.csv")[1] == answers[0][1]
    assert "x or x_test is needed" in run("predict", result["run_dir"], "other.npz")[2]
    assert (
        "neither .csv, .npz nor .npy" in run("predict", result["run_dir"], f"{result['run_dir']}/model.safetensors")[2]
    )


def test_other_data_are_refused(run, flowers, tmp_path):
    code, out, err = run("train", "--data", "flowers.csv", *OPTIONS, "--json", "--quiet", "--out", "one")
    assert code == 0, err
    flowers.rename(tmp_path / "moved.csv")
    code, _, err = run("evaluate", "one")
    assert code == 2 and "flowers.csv does not exist" in one_error_line(err)
    assert run("evaluate", "one", "moved.csv")[0] == run("evaluate", "one", "--data", "moved.csv")[0] == 0
    code, again, err = run("train", "--resume", "one", "moved.csv", "--json", "--quiet")
    assert code == 0 and json.loads(again)["model_sha256"] == json.loads(out)["model_sha256"]
    text = (tmp_path / "moved.csv").read_text()
    flowers.write_text(text.replace("tulip", "lily", 1))
    for command in ("evaluate one", "evaluate one flowers.csv", "train --resume one flowers.csv"):
        code, out, err = run(*command.split())
        assert (code, out) == (2, "") and "flowers.csv does not contain the samples" in one_error_line(err)


def test_new_samples_are_evaluated(run, flowers):
    """Those of a file of another name: all of them, their columns by name in any order, their labels by name."""
    assert run("train", "flowers.csv", *OPTIONS, "--quiet", "--out", "one")[0] == 0
    rows = [line.split(",") for line in flowers.read_text().splitlines()][:31]
    Path("new.csv").write_text("".join(",".join(row[::-1]) + "\n" for row in rows))
    code, out, err = run("evaluate", "one", "new.csv", "--json")
    assert code == 0, err
    found = json.loads(out)
    answers = run("predict", "one", "new.csv")[1].split()
    wrong = sum(answer != row[1] for answer, row in zip(answers, rows[1:], strict=True))
    assert (found["samples"], found["wrong"], found["dataset"]) == (30, wrong, "new.csv")
    assert [each["label"] for each in found["classes"]] == ["iris", "rose", "tulip"]
    Path("new.csv").write_text(flowers.read_text().replace("rose", "weed"))
    code, out, err = run("evaluate", "one", "new.csv")
    assert (code, out) == (2, "") and "a label weed that the model does not have" in one_error_line(err)


def test_a_confusion_matrix_fits_the_terminal(run):
    """Many classes with long names have numbers above the columns; no name and no count is cut."""
    for classes in (3, 9):
        names = [f"activity{k}" for k in range(classes)]
        rows = [f"{k},{k * k % 13},{names[k % classes]}" for k in range(40 * classes)]
        Path("log.csv").write_text("\n".join(["a,b,label", *rows]))
        assert run("train", "log.csv", *OPTIONS, "--quiet", "--out", f"run{classes}")[0] == 0
        code, out, err = run("evaluate", f"run{classes}")
        assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80 and "…" not in out
        head, _, *cells = out.split("a row for each right class, a column for each answer\n")[1].split("\n")[1:-2]
        own, columns = [line.split() for line in cells], head.split()
        if classes == 3:
            assert columns == names == [line[0] for line in own]
        else:
            assert columns == [str(k) for k in range(1, 10)] and [line[:2] for line in own] == [
                [str(k + 1), name] for k, name in enumerate(names)
            ]
        assert sum(int(count) for line in own for count in line[-classes:] if count != ".") == 8 * classes


def test_options_that_are_not_given_follow_from_the_file(run, flowers):
    """The chosen numbers are printed and recorded; plan counts with the same."""
    code, out, err = run("train", "flowers.csv", "--epochs", 2, "--json", "--out", "one")
    assert code == 0, err
    recipe, chosen = json.loads(out)["recipe"], next(line for line in err.splitlines() if line.startswith("chosen:"))
    samples = json.loads(Path("one/data.json").read_text())["train"]
    expected = defaults.completed({"epochs": 2}, samples=samples, inputs=3)
    assert {name: recipe[name] for name in expected} == expected and recipe["shuffle"]
    numbers = f"network {recipe['network']}, batch {recipe['batch']}, lr {recipe['lr']:.3g}"
    assert chosen == f"chosen: {numbers}, real weights, real activations"
    planned = json.loads(run("plan", "flowers.csv", "--epochs", 2, "--json")[1])
    assert planned["recipe"]["lr"] == recipe["lr"] and planned["recipe"]["batch"] == recipe["batch"]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["train", "digits", "--data", "d.csv"], "give one of them"),
        (["train", "--data", "digits"], "end in .csv, .npz or .npy"),
        (["train", "none.csv"], "none.csv does not exist"),
        (["plan"], "name a data set"),
        (["train", "cifar10"], "cifar-10-binary.tar.gz from https://"),
        (["train", "mitbih-unverified"], "from https://physionet.org"),
        (["data", "fetch", "flowers.csv"], "not a download: it is a file of your own"),
        (["data", "fetch", "digits"], "scikit-learn has it"),
    ],
)
def test_bad_requests(run, flowers, tmp_path, monkeypatch, arguments, says):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TINYFOA_DATA", raising=False)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and says in one_error_line(err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--network", "fc:"], "network 'fc:' is not understood"),
        (["--network", "conv:x", "--algorithm", "bp"], "conv:x"),
        (["--out", "flowers.csv"], "--out flowers.csv is a file"),
    ],
)
def test_what_needs_no_data_is_refused_before_they_are_read(run, flowers, monkeypatch, arguments, says):
    monkeypatch.setattr("tinyfoa_np.data.load", lambda *more, **named: pytest.fail("data are read"))
    code, out, err = run("train", "flowers.csv", *arguments)
    assert (code, out) == (2, "") and says in one_error_line(err)


def test_files_that_are_not_the_published_ones(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYFOA_DATA", str(tmp_path))
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]:
        rng.integers(0, 10, (8, 3073), dtype=np.uint8).tofile(folder / name)
    code, _, err = run("train", "cifar10", *OPTIONS)
    assert code == 1 and re.search("is not the published file .* NAME-unverified", one_error_line(err))
    code, out, err = run("train", "cifar10-unverified", "--network", "fc:8", "--epochs", "1", "--quiet", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["run_dir"] == "runs/cifar10-unverified-tinyfoa-1" and len(result["recipe"]["digest"]) == 64
    assert run("evaluate", result["run_dir"])[0] == 0
    (folder / "test_batch.bin").write_bytes(bytes(3073))
    code, _, err = run("evaluate", result["run_dir"])
    assert code == 2 and "does not contain the samples" in one_error_line(err)


def test_a_download_that_cannot_be(run, tmp_path, monkeypatch):
    pytest.importorskip("pooch", reason="pooch, which writes downloads, is not installed")
    from tinyfoa_np.data import mnist
    from tinyfoa_np.data.published import Files

    monkeypatch.setenv("NO_PROXY", "*")
    dead = "http://127.0.0.1:9/"  # nobody listens there
    files = Files("MNIST", ("mnist",), {"a": "?"}, dead, 9, mirrors=(dead,))
    monkeypatch.setattr(mnist.SETS["mnist"], "layouts", [files])
    code, out, err = run("data", "fetch", "mnist", "--data-dir", tmp_path, "--quiet")
    assert (code, out) == (2, "") and "MNIST cannot be fetched: no address answers" in one_error_line(err)
