"""CIFAR: binary and Python layouts, unpacked and archived; pickles that do more than hold arrays; damage."""

import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pickle_tools import GENUINE, python2

from tinyfoa_np import data
from tinyfoa_np.data import cifar, pickles
from tinyfoa_np.errors import BadRequest, CheckFailed


def content(which, pixels, labels):
    """A file's content in the layout that its name says, by data set."""
    name, file = which
    if not file.endswith(".bin"):
        return python2(pixels, labels, cifar.SETS[name].key)
    before = [np.full_like(labels, 7)] if name == "cifar100" else []
    return np.column_stack([*before, labels, pixels]).tobytes()


@pytest.fixture(params=["cifar10", "cifar100"])
def small(request, monkeypatch):
    """Both layouts of small files, by name, known to the module by their digests; the arrays in their order."""
    which, rng = cifar.SETS[request.param], np.random.default_rng(0)
    arrays, files = {}, {}
    for layout in which.layouts:
        for position, name in enumerate(layout.digests):
            if name not in which.members:
                labels = arrays.get(position, [None, rng.integers(0, which.classes, 4, dtype=np.uint8)])[1]
                arrays.setdefault(position, (rng.integers(0, 256, (4, 3072), dtype=np.uint8), labels))
                files[name] = content((which.name, name), *arrays[position])
    for archive, members in which.members.items():
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name in ["readme.html", *members]:
                info = tarfile.TarInfo(f"cifar/{name}")
                info.size = len(files.get(name, b""))
                tar.addfile(info, io.BytesIO(files.get(name, b"")))
        files[archive] = packed.getvalue()
    for layout in which.layouts:
        for name in layout.digests:
            monkeypatch.setitem(layout.digests, name, hashlib.md5(files[name]).hexdigest())
    return which, files, list(arrays.values())


def put(place, which, files, layout):
    folder = place / which.layouts[layout].folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    for name in which.layouts[layout].digests:
        (folder / name).write_bytes(files[name])
    return folder


@pytest.mark.parametrize("layout", range(4))
def test_each_layout_holds_the_same(home, small, layout):
    which, files, arrays = small
    put(home / "sets", which, files, layout)
    loaded = data.load(which.name, home / "sets")
    np.testing.assert_array_equal(loaded.train.inputs, np.concatenate([pixels for pixels, _ in arrays[:-1]]))
    np.testing.assert_array_equal(loaded.train.labels, np.concatenate([labels for _, labels in arrays[:-1]]))
    np.testing.assert_array_equal(loaded.test.inputs, arrays[-1][0])
    np.testing.assert_array_equal(loaded.test.labels, arrays[-1][1])
    assert loaded.train.inputs.dtype == np.uint8 and loaded.image == (3, 32, 32) and loaded.digest is None
    assert [loaded.scale * byte + loaded.offset for byte in (0, 255)] == [-1, 1]
    assert all(ok for _, ok, _ in data.verify(which.name, home / "sets"))
    unverified = data.load(f"{which.name}-unverified", home / "sets")
    assert len(unverified.digest) == 64 and unverified.name == f"{which.name}-unverified"


@pytest.mark.parametrize("layout", range(4))
@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:-9] + b"?" + c[-8:]])
def test_damaged_files_are_named(home, small, layout, damage):
    which, files, _ = small
    folder = put(home / "sets", which, files, layout)
    name = list(which.layouts[layout].digests)[-1]
    (folder / name).write_bytes(damage(files[name]))
    with pytest.raises(CheckFailed) as error:
        data.load(which.name, home / "sets")
    assert str(folder / name) in str(error.value) and "\n" not in str(error.value)
    assert [ok for _, ok, _ in data.verify(which.name, home / "sets")].count(False) == 1
    try:
        data.load(f"{which.name}-unverified", home / "sets")  # a pixel is as good as another
    except CheckFailed as refused:
        assert name in str(refused) and "\n" not in str(refused)


def test_missing_files_are_named(home, small):
    which, files, _ = small
    with pytest.raises(BadRequest, match=f"put {next(iter(which.members))} from https"):
        data.load(which.name)
    folder = put(home / "sets", which, files, 1)
    gone = next(iter(which.layouts[1].digests))
    (folder / gone).unlink()
    with pytest.raises(BadRequest, match=f"put {gone} from https"):
        data.load(which.name, home / "sets")


def test_an_archive_without_a_batch_is_refused():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("x/train.bin"), io.BytesIO())
    with pytest.raises(CheckFailed, match="does not hold test.bin"):
        cifar.unpacked(packed.getvalue(), ("train.bin", "test.bin"), "a.tar")


def test_labels_that_are_no_classes_are_refused():
    pixels = np.zeros((3, 3072), np.uint8)
    for file in ("batch.bin", "batch"):
        with pytest.raises(CheckFailed, match="label 10"):
            cifar.SETS["cifar10"].parse(content(("cifar10", file), pixels, np.array([0, 10, 3], np.uint8)), file)
    with pytest.raises(CheckFailed, match="not a label"):
        cifar.SETS["cifar10"].parse(python2(pixels, [1, 2]), "batch")
    with pytest.raises(CheckFailed, match="no images"):
        cifar.SETS["cifar10"].parse(python2(pixels[:, :5], [1, 2, 3]), "batch")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_that_would_do_something_are_refused(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    for thing in (Evil(), {"data": Evil()}, {"data": np.zeros(3)}, {"data": np.array([{}])}, {"data": {1, 2}}, [1]):
        with pytest.raises(CheckFailed, match="batch is not a pickle"):
            pickles.load(pickle.dumps(thing, protocol), "batch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nndarray\n(I9\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n}b.",  # a state for a function
        b"}(U\x04datacnumpy.core.multiarray\n_reconstruct\n(tRu.",  # an array that never gets its content
        b"\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # a bytearray of 1 TB
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"(i__main__\nEvil\n.",
        b"." * 9,
        b"N",
    ],
)
def test_other_programs_are_refused(program):
    with pytest.raises(CheckFailed):
        cifar.SETS["cifar10"].parse(program, "batch")


def test_a_pickle_of_python_2():
    found = pickles.load(GENUINE, "batch")
    np.testing.assert_array_equal(found["data"], [[0, 1, 2], [3, 4, 5]])
    assert found["labels"] == [1, 2] and found["batch_label"] == b"training batch 1 of 5"


@given(st.data())
def test_any_change_to_a_pickle_is_read_or_refused(drawn):
    at = drawn.draw(st.integers(0, len(GENUINE)))
    gone = drawn.draw(st.integers(0, 6))
    changed = GENUINE[:at] + drawn.draw(st.binary(max_size=8)) + GENUINE[at + gone :]
    try:
        assert isinstance(pickles.load(changed, "batch"), dict)
    except CheckFailed as error:
        assert str(error).startswith("batch is not a pickle") and "\n" not in str(error)


BATCHES = st.binary(max_size=200) | st.binary(max_size=9).map(lambda start: start + bytes(3074))


@given(BATCHES, st.sampled_from(["", ".bin"]))
def test_any_bytes_are_a_batch_or_refused(content, suffix):
    for which in cifar.SETS.values():
        try:
            pixels, labels = which.parse(content, f"batch{suffix}")
        except CheckFailed:
            continue
        assert pixels.shape == (len(labels), 3072) and pixels.dtype == np.uint8 and labels.max() < which.classes


@given(st.binary(max_size=300))
def test_any_bytes_are_an_archive_or_refused(content):
    with pytest.raises(CheckFailed):
        cifar.unpacked(content, ("train.bin",), "a.tar")
