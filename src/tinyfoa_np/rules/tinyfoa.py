"""TinyFoA (Huang and Aminifar, AAAI 2025), fully connected: one layer in training.

For a layer with weights W (O, I), bias b (O) and a fixed projection P (here (O, C): one row per neuron)

    binary weights      Wb = alpha sign(W),  alpha = mean |W|
    forward             z = X Wb^T + b
    binary activations  s = mean |z| over the batch,  h = s [z > 0]        (otherwise h = max(z, 0))
    logits              a = h P,  p = softmax(a),  loss = mean cross-entropy
    gradient            dz = ((p - Y) / B) P^T [z > 0] [|z| < 1]           ([|z| < 1] only with binary activations)
                        dW = dz^T X [|W| < 1],  db = sum dz                ([|W| < 1] only with binary weights)
    update              the optimizer's step, then W and b clamped to +-1

Full-precision weights and biases are in :class:`.parameters.Parameters`; this file contains the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..kernels.operands import Inputs, Projected
from ..layers.dense import Dense, Sources, Work
from ..layers.encoding import TILES, Encoding, z_tile
from ..layers.head import normal_rows
from ..layers.layer import Layer as Held
from ..layers.layer import Out, Part
from ..layers.signs import dense_class
from ..layers.tiling import Tiling
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import BACKWARD, INFERENCE, PASSES, PHASES, STEP, TRAINING
from ..recipe import Recipe
from ..storage.flash import Flash
from .cuts import CALL, REGENERATED, WRITTEN, Rung, slice_ladder
from .layer_stage import LayerStage

#: neurons times samples below which one thread is as fast as two on a tile
SMALL_TILE = 8192


class Layer(LayerStage):
    """One layer in training; parameters as for :class:`.layer_stage.LayerStage`, but it makes the weights itself.

    Raises
    ------
    BadRequest
        If the layer cannot be cut into M x M slices.
    """

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        inputs: Encoding,
        outputs: int,
        classes: int,
        batches: int,
        threads: int = 1,
        tiling: Tiling | None = None,
    ) -> None:
        tiling, self.given_threads = tiling or Tiling(recipe.batch), threads  # by default the fastest
        # neurons per kernel call, and neurons whose z is held at a time
        self.stretch = min(outputs, tiling.neurons) if tiling.stream_weights or tiling.regenerate else outputs
        self.tile = min(self.stretch, z_tile(min(tiling.neurons, TILES[0]), inputs, outputs, recipe.binary_weights))
        # for small tiles, waking a second thread takes longer than the tile itself
        threads = 1 if self.stretch * tiling.samples < SMALL_TILE and self.stretch < outputs else threads
        # in the forward pass a thread takes at least 16 samples
        self.threads = min(threads, -(-tiling.samples // 16))
        binary, about = recipe.binary_weights, (recipe, number, inputs, outputs, batches, threads)
        parameters = dense_class(recipe, binary)(*about, binary_weights=binary, limit=self.clamp(recipe), tiling=tiling)
        super().__init__(recipe, number, inputs, outputs, classes, batches, threads, tiling, parameters)
        self.cores, self.I = max(self.threads, parameters.threads), inputs.width
        self.no_rows = np.zeros((0, -(-self.B // 16)), np.uint16)  # placeholder for unused masks
        self.build()

    @staticmethod
    def clamp(recipe: Recipe) -> float:
        """Limit to which weights and biases are clamped."""
        return 1.0

    # -- regions -------------------------------------------------------------------------------------------------------

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        return slice_ladder(recipe)

    @property
    def handed_samples(self) -> int:
        return -(-self.tiling.samples // 2) if self.tiling.tight else self.tiling.samples

    def extra(self) -> list[Region]:
        """Regions of the batch, its labels and logits, the projection, and scratch."""
        own, held = self.parameters, self.tiling.samples
        scratch, scratch_kind = own.pass_scratch(self.inputs, held, self.threads)
        # values passed between micro-batches must outlive loading
        batch = ("load",) if held < self.B else ()
        handed = ("load",) if self.handed_samples < self.B else ()
        read = ("load", "forward") if self.tiling.gather else TRAINING
        gathered = own.most_columns()[0] if self.tiling.gather else 0
        head = (*PASSES, "update") if self.tiling.regenerate else PHASES
        projected = max(self.stretch, min(own.tile_rows, own.trained_rows)) if self.tiling.regenerate else self.O
        return [
            Region("inputs", (held, self.inputs.columns), self.inputs.dtype, (*read, *INFERENCE)),
            Region("gathered", (self.B, gathered), self.inputs.dtype, (*batch, *STEP)),
            Region("input_scale", (1,), "float32", (*TRAINING, *INFERENCE)),
            Region("labels", (self.B,), "uint16", ("load", "forward", "gradient", *INFERENCE)),
            Region("projection", (projected, self.C), "float32", head),
            Region("z", (self.tile, held), "float32", PASSES),
            Region("scratch", scratch, scratch_kind, PASSES),
            Region("abs_z", (self.threads,), "int64", (*handed, *PASSES)),
            Region("active", (own.trained_rows, -(-self.B // 16)), "uint16", (*batch, *STEP)),
            Region("logits", (self.C, self.B), "float32", (*handed, "forward", "gradient", *INFERENCE)),
            Region("error", (self.C, self.B), "float32", (*BACKWARD, *INFERENCE)),
            Region("result", (2,), "float64", ("gradient", *INFERENCE)),
            *(Region(name, *shape, ("update",)) for name, shape in own.scratch_shapes().items()),
            Region("outputs", (self.handed_samples, self.emitted.columns), self.emitted.dtype, ("hand-over",)),
            Region("row", (max(map(self._row_width, self.layers)),), "float32", ("hand-over",)),
            Region("commit", (max(layer.commit_bytes for layer in self.layers),), "uint8", ("load",)),
        ]

    def _row_width(self, layer: Dense) -> int:
        """Weights that a digest reads at a time."""
        return max(map(layer.width, range(len(layer.grid)))) if self.tiling.tight else layer.inputs.width

    def take(self, arena: Arena, layers: Sequence[Held]) -> None:
        super().take(arena, layers)
        self.parameters.work = Work(self.ram.scratch.reshape(-1).view(np.uint8), self.ram.abs_z)

    @staticmethod
    def head_rows(out: np.ndarray, first: int, outputs: int, number: int, recipe: Recipe) -> np.ndarray:
        return normal_rows(out, first, outputs, number, recipe.seed)

    def cost(self) -> tuple[float, ...]:
        """Cost of a step in time and flash traffic, in bytes read, to compare tilings of the layer."""
        (read, written), parts = self.traffic(), -(-self.B // self.tiling.samples)
        numbers = parts * self.O * self.C if self.tiling.regenerate else 0
        calls = parts * -(-self.O // self.stretch) + -(-self.parameters.trained_rows // self.parameters.tile_rows)
        cost = read + WRITTEN * written + REGENERATED * numbers + CALL * calls
        return self.tiling.tight, cost, -self.tile, self.tiling.gather

    # -- one batch -----------------------------------------------------------------------------------------------------

    def forward(
        self, flash: Flash, part: Part, step: int | None = None, emit: bool = False, stored_scale: float | None = None
    ) -> float:
        """Compute z, outputs and logits of a batch, or of a part; return the summed |z| of the batch so far.

        Parameters as for :meth:`.layer_stage.LayerStage.forward`.
        """
        ram, own, binary = self.ram, self.parameters, self.recipe.binary_activations
        if step is not None and self.tiling.gather:
            for k, kept in self._gathered(step).items():
                begin, end = own.column_range(k)
                kept[part.first : part.first + part.samples] = ram.inputs[: part.samples, begin:end]
        handed, active = ram.outputs if emit else self.nothing, self.no_rows if step is None else ram.active
        out = Out(handed, ram.logits, self.projection, ram.z, active, own.first_trained(step), binary)
        total = own.forward(flash, self.batch, part, out, step is not None)
        if binary:
            self.scale = total / (part.of * self.O) if stored_scale is None else stored_scale
        return total

    def _gathered(self, step: int) -> dict[int, np.ndarray]:
        """Arrays for the columns (B, ..) of each slice in training, one slice after another."""
        places, first = {}, 0
        block = self.ram.gathered.reshape(-1)
        for k in self.parameters.due(step):
            columns = self.parameters.columns(k)
            places[k] = block[first : first + self.B * columns].reshape(self.B, columns)
            first += self.B * columns
        return places

    def _sources(self, step: int) -> tuple[Sources, Callable[[int, int], Projected]]:
        """Sources of a gradient: dW = scale (sum of dz x) + offset (sum of dz), dz = (error P) [active].

        The inputs are those of slice k; the errors are those of neurons ``first`` to ``last``.
        """
        ram, top, kind, affine = self.ram, self.parameters.first_trained(step), self.inputs.kind, self.batch.affine
        gathered = self._gathered(step) if self.tiling.gather else {}

        def inputs(k: int) -> Inputs:
            if k not in gathered:
                return Inputs(ram.inputs, *affine, 0)
            origin = self.parameters.column_range(k)[0] * (64 if kind == "bits" else 1)
            return Inputs(gathered[k], *affine, origin)

        def errors(first: int, last: int) -> Projected:
            return Projected(ram.error, self.projection(first, last), ram.active[first - top : last - top], first)

        return inputs, errors

    def update(self, flash: Flash, samples: int, step: int) -> bool:
        """Train the slices that are due; return False as soon as a number is no longer finite."""
        inputs, errors = self._sources(step)
        return self.parameters.update(flash, inputs, samples, errors, step, self.scratch, self.ram.abs_w)

    def slice_gradient(self, flash: Flash, samples: int, step: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of slice k and of its biases as whole arrays, for inspection."""
        inputs, errors = self._sources(step)
        return self.parameters.slice_gradient(flash, inputs(k), samples, errors, k, self.scratch)
