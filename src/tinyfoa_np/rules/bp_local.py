"""Backpropagation through locally connected layers, the baseline in Table 3 of TinyFoA's paper.

The layers are those of :mod:`.tinyfoa_local`, with weights W (P, O, F), biases b (P, O), gamma and beta (O,) at P
positions. They are followed by a mean over each of 7 x 7 parts of the image, dropout, and a linear classifier of full
precision:

    products            u_k = Wb_k x + b_k, of the patch x of h_k around a position,  Wb = alpha sign(W) or W
    batch norm          v_k = gamma (u_k - mean) / deviation + beta
    binary activations  h_k+1 = s_k [v_k > 0],  s_k = mean max(v_k, 0) over the batch   (otherwise h_k+1 = max(v_k, 0))
    classifier          f = D mean h_top over the parts,  a = W f + b,  D dropout divided by the keep rate
    error               da = (softmax(a) - Y) / B
    backward            dv_k = dh_k+1 [v_k > 0] [v_k < 1]                  ([v < 1] only with binary activations)
                        du_k by the gradient of batch norm;  dh_k = sum over taps and outputs of Wb_k du_k
    gradient            dW_k = du_k x [|W_k| < 1],  db_k = sum du_k        ([|W| < 1] only with binary weights)
    update              the optimizer's step, then all trained parameters are clamped to +-1

In training, batch norm uses the batch's mean and deviation; in inference it uses the running ones and there is no
dropout. u of all layers is kept from the forward to the backward pass or, if RAM is short, recomputed. du replaces u,
and one array holds the errors passed between layers. :mod:`tinyfoa_np.reference.bp_local` is the plain NumPy version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from ..kernels import local_pool as pooling_kernels
from ..kernels.local import Above, Head
from ..layers.encoding import Encoding, empty, nbytes, view, words
from ..layers.layer import Batch, Layer, Out, Part, whole
from ..layers.local import Local, Slopes, Work, no_errors
from ..layers.tiling import PLACES, ROWS, Tiling
from ..network import LocalShape
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import BACKWARD, COMPUTING, INFERENCE, PASSES, STEP
from ..recipe import Recipe
from ..storage.flash import Flash
from . import bp
from .cuts import Rung
from .network_stage import NO_MASK
from .stage import NO_FLASH

#: parts per side of an image over which the classifier's inputs are averaged
SIDE = 7


class Network(bp.Network):
    """A locally connected network trained by backpropagation; parameters as for :class:`.network_stage.NetworkStage`.

    The shapes are those of locally connected layers; the tiling sets positions per pass, and whether products are kept.

    Raises
    ------
    BadRequest
        If a layer has fewer output channels than slices.
    """

    shapes: list[LocalShape]

    def build(self) -> None:
        self.local: list[Local] = []
        self.places = self.shapes[0].places  # P, the same for all layers
        self.grown = 1 / (1 - (self.recipe.dropout or 0.0))  # factor of a feature that is not dropped
        super().build()

    def clamp(self) -> float:
        return 1.0

    def features(self) -> Encoding:
        return Encoding("real", SIDE * SIDE * self.shapes[-1].channels)

    def hidden(self, k: int) -> Local:
        own = Local(
            self.recipe, k, self.shapes[k], self.reads[k], self.batches, self.cores, self.tiling, prefix=f"layer{k}."
        )
        self.local.append(own)
        return own

    # -- regions -------------------------------------------------------------------------------------------------------

    def scratch_kinds(self, k: int) -> list[Encoding]:
        """Encodings in which :meth:`tile_pass` takes layer k's inputs: only those of the classifier."""
        return [self.reads[k]] if k == self.top else []

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        kept_or_not = [Tiling(recipe.batch, PLACES[0], keep_products=kept) for kept in (True, False)]
        return [Rung(tiling, PLACES[:1], ROWS[:1]) for tiling in kept_or_not]

    def extra(self) -> list[Region]:
        """Regions of the network besides those of its layers."""
        channels = [shape.channels for shape in self.shapes]
        most, taught = max(channels), max(channels[self.lowest :], default=0)  # frozen layers have no errors
        threads = max((own.threads for own in self.local[self.lowest :]), default=0)
        keep, tile, width = self.tiling.keep_products, min(self.tiling.neurons, self.places), self.reads[-1].width
        kept = [(f"u{k}", some) for k, some in enumerate(channels)] if keep else [("u", most)]
        multiplying = (*PASSES, "update") if keep else (*PASSES, *BACKWARD)
        patch = max(nbytes(*own.patch_buffers()) for own in self.local)
        scratch = max(nbytes(*own.product_scratch()) for own in self.local)
        mask = self.B if self.recipe.dropout else 0, words(width)
        return [
            *self.common_regions(self.B),
            *self.kept_outputs(),
            *(Region(name, (self.places, some, self.B), "float32", COMPUTING) for name, some in kept),
            *(Region(f"norm{k}", (2, some), "float32", COMPUTING) for k, some in enumerate(channels)),
            Region("patch", (patch,), "uint8", multiplying),
            Region("product_scratch", (scratch,), "uint8", multiplying),
            Region("v", (most * self.B,), "float32", PASSES),
            Region("place_sums", (tile * 2 * taught,), "float64", ("forward", "gradient")),
            Region("totals", (2 * taught,), "float64", STEP),
            Region("feature", (self.B, width), "float32", COMPUTING),
            Region(f"mask{self.top}", mask, "uint64", ("forward", "gradient")),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient", *INFERENCE)),
            Region("error", (self.C, self.B), "float32", (*BACKWARD, *INFERENCE)),
            Region("feature_error", (width if taught else 0, self.B), "float32", ("gradient",)),
            Region("dh", (self.places * taught * self.B,), "float32", BACKWARD),
            Region("dv", (threads, self.B), "float32", ("gradient",)),
            Region("backward", (self.backward_bytes(),), "uint8", ("gradient",)),
        ]

    def cost(self) -> tuple[float, ...]:
        """Cost of a step relative to other tilings: products are computed twice or once."""
        return (0.0 if self.tiling.keep_products else 1.0,)

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _dh(self, channels: int) -> np.ndarray:
        """Errors at the outputs of a layer with ``channels`` channels (P, O, B)."""
        shape = self.places, channels, self.B
        return self.ram.dh[: prod(shape)].reshape(shape)

    def take(self, arena: Arena, layers: Sequence[Layer]) -> None:
        super().take(arena, layers)
        ram = self.ram
        for k, own in enumerate(self.local):
            channels, some = self.shapes[k].channels, min(self.tiling.neurons, self.places)
            shape = self.places, channels, self.B
            u = ram[f"u{k}"] if self.tiling.keep_products else ram.u.reshape(-1)[: prod(shape)].reshape(shape)
            patch, scratch = view(ram.patch, *own.patch_buffers()), view(ram.product_scratch, *own.product_scratch())
            own.work = Work(patch, scratch, u, ram.v, ram[f"norm{k}"], ram.abs_z[: self._pass_threads(self.B)])
            if "totals" in ram and not own.frozen:
                place_sums, totals = ram.place_sums[: some * 2 * channels], ram.totals[: 2 * channels]
                own.slopes = Slopes(ram.dv[: own.threads], place_sums.reshape(some, 2, -1), totals.reshape(2, -1))

    def pass_hidden(self, k: int, samples: int, training: bool) -> float:
        """Run hidden layer k on a batch; return the summed max(v, 0). In training, batch norm uses batch statistics."""
        own = self.local[k]
        out = Out(self.values(k + 1), empty((0, self.B)), own.no_head)
        batch, training = Batch(self.values(k), self.reads[k], self.gains[k]), training and not own.frozen
        return own.forward(NO_FLASH, batch, whole(samples), out, training)

    def classified(self, samples: int, step: int | None) -> tuple[np.ndarray, float]:
        """Means over parts of the image, with dropout in training."""
        feature, shape, grown = self.ram.feature, self.shapes[-1], 1.0 if step is None else self.grown
        self.mask = NO_MASK if step is None else self.dropout_mask(self.top, self.reads[-1].width, samples, step)
        size, gain = (shape.rows, shape.columns, shape.channels, SIDE), np.float32(self.gains[-1] * grown)
        pooling_kernels.pool(self.values(self.top), samples, *size, gain, self.mask, feature, self.cores)
        return feature, 1.0

    def send_back(self, k: int, samples: int) -> None:
        """Compute du from the errors at layer k's outputs, in place of u, and the errors at its inputs."""
        self.arena.enter("gradient")
        if k == self.top:
            self._classifier_back(samples)
            return
        own = self.local[k]
        dh = self._dh(own.shape.channels)
        self.slopes(k, samples, lambda first, last: Above(first, dh[first:last]))
        if k > self.lowest:
            own.backward(own.work.u, samples, empty((0, 0), "uint16"), self.ram.backward, self._dh(own.shape.below))

    def slopes(self, k: int, samples: int, above: Callable[[int, int], Above | Head]) -> None:
        """Compute du, in place of u, from the errors at layer k's outputs, by tiles of positions."""
        ram, own = self.ram, self.local[k]
        own.fresh = self.tiling.keep_products
        for first, last in own.pass_tiles():
            own.products(NO_FLASH, samples, first, last)
        own.fresh = True
        for group in range(own.grid.side):
            own.sum_slopes(NO_FLASH, samples, group, above, ram.error)
            own.errors(NO_FLASH, samples, group, above, ram.error, 0, self.places)

    def _classifier_back(self, samples: int) -> None:
        """Compute the errors at the outputs of the last locally connected layer from those of the logits."""
        error, shape, none = self.ram.feature_error, self.shapes[-1], empty((0, self.groups), "uint16")
        self.layers[self.top].backward(self.ram.error, samples, none, self.ram.backward, error)
        pooling_kernels.drop_errors(error, samples, self.mask, np.float32(self.grown))
        dh = self._dh(shape.channels)
        pooling_kernels.pool_gradient(error, samples, shape.rows, shape.columns, SIDE, dh, self.cores)

    def train_one(self, flash: Flash, k: int, part: Part, step: int) -> bool:
        """Run one optimizer step of layer k, from du if locally connected; return False if a number is not finite."""
        if k == self.top:
            return self.train_layer(flash, k, self.ram.feature, 1.0, part.samples, self.ram.error, step)
        own, (scratch, abs_w) = self.local[k], self.update_scratch(k)
        sent = own.sent(lambda first, last, _: own.work.u[first:last])
        return own.update(flash, lambda _: sent, part.samples, no_errors, step, scratch, abs_w)
