"""A finished run's record of its arena, ``audit.json``: reading and consistency checks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ..errors import BadRequest, CheckFailed, OtherNumerics
from ..layers.tiling import Tiling
from ..network import LayerShape, layer_shapes
from ..ram.packing import Plan, Region
from ..ram.phases import PHASES
from ..recipe import Recipe
from ..run.outcome import checked_result
from ..storage.files import read_json


@dataclass(frozen=True)
class Measured:
    """Measurements in bytes, of the whole run or of one layer.

    Attributes
    ----------
    planned, accounted, watermark : int
    phases : dict of str to (int, int)
        Planned and accounted bytes of each phase.
    """

    planned: int
    accounted: int
    watermark: int
    phases: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Measured:
        phases = {
            p: (_count(v["planned_bytes"], least=0), _count(v["accounted_bytes"], least=0))
            for p, v in entry["phases"].items()
        }
        if set(phases) != set(PHASES):
            raise ValueError(f"its phases are {', '.join(phases)}")
        planned, accounted, watermark = (
            _count(entry[f"{what}_bytes"], least=0) for what in ("planned", "accounted", "watermark")
        )
        return cls(planned, accounted, watermark, phases)


@dataclass(frozen=True)
class Record:
    """The record of a run.

    Attributes
    ----------
    recipe : Recipe
    shapes : tuple of LayerShape
    classes, samples, threads : int
        C, training samples, T.
    budget : int or None
        Bytes.
    whole : Measured
    layers : list of Measured
        Measurements of each stage: of each layer, or of the network.
    plans : list of Plan
        Regions and offsets of each stage.
    tilings : list of Tiling or None
        Tiling of each stage; None if not recorded.
    probed : list of bool
        For each stage, whether the probe observed all of its training.
    image : (int, int, int) or None
        Channels, rows and columns, if samples are images.
    findings : list of str
        Findings of the probe; empty if every byte is accounted for.
    beside : dict or None
        Bytes allocated outside the arena, if traced: peak (``peak_bytes``) and largest block (``largest_bytes``), of
        all allocations and of arrays; beside them what describes the network (``described_bytes``), and its limit.
    """

    recipe: Recipe
    shapes: tuple[LayerShape, ...]
    classes: int
    samples: int
    threads: int
    budget: int | None
    whole: Measured
    layers: list[Measured]
    plans: list[Plan]
    tilings: list[Tiling] | None
    probed: list[bool]
    findings: list[str]
    image: tuple[int, int, int] | None = None
    beside: dict[str, int] | None = None

    @property
    def inputs(self) -> int:
        """I: inputs per sample."""
        return self.plans[0].region("inputs").shape[1]

    @property
    def batch(self) -> int:
        """B: samples per batch, at most the size of the data set."""
        return min(self.recipe.batch, self.samples)

    @property
    def largest(self) -> int:
        """The layer with the largest plan, from 0."""
        return max(range(len(self.plans)), key=lambda n: self.plans[n].nbytes)

    @property
    def whole_network(self) -> bool:
        """Whether all layers trained together."""
        return not self.recipe.rule.by_layer

    def where(self, number: int) -> str:
        """The subject of plan ``number`` in words."""
        return "the network" if self.whole_network else f"layer {number + 1}"

    def largest_in(self, phase: str) -> int:
        """The layer that needs most in a phase, from 0."""
        return max(range(len(self.plans)), key=lambda n: self.plans[n].phase_bytes(phase))


def read(run_dir: str | os.PathLike[str]) -> Record:
    """Read the record of a finished run.

    Parameters
    ----------
    run_dir : path

    Raises
    ------
    BadRequest
        If there is none: not a run, or one that has not finished.
    CheckFailed
        If it is not a valid record of a run.
    """
    path = Path(run_dir) / "audit.json"
    if not os.path.lexists(path):
        raise BadRequest(f"{run_dir} has no audit.json: a run writes it when it finishes (tinyfoa train --resume DIR)")
    try:
        written = checked_result(read_json(path))
        recipe = Recipe.from_json(json.dumps(written["recipe"]))
        plans = [_plan(layer["regions"]) for layer in written["layers"]]
        inputs = plans[0].region("inputs").shape[1]
        known = _image(written.get("image"))
        shapes = () if recipe.deep else layer_shapes(recipe.network, inputs, known, recipe.lc_connect)
        stages = len(shapes) if recipe.rule.by_layer else 1
        if len(plans) != stages:
            raise ValueError(f"it has {len(plans)} layers, its network {stages}")
        budget = written["arena"]["budget_bytes"]
        return Record(
            recipe,
            shapes,
            _count(written["classes"], 65536),
            _count(written.get("samples", plans[0].region("labels").shape[0])),
            _count(written["threads"], 65536),
            budget,
            Measured.of(written["arena"]),
            [Measured.of(layer) for layer in written["layers"]],
            plans,
            [_tiling(layer["tiling"]) for layer in written["layers"]] if "tiling" in written["layers"][0] else None,
            [bool(seen) for seen in written.get("probed", [False] * len(plans))],
            [str(line) for line in written["findings"]],
            known,
            {name: int(value) for name, value in written["beside"].items()} if written.get("beside") else None,
        )
    except OtherNumerics as error:
        raise OtherNumerics(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration, BadRequest) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckFailed(f"{path} is not the record of a run: {reason}") from error


def _image(written: Any) -> tuple[int, int, int] | None:
    """Channels, rows and columns of the samples, if they are images."""
    if not written:
        return None
    channels, rows, columns = (_count(number, 65536) for number in written)
    return channels, rows, columns


def _count(value: Any, most: int = 2**60, least: int = 1) -> int:
    """An integer from JSON; raises ValueError if it is not one in the given range."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} is not a valid count")
    return value


def _tiling(known: dict[str, Any]) -> Tiling:
    """A tiling from JSON; raises ValueError or TypeError if it is invalid."""
    for name, value in known.items():
        if type(value) is not type(getattr(Tiling(1), name)) or not value >= (type(value) is int):
            raise ValueError(f"{name} is {str(value)[:40]!r}")
    return Tiling(**known)


def _plan(entries: list[dict[str, Any]]) -> Plan:
    for entry in entries:
        for number in (*entry["shape"], entry["offset"]):
            _count(number, least=0)
        words = entry["name"], entry["dtype"], *entry["phases"]
        if not all(isinstance(word, str) and word.isprintable() for word in words) or not entry["phases"]:
            raise ValueError("a region has no name, type or phase")
        if any(phase.partition(":")[0] not in PHASES for phase in entry["phases"]):
            raise ValueError(f"region {entry['name']} lives in phases that there are not")
    regions = tuple(Region(e["name"], tuple(e["shape"]), e["dtype"], tuple(e["phases"])) for e in entries)
    for region, entry in zip(regions, entries, strict=True):
        if region.nbytes != entry["nbytes"]:
            raise ValueError(f"region {region.name} has {region.nbytes} bytes, not {entry['nbytes']}")
    return Plan(regions, {e["name"]: e["offset"] for e in entries})


def disagreements(record: Record) -> list[str]:
    """Failed consistency checks, one line each; empty if all measurements agree."""
    found = []
    for number, (layer, plan) in enumerate(zip(record.layers, record.plans, strict=True)):
        found += [f"{record.where(number)}: {line}" for line in _of_layer(layer, plan)]
    whole = record.whole
    if not whole.planned == whole.accounted == whole.watermark:
        found.append(f"the run: {_three(whole)}")
    for what in ("planned", "accounted", "watermark"):
        said, most = getattr(whole, what), max(getattr(layer, what) for layer in record.layers)
        if said != most:
            found.append(f"the run: {what} {said:,} bytes, but its largest layer {most:,}")
    for phase in PHASES:
        largest = tuple(max(layer.phases[phase][k] for layer in record.layers) for k in (0, 1))
        if whole.phases[phase] != largest:
            found.append(f"the run: {_two(phase, whole.phases[phase])}, but its largest layers {_two(phase, largest)}")
    if record.budget is not None and whole.planned > record.budget:
        found.append(f"the run: planned {whole.planned:,} bytes, but its budget is {record.budget:,}")
    return found + [f"probe: {line}" for line in record.findings]


def _of_layer(layer: Measured, plan: Plan) -> list[str]:
    found = []
    if not layer.planned == layer.accounted == layer.watermark:
        found.append(_three(layer))
    if layer.planned != plan.nbytes:
        found.append(f"planned {layer.planned:,} bytes, but its regions end at {plan.nbytes:,}")
    for phase in PHASES:
        planned, accounted = layer.phases[phase]
        if not planned == accounted == plan.phase_bytes(phase):
            found.append(f"{_two(phase, (planned, accounted))}, its regions {plan.phase_bytes(phase):,}")
    for a, b in combinations(plan.regions, 2):
        begin_a, begin_b = plan.offsets[a.name], plan.offsets[b.name]
        together = any(map(b.lives, a.lifetime)) or any(map(a.lives, b.lifetime))
        if together and begin_a < begin_b + b.nbytes and begin_b < begin_a + a.nbytes:
            found.append(f"regions {a.name} and {b.name} share bytes while both live")
    return found


def _three(measured: Measured) -> str:
    return f"planned {measured.planned:,}, accounted {measured.accounted:,}, watermark {measured.watermark:,} bytes"


def _two(phase: str, pair: tuple[int, ...]) -> str:
    return f"{phase}: planned {pair[0]:,}, accounted {pair[1]:,} bytes"
