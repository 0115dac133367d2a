"""MNIST (LeCun, Cortes, Burges) and Fashion-MNIST (Xiao, Rasul, Vollgraf): 70,000 images of 28 x 28 bytes each.

Both are read from their four published idx files, which have the same names.
"""

from __future__ import annotations

from tinyfoa_np.data import idx
from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.data.published import Files, Progress, Published, first_of, quiet
from tinyfoa_np.data.search_path import Place
from tinyfoa_np.errors import CheckFailed

SAMPLES, IMAGE, CLASSES = (60000, 10000), (1, 28, 28), 10
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/",)
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MIRRORS = ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",)
# MD5 of the decompressed contents, because the .gz files differ between mirrors.
DIGESTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# Likewise, for contents whose .gz files have the MD5 given by their publishers.
FASHION_DIGESTS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
# Size of the largest decompressed content; decompression stops beyond it.
_LARGEST = 16 + 60000 * 784


class IdxImages(Published):
    """A data set in four idx files.

    Parameters
    ----------
    name : str
    files : Files
    mean, deviation : float
        Of the training pixels / 255, rounded as is customary.
    """

    def __init__(self, name: str, files: Files, mean: float, deviation: float) -> None:
        scale, offset = 1 / (255 * deviation), -mean / deviation
        super().__init__(name, [files], SAMPLES, CLASSES, IMAGE, scale=scale, offset=offset)

    def load(self, data_dir: Place = None, unverified: bool = False, on_progress: Progress = quiet) -> Dataset:
        """Pixels (N, 784) uint8, seen by the network as ``(byte / 255 - mean) / deviation``; labels (N,) uint8.

        Files without 28 x 28 images of bytes and labels of ten classes raise CheckFailed; see
        :meth:`.published.Published.load`.
        """
        files, paths = first_of(self.layouts, data_dir)
        train_images, train_labels, test_images, test_labels = (
            idx.parse(files.checked(name, path, unverified)[0], str(path)) for name, path in paths.items()
        )
        where = str(next(iter(paths.values())).parent)
        splits = []
        for images, labels in ((train_images, train_labels), (test_images, test_labels)):
            bytes_only = images.dtype == labels.dtype == "u1"
            whole = bytes_only and images.shape[1:] == IMAGE[1:] and labels.shape == images.shape[:1]
            if not whole or not len(labels) or labels.max() >= CLASSES:
                raise CheckFailed(f"{where} holds no images of 28 x 28 bytes with a class from 0 to 9 each")
            splits.append(Split(images.reshape(len(images), -1), labels))
        return self.made(splits, unverified, {"where": where})


_MNIST = Files("MNIST", ("mnist", "."), DIGESTS, URL, _LARGEST, compressed=True, mirrors=MIRRORS, name="mnist")
_FASHION = Files(
    "Fashion-MNIST",
    ("fashion-mnist", "fashion"),
    FASHION_DIGESTS,
    FASHION_URL,
    _LARGEST,
    compressed=True,
    mirrors=FASHION_MIRRORS,
    name="fashion-mnist",
)
SETS = {
    "mnist": IdxImages("mnist", _MNIST, 0.1307, 0.3081),
    "fashion-mnist": IdxImages("fashion-mnist", _FASHION, 0.2860, 0.3530),
}
