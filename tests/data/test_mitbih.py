"""MIT-BIH: heartbeats cut from a signal, records and tables whole, missing and damaged, the three splits."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfoa_np import data
from tinyfoa_np.data import heartbeats, mitbih
from tinyfoa_np.data import splits as shuffle
from tinyfoa_np.data.published import Files
from tinyfoa_np.errors import BadRequest, CheckFailed

TINYFOA_DATA = os.environ.get("TINYFOA_DATA") or None
SYMBOLS = "NLRejAaJSVEF/fQ"  # every beat there is


@pytest.fixture
def records(home, monkeypatch):
    """A directory with three records of 40 s in MIT-BIH's layout, known to the module by their digests."""
    wfdb = pytest.importorskip("wfdb", reason="wfdb, which reads the records, is not installed")
    folder = home / "sets" / "mitdb"
    folder.mkdir(parents=True)
    names = ["100", "101", "102"]
    rng = np.random.default_rng(0)
    for name in names:
        peaks = np.cumsum(rng.integers(200, 400, 45))
        signal = rng.integers(900, 1100, (40 * heartbeats.RECORDED, 2))
        for peak in peaks:
            signal[peak - 5 : peak + 6] += 300 - 50 * np.abs(np.arange(-5, 6))[:, None]
        lead = heartbeats.LEAD if name != "102" else "V5"
        wfdb.wrsamp(
            name,
            fs=360,
            units=["mV", "mV"],
            sig_name=["V1", lead] if name == "101" else [lead, "V1"],
            d_signal=signal,
            fmt=["212", "212"],
            adc_gain=[200, 200],
            baseline=[1024, 1024],
            write_dir=str(folder),
        )
        symbols = [SYMBOLS[k % len(SYMBOLS)] for k in range(len(peaks))]
        # annotations that are no beats lie between them
        everything = sorted([*zip(peaks, symbols), *((peak + 90, "+") for peak in peaks[::7])])
        wfdb.wrann(name, "atr", np.array([n for n, _ in everything]), [s for _, s in everything], write_dir=str(folder))
    monkeypatch.setattr(mitbih, "RECORDS", names)
    monkeypatch.setattr(mitbih, "TESTED", (10, 8, 4, 2, 6))
    monkeypatch.setattr(mitbih, "EACH", (12, 5))
    monkeypatch.setattr(mitbih, "DS1", ["100"])
    monkeypatch.setattr(mitbih, "DS2", ["101"])
    use(monkeypatch, folder)
    return folder


def use(monkeypatch, folder):
    """Make the files in a folder the published ones."""
    known = Files(
        "MIT-BIH",
        ("mitdb",),
        dict.fromkeys(sorted(os.listdir(folder)), ""),
        "https://x/",
        1 << 24,
        algorithm="sha256",
        text=".hea",
    )
    digests = {name: known.read(name, folder / name)[1] for name in known.digests}
    files = Files(known.title, known.folders, digests, known.url, known.largest, algorithm="sha256", text=".hea")
    for one in mitbih.SETS.values():
        monkeypatch.setattr(one, "layouts", [files])


# From a signal to rows


def test_resampling_keeps_what_is_slow_and_drops_what_is_fast():
    seconds = np.arange(3600) / heartbeats.RECORDED
    at = np.arange(1250) / heartbeats.RATE
    inside = slice(20, -20)
    for hertz, kept in ((0, 1), (7, 1), (40, 1), (90, 0), (150, 0)):
        wave = np.rint(500 * np.cos(2 * np.pi * hertz * seconds)).astype(int)
        slow = heartbeats.resampled(wave) / 2**20
        assert slow.shape == at.shape
        wanted = kept * 500 * np.cos(2 * np.pi * hertz * at)
        np.testing.assert_allclose(slow[inside], wanted[inside], atol=6)


@given(st.lists(st.integers(0, 2047), min_size=1, max_size=200))
def test_resampling_is_a_weighted_sum(signal):
    signal = np.array(signal)
    slow = heartbeats.resampled(signal)
    assert slow.dtype == np.int64 and len(slow) == -(-25 * len(signal) // 72)
    # every 25th lies on a recorded sample, where a sinc of 1.44 Hz in each would leave more than that one
    weights = heartbeats._filter()
    assert (weights.sum(axis=1) == 2**20).all()
    for n in range(0, len(slow), 7):
        whole, phase = divmod(72 * n, 25)
        around = signal[np.clip(np.arange(whole - 23, whole + 25), 0, len(signal) - 1)]
        assert slow[n] == (around * weights[phase]).sum()


@settings(max_examples=50)
@given(st.lists(st.integers(30, 700), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_rows(intervals, seed):
    peaks = np.cumsum(intervals)
    signal = np.random.default_rng(seed).integers(0, 2048, peaks[-1] + 1 + seed % 300)
    made = heartbeats.rows(signal, peaks)
    assert made.shape == (len(peaks) - 1, 187) and made.dtype == np.float32
    slow = heartbeats.resampled(signal)
    for row, (peak, _) in zip(made, zip(peaks, peaks[1:])):
        near = [b - a for a, b in zip(peaks, peaks[1:]) if a // 3600 == peak // 3600]
        begin, length = (50 * peak + 72) // 144, min(187, int(np.median(near) * 5 / 12 + 0.5))
        beat = slow[begin : begin + length].astype(float)
        assert row.min() == 0 and row.max() == (beat.max() > beat.min())
        wanted = (beat - beat.min()) / max(1, beat.max() - beat.min())
        np.testing.assert_allclose(row[: len(beat)], wanted, rtol=1e-6, atol=1e-7)
        assert not row[len(beat) :].any()


def test_a_flat_line_and_single_beats():
    assert not heartbeats.rows(np.full(4000, 7), np.array([100, 500, 900])).any()
    assert heartbeats.rows(np.arange(4000), np.array([100])).shape == (0, 187)
    assert heartbeats.rows(np.arange(4000), np.array([], int)).shape == (0, 187)


def test_beats_of_a_record(records):
    import wfdb

    for name, channel in (("100", 0), ("101", 1), ("102", 0)):  # lead II where there is one, else the first
        rows, labels = heartbeats.beats(records / name)
        notes = wfdb.rdann(str(records / name), "atr")
        beats = [(at, symbol) for at, symbol in zip(notes.sample, notes.symbol) if symbol != "+"]
        signal = wfdb.rdrecord(str(records / name), physical=False).d_signal[:, channel]
        np.testing.assert_array_equal(rows, heartbeats.rows(signal, np.array([at for at, _ in beats])))
        classes = [
            symbols.index(next(s for s in symbols if symbol in s))
            for _, symbol in beats
            for symbols in [list(heartbeats.CLASSES.values())]
        ]
        assert labels.tolist() == classes[:-1]


# Splits


@given(st.integers(0, 300), st.integers(0, 2**64 - 1))
def test_shuffles_are_permutations_and_depend_on_the_seed(count, seed):
    order = shuffle.shuffled(count, seed)
    assert sorted(order) == list(range(count)) and (order == shuffle.shuffled(count, seed)).all()
    if count > 20:
        assert (order != np.arange(count)).any() and (order != shuffle.shuffled(count, seed ^ 1)).any()


@given(st.lists(st.integers(0, 3), max_size=80), st.lists(st.integers(0, 9), min_size=4, max_size=4), st.integers(0, 9))
def test_a_split_has_as_many_of_each_class_as_asked_for(labels, test, seed):
    labels = np.array(labels, int)
    trained, tested = shuffle.split(labels, test, seed)
    assert sorted([*trained, *tested]) == list(range(len(labels)))
    assert (
        np.bincount(labels[tested], minlength=4).tolist() == np.minimum(test, np.bincount(labels, minlength=4)).tolist()
    )


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 30), st.integers(0, 9))
def test_balanced_classes(labels, each, seed):
    labels = np.array([*labels, 0, 1, 2])
    chosen = shuffle.balanced(labels, each, 3, seed)
    assert np.bincount(labels[chosen]).tolist() == [each] * 3
    for label in range(3):  # each sample equally often, but for one
        times = np.bincount(chosen, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1


# The data set


def test_three_ways_to_split(records):
    balanced, natural, patients = (data.load(name, records.parent) for name in mitbih.SETS)
    assert np.bincount(balanced.train.labels).tolist() == [12] * 5 and len(balanced.test.labels) == 25
    assert np.bincount(natural.test.labels).tolist() == [10, 8, 4, 2, 6]
    assert len(natural.train.labels) + len(natural.test.labels) == 3 * 44
    assert len(patients.train.labels) == len(patients.test.labels) == 44
    rows, labels = heartbeats.beats(records / "101")
    of_101 = {(row.tobytes(), label) for row, label in zip(rows[:, :169], labels)}
    assert {(row.tobytes(), label) for row, label in zip(patients.test.inputs, patients.test.labels)} == of_101
    for one in (balanced, natural, patients):
        assert one.train.inputs.dtype == np.float32 and one.train.inputs.shape[1] == 169 and one.image == (1, 13, 13)
        assert one.digest is None and "seed 0" in one.origin["split"]
        trained = {row.tobytes() for row in one.train.inputs}
        assert not trained & {row.tobytes() for row in one.test.inputs}


def test_preparing_is_done_once_and_again_where_what_was_kept_is_damaged(records, home, monkeypatch):
    calls = []
    first = data.load("mitbih", records.parent, on_progress=lambda *count: calls.append(count[:2]))
    assert calls == [(n, 3) for n in range(4)]
    [kept] = (home / "cache" / "tinyfoa-np" / "prepared").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(heartbeats, "beats", None)
        again = data.load("mitbih", records.parent)
    content = kept.read_bytes()
    for damaged in (content[: len(content) // 2], content[:400] + b"xyz" + content[403:], b"", b"PK"):
        kept.write_bytes(damaged)
        mended = data.load("mitbih", records.parent)
        assert kept.read_bytes() == content
        for one in (again, mended):
            np.testing.assert_array_equal(one.train.inputs, first.train.inputs)
            np.testing.assert_array_equal(one.test.labels, first.test.labels)


def test_a_cache_that_cannot_be_written_is_no_obstacle(records, home):
    (home / "cache").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert len(data.load("mitbih", records.parent).train.labels) == 60


def test_files_are_verified_whatever_their_line_ends(records):
    header = records / "100.hea"
    header.write_bytes(header.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert all(ok for _, ok, _ in data.verify("mitbih", records.parent))
    content = bytearray((records / "100.dat").read_bytes())
    content[1000] ^= 1
    (records / "100.dat").write_bytes(content)
    assert [Path(path).name for path, ok, _ in data.verify("mitbih", records.parent) if not ok] == ["100.dat"]
    with pytest.raises(CheckFailed, match=r"100\.dat is not the published file .*-unverified"):
        data.load("mitbih", records.parent)
    taken, other = (data.load("mitbih-unverified", records.parent) for _ in range(2))
    assert taken.name == "mitbih-unverified" and len(taken.digest) == 64 and taken.digest == other.digest


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[: len(c) // 6 * 2], lambda c: b"\xff" * 99])
@pytest.mark.parametrize("suffix", ["hea", "dat", "atr"])
def test_garbled_records_are_named(records, suffix, damage):
    file = records / f"101.{suffix}"
    content = file.read_bytes()
    file.write_bytes(damage(content))
    if suffix == "atr" and content.startswith(file.read_bytes()) and file.stat().st_size:  # two bytes an annotation
        assert len(data.load("mitbih-unverified", records.parent).test.labels) == 25  # it only ends early
        return
    with pytest.raises(CheckFailed, match="101 cannot be read as a record") as error:
        data.load("mitbih-unverified", records.parent)
    assert "\n" not in str(error.value)


def test_without_wfdb_the_extra_is_named(records, monkeypatch):
    monkeypatch.setattr(mitbih.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r'pip install "tinyfoa-np\[ecg\]"'):
        data.load("mitbih", records.parent)


def test_missing_records_are_not_all_listed(home):
    with pytest.raises(BadRequest, match=r"put 100\.atr, .* and 140 more from https://physionet\S+ into \S+mitdb$"):
        data.load("mitbih")


# The public preparation's tables


def table(path, labels, values=187):
    rng = np.random.default_rng(len(labels))
    rows = np.column_stack([rng.random((len(labels), values)).round(4), labels])
    np.savetxt(path, rows, "%.18e", delimiter=",")
    return rows


def test_tables(home):
    folder = home / "sets" / "heartbeat"
    folder.mkdir(parents=True)
    train, test = (table(folder / name, np.repeat(range(5), count)) for name, count in zip(mitbih.CSV, (9, 4)))
    with pytest.raises(BadRequest, match="mitbih-natural-unverified"):
        data.load("mitbih-natural", folder.parent)
    assert "mitbih-unverified" in data.find("mitbih", folder.parent)
    loaded = data.load("mitbih-natural-unverified", folder.parent)
    for split, rows in ((loaded.train, train), (loaded.test, test)):
        order = np.lexsort(split.inputs.T), np.lexsort(rows[:, :169].T.astype(np.float32))
        np.testing.assert_array_equal(split.inputs[order[0]], rows[order[1], :169].astype(np.float32))
        np.testing.assert_array_equal(split.labels[order[0]], rows[order[1], -1])
    assert len(loaded.digest) == 64
    whole = data.load("mitbih-unverified", folder.parent)
    assert (len(whole.train.labels), len(whole.test.labels)) == data.samples("mitbih")
    with pytest.raises(BadRequest, match="mitdb"):  # nobody knows whose beats a table holds
        data.load("mitbih-interpatient-unverified", folder.parent)


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", "1,2,3\n", "0," * 187 + "7\n", "0," * 187 + "0.5\n", "nan," * 187 + "1\n", "\0\xff"]
)
def test_other_tables_are_refused(home, content):
    folder = home / "sets" / "mitbih"
    folder.mkdir(parents=True)
    table(folder / mitbih.CSV[0], np.repeat(range(5), 2))
    (folder / mitbih.CSV[1]).write_text(content)
    with warnings.catch_warnings(), pytest.raises(CheckFailed, match="mitbih_test.csv") as error:
        warnings.simplefilter("error")
        data.load("mitbih-unverified", folder.parent)
    assert "\n" not in str(error.value)


def test_real_mitbih(home):
    pytest.importorskip("wfdb", reason="wfdb, which reads the records, is not installed")
    data_dir = TINYFOA_DATA
    try:
        data.find("mitbih", data_dir)
    except BadRequest as error:
        pytest.skip(str(error))
    natural = data.load("mitbih-natural", data_dir)
    assert np.bincount(natural.train.labels).tolist() == [72471, 2223, 5788, 641, 6431]
    assert np.bincount(natural.test.labels).tolist() == [18118, 556, 1448, 162, 1608]
    for name in mitbih.SETS:
        loaded = data.load(name, data_dir)
        assert (len(loaded.train.labels), len(loaded.test.labels)) == data.samples(name)
