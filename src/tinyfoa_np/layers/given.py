"""Initial parameters of a layer that come from another model.

When a run begins, they are written to flash in full precision, as objects of their own; a layer's initialization reads
them row by row into its slices, and the run then deletes them. So neither the other model nor memory for it is needed
later, and a run that is interrupted before it reaches a layer still has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from ..network import LocalShape
from ..slices import Groups
from ..storage.flash import Flash
from .encoding import Encoding

#: writes initial values for the rows and columns of a slice into a flat view
Initializer = Callable[[np.ndarray, int, int, int, int], None]


class Given(ABC):
    """What :class:`.parameters.Parameters` needs to begin with given weights (O, I) and biases; it sets the attributes.

    Attributes
    ----------
    O, I, biases : int
        Outputs, inputs, and number of biases.
    limit : float
        Weights and biases are clamped to +-limit; infinite for no clamping.
    """

    O: int
    I: int
    inputs: Encoding
    biased: bool
    limit: float

    @property
    @abstractmethod
    def biases(self) -> int: ...

    @abstractmethod
    def name(self, what: str) -> str:
        """Name of an object of this layer in flash."""

    def given_objects(self) -> dict[str, list[int]]:
        """Objects in flash that hold given weights (O, I) and biases, with the sizes of their items."""
        return {self.name("given"): [4 * self.O * self.I, 4 * self.biases if self.biased else 0]}

    def given(self, flash: Flash) -> tuple[Initializer, Initializer] | None:
        """Initializers that read given weights and biases from flash, where they are; None without any."""
        if self.name("given") not in flash.names():
            return None

        def weights(out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
            width, whole = high - low, high - low == self.I
            rows = 1 if not whole else last - first
            for row in range(first, last, rows):
                at = (row - first) * width
                self._read(flash, 0, out[at : at + rows * width], row * self.I + low)

        def biases(out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
            self._read(flash, 1, out[first:last], first)

        return weights, biases

    def _read(self, flash: Flash, item: int, out: np.ndarray, first: int) -> None:
        """Read given numbers from the ``first`` on, clamped as the layer's are."""
        flash.read(self.name("given"), item, [out], 4 * first)
        if np.isfinite(self.limit):
            np.clip(out, -self.limit, self.limit, out=out)


class GivenByPlace(Given):
    """The same for a locally connected layer, whose numbers are in the order of positions; :class:`.local.Local` sets
    the attributes."""

    shape: LocalShape
    grid: Groups

    @abstractmethod
    def places_of(self, first: int, last: int) -> tuple[int, int, int]:
        """The slice that these rows belong to, and their first and last position."""

    @abstractmethod
    def bias_rows(self, group: int) -> tuple[int, int]:
        """First and last bias of a group."""

    def given_objects(self) -> dict[str, list[int]]:
        """Objects in flash that hold given weights (P, O, F), biases, gamma and beta (P + 2, O), and statistics."""
        sizes = [4 * self.shape.places * self.shape.channels * self.I, 4 * self.biases, 8 * self.shape.channels]
        return {self.name("given"): sizes}

    def given(self, flash: Flash) -> tuple[Initializer, Initializer] | None:
        if self.name("given") not in flash.names():
            return None

        def weights(out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
            (k, begin, end), at = self.places_of(first, last), 0
            top, bottom = self.grid.bounds(k)
            for place in range(begin, end):
                some = out[at : at + (bottom - top) * self.I]
                self._read(flash, 0, some, (place * self.shape.channels + top) * self.I)
                at += some.size

        def biases(out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
            for k in range(len(self.grid)):
                top, bottom = self.grid.bounds(k)
                own = out[slice(*self.bias_rows(k))].reshape(-1, bottom - top)
                for place in range(self.shape.places + 2):
                    self._read(flash, 1, own[place], place * self.shape.channels + top)

        return weights, biases
