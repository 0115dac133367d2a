"""CwComp: convolutions whose blocks of channels compete for the classes, with a loss per layer and no negative samples.

Papachristodoulou and others, "Convolutional Channel-wise Competitive Learning for the Forward-Forward Algorithm", AAAI
2024 (arXiv 2312.12668). The channels of each layer are divided into C blocks, one per class. In a step the layers train
in turn:

    layer           r = max(W * x + b, 0)               every second convolution has C groups of channels
                    s = maxima of 2 x 2 of r            after every second convolution, otherwise r
                    y = gamma (s - mean) / deviation + beta         batch norm, deviation sqrt(variance + 1e-4)
    goodness        G_c = mean y^2 over block c and all positions
    loss            mean cross-entropy of G
    gradient        dy = 2 y (softmax(G) - Y) / B / (entries of a block), then back through the layer
    update          W, b, gamma and beta by the optimizer
    hand on         x = y, from before the update
    predictor       p = softmax(S y + t) on the last layer's outputs
                    loss: cross-entropy of p taken as logits, as published: a second softmax
                    da = p (dp - sum dp p), dp = (softmax(p) - Y) / B; gradient descent with ``predictor_lr``
    prediction      the class with the largest p, or (``predictor`` goodness, without S) with the last layer's largest G

No error passes to the layer below: a step needs the arrays of one layer. ``windows`` names the epochs in which each
layer trains, for interleaved or layer-by-layer training: ``1-11|1-16|1-21|1-25``. In other epochs a layer only passes
its outputs on, still with the statistics of the batch. A fully connected layer is a convolution of one position, not
grouped, with nothing to pool; the channels of ``cnn`` are rounded up to multiples of the classes. The authors train
``conv:20,80,240,480`` in batches of 128 with Adam at 0.01.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..architectures import Architecture, Description, Shape, in_blocks
from ..errors import BadRequest
from ..kernels import cwcomp as own_kernels
from ..layers.graph import Program
from ..layers.group import Group, optimizer_step
from ..layers.head import cross_entropy
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import COMPUTING
from ..recipe import Recipe
from ..storage.flash import Flash
from .goodness import Scored
from .group_stage import GroupStage
from .stage import Outcome


def chain(unit: Sequence[Description], grouped: bool, classes: int) -> list[Description]:
    """The layers of a unit: its convolution with biases, pooling and batch norm; refuses what has no blocks."""
    layers: list[Description] = []
    for kind, *rest in unit:
        if kind in ("pool", "maxpool"):
            layers.append((kind, *rest))
            continue
        if kind not in ("conv", "dense", "plain"):
            raise BadRequest("algorithm cwcomp has its own batch norm: write 'conv:20,80,240,480'")
        below, width = rest[:2]
        stride, *window = {"conv": (rest[-1], 3, 3), "dense": (1, 1, 1), "plain": rest[2:]}[kind]
        own = grouped and kind != "dense"
        for channels, what in ((width, "a layer has"), (below if own else 0, "every second layer reads")):
            if channels % classes:
                raise BadRequest(
                    f"algorithm cwcomp gives each of {classes} classes a block of channels: {what} {channels}, but"
                    f" multiples of {classes} are possible"
                )
        layers.append(("competing", below, width, stride, *window, classes if own else 1, own))
    return layers


def windows(text: str, layers: int) -> list[tuple[int, int]]:
    """For each layer, the number of its first epoch, from 0, and that of the epoch after its last; 0 is no end."""
    if not text:
        return [(0, 0)] * layers
    found = [(int(first) - 1, int(last)) for first, last in re.findall(r"(\d+)-(\d+)", text)]
    if len(found) != layers or any(not 0 <= first < last for first, last in found):
        right = "|".join(f"1-{n + 2}" for n in range(layers))
        raise BadRequest(f"windows is {text[:40]!r}: write first and last epoch of each of {layers} layers, as {right}")
    return found


class Network(Scored, GroupStage):
    """A network trained by CwComp; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If a layer's channels are not a multiple of the classes, images are too small, or the network has batch norm.
    """

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        own, shape, layers = self.recipe.options, architecture.shape, []
        if {unit[-1][0] for unit in architecture.units} > {"dense"}:
            raise BadRequest(
                "algorithm cwcomp has no fully connected layers on convolutions: leave f out of the network"
            )
        for number, unit in enumerate(in_blocks(architecture.units, self.C)):
            layers.append(chain(unit, number % 2 == 1, self.C))
            shape = self._pooled(layers[-1], shape)
        self.losses: list[float] = []  # of each layer in the last step, NaN if it did not train, then the predictor's
        self.trained, self.predicts = len(layers), own["predictor"] == "softmax"
        epochs = windows(str(own["windows"]), self.trained)
        self.windows = [(first * self.batches, last * self.batches or 2**62) for first, last in epochs]  # in steps
        return [*layers, [("linear", prod(shape), self.C)]] if self.predicts else layers

    def _pooled(self, layers: Sequence[Description], shape: Shape) -> Shape:
        program = Program(layers, shape)
        if not prod(program.shapes[program.output]):
            raise BadRequest(
                f"network {self.recipe.network} takes maxima of 2 x 2 positions after every second convolution: these"
                " images leave it fewer"
            )
        return program.shapes[program.output]

    def recipe_of(self, number: int) -> Recipe:
        """The predictor trains by gradient descent, at its own rate."""
        if number < self.trained:
            return self.recipe
        return replace(self.recipe, optimizer="sgd", lr=float(self.recipe.options["predictor_lr"]))

    def widest_steps(self) -> set[int]:
        """The first step, and the first one of each layer."""
        return {0, *(first for first, _ in self.windows)}

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        """Regions of the layers; the goodness of the layer in turn and its error, and what answers."""
        tops = tuple(f"gradient:{group.top}" for group in self.layers)
        turns = tops[: self.trained]
        return [
            *super().extra(),
            Region("goodness", (self.C, self.B), "float32", turns, turns),
            Region("slopes", (self.C, self.B), "float32", turns),
            Region("scores", (self.C, self.B), "float32", COMPUTING),
            Region("result", (2,), "float64", tops),
        ]

    def top_regions(self, group: Group) -> list[Region]:
        return []

    # -- passes --------------------------------------------------------------------------------------------------------

    def _forward(self, group: Group, samples: int, phase: str) -> np.ndarray:
        """Run a layer; return its outputs y (B, P, O)."""
        maps = group.forward(samples, phase, self.unpack(group, samples))
        return maps.reshape(self.B, -1, maps.shape[-1])

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples, layer by layer."""
        samples, wrong, self.losses = part.samples, 0, []
        self.next_step(step, part)
        for group in self.layers:
            y = self._forward(group, samples, "forward")
            group.dirty = True  # at least its running statistics
            self.arena.enter(f"gradient:{group.top}")
            begin, end = self.windows[group.number] if group.number < self.trained else (0, 2**62)
            in_turn = begin <= step < end
            loss = self._loss_and_error(group, y, samples, part.of, in_turn)
            self.losses.append(loss / samples if in_turn else np.nan)
            if not np.isfinite(loss):
                return Outcome.of(loss, samples, what=f"loss of layer {group.number + 1}")
            self.arena.enter(f"update:{group.top}")
            if in_turn:
                t = max(1, self.t - begin)  # an audit may rehearse a step out of turn
                move = optimizer_step(group.recipe, t, step // self.batches)
                if not group.backward(part, move):
                    return Outcome.of(loss, samples, False)
            if group is self.layers[-1]:
                wrong = self.wrong(samples)
        return Outcome(sum(loss for loss in self.losses if loss == loss) * samples, wrong)  # without those not in turn

    def _loss_and_error(self, group: Group, y: np.ndarray, samples: int, of: int, in_turn: bool) -> float:
        """Compute the error of a layer's or the predictor's outputs; return the summed loss."""
        ram, error = self.ram, group.error(group.program.output).reshape(y.shape)
        if group.number == self.trained:
            ram.scores[:] = y[:, 0].T
            own_kernels.predictor_loss(y[:, 0], samples, ram.labels, error[:, 0], ram.result)
            return float(ram.result[0])
        own_kernels.block_squares(y, samples, ram.goodness, self.cores)
        if group is self.layers[-1]:
            ram.scores[:] = ram.goodness
        if not in_turn:
            return 0.0
        loss, _ = cross_entropy(ram.goodness, samples, ram.labels, ram.slopes, ram.result, of)
        own_kernels.block_errors(y, samples, ram.slopes, error, self.cores)
        return loss

    def infer(self, samples: int, phase: str) -> None:
        for group in self.layers:
            y = self._forward(group, samples, phase)
        self.arena.enter(f"{phase}:{self.layers[-1].top}")
        if self.predicts:
            self.ram.scores[:] = y[:, 0].T
        else:
            own_kernels.block_squares(y, samples, self.ram.scores, self.cores)
