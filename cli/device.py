"""The C trainer: its recipes and its flash, and its plan as printed by ``tinyfoa plan --to c-trainer``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tinyfoa_np import catalogue
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.text import size

from .options import Bytes, Command
from .printing import WIDTH, duration, empty_table, output

if TYPE_CHECKING:
    from tinyfoa_np.data import Dataset
    from tinyfoa_np.model.c_layout import CLayout, Store
    from tinyfoa_np.recipe import Recipe


def of_trainer(given: dict[str, Any], preset: str | None) -> dict[str, Any]:
    """The given options of a recipe, with binary weights and activations by default: the trainer has no others."""
    if preset or not catalogue.find(given.get("algorithm", catalogue.DEFAULT)).in_c:
        return given
    return {"binary_weights": True, "binary_activations": True, **given}


def reserve_options(ram: str) -> Callable[[Command], Command]:
    """Add the options for what a board keeps for other purposes; ``ram`` is the default of RAM in words."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--reserve-flash",
                type=Bytes(),
                metavar="SIZE",
                help="Part of a board's program flash that is reserved for firmware. [default: 128KiB]",
            ),
            click.option(
                "--reserve",
                type=Bytes(),
                metavar="SIZE",
                help=f"Part of a board's RAM that is reserved for stack, bookkeeping and other data. [default: {ram}]",
            ),
        ):
            command = option(command)
        return command

    return add


def check_board(board: str | None, every: bool, of_a_board: dict[str, int | None]) -> None:
    """Refuse options about a board if there is no board, and a board without a name."""
    if board is not None and not board.strip():
        raise BadRequest("--board is empty: name a board (tinyfoa list boards)")
    if board and every:
        raise BadRequest("--boards is about all boards, --board about one: give one of them")
    for option, value in of_a_board.items():
        if value is not None and not (board or every):
            raise BadRequest(f"{option} is of a board: name one with --board")


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


def check_flash(layout: CLayout, dataset: Dataset, board: str | None, mapped: bool, reserve: int | None) -> None:
    """Raise `BadRequest` if the plan would say that a training does not fit into the flash."""
    from tinyfoa_np.reports import boards
    from tinyfoa_np.reports import device_plan as plans
    from tinyfoa_np.reports.stores import RESERVE_FLASH

    constants, samples = plans.constants_of(layout, dataset, mapped)
    known = boards.board(board) if board else None
    flash = plans.flash_of(layout, constants, known, RESERVE_FLASH if reserve is None else reserve)
    if not flash["fits"]:
        told, tries = _problem(flash, samples)
        raise BadRequest(f"{told}: try {tries}")


def _problem(flash: dict[str, Any], samples: int) -> tuple[str, str]:
    """What does not fit into the flash, and what to try; ``samples`` bytes are in the program."""
    if flash["nbytes"] is None:
        told = f"the program would hold {flash['program_bytes']:,} bytes of {flash['program_nbytes']:,}"
    else:
        told = f"{flash['name']} would hold {flash['held_bytes']:,} bytes of {flash['nbytes']:,} that are left"
    tries = ["--flash nor"] if flash["nbytes"] is not None else []
    if samples:
        tries.append(f"--samples copied ({size(samples)} of samples leave the program)")
    return f"does not fit: {told}", ", ".join([*tries, "or narrower layers"]) if tries else "narrower layers"


def print_device_plan(result: dict[str, Any], recipe: list[str]) -> None:
    """Print the verdict, then the lines of the recipe, RAM, flash, time and the arena's regions."""
    console = output(WIDTH)
    ram, flash, time = result["ram"], result["flash"], result["time"]
    told, tries = ("fits", "") if result["fits"] else _problem(flash, result["samples_bytes"])
    there = "" if flash["nbytes"] is None else f" of {flash['nbytes']:,} that are left"
    of = "" if ram["budget_bytes"] is None else f" of {ram['budget_bytes']:,}"
    how = [name for name in ("slices", "signs") if ram[f"{name}_streamed"]]
    lines = [
        told,
        *recipe,
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
    if tries:
        lines.append(f"try     {tries}")
    if flash["trainings"] is not None:
        lines.append(f"wear    survives {flash['trainings']:,.0f} such trainings, with ideal wear levelling")
    if time:
        energy = "" if time["joules"] is None else f", {time['joules']:,.3g} J"
        epoch = f"{duration(time['seconds_per_epoch'])} per epoch of the slowest layer"
        lines += [f"time    {duration(time['seconds'])}{energy} in total, {epoch}", f"        ({time['assumes']})"]
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
