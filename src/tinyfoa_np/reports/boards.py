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
    The Apollo4's is magnetic (MRAM), written in lines of 16 bytes without an erasure; of how often, its maker's public
    documents say nothing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
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
        Flash on the chip and the unit it is erased in, bytes, and erase cycles, 0 where the maker does not say how
        many; all 0 where there is none.
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
