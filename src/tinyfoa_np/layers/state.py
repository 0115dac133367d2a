"""State of a layer in training outside the arena."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class State:
    """State of a layer's parameters outside the arena; stored in the root of a commit."""

    steps: list[int]  # optimizer steps of each slice
    bias_steps: list[int]  # optimizer steps of each group of biases
    sums: list[int] = field(default_factory=list)  # sum of |W| of each slice, in steps of 1 / weight_unit
    resident: int | None = None  # the slice in the arena
    group: int | None = None  # the group of biases whose moments are in the arena
    dirty: bool = False  # the resident data differ from their copy in flash
