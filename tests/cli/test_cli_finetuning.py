"""Fine-tuning on the command line: the recipe of the model, tables with other classes, exports, and refusals."""

import json
import re

import numpy as np
import pytest
from cli_tools import one_error_line

BP = ["--algorithm", "bp", "--network", "fc:12,9", "--epochs", "2", "--no-binary-weights", "--no-binary-activations"]


def table(path, classes, names="abcd", seed=0):
    draw = np.random.default_rng(seed)
    rows = [f"{','.join(names)},label"]
    for n in range(90):
        label = n % classes
        rows.append(",".join(f"{v:.3f}" for v in draw.normal(label, 0.3, len(names))) + f",class{label}")
    path.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("network", ["fc:12,9", "cnn"])
def test_a_model_trains_on_and_is_exported(run, network):
    code, _, err = run("train", "digits", *BP, "--limit", 200, "--network", network, "--out", "old", "--quiet")
    assert code == 0, err
    more = ["--from", "old", "--freeze", "1", "--epochs", 1, "--limit", 200]
    code, out, err = run("train", "digits", *more, "--out", "new", "--json", "--quiet")
    assert code == 0, err
    result = json.loads(out)
    old = json.loads(open("old/audit.json").read())
    assert result["recipe"]["start"] == old["model_sha256"] and result["recipe"]["network"] == network
    assert result["arena"]["planned_bytes"] < old["arena"]["planned_bytes"]
    looks = [["report", "new"], ["plot", "new"], ["audit", "new"], ["evaluate", "new"], ["compare", "old", "new"]]
    for command in looks if network != "cnn" else looks[:1]:
        code, _, err = run(*command)
        assert code == 0, (command, err)
    for to in ("npz", "c-header", "onnx"):
        code, _, err = run("export", "new", "--to", to)
        assert code == 0, (to, err)
    code, _, err = run("export", "new", "--to", "c-trainer", "--out", "trainer")
    assert code == 2 and one_error_line(err)


def test_layers_of_tinyfoa_are_frozen_one_by_one(run):
    small = ["--network", "fc:20x3", "--epochs", 2, "--limit", 200, "--quiet"]
    assert run("train", "digits", *small, "--out", "old")[0] == 0
    code, out, err = run(
        "train", "digits", "--from", "old", "--freeze", "1,2", "--out", "new", "--quiet", "--json", "--threads", 2
    )
    assert code == 0, err
    assert json.loads(out)["seconds_per_epoch"][:2] == [0, 0]
    for command in (["report", "new"], ["plot", "new"], ["export", "new", "--to", "npz"]):
        code, _, err = run(*command)
        assert code == 0, (command, err)
    plans = []
    for freeze in ([], ["--freeze", "1,2"]):
        code, out, err = run("plan", "digits", "--network", "fc:20x3", "--json", *freeze)
        plans.append(json.loads(out))
    assert plans[1]["flash"]["written_bytes"] < plans[0]["flash"]["written_bytes"]
    assert plans[1]["layers"][0]["planned_bytes"] < plans[0]["layers"][0]["planned_bytes"]
    code, out, err = run("plan", "digits", "--from", "old", "--freeze", "1,2", "--json", "--threads", 2)
    plan, trained = json.loads(out), json.loads(open("new/audit.json").read())
    assert code == 0 and plan["flash"]["parts"]["weights to start from"] > 0, err
    assert plan["ram"]["planned_bytes"] == trained["arena"]["planned_bytes"]


def test_own_data_with_other_classes(run, tmp_path):
    table(tmp_path / "old.csv", 2)
    table(tmp_path / "new.csv", 3, seed=1)
    table(tmp_path / "other.csv", 3, names="abxd")
    assert run("train", "old.csv", *BP, "--out", "old", "--quiet")[0] == 0
    code, _, err = run("train", "new.csv", "--from", "old", "--out", "new", "--quiet")
    assert code == 0, err
    code, out, _ = run("evaluate", "new", "new.csv", "--json")
    assert code == 0 and [row["label"] for row in json.loads(out)["classes"]] == ["class0", "class1", "class2"]
    code, _, err = run("train", "other.csv", "--from", "old", "--out", "none", "--quiet")
    assert code == 2 and re.search(r"'c' where .*other.csv has 'x'", one_error_line(err))


def test_what_contradicts_is_refused(run, tmp_path):
    assert run("train", "digits", *BP, "--limit", 200, "--out", "old", "--quiet")[0] == 0
    for arguments, words in (
        (["digits", "--from", "old", "--preset", "paper"], "give one"),
        (["--from", "old", "--resume", "old"], "give one"),
        (["digits", "--from", "old", "--normalize", "unit"], "leave --normalize out"),
        (["digits", "--from", "nothing"], "nothing"),
        (["digits", "--freeze", "1"], "--from MODEL"),
        (["--from", "old"], "name a data set"),
        (["mnist", "--from", "old", "--freeze", "5"], "1 to 2"),
    ):
        code, _, err = run("train", *arguments)
        assert code == 2 and words in one_error_line(err), err


def test_import_then_evaluate_and_train_on(run, tmp_path):
    from safetensors.numpy import save_file

    draw = np.random.default_rng(0)
    shapes = {"fc1": (12, 64), "fc2": (10, 12)}
    tensors = {f"{k}.weight": draw.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    tensors |= {f"{k}.bias": np.zeros(s[0], np.float16) for k, s in shapes.items()}
    save_file(tensors, tmp_path / "net.safetensors")
    code, out, err = run("import", "net.safetensors", "digits", "--network", "fc:12", "--out", "new")
    assert code == 0 and "layer 1      fc1" in out, err
    for command in (
        ["evaluate", "new/model.safetensors"],
        ["export", "new/model.safetensors", "--to", "npz", "--out", "net.npz"],
        ["train", "digits", "--from", "new/model.safetensors", "--epochs", 1, "--limit", 100, "--out", "on", "--quiet"],
    ):
        code, _, err = run(*command)
        assert code == 0, (command, err)
    code, _, err = run("import", "net.safetensors", "digits", "--network", "fc:12", "--out", "new")
    assert code == 2 and "exists" in one_error_line(err)
    code, _, err = run("import", "net.safetensors", "digits", "--network", "fc:13", "--out", "other")
    assert code == 2 and "left are fc1 [12, 64]" in one_error_line(err)
