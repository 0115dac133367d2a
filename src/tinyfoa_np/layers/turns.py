"""Which slices of a layer train in which step, and the columns and tiles that each has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..slices import Grid, Groups, Schedule, widest_step
from .encoding import Encoding


class Turns:
    """What follows from a layer's slices and schedule alone; :class:`.parameters.Parameters` sets the attributes.

    Attributes
    ----------
    kind : str
        The schedule's name, or ``none`` where all of the layer trains and is resident.
    grid : Grid or Groups
        The slices.
    schedule : Schedule
    inputs : Encoding
        What the layer reads.
    O : int
        Outputs.
    cut : int
        Neurons of a tile.
    """

    kind: str | None
    grid: Grid | Groups
    schedule: Schedule
    inputs: Encoding
    O: int
    cut: int

    def visited(self) -> Collection[int]:
        """The slices that are trained at some time."""
        if self.kind != "slice":
            return range(len(self.grid))
        return self.schedule.first_steps(self.grid.side).keys()

    def widest_steps(self) -> set[int]:
        """Steps that reach the maximum of the arena's use: the widest runs, the most words, and the most neurons.

        These are the first such steps.
        """
        if self.kind != "slice":
            return {0}
        first = self.schedule.first_steps(self.grid.side)
        widest = first[max(sorted(first), key=self.width)]
        return {widest, self.most_columns()[1], widest_step(self.schedule, self.grid)}

    def width(self, k: int) -> int:
        """Columns of slice k."""
        part = self.grid.slice(k)
        return part.high - part.low

    def columns(self, k: int) -> int:
        """Elements of a sample's row that hold the inputs of slice k; for packed bits, whole words."""
        begin, end = self.column_range(k)
        return end - begin

    def column_range(self, k: int) -> tuple[int, int]:
        """First and last of these elements."""
        part = self.grid.slice(k)
        return (part.low // 64, -(-part.high // 64)) if self.inputs.kind == "bits" else (part.low, part.high)

    def most_columns(self) -> tuple[int, int]:
        """Maximum total columns of the slices of a step, each stored separately, and the first step that reaches it."""

        def together(step: int) -> int:
            return sum(map(self.columns, self.due(step)))

        steps = self.schedule.begun(len(self.grid)).values() if self.kind == "slice" else (0,)
        step = max(steps, key=together)
        return together(step), step

    def tiles(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Divide neurons ``first`` to ``last`` into tiles, cut at multiples of their size: first and last of each."""
        while first < last:
            stop = min(last, (first // self.cut + 1) * self.cut)
            yield first, stop
            first = stop

    def due(self, step: int) -> Sequence[int]:
        """The slices that train in a step, in the order in which they become resident."""
        if self.kind == "slice":
            return self.schedule.slices(self.schedule.holds(step), self.grid.side)
        everyone = range(len(self.grid))
        return everyone[::-1] if step % 2 else everyone  # alternate, so that the resident slice is not reloaded

    def first_trained(self, step: int | None) -> int:
        """The first neuron that trains in a step."""
        if step is None or self.kind != "slice":
            return 0
        return self.schedule.neurons(self.schedule.holds(step), self.grid)[0]

    @property
    def trained_rows(self) -> int:
        """Maximum number of neurons between the first and the last that train in a step."""
        if self.kind != "slice":
            return self.O
        first, last = self.schedule.neurons(self.schedule.holds(widest_step(self.schedule, self.grid)), self.grid)
        return last - first
