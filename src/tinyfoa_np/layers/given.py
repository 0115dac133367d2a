"""Initial parameters of a layer that come from another model.

When a run begins, they are written to flash in full precision, as objects of their own; a layer's initialization reads
them row by row into its slices, and the run then deletes them. So neither the other model nor memory for it is needed
later, and a run that is interrupted before it reaches a layer still has them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..storage.flash import Flash
from .encoding import Encoding

#: writes initial values for the rows and columns of a slice into a flat view
Initializer = Callable[[np.ndarray, int, int, int, int], None]


class Given:
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
    def biases(self) -> int:
        raise NotImplementedError

    def name(self, what: str) -> str:
        """Name of an object of this layer in flash."""
        raise NotImplementedError

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
