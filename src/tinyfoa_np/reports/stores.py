"""The flash that stands behind the RAM: how much of it there is, in which units it is erased, how long it lasts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .boards import Board

#: of the flash that a board's program lies in, what is left to firmware
RESERVE_FLASH = 128 * 1024


@dataclass(frozen=True)
class Store:
    """The flash that stands behind the RAM.

    Attributes
    ----------
    name : str
        What it is, in words.
    nbytes : int or None
        What of it training may use; None: as much as it needs.
    cycles, unit : int
        How often a unit of so many bytes can be erased; 0 cycles where that is not known.
    """

    name: str
    nbytes: int | None = None
    cycles: int = 0
    unit: int = 1

    @classmethod
    def of(cls, board: Board, storage: str, reserve: int = RESERVE_FLASH) -> Store:
        """A board's flash, ``internal`` or ``external``, less what is reserved where the program lies in it."""
        if storage == "internal":
            name, size, unit, cycles = "internal flash", board.flash_bytes, board.flash_erase_bytes, board.flash_cycles
        else:
            name, size = "external flash", board.external_flash_bytes
            unit, cycles = board.external_erase_bytes, board.external_cycles
        unit = max(1, unit)
        if storage == "internal" or not board.flash_bytes:
            size = max(0, size - reserve)
        return cls(name, size // unit * unit, cycles, unit)

    def pages(self, writes: Iterable[tuple[float, float]]) -> float:
        """Units erased by writes: pairs of bytes of one write, and how many such writes there are."""
        return sum(-(-nbytes // self.unit) * count for nbytes, count in writes)

    def trainings(self, pages: float) -> float | None:
        """How many trainings that erase so many units it survives, its wear levelled ideally; None if not known."""
        if not self.nbytes or not self.cycles or not pages:
            return None
        return self.cycles * (self.nbytes // self.unit) / pages
