"""Events reported by a training run, and the two ways in which it ends early."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import CheckFailed, TinyFoAError


class Event(NamedTuple):
    """A report from a run; counts start at 0, unused fields are None or 0.

    ``kind`` is ``start``, ``batch``, ``epoch``, ``handover``, ``layer`` or ``done``. ``layer`` counts the stages:
    layers with TinyFoA, otherwise there is only one. ``seconds`` is the time spent on the stage so far, including
    evaluation and commits. The ``note`` of ``start`` describes the tiling chosen to fit a budget.
    """

    kind: str
    layer: int = 0
    epoch: int = 0
    batch: int = 0
    batches: int = 0
    loss: float | None = None
    train_error_pct: float | None = None
    test_error_pct: float | None = None
    seconds: float | None = None
    note: str = ""


def ignored(event: Event) -> None:
    """A listener that shows nothing."""


class Interrupted(TinyFoAError):
    """Training was asked to stop; the run is committed and can be resumed."""

    exit_code = 130


class Diverged(CheckFailed):
    """A loss, a weight or a moment is no longer a finite number; the last commit is kept."""
