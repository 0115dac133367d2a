"""Sizes of many items in a few numbers: what the store keeps of an object does not grow with its items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, repeat
from typing import Any, overload

#: most items of one object
MOST_ITEMS = 1 << 22


@dataclass(frozen=True, slots=True)
class Sizes(Sequence[int]):
    """Sizes of items in bytes: lines of runs, as the slices of a layer have at most four different sizes.

    Attributes
    ----------
    lines : tuple of (int, tuple of (int, int))
        How often a line is repeated, and its runs: the number of items, and the size of each.
    """

    lines: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]

    @classmethod
    def of(cls, sizes: Iterable[int], line: int | None = None) -> Sizes:
        """Compress sizes, ``line`` at a time: for a grid, its columns; by default all at once."""
        if isinstance(sizes, Sizes):
            return sizes
        rest = iter(sizes)
        lines: list[tuple[int, tuple[tuple[int, int], ...]]] = []
        while runs := tuple((len(list(same)), int(size)) for size, same in groupby(islice(rest, line))):
            if lines and lines[-1][1] == runs:
                lines[-1] = lines[-1][0] + 1, runs
            else:
                lines.append((1, runs))
        return cls(tuple(lines))

    @classmethod
    def parsed(cls, lines: Any) -> Sizes:
        """Take lines from untrusted JSON; raises ValueError or TypeError if they are not sizes of items."""
        found = cls(tuple((times, tuple((count, size) for count, size in line)) for times, line in lines))
        counts = [times for times, _ in found.lines] + [count for _, line in found.lines for count, _ in line]
        sizes = [size for _, line in found.lines for _, size in line]
        if not all(type(number) is int for number in counts + sizes) or min(counts, default=1) < 1:
            raise ValueError("counts of items")
        if min(sizes, default=0) < 0 or found.total >= 2**60 or found.items > MOST_ITEMS:
            raise ValueError("sizes of items")
        return found

    @property
    def total(self) -> int:
        """Sum of all sizes."""
        return sum(times * sum(count * size for count, size in line) for times, line in self.lines)

    @property
    def items(self) -> int:
        """Number of items; ``len`` cannot return numbers beyond the largest index."""
        return sum(times * sum(count for count, _ in line) for times, line in self.lines)

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[int]:
        for times, line in self.lines:
            for _ in range(times):
                yield from chain.from_iterable(repeat(size, count) for count, size in line)

    @overload
    def __getitem__(self, item: int) -> int: ...

    @overload
    def __getitem__(self, item: slice) -> tuple[int, ...]: ...

    def __getitem__(self, item: int | slice) -> int | tuple[int, ...]:
        if isinstance(item, slice):
            return tuple(self)[item]
        return next(islice(self, range(len(self))[item], None))
