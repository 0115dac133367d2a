"""Your own data: CSV, .npz and .npy files, what becomes of them, and what is refused; commands that train on them."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyfoa_np import data
from tinyfoa_np.data import csv_table as table
from tinyfoa_np.data import user_files as own
from tinyfoa_np.data.dataset import Columns, check_split, on_scale
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.data.roles import Known
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import model
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.directory import describe, stand_in
from tinyfoa_np.run.train import train


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def samples(count=40, inputs=5, classes=3, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    values = rng.normal(size=(count, inputs)) * 20 + labels[:, None] * 40 + 60
    return np.clip(values, 0, 255).astype(dtype), labels


def npz(name, **arrays):
    np.savez(name, **arrays)
    return str(name)


def rows_of(split):
    return sorted((row.tobytes(), int(label)) for row, label in zip(split.inputs, split.labels))


# What is read


def test_a_csv_and_its_split(folder):
    x, y = samples()
    (folder / "d.csv").write_text("".join(",".join(map(repr, [*row.tolist(), int(k)])) + "\n" for row, k in zip(x, y)))
    loaded = data.load("d.csv")
    assert loaded.train.inputs.shape == (32, 5) and loaded.test.inputs.shape == (8, 5) and loaded.classes == 3
    assert loaded.train.inputs.dtype == np.float32 and "seed 0" in loaded.origin["split"]
    both = sorted(rows_of(loaded.train) + rows_of(loaded.test))
    assert both == sorted((row.tobytes(), int(k)) for row, k in zip(x, y))
    assert loaded.digest == data.load(npz("d.npz", x=x, y=y)).digest
    np.save("x.npy", x), np.save("y.npy", y)
    assert loaded.digest == data.load("x.npy,y.npy").digest == data.load("x.npy, y.npy").digest
    assert data.samples("d.csv") == (32, 8) and data.find("d.csv") == "d.csv" and data.shape("d.csv").classes == 3


@pytest.mark.parametrize(
    "shape, image",
    [((3, 6, 5), (3, 6, 5)), ((1, 8, 2), (1, 8, 2)), ((6, 5), (1, 6, 5)), ((6, 5, 3), None), ((30,), None)],
)
def test_arrays_of_images(folder, shape, image):
    """Channels, rows and columns in this order; channels that come last are not guessed."""
    x = np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(np.uint8)
    loaded = data.load(npz("d.npz", x=x, y=np.arange(40) % 3))
    assert loaded.image == image and loaded.train.inputs.shape == (32, np.prod(shape))
    assert rows_of(loaded.train)[0][0] in {row.tobytes() for row in x}
    if image == (3, 6, 5):
        recipe = Recipe(dataset="d.npz", algorithm="bp", network="conv:4,p2,6", epochs=1, batch=8)
        assert train(recipe, loaded, folder / "run")["error_pct"] <= 100


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [None, "a,b,c", "a,Class,c", " LABEL ,b,c", "\ufeffx,target,z", '"y","b","c"'])
def test_where_the_label_is(folder, delimiter, newline, header):
    column = {None: 2, "a,b,c": 2, "a,Class,c": 1, " LABEL ,b,c": 0, "\ufeffx,target,z": 1, '"y","b","c"': 0}[header]
    lines = [header] if header else []
    for n in range(10):
        fields = [f"{n}.5", f" {-n} "]
        fields.insert(column, ["cat", "dog"][n % 2])
        lines.append(",".join(fields))
    text = newline.join([*lines, "", ""]).replace(",", delimiter)
    (folder / "d.csv").write_bytes(text.encode())
    found = table.read(folder / "d.csv")
    inputs, labels = found.inputs, [found.labels.values[code] for code in found.labels.codes]
    names = None if header is None else [n.strip('\ufeff "') for n in header.split(",")]
    assert (found.names, found.label) == (names and names[:column] + names[column + 1 :], names and names[column])
    assert inputs.tolist() == [[n + 0.5, -n] for n in range(10)]
    assert labels == ["cat", "dog"] * 5
    assert data.load("d.csv").origin["labels"] == ["cat", "dog"]


def test_given_test_samples_stay_apart_and_in_order(folder):
    x, y = samples(30)
    npz("a.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    npz("b.npz", X=x[:20], Y=y[:20]), npz("c.npz", x=x[20:], y=y[20:])
    for name, array in {"x": x[:20], "y": y[:20], "tx": x[20:], "ty": y[20:]}.items():
        np.save(f"{name}.npy", array)
    for name in ("a.npz", "b.npz,c.npz", "x.npy,y.npy,tx.npy,ty.npy", "b.npz,tx.npy,ty.npy"):
        loaded = data.load(name)
        np.testing.assert_array_equal(loaded.train.inputs, x[:20])
        np.testing.assert_array_equal(loaded.test.labels, y[20:])
        assert "split" not in loaded.origin


def test_bytes_stay_bytes(folder):
    x, y = samples(dtype=np.uint8)
    loaded = data.load(npz("d.npz", x=x.reshape(40, 5, 1), y=y))
    assert loaded.train.inputs.dtype == np.uint8 and loaded.train.inputs.shape == (32, 5) and loaded.columns is None
    seen = loaded.train.inputs * loaded.scale + loaded.offset
    assert seen.mean() == pytest.approx(0, abs=1e-9) and seen.std() == pytest.approx(1)
    assert loaded.affine("unit") == (1 / 255, 0)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i1", "u2", "i8", ">i4", "?"])
def test_other_numbers_stay_as_precise_as_they_are_whatever_their_layout(folder, dtype):
    x, y = samples(dtype=dtype) if dtype != "?" else (samples()[0] > 80, samples()[1])
    wide = np.zeros((80, 10), dtype)
    wide[::2, ::2] = x
    digests = set()
    for k, laid in enumerate((x, np.asfortranarray(x), wide[::2, ::2])):
        np.save("x.npy", laid), np.save("y.npy", y[:, None] if k else y)
        loaded = data.load("x.npy,y.npy")
        assert loaded.train.inputs.dtype == (np.float64 if dtype[-2:] == "f8" else np.float32)
        assert loaded.train.inputs.flags.c_contiguous
        check_split(loaded, "train", loaded.train), check_split(loaded, "test", loaded.test)
        digests.add(loaded.digest)
    kept = {row.tobytes() for row in x.astype(loaded.train.inputs.dtype)}
    assert len(digests) == 1 and rows_of(loaded.train)[0][0] in kept


@pytest.mark.parametrize(
    "labels, named",
    [
        ([0, 1, 2], None),
        ([2.0, 0.0, 1.0], None),
        ([True, False, True], None),
        ([-1, 1, 7], [-1, 1, 7]),
        ([3, 1, 2], [1, 2, 3]),
        (["b", "a", "c"], ["a", "b", "c"]),
        ([b"b", b"a", b"a"], ["a", "b"]),
        (["10", "9", "9"], [9, 10]),
        (["10", "9", "x"], ["10", "9", "x"]),
    ],
)
def test_labels(folder, labels, named):
    x, _ = samples(30)
    loaded = data.load(npz("d.npz", x_train=x, y_train=np.array(labels * 10), x_test=x[:3], y_test=np.array(labels)))
    assert loaded.origin.get("labels") == named and loaded.classes == len(set(labels))
    names = named or sorted(map(int, set(labels)))
    wanted = [label.decode() if isinstance(label, bytes) else label for label in labels]
    assert [str(names[k]) for k in loaded.test.labels] == [
        str(int(label)) if not isinstance(label, str) else label for label in wanted
    ]


def test_columns_are_put_on_one_scale():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(50, 4)) * [1, 1e6, 1e-3, 0] + [0, 5, -1, 3]).astype("f4")
    columns = Columns.of(x)
    for normalize, check in (("standard", lambda z: (z.mean(), z.std())), ("unit", lambda z: (z.min(), z.max()))):
        shift, factor = columns.affine(normalize)
        assert (shift.dtype, factor.dtype) == (np.float64, np.float32)
        seen = on_scale(x, shift, factor)
        assert seen.dtype == np.float32
        for column in seen[:, :3].T:
            assert check(column) == pytest.approx((0, 1), abs=1e-2)
        assert not seen[:, 3].any()


# What is refused

X, Y = samples()


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({"x": X}, "holds x: x and y"),
        ({"a": X, "b": Y}, "holds a, b: x and y"),
        ({"x": X, "y": Y, "X": X + 1}, "holds two arrays called x"),
        ({"x": X, "y": Y, "x_test": X}, "x_test and y_test"),
        ({"x": X, "y": Y[1:]}, "one label per sample"),
        ({"x": X, "y": np.stack([Y, Y], 1)}, "one label per sample"),
        ({"x": X[:, 0], "y": Y}, "N rows, one sample each, are needed"),
        ({"x": X[:0], "y": Y[:0]}, "has no samples"),
        ({"x": X[:, :0], "y": Y}, "N rows, one sample each, are needed"),
        ({"x": np.where(X == X[7, 2], np.nan, X), "y": Y}, "sample 8 holds NaN"),
        ({"x": np.where(X == X[7, 2], 1e39, X.astype(float)), "y": Y}, "sample 8 holds values beyond 3.4e38"),
        ({"x": np.where(X == X[7, 2], np.inf, X), "y": Y}, "sample 8 holds NaN or infinite"),
        ({"x": X, "y": np.where(Y == 1, "a\x07b", "c")}, "a label 'a\\x07b', which is not text"),
        ({"x": np.where(X == X[7, 2], 3e38, -3e38 + 0 * X), "y": Y}, "too large"),
        ({"x": X.astype(complex), "y": Y}, "complex"),
        ({"x": X.astype("U9"), "y": Y}, "numbers are needed"),
        ({"x": X, "y": Y + 0.5}, "0.5, which is not a whole number"),
        ({"x": X, "y": Y * 1e17}, "labels beyond 2**53, where float64 skips whole numbers: use integers"),
        ({"x": X, "y": (Y + 2.0**24 + 2).astype("f4")}, "labels beyond 2**24, where float32 skips whole numbers"),
        ({"x": X, "y": Y * np.nan}, "nan, which is not a whole number"),
        ({"x": X, "y": np.arange(40)}, "40 classes in 40 samples"),
        ({"x": X, "y": np.zeros(40, int)}, "only one class, 0"),
        ({"x": X, "y": Y.astype("datetime64[s]")}, "whole numbers or text are needed"),
        ({"x": X, "y": Y, "x_test": X[:, :4], "y_test": Y}, "4 inputs per sample"),
        ({"x": X, "y": Y, "x_test": X.astype("u1"), "y_test": Y}, "uint8"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "a label 3 that"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y.astype("U1")[:] + np.array("a")}, "a label 0a that"),
        ({"x": np.array([{}, 1], object), "y": Y}, "not an .npz file of numbers"),
    ],
)
def test_arrays_that_are_refused(folder, arrays, says):
    with pytest.raises(BadRequest, match=r"^d\.npz") as error:
        data.load(npz("d.npz", **arrays))
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is empty"),
        ("1\n2\n", "one column"),
        ("a,b,c\n", "has no samples"),
        ("1,2,0\n1,2\n", "line 2: 2 columns, not 3"),
        ("1,2,0\n1,x,1\n", "line 2, column 2: 'x' is not a number; the label, which may be text"),
        ("1,2,0\n1,,1\n", "line 2, column 2: a value is missing"),
        ("a,y,b\n1,one,NA\n", "line 2, column 'b': a value is missing"),
        ("a,y,b\n1,one,x\n", "line 2, column 'b': 'x' is not a number"),
        ("a;b;y\n1.5;0,5;one\n", "line 2, column 'b': '0,5' is not written as other numbers are: use a decimal point"),
        ("1,2,0\n1,nan,1\n", "line 2, column 2: a value is missing"),
        ("1,2,0\n1,inf,1\n", "line 2, column 2: 'inf' is not a number that can be trained on: infinite values"),
        ("1,2,0\n1,1e39,1\n1,2,0\n1,2,1", "sample 2 holds values beyond 3.4e38"),
        ("1,2,a\n1,2,a\0\n1,2,b\n", "line 2, column 3: 'a\\x00' is not text: it contains '\\x00'"),
        ("1,2,a\n1,2,\x7fa\n1,2,b\n", "line 2, column 3: '\\x7fa' is not text"),
        ("1,2,0\n1,1e999,1\n1,2,0\n1,2,1", "line 2, column 2: '1e999' is too large"),
        ("1,2,0\n1,1_0,1\n", "line 2, column 2: '1_0' is not a number"),
        ("1,2,0\n1,\u0663,1\n", "line 2, column 2: '\u0663' is not a number"),
        ("1,2,0\n1,2,\n", "line 2, column 3: a value is missing"),
        ("1,2,0.3\n1,2,0.7\n", "0.3, which is not a whole number: is it the label? Labels must be classes"),
        ("a,price\n1,2.5\n2,7.5\n3,8\n", "d.csv, column 'price', has a label 2.5, which is not a whole number"),
        ("a,b\n" + "".join(f"1,{k}\n" for k in range(9)), "column 'b', has 9 classes in 9 samples"),
        ("a,b\n" + "".join(f"1,{k}\n" for k in range(9)), "; --label COLUMN selects another column"),
        ('1,2,"0\n', "not a CSV file"),
        ("1,2,0\n1,2,0\n", "only one class"),
    ],
)
def test_tables_that_are_refused(folder, text, says):
    (folder / "d.csv").write_text(text)
    with pytest.raises(BadRequest, match=r"^d\.csv") as error:
        data.load("d.csv")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_names_that_are_refused(folder):
    np.save("x.npy", X)
    npz("d.npz", x=X, y=Y)
    Path("d.xlsx").write_bytes(b"PK")
    for name, says in (
        ("no.csv", "no.csv does not exist"),
        ("d.xlsx", "d.xlsx is in no format that can be read: save it as .csv"),
        ("e.xlsx", "unknown data set"),
        ("x.npy", "inputs without labels"),
        ("d.npz,x.npy", "inputs without labels"),
        ("d.npz,d.npz,d.npz", "3 sets of samples"),
        ("d.npz,mnist", "unknown data set"),
        (".csv,", "unknown data set"),
    ):
        with pytest.raises(BadRequest, match=says):
            data.load(name)
    with pytest.raises(BadRequest, match="save it as .csv"):
        data.load("d.xlsx", reading=Reading(label="y"))
    with pytest.raises(BadRequest, match="--one-hot applies to files of your own, and digits is a known data set"):
        data.load("digits", reading=Reading(one_hot=("y",)))


# Any bytes


def read(path):
    """A data set that can be trained on, or one line."""
    try:
        loaded = data.load(str(path))
    except BadRequest as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return None
    for name in ("train", "test"):
        check_split(loaded, name, getattr(loaded, name))
    assert json.loads(json.dumps(loaded.origin)) == loaded.origin
    return loaded


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
FIELDS = st.sampled_from(["", "0", "1", "2", "-1.5", "nan", "inf", "1e999", "a", "label", " ", '"', "1_0", "\u0663"])


@FUZZ
@example("label,a\n0,1\n1,2\n")
@example('0,"0\n0"')
@example("\r")
@given(st.text(max_size=60) | st.lists(st.lists(FIELDS, max_size=4).map(",".join), max_size=8).map("\n".join))
def test_any_text_is_a_table_or_refused(folder, text):
    (folder / "d.csv").write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    read(folder / "d.csv")


@FUZZ
@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_refused(folder, content):
    (folder / "d.csv").write_bytes(content)
    read(folder / "d.csv")


DTYPES = hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.boolean_dtypes() | hnp.unicode_string_dtypes(max_len=3)
DTYPES |= hnp.byte_string_dtypes(max_len=3) | hnp.complex_number_dtypes() | hnp.datetime64_dtypes()
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=9)))


@FUZZ
@given(st.dictionaries(st.sampled_from(["x", "y", "x_train", "y_train", "x_test", "y_test", "z"]), ARRAYS, max_size=4))
def test_any_arrays_are_data_or_refused(folder, arrays):
    np.savez(folder / "d.npz", **arrays)
    read(folder / "d.npz")


@FUZZ
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 3))), st.data())
def test_any_real_numbers_are_data_or_refused(folder, x, drawn):
    y = drawn.draw(hnp.arrays(st.sampled_from(["i8", "f8", "U1"]), len(x), elements=None))
    np.savez(folder / "d.npz", x=x, y=y)
    read(folder / "d.npz")


@FUZZ
@given(st.data())
def test_any_damage_to_an_archive_is_read_or_refused(folder, drawn):
    saved = io.BytesIO()
    np.savez(saved, x=X[:8, :2], y=Y[:8])
    content = bytearray(saved.getvalue())
    for _ in range(drawn.draw(st.integers(1, 4))):
        content[drawn.draw(st.integers(0, len(content) - 1))] = drawn.draw(st.integers(0, 255))
    del content[drawn.draw(st.integers(0, len(content))) + 1 :]
    (folder / "d.npz").write_bytes(content)
    read(folder / "d.npz")


@FUZZ
@given(st.binary(max_size=120) | st.binary(max_size=60).map(lambda rest: b"\x93NUMPY\x01\x00v\x00" + rest))
def test_any_bytes_are_an_array_or_refused(folder, content):
    (folder / "x.npy").write_bytes(content)
    np.save(folder / "y.npy", Y)
    with pytest.raises(BadRequest):
        data.load(f"{folder}/x.npy,{folder}/y.npy")
    assume(b"\0" * 40 not in content)
    with zipfile.ZipFile(folder / "d.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", content)
    with pytest.raises(BadRequest):
        data.load(f"{folder}/d.npz")


# Trained on


def recipe(**fields):
    return Recipe(**{"dataset": "d.csv", "network": "fc:8x2", "epochs": 3, "batch": 10, "lr": 0.01, **fields})


@pytest.mark.parametrize("normalize", ["standard", "unit"])
def test_a_model_takes_the_samples_as_they_are_in_the_file(folder, normalize):
    x, y = samples(60)
    x[:, 0] *= 1000
    loaded = data.load(npz("d.npz", x=x, y=np.array(["c", "a", "b"])[y]))
    result = train(recipe(normalize=normalize), loaded, folder / "run", threads=1)
    assert result["recipe"]["digest"] == loaded.digest
    trained = model.load(folder / "run" / "model.safetensors")
    assert trained.recipe.digest == loaded.digest and trained.labels == ["a", "b", "c"]
    wrong = (trained.predict(loaded.test.inputs) != loaded.test.labels).mean()
    assert 100 * wrong == pytest.approx(result["error_pct"])
    shift, factor = loaded.columns.affine(normalize)
    by_hand = data.Dataset(
        "d",
        *(
            data.Split((split.inputs - shift).astype("f4") * factor, split.labels)
            for split in (loaded.train, loaded.test)
        ),
        3,
    )
    assert train(recipe(), by_hand, folder / "hand", threads=1)["model_sha256"] == result["model_sha256"]


def test_a_run_knows_its_data_again(folder):
    x, y = samples()
    loaded = data.load(npz("d.npz", x=x, y=y))
    (folder / "data.json").write_bytes(describe(loaded))
    again = stand_in(folder)
    assert (again.digest, again.origin, again.classes) == (loaded.digest, loaded.origin, 3)
    for name, column in vars(loaded.columns).items():
        np.testing.assert_array_equal(getattr(again.columns, name), column)
    other = data.load(npz("e.npz", x=x + 1, y=y))
    with pytest.raises(BadRequest, match="its digest differs"):
        train(recipe(digest=loaded.digest), other, folder / "run", threads=1)


def test_fewer_samples_than_a_batch(folder):
    x, y = samples(9)
    result = train(recipe(batch=100, epochs=4), data.load(npz("d.npz", x=x, y=y)), folder / "run", threads=1)
    assert result["error_pct"] <= 100


def test_columns_are_found_by_their_names(folder):
    """Whatever the order, with others beside them and with labels or without; and what cannot be is refused."""

    def asked(text, names=("a", "b"), label="label"):
        (folder / "d.csv").write_text(text)
        known = Known(Reading(), names and list(names), names and label, [0, 1], 3, 2)
        return table.read_new(folder / "d.csv", known).inputs.tolist()

    for text in ("a,b\n1,2\n", "b,a\n2,1\n", "id,b,label,a\n7,2,cat,1\n", "b,a,kind\n2,1,cat\n", "1,2\n", "1,2,cat\n"):
        assert asked(text) == [[1, 2]], text
    assert asked("b,a\n2,1\n", None) == [[2, 1]] and asked("c,d,y\n2,1,cat\n", None) == [[2, 1]]
    assert asked("label,a\n2,1\n", ("label", "a"), "kind") == [[2, 1]]  # an input, where the label had another name
    for text, names, says in (
        ("a,c\n1,2\n", ("a", "b"), "no column 'b': the model was trained on a, b"),
        ("id,a,b,z\n7,1,2,3\n", None, "4 columns: 3, or 2 without a label are needed"),
        ("1,2,3,4\n", ("a", "b"), "4 columns: 3, or 2 without a label are needed"),
        ("b,a\n2,\n", ("a", "b"), "column 'a': a value is missing"),
    ):
        with pytest.raises(BadRequest, match=says):
            asked(text, names)


def test_a_column_that_counts_is_left_out(folder):
    (folder / "d.csv").write_text(",a,label\n" + "".join(f"{n},{n % 3},{n % 2}\n" for n in range(9)))
    with pytest.warns(UserWarning, match="column '1' is left out, it looks like a count of the rows"):
        known = data.load("d.csv")
    assert known.origin["columns"] == ["a"] and known.origin["label"] == "label"
    assert own.described(known) == "1 input (a), label 'label', 2 classes; 8 samples to train on, 1 to test on"


def test_two_tables_have_the_same_columns_in_any_order(folder):
    (folder / "a.csv").write_text("a,b,y\n" + "1,2,0\n3,4,1\n" * 4)
    (folder / "b.csv").write_text("y,extra,b,a\n0,7,2,1\n")
    loaded = data.load("a.csv,b.csv")
    assert loaded.test.inputs.tolist() == [[1, 2]] and loaded.test.labels.tolist() == [0]
    (folder / "b.csv").write_text("c,a,y\n1,2,0\n")
    with pytest.raises(BadRequest, match="b.csv has no column 'b': the model was trained on a, b"):
        data.load("a.csv,b.csv")


@pytest.mark.parametrize("name", ["day 1,2.csv", "a,b/c,d.csv", ",.csv"])
def test_a_comma_in_the_name_of_a_file_is_a_part_of_it(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("a,b,label\n" + "".join(f"{k % 7},{k},{'xy'[k % 2]}\n" for k in range(40)))
    assert data.is_files(str(path)) and data.short(str(path)) == path.stem
    assert len(data.load(str(path)).train.labels) == 32
    assert len(data.load(f"{path}, {path}").test.labels) == 40
