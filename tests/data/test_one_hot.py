"""Columns of text as inputs of 0 and 1: read, trained on, found again, and exported with the model."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from tinyfoa_np import data, load, train
from tinyfoa_np.data import one_hot, user_files
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.data.roles import Known
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import export
from tinyfoa_np.recipe import Recipe

ROWS = [(k * 7 % 13 / 2, ("wrist", "belt", "belt", "ankle")[k % 4], k % 3, "ab"[k // 4 % 2]) for k in range(80)]
HOW = Reading(one_hot=("place", "valve"))
NAMES = ["x", "place=ankle", "place=belt", "place=wrist", "valve=0", "valve=1", "valve=2"]


def written(path, rows, head="x,place,valve,label"):
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


@pytest.fixture
def log(tmp_path):
    return written(tmp_path / "log.csv", ROWS)


def test_a_column_per_value_in_sorted_order(log):
    loaded = data.load(log, reading=HOW)
    assert loaded.origin["columns"] == NAMES
    inputs = np.concatenate([loaded.train.inputs, loaded.test.inputs])
    assert (inputs[:, 1:4].sum(axis=1) == 1).all() and (inputs[:, 4:].sum(axis=1) == 1).all()
    assert sorted(map(tuple, inputs.tolist())) == sorted(
        (x, *(float(place == p) for p in ("ankle", "belt", "wrist")), *(float(valve == v) for v in range(3)))
        for x, place, valve, _ in ROWS
    )
    assert data.load(log, reading=replace(HOW, drop=("x",))).origin["columns"] == NAMES[1:]


def test_the_order_of_rows_and_columns_makes_no_difference_to_a_model(log, tmp_path):
    loaded = data.load(log, reading=HOW)
    known = Known.from_record(json.loads(json.dumps(loaded.origin["reading"])))
    assert known.values == [[], ["ankle", "belt", "wrist"], ["0", "1", "2"]] and known.names == ["x", "place", "valve"]
    turned = written(tmp_path / "new.csv", [(v, p, x, 9) for x, p, v, _ in ROWS[::-1]], "valve,place,x,more")
    result = train(Recipe(dataset=log, network="fc:8", epochs=2, slices=1, batch=20), loaded, tmp_path / "run")
    model = load(tmp_path / "run" / "model.safetensors")
    assert model.columns == NAMES and result["error_pct"] is not None
    inputs = user_files.samples_of(turned, model).inputs
    assert (inputs[::-1] == user_files.samples_of(log, model).inputs).all() and inputs.shape == (80, 7)
    bare = written(tmp_path / "bare.csv", [row[1:3] for row in ROWS], "place,valve")
    with pytest.raises(BadRequest, match="has no column 'x'"):
        user_files.samples_of(bare, model)
    for rows, says in (
        (
            [(1, "knee", 0, "a")],
            "line 2, column 'place': 'knee' is none of the values trained on: 'ankle', 'belt', 'wris",
        ),
        ([(1, "", 0, "a")], "line 2, column 'place': a value is missing"),
    ):
        with pytest.raises(BadRequest, match=says):
            user_files.samples_of(written(tmp_path / "odd.csv", rows), model)
    library = export.export(model, "c-header")
    assert (
        "place=belt" in library["tinyfoa_classify.h"].decode() and b"TINYFOA_INPUTS 7" in library["tinyfoa_classify.h"]
    )
    if shutil.which("cc") is None:
        pytest.skip("no compiler")
    for name, content in library.items():
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).write_bytes(content)
    main = '#include <stdio.h>\n#include "tinyfoa_classify.h"\nint main(void) { tinyfoa_value x[TINYFOA_INPUTS];\n'
    main += "while (fread(x, sizeof x, 1, stdin)) putchar(48 + tinyfoa_classify(x, 0)); return 0; }\n"
    (tmp_path / "c" / "main.c").write_text(main)
    subprocess.run(["cc", "main.c", "tinyfoa_classify.c", "-lm", "-o", "main"], cwd=tmp_path / "c", check=True)
    samples = inputs.astype(np.float32)
    said = subprocess.run([tmp_path / "c" / "main"], input=samples.tobytes(), capture_output=True, check=True).stdout
    assert said.decode() == "".join(map(str, model.predict(samples)))


def test_windows_gaps_and_a_test_set(log, tmp_path):
    loaded = data.load(log, reading=replace(HOW, window=4))
    assert loaded.train.inputs.shape[1] == 28 and loaded.origin["columns"][7:9] == ["x[1]", "place=ankle[1]"]
    assert "7 inputs (x, place=ankle" in user_files.described(loaded)
    gaps = written(tmp_path / "gaps.csv", [*ROWS, (1, "", "", "a"), (1, "NA", 2, "b")])
    with pytest.raises(BadRequest, match="line 82, column 'place': a value is missing"):
        data.load(gaps, reading=HOW)
    filled = data.load(gaps, reading=replace(HOW, missing="median"))
    assert np.isfinite(filled.train.inputs).all() and len(filled.origin["reading"]["medians"]) == 7
    test = written(tmp_path / "test.csv", ROWS[:9])
    assert data.load(f"{log},{test}", reading=HOW).test.inputs.shape == (9, 7)
    knee = written(tmp_path / "knee.csv", [(1, "knee", 0, "a")])
    with pytest.raises(BadRequest, match="'knee' is none of the values trained on"):
        data.load(f"{log},{knee}", reading=HOW)


def test_frames(log, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(log)
    loaded = data.from_frame(frame, one_hot=["place", "valve"], test=frame[:9])
    assert (
        loaded.origin["columns"] == NAMES
        and loaded.digest == data.load(f"{log},{written(tmp_path / 't.csv', ROWS[:9])}", reading=HOW).digest
    )


@pytest.mark.parametrize(
    ("rows", "how", "says"),
    [
        (ROWS, Reading(), r"holds text \('wrist'\).*\(--one-hot place\), or to be left out \(--drop place\)\?"),
        (ROWS, Reading(one_hot=("place",), drop=("place",)), "named twice"),
        (
            ROWS,
            Reading(one_hot=("place",), drop=("2",)),
            "named twice among label, group, time, drop, keep and one-hot",
        ),
        (
            [(k, "xy"[k % 2], f"v {k % 3}", "ab"[k % 2]) for k in range(30)],
            Reading(),
            r"column 'place' \('x'\), column 'valve' \('v 0'\) hold text.*--one-hot place,valve\).*--drop place,valve",
        ),
        (ROWS, Reading(one_hot=("where",)), "has no column 'where'"),
        ([(k, f"v{k}", 0, "ab"[k % 2]) for k in range(300)], HOW, f"has more than {one_hot.MOST_VALUES} values"),
        ([(k, "", 0, "ab"[k % 2]) for k in range(9)], replace(HOW, missing="median"), "has no value"),
        ([(k, "a\x07", 0, "ab"[k % 2]) for k in range(9)], HOW, "is not text"),
    ],
)
def test_what_is_refused(rows, how, says, tmp_path):
    with pytest.raises(BadRequest, match=says):
        data.load(written(tmp_path / "log.csv", rows), reading=how)


@pytest.mark.parametrize(
    "values", [[["a"]], [[], ["a", "a"], []], [[], [1], []], [[], "ab", []], {"a": 1}, [[], ["NA"], []]]
)
def test_values_of_strangers(values, log):
    record = data.load(log, reading=HOW).origin["reading"] | {"values": values}
    with pytest.raises(BadRequest, match="how the samples were read is not known"):
        Known.from_record(record)
