"""The flash and RAM of a board, as the trainer in C sees them."""

from __future__ import annotations

from ..model.c_layout import NOR, Store
from .boards import Board

#: of a board's RAM, what is left to the stack and to the program's own data
RESERVE = 8 * 1024
#: bytes that some makers' flash is programmed by, by how their boards' names begin; others 8
UNITS = {
    "stm32h7": 32,
    "arduino-portenta": 32,
    "stm32u5": 16,
    "stm32f1": 2,
    "stm32f4": 4,
    "stm32f7": 4,
    "nrf": 4,
    "microbit": 4,
    "arduino-nano": 4,
    "xiao": 4,
    "samd": 64,
    "adafruit": 64,
    "apollo": 16,
    "cc13": 1,
}


def internal(board: Board) -> Store:
    """The flash that a board's program lies in, or the one beside the chip where that is all."""
    if not board.flash_bytes:
        unit = 256 if board.name.startswith("rp2") else NOR.unit
        return Store(
            "external flash", board.external_erase_bytes, unit, False, board.external_flash_bytes, board.external_cycles
        )
    unit = next((unit for name, unit in UNITS.items() if board.name.startswith(name)), 8)
    page = max(board.flash_erase_bytes, 256)
    return Store("internal flash", page, unit, False, board.flash_bytes, board.flash_cycles)
