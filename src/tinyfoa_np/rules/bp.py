"""Backpropagation: what the forward-only algorithms are measured against.

For hidden layers k = 0, 1, ... with weights W_k (O, I) and biases b_k, and an output layer of full precision on top

    forward             z_k = h_k Wb_k^T + b_k,  h_0 = X,  Wb = alpha sign(W)   (without binary weights, and on top, W)
    binary activations  h_k+1 = s_k [z_k > 0],  s_k = mean |z_k| over the batch (otherwise h_k+1 = max(z_k, 0))
    error               dz_top = (softmax(z_top) - Y) / B
    backward            dz_k = (dz_k+1 Wb_k+1) [z_k > 0] [|z_k| < 1]            ([|z| < 1] only with binary activations)
    gradient            dW_k = dz_k^T h_k [|W_k| < 1],  db_k = sum dz_k         ([|W| < 1] only with binary weights)
    update              the optimizer's step; with binary weights W and b are then clamped to +-1

All layers' inputs live until their weights are updated; errors live for two layers at a time. A layer is updated as
soon as the error of the one below is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from ..kernels import dense_backward as backward_kernels
from ..layers.dense import Parameters
from ..layers.encoding import Inputs, empty, outputs_of, view, weights_shape
from ..layers.layer import Part
from ..layers.tiling import Tiling
from ..network import LayerShape
from ..ram.packing import Region
from ..ram.phases import BACKWARD, COMPUTING, INFERENCE, PASSES, STEP
from ..recipe import Recipe
from ..storage.flash import Flash
from .dense_network import Whole
from .stage import Outcome


class Network(Whole):
    """A network in training by backpropagation; parameters as for :class:`.dense_network.Whole`."""

    def __init__(
        self, recipe: Recipe, inputs: Inputs, shapes: Sequence[LayerShape], classes: int, batches: int, threads: int,
        tiling: Tiling,
    ) -> None:
        super().__init__(recipe, inputs, shapes, classes, batches, threads, tiling)
        self.reads = [inputs, *(outputs_of(width, self.binary) for width in self.widths)]
        limit = 1.0 if recipe.binary_weights else inf
        self.layers = [
            Parameters(
                recipe, k, self.reads[k], width, batches, threads, binary_weights=recipe.binary_weights, limit=limit,
                prefix=f"layer{k}.", rows=self.B, partial=self.micro,
            )
            for k, width in enumerate(self.widths)
        ]
        self.top = len(self.widths)
        self.layers.append(
            Parameters(
                recipe, self.top, self.reads[-1], classes, batches, threads, binary_weights=False, vertical=False,
                limit=limit, prefix=f"layer{self.top}.", rows=self.B, partial=self.micro,
            )
        )  # fmt: skip

    def extra(self) -> list[Region]:
        """What the network needs of the arena beside its layers, and when."""
        tallest = [max(self.widths[parity::2], default=0) for parity in (0, 1)]
        return [
            *self.common_regions(self.B),
            *(
                Region(f"h{k + 1}", (self.B, reads.columns), reads.dtype, COMPUTING)
                for k, reads in enumerate(self.reads[1:])
            ),
            *(Region(f"active{k}", (width, self.groups), "uint16", STEP) for k, width in enumerate(self.widths)),
            Region("z", (max(map(self._tile, range(self.top))), self.B), "float32", PASSES),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", *INFERENCE)),
            Region("error", (self.C, self.B), "float32", (*BACKWARD, *INFERENCE)),
            Region("dz_even", (tallest[0], self.B), "float32", BACKWARD),
            Region("dz_odd", (tallest[1], self.B), "float32", BACKWARD),
            Region("backward", (max(map(self._backward_bytes, range(1, self.top + 1))),), "uint8", ("gradient",)),
        ]

    def _backward_scratch(self, k: int) -> tuple[tuple[int, ...], str]:
        layer = self.layers[k]
        kind = weights_shape(layer.O, layer.I, layer.binary_weights)[1]
        return backward_kernels.scratch_shape(np.dtype(kind), layer.O, layer.I, self.cores)

    def _backward_bytes(self, k: int) -> int:
        shape, kind = self._backward_scratch(k)
        return int(np.prod(shape)) * np.dtype(kind).itemsize

    # -- one batch -----------------------------------------------------------------------------------------------------

    def forward(self, samples: int, scales: Sequence[float] | None = None, masks: bool = False) -> list[float]:
        """A batch through all layers to the logits; returns the summed |z| of each hidden layer.

        ``scales`` are stored s_k, in place of the batch's own; ``masks``: keep what the backward pass needs.
        """
        ram, sums = self.ram, []
        self.gains = [1.0]  # what the bits of each layer's inputs stand for
        nothing = empty((0, self.groups), "uint16")
        for k, width in enumerate(self.widths):
            z = ram.z[: self._tile(k)]
            active = ram[f"active{k}"] if masks else nothing
            sums.append(self.tile_pass(k, self._values(k), samples, z, self._values(k + 1), active, self.gains[k]))
            own = sums[k] / (samples * width) if scales is None else scales[k]
            self.gains.append(own if self.binary else 1.0)
        self.whole_pass(self.top, self._values(self.top), samples, ram.logits, self.gains[-1])
        return sums

    def _values(self, k: int) -> np.ndarray:
        """Inputs of layer k (B, columns)."""
        return self.ram.inputs if k == 0 else self.ram[f"h{k}"]

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """One training step on the batch that was loaded."""
        ram, arena, (samples, first, of) = self.ram, self.arena, part
        arena.enter("forward")
        self.note(samples, step, self.forward(samples, masks=True))
        arena.enter("gradient")
        loss, wrong = self.cross_entropy(samples, of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        dz = ram.error
        for k in range(self.top, -1, -1):
            below = dz
            if k > 0:
                arena.enter("gradient")
                layer = self.layers[k]
                below = (ram.dz_odd if (k - 1) % 2 else ram.dz_even)[: layer.I]
                backward_kernels.backward(
                    dz, samples, layer.ram.weights, layer.I, np.float32(layer.alpha), ram[f"active{k - 1}"],
                    view(ram.backward, *self._backward_scratch(k)), below,
                )
            arena.enter("update")
            values, gain = self._values(k), self.gains[k]
            if not self.train_layer(flash, k, values, gain, samples, dz, step, None, first > 0, part.ends):
                return Outcome.of(loss, wrong, False)
            dz = below
        return Outcome(loss, wrong)

    def look(self, samples: int, scales: Sequence[float] | None) -> list[float]:
        return self.forward(samples, scales)
