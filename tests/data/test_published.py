"""Data sets: the idx format, MNIST's files whole, missing and damaged, scikit-learn's digits, the order of places."""

import gzip
import hashlib
import importlib.util
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyfoa_np import data
from tinyfoa_np.data import idx, mnist
from tinyfoa_np.data import search_path as where
from tinyfoa_np.errors import BadRequest, CheckFailed

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def to_idx(array):
    """The idx bytes of an array, written independently of the parser."""
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def small_mnist(home, monkeypatch):
    """A directory with four tiny files in MNIST's layout, known to the module by their digests."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (7, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": rng.integers(0, 10, 7, dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (3, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": rng.integers(0, 10, 3, dtype=np.uint8),
    }
    folder = home / "sets" / "mnist"
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        content = to_idx(array)
        monkeypatch.setitem(mnist.DIGESTS, name, hashlib.md5(content).hexdigest())
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder, arrays


SHAPES = hnp.array_shapes(min_dims=0, min_side=0, max_side=5)


@given(st.sampled_from(sorted(CODES)).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))
def test_idx_parses_what_the_format_says(array):
    parsed = idx.parse(to_idx(array), "x")
    assert parsed.shape == array.shape
    np.testing.assert_array_equal(parsed, array)


@given(st.data())
def test_idx_refuses_any_other_length(data):
    content = to_idx(np.arange(12, dtype=np.uint8).reshape(3, 4))
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(CheckFailed, match="some-file"):
        idx.parse(content[:cut], "some-file")
    with pytest.raises(CheckFailed, match="promises"):
        idx.parse(content + b"\0", "some-file")


def test_idx_refuses_a_shape_that_no_array_has():
    for shape in ([0, *[2**32 - 1] * 3], [1] * 200):
        header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        with pytest.raises(CheckFailed, match="x is of a shape that no array can have"):
            idx.parse(header + bytes(math.prod(shape)), "x")


@pytest.mark.parametrize("start", [b"", b"PK\3\4", b"\1\0\x08\1", b"\0\0\x07\1", b"\x1f\x8b\x08\0"])
def test_idx_refuses_another_format(start):
    with pytest.raises(CheckFailed, match="not an idx file"):
        idx.parse(start + bytes(40) if start else b"", "x")


@pytest.mark.parametrize("place", ["argument", "environment", "cache"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_mnist_is_found_and_read(small_mnist, monkeypatch, place, compressed, nested):
    folder, arrays = small_mnist
    if not compressed:
        for file in folder.glob("*.gz"):
            (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
            file.unlink()
    data_dir = folder.parent if nested else folder
    if place == "environment":
        monkeypatch.setenv("TINYFOA_DATA", str(data_dir))
    elif place == "cache":
        monkeypatch.setattr(where, "user_cache", lambda: data_dir)
    loaded = data.load("mnist", data_dir if place == "argument" else None)
    for split, name, samples in ((loaded.train, "train", 7), (loaded.test, "t10k", 3)):
        assert split.inputs.dtype == np.uint8
        np.testing.assert_array_equal(split.inputs, arrays[f"{name}-images-idx3-ubyte"].reshape(samples, 784))
        np.testing.assert_array_equal(split.labels, arrays[f"{name}-labels-idx1-ubyte"])
    assert loaded.classes == 10
    assert 255 * loaded.scale + loaded.offset == pytest.approx((1 - 0.1307) / 0.3081)
    assert loaded.offset == pytest.approx(-0.1307 / 0.3081)


def test_mnist_missing_says_what_to_put_where(home):
    (home / "sets").mkdir()
    with pytest.raises(BadRequest) as error:
        data.load("mnist", home / "sets")
    message = str(error.value)
    assert "\n" not in message
    for part in (*(f"{name}.gz" for name in mnist.DIGESTS), str(home / "sets" / "mnist"), "https://"):
        assert part in message


def test_mnist_with_one_file_missing_names_only_that_one(small_mnist):
    folder, _ = small_mnist
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadRequest, match=r"put t10k-labels-idx1-ubyte.gz from https\S+ into \S+mnist$"):
        data.load("mnist", folder.parent)


def _truncate(content):
    return content[: len(content) // 2]


def _flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_truncate, _flip, lambda content: b"", lambda content: b"<html>not found</html>"])
@pytest.mark.parametrize("name", sorted(mnist.DIGESTS))
def test_damaged_files_are_named_and_never_loaded(small_mnist, damage, name):
    folder, _ = small_mnist
    file = folder / f"{name}.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckFailed) as error:
        data.load("mnist", folder.parent)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    assert [Path(path).name for path, ok, _ in data.verify("mnist", folder.parent) if not ok] == [file.name]


def test_a_whole_file_with_other_content_is_refused(small_mnist):
    folder, arrays = small_mnist
    file = folder / "train-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(to_idx((arrays["train-labels-idx1-ubyte"] + 1) % 10)))
    with pytest.raises(CheckFailed, match="MD5 differs"):
        data.load("mnist", folder.parent)


def test_real_mnist():
    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    data_dir = os.environ.get("TINYFOA_DATA") or (shared if shared.is_dir() else None)
    try:
        data.find("mnist", data_dir)
    except BadRequest as error:
        pytest.skip(str(error))
    assert [ok for _, ok, _ in data.verify("mnist", data_dir)] == [True] * 4
    loaded = data.load("mnist", data_dir)
    assert (loaded.train.inputs.shape, loaded.test.inputs.shape) == ((60000, 784), (10000, 784))
    assert data.samples("mnist") == (len(loaded.train.labels), len(loaded.test.labels))
    seen = np.arange(256) * loaded.scale + loaded.offset
    share = np.bincount(loaded.train.inputs.ravel(), minlength=256) / loaded.train.inputs.size
    assert share @ seen == pytest.approx(0, abs=1e-3) and share @ seen**2 == pytest.approx(1, abs=1e-3)


def test_digits():
    pytest.importorskip("sklearn")
    loaded = data.load("digits")
    assert loaded.train.inputs.shape == (1437, 64) and loaded.test.inputs.shape == (360, 64)
    assert data.samples("digits") == (1437, 360)
    assert loaded.train.inputs.dtype == np.uint8 and loaded.train.inputs.max() * loaded.scale == 1.0
    assert loaded.offset == 0 and set(loaded.test.labels) == set(range(10))
    from sklearn.datasets import load_digits

    theirs = load_digits()
    np.testing.assert_array_equal(loaded.test.inputs, theirs.data[1437:])
    np.testing.assert_array_equal(loaded.train.labels, theirs.target[:1437])
    assert all(ok for _, ok, _ in data.verify("digits"))


def test_digits_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r'pip install "tinyfoa-np\[sklearn\]"'):
        data.load("digits")


def test_altered_digits_are_refused(monkeypatch):
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    pixels[3, 3] += 1
    monkeypatch.setattr(datasets, "load_digits", lambda return_X_y: (pixels, labels))
    with pytest.raises(CheckFailed, match="digits"):
        data.load("digits")
    assert [ok for _, ok, _ in data.verify("digits")] == [False]


def test_places_in_order(home, monkeypatch):
    monkeypatch.setenv("TINYFOA_DATA", str(home / "environment"))
    assert where.places(home) == [home, home / "environment", where.user_cache()]
    with pytest.raises(BadRequest, match="does not exist"):
        where.places(home / "nowhere")


def test_unknown_name():
    assert {"digits", "mnist", "mitbih"} <= set(data.names())
    with pytest.raises(BadRequest, match="digits, mnist, "):
        data.load("cifar")
