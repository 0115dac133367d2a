"""``tinyfoa train``: train a network inside one block of bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinyfoa_np import data, defaults
from tinyfoa_np.data import Dataset, Reading, is_files, short
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.network import widths
from tinyfoa_np.papers import presets
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.text import printable, size

from .options import (
    Bytes,
    CommandOfRecipes,
    asked,
    data_dir_option,
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
from .runs import chosen_from, free, new_run, old_run, reading_before, started

if TYPE_CHECKING:
    from tinyfoa_np.run.start import Start

#: fields that determine the preset
_SYSTEM = ("dataset", "algorithm", "binary_weights", "binary_activations")


@click.command(
    cls=CommandOfRecipes,
    epilog="""\b
Examples:
  tinyfoa train digits --network fc:1000x3 --epochs 40 --batch 10 --lr 0.002
  tinyfoa train mnist --slices 4 --schedule stream --json > result.json
  tinyfoa train mnist --algorithm ff --preset paper --epochs 10
  tinyfoa train data.csv --network fc:200x2 --batch 10 --lr 0.002
  tinyfoa train new.csv --from runs/data-bp-1 --freeze 1 --epochs 10
  tinyfoa train mnist --ram 24MB --out runs/small --commit-every 200
  tinyfoa train --resume runs/small""",
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
    help="Train in at most this many bytes (65536, 500kB, 64KiB, 1MiB). [default: no limit]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of threads; results do not depend on it. [default: all cores]",
)
@click.option(
    "--lean",
    is_flag=True,
    default=None,
    help="Delete a layer's full-precision weights once it is trained; flash keeps only what inference needs.",
)
@data_dir_option
@click.option(
    "--out",
    metavar="DIR",
    help="Run directory; must not exist or be empty. [default: runs/DATASET-ALGORITHM-N]",
)
@click.option("--resume", metavar="DIR", help="Continue an interrupted run from its last commit, with its own recipe.")
@click.option(
    "--commit-every",
    type=click.IntRange(min=1),
    metavar="K",
    help="Also commit every K steps. [default: at the end of each epoch]",
)
@click.option(
    "--audit", is_flag=True, help="Check during training that every byte is accounted for; slower, same results."
)
@json_option
@click.option("--quiet", is_flag=True, help="Print only the result, no progress.")
@debug_option
def train(
    dataset: str | None,
    files: str | None,
    max_bytes: int | None,
    preset: str | None,
    start: str | None,
    ram: int | None,
    threads: int | None,
    lean: bool | None,
    data_dir: str | None,
    out: str | None,
    resume: str | None,
    commit_every: int | None,
    audit: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train on a data set, and print the error and the memory.

    DATASET is a name (see tinyfoa data list) or a file of your own, data.csv or data.npz. Training takes place in one
    block of bytes. With tinyfoa, layers train one after another, with one slice of a layer's full-precision weights in
    the block; the other weights are in the run directory, which stands for a device's flash. Ctrl-C commits, stops and
    prints how to continue.

    Options marked with an algorithm (for example giff:) only work with that algorithm.
    """
    _refuse_together(start, resume, out, lean, given)
    dataset = dataset_of(dataset, files)
    if not resume and not dataset:
        raise BadRequest("name a data set (digits, mnist, data.csv), or a run to continue with --resume DIR")
    reading = reading_of(given)
    given = {name: value for name, value in given.items() if value is not None}
    if dataset:
        given["dataset"] = dataset
    directory: contextlib.AbstractContextManager[Path]
    beginning: Start | None = None
    if resume:
        run = old_run(resume)
        recipe = _continued(run, given, preset, reading, max_bytes)
        directory = contextlib.nullcontext(run)
    else:
        if start:
            recipe, beginning, reading = started(start, preset, given["dataset"], given, reading)
        else:
            recipe = asked(given, preset)  # before anything is loaded, as this can be refused at once
        directory = new_run(out, short(recipe.dataset), recipe.algorithm)

    # Imports that take a second come after everything that can be refused at once.
    from tinyfoa_np.run import train as training
    from tinyfoa_np.run.events import ignored

    from .progress import TrainingProgress

    samples, chosen = None, ""  # a resumed run has them in flash
    if not resume:
        samples = _samples(recipe.dataset, data_dir, reading, max_bytes, quiet)
        recipe, chosen = _settled(given, preset, beginning, samples.train.inputs.shape)
    layers = len(widths(recipe.network)) if recipe.rule.by_layer else 1  # trained one by one
    progress = contextlib.nullcontext(ignored) if quiet else TrainingProgress(layers, recipe.epochs, chosen=chosen)
    with directory as run, progress as on_event:
        result = training.train(
            recipe,
            samples,
            run,
            ram=ram,
            threads=threads,
            audit=audit,
            lean=bool(lean),
            commit_every=commit_every,
            resume=bool(resume),
            on_event=on_event,
            start=beginning,
        )
    if samples is not None and result["error_pct"] is not None:
        _warn_of_chance(result["error_pct"], samples, recipe)
    click.echo(json.dumps(result) if as_json else _summary(result))
    if result.get("findings"):
        raise CheckFailed(f"the audit failed: {'; '.join(result['findings'])}")


def _refuse_together(
    start: str | None, resume: str | None, out: str | None, lean: bool | None, given: dict[str, Any]
) -> None:
    """Refuse options that exclude each other, and a directory that cannot be trained into."""
    if start and resume:
        raise BadRequest("--from and --resume both determine the weights: give one of them")
    if given.get("freeze") and not (start or resume):
        raise BadRequest("--freeze keeps layers of a model: name it with --from MODEL")
    if resume and lean:
        raise BadRequest("--lean is chosen when a run begins: leave it out, the run continues as it was started")
    if resume and out:
        raise BadRequest("--resume continues in its own directory; leave --out out")
    if out:
        free(out)


def _continued(
    run: Path, given: dict[str, Any], preset: str | None, reading: Reading | None, max_bytes: int | None
) -> Recipe:
    """The recipe of a run to continue; options that contradict it are refused."""
    from tinyfoa_np.run.directory import read_recipe

    recipe, dataset = read_recipe(run), given.get("dataset")
    if dataset and is_files(dataset):
        if reading is not None:
            raise BadRequest("a run keeps its way to read data: leave options such as --label out")
        if data.load(dataset, reading=reading_before(run), max_bytes=max_bytes).digest != recipe.digest:
            raise BadRequest(f"{dataset} does not contain the samples of this run: leave it out or start a new run")
        given["dataset"] = recipe.dataset  # the same samples, wherever they are now
    if preset:
        given = presets.chosen(preset, {**{name: getattr(recipe, name) for name in _SYSTEM}, **given})
    _refuse_contradictions(recipe, given)
    return recipe


def _samples(
    dataset: str, data_dir: str | None, reading: Reading | None, max_bytes: int | None, quiet: bool
) -> Dataset:
    """Load a data set, with progress, and say what a file of the user's was taken for."""
    from tinyfoa_np.data.user_files import described

    from .progress import Counting

    with contextlib.nullcontext() if quiet else Counting() as counting:
        samples = data.load(dataset, data_dir, reading=reading, max_bytes=max_bytes, on_progress=counting)
    if is_files(dataset) and not quiet:
        click.echo(printable(described(samples)), err=True)
    return samples


def _settled(
    given: dict[str, Any], preset: str | None, beginning: Start | None, shape: tuple[int, int]
) -> tuple[Recipe, str]:
    """The recipe for a training set, and what the defaults or the paper's preset chose, for the progress."""
    if not beginning:
        recipe = asked(given, preset, shape)
    elif (recipe := chosen_from(beginning, given, shape)).algorithm == beginning.model.recipe.algorithm:
        return recipe, ""
    if not preset and (defaulted := defaults.described(recipe, given)):
        return recipe, f"chosen: {defaulted}"
    return recipe, f"preset: {presets.described(recipe)}" if preset == presets.PRESETS[0] else ""


def _warn_of_chance(error_pct: float, samples: Dataset, recipe: Recipe) -> None:
    """Warn if a test error is no better than a guess."""
    import numpy as np

    from tinyfoa_np.run import advice

    told = advice.advice(error_pct, np.bincount(samples.test.labels), "test", recipe)
    if told:
        warnings.warn(told, stacklevel=1)


def _refuse_contradictions(recipe: Recipe, given: dict[str, Any]) -> None:
    """Refuse options given with --resume that differ from the run's recipe; repeating it is allowed."""
    given = dict(given)
    if given.get("schedule") == "auto":
        given["schedule"] = recipe.rule.schedules[0]
    for name in ("dataset", "algorithm", "schedule"):  # first, as the other fields may have no meaning if these differ
        if given.get(name, own := getattr(recipe, name)) != own:
            raise _contradiction(name, own, given[name])
    asked = recipe.changed(given).validated()
    for field in dataclasses.fields(recipe):
        own, other = getattr(recipe, field.name), getattr(asked, field.name)
        if own != other:
            raise _contradiction(field.name, own, other)


def _contradiction(name: str, own: object, other: object) -> BadRequest:
    return BadRequest(f"the run was started with {name} {own}, not {other}; leave the option out, or start a new run")


def _summary(result: dict[str, Any]) -> str:
    arena, flash = result["arena"], result["flash"]
    errors = [f"{error:.2f}" for error in result["layer_errors_pct"] if error is not None]
    layers = f"  (layer by layer: {', '.join(errors)})" if len(errors) > 1 else ""
    touched = arena["watermark_bytes"]
    agree = touched == arena["accounted_bytes"] == arena["planned_bytes"]
    planned = f"{arena['planned_bytes']:,} planned, {arena['accounted_bytes']:,} accounted"
    counts = "planned = accounted = measured" if agree else planned
    return "\n".join(
        [
            f"test error  {errors[-1]} %{layers}" if errors else "test error  none: there are no test samples",
            f"memory      {size(touched)}: {touched:,} bytes ({counts})",
            f"flash       {size(flash['bytes'])} at the end; {size(flash['read_bytes'])} read, "
            f"{size(flash['written_bytes'])} written, {flash['exchanges']:,} exchanges",
            f"run         {result['run_dir']}  (tinyfoa audit {shlex.quote(result['run_dir'])})",
        ]
    )
