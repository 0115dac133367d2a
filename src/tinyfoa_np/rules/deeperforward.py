"""DeeperForward: convolutions that each learn from the mean activity of a block of channels per class.

Sun and others, "DeeperForward: Enhanced Forward-Forward Training for Deeper and Better Performance", ICLR 2025. The
channels of each layer are divided into C blocks, one per class. In a step the layers train in turn:

    input           x = (x - mean) / deviation            over each sample
    layer           y = D max(W * x, 0)                   a convolution without biases; D dropout over the keep rate
    goodness        G_c = mean y over block c and all positions
    loss            mean cross-entropy of G
    gradient        dy = D (softmax(G) - Y) / B / (entries of a block)    where y > 0, else 0
                    dW = x * dy
    update          W = W (1 - lr decay), then Adam's step (AdamW)
    hand on         x = (y - mean) / deviation            over each sample and block; y from before the update
    prediction      the class with the largest sum of G over the layers from ``first_layer`` on

Deviations are sqrt(variance + 1e-5). Each layer hands on blocks of mean 0, so that the goodness of the layer below
tells the next one nothing. No error passes through a layer: a step needs the inputs, the outputs and the errors of one
layer. Means of 2 x 2 positions (``p2``) may stand in front of a convolution. A fully connected layer is a convolution
of one position. In ``resnet8`` and ``resnet17`` some inputs are sums or concatenations, as :mod:`.shortcuts` says, and
batch norm is left out; channels of ``resnet8`` and ``cnn`` are rounded up to multiples of the classes.

The authors train 150 epochs in batches of 128, at a rate from 0.08 to 0.008 (half a cosine), decay 5e-4, dropout 0.2;
5,000 held-out samples choose the layers that answer. Their networks: ``conv:100k5,p2,200k5,p2,400x2``, ``resnet17``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..architectures import Architecture, Description, Shape
from ..kernels import conv_norm_pool as map_kernels
from ..kernels import deeperforward as own_kernels
from ..kernels import random as random_kernels
from ..layers.encoding import words
from ..layers.graph import Program
from ..layers.group import Group
from ..layers.head import cross_entropy
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import BACKWARD, COMPUTING
from ..storage.flash import Flash
from .goodness import Scored
from .group_stage import GroupStage
from .shortcuts import input_shapes, layers_of
from .stage import Outcome


class Network(Scored, GroupStage):
    """A network trained by DeeperForward; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If a layer's channels are not a multiple of the classes, or the network is of another kind.
    """

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        begin = 0
        for number, own in enumerate(self.layout):
            if own.shortcut:
                self.kept_by[number] = begin
                if self.layout[begin].keep == 1:
                    self.layers[begin].lent = self.layers[number]
            begin = number if own.keep else begin

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        stays = 1 - (self.recipe.dropout or 0.0)
        self.kept, self.grown = np.uint64(round(stays * 65536)), np.float32(1 / stays)
        self.losses: list[float] = []  # of each layer in the last step
        self.layout = layers_of(architecture, self.C)
        self.read = list(input_shapes(self.layout, architecture.shape))
        self.kept_by: dict[int, int] = {}  # layers with a shortcut, and the layer whose input each reads
        self.first = min(self.recipe.options["first_layer"], len(self.layout)) - 1
        return [own.chain for own in self.layout]

    def program(self, chain: Sequence[Description], shape: Shape) -> Program:
        return super().program(chain, self.read[len(self.layers)])

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        """Regions of the layers; means and deviations of the blocks of the layer in turn, and its goodness' error."""
        readers = {begin: number for number, begin in self.kept_by.items()}  # the last of each
        width = max(self.shape[2], *(group.program.shapes[-1][2] for group in self.layers))
        return [
            *super().extra(),
            Region("mean", (self.C, self.B), "float32", COMPUTING),
            Region("inverse", (self.C, self.B), "float32", COMPUTING),
            Region("sums", (self.cores, 2, width), "float64", COMPUTING),
            Region("slopes", (self.C, self.B), "float32", BACKWARD),
            Region("scores", (self.C, self.B), "float32", COMPUTING),
            Region("result", (2,), "float64", BACKWARD),
            *(self._halved(begin, last) for begin, last in readers.items() if self.layout[begin].keep == 2),
        ]

    def _halved(self, begin: int, number: int) -> Region:
        """The region of what is kept of a layer's input, as means of 2 x 2 positions, for a shortcut."""
        rows, columns, channels = self.read[begin]
        steps = self.layers[begin].until(self.layers[number])
        return Region(f"g{begin}.kept", (self.B, rows // 2, columns // 2, channels), "float32", tuple(steps))

    def top_regions(self, group: Group) -> list[Region]:
        """The region of a layer's dropout mask."""
        last, width = len(group.program.operations) - 1, prod(group.program.shapes[-1])
        shape = self.B if self.recipe.dropout else 0, words(width)
        return [Region(f"g{group.number}.mask", shape, "uint64", group.steps([f"forward:{last}"]))]

    # -- passes --------------------------------------------------------------------------------------------------------

    def _forward(self, group: Group, samples: int, phase: str) -> np.ndarray:
        """Run a layer on what the one below hands on; return its outputs y (B, P, O)."""
        return _places(group.forward(samples, phase, lambda maps: self._prepare(group, maps, samples)))

    def _prepare(self, group: Group, maps: np.ndarray, samples: int) -> None:
        """Compute a layer's input, normalized, with its shortcut; halve it for a later one."""
        number, blocks, below = group.number, self.C, group.below.output if group.below else maps
        if unpack := self.unpack(group, samples):
            unpack(maps)
            blocks = 1
            self._measure(maps, samples, blocks)
        known = self.ram.mean[:blocks], self.ram.inverse[:blocks], self.ram.sums
        own_kernels.normalize(_places(below), samples, *known)
        if number in self.kept_by:
            kept, x = _places(self._kept(self.kept_by[number])), _places(maps)
            if group.apart:
                own_kernels.join(_places(below), samples, kept, x, self.cores)
            else:
                own_kernels.add(x, samples, kept, self.cores)
        if self.layout[number].keep == 2 and number in self.kept_by.values():
            map_kernels.pool(maps, samples, 2, 2, self._kept(number), self.cores)

    def _kept(self, number: int) -> np.ndarray:
        """What is kept of a layer's input."""
        return self.ram[f"g{number}.kept"] if self.layout[number].keep == 2 else self.layers[number].value(0)

    def _measure(self, maps: np.ndarray, samples: int, blocks: int) -> None:
        """Compute means and deviations of each sample's blocks of channels."""
        known = self.ram.mean[:blocks], self.ram.inverse[:blocks], self.ram.sums
        own_kernels.block_stats(_places(maps), samples, *known)

    def _score(self, g: int, y: np.ndarray, samples: int) -> None:
        """Compute a layer's goodness; add it to the scores if the layer answers."""
        scores, goodness = self.ram.scores, self.ram.mean
        self._measure(y, samples, self.C)
        if g <= self.first:
            scores[:] = goodness
        else:
            np.add(scores, goodness, out=scores)

    # -- one batch -----------------------------------------------------------------------------------------------------

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples, layer by layer."""
        samples, ram, move = part.samples, self.ram, self.next_step(step, part)
        self.losses = []
        for g, group in enumerate(self.layers):
            y = self._forward(group, samples, "forward")
            if self.recipe.dropout:
                self._drop(g, y.reshape(self.B, -1), part, step)
            self.arena.enter(f"gradient:{group.top}")
            self._score(g, y, samples)
            loss, _ = cross_entropy(ram.mean, samples, ram.labels, ram.slopes, ram.result, part.of)
            self.losses.append(loss / samples)
            if not np.isfinite(loss):
                return Outcome.of(loss, samples, what=f"loss of layer {g + 1}")
            error = _places(group.error(group.program.output))
            own_kernels.block_errors(ram.slopes, samples, self.grown, error, self.cores)
            self.arena.enter(f"update:{group.top}")
            if part.ends:
                np.multiply(group.ram.weights, self._decay(step), out=group.ram.weights)
            if not group.backward(part, move):
                return Outcome.of(loss, samples, False)
        return Outcome(sum(self.losses) * samples, self.wrong(samples))

    def _drop(self, g: int, y: np.ndarray, part: Part, step: int) -> None:
        """Dropout of a layer's outputs (B, P O)."""
        mask, seed = self.ram[f"g{g}.mask"], np.uint64(self.recipe.seed)
        random_kernels.mask(mask, part.first, part.samples, y.shape[1], self.kept, step, g, seed, self.cores)
        own_kernels.drop(y, part.samples, mask, self.grown, self.cores)

    def _decay(self, step: int) -> np.float32:
        """What is left of a weight before its step: 1 - lr decay."""
        assert self.recipe.lr is not None and self.recipe.decay is not None
        return np.float32(1 - self.recipe.lr * self.recipe.lr_at(step // self.batches) * self.recipe.decay)

    def infer(self, samples: int, phase: str) -> None:
        for g, group in enumerate(self.layers):
            y = self._forward(group, samples, phase)
            self.arena.enter(f"{phase}:{group.top}")
            self._score(g, y, samples)


def _places(maps: np.ndarray) -> np.ndarray:
    """Reshape (B, .., O) to (B, P, O)."""
    return maps.reshape(len(maps), -1, maps.shape[-1])
