"""How long a training takes on a board, and what its program needs beside the arena, if the trainer in C runs it."""

from __future__ import annotations

from typing import Any

from ..data import Dataset
from ..recipe import Recipe
from .boards import Board
from .instructions import CODE, STACK, in_scope, instructions, kind_of

#: volts at which the currents of the table of boards are stated
VOLTS = 3.0
ASSUMES = "one instruction per cycle, flash not counted"


def stack_bytes(recipe: Recipe, dataset: Dataset, board: Board | None) -> int | None:
    """Bytes of stack of the trainer in C, the most that was measured; None if it does not do what is asked for."""
    if in_scope(recipe, dataset) is None:
        return None
    return STACK[kind_of(board)] if board else max(STACK.values())


def code_bytes(recipe: Recipe, dataset: Dataset, board: Board | None) -> int | None:
    """Bytes of its code with what it calls, compiled with -Os, the most that was measured; None as for the stack."""
    if in_scope(recipe, dataset) is None:
        return None
    return CODE[kind_of(board)] if board else max(CODE.values())


def board_time(recipe: Recipe, dataset: Dataset, board: Board) -> dict[str, Any] | None:
    """How long a training takes on a board.

    Returns
    -------
    dict or None
        ``instructions_per_step`` (a list, by layer), ``seconds_per_epoch`` of the slowest layer and ``seconds`` of the
        whole training, ``joules`` (None where the board's current is not known), and what is assumed, in words. None
        if the trainer in C, whose instructions are known, does not do what the recipe asks for.
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
