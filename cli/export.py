"""``tinyfoa export``: a trained model for other programs, or a trainer for a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.storage.whole_file import write_whole

from .device import check_board, check_flash, of_trainer, reserve_options, store_of
from .options import (
    Bytes,
    CommandOfRecipes,
    asked,
    data_dir_option,
    dataset_of,
    debug_option,
    files_option,
    preset_option,
    reading_of,
    reading_options,
    recipe_options,
)
from .runs import model_file, path_of, reading_before

FORMATS = ("npz", "c-header", "onnx")
TRAINER = "c-trainer"


@click.command(
    cls=CommandOfRecipes,
    epilog="""\b
Examples:
  tinyfoa export runs/digits-tinyfoa-1 --to c-header
  tinyfoa export runs/digits-tinyfoa-1 --to onnx --out digits.onnx
  tinyfoa export digits --to c-trainer --network fc:100x2 --out trainer
  tinyfoa export log.csv --window 50 --to c-trainer --network fc:40 --out log
  tinyfoa export runs/digits-tinyfoa-1 --to c-trainer --board stm32l4r5""",
)
@click.argument("source", metavar="RUN|DATASET", required=False)
@click.option(
    "--to",
    type=click.Choice((*FORMATS, TRAINER)),
    required=True,
    help="npz: arrays for NumPy; c-header: a C library for firmware that classifies samples; onnx: a graph for ONNX "
    "runtimes (needs the extra onnx); c-trainer: C that trains on a device, for tinyfoa.",
)
@click.option(
    "--out",
    metavar="PATH",
    help="The file; with c-header and c-trainer, the directory. [default: model.npz, firmware or model.onnx in RUN; "
    "trainer]",
)
@click.option(
    "--exit",
    "stops",
    is_flag=True,
    help="c-header, ff: the C stops at the first confident layer, by the thresholds of tinyfoa evaluate RUN --exit.",
)
@files_option
@reading_options
@preset_option
@recipe_options
@click.option("--ram", type=Bytes(), metavar="SIZE", help="c-trainer: RAM available for the arena. [default: no limit]")
@click.option("--board", metavar="NAME", help="c-trainer: use the RAM and flash of this board: stm32l4r5, rp2040, ...")
@reserve_options("8KiB")
@click.option(
    "--flash",
    type=click.Choice(("internal", "nor", "fram")),
    help="c-trainer: where weights are stored: in the board's own flash, in serial NOR flash, or in FRAM, where slices "
    "that do not fit into RAM are trained row by row. [default: internal with --board, else nor]",
)
@click.option(
    "--samples",
    type=click.Choice(("mapped", "copied")),
    default="mapped",
    show_default=True,
    help="c-trainer: whether samples are read in place or copied batch by batch into the arena.",
)
@data_dir_option
@debug_option
def export(
    source: str | None,
    to: str,
    out: str | None,
    stops: bool,
    files: str | None,
    max_bytes: int | None,
    preset: str | None,
    ram: int | None,
    board: str | None,
    reserve: int | None,
    reserve_flash: int | None,
    flash: str | None,
    samples: str,
    data_dir: str | None,
    **given: Any,
) -> None:
    """Write the trained model of RUN in another form, or a trainer in C, and print where it is.

    RUN is a run directory or its model.safetensors. docs/models.md describes the files and the supported algorithms
    and networks. With --to c-trainer, give a data set and the options of a recipe, or a run to continue; see
    docs/device.md.
    """
    reading = reading_of(given)
    given = {name: value for name, value in given.items() if value is not None}
    if to == TRAINER:
        if stops:
            raise BadRequest(f"--exit is for answers: it applies to --to c-header, not --to {TRAINER}")
        check_board(board, False, {"--reserve": reserve, "--reserve-flash": reserve_flash})
        how = {"data_dir": data_dir, "reading": reading, "max_bytes": max_bytes}
        device = {"board": board, "flash": flash, "ram": ram, "reserve": reserve}
        click.echo(_trainer(source, Path(out or "trainer"), files, preset, samples, reserve_flash, device, how, given))
        return
    of_board = (ram, board, reserve, reserve_flash, flash)
    if given or reading or files or max_bytes or preset or any(value is not None for value in of_board):
        raise BadRequest(f"--to {to} writes a trained model: data, recipe and device options are for --to {TRAINER}")
    if not source:
        raise BadRequest("name a run to export")
    path = model_file(source)
    from tinyfoa_np.model import export as exports
    from tinyfoa_np.model import model as models

    model, limits = models.load(path), None
    if stops:
        from tinyfoa_np.model.exits import Thresholds

        limits = Thresholds.load(path, model).limits()
    files_of = exports.export(model, to, limits)
    target = path_of(out) if out else path.parent / exports.FORMATS[to]
    if len(files_of) == 1:
        (content,) = files_of.values()
        write_whole(target, content)
    else:
        _write_library(target, files_of, chosen=out is not None)
    click.echo(target)


def _write_library(target: Path, contents: dict[str, bytes], chosen: bool) -> None:
    """Write files into a directory, which may exist; links are followed only if they were chosen, not in a run."""
    if target.exists() and not target.is_dir():
        raise BadRequest(f"--out {target} is a file; give a directory")
    folders = {target / folder for name in contents for folder in Path(name).parents}
    for folder in sorted(folders):
        if folder.is_symlink() and not (chosen and folder == target):
            raise CheckFailed(f"{folder} is a symbolic link: delete it, or choose another directory with --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckFailed(f"{target} cannot be written: {error.strerror}") from error
    for name, content in contents.items():
        write_whole(target / name, content)


def _trainer(
    source: str | None,
    target: Path,
    files: str | None,
    preset: str | None,
    samples: str,
    reserve_flash: int | None,
    device: dict[str, Any],
    how: dict[str, Any],
    given: dict[str, Any],
) -> str:
    """Write a trainer for a recipe, or for the recipe and the weights of a run; return its path and its needs.

    ``device`` has the arguments of `store_of`, ``how`` those of `data.load` beside the name.
    """
    from tinyfoa_np import data
    from tinyfoa_np.model import c_layout, c_trainer
    from tinyfoa_np.run.device import images
    from tinyfoa_np.run.directory import read_recipe

    run = source is not None and not files and Path(source).is_dir()
    if run:
        assert source is not None
        if given or preset or how["reading"]:
            raise BadRequest(f"{source} has a recipe of its own: leave options of data and recipe out")
        model_file(source)
        recipe = read_recipe(Path(source)).validated()
        how["reading"] = reading_before(Path(source))
    else:
        dataset = dataset_of(source, files)
        if not dataset:
            raise BadRequest("name a data set (digits, mnist, data.csv) or a run")
        given = of_trainer({"dataset": dataset, **given}, preset)
        recipe = asked(given, preset)  # before anything is loaded, as this can be refused at once
    c_layout.check_scope(recipe)
    store, ram = store_of(**device)
    loaded = data.load(recipe.dataset, **how)
    if run and recipe.digest not in (None, loaded.digest):
        raise BadRequest(f"{recipe.dataset} does not contain the samples that {source} was trained on")
    if not run:  # the defaults depend on the data, as in training
        recipe = asked(given, preset, loaded.train.inputs.shape)
        c_layout.check_scope(recipe)
    layout = c_layout.fit(recipe, loaded, store, samples == "mapped", ram)
    check_flash(layout, loaded, device["board"], samples == "mapped", reserve_flash)
    if target.exists() and not target.is_dir():
        raise BadRequest(f"--out {target} is a file; give a directory")
    written, before = images(str(source), layout) if run else (None, 0)
    c_trainer.write(layout, loaded, target, written, before)
    cuts = ", slices streamed" * layout.cut.streamed + ", signs in flash" * layout.cut.signs_in_flash
    return (
        f"{target}: {layout.arena_bytes:,} bytes of RAM{cuts}; {layout.flash_bytes:,} bytes of {store.name} in pages"
        f" of {store.page:,}"
    )
