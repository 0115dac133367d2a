"""``evaluate --exit``, ``predict --exit`` and ``export --exit``."""

import json

import numpy as np

from tinyfoa_np import data


def test_error_against_multiplications_and_predictions(run, tmp_path):
    code, _, err = run("train", "digits", "--algorithm", "ff", "--network", "fc:40x3", "--epochs", "4", "--out", "r")
    assert code == 0, err
    np.save(tmp_path / "x.npy", data.load("digits").test.inputs)
    code, _, err = run("predict", "r", "x.npy", "--exit")
    assert code == 2 and "evaluate with --exit" in err
    code, _, err = run("export", "r", "--to", "c-header", "--exit")
    assert code == 2 and "evaluate with --exit" in err
    code, out, err = run("evaluate", "r", "--exit", "--json")
    assert code == 0, err
    found = json.loads(out)["exit"]
    assert [row["factor"] for row in found] == [2.0, 1.0, 0.0, -1.0]
    shares = [row["products_pct"] for row in found]
    assert shares == sorted(shares) and shares[0] < shares[-1] <= 100
    assert all(sum(row["samples_by_layer"]) == 360 for row in found)
    code, out, _ = run("evaluate", "r", "--exit")
    assert code == 0 and "Stopping early" in out and f"{found[1]['error_pct']:.2f}" in out
    code, out, err = run("predict", "r", "x.npy", "--exit", "--json")
    assert code == 0, err
    said = json.loads(out)
    wrong = np.mean(np.array(said["classes"]) != data.load("digits").test.labels)
    assert 100 * wrong == found[1]["error_pct"]
    assert np.bincount(said["layers"], minlength=4)[1:].tolist() == found[1]["samples_by_layer"]
    code, _, err = run("export", "r", "--to", "c-header", "--exit")
    assert code == 0, err
    assert (tmp_path / "r" / "firmware" / "tinyfoa_classify.c").read_text().count("if (confident(") == 2
    for to in ("npz", "onnx", "c-trainer"):
        code, out, err = run("export", "r", "--to", to, "--exit")
        assert (code, out) == (2, "") and "--to c-header" in err and err.count("\n") == 1


def test_other_rules_are_refused(run):
    assert run("train", "digits", "--network", "fc:9", "--epochs", "1", "--out", "r")[0] == 0
    code, out, err = run("evaluate", "r", "--exit")
    assert (code, out) == (2, "") and "applies to models of ff" in err
    code, out, err = run("export", "r", "--to", "c-header", "--exit")
    assert (code, out) == (2, "") and "applies to models of ff" in err
