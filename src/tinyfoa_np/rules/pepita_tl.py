"""PEPITA-TL, time-local PEPITA (Srinivasan and others, ICLR 2024): each pass trains by its own activations alone.

For hidden layers k = 0, 1, ... with real weights W_k, no biases, and an output layer on top

    first pass          h_k+1 = D_k max(h_k W_k^T, 0),  h_0 = X,  p = softmax(h_top W_top^T)
    Hebbian step        dW_k = h_k+1^T h_k / B,  on top p^T h_top / B
    second pass         the same from m_0 = X + (p - Y) F^T, with the new weights and new masks D'_k
    anti-Hebbian step   dW_k = -m_k+1^T m_k / B,  on top -Y^T m_top / B
    update              of either step by the optimizer, with weight decay and the same moments

D_k are dropout masks divided by the keep rate, F is a fixed projection. PEPITA (:mod:`.pepita`) keeps a layer's outputs
from the first pass until the second. Here, in both passes, a layer trains right after its forward pass, and its outputs
are kept until the next layer has trained. The two steps need whole batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from ..kernels import pepita as pepita_kernels
from ..kernels import pepita_tl as kernels
from ..kernels import random as random_kernels
from ..layers.dense import Dense
from ..layers.encoding import Encoding
from ..layers.layer import Part
from ..layers.tiling import Tiling
from ..network import LayerShape
from ..ram.packing import Region
from ..ram.phases import COMPUTING, STEP
from ..recipe import Recipe
from ..storage.flash import Flash
from . import pepita
from .network_stage import NO_MASK
from .stage import Outcome

#: layers' numbers among dropout masks in the second pass
SECOND = 1000


class Network(pepita.Network):
    """A network trained by PEPITA-TL; parameters as for :class:`.network_stage.NetworkStage`."""

    def __init__(
        self,
        recipe: Recipe,
        inputs: Encoding,
        shapes: Sequence[LayerShape],
        classes: int,
        batches: int,
        threads: int,
        tiling: Tiling,
    ) -> None:
        super().__init__(recipe, inputs, shapes, classes, batches, threads, tiling)
        self.layers = [
            Dense(
                recipe,
                k,
                self.reads[k] if k else self.modulated,
                width,
                batches,
                threads,
                binary_weights=False,
                biased=False,
                straight=False,
                limit=inf,
                decay=recipe.decay or 0.0,
                prefix=f"layer{k}.",
                rows=self.B,
            )
            for k, width in enumerate([*self.widths, classes])
        ]

    def extra(self) -> list[Region]:
        """As with PEPITA, but outputs live in two regions in turn, and there is what trains the top."""
        sizes = [self.B * reads.row_bytes for reads in self.reads[1:]]
        hidden = {f"h{k + 1}" for k in range(self.top)}
        return [
            *(region for region in super().extra() if region.name not in hidden),
            Region("h_even", (max(sizes[0::2], default=0),), "uint8", COMPUTING),
            Region("h_odd", (max(sizes[1::2], default=0),), "uint8", COMPUTING),
            Region("top", (self.C, self.B), "float32", STEP),
        ]

    def _values(self, k: int) -> np.ndarray:
        if k == 0:
            return self.ram.inputs
        return self.held(self.ram.h_even if k % 2 else self.ram.h_odd, self.reads[k], self.B)

    def masks(self, samples: int, step: int, second: bool) -> list[np.ndarray]:
        """The dropout masks of a pass, one per hidden layer."""
        dropout, seed = self.recipe.dropout, np.uint64(self.recipe.seed)
        if not dropout:
            return [NO_MASK] * self.top
        kept, masks = np.uint64(round((1 - dropout) * 65536)), [self.ram[f"mask{k}"] for k in range(self.top)]
        for k, (mask, width) in enumerate(zip(masks, self.widths, strict=True)):
            number = k + SECOND * second
            random_kernels.mask(mask, 0, samples, width, kept, step, number, seed, self.cores)
        return masks

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded batch: two passes, in both of which layers train as they are passed."""
        ram, samples = self.ram, part.samples
        self.arena.enter("gradient")
        ram.error[:] = 0
        self._modulate(samples)  # by nothing: the inputs as real numbers
        outcome = self._pass(flash, samples, step, second=False)
        if outcome.diverged:
            return outcome
        self.note(samples, step, [0.0] * self.top)
        self.arena.enter("gradient")
        self._modulate(samples)
        second = self._pass(flash, samples, step, second=True)
        return second if second.diverged else outcome

    def _modulate(self, samples: int) -> None:
        """The inputs of a pass, X + (p - Y) F^T."""
        ram, inputs = self.ram, self.inputs
        scale, offset = (inputs.scale, inputs.offset) if inputs.kind == "bytes" else (1.0, 0.0)
        affine = np.float32(scale), np.float32(offset)
        pepita_kernels.modulate(
            ram.inputs, *affine, samples, samples, ram.error, ram.feedback, ram.modulated, self.cores
        )

    def _pass(self, flash: Flash, samples: int, step: int, second: bool) -> Outcome:
        """One pass with its step."""
        ram, factor = self.ram, np.float32((-1 if second else 1) / samples)
        self.arena.enter("forward")
        masks, values = self.masks(samples, step, second), ram.modulated
        for k, width in enumerate(self.widths):
            self.arena.enter("forward")
            z, grown = ram.z[:width], np.float32(self.grown)
            self.whole_pass(k, values, samples, z)
            self.arena.enter("gradient")
            kernels.activate(z, samples, masks[k], grown, factor, self._values(k + 1), self.cores)
            self.arena.enter("update")
            if not self.train_layer(flash, k, values, 1.0, samples, z, step):
                return Outcome.of(0.0, 0, False)
            values = self._values(k + 1)
        self.arena.enter("forward")
        loss, wrong = 0.0, 0
        if not second:
            self.whole_pass(self.top, values, samples, ram.logits)
            self.arena.enter("gradient")
            loss, wrong = self.cross_entropy(samples)
            if not np.isfinite(loss):
                return Outcome.of(loss, wrong)
        self.arena.enter("gradient")
        kernels.top(ram.error, samples, ram.labels, not second, ram.top)
        self.arena.enter("update")
        return Outcome.of(loss, wrong, self.train_layer(flash, self.top, values, 1.0, samples, ram.top, step))

    def wrong(self, samples: int) -> int:
        return self.cross_entropy(samples)[1]
