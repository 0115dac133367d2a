"""What the training loop asks of an algorithm: a stage is what trains together, a layer or the whole network."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..arena import Arena
from ..flash import Flash
from ..plan import Region
from .operands import Inputs
from .parameters import Parameters


class Outcome(NamedTuple):
    """Of one training step: the batch's summed loss, its wrong answers and, if training diverged, how."""

    loss: float
    wrong: int
    diverged: str = ""


class Stage(Protocol):
    """What trains together in one arena.

    Its :attr:`ram` has at least ``inputs`` (B, ..), ``labels`` (B,), ``input_scale`` (1,) and ``commit``, and whoever
    loads a batch has entered phase ``load``; the stage enters the others as it goes.
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
    def layers(self) -> list[Parameters]:
        """The layers that train here."""

    def regions(self) -> list[Region]:
        """What the stage needs of the arena, and when."""

    def carried(self) -> frozenset[str]:
        """Regions whose content one batch leaves to the next."""

    def widest_step(self) -> int:
        """The first step that takes as much of the arena as any."""

    def open(self, arena: Arena) -> None:
        """Takes the views from an arena laid out with the regions."""

    def create(self, flash: Flash) -> None:
        """Makes the stage's objects in flash."""

    def initialize(self, flash: Flash) -> None:
        """Writes the initial parameters."""

    def restore(self, flash: Flash) -> None:
        """Rebuilds the arena's content from flash."""

    def flush(self, flash: Flash) -> None:
        """Writes back what has changed."""

    @property
    def held_samples(self) -> int:
        """How many samples the arena holds at a time: a batch, or a micro-batch."""

    def train_step(self, flash: Flash, samples: int, step: int, of: int | None = None, first: int = 0) -> Outcome:
        """One training step on the batch that was loaded, or on ``samples`` of its ``of`` from the ``first`` on."""

    def evaluate(self, samples: int) -> int:
        """Wrong answers in the batch that was loaded."""

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """Digests of the trained layers; the training set's samples come next, then :meth:`settle`, then the tests'."""

    def hand_over(self, samples: int, trained: bool) -> int:
        """The batch that was loaded through the trained stage, as inference does it; how many answers are wrong."""

    def settle(self, samples: int) -> None:
        """Fixes what inference takes from all ``samples`` of the training set."""

    def known(self) -> list[dict[str, Any]]:
        """What inference must know of each trained layer beside its weights."""

    def keep(self, flash: Flash) -> None:
        """Writes what inference needs of the trained layers."""
