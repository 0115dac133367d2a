"""What is known of a layer in training beside the bytes of its regions."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class State:
    """What is known of a layer's parameters beside the arena's bytes; a commit's root carries it."""

    steps: list[int]  # optimizer steps of each slice
    bias_steps: list[int]  # and of each group of biases
    sums: list[int] = field(default_factory=list)  # sum of |W| of each slice, in steps of 1 / weight_unit
    resident: int | None = None  # the slice in the arena
    group: int | None = None  # the group of biases whose moments are in the arena
    dirty: bool = False  # what is resident differs from its copy in flash
