"""Training time on a board, and further memory needs of the C trainer if it supports the recipe."""

from __future__ import annotations

from typing import Any

from ..data import Dataset
from ..recipe import Recipe
from .boards import Board
from .instructions import CODE, STACK, in_scope, instructions, kind_of

#: supply voltage at which the currents in the table of boards are given
VOLTS = 3.0
ASSUMES = "one instruction per cycle, flash not counted"


def stack_bytes(recipe: Recipe, dataset: Dataset, board: Board | None) -> int | None:
    """Stack of the C trainer in bytes, the maximum measured; None if it does not support the recipe."""
    if in_scope(recipe, dataset) is None:
        return None
    return STACK[kind_of(board)] if board else max(STACK.values())


def code_bytes(recipe: Recipe, dataset: Dataset, board: Board | None) -> int | None:
    """Code size of the C trainer with library functions, in bytes, the maximum measured with -Os; None as for stack."""
    if in_scope(recipe, dataset) is None:
        return None
    return CODE[kind_of(board)] if board else max(CODE.values())


def board_time(recipe: Recipe, dataset: Dataset, board: Board) -> dict[str, Any] | None:
    """Training time on a board.

    Returns
    -------
    dict or None
        ``instructions_per_step`` (a list, by layer), ``seconds_per_epoch`` of the slowest layer and ``seconds`` of the
        whole training, ``joules`` (None if the board's current is not known), and the assumptions in words. None if the
        recipe is not supported by the C trainer, as only its instructions are known.
    """
    layout = in_scope(recipe, dataset)
    if layout is None:
        return None
    counts = [instructions(layer, layout.batches, kind_of(board)) for layer in layout.layers]
    epochs = [layout.batches * count / (1e6 * board.mhz) for count in counts]
    seconds = recipe.epochs * sum(epochs)
    watts = 1e-6 * board.ua_per_mhz * board.mhz * VOLTS
    return {
        "instructions_per_step": [round(count) for count in counts],
        "seconds_per_epoch": max(epochs),
        "seconds": seconds,
        "joules": seconds * watts if watts else None,
        "assumes": ASSUMES,
    }
