"""Weights and biases that train slice by slice: all in flash, one slice at a time in the arena.

Full-precision weights are stored in flash with their moments, slice by slice. The arena holds the resident slice and
the weights *published* for the forward pass: the signs of all weights, or a copy of all of them (or the slice itself if
the layer is one slice). If RAM is too small for that, both stay in flash and are loaded tile by tile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

from ..errors import BadRequest, CheckFailed
from ..kernels import dense_gradient as gradient_kernels
from ..kernels import dense_update as update_kernels
from ..kernels import random as random_kernels
from ..kernels.operands import Draws, Published, Resident
from ..kernels.optimizers import MOMENTS
from ..network import is_local
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import PASSES, PHASES, RESIDENT, TRAINING
from ..recipe import Recipe
from ..slices import ORDERS, Grid, Groups, Schedule
from ..storage.flash import Flash
from ..storage.sizes import Sizes
from .encoding import Encoding, weight_unit, weights_shape, words, z_unit
from .given import Given, Initializer
from .moments import FORMATS
from .state import State
from .tiling import NEURONS, Tiling
from .trained import TrainedLayer
from .turns import Turns

#: bytes of the buffer through which flash reads back a commit
COMMIT_BUFFER = 16384
SMALL_COMMIT_BUFFER, TIGHT_COMMIT_BUFFER = 2048, 256
#: above the number of steps of any training: a slice with more is damaged
MOST_STEPS = 2**31

#: placeholder if nothing is rounded
NO_DRAWS = Draws(*[np.uint64(0)] * 5)


class Parameters(Turns, Given):
    """Weights W (O, I) and biases b (O,) of one layer in training.

    Parameters
    ----------
    recipe : Recipe
        A validated recipe: schedule, slices, optimizer, seed.
    number : int
        Layer, from 0: determines the names of its objects in flash and its random numbers.
    inputs : Encoding
        Encoding of the layer's inputs.
    outputs : int
        O.
    batches : int
        Steps per epoch.
    threads : int
        T: the number of parts into which a kernel's work is divided.
    binary_weights : bool
    vertical : bool
        Whether the recipe's slices and schedule apply to this layer; otherwise it trains whole and is resident.
    biased : bool
    limit : float
        Weights and biases are clamped to +-limit; infinite for no clamping.
    straight : bool
        Whether the gradient of a weight is used only where |w| < 1.
    lr, decay : float
        Step size and weight decay of this layer, before the recipe's schedule.
    optimizer : str, optional
        By default the recipe's.
    prefix : str
        Prefix of its regions' names.
    rows : int, optional
        Samples per update, if not the recipe's batch.
    tiling : Tiling, optional
        By default the fastest.
    partial : bool
        Whether updates come in micro-batches; gradients are then stored and accumulated.

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
        batches: int,
        threads: int = 1,
        *,
        binary_weights: bool,
        vertical: bool = True,
        biased: bool = True,
        limit: float = 1.0,
        straight: bool | None = None,
        lr: float | None = None,
        decay: float = 0.0,
        optimizer: str | None = None,
        prefix: str = "",
        rows: int | None = None,
        tiling: Tiling | None = None,
        partial: bool = False,
    ) -> None:
        assert recipe.slices is not None and recipe.optimizer is not None and recipe.lr is not None
        self.recipe, self.number, self.inputs, self.prefix = recipe, number, inputs, prefix
        self.O, self.I, self.rows = outputs, inputs.width, rows or recipe.batch
        self.binary_weights, self.biased, self.limit = binary_weights, biased, limit
        self.straight = binary_weights if straight is None else straight
        self.lr, self.decay, self.batches = recipe.lr if lr is None else lr, decay, batches
        self.kind = recipe.schedule if vertical else "none"
        side = recipe.slices if vertical else 1
        self.full_grid = self._grid(side)
        self.grid = self._grid(1) if self.kind == "frozen" else self.full_grid
        self.schedule = Schedule(
            recipe.hold_steps(batches),
            recipe.exchanges or 0,
            recipe.epochs * batches,
            recipe.visits or 1,
            recipe.order or ORDERS[0],
            is_local(recipe.network),
        )
        self.tiling = tiling or Tiling(self.rows)
        tiled = self.tiling.stream_slice or self.tiling.stream_weights
        # tiles of rows end at panels of eight, so that no tile touches more panels than its rows fill
        rows = self.grid.rows(0)[1]
        self.cut = min(self.tiling.rows, -(-rows // 8) * 8) if tiled else self.O
        self.tile_rows = min(self.cut, rows)
        # a thread takes at least one neuron
        self.T, self.threads = threads, min(threads, self.O // self.grid.side, self.tile_rows)
        usual = "adam" if recipe.optimizer == "bop" else recipe.optimizer  # of all but the signs
        self.optimizer = optimizer or usual
        # a frozen layer keeps its weights: no moments, and its slices are in RAM during initialization only
        self.frozen = number in recipe.frozen
        self.moments, self.partial = 0 if self.frozen else MOMENTS[self.optimizer], partial and not self.frozen
        self.form = FORMATS[recipe.moments]
        # for real inputs, lists for several neurons at a time are faster
        self.roomy = self.tiling.neurons >= NEURONS[1] and not partial
        self.unit, self.z_unit = weight_unit(self.O, self.I, limit), z_unit(self.rows, self.O)
        # neurons per kernel call
        some = self.tiling.stream_weights or self.tiling.regenerate
        self.stretch = min(self.O, self.tiling.neurons) if some else self.O
        # a layer that is a single slice of real weights is read in place
        self.shared = not binary_weights and len(self.grid) == 1 and not tiled
        self.state = State()
        # stored in flash after a slice: steps and sum of |W|; after a group of biases: steps
        self.tail, self.bias_tail = np.zeros(2, np.int64), np.zeros(1, np.int64)
        self.loaded: TrainedLayer | None = None

    def _grid(self, side: int) -> Grid | Groups:
        """The slices into which the weights are divided."""
        if side > min(self.O, self.I):
            raise BadRequest(
                f"{side} slices per side do not fit layer {self.number + 1} of {self.O} x {self.I} weights:"
                f" at most {min(self.O, self.I)}"
            )
        return Grid(self.O, self.I, side)

    @property
    def biases(self) -> int:
        """Number of biases of the layer and of parameters that train like biases."""
        return self.O if self.biased else 0

    def bias_rows(self, group: int) -> tuple[int, int]:
        """First and last bias of a group of neurons."""
        return self.grid.rows(group)

    # -- regions -------------------------------------------------------------------------------------------------------

    def regions(self) -> list[Region]:
        """The regions of the parameters, with their phases; for the update's scratch see :meth:`scratch_shapes`."""
        first = self.grid.slice(0)  # the largest
        tall = min(first.last, self.tile_rows) if self.tiling.stream_slice else first.last
        largest, units = tall * first.high, tall * self.form.units(first.high)
        rows = self.bias_rows(0)[1] if self.biased else 0
        weights, kind = self.published_shape(self.published_rows)
        # if the forward pass reads the only slice in place, the slice is kept to the end
        resident = ("initialize", "update") if self.tiling.stream_slice else PHASES if self.shared else RESIDENT
        resident = ("initialize",) if self.frozen and not self.shared else resident
        moments = tuple(phase for phase in resident if phase != "hand-over")
        published = (*PASSES, "initialize", "update") if self.tiling.stream_weights else PHASES
        return [
            Region(self.prefix + "weights", (0,) if self.shared else weights, kind, published),
            Region(self.prefix + "bias", (self.biases,), "float32"),
            Region(self.prefix + "slice", (largest,), "float32", resident),
            Region(self.prefix + "moment1", (largest if self.moments > 0 else 0,), self.form.dtype, moments),
            Region(self.prefix + "moment2", (largest if self.moments > 1 else 0,), self.form.dtype, moments),
            Region(self.prefix + "unit1", (units if self.moments > 0 else 0,), "uint8", moments),
            Region(self.prefix + "unit2", (units if self.moments > 1 else 0,), "uint8", moments),
            Region(self.prefix + "bias_moment1", (rows if self.moments > 0 else 0,), "float32", RESIDENT),
            Region(self.prefix + "bias_moment2", (rows if self.moments > 1 else 0,), "float32", RESIDENT),
            Region(self.prefix + "sums", (largest if self.partial else 0,), "float32", TRAINING),
            Region(self.prefix + "bias_sums", (self.grid.rows(0)[1] if self.partial else 0,), "float32", TRAINING),
        ]

    def scratch_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of the scratch for one call of :meth:`update`."""
        columns, bits, neurons = max(map(self.width, self.visited())), self.inputs.kind == "bits", 1
        if self.inputs.kind == "real" and self.roomy:
            neurons = min(gradient_kernels.NEURONS, min(self.O // self.grid.side, self.tile_rows) // self.threads)
        return self._scratch(gradient_kernels.run_width(columns, bits), neurons, columns, 1)

    def _scratch(self, run: int, neurons: int, columns: int, turners: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Scratch for runs of ``run`` columns, lists of ``neurons`` neurons, bits transposed by ``turners`` threads."""
        if self.inputs.kind == "bits":
            lists, listed = gradient_kernels.table_width(self.rows), 0
            rows, columns = gradient_kernels.turned_shape(self.rows, columns)
            turned = turners * rows, columns
        else:
            lists = listed = gradient_kernels.list_width(self.rows, neurons)
            turned = 0, 0
        return {
            "gradient": ((self.threads, 0 if self.partial else run), "float32"),
            "dz": ((self.threads, lists), "float32"),
            "listed": ((self.threads, listed), "int32"),
            "turned": (turned, "uint32"),
            "abs_w": ((self.threads,), "int64"),
        }

    @property
    def commit_bytes(self) -> int:
        """Bytes of the buffer through which a commit reads back, at most the size of the largest item."""
        buffer = SMALL_COMMIT_BUFFER if self.tiling.stream_slice or self.tiling.stream_weights else COMMIT_BUFFER
        buffer = TIGHT_COMMIT_BUFFER if self.tiling.tight else buffer
        return min(buffer, self.slice_bytes(0))

    def carried(self) -> frozenset[str]:
        """Names of the regions whose content is kept from one batch to the next."""
        names = ["bias", "bias_moment1", "bias_moment2"]
        names += [] if self.tiling.stream_weights else ["weights"]
        exchanged = self.tiling.stream_slice or self.frozen and not self.shared
        names += [] if exchanged else ["slice", "moment1", "moment2", "unit1", "unit2"]
        return frozenset(self.prefix + name for name in names)

    def open(self, arena: Arena) -> None:
        """Take the views from an arena laid out with the regions."""
        self.ram = arena.views(self.regions(), self.prefix)
        if self.shared:
            self.ram.weights = self.ram.slice.reshape(self.published_shape(self.O)[0])
        else:
            self.ram.weights[...] = 0  # padding neurons and inputs stay zero bits

    # -- flash ---------------------------------------------------------------------------------------------------------

    def name(self, what: str) -> str:
        """Name of an object of this layer in flash."""
        return f"layer{self.number}.{what}"

    def slice_bytes(self, k: int) -> int:
        """Bytes of slice k in flash, including its moments, its steps and its sum of |W|."""
        part = self.grid.slice(k)
        width = part.high - part.low
        rows = (part.last - part.first) * (4 * width + self.moments * self.form.row_bytes(width))
        return rows + self.tail.nbytes

    def biases_bytes(self, j: int) -> int:
        """Bytes of a group of biases in flash, including their moments and steps."""
        first, last = self.bias_rows(j)
        return 4 * (1 + self.moments) * (last - first) + self.bias_tail.nbytes

    def traffic(self, passes: int = 1) -> tuple[float, float]:
        """Bytes read and written per training step, on average, including the commits at the ends of epochs.

        Published weights are read in each of the ``passes``.
        """
        if self.frozen:
            return (passes * self.published_bytes if self.tiling.stream_weights else 0.0), 0.0
        steps, slices, side = self.schedule.steps, len(self.grid), self.grid.side
        if self.kind == "slice" and slices > 1:
            # all slices of a hold are loaded in each of its steps if there are several
            due, left = 1, self.schedule.flushes(self.batches)
            fetched = min(steps, 1 + self.schedule.holds(steps - 1))
            if self.schedule.visits > 1:
                due, fetched, left = self.schedule.visits, self.schedule.visits * steps, self.schedule.visits * steps
            groups = fetched if self.schedule.order == "diagonal" else fetched / self.grid.across
        else:  # all slices in every step, in alternating directions
            due, fetched, left = slices, 1 + (slices - 1) * steps, (slices - 1) * steps + steps // self.batches
            groups = 1 + (side - 1) * steps
        of_slice = sum(map(self.slice_bytes, range(slices))) / slices
        of_biases = sum(map(self.biases_bytes, range(side))) / side
        read = (of_biases - 4 * self.biases / side) * groups if self.biased else 0.0
        written = of_biases * left if self.biased else 0.0
        if self.tiling.stream_slice:
            fetched = left = due * steps
        read, written = read + of_slice * fetched, written + of_slice * left
        if self.tiling.stream_weights:
            touched = steps * due / side * self._touched_bytes()
            read, written = read + touched + steps * passes * self.published_bytes, written + touched
        return read / steps, written / steps

    def _touched_bytes(self) -> int:
        """Bytes of published weights exchanged when one slice of each group of neurons trains."""
        rows, nbytes = self._row_bytes
        tiles = [tile for j in range(self.grid.side) for tile in self.tiles(*self.grid.rows(j))]
        return sum(-(-last // rows) - first // rows for first, last in tiles) * nbytes

    def objects(self) -> dict[str, Sequence[int]]:
        """Item sizes of the layer's objects in flash: slices and groups of biases, each with its moments."""
        objects: dict[str, Sequence[int]] = {}
        objects[self.name("slices")] = Sizes.of(map(self.slice_bytes, range(len(self.grid))), self.grid.across)
        if self.biased:
            objects[self.name("biases")] = Sizes.of(map(self.biases_bytes, range(self.grid.side)))
        return objects

    def uniform(self, bound: float, bias_bound: float | None = None) -> tuple[Initializer, Initializer]:
        """Uniform initial weights in +-``bound`` and biases in +-``bias_bound``, by default the same bound."""
        seed, number, columns = np.uint64(self.recipe.seed), self.number, self.I

        def weights(out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
            random_kernels.uniform(
                out, first, last, low, high, columns, number, random_kernels.WEIGHT, seed, np.float32(bound)
            )

        def biases(out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
            value = np.float32(bound if bias_bound is None else bias_bound)
            random_kernels.uniform(out, first, last, low, high, 1, number, random_kernels.BIAS, seed, value)

        return weights, biases

    def initialize(self, flash: Flash, weights: Initializer | None = None, biases: Initializer | None = None) -> None:
        """Write the initial slices and biases: given ones, or by default uniform in +-1/sqrt(I)."""
        ram, usual = self.ram, self.uniform(1 / sqrt(self.I))
        weights, biases = self.given(flash) or (weights or usual[0], biases or usual[1])
        for array in (ram.moment1, ram.moment2, ram.unit1, ram.unit2, ram.bias_moment1, ram.bias_moment2):
            array[:] = 0  # also valid for codes
        for k in range(len(self.grid)):
            part, total = self.grid.slice(k), 0
            with flash.rewriting(self.name("slices"), k):
                for first, last in self.tiles(part.first, part.last):
                    weights(ram.slice, first, last, part.low, part.high)
                    total += self._sum(last - first, part.high - part.low)
                    self._move_rows(flash.write, k, first, last)
                self.tail[:] = 0, total
                self._move_tail(flash.write, k)
        if self.biased:
            biases(ram.bias, 0, self.biases, 0, 1)
            self.bias_tail[:] = 0
            for j in range(self.grid.side):
                flash.write(self.name("biases"), j, self._bias_views(j))

    def restore(self, flash: Flash) -> None:
        """Read every slice and bias once; rebuild the published weights and the sum of |W|."""
        state, side, across = self.state, self.grid.side, self.grid.across
        state.total = 0
        if self.tiling.stream_weights:
            flash.new(self.name("published"), [self.published_bytes], slots=0)
        for j in range(side):
            for first, last in self.tiles(*self.grid.rows(j)):
                published = self._published(flash, first, last, begun=False)
                for k in range(j * across, (j + 1) * across):
                    self._move_rows(flash.read, k, first, last, planes=1)
                    state.total += self._publish_rows(k, first, last, published)
                self._publish(flash, published, first, last)
        for j in range(side if self.biased else 0):
            flash.read(self.name("biases"), j, self._bias_views(j)[:1])
        state.resident = state.group = None
        state.dirty = False

    def _publish_rows(self, k: int, first: int, last: int, published: Published) -> int:
        """Publish rows of slice k, which are in RAM, for the forward pass; return their sum of |W|."""
        part = self.grid.slice(k)
        return int(update_kernels.publish_slice(self.ram.slice, first, last, part.low, part.high, published, self.unit))

    def _sum(self, rows: int, width: int) -> int:
        """Sum of |w| over the first rows of the slice in RAM."""
        weight = self.ram.slice[: rows * width]
        itself = Published(weight.reshape(rows, width), 0)  # publishing it to its own place changes nothing
        return int(update_kernels.publish_slice(weight, 0, rows, 0, width, itself, self.unit))

    def _move(self, how: Callable[..., None], k: int) -> None:
        """Move slice k from or to flash, with its moments, steps and sum."""
        part = self.grid.slice(k)
        rows, held = part.last - part.first, self._planes(part.high - part.low)
        how(self.name("slices"), k, [*(view[: rows * width] for view, width in held), self.tail])

    def _move_tail(self, how: Callable[..., None], k: int) -> None:
        """Move the steps and the sum of slice k from or to flash."""
        how(self.name("slices"), k, [self.tail], self.slice_bytes(k) - self.tail.nbytes)

    def _move_rows(self, how: Callable[..., None], k: int, first: int, last: int, planes: int | None = None) -> None:
        """Move rows of slice k from or to flash: weights, then moments; or the first ``planes``."""
        part = self.grid.slice(k)
        rows, tall = last - first, part.last - part.first
        held = self._planes(part.high - part.low)[:planes]
        if rows == tall:
            how(self.name("slices"), k, [view[: rows * width] for view, width in held])
            return
        at = 0
        for plane, width in held:
            row = width * plane.itemsize
            how(self.name("slices"), k, [plane[: rows * width]], at + (first - part.first) * row)
            at += tall * row

    def _planes(self, width: int) -> list[tuple[np.ndarray, int]]:
        """The planes of a slice with ``width`` columns, in flash order: array in RAM and elements per row."""
        ram, units = self.ram, self.form.units(width)
        moments = [(ram.moment1, width), (ram.unit1, units), (ram.moment2, width), (ram.unit2, units)]
        return [(ram.slice, width), *(plane for plane in moments[: 2 * self.moments] if plane[1])]

    def _resident(self, at: int, width: int) -> Resident:
        """The slice in RAM, with ``width`` columns, starting at row ``at``."""
        ram, first = self.ram, at * width
        units = ram.unit1, ram.unit2
        if self.form.scaled:
            at *= self.form.units(width)
            units = ram.unit1[at:], ram.unit2[at:]
        return Resident(ram.slice[first:], ram.moment1[first:], ram.moment2[first:], *units)

    def _draws(self, k: int, at: int, purpose: int = random_kernels.MOMENT) -> Draws:
        """Random bits that round the moments of slice k, starting at row ``at``, in the slice's current step."""
        if not self.form.coded:
            return NO_DRAWS
        tallest = self.grid.slice(0)
        stride = 8 * -(-(tallest.high - tallest.low) // update_kernels.BLOCK)
        number = (self.state.steps << 32) + (k * (tallest.last - tallest.first) + at) * stride
        return Draws(*map(np.uint64, (self.recipe.seed, self.number, purpose, number, stride)))

    def _bias_views(self, j: int) -> list[np.ndarray]:
        first, last = self.bias_rows(j)
        moments = (self.ram.bias_moment1, self.ram.bias_moment2)[: self.moments]
        return [self.ram.bias[first:last], *(view[: last - first] for view in moments), self.bias_tail]

    def flush(self, flash: Flash) -> None:
        """Write changes back to flash."""
        self._write_back(flash)

    def _write_back(self, flash: Flash) -> None:
        """Write the resident slice and group of biases back if they have changed."""
        state = self.state
        if state.dirty and state.resident is not None and state.group is not None:
            if not self.tiling.stream_slice:
                self.tail[:] = state.steps, state.sum
                self._move(flash.write, state.resident)
            if self.biased:
                self.bias_tail[:] = state.bias_steps
                flash.write(self.name("biases"), state.group, self._bias_views(state.group))
            state.dirty = False

    def exchange(self, flash: Flash, k: int) -> None:
        """Make slice k resident, together with the moments of its group of biases."""
        state = self.state
        if k == state.resident:
            return
        self._write_back(flash)
        group = k // self.grid.across
        if self.tiling.stream_slice:
            self._move_tail(flash.read, k)
        else:
            self._move(flash.read, k)
        state.resident, (state.steps, state.sum) = k, self.tail.tolist()
        if group != state.group:
            if self.biased:
                first, last = self.bias_rows(group)
                flash.read(self.name("biases"), group, self._bias_views(group)[1:], 4 * (last - first))
            state.group, state.bias_steps = group, int(self.bias_tail[0])
        if not (0 <= state.steps < MOST_STEPS and 0 <= state.bias_steps < MOST_STEPS):
            raise CheckFailed(f"{self.name('slices')} in flash is damaged: item {k} has an impossible number of steps")
        flash.exchanges += 1

    # -- published weights ---------------------------------------------------------------------------------------------

    @property
    def published_rows(self) -> int:
        """Neurons of the published weights in RAM at a time."""
        return min(self.O, max(self.tiling.neurons, self.tile_rows)) if self.tiling.stream_weights else self.O

    def published_shape(self, neurons: int) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of the published weights of ``neurons`` neurons."""
        return weights_shape(neurons, self.I, self.binary_weights)

    @property
    def _row_bytes(self) -> tuple[int, int]:
        """Published rows stored together, a panel of eight or one, and their bytes."""
        return (8, 64 * words(self.I)) if self.binary_weights else (1, 4 * self.I)

    @property
    def published_bytes(self) -> int:
        """Bytes of all weights as the forward pass reads them."""
        rows, nbytes = self._row_bytes
        return -(-self.O // rows) * nbytes

    def weights(self, flash: Flash, first: int, last: int) -> np.ndarray:
        """Published weights of neurons ``first`` (a multiple of 8) to ``last``."""
        return self._published(flash, first, last).weights

    def _published(self, flash: Flash, first: int, last: int, begun: bool = True) -> Published:
        """Published weights from the panel of neuron ``first`` on; new panels are 0 unless ``begun``."""
        rows, nbytes = self._row_bytes
        begin, end = first // rows, -(-last // rows)
        if not self.tiling.stream_weights:
            return Published(self.ram.weights[begin:end], begin * rows)
        assert end - begin <= len(self.ram.weights)
        weights = self.ram.weights[: end - begin]
        if begun or first % rows:
            flash.read(self.name("published"), 0, [weights[: 1 if not begun else None]], begin * nbytes)
        if not begun:
            weights[1 if first % rows else 0 :] = 0
        return Published(weights, begin * rows)

    def _publish(self, flash: Flash, published: Published, first: int, last: int) -> None:
        """Write back the weights returned by :meth:`_published`."""
        if self.tiling.stream_weights:
            rows, nbytes = self._row_bytes
            flash.write(self.name("published"), 0, [published.weights], first // rows * nbytes)

    @property
    def alpha(self) -> float:
        """The current mean |W| over the whole layer; 1 without binary weights."""
        if self.loaded is not None:
            return self.loaded.alpha
        return self.state.total / self.unit / (self.O * self.I) if self.binary_weights else 1.0

    # -- a trained layer -----------------------------------------------------------------------------------------------

    def digest(self, flash: Flash, row: np.ndarray) -> str:
        """SHA-256 of W (row by row), then b, as little-endian float32; slices are read from flash through ``row``."""
        hashed, side = hashlib.sha256(), self.grid.side
        for j in range(side):
            first, last = self.grid.rows(j)
            parts = [(k, self.grid.slice(k)) for k in range(j * side, (j + 1) * side)]
            for o in range(last - first):
                for k, part in parts:
                    width = part.high - part.low
                    at = part.low if len(row) >= self.I else 0  # a slice's row at a time where no more fits
                    flash.read(self.name("slices"), k, [row[at : at + width]], 4 * o * width)
                    hashed.update(row[at : at + width].data)
        hashed.update(self.ram.bias.data)
        return hashed.hexdigest()

    @property
    def trained_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of the data that inference needs."""
        return [self.published_shape(self.O), ((self.biases,), "float32")]

    @property
    def trained_bytes(self) -> list[int]:
        """Sizes in bytes of the data that inference needs: published weights, and the bias."""
        return [self.published_bytes, 4 * self.O if self.biased else 0]

    def trained_regions(self) -> list[Region]:
        """Regions that hold the data inference needs."""
        names = {self.prefix + name for name in ("slice" if self.shared else "weights", "bias", "running")}
        return [region for region in self.regions() if region.name in names]

    def load(self, trained: TrainedLayer) -> None:
        """Fill these regions from a trained layer."""
        self.loaded = trained
        self.ram.weights[...], self.ram.bias[:] = trained.weights, trained.bias

    def forget(self, flash: Flash) -> None:
        """Delete the full-precision weights of a trained layer."""
        for name in self.objects():
            flash.drop(name)

    def keep(self, flash: Flash) -> None:
        """Write the data that inference needs: the published weights, and the bias."""
        flash.new(self.name("trained"), self.trained_bytes, slots=1)
        rows, nbytes = self._row_bytes
        stride = self.tiling.neurons if self.tiling.stream_weights else self.O
        for first in range(0, self.O, stride):
            weights = self.weights(flash, first, min(first + stride, self.O))
            flash.write(self.name("trained"), 0, [weights], first // rows * nbytes)
        flash.write(self.name("trained"), 1, [self.ram.bias])
        if self.tiling.stream_weights:
            flash.drop(self.name("published"))
