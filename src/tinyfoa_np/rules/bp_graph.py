"""Backpropagation through networks of arbitrary layers, the baseline for GIFF.

All layers and the head are one group (:mod:`.group_stage`), with the loss on top; frozen units are a group below it,
which no error enters:

    error           dz_top = (softmax(z_top) - Y) / B,  the loss its mean cross-entropy
    backward        through each operation in turn; its parameters train as soon as its error is passed on
    answer          the largest logit

Every activation that a gradient reads is kept until that gradient is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..architectures import Architecture, Description
from ..layers.group import Group
from ..layers.head import cross_entropy
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import INFERENCE
from ..storage.flash import Flash
from .group_stage import GroupStage
from .stage import Outcome


class Network(GroupStage):
    """A network trained by backpropagation; parameters as for :class:`.group_stage.GroupStage`."""

    beside_answers = GroupStage.beside_answers | {"unused_error"}

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        parts = architecture.units[: (cut := len(self.recipe.frozen))], architecture.units[cut:]
        below, above = ([layer for unit in part for layer in unit] for part in parts)
        self.frozen_groups = {0} if below else set()
        return [*([below] if below else []), [*above, *architecture.head]]

    def top_regions(self, group: Group) -> list[Region]:
        """Regions of the loss."""
        at = group.top
        looking = tuple(f"{phase}:{at}" for phase in INFERENCE)
        return [
            Region("result", (2,), "float64", (f"gradient:{at}", *looking)),
            Region("unused_error", (self.B, self.C), "float32", looking),
        ]

    @property
    def logits(self) -> np.ndarray:
        """Output of the top layer (B, C)."""
        return self.layers[-1].output.reshape(self.B, self.C)

    def forward(self, samples: int, phase: str) -> None:
        """Run the groups."""
        for group in self.layers:
            group.forward(samples, phase, self.unpack(group, samples))

    def _cross_entropy(self, samples: int, of: int, error: np.ndarray) -> tuple[float, int]:
        """Compute the logits' errors (B, C) for a batch of ``of``; return the summed loss and wrong predictions."""
        return cross_entropy(self.logits.T, samples, self.ram.labels, error.T, self.ram.result, of)

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples."""
        group, move = self.layers[-1], self.next_step(step, part)
        self.forward(part.samples, "forward")
        self.arena.enter(f"gradient:{group.top}")
        error, direct = group.error(group.program.output).reshape(self.B, self.C), self.direct(group, part.samples)
        loss, wrong = self._cross_entropy(part.samples, part.of, error)
        return Outcome.of(loss, wrong, bool(np.isfinite(loss)) and group.backward(part, move, direct))

    def direct(self, group: Group, samples: int) -> Callable[[int], None] | None:
        """A function that writes the error of an operation's output, if errors are not sent down."""
        return None

    def infer(self, samples: int, phase: str) -> None:
        self.forward(samples, phase)
        self.arena.enter(f"{phase}:{self.layers[-1].top}")

    def wrong(self, samples: int) -> int:
        return self._cross_entropy(samples, samples, self.ram.unused_error)[1]

    def scores(self, samples: int) -> np.ndarray:
        return self.logits[:samples].T
