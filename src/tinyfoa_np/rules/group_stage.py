"""Common base of GIFF and backpropagation on deep networks: groups of layers, their arrays and flash objects.

In a step the groups (:mod:`tinyfoa_np.layers.group`) train in turn.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from ..architectures import Architecture, Description, Shape
from ..kernels.conv_update import Step
from ..layers.encoding import Encoding, empty
from ..layers.graph import Program
from ..layers.group import Group, optimizer_step, unpack_samples
from ..layers.layer import Part
from ..layers.tiling import Tiling
from ..ram.packing import Region
from ..ram.phases import INFERENCE, TRAINING
from ..recipe import Recipe
from ..storage.flash import Flash
from .stage import Stage


class GroupStage(Stage):
    """Groups of layers trained in one arena.

    Parameters
    ----------
    recipe, inputs
        As for :class:`.stage.Stage`.
    architecture : Architecture
    classes, batches, threads
        As for :class:`.stage.Stage`.
    tiling : Tiling
        B, the number of samples held at a time: a batch or a micro-batch.
    """

    layers: list[Group]
    frozen_groups: Collection[int] = ()  # numbers of groups that keep their parameters
    extra_biased = True  # whether the last row of the parameters beside a program's layers are biases

    def __init__(
        self,
        recipe: Recipe,
        inputs: Encoding,
        architecture: Architecture,
        classes: int,
        batches: int,
        threads: int,
        tiling: Tiling,
    ) -> None:
        super().__init__(recipe, inputs, classes, batches, threads, tiling)
        self.shape, self.t = architecture.shape, 0
        self.B, self.micro = tiling.samples, tiling.samples < recipe.batch
        self.layers = []
        shape, below = self.shape, None
        for chain in self.build(architecture):
            program = self.program(chain, shape)
            frozen = len(self.layers) in self.frozen_groups
            own = self.recipe_of(len(self.layers))
            beside = self.beside(program), self.extra_biased
            below = Group(own, program, below, *beside, batches, threads, self.B, frozen)
            self.layers.append(below)
            shape = program.shapes[program.output]

    @abstractmethod
    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        """Read the recipe's options; return the layers of each group."""

    def recipe_of(self, number: int) -> Recipe:
        """The recipe by which a group trains: its optimizer and rate may be its own."""
        return self.recipe

    def program(self, chain: Sequence[Description], shape: Shape) -> Program:
        """The program of a group's layers."""
        return Program(chain, shape)

    def beside(self, program: Program) -> tuple[int, int]:
        """Shape of the parameters trained in addition to a program's layers."""
        return 0, 0

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        """Regions of the batch."""
        begin = tuple(f"{phase}:0.0" for phase in ("forward", *INFERENCE))
        return [
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, ("load", *begin)),
            Region("input_scale", (1,), "float32", ("load",)),
            Region("labels", (self.B,), "uint16", (*TRAINING, *INFERENCE)),
            Region("commit", (max(group.commit_bytes for group in self.layers),), "uint8", ("load",)),
        ]

    def besides(self) -> Iterator[Region]:
        """The regions of :meth:`extra`, and those of the groups' losses, group by group."""
        yield from self.extra()
        for group in self.layers:
            yield from self._top_regions(group)

    def _top_regions(self, group: Group) -> list[Region]:
        """Regions needed for a group's loss; those of a frozen one serve the group above."""
        found = self.top_regions(group)
        if not group.frozen:
            return found
        found = [region.limited(lambda phase: not phase.endswith(f":{group.top}")) for region in found]
        return [region for region in found if region.phases]

    @abstractmethod
    def top_regions(self, group: Group) -> list[Region]:
        """Regions needed while a group's loss is computed, at the step ``group.top`` of gradient and update."""

    def cost(self) -> tuple[float, ...]:
        """Cost of a step relative to other tilings: only the size of micro-batches varies."""
        return (-self.B,)

    # -- flash and state -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        return {"steps": self.t, "dirty": [group.dirty for group in self.layers]}

    @state.setter
    def state(self, known: dict[str, Any]) -> None:
        self.t = known["steps"]
        for group, dirty in zip(self.layers, known["dirty"], strict=True):
            group.dirty = dirty

    # -- passes --------------------------------------------------------------------------------------------------------

    def next_step(self, step: int, part: Part) -> Step:
        """Optimizer settings for training step ``step``, shared by all parts of a batch."""
        self.t += part.first == 0
        return optimizer_step(self.recipe, self.t, step // self.batches)

    def unpack(self, group: Group, samples: int) -> Callable[[np.ndarray], None] | None:
        """A function that unpacks the samples in the arena into what the first group reads; None for others."""
        if group.below:
            return None
        return lambda maps: unpack_samples(self.inputs, self.ram.inputs, samples, maps, self.cores)

    @property
    def row(self) -> np.ndarray:
        return empty((0,))  # unused: digests read parameters in place

    @abstractmethod
    def infer(self, samples: int, phase: str) -> None:
        """Run a pass without training, up to :meth:`scores`."""

    def evaluate(self, flash: Flash, part: Part) -> int:
        self.infer(part.samples, "evaluate")
        return self.wrong(part.samples)

    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        self.infer(part.samples, "hand-over")
        return self.wrong(part.samples)

    def answer(self, samples: int) -> None:
        self.infer(samples, "evaluate")
