"""The flash used with the RAM: its size, its erase unit, and its endurance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .boards import Board

#: bytes of a board's program flash reserved for firmware
RESERVE_FLASH = 128 * 1024


@dataclass(frozen=True)
class Store:
    """The flash used with the RAM.

    Attributes
    ----------
    name : str
        Its name in words.
    nbytes : int or None
        Bytes available to training; None for as many as needed.
    cycles, unit : int
        Number of times that a unit of ``unit`` bytes can be erased; 0 cycles if not known.
    """

    name: str
    nbytes: int | None = None
    cycles: int = 0
    unit: int = 1

    @classmethod
    def of(cls, board: Board, storage: str, reserve: int = RESERVE_FLASH) -> Store:
        """A board's flash, ``internal`` or ``external``, minus the reserve if it holds the program."""
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
        """Units erased by writes, given as pairs of bytes per write and number of writes."""
        return sum(-(-nbytes // self.unit) * count for nbytes, count in writes)

    def trainings(self, pages: float) -> float | None:
        """Number of trainings, each erasing ``pages`` units, until wear-out with ideal levelling; None if not known."""
        if not self.nbytes or not self.cycles or not pages:
            return None
        return self.cycles * (self.nbytes // self.unit) / pages
