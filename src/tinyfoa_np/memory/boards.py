"""Microcontrollers by the name a user would type: their RAM, their flash, and how often it can be erased.

``boards.csv`` beside this module holds them, each with the documents its numbers are from, separated by ``;``. KiB is
1024 bytes. What counts:

RAM
    On the chip, where data of the main core can lie: tightly coupled data memory counts (NXP's FlexRAM whole);
    instruction memory, backup RAM, what caches take, another core's own RAM, and SDRAM or PSRAM beside the chip do
    not. An arena is one block, so the largest run of addresses limits it, and from above: the stack and all other
    data want RAM, too. On the ESP32s the block is what ESP-IDF can link statically, as the boot code has the rest
    until the application runs; on the S3 and the C3, code in RAM shares it.

Flash
    Erase cycles are the least that the maker states for any page; that some pages of the STM32U5 may go further is
    left aside. The erase unit is that of the factory setting (one bank or two), the largest where sectors differ.
    External flash is what is sold on the board or module: serial NOR everywhere, with its usual 100,000 cycles.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from math import inf
from typing import Any

from ..errors import BadRequest

#: the columns that are not numbers
TEXT = ("name", "part", "core", "source")


@dataclass(frozen=True)
class Board:
    """A microcontroller, or a board with one; what counts as RAM and flash is said at the top of this module.

    Attributes
    ----------
    name, part, core : str
        What :func:`board` finds it by, its maker and part number, its processor.
    mhz : int
        Highest clock of the main core, MHz.
    ram_bytes, block_bytes : int
        RAM that data can lie in, and the largest contiguous block of it, bytes.
    flash_bytes, flash_erase_bytes, flash_cycles : int
        Flash on the chip and the unit it is erased in, bytes, and erase cycles; all 0 where there is none.
    external_flash_bytes, external_erase_bytes, external_cycles : int
        The same of the flash beside the chip.
    source : str
        Documents the numbers are from.
    """

    name: str
    part: str
    core: str
    mhz: int
    ram_bytes: int
    block_bytes: int
    flash_bytes: int
    flash_erase_bytes: int
    flash_cycles: int
    external_flash_bytes: int
    external_erase_bytes: int
    external_cycles: int
    source: str

    def trainings(self, bytes_written: int, bytes_available: int | None = None, *, external: bool = False) -> float:
        """How many trainings a flash survives: erase cycles x bytes available / bytes written.

        Wear is levelled ideally, that is, all erase units of the available bytes are erased equally often, and none
        before it is full.

        Parameters
        ----------
        bytes_written : int
            What one training writes, bytes.
        bytes_available : int, optional
            What of the flash is free for it, bytes, of which whole erase units are used; all of it by default.
        external : bool
            The flash beside the chip instead of that on it.

        Returns
        -------
        float
            Below 1 if it does not survive one, 0 if there is no such flash, infinite if nothing is written.

        Raises
        ------
        BadRequest
            If more is to be available than there is.

        Examples
        --------
        >>> board("stm32h743").trainings(2 * 10**9)
        10.48576
        """
        size, unit, cycles = (
            (self.external_flash_bytes, self.external_erase_bytes, self.external_cycles)
            if external
            else (self.flash_bytes, self.flash_erase_bytes, self.flash_cycles)
        )
        available = size if bytes_available is None else bytes_available
        if not 0 <= available <= size:
            raise BadRequest(f"{available:,} bytes of flash are not available: {self.name} has {size:,} there")
        if not size:
            return 0.0
        return cycles * (available // unit * unit) / bytes_written if bytes_written else inf


def boards() -> dict[str, Board]:
    """All boards by name, in the order of the table."""
    text = resources.files(__package__).joinpath("boards.csv").read_text()
    return {line["name"]: Board(**_typed(line)) for line in csv.DictReader(text.splitlines())}


def board(name: str) -> Board:
    """The board of that name, of which only letters and digits matter, not whether they are capitals.

    Raises
    ------
    BadRequest
        If there is none, naming those that are called nearly so, or whose name or part has it in it.

    Examples
    --------
    >>> board("ESP32 S3").block_bytes
    341760
    """
    known = {_plain(each.name): each for each in boards().values()}
    wanted = _plain(name)
    if wanted in known:
        return known[wanted]
    near = [key for key, each in known.items() if wanted and (wanted in key or wanted in _plain(each.part))]
    near += [key for key in get_close_matches(wanted, known) if key not in near]
    names = ", ".join(known[key].name for key in near or known)
    raise BadRequest(f"unknown board {name[:40]!r}; {'near are' if near else 'known are'} {names}")


def _typed(line: dict[str, str]) -> dict[str, Any]:
    """A line of the table with its numbers as such."""
    return {key: value if key in TEXT else int(value) for key, value in line.items()}


def _plain(name: str) -> str:
    """Only the letters and digits, in lower case."""
    return "".join(filter(str.isalnum, name.lower()))
