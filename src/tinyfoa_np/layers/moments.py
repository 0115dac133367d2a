"""Storage formats of an optimizer's moments of weights, in RAM and in flash: four, two or one bytes each.

Moments of one or two bytes are codes; :mod:`tinyfoa_np.reference.moments` defines their values and rounding. Moments of
biases stay float32: there are only as many as neurons, a thousandth of the weights' or less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.dense_update import BLOCK


@dataclass(frozen=True)
class Format:
    """A storage format of moments.

    Parameters
    ----------
    dtype : str
        NumPy dtype of an element.
    scaled : bool
        Whether each block of columns has its own unit, stored in a byte.
    """

    dtype: str
    scaled: bool = False

    @property
    def coded(self) -> bool:
        """Whether elements are codes, not numbers."""
        return self.dtype != "float32"

    def units(self, width: int) -> int:
        """Units per row of ``width`` columns: each row begins with a new block, so that rows are independent."""
        return -(-width // BLOCK) if self.scaled else 0

    def row_bytes(self, width: int) -> int:
        """Bytes of one moment of a row of ``width`` columns."""
        return width * np.dtype(self.dtype).itemsize + self.units(width)


#: formats by their names in a recipe
FORMATS = {"float32": Format("float32"), "bfloat16": Format("uint16"), "int8": Format("uint8", scaled=True)}
