"""What a training run says as it goes, and the two ways in which it ends early."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import CheckFailed, TinyFoAError


class Event(NamedTuple):
    """What a run reports as it goes; counts are from 0, fields that say nothing are None or 0.

    ``kind`` is ``start``, ``batch``, ``epoch``, ``handover``, ``layer`` or ``done``; ``layer`` counts what trains
    together: layers with TinyFoA, else there is but one. ``seconds`` are those spent on it so far, evaluation and
    commits included. The ``note`` of ``start`` says how the training was cut to fit a budget.
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


class Interrupted(TinyFoAError):
    """Training was asked to stop; the run is committed and can be resumed."""

    exit_code = 130


class Diverged(CheckFailed):
    """A loss, a weight or a moment is no finite number any more; the last commit is kept."""
