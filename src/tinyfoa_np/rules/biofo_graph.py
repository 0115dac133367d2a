"""Bio-FO (Huang, Aminifar and others, MLSys 2025) through convolutions: one layer after another, by fixed heads.

Layers are convolutions and fully connected layers with biases and ReLU, each with the pooling that follows it. They
train one after another, lowest first, in equal shares of the epochs; only one trains in a step:

    forward             h = layer(h of the layer below, which has been trained and is frozen)
    head                a = h P^T + c,  P (C, N) and c (C,) fixed, uniform in +-1 / sqrt(N), N numbers in h
    loss                mean cross-entropy of p = softmax(a)
    error               dh = ((p - Y) / B) P
    gradient, update    ordinary, within the layer; the optimizer begins anew with each layer
    prediction          the class with the largest a of the layer in training; in the end of the last one

Heads are those of the published scripts for convolutions, linear layers as PyTorch makes them. The batch norm that
these scripts declare is never used. Outputs of lower layers are computed again in every step: all weights are in RAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

import numpy as np

from ..architectures import Architecture, Description
from ..errors import BadRequest
from ..kernels import conv_backward as backward_kernels
from ..kernels import conv_forward as forward_kernels
from ..layers.group import Group, optimizer_step
from ..layers.head import cross_entropy, uniform_rows
from ..layers.layer import Part
from ..layers.trained import TrainedLayer
from ..ram.packing import Region
from ..ram.phases import INFERENCE
from ..recipe import Recipe
from ..storage.flash import Flash
from .feedback_graph import biased
from .group_stage import GroupStage
from .stage import Outcome

#: offset of the heads' biases in the numbering of random numbers
BIASES = 1000


class Network(GroupStage):
    """A network trained by Bio-FO; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If the network has batch norm, there are fewer epochs than layers, or another head is asked for.
    """

    beside_answers = GroupStage.beside_answers | {"lower_head", "lower_bias", "panel"}
    trained = False  # whether all layers are

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        groups: list[list[Description]] = []
        for unit in architecture.units:
            for layer in unit:
                if layer[0] in ("normed", "residual", "dsconv"):
                    raise BadRequest(
                        "algorithm biofo trains layers without batch norm: choose 'conv:32k5,m2,f500' or cnn"
                    )
                if layer[0] in ("pool", "maxpool"):
                    groups[-1].append(layer)  # no network begins with a pooling
                else:
                    groups.append([biased(layer)])
        self.count, epochs = len(groups), self.recipe.epochs
        if epochs < self.count:
            raise BadRequest(
                f"epochs is {epochs}: algorithm biofo trains {self.count} layers one after another, so use --epochs"
                f" {self.count} or more"
            )
        if self.recipe.options["head"] != "ternary":
            raise BadRequest("head applies to fully connected networks: leave it out")
        return groups

    def start(self, layer: int) -> int:
        """The first step in which a layer trains."""
        return -(-layer * self.recipe.epochs // self.count) * self.batches

    def widest_steps(self) -> set[int]:
        return {self.start(layer) for layer in range(self.count)}

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        phases = tuple(f"{p}:{group.top}" for group in self.layers for p in ("gradient", *INFERENCE))
        return [
            *super().extra(),
            Region("logits", (self.B, self.C), "float32", phases),
            Region("error", (self.B, self.C), "float32", phases),
            Region("result", (2,), "float64", phases),
        ]

    def top_regions(self, group: Group) -> list[Region]:
        """Regions of a layer's head."""
        head, bias = self._names(group)
        shape = prod(group.program.shapes[-1]), self.C
        panel = self.cores, backward_kernels.panel_width(shape)
        return [
            Region(head, shape, "float32"),
            Region(bias, (self.C,), "float32"),
            Region(f"panel{group.number}", panel, "float32", (f"gradient:{group.top}",)),
        ]

    def _names(self, group: Group) -> tuple[str, str]:
        """Names of the arrays of a layer's head."""
        g = group.number
        return (f"lower_head{g}", f"lower_bias{g}") if group.above else ("head", "bias")

    def carried(self) -> frozenset[str]:
        return super().carried() | {name for group in self.layers for name in self._names(group)}

    def project(self) -> None:
        """Generate the heads."""
        for group in self.layers:
            self._generate(group)

    def _generate(self, group: Group) -> None:
        head, bias = (self.ram[name] for name in self._names(group))
        self.head(head, bias, group.number, self.recipe)

    @staticmethod
    def head(head: np.ndarray, bias: np.ndarray, number: int, recipe: Recipe) -> None:
        """Generate the head (N, C) of a layer, and its biases (C,)."""
        bound = 1 / sqrt(len(head))
        uniform_rows(head, 0, len(head), number, recipe.seed, bound)
        uniform_rows(bias[None], 0, 1, BIASES + number, recipe.seed, bound)

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        super().load(trained)
        self._generate(self.layers[-1])
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
        head, bias = (self.ram[name] for name in self._names(group))
        h = group.output.reshape(self.B, -1)
        forward_kernels.connect(h, samples, head, bias, False, self.ram.logits, self.cores)
        return group

    def _judge(self, samples: int, of: int) -> tuple[float, int]:
        ram = self.ram
        return cross_entropy(ram.logits.T, samples, ram.labels, ram.error.T, ram.result, of)

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples, in the layer whose turn it is."""
        samples, self.t, self.trained = part.samples, step + 1, False
        group = self.forward(samples, "forward", "gradient")
        loss, wrong = self._judge(samples, part.of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        head, panel = self.ram[self._names(group)[0]], self.ram[f"panel{group.number}"]
        dh = group.error(group.program.output).reshape(self.B, -1)
        backward_kernels.connect_back(self.ram.error, samples, head, False, panel, dh)
        move = optimizer_step(self.recipe, self.t - self.start(self.turn), step // self.batches)
        return Outcome.of(loss, wrong, group.backward(part, move))

    def look(self, samples: int, phase: str) -> None:
        self.forward(samples, phase, phase)

    def wrong(self, samples: int) -> int:
        return self._judge(samples, samples)[1]

    def scores(self, samples: int) -> np.ndarray:
        return self.ram.logits[:samples].T
