"""Split a recipe into stages and fit each to the RAM budget, before allocating."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..architectures import architecture
from ..data import Dataset
from ..errors import BadRequest
from ..layers.encoding import Encoding
from ..layers.layer import Layer
from ..layers.local import Local
from ..layers.tiling import Tiling
from ..network import layer_shapes
from ..ram.packing import Plan, pack
from ..recipe import Recipe
from ..storage.item_file import SEAL_BYTES
from ..storage.records import Records
from .augment import Augmenter
from .build import deep_maker, makers
from .cuts import Rung
from .flash_overhead import root_bytes, seal_bytes
from .recompute import Below
from .stage import Stage
from .write_phases import declared


@dataclass(frozen=True, eq=False)
class Chosen:
    """A stage, its tiling, and the layout of its regions."""

    stage: Stage
    tiling: Tiling
    plan: Plan


def encoding_of(dataset: Dataset, normalize: str) -> Encoding:
    """The encoding of a data set's samples."""
    inputs = dataset.train.inputs
    if inputs.dtype == np.uint8:
        return Encoding("bytes", inputs.shape[1], *dataset.affine(normalize), dataset.image)
    return Encoding("real", inputs.shape[1], image=dataset.image)


def _once(stage: Stage) -> int:
    """Bytes of a stage's training objects in flash, counting one slot of each."""
    return sum(map(sum, stage.objects().values()))


def _streamed(layer: Layer) -> int:
    """Bytes of a layer's forward weights if they are streamed from flash, else 0."""
    return layer.published_bytes if layer.tiling.stream_weights else 0


class Layout:
    """Stages, batches and tilings of a recipe on a data set, computed before allocating.

    Parameters
    ----------
    recipe : Recipe
        A validated recipe.
    dataset : Dataset
        Only its shape is used.
    threads : int
        T: each thread has its own scratch.

    Attributes
    ----------
    train_set, test_set : Records
        The encoded samples.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, threads: int) -> None:
        self.recipe, self.threads = recipe, threads
        samples = min(recipe.limit or math.inf, len(dataset.train.labels))
        if recipe.rule.full_batches and samples > recipe.batch:
            samples -= samples % recipe.batch  # as published: an incomplete last batch is dropped
        self.N, self.N_test = int(samples), len(dataset.test.labels)
        # a data set smaller than a batch is one batch, so that regions are no larger than needed
        self.inner = replace(recipe, batch=min(recipe.batch, self.N))
        width = dataset.train.inputs.shape[1]
        self.inputs = encoding_of(dataset, str(recipe.normalize))
        self.augment = Augmenter(recipe, self.inputs, threads) if recipe.augment else None
        self.train_set = Records("train", self.N, self.inner.batch, self.inputs.row_bytes)
        self.test_set = Records("test", self.N_test, self.inner.batch, self.inputs.row_bytes)
        about = dataset.classes, self.train_set.batches, threads
        if recipe.deep:
            network = architecture(recipe.network, width, dataset.image, dataset.classes)
            self.makers = [deep_maker(self.inner, self.inputs, network, *about)]
        else:
            shapes = layer_shapes(recipe.network, width, dataset.image, recipe.lc_connect)
            self.makers = makers(self.inner, self.inputs, shapes, *about)
        rungs = recipe.rule.home(recipe.kind).ladder(self.inner)
        if recipe.optimizer == "bop":  # signs that are all there is of the weights stay in the arena
            rungs = [rung for rung in rungs if not rung.tiling.stream_weights]
        self.ladders = [rungs] * len(self.makers)
        self._cuts: dict[tuple[int, Tiling], Chosen] = {}

    def fit(self, budget: int | None) -> list[Chosen]:
        """Choose, for each stage, the fitting tiling with the least time and flash traffic.

        Parameters
        ----------
        budget : int or None
            Bytes of RAM. Without a budget, the fastest tiling is chosen.

        Raises
        ------
        BadRequest
            If a stage does not fit; the message gives the smallest sufficient budget.
        """
        chosen = [self._fit(number, budget) for number in range(len(self.makers))]
        if None in chosen:
            assert budget is not None
            raise BadRequest(
                f"training does not fit into {budget:,} bytes of RAM: it needs {self.least():,} ({self._advice()})"
            )
        return [one for one in chosen if one]

    def cut(self, tilings: Sequence[Tiling]) -> list[Chosen]:
        """Build each stage with the given tiling."""
        return [self._cut(number, tiling) for number, tiling in enumerate(tilings)]

    def least(self) -> int:
        """The smallest budget that :meth:`fit` accepts, in bytes."""
        return max(
            min(self._smallest(number, rung).plan.nbytes for rung in rungs) for number, rungs in enumerate(self.ladders)
        )

    def described(self, one: Chosen) -> str:
        """Describe a stage's tiling in words."""
        first = one.stage.layers[0]
        if isinstance(first, Local):
            return one.tiling.described(self.inner.batch, first.shape.places, first.shape.places, True)
        return one.tiling.described(self.inner.batch, first.O, first.grid.rows(0)[1])

    def flash_bytes(self, chosen: Sequence[Chosen], lean: bool = False) -> dict[str, int]:
        """Peak content of flash in bytes, by kind; the peak is the hand-over from one stage to the next.

        Parameters
        ----------
        chosen : sequence of Chosen
        lean : bool
            Whether the full-precision weights of trained layers are deleted.
        """
        peaks, roots = [], 2 * root_bytes([one.stage for one in chosen])
        for number, one in enumerate(chosen):
            below, own = chosen[:number], one.stage.layers
            layers = [*(layer for lower in below for layer in lower.stage.layers), *own]
            stages = [*(lower.stage for lower in below), one.stage]
            peaks.append(
                {
                    "data set": self.train_set.nbytes + self.test_set.nbytes,
                    "weights and moments in training, in two slots": 2 * _once(one.stage),
                    "what the forward pass reads of them": sum(map(_streamed, own)),
                    "trained layers, for inference": sum(sum(layer.trained_bytes) for layer in layers),
                    "trained layers' weights and moments": 0
                    if lean
                    else sum(2 * _once(lower.stage) for lower in below),
                    "outputs handed from layer to layer": sum(
                        handed := [self._handed(other) for other in chosen[max(0, number - 1) : number + 1]]
                    ),
                    "checksums of all these": seal_bytes(stages, 1 if lean else number + 1, sum(map(bool, handed))),
                    "two roots, at most": roots,
                }
            )
        if self.recipe.start:  # until a layer begins, its weights are those of another model
            for number, peak in enumerate(peaks):
                waiting = [sizes for one in chosen[number:] for sizes in one.stage.given_objects().values()]
                peak["weights to start from"] = sum(map(sum, waiting))
                peak["checksums of all these"] += SEAL_BYTES * sum(map(len, waiting))
        return max(peaks, key=lambda held: sum(held.values()))

    def written_once(self, chosen: Sequence[Chosen]) -> int:
        """Bytes written to flash outside training steps: data, initial weights, outputs, trained layers."""
        layers = [layer for one in chosen for layer in one.stage.layers]
        kept = sum(sum(layer.trained_bytes) + _streamed(layer) for layer in layers)
        handed = sum(map(self._handed, chosen))
        if self.recipe.start:
            kept += sum(sum(map(sum, one.stage.given_objects().values())) for one in chosen)
        return self.train_set.nbytes + self.test_set.nbytes + kept + handed + sum(_once(one.stage) for one in chosen)

    def _handed(self, one: Chosen) -> int:
        """Bytes of a stage's stored outputs; 0 if no next stage reads them."""
        emitted = one.stage.hands_on
        if not emitted or self.recipe.recompute or one.stage.layers[0].number + 1 == len(self.makers):
            return 0
        return sum(replace(records, row_bytes=emitted.row_bytes).nbytes for records in (self.train_set, self.test_set))

    def _fit(self, number: int, budget: int | None) -> Chosen | None:
        """The cheapest tiling of a stage that fits; None if there is none."""
        if budget is None:
            rung = self.ladders[number][0]
            return self._cut(number, replace(rung.tiling, neurons=rung.neurons[0], rows=rung.rows[0]))
        grown = [self._grown(number, rung, budget) for rung in self.ladders[number]]
        return min((one for one in grown if one), key=lambda one: one.stage.cost(), default=None)

    def _grown(self, number: int, rung: Rung, budget: int) -> Chosen | None:
        """The largest fitting tiling of a rung."""
        found = self._smallest(number, rung)
        if found.plan.nbytes > budget:
            return None
        for name in ("neurons", "rows"):  # one matters in the forward pass, the other in the update: seldom both
            for size in getattr(rung, name):
                larger = self._cut(number, replace(found.tiling, **{name: size}))
                if larger.plan.nbytes <= budget:
                    found = larger
                    break
        return found

    def _smallest(self, number: int, rung: Rung) -> Chosen:
        return self._cut(number, replace(rung.tiling, neurons=rung.neurons[-1], rows=rung.rows[-1]))

    def _cut(self, number: int, tiling: Tiling) -> Chosen:
        if (number, tiling) not in self._cuts:
            self._cuts[number, tiling] = self._made(number, tiling)
        return self._cuts[number, tiling]

    def _made(self, number: int, tiling: Tiling) -> Chosen:
        stage = self.makers[number](tiling)
        regions = declared(stage.regions(), stage.carried())
        if self.recipe.recompute and number > 0:
            lower = [make(Tiling(self.inner.batch)) for make in self.makers[:number]]
            regions += Below(lower, [], tiling, self.threads).regions()  # type: ignore[arg-type]
        if self.augment and (self.recipe.recompute or number == 0):
            regions += self.augment.regions(stage.held_samples)
        return Chosen(stage, tiling, pack(regions))

    def _advice(self) -> str:
        real = not (self.recipe.deep or self.recipe.rule.real or self.recipe.binary_activations)
        fewer = ("fewer threads, " if self.threads > 1 else "") + ("binary weights and activations, " if real else "")
        if self.recipe.rule.by_layer:
            return f"{fewer}a smaller batch or more slices need less"
        if not self.recipe.deep:
            what = f"{fewer}a smaller batch or narrower layers need less"
            return f"{self.recipe.algorithm} holds the weights of all layers: {what}"
        why = f"{self.recipe.algorithm} holds the weights of all layers"
        if self.recipe.normed:
            why = f"batch norm, which {self.recipe.network} has, looks at a whole batch, so it is not cut"
        if self.recipe.groups is not None:
            return f"{why}: {fewer}a smaller batch or smaller groups need less"
        return f"{why}: {fewer.replace(', ', ' or ')}a smaller batch need{'' if fewer else 's'} less"
