"""A fully connected layer whose binary weights have no copy in full precision; they train by Bop.

The packed signs that the forward pass reads are the weights; they stay in the arena and are written to flash when a run
commits. A slice in flash is the moments of its weights. The scale of the signs, alpha, is 1 / sqrt(I) throughout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

from ..kernels import bop as kernels
from ..kernels import random as random_kernels
from ..ram.packing import Region
from ..recipe import Recipe
from ..storage.flash import Flash
from .dense import Dense, Operands, Rows
from .given import Initializer


def dense_class(recipe: Recipe, binary_weights: bool) -> type[Dense]:
    """The class of a recipe's fully connected layers."""
    return Signs if binary_weights and recipe.optimizer == "bop" else Dense


class Signs(Dense):
    """One fully connected layer with signs as weights; parameters as for :class:`.parameters.Parameters`."""

    def __init__(self, *about: Any, **options: Any) -> None:
        super().__init__(*about, **options)
        assert self.binary_weights and not self.tiling.stream_weights and self.kind != "frozen"
        self.straight, self.roomy = False, False
        self.changed = False  # since flash has the signs
        own = self.recipe.options
        self.gamma, self.tau, self.rate = own["gamma"], np.float32(own["tau"]), np.float32(0)

    def regions(self) -> list[Region]:
        """The regions of any layer, but no weights in full precision, and one moment."""
        gone = {self.prefix + name for name in ("slice", "moment2")}
        return [replace(region, shape=(0,)) if region.name in gone else region for region in super().regions()]

    @property
    def alpha(self) -> float:
        """The scale of the signs, 1 / sqrt(I)."""
        return float(np.float32(1 / sqrt(self.I)))

    # -- flash ---------------------------------------------------------------------------------------------------------

    def slice_bytes(self, k: int) -> int:
        part = self.grid.slice(k)
        return 4 * (part.last - part.first) * (part.high - part.low) + self.tail.nbytes

    def _planes(self, width: int) -> list[tuple[np.ndarray, int]]:
        return [(self.ram.moment1, width)]

    def objects(self) -> dict[str, Sequence[int]]:
        """Item sizes of the layer's objects in flash: slices of moments, groups of biases, and all signs."""
        return {**super().objects(), self.name("signs"): [self.published_bytes]}

    def traffic(self, passes: int = 1) -> tuple[float, float]:
        read, written = super().traffic(passes)
        return read, written + self.published_bytes / self.batches

    def initialize(self, flash: Flash, weights: Initializer | None = None, biases: Initializer | None = None) -> None:
        """Write moments of zero, the signs of weights that are uniform around zero, and the initial biases."""
        assert weights is None
        ram, seed = self.ram, np.uint64(self.recipe.seed)
        for array in (ram.moment1, ram.bias_moment1, ram.bias_moment2):
            array[:] = 0
        for k in range(len(self.grid)):
            part = self.grid.slice(k)
            with flash.rewriting(self.name("slices"), k):
                for first, last in self.tiles(part.first, part.last):
                    self._move_rows(flash.write, k, first, last)
                self.tail[:] = 0
                self._move_tail(flash.write, k)
        kernels.initial_signs(ram.weights, self.O, self.I, self.number, random_kernels.WEIGHT, seed)
        self._write_signs(flash)
        if self.biased:
            (biases or self.uniform(1 / sqrt(self.I))[1])(ram.bias, 0, self.biases, 0, 1)
            self.bias_tail[:] = 0
            for j in range(self.grid.side):
                flash.write(self.name("biases"), j, self._bias_views(j))

    def restore(self, flash: Flash) -> None:
        """Read the signs and the biases."""
        flash.read(self.name("signs"), 0, [self.ram.weights])
        self.changed = False
        for j in range(self.grid.side if self.biased else 0):
            flash.read(self.name("biases"), j, self._bias_views(j)[:1])
        self.state.total, self.state.resident, self.state.group, self.state.dirty = 0, None, None, False

    def flush(self, flash: Flash) -> None:
        super().flush(flash)
        if self.changed:
            self._write_signs(flash)

    def _write_signs(self, flash: Flash) -> None:
        flash.write(self.name("signs"), 0, [self.ram.weights])
        self.changed = False

    def digest(self, flash: Flash, row: np.ndarray) -> str:
        """SHA-256 of the signs (row by row, +1 and -1), then b, as little-endian float32; through ``row``."""
        hashed = hashlib.sha256()
        for o in range(self.O):
            for low in range(0, self.I, len(row)):
                part = row[: min(len(row), self.I - low)]
                kernels.unpack(self.ram.weights, o, low, part)
                hashed.update(part.data)
        hashed.update(self.ram.bias.data)
        return hashed.hexdigest()

    # -- one step ------------------------------------------------------------------------------------------------------

    def _update_slice(self, flash: Flash, k: int, given: Operands, step: int, train_bias: bool) -> None:
        self.rate = np.float32(self.gamma * self.recipe.lr_at(step // self.batches))
        super()._update_slice(flash, k, given, step, train_bias)
        self.changed = True

    def _train_rows(self, rows: Rows) -> None:
        ram, part, (inputs, samples, errors, scratch, abs_w) = self.ram, self.grid.slice(rows.k), rows.given
        what = (
            (rows.first, rows.last, part.low, part.high),
            rows.resident.moment1,
            rows.published,
            self.biases_of(rows),
            rows.bias_step,
            rows.train_bias,
            self.rate,
            self.tau,
        )
        if self.partial:
            kernels.update_from(ram.sums, ram.bias_sums, inputs.scale, inputs.offset, *what, abs_w)
        else:
            kernels.update(inputs, samples, errors(rows.first, rows.last), *what, scratch, abs_w)
