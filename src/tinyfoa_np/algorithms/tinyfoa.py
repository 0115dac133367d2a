"""TinyFoA (Huang and Aminifar, AAAI 2025), fully connected: one layer in training.

For a layer with weights W (O, I), bias b (O) and a fixed projection P (here (O, C): a row per neuron)

    binary weights      Wb = alpha sign(W),  alpha = mean |W|
    forward             z = X Wb^T + b
    binary activations  s = mean |z| over the batch,  h = s [z > 0]        (otherwise h = max(z, 0))
    logits              a = h P,  p = softmax(a),  loss = mean cross-entropy
    gradient            dz = ((p - Y) / B) P^T [z > 0] [|z| < 1]           ([|z| < 1] only with binary activations)
                        dW = dz^T X [|W| < 1],  db = sum dz                ([|W| < 1] only with binary weights)
    update              the optimizer's step, then W and b clamped to +-1

Full-precision weights stay in flash with their moments, slice by slice; the resident slice lies in the arena, as do the
signs of all weights (or, without binary weights, a copy of all), which is what the forward pass reads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import ceil, log2, sqrt
from types import SimpleNamespace

import numpy as np

from ..arena import Arena
from ..errors import BadRequest
from ..flash import Flash
from ..kernels import forward as forward_kernels
from ..kernels import loss as loss_kernels
from ..kernels import random as random_kernels
from ..kernels import update as update_kernels
from ..plan import Region
from ..recipe import Recipe
from ..slices import Grid, Schedule
from .operands import Inputs, outputs_of, weights_shape, words

TRAINING = ("load", "forward", "gradient", "update")
PASSES = ("forward", "hand-over", "evaluate")
#: moments per weight of each optimizer, and its number in the kernels
MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2}
CODES = {"sgd": update_kernels.SGD, "momentum": update_kernels.MOMENTUM, "adam": update_kernels.ADAM}
#: bytes through which flash reads back what it commits
COMMIT_BUFFER = 16384
#: neurons whose z exists at a time, from the fastest to the smallest
TILES = (256, 128, 64)


def z_unit(batch: int, outputs: int) -> float:
    """Steps per 1.0 of the exact sum of |z| over a batch: a 64-bit sum of |z| <= 2**20 cannot overflow."""
    return 2.0 ** min(28, 42 - ceil(log2(batch * outputs)))


def weight_unit(outputs: int, inputs: int) -> float:
    """Steps per 1.0 of the exact sum of |W| over a layer: |W| <= 1, with room to spare."""
    return 2.0 ** min(32, 60 - ceil(log2(outputs * inputs)))


def z_tile(tile: int, inputs: Inputs, outputs: int, binary_weights: bool) -> int:
    """Neurons per tile: products by popcount are fastest on the smallest tile, dense ones on a large one."""
    popcounts = binary_weights and inputs.kind != "real"
    return min(TILES[-1] if popcounts else tile, outputs)


@dataclass
class State:
    """What a layer in training knows beside the arena's bytes: counts and exact sums, which a commit's root carries."""

    steps: list[int]  # optimizer steps of each slice
    bias_steps: list[int]  # and of each group of biases
    sums: list[int] = field(default_factory=list)  # sum of |W| of each slice, in steps of 1 / weight_unit
    resident: int | None = None  # the slice in the arena
    group: int | None = None  # the group of biases whose moments are in the arena
    dirty: bool = False  # the resident slice or group differs from its copy in flash
    scale: float = 1.0  # s of the batch, or the stored one
    alpha: float = 1.0


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

    def __init__(
        self, recipe: Recipe, number: int, inputs: Inputs, outputs: int, classes: int, batches: int, threads: int = 1,
        tile: int = TILES[0],
    ) -> None:
        self.recipe, self.number, self.inputs = recipe, number, inputs
        self.O, self.I, self.C, self.B = outputs, inputs.width, classes, recipe.batch
        self.tile = z_tile(tile, inputs, outputs, recipe.binary_weights)
        if recipe.slices > min(self.O, self.I):
            raise BadRequest(
                f"{recipe.slices} slices per side do not fit layer {number + 1} of {self.O} x {self.I} weights:"
                f" at most {min(self.O, self.I)}"
            )
        self.full_grid = Grid(self.O, self.I, recipe.slices)
        self.grid = Grid(self.O, self.I, 1) if recipe.schedule == "frozen" else self.full_grid
        self.schedule = Schedule(recipe.hold_steps(batches), recipe.exchanges or 0, recipe.epochs * batches)
        # a thread takes at least 16 samples forward, and at least one neuron in the update
        self.threads = min(threads, -(-self.B // 16))
        self.update_threads = min(threads, self.O // self.grid.side)
        self.moments = MOMENTS[recipe.optimizer]
        self.unit = weight_unit(self.O, self.I)
        self.z_unit = z_unit(self.B, self.O)
        self.emitted = outputs_of(self.O, recipe.binary_activations)
        self.state = State([0] * len(self.grid), [0] * self.grid.side)
        self.nothing = np.zeros((0, 0), self.emitted.dtype)  # stands for outputs that are not wanted
        self.no_rows = np.zeros((0, -(-self.B // 16)), np.uint16)  # and for masks

    # -- regions -------------------------------------------------------------------------------------------------------

    def regions(self) -> list[Region]:
        """What the layer needs of the arena, and when."""
        largest = self.grid.slice(0).size
        rows = self.grid.rows(0)[1]
        trained = self.O if self.recipe.schedule != "slice" else rows
        weights, kind = weights_shape(self.O, self.I, self.recipe.binary_weights)
        scratch, scratch_kind = forward_kernels.scratch_shape(
            np.dtype(self.inputs.dtype), np.dtype(kind), self.B, words(self.I), self.threads
        )
        run, neurons = max(map(self._run_width, self.visited())), 1
        if self.inputs.kind == "real" and self.tile == TILES[0]:
            neurons = min(update_kernels.NEURONS, self.O // self.grid.side // self.update_threads)
        lists = update_kernels.list_width(self.B, neurons)
        resident = ("initialize", *TRAINING, "evaluate")
        return [
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, (*TRAINING, "hand-over", "evaluate")),
            Region("input_scale", (1,), "float32", (*TRAINING, "hand-over", "evaluate")),
            Region("labels", (self.B,), "uint16", ("load", "forward", "gradient", "hand-over", "evaluate")),
            Region("weights", weights, kind),
            Region("bias", (self.O,), "float32"),
            Region("projection", (self.O, self.C), "float32"),
            Region("weight", (largest,), "float32", resident),
            Region("moment1", (largest if self.moments > 0 else 0,), "float32", resident),
            Region("moment2", (largest if self.moments > 1 else 0,), "float32", resident),
            Region("bias_moment1", (rows if self.moments > 0 else 0,), "float32", resident),
            Region("bias_moment2", (rows if self.moments > 1 else 0,), "float32", resident),
            Region("z", (self.tile, self.B), "float32", PASSES),
            Region("scratch", scratch, scratch_kind, PASSES),
            Region("abs_z", (self.threads,), "int64", PASSES),
            Region("active", (trained, -(-self.B // 16)), "uint16", ("forward", "gradient", "update")),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", "hand-over", "evaluate")),
            Region("error", (self.C, self.B), "float32", ("gradient", "update", "hand-over", "evaluate")),
            Region("result", (2,), "float64", ("gradient", "hand-over", "evaluate")),
            Region("gradient", (self.update_threads, run), "float32", ("update",)),
            Region("dz", (self.update_threads, lists), "float32", ("update",)),
            Region("listed", (self.update_threads, lists), "int32", ("update",)),
            Region("abs_w", (self.update_threads,), "int64", ("update",)),
            Region("outputs", (self.B, self.emitted.columns), self.emitted.dtype, ("hand-over",)),
            Region("row", (self.I,), "float32", ("hand-over",)),
            Region("commit", (min(COMMIT_BUFFER, 4 * (1 + self.moments) * largest),), "uint8", ("load",)),
        ]

    def visited(self) -> range:
        """The slices that train at all."""
        if self.recipe.schedule != "slice":
            return range(len(self.grid))
        return range(min(len(self.grid), self.schedule.holds(self.schedule.steps - 1) + 1))

    def widest_step(self) -> int:
        """The first step that trains a slice of the widest runs: no other takes more of the arena."""
        if self.recipe.schedule != "slice":
            return 0
        return self.schedule.begins(max(self.visited(), key=self._run_width))

    def _run_width(self, k: int) -> int:
        part = self.grid.slice(k)
        return update_kernels.run_width(part.low, part.high, self.inputs.kind == "bits")

    def carried(self) -> frozenset[str]:
        """Regions whose content one batch leaves to the next."""
        names = ("weights", "bias", "projection", "weight", "moment1", "moment2", "bias_moment1", "bias_moment2")
        return frozenset(names)

    def open(self, arena: Arena) -> None:
        """Takes the layer's views from an arena laid out with its regions, and makes the projection."""
        planned = arena.plan.offsets
        ram = {r.name: arena.take(r.name) if r.name in planned else np.zeros(r.shape, r.dtype) for r in self.regions()}
        self.ram = SimpleNamespace(**ram)
        self.ram.weights[...] = 0  # absent neurons and inputs stay zero bits
        random_kernels.normal(self.ram.projection, self.number, np.uint64(self.recipe.seed), sqrt(2.0 / self.O))

    # -- flash ---------------------------------------------------------------------------------------------------------

    def _name(self, what: str) -> str:
        return f"layer{self.number}.{what}"

    def create(self, flash: Flash) -> None:
        """Makes the layer's objects in flash: slices and groups of biases, each with its moments."""
        copies = 4 * (1 + self.moments)
        flash.new(self._name("slices"), [copies * self.grid.slice(k).size for k in range(len(self.grid))])
        rows = [self.grid.rows(j) for j in range(self.grid.side)]
        flash.new(self._name("biases"), [copies * (last - first) for first, last in rows])

    def initialize(self, flash: Flash, W: np.ndarray | None = None, b: np.ndarray | None = None) -> None:
        """Writes the initial slices and biases: uniform in +-1/sqrt(I), or W (O, I) and b (O) where given."""
        ram, bound, seed = self.ram, np.float32(1 / sqrt(self.I)), np.uint64(self.recipe.seed)
        for view in (ram.moment1, ram.moment2, ram.bias_moment1, ram.bias_moment2):
            view[:] = 0
        for k in range(len(self.grid)):
            part = self.grid.slice(k)
            if W is None:
                random_kernels.uniform(ram.weight, *part, self.I, self.number, random_kernels.WEIGHT, seed, bound)
            else:
                ram.weight[: part.size] = W[part.first : part.last, part.low : part.high].ravel()
            flash.write(self._name("slices"), k, self._slice_views(k))
        if b is None:
            random_kernels.uniform(ram.bias, 0, self.O, 0, 1, 1, self.number, random_kernels.BIAS, seed, bound)
        else:
            ram.bias[:] = b
        for j in range(self.grid.side):
            flash.write(self._name("biases"), j, self._bias_views(j))

    def restore(self, flash: Flash) -> None:
        """Reads every slice and bias once: what the forward pass reads is rebuilt, and the sums of |W| with it."""
        ram, state = self.ram, self.state
        state.sums = []
        for k in range(len(self.grid)):
            flash.read(self._name("slices"), k, self._slice_views(k)[:1])
            state.sums.append(update_kernels.publish_slice(ram.weight, *self.grid.slice(k), ram.weights, self.unit))
        for j in range(self.grid.side):
            flash.read(self._name("biases"), j, self._bias_views(j)[:1])
        state.resident = state.group = None
        state.dirty = False

    def _slice_views(self, k: int) -> list[np.ndarray]:
        size, ram = self.grid.slice(k).size, self.ram
        return [view[:size] for view in (ram.weight, ram.moment1, ram.moment2)[: 1 + self.moments]]

    def _bias_views(self, j: int) -> list[np.ndarray]:
        first, last = self.grid.rows(j)
        moments = (self.ram.bias_moment1, self.ram.bias_moment2)[: self.moments]
        return [self.ram.bias[first:last], *(view[: last - first] for view in moments)]

    def flush(self, flash: Flash) -> None:
        """Writes the resident slice and group of biases back, if they have changed."""
        if self.state.dirty and self.state.resident is not None and self.state.group is not None:
            flash.write(self._name("slices"), self.state.resident, self._slice_views(self.state.resident))
            flash.write(self._name("biases"), self.state.group, self._bias_views(self.state.group))
            self.state.dirty = False

    def exchange(self, flash: Flash, k: int) -> None:
        """Makes slice k resident, and the moments of its group of biases."""
        if k == self.state.resident:
            return
        self.flush(flash)
        flash.read(self._name("slices"), k, self._slice_views(k))
        group = k // self.grid.side
        if group != self.state.group:
            first, last = self.grid.rows(group)
            flash.read(self._name("biases"), group, self._bias_views(group)[1:], 4 * (last - first))
        self.state.resident, self.state.group = k, group
        flash.exchanges += 1

    # -- one batch -----------------------------------------------------------------------------------------------------

    def due(self, step: int) -> list[int]:
        """The slices that train in a step, in the order in which they become resident."""
        if self.recipe.schedule == "slice":
            return [self.schedule.holds(step) % len(self.grid)]
        everyone = list(range(len(self.grid)))
        return everyone[::-1] if step % 2 else everyone  # to and fro: the resident slice need not travel

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
        ram, recipe, state = self.ram, self.recipe, self.state
        if recipe.binary_weights:
            state.alpha = sum(state.sums) / self.unit / (self.O * self.I)
        ram.abs_z[:] = 0
        forward_kernels.forward(
            ram.inputs, samples, ram.weights, ram.bias, self._gain(), np.float32(self.inputs.scale),
            np.float32(self.inputs.offset), ram.projection, 0, self.O, self.I, recipe.binary_activations, self.z_unit,
            ram.scratch, ram.z, self.no_rows if step is None else ram.active, self._first_trained(step), ram.logits,
            ram.outputs if emit else self.nothing, ram.abs_z,
        )
        total = int(ram.abs_z.sum()) / self.z_unit
        if recipe.binary_activations:
            state.scale = total / (samples * self.O) if stored_scale is None else stored_scale
        return total

    def _first_trained(self, step: int | None) -> int:
        if step is None or self.recipe.schedule != "slice":
            return 0
        return self.grid.slice(self.due(step)[0]).first

    def _gain(self) -> np.float32:
        """What turns x . sign(w) into x . w: alpha, times the scale of the inputs where these are bits."""
        return np.float32(self._input_scale() * (self.state.alpha if self.recipe.binary_weights else 1.0))

    def _input_scale(self) -> float:
        return float(self.ram.input_scale[0]) if self.inputs.kind == "bits" else 1.0

    def gradient(self, samples: int) -> tuple[float, int]:
        """Logits to error; returns the batch's summed cross-entropy and how many answers are wrong."""
        ram = self.ram
        ram.result[:] = 0
        loss_kernels.softmax_cross_entropy(
            ram.logits, samples, np.float32(self.state.scale), ram.labels, ram.error, ram.result
        )
        return float(ram.result[0]), int(ram.result[1])

    def slice_gradient(self, samples: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of slice k, which must be resident, and of its biases, stored whole: for inspection."""
        part = self.grid.slice(k)
        source = self._source(part.first if self.recipe.schedule == "slice" else 0)
        dW, db = np.zeros(part.size, np.float32), np.zeros(part.last - part.first, np.float32)
        update_kernels.slice_gradient(
            self._held_inputs(), samples, source, part, self.ram.weight, self.recipe.binary_weights, self._scratch(),
            dW, db,
        )
        return dW.reshape(part.last - part.first, part.high - part.low), db

    def _held_inputs(self) -> update_kernels.Inputs:
        scale, offset = self._input_scale(), 0.0
        if self.inputs.kind == "bytes":
            scale, offset = self.inputs.scale, self.inputs.offset
        return update_kernels.Inputs(self.ram.inputs, np.float32(scale), np.float32(offset))

    def _source(self, first: int) -> update_kernels.Projected:
        return update_kernels.Projected(self.ram.error, self.ram.projection, self.ram.active, first)

    def _scratch(self) -> update_kernels.Scratch:
        return update_kernels.Scratch(self.ram.gradient, self.ram.dz, self.ram.listed)

    def update(self, flash: Flash, samples: int, step: int) -> bool:
        """Trains the slices that are due, one at a time in the arena, and each group of their biases once.

        Returns False, and leaves off, as soon as a weight or a moment is no longer finite.
        """
        ram, recipe, state = self.ram, self.recipe, self.state
        inputs, source, scratch = self._held_inputs(), self._source(self._first_trained(step)), self._scratch()
        resident = update_kernels.Resident(ram.weight, ram.moment1, ram.moment2)
        biases = update_kernels.Biases(ram.bias, ram.bias_moment1, ram.bias_moment2)
        still = self._still(step)
        trained: set[int] = set()
        for k in self.due(step):
            self.exchange(flash, k)
            part, group = self.grid.slice(k), k // self.grid.side
            train_bias = group not in trained
            state.steps[k] += 1
            state.bias_steps[group] += train_bias
            trained.add(group)
            ram.abs_w[:] = 0
            update_kernels.update(
                inputs, samples, source, part, resident, ram.weights, still, biases, self._pace(state.steps[k]),
                self._pace(state.bias_steps[group]), train_bias, recipe.binary_weights, self.unit, scratch, ram.abs_w,
            )
            if ram.abs_w.min() < 0:
                return False
            state.sums[k] = int(ram.abs_w.sum())
            state.dirty = True
        return True

    def _still(self, step: int) -> tuple[int, int, int, int]:
        if self.recipe.schedule != "frozen":
            return (0, 0, 0, 0)
        q = (self.schedule.holds(step) + 1) % self.full_grid.side
        part = self.full_grid.slice(q * self.full_grid.side + q)
        return part.first, part.last, part.low, part.high

    def _pace(self, t: int) -> update_kernels.Step:
        """The optimizer at its step t, with Adam's bias corrections folded: lr / (1 - 0.9^t), 1 / sqrt(1 - 0.999^t)."""
        lr, root = self.recipe.lr, 1.0
        if self.recipe.optimizer == "adam":
            lr, root = lr / (1 - 0.9**t), 1 / sqrt(1 - 0.999**t)
        decay, limit = np.float32(0), np.float32(1)
        return update_kernels.Step(CODES[self.recipe.optimizer], np.float32(lr), np.float32(root), decay, limit)

    # -- a trained layer -----------------------------------------------------------------------------------------------

    def digest(self, flash: Flash) -> str:
        """SHA-256 of W (row by row), then b, as little-endian float32; reads the slices from flash."""
        hashed, row = hashlib.sha256(), self.ram.row
        side = self.grid.side
        for j in range(side):
            first, last = self.grid.rows(j)
            parts = [(k, self.grid.slice(k)) for k in range(j * side, (j + 1) * side)]
            for o in range(last - first):
                for k, part in parts:
                    width = part.high - part.low
                    flash.read(self._name("slices"), k, [row[part.low : part.high]], 4 * o * width)
                hashed.update(row)
        hashed.update(self.ram.bias)
        return hashed.hexdigest()

    def keep(self, flash: Flash) -> None:
        """Writes what inference needs of the trained layer: the weights as forward reads them, and the bias."""
        flash.new(self._name("trained"), [self.ram.weights.nbytes, self.ram.bias.nbytes], slots=1)
        flash.write(self._name("trained"), 0, [self.ram.weights])
        flash.write(self._name("trained"), 1, [self.ram.bias])
