"""PEPITA (Dellaferrera and Kreiman, ICML 2022): the error of a first pass modulates the inputs of a second.

For hidden layers k = 0, 1, ... with weights W_k, no biases, and an output layer of full precision on top

    first pass          z_k = h_k Wb_k^T,  h_0 = X,  Wb = alpha sign(W)          (without binary weights, and on top, W)
    activations         h_k+1 = D_k max(z_k, 0), or D_k s_k [z_k > 0] with s_k = mean |z_k| over the batch
    output              y = softmax(z_top)
    second pass         the same from m_0 = X + (y - Y) F^T, with the same masks D_k; its own s_k; outputs m_k and y'
    direction           dW_k = (h_k+1 - m_k+1)^T m_k / B,  on top (y' - Y)^T m_top / B
    update              momentum that accumulates steps: v = 0.9 v + lr dW,  W = W - v; then W clamped to +-1

D_k are dropout masks divided by the keep rate, F is a fixed projection. There are no straight-through masks. In the
second pass a layer is updated right after its forward pass; m_k replaces h_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from ..kernels import pepita as pepita_kernels
from ..layers.dense import Dense
from ..layers.encoding import Encoding, outputs_of, words
from ..layers.head import uniform_rows
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import COMPUTING, INFERENCE, STEP
from ..storage.flash import Flash
from .network_stage import NO_MASK, NetworkStage
from .stage import Outcome

#: F is uniform in +-0.05 sqrt(6 / inputs)
FEEDBACK = 0.05


class Network(NetworkStage):
    """A network trained by PEPITA; parameters as for :class:`.network_stage.NetworkStage`."""

    beside_answers = NetworkStage.beside_answers | {"feedback"}

    def build(self) -> None:
        assert self.recipe.dropout is not None
        self.reads = [self.inputs, *(outputs_of(width, self.binary) for width in self.widths)]
        self.modulated = Encoding("real", self.inputs.width)
        self.grown = 1 / (1 - self.recipe.dropout)  # factor of an output that is not dropped
        self.layers = [self._layer(k, width) for k, width in enumerate([*self.widths, self.C])]

    def _layer(self, k: int, width: int) -> Dense:
        # the first layer trains on the modulated inputs, which are real numbers
        reads = self.reads[k] if k else self.modulated
        signs = self.recipe.binary_weights and k < self.top
        return self.dense(k, width, reads=reads, binary_weights=signs, biased=False, straight=False)

    def extra(self) -> list[Region]:
        """Regions of the network besides those of its layers."""
        return [
            *self.common_regions(self.B),
            Region("modulated", (self.B, self.inputs.width), "float32", STEP),
            Region("feedback", (self.inputs.width, self.C), "float32"),
            *(
                Region(f"h{k + 1}", (self.B, reads.columns), reads.dtype, COMPUTING)
                for k, reads in enumerate(self.reads[1:])
            ),
            *(
                Region(f"mask{k}", (self.B if self.recipe.dropout else 0, words(width)), "uint64", STEP)
                for k, width in enumerate(self.widths)
            ),
            Region("z", (max(self.widths), self.B), "float32", COMPUTING),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", *INFERENCE)),
            Region("error", (self.C, self.B), "float32", COMPUTING),
        ]

    def scratch_kinds(self, k: int) -> list[Encoding]:
        """Encodings of layer k's inputs."""
        return [self.reads[k], self.modulated] if k == 0 else [self.reads[k]]

    def carried(self) -> frozenset[str]:
        return super().carried() | {"feedback"}

    def project(self) -> None:
        """Generate the fixed projection."""
        I = self.inputs.width
        uniform_rows(self.ram.feedback, 0, I, 0, self.recipe.seed, FEEDBACK * sqrt(6 / I))

    def initialize(self, flash: Flash) -> None:
        """Write the initial weights, uniform in +-sqrt(6 / I)."""
        for layer in self.layers:
            layer.initialize(flash, *layer.uniform(sqrt(6 / layer.I)))

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _values(self, k: int) -> np.ndarray:
        """Inputs of layer k (B, columns) in the first pass and, above the first layer, in the second."""
        return self.ram.inputs if k == 0 else self.ram[f"h{k}"]

    def _first(self, samples: int, masks: Sequence[np.ndarray], scales: Sequence[float] | None) -> list[float]:
        """Run the first pass to the logits; return the summed |z| of each hidden layer."""
        ram, sums = self.ram, []
        dropping = len(masks) > 0 and len(masks[0]) > 0
        self.gains = [1.0]
        for k, width in enumerate(self.widths):
            z = ram.z[:width]
            sums.append(self.whole_pass(k, self._values(k), samples, z, self.gains[k]))
            s = sums[k] / (samples * width) if scales is None else scales[k]
            grown = self.grown if dropping else 1.0
            mask = masks[k] if dropping else NO_MASK
            pepita_kernels.first(z, samples, mask, np.float32(grown), self._values(k + 1), self.cores)
            self.gains.append(s * grown if self.binary else 1.0)
        self.whole_pass(self.top, self._values(self.top), samples, ram.logits, self.gains[-1])
        return sums

    def _error(self, samples: int, of: int) -> tuple[float, int]:
        """Compute (y - Y) / B, B = ``of``; return PEPITA's summed squared error per class and wrong predictions."""
        loss, wrong = self.cross_entropy(samples, of)
        if np.isfinite(loss):
            loss = float(pepita_kernels.squared_error(self.ram.error, samples, of))
        return loss, wrong

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded batch: both passes; the second one trains layer by layer."""
        ram, (samples, first, of) = self.ram, part
        begun, ended = first > 0, part.ends
        if step % self.batches == 0 and not begun:
            self._rescale(flash, step // self.batches)
        self.arena.enter("forward")
        masks = [self.dropout_mask(k, self.widths[k], samples, step, first) for k in range(self.top)]
        sums = self._first(samples, masks, None)
        self.arena.enter("gradient")
        loss, wrong = self._error(samples, of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        self.note(samples, step, sums)
        scale, offset = (self.inputs.scale, self.inputs.offset) if self.inputs.kind == "bytes" else (1.0, 0.0)
        pepita_kernels.modulate(
            ram.inputs,
            np.float32(scale),
            np.float32(offset),
            samples,
            of,
            ram.error,
            ram.feedback,
            ram.modulated,
            self.cores,
        )
        values, given = ram.modulated, 1.0
        for k, width in enumerate(self.widths):
            self.arena.enter("forward")
            z = ram.z[:width]
            total = self.whole_pass(k, values, samples, z, given)
            now = total / (samples * width) * self.grown if self.binary else 1.0
            self.arena.enter("gradient")
            outputs = self._values(k + 1)
            pepita_kernels.second(
                z,
                samples,
                of,
                masks[k],
                np.float32(self.grown),
                np.float32(self.gains[k + 1]),
                np.float32(now),
                outputs,
                self.cores,
            )
            self.arena.enter("update")
            if not self.train_layer(flash, k, values, given, samples, z, step, None, begun, ended):
                return Outcome.of(loss, wrong, False)
            values, given = outputs, now
        self.arena.enter("forward")
        self.whole_pass(self.top, values, samples, ram.logits, given)
        self.arena.enter("gradient")
        self._error(samples, of)
        self.arena.enter("update")
        kept = self.train_layer(flash, self.top, values, given, samples, ram.error, step, None, begun, ended)
        return Outcome.of(loss, wrong, kept)

    def _rescale(self, flash: Flash, epoch: int) -> None:
        """Rescale momentum at an epoch that changes the rate, so that the accumulated steps keep their size."""
        before, now = self.recipe.lr_at(max(0, epoch - 1)), self.recipe.lr_at(epoch)
        if before != now and self.recipe.optimizer in ("momentum", "nesterov"):
            self.arena.enter("update")
            for layer in self.layers:
                layer.multiply_moments(flash, 0, before / now)

    def infer(self, samples: int, scales: Sequence[float] | None) -> list[float]:
        return self._first(samples, [], scales)
