"""Columns that drift are told in one line, and ordinary ones are not."""

import warnings

import numpy as np
import pytest

from tinyfoa_np import data
from tinyfoa_np.data import drift
from tinyfoa_np.data.reading import Reading

RANDOM = np.random.default_rng(0)


def table(path, columns, labels, **more):
    """A CSV file of named columns."""
    named = {**columns, **more, "label": labels}
    rows = [",".join(named), *(",".join(map(str, row)) for row in zip(*named.values()))]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def told(path, **how):
    """The warning about a file's columns, in a list, which is empty if none drift; reading does not issue it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = data.load(path, reading=Reading(**how)).drift
    return [line] if line else []


@pytest.fixture
def people():
    """Six people with 40 samples each: who, class, and a column that is about the class."""
    who, label = np.repeat(np.arange(6), 40), np.tile(np.repeat([0, 1], 20), 6)
    return who, label, np.round(label + RANDOM.normal(0, 1, 240), 3)


def test_a_column_that_tells_people_apart(people, tmp_path):
    who, label, x = people
    temp = np.round(20 + 3 * RANDOM.permutation(6)[who] + RANDOM.normal(0, 0.3, 240), 2)
    path = table(tmp_path / "log.csv", {"x": x, "temp": temp}, label, who=[f"p{n}" for n in who])
    [line] = told(path, group="who")
    assert (
        line.startswith(f"{path} has columns that drift: 'temp' (nearly all of the variance is between groups by who)")
        and "--drop" in line
        and "'x'" not in line
    )
    assert "\n" not in line and told(path, group="who", drop="temp") == []
    [line] = told(path, group="who", window=10, step=5)
    assert "'temp' (" in line and "'x'" not in line


def test_people_who_differ_by_their_class_do_not_drift(people, tmp_path):
    who, _, x = people
    sick = who % 2
    path = table(tmp_path / "log.csv", {"x": x, "fever": np.round(37 + 2 * sick + x / 20, 2)}, sick, who=who)
    assert told(path, group="who") == []


def test_later_samples_elsewhere(tmp_path):
    t, label = np.arange(200), np.arange(200) % 2
    drifting, steady = np.round(np.sqrt(t) + RANDOM.normal(0, 0.5, 200), 2), np.round(RANDOM.normal(0, 1, 200), 2)
    path = table(tmp_path / "log.csv", {"age": drifting, "x": steady}, label, moment=t)
    [line] = told(path, time="moment")
    assert "'age' (" in line and "of the test values are outside the range" in line and "'x'" not in line
    test = table(tmp_path / "other.csv", {"age": drifting, "x": steady * 1000 + 5000}, label, moment=t)
    [line] = told(f"{path},{test}", drop="moment")
    assert "'x' (100 % of the test values" in line


@pytest.mark.parametrize("samples", [10, 30, 300])
def test_samples_drawn_alike_do_not_drift(samples, tmp_path):
    for seed in range(20):
        random = np.random.default_rng(seed)
        columns = {f"c{k}": np.round(random.standard_t(3, samples), 4) for k in range(8)}
        groups = np.arange(samples) % 5
        path = table(tmp_path / f"{seed}.csv", columns, np.arange(samples) // 5 % 2, who=groups)
        assert told(path, drop="who") == [] and told(path, group="who") == []


def test_columns_are_named_as_drop_takes_them(people, tmp_path):
    """Columns of text by their own name, columns without names by their number in the table."""
    who, label, x = people
    mode = ["belt" if n in (0, 2, 3) else "wrist" for n in who]
    path = table(tmp_path / "log.csv", {"mode": mode, "x": x}, label, who=[f"p{n}" for n in who])
    [line] = told(path, group="who", one_hot=("mode",))
    assert ": 'mode' (nearly" in line and "belt" not in line
    assert told(path, group="who", drop="mode") == []
    bare = tmp_path / "bare.csv"
    temp = np.round(20 + 3 * RANDOM.permutation(6)[who] + RANDOM.normal(0, 0.3, 240), 2)
    bare.write_text("".join(f"{k},p{w},{a},{t}\n" for k, w, a, t in zip(label, who, x, temp)))
    [line] = told(str(bare), header=False, label="1", group="2")
    assert ": '4' (nearly" in line and told(str(bare), header=False, label="1", group="2", drop="4") == []
    np.savez(tmp_path / "log.npz", x=np.stack([x, temp], axis=1), y=label, who=who)
    [line] = told(str(tmp_path / "log.npz"), group="who")
    assert ": '2' (nearly" in line and "--drop" not in line  # for tables only


def test_the_warning_comes_where_a_model_is_trained(people, tmp_path, run):
    who, label, x = people
    temp = np.round(20 + 3 * RANDOM.permutation(6)[who] + RANDOM.normal(0, 0.3, 240), 2)
    table(tmp_path / "log.csv", {"x": x, "temp": temp}, label, who=who)
    recipe = ["--group", "who", "--network", "fc:8", "--epochs", "1"]
    assert run("plan", "log.csv", *recipe)[2] == ""
    code, out, err = run("train", "log.csv", *recipe, "--quiet")
    assert (
        code == 0 and err.startswith("tinyfoa: warning: log.csv has columns that drift: 'temp' (") and "--drop" in err
    )
    for command in (["evaluate", "runs/log-tinyfoa-1"], ["export", "log.csv", *recipe, "--to", "c-trainer"]):
        code, out, err = run(*command)
        assert (code, err) == (0, ""), command


def test_many_columns_are_counted():
    line = drift.warning("x.npz", dict.fromkeys(range(7), "why"), "1234567")
    assert "drift: '1', '2', '3', '4' (why)" in line and " and 3 more;" in line
