"""Backpropagation through locally connected layers: what TinyFoA is measured against in its paper's Table 3.

The layers are those of :mod:`.tinyfoa_local`, with weights W (P, O, F), biases b (P, O), gamma and beta (O,) at P
positions;
on top of them a mean over each of 7 x 7 parts of the image, dropout, and a linear classifier of full precision:

    products            u_k = Wb_k x + b_k, of the patch x of h_k around a position,  Wb = alpha sign(W) or W
    batch norm          v_k = gamma (u_k - mean) / deviation + beta
    binary activations  h_k+1 = s_k [v_k > 0],  s_k = mean max(v_k, 0) over the batch   (otherwise h_k+1 = max(v_k, 0))
    classifier          f = D mean h_top over the parts,  a = W f + b,  D dropout over the rate at which it keeps
    error               da = (softmax(a) - Y) / B
    backward            dv_k = dh_k+1 [v_k > 0] [v_k < 1]                  ([v < 1] only with binary activations)
                        du_k as batch norm sends it back;  dh_k = sum over taps and outputs of Wb_k du_k
    gradient            dW_k = du_k x [|W_k| < 1],  db_k = sum du_k        ([|W| < 1] only with binary weights)
    update              the optimizer's step, then all that trains is clamped to +-1

In training batch norm has the batch's mean and deviation, in inference the running ones, and nothing is dropped. u of
all layers are kept from the pass up to the pass down or, where RAM is short, made again; du takes their place, and one
array holds the errors that travel. :mod:`tinyfoa_np.reference.bp_local` has all of it in plain NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..kernels import dense_backward as backward_kernels
from ..kernels import local_backward as local_backward_kernels
from ..kernels import local_pool as pooling_kernels
from ..kernels.local import Above
from ..layers.dense import Parameters
from ..layers.encoding import Inputs, empty, outputs_of, view, weights_shape, words, z_unit
from ..layers.layer import Layer, Part, whole
from ..layers.local import LocalParameters, Out, Slopes, Work, no_errors, patch_columns, patch_kind, scratch_shape
from ..layers.tiling import PLACES, ROWS, Tiling
from ..network import CONNECTIONS, LocalShape
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import BACKWARD, COMPUTING, INFERENCE, PASSES, STEP
from ..recipe import Recipe
from ..storage.flash import Flash
from .cuts import Rung
from .dense_network import NO_MASK, Whole
from .layerwise import NO_FLASH
from .stage import Outcome

#: parts along each side of an image that the classifier sees the means of
SIDE = 7


class Network(Whole):
    """A locally connected network in training by backpropagation.

    Parameters
    ----------
    recipe, inputs, shapes, classes, batches, threads
        As for :class:`.dense_network.Whole`, the shapes those of locally connected layers.
    tiling : Tiling
        Positions of a pass at a time, and whether products are kept.

    Raises
    ------
    BadRequest
        If a layer has fewer output channels than slices.
    """

    layers: list[Parameters]

    def __init__(
        self, recipe: Recipe, inputs: Inputs, shapes: Sequence[LocalShape], classes: int, batches: int, threads: int,
        tiling: Tiling,
    ) -> None:
        super().__init__(recipe, inputs, shapes, classes, batches, threads, tiling)
        self.shapes, self.top = list(shapes), len(shapes)
        self.places = self.shapes[0].places  # P, of all layers
        features = SIDE * SIDE * self.shapes[-1].channels
        self.outputs = [outputs_of(width, self.binary) for width in self.widths]
        self.reads = [inputs, *self.outputs[:-1], Inputs("real", features)]
        self.local = [
            LocalParameters(recipe, k, shape, patch_kind(self.reads[k]), batches, threads, tiling, prefix=f"layer{k}.")
            for k, shape in enumerate(self.shapes)
        ]
        classifier = Parameters(
            recipe, self.top, self.reads[-1], classes, batches, threads, binary_weights=False, vertical=False,
            limit=1.0, prefix=f"layer{self.top}.",
        )  # fmt: skip
        self.layers = [*self.local, classifier]
        self.grown = 1 / (1 - (recipe.dropout or 0.0))  # what a kept feature is multiplied by

    # -- regions -------------------------------------------------------------------------------------------------------

    def scratch_kinds(self, k: int) -> list[Inputs]:
        """How layer k's inputs may come, where :meth:`tile_pass` takes them: of the classifier alone."""
        return [self.reads[k]] if k == self.top else []

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        kept_or_not = [Tiling(recipe.batch, PLACES[0], keep_products=kept) for kept in (True, False)]
        return [Rung(tiling, PLACES[:1], ROWS[:1]) for tiling in kept_or_not]

    def extra(self) -> list[Region]:
        """What the network needs of the arena beside its layers, and when."""
        channels = [shape.channels for shape in self.shapes]
        most, threads = max(channels), max(own.threads for own in self.local)
        keep, tile = self.tiling.keep_products, min(self.tiling.neurons, self.places)
        kept = [(f"u{k}", some) for k, some in enumerate(channels)] if keep else [("u", most)]
        multiplying = (*PASSES, "update") if keep else (*PASSES, *BACKWARD)
        return [
            *self.common_regions(self.B),
            *(
                Region(f"h{k + 1}", (self.B, held.columns), held.dtype, COMPUTING)
                for k, held in enumerate(self.outputs)
            ),
            *(Region(name, (self.places, some, self.B), "float32", COMPUTING) for name, some in kept),
            *(Region(f"norm{k}", (2, some), "float32", COMPUTING) for k, some in enumerate(channels)),
            Region("patch", (max(_nbytes(*self._patch(k)) for k in range(self.top)),), "uint8", multiplying),
            Region("product_scratch", (max(_nbytes(*self._products(k)) for k in range(self.top)),), "uint8",
                   multiplying),
            Region("v", (most * self.B,), "float32", PASSES),
            Region("place_sums", (tile * 2 * most,), "float64", ("forward", "gradient")),
            Region("totals", (2 * most,), "float64", STEP),
            Region("feature", (self.B, self.reads[-1].width), "float32", COMPUTING),
            Region(f"mask{self.top}", (self.B if self.recipe.dropout else 0, words(self.reads[-1].width)), "uint64",
                   ("forward", "gradient")),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", *INFERENCE)),
            Region("error", (self.C, self.B), "float32", (*BACKWARD, *INFERENCE)),
            Region("feature_error", (self.reads[-1].width, self.B), "float32", ("gradient",)),
            Region("dh", (self.places * most * self.B,), "float32", BACKWARD),
            Region("dv", (threads, self.B), "float32", ("gradient",)),
            Region("backward", (max(_nbytes(*self._backward(k)) for k in range(1, self.top + 1)),), "uint8",
                   ("gradient",)),
        ]  # fmt: skip

    def _patch(self, k: int) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the patches that layer k's threads are at."""
        own = self.local[k]
        return (own.threads, self.B, patch_columns(own.inputs, own.shape)), own.inputs.dtype

    def _products(self, k: int) -> tuple[tuple[int, ...], str]:
        """Of what layer k's products need for themselves."""
        own = self.local[k]
        some, kind = scratch_shape(own.inputs, own.binary_weights, own.shape, self.B)
        return (own.threads, *some), kind

    def _backward(self, k: int) -> tuple[tuple[int, ...], str]:
        """Of what sending errors back through layer k needs."""
        layer = self.layers[k]
        kind = np.dtype(weights_shape(layer.O, layer.I, layer.binary_weights)[1])
        if k == self.top:
            return backward_kernels.scratch_shape(kind, layer.O, layer.I, self.cores)
        shape, threads = self.shapes[k], self.local[k].threads
        return local_backward_kernels.scratch_shape(kind, shape.channels, self._depthwise, threads)

    @property
    def _depthwise(self) -> bool:
        return self.shapes[0].connect == CONNECTIONS[1]

    def cost(self) -> tuple[float, ...]:
        """What a step takes, beside other ways to cut it: products made twice, or once."""
        return (0.0 if self.tiling.keep_products else 1.0,)

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _values(self, k: int) -> np.ndarray:
        """Inputs of layer k (B, columns); of the first after the last, what that puts out."""
        return self.ram.inputs if k == 0 else self.ram[f"h{k}"]

    def _dh(self, channels: int) -> np.ndarray:
        """The errors at what a layer of so many channels puts out (P, O, B)."""
        shape = self.places, channels, self.B
        return self.ram.dh[: prod(shape)].reshape(shape)

    def take(self, arena: Arena, layers: Sequence[Layer]) -> None:
        super().take(arena, layers)
        ram = self.ram
        for k, own in enumerate(self.local):
            channels, some = self.shapes[k].channels, min(self.tiling.neurons, self.places)
            shape = self.places, channels, self.B
            u = ram[f"u{k}"] if self.tiling.keep_products else ram.u.reshape(-1)[: prod(shape)].reshape(shape)
            patch, scratch = view(ram.patch, *self._patch(k)), view(ram.product_scratch, *self._products(k))
            own.work = Work(patch, scratch, u, ram.v, ram[f"norm{k}"], ram.abs_z[: self._pass_threads(self.B)])
            if "totals" in ram:
                place_sums, totals = ram.place_sums[: some * 2 * channels], ram.totals[: 2 * channels]
                own.slopes = Slopes(
                    ram.dv[: own.threads], place_sums.reshape(some, 2, -1), totals.reshape(2, -1)
                )

    def forward(self, samples: int, scales: Sequence[float] | None = None, step: int | None = None) -> list[float]:
        """A batch through all layers to the logits; returns the summed max(v, 0) of each hidden layer.

        ``scales`` are stored s_k, in place of the batch's own; ``step`` is that of a training: batch norm then goes by
        the batch, and features are dropped.
        """
        ram, sums, none = self.ram, [], empty((0, self.B))
        self.gains = [1.0]  # what the bits of each layer's inputs stand for
        for k, (own, width) in enumerate(zip(self.local, self.widths, strict=True)):
            own.begin(self._values(k), self.reads[k], self.gains[k])
            out = Out(self._values(k + 1), none, own.no_head)
            sums.append(own.forward(NO_FLASH, whole(samples), out, z_unit(self.B, width), step is not None))
            s = sums[k] / (samples * width) if scales is None else scales[k]
            self.gains.append(s if self.binary else 1.0)
        self.mask = NO_MASK if step is None else self.dropout_mask(self.top, self.reads[-1].width, samples, step)
        grown = self.grown if step is not None else 1.0
        shape = self.shapes[-1]
        pooling_kernels.pool(
            self._values(self.top), samples, shape.rows, shape.columns, shape.channels, SIDE,
            np.float32(self.gains[-1] * grown), self.mask, ram.feature, self.cores,
        )
        self.whole_pass(self.top, ram.feature, samples, ram.logits)
        return sums

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """One training step on the batch that was loaded."""
        ram, arena, samples = self.ram, self.arena, part.samples
        arena.enter("forward")
        self.note(samples, step, self.forward(samples, step=step))
        arena.enter("gradient")
        loss, wrong = self.cross_entropy(samples)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        self._classifier_back(samples)
        arena.enter("update")
        kept = self.train_layer(flash, self.top, ram.feature, 1.0, samples, ram.error, step)
        for k in reversed(range(self.top)):
            if kept:
                arena.enter("gradient")
                self._back(k, samples)
                arena.enter("update")
                kept = self._train_local(flash, k, samples, step)
        return Outcome.of(loss, wrong, kept)

    def _classifier_back(self, samples: int) -> None:
        """From the error of the logits to those of what the last locally connected layer puts out."""
        ram, classifier, shape = self.ram, self.layers[self.top], self.shapes[-1]
        scratch = view(ram.backward, *self._backward(self.top))
        backward_kernels.backward(
            ram.error, samples, classifier.ram.weights, classifier.I, np.float32(1),
            empty((0, self.groups), "uint16"), scratch, ram.feature_error,
        )
        pooling_kernels.drop_errors(ram.feature_error, samples, self.mask, np.float32(self.grown))
        pooling_kernels.pool_gradient(
            ram.feature_error, samples, shape.rows, shape.columns, SIDE, self._dh(shape.channels), self.cores
        )

    def _back(self, k: int, samples: int) -> None:
        """From the errors of what layer k puts out to du in the place of u, and to those of what it reads."""
        ram, own = self.ram, self.local[k]
        dh = self._dh(own.shape.channels)

        def above(first: int, last: int) -> Above:
            return Above(first, dh[first:last])

        own.fresh = self.tiling.keep_products
        for first, last in own.pass_tiles():
            own.products(NO_FLASH, samples, first, last)
        own.fresh = True
        for group in range(own.grid.side):
            own.sum_slopes(NO_FLASH, samples, group, above, ram.error)
            own.errors(NO_FLASH, samples, group, above, ram.error, 0, self.places)
        if k > 0:
            local_backward_kernels.backward(
                own.work.u, samples, own.shape.rows, own.shape.columns, own.layer.depthwise, own.ram.weights,
                np.float32(own.alpha), view(ram.backward, *self._backward(k)), self._dh(own.shape.below),
            )

    def _train_local(self, flash: Flash, k: int, samples: int, step: int) -> bool:
        """One optimizer step of layer k from du; False if a number is lost."""
        own, (scratch, abs_w) = self.local[k], self.update_scratch(k)
        sent = own.sent(lambda first, last, _: own.work.u[first:last])
        return own.update(flash, lambda _: sent, samples, no_errors, step, scratch, abs_w)

    def look(self, samples: int, scales: Sequence[float] | None) -> list[float]:
        return self.forward(samples, scales)


def _nbytes(shape: tuple[int, ...], kind: str) -> int:
    return prod(shape) * np.dtype(kind).itemsize
