"""What the store adds to the objects of a training: a seal beside each item, and the two roots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..layers.state import plain
from ..storage.item_file import SEAL_BYTES
from .stage import Stage

#: at most these bytes of a root stand for: the run and its samples, a stage, each of its objects, each region of its
#: plan, and each number of its state
_RUN, _STAGE, _OBJECT, _REGION, _NUMBER = 768, 1200, 112, 232, 24


def seal_bytes(stages: Sequence[Stage], kept: int, outputs: int) -> int:
    """Bytes of the seals in flash when the last of these stages hands over.

    Parameters
    ----------
    stages : sequence of Stage
    kept : int
        Number of the last stages whose weights and moments are in flash.
    outputs : int
        Number of stages whose outputs are.
    """
    items = 2 + 2 * outputs + sum(layer.tiling.stream_weights for layer in stages[-1].layers)  # samples first
    items += sum(len(layer.trained_bytes) for stage in stages for layer in stage.layers)
    items += 2 * sum(sum(map(len, stage.objects().values())) for stage in stages[len(stages) - kept :])
    return SEAL_BYTES * items


def root_bytes(stages: Sequence[Stage]) -> int:
    """Most bytes of one root of a training of these stages without findings; its number of slices does not matter."""
    found = _RUN
    for stage in stages:
        objects = len(stage.objects()) + 2 * len(stage.layers) + 2
        found += _STAGE + _OBJECT * objects + _REGION * len(stage.regions()) + 2 * _NUMBER * numbers(plain(stage.state))
    return found


def numbers(state: Any) -> int:
    """Count the numbers in nested lists and dicts."""
    if isinstance(state, Mapping):
        return sum(map(numbers, state.values()))
    if isinstance(state, (list, tuple)):
        return sum(map(numbers, state))
    return 1
