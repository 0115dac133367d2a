"""Results of a run as stored in its directory: epochs in ``metrics.jsonl``, the result in ``audit.json``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from ..ram.phases import PHASES
from ..recipe import Recipe
from ..storage.files import parse_json

if TYPE_CHECKING:
    from ..layers.tiling import Tiling
    from ..ram.arena import Arena
    from .train import _Run as Run

#: maximum length of a line in bytes
LINE_LIMIT = 1 << 12
_LARGEST = 2**40


class Epoch(NamedTuple):
    """An epoch of a layer, both from 0; layer 0 if the network trains as a whole. Errors in %."""

    layer: int
    epoch: int
    loss: float
    train_error_pct: float
    test_error_pct: float | None
    seconds: float


def epoch_of(line: bytes) -> Epoch:
    """Parse the epoch in a line; raises ValueError or TypeError if it is invalid."""
    row = Epoch(**parse_json(line))
    numbers = row.loss, row.train_error_pct, row.seconds, *(() if row.test_error_pct is None else (row.test_error_pct,))
    if not all(map(_is_count, row[:2])):
        raise ValueError(f"a row is of layer {str(row.layer)[:40]!r}, epoch {str(row.epoch)[:40]!r}")
    if not all(map(_is_number, numbers)):
        raise ValueError(f"the row of layer {row.layer}, epoch {row.epoch} holds a value that is not at least 0")
    return row


def checked_result(known: Any) -> dict[str, Any]:
    """Validate a result of :func:`tinyfoa_np.run.train.train` from JSON; complete its recipe.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError, BadRequest
        If it is not a result of training.
    """
    recipe = Recipe.from_json(json.dumps(known["recipe"])).validated()
    arena, flash, errors = known["arena"], known["flash"], (known["error_pct"], *known["layer_errors_pct"])
    counts = [arena[f"{kind}_bytes"] for kind in ("planned", "accounted", "watermark")]
    counts += [flash[name] for name in ("bytes", "read_bytes", "written_bytes", "exchanges")]
    counts += [] if arena["budget_bytes"] is None else [arena["budget_bytes"]]
    sha256 = known["model_sha256"]
    if not all(map(_is_count, counts)) or not all(map(_is_number, known["seconds_per_epoch"])):
        raise ValueError("its bytes or seconds are not numbers of 0 or more")
    if not all(error is None or _is_number(error) for error in errors) or len(errors) < 2:
        raise ValueError("its errors are no percentages")
    if not isinstance(sha256, str) or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError("its model has no digest")
    return {**known, "recipe": json.loads(recipe.to_json())}


def measured(arena: Arena, tiling: Tiling) -> dict[str, Any]:
    """The bytes of the stage just trained, with its tiling: planned, accounted for, and written."""
    plan = arena.plan
    return {
        "planned_bytes": plan.nbytes,
        "accounted_bytes": arena.accounted,
        "watermark_bytes": arena.watermark(),
        "phases": {p: {"planned_bytes": plan.phase_bytes(p), "accounted_bytes": arena.accounted_in(p)} for p in PHASES},
        "regions": [
            {
                "name": r.name,
                "shape": r.shape,
                "dtype": r.dtype,
                "phases": r.phases,
                "offset": plan.offsets[r.name],
                "nbytes": r.nbytes,
            }
            for r in plan.regions
        ],
        "tiling": {name: value for name, value in asdict(tiling).items() if value or name != "tight"},
    }


def result_of(run: Run) -> dict[str, Any]:
    """The result of :func:`tinyfoa_np.run.train.train` for a run whose stages are all trained."""
    meta = run.meta
    kinds = ("planned_bytes", "accounted_bytes")
    digests = "".join(layer["digest"] for layer in meta["trained"])
    result = {
        "error_pct": meta["errors"][-1],
        "layer_errors_pct": meta["errors"],
        "seconds_per_epoch": [s / max(1, n) for s, n in zip(run.seconds, run.epochs, strict=True)],
        "model_sha256": hashlib.sha256(bytes.fromhex(digests)).hexdigest(),
        "arena": {
            "budget_bytes": run.ram,
            **{k: max(layer[k] for layer in meta["arena"]) for k in (*kinds, "watermark_bytes")},
            "phases": {p: {k: max(m["phases"][p][k] for m in meta["arena"]) for k in kinds} for p in PHASES},
        },
        "flash": {
            "bytes": run.flash.bytes,
            "read_bytes": run.flash.read_bytes,
            "written_bytes": run.flash.written_bytes,
            "exchanges": run.flash.exchanges,
        },
        "run_dir": str(run.directory),
        "recipe": json.loads(run.recipe.to_json()),
    }
    if run.audit:
        result["findings"] = meta["findings"]
        traced = [layer["beside"] for layer in meta["arena"] if layer.get("beside")]
        result["beside"] = {name: max(each[name] for each in traced) for name in traced[0]} if traced else None
    return result


def audit_of(run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """The result with additional data for the audit, as stored in ``audit.json``."""
    about = {
        "classes": run.dataset.classes,
        "samples": run.N,
        "threads": run.threads,
        "image": run.dataset.image,
    }
    known = {name: run.meta[name] for name in ("probed", "findings")}
    return {**result, **about, "layers": run.meta["arena"], **known}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value) and value >= 0
