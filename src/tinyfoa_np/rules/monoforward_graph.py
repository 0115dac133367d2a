"""Mono-Forward (Gong and others, arXiv 2501.09238) through convolutions: one layer after another, by heads that learn.

Layers are convolutions and fully connected layers with biases and ReLU, each with the pooling that follows it, and
with a head M (C, N) on all N numbers of its output h. They train one after another, lowest first, in equal shares of
the epochs; only one trains in a step:

    forward             h = layer(h of the layer below, which has been trained and is frozen)
    goodness            G = h M^T,  p = softmax(G),  loss = mean cross-entropy
    error               dG = (p - Y) / B,  dh = dG M
    head                dM = dG^T h; the optimizer's step with a rate of its own (``head_lr``)
    gradient, update    ordinary, within the layer; the optimizer begins anew with each layer
    prediction          the class with the largest G of the layer in training; after training, of the last layer

Weights and activations are real, and heads have no biases. Outputs of lower layers are recomputed in every step: all
weights are in RAM. A schedule of the learning rate runs once for each layer. As on fully connected networks, the
order of training, the optimizer and the biases of layers are choices of this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..architectures import Architecture, Description
from ..kernels import conv_update as update_kernels
from ..layers.encoding import empty
from ..layers.graph import Program
from ..layers.group import Group
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import INFERENCE
from .head_stage import HeadStage


class Network(HeadStage):
    """A network trained by Mono-Forward; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If the network has batch norm, or there are fewer epochs than layers.
    """

    extra_biased, error_phases = False, ("gradient", "update", *INFERENCE)

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        self.head_recipe = replace(self.recipe, lr=float(self.recipe.options["head_lr"]))
        return super().build(architecture)

    def beside(self, program: Program) -> tuple[int, int]:
        """Shape of a layer's head: a row for each output."""
        rows, columns, channels = program.shapes[-1]
        return rows * columns * channels, self.C

    def top_regions(self, group: Group) -> list[Region]:
        """Regions in which a layer's head trains."""
        top, threads = len(group.program.operations), min(self.cores, group.O)
        run = update_kernels.run_width(group.extra, threads, group.micro)
        return [
            *super().top_regions(group),
            Region(f"head_gradient{group.number}", (threads, run), "float32", group.added_up(top)),
            Region(f"head_lost{group.number}", (threads,), "bool", group.steps([f"update:{top}"])),
        ]

    def head_of(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        return group.ram.weights[group.program.parameters :].reshape(group.extra), empty((0,))

    def train_head(self, group: Group, part: Part, step: int) -> bool:
        self.arena.enter(f"update:{group.top}")
        head, h = group.tensor(group.program.parameters, group.extra), group.output.reshape(self.B, -1)
        run, lost = self.ram[f"head_gradient{group.number}"], self.ram[f"head_lost{group.number}"]
        move, turn = self.move(self.head_recipe, step), (part.first > 0, part.ends)
        update_kernels.train_connection(h, part.samples, self.ram.error, head, move, *turn, run, lost)
        return not lost.any()
