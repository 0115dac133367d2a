"""CIFAR-10 and CIFAR-100 (Krizhevsky): 60,000 colour images of 32 x 32 pixels, in ten or a hundred classes.

Read from the published files: the binary layout (one or two bytes of labels, then 1,024 bytes each of red, green and
blue) or the Python layout (pickles, which are not executed), unpacked or in their tar.gz.
"""

from __future__ import annotations

import io
import tarfile
from math import prod
from pathlib import Path

import numpy as np

from tinyfoa_np.data import pickles
from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.data.published import Files, Progress, Published, first_of, quiet
from tinyfoa_np.data.search_path import Place
from tinyfoa_np.errors import CheckFailed

SAMPLES, IMAGE = (50000, 10000), (3, 32, 32)
URL = "https://www.cs.toronto.edu/~kriz/"
MIRRORS = ("https://cave.cs.toronto.edu/kriz/",)
# The network sees pixels as (byte / 255 - 0.5) / 0.5.
SCALE, OFFSET = 2 / 255, -1.0
_LARGEST = 1 << 28


class Cifar(Published):
    """CIFAR-10 or CIFAR-100.

    Parameters
    ----------
    name, title : str
    classes : int
    label_bytes : int
        Number of label bytes before an image in the binary layout; the last one is the class.
    key : str
        Key of the labels in the Python layout.
    binary, python : tuple
        For each layout: its archive and the archive's digest, the folder in it, and the digests of the files there.
    """

    def __init__(
        self,
        name: str,
        title: str,
        classes: int,
        label_bytes: int,
        key: str,
        binary: tuple[str, str, str, dict[str, str]],
        python: tuple[str, str, str, dict[str, str]],
    ) -> None:
        self.label_bytes, self.key = label_bytes, key
        self.members, layouts = {}, []
        for archive, digest, folder, members in (binary, python):
            self.members[archive] = tuple(members)
            layouts += [
                Files(title, (".", name), {archive: digest}, URL, _LARGEST, mirrors=MIRRORS, name=name),
                Files(title, (folder, f"{name}/{folder}", name, "."), members, URL + archive, _LARGEST, name=name),
            ]
        super().__init__(name, layouts, SAMPLES, classes, IMAGE, scale=SCALE, offset=OFFSET)

    def load(self, data_dir: Place = None, unverified: bool = False, on_progress: Progress = quiet) -> Dataset:
        """Pixels (N, 3072) uint8, red before green before blue, and labels (N,) uint8.

        Files with other content raise CheckFailed; see :meth:`.published.Published.load`.
        """
        layout, paths = first_of(self.layouts, data_dir)
        parts: list[tuple[str, bytes]] = []
        for name, path in paths.items():
            content, _ = layout.checked(name, path, unverified)
            if name in self.members:
                parts = unpacked(content, self.members[name], str(path))
            else:
                parts.append((str(path), content))
        batches = [self.parse(content, name) for name, content in parts]
        train = Split(*(np.concatenate(arrays) for arrays in zip(*batches[:-1])))
        test = Split(*batches[-1])
        return self.made((train, test), unverified, {"where": self.find(data_dir)})

    def parse(self, content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 3072) and labels (N,) uint8 of one file; its layout is binary if its name ends in .bin.

        Raises
        ------
        CheckFailed
            The content is not in that layout, or a label is not a class.
        """
        if name.endswith(".bin"):
            width = self.label_bytes + prod(IMAGE)
            if not content or len(content) % width:
                raise CheckFailed(f"{name} has {len(content):,} bytes: it must be a multiple of {width:,}")
            rows = np.frombuffer(content, np.uint8).reshape(-1, width)
            pixels, labels = rows[:, self.label_bytes :], rows[:, self.label_bytes - 1]
        else:
            found = pickles.load(content, name)
            stored, listed = found.get("data"), found.get(self.key)
            if not isinstance(stored, np.ndarray) or stored.shape[1:] != (prod(IMAGE),) or not isinstance(listed, list):
                raise CheckFailed(f"{name} has no images under 'data', or no list of labels under {self.key!r}")
            if len(listed) != len(stored) or not listed or any(type(n) is not int or not 0 <= n < 256 for n in listed):
                raise CheckFailed(f"{name} has {len(stored)} images, and not a label from 0 to 255 for each")
            pixels, labels = stored, np.array(listed, np.uint8)
        if labels.max() >= self.classes:
            raise CheckFailed(f"{name} has a label {labels.max()}: labels must be 0 to {self.classes - 1}")
        return pixels, labels


def unpacked(content: bytes, names: tuple[str, ...], archive: str) -> list[tuple[str, bytes]]:
    """Files of a decompressed tar, selected by base name, in the order of `names`; nothing is written to disk.

    Raises
    ------
    CheckFailed
        The archive is incomplete, or lacks a file.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                name = Path(member.name).name
                if name in names and name not in found and member.isfile() and member.size <= _LARGEST:
                    opened = tar.extractfile(member)
                    found[name] = opened.read() if opened else b""
                if len(found) == len(names):
                    break
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise CheckFailed(f"{archive} is truncated or damaged ({error})") from error
    if missing := [name for name in names if name not in found]:
        raise CheckFailed(f"{archive} does not hold {', '.join(missing)}")
    return [(f"{archive}/{name}", found[name]) for name in names]


SETS = {
    "cifar10": Cifar(
        "cifar10",
        "CIFAR-10",
        10,
        1,
        "labels",
        (
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin",
            {
                "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
                "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
                "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
                "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
                "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
                "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
            },
        ),
        (
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            "cifar-10-batches-py",
            {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            },
        ),
    ),
    "cifar100": Cifar(
        "cifar100",
        "CIFAR-100",
        100,
        2,
        "fine_labels",
        (
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            "cifar-100-binary",
            {
                "train.bin": "6172c7755cfe09b2fe270c85cebc1b15",
                "test.bin": "4499cfba6c016c1be1438163640a0898",
            },
        ),
        (
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python",
            {
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            },
        ),
    ),
}
