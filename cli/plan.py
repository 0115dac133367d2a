"""``tinyfoa plan``: whether a training fits, before anything is trained or flashed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.text import size

from .device import check_board, device_plan, of_trainer, print_device_plan, reserve_options
from .options import (
    Bytes,
    CommandOfRecipes,
    asked,
    dataset_of,
    debug_option,
    files_option,
    json_option,
    preset_option,
    reading_of,
    reading_options,
    recipe_options,
    start_option,
)
from .printing import WIDTH, duration, empty_table, output, recipe_lines
from .runs import chosen_from, started

if TYPE_CHECKING:
    from tinyfoa_np.reports.boards import Board
    from tinyfoa_np.reports.stores import Store

BAR = 24


@click.command(
    cls=CommandOfRecipes,
    epilog="""\b
Examples:
  tinyfoa plan mnist --slices 16 --ram 128KiB
  tinyfoa plan mnist --slices 16 --batch 10 --board stm32f746 --storage 8GB
  tinyfoa plan digits --network fc:200x2 --boards
  tinyfoa plan digits --to c-trainer --network fc:100x2 --board stm32l4r5
  tinyfoa plan mnist --algorithm bp --json""",
)
@click.argument("dataset", required=False)
@files_option
@reading_options
@preset_option
@recipe_options
@start_option
@click.option(
    "--ram",
    type=Bytes(),
    metavar="SIZE",
    help="RAM available for training (64KiB). [default: no limit; with --board, all but the reserve]",
)
@click.option(
    "--board",
    metavar="NAME",
    help="Plan for the RAM and flash of this board, by its name or a part of it: stm32f746, nano 33.",
)
@click.option("--boards", "every", is_flag=True, help="Print a verdict for every known board.")
@reserve_options("16KiB; 8KiB with --to c-trainer")
@click.option(
    "--storage",
    metavar="WHERE",
    help="Where flash objects are stored: internal, external (next to the chip, if the board has it), or the size of a "
    "card (8GB). [default: the board's internal flash, or its external one if it has no other; without a board, "
    "unlimited]",
)
@click.option(
    "--to",
    type=click.Choice(("c-trainer",)),
    help="Plan the trainer in C, as tinyfoa export --to c-trainer writes it.",
)
@click.option(
    "--flash",
    type=click.Choice(("internal", "nor", "fram")),
    help="c-trainer: where weights are kept, as in export. [default: internal with --board, else nor]",
)
@click.option(
    "--samples",
    type=click.Choice(("mapped", "copied")),
    help="c-trainer: whether samples are read in place or copied batch by batch into the arena. [default: mapped]",
)
@click.option("--lean", is_flag=True, help="As in train: delete a layer's full-precision weights once it is trained.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of threads, each with its own scratch. [default: 1; train uses all cores]",
)
@json_option
@debug_option
def plan(
    dataset: str | None,
    files: str | None,
    max_bytes: int | None,
    preset: str | None,
    start: str | None,
    ram: int | None,
    board: str | None,
    every: bool,
    reserve: int | None,
    reserve_flash: int | None,
    storage: str | None,
    to: str | None,
    flash: str | None,
    samples: str | None,
    lean: bool,
    threads: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Report whether training fits into RAM and flash, where its memory peaks, and what to change.

    Nothing is trained, and the data set is not needed. Training with the same number of --threads uses exactly this
    plan: the planned RAM is the measured watermark, to the byte. Exit code 1 if it does not fit.
    """
    others = {"--storage": storage, "--lean": lean, "--threads": threads, "--boards": every}
    _check(to, others, {"--flash": flash, "--samples": samples})
    check_board(board, every, {"--reserve": reserve, "--reserve-flash": reserve_flash})
    from tinyfoa_np import data
    from tinyfoa_np.reports import boards, forecast
    from tinyfoa_np.rules.fit import Layout

    dataset = dataset_of(dataset, files)
    if not dataset:
        raise BadRequest("name a data set (digits, mnist, data.csv)")
    reading = reading_of(given)
    given = {"dataset": dataset, **{name: value for name, value in given.items() if value is not None}}
    given = of_trainer(given, preset) if to else given
    beginning = None
    if start:
        recipe, beginning, reading = started(start, preset, dataset, given, reading)
    else:
        asked(given, preset)  # before anything is loaded, as this can be refused at once
    one = boards.board(board) if board else None
    shape = data.shape(dataset, reading=reading, max_bytes=max_bytes)
    if beginning:
        recipe, shape = beginning.planned(chosen_from(beginning, given, shape.train.inputs.shape), shape)
    else:
        recipe = asked(given, preset, shape.train.inputs.shape)
    if to:
        plans = device_plan(recipe, shape, board, flash, samples or "mapped", ram, reserve, reserve_flash)
        _show(plans, as_json, print_device_plan)
        return
    kept = forecast.RESERVE if reserve is None else reserve
    layout = Layout(recipe, shape, threads or 1)

    def of(one: Board | None) -> dict[str, Any]:
        return forecast.forecast(
            recipe,
            shape,
            ram=ram,
            threads=threads or 1,
            lean=lean,
            advise=not every,
            store=_store(one, storage, reserve_flash, every),
            others=_others(one, storage, reserve_flash),
            board=one,
            reserve=kept,
            layout=layout,
        )

    if every:
        results = {name: of(one) for name, one in boards.boards().items()}
        if as_json:
            click.echo(json.dumps(results))
        else:
            _print_boards(results, json.loads(recipe.to_json()))
        return
    result = {"board": one.name if one else None, **of(one)}
    _show(result, as_json, lambda result: _print(result, one, kept))


def _check(to: str | None, others: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse options of the other kind of plan."""
    for option in [option for option, value in own.items() if value and to is None]:
        raise BadRequest(f"{option} is for the trainer in C: add --to c-trainer")
    for option in [option for option, value in others.items() if value and to]:
        raise BadRequest(f"{option} is not for the trainer in C: leave out {option} or --to {to}")


def _show(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    """Print a plan; exit with code 1 if it does not fit."""
    if as_json:
        click.echo(json.dumps(result))
    else:
        show(result)
    if not result["fits"]:
        click.get_current_context().exit(CheckFailed.exit_code)


def _store(board: Board | None, storage: str | None, reserve: int | None, every: bool) -> Store | None:
    """The flash selected by --storage, minus its reserve."""
    from tinyfoa_np.reports.stores import RESERVE_FLASH, Store

    if storage in ("internal", "external") or (board and storage is None):
        if board is None:
            raise BadRequest(f"--storage {storage} is a board's: name one with --board, or give a size such as 8GB")
        if storage == "external" and not board.external_flash_bytes and not every:
            raise BadRequest(f"{board.name} has no flash beside the chip: give the size of a card, such as 8GB")
        where = storage or ("internal" if board.flash_bytes else "external")
        return Store.of(board, where, RESERVE_FLASH if reserve is None else reserve)
    if storage is None:
        return None
    try:
        return Store(f"storage of {storage}", Bytes().convert(storage, None, None))
    except click.BadParameter as error:
        raise BadRequest(f"--storage is {storage!r}: write internal, external or a size such as 8GB") from error


def _others(board: Board | None, storage: str | None, reserve: int | None) -> dict[str, Store]:
    """Alternative places for flash, by the option that selects them."""
    from tinyfoa_np.reports.stores import Store

    found = {}
    if board and storage in (None, "internal") and board.flash_bytes and board.external_flash_bytes:
        found["--storage external"] = Store.of(board, "external", reserve or 0)
    if storage in (None, "internal", "external"):
        found["--storage 8GB"] = Store("a card", 8 * 10**9)
    return found


def _verdict(result: dict[str, Any]) -> str:
    ram, flash, reasons = result["ram"], result["flash"], []
    if not ram["fits"]:
        reasons.append(f"the smallest RAM is {ram['least_bytes']:,} bytes, there are {ram['budget_bytes']:,}")
    if not flash["fits"]:
        reasons.append(f"{flash['name']} would hold {flash['held_bytes']:,} bytes, it has {flash['nbytes']:,}")
    if reasons:
        return f"does not fit: {'; '.join(reasons)}"
    if ram["budget_bytes"] is None and flash["nbytes"] is None:
        return "fits if there is that much RAM and flash; to give limits, use --ram or --board"
    return "fits"


def _print(result: dict[str, Any], board: Board | None, reserve: int) -> None:
    """Print the verdict, then bars, peak, traffic and suggestions."""
    console = output(WIDTH)
    ram, flash = result["ram"], result["flash"]
    lines = [_verdict(result), *_recipe(result["recipe"])]
    if board:
        lines.append(f"board   {board.name}: {board.core}, {board.mhz} MHz ({board.part})")
    need = ram["planned_bytes"] if ram["fits"] else ram["least_bytes"]
    threads = f"{result['threads']} thread{'s' * (result['threads'] > 1)}"
    lines.append(f"RAM     {_bar(need, ram['budget_bytes'])}")
    lines.append(f"        {threads}; the smallest budget is {ram['least_bytes']:,}")
    lines.append(f"beside  {_beside(result['beside'], board, reserve)}")
    lines.append(f"flash   {_bar(flash['held_bytes'], flash['nbytes'])}")
    lines.append("        when it holds most")
    for line in lines:
        console.print(line, soft_wrap=True)
    console.print(_cuts(result))
    console.print(_peak(result))
    console.print(_flash(flash))
    for line in [*_moves(result), *_time(result["time"], board)]:
        console.print(line, soft_wrap=True)
    if result["try"]:
        console.print(_tries(result["try"]))
        if any("samples as bytes" in one["change"] for one in result["try"]):
            console.print("samples as bytes: scaled to 0..255, as uint8 in an .npz or .npy", soft_wrap=True)
    elif not result["fits"]:
        console.print("try     a smaller network: no other options make it fit", soft_wrap=True)


def _recipe(recipe: dict[str, Any]) -> list[str]:
    """The recipe that is planned: options that were not given follow from the data."""
    what, how = recipe_lines(recipe)
    return [f"recipe  {what}", f"        {how}, {recipe['epochs']} epochs"]


def _beside(beside: dict[str, Any], board: Board | None, reserve: int) -> str:
    """Describe the memory that a device needs outside the arena."""
    stack, code = beside["stack_bytes"], beside["code_bytes"]
    parts = [f"{beside['bookkeeping_bytes']:,} bytes of bookkeeping"]
    parts.append(f"{stack:,} of stack" if stack else "stack not known")
    said = ", ".join(parts) + (f" (of {reserve:,} reserved)" if board else "")
    return f"{said}\n        code {f'{code:,} bytes' if code else 'not known'}"


def _time(time: dict[str, Any] | None, board: Board | None) -> list[str]:
    """Describe the training time on the board."""
    if board is None:
        return []
    if time is None:
        return [
            "time    not known: the estimate is that of the trainer in C, which does not",
            "        support this recipe",
        ]
    spent = "" if time["joules"] is None else f", {time['joules']:,.3g} J"
    return [
        f"time    {duration(time['seconds'])}{spent} in total, {duration(time['seconds_per_epoch'])} per epoch of the "
        "slowest layer",
        f"        ({time['assumes']})",
    ]


def _bar(need: int, have: int | None) -> str:
    if have is None:
        return f"{need:,} bytes"
    full = min(BAR, -(-BAR * need // max(1, have)))
    return f"{'█' * full}{'░' * (BAR - full)} {need:,} of {have:,} bytes{'' if need <= have else ': too much'}"


def _cuts(result: dict[str, Any]) -> Any:
    what = "" if result["ram"]["fits"] else ", in the smallest budget"
    table = empty_table(f"How it is cut{what}", "layer", "bytes >", "how")
    for layer in result["layers"]:
        name = "all" if result["whole_network"] else str(layer["layer"])
        table.add_row(name, f"{layer['planned_bytes']:,}", layer["cut"])
    return table


def _peak(result: dict[str, Any]) -> Any:
    peak = result["peak"]
    where = "" if result["whole_network"] else f"layer {peak['layer']}, "
    table = empty_table(f"RAM at the peak: {where}{peak['phase']}", "region", "shape", "type", "bytes >", "")
    largest = max(region["bytes"] for region in peak["regions"])
    small = [region for region in peak["regions"] if 100 * region["bytes"] < peak["planned_bytes"]]
    for region in peak["regions"]:
        if region not in small:
            bar = "█" * max(1, round(12 * region["bytes"] / largest))
            shape = " x ".join(map(str, region["shape"]))
            table.add_row(region["name"], shape, region["dtype"], f"{region['bytes']:,}", bar)
    rest = sum(region["bytes"] for region in small)
    table.add_row(f"({len(small)} smaller ones)", "", "", f"{rest:,}")
    table.add_row("(free in this phase)", "", "", f"{peak['between_bytes']:,}")
    return table


def _flash(flash: dict[str, Any]) -> Any:
    table = empty_table("Flash, when it holds most", "what", "size >")
    for what, nbytes in flash["parts"].items():
        table.add_row(what, size(nbytes))
    return table


def _moves(result: dict[str, Any]) -> list[str]:
    flash, epochs = result["flash"], result["recipe"]["epochs"]
    written, each_layer = flash["written_bytes"], "" if result["whole_network"] else " per layer"
    each = "per epoch" if result["whole_network"] else "per epoch, in the layer that moves most"
    lines = [
        f"moved   {size(flash['read_bytes_per_epoch'])} read, {size(flash['written_bytes_per_epoch'])} written {each}",
        f"        {size(written)} written in the whole training, {epochs} epochs{each_layer}",
    ]
    count, pages = flash["trainings"], flash["erased_pages"]
    if flash["page_bytes"] > 1:
        whole = size(pages * flash["page_bytes"])
        lines.append(f"        in whole pages of {flash['page_bytes']:,} bytes: {pages:,} pages, {whole}")
    if count is not None:
        shown = f"{count:,.0f}" if count >= 10 else f"{count:.2g}"
        lines.append(f"wear    {flash['name']} survives {shown} such trainings, with ideal wear levelling")
    elif flash["nbytes"] is not None:
        lines.append(f"wear    how often {flash['name']} can be written is not known")
    return lines


def _tries(tries: list[dict[str, Any]]) -> Any:
    table = empty_table("What would make it fit", "try", "smallest RAM >", "flash >")
    for one in tries:
        table.add_row(one["change"], f"{one['ram_bytes']:,}", size(one["flash_bytes"]))
    return table


def _print_boards(results: dict[str, dict[str, Any]], recipe: dict[str, Any]) -> None:
    table = empty_table(
        "Does it fit? RAM in kB, flash in MB: needed, of available",
        "board",
        "fits",
        "RAM >",
        "of >",
        "flash >",
        "of >",
        "survives >",
    )
    for name, result in results.items():
        ram, flash = result["ram"], result["flash"]
        need = ram["planned_bytes"] if ram["fits"] else ram["least_bytes"]
        verdict = "yes" if result["fits"] else "RAM" if ram["fits"] else "no"
        count = flash["trainings"]
        survives = "unknown" if count is None else f"{count:,.{0 if count >= 10 else 1}f}"
        table.add_row(
            name,
            verdict,
            f"{need / 1e3:,.1f}",
            f"{ram['budget_bytes'] / 1e3:.1f}",
            f"{flash['held_bytes'] / 1e6:,.2f}",
            f"{flash['nbytes'] / 1e6:,.2f}" if flash["nbytes"] is not None else "",
            survives if flash["fits"] else "",
        )
    console = output(WIDTH)
    for line in _recipe(recipe):
        console.print(line, soft_wrap=True)
    console.print(table)
    console.print("RAM: fits with other storage (--storage).")
    console.print("survives: trainings until the flash wears out.")
