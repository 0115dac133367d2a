"""Backpropagation, the main baseline for the forward-only algorithms.

For hidden layers k = 0, 1, ... with weights W_k (O, I) and biases b_k, and an output layer of full precision on top

    forward             z_k = h_k Wb_k^T + b_k,  h_0 = X,  Wb = alpha sign(W)   (without binary weights, and on top, W)
    binary activations  h_k+1 = s_k [z_k > 0],  s_k = mean |z_k| over the batch (otherwise h_k+1 = max(z_k, 0))
    error               dz_top = (softmax(z_top) - Y) / B
    backward            dz_k = (dz_k+1 Wb_k+1) [z_k > 0] [|z_k| < 1]            ([|z| < 1] only with binary activations)
    gradient            dW_k = dz_k^T h_k [|W_k| < 1],  db_k = sum dz_k         ([|W| < 1] only with binary weights)
    update              the optimizer's step; with binary weights W and b are then clamped to +-1

The inputs of all layers are kept until their weights are updated; errors are kept for two layers at a time. A layer is
updated as soon as the error of the layer below is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from ..layers.dense import Dense
from ..layers.encoding import Encoding, empty, nbytes, outputs_of
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import BACKWARD, COMPUTING, INFERENCE, PASSES, STEP
from ..storage.flash import Flash
from .network_stage import NetworkStage
from .stage import Outcome


class Network(NetworkStage):
    """A network trained by backpropagation; parameters as for :class:`.network_stage.NetworkStage`.

    Hidden layers here are fully connected; see :mod:`.bp_local` for locally connected ones.
    """

    def build(self) -> None:
        self.limit = self.clamp()
        self.outputs = [outputs_of(width, self.binary) for width in self.widths]
        self.reads = [self.inputs, *self.outputs[:-1], self.features()]
        classifier = self.dense(self.top, self.C, binary_weights=False, vertical=False, limit=self.limit)
        self.layers = [*map(self.hidden, range(self.top)), classifier]

    def clamp(self) -> float:
        """Limit to which weights and biases are clamped."""
        return 1.0 if self.recipe.binary_weights else inf

    def features(self) -> Encoding:
        """Encoding of the classifier's inputs."""
        return self.outputs[-1]

    def hidden(self, k: int) -> Dense:
        """Hidden layer k."""
        return self.dense(k, self.widths[k], binary_weights=self.recipe.binary_weights, limit=self.limit)

    def extra(self) -> list[Region]:
        """Regions of the network besides those of its layers."""
        sent = [(k, width) for k, width in enumerate(self.widths) if k >= self.lowest]  # layers that get an error
        tallest = [max((width for k, width in sent if k % 2 == parity), default=0) for parity in (0, 1)]
        return [
            *self.common_regions(self.B),
            *self.kept_outputs(),
            *(Region(f"active{k}", (width, self.groups), "uint16", STEP) for k, width in sent),
            Region("z", (max(map(self._tile, range(self.top))), self.B), "float32", PASSES),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", *INFERENCE)),
            Region("error", (self.C, self.B), "float32", (*BACKWARD, *INFERENCE)),
            Region("dz_even", (tallest[0], self.B), "float32", BACKWARD),
            Region("dz_odd", (tallest[1], self.B), "float32", BACKWARD),
            Region("backward", (self.backward_bytes(),), "uint8", ("gradient",)),
        ]

    def kept_outputs(self) -> list[Region]:
        """Regions of the outputs of hidden layers."""
        kept = [(k, held, PASSES if k < self.lowest else COMPUTING) for k, held in enumerate(self.outputs, 1)]
        return [Region(f"h{k}", (self.B, held.columns), held.dtype, phases) for k, held, phases in kept]

    def backward_bytes(self) -> int:
        """Largest scratch, in bytes, for passing errors back through a layer."""
        shapes = [layer.backward_scratch() for layer in self.layers[self.lowest + 1 :]]
        return max((nbytes(*shape) for shape in shapes), default=0)

    # -- one batch -----------------------------------------------------------------------------------------------------

    def forward(self, samples: int, scales: Sequence[float] | None = None, step: int | None = None) -> list[float]:
        """Pass a batch through all layers to the logits; return the summed |z| of each hidden layer.

        ``scales`` are stored s_k, used instead of the batch's own. ``step`` is a training step; if given, the values
        that the backward pass needs are kept.
        """
        sums, self.gains = [], [1.0]  # the value of a set bit in each layer's inputs
        for k, width in enumerate(self.widths):
            sums.append(self.pass_hidden(k, samples, step is not None))
            s = sums[k] / (samples * width) if scales is None else scales[k]
            self.gains.append(s if self.binary else 1.0)
        values, gain = self.classified(samples, step)
        self.whole_pass(self.top, values, samples, self.ram.logits, gain)
        return sums

    def values(self, k: int) -> np.ndarray:
        """Inputs of layer k (B, columns); above the hidden layers, the outputs of the last one."""
        return self.ram.inputs if k == 0 else self.ram[f"h{k}"]

    def pass_hidden(self, k: int, samples: int, training: bool) -> float:
        """Run hidden layer k on a batch; return the summed |z|."""
        kept = training and k >= self.lowest
        active = self.ram[f"active{k}"] if kept else empty((0, self.groups), "uint16")
        z = self.ram.z[: self._tile(k)]
        return self.tile_pass(k, self.values(k), samples, z, self.values(k + 1), active, self.gains[k])

    def classified(self, samples: int, step: int | None) -> tuple[np.ndarray, float]:
        """Inputs of the classifier for a batch, and the value of their bits."""
        return self.values(self.top), self.gains[-1]

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded batch."""
        self.arena.enter("forward")
        self.note(part.samples, step, self.forward(part.samples, step=step))
        self.arena.enter("gradient")
        loss, wrong = self.cross_entropy(part.samples, part.of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        for k in range(self.top, self.lowest - 1, -1):
            if k > self.lowest or k < self.top:  # otherwise only the classifier trains
                self.send_back(k, part.samples)
            self.arena.enter("update")
            if not self.train_one(flash, k, part, step):
                return Outcome.of(loss, wrong, False)
        return Outcome.of(loss, wrong)

    def _dz(self, k: int) -> np.ndarray:
        """Errors of layer k (O, B)."""
        if k == self.top:
            return self.ram.error
        return (self.ram.dz_odd if k % 2 else self.ram.dz_even)[: self.widths[k]]

    def send_back(self, k: int, samples: int) -> None:
        """Compute the errors of layer k - 1 from those of layer k."""
        if k > self.lowest:
            self.arena.enter("gradient")
            active, scratch = self.ram[f"active{k - 1}"], self.ram.backward
            self.layers[k].backward(self._dz(k), samples, active, scratch, self._dz(k - 1))

    def train_one(self, flash: Flash, k: int, part: Part, step: int) -> bool:
        """Run one optimizer step of layer k; return False if a number is no longer finite."""
        turn = None, part.first > 0, part.ends
        return self.train_layer(flash, k, self.values(k), self.gains[k], part.samples, self._dz(k), step, *turn)

    def infer(self, samples: int, scales: Sequence[float] | None) -> list[float]:
        return self.forward(samples, scales)
