"""What the training loop asks of an algorithm: a stage is what trains together, a layer or the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ..layers.encoding import Inputs
from ..layers.tiling import Tiling
from ..ram.arena import Arena
from ..ram.packing import Region
from ..slices import Grid, Groups
from ..storage.flash import Flash


class Part(NamedTuple):
    """What was loaded of a batch: ``samples`` of its ``of``, from its sample ``first`` on; most often all."""

    samples: int
    first: int
    of: int

    @property
    def ends(self) -> bool:
        """Whether the batch is complete with it."""
        return self.first + self.samples == self.of


def whole(samples: int) -> Part:
    """A batch of so many samples, all of it."""
    return Part(samples, 0, samples)


class Outcome(NamedTuple):
    """Of one training step: the batch's summed loss, its wrong answers and, if training diverged, how."""

    loss: float
    wrong: int
    diverged: str = ""


class Kept(Protocol):
    """What a stage has in flash of a layer, or of a group of layers, and what of it is kept when it is trained."""

    number: int
    O: int  # outputs
    tiling: Tiling
    inputs: Inputs

    @property
    def grid(self) -> Grid | Groups:
        """How weights are cut into slices."""

    def name(self, what: str) -> str:
        """An object in flash."""

    def objects(self) -> dict[str, list[int]]:
        """The objects that it trains in, with the sizes of their items; the first is called ``slices``."""

    @property
    def commit_bytes(self) -> int:
        """Bytes of the buffer through which a commit reads back."""

    @property
    def published_bytes(self) -> int:
        """Bytes of what the forward pass reads of all weights."""

    @property
    def trained_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of what inference needs of it."""

    @property
    def trained_bytes(self) -> list[int]:
        """The same in bytes."""

    def forget(self, flash: Flash) -> None:
        """Lets go of what only training needs."""


class Stage(Protocol):
    """What trains together in one arena.

    Its :attr:`ram` has at least ``inputs`` (held, ..), ``labels`` (held,) or (B,), ``input_scale`` (1,) and ``commit``,
    and whoever loads a batch has entered phase ``load``; the stage enters the others as it goes.
    """

    state: dict[str, Any]  # what is known beside the arena's bytes, as JSON can hold it: a fresh copy
    ram: Any

    @property
    def inputs(self) -> Inputs:
        """What a sample is."""

    @property
    def hands_on(self) -> Inputs | None:
        """What a trained stage hands to the next; None: it has no next."""

    @property
    def surveys(self) -> bool:
        """Whether :meth:`settle` takes anything from a last pass over the training set."""

    @property
    def layers(self) -> Sequence[Kept]:
        """The layers that train here, or groups of them."""

    def regions(self) -> list[Region]:
        """What the stage needs of the arena, and when."""

    def carried(self) -> frozenset[str]:
        """Regions whose content one batch leaves to the next."""

    def widest_steps(self) -> set[int]:
        """Steps that together take as much of the arena as any, in each of its regions."""

    @property
    def cores(self) -> int:
        """Threads that find work."""

    def traffic(self) -> tuple[float, float]:
        """Bytes read from flash and written to it in a training step, on average, with the commits of epochs."""

    def cost(self) -> tuple[float, ...]:
        """What a step takes in time and traffic with flash, beside other ways to cut the same stage: less is better."""

    def open(self, arena: Arena) -> None:
        """Takes the views from an arena laid out with the regions."""

    def objects(self) -> dict[str, list[int]]:
        """The objects in flash that the stage trains in, with the sizes of their items."""

    def create(self, flash: Flash) -> None:
        """Makes these objects."""

    def initialize(self, flash: Flash) -> None:
        """Writes the initial parameters."""

    def restore(self, flash: Flash) -> None:
        """Rebuilds the arena's content from flash."""

    def flush(self, flash: Flash) -> None:
        """Writes back what has changed."""

    @property
    def held_samples(self) -> int:
        """How many samples the arena holds at a time: a batch, or a micro-batch."""

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """One training step on what was loaded, or the share of it that this part of a batch makes possible."""

    def evaluate(self, flash: Flash, part: Part) -> int:
        """Wrong answers in what was loaded; they may be told with the batch's last part only."""

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """Digests of the trained layers; the training set's samples come next, then :meth:`settle`, then the tests'."""

    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        """What was loaded through the trained stage, as inference does it; wrong answers as :meth:`evaluate`."""

    def settle(self, samples: int) -> None:
        """Fixes what inference takes from all ``samples`` of the training set."""

    def known(self) -> list[dict[str, Any]]:
        """What inference must know of each trained layer beside its weights."""

    def keep(self, flash: Flash) -> None:
        """Writes what inference needs of the trained layers."""
