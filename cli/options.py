"""Options that several commands share, and the types of what is written after them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tinyfoa_np.recipe import ALGORITHMS, OPTIMIZERS, SCHEDULES, Recipe

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class Bytes(click.ParamType):
    """A number of bytes: ``65536``, ``500kB`` (10^3), ``64KiB`` (2^10), ``1.5MiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", value.strip().lower())
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is not a number of bytes like 65536, 500kB, 64KiB or 1.5MiB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(dict)["debug"] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show the traceback of an error.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else."
)
data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    help="Where to look for data first; then in $TINYFOA_DATA, then in the user's cache directory.",
)

# The recipe has the defaults; here an option that was not given is None, to be told from one that was: a resumed run
# has its own recipe, which the command line may not contradict.
_RECIPE_OPTIONS = (
    click.option(
        "--network",
        metavar="SPEC",
        help=f"Hidden layers, fully connected: fc:2000x4 is four of 2000, fc:500,300 two. [default: {Recipe.network}]",
    ),
    click.option("--algorithm", type=click.Choice(ALGORITHMS), help=f"What trains it. [default: {Recipe.algorithm}]"),
    click.option(
        "--slices",
        type=int,
        metavar="M",
        help=f"A layer's weights are an M x M grid of slices, one of them in RAM. [default: {Recipe.slices}]",
    ),
    click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        help="slice: the slice in RAM trains, exchanged after each hold; stream: every slice trains in every step; "
        "frozen: all but one diagonal slice train, which needs the whole layer in RAM; auto: slice. "
        f"[default: {Recipe.schedule}]",
    ),
    click.option(
        "--hold",
        metavar="TIME",
        help="How long before the next slice is exchanged in: epochs (1epoch, 3epochs) or batches (500). "
        "[default: 1epoch]",
    ),
    click.option(
        "--exchanges", type=int, metavar="F", help="Instead of --hold: F holds a layer, spread evenly over its epochs."
    ),
    click.option(
        "--epochs",
        type=int,
        metavar="E",
        help=f"Passes over the training samples, per layer. [default: {Recipe.epochs}]",
    ),
    click.option("--batch", type=int, metavar="B", help=f"Samples per step. [default: {Recipe.batch}]"),
    click.option("--lr", type=float, metavar="RATE", help=f"Learning rate. [default: {Recipe.lr}]"),
    click.option(
        "--optimizer",
        type=click.Choice(OPTIMIZERS),
        help=f"How a gradient becomes a step. [default: {Recipe.optimizer}]",
    ),
    click.option(
        "--binary-weights/--no-binary-weights",
        default=None,
        help="Compute with the signs of the weights, or with the weights themselves. [default: binary-weights]",
    ),
    click.option(
        "--binary-activations/--no-binary-activations",
        default=None,
        help="One bit per hidden output, or a float32. [default: binary-activations]",
    ),
    click.option(
        "--recompute",
        is_flag=True,
        default=None,
        help="Compute the layers below anew for every batch, instead of keeping their outputs in flash.",
    ),
    click.option(
        "--seed",
        type=int,
        metavar="N",
        help=f"All randomness follows from it: same seed, same model. [default: {Recipe.seed}]",
    ),
    click.option("--limit", type=int, metavar="N", help="Train on the first N samples. [default: all]"),
)


def recipe_options(command: Command) -> Command:
    """Options that make up the recipe, shared by every command that trains or plans; absent ones arrive as None."""
    for option in reversed(_RECIPE_OPTIONS):
        command = option(command)
    return command
