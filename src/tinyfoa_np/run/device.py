"""Export the flash content of a finished run in the form from which the C trainer continues."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from ..errors import BadRequest, CheckFailed
from ..model.c_layout import CLayout, Layer, segments
from ..model.c_trainer import Item
from ..slices import cuts
from ..storage.flash import Flash
from .directory import read_recipe


def images(run_dir: str | os.PathLike[str], layout: CLayout) -> tuple[list[list[Item]], int]:
    """For each layer, its slices and groups of biases with moments, and the trained layer; and the epochs trained.

    Parameters
    ----------
    run_dir : path
        A run that has finished.
    layout : CLayout
        Of the same recipe.

    Raises
    ------
    BadRequest
        If the run has not finished, or has deleted its full-precision weights (lean).
    FlashError
        If flash is damaged, or in use by another process.
    """
    identity = read_recipe(Path(run_dir)).identity
    with Flash.open(Path(run_dir) / "flash", identity, memoryview(bytearray(1 << 20))) as flash:
        meta = flash.meta
        if meta.get("layer") != len(layout.layers):
            raise BadRequest(f"{run_dir} has not finished: tinyfoa train --resume {run_dir}")
        if "layer0.slices" not in flash.names():
            raise BadRequest(f"{run_dir} has deleted its weights (lean): it cannot be trained any further")
        try:
            made = [_items(flash, layer, meta["trained"][n]) for n, layer in enumerate(layout.layers)]
            return made, int(meta["last"])
        except (KeyError, IndexError, TypeError, ValueError, struct.error) as error:
            raise CheckFailed(f"{run_dir} does not hold what its recipe says: {error}") from error


def _items(flash: Flash, layer: Layer, trained: dict[str, str]) -> list[Item]:
    side, W, b = layer.grid.side, np.zeros((layer.O, layer.I), np.float32), np.zeros(layer.O, np.float32)
    tail = np.zeros(2, np.int64)
    items: list[Item] = []
    for k in range(side * side):
        first, last, low, high = layer.grid.slice(k)
        content = np.zeros(sum(layer.plane_bytes(last - first, high - low)), np.uint8)
        flash.read(f"layer{layer.number}.slices", k, [content])
        W[first:last, low:high] = content[: 4 * (last - first) * (high - low)].view("<f4").reshape(last - first, -1)
        flash.read(f"layer{layer.number}.slices", k, [tail], content.nbytes)
        items.append((content.tobytes(), int(tail[0]), int(tail[1])))
    for j in range(side):
        first, last = layer.grid.rows(j)
        content = np.zeros(4 * (1 + layer.moments) * (last - first), np.uint8)
        flash.read(f"layer{layer.number}.biases", j, [content])
        b[first:last] = content[: 4 * (last - first)].view("<f4")
        flash.read(f"layer{layer.number}.biases", j, [tail[:1]], content.nbytes)
        items.append((content.tobytes(), int(tail[0]), 0))
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise ValueError("its weights are not finite")
    about = struct.pack("<dd32s", trained["alpha"], trained["scale"], bytes.fromhex(trained["digest"]))
    return [*items, (about + b.tobytes() + packed(W >= 0, side).tobytes(), 0, 0)]


def packed(bits: np.ndarray, side: int) -> np.ndarray:
    """Pack rows of bits (n, I) as the C trainer does, (n, words) uint32: each segment begins a new word."""
    starts, bounds = segments(bits.shape[1], side), cuts(bits.shape[1], side)
    rows = np.zeros((len(bits), starts[-1]), np.uint32)
    for k, (low, high) in enumerate(zip(bounds, bounds[1:])):
        for column in range(low, high):
            word, place = divmod(column - low, 32)
            rows[:, starts[k] + word] |= bits[:, column].astype(np.uint32) << np.uint32(place)
    return rows
