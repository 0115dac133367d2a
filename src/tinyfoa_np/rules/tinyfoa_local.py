"""TinyFoA (Huang and Aminifar, AAAI 2025), locally connected: one layer in training.

A layer is a 3 x 3 convolution, stride 1, padding 1, with separate weights at each of P positions. For a layer with
weights W (P, O, F), biases b (P, O), batch norm's gamma and beta (O,), a fixed head H (P, O, C) and its bias c (C,)

    binary weights      Wb = alpha sign(W),  alpha = mean |W|
    products            u = Wb x + b, of the patch x (F,) around a position
    batch norm          v = gamma (u - mean) / deviation + beta, by channel, over batch and positions
    binary activations  s = mean max(v, 0) over the batch,  h = s [v > 0]  (otherwise h = max(v, 0))
    logits              a = h H + c,  p = softmax(a),  loss = mean cross-entropy
    gradient            dv = ((p - Y) / B) H^T [v > 0] [v < 1]             ([v < 1] only with binary activations)
                        du by the gradient of batch norm,  dW = du x [|W| < 1],  db = sum du
    update              the optimizer's step, then W, b, gamma and beta clamped to +-1

In training, batch norm uses the batch's mean and deviation; outputs and inference use the running ones. A slice is a
group of output channels. :mod:`tinyfoa_np.reference.tinyfoa_local` is the plain NumPy version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

from ..kernels import local as kernels
from ..kernels.local import Head
from ..layers.encoding import Encoding
from ..layers.head import uniform_rows
from ..layers.layer import Layer as Held
from ..layers.layer import Out, Part
from ..layers.local import Local, Sent, Slopes, Work, no_errors
from ..layers.tiling import Tiling
from ..network import LocalShape
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import BACKWARD, INFERENCE, PASSES, PHASES, TRAINING
from ..recipe import Recipe
from ..storage.flash import Flash
from .cuts import CALL, REGENERATED, WRITTEN, Rung, place_ladder
from .layer_stage import LayerStage

#: phases that compute products of patches and weights
PRODUCTS = (*PASSES, "update")
#: cost of a recomputed product, in units of a byte read from flash
PRODUCT = 0.25


class Layer(LayerStage):
    """One layer in training; parameters as for :class:`.layer_stage.LayerStage`, but it makes the weights itself.

    ``shape`` (a :class:`.network.LocalShape`) takes the place of ``outputs``.

    Raises
    ------
    BadRequest
        If the layer has fewer output channels than slices.
    """

    parameters: Local

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        inputs: Encoding,
        shape: LocalShape,
        classes: int,
        batches: int,
        threads: int,
        tiling: Tiling,
    ) -> None:
        parameters = Local(recipe, number, shape, inputs, batches, threads, tiling)
        super().__init__(
            recipe, number, inputs, shape.outputs, classes, batches, parameters.threads, tiling, parameters
        )
        self.shape, self.head_stride = shape, shape.channels
        self.build()

    # -- regions -------------------------------------------------------------------------------------------------------

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        return place_ladder(recipe)

    def extra(self) -> list[Region]:
        """Regions of the batch, its labels and logits, the head, and scratch of passes and update."""
        own, threads, shape, some = self.parameters, self.parameters.threads, self.shape, self.parameters.pass_places
        head = some if self.tiling.regenerate else shape.places
        phases = PRODUCTS if self.tiling.regenerate else PHASES
        kept = shape.places if self.tiling.keep_products else some
        lasts = (*PRODUCTS, "gradient") if self.tiling.keep_products else PRODUCTS
        return [
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, (*TRAINING, *INFERENCE)),
            Region("input_scale", (1,), "float32", (*TRAINING, *INFERENCE)),
            Region("labels", (self.B,), "uint16", ("load", "forward", "gradient", *INFERENCE)),
            Region("projection", (head * shape.channels, self.C), "float32", phases),
            Region("head_bias", (self.C,), "float32"),
            Region("patch", *own.patch_buffers(), PRODUCTS),
            Region("scratch", *own.product_scratch(), PRODUCTS),
            Region("u", (kept, shape.channels, self.B), "float32", lasts),
            Region("v", (shape.channels * self.B,), "float32", PASSES),
            Region("dv", (threads, self.B), "float32", ("update",)),
            Region("norm", (2, shape.channels), "float32", (*PASSES, *BACKWARD)),
            Region("place_sums", (some, 2, shape.channels), "float64", ("forward", "update")),
            Region("totals", (2, shape.channels), "float64", ("forward", "update")),
            Region("abs_r", (threads,), "int64", PASSES),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", *INFERENCE)),
            Region("error", (self.C, self.B), "float32", (*BACKWARD, *INFERENCE)),
            Region("result", (2,), "float64", ("gradient", *INFERENCE)),
            *(Region(name, *shape, ("update",)) for name, shape in own.scratch_shapes().items()),
            Region("outputs", (self.B, self.emitted.columns), self.emitted.dtype, ("hand-over",)),
            Region("row", (own.I,), "float32", ("hand-over",)),
            Region("commit", (own.commit_bytes,), "uint8", ("load",)),
        ]

    def carried(self) -> frozenset[str]:
        return super().carried() | {"head_bias"}

    def take(self, arena: Arena, layers: Sequence[Held]) -> None:
        super().take(arena, layers)
        ram, own = self.ram, self.parameters
        own.work = Work(ram.patch, ram.scratch, ram.u, ram.v, ram.norm, ram.abs_r)
        if "totals" in ram:
            own.slopes = Slopes(ram.dv, ram.place_sums, ram.totals)

    @staticmethod
    def head_rows(out: np.ndarray, first: int, outputs: int, number: int, recipe: Recipe) -> np.ndarray:
        return uniform_rows(out, first, first + len(out), number, recipe.seed, 1 / sqrt(outputs))

    def project(self) -> None:
        """Generate the head's bias, and the head if it is stored."""
        self.head_rows(self.ram.head_bias.reshape(1, -1), self.O, self.O, self.number, self.recipe)
        super().project()

    def cost(self) -> tuple[float, ...]:
        """Cost of a step in time and flash traffic, in bytes read, to compare tilings of the layer."""
        own, places = self.parameters, self.shape.places
        (read, written), passes = self.traffic(), 2 + len(own.due(0))
        numbers = passes * self.O * self.C if self.tiling.regenerate else 0
        calls = passes * -(-places // own.pass_places) + -(-places // own.trained_places)
        again = 0 if self.tiling.keep_products else PRODUCT * (passes - 1) * self.O * self.B
        return read + WRITTEN * written + REGENERATED * numbers + CALL * calls + again, -own.pass_places

    @property
    def passes(self) -> int:
        """Passes over all positions' weights per step: two plus one per slice, or one if products are kept."""
        return 1 if self.tiling.keep_products else 2 + len(self.parameters.due(0))

    # -- one batch -----------------------------------------------------------------------------------------------------

    def forward(
        self, flash: Flash, part: Part, step: int | None = None, emit: bool = False, stored_scale: float | None = None
    ) -> float:
        """Pass a batch to its logits; return the summed max(v, 0); see :meth:`.layer_stage.LayerStage.forward`."""
        ram, own = self.ram, self.parameters
        out = Out(ram.outputs if emit else self.nothing, ram.logits, self.projection)
        total = own.forward(flash, self.batch, part, out, step is not None)
        if self.recipe.binary_activations:
            self.scale = total / (part.samples * self.O) if stored_scale is None else stored_scale
        return total

    def scores(self, samples: int) -> np.ndarray:
        """Logits divided by the layer's scale, including the head's bias."""
        return super().scores(samples) + self.ram.head_bias[:, None] / np.float32(self.scale or 1.0)

    def gradient(self, samples: int) -> tuple[float, int]:
        """Turn logits into errors; return the batch's summed cross-entropy and the number of wrong predictions."""
        kernels.scale_logits(self.ram.logits, samples, np.float32(self.scale), self.ram.head_bias)
        return self._softmax(samples, 1.0)

    def _sources(self, flash: Flash, samples: int) -> Callable[[int], Sent]:
        """Sources of slice k's gradient."""
        return self.parameters.sources(
            flash, samples, lambda first, last: Head(first, self.projection(first, last)), self.ram.error
        )

    def update(self, flash: Flash, samples: int, step: int) -> bool:
        """Train the slices that are due; return False as soon as a number is no longer finite."""
        sources = self._sources(flash, samples)
        return self.parameters.update(flash, sources, samples, no_errors, step, self.scratch, self.ram.abs_w)

    def slice_gradient(self, flash: Flash, samples: int, step: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of slice k and of its biases as whole arrays, for inspection."""
        sent = self._sources(flash, samples)(k)
        found = self.parameters.slice_gradient(flash, sent, samples, no_errors, k, self.scratch)
        self.parameters.fresh = False  # errors have overwritten u
        return found
