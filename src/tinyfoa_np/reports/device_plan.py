"""Memory needs of the C trainer on a device, computed in advance: the plan of ``tinyfoa plan --to c-trainer``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Dataset
from ..model.c_layout import NOR, ROOT_PAGES, STATE_BYTES, CLayout, Store, fit
from ..recipe import Recipe
from .board_time import ASSUMES, VOLTS
from .boards import Board
from .instructions import CODE, KINDS, STACK, instructions, kind_of
from .stores import RESERVE_FLASH

#: bytes of a board's RAM reserved for the stack and the program's own data
RESERVE = 8 * 1024
#: bytes of a root record in flash, before it is rounded up to whole program units
ROOT_BYTES = 64
#: program unit of some makers' flash in bytes, by prefix of the board's name; 8 for others
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
    """The flash that holds a board's program, or its external flash if it has no other."""
    if not board.flash_bytes:
        unit = 256 if board.name.startswith("rp2") else NOR.unit
        return Store(
            "external flash", board.external_erase_bytes, unit, False, board.external_flash_bytes, board.external_cycles
        )
    unit = next((unit for name, unit in UNITS.items() if board.name.startswith(name)), 8)
    page = max(board.flash_erase_bytes, 256)
    return Store("internal flash", page, unit, False, board.flash_bytes, board.flash_cycles)


def room(board: Board, ram: int | None, reserve: int = RESERVE) -> int:
    """Bytes of a board's RAM for the arena, limited by ``ram``."""
    left = max(0, board.block_bytes - reserve)
    return left if ram is None else min(ram, left)


def device_plan(
    recipe: Recipe,
    dataset: Dataset,
    store: Store,
    mapped: bool,
    ram: int | None,
    board: Board | None = None,
    reserve_flash: int = RESERVE_FLASH,
) -> dict[str, Any]:
    """The memory needs of a training on a device, for the layout of the C trainer.

    Parameters
    ----------
    recipe, dataset
        As for :class:`tinyfoa_np.rules.fit.Layout`.
    store : Store
        The flash to train in.
    mapped : bool
        Whether the samples are in memory that can be read in place.
    ram : int or None
        Bytes for the arena; None for no limit.
    board : Board, optional
        For its clock, current and processor; without it, instructions are those of a Cortex-M7 with double precision.
    reserve_flash : int
        Bytes of the program's flash reserved for firmware and the trainer's code.

    Returns
    -------
    dict
        ``fits``; ``ram``: ``arena_bytes`` as in the binary, ``budget_bytes``, and what is ``streamed``; ``stack_bytes``
        and ``code_bytes``, the maxima measured; ``constants_bytes`` of the program: projections and, if mapped,
        ``samples_bytes``; ``flash``: ``held_bytes`` of ``nbytes`` (None if not known), ``erased_pages`` of
        ``page_bytes`` and ``written_bytes`` in the whole training, ``trainings`` until wear-out, with a board
        ``program_bytes`` (reserve and constants) of ``program_nbytes``; ``layers``: arena and
        ``instructions_per_step``; ``time``: ``seconds_per_epoch`` of the slowest layer, ``seconds`` and ``joules`` of
        the whole training, or None without a board; ``regions`` of the layer with the largest arena.

    Raises
    ------
    BadRequest
        If the trainer does not support the recipe, or does not fit into the RAM; the message gives the minimum.
    """
    layout = fit(recipe, dataset, store, mapped, ram)
    kind = kind_of(board) if board else KINDS[0]
    counts = [instructions(layer, layout.batches, kind) for layer in layout.layers]
    constants, samples = constants_of(layout, dataset, mapped)
    flash = flash_of(layout, constants, board, reserve_flash)
    return {
        "fits": flash["fits"],
        "board": board.name if board else None,
        "ram": {
            "arena_bytes": layout.arena_bytes,
            "budget_bytes": ram,
            "slices_streamed": layout.cut.streamed,
            "signs_streamed": layout.cut.signs_in_flash,
        },
        "stack_bytes": STACK[kind],
        "code_bytes": CODE[kind],
        "constants_bytes": constants,
        "samples_bytes": samples,
        "flash": flash,
        "layers": [
            {"layer": n + 1, "arena_bytes": STATE_BYTES + plan.nbytes, "instructions_per_step": round(count)}
            for n, (plan, count) in enumerate(zip(layout.plans, counts))
        ],
        "processor": kind,
        "time": _time(layout, counts, board) if board else None,
        "regions": _regions(layout),
    }


def constants_of(layout: CLayout, dataset: Dataset, mapped: bool) -> tuple[int, int]:
    """Bytes of constants in the program: projections and, if mapped, samples; and bytes of the samples alone."""
    samples, inputs = 0, dataset.train.inputs
    if mapped:  # a byte or a float per input, and the label
        samples = layout.N * ((1 if inputs.dtype == np.uint8 else 4) * inputs.shape[1] + 2)
    return sum(4 * layer.O * layer.C for layer in layout.layers) + samples, samples


def flash_of(
    layout: CLayout, constants: int, board: Board | None = None, reserve: int = RESERVE_FLASH
) -> dict[str, Any]:
    """Flash used by the training and by the program, and its wear.

    Parameters
    ----------
    layout : CLayout
    constants : int
        Bytes of constants in the program, see :func:`constants_of`.
    board : Board, optional
        Its flash must also hold the program: the reserve and the constants.
    reserve : int
        Bytes of the program's flash reserved for firmware and the trainer's code.

    Returns
    -------
    dict
        ``flash`` of :func:`device_plan`; with a board, also ``program_bytes`` of ``program_nbytes``.
    """
    store, (pages, written) = layout.store, traffic(layout)
    firmware = reserve + constants if board and store.nbytes else 0
    there = max(0, store.nbytes - firmware) // store.page * store.page if store.nbytes else None
    fits, program = there is None or layout.flash_bytes <= there, {}
    if board:
        program = {"program_bytes": reserve + constants, "program_nbytes": internal(board).nbytes}
        fits = fits and program["program_bytes"] <= program["program_nbytes"]
    return {
        "fits": fits,
        "name": store.name,
        "nbytes": there,
        "held_bytes": layout.flash_bytes,
        "page_bytes": store.page,
        "erased_pages": None if store.in_place else pages,
        "written_bytes": written,
        "trainings": store.cycles * (there // store.page) / pages if store.cycles and there else None,
        **program,
    }


def _time(layout: CLayout, counts: list[float], board: Board) -> dict[str, Any]:
    """Seconds and joules on a board."""
    epochs = [layout.batches * count / (1e6 * board.mhz) for count in counts]
    seconds = layout.recipe.epochs * sum(epochs)
    watts = 1e-6 * board.ua_per_mhz * board.mhz * VOLTS
    return {
        "seconds_per_epoch": max(epochs),
        "seconds": seconds,
        "joules": seconds * watts if watts else None,
        "assumes": ASSUMES,
    }


def _regions(layout: CLayout) -> list[dict[str, Any]]:
    """Name, offset in the arena and bytes of the regions of the layer with the largest arena, largest first."""
    plan = max(layout.plans, key=lambda plan: plan.nbytes)
    return [
        {"name": region.name, "offset": STATE_BYTES + plan.offsets[region.name], "bytes": region.nbytes}
        for region in plan.regions
    ]


def traffic(layout: CLayout) -> tuple[int, int]:
    """Pages erased and bytes written in the training of all layers, including its beginning and end."""
    store, steps = layout.store, layout.recipe.epochs * layout.batches
    pages = written = 0
    for layer, place in zip(layout.layers, layout.flash[0]):
        slices, side = len(layer.grid), layer.grid.side
        parts = [layer.grid.slice(k) for k in range(slices)]
        slice_bytes = sum(sum(layer.plane_bytes(p.last - p.first, p.high - p.low)) for p in parts) // slices
        bias_bytes = 4 * layer.O * (1 + layer.moments) // side
        moves = layer.flushes(layout.batches)
        flushed = moves + side * side  # including the initial ones
        pages += flushed * (place["slice_slot"] // store.page) + (moves + side) * (place["bias_slot"] // store.page)
        pages += place["trained_slot"] // store.page
        written += flushed * slice_bytes + (moves + side) * bias_bytes + layer.O * 4 * (1 + layer.words)
        if place["record"]:
            pages += -(-layout.batches * place["record"] // store.page)
            written += layout.batches * place["record"]
        if layout.cut.streamed:
            written += layer.due * steps * slice_bytes
        if layout.cut.signs_in_flash:
            written += layer.due * steps * 4 * layer.O * layer.words // slices
    roots = 1 + len(layout.layers) * (layout.recipe.epochs + 1)
    each = -(-ROOT_BYTES // store.unit) * store.unit
    return pages + ROOT_PAGES + 1 + roots // max(1, store.page // each), written + roots * each
