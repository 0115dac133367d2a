"""RAM needed outside the arena: the state of the stage in training, and what the store knows of its objects."""

from __future__ import annotations

from collections.abc import Sequence

from ..layers.state import plain
from ..rules.fit import Chosen
from ..rules.flash_overhead import numbers

#: bytes per number of the state, and per object in flash: two sums, and of its current item the number, slot, seal
#: (24 bytes) and the end of the last write; sizes and places follow from the shapes
NUMBER, OBJECT = 8, 64
#: objects beside those of stages: two sets of samples, and outputs that a stage reads and writes
_OTHERS = 2 + 4


def bookkeeping_bytes(chosen: Sequence[Chosen]) -> int:
    """Bytes of RAM outside the arena, for the stage that needs most: the number of its slices does not matter.

    Parameters
    ----------
    chosen : sequence of Chosen
        The stages; their tiling does not matter.
    """
    found, objects = 0, _OTHERS
    for stage in (one.stage for one in chosen):
        objects += len(stage.objects()) + len(stage.layers)  # those of trained stages stay
        found = max(found, NUMBER * numbers(plain(stage.state)) + OBJECT * objects)
    return found
