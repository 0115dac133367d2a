"""Handwritten digits from scikit-learn: 1,797 images of 8 x 8 pixels, values 0 to 16, ten classes."""

from __future__ import annotations

import hashlib
import importlib.util

import numpy as np

from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.data.published import Progress, Published, quiet
from tinyfoa_np.data.search_path import Place
from tinyfoa_np.errors import BadRequest, CheckFailed

SAMPLES = 1437, 360
_DIGEST = "7696c07daa6d85010f8268703ab8b067"


class Digits(Published):
    """The digits: the first 1,437 for training, the last 360 for testing."""

    def __init__(self) -> None:
        super().__init__("digits", (), SAMPLES, 10, (1, 8, 8), scale=1 / 16, unit=1 / 16)

    def find(self, data_dir: Place = None) -> str:
        """Return the source of the digits, scikit-learn; raises `BadRequest` if it is not installed."""
        if importlib.util.find_spec("sklearn") is None:
            raise BadRequest('digits come with scikit-learn, which is not installed: pip install "tinyfoa-np[sklearn]"')
        return "scikit-learn"

    def load(self, data_dir: Place = None, unverified: bool = False, on_progress: Progress = quiet) -> Dataset:
        """Pixels (N, 64) as bytes 0 to 16, seen as value / 16.

        Raises
        ------
        BadRequest
            scikit-learn is not installed.
        CheckFailed
            The digits of the installed scikit-learn differ from the known ones.
        """
        pixels, labels = self._read()
        if not unverified and _digest(pixels, labels) != _DIGEST:
            raise CheckFailed("scikit-learn's digits are not the known 1,797 samples; reinstall scikit-learn")
        cut = SAMPLES[0]
        parts = Split(pixels[:cut], labels[:cut]), Split(pixels[cut:], labels[cut:])
        return self.made(parts, unverified)

    def verify(self, data_dir: Place = None) -> list[tuple[str, bool, str]]:
        """One row: whether the pixels and labels scikit-learn returns have the known digest."""
        digest = _digest(*self._read())
        return [("sklearn.datasets.load_digits", digest == _DIGEST, f"md5 {digest}")]

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 64) uint8 and labels (N,) uint8."""
        self.find()
        from sklearn.datasets import load_digits  # imported here, as it takes half a second

        pixels, labels = load_digits(return_X_y=True)
        return pixels.astype(np.uint8), labels.astype(np.uint8)


def _digest(pixels: np.ndarray, labels: np.ndarray) -> str:
    return hashlib.md5(pixels.tobytes() + labels.tobytes(), usedforsecurity=False).hexdigest()


SETS = {"digits": Digits()}
