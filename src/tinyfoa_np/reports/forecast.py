"""Whether a training will fit, before it runs: RAM, flash, what moves between them, and what to change otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..catalogue import DEFAULT
from ..data import Dataset
from ..errors import BadRequest
from ..network import CONNECTIONS, is_local
from ..recipe import MOMENTS, Recipe
from ..rules.fit import Chosen, Layout
from .audit import peak
from .boards import Board

#: of a board's RAM, what is left to the stack and to the program's own data
RESERVE = 16 * 1024


@dataclass(frozen=True)
class Store:
    """The flash that stands behind the RAM.

    Attributes
    ----------
    name : str
        What it is, in words.
    nbytes : int or None
        Its size; None: as large as it needs to be.
    cycles, unit : int
        How often a unit of so many bytes can be erased; 0 where that is not known.
    """

    name: str
    nbytes: int | None = None
    cycles: int = 0
    unit: int = 1

    @classmethod
    def of(cls, board: Board, storage: str) -> Store:
        """A board's flash: ``internal`` or ``external``."""
        if storage == "internal":
            return cls("internal flash", board.flash_bytes, board.flash_cycles, max(1, board.flash_erase_bytes))
        return cls(
            "external flash", board.external_flash_bytes, board.external_cycles, max(1, board.external_erase_bytes)
        )

    def trainings(self, written: float) -> float | None:
        """How many trainings that write so much it survives, its wear levelled ideally; None where that is unknown."""
        if not self.nbytes or not self.cycles or not written:
            return None
        return self.cycles * (self.nbytes // self.unit * self.unit) / written


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
) -> dict[str, Any]:
    """What a training will take, from the plans that it would be laid out with.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    dataset : Dataset
        Only its shape counts.
    ram : int, optional
        The budget, bytes; without it, whatever is fastest.
    threads : int
        Each has scratch of its own.
    store : Store, optional
        The flash; without it, one that is large enough.
    lean : bool
        Whether the full-precision weights of trained layers leave flash.
    advise : bool
        Whether to look for changes that would make it fit.
    others : mapping of str to Store, optional
        Other flash there is, by the words that choose it: offered where this one is too small.

    Returns
    -------
    dict
        ``fits``; ``ram``: whether it fits, ``budget_bytes``, ``planned_bytes`` (of the smallest way, where it does not
        fit), ``least_bytes``; ``flash``: whether it fits, ``nbytes`` of the store, ``held_bytes``, ``parts``, bytes
        read and written per epoch and in all, ``trainings`` that it survives; ``peak`` as in
        :func:`tinyfoa_np.reports.audit.audit`; ``layers``: how each is cut; ``try``: changes, and whether with them it
        fits. Bytes throughout, layers from 1.

    Raises
    ------
    BadRequest
        If recipe and data do not go together.
    """
    layout, store = Layout(recipe, dataset, threads), store or Store("flash")
    least = layout.least()
    fits = ram is None or ram >= least
    chosen = layout.fit(ram if fits else least)
    flash = _flash(layout, chosen, store, lean)
    result: dict[str, Any] = {
        "fits": fits and flash["fits"],
        "ram": {
            "fits": fits,
            "budget_bytes": ram,
            "planned_bytes": max(one.plan.nbytes for one in chosen),
            "least_bytes": least,
        },
        "flash": flash,
        "peak": peak([one.plan for one in chosen]),
        "layers": [_layer(layout, one, number) for number, one in enumerate(chosen)],
        "whole_network": not recipe.rule.by_layer,
        "threads": threads,
        "recipe": json.loads(recipe.to_json()),
    }
    result["try"] = []
    for change in [] if result["fits"] or not advise else _changes(recipe, dataset, ram, threads, store, lean):
        helps_ram, helps_flash = change["ram_bytes"] < least, change["flash_bytes"] < flash["held_bytes"]
        if change["fits"] or (not fits and helps_ram) or (not flash["fits"] and helps_flash):
            result["try"].append(change)
    if not flash["fits"]:
        result["try"] += [
            {"change": words, "ram_bytes": least, "flash_bytes": flash["held_bytes"], "fits": fits}
            for words, other in (others or {}).items()
            if other.nbytes and other.nbytes >= flash["held_bytes"]
        ]
    return result


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
    written = layout.recipe.epochs * sum(epoch[1] for epoch in epochs) + layout.written_once(chosen)
    return {
        "fits": store.nbytes is None or held <= store.nbytes,
        "name": store.name,
        "nbytes": store.nbytes,
        "held_bytes": held,
        "parts": {name: nbytes for name, nbytes in parts.items() if nbytes},
        "read_bytes_per_epoch": round(max(epoch[0] for epoch in epochs)),
        "written_bytes_per_epoch": round(max(epoch[1] for epoch in epochs)),
        "written_bytes": round(written),
        "trainings": store.trainings(written),
    }


def _changes(
    recipe: Recipe, dataset: Dataset, ram: int | None, threads: int, store: Store, lean: bool
) -> Iterator[dict[str, Any]]:
    """One thing changed at a time, the nearest that would do; where nothing does, the one that needs least."""
    for group in _groups(recipe, threads, lean):
        nearest = None
        for words, changes, cores, less in group:
            try:
                layout = Layout(replace(recipe, **changes).validated(), dataset, cores)
                least = layout.least()
            except BadRequest:  # more slices than a layer has rows or columns
                continue
            flash = sum(layout.flash_bytes(layout.fit(least if ram is None else max(ram, least)), less).values())
            fits = (ram is None or least <= ram) and (store.nbytes is None or flash <= store.nbytes)
            nearest = {"change": words, "ram_bytes": least, "flash_bytes": flash, "fits": fits}
            if fits:
                break
        if nearest:
            yield nearest


def _groups(recipe: Recipe, threads: int, lean: bool) -> Iterator[list[tuple[str, dict[str, Any], int, bool]]]:
    """Kinds of changes, each from the nearest on: what to write, the recipe's fields, threads, lean."""
    yield [("--threads 1", {}, 1, lean)] if threads > 1 else []
    batches = [recipe.batch // 2**k for k in range(1, 17) if recipe.batch // 2**k]
    yield [(f"--batch {size}", {"batch": size}, threads, lean) for size in batches]
    local = is_local(recipe.network)
    if recipe.schedule in ("slice", "stream"):
        sides = [side for side in (2, 4, 8, 16, 32, 64) if side > (recipe.slices or 1)]
        yield [(f"--slices {side}", {"slices": side, **_turns(recipe, side)}, threads, lean) for side in sides]
    if recipe.optimizer != "sgd":
        smaller = MOMENTS[MOMENTS.index(recipe.moments) + 1 :]
        yield [(f"--moments {moments}", {"moments": moments}, threads, lean) for moments in smaller]
        yield [("--optimizer sgd", {"optimizer": "sgd", "moments": MOMENTS[0]}, threads, lean)]
    if not lean:
        yield [("--lean", {}, threads, True)]
    if local and recipe.lc_connect != CONNECTIONS[1]:
        yield [(f"--lc-connect {CONNECTIONS[1]}", {"lc_connect": CONNECTIONS[1]}, threads, lean)]
    if recipe.rule.recompute and not local and not recipe.recompute:
        yield [("--recompute", {"recompute": True}, threads, lean)]
    samples = [10**k for k in range(5, 1, -1)]
    yield [(f"--limit {n}", {"limit": n}, threads, lean) for n in samples if n < (recipe.limit or 10**9)]
    if not recipe.rule.by_layer:
        leanest = {"algorithm": DEFAULT, **_own(recipe)}
        yield [(f"--algorithm {DEFAULT}", leanest, threads, lean)]


def _turns(recipe: Recipe, side: int) -> dict[str, Any]:
    """What the default schedule makes of so many slices, where the recipe has it."""
    fields = ("hold", "exchanges", "visits", "order", "lr")
    usual, other = (
        Recipe(algorithm=recipe.algorithm, network=recipe.network, slices=n).validated() for n in (recipe.slices, side)
    )
    if not recipe.rule.by_layer or any(getattr(recipe, f) != getattr(usual, f) for f in fields[:-1]):
        return {}
    return {f: getattr(other, f) for f in fields if getattr(recipe, f) == getattr(usual, f)}


def _own(recipe: Recipe) -> dict[str, Any]:
    """The fields that this algorithm has set, as not given."""
    fields = (
        "slices",
        "hold",
        "exchanges",
        "lr",
        "optimizer",
        "decay",
        "classifier_lr",
        "classifier_decay",
        "label_scale",
        "peer",
        "dropout",
        "theta",
        "label_width",
        "groups",
        "merge",
        "rms",
        "normalize",
        "shuffle",
    )
    return {**dict.fromkeys(fields), "schedule": "auto", "options": {}}
