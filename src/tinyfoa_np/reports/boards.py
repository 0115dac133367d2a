"""Microcontrollers by common name: RAM, flash, and erase cycles.

The data are in ``boards.csv`` next to this module, with the source documents of each board, separated by ``;``. KiB is
1024 bytes. Definitions:

RAM
    RAM on the chip in which data of the main core can be placed. Tightly coupled data memory counts (NXP's FlexRAM as a
    whole). Instruction memory, backup RAM, caches, another core's RAM, and external SDRAM or PSRAM do not count. An
    arena is one block, so it is limited by the largest contiguous range, from which the stack and all other data must
    be subtracted. On the ESP32s the block is what ESP-IDF can link statically, as the boot code uses the rest until the
    application runs; on the S3 and the C3, code in RAM shares it.

Flash
    Erase cycles are the minimum that the maker states for any page; higher limits of some pages of the STM32U5 are
    ignored. The erase unit is that of the factory setting (one bank or two), the largest one if sectors differ.
    External flash is the flash sold on the board or module: serial NOR in all cases, with the usual 100,000 cycles.
    The Apollo4 has magnetic memory (MRAM) and the nRF54L15 resistive memory (RRAM), written in lines of 16 bytes
    without erasing. Cycles are 0, "not known", if no available document states them.

Processor
    ``fpu_bits`` is the largest width of floating-point instructions: 64, 32 or 0. ``ua_per_mhz`` is the current of
    the microcontroller alone while it computes from flash at about 3 V; 0 if no available document states it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from typing import Any

from ..errors import BadRequest

#: columns that are not integers
TEXT, REAL = ("name", "part", "core", "source"), ("ua_per_mhz",)
#: number of similar boards listed in a message if none matches
CLOSEST = 5


@dataclass(frozen=True)
class Board:
    """A microcontroller, or a board with one; for the meaning of RAM and flash see the module's documentation.

    Attributes
    ----------
    name, part, core : str
        Name for :func:`board`, maker and part number, processor.
    mhz : int
        Highest clock of the main core, MHz.
    fpu_bits : int
        Width of floating-point instructions: 64, 32 or 0.
    ua_per_mhz : float
        Current while computing, microamperes per MHz; 0 if not known.
    ram_bytes, block_bytes : int
        RAM usable for data, and its largest contiguous block, in bytes.
    flash_bytes, flash_erase_bytes, flash_cycles : int
        Flash on the chip and its erase unit, in bytes, and erase cycles, 0 if the maker does not state them; all 0 if
        there is none.
    external_flash_bytes, external_erase_bytes, external_cycles : int
        The same for external flash.
    source : str
        Source documents of the data.
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
    return read(resources.files(__package__).joinpath("boards.csv").read_text())


def read(table: str) -> dict[str, Board]:
    """Read a table in the form of ``boards.csv``: one line per board, under the names of the columns."""
    return {line["name"]: Board(**_typed(line)) for line in csv.DictReader(table.splitlines())}


def board(name: str) -> Board:
    """Find a board by name, or by a unique part of its name or part number; only letters and digits are compared.

    Raises
    ------
    BadRequest
        If there is none (the message lists similar names), or if several match.

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
    """Convert the numbers in a line of the table."""
    kinds = {**dict.fromkeys(TEXT, str), **dict.fromkeys(REAL, float)}
    return {key: kinds.get(key, int)(value) for key, value in line.items()}


def _plain(name: str) -> str:
    """Only the letters and digits, in lower case."""
    return "".join(filter(str.isalnum, name.lower()))
