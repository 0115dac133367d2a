"""TinyFoA (Huang and Aminifar, AAAI 2025), fully connected: one layer in training.

For a layer with weights W (O, I), bias b (O) and a fixed projection P (here (O, C): a row per neuron)

    binary weights      Wb = alpha sign(W),  alpha = mean |W|
    forward             z = X Wb^T + b
    binary activations  s = mean |z| over the batch,  h = s [z > 0]        (otherwise h = max(z, 0))
    logits              a = h P,  p = softmax(a),  loss = mean cross-entropy
    gradient            dz = ((p - Y) / B) P^T [z > 0] [|z| < 1]           ([|z| < 1] only with binary activations)
                        dW = dz^T X [|W| < 1],  db = sum dz                ([|W| < 1] only with binary weights)
    update              the optimizer's step, then W and b clamped to +-1

Full-precision weights and biases are :class:`.parameters.Parameters`; this file is the pass through the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import lru_cache
from math import sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..arena import Arena
from ..flash import Flash
from ..kernels import forward as forward_kernels
from ..kernels import loss as loss_kernels
from ..kernels import random as random_kernels
from ..kernels import update as update_kernels
from ..kernels.update import Projected, Scratch
from ..plan import Region
from ..recipe import Recipe
from .inference import TrainedLayer, passed
from .operands import TILES, Inputs, outputs_of, weights_shape, words, z_tile, z_unit
from .parameters import Parameters, State
from .stage import Outcome

TRAINING = ("load", "forward", "gradient", "update")
PASSES = ("forward", "hand-over", "evaluate")


class Layer:
    """One layer in training.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    number : int
        Layer, from 0.
    inputs : Inputs
        What the layer reads.
    outputs, classes : int
        O and C.
    batches : int
        Steps per epoch.
    threads : int
        T: how many ways a kernel's work is cut.
    tile : int
        One of :data:`TILES`.

    Raises
    ------
    BadRequest
        If the layer cannot be cut into M x M slices.
    """

    surveys = True

    def __init__(
        self, recipe: Recipe, number: int, inputs: Inputs, outputs: int, classes: int, batches: int, threads: int = 1,
        tile: int = TILES[0],
    ) -> None:
        self.recipe, self.number, self.inputs = recipe, number, inputs
        self.O, self.I, self.C, self.B = outputs, inputs.width, classes, recipe.batch
        self.tile = z_tile(tile, inputs, outputs, recipe.binary_weights)
        # a thread takes at least 16 samples forward
        self.threads = min(threads, -(-self.B // 16))
        self.parameters = Parameters(
            recipe, number, inputs, outputs, batches, threads, binary_weights=recipe.binary_weights,
            roomy=tile == TILES[0],
        )
        self.z_unit = z_unit(self.B, self.O)
        self.emitted = outputs_of(self.O, recipe.binary_activations)
        self.scale = 1.0  # s of the batch, or the stored one
        self.sum_abs_z = 0.0  # of the training samples, in the hand-over
        self.nothing = np.zeros((0, 0), self.emitted.dtype)  # stands for outputs that are not wanted
        self.no_rows = np.zeros((0, -(-self.B // 16)), np.uint16)  # and for masks

    # -- regions, flash, state: what the training loop asks of a stage -------------------------------------------------

    @property
    def hands_on(self) -> Inputs:
        """What a trained layer hands to the next."""
        return self.emitted

    @property
    def layers(self) -> list[Parameters]:
        """The layers that train here."""
        return [self.parameters]

    def regions(self) -> list[Region]:
        """What the layer needs of the arena, and when."""
        own = self.parameters
        weights = weights_shape(self.O, self.I, self.recipe.binary_weights)[1]
        scratch, scratch_kind = forward_kernels.scratch_shape(
            np.dtype(self.inputs.dtype), np.dtype(weights), self.B, words(self.I), self.threads
        )
        return [
            *own.regions(),
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, (*TRAINING, "hand-over", "evaluate")),
            Region("input_scale", (1,), "float32", (*TRAINING, "hand-over", "evaluate")),
            Region("labels", (self.B,), "uint16", ("load", "forward", "gradient", "hand-over", "evaluate")),
            Region("projection", (self.O, self.C), "float32"),
            Region("z", (self.tile, self.B), "float32", PASSES),
            Region("scratch", scratch, scratch_kind, PASSES),
            Region("abs_z", (self.threads,), "int64", PASSES),
            Region("active", (own.trained_rows, -(-self.B // 16)), "uint16", ("forward", "gradient", "update")),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", "hand-over", "evaluate")),
            Region("error", (self.C, self.B), "float32", ("gradient", "update", "hand-over", "evaluate")),
            Region("result", (2,), "float64", ("gradient", "hand-over", "evaluate")),
            *(Region(name, *shape, ("update",)) for name, shape in own.scratch_shapes().items()),
            Region("outputs", (self.B, self.emitted.columns), self.emitted.dtype, ("hand-over",)),
            Region("row", (self.I,), "float32", ("hand-over",)),
            Region("commit", (own.commit_bytes,), "uint8", ("load",)),
        ]

    def carried(self) -> frozenset[str]:
        """Regions whose content one batch leaves to the next."""
        return self.parameters.carried() | {"projection"}

    def open(self, arena: Arena) -> None:
        """Takes the layer's views from an arena laid out with its regions, and makes the projection."""
        self.arena = arena
        self.parameters.open(arena)
        own = {r.name for r in self.parameters.regions()}
        self.ram = SimpleNamespace(**{r.name: arena.take(r.name) for r in self.regions() if r.name not in own})
        self.scratch = Scratch(self.ram.gradient, self.ram.dz, self.ram.listed)
        random_kernels.normal(self.ram.projection, self.number, np.uint64(self.recipe.seed), sqrt(2.0 / self.O))

    def create(self, flash: Flash) -> None:
        """Makes the layer's objects in flash."""
        self.parameters.create(flash)

    def initialize(self, flash: Flash) -> None:
        """Writes the initial weights and biases: uniform in +-1/sqrt(I)."""
        self.parameters.initialize(flash)

    def restore(self, flash: Flash) -> None:
        """Rebuilds what the forward pass reads from flash."""
        self.parameters.restore(flash)

    def flush(self, flash: Flash) -> None:
        """Writes back what has changed."""
        self.parameters.flush(flash)

    @property
    def state(self) -> dict[str, Any]:
        """What is known beside the arena's bytes, as JSON can hold it."""
        return {"parameters": asdict(self.parameters.state), "scale": self.scale, "sum_abs_z": self.sum_abs_z}

    @state.setter
    def state(self, known: dict[str, Any]) -> None:
        self.parameters.state = State(**deepcopy(known["parameters"]))
        self.scale, self.sum_abs_z = known["scale"], known["sum_abs_z"]

    def widest_step(self) -> int:
        """The first step that takes as much of the arena as any."""
        return self.parameters.widest_step()

    # -- one batch -----------------------------------------------------------------------------------------------------

    @property
    def held_samples(self) -> int:
        """How many samples the arena holds at a time: a batch."""
        return self.B

    def train_step(self, flash: Flash, samples: int, step: int, of: int | None = None, first: int = 0) -> Outcome:
        """One training step on the batch that was loaded; there are no micro-batches here."""
        self.arena.enter("forward")
        self.forward(samples, step)
        self.arena.enter("gradient")
        loss, wrong = self.gradient(samples)
        if not np.isfinite(loss):
            return Outcome(loss, wrong, f"the loss is {loss}")
        self.arena.enter("update")
        kept = self.update(flash, samples, step)
        return Outcome(loss, wrong, "" if kept else "a weight or a moment is no finite number any more")

    def evaluate(self, samples: int) -> int:
        """Wrong answers in the batch that was loaded."""
        self.arena.enter("evaluate")
        self.forward(samples)  # the batch's s scales all logits alike: it cannot change an answer
        return self.gradient(samples)[1]

    def forward(
        self, samples: int, step: int | None = None, emit: bool = False, stored_scale: float | None = None
    ) -> float:
        """z, what it switches on and the logits of a batch; returns the summed |z|.

        Parameters
        ----------
        samples : int
            Samples of this batch.
        step : int, optional
            The training step: the masks of the neurons that train in it are kept for :meth:`update`.
        emit : bool
            Write what the layer hands over into the region ``outputs``.
        stored_scale : float, optional
            The layer's stored s; without it, s is the mean |z| of this batch.
        """
        ram, recipe, own = self.ram, self.recipe, self.parameters
        ram.abs_z[:] = 0
        forward_kernels.forward(
            ram.inputs, samples, own.ram.weights, own.ram.bias, np.float32(self._input_scale() * own.alpha),
            np.float32(self.inputs.scale), np.float32(self.inputs.offset), ram.projection, 0, self.O, self.I,
            recipe.binary_activations, self.z_unit, ram.scratch, ram.z, self.no_rows if step is None else ram.active,
            own.first_trained(step), ram.logits, ram.outputs if emit else self.nothing, ram.abs_z,
        )
        total = int(ram.abs_z.sum()) / self.z_unit
        if recipe.binary_activations:
            self.scale = total / (samples * self.O) if stored_scale is None else stored_scale
        return total

    def _input_scale(self) -> float:
        return float(self.ram.input_scale[0]) if self.inputs.kind == "bits" else 1.0

    def gradient(self, samples: int) -> tuple[float, int]:
        """Logits to error; returns the batch's summed cross-entropy and how many answers are wrong."""
        ram = self.ram
        ram.result[:] = 0
        loss_kernels.softmax_cross_entropy(
            ram.logits, samples, np.float32(self.scale), ram.labels, ram.error, ram.result, samples
        )
        return float(ram.result[0]), int(ram.result[1])

    def _sources(self, step: int) -> tuple[update_kernels.Inputs, Projected]:
        """Where a gradient comes from: dW = scale (sum of dz x) + offset (sum of dz), dz = (error P) [active]."""
        ram = self.ram
        scale, offset = (self.inputs.scale, self.inputs.offset) if self.inputs.kind == "bytes" else (1.0, 0.0)
        inputs = update_kernels.Inputs(ram.inputs, np.float32(scale * self._input_scale()), np.float32(offset))
        return inputs, Projected(ram.error, ram.projection, ram.active, self.parameters.first_trained(step))

    def update(self, flash: Flash, samples: int, step: int) -> bool:
        """Trains the slices that are due; False as soon as a number is no longer finite."""
        inputs, source = self._sources(step)
        return self.parameters.update(flash, inputs, samples, source, step, self.scratch, self.ram.abs_w)

    def slice_gradient(self, samples: int, step: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of slice k, which must be resident, and of its biases, stored whole: for inspection."""
        inputs, source = self._sources(step)
        return self.parameters.slice_gradient(inputs, samples, source, k, self.scratch)

    # -- a trained layer -----------------------------------------------------------------------------------------------

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """The digest of the trained layer; the training set's samples come next."""
        self.sum_abs_z = 0.0
        return [self.parameters.digest(flash, self.ram.row)]

    def hand_over(self, samples: int, trained: bool) -> int:
        """Outputs of the batch that was loaded into the region ``outputs``, with their scale; how many are wrong.

        ``trained``: a batch of the training set, whose s is its own; with others it is the stored one.
        """
        self.arena.enter("hand-over")
        total = self.forward(samples, emit=True, stored_scale=None if trained else self.scale)
        if trained:
            self.sum_abs_z += total
        wrong = self.gradient(samples)[1]
        self.ram.input_scale[0] = self.scale
        return wrong

    def settle(self, samples: int) -> None:
        """Fixes the stored s: the mean |z| over all ``samples`` of the training set."""
        self.scale = self.sum_abs_z / (samples * self.O) if self.recipe.binary_activations else 1.0

    def known(self) -> list[dict[str, Any]]:
        """What inference must know of the trained layer beside its weights."""
        return [{"alpha": self.parameters.alpha, "scale": self.scale}]

    def keep(self, flash: Flash) -> None:
        """Writes what inference needs of the trained layer."""
        self.parameters.keep(flash)


def answers(recipe: Recipe, layers: Sequence[TrainedLayer], classes: int, samples: np.ndarray) -> np.ndarray:
    """Logits (C, n) of the last layer without its scale, for samples as they are held."""
    values, gain, logits = samples, 1.0, np.zeros((classes, len(samples)), np.float32)
    for number, layer in enumerate(layers):
        projection = _projection(number, layer.outputs, classes, recipe.seed)
        emitted = outputs_of(layer.outputs, recipe.binary_activations)
        _, values, logits = passed(
            layer, values, recipe.binary_activations, gain=gain, emitted=emitted, projection=projection
        )
        gain = float(np.float32(layer.scale)) if recipe.binary_activations else 1.0
    return logits


@lru_cache(maxsize=16)
def _projection(number: int, outputs: int, classes: int, seed: int) -> np.ndarray:
    projection = np.zeros((outputs, classes), np.float32)
    random_kernels.normal(projection, number, np.uint64(seed), sqrt(2.0 / outputs))
    return projection
