"""Vertical training: the M x M grid of a layer's weights, and which slice of it trains when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple


class Slice(NamedTuple):
    """Rows ``first`` to ``last`` (neurons), columns ``low`` to ``high`` (inputs) of a layer's weights."""

    first: int
    last: int
    low: int
    high: int

    @property
    def size(self) -> int:
        return (self.last - self.first) * (self.high - self.low)


def cuts(length: int, parts: int) -> list[int]:
    """The ``parts + 1`` bounds of a length cut as numpy.array_split does: the first parts are the longer ones."""
    short, longer = divmod(length, parts)
    return [k * short + min(k, longer) for k in range(parts + 1)]


@dataclass(frozen=True)
class Grid:
    """A layer's weights (outputs, inputs), cut into ``side`` x ``side`` slices, numbered row by row."""

    outputs: int
    inputs: int
    side: int

    def rows(self, group: int) -> tuple[int, int]:
        """First and last neuron of a group of biases (a row of slices)."""
        bounds = cuts(self.outputs, self.side)
        return bounds[group], bounds[group + 1]

    def slice(self, number: int) -> Slice:
        return _slice(self.outputs, self.inputs, self.side, number)

    def __len__(self) -> int:
        return self.side * self.side


@lru_cache(maxsize=1024)  # asked for again and again in every step
def _slice(outputs: int, inputs: int, side: int, number: int) -> Slice:
    group, column = divmod(number, side)
    rows, columns = cuts(outputs, side), cuts(inputs, side)
    return Slice(rows[group], rows[group + 1], columns[column], columns[column + 1])


@dataclass(frozen=True)
class Schedule:
    """When the next slice is due: every ``hold`` steps or, if that is 0, ``exchanges`` times in ``steps`` steps."""

    hold: int
    exchanges: int
    steps: int

    def holds(self, step: int) -> int:
        """How many holds have passed when step ``step`` (from 0) begins: hold k trains slice k mod M^2."""
        return step // self.hold if self.hold else step * self.exchanges // self.steps

    @lru_cache(maxsize=64)  # noqa: B019 - a value, not an object of which there are many
    def flushes(self, batches: int) -> int:
        """How often a slice that has trained is written back: after its hold, and at the end of an epoch of so many."""
        changes = {self.begins(hold) for hold in range(1, self.holds(self.steps - 1) + 1)}
        return len(changes | set(range(batches, self.steps + 1, batches)))

    def begins(self, hold: int) -> int:
        """The step with which a hold begins; it may lie behind the last step."""
        return hold * self.hold if self.hold else -(-hold * self.steps // self.exchanges)
