"""Samples in flash, batch by batch: the format of data sets and of layers' outputs that training reads.

A record is one batch: its inputs (n, row bytes), labels (n,) uint16, and one float32, the scale of binary inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Store(Protocol):
    """The methods of :class:`tinyfoa_np.storage.flash.Flash` that records use."""

    def read(self, name: str, item: int, buffers: list[np.ndarray], offset: int = 0) -> None: ...

    def write(self, name: str, item: int, buffers: list[np.ndarray], offset: int = 0) -> None: ...


@dataclass(frozen=True)
class Records:
    """The layout of one object in flash.

    Parameters
    ----------
    name : str
        Name of the object.
    samples, batch : int
        N and B; the last batch may be smaller.
    row_bytes : int
        Bytes of one sample's inputs.
    """

    name: str
    samples: int
    batch: int
    row_bytes: int

    @property
    def batches(self) -> int:
        return -(-self.samples // self.batch)

    @property
    def nbytes(self) -> int:
        return self.samples * (self.row_bytes + 2) + 4 * self.batches

    def count(self, k: int) -> int:
        """Number of samples in batch k."""
        return min(self.batch, self.samples - k * self.batch)

    def _offset(self, k: int) -> int:
        return k * (self.batch * (self.row_bytes + 2) + 4)

    def read(self, flash: Store, k: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> int:
        """Read batch k into the first rows of ``inputs`` (B, ..), ``labels`` (B,), ``scale`` (1,); return its size."""
        n = self.count(k)
        flash.read(self.name, 0, [inputs[:n], labels[:n], scale], self._offset(k))
        return n

    def read_part(
        self, flash: Store, k: int, first: int, count: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray
    ) -> None:
        """Like :meth:`read`, but only ``count`` samples of batch k, starting at its sample ``first``."""
        begin, n = self._offset(k), self.count(k)
        flash.read(self.name, 0, [inputs[:count]], begin + first * self.row_bytes)
        flash.read(self.name, 0, [labels[:count]], begin + n * self.row_bytes + 2 * first)
        flash.read(self.name, 0, [scale], begin + n * (self.row_bytes + 2))

    def read_row(self, flash: Store, row: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> None:
        """Read sample ``row`` of the set into ``inputs`` (1, ..), ``labels`` (1,), and ``scale``, that of its batch."""
        k, r = divmod(row, self.batch)
        begin, n = self._offset(k), self.count(k)
        flash.read(self.name, 0, [inputs], begin + r * self.row_bytes)
        flash.read(self.name, 0, [labels], begin + n * self.row_bytes + 2 * r)
        if scale.size:
            flash.read(self.name, 0, [scale], begin + n * (self.row_bytes + 2))

    def read_rest(self, flash: Store, k: int, labels: np.ndarray, scale: np.ndarray) -> None:
        """Read labels and scale of batch k, without its inputs."""
        n = self.count(k)
        flash.read(self.name, 0, [labels[:n], scale], self._offset(k) + n * self.row_bytes)

    def write_part(self, flash: Store, k: int, first: int, count: int, inputs: np.ndarray) -> None:
        """Write the inputs of ``count`` samples of batch k, starting at its sample ``first``."""
        flash.write(self.name, 0, [inputs[:count]], self._offset(k) + first * self.row_bytes)

    def write_rest(self, flash: Store, k: int, labels: np.ndarray, scale: np.ndarray) -> None:
        """Write labels and scale of batch k."""
        n = self.count(k)
        flash.write(self.name, 0, [labels[:n], scale], self._offset(k) + n * self.row_bytes)

    def write(self, flash: Store, k: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> None:
        """Write batch k from the first rows of the arrays."""
        n = self.count(k)
        flash.write(self.name, 0, [inputs[:n], labels[:n], scale], self._offset(k))
