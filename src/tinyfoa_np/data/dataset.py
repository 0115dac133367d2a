"""A loaded data set: two splits of samples, and the mapping of its bytes to numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their labels.

    Attributes
    ----------
    inputs : ndarray (N, I), uint8 or float32
        One sample per row; float64 if the data set has :class:`Columns` and float32 would change a number.
    labels : ndarray (N,), integer
        Class numbers from 0.
    """

    inputs: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Columns:
    """Statistics of the columns of real inputs, for scaling them.

    Attributes
    ----------
    mean, deviation, low, high : ndarray (I,), float64
        Over the training samples.
    """

    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, inputs: np.ndarray, width: int | None = None) -> Columns:
        """Statistics of samples (N, I); with ``width``, of samples that are windows of rows with ``width`` columns."""
        import numpy as np

        rows = inputs.reshape(-1, width or inputs.shape[1]).astype(np.float64, copy=False)
        found = rows.mean(axis=0), rows.std(axis=0), rows.min(axis=0), rows.max(axis=0)
        return cls(*(np.tile(column, inputs.shape[1] // len(column)) for column in found))

    def affine(self, normalize: str) -> tuple[np.ndarray, np.ndarray]:
        """The value to subtract from each column, (I,) float64, and the factor to apply afterwards, (I,) float32.

        ``standard`` gives mean 0 and deviation 1, ``unit`` the range 0 to 1; a constant column becomes 0. Columns are
        centred in float64 and then rounded, because float32 would lose small differences between large numbers.
        """
        import numpy as np

        shift, width = (self.mean, self.deviation) if normalize == "standard" else (self.low, self.high - self.low)
        varies = (width > 1e-30) & (self.high > self.low)
        with np.errstate(over="ignore"):
            return shift, np.where(varies, 1 / np.where(varies, width, 1), 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split.

    Attributes
    ----------
    name : str
    train, test : Split
    classes : int
        C, the number of classes.
    scale, offset : float
        For uint8 inputs the network sees ``scale * byte + offset``.
    unit : float
        Factor that maps uint8 inputs to 0 to 1: one over the largest byte.
    image : tuple of int, optional
        (channels, rows, columns) if inputs are images, channel by channel and row by row.
    columns : Columns, optional
        Statistics of float32 inputs, if each column is to be scaled; other inputs are used unchanged.
    digest : str, optional
        :func:`fingerprint` of the samples, if the name alone does not identify them.
    origin : dict, optional
        Further JSON-compatible facts about the origin of the samples: files, split, balance, labels.
    drift : str
        A warning for whoever trains on the samples, about columns that drift; empty if there are none.
    """

    name: str
    train: Split
    test: Split
    classes: int
    scale: float = 1.0
    offset: float = 0.0
    unit: float = 1 / 255
    image: tuple[int, int, int] | None = None
    columns: Columns | None = None
    digest: str | None = None
    origin: dict[str, Any] | None = None
    drift: str = ""

    def affine(self, normalize: str) -> tuple[float, float]:
        """Scale and offset of uint8 inputs: the data set's own (``standard``), or those for 0 to 1 (``unit``)."""
        return (self.scale, self.offset) if normalize == "standard" else (self.unit, 0.0)

    def encoded(self, inputs: np.ndarray, normalize: str) -> np.ndarray:
        """Samples (n, I) in the form for training: bytes unchanged, real numbers with scaled columns."""
        if self.columns is None:
            return inputs
        return on_scale(inputs, *self.columns.affine(normalize))


def on_scale(inputs: np.ndarray, shift: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Scale samples (n, I) to float32: subtract ``shift`` (I,) in its own precision, multiply by ``factor`` (I,)."""
    import numpy as np

    scaled: np.ndarray = (inputs.astype(shift.dtype, copy=False) - shift).astype(np.float32) * factor
    return scaled


def shaped(
    name: str,
    train: int,
    test: int,
    inputs: int,
    dtype: str,
    classes: int,
    scale: float = 1.0,
    offset: float = 0.0,
    unit: float = 1 / 255,
    image: tuple[int, int, int] | None = None,
) -> Dataset:
    """A data set with the given numbers of samples and inputs, all zeros, which takes no memory."""
    import numpy as np

    def split(samples: int) -> Split:
        return Split(np.broadcast_to(np.zeros(1, dtype), (samples, inputs)), np.broadcast_to(np.int64(0), samples))

    return Dataset(name, split(train), split(test), classes, scale, offset, unit, image)


def fingerprint(train: Split, test: Split) -> str:
    """SHA-256, in hexadecimal, over all samples and labels in order: equal for equal data in other files.

    Numbers are hashed as float32; for columns that float32 cannot resolve, the remainder is hashed as well.
    """
    import numpy as np

    hashed = hashlib.sha256()

    def add(array: np.ndarray) -> None:
        hashed.update(f"{array.dtype} {array.shape}".encode())
        hashed.update(np.ascontiguousarray(array).data)

    for split in (train, test):
        inputs, labels = split.inputs, np.asarray(split.labels)
        narrow = inputs.astype(np.float32) if inputs.dtype == np.float64 else inputs
        add(narrow)
        if len(inputs) and narrow is not inputs:
            lost = inputs - narrow
            coarse = np.abs(lost).max(axis=0) > 1e-3 * inputs.std(axis=0)
            if coarse.any():
                add(np.flatnonzero(coarse).astype("<i8"))
                add(lost[:, coarse].astype(np.float32))
        add(labels.astype("<u2" if labels.max(initial=0) < 1 << 16 else "<u4"))
    return hashed.hexdigest()


def not_finite(values: np.ndarray) -> str:
    """What is wrong with values that float32 cannot hold as finite numbers."""
    import numpy as np

    wide = values.astype(np.float64)
    too_large = np.isfinite(wide) & (np.abs(wide) > np.finfo(np.float32).max)
    return "values beyond 3.4e38" if too_large.any() else "NaN or infinite values"


def check_split(dataset: Dataset, name: str, split: Split) -> None:
    """Refuse samples that cannot be trained on, with a one-line reason."""
    import numpy as np

    inputs, labels = split.inputs, split.labels
    what = f"the {name} split of {dataset.name}"
    if inputs.ndim != 2 or len(inputs) != len(labels) or not (len(labels) or name == "test"):
        raise BadRequest(f"{what} must have inputs (N, I) and as many labels, at least one; it has {inputs.shape}")
    kinds = (np.uint8, np.float32, np.float64) if dataset.columns else (np.uint8, np.float32)
    if inputs.dtype not in kinds or inputs.dtype != dataset.train.inputs.dtype:
        raise BadRequest(f"{what} has {inputs.dtype} inputs: use uint8 or float32 in both splits")
    if inputs.dtype != np.uint8 and not np.isfinite(inputs).all():
        raise BadRequest(f"{what} holds {not_finite(inputs)}: remove or replace them")
    if inputs.shape[1] != dataset.train.inputs.shape[1]:
        raise BadRequest(f"{what} has {inputs.shape[1]} inputs per sample, not {dataset.train.inputs.shape[1]}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadRequest(f"{what} has {labels.dtype} labels: one integer per sample is needed")
    if not len(labels):
        return
    if dataset.classes > 65536:
        raise BadRequest(f"{what} has {dataset.classes:,} classes: at most 65,536 are possible")
    if labels.min() < 0 or labels.max() >= dataset.classes:
        right = f"0 to {dataset.classes - 1}"
        raise BadRequest(f"{what} has labels {labels.min()} to {labels.max()}: they must be {right}")
