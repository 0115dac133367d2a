"""Samples in flash, batch by batch: the form in which training reads them, for data sets and for layers' outputs alike.

A record is one batch: its inputs (n, row bytes), labels (n,) uint16 and one float32, the scale of inputs that are bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Store(Protocol):
    """The part of :class:`tinyfoa_np.storage.flash.Flash` that records need."""

    def read(self, name: str, item: int, buffers: list[np.ndarray], offset: int = 0) -> None: ...

    def write(self, name: str, item: int, buffers: list[np.ndarray], offset: int = 0) -> None: ...


@dataclass(frozen=True)
class Records:
    """The layout of one object in flash.

    Parameters
    ----------
    name : str
        Of the object.
    samples, batch : int
        N and B; the last batch may hold fewer.
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
        """Samples of batch k."""
        return min(self.batch, self.samples - k * self.batch)

    def _offset(self, k: int) -> int:
        return k * (self.batch * (self.row_bytes + 2) + 4)

    def read(self, flash: Store, k: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> int:
        """Batch k into the first rows of ``inputs`` (B, ..), ``labels`` (B,) and ``scale`` (1,); how many there are."""
        n = self.count(k)
        flash.read(self.name, 0, [inputs[:n], labels[:n], scale], self._offset(k))
        return n

    def read_part(
        self, flash: Store, k: int, first: int, count: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray
    ) -> None:
        """As :meth:`read`, but only ``count`` samples of batch k from its sample ``first`` on."""
        begin, n = self._offset(k), self.count(k)
        flash.read(self.name, 0, [inputs[:count]], begin + first * self.row_bytes)
        flash.read(self.name, 0, [labels[:count]], begin + n * self.row_bytes + 2 * first)
        flash.read(self.name, 0, [scale], begin + n * (self.row_bytes + 2))

    def read_row(self, flash: Store, row: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> None:
        """Sample ``row`` of all into ``inputs`` (1, ..) and ``labels`` (1,), and the ``scale`` of its batch."""
        k, r = divmod(row, self.batch)
        begin, n = self._offset(k), self.count(k)
        flash.read(self.name, 0, [inputs], begin + r * self.row_bytes)
        flash.read(self.name, 0, [labels], begin + n * self.row_bytes + 2 * r)
        if scale.size:
            flash.read(self.name, 0, [scale], begin + n * (self.row_bytes + 2))

    def read_rest(self, flash: Store, k: int, labels: np.ndarray, scale: np.ndarray) -> None:
        """Batch k without its inputs."""
        n = self.count(k)
        flash.read(self.name, 0, [labels[:n], scale], self._offset(k) + n * self.row_bytes)

    def write_part(self, flash: Store, k: int, first: int, count: int, inputs: np.ndarray) -> None:
        """Writes the inputs of ``count`` samples of batch k from its sample ``first`` on."""
        flash.write(self.name, 0, [inputs[:count]], self._offset(k) + first * self.row_bytes)

    def write_rest(self, flash: Store, k: int, labels: np.ndarray, scale: np.ndarray) -> None:
        """Writes what follows the inputs of batch k."""
        n = self.count(k)
        flash.write(self.name, 0, [labels[:n], scale], self._offset(k) + n * self.row_bytes)

    def write(self, flash: Store, k: int, inputs: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> None:
        """Writes batch k from the first rows of the arrays."""
        n = self.count(k)
        flash.write(self.name, 0, [inputs[:n], labels[:n], scale], self._offset(k))
