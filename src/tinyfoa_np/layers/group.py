"""A group's parameters on networks of any layers, in the arena and in flash: all of them at once, as one item."""

from __future__ import annotations

import hashlib
from math import prod, sqrt

import numpy as np

from ..kernels import random as random_kernels
from ..kernels.conv import Tensor
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import RESIDENT
from ..recipe import Recipe
from ..slices import Grid
from ..storage.flash import Flash
from .dense import COMMIT_BUFFER, MOMENTS
from .encoding import Inputs
from .graph import NORM, Program
from .tiling import Tiling
from .trained import TrainedLayer

#: numbers of groups' label channels among layers' random numbers: behind all operations
LABELS = 1 << 16


class Group:
    """Layers that train together: their parameters in RAM and in flash.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    number : int
        From 0.
    program : Program
    first : int
        How many operations the groups below have: random numbers follow from operations, not from groups.
    extra : tuple of int
        Shape of what trains beside the layers: (C + 1, k O), the label channel's weights and biases.
    batches : int
        Steps per epoch.
    """

    binary_weights, alpha = False, 1.0

    def __init__(
        self, recipe: Recipe, number: int, program: Program, first: int, extra: tuple[int, int], batches: int
    ) -> None:
        assert recipe.optimizer is not None
        self.batches = batches
        self.recipe, self.number, self.program, self.first, self.extra = recipe, number, program, first, extra
        self.size = program.parameters + prod(extra)
        self.moments = MOMENTS[recipe.optimizer]
        self.inputs = Inputs("real", prod(program.shape))
        self.O, self.tiling, self.grid = prod(program.shapes[-1]), Tiling(recipe.batch), Grid(1, 1, 1)
        self.dirty = False

    def regions(self) -> list[Region]:
        prefix, held = f"g{self.number}.", [self.size if self.moments > k else 0 for k in (0, 1)]
        return [
            Region(prefix + "weights", (self.size,), "float32"),
            Region(prefix + "running", (self.program.statistics,), "float32"),
            Region(prefix + "moment1", (held[0],), "float32", RESIDENT),
            Region(prefix + "moment2", (held[1],), "float32", RESIDENT),
        ]

    def open(self, arena: Arena) -> None:
        """Takes the views from an arena laid out with the regions."""
        self.ram = arena.views(self.regions(), f"g{self.number}.")

    def carried(self) -> set[str]:
        """Regions whose content one batch leaves to the next."""
        return {region.name for region in self.regions()}

    def tensor(self, at: int, shape: tuple[int, ...]) -> Tensor:
        """Parameters with their moments, flat."""
        part = slice(at, at + prod(shape))
        return Tensor(*(view[part] for view in (self.ram.weights, self.ram.moment1, self.ram.moment2)))

    @property
    def label(self) -> tuple[np.ndarray, np.ndarray]:
        """The label channel's weights (C, k O) and biases (k O,)."""
        both = self.ram.weights[self.program.parameters :].reshape(self.extra)
        return both[:-1], both[-1]

    # -- flash ---------------------------------------------------------------------------------------------------------

    def name(self, what: str) -> str:
        """An object of this group in flash."""
        return f"layer{self.number}.{what}"

    def objects(self) -> dict[str, list[int]]:
        """Sizes of the items of the group's objects in flash: parameters, moments and running statistics as one."""
        return {self.name("slices"): [4 * (self.size * (1 + self.moments) + self.program.statistics)]}

    def traffic(self, passes: int = 1) -> tuple[float, float]:
        """Bytes read and written in a training step, on average: all at the commits of epochs."""
        return 0.0, sum(map(sum, self.objects().values())) / self.batches

    @property
    def commit_bytes(self) -> int:
        """Bytes of the buffer through which a commit reads back: no larger than the item."""
        return min(COMMIT_BUFFER, self.objects()[self.name("slices")][0])

    def _views(self) -> list[np.ndarray]:
        moments = (self.ram.moment1, self.ram.moment2)[: self.moments]
        return [view for view in (self.ram.weights, *moments, self.ram.running) if view.size]

    def initialize(self, flash: Flash) -> None:
        """Writes the initial parameters: uniform in +-1 / sqrt(I), gamma 1, beta 0; batch norm's variances 1."""
        ram, seed = self.ram, np.uint64(self.recipe.seed)
        for view in (ram.moment1, ram.moment2, ram.running):
            view[:] = 0
        for k, one in enumerate(self.program.operations):
            count, number = prod(one.weight), self.first + k
            own = ram.weights[one.at : one.at + one.size]
            if one.kind == NORM:
                own[:], own[count // 2 :] = 1, 0
                ram.running[one.running + count // 2 : one.running + count] = 1
            elif one.weight:
                for part, purpose in (
                    (own[:count], random_kernels.WEIGHT), (own[count:], random_kernels.BIAS)
                ):  # fmt: skip
                    bound = np.float32(one.bound)
                    random_kernels.uniform(part, 0, 1, 0, part.size, part.size, number, purpose, seed, bound)
        label, classes = ram.weights[self.program.parameters :], self.extra[0] - 1
        if label.size:
            bound = np.float32(1 / sqrt(classes))
            random_kernels.uniform(
                label, 0, 1, 0, label.size, label.size, LABELS + self.number, random_kernels.WEIGHT, seed, bound
            )
        flash.write(self.name("slices"), 0, self._views())

    def restore(self, flash: Flash) -> None:
        """Reads parameters, moments and running statistics."""
        flash.read(self.name("slices"), 0, self._views())
        self.dirty = False

    def flush(self, flash: Flash) -> None:
        """Writes back what has changed."""
        if self.dirty:
            flash.write(self.name("slices"), 0, self._views())
            self.dirty = False

    # -- a trained group -----------------------------------------------------------------------------------------------

    def digest(self, flash: Flash, row: np.ndarray) -> str:
        """SHA-256 of parameters, then running statistics, as little-endian float32."""
        hashed = hashlib.sha256(self.ram.weights.data)
        hashed.update(self.ram.running.data)
        return hashed.hexdigest()

    @property
    def trained_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of what inference needs of the trained group: parameters and running statistics."""
        return [((self.size,), "float32"), ((self.program.statistics,), "float32")]

    @property
    def trained_bytes(self) -> list[int]:
        """Their sizes in bytes."""
        return [4 * self.size, 4 * self.program.statistics]

    @property
    def published_bytes(self) -> int:
        """Bytes of what the forward pass reads of all weights."""
        return 4 * self.size

    def trained_regions(self) -> list[Region]:
        """Of the regions, those that hold what inference needs."""
        return self.regions()[:2]

    def load(self, trained: TrainedLayer) -> None:
        """Fills these from a trained group, which has its running statistics in the place of biases."""
        self.ram.weights[:], self.ram.running[:] = trained.weights, trained.bias

    def forget(self, flash: Flash) -> None:
        """Lets go of what only training needs."""
        for name in self.objects():
            flash.drop(name)

    def keep(self, flash: Flash) -> None:
        """Writes what inference needs of the trained group."""
        flash.new(self.name("trained"), self.trained_bytes, slots=1)
        for item, view in enumerate((self.ram.weights, self.ram.running)):
            flash.write(self.name("trained"), item, [view])
