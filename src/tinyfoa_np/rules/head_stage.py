"""Graphs of layers that train one after another, each through a head: the base of Bio-FO and Mono-Forward on them.

Layers are convolutions and fully connected layers with biases and ReLU, each with the pooling that follows it. They
train one after another, lowest first, in equal shares of the epochs; a schedule of the learning rate runs once in each.
Only one layer trains in a step: what it reads is computed again by the layers below, so all weights are in RAM.

    forward             h = layer(h of the layer below, which has been trained and is frozen)
    head                a = h M^T + c, on all numbers of h
    loss                mean cross-entropy of p = softmax(a)
    error               dh = ((p - Y) / B) M
    gradient, update    ordinary, within the layer; the optimizer begins anew with each layer
    prediction          the class with the largest a of the layer in training; after training, of the last layer
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from ..architectures import Architecture, Description
from ..errors import BadRequest
from ..kernels import conv_backward as backward_kernels
from ..kernels import conv_forward as forward_kernels
from ..kernels.conv_update import Step
from ..layers.group import Group, optimizer_step
from ..layers.head import cross_entropy
from ..layers.layer import Part
from ..layers.trained import TrainedLayer
from ..ram.packing import Region
from ..ram.phases import INFERENCE
from ..recipe import Recipe
from ..storage.flash import Flash
from .feedback_graph import biased
from .group_stage import GroupStage
from .stage import Outcome


class HeadStage(GroupStage):
    """Layers trained one after another in one arena; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If the network has batch norm, or there are fewer epochs than layers.
    """

    beside_answers = GroupStage.beside_answers | {"panel"}
    trained = False  # whether all layers are
    error_phases: tuple[str, ...] = ("gradient", *INFERENCE)  # phases that read the logits' error

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        groups: list[list[Description]] = []
        for unit in architecture.units:
            for layer in unit:
                if layer[0] in ("normed", "residual", "dsconv"):
                    raise BadRequest(
                        f"algorithm {self.recipe.algorithm} trains layers without batch norm: choose"
                        " 'conv:32k5,m2,f500' or cnn"
                    )
                if layer[0] in ("pool", "maxpool"):
                    groups[-1].append(layer)  # no network begins with a pooling
                else:
                    groups.append([biased(layer)])
        self.count, epochs = len(groups), self.recipe.epochs
        if epochs < self.count:
            raise BadRequest(
                f"epochs is {epochs}: algorithm {self.recipe.algorithm} trains {self.count} layers one after another,"
                f" so use --epochs {self.count} or more"
            )
        return groups

    def start(self, layer: int) -> int:
        """The first step in which a layer trains."""
        return -(-layer * self.recipe.epochs // self.count) * self.batches

    def widest_steps(self) -> set[int]:
        return {self.start(layer) for layer in range(self.count)}

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        phases, read = (
            tuple(f"{phase}:{group.top}" for group in self.layers for phase in some)
            for some in (("gradient", *INFERENCE), self.error_phases)
        )
        return [
            *super().extra(),
            Region("logits", (self.B, self.C), "float32", phases),
            Region("error", (self.B, self.C), "float32", read),
            Region("result", (2,), "float64", phases),
        ]

    def top_regions(self, group: Group) -> list[Region]:
        """Regions of a layer's head."""
        panel = self.cores, backward_kernels.panel_width((group.O, self.C))
        sent = Region(f"panel{group.number}", panel, "float32", (f"gradient:{group.top}",))
        return [*self.head_regions(group), sent]

    def head_regions(self, group: Group) -> list[Region]:
        """Regions of a layer's head that are kept from batch to batch, if they are not its parameters."""
        return []

    @abstractmethod
    def head_of(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """A layer's head (N, C), for the N numbers of its output, and the head's biases, (C,) or (0,)."""

    def carried(self) -> frozenset[str]:
        return super().carried() | {region.name for group in self.layers for region in self.head_regions(group)}

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        super().load(trained)
        self.trained = True

    def begin_hand_over(self, flash: Flash) -> list[str]:
        self.trained = True
        return super().begin_hand_over(flash)

    # -- one batch -----------------------------------------------------------------------------------------------------

    @property
    def turn(self) -> int:
        """The layer that trained in the last step; the last one once all are trained."""
        epoch, last = max(0, self.t - 1) // self.batches, self.count - 1
        return last if self.trained else min(epoch * self.count // self.recipe.epochs, last)

    def forward(self, samples: int, phase: str, top: str) -> Group:
        """Run the layers up to the one in training, and its head; return the layer."""
        for group in self.layers[: self.turn + 1]:
            group.forward(samples, phase, self.unpack(group, samples))
        self.arena.enter(f"{top}:{group.top}")
        h = group.output.reshape(self.B, -1)
        forward_kernels.connect(h, samples, *self.head_of(group), False, self.ram.logits, self.cores)
        return group

    def _loss_and_error(self, samples: int, of: int) -> tuple[float, int]:
        ram = self.ram
        return cross_entropy(ram.logits.T, samples, ram.labels, ram.error.T, ram.result, of)

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples, in the layer whose turn it is."""
        samples, self.t, self.trained = part.samples, step + 1, False
        group = self.forward(samples, "forward", "gradient")
        loss, wrong = self._loss_and_error(samples, part.of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        head, panel = self.head_of(group)[0], self.ram[f"panel{group.number}"]
        dh = group.error(group.program.output).reshape(self.B, -1)
        backward_kernels.connect_back(self.ram.error, samples, head, False, panel, dh)
        kept = self.train_head(group, part, step) and group.backward(part, self.move(self.recipe, step))
        return Outcome.of(loss, wrong, kept)

    def move(self, recipe: Recipe, step: int) -> Step:
        """Optimizer settings of the layer in training; the schedule of its epochs is that of the run."""
        begin, end = (self.start(layer) // self.batches for layer in (self.turn, self.turn + 1))
        epoch = (step // self.batches - begin) * self.recipe.epochs // (end - begin)
        return optimizer_step(recipe, self.t - self.start(self.turn), epoch)

    def train_head(self, group: Group, part: Part, step: int) -> bool:
        """Run one training step of a layer's head, if it has any; return False if a number is not finite."""
        return True

    def infer(self, samples: int, phase: str) -> None:
        self.forward(samples, phase, phase)

    def wrong(self, samples: int) -> int:
        return self._loss_and_error(samples, samples)[1]

    def scores(self, samples: int) -> np.ndarray:
        return self.ram.logits[:samples].T
