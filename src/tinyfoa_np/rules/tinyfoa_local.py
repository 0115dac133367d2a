"""TinyFoA (Huang and Aminifar, AAAI 2025), locally connected: one layer in training.

3 x 3 convolution, stride 1, padding 1, with weights of its own at each of P positions. For a layer with weights
W (P, O, F), biases b (P, O), batch norm's gamma and beta (O,), a fixed head H (P, O, C) and its bias c (C,)

    binary weights      Wb = alpha sign(W),  alpha = mean |W|
    products            u = Wb x + b, of the patch x (F,) around a position
    batch norm          v = gamma (u - mean) / deviation + beta, by channel, over batch and positions
    binary activations  s = mean max(v, 0) over the batch,  h = s [v > 0]  (otherwise h = max(v, 0))
    logits              a = h H + c,  p = softmax(a),  loss = mean cross-entropy
    gradient            dv = ((p - Y) / B) H^T [v > 0] [v < 1]             ([v < 1] only with binary activations)
                        du as batch norm sends it back,  dW = du x [|W| < 1],  db = sum du
    update              the optimizer's step, then W, b, gamma and beta clamped to +-1

In training batch norm has the batch's mean and deviation; what is handed on, and inference, the running ones. A slice
is a group of output channels. :mod:`tinyfoa_np.reference.tinyfoa_local` has all of it in plain NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt

import numpy as np

from ..kernels import dense_forward as forward_kernels
from ..kernels import local as kernels
from ..kernels import random as random_kernels
from ..kernels.dense_update import Scratch
from ..kernels.local import Head, Weights
from ..kernels.local_patches import Images
from ..layers.encoding import Inputs, weights_shape, words
from ..layers.layer import Part
from ..layers.local import LocalParameters, Sent, patch_kind
from ..layers.tiling import Tiling
from ..network import CONNECTIONS, LocalShape
from ..ram.packing import Region
from ..ram.phases import BACKWARD, INFERENCE, PASSES, PHASES, TRAINING
from ..recipe import Recipe
from ..storage.flash import Flash
from .layerwise import Layerwise

#: phases in which patches are multiplied
PRODUCTS = (*PASSES, "update")
#: what these count for in bytes read from flash: a byte written, which is slower and wears it out; a number of the head
#: made anew; one call of a kernel; a product made anew
WRITTEN, REGENERATED, CALL, PRODUCT = 10, 24, 4096, 0.25


class Layer(Layerwise):
    """One layer in training.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    number : int
        Layer, from 0.
    inputs : Inputs
        What the layer reads.
    shape : LocalShape
    classes, batches : int
        C; steps per epoch.
    threads : int
        T: how many ways a kernel's work is cut.
    tiling : Tiling

    Raises
    ------
    BadRequest
        If the layer has fewer output channels than slices.
    """

    parameters: LocalParameters

    def __init__(
        self, recipe: Recipe, number: int, inputs: Inputs, shape: LocalShape, classes: int, batches: int, threads: int,
        tiling: Tiling,
    ) -> None:
        parameters = LocalParameters(recipe, number, shape, patch_kind(inputs), batches, threads, tiling)
        super().__init__(
            recipe, number, inputs, shape.outputs, classes, batches, parameters.threads, tiling, parameters
        )
        self.shape = shape
        self.fresh = False  # u of the batch at hand is kept

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        """The batch, its labels and logits, the head, and what the passes and the update compute in."""
        own, threads, shape = self.parameters, self.parameters.threads, self.shape
        patch = own.inputs
        scratch, kind = scratch_shape(patch, self.recipe.binary_weights, shape, self.B)
        some = own.pass_places
        head = some if self.tiling.regenerate else shape.places
        made = PRODUCTS if self.tiling.regenerate else PHASES
        kept = shape.places if self.tiling.keep_products else some
        lasts = (*PRODUCTS, "gradient") if self.tiling.keep_products else PRODUCTS
        return [
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, (*TRAINING, *INFERENCE)),
            Region("input_scale", (1,), "float32", (*TRAINING, *INFERENCE)),
            Region("labels", (self.B,), "uint16", ("load", "forward", "gradient", *INFERENCE)),
            Region("projection", (head * shape.channels, self.C), "float32", made),
            Region("head_bias", (self.C,), "float32"),
            Region("patch", (threads, self.B, patch_columns(patch, shape)), patch.dtype, PRODUCTS),
            Region("scratch", (threads, *scratch), kind, PRODUCTS),
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
        ]  # fmt: skip

    def carried(self) -> frozenset[str]:
        head = {"head_bias"} if self.tiling.regenerate else {"head_bias", "projection"}
        return super().carried() | head

    @property
    def scratch(self) -> Scratch:
        """What an update computes in."""
        return Scratch(self.ram.gradient, self.ram.dz, self.ram.listed)

    def project(self) -> None:
        """Makes the head, where it is stored, and its bias."""
        ram = self.ram
        head_rows(ram.head_bias, self.shape.outputs, self.shape.outputs + 1, self.O, self.number, self.recipe.seed)
        if not self.tiling.regenerate:
            self._make_head(0, self.shape.places)

    def _make_head(self, first: int, last: int) -> np.ndarray:
        """Makes the head's rows of positions ``first`` to ``last``, from the region's first row on."""
        channels = self.shape.channels
        rows = self.ram.projection[: (last - first) * channels]
        head_rows(rows, first * channels, last * channels, self.O, self.number, self.recipe.seed)
        return rows

    def _head(self, first: int, last: int) -> np.ndarray:
        """The head's rows ((last - first) O, C) of positions ``first`` to ``last``, made or as they are stored."""
        channels = self.shape.channels
        if self.tiling.regenerate:
            return self._make_head(first, last)
        return self.ram.projection[first * channels : last * channels]

    def cost(self) -> tuple[float, ...]:
        """What a step takes in time and traffic with flash, in bytes read, beside other ways to cut the layer."""
        own, places = self.parameters, self.shape.places
        (read, written), passes = self.traffic(), 2 + len(own.due(0))
        numbers = passes * self.O * self.C if self.tiling.regenerate else 0
        calls = passes * -(-places // own.pass_places) + -(-places // own.trained_places)
        again = 0 if self.tiling.keep_products else PRODUCT * (passes - 1) * self.O * self.B
        return read + WRITTEN * written + REGENERATED * numbers + CALL * calls + again, -own.pass_places

    @property
    def passes(self) -> int:
        """How often a step needs the weights at all positions, before those that train: two, and one for each slice."""
        return 1 if self.tiling.keep_products else 2 + len(self.parameters.due(0))

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _operands(self) -> tuple[Images, kernels.Layer]:
        """The batch and the layer as they are now: a step's alpha is that with which it began."""
        ram, own, bits = self.ram, self.parameters, self.inputs.kind == "bits"
        images = held_images(ram.inputs, self.inputs, self.shape, self.number, self._input_scale())
        gain = own.alpha * (self._input_scale() if bits else 1.0)
        layer = of_layer(self.shape, own.grid.side, self.recipe.binary_activations, gain, own.ram.bias, ram.norm)
        return images, layer

    def _tiles(self) -> Iterator[tuple[int, int]]:
        """All positions, as many at a time as the plan says: first and last."""
        places, some = self.shape.places, self.parameters.pass_places
        return ((first, min(first + some, places)) for first in range(0, places, some))

    def _u(
        self, flash: Flash, operands: tuple[Images, kernels.Layer], samples: int, first: int, last: int,
        channels: tuple[int, int], weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """u (n, O, B) of some channels at positions ``first`` to ``last``, made anew where it is not kept."""
        ram = self.ram
        u = ram.u[first:last] if self.tiling.keep_products else ram.u[: last - first]
        if not self.fresh:
            images, layer = operands
            weights = self.parameters.at_places(flash, first, last) if weights is None else weights
            kernels.products(images, samples, layer, Weights(first, weights), *channels, ram.patch, ram.scratch, u)
        return u

    def forward(
        self, flash: Flash, part: Part, step: int | None = None, emit: bool = False, stored_scale: float | None = None
    ) -> float:
        """A batch to its logits; returns the summed max(v, 0): see :meth:`.layerwise.Layerwise.forward`."""
        ram, own, samples = self.ram, self.parameters, part.samples
        operands, everyone = self._operands(), (0, self.shape.channels)
        self.fresh = False
        if step is None:
            kernels.running_norm(own.ram.running, ram.norm)
        else:
            for first, last in self._tiles():
                u = self._u(flash, operands, samples, first, last, everyone)
                kernels.statistics(u, samples, first > 0, own.threads, ram.place_sums, ram.totals)
            kernels.batch_norm(ram.totals, samples * self.shape.places, ram.norm, own.ram.running)
            self.fresh = self.tiling.keep_products
        ram.abs_r[:] = 0
        outputs = ram.outputs if emit else self.nothing
        for first, last in self._tiles():
            u = self._u(flash, operands, samples, first, last, everyone)
            head = Head(first, self._head(first, last))
            kernels.forward(u, samples, operands[1], head, self.z_unit, ram.v, ram.logits, outputs, ram.abs_r)
        total = int(ram.abs_r.sum()) / self.z_unit
        if self.recipe.binary_activations:
            self.scale = total / (samples * self.O) if stored_scale is None else stored_scale
        return total

    def evaluate(self, flash: Flash, part: Part) -> int:
        """Wrong answers in what was loaded: with the batch's own s, beside which the head's bias counts.

        Once the layer is trained, the hand-over and inference take the stored s.
        """
        return super().evaluate(flash, part)

    def scores(self, samples: int) -> np.ndarray:
        """Logits over the layer's scale, with the head's bias."""
        return super().scores(samples) + self.ram.head_bias[:, None] / np.float32(self.scale or 1.0)

    def gradient(self, samples: int) -> tuple[float, int]:
        """Logits to error; returns the batch's summed cross-entropy and how many answers are wrong."""
        kernels.scale_logits(self.ram.logits, samples, np.float32(self.scale), self.ram.head_bias)
        return self._softmax(samples, 1.0)

    def _sources(self, flash: Flash, samples: int) -> Callable[[int], Sent]:
        """What the gradient of slice k is made of, once batch norm knows what to send back."""
        ram, own, operands = self.ram, self.parameters, self._operands()
        images, layer = operands

        def sent(k: int) -> Sent:
            channels = own.grid.bounds(k)

            def errors(first: int, last: int, weights: np.ndarray) -> np.ndarray:
                u = self._u(flash, operands, samples, first, last, channels, weights)
                head = Head(first, self._head(first, last))
                kernels.errors(u, samples, layer, k, head, ram.error, ram.dv, ram.totals)
                return u

            for first, last in self._tiles():
                u = self._u(flash, operands, samples, first, last, channels)
                head = Head(first, self._head(first, last))
                kernels.slopes(u, samples, layer, k, head, ram.error, ram.dv, ram.place_sums, ram.totals)
            return Sent(images, layer, ram.patch, ram.totals, errors)

        return sent

    def update(self, flash: Flash, samples: int, step: int) -> bool:
        """Trains the slices that are due; False as soon as a number is no longer finite."""
        sources = self._sources(flash, samples)
        return self.parameters.update(flash, sources, samples, no_errors, step, self.scratch, self.ram.abs_w)

    def slice_gradient(self, flash: Flash, samples: int, step: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of slice k and of its biases, stored whole: for inspection."""
        sent = self._sources(flash, samples)(k)
        found = self.parameters.slice_gradient(flash, sent, samples, no_errors, k, self.scratch)
        self.fresh = False  # errors stand where u was
        return found


def no_errors(first: int, last: int) -> None:
    """Stands for errors that come with the inputs, :class:`.local.Sent`."""


def patch_columns(patch: Inputs, shape: LocalShape) -> int:
    """Columns of the patches around a position: depthwise, bits of one channel stand beside those of all."""
    if patch.kind == "bits" and shape.connect == CONNECTIONS[1]:
        return patch.columns + words(9 * shape.below)
    return patch.columns


def scratch_shape(patch: Inputs, binary_weights: bool, shape: LocalShape, batch: int) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the scratch that one thread's products need."""
    if patch.kind == "bits" and binary_weights and shape.connect == CONNECTIONS[1]:
        return (0,), "int32"  # nine bits of one channel by nine signs
    weights = np.dtype(weights_shape(shape.channels, patch.width, binary_weights)[1])
    return forward_kernels.scratch_shape(np.dtype(patch.dtype), weights, batch, words(patch.width), 1)


def held_images(values: np.ndarray, inputs: Inputs, shape: LocalShape, number: int, scale: float) -> Images:
    """A batch of layer ``number``'s inputs as the kernels take images; ``scale`` is what bits stand for.

    A data set's samples come channel by channel, what a layer hands on position by position.
    """
    steps = (shape.places, 1) if number == 0 else (1, shape.below)
    factor, offset = (inputs.scale, inputs.offset) if inputs.kind == "bytes" else (scale, 0.0)
    return Images(values, np.float32(factor), np.float32(offset), shape.below, shape.rows, shape.columns, *steps)


def of_layer(
    shape: LocalShape, groups: int, binary: bool, gain: float, bias: np.ndarray, norm: np.ndarray
) -> kernels.Layer:
    """A layer as the kernels take it."""
    depthwise = shape.connect == CONNECTIONS[1]
    return kernels.Layer(shape.channels, shape.places, groups, depthwise, binary, np.float32(gain), bias, norm)


def head_rows(out: np.ndarray, first: int, last: int, outputs: int, number: int, seed: int) -> None:
    """Rows ``first`` to ``last`` of a layer's fixed head ((O + 1), C): uniform in +-1/sqrt(O); the last is its bias."""
    flat, classes = out.reshape(-1), out.shape[-1]
    random_kernels.uniform(
        flat, first, last, 0, classes, classes, number, random_kernels.PROJECTION, np.uint64(seed),
        np.float32(1 / sqrt(outputs)),
    )
