"""The command line on networks of any layers: trained, audited, planned and asked, or refused in a line."""

import json

import numpy as np
import pytest

from tinyfoa_np import data

QUICK = ["--epochs", "2", "--batch", "20", "--limit", "60"]


@pytest.mark.parametrize("algorithm", ["giff", "bp"])
def test_a_run_from_end_to_end(run, tmp_path, algorithm):
    where = str(tmp_path / "run")
    own = ["--theta", "2", "--label-width", "2", "--groups", "1,2|3", "--merge", "mul", "--rms"]
    code, out, err = run(
        "train",
        "digits",
        "--algorithm",
        algorithm,
        "--network",
        "cnn",
        *QUICK,
        *(own if algorithm == "giff" else []),
        "--audit",
        "--json",
        "--out",
        where,
    )
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["findings"] == []
    code, out, err = run("audit", where, "--quick", "--json")
    assert code == 0 and json.loads(out)["ok"], err
    assert run("audit", where, "--quick")[0] == 0
    code, out, err = run("evaluate", where)
    assert code == 0 and f"{result['error_pct']:.2f}" in out, err
    samples = tmp_path / "x.npy"
    np.save(samples, data.load("digits").test.inputs[:5])
    code, out, err = run("predict", where, str(samples))
    assert code == 0 and len(out.split()) == 5, err
    code, out, err = run("train", "--resume", where, "--json")
    assert json.loads(out.splitlines()[-1])["model_sha256"] == result["model_sha256"]
    code, out, err = run("plan", "digits", "--algorithm", algorithm, "--network", "cnn", *QUICK, "--ram", "20kB")
    assert code == 1 and "the smallest RAM is" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--algorithm", "ff", "--network", "cnn"], "writes labels into the inputs"),
        (["--algorithm", "giff", "--network", "cnn", "--binary-weights"], "leave --binary-weights out"),
        (["--algorithm", "giff", "--network", "cnn", "--preset", "paper"], "TinyFoA's authors"),
        (["--algorithm", "giff", "--network", "cnn", "--groups", "3|2|1"], "1|2|3"),
        (["--algorithm", "giff", "--network", "cnn", "--schedule", "slice"], "no schedule slice: it trains whole"),
        (["--algorithm", "giff", "--slices", "2"], "slices does not apply to algorithm giff, which trains"),
        (["--algorithm", "giff", "--schedule", "none", "--slices", "2"], "leave it out"),
        (["--algorithm", "giff", "--hold", "2"], "hold does not apply to algorithm giff"),
        (["--algorithm", "tinyfoa", "--network", "cnn"], "in slices: for cnn choose bp; docs/rules.md has what drtp"),
        (["--algorithm", "giff", "--network", "lc:16"], "does not train locally connected networks"),
        (["--algorithm", "bp", "--network", "cnn", "--groups", "1|2,3"], "groups does not apply to algorithm bp"),
        (["--algorithm", "bp", "--network", "fc:20", "--slices", "2"], "leave it out, or use schedule slice or frozen"),
        (["--algorithm", "bp", "--network", "fc:20", "--schedule", "stream"], "choose none or slice or frozen"),
    ],
)
def test_what_cannot_be_is_one_line(run, options, words):
    for command in ("train", "plan"):
        code, _, err = run(command, "digits", *options)
        assert code == 2 and words in err and err.count("\n") == 1
