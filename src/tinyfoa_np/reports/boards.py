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
    The Apollo4's is magnetic (MRAM) and the nRF54L15's resistive (RRAM), written in lines of 16 bytes without an
    erasure. Cycles are 0, "not known", where no document at hand states them.

Processor
    ``fpu_bits`` is the widest number that it computes with by instruction: 64, 32 or 0. ``ua_per_mhz`` is the current
    of the microcontroller alone while it computes from flash at about 3 V; 0 where no document at hand states it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from typing import Any

from ..errors import BadRequest

#: the columns that are not whole numbers
TEXT, REAL = ("name", "part", "core", "source"), ("ua_per_mhz",)
#: boards that a message lists where none has the name that was given
CLOSEST = 5


@dataclass(frozen=True)
class Board:
    """A microcontroller, or a board with one; what counts as RAM and flash is said at the top of this module.

    Attributes
    ----------
    name, part, core : str
        What :func:`board` finds it by, its maker and part number, its processor.
    mhz : int
        Highest clock of the main core, MHz.
    fpu_bits : int
        Width of the floating-point numbers that it has instructions for: 64, 32 or 0.
    ua_per_mhz : float
        Current while it computes, microamperes per MHz; 0 where it is not known.
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
    fpu_bits: int
    ua_per_mhz: float
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
    """The board of that name, or the only one with it in its name or part; only letters and digits matter.

    Raises
    ------
    BadRequest
        If there is none, naming those with the closest names, or if several have it.

    Examples
    --------
    >>> board("ESP32 S3").block_bytes
    341760
    >>> board("nano 33").name
    'arduino-nano-33-ble-sense'
    """
    known = {_plain(each.name): each for each in boards().values()}
    wanted = _plain(name)
    if wanted in known:
        return known[wanted]
    parts = [each for key, each in known.items() if wanted and (wanted in key or wanted in _plain(each.part))]
    if len(parts) == 1:
        return parts[0]
    if parts:
        raise BadRequest(f"several boards have {name[:40]!r} in their name: {', '.join(each.name for each in parts)}")
    near = get_close_matches(wanted, known, n=CLOSEST, cutoff=0.0)
    names = ", ".join(known[key].name for key in near)
    raise BadRequest(f"unknown board {name[:40]!r}; the closest are {names} (tinyfoa plan --boards shows all)")


def _typed(line: dict[str, str]) -> dict[str, Any]:
    """A line of the table with its numbers as such."""
    kinds = {**dict.fromkeys(TEXT, str), **dict.fromkeys(REAL, float)}
    return {key: kinds.get(key, int)(value) for key, value in line.items()}


def _plain(name: str) -> str:
    """Only the letters and digits, in lower case."""
    return "".join(filter(str.isalnum, name.lower()))
