"""What is known of a layer in training beside the bytes of its regions; it does not grow with the number of slices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class State:
    """Numbers that a commit's root carries.

    Step counts and sums of |W| (in steps of 1 / weight_unit) lie in flash, with the slices and groups of biases they
    belong to; those of what is resident are here.
    """

    total: int = 0  # sum of |W| of the layer
    resident: int | None = None  # the slice in the arena
    steps: int = 0  # its optimizer steps
    sum: int = 0  # its sum of |W|
    group: int | None = None  # the group of biases whose moments are in the arena
    bias_steps: int = 0  # its optimizer steps
    dirty: bool = False  # what is resident differs from its copy in flash
