"""The C trainer: its recipes and its flash, and its plan as printed by ``tinyfoa plan --to c-trainer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyfoa_np import catalogue
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.text import size

from .printing import WIDTH, duration, empty_table, output

if TYPE_CHECKING:
    from tinyfoa_np.data import Dataset
    from tinyfoa_np.model.c_layout import Store
    from tinyfoa_np.recipe import Recipe


def of_trainer(given: dict[str, Any], preset: str | None) -> dict[str, Any]:
    """The given options of a recipe, with binary weights and activations by default: the trainer has no others."""
    if preset or not catalogue.find(given.get("algorithm", catalogue.DEFAULT)).in_c:
        return given
    return {"binary_weights": True, "binary_activations": True, **given}


def store_of(board: str | None, flash: str | None, ram: int | None, reserve: int | None) -> tuple[Store, int | None]:
    """The flash to train in, and the RAM for the arena.

    Raises
    ------
    BadRequest
        If there is no such board, or ``flash`` needs a board and none is given.
    """
    from tinyfoa_np.model.c_layout import FRAM, NOR
    from tinyfoa_np.reports import boards, device_plan

    if board is None:
        if flash == "internal":
            raise BadRequest("--flash internal is a board's: name one with --board")
        return FRAM if flash == "fram" else NOR, ram
    known = boards.board(board)
    ram = device_plan.room(known, ram, device_plan.RESERVE if reserve is None else reserve)
    if flash in ("nor", "fram"):
        return FRAM if flash == "fram" else NOR, ram
    return device_plan.internal(known), ram


def device_plan(
    recipe: Recipe,
    dataset: Dataset,
    board: str | None,
    flash: str | None,
    samples: str,
    ram: int | None,
    reserve: int | None,
    reserve_flash: int | None,
) -> dict[str, Any]:
    """The plan for a board, or for a device with unlimited flash."""
    from tinyfoa_np.reports import boards
    from tinyfoa_np.reports import device_plan as plans
    from tinyfoa_np.reports.stores import RESERVE_FLASH

    store, ram = store_of(board, flash, ram, reserve)
    kept = RESERVE_FLASH if reserve_flash is None else reserve_flash
    known = boards.board(board) if board else None
    return plans.device_plan(recipe, dataset, store, samples == "mapped", ram, known, kept)


def print_device_plan(result: dict[str, Any]) -> None:
    """Print the verdict, then RAM, flash, time and the arena's regions."""
    console = output(WIDTH)
    ram, flash, time = result["ram"], result["flash"], result["time"]
    there = "" if flash["nbytes"] is None else f" of {flash['nbytes']:,} that are left"
    of = "" if ram["budget_bytes"] is None else f" of {ram['budget_bytes']:,}"
    how = [name for name in ("slices", "signs") if ram[f"{name}_streamed"]]
    lines = [
        "fits" if result["fits"] else f"does not fit: {flash['name']} would hold {flash['held_bytes']:,} bytes{there}",
        f"arena   {ram['arena_bytes']:,}{of} bytes"
        + (f"; {' and '.join(how)} come from flash row by row" if how else ""),
        f"beside  {result['stack_bytes']:,} bytes of stack, {result['code_bytes']:,} of code (-Os), "
        f"{size(result['constants_bytes'])} of constants",
        f"flash   {flash['held_bytes']:,} bytes{there} in {flash['name']}",
        f"        {size(flash['written_bytes'])} written in the whole training"
        + (
            ""
            if flash["erased_pages"] is None
            else f", {flash['erased_pages']:,} pages of {flash['page_bytes']:,} erased"
        ),
    ]
    if not result["fits"]:
        samples = size(result["samples_bytes"])
        copied = f", --samples copied ({samples} of samples leave the program)" if result["samples_bytes"] else ""
        lines.append(f"try     --flash nor{copied}, or narrower layers")
    if flash["trainings"] is not None:
        lines.append(f"wear    it survives {flash['trainings']:,.0f} such trainings, its wear levelled ideally")
    if time:
        energy = "" if time["joules"] is None else f", {time['joules']:,.3g} J"
        epoch = f"{duration(time['seconds_per_epoch'])} an epoch of the slowest layer"
        lines += [f"time    {duration(time['seconds'])}{energy} in all, {epoch}", f"        ({time['assumes']})"]
    for line in lines:
        console.print(line, soft_wrap=True)
    title = f"Layers, on a processor with {result['processor']} arithmetic"
    table = empty_table(title, "layer", "arena, bytes >", "instructions per step >")
    for layer in result["layers"]:
        table.add_row(str(layer["layer"]), f"{layer['arena_bytes']:,}", f"{layer['instructions_per_step']:,}")
    console.print(table)
    table = empty_table("The arena of the largest layer", "region", "offset >", "bytes >")
    for region in result["regions"]:
        table.add_row(region["name"], f"{region['offset']:,}", f"{region['bytes']:,}")
    console.print(table)
