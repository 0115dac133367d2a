"""What trains together in one arena, a layer or the whole network: its life between flash and arena.

A learning rule is a stage: it says which regions it needs beside those of its layers (:meth:`Stage.extra`), what one
training step does (:meth:`Stage.train_step`) and how a batch goes through the layers without training. Everything else
is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from ..layers.encoding import Encoding
from ..layers.layer import Layer, Part
from ..layers.tiling import NEURONS, ROWS, Tiling
from ..layers.trained import TrainedLayer
from ..ram.arena import Arena, Views
from ..ram.packing import Region
from ..recipe import Recipe
from ..storage.flash import Flash
from .cuts import Rung, micro_batches

#: stands for flash where all weights are in the arena
NO_FLASH = cast(Flash, None)


class Outcome(NamedTuple):
    """Of one training step: the batch's summed loss, its wrong answers and, if training diverged, how."""

    loss: float
    wrong: int
    diverged: str = ""

    @classmethod
    def of(cls, loss: float, wrong: int, trained: bool = True, what: str = "loss") -> Outcome:
        """The outcome of a step with such a loss, in which all that was ``trained`` remained finite."""
        if not np.isfinite(loss):
            return cls(loss, wrong, f"the {what} is {loss}")
        return cls(loss, wrong, "" if trained else "a weight or a moment is no longer a finite number")


class Stage(ABC):
    """What trains together in one arena.

    Its :attr:`ram` has at least ``inputs`` (held, ..), ``labels`` (held,) or (B,), ``input_scale`` (1,) and ``commit``,
    and whoever loads a batch has entered phase ``load``; the stage enters the others as it goes.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    inputs : Encoding
        What a sample is.
    classes : int
        C.
    batches : int
        Steps per epoch.
    threads : int
        T: how many ways a kernel's work is cut.
    tiling : Tiling
        How the work is cut so that it fits the arena.

    Attributes
    ----------
    layers : sequence of Layer
        The layers that train here, or groups of them, lowest first.
    hands_on : Encoding or None
        What a trained stage hands to the next; None: it has no next.
    surveys : bool
        Whether :meth:`settle` takes anything from a last pass over the training set.
    cores : int
        Threads that find work.
    ram : Views
        The regions of :meth:`extra`.
    """

    #: regions of the phase ``evaluate`` that count wrong answers, or that only training needs
    beside_answers: frozenset[str] = frozenset({"labels", "error", "result"})
    layers: Sequence[Layer]
    arena: Arena
    ram: Views

    def __init__(
        self, recipe: Recipe, inputs: Encoding, classes: int, batches: int, threads: int, tiling: Tiling
    ) -> None:
        self.recipe, self.inputs, self.C, self.batches, self.tiling = recipe, inputs, classes, batches, tiling
        self.cores = threads

    @property
    def hands_on(self) -> Encoding | None:
        return None

    @property
    def surveys(self) -> bool:
        return False

    # -- regions -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def extra(self) -> list[Region]:
        """What the stage needs of the arena beside the regions of its layers."""

    def regions(self) -> list[Region]:
        """What the stage needs of the arena, and when."""
        return [*(region for layer in self.layers for region in layer.regions()), *self.extra()]

    def carried(self) -> frozenset[str]:
        """Regions whose content one batch leaves to the next."""
        return frozenset().union(*(layer.carried() for layer in self.layers))

    def widest_steps(self) -> set[int]:
        """Steps that together take as much of the arena as any, in each of its regions."""
        return {0}

    def open(self, arena: Arena) -> None:
        """Takes the views from an arena laid out with the regions, and makes what is fixed."""
        self.take(arena, self.layers)
        self.project()

    def project(self) -> None:  # noqa: B027 (most have none)
        """Makes what is random and fixed: projections."""

    def take(self, arena: Arena, layers: Sequence[Layer]) -> None:
        """Takes the views of those regions that the arena is laid out with, for these layers."""
        self.arena = arena
        for layer in layers:
            layer.open(arena)
        self.ram = arena.views(self.extra())

    @property
    def held_samples(self) -> int:
        """How many samples the arena holds at a time: a batch, or a micro-batch."""
        return self.tiling.samples

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        """The ways in which the stage may be cut; the first keeps everything in RAM that it can."""
        return [Rung(Tiling(held), NEURONS[:1], ROWS[:1]) for held in (recipe.batch, *micro_batches(recipe))]

    # -- what a step costs ---------------------------------------------------------------------------------------------

    @abstractmethod
    def cost(self) -> tuple[float, ...]:
        """What a step takes in time and traffic with flash, beside other ways to cut the same stage: less is better."""

    @property
    def passes(self) -> int:
        """How often a step reads the weights of a layer: once for each part of a batch."""
        return -(-self.recipe.batch // self.held_samples)

    def traffic(self) -> tuple[float, float]:
        """Bytes read from flash and written to it in a training step, on average, with the commits of epochs."""
        parts = -(-self.recipe.batch // self.held_samples)
        samples = self.recipe.batch * (self.inputs.row_bytes + 2) + 4 * parts
        moved = [layer.traffic(self.passes) for layer in self.layers]
        return samples + sum(read for read, _ in moved), sum(written for _, written in moved)

    # -- flash and state -----------------------------------------------------------------------------------------------

    def objects(self) -> dict[str, list[int]]:
        """The objects in flash that the stage trains in, with the sizes of their items."""
        return {name: sizes for layer in self.layers for name, sizes in layer.objects().items()}

    def create(self, flash: Flash) -> None:
        """Makes these objects."""
        for name, sizes in self.objects().items():
            flash.new(name, sizes)

    def initialize(self, flash: Flash) -> None:
        """Writes the initial parameters."""
        for layer in self.layers:
            layer.initialize(flash)

    def restore(self, flash: Flash) -> None:
        """Rebuilds the arena's content from flash."""
        for layer in self.layers:
            layer.restore(flash)

    def flush(self, flash: Flash) -> None:
        """Writes back what has changed."""
        for layer in self.layers:
            layer.flush(flash)

    @property
    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What is known beside the arena's bytes, as JSON can hold it: a fresh copy."""

    @state.setter
    @abstractmethod
    def state(self, known: dict[str, Any]) -> None: ...

    # -- one batch -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """One training step on what was loaded, or the share of it that this part of a batch makes possible."""

    @abstractmethod
    def evaluate(self, flash: Flash, part: Part) -> int:
        """Wrong answers in what was loaded; they may be told with the batch's last part only."""

    @abstractmethod
    def wrong(self, samples: int) -> int:
        """How many answers of the last pass are wrong."""

    def scores(self, samples: int) -> np.ndarray:
        """The scores (C, n) of the last pass, as precise as there are: a sample's largest is its answer."""
        return self.ram.logits[:, :samples]

    # -- a trained stage -----------------------------------------------------------------------------------------------

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """Digests of the trained layers; the training set's samples come next, then :meth:`settle`, then the tests'."""
        return [layer.digest(flash, self.row) for layer in self.layers]

    @property
    def row(self) -> np.ndarray:
        """What digests read slices through, if they do."""
        return self.ram.row

    @abstractmethod
    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        """What was loaded through the trained stage, as inference does it; wrong answers as :meth:`evaluate`.

        ``trained``: it is of the training set; what inference takes from that is not fixed yet.
        """

    def settle(self, samples: int) -> None:  # noqa: B027 (most need nothing)
        """Fixes what inference takes from all ``samples`` of the training set."""

    def known(self) -> list[dict[str, Any]]:
        """What inference must know of each trained layer beside its weights."""
        return [{"alpha": layer.alpha, "scale": 1.0} for layer in self.layers]

    # -- inference -----------------------------------------------------------------------------------------------------

    @property
    def answering(self) -> Sequence[Layer]:
        """The layers that answers need."""
        return self.layers

    def inference_regions(self) -> list[Region]:
        """The regions that answers need, all of them in the phase ``evaluate``."""
        trained = [region for layer in self.answering for region in layer.trained_regions()]
        return trained + [
            region
            for region in self.extra()
            if "evaluate" in region.within and region.name.rstrip("0123456789") not in self.beside_answers
        ]

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        """Fills the arena from trained layers, those that answers need first."""
        for layer, known in zip(self.answering, trained, strict=False):
            layer.load(known)

    @abstractmethod
    def answer(self, samples: int) -> None:
        """The samples in the arena through the trained layers, to :meth:`scores`."""

    def keep(self, flash: Flash) -> None:
        """Writes what inference needs of the trained layers."""
        for layer in self.layers:
            layer.keep(flash)
