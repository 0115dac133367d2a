"""The common training loop of all rules, schedules, and the optimizers of slices.

A rule defines the step. Layers that train in slices ask :class:`Turns` for the slices of a step, and update them with
:class:`Sliced` or :class:`Grouped`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from .optimizers import OPTIMIZERS, Optimizer
from .slices import all_slices, cuts, frozen_at, hold_at, hold_of_exchanges, slices_at

SCHEDULES = "none", "slice", "stream", "frozen"

Batch = tuple[np.ndarray, np.ndarray]  # inputs X (B, I), labels (B,)
T = TypeVar("T")


def steps(batches: Sequence[T], epochs: int = 1) -> Iterator[tuple[int, T]]:
    """Yield every step with its batch, numbered from 0: all batches in the given order, for `epochs` epochs.

    Raises
    ------
    ValueError
        If there is nothing to train on.
    """
    if epochs * len(batches) < 1:
        raise ValueError(f"{epochs} epochs of {len(batches)} batches train nothing: give 1 or more of each")
    for t in range(epochs * len(batches)):
        yield t, batches[t % len(batches)]


class Turns:
    """The slices of a layer that train in each step.

    Parameters
    ----------
    batches, epochs : int
        Steps per epoch, and number of epochs.
    slices : int
        M, slices per side.
    schedule : {"none", "slice", "stream", "frozen"}
    hold : int, optional
        Number of steps before the next slice; by default one epoch, as in the paper.
    exchanges : int, optional
        Alternative to `hold`: the number of holds to divide all steps into.
    visits : int
        Slices trained per step in schedule ``slice``.
    order : {"rows", "diagonal"}
        Order of the slices (:func:`.slices.slice_at`).

    Raises
    ------
    ValueError
        For an unknown schedule, or both `hold` and `exchanges`.
    """

    def __init__(
        self,
        batches: int,
        epochs: int,
        slices: int,
        schedule: str,
        hold: int | None = None,
        exchanges: int | None = None,
        visits: int = 1,
        order: str = "rows",
    ) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"there is no schedule {schedule!r}: it must be one of {', '.join(SCHEDULES)}")
        if hold is not None and exchanges is not None:
            raise ValueError("a hold and a number of exchanges are two answers to one question; give one of them")
        self.steps, self.slices, self.schedule = batches * epochs, slices, schedule
        self.hold, self.exchanges = batches if hold is None else hold, exchanges
        self.visits, self.order = visits, order

    @property
    def side(self) -> int:
        """Slices per side of the training grid; 1 if the whole layer trains."""
        return self.slices if self.schedule in ("slice", "stream") else 1

    def hold_of(self, step: int) -> int:
        """Number of the hold that contains a step."""
        if self.exchanges is None:
            return hold_at(step, self.hold)
        return hold_of_exchanges(step, self.steps, self.exchanges)

    def training(self, step: int, side: int) -> list[tuple[int, int]]:
        """The slices (j, i) of a grid that train in a step, one after another."""
        if self.schedule != "slice":
            return all_slices(side)
        return slices_at(self.hold_of(step), side, self.visits, self.order)

    def groups(self, step: int) -> list[int]:
        """The groups of output channels of a locally connected layer that train in a step."""
        return [self.hold_of(step) % self.side] if self.schedule == "slice" else list(range(self.side))

    def put_back(self, step: int, new: np.ndarray, old: np.ndarray, *, sides: int = 2) -> None:
        """With schedule ``frozen``, restore the diagonal slice of this step in the new weights from the old ones.

        Locally connected layers are divided along only one of their `sides`, by output channels.
        """
        if self.schedule == "frozen":
            q = frozen_at(self.hold_of(step), self.slices)
            part = tuple(cuts(length, self.slices)[q] for length in new.shape[:sides])
            new[part] = old[part]


def optimizer_of(
    name: str, lr: float, kinds: Mapping[str, Callable[[float], Optimizer]] = OPTIMIZERS
) -> Callable[[], Optimizer]:
    """A function that makes optimizers of a kind; raises ValueError for an unknown name."""
    if name not in kinds:
        raise ValueError(f"there is no optimizer {name!r}: it must be one of {', '.join(kinds)}")
    return lambda: kinds[name](lr)


class Sliced:
    """The optimizers of a dense layer: one per slice of its weights and one per group of its biases.

    Parameters
    ----------
    shape : (O, I)
    side : int
        Slices per side.
    new : callable
        Function that makes an optimizer.
    """

    def __init__(self, shape: tuple[int, int], side: int, new: Callable[[], Optimizer]) -> None:
        self.rows, self.columns = cuts(shape[0], side), cuts(shape[1], side)
        self.of_weights = {part: new() for part in all_slices(side)}
        self.of_biases = [new() for _ in range(side)]

    def step(
        self, W: np.ndarray, b: np.ndarray, dW: np.ndarray, db: np.ndarray, training: Sequence[tuple[int, int]]
    ) -> None:
        """Update the slices that train, in place; biases shared by several of them step once."""
        for j, i in training:
            part = self.rows[j], self.columns[i]
            W[part] = self.of_weights[j, i].step(W[part], dW[part])
        for j in sorted({j for j, _ in training}):
            b[self.rows[j]] = self.of_biases[j].step(b[self.rows[j]], db[self.rows[j]])
