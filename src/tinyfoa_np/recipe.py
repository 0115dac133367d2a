"""How a network is trained: everything that decides the trained model's bits, and nothing that does not.

Threads, RAM budget, audit mode and commits are no part of a recipe: they change how a run proceeds, never its result.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import BadRequest

ALGORITHMS = ("tinyfoa",)
SCHEDULES = ("auto", "slice", "stream", "frozen")
OPTIMIZERS = ("adam", "momentum", "sgd")
_HOLD = re.compile(r"(\d{1,15})(epochs?)?")


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    Parameters
    ----------
    dataset : str
        Name of a data set.
    network : str
        Layers, see :func:`tinyfoa_np.network.layer_shapes`.
    algorithm : str
        One of :data:`ALGORITHMS`.
    slices : int
        M: the weights of a layer are cut into M x M slices.
    schedule : str
        ``slice``: one slice is resident and trains, for ``hold``; ``stream``: every slice trains in every step, one
        at a time in RAM; ``frozen``: all but a diagonal slice train, as in the authors' scripts; ``auto`` becomes
        ``slice``.
    hold : str
        For how long before the next slice: ``"1epoch"``, ``"3epochs"`` or a number of steps such as ``"50"``.
    exchanges : int or None
        F: instead of ``hold``, move on after k epochs / F epochs, for k = 1, 2, ...
    epochs : int
        Epochs per layer.
    batch : int
        B: samples per step.
    lr : float
        Learning rate.
    optimizer : str
        One of :data:`OPTIMIZERS`.
    binary_weights, binary_activations : bool
    seed : int
        Of every random number, 0 to 2**64 - 1.
    limit : int or None
        Train on the first so many samples only.
    recompute : bool
        Keep no outputs of trained layers in flash; compute them again for every batch.
    """

    dataset: str = "digits"
    network: str = "fc:2000x4"
    algorithm: str = "tinyfoa"
    slices: int = 2
    schedule: str = "auto"
    hold: str | None = None
    exchanges: int | None = None
    epochs: int = 100
    batch: int = 100
    lr: float = 1e-4
    optimizer: str = "adam"
    binary_weights: bool = True
    binary_activations: bool = True
    seed: int = 0
    limit: int | None = None
    recompute: bool = False

    def validated(self) -> Recipe:
        """The same recipe with ``auto`` and defaults resolved.

        Raises
        ------
        BadRequest
            If a value is out of its range or two contradict each other.
        """
        _choice("algorithm", self.algorithm, ALGORITHMS)
        _choice("schedule", self.schedule, SCHEDULES)
        _choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("slices", "epochs", "batch", "exchanges", "limit"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**40:
                raise BadRequest(f"{name} is {_shown(value)}: it must be at least 1, and below 2**40")
        if not 0 < self.lr < 1e30:
            raise BadRequest(f"lr is {_shown(self.lr)}: it must be above 0 and finite")
        if not 0 <= self.seed < 2**64:
            raise BadRequest(f"seed is {_shown(self.seed)}: it must be from 0 to 2**64 - 1")
        if self.batch > 65536:
            raise BadRequest(f"batch is {_shown(self.batch)}: at most 65536")
        schedule = "slice" if self.schedule == "auto" else self.schedule
        if schedule == "frozen" and self.slices == 1:
            raise BadRequest("schedule frozen keeps one diagonal slice still: with 1 slice no weight would train")
        if self.hold is not None and self.exchanges is not None:
            raise BadRequest("hold and exchanges both say when the next slice comes: give one of them")
        if schedule == "stream" and (self.hold is not None or self.exchanges is not None):
            raise BadRequest("schedule stream trains every slice in every step: hold and exchanges have no meaning")
        hold = self.hold
        if schedule != "stream" and hold is None and self.exchanges is None:
            hold = "1epoch"
        if hold is not None:
            match = _HOLD.fullmatch(str(hold))
            if not match or int(match[1]) < 1:
                raise BadRequest(f"hold is {str(hold)[:40]!r}: write '1epoch', '3epochs' or a number of steps")
            hold = str(hold)
        return replace(self, schedule=schedule, hold=hold, lr=float(self.lr))

    def hold_steps(self, batches: int) -> int:
        """Steps for which a slice is held, in a layer whose epoch has ``batches`` steps; 0 if ``exchanges`` decides."""
        match = _HOLD.fullmatch(self.hold or "")
        if not match:
            return 0
        return int(match[1]) * (batches if match[2] else 1)

    def to_json(self) -> str:
        """The recipe as JSON, one key a line."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that :meth:`to_json` wrote.

        Raises
        ------
        BadRequest
            If the text is not such JSON.
        """
        try:
            values = json.loads(text)
            known = {f.name: f for f in fields(cls)}
            if not isinstance(values, dict) or set(values) - set(known):
                raise ValueError(f"unknown keys {sorted(set(values) - set(known))}")
            for name, value in values.items():
                if not _is_of(value, str(known[name].type)):
                    raise ValueError(f"{name} is {value!r}")
            return cls(**values)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadRequest(f"not a recipe: {error}") from error


def _is_of(value: object, kind: str) -> bool:
    kinds: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "None": type(None)}
    return any(isinstance(value, kinds[k]) and (k == "bool" or not isinstance(value, bool)) for k in kind.split(" | "))


def _shown(value: float) -> str:
    """A number for a message: one with more digits than anyone meant is not written out."""
    return str(value) if abs(value) < 1e15 or value != value else "out of range"


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadRequest(f"{name} is {value!r}: it must be one of {', '.join(choices)}")
