"""Own data as asked for: columns, groups, times, gaps, windows; frames; and sizes that files may not have."""

import io
import os
import random
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfoa_np import data
from tinyfoa_np.data import splits, user_files, windows
from tinyfoa_np.data.arrays import from_archive, from_npy
from tinyfoa_np.data.dataset import Columns, Split, fingerprint, on_scale
from tinyfoa_np.data.reading import Reading
from tinyfoa_np.data.roles import Known
from tinyfoa_np.errors import BadRequest


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A sensor's log: text times, numbers of subjects, two inputs, a gap, activities as text."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    lines = ["timestamp;subject_id;acc x [g];acc y [g];activity;"]
    for n in range(400):
        kind = n // 10 % 2
        x = "" if n == 7 else f"{rng.gauss(kind, 0.3):.3f}".replace(".", ",")
        when = f"2024-03-01 10:{n // 60:02}:{n % 60:02}"
        lines.append(f"{when};{n // 40};{x};{rng.gauss(5, 1):.3f};{('sit', 'walk')[kind]};".replace(".", ","))
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "log.csv"


def loaded(name="log.csv", **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return data.load(name, reading=Reading(**how))


def model_of(dataset):
    """What reading new samples asks of a model."""
    origin = dataset.origin
    width = SimpleNamespace(width=dataset.train.inputs.shape[1])
    return SimpleNamespace(
        inputs=width,
        classes=dataset.classes,
        labels=origin.get("labels"),
        columns=origin.get("columns"),
        reading=origin["reading"],
    )


def test_times_and_identifiers_are_left_out(log):
    with pytest.warns(UserWarning) as warned:
        known = data.load("log.csv", reading=Reading(missing="median"))
    assert [str(each.message).split(": ")[1].split(";")[0] for each in warned] == [
        "column 'timestamp' is left out, it looks like times",
        "column 'subject_id' is left out, it looks like identifiers",
    ]
    assert known.origin["columns"] == ["acc x [g]", "acc y [g]"] and known.origin["labels"] == ["sit", "walk"]
    assert known.origin["left_out"] == {"timestamp": "times", "subject_id": "identifiers"}
    assert loaded(missing="median", keep=("subject_id",)).train.inputs.shape[1] == 3


def test_gaps(log):
    with pytest.raises(BadRequest, match="line 9, column 'acc x .g.': a value is missing"):
        loaded()
    known = loaded(missing="median")
    medians = known.origin["reading"]["medians"]
    assert np.isfinite(known.train.inputs).all()
    assert np.isin(medians[0], np.vstack([known.train.inputs, known.test.inputs]))
    (log.parent / "new.csv").write_text("acc y [g],other,acc x [g]\n1.5,7,?\n,7,2.5\n")
    new = user_files.samples_of("new.csv", model_of(known))
    assert new.inputs.tolist() == [[medians[0], 1.5], [2.5, medians[1]]] and new.labels is None


def test_groups_are_whole(log):
    known = loaded(missing="median", group="subject_id")
    tested = known.origin["split"]
    assert "subject_id" in tested and len(known.test.labels) == 80 and len(known.train.labels) == 320
    again = loaded(missing="median", group="subject_id")
    assert known.digest == again.digest
    with pytest.raises(BadRequest, match="no column 'person': it has 'timestamp'"):
        loaded(group="person")


def test_the_last_fifth_by_time(log):
    known = loaded(missing="median", time="timestamp")
    rows = [line.split(";") for line in log.read_text().splitlines()[1:]]
    last = [[float(row[2].replace(",", ".")), float(row[3].replace(",", "."))] for row in rows[-80:]]
    assert known.test.inputs.tolist() == last


@pytest.mark.parametrize("how", [{}, {"group": "subject_id"}, {"time": "timestamp"}])
def test_windows_share_no_row_with_the_test_set(log, how):
    known = loaded(missing="median", window=8, step=4, **how)
    assert known.train.inputs.shape[1] == 16
    assert known.origin["columns"][:3] == ["acc x [g][0]", "acc y [g][0]", "acc x [g][1]"]
    pairs = [{tuple(row) for row in split.inputs.reshape(-1, 2).tolist()} for split in (known.train, known.test)]
    assert not pairs[0] & pairs[1] and len(known.test.labels) > 5
    shift, _ = known.columns.affine("standard")
    assert (shift[::2] == shift[0]).all() and shift[0] != shift[1]
    inputs, labels = user_files.labelled("log.csv", model_of(known))
    assert inputs.shape == (90 if "group" in how else 99, 16) and set(labels.tolist()) == {0, 1}


def test_labels_by_name_and_number(log):
    assert loaded(label="activity", missing="median").digest == loaded(label="5", missing="median").digest
    with pytest.raises(BadRequest, match="column 'activity' holds text .'sit'., not numbers"):
        loaded(label="subject_id", missing="median")
    assert loaded(label="subject_id", drop=("activity",), missing="median").classes == 10


@pytest.mark.parametrize(
    "how, says",
    [
        ({"step": 3}, "step applies with window only"),
        ({"window": 0}, "window is 0"),
        ({"missing": "mean"}, "missing is 'mean'"),
        ({"label": "a", "drop": ("a",)}, "named twice"),
        ({"window": 10**6, "missing": "median"}, "no 1000000 rows in a row"),
        ({"window": True}, "window is True"),
    ],
)
def test_readings_that_are_refused(log, how, says):
    with pytest.raises(BadRequest, match=says):
        loaded(**how)


def test_a_reading_is_recorded():
    reading = Reading(label="a", drop=("b", "c"), window=np.int64(5)).validated()
    assert Reading.from_record(reading.to_record()) == reading and reading.step == 5
    known = Known(reading, ["x"], "a", [1], 4, 0, np.array([0.1]))
    again = Known.from_record(known.to_record())
    assert again.to_record() == known.to_record()
    wrong = {"places": [9], "medians": [float("nan")], "reading": {"window": -1}, "more": 1, "names": ["x", "y"]}
    for change in ({name: value} for name, value in wrong.items()):
        with pytest.raises(BadRequest):
            Known.from_record(known.to_record() | change)
    twice = Known(reading, ["x", "x"], "a", [1, 2], 4, 0).to_record()
    with pytest.raises(BadRequest, match="names are not those of the inputs"):
        Known.from_record(twice)


@given(
    st.integers(1, 6), st.integers(1, 6), st.lists(st.integers(0, 2), max_size=40), st.lists(st.booleans(), max_size=40)
)
def test_windows(window, step, groups, chosen):
    groups = np.array(groups, np.int64)
    first = windows.starts(len(groups), window, step, groups)
    for start in first.tolist():
        assert start + window <= len(groups) and len(set(groups[start : start + window].tolist())) == 1
    found = windows.majority(groups, first, window)
    for start, code in zip(first.tolist(), found.tolist()):
        counts = np.bincount(groups[start : start + window])
        assert counts[code] == counts.max()
    tested = np.array((chosen + [False] * len(first))[: len(first)], bool)
    rows = {row for start in first[tested].tolist() for row in range(start, start + window)}
    kept = splits.apart(first, window, tested)
    for start, keep, test in zip(first.tolist(), kept.tolist(), tested.tolist()):
        assert keep == (not test and not rows & set(range(start, start + window)))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60))
def test_groups_never_take_a_class_away(pairs):
    labels, groups = (np.array(column) for column in zip(*pairs))
    tested = splits.by_group(labels, groups, list("abcdef"), 5, 0)
    assert set(labels.tolist()) == set(labels[~tested].tolist())
    assert not set(groups[tested].tolist()) & set(groups[~tested].tolist())


def test_large_numbers_that_differ_little():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    near, far = (Columns.of(values) for values in (x, x + 1.7e9))
    seen = on_scale(x + 1.7e9, *far.affine("standard"))
    np.testing.assert_allclose(seen, on_scale(x, *near.affine("standard")), atol=1e-5)
    none = Split(x[:0], np.zeros(0, int))
    labels = np.zeros(60, int)
    assert fingerprint(Split(x + 1.7e9, labels), none) != fingerprint(Split(x[::-1] + 1.7e9, labels), none)


def test_more_classes_than_two_bytes_hold(tmp_path):
    x, none = np.zeros((2, 1), np.float32), Split(np.zeros((0, 1), np.float32), np.zeros(0, int))
    digests = {fingerprint(Split(x, np.array(labels)), none) for labels in ([0, 1], [65536, 65537])}
    assert len(digests) == 2
    np.savez(tmp_path / "d.npz", x=np.arange(140_000.0)[:, None], y=np.arange(140_000) // 2)
    with pytest.raises(BadRequest, match="has 70,000 classes: at most 65,536 are possible"):
        data.load(str(tmp_path / "d.npz"))


def test_a_frame_is_read_as_its_file(log):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_csv(log, sep=";", decimal=",").iloc[:, :-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = data.from_frame(frame, missing="median", group="subject_id")
    of_file = loaded(missing="median", group="subject_id")
    assert known.digest == of_file.digest and known.origin["labels"] == ["sit", "walk"]
    assert known.origin["reading"]["medians"] == of_file.origin["reading"]["medians"]
    new = user_files.samples_of(frame[["acc y [g]", "acc x [g]"]], model_of(known))
    assert np.isfinite(new.inputs).all() and new.inputs.shape == (400, 2)
    with pytest.raises(BadRequest, match="row 8, column 'acc x .g.': a value is missing"):
        data.from_frame(frame)


class Column:
    """A column as polars has it: no index, texts and missing ones as objects."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.array(self.values)


class Frame:
    """A frame with the methods that pandas and polars share."""

    def __init__(self, **columns):
        self.held, self.columns = columns, list(columns)
        self.shape = len(next(iter(columns.values()))), len(columns)

    def __getitem__(self, name):
        return Column(self.held[name])


class Lazy:
    def __init__(self, frame):
        self.frame = frame

    def collect_schema(self):
        raise AssertionError("a schema says nothing about the values")

    def collect(self):
        return self.frame


def test_frames_of_other_libraries_lazy_or_not(log):
    texts = ["sit", "walk"] * 30
    frame = Frame(a=[k % 7 for k in range(60)], b=[None, 2.5, *range(58)], activity=np.array(texts, object))
    known = data.from_frame(frame, missing="median", label="activity")
    assert data.from_frame(Lazy(frame), missing="median").digest == known.digest
    assert known.origin["columns"] == ["a", "b"] and known.origin["labels"] == ["sit", "walk"]
    new = user_files.samples_of(Lazy(Frame(b=[1.0], a=[2])), model_of(known))
    assert new.inputs.tolist() == [[2, 1]]
    for other in ({"a": [1]}, np.zeros((3, 2)), "data.csv"):
        with pytest.raises(BadRequest, match="frame is of type .*: give a frame of pandas or polars"):
            data.from_frame(other)


def test_a_frame_of_polars_is_read_as_its_file(log):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.DataFrame({"a": range(60), "b": [None, 2.5] * 30, "kind": ["x", "y", "z"] * 20})
    frame.write_csv("frame.csv")
    of_file = data.load("frame.csv", reading=Reading(missing="median", keep=("a",)))
    for one in (frame, frame.lazy(), frame.with_columns(polars.col("kind").cast(polars.Categorical))):
        assert data.from_frame(one, missing="median", keep=("a",)).digest == of_file.digest


def test_texts_and_times_of_a_frame_that_are_none():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": np.arange(9) % 7, "y": ["one", "two", "three"] * 3, "t": np.arange(9.0)})
    for column, row, value, says in (
        ("y", 4, "two\0", "column 'y', row 5: 'two.x00' is not text"),
        ("t", 2, np.nan, "column 't', row 3: a value is missing"),
        ("t", 2, pandas.Timestamp("NaT"), "column 't', row 3: a value is missing"),
    ):
        other = frame.copy()
        if value is pandas.NaT:
            other["t"] = pandas.Timestamp("2024-01-01") + pandas.to_timedelta(other["t"], unit="h")
        other.loc[row, column] = value
        with pytest.raises(BadRequest, match=says):
            data.from_frame(other, time="t")


# Sizes


def bomb(path, shape, megabytes):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(megabytes):
            member.write(bytes(1 << 20))


def test_archives_that_unpack_to_more_than_they_should(tmp_path):
    bomb(tmp_path / "large.npz", (1 << 34,), 1)
    with pytest.raises(BadRequest, match=r"large.npz, x has 137,438,953,472 bytes: at most 2,147,483,648 are read"):
        from_archive(tmp_path / "large.npz")
    bomb(tmp_path / "lying.npz", (10,), 20)
    with pytest.raises(BadRequest, match="its header promises 80 bytes, more follow"):
        from_archive(tmp_path / "lying.npz")
    bomb(tmp_path / "short.npz", (1 << 20,), 1)
    with pytest.raises(BadRequest, match="fewer follow"):
        from_archive(tmp_path / "short.npz")


def test_files_that_are_no_files(tmp_path):
    with open(tmp_path / "sparse.npy", "wb") as file:
        file.truncate(200 << 30)
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo.npz")
    for name, says in (("zero.csv", "not a regular file"), ("fifo.npz", "not a regular file")):
        with pytest.raises(BadRequest, match=says):
            data.load(str(tmp_path / name))
    with pytest.raises(BadRequest, match="sparse.npy has 214,748,364,800 bytes"):
        from_npy(tmp_path / "sparse.npy")
    (tmp_path / "long.csv").write_text("1," * (3 << 20))
    with pytest.raises(BadRequest, match="a line is longer than 4,194,304 characters"):
        data.load(str(tmp_path / "long.csv"))
    (tmp_path / "d.csv").write_text("1,2,0\n3,4,1\n" * 100)
    with pytest.raises(BadRequest, match="--max-data"):
        data.load(str(tmp_path / "d.csv"), max_bytes=2000)


@pytest.mark.parametrize("length", [9000, 200_000, 2**32 - 1])
def test_headers_of_brackets(tmp_path, length):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + b"[" * min(length, 200_000))
    with pytest.raises(BadRequest, match="not an .npy file of numbers"):
        from_npy(tmp_path / "x.npy")


def test_a_column_is_constant_where_its_numbers_are_equal():
    """Or differ by less than 1e-30, which float32 cannot scale: they become 0. A deviation of 1e-25 becomes 1."""
    column = np.array([1.0, 2.0, 3.0])
    x = np.stack([1e-25 * column, np.full(3, 5.0), 1e-35 * column], axis=1)
    for normalize, spread in (("standard", column.std()), ("unit", 2.0)):
        factor = Columns.of(x).affine(normalize)[1]
        assert factor[0] == pytest.approx(1e25 / spread, rel=1e-6) and factor[1:].tolist() == [0, 0]
