"""RAM: one block of bytes that holds all of training's arrays, and the instruments that measure its use.

The block is the caller's or allocated here; no number that training needs is stored elsewhere. An :class:`Arena` hands
out exactly the regions placed by a :class:`~tinyfoa_np.ram.packing.Plan`, each view once, and measures afterwards which
bytes were used:

planned
    the end of the last region, from the plan;
accounted
    the same for the regions really handed out;
watermark
    the end of the last byte that no longer holds the fill pattern, as an RTOS measures its stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..errors import BadRequest
from .packing import ALIGNMENT, Plan, Region
from .phases import PHASES

PATTERN = 0xA5
POISON = 0xFF  # a float32 or float64 made of these bytes is NaN
#: bytes after the plan that must stay untouched if the arena allocates its own block
GUARD = 4096
_SCAN = 16384


class Views:
    """The arrays of some regions: ``views.labels``, or ``views["update.dz"]`` for computed names or names with dots.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Becomes the object's own.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        object.__setattr__(self, "__dict__", arrays)

    def __getattr__(self, name: str) -> np.ndarray:
        raise AttributeError(f"there is no view of a region {name!r}")

    def __setattr__(self, name: str, array: np.ndarray) -> None:
        self.__dict__[name] = array

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __getitem__(self, name: str) -> np.ndarray:
        view: np.ndarray = getattr(self, name)
        return view


class Arena:
    """A preallocated block of bytes.

    Parameters
    ----------
    block : int or writable buffer
        A size in bytes, or the caller's own memory, which must be aligned to 64 bytes.
    poison : bool
        Overwrite a region when its lifetime ends, so that stale reads are visible (audit mode).

    Raises
    ------
    BadRequest
        If there is not enough memory for the block.
    ValueError
        If a caller's buffer is read-only or not aligned.
    """

    def __init__(self, block: int | bytearray | memoryview | np.ndarray, poison: bool = False) -> None:
        if isinstance(block, int):
            try:
                raw = np.empty(block + GUARD + ALIGNMENT, np.uint8)
            except (MemoryError, ValueError) as error:
                raise BadRequest(f"this machine cannot give {block:,} bytes of RAM: train a smaller network") from error
            start = -raw.ctypes.data % ALIGNMENT
            self.block, self.nbytes = raw[start : start + block + GUARD], block
        else:
            self.block = np.frombuffer(block, np.uint8)
            self.nbytes = self.block.size
            if not self.block.flags.writeable or self.block.ctypes.data % ALIGNMENT:
                raise ValueError(f"the arena's buffer must be writable and aligned to {ALIGNMENT} bytes")
        self.poison = poison
        self.watch: Callable[[str], None] | None = None  # called before a phase begins, instead of poisoning
        self._ended: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
        self.phase = PHASES[0]
        self.plan = Plan((), {})
        self.taken: dict[str, Region] = {}
        self._highest = 0
        # preallocated: measuring must not allocate either
        self._changed = np.zeros(_SCAN, bool)
        self._written = np.zeros(self.block.size if poison else 0, bool)
        self.fill(PATTERN)

    def lay_out(self, plan: Plan, seen: int = 0) -> None:
        """Start over with another plan and a fresh pattern; earlier views become invalid.

        Parameters
        ----------
        plan : Plan
        seen : int
            Watermark of an earlier process, for a resumed run.

        Raises
        ------
        ValueError
            If the plan is larger than the block.
        """
        if plan.nbytes > self.nbytes:
            raise ValueError(f"a plan of {plan.nbytes} bytes does not fit a block of {self.nbytes}")
        self.plan, self.taken, self.phase, self._highest, self._ended = plan, {}, PHASES[0], seen, {}
        self.fill(PATTERN)

    def take(self, name: str) -> np.ndarray:
        """View of a planned region, with the declared shape and dtype. Each region is handed out once.

        Raises
        ------
        ValueError
            If the region was not planned or was taken before.
        """
        if name in self.taken or name not in self.plan.offsets:
            raise ValueError(f"region {name!r} was {'taken before' if name in self.taken else 'not planned'}")
        region = self.plan.region(name)
        self.taken[name] = region
        return self._bytes(region).view(region.dtype).reshape(region.shape)

    def views(self, regions: Iterable[Region], prefix: str = "") -> Views:
        """Views of the planned ones among these regions, by name without the common prefix."""
        return Views(
            {
                region.name.removeprefix(prefix): self.take(region.name)
                if region.nbytes
                else self.block[:0].view(region.dtype).reshape(region.shape)
                for region in regions
                if region.name in self.plan.offsets or not region.nbytes
            }
        )

    def _bytes(self, region: Region) -> np.ndarray:
        offset = self.plan.offsets[region.name]
        return self.block[offset : offset + region.nbytes]

    def enter(self, phase: str) -> None:
        """Begin a phase; with ``poison``, overwrite the written parts of regions whose lifetime has ended."""
        if phase != self.phase:
            if self.watch:
                self.watch(phase)
            elif self.poison:
                self.overwrite_ended(phase)
            self.phase = phase

    def overwrite_ended(self, phase: str) -> None:
        """Overwrite the written parts of regions that are not live in a phase."""
        change = self.phase, phase
        if change not in self._ended:
            ended = [r for r in self.taken.values() if r.lives(self.phase) and not r.lives(phase)]
            self._ended[change] = [(self._bytes(r), self._written[: r.nbytes]) for r in ended]
        for view, written in self._ended[change]:
            np.not_equal(view, PATTERN, out=written)  # bytes never written must keep the pattern
            np.copyto(view, POISON, where=written)

    def fill(self, pattern: int) -> None:
        """Overwrite the whole block."""
        self.block[:] = pattern

    def watermark(self) -> int:
        """Bytes up to the last changed byte, the maximum over all calls since the plan was laid out."""
        for end in range(self.block.size, self._highest, -_SCAN):
            begin = max(end - _SCAN, self._highest)
            if self._changed_in(begin, end):
                while end - begin > 1:  # bisection, as any other search would allocate
                    middle = (begin + end) // 2
                    begin, end = (middle, end) if self._changed_in(middle, end) else (begin, middle)
                self._highest = end
                break
        return self._highest

    def _changed_in(self, begin: int, end: int) -> bool:
        """Whether any of these bytes no longer holds the pattern."""
        changed = self._changed[: end - begin]
        np.not_equal(self.block[begin:end], PATTERN, out=changed)
        return bool(np.count_nonzero(changed))

    @property
    def accounted(self) -> int:
        """The end of the last region handed out, in bytes."""
        return max((self.plan.offsets[name] + region.nbytes for name, region in self.taken.items()), default=0)

    def accounted_in(self, phase: str) -> int:
        """Bytes of the regions handed out that are live in a phase, counted as in :meth:`.Plan.phase_bytes`."""
        return self.plan.most_bytes(phase, self.taken.values())
