"""MNIST (LeCun, Cortes, Burges): 70,000 handwritten digits of 28 x 28 bytes, from the four files as published."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from math import prod
from pathlib import Path
from typing import IO

from tinyfoa_np.data import idx
from tinyfoa_np.data.dataset import Dataset, Split, shaped
from tinyfoa_np.data.where import places
from tinyfoa_np.errors import BadRequest, CheckFailed

SAMPLES, IMAGE, CLASSES = (60000, 10000), (1, 28, 28), 10
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# MD5 of the decompressed contents: the .gz files differ between mirrors, these do not.
DIGESTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# Largest decompressed content; no file is decompressed beyond it.
_LARGEST = 16 + 60000 * 784
# Mean and standard deviation of the training pixels / 255, as the field rounds them.
MEAN, SD = 0.1307, 0.3081


def find(data_dir: str | os.PathLike[str] | None = None) -> str:
    """The directory that holds all four files, compressed or not; raises `BadRequest` where there is none."""
    return str(_paths(data_dir)["train-images-idx3-ubyte"].parent)


def load(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Pixels (N, 784) as the bytes they are, seen as ``(byte / 255 - 0.1307) / 0.3081``; labels (N,) uint8.

    Raises
    ------
    BadRequest
        Files are missing.
    CheckFailed
        A file is truncated or altered.
    """
    arrays = []
    for name, path in _paths(data_dir).items():
        content = _content(path)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != DIGESTS[name]:
            raise CheckFailed(f"{path} is not the published file (its MD5 differs); fetch it again from {URL}")
        arrays.append(idx.parse(content, str(path)))
    train_images, train_labels, test_images, test_labels = arrays
    return Dataset(
        name="mnist",
        train=Split(train_images.reshape(len(train_images), -1), train_labels),
        test=Split(test_images.reshape(len(test_images), -1), test_labels),
        classes=CLASSES,
        scale=1 / (255 * SD),
        offset=-MEAN / SD,
        image=IMAGE,
    )


def shape() -> Dataset:
    """The data set without its samples."""
    return shaped("mnist", *SAMPLES, prod(IMAGE), "uint8", CLASSES, 1 / (255 * SD), -MEAN / SD, image=IMAGE)


def verify(data_dir: str | os.PathLike[str] | None = None) -> list[tuple[str, bool, str]]:
    """One row per file: its path, whether its decompressed content has the published MD5, and what was found."""
    rows = []
    for name, path in _paths(data_dir).items():
        try:
            digest = hashlib.md5(_content(path), usedforsecurity=False).hexdigest()
        except CheckFailed as error:
            rows.append((str(path), False, str(error).removeprefix(f"{path} ")))
            continue
        ok = digest == DIGESTS[name]
        rows.append((str(path), ok, f"md5 {digest}" + ("" if ok else f", published {DIGESTS[name]}")))
    return rows


def _paths(data_dir: str | os.PathLike[str] | None) -> dict[str, Path]:
    """The four files, by name: all from the first directory that has them all."""
    looked_into = places(data_dir)
    nearest: dict[str, Path] = {}
    for place in looked_into:
        for folder in (place / "mnist", place):
            found = {}
            for name in DIGESTS:
                path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
                if path is not None:
                    found[name] = path
            if len(found) == len(DIGESTS):
                return found
            if len(found) > len(nearest):
                nearest = found
    missing = ", ".join(f"{name}.gz" for name in DIGESTS if name not in nearest)
    folder = next(iter(nearest.values())).parent if nearest else looked_into[0] / "mnist"
    raise BadRequest(f"MNIST not found in {', '.join(map(str, looked_into))}: put {missing} from {URL} into {folder}")


def _content(path: Path) -> bytes:
    """A file's content, decompressed where its name ends in .gz."""
    opened: IO[bytes] = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[assignment]
    with opened as file:
        try:
            return file.read(_LARGEST + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CheckFailed(f"{path} is truncated or damaged ({error}); fetch it again from {URL}") from error
