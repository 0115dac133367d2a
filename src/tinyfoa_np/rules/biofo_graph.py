"""Bio-FO (Huang, Aminifar and others, MLSys 2025) through convolutions: one layer after another, by fixed heads.

Layers are convolutions and fully connected layers with biases and ReLU, each with the pooling that follows it. They
train one after another, lowest first, in equal shares of the epochs; only one trains in a step:

    forward             h = layer(h of the layer below, which has been trained and is frozen)
    head                a = h P^T + c,  P (C, N) and c (C,) fixed, uniform in +-1 / sqrt(N), N numbers in h
    loss                mean cross-entropy of p = softmax(a)
    error               dh = ((p - Y) / B) P
    gradient, update    ordinary, within the layer; the optimizer begins anew with each layer
    prediction          the class with the largest a of the layer in training; after training, of the last layer

Heads are those of the published scripts for convolutions: linear layers with PyTorch's initialization. The batch norm
that these scripts declare is never used. Outputs of lower layers are recomputed in every step: all weights are in RAM.
A schedule of the learning rate runs once for each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from ..architectures import Architecture, Description
from ..errors import BadRequest
from ..layers.group import Group
from ..layers.head import uniform_rows
from ..layers.trained import TrainedLayer
from ..ram.packing import Region
from ..recipe import Recipe
from .head_stage import HeadStage

#: offset of the heads' biases in the numbering of random numbers
BIASES = 1000


class Network(HeadStage):
    """A network trained by Bio-FO; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If the network has batch norm, there are fewer epochs than layers, or another head is asked for.
    """

    beside_answers = HeadStage.beside_answers | {"lower_head", "lower_bias"}

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        groups = super().build(architecture)
        if self.recipe.options["head"] != "ternary":
            raise BadRequest("head applies to fully connected networks: leave it out")
        return groups

    def head_regions(self, group: Group) -> list[Region]:
        head, bias = self._names(group)
        return [Region(head, (group.O, self.C), "float32"), Region(bias, (self.C,), "float32")]

    def _names(self, group: Group) -> tuple[str, str]:
        """Names of the arrays of a layer's head."""
        g = group.number
        return (f"lower_head{g}", f"lower_bias{g}") if group.above else ("head", "bias")

    def head_of(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """A layer's head (N, C), and its biases (C,)."""
        head, bias = (self.ram[name] for name in self._names(group))
        return head, bias

    def project(self) -> None:
        """Generate the heads."""
        for group in self.layers:
            self.head(*self.head_of(group), group.number, self.recipe)

    @staticmethod
    def head(head: np.ndarray, bias: np.ndarray, number: int, recipe: Recipe) -> None:
        """Generate the head (N, C) of a layer, and its biases (C,)."""
        bound = 1 / sqrt(len(head))
        uniform_rows(head, 0, len(head), number, recipe.seed, bound)
        uniform_rows(bias[None], 0, 1, BIASES + number, recipe.seed, bound)

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        super().load(trained)
        self.head(*self.head_of(self.layers[-1]), self.count - 1, self.recipe)
