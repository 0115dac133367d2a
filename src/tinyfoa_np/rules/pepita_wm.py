"""PEPITA with weight mirroring (Srinivasan and others, ICLR 2024): the feedback learns to resemble the weights.

Passes and activations are those of :mod:`.pepita` with real weights W_k and activations. F is a product of matrices,
one per layer, which are mirrored after each step:

    feedback            F = F_0 F_1 ... F_top,  F_k (inputs, outputs) of layer k
    second pass         from m_0 = X - (y - Y) F^T, with the same dropout masks
    direction           dW_k = (h_k+1 - m_k+1)^T m_k / B,  on top (y - Y)^T m_top / B
    update              momentum of gradients, with weight decay
    noise               n = 0.1 g - mean, g standard normals (B, inputs of layer k)
    mirroring           F_k <- F_k + lr_m n^T f_k(n W_k^T) / B - lr_m decay_m F_k,  W_k new, no dropout
    size                F_k <- c F_k, so that F has the standard deviation d sqrt(2 / I)

f_k is ReLU, on top the softmax; lr_m, decay_m and d are ``--mirror-lr``, ``--mirror-decay`` and ``--deviation``. The
expectation of n^T f(n W^T) is a multiple of W^T, so F_k turns towards W_k^T without ever reading it. F_k are layers of
their own, in flash and in the arena, that train by gradient descent. Unlike in PEPITA, the top trains with the first
pass's error. The scale of the noise needs whole batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from typing import Any

import numpy as np

from ..kernels import pepita as pepita_kernels
from ..kernels import pepita_wm as kernels
from ..layers.dense import Dense
from ..layers.encoding import Encoding
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import COMPUTING, STEP
from ..storage.flash import Flash
from . import pepita
from .stage import Outcome

#: offset of the mirrored matrices in the numbering of random numbers and flash objects: no network has more layers
MIRRORS = 1000


class Network(pepita.Network):
    """A network trained by PEPITA with weight mirroring; parameters as for :class:`.network_stage.NetworkStage`."""

    def build(self) -> None:
        super().build()
        self.layers = [*self.layers, *map(self._mirror, self.layers)]

    def _layer(self, k: int, width: int) -> Dense:
        plain: dict[str, Any] = {"binary_weights": False, "biased": False, "straight": False, "limit": inf}
        return self.dense(k, width, self.reads[k] if k else self.modulated, decay=self.recipe.decay or 0.0, **plain)

    def _mirror(self, layer: Dense) -> Dense:
        """F_k^T, like the weights."""
        own, k = self.recipe.options, layer.number
        rates = {"lr": own["mirror_lr"], "decay": own["mirror_decay"], "optimizer": "sgd"}
        plain = {"binary_weights": False, "vertical": False, "biased": False, "straight": False, "limit": inf}
        about: dict[str, Any] = {"prefix": f"mirror{k}.", **rates, **plain}
        return self.dense(MIRRORS + k, layer.O, Encoding("real", layer.I), **about)

    @property
    def answering(self) -> Sequence[Dense]:
        return self.layers[: self.top + 1]

    def scratch_kinds(self, k: int) -> list[Encoding]:
        return super().scratch_kinds(k) if k <= self.top else [self.layers[k].inputs]

    def extra(self) -> list[Region]:
        """As with PEPITA, but F exists during a step only; rows of products, and noise."""
        widest, below = max(self.inputs.width, *self.widths), [self.inputs.width, *self.widths[:-1]]
        return [
            *(region for region in super().extra() if region.name != "feedback"),
            Region("feedback", (self.inputs.width, self.C), "float32", ("gradient", "update")),
            Region("rows_even", (self.C, max(below[0::2])), "float32", ("gradient", "update")),
            Region("rows_odd", (self.C, max(below[1::2], default=0)), "float32", ("gradient", "update")),
            Region("noise", (self.B * widest,), "float32", STEP),
            Region("sent", (self.C, self.B), "float32", COMPUTING),
        ]

    def carried(self) -> frozenset[str]:
        return super().carried() - {"feedback"}

    def project(self) -> None:
        """Do nothing: F is a product of what trains."""

    def initialize(self, flash: Flash) -> None:
        """Write the initial weights, uniform in +-sqrt(6 / I), and F_k, uniform, whose product has the right size."""
        for layer in self.layers[: self.top + 1]:
            layer.initialize(flash, *layer.uniform(sqrt(6 / layer.I)))
        size = self.recipe.options["deviation"] * sqrt(2 / self.inputs.width)
        for layer in self.layers[self.top + 1 :]:
            top = layer.number == MIRRORS + self.top
            layer.initialize(flash, *layer.uniform(sqrt(3) * size if top else sqrt(3 / layer.O)))

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded batch: both passes, then the mirroring."""
        ram, samples = self.ram, part.samples
        self.arena.enter("forward")
        masks = [self.dropout_mask(k, width, samples, step) for k, width in enumerate(self.widths)]
        sums = self._first(samples, masks, None)
        self.arena.enter("gradient")
        loss, wrong = self.cross_entropy(samples)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        self.note(samples, step, sums)
        self._multiply()
        encoding = self.inputs
        scale, offset = (encoding.scale, encoding.offset) if encoding.kind == "bytes" else (1.0, 0.0)
        about = np.float32(scale), np.float32(offset), samples, samples, ram.error, ram.feedback, ram.modulated
        pepita_kernels.modulate(ram.inputs, *about, self.cores)
        values, grown, one = ram.modulated, np.float32(self.grown), np.float32(1)
        for k, width in enumerate(self.widths):
            self.arena.enter("forward")
            z, outputs = ram.z[:width], self._values(k + 1)
            self.whole_pass(k, values, samples, z)
            self.arena.enter("gradient")
            pepita_kernels.second(z, samples, samples, masks[k], grown, one, one, outputs, self.cores)
            self.arena.enter("update")
            if not self.train_layer(flash, k, values, 1.0, samples, z, step):
                return Outcome.of(loss, wrong, False)
            values = outputs
        self.arena.enter("update")
        kept = self.train_layer(flash, self.top, values, 1.0, samples, ram.error, step)
        return Outcome.of(loss, wrong, kept and self._mirror_all(flash, samples, step))

    def _multiply(self) -> None:
        """Compute -F, from the top matrix down, row by row of its transpose."""
        ram, mirrors = self.ram, self.layers[self.top + 1 :]
        top = mirrors[-1]
        rows = top.ram.slice.reshape(top.O, top.I)
        for k, layer in reversed([*enumerate(mirrors[:-1])]):
            product = ram.rows_odd if k % 2 else ram.rows_even
            kernels.times(rows, layer.ram.slice, layer.I, product)
            rows = product
        np.negative(rows[:, : self.inputs.width].T, out=ram.feedback)

    def _mirror_all(self, flash: Flash, samples: int, step: int) -> bool:
        """Train all F_k on noise; return False if a number is not finite."""
        ram, seed, trained = self.ram, np.uint64(self.recipe.seed), True
        for k, layer in enumerate(self.layers[: self.top + 1]):
            noise = ram.noise[: self.B * layer.I]
            self.arena.enter("gradient")
            self.draw(noise[: samples * layer.I], step, k, seed)
            kernels.centre(noise[: samples * layer.I])
            values, z = noise.reshape(self.B, layer.I), ram.sent if k == self.top else ram.z[: layer.O]
            self.arena.enter("forward")
            self.whole_pass(k, values, samples, z)
            self.arena.enter("gradient")
            kernels.mirrored(z, samples, k == self.top)
            self.arena.enter("update")
            trained &= self.train_layer(flash, self.top + 1 + k, values, 1.0, samples, z, step)
        self._multiply()
        size = self.recipe.options["deviation"] * sqrt(2 / self.inputs.width)
        factor = kernels.factor(ram.feedback, size, self.top + 1)
        for layer in self.layers[self.top + 1 :]:
            np.multiply(layer.ram.slice, factor, out=layer.ram.slice)
        return trained and bool(np.isfinite(factor))

    def draw(self, out: np.ndarray, step: int, k: int, seed: np.uint64) -> None:
        """Draw the noise of layer k in a step, flat."""
        kernels.noise(out, step, k, seed)
