"""State of a layer in training outside the arena; its size does not depend on the number of slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class State:
    """State of a layer's parameters outside the arena; stored in the root of a commit.

    The step counts and the sums of |W| (in steps of 1 / weight_unit) of all slices and groups of biases are in flash,
    after the items they belong to; those of the resident ones are here.
    """

    total: int = 0  # sum of |W| of the layer
    resident: int | None = None  # the slice in the arena
    steps: int = 0  # its optimizer steps
    sum: int = 0  # its sum of |W|
    group: int | None = None  # the group of biases whose moments are in the arena
    bias_steps: int = 0  # its optimizer steps
    dirty: bool = False  # the resident data differ from their copy in flash

    @classmethod
    def of(cls, known: State | Mapping[str, Any]) -> State:
        """A copy of a state, or of one read from a root."""
        return cls(**(known.plain() if isinstance(known, State) else known))

    def plain(self) -> dict[str, Any]:
        """As in a root."""
        return asdict(self)


def plain(state: Any) -> Any:
    """The state of a stage as a root holds it: dictionaries, lists and numbers alone."""
    if isinstance(state, State):
        return state.plain()
    if isinstance(state, Mapping):
        return {name: plain(value) for name, value in state.items()}
    return list(map(plain, state)) if isinstance(state, (list, tuple)) else state
