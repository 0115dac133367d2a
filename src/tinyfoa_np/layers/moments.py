"""How an optimizer's moments of a slice's weights are held, in RAM as in flash: in four bytes each, in two, or in one.

Moments in two bytes or one are codes; :mod:`tinyfoa_np.reference.moments` says which numbers they stand for, and how
they are rounded. Those of biases stay float32: there are as many as neurons, a thousandth of the weights' or less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.dense_update import BLOCK


@dataclass(frozen=True)
class Format:
    """A way of holding moments.

    Parameters
    ----------
    dtype : str
        Of an element.
    scaled : bool
        Whether each block of columns has a unit of its own, a byte.
    """

    dtype: str
    scaled: bool = False

    @property
    def coded(self) -> bool:
        """Whether elements are codes, in place of numbers."""
        return self.dtype != "float32"

    def units(self, width: int) -> int:
        """Units of a slice's row of ``width`` columns: rows begin with a new block, so that any of them stand alone."""
        return -(-width // BLOCK) if self.scaled else 0

    def row_bytes(self, width: int) -> int:
        """Bytes of one moment of a row of ``width`` columns."""
        return width * np.dtype(self.dtype).itemsize + self.units(width)


#: by their names in a recipe
FORMATS = {"float32": Format("float32"), "bfloat16": Format("uint16"), "int8": Format("uint8", scaled=True)}
