"""Vertical training: the grid of a layer's weights, M x M slices or groups of output channels, and the schedule."""

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


@lru_cache(maxsize=1024)  # called often with the same arguments while planning
def cuts(length: int, parts: int) -> tuple[int, ...]:
    """The ``parts + 1`` bounds of a length cut as in numpy.array_split: the first parts are the longer ones."""
    short, longer = divmod(length, parts)
    return tuple(k * short + min(k, longer) for k in range(parts + 1))


@dataclass(frozen=True)
class Grid:
    """A layer's weights (outputs, inputs), divided into ``side`` x ``side`` slices, numbered row by row."""

    outputs: int
    inputs: int
    side: int

    def rows(self, group: int) -> tuple[int, int]:
        """First and last neuron of a group of biases (a row of slices)."""
        bounds = cuts(self.outputs, self.side)
        return bounds[group], bounds[group + 1]

    def slice(self, number: int) -> Slice:
        side = self.side
        group, column = divmod(number, side)
        rows, more_rows = divmod(self.outputs, side)
        columns, more_columns = divmod(self.inputs, side)
        first, low = group * rows + min(group, more_rows), column * columns + min(column, more_columns)
        return Slice(first, first + rows + (group < more_rows), low, low + columns + (column < more_columns))

    @property
    def across(self) -> int:
        """Number of slices that share their neurons."""
        return self.side

    def __len__(self) -> int:
        return self.side * self.side


@dataclass(frozen=True)
class Groups:
    """A locally connected layer's weights, divided into ``side`` groups of output channels, each of which is a slice.

    Rows are ordered by group: the first group's channels at the first position, at the second, and so on, then the next
    group's. Columns are the weights of one channel at one position.
    """

    channels: int
    places: int
    fan_in: int
    side: int

    across = 1

    def bounds(self, group: int) -> tuple[int, int]:
        """First and last channel of a group."""
        bounds = cuts(self.channels, self.side)
        return bounds[group], bounds[group + 1]

    def rows(self, group: int) -> tuple[int, int]:
        """First and last row of a group."""
        first, last = self.bounds(group)
        return first * self.places, last * self.places

    def slice(self, number: int) -> Slice:
        return Slice(*self.rows(number), 0, self.fan_in)

    def __len__(self) -> int:
        return self.side


#: orders of slices: neuron group by neuron group, or such that M consecutive slices share no row or column
ORDERS = ("rows", "diagonal")


@dataclass(frozen=True)
class Schedule:
    """When slices are exchanged: every ``hold`` steps or, if that is 0, ``exchanges`` times in ``steps`` steps.

    Turns are counted from 0 over the whole training; each hold has ``visits`` turns.
    """

    hold: int
    exchanges: int
    steps: int
    visits: int = 1
    order: str = ORDERS[0]
    groups: bool = False  # slices are M groups of channels, not M^2 slices

    def holds(self, step: int) -> int:
        """Holds completed at the beginning of step ``step`` (from 0); hold k has turns k visits and following."""
        return step // self.hold if self.hold else step * self.exchanges // self.steps

    def slice_of(self, turn: int, side: int) -> int:
        """The slice of a turn; M^2 consecutive turns, starting at a multiple of M^2, visit all slices."""
        if self.groups:
            return turn % side
        diagonal, group = divmod(turn % side**2, side)
        return group * side + (diagonal + group) % side if self.order == "diagonal" else turn % side**2

    def slices(self, hold: int, side: int) -> list[int]:
        """The slices that train in each step of a hold, in order."""
        return [self.slice_of(turn, side) for turn in range(hold * self.visits, (hold + 1) * self.visits)]

    def neurons(self, hold: int, grid: Grid | Groups) -> tuple[int, int]:
        """First and last neuron of the range that these slices span."""
        groups = [k // grid.across for k in self.slices(hold, grid.side)]
        return grid.rows(min(groups))[0], grid.rows(max(groups))[1]

    def begun(self, slices: int) -> dict[int, int]:
        """The holds that have steps, each with its first step, up to the point where the slices repeat."""
        if self.exchanges > self.steps:  # every step is then in another hold, and some holds have no steps
            return {self.holds(step): step for step in range(self.steps)}
        # after at most as many holds as there are slices, the same slices repeat
        return {hold: self.begins(hold) for hold in range(min(slices, self.holds(self.steps - 1) + 1))}

    @lru_cache(maxsize=64)  # noqa: B019 - a value, not an object of which there are many
    def first_steps(self, side: int) -> dict[int, int]:
        """The slices that are trained at some time, each with its first step."""
        first: dict[int, int] = {}
        for hold, step in self.begun(side**2).items():
            for number in self.slices(hold, side):
                first.setdefault(number, step)
        return first

    @lru_cache(maxsize=64)  # noqa: B019 - a value, not an object of which there are many
    def flushes(self, batches: int) -> int:
        """Number of times that trained slices are written back: after each hold, and at the end of each epoch."""
        changes = {self.begins(hold) for hold in range(1, self.holds(self.steps - 1) + 1)}
        return len(changes | set(range(batches, self.steps + 1, batches)))

    def begins(self, hold: int) -> int:
        """The first step of a hold; it may be after the last step."""
        return hold * self.hold if self.hold else -(-hold * self.steps // self.exchanges)


@lru_cache(maxsize=64)
def widest_step(schedule: Schedule, grid: Grid | Groups) -> int:
    """The first step that trains the widest range of neurons."""
    if schedule.visits == 1:
        return 0  # the first group is among the largest

    def rows(step: int) -> int:
        first, last = schedule.neurons(schedule.holds(step), grid)
        return last - first

    return max(schedule.begun(len(grid)).values(), key=rows)
