"""Report on a run's memory: consistency of the measurements, the peak, and a comparison with the paper's figure.

The paper counts less than training needs (see :mod:`.tinyfoa_memory`). For each of its three steps, the report leads
from its figure to ours: all bytes counted by only one of the two are listed in rows with a reason, and the rows add
up.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, pairwise
from typing import Any

from ..errors import CheckFailed
from ..network import TAPS, LayerShape, LocalShape
from ..papers import tinyfoa_memory as paper
from ..ram.packing import Plan, Region
from ..ram.phases import PHASES
from .record import Measured, Record, disagreements, read

#: description of each region, and the paper's counterpart by step; names without layer numbers
_OURS: dict[str, tuple[str, dict[str, str]]] = {
    "weights": ("{weights}", {"forward": "weights", "gradient": "weights"}),
    "bias": ("all biases, float32, always", {step: "biases" for step in paper.STEPS}),
    "slice": ("weights of {trained}", {"update": "weights"}),
    "moment1": ("optimizer's moments of {moments}", {}),
    "moment2": ("optimizer's moments of {moments}", {}),
    "unit1": ("optimizer's moments of {moments}", {}),
    "unit2": ("optimizer's moments of {moments}", {}),
    "bias_moment1": ("optimizer's moments of the {slice}'s biases", {}),
    "bias_moment2": ("optimizer's moments of the {slice}'s biases", {}),
    "gradient": ("weight gradient: in runs, never stored whole", {"gradient": "gradients", "update": "gradients"}),
    "sums": ("weight gradients, added up over micro-batches", {"gradient": "gradients", "update": "gradients"}),
    "bias_sums": ("bias gradients, added up over micro-batches", {}),
    "inputs": ("inputs: {held}", {"forward": "inputs", "gradient": "inputs"}),
    "gathered": ("inputs: the columns that train, kept for the batch", {"gradient": "inputs"}),
    "h": ("activations: {held}", {"forward": "activations", "gradient": "activations"}),
    "x": ("inputs with labels, normalized, for {samples}", {}),
    "modulated": ("modulated inputs, for {samples}", {}),
    "feature": ("features for the classifier, for {samples}", {}),
    "feature_error": ("errors of the features, for {samples}", {}),
    "z": ("outputs: z of {tile} neurons at a time, for {samples}", {"forward": "outputs"}),
    "active": ("outputs: which are on, for {together}", {"gradient": "outputs"}),
    "mask": ("dropout masks of {samples}", {}),
    "projection": ("{projection}", {}),
    "feedback": ("fixed projections", {}),
    "mean": ("running mean activities", {}),
    "labels": ("labels", {}),
    "wrong": ("labels", {}),
    "guess": ("labels", {}),
    "input_scale": ("scale of the inputs", {}),
    "scratch": ("scratch of the products", {}),
    "product_scratch": ("scratch of the products", {}),
    "backward": ("scratch of the products", {}),
    "logits": ("logits, errors and scores of {together}", {}),
    "error": ("logits, errors and scores of {together}", {}),
    "goodness": ("logits, errors and scores of {together}", {}),
    "coefficient": ("logits, errors and scores of {together}", {}),
    "scores": ("logits, errors and scores of {together}", {}),
    "factor": ("logits, errors and scores of {together}", {}),
    "feature_factor": ("logits, errors and scores of {together}", {}),
    "dh": ("errors at one layer's outputs, for {samples}", {}),
    "dz": ("dz of the neurons that each thread is at, and their samples", {}),
    "listed": ("dz of the neurons that each thread is at, and their samples", {}),
    "turned": ("bits of a slice's inputs, four samples to a step", {}),
    "errors": ("dz of two layers, for {samples}", {}),
    "patch": ("patches around the position that each thread is at, for {samples}", {}),
    "u": ("outputs: u at {positions}, for {samples}", {"forward": "outputs", "gradient": "outputs"}),
    "v": ("outputs: v at one position, for {samples}", {}),
    "dv": ("dz of the neurons that each thread is at, and their samples", {}),
    "norm": ("batch norm's statistics and sums", {}),
    "running": ("batch norm's statistics and sums", {}),
    "totals": ("batch norm's statistics and sums", {}),
    "place_sums": ("batch norm's statistics and sums", {}),
    "head_bias": ("{projection}", {}),
    "abs_r": ("loss, and exact sums of |z| and |W|", {}),
    "result": ("loss, and exact sums of |z| and |W|", {}),
    "abs_z": ("loss, and exact sums of |z| and |W|", {}),
    "abs_w": ("loss, and exact sums of |z| and |W|", {}),
}
#: quantities counted only by the paper
_THEIRS = {
    "gradients": _OURS["gradient"][0],
    "bias gradients": "gradients of the slice's biases: never stored",
    "biases": "biases: the published code has none",
    "outputs": "outputs: made again, or bits of z",
}
#: regions that occur several times: two used alternately, or one per layer
_TURNS = {
    "h_even": "h",
    "h_odd": "h",
    "factor_even": "factor",
    "factor_odd": "factor",
    "dz_even": "errors",
    "dz_odd": "errors",
}


def kind_of(name: str) -> str:
    """Kind of a region regardless of its layer: ``layer3.moment1`` is ``moment1``, ``active2`` is ``active``."""
    name = name.rpartition(".")[2]
    return name if name in _OURS else _TURNS.get(name) or name.rstrip("0123456789")


def audit(run_dir: str | os.PathLike[str], evidence: bool = False) -> dict[str, Any]:
    """Report the memory use of a finished run, and whether all measurements agree.

    Parameters
    ----------
    run_dir : path
    evidence : bool
        Also run a short training in a new process, observed from outside (:mod:`tinyfoa_np.reports.evidence`).

    Returns
    -------
    dict
        ``ok`` and ``problems``, one line per disagreement; ``run``; ``whole_network``, whether all layers trained
        together, which then count as one layer below; ``arena``: budget, planned, accounted and watermark; ``phases``,
        the same per phase; ``peak``: layer, phase and the regions there; ``paper``: the steps of :func:`compare`;
        ``probe``; ``beside``: allocations of Python, NumPy and numba outside the arena, if traced; ``layers`` with all
        their regions; ``evidence``, None if not requested. Bytes throughout, layers from 1.

    Raises
    ------
    BadRequest
        If the run has not finished.
    CheckFailed
        If its record is damaged, or the new process ends without a result.
    """
    run = read(run_dir)
    problems = disagreements(run)
    outside = None
    if evidence:
        from .evidence import gather

        outside = gather(run_dir)
        problems += [f"in a fresh process: {line}" for line in outside["problems"]]
    return {
        "ok": not problems,
        "problems": problems,
        "run": {"run_dir": str(run_dir), **asdict(run.recipe)},
        "arena": {"budget_bytes": run.budget, **_three(run.whole)},
        "whole_network": run.whole_network,
        "phases": {p: {**_two(run.whole, p), "layer": run.largest_in(p) + 1} for p in PHASES},
        "peak": peak(run.plans),
        "paper": compare(run),
        "probe": {"layers": [n + 1 for n, seen in enumerate(run.probed) if seen], "findings": run.findings},
        "beside": run.beside,
        "layers": [
            {**_three(layer), "phases": {p: _two(layer, p) for p in PHASES}, "regions": _table(plan, plan.regions)}
            for layer, plan in zip(run.layers, run.plans, strict=True)
        ],
        "evidence": outside,
    }


def peak(plans: Sequence[Plan]) -> dict[str, Any]:
    """The peak phase of the largest plan, its regions, and the unused bytes between and after them."""
    largest = max(range(len(plans)), key=lambda n: plans[n].nbytes)
    plan = plans[largest]
    phase = max(PHASES, key=plan.phase_bytes)
    step = plan.peak_step(phase)
    regions = [r for r in plan.regions if r.lives(step)]
    return {
        "layer": largest + 1,
        "phase": phase,
        "planned_bytes": plan.nbytes,
        "regions": _table(plan, regions),
        "regions_bytes": sum(r.nbytes for r in regions),
        "between_bytes": plan.nbytes - sum(r.nbytes for r in regions),
    }


def compare(run: Record) -> dict[str, dict[str, Any]]:
    """Derive our figure from the paper's, for each of its steps.

    Parameters
    ----------
    run : Record

    Returns
    -------
    dict of str to dict
        For each of :data:`.tinyfoa_memory.STEPS`: ``layer``, the one with the largest need (from 1); ``paper_bytes``
        and ``paper_mb``; ``planned_bytes`` and ``accounted_bytes`` of the phase; ``rows`` of ``what``,
        ``paper_bytes``, ``bytes`` and ``difference_bytes``. The paper's figure plus all differences is the planned
        figure.

    Raises
    ------
    CheckFailed
        If a layer lacks regions that its recipe needs.
    """
    counted = run.recipe.rule.paper == "tinyfoa_memory" and not run.recipe.deep
    try:
        return {step: _compared(run, step) for step in (paper.STEPS if counted else ())}
    except (StopIteration, LookupError, ArithmeticError, TypeError, ValueError) as error:
        raise CheckFailed("audit.json is not the record of a run: its layers lack regions of its recipe") from error


def _compared(run: Record, step: str) -> dict[str, Any]:
    """One step of :func:`compare`."""
    number = run.largest_in(step)
    figure, own, instead = _figures(run, number, step)
    rows = _rows(step, own, run.plans[number], _words(run, number))
    if instead:
        rows.insert(0, _row(instead, sum(figure.values()), sum(own.values())))
    return {
        "layer": number + 1,
        "paper_bytes": sum(figure.values()),
        "paper_mb": paper.megabytes(figure),
        **_two(run.whole, step),
        "rows": rows,
    }


def _figures(run: Record, number: int, step: str) -> tuple[dict[str, int], dict[str, int], str]:
    """The paper's figures in a step; the same for plan ``number``'s own layer, with a note if that is another one."""
    recipe, widths = run.recipe, [shape.outputs for shape in run.shapes]
    toggles = {"binary_weights": recipe.binary_weights, "binary_activations": recipe.binary_activations}
    slices = recipe.slices or 1
    if isinstance(shape := run.shapes[number], LocalShape):
        of = _network_figures if run.whole_network else _local_figures
        return of(run.shapes, shape, number, step, {**toggles, "slices": slices})
    # a network with one layer has no matrix between hidden layers: its only matrix is used
    if run.whole_network:
        counted = widths if len(widths) > 1 else [run.shapes[0].inputs, *widths]
        figure = paper.fully_connected(recipe.algorithm, counted, **toggles, slices=slices)[step]
        return figure, figure, ""
    pairs = list(pairwise(widths)) or [(run.shapes[0].inputs, run.shapes[0].outputs)]
    largest = max(pairs, key=lambda pair: pair[0] * pair[1])
    figure = paper.tinyfoa_layer(*largest, **toggles, slices=slices)[step]
    own = paper.tinyfoa_layer(shape.inputs, shape.outputs, **toggles, slices=slices)[step]
    if largest == (shape.inputs, shape.outputs):
        return figure, own, ""
    instead = f"layer {number + 1}, {shape.inputs} to {shape.outputs}, instead of {largest[0]} to {largest[1]}"
    return figure, own, instead


def _local_figures(
    shapes: Sequence[LayerShape], own: LocalShape, number: int, step: str, counted: dict[str, Any]
) -> tuple[dict[str, int], dict[str, int], str]:
    # the paper counts one input channel per weight, whatever a layer reads
    pairs = [(s.below, s.channels) for s in (shapes[1:] or shapes) if isinstance(s, LocalShape)]
    largest = max(pairs, key=lambda pair: (pair[1], pair[0]))
    figure = paper.local_layer(*largest, positions=own.places, taps=TAPS, **counted)[step]
    ours = paper.local_layer(own.below, own.channels, positions=own.places, taps=own.fan_in, **counted)[step]
    same = largest == (own.below, own.channels)
    differs = [] if same else [f"layer {number + 1}, {own.below} to {own.channels} channels"]
    if own.fan_in > TAPS:
        differs.append(f"weights for all {own.below} input channels, the paper counts one")
    return figure, ours, "; ".join(differs)


def _network_figures(
    shapes: Sequence[LayerShape], own: LocalShape, number: int, step: str, counted: dict[str, Any]
) -> tuple[dict[str, int], dict[str, int], str]:
    # like _local_figures, for a network whose layers train together
    outputs = sum(s.outputs for s in shapes)
    weights = sum(s.outputs * s.fan_in for s in shapes if isinstance(s, LocalShape))
    figure = paper.local_network(outputs * TAPS, outputs, **counted)[step]
    ours = paper.local_network(weights, outputs, **counted)[step]
    return figure, ours, "weights for all input channels, the paper counts one" if figure != ours else ""


def _words(run: Record, number: int) -> dict[str, Any]:
    """Values of the placeholders in :data:`_OURS` for plan ``number``.

    Weights and projections that are not kept while a batch loads are read from flash or regenerated, tile by tile.
    """
    recipe, plan, shape = run.recipe, run.plans[number], run.shapes[number]
    local = isinstance(shape, LocalShape)
    tiles = {kind_of(r.name): r for r in plan.regions if "load" not in r.lifetime}
    part = {"frozen": "layer", "none": "network", "stream": "slice", "slice": "slice"}[recipe.schedule]
    weights = "signs of all weights, always" if recipe.binary_weights else "a float32 copy of all weights, always"
    if "weights" in tiles:
        panels = tiles["weights"].shape
        neurons = min(shape.outputs, 8 * panels[0]) if recipe.binary_weights and not local else panels[0]
        what = "positions" if local else "neurons"
        weights = f"{'packed signs' if recipe.binary_weights else 'float32 weights'} of {neurons} {what} at a time"
    trained, moments = f"the {part} in training, always", f"the {part}'s weights"
    if "slice" in tiles:
        width = -(-shape.inputs // (recipe.slices or 1)) if part == "slice" else shape.inputs
        rows = "rows"
        if isinstance(shape, LocalShape):
            channels = -(-shape.channels // (recipe.slices or 1)) if part == "slice" else shape.channels
            width, rows = channels * shape.fan_in, "positions"
        trained = moments = f"{tiles['slice'].shape[0] // width} {rows} of the {part} at a time"
    projection = "fixed projection"
    if "projection" in tiles:
        projection += f", regenerated for {tiles['projection'].shape[0]} neurons at a time"
    held = plan.region("inputs").shape[0]
    micro, count = held < run.batch, "one sample" if held == 1 else f"{held} samples"
    inputs = f"{count} at a time" if micro else f"a batch of {held}"
    return {
        "weights": weights,
        "trained": trained,
        "moments": moments,
        "slice": part,
        "projection": projection,
        "positions": _positions(plan) if local else "",
        "tile": 0 if local else plan.region("z").shape[0],
        "held": inputs + (", not one sample" if held > 1 else ""),
        "samples": count if micro else "the batch",
        # TinyFoA collects these over the micro-batches of a batch
        "together": count if micro and run.whole_network else "the batch",
    }


def _positions(plan: Plan) -> str:
    """Number of positions for which u is held, in a locally connected layer."""
    u = next(region for region in plan.regions if kind_of(region.name) == "u")
    return f"{u.shape[0]} positions" + ("" if "gradient" in u.lifetime else " at a time")


def cut(run: Record, number: int) -> str:
    """Describe the tiling of plan ``number`` in words; empty if the run did not record it."""
    if not run.tilings:
        return ""
    if run.recipe.deep:
        return run.tilings[number].described(run.batch, 1, 1)
    shape, outputs = run.shapes[number], run.shapes[number].outputs
    if isinstance(shape, LocalShape):
        return run.tilings[number].described(run.batch, shape.places, shape.places, True)
    rows = -(-outputs // (run.recipe.slices or 1)) if run.recipe.schedule in ("slice", "stream") else outputs
    return run.tilings[number].described(run.batch, outputs, rows)


def _rows(step: str, figure: dict[str, int], plan: Plan, words: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the paper's figures for a layer with its regions in a phase; the rows sum up to the difference."""
    regions = [r for r in plan.regions if step in r.lifetime]
    # if nothing else holds the weights, the passes read the slice itself
    read = "weights" if any(kind_of(r.name) == "weights" for r in plan.regions) else "slice"
    left = dict(figure)
    rows: dict[str, tuple[int, int]] = {}
    for region in regions:
        kind = kind_of(region.name)
        what, counted = _OURS.get(kind, (f"region {region.name}", {}))
        item = counted.get(step, "weights" if kind == read and step in ("forward", "gradient") else "")
        what = what.format(**words)
        theirs = left.pop(item, 0)
        before = rows.get(what, (0, 0))
        rows[what] = (before[0] + theirs, before[1] + region.nbytes)
    for item, theirs in left.items():
        what = _THEIRS.get(item, item)
        before = rows.get(what, (0, 0))
        rows[what] = (before[0] + theirs, before[1])
    rows["alignment to 64 bytes"] = (0, plan.most_bytes(step, regions) - sum(r.nbytes for r in regions))
    return [_row(what, *both) for what, both in rows.items()]


def _row(what: str, theirs: int, ours: int) -> dict[str, Any]:
    return {"what": what, "paper_bytes": theirs, "bytes": ours, "difference_bytes": ours - theirs}


def _three(measured: Measured) -> dict[str, int]:
    return {f"{what}_bytes": getattr(measured, what) for what in ("planned", "accounted", "watermark")}


def _two(measured: Measured, phase: str) -> dict[str, int]:
    planned, accounted = measured.phases[phase]
    return {"planned_bytes": planned, "accounted_bytes": accounted}


def _table(plan: Plan, regions: list[Region] | tuple[Region, ...]) -> list[dict[str, Any]]:
    """Regions, largest first."""
    return [
        {
            "name": r.name,
            "shape": list(r.shape),
            "dtype": r.dtype,
            "bytes": r.nbytes,
            "offset": plan.offsets[r.name],
            "phases": [phase for phase in PHASES if phase in r.within],
        }
        for r in sorted(regions, key=lambda r: -r.nbytes)
    ]


def by_step(compared: dict[str, dict[str, Any]]) -> list[tuple[str, list[int]]]:
    """The rows of :func:`compare` side by side: description, and difference in bytes per step; largest first."""
    names = dict.fromkeys(row["what"] for row in chain.from_iterable(s["rows"] for s in compared.values()))
    table = []
    for what in names:
        found = [[row["difference_bytes"] for row in s["rows"] if row["what"] == what] for s in compared.values()]
        table.append((what, [sum(differences) for differences in found]))
    table.sort(key=lambda row: -max(map(abs, row[1])))
    return [row for row in table if any(row[1])]
