"""RAM needed outside the arena: the state of the stage in training, and the tables of the store in flash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..rules.fit import Chosen

#: bytes per number of the state, and per item in flash: its slot, checksum and write count
NUMBER, ITEM = 8, 12


def bookkeeping_bytes(chosen: Sequence[Chosen]) -> int:
    """Bytes of RAM outside the arena, for the stage that needs most.

    Parameters
    ----------
    chosen : sequence of Chosen
        The stages; their tiling does not matter.
    """
    stages = [one.stage for one in chosen]
    return max(NUMBER * _numbers(stage.state) + ITEM * sum(map(len, stage.objects().values())) for stage in stages)


def _numbers(state: Any) -> int:
    """Count the numbers in nested lists and dicts."""
    if isinstance(state, Mapping):
        return sum(map(_numbers, state.values()))
    if isinstance(state, (list, tuple)):
        return sum(map(_numbers, state))
    return 1
