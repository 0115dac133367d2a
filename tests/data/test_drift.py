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
    """The warnings of loading a file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data.load(path, reading=Reading(**how))
    return [str(each.message) for each in caught]


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


def test_many_columns_are_counted():
    line = drift.warning("x.npz", dict.fromkeys(range(7), "why"), None)
    assert "drift: '1', '2', '3', '4' (why)" in line and " and 3 more;" in line
