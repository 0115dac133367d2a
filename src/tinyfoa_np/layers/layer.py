"""The interface of layers in training: regions in the arena, objects in flash, and parts of batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
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
    """The loaded part of a batch: ``samples`` of its ``of`` samples, starting at ``first``; usually the whole batch."""

    samples: int
    first: int
    of: int

    @property
    def ends(self) -> bool:
        """Whether this part completes the batch."""
        return self.first + self.samples == self.of


def whole(samples: int) -> Part:
    """A part that is the whole batch."""
    return Part(samples, 0, samples)


class Batch(NamedTuple):
    """The inputs of a layer, their encoding, and the value of a set bit."""

    values: np.ndarray  # (B, columns)
    inputs: Encoding
    gain: float = 1.0

    @property
    def affine(self) -> tuple[np.float32, np.float32]:
        """Factor and offset that map a stored element to its value in a gradient."""
        held, gain = self.inputs, self.gain
        if held.kind == "bytes":
            return np.float32(held.scale), np.float32(held.offset)
        return np.float32(gain), np.float32(gain * held.offset if held.kind == "bits" else 0.0)


class Out(NamedTuple):
    """Arrays for the results of a pass; arrays without elements stand for results that are not needed."""

    values: np.ndarray  # (B, columns): the outputs
    logits: np.ndarray  # (C, B)
    head: Callable[[int, int], np.ndarray]  # rows (n, C) that map neurons, or positions, first to last to logits
    z: np.ndarray = np.zeros((0, 0), np.float32)  # (To, B) for a tile of neurons, or for all of them
    active: np.ndarray = np.zeros((0, 0), np.uint16)  # masks (O', G), 16 samples per word, for the gradient
    first: int = 0  # the first neuron that has a mask
    bits: bool = False  # whether outputs are z > 0 and masks 0 < z < 1; otherwise max(z, 0) and 0 < z
    biased: bool = True  # whether z includes b


class Layer(Protocol):
    """A layer in training, or a group of layers: its regions in the arena and its objects in flash.

    It does not depend on the loss or on other layers. Dense and locally connected layers also share their passes:
    ``forward(flash, x, part, out, training)`` and ``backward(dz, samples, active, scratch, dx)``; see
    :class:`.dense.Dense`. Groups run programs of operations instead: :class:`.group.Group`.
    """

    number: int
    O: int  # outputs
    tiling: Tiling
    inputs: Encoding

    @property
    def grid(self) -> Grid | Groups:
        """The division of the weights into slices."""

    @property
    def alpha(self) -> float:
        """The current scale of the signs of binary weights; 1 if weights are real."""

    def regions(self) -> Iterable[Region]:
        """The regions of its parameters."""

    def carried(self) -> Collection[str]:
        """Names of the regions whose content is kept from one batch to the next."""

    def open(self, arena: Arena) -> None:
        """Take the views from an arena laid out with the regions."""

    def name(self, what: str) -> str:
        """Name of an object in flash."""

    def objects(self) -> dict[str, Sequence[int]]:
        """Objects in flash that it trains, with the sizes of their items; the first is called ``slices``."""

    def given_objects(self) -> dict[str, list[int]]:
        """Objects in flash that hold parameters of another model until :meth:`initialize` has read them."""

    def initialize(self, flash: Flash) -> None:
        """Write the initial parameters."""

    def restore(self, flash: Flash) -> None:
        """Rebuild the arena's content from flash."""

    def flush(self, flash: Flash) -> None:
        """Write changes back to flash."""

    def traffic(self, passes: int = 1) -> tuple[float, float]:
        """Bytes of parameters read and written per training step, on average, including the commits of epochs."""

    def digest(self, flash: Flash, row: np.ndarray) -> str:
        """SHA-256 of the trained parameters; slices are read from flash through ``row`` (I,)."""

    @property
    def commit_bytes(self) -> int:
        """Bytes of the buffer through which a commit reads back."""

    @property
    def published_bytes(self) -> int:
        """Bytes of all weights as the forward pass reads them."""

    @property
    def trained_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of the data that inference needs."""

    @property
    def trained_bytes(self) -> list[int]:
        """Sizes in bytes of the data that inference needs."""

    def trained_regions(self) -> list[Region]:
        """Regions that hold the data inference needs."""

    def load(self, trained: TrainedLayer) -> None:
        """Fill these regions from a trained layer."""

    def keep(self, flash: Flash) -> None:
        """Write the data of the trained layer that inference needs."""

    def forget(self, flash: Flash) -> None:
        """Delete the data that only training needs."""
