"""FA, DFA and DRTP through convolutions: feedback through fixed random arrays.

Layers are convolutions and, at the end, fully connected layers, all with biases and tanh, pooling between them, and an
output layer on top. Feedback arrives at the output h of a layer, before the pooling of the layer above:

    FA                  dh is that of backpropagation (:mod:`.bp_graph`), also through pooling, but with fixed B_k in
                        place of the weights of layer k
    DFA                 dh = e B_k with e = y - Y; with ``--signal sign`` the signs of e; B_k (C, rows, columns, O)
    DRTP                dh = Y B_k
    backward            dz = dh (1 - h^2)                           (dh [h > 0] with ``--hidden relu``)
    output              y = sigmoid(z), dz = (y - Y) / (B C), the loss their mean binary cross-entropy
                        (``--loss softmax``: y = softmax(z), dz = (y - Y) / B)
    update              all layers, by the optimizer; no clamping

B_k are uniform in +-sqrt(6 / I) for FA, with I inputs for each output of layer k, and in +-sqrt(6 / N) for the others,
with N numbers in h. As on fully connected layers, the gradients of DFA and DRTP are sums over the batch in hidden
layers and means in the output layer. Weights and activations are real.

DFA keeps the outputs of all layers until the backward pass, and an error only while its layer trains. With DRTP each
layer trains right after its forward pass, so the outputs of two layers are kept. FA also trains networks with batch
norm and shortcuts, where ReLU is not replaced by tanh; DFA and DRTP train ``cnn`` and ``conv:...``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod, sqrt

import numpy as np

from ..architectures import Architecture, Description, Shape
from ..errors import BadRequest
from ..kernels import conv_tanh_pool as kernels
from ..kernels import dfa as dfa_kernels
from ..kernels import drtp as drtp_kernels
from ..kernels import random as random_kernels
from ..layers.graph import Program
from ..layers.group import Group
from ..layers.layer import Part
from ..ram.packing import Region
from ..storage.flash import Flash
from . import bp_graph
from .stage import Outcome


def biased(layer: Description) -> Description:
    """A layer with biases, if it is a convolution without batch norm."""
    kind, *rest = layer
    return ("biased", *rest) if kind == "plain" else layer


class FA(bp_graph.Network):
    """A network trained by feedback alignment; parameters as for :class:`.group_stage.GroupStage`."""

    beside_answers = bp_graph.Network.beside_answers | {"feedback", "signal"}
    straight = False  # whether errors come directly from the top

    def build(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        own = self.recipe.options
        self.relu, self.softmax = own.get("hidden") == "relu", own.get("loss") == "softmax"
        return [[biased(layer) for layer in chain] for chain in self.chains(architecture)]

    def chains(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        """The layers of each group."""
        return super().build(architecture)

    def program(self, chain: Sequence[Description], shape: Shape) -> Program:
        return Program(chain, shape, not self.relu, self.straight)

    # -- feedback ------------------------------------------------------------------------------------------------------

    def feedback(self) -> Iterator[tuple[Group, int, tuple[int, ...], float]]:
        """Group and operation of each fixed array, its shape and its bound."""
        for group in self.layers:
            for k, one in enumerate(group.program.operations):
                if not group.frozen and group.sends(one):
                    yield group, k, one.weight, sqrt(6) * one.bound

    def extra(self) -> list[Region]:
        arrays = (Region(f"feedback{group.first + k}", shape, "float32") for group, k, shape, _ in self.feedback())
        return [*super().extra(), *arrays]

    def carried(self) -> frozenset[str]:
        return super().carried() | {f"feedback{group.first + k}" for group, k, _, _ in self.feedback()}

    def project(self) -> None:
        """Generate the fixed arrays."""
        for group, k, _, bound in self.feedback():
            number, array = group.first + k, self.ram[f"feedback{group.first + k}"]
            about = 0, 1, 0, array.size, array.size, number, random_kernels.PROJECTION
            random_kernels.uniform(array.reshape(-1), *about, np.uint64(self.recipe.seed), np.float32(bound))
            group.feedback[k] = array

    # -- the output ----------------------------------------------------------------------------------------------------

    def _cross_entropy(self, samples: int, of: int, error: np.ndarray) -> tuple[float, int]:
        if self.softmax:
            return super()._cross_entropy(samples, of, error)
        result = self.ram.result
        error[:samples], result[:] = self.logits[:samples], 0
        drtp_kernels.output(error.T, samples, self.ram.labels, 0.0, False, result, of)
        return float(result[0]), int(result[1])


class DFA(FA):
    """A network trained by direct feedback alignment; parameters as for :class:`.group_stage.GroupStage`.

    Raises
    ------
    BadRequest
        If the network has batch norm.
    """

    straight = True

    def chains(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        if any(layer[0] in ("normed", "residual", "dsconv") for unit in architecture.units for layer in unit):
            raise BadRequest(
                f"algorithm {self.recipe.algorithm} sends errors to layers without batch norm only: choose"
                " 'conv:32k5,m2,f500' or cnn"
            )
        return super().chains(architecture)

    def feedback(self) -> Iterator[tuple[Group, int, tuple[int, ...], float]]:
        top = self.layers[-1].program
        for group in self.layers:
            for k, one in enumerate(group.program.operations):
                if one.weight and not group.frozen and (group.program is not top or one.target != top.output):
                    places = prod(group.program.shapes[one.target])
                    yield group, k, (self.C, places), sqrt(6 / places)

    def extra(self) -> list[Region]:
        return [*super().extra(), Region("signal", (self.B, self.C), "float32", self.signal_phases())]

    def signal_phases(self) -> tuple[str, ...]:
        """The phases in which the signal is kept: the backward pass."""
        group = self.layers[-1]
        return group.steps(group.program.between(f"gradient:{len(group.program.operations)}", "gradient:0"))

    def direct(self, group: Group, samples: int) -> Callable[[int], None] | None:
        signal, labels = self.ram.signal, self.ram.labels
        if self.softmax:
            dfa_kernels.softmax(self.logits.T, samples, labels, 0.0, False, False, signal.T, self.ram.result, 1)
        else:
            dfa_kernels.difference(self.logits.T, samples, labels, 0.0, False, signal.T)
        if self.recipe.options["signal"] == "sign":
            np.sign(signal, out=signal)
        return lambda k: self.receive(group, k, samples)

    def receive(self, group: Group, k: int, samples: int) -> None:
        """Write the error of an operation's output."""
        error = group.error(group.program.operations[k].target).reshape(self.B, -1)
        kernels.project(self.ram.signal, samples, group.feedback[k], error, self.cores)


class DRTP(DFA):
    """A network trained by direct random target projection; parameters as for :class:`.group_stage.GroupStage`."""

    straight = False  # each layer is a group of its own

    def chains(self, architecture: Architecture) -> Sequence[Sequence[Description]]:
        super().chains(architecture)
        self.frozen_groups = self.recipe.frozen
        return [*architecture.units, architecture.head]

    def top_regions(self, group: Group) -> list[Region]:
        return [] if group.above else super().top_regions(group)

    def signal_phases(self) -> tuple[str, ...]:
        return tuple(f"gradient:{group.top}" for group in self.layers[:-1] if not group.frozen)

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples, layer by layer."""
        samples, move = part.samples, self.next_step(step, part)
        loss, wrong = 0.0, 0
        for group in self.layers:
            group.forward(samples, "forward", self.unpack(group, samples))
            if group.frozen:
                continue
            self.arena.enter(f"gradient:{group.top}")
            if group.above:
                kernels.one_hot(self.ram.labels, samples, self.ram.signal)
                self.receive(group, len(group.program.operations) - 1, samples)
            else:
                error = group.error(group.program.output).reshape(self.B, self.C)
                loss, wrong = self._cross_entropy(samples, part.of, error)
            if not np.isfinite(loss) or not group.backward(part, move):
                return Outcome.of(loss, wrong, False)
        return Outcome(loss, wrong)
