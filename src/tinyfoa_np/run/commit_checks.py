"""Validate the content of a commit against what this recipe and these samples allow.

A run directory may come from a stranger, with correct checksums. Kernels trust sizes, labels and positions, so each of
them is compared, before anything is allocated or trained, with what a run of this recipe would have written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from ..errors import CheckFailed
from ..layers.encoding import Encoding
from ..layers.state import plain
from ..ram.phases import PHASES
from ..recipe import Recipe
from ..rules.stage import Stage
from ..storage.flash import Flash
from ..storage.records import Records
from ..storage.sizes import Sizes

Objects = Mapping[str, tuple[Sizes, int]]  # name to the sizes of items, and slots
STAGES = ("start", "train", "hand-over")
_LARGEST = 2**60
_SIZES = ("planned_bytes", "accounted_bytes", "watermark_bytes")


class Refused(ValueError):
    """A commit contains impossible values."""


def position(meta: dict[str, Any]) -> int:
    """Number of trained stages; raises as :func:`check_position`."""
    return _count(meta, "layer")


def check_position(meta: dict[str, Any], stages: int, epochs: int, records: Records) -> None:
    """Check the position of the run and the types of all stored values, before planning.

    Raises
    ------
    Refused, KeyError, TypeError
        If anything differs from what training writes.
    """
    budget, layer = meta["ram"], _count(meta, "layer", stages)
    if budget is not None and not _is_count(budget) or type(meta["lean"]) is not bool or meta["stage"] not in STAGES:
        raise Refused("its budget, lean or stage")
    if layer == stages and meta["stage"] != "start":
        raise Refused("its stage")
    first, last, epoch = _count(meta, "first"), _count(meta, "last"), _count(meta, "epoch")
    if not first < last or (first == 0 and last not in (1, epochs)) or (first and last != first + 1):
        raise Refused("its epochs")
    batch, seen, wrong = (_count(meta, name) for name in ("batch", "seen", "wrong"))
    _count(meta, "metrics_lines")
    trains = meta["stage"] == "train"
    if trains and not (first <= epoch <= last and batch <= records.batches and (epoch < last or not batch)):
        raise Refused("its epoch or batch")
    if trains and seen != min(batch * records.batch, records.samples) or wrong > seen or not _is_number(meta["loss"]):
        raise Refused("the samples that it has seen")
    mark = meta.get("watermark", [0, 0])
    if len(mark) != 2 or not all(map(_is_count, mark)) or mark[1] > mark[0]:
        raise Refused("its watermark")
    for name, test in (("errors", _is_error), ("arena", _is_measured), ("probed", _is_flag)):
        if not isinstance(meta[name], list) or len(meta[name]) != layer or not all(map(test, meta[name])):
            raise Refused(f"its {name}")
    if not all(isinstance(meta[name], list) for name in ("findings", "trained", "states")):
        raise Refused("what it has found and trained")
    if not all(isinstance(line, str) for line in meta["findings"]):
        raise Refused("its findings")
    if not all(map(_is_trained, meta["trained"])) or len(meta["states"]) not in range(layer, stages + 1):
        raise Refused("what it has trained")


def check_states(meta: dict[str, Any], stages: Sequence[Stage]) -> None:
    """Check the state of stages outside the arena; raises as :func:`check_position`."""
    layer = meta["layer"]
    if len(meta["trained"]) != sum(len(stage.layers) for stage in stages[:layer]):
        raise Refused("what it has trained")
    for stage, state in zip(stages, meta["states"], strict=False):
        if not alike(plain(stage.state), state):
            raise Refused("the state of a trained stage")
    if meta["stage"] == "start":
        if meta["state"] is not None:
            raise Refused("its state")
    elif not alike(plain(stages[layer].state), meta["state"]):
        raise Refused("the state of the stage in training")


def check_objects(
    meta: dict[str, Any],
    objects: Objects,
    stages: Sequence[Stage],
    outputs: Sequence[Records],
    sets: Sequence[Records],
    recipe: Recipe,
) -> None:
    """Check the objects in flash: each must have the size it has in a run, and those still needed must exist.

    Parameters
    ----------
    outputs : sequence of Records
        Outputs passed from each stage but the last to the next: two per stage.
    sets : sequence of Records
        The samples; missing if a stream was interrupted before it took the next samples.
    """
    layer, begun = meta["layer"], meta["stage"] != "start"
    trained = {layer.name("trained"): (Sizes.of(layer.trained_bytes), 1) for stage in stages for layer in stage.layers}
    training = [{name: (Sizes.of(sizes), 2) for name, sizes in stage.objects().items()} for stage in stages]
    given = {n: (Sizes.of(sizes), 1) for stage in stages[layer:] for n, sizes in stage.given_objects().items()}
    samples = {records.name: (Sizes.of([records.nbytes]), 1) for records in (*sets, *outputs)}
    known = {**samples, **trained, **{name: sizes for one in training for name, sizes in one.items()}}
    known |= given if recipe.start else {}
    for name, layout in objects.items():
        if known.get(name) != layout:
            raise Refused(f"its object {name[:60]!r}")
    if not any(records.name in objects for records in sets):
        if layer < len(stages) or begun:
            raise Refused("its samples")
        return
    needed = [records.name for records in sets]
    needed += [kept.name("trained") for stage in stages[:layer] for kept in stage.layers]
    needed += list(training[layer]) if begun else []
    if layer < len(meta["states"]):  # in a stream, stages continue from the state after the previous samples
        needed += [name for one in training[layer : len(meta["states"])] for name in one]
    if 0 < layer < len(stages) and not recipe.recompute:
        needed += [records.name for records in outputs[2 * (layer - 1) : 2 * layer]]
    for name in needed:
        if name not in objects:
            raise Refused(f"its object {name!r}, which is not there")


def check_samples(flash: Flash, records: Records, inputs: Encoding, classes: int) -> None:
    """Check the samples of an object: labels below C, finite numbers, and zero bits as padding.

    Bytes read here are not counted, as an uninterrupted run would not read them.

    Raises
    ------
    CheckFailed
        If a sample is invalid.
    """
    counted, odd = flash.read_bytes, inputs.width % 64
    labels, scale = np.zeros(records.batch, np.uint16), np.zeros(1, np.float32)
    held = np.zeros((0 if inputs.kind == "bytes" else records.batch, inputs.columns), inputs.dtype)
    for k in range(records.batches):
        n = records.count(k)
        if inputs.kind == "bytes":
            records.read_rest(flash, k, labels, scale)
        else:
            records.read(flash, k, held, labels, scale)
        found = labels[:n].max() >= classes or not np.isfinite(scale).all()
        if inputs.kind == "real":
            found = found or not np.isfinite(held[:n]).all()
        elif inputs.kind == "bits" and odd:
            found = found or (held[:n, -1] >> np.uint64(odd)).any()
        if found:
            raise CheckFailed(f"batch {k + 1} of {records.name} in flash holds what no sample can: the run was altered")
    flash.read_bytes = counted


def alike(template: Any, value: Any) -> bool:
    """Whether a value from JSON has the form of a template: keys, lengths and kinds of numbers. None in the template
    allows None or a count."""
    if isinstance(template, dict):
        return (
            isinstance(value, dict)
            and set(value) == set(template)
            and all(alike(template[name], value[name]) for name in template)
        )
    if isinstance(template, (list, tuple)):
        if not isinstance(value, list) or template and len(value) != len(template):
            return False
        return all(map(alike, template or [0] * len(value), value))
    if isinstance(template, bool):
        return type(value) is bool
    if isinstance(template, int):
        return _is_count(value)
    if isinstance(template, float):
        return _is_number(value)
    return value is None or _is_count(value)


def _count(meta: dict[str, Any], name: str, most: int = _LARGEST) -> int:
    value = meta[name]
    if not _is_count(value) or value > most:
        raise Refused(f"its {name}")
    return int(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_error(value: Any) -> bool:
    return value is None or _is_number(value) and 0 <= value <= 100


def _is_trained(known: Any) -> bool:
    digest = known["digest"]
    right = isinstance(digest, str) and len(digest) == 64 and not set(digest) - set("0123456789abcdef")
    return right and all(_is_number(known[name]) and 0 <= known[name] <= 1e30 for name in ("alpha", "scale"))


def _is_measured(known: Any) -> bool:
    phases = known["phases"]
    return (
        set(phases) == set(PHASES)
        and all(map(_is_count, (known[name] for name in _SIZES)))
        and all(_is_count(phase[name]) for phase in phases.values() for name in _SIZES[:2])
    )
