"""The C trainer: a fixed library, and a configuration for one recipe, one arena and one flash.

The library, ``c_trainer/``, is the same for every recipe. This module writes ``tinyfoa_config.h`` and ``.c``: sizes,
offsets, the projection, the recipe as a comment, and the weights of a run if given; and ``example/data.bin`` with the
samples.
"""

from __future__ import annotations

import zlib
from importlib import resources
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset, short
from ..kernels import random as random_kernels
from ..kernels.launching import launched
from ..kernels.optimizers import NUMBERS
from ..recipe import Recipe
from ..storage.whole_file import write_whole
from .c_layout import REGIONS, STATE_BYTES, CLayout

#: files of the library and of its example
LIBRARY = (
    "tinyfoa_trainer.h",
    "tinyfoa_trainer.c",
    "tinyfoa_layer.h",
    "tinyfoa_arith.h",
    "tinyfoa_store.c",
    "tinyfoa_parameters.c",
    "tinyfoa_forward.c",
    "tinyfoa_update.c",
    "tinyfoa_digest.c",
)
EXAMPLE = (
    "main.c",
    "nor.c",
    "nor.h",
    "port.h",
    "port_host.c",
    "port_arm.c",
    "port_riscv.c",
    "arm.ld",
    "riscv.ld",
    "data.S",
    "Makefile",
    "arduino.ino",
)
#: addresses and sizes in flash, in the order of the structure in tinyfoa_layer.h
PLACES = (
    "slices",
    "slice_slot",
    "biases",
    "bias_slot",
    "trained",
    "trained_slot",
    "handed",
    "record",
    "published",
)
#: a payload of an image: (bytes, optimizer steps, sum of |W| in steps of the layer's unit)
Item = tuple[bytes, int, int]


def write(
    layout: CLayout,
    dataset: Dataset,
    target: Path,
    images: list[list[Item]] | None = None,
    before: int = 0,
    samples: bool = True,
) -> None:
    """Write the library, the configuration, the example and a README.

    Parameters
    ----------
    layout : CLayout
    dataset : Dataset
        Its samples are written to ``example/data.bin``.
    target : Path
        A directory, which is created.
    images : list, optional
        Payloads to continue from, per layer: its slices, its groups of biases, and the trained layer.
    before : int
        Number of epochs that these have been trained for.
    samples : bool
        Whether the data set has samples, or only a shape.
    """
    source = resources.files(__package__).joinpath("c_trainer")
    with launched():  # the projection and the order of samples are generated
        header, tables = _header(layout, dataset, images, before), _source(layout, dataset, images)
        content = data_bytes(layout, dataset) if samples else b""
    (target / "example").mkdir(parents=True, exist_ok=True)
    for name in LIBRARY:
        write_whole(target / name, source.joinpath(name).read_bytes())
    for name in EXAMPLE:
        write_whole(target / "example" / name, source.joinpath("example", name).read_bytes())
    write_whole(target / "tinyfoa_config.h", header.encode("ascii"))
    write_whole(target / "tinyfoa_config.c", tables.encode("ascii"))
    write_whole(target / "README.md", _readme(layout).encode("ascii"))
    if samples:
        write_whole(target / "example" / "data.bin", content)
    counts = layout.N, len(dataset.test.labels)
    defines = zip(("TRAINING", "TESTS"), counts)
    text = "".join(f"#define EXAMPLE_{name} {count}\n" for name, count in defines)
    write_whole(target / "example" / "data.h", ("/* Samples in data.bin. */\n" + text).encode("ascii"))


#: the README of an export, with sizes to be filled in
_README = """# Trainer of {network}

C99 that trains this network on a device and classifies with it, written by tinyfoa-np: `tinyfoa_trainer.h` is the
interface, `tinyfoa_config.h` the sizes and the recipe, `example/` programs that use it.

| | |
| --- | --- |
| arena | {arena:,} bytes of RAM (`TINYFOA_ARENA_BYTES`), aligned to 8; nothing is allocated besides |
| flash | {flash:,} bytes (`TINYFOA_FLASH_BYTES`) in pages of {page:,}, programmed in units of {unit} |
| samples | up to {samples:,}, of {inputs:,} values each (`{value}`); {classes} classes |

    make -C example run-host     trains on this computer and prints one line of JSON
    make -C example run-qemu     the same on an emulated Cortex-M7

In your firmware:

1. Compile `tinyfoa_*.c` of this directory, with GCC or Clang and without `-ffast-math`.
2. Write three functions that read, program and erase your flash; `tinyfoa_trainer.h` says what they must do.
3. Call `tinyfoa_selftest` once, `tinyfoa_open` with the arena and the flash, and `tinyfoa_fit_begin` with the samples.
4. Call `tinyfoa_step` from your main loop until it returns `TINYFOA_DONE`. The longest step erases pages and writes a
   slice: set the watchdog by that.
5. Call `tinyfoa_predict` between steps, or after training.

After a reset or a power cut, `tinyfoa_open` finds the last commit. If `tinyfoa_where` says that a training was
interrupted, give `tinyfoa_fit_begin` the same samples; otherwise call it only for further training. All calls come
from one thread, and not from interrupts. `example/arduino.ino` is a whole sketch.
"""


def _readme(layout: CLayout) -> str:
    """The README, with the sizes of this export."""
    return _README.format(
        network=_plain(layout.recipe.network),
        arena=layout.arena_bytes,
        flash=layout.flash_bytes,
        page=layout.store.page,
        unit=f"{layout.store.unit} byte" + "s" * (layout.store.unit > 1),
        samples=layout.N,
        inputs=layout.layers[0].I,
        value="float" if layout.kind == "real" else "uint8_t",
        classes=layout.C,
    )


def data_bytes(layout: CLayout, dataset: Dataset) -> bytes:
    """Training inputs and labels (uint16), then those of the tests, encoded as the network reads them, in order."""
    recipe, parts = layout.recipe, []
    order = np.arange(layout.N)
    if recipe.shuffle:
        random_kernels.shuffle(order, np.uint64(recipe.seed))
    for split, rows in ((dataset.train, order), (dataset.test, np.arange(len(dataset.test.labels)))):
        inputs = dataset.encoded(split.inputs[rows], str(recipe.normalize))
        for array in (inputs, np.asarray(split.labels[rows], "<u2")):
            content = np.ascontiguousarray(array).tobytes()
            parts.append(content + bytes(-len(content) % 4))
    return b"".join(parts)


def identity(layout: CLayout, images: list[list[Item]] | None = None) -> int:
    """Identity of the flash's content: a checksum of everything that determines it."""
    known = [layout.recipe.to_json(), layout.kind, layout.affine, layout.C, layout.flash, layout.store.page]
    content = repr(known).encode() + b"".join(item[0] for items in images or [] for item in items)
    return zlib.crc32(content)


def _header(layout: CLayout, dataset: Dataset, images: list[list[Item]] | None, before: int) -> str:
    """The constants of the configuration."""
    recipe, store, cut = layout.recipe, layout.store, layout.cut
    assert recipe.slices is not None and recipe.optimizer is not None and recipe.lr is not None
    epochs, steps = _hold(recipe)
    drops = _drops(recipe)
    numbers: dict[str, Any] = {
        "LAYERS": len(layout.layers),
        "INPUTS": layout.layers[0].I,
        "CLASSES": layout.C,
        "SIDE": recipe.slices,
        "BATCH": recipe.batch,
        "SAMPLES": layout.N,
        "EPOCHS": recipe.epochs,
        "EPOCHS_BEFORE": before,
        "FLOATS": int(layout.kind == "real"),
        "SCALE": _float(layout.affine[0]),
        "OFFSET": _float(layout.affine[1]),
        "OPTIMIZER": NUMBERS[recipe.optimizer],
        "INT8": int(recipe.moments == "int8" and recipe.optimizer != "sgd"),
        "LR": float(recipe.lr).hex(),
        "COOLDOWN": int(recipe.lr_schedule == "cooldown"),
        "DROPS": len(drops),
        "DROP_EPOCHS": ", ".join(map(str, drops)),
        "STREAM": int(recipe.schedule == "stream"),
        "HOLD_STEPS": steps,
        "HOLD_EPOCHS": epochs,
        "EXCHANGES": recipe.exchanges or 0,
        "VISITS": recipe.visits or 1,
        "DIAGONAL": int(recipe.order == "diagonal"),
        "SEED": f"UINT64_C({recipe.seed})",
        "WORDS": layout.widest,
        "TILE": cut.tile,
        "STREAMED": int(cut.streamed),
        "SIGNS_IN_FLASH": int(cut.signs_in_flash),
        "MAPPED": int(layout.mapped),
        "IDENTITY": f"{identity(layout, images):#010x}u",
        "STATE_BYTES": STATE_BYTES,
        "ARENA_BYTES": layout.arena_bytes,
        "FLASH_BYTES": layout.flash_bytes,
        "PAGE_BYTES": f"{store.page}u",
        "UNIT_BYTES": f"{store.unit}u",
        "ROOT_PAGES": 4,
    }
    if not drops:
        del numbers["DROP_EPOCHS"]
    named = [f"#define TINYFOA_{name} {value}" for name, value in numbers.items()]
    named += ["#define TINYFOA_IMAGE"] if images else []
    named += ["#define TINYFOA_COLUMNS"] if dataset.columns is not None else []
    about = [f"   {line}" for line in recipe.to_json().splitlines()]
    return "\n".join(
        [
            f"/* {_plain(short(recipe.dataset))}, {recipe.network}: {layout.arena_bytes:,} bytes of RAM,"
            f" {layout.flash_bytes:,} of flash; by tinyfoa-np.",
            "",
            *map(_plain_line, about),
            "*/",
            "#ifndef TINYFOA_CONFIG_H",
            "#define TINYFOA_CONFIG_H",
            "#include <stdint.h>",
            "",
            *named,
            "#endif",
            "",
        ]
    )


def _hold(recipe: Recipe) -> tuple[int, int]:
    """The hold in epochs and in steps; one of them is 0."""
    if recipe.schedule != "slice" or recipe.hold is None:
        return (0, 0) if recipe.schedule == "slice" else (1, 0)
    number = int(recipe.hold.rstrip("epochs"))
    return (number, 0) if "epoch" in recipe.hold else (0, number)


def _drops(recipe: Recipe) -> list[int]:
    """Epochs at which the learning rate drops to a tenth."""
    if not recipe.lr_schedule.startswith("drop:"):
        return []
    texts = recipe.lr_schedule.removeprefix("drop:").split(",")
    return [ceil(int(d[:-1]) * recipe.epochs / 100) if d.endswith("%") else int(d) for d in texts]


def _source(layout: CLayout, dataset: Dataset, images: list[list[Item]] | None) -> str:
    """Tables of the configuration: layers, projections, and further long constants."""
    recipe, places = layout.recipe, layout.flash[0]
    lines = ["/* Tables of tinyfoa_config.h's recipe; by tinyfoa-np. */", '#include "tinyfoa_layer.h"', ""]
    entries = []
    for n, (layer, plan, place) in enumerate(zip(layout.layers, layout.plans, places)):
        made = np.zeros((layer.O, layer.C), np.float32)
        random_kernels.normal(made, 0, n, np.uint64(recipe.seed), sqrt(2.0 / layer.O))
        lines += _array("float", f"projection{n}", [_float(value) for value in made.ravel()])
        offsets = [STATE_BYTES + plan.offsets[name] if name in plan.offsets else 0 for name in REGIONS]
        numbers = [
            layer.I,
            layer.O,
            layer.words,
            layer.rows,
            layer.columns,
            layer.active_rows,
            _float(layer.bound),
            layer.w_steps,
            *(place[name] for name in PLACES),
            f"projection{n}",
        ]
        entries.append(f"    {{{', '.join(map(str, numbers))},")
        entries.append(f"     {{{', '.join(map(str, offsets))}}}}},")
    if images:
        lines += _images(images)
    if dataset.columns is not None:
        shift, factor = dataset.columns.affine(str(recipe.normalize))
        lines += _array("double", "tinyfoa_shift", [float(value).hex() for value in shift], "const")
        lines += _array("float", "tinyfoa_factor", [_float(value) for value in factor], "const")
    lines += ["const tinyfoa_layer tinyfoa_layers[TINYFOA_LAYERS] = {", *entries, "};", ""]
    return "\n".join(lines)


def _images(images: list[list[Item]]) -> list[str]:
    """Payloads as words, and the table of them."""
    lines, names = [], []
    for n, items in enumerate(images):
        entries = []
        for k, (payload, steps, total) in enumerate(items):
            words = np.frombuffer(payload + bytes(-len(payload) % 4), "<u4")
            lines += _array("uint32_t", f"image{n}_{k}", [f"{word:#x}" for word in words.tolist()])
            entries.append(f"    {{image{n}_{k}, {len(payload)}, {steps}, UINT64_C({total})}},")
        lines += [f"static const tinyfoa_image images{n}[] = {{", *entries, "};"]
        names.append(f"images{n}")
    return [*lines, f"const tinyfoa_image *const tinyfoa_images[TINYFOA_LAYERS] = {{{', '.join(names)}}};", ""]


def _array(kind: str, name: str, values: list[str], qualifiers: str = "static const") -> list[str]:
    rows = ["    " + ", ".join(values[k : k + 6]) + "," for k in range(0, len(values), 6)]
    return [f"{qualifiers} {kind} {name}[{len(values)}] = {{", *rows, "};", ""]


def _float(value: Any) -> str:
    """A float32 as an exact C literal."""
    return float(np.float32(value)).hex() + "f"


def _plain(name: str) -> str:
    """A name that cannot end a comment."""
    return "".join(c if c.isascii() and c.isprintable() and c not in "*/\\" else "_" for c in name)


def _plain_line(line: str) -> str:
    """A line of the comment."""
    return "   " + _plain(line.strip())
