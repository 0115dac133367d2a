"""What the benchmarks share: timing side by side, small tables, made-up data, a layer ready to be driven."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np

from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.ram.arena import Arena
from tinyfoa_np.ram.packing import pack
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.tinyfoa import Layer
from tinyfoa_np.run.events import Event
from tinyfoa_np.run.train import train
from tinyfoa_np.storage.flash import Flash


def side_by_side(
    contestants: dict[str, Callable[[], Any]],
    rounds: int,
    turn: float = 0.02,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Median seconds of one call of each contestant, all measured in turns: A B C, A B C, ...

    For contestants of one thread: the seconds are the process's own CPU time, so that a busy neighbour, who
    interrupts a call of 10 ms more often than one of 0.1 ms, does not show in their ratio.

    Parameters
    ----------
    contestants : dict of str to callable
    rounds : int
        Turns of each.
    turn : float
        Seconds a turn should last: as many calls as fit, timed one by one, after one that is not timed.
    clock : callable
        Another one, for contestants of several threads.

    Returns
    -------
    dict of str to float
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()  # compiles what is not compiled yet
    for _ in range(rounds):
        for name, call in contestants.items():
            call()  # the last contestant left other data in the caches
            begin = now = clock()
            while now - begin < turn:
                call()
                before, now = now, clock()
                samples[name].append(now - before)
    return {name: statistics.median(values) for name, values in samples.items()}


#: flags of /proc/cpuinfo that decide how fast kernels are
FEATURES = {"avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_vpopcntdq", "asimd", "sve"}


def arguments(description: str | None, **more: tuple[Any, str]) -> argparse.Namespace:
    """The command line: ``--json`` and ``more`` options, each a default and a help text."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    for name, (default, text) in more.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true", help=text)
        else:
            parser.add_argument(option, type=type(default), default=default, help=f"{text} (default {default})")
    return parser.parse_args()


def table(head: list[str], rows: list[list[str]]) -> None:
    """Prints a table: first column to the left, the others to the right."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    for row in [head, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        print("  " + "  ".join([row[0].ljust(widths[0]), *cells[1:]]), flush=True)
    print()


def machine() -> str:
    """The processor with its family, model and vector instructions, its cores, and the versions that matter."""
    name, info, known = platform.processor() or platform.machine(), Path("/proc/cpuinfo"), {}
    if info.exists():
        pairs = (line.partition(":") for line in info.read_text().splitlines())
        known = {key.strip(): value.strip() for key, _, value in pairs}
        name = known.get("model name", name)
    about = [f"{key} {known[field]}" for key, field in (("family", "cpu family"), ("model", "model")) if field in known]
    flags = set(known.get("flags", known.get("Features", "")).split())
    about.append(" ".join(sorted(flags & FEATURES)) or "no vector instructions that kernels look for")
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, numba {numba.__version__}"
    return f"{name} ({', '.join(about)}), {os.cpu_count()} cores; {versions}"


def si(value: float) -> str:
    """Three digits and a prefix: 1630000 is ``1.63 M``."""
    power = min(4, max(-5, math.floor(math.log10(abs(value)) / 3))) if value else 0
    return f"{value / 1000.0**power:.3g} {'fpnum kMGT'[power + 5].strip()}".strip()


def finish(wanted: bool, result: dict[str, Any]) -> None:
    """The JSON object on the last line, if it is wanted."""
    if wanted:
        print(json.dumps(result))


def synthetic(samples: int, tests: int, width: int = 784, classes: int = 10) -> Dataset:
    """Random bytes with random labels in MNIST's shape, seen as MNIST's pixels are."""
    random = np.random.default_rng(0)

    def split(n: int) -> Split:
        return Split(
            random.integers(0, 256, (n, width), dtype=np.uint8), random.integers(0, classes, n, dtype=np.uint8)
        )

    return Dataset("synthetic", split(samples), split(tests), classes, 1 / (255 * 0.3081), -0.1307 / 0.3081)


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy on a 64-byte boundary, as the arena's arrays are: no side shall pay for loads across cache lines."""
    raw = np.empty(values.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def trained(
    recipe: Recipe,
    dataset: Dataset,
    threads: int,
    on_event: Callable[[Event], None] | None = None,
    commit_every: int | None = None,
) -> dict[str, Any]:
    """What :func:`tinyfoa_np.run.train.train` returns; the run directory is gone afterwards."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a benchmark's few epochs leave slices untrained
        return train(recipe, dataset, directory, threads=threads, on_event=on_event, commit_every=commit_every)


@contextmanager
def prepared_layer(recipe: Recipe, inputs: Encoding, outputs: int, classes: int = 10) -> Iterator[tuple[Layer, Flash]]:
    """A layer with random weights, one full random batch in its arena, slice 0 resident, for one thread.

    Parameters
    ----------
    recipe : Recipe
    inputs : Encoding
        ``bits`` or ``bytes``.
    outputs, classes : int
        O and C.

    Yields
    ------
    (Layer, Flash)
        Ready for ``layer.forward(B, 0)``, then ``layer.gradient(B)``, then ``layer.update(flash, B, 0)``.
    """
    random = np.random.default_rng(1)
    layer = Layer(recipe.validated(), 0, inputs, outputs, classes, batches=600, threads=1)
    plan = pack(layer.regions())
    arena = Arena(plan.nbytes)
    arena.lay_out(plan)
    layer.open(arena)
    with tempfile.TemporaryDirectory() as directory, Flash.create(Path(directory) / "flash", "benchmark") as flash:
        layer.create(flash)
        layer.initialize(flash)
        layer.restore(flash)
        layer.parameters.exchange(flash, 0)
        pixels = random.integers(0, 256, (layer.B, inputs.width), dtype=np.uint8)
        layer.ram.inputs[:] = packed(pixels & 1) if inputs.kind == "bits" else pixels
        layer.ram.input_scale[0] = 0.25
        layer.ram.labels[:] = random.integers(0, classes, layer.B)
        yield layer, flash


def packed(bits: np.ndarray) -> np.ndarray:
    """Bits (B, I) uint8 of 0 and 1 as the package packs them: (B, ceil(I / 64)) uint64, input i in bit i % 64."""
    whole = np.zeros((len(bits), -(-bits.shape[1] // 64) * 64), np.uint8)
    whole[:, : bits.shape[1]] = bits
    return np.packbits(whole, axis=1, bitorder="little").view(np.uint64)
