"""Memory layout of the C trainer: the arena's regions, packed for one layer after another, and flash.

The layout is for chips without wide registers: packed words have 32 bits, regions are aligned to 8 bytes, logits become
errors in place, and data in mapped flash (the projection, usually the samples) take no RAM. It is packed by the same
:func:`.packing.pack`; ``c_trainer/tinyfoa_layer.h`` uses the same names for the regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

import numpy as np

from ..data import Dataset
from ..errors import BadRequest
from ..kernels.optimizers import MOMENTS
from ..layers.encoding import weight_unit
from ..network import layer_shapes
from ..ram.packing import Plan, Region, aligned, pack
from ..ram.phases import PHASES
from ..recipe import Recipe
from ..slices import ORDERS, Grid, Schedule

#: in the order of the enumeration in tinyfoa_layer.h
REGIONS = (
    "signs",
    "bias",
    "slice",
    "moment1",
    "unit1",
    "moment2",
    "unit2",
    "bias_moment1",
    "bias_moment2",
    "inputs",
    "labels",
    "tile",
    "z",
    "shift",
    "tables",
    "active",
    "logits",
    "exps",
    "dz",
    "listed",
    "turned",
    "gradient",
    "coded",
    "outputs",
    "digest",
    "answer",
)
ALIGNMENT, STATE_BYTES, HEADER_BYTES, TRAINED_BYTES, DIGEST_BYTES = 8, 144, 32, 48, 136
#: columns of a slice's row that train together
BLOCK = 32
ROOT_PAGES = 4
#: bytes that 32-bit addresses reach, in the arena and in flash
ADDRESSES = 2**32
RESIDENT = tuple(phase for phase in PHASES if phase != "hand-over")
PASSES = ("forward", "hand-over")


@dataclass(frozen=True)
class Store:
    """The flash of a device.

    Attributes
    ----------
    name : str
        Its name in words.
    page, unit : int
        Bytes that are erased together, and bytes that are programmed together.
    in_place : bool
        Whether it can be rewritten byte by byte without erasing: FRAM, battery-backed PSRAM.
    nbytes, cycles : int
        Its size, and the number of times a page can be erased; 0: unknown or unlimited.
    """

    name: str = "NOR flash"
    page: int = 4096
    unit: int = 1
    in_place: bool = False
    nbytes: int = 0
    cycles: int = 0


#: external serial flash, by its name for ``--flash``
NOR = Store("serial NOR flash", 4096, 1, cycles=100_000)
FRAM = Store("FRAM", 256, 1, in_place=True)


@dataclass(frozen=True)
class Cut:
    """The parts of a layer that are in the arena, from most to least.

    Attributes
    ----------
    tile : int
        Neurons whose signs are loaded from flash at a time, if ``signs_in_flash``.
    streamed : bool
        One row of the slice is loaded at a time, instead of the whole slice.
    signs_in_flash : bool
        The signs of all weights stay in flash.
    """

    tile: int = 8
    streamed: bool = False
    signs_in_flash: bool = False


def segments(length: int, side: int) -> list[int]:
    """Start words of each of ``side`` segments of a packed row of ``length`` columns, and the end of the row."""
    starts, grid = [0], Grid(length, length, side)
    for k in range(side):
        first, last = grid.rows(k)
        starts.append(starts[-1] + -(-(last - first) // 32))
    return starts


class Layer:
    """Sizes and regions of one layer.

    Parameters
    ----------
    recipe : Recipe
        A validated recipe whose batch is no larger than the training set.
    number, inputs, outputs, classes : int
        Layer, from 0; I, O, C.
    following : int
        O of the layer above; 0 if there is none.
    """

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        inputs: int,
        outputs: int,
        classes: int,
        following: int,
        kind: str,
        mapped: bool,
        cut: Cut,
    ) -> None:
        assert recipe.slices is not None and recipe.optimizer is not None
        side = recipe.slices
        if side > min(inputs, outputs):
            raise BadRequest(
                f"{side} slices per side do not fit layer {number + 1} of {outputs} x {inputs} weights: at most"
                f" {min(inputs, outputs)}"
            )
        self.recipe, self.number, self.I, self.O, self.C, self.cut = recipe, number, inputs, outputs, classes, cut
        self.kind = kind if number == 0 else "bits"
        self.mapped, self.following, self.B = mapped and number == 0, following, recipe.batch
        self.grid = Grid(outputs, inputs, side)
        self.words = segments(inputs, side)[-1]
        first = self.grid.slice(0)  # the largest
        self.rows, self.columns = first.last, first.high
        self.moments, self.coded = MOMENTS[recipe.optimizer], recipe.moments == "int8"
        self.bound = np.float32(1 / sqrt(inputs))
        self.w_steps = int(np.log2(weight_unit(outputs, inputs)))

    @cached_property
    def active_rows(self) -> int:
        """Maximum number of neurons between the first and the last that train in a step."""
        recipe, side = self.recipe, self.grid.side
        if recipe.schedule == "stream":
            return self.O
        schedule = Schedule(1, 0, 1, recipe.visits or 1, recipe.order or ORDERS[0])
        ranges = [schedule.neurons(hold, self.grid) for hold in range(side * side)]
        return max(last - first for first, last in ranges)

    @property
    def due(self) -> int:
        """Number of slices that train in a step."""
        return self.grid.side**2 if self.recipe.schedule == "stream" else self.recipe.visits or 1

    def exchanges(self, batches: int) -> float:
        """Slices exchanged per step, on average over a training with ``batches`` steps per epoch."""
        if self.due > 1:
            return self.due
        steps = self.recipe.epochs * batches
        schedule = Schedule(self.recipe.hold_steps(batches), self.recipe.exchanges or 0, steps)
        return (1 + schedule.holds(steps - 1)) / steps if self.grid.side > 1 else 0.0

    def flushes(self, batches: int) -> int:
        """Slices written back in a training with ``batches`` steps per epoch, including the ends of epochs."""
        recipe = self.recipe
        steps = recipe.epochs * batches
        if self.grid.side > 1 and self.due > 1:
            return (self.due - (recipe.schedule == "stream")) * steps + recipe.epochs
        if self.grid.side == 1:
            return recipe.epochs
        return Schedule(recipe.hold_steps(batches), recipe.exchanges or 0, steps).flushes(batches)

    def plane_bytes(self, rows: int, columns: int) -> list[int]:
        """Bytes of a slice's weights, first moments, their units, second moments, their units."""
        moment = (1 if self.coded else 4) * rows * columns
        units = rows * -(-columns // BLOCK) if self.coded else 0
        return [4 * rows * columns, *[moment, units] * self.moments]

    def record_words(self, unit: int) -> int:
        """32-bit words of a batch's outputs in flash: the scale, then one row per sample."""
        if not self.following:
            return 0
        row = segments(self.O, self.grid.side)[-1]
        return aligned(4 * (1 + self.B * row), max(4, unit)) // 4

    def regions(self, unit: int, widest: int) -> list[Region]:
        """The layer's regions in the arena; ``widest``: maximum words of a packed row over all layers."""
        cut, B, first = self.cut, self.B, self.number == 0
        rows = 1 if cut.streamed else self.rows
        tile = min(cut.tile, self.O) if cut.signs_in_flash else self.O
        sums = first and self.kind == "bytes"
        resident = ("initialize", "update") if cut.streamed else RESIDENT
        moment, units = "uint8" if self.coded else "float32", rows * -(-self.columns // BLOCK) if self.coded else 0
        read = ("load", "forward", "gradient", "update", "hand-over")
        signs, some = self.O * self.words, -(-self.columns // 32)
        held = {"bits": ((B, self.words), "uint32"), "bytes": ((B, self.I), "uint8"), "real": ((B, self.I), "float32")}
        groups, columns = -(-B // 4), min(BLOCK, self.columns)
        answer = (2 + cut.tile) * widest + 2 * cut.tile + 64
        return [
            Region("signs", (0 if cut.signs_in_flash else signs,), "uint32"),
            Region("bias", (self.O,), "float32"),
            Region("slice", (rows * self.columns,), "float32", resident),
            Region("moment1", (rows * self.columns if self.moments > 0 else 0,), moment, resident),
            Region("unit1", (units if self.moments > 0 else 0,), "uint8", resident),
            Region("moment2", (rows * self.columns if self.moments > 1 else 0,), moment, resident),
            Region("unit2", (units if self.moments > 1 else 0,), "uint8", resident),
            Region("bias_moment1", (self.rows if self.moments > 0 else 0,), "float32", RESIDENT),
            Region("bias_moment2", (self.rows if self.moments > 1 else 0,), "float32", RESIDENT),
            Region("inputs", (0, 0) if self.mapped else held[self.kind][0], held[self.kind][1], read),
            Region("labels", (B,), "uint16", ("load", "forward", "gradient", "hand-over")),
            Region(
                "tile",
                (max(some, tile * self.words if cut.signs_in_flash else 0),),
                "uint32",
                ("initialize", "update", *PASSES) if cut.signs_in_flash else ("initialize",),
            ),
            Region("z", (tile,), "int32", PASSES),
            Region("shift", (tile if sums else 0,), "float32", PASSES),
            Region("tables", (64 if sums else 0,), "uint32", PASSES),
            Region("active", (self.active_rows, -(-B // 8)), "uint8", ("forward", "gradient", "update")),
            Region("logits", (B, self.C), "float32", ("forward", "gradient", "update")),
            Region("exps", (self.C,), "float64", ("gradient",)),
            Region("dz", (B if first else 16 * groups,), "float32", ("update",)),
            Region("listed", (B if first else groups,), "uint32", ("update",)),
            Region("turned", (0 if first else self.columns, -(-B // 8)), "uint8", ("update",)),
            Region("gradient", (columns,), "float32", ("update",)),
            Region("coded", (32 * (1 + self.moments) if self.coded and self.moments else 0,), "uint32", ("update",)),
            Region("outputs", (self.record_words(unit),), "uint32", ("hand-over",)),
            Region("digest", (DIGEST_BYTES,), "uint8", ("hand-over", "evaluate")),
            Region("answer", (answer,), "uint32", ("evaluate",)),
        ]


class CLayout:
    """The arena and the flash of a training on a device.

    Parameters
    ----------
    recipe, dataset
        As for :class:`tinyfoa_np.rules.fit.Layout`.
    store : Store
    mapped : bool
        Whether the samples are in memory that can be read in place; otherwise they are copied batch by batch.
    cut : Cut
        The parts of a layer in the arena.

    Raises
    ------
    BadRequest
        If the C trainer does not support the recipe.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, store: Store = NOR, mapped: bool = True, cut: Cut | None = None
    ) -> None:
        check_scope(recipe)
        self.store, self.mapped, self.cut = store, mapped, cut or Cut()
        self.N = min(recipe.limit or 2**31, len(dataset.train.labels))
        self.recipe = replace(recipe, batch=min(recipe.batch, self.N))
        self.C = dataset.classes
        self.kind = "bytes" if dataset.train.inputs.dtype == np.uint8 else "real"
        self.affine = dataset.affine(str(recipe.normalize)) if self.kind == "bytes" else (1.0, 0.0)
        shapes = layer_shapes(recipe.network, dataset.train.inputs.shape[1], dataset.image, recipe.lc_connect)
        above = [shape.outputs for shape in shapes[1:]] + [0]
        self.layers = [
            Layer(self.recipe, n, shape.inputs, shape.outputs, self.C, following, self.kind, mapped, self.cut)
            for n, (shape, following) in enumerate(zip(shapes, above))
        ]
        self.widest = max(layer.words for layer in self.layers)

    @property
    def batches(self) -> int:
        return -(-self.N // self.recipe.batch)

    @cached_property
    def plans(self) -> list[Plan]:
        """Plan of each layer's regions, which follow the state."""
        return [pack(layer.regions(self.store.unit, self.widest), ALIGNMENT) for layer in self.layers]

    @property
    def arena_bytes(self) -> int:
        """The highest byte of any layer's regions, including the state before them."""
        return STATE_BYTES + max(plan.nbytes for plan in self.plans)

    # -- flash ---------------------------------------------------------------------------------------------------------

    def _slot(self, *sections: int) -> int:
        """Bytes of a slot; header and sections are aligned to units, slots to pages."""
        unit = self.store.unit
        return aligned(aligned(HEADER_BYTES, unit) + sum(aligned(size, unit) for size in sections), self.store.page)

    @cached_property
    def flash(self) -> tuple[list[dict[str, int]], int]:
        """Addresses and sizes of each layer's items, and the end of all."""
        page, side = self.store.page, self.recipe.slices or 1
        at, places = ROOT_PAGES * aligned(64, page), []
        for layer in self.layers:
            slot = self._slot(*layer.plane_bytes(layer.rows, layer.columns))
            bias_slot = self._slot(*[4 * layer.rows] * (1 + layer.moments))
            trained_slot = self._slot(TRAINED_BYTES, 4 * layer.O, 4 * layer.O * layer.words)
            place = {"slices": at, "slice_slot": slot}
            at += 2 * side * side * slot
            place |= {"biases": at, "bias_slot": bias_slot}
            at += 2 * side * bias_slot
            place |= {"trained": at, "trained_slot": trained_slot}
            at += 2 * trained_slot
            places.append(place)
        sizes = [4 * layer.record_words(self.store.unit) for layer in self.layers]
        areas = [max((aligned(self.batches * size, page) for size in sizes[k::2]), default=0) for k in (0, 1)]
        starts = at, at + areas[0]
        at += sum(areas)
        for n, place in enumerate(places):
            place |= {"handed": starts[n % 2], "record": sizes[n], "published": at}
        if self.cut.signs_in_flash:
            at += max(aligned(4 * layer.O * layer.words, page) for layer in self.layers)
        return places, at

    @property
    def flash_bytes(self) -> int:
        """Flash needed for the training, in bytes."""
        return self.flash[1]


def cuts(store: Store) -> Iterator[Cut]:
    """The possible cuts, from the least flash traffic to the least RAM."""
    for signs_in_flash, streamed in ((False, False), (True, False), (False, True), (True, True)):
        if store.in_place or not (signs_in_flash or streamed):
            for tile in (8, 4, 2, 1):
                yield Cut(tile, streamed, signs_in_flash)


def fit(recipe: Recipe, dataset: Dataset, store: Store = NOR, mapped: bool = True, ram: int | None = None) -> CLayout:
    """The layout with the least flash traffic that fits into ``ram`` bytes.

    Raises
    ------
    BadRequest
        If none fits; the message gives the smallest sufficient RAM. If 32-bit addresses do not reach all of it.
    """
    layouts = [CLayout(recipe, dataset, store, mapped, cut) for cut in cuts(store)]
    if (most := max(layouts[0].flash_bytes, min(layout.arena_bytes for layout in layouts))) >= ADDRESSES:
        raise BadRequest(f"the trainer in C addresses 4 GiB of RAM and of flash: {most:,} bytes need narrower layers")
    for layout in layouts:
        if ram is None or layout.arena_bytes <= ram:
            return layout
    least = min(layout.arena_bytes for layout in layouts)
    other = min(CLayout(recipe, dataset, FRAM, mapped, cut).arena_bytes for cut in cuts(FRAM))
    streamed = "" if store.in_place else f"; {other:,} with --flash fram, where slices are streamed"
    raise BadRequest(
        f"the trainer does not fit into {ram:,} bytes: it needs {least:,} (more slices or a smaller batch need less"
        f"{streamed})"
    )


def check_scope(recipe: Recipe) -> None:
    """Refuse recipes that the C trainer does not support, with a one-line error."""
    only = "the trainer in C supports "
    if not recipe.rule.in_c or not recipe.network.startswith("fc:"):
        raise BadRequest(f"{only}tinyfoa on fully connected networks, not {recipe.algorithm} on {recipe.network}")
    if not (recipe.binary_weights and recipe.binary_activations):
        raise BadRequest(f"{only}binary weights and activations: train with --binary-weights --binary-activations")
    if recipe.schedule not in ("slice", "stream"):
        raise BadRequest(f"{only}schedules slice, auto and stream, not {recipe.schedule}")
    if recipe.optimizer == "bop":
        raise BadRequest(f"{only}optimizers adam, momentum, nesterov and sgd, not bop")
    if recipe.moments not in ("float32", "int8"):
        raise BadRequest(f"{only}moments float32 and int8, not {recipe.moments}")
    if recipe.lr_schedule.startswith(("cosine", "exponential")) or recipe.lr_schedule.count(":") > 1:
        raise BadRequest(
            f"{only}learning rates that are constant, drop to a tenth or cooldown, not {recipe.lr_schedule}"
        )
    if recipe.augment is not None or recipe.reshuffle:
        raise BadRequest("the trainer in C takes samples as they are, in one order: no --augment, no --reshuffle")
    if recipe.start or recipe.freeze:
        raise BadRequest("the trainer in C begins with its own weights and trains all layers: no --from, no --freeze")
    if recipe.recompute:
        raise BadRequest("the trainer in C keeps the outputs of trained layers in flash: leave --recompute out")
