"""What GIFF and backpropagation have in common on networks of any layers: groups of layers, their arrays and flash.

In a step the groups (:mod:`tinyfoa_np.layers.group`) train in turn.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..architectures import Architecture, Description
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
    """Groups of layers in training, in one arena.

    Parameters
    ----------
    recipe, inputs
        As for :class:`.stage.Stage`.
    architecture : Architecture
    chains : sequence of sequences of descriptions
        The layers of each group.
    classes, batches, threads
        As for :class:`.stage.Stage`.
    tiling : Tiling
        B, the most samples that are held at a time, a batch or a micro-batch.
    """

    layers: list[Group]

    def __init__(
        self,
        recipe: Recipe,
        inputs: Encoding,
        architecture: Architecture,
        chains: Sequence[Sequence[Description]],
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
        for chain in chains:
            program = Program(chain, shape)
            below = Group(recipe, program, below, self.beside(program), batches, threads, self.B)
            self.layers.append(below)
            shape = program.shapes[program.output]

    def beside(self, program: Program) -> tuple[int, int]:
        """Shape of what trains beside a program's layers."""
        return 0, 0

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        """The batch, and what the groups' losses need."""
        begin = tuple(f"{phase}:0.0" for phase in ("forward", *INFERENCE))
        return [
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, ("load", *begin)),
            Region("input_scale", (1,), "float32", ("load",)),
            Region("labels", (self.B,), "uint16", (*TRAINING, *INFERENCE)),
            Region("commit", (max(group.commit_bytes for group in self.layers),), "uint8", ("load",)),
            *(region for group in self.layers for region in self.top_regions(group)),
        ]

    @abstractmethod
    def top_regions(self, group: Group) -> list[Region]:
        """What is needed where a group's loss is made, at the step ``group.top`` of gradient and update."""

    def cost(self) -> tuple[float, ...]:
        """What a step takes, beside other ways to cut it: micro-batches are all there are."""
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
        """The optimizer in step number ``step`` of the training, in which all parts of a batch are."""
        self.t += part.first == 0
        return optimizer_step(self.recipe, self.t, step // self.batches)

    def unpack(self, samples: int) -> Callable[[np.ndarray], None]:
        """Makes the samples in the arena the maps that the first group reads."""
        return lambda maps: unpack_samples(self.inputs, self.ram.inputs, samples, maps, self.cores)

    @property
    def row(self) -> np.ndarray:
        return empty((0,))  # digests read parameters where they are

    @abstractmethod
    def look(self, samples: int, phase: str) -> None:
        """A pass without training, to :meth:`scores`."""

    def evaluate(self, flash: Flash, part: Part) -> int:
        self.look(part.samples, "evaluate")
        return self.wrong(part.samples)

    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        self.look(part.samples, "hand-over")
        return self.wrong(part.samples)

    def answer(self, samples: int) -> None:
        self.look(samples, "evaluate")
