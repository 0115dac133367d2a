"""``tinyfoa list``: the available choices by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from tinyfoa_np import catalogue
from tinyfoa_np.architectures import NAMES, units_of
from tinyfoa_np.recipe import OPTIMIZERS

from .options import debug_option, json_option
from .printing import WIDTH, empty_table, output

#: the update step of each optimizer
STEPS = {
    "adam": "m += 0.1 (g - m); v = 0.999 v + 0.001 g g; w -= lr m' / (sqrt v' + 1e-8)",
    "momentum": "m = 0.9 m + g; w -= lr m",
    "nesterov": "m = 0.9 m + g; w -= lr (g + 0.9 m)",
    "sgd": "w -= lr g",
    "bop": "m += gamma (g - m); w = -w where |m| > tau and m w > 0",
}
#: descriptions of the named networks
ABOUT = {
    "mlp": "three fully connected layers, of GIFF's authors for MNIST",
    "cnn": "three convolutions, of GIFF's authors for MNIST",
    "resnet8": "MLPerf Tiny's ResNet-8 for CIFAR-10",
    "mobilenetv1": "MLPerf Tiny's MobileNetV1, a quarter of its width",
    "dscnn": "MLPerf Tiny's DS-CNN for spectrograms of 49 x 10",
    "resnet17": "DeeperForward's ResNet for CIFAR-10",
}


def _rules() -> Iterator[dict[str, Any]]:
    for entry in catalogue.algorithms():
        kinds = [*entry.homes] if "fc" in entry.homes or "graph" not in entry.homes else ["fc", *entry.homes]
        yield {
            "name": entry.name,
            "title": entry.title,
            "networks": [name for kind in kinds for name in (entry.graphs if kind == "graph" else (kind,))],
            "trains": "by layer" if entry.by_layer else "at once",
            "schedules": [*entry.schedules],
            "options": [*entry.options],
        }


def _networks() -> Iterator[dict[str, Any]]:
    yield {"name": "fc:500x2", "units": None, "what": "fully connected, here two hidden layers of 500"}
    yield {"name": "lc:16,32", "units": None, "what": "locally connected, 3 x 3, with 16 and 32 output channels"}
    yield {"name": "conv:32k5,p2,64", "units": None, "what": "convolutions, here 5 x 5, a pooling, then 3 x 3"}
    for name in NAMES:
        yield {"name": name, "units": units_of(name), "what": ABOUT[name]}


def _optimizers() -> Iterator[dict[str, Any]]:
    from tinyfoa_np.kernels.optimizers import MOMENTS

    for name in OPTIMIZERS:
        held = 4.125 if name == "bop" else 4 * (1 + MOMENTS[name])  # a moment and a bit
        yield {"name": name, "bytes per weight": held, "step": STEPS[name]}


def _data() -> Iterator[dict[str, Any]]:
    from tinyfoa_np import data

    for name in data.names():
        train, test = data.samples(name)
        yield {"name": name, "training samples": train, "test samples": test}


def _boards() -> Iterator[dict[str, Any]]:
    from tinyfoa_np.reports.boards import boards

    for one in boards().values():
        known = {"RAM": one.ram_bytes, "block": one.block_bytes, "flash": one.flash_bytes}
        yield {"name": one.name, "core": one.core, "MHz": one.mhz, **known}


KINDS = {"rules": _rules, "networks": _networks, "optimizers": _optimizers, "data": _data, "boards": _boards}


@click.command(
    name="list",
    epilog="""\b
Examples:
  tinyfoa list rules
  tinyfoa list boards --json""",
)
@click.argument("what", type=click.Choice([*KINDS]))
@json_option
@debug_option
def list_(what: str, as_json: bool) -> None:
    """List learning rules, networks, optimizers, data sets or boards.

    RAM, block (the largest that an arena can have) and flash of boards are those on the chip.
    """
    rows = list(KINDS[what]())
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        row.pop("title", None)  # of rules, whose names say the same
    numbers = {key for key, value in rows[-1].items() if isinstance(value, int)}
    title = "RAM, block and flash in kB" if what == "boards" else ""
    table = empty_table(title, *(f"{key} >" if key in numbers else key for key in rows[0]))
    table.columns[0].no_wrap = True  # a name is to be copied
    for row in rows:
        table.add_row(*(_cell(key, value) for key, value in row.items()))
    console = output(WIDTH)
    console.print(table)
    if what == "boards":
        console.print("block: the largest that an arena can have. -: flash is beside the chip.")


def _cell(key: str, value: Any) -> str:
    """Format a value."""
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if isinstance(value, int):
        if key in ("RAM", "block", "flash"):
            return f"{value / 1e3:,.1f}" if value else "-"
        return f"{value:,}"
    return "-" if value is None else str(value)
