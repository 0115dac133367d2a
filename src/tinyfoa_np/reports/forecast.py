"""Forecast of a training: whether it fits, RAM, flash, traffic between them, and time on a board."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..data import Dataset
from ..layers.layer import Layer
from ..recipe import Recipe
from ..rules.fit import Chosen, Layout
from .advice import suggestions
from .audit import peak
from .board_time import board_time, code_bytes, stack_bytes
from .boards import Board
from .bookkeeping import bookkeeping_bytes
from .device_plan import room
from .stores import Store

#: bytes of a board's RAM reserved for the stack, bookkeeping and the program's own data
RESERVE = 16 * 1024


def forecast(
    recipe: Recipe,
    dataset: Dataset,
    *,
    ram: int | None = None,
    threads: int = 1,
    store: Store | None = None,
    lean: bool = False,
    advise: bool = True,
    others: Mapping[str, Store] | None = None,
    board: Board | None = None,
    reserve: int = RESERVE,
    layout: Layout | None = None,
) -> dict[str, Any]:
    """Forecast the needs of a training, from the plans that it would use.

    Parameters
    ----------
    recipe, dataset
        As for :class:`tinyfoa_np.rules.fit.Layout`.
    ram : int, optional
        The budget in bytes; by default the needs of the fastest tiling, or all that a board has available.
    threads : int
    store : Store, optional
        The flash; by default one that is large enough.
    lean : bool
        Whether the full-precision weights of trained layers are deleted from flash.
    advise : bool
        Whether to search for changes that make it fit.
    others : mapping of str to Store, optional
        Alternative flash, by the words that select it; suggested if ``store`` is too small.
    board : Board, optional
        Limits the RAM and determines the training time.
    reserve : int
        Bytes of a board's RAM for other purposes; at least the needs of bookkeeping and stack are reserved.
    layout : Layout, optional
        A layout of the same recipe, data set and threads, if already computed.

    Returns
    -------
    dict
        ``fits``; ``ram``; ``beside``: bytes of bookkeeping, and of stack and code of the C trainer (None if not
        supported); ``flash``, with bytes written, pages erased and the number of trainings until wear-out; ``time`` on
        the board (:func:`.board_time.board_time`) or None; ``peak`` as in :func:`tinyfoa_np.reports.audit.audit`;
        ``layers``: the tiling of each; ``try``: changes, each of which makes it fit. Bytes throughout, layers from 1.

    Raises
    ------
    BadRequest
        If recipe and data do not match.
    """
    layout, store = layout or Layout(recipe, dataset, threads), store or Store("flash")
    smallest = layout.fit(least := layout.least())
    beside: dict[str, Any] = _beside(recipe, dataset, smallest, board)
    if board:
        ram = room(board, ram, max(reserve, beside["bookkeeping_bytes"] + (beside["stack_bytes"] or 0)))
    fits = ram is None or ram >= least
    chosen = layout.fit(ram) if fits else smallest
    flash = _flash(layout, chosen, store, lean)
    result: dict[str, Any] = {
        "fits": fits and flash["fits"],
        "ram": {"fits": fits, "budget_bytes": ram, "planned_bytes": _planned(chosen), "least_bytes": least},
        "beside": beside,
        "flash": flash,
        "time": board_time(recipe, dataset, board) if board else None,
        "peak": peak([one.plan for one in chosen]),
        "layers": [_layer(layout, one, number) for number, one in enumerate(chosen)],
        "whole_network": not recipe.rule.by_layer,
        "threads": threads,
        "recipe": json.loads(recipe.to_json()),
        "try": [],
    }
    if not result["fits"] and advise:
        result["try"] = suggestions(recipe, dataset, ram, store.nbytes, threads, lean)
        if fits:
            result["try"] += _elsewhere(others or {}, least, flash["held_bytes"])
    return result


def _planned(chosen: list[Chosen]) -> int:
    return max(one.plan.nbytes for one in chosen)


def _elsewhere(others: Mapping[str, Store], ram: int, held: int) -> Iterator[dict[str, Any]]:
    """Alternative flash that is large enough."""
    for words, other in others.items():
        if other.nbytes and other.nbytes >= held:
            yield {"change": words, "ram_bytes": ram, "flash_bytes": held, "fits": True}


def _beside(recipe: Recipe, dataset: Dataset, chosen: list[Chosen], board: Board | None) -> dict[str, int | None]:
    """Memory that a device needs outside the arena."""
    return {
        "bookkeeping_bytes": bookkeeping_bytes(chosen),
        "stack_bytes": stack_bytes(recipe, dataset, board),
        "code_bytes": code_bytes(recipe, dataset, board),
    }


def _layer(layout: Layout, one: Chosen, number: int) -> dict[str, Any]:
    read, written = one.stage.traffic()
    steps = layout.train_set.batches
    return {
        "layer": number + 1,
        "planned_bytes": one.plan.nbytes,
        "cut": layout.described(one),
        "tiling": asdict(one.tiling),
        "read_bytes_per_epoch": round(read * steps),
        "written_bytes_per_epoch": round(written * steps),
    }


def _flash(layout: Layout, chosen: list[Chosen], store: Store, lean: bool) -> dict[str, Any]:
    parts = layout.flash_bytes(chosen, lean)
    held, steps = sum(parts.values()), layout.train_set.batches
    epochs = [[steps * moved for moved in one.stage.traffic()] for one in chosen]
    once = layout.written_once(chosen)
    written = layout.recipe.epochs * sum(epoch[1] for epoch in epochs) + once
    pages = store.pages([(once, 1), *_writes(layout, chosen)])
    return {
        "fits": store.nbytes is None or held <= store.nbytes,
        "name": store.name,
        "nbytes": store.nbytes,
        "held_bytes": held,
        "parts": {name: nbytes for name, nbytes in parts.items() if nbytes},
        "read_bytes_per_epoch": round(max(epoch[0] for epoch in epochs)),
        "written_bytes_per_epoch": round(max(epoch[1] for epoch in epochs)),
        "written_bytes": round(written),
        "page_bytes": store.unit,
        "erased_pages": round(pages),
        "trainings": store.trainings(pages),
    }


def _writes(layout: Layout, chosen: list[Chosen]) -> Iterator[tuple[float, float]]:
    """Writes of a training's steps: bytes per write, and the total number of such writes."""
    steps = layout.recipe.epochs * layout.train_set.batches
    for one in chosen:
        for layer in one.stage.layers:
            written = steps * layer.traffic(one.stage.passes)[1]
            sizes = [sum(items) / len(items) for items in layer.objects().values()]
            pieces = _pieces(layer) if layer.tiling.stream_slice else 1
            for size in [sizes[0] / pieces] if pieces > 1 else sizes:
                # all objects are written equally often, except streamed slices
                yield size, written / (size if pieces > 1 else sum(sizes))


def _pieces(layer: Layer) -> int:
    """Number of writes in which a slice returns to flash: tiles of its rows, for weights and each moment."""
    rows, planes = layer.grid.rows(0)[1], 1 + getattr(layer, "moments", 0)
    tiles = -(-rows // max(1, min(layer.tiling.rows, rows)))
    return tiles * planes if tiles > 1 else 1
