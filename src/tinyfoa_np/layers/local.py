"""A locally connected layer in training, with batch norm: weights, forward pass, errors, optimizer step.

A slice is a group of output channels. A row, in the terms of :mod:`.parameters`, is one channel at one position: a
slice has the rows of its channels at the first position, then at the second, and so on. Tiles end with a position. A
group's gamma and beta train like its biases and are stored after them, as if they belonged to two more positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import BadRequest
from ..kernels import dense_gradient as gradient_kernels
from ..kernels import local as kernels
from ..kernels import local_backward as backward_kernels
from ..kernels import local_norm as norm_kernels
from ..kernels import random as random_kernels
from ..kernels.local import Head, Weights
from ..kernels.local_patches import Images
from ..kernels.operands import Biases, Published, Scratch
from ..network import CONNECTIONS, LocalShape
from ..ram.packing import Region
from ..recipe import Recipe
from ..slices import Groups
from ..storage.flash import Flash
from .dense import Dense, Lost, Operands, Rows
from .encoding import Encoding, empty, nbytes, view, weights_shape
from .given import GivenByPlace
from .layer import Batch, Out, Part
from .patches import held_images, patch_columns, patch_kind, scratch_shape
from .tiling import Tiling
from .trained import TrainedLayer

#: source of errors at positions first to last: a head, or the errors of the layer's outputs
Sending = Callable[[int, int], Any]
#: outputs times samples below which one thread is as fast as two on a tile
SMALL_TILE = 65536


class Sent(NamedTuple):
    """The sources of a group's gradient, as the kernels take them."""

    images: Images
    layer: kernels.Layer
    patch: np.ndarray  # buffer for patches
    totals: np.ndarray  # (2, O) float64: from kernels.slopes
    errors: Callable[[int, int, np.ndarray], np.ndarray]  # du (n, O, B) at positions first to last with given weights


class Work(NamedTuple):
    """Scratch arrays of a pass; layers that take turns can share them."""

    patch: np.ndarray  # (T, B, columns)
    scratch: np.ndarray  # (T, ..)
    u: np.ndarray  # (P, O, B) at all positions, or at the positions of one pass
    v: np.ndarray  # (O B,)
    norm: np.ndarray  # (2, O): factor and offset of batch norm
    sums: np.ndarray  # (T,) int64: of max(v, 0)


class Slopes(NamedTuple):
    """Scratch arrays of batch norm, in a training pass and in the backward pass."""

    dv: np.ndarray  # (T, B)
    place_sums: np.ndarray  # (n, 2, O) float64: at n positions at a time
    totals: np.ndarray  # (2, O) float64


class Local(GivenByPlace, Dense):
    """Weights W (P, O, F), biases b (P, O) and batch norm of one layer in training, at P positions.

        u = Wb x + b, for the patch x around a position,  v = gamma (u - mean) / deviation + beta

    The mean and deviation are those of the batch in training, otherwise the running ones.

    F is the number of inputs that a channel reads at a position: nine of each input channel, or of one. The other
    parameters are those of :class:`.parameters.Parameters`.

    Parameters
    ----------
    shape : LocalShape
    inputs : Encoding
        Encoding of the layer's inputs.
    prefix, tiling

    Raises
    ------
    BadRequest
        If the layer has fewer output channels than slices.
    """

    grid: Groups
    full_grid: Groups
    work: Work
    slopes: Slopes
    images: Images  # the current batch
    layer: kernels.Layer
    fresh = False  # whether u of that batch is kept

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        shape: LocalShape,
        inputs: Encoding,
        batches: int,
        threads: int,
        tiling: Tiling,
        *,
        prefix: str = "",
    ) -> None:
        self.shape = shape
        super().__init__(
            recipe,
            number,
            Encoding(patch_kind(inputs), shape.fan_in),
            shape.outputs,
            batches,
            threads,
            binary_weights=recipe.binary_weights,
            prefix=prefix,
            tiling=tiling,
        )
        # positions per pass, and positions whose weights are loaded at a time
        self.pass_places = min(tiling.neurons, shape.places)
        tiled = tiling.stream_slice or tiling.stream_weights
        self.trained_places = min(tiling.rows, shape.places) if tiled else shape.places
        self.tile_rows = self.trained_places * self.most_channels
        # a thread takes at least one position; for small tiles, waking a second thread takes longer than the tile
        small = self.pass_places * shape.channels * self.rows < SMALL_TILE and self.pass_places < shape.places
        self.threads = 1 if small else min(threads, self.pass_places, self.trained_places)

    @property
    def most_channels(self) -> int:
        """Channels of the largest slice."""
        return self.grid.bounds(0)[1]

    def _grid(self, side: int) -> Groups:
        if side > self.shape.channels:
            raise BadRequest(
                f"{side} slices do not fit layer {self.number + 1} of {self.shape.channels} output channels: at most"
                f" {self.shape.channels}"
            )
        return Groups(self.shape.channels, self.shape.places, self.shape.fan_in, side)

    def tiles(self, first: int, last: int) -> Any:
        """Divide rows ``first`` to ``last``, a whole slice, into tiles of positions: first and last row of each."""
        stride = (last - first) // self.shape.places * self.trained_places
        return ((row, min(row + stride, last)) for row in range(first, last, stride))

    def places_of(self, first: int, last: int) -> tuple[int, int, int]:
        """The slice that these rows belong to, and their first and last position."""
        k = next(k for k in range(len(self.grid)) if first < self.grid.rows(k)[1])
        top, end = self.grid.rows(k)
        some = (end - top) // self.shape.places
        return k, (first - top) // some, (last - top) // some

    # -- biases, and batch norm ----------------------------------------------------------------------------------------

    @property
    def biases(self) -> int:
        """Number of biases, including gamma and beta."""
        return (self.shape.places + 2) * self.shape.channels

    def bias_rows(self, group: int) -> tuple[int, int]:
        """First and last bias of a group."""
        first, last = self.grid.bounds(group)
        return (self.shape.places + 2) * first, (self.shape.places + 2) * last

    def runs_by_position(self) -> Iterator[tuple[int, int]]:
        """Begin and length of each run of biases, gamma and beta, position by position, which no slices change."""
        for place in range(self.shape.places + 2):
            for k in range(len(self.grid)):
                first, last = self.grid.bounds(k)
                yield self.bias_rows(k)[0] + place * (last - first), last - first

    def by_position(self, biases: np.ndarray) -> np.ndarray:
        """Biases, gamma and beta ((P + 2) O,) in an order independent of slices."""
        return np.concatenate([biases[begin : begin + count] for begin, count in self.runs_by_position()])

    def regions(self) -> list[Region]:
        """The regions of the parameters, with their phases."""
        return [*super().regions(), Region(self.prefix + "running", (2, self.shape.channels), "float32")]

    def carried(self) -> frozenset[str]:
        """Names of the regions whose content is kept from one batch to the next."""
        return super().carried() | {self.prefix + "running"}

    def scratch_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of the scratch for one call of :meth:`update`."""
        together = self.inputs.kind == "real" and self.roomy and self.shape.connect == "full"
        neurons = min(gradient_kernels.NEURONS, self.shape.channels // self.grid.side) if together else 1
        run = gradient_kernels.run_width(self.I, self.inputs.kind == "bits")
        return self._scratch(run, neurons, self.I, self.threads)

    def patch_buffers(self) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the threads' buffers for patches."""
        return (self.threads, self.rows, patch_columns(self.inputs, self.shape)), self.inputs.dtype

    def product_scratch(self) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the threads' scratch for products."""
        some, kind = scratch_shape(self.inputs, self.binary_weights, self.shape, self.rows)
        return (self.threads, *some), kind

    # -- flash ---------------------------------------------------------------------------------------------------------

    def objects(self) -> dict[str, Sequence[int]]:
        """Item sizes in flash: slices, groups of biases, each with its moments, and the running statistics."""
        return {**super().objects(), self.name("running"): [8 * self.shape.channels]}

    def initialize(self, flash: Flash, weights: Any = None, biases: Any = None) -> None:
        """Write the initial slices and biases, N(0, 1) within the limit, gamma 1, beta 0, mean 0 and variance 1.

        Each number depends only on its place in the layer, not on the division into slices.
        """
        super().initialize(flash, weights or self._first_weights, biases or self._first_biases)
        self.ram.running[0], self.ram.running[1] = 0, 1
        if self.name("given") in flash.names():
            flash.read(self.name("given"), 2, [self.ram.running])
        flash.write(self.name("running"), 0, [self.ram.running])

    def _first_weights(self, out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
        (k, begin, end), at = self.places_of(first, last), 0
        top, bottom = self.grid.bounds(k)
        for place in range(begin, end):
            some = out[at : at + (bottom - top) * self.I]
            self._normals(some, (place * self.shape.channels + top) * self.I, random_kernels.WEIGHT)
            at += some.size

    def _first_biases(self, out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
        for k in range(len(self.grid)):
            top, bottom = self.grid.bounds(k)
            own = out[slice(*self.bias_rows(k))].reshape(-1, bottom - top)
            for place in range(self.shape.places):
                self._normals(own[place], place * self.shape.channels + top, random_kernels.BIAS)
            own[-2], own[-1] = 1, 0

    def _normals(self, out: np.ndarray, first: int, purpose: int) -> None:
        random_kernels.normals(out, first, self.number, purpose, np.uint64(self.recipe.seed), 1.0)
        np.clip(out, -self.limit, self.limit, out=out)

    def restore(self, flash: Flash) -> None:
        """Read every slice, bias and statistic once."""
        super().restore(flash)
        flash.read(self.name("running"), 0, [self.ram.running])

    def flush(self, flash: Flash) -> None:
        """Write changes back to flash; the running statistics are not exchanged with slices."""
        super().flush(flash)
        if not self.frozen:
            flash.write(self.name("running"), 0, [self.ram.running])

    def traffic(self, passes: int = 1) -> tuple[float, float]:
        """Bytes read and written per training step, on average, including the commits at the ends of epochs."""
        read, written = super().traffic(passes)
        return read, written + (0.0 if self.frozen else 8 * self.shape.channels / self.batches)

    def _touched_bytes(self) -> int:
        return self.grid.side * self.published_bytes

    # -- published weights ---------------------------------------------------------------------------------------------

    @property
    def published_rows(self) -> int:
        """Rows of the published weights in RAM at a time: all channels at some positions."""
        some = max(self.pass_places, self.trained_places) if self.tiling.stream_weights else self.shape.places
        return some * self.shape.channels

    def published_shape(self, neurons: int) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the published weights of ``neurons`` rows: all channels at some positions."""
        shape, kind = weights_shape(self.shape.channels, self.I, self.binary_weights)
        return (neurons // self.shape.channels, *shape), kind

    @property
    def _place_bytes(self) -> int:
        return nbytes(*self.published_shape(self.shape.channels))

    @property
    def published_bytes(self) -> int:
        """Bytes of all weights as the forward pass reads them."""
        return self.shape.places * self._place_bytes

    def at_places(self, flash: Flash, first: int, last: int) -> np.ndarray:
        """Published weights at positions ``first`` to ``last``."""
        if not self.tiling.stream_weights:
            return self.ram.weights[first:last]
        weights = self.ram.weights[: last - first]
        flash.read(self.name("published"), 0, [weights], first * self._place_bytes)
        return weights

    def _published(self, flash: Flash, first: int, last: int, begun: bool = True) -> Published:
        k, begin, end = self.places_of(first, last)
        if begun or k > 0 or not self.tiling.stream_weights:
            return Published(self.at_places(flash, begin, end), begin)
        weights = self.ram.weights[: end - begin]
        weights[...] = 0
        return Published(weights, begin)

    def _publish(self, flash: Flash, published: Published, first: int, last: int) -> None:
        if self.tiling.stream_weights:
            flash.write(self.name("published"), 0, [published.weights], published.first * self._place_bytes)

    def _publish_rows(self, k: int, first: int, last: int, published: Published) -> int:
        top, bottom = self.grid.bounds(k)
        rows = self.ram.slice[: (last - first) * self.I]
        return int(kernels.publish(rows, top, bottom, self.I, published.weights, self.unit))

    # -- passes --------------------------------------------------------------------------------------------------------

    def _begin(self, x: Batch) -> None:
        """Set the current batch; alpha is fixed at the beginning of a step."""
        shape, gain = self.shape, self.alpha * (x.gain if x.inputs.kind == "bits" else 1.0)
        self.images = held_images(x, shape, self.number)
        self.layer = kernels.Layer(
            shape.channels,
            shape.places,
            self.grid.side,
            shape.connect == CONNECTIONS[1],
            self.recipe.binary_activations,
            np.float32(gain),
            self.ram.bias,
            self.work.norm,
        )
        self.fresh = False

    @property
    def pass_rows(self) -> int:
        """Channels, at all positions, of a kernel call in a pass."""
        return self.pass_places * self.shape.channels

    def no_head(self, first: int, last: int) -> np.ndarray:
        """Rows (n O, 0) for a layer without a head."""
        return empty(((last - first) * self.shape.channels, 0))

    def pass_tiles(self) -> Iterator[tuple[int, int]]:
        """Divide all positions into runs of the planned size: first and last of each."""
        places, some = self.shape.places, self.pass_places
        return ((first, min(first + some, places)) for first in range(0, places, some))

    def products(
        self,
        flash: Flash,
        samples: int,
        first: int,
        last: int,
        channels: tuple[int, int] | None = None,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Products u (n, O, B) of some or all channels at positions ``first`` to ``last``, recomputed unless kept."""
        work = self.work
        u = work.u[first:last] if len(work.u) == self.shape.places else work.u[: last - first]
        if not self.fresh:
            weights = self.at_places(flash, first, last) if weights is None else weights
            some, held = channels or (0, self.shape.channels), Weights(first, weights)
            kernels.products(self.images, samples, self.layer, held, *some, work.patch, work.scratch, u)
        return u

    def forward(self, flash: Flash, x: Batch, part: Part, out: Out, training: bool = False) -> float:
        """Pass a batch through the layer; return the summed max(v, 0).

        In training, the batch's mean and deviation are used and the running ones updated; the batch is then kept for
        errors and gradients.
        """
        work, samples = self.work, part.samples
        self._begin(x)
        if training:
            place_sums, totals = self.slopes.place_sums, self.slopes.totals
            for first, last in self.pass_tiles():
                u = self.products(flash, samples, first, last)
                norm_kernels.statistics(u, samples, first > 0, self.threads, place_sums, totals)
            norm_kernels.batch_norm(totals, samples * self.shape.places, work.norm, self.ram.running)
            self.fresh = self.tiling.keep_products  # a tile with all positions is not kept beyond this phase
        else:
            norm_kernels.running_norm(self.ram.running, work.norm)
        work.sums[:] = 0
        for first, last in self.pass_tiles():
            u, head = self.products(flash, samples, first, last), Head(first, out.head(first, last))
            kernels.forward(u, samples, self.layer, head, self.z_unit, work.v, out.logits, out.values, work.sums)
        return int(work.sums.sum()) / self.z_unit

    def sum_slopes(self, flash: Flash, samples: int, k: int, above: Sending, error: np.ndarray) -> None:
        """Sum over all positions the values that batch norm needs before it computes the errors of slice k."""
        dv, place_sums, totals = self.slopes
        for first, last in self.pass_tiles():
            u = self.products(flash, samples, first, last, self.grid.bounds(k))
            kernels.slopes(u, samples, self.layer, k, above(first, last), error, dv, place_sums, totals)

    def errors(
        self,
        flash: Flash,
        samples: int,
        k: int,
        above: Sending,
        error: np.ndarray,
        first: int,
        last: int,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Errors du of slice k at positions ``first`` to ``last``, in place of u."""
        u = self.products(flash, samples, first, last, self.grid.bounds(k), weights)
        kernels.errors(u, samples, self.layer, k, above(first, last), error, self.slopes.dv, self.slopes.totals)
        return u

    def backward_scratch(self) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the scratch for :meth:`backward`."""
        kind, depthwise = np.dtype(self.published_shape(1)[1]), self.shape.connect == CONNECTIONS[1]
        return backward_kernels.scratch_shape(kind, self.shape.channels, depthwise, self.threads)

    def backward(self, dz: np.ndarray, samples: int, active: np.ndarray, scratch: np.ndarray, dx: np.ndarray) -> None:
        """Compute the errors dx (P, I, B) of the layer's inputs from du (P, O, B), which takes the place of dz.

        ``active`` must be empty: batch norm and ReLU below have masks of their own. Scratch is in bytes.
        """
        backward_kernels.backward(
            dz,
            samples,
            self.shape.rows,
            self.shape.columns,
            self.layer.depthwise,
            self.ram.weights,
            np.float32(self.alpha),
            view(scratch, *self.backward_scratch()),
            dx,
        )

    def sent(self, errors: Callable[[int, int, np.ndarray], np.ndarray]) -> Sent:
        """The sources of a gradient: the current batch, and du (n, O, B) at positions first to last."""
        return Sent(self.images, self.layer, self.work.patch, self.slopes.totals, errors)

    def sources(self, flash: Flash, samples: int, above: Sending, error: np.ndarray) -> Callable[[int], Sent]:
        """Compute the sources of slice k's gradient, after batch norm's sums for the backward pass."""

        def sent(k: int) -> Sent:
            self.sum_slopes(flash, samples, k, above, error)
            return self.sent(
                lambda first, last, weights: self.errors(flash, samples, k, above, error, first, last, weights)
            )

        return sent

    # -- one step ------------------------------------------------------------------------------------------------------

    def _still(self, step: int) -> tuple[int, int, int, int]:
        if self.kind != "frozen":
            return (0, 0, 0, 0)
        return (*self.full_grid.bounds((self.schedule.holds(step) + 1) % self.full_grid.side), 0, self.I)

    def _turned(self, inputs: Any, samples: int, k: int, scratch: Scratch) -> Any:
        return inputs  # patches are transposed position by position

    def _update_slice(self, flash: Flash, k: int, given: Operands, step: int, train_bias: bool) -> None:
        """Train slice k, some positions at a time, then its gamma and beta, whose old values all positions need."""
        super()._update_slice(flash, k, given, step, train_bias)
        ram, bias_step = self.ram, self._step(self.state.bias_steps, step)
        biases = Biases(ram.bias, ram.bias_moment1, ram.bias_moment2)
        if kernels.update_norm(given.inputs.layer, k, given.inputs.totals, biases, bias_step):
            raise Lost

    def _train_rows(self, rows: Rows) -> None:
        ram, sent, given, k = self.ram, rows.given.inputs, rows.given, rows.k
        _, begin, end = self.places_of(rows.first, rows.last)
        biases, top = Biases(ram.bias, ram.bias_moment1, ram.bias_moment2), rows.first - self.grid.rows(k)[0]
        held = 0 if self.tiling.stream_slice else top  # the tile's first row in RAM
        for place in range(begin, end, self.pass_places):
            stop, row = min(place + self.pass_places, end), (place - begin) * (rows.last - rows.first) // (end - begin)
            weights = rows.published.weights[place - begin : stop - begin]
            kernels.update(
                sent.errors(place, stop, weights),
                sent.images,
                given.samples,
                sent.layer,
                k,
                sent.patch,
                Weights(place, weights),
                self._resident(held + row, self.I),
                self._draws(k, top + row),
                biases,
                rows.still[:2],
                rows.weight_step,
                rows.bias_step,
                self.straight,
                self.unit,
                given.scratch,
                given.abs_w,
            )

    def slice_gradient(
        self, flash: Flash, inputs: Any, samples: int, errors: Any, k: int, scratch: Scratch
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of slice k (P, Og, F), which must be resident unless streamed, and of its biases (P, Og)."""
        top, bottom = self.grid.bounds(k)
        dW = np.zeros((self.shape.places, bottom - top, self.I), np.float32)
        db = np.zeros(dW.shape[:2], np.float32)
        for first, last in self.tiles(*self.grid.rows(k)):
            _, begin, end = self.places_of(first, last)
            if self.tiling.stream_slice:
                self._move_rows(flash.read, k, first, last)
            for place in range(begin, end, self.pass_places):
                stop = min(place + self.pass_places, end)
                at = (place - (begin if self.tiling.stream_slice else 0)) * dW[0].size
                du = inputs.errors(place, stop, self.at_places(flash, place, stop))
                kernels.gradient(
                    du,
                    inputs.images,
                    samples,
                    inputs.layer,
                    k,
                    inputs.patch,
                    place,
                    self.ram.slice[at:],
                    self.straight,
                    scratch,
                    dW[place:stop].reshape(-1),
                    db[place:stop].reshape(-1),
                )
        return dW, db

    # -- a trained layer -----------------------------------------------------------------------------------------------

    def digest(self, flash: Flash, row: np.ndarray) -> str:
        """SHA-256 of W, b (both position by position), gamma, beta and the running statistics, little-endian float32.

        Slices are read from flash through ``row`` (F,).
        """
        hashed, groups = hashlib.sha256(), [self.grid.bounds(k) for k in range(len(self.grid))]
        for place in range(self.shape.places):
            for k, (top, bottom) in enumerate(groups):
                for r in range(bottom - top):
                    at = place * (bottom - top) + r
                    flash.read(self.name("slices"), k, [row[: self.I]], 4 * at * self.I)
                    hashed.update(row[: self.I].data)
        for place in range(self.shape.places + 2):
            for k, (top, bottom) in enumerate(groups):
                own = self.ram.bias[slice(*self.bias_rows(k))].reshape(-1, bottom - top)
                hashed.update(own[place].data)
        hashed.update(self.ram.running.data)
        return hashed.hexdigest()

    @property
    def trained_bytes(self) -> list[int]:
        """Sizes of the data inference needs, in bytes: published weights; biases, gamma, beta; running statistics."""
        return [self.published_bytes, 4 * self.biases, 8 * self.shape.channels]

    def load(self, trained: TrainedLayer) -> None:
        """Fill the regions of inference from a trained layer, whose biases are ordered as in a single slice."""
        super().load(trained)
        self.ram.running[:] = trained.running

    def keep(self, flash: Flash) -> None:
        """Write the data of the trained layer that inference needs."""
        flash.new(self.name("trained"), self.trained_bytes, slots=1)
        stride = self.pass_places if self.tiling.stream_weights else self.shape.places
        for first in range(0, self.shape.places, stride):
            weights = self.at_places(flash, first, min(first + stride, self.shape.places))
            flash.write(self.name("trained"), 0, [weights], first * self._place_bytes)
        flash.write(self.name("trained"), 1, [self.ram.bias])
        flash.write(self.name("trained"), 2, [self.ram.running])
        if self.tiling.stream_weights:
            flash.drop(self.name("published"))


def no_errors(first: int, last: int) -> None:
    """Placeholder for layers whose errors come with the inputs, :class:`.local.Sent`."""
