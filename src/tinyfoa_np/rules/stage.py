"""A stage: a layer or a whole network that trains in one arena, and its life cycle between flash and arena.

A learning rule is a subclass of :class:`Stage`. It defines the regions it needs besides those of its layers
(:meth:`Stage.extra`), one training step (:meth:`Stage.train_step`), and the pass of a batch without training.
Everything else is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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

#: placeholder for flash if all weights are in the arena
NO_FLASH = cast(Flash, None)


class Outcome(NamedTuple):
    """Result of a training step: the batch's summed loss, wrong predictions and, if training diverged, why."""

    loss: float
    wrong: int
    diverged: str = ""

    @classmethod
    def of(cls, loss: float, wrong: int, trained: bool = True, what: str = "loss") -> Outcome:
        """The outcome of a step with this loss; ``trained``: whether all updated numbers remained finite."""
        if not np.isfinite(loss):
            return cls(loss, wrong, f"the {what} is {loss}")
        return cls(loss, wrong, "" if trained else "a weight or a moment is no longer a finite number")


class Stage(ABC):
    """Parameters that train together in one arena.

    Its :attr:`ram` has at least ``inputs`` (held, ..), ``labels`` (held,) or (B,), ``input_scale`` (1,) and ``commit``.
    The code that loads a batch enters phase ``load``; the stage enters the other phases itself.

    Parameters
    ----------
    recipe : Recipe
        A validated recipe.
    inputs : Encoding
        Encoding of the samples.
    classes : int
        C.
    batches : int
        Steps per epoch.
    threads : int
        T: the number of parts into which a kernel's work is divided.
    tiling : Tiling
        How the work is divided so that it fits the arena.

    Attributes
    ----------
    layers : sequence of Layer
        The layers, or groups of layers, that train here, lowest first.
    hands_on : Encoding or None
        Encoding of the outputs that a trained stage passes to the next; None if there is no next stage.
    surveys : bool
        Whether :meth:`settle` needs a final pass over the training set.
    cores : int
        Number of threads that have work.
    ram : Views
        The regions of :meth:`besides`.
    """

    #: regions of the phase ``evaluate`` that only serve to count wrong predictions, or to train
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

    @property
    def frozen(self) -> bool:
        """Whether nothing trains here: the stage only passes samples on."""
        return False

    # -- regions -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def extra(self) -> list[Region]:
        """Regions of the stage besides those of its layers."""

    def besides(self) -> Iterator[Region]:
        """The regions of the stage besides those of its layers, one after another: of a deep network few at a time."""
        yield from self.extra()

    def regions(self) -> list[Region]:
        """All regions of the stage, with their phases."""
        return [*(region for layer in self.layers for region in layer.regions()), *self.besides()]

    def carried(self) -> frozenset[str]:
        """Names of the regions whose content is kept from one batch to the next."""
        return frozenset().union(*(layer.carried() for layer in self.layers))

    def widest_steps(self) -> set[int]:
        """Steps that together reach the maximum use of every region of the arena."""
        return {0}

    def open(self, arena: Arena) -> None:
        """Take the views from an arena laid out with the regions, and generate fixed random numbers."""
        self.take(arena, self.layers)
        self.project()

    def project(self) -> None:  # noqa: B027 (most rules have none)
        """Generate fixed random numbers, such as projections."""

    def take(self, arena: Arena, layers: Sequence[Layer]) -> None:
        """Take the views of those regions that the arena has, for these layers."""
        self.arena = arena
        for layer in layers:
            layer.open(arena)
        self.ram = arena.views(self.besides())

    @property
    def held_samples(self) -> int:
        """Number of samples in the arena at a time: a batch or a micro-batch."""
        return self.tiling.samples

    @property
    def handed_samples(self) -> int:
        """How many samples the hand-over holds at a time."""
        return self.held_samples

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        """Possible ways to divide the stage; the first keeps as much as possible in RAM."""
        return [Rung(Tiling(held), NEURONS[:1], ROWS[:1]) for held in (recipe.batch, *micro_batches(recipe))]

    # -- cost of a step ------------------------------------------------------------------------------------------------

    @abstractmethod
    def cost(self) -> tuple[float, ...]:
        """Cost of a step in time and flash traffic, to compare tilings of the same stage; less is better."""

    @property
    def passes(self) -> int:
        """Number of times a step reads a layer's weights: once per part of a batch."""
        return -(-self.recipe.batch // self.held_samples)

    def traffic(self) -> tuple[float, float]:
        """Bytes read from and written to flash per training step, on average, including the commits of epochs."""
        parts = -(-self.recipe.batch // self.held_samples)
        samples = self.recipe.batch * (self.inputs.row_bytes + 2) + 4 * parts
        moved = [layer.traffic(self.passes) for layer in self.layers]
        return samples + sum(read for read, _ in moved), sum(written for _, written in moved)

    # -- flash and state -----------------------------------------------------------------------------------------------

    def objects(self) -> dict[str, Sequence[int]]:
        """Objects in flash that the stage trains, with the sizes of their items."""
        return {name: sizes for layer in self.layers for name, sizes in layer.objects().items()}

    def given_objects(self) -> dict[str, list[int]]:
        """Objects in flash that hold parameters of another model until the stage begins, with their items' sizes."""
        return {name: sizes for layer in self.layers for name, sizes in layer.given_objects().items()}

    def create(self, flash: Flash) -> None:
        """Create these objects."""
        for name, sizes in self.objects().items():
            flash.new(name, sizes)

    def initialize(self, flash: Flash) -> None:
        """Write the initial parameters."""
        for layer in self.layers:
            layer.initialize(flash)

    def forget_given(self, flash: Flash) -> None:
        """Delete the parameters of another model, which the stage's own objects now contain."""
        for layer in self.layers:
            for name in layer.given_objects():
                if name in flash.names():
                    flash.drop(name)

    def restore(self, flash: Flash) -> None:
        """Rebuild the arena's content from flash."""
        for layer in self.layers:
            layer.restore(flash)

    def flush(self, flash: Flash) -> None:
        """Write changes back to flash."""
        for layer in self.layers:
            layer.flush(flash)

    @property
    @abstractmethod
    def state(self) -> dict[str, Any]:
        """State outside the arena: a dictionary of numbers, lists and the layers' own :class:`~.state.State`."""

    @state.setter
    @abstractmethod
    def state(self, known: dict[str, Any]) -> None: ...

    # -- one batch -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded samples, or the share of it that this part of a batch allows."""

    @abstractmethod
    def evaluate(self, flash: Flash, part: Part) -> int:
        """Number of wrong predictions in the loaded samples; with micro-batches, the count comes with the last part."""

    @abstractmethod
    def wrong(self, samples: int) -> int:
        """Number of wrong predictions of the last pass."""

    def scores(self, samples: int) -> np.ndarray:
        """Scores (C, n) of the last pass, at full precision; the largest of a sample is its prediction."""
        return self.ram.logits[:, :samples]

    # -- a trained stage -----------------------------------------------------------------------------------------------

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """Digests of the trained layers; the training set comes next, then :meth:`settle`, then the test set."""
        return [layer.digest(flash, self.row) for layer in self.layers]

    @property
    def row(self) -> np.ndarray:
        """Buffer through which digests read slices, if needed."""
        return self.ram.row

    @abstractmethod
    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        """Pass the loaded samples through the trained stage, as in inference; wrong predictions as :meth:`evaluate`.

        ``trained``: whether they are of the training set, before :meth:`settle` has fixed the values for inference.
        """

    def settle(self, samples: int) -> None:  # noqa: B027 (most rules need nothing)
        """Fix the values that inference takes from all ``samples`` of the training set."""

    def inference_values(self) -> Iterator[dict[str, Any]]:
        """Values of each trained layer that inference needs besides its weights."""
        return ({"alpha": layer.alpha, "scale": 1.0} for layer in self.layers)

    # -- inference -----------------------------------------------------------------------------------------------------

    @property
    def answering(self) -> Sequence[Layer]:
        """Layers needed for predictions."""
        return self.layers

    @property
    def loaded(self) -> Sequence[Layer]:
        """Layers that inference holds, those needed for predictions first."""
        return self.answering

    def inference_regions(self) -> list[Region]:
        """Regions needed for predictions, all in the phase ``evaluate``."""
        trained = [region for layer in self.loaded for region in layer.trained_regions()]
        return trained + [
            region
            for region in self.besides()
            if "evaluate" in region.within and region.name.rstrip("0123456789") not in self.beside_answers
        ]

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        """Fill the arena from trained layers; those needed for predictions come first."""
        for layer, known in zip(self.loaded, trained, strict=False):
            layer.load(known)

    @abstractmethod
    def answer(self, samples: int) -> None:
        """Pass the samples in the arena through the trained layers, up to :meth:`scores`."""

    def keep(self, flash: Flash) -> None:
        """Write the data of the trained layers that inference needs."""
        for layer in self.layers:
            layer.keep(flash)
