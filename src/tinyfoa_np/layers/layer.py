"""The interface of layers in training: what a layer has in the arena and in flash, and the part of a batch it sees."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

import numpy as np

from ..ram.arena import Arena
from ..ram.packing import Region
from ..slices import Grid, Groups
from ..storage.flash import Flash
from .encoding import Encoding
from .tiling import Tiling
from .trained import TrainedLayer


class Part(NamedTuple):
    """What was loaded of a batch: ``samples`` of its ``of``, from its sample ``first`` on; most often all."""

    samples: int
    first: int
    of: int

    @property
    def ends(self) -> bool:
        """Whether the batch is complete with it."""
        return self.first + self.samples == self.of


def whole(samples: int) -> Part:
    """All samples of a batch, as one part."""
    return Part(samples, 0, samples)


class Batch(NamedTuple):
    """The inputs of a layer: how they are held, and what their bits stand for."""

    values: np.ndarray  # (B, columns)
    inputs: Encoding
    gain: float = 1.0

    @property
    def affine(self) -> tuple[np.float32, np.float32]:
        """What an element counts in a gradient: times the one, plus the other."""
        held, gain = self.inputs, self.gain
        if held.kind == "bytes":
            return np.float32(held.scale), np.float32(held.offset)
        return np.float32(gain), np.float32(gain * held.offset if held.kind == "bits" else 0.0)


class Out(NamedTuple):
    """Where a pass leaves its results; arrays of no elements stand for those that are not wanted."""

    values: np.ndarray  # (B, columns): what is handed on
    logits: np.ndarray  # (C, B)
    head: Callable[[int, int], np.ndarray]  # rows (n, C) by which neurons, or positions, first to last make logits
    z: np.ndarray = np.zeros((0, 0), np.float32)  # (To, B) of a tile of neurons, or all of them
    active: np.ndarray = np.zeros((0, 0), np.uint16)  # masks (O', G) of 16 samples a word, which a gradient reads
    first: int = 0  # the first neuron that has one


class Layer(Protocol):
    """A layer in training, or a group of layers: its regions of the arena, its objects in flash, what is kept of it.

    It knows no loss and no other layer.
    """

    number: int
    O: int  # outputs
    tiling: Tiling
    inputs: Encoding

    @property
    def grid(self) -> Grid | Groups:
        """How weights are cut into slices."""

    @property
    def alpha(self) -> float:
        """What the signs of binary weights stand for, now; 1 where weights are real."""

    def regions(self) -> list[Region]:
        """The regions of its parameters."""

    def carried(self) -> Collection[str]:
        """Regions whose content one batch leaves to the next."""

    def open(self, arena: Arena) -> None:
        """Takes the views from an arena laid out with the regions."""

    def name(self, what: str) -> str:
        """An object in flash."""

    def objects(self) -> dict[str, list[int]]:
        """The objects that it trains in, with the sizes of their items; the first is called ``slices``."""

    def initialize(self, flash: Flash) -> None:
        """Writes the initial parameters."""

    def restore(self, flash: Flash) -> None:
        """Rebuilds the arena's content from flash."""

    def flush(self, flash: Flash) -> None:
        """Writes back what has changed."""

    def traffic(self, passes: int = 1) -> tuple[float, float]:
        """Bytes of parameters read and written in a training step, on average, with the commits of epochs."""

    def digest(self, flash: Flash, row: np.ndarray) -> str:
        """SHA-256 of the trained parameters; reads slices from flash through ``row`` (I,)."""

    @property
    def commit_bytes(self) -> int:
        """Bytes of the buffer through which a commit reads back."""

    @property
    def published_bytes(self) -> int:
        """Bytes of what the forward pass reads of all weights."""

    @property
    def trained_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of what inference needs of it."""

    @property
    def trained_bytes(self) -> list[int]:
        """The same in bytes."""

    def trained_regions(self) -> list[Region]:
        """Of its regions, those that hold what inference needs."""

    def load(self, trained: TrainedLayer) -> None:
        """Fills these from a trained layer."""

    def keep(self, flash: Flash) -> None:
        """Writes what inference needs of the trained layer."""

    def forget(self, flash: Flash) -> None:
        """Deletes what only training needs."""
