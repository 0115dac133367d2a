"""The arena of a run over a training step: the bytes of each region by phase, the peak, and the paper's figures.

The left part has a column per phase and a band per region, at its planned address, over the phases in which its content
must be kept. The right part shows the planned and accounted bytes per phase, the watermark, and the paper's figures.
"""

from __future__ import annotations

import os
from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..errors import BadRequest
from ..ram.packing import Plan, Region
from ..ram.phases import PHASES
from ..reports import audit as report
from ..reports import record
from ..reports.record import Record
from . import canvas, titles

#: phases of a training step in order, and phases that occur once per epoch or layer
STEP, APART = ("load", "forward", "gradient", "update"), ("hand-over", "evaluate", "initialize")
COLUMNS = (*STEP, *APART)
GAP = 0.35  # between the two groups, in columns
#: a budget larger than this multiple of the watermark is named but not drawn
FAR = 1.4
#: categories of regions, with their colours and kinds; any name that contains "moment" is optimizer state
WHAT: dict[str, tuple[str, tuple[str, ...]]] = {
    "weights and signs": (canvas.BLUE, ("weights", "slice", "bias", "running")),
    "optimizer state": (canvas.ORANGE, ("unit1", "unit2")),
    "inputs and labels": (
        canvas.GREEN,
        ("inputs", "input_scale", "gathered", "x", "modulated", "labels", "wrong", "guess"),
    ),
    "activations, logits, errors": (
        canvas.SKY,
        (
            "z",
            "active",
            "mask",
            "h",
            "even",
            "odd",
            "outputs",
            "feature",
            "feature_factor",
            "factor",
            "mean",
            "logits",
            "error",
            "errors",
            "goodness",
            "coefficient",
            "scores",
            "u",
            "v",
            "e",
            "dh",
            "feature_error",
            "latent",
            "latent_error",
            "margin",
            "inverse",
            "sent",
            "signal",
            "top",
            "unused_error",
        ),
    ),
    "projection": (canvas.PURPLE, ("projection", "head_bias", "feedback", "head", "lower_head", "lower_bias")),
    "gradients and scratch": (
        canvas.YELLOW,
        (
            "gradient",
            "head_gradient",
            "sums",
            "bias_sums",
            "dz",
            "listed",
            "turned",
            "scratch",
            "backward",
            "result",
            "abs_z",
            "abs_w",
            "row",
            "commit",
            "panel",
            "run",
            "lost",
            "head_lost",
            "partial",
            "slopes",
            "label_slopes",
            "statistics",
            "squares",
            "patch",
            "product_scratch",
            "dv",
            "norm",
            "totals",
            "place_sums",
            "abs_r",
            "noise",
            "packed",
            "rows_even",
            "rows_odd",
            "size",
        ),
    ),
}
OTHER = "other"
#: colours of the bars
COLOURS = {"planned": canvas.DARK, "accounted": canvas.GREY, "watermark": canvas.VERMILLION, "paper": canvas.BLACK}
#: top and bottom of the axes, in pixels from above
TOP, BOTTOM = 218, 774


class Band(NamedTuple):
    """A region over adjacent phases, from ``first`` to ``last`` (exclusive) of :data:`COLUMNS`."""

    region: Region
    offset: int
    first: int
    last: int


def bands(plan: Plan) -> list[Band]:
    """The bands of a plan: for each region, the runs of columns in which it is live.

    For a phase with steps, the step with the most bytes is drawn.
    """
    found, steps = [], {phase: plan.peak_step(phase) for phase in COLUMNS}
    for region in plan.regions:
        first = None
        for column, phase in enumerate(COLUMNS):
            if first is not None and (not region.lives(steps[phase]) or phase == APART[0]):
                found.append(Band(region, plan.offsets[region.name], first, column))
                first = None
            if first is None and region.lives(steps[phase]):
                first = column
        if first is not None:
            found.append(Band(region, plan.offsets[region.name], first, len(COLUMNS)))
    return found


def what(name: str) -> str:
    """Category of a region, from :data:`WHAT`, by its name."""
    kind = report.kind_of(name)
    if "moment" in kind:
        return "optimizer state"
    return next((of for of, (_, kinds) in WHAT.items() if kind in kinds), OTHER)


def colour(of: str) -> str:
    return WHAT[of][0] if of in WHAT else canvas.GREY


def size(nbytes: int) -> str:
    """Bytes for display: three digits and a unit of 10^3 or 10^6."""
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.3g} {name}" if nbytes < 999.5 * unit else f"{nbytes / unit:,.0f} {name}"
    return f"{nbytes} B"


def collected(names: list[str]) -> list[str]:
    """Names of regions for a legend; regions that occur in several layers are listed once, with their number."""
    alike = defaultdict(list)
    for name in names:
        kind = report.kind_of(name)
        alike[kind if kind in name else name].append(name)  # dz_even and dz_odd are both called errors
    return [same[0] if len(same) == 1 else f"{kind} ({len(same)})" for kind, same in alike.items()]


def figure(run_dir: str | os.PathLike[str], layer: int | None = None) -> Figure:
    """The picture of a finished run's arena.

    Parameters
    ----------
    run_dir : path
    layer : int, optional
        From 1; by default the layer with the largest arena.

    Raises
    ------
    BadRequest
        If the run has not finished, or there is no such layer.
    CheckFailed
        If its record is damaged.
    """
    run = record.read(run_dir)
    if layer is None:
        return drawn(run, run.largest)
    if run.whole_network and len(run.shapes) != 1:
        raise BadRequest(f"layer {layer} has no arena of its own: {run.recipe.algorithm} trains all layers together")
    if not 1 <= layer <= len(run.plans):
        raise BadRequest(f"the run has no layer {layer}: its layers are 1 to {len(run.plans)}")
    return drawn(run, layer - 1)


def drawn(run: Record, number: int) -> Figure:
    """The picture of plan ``number`` of a run."""
    picture, sheet = canvas.blank()
    _titles(sheet, run, number)
    unnamed = _occupancy(canvas.frame(picture, 155, TOP, 1035, BOTTOM), sheet, run, number)
    _columns(canvas.frame(picture, 1170, TOP, 1575, BOTTOM), sheet, run, number)
    _legend(sheet, run.plans[number], unnamed)
    return picture


def _titles(sheet: Axes, run: Record, number: int) -> None:
    """Draw the recipe in words, the content of the picture, and the tiling."""
    plan, layers = run.plans[number], len(run.shapes)
    whose = "all layers"
    if not run.whole_network:
        whose = f"layer {number + 1} of {layers}, {run.shapes[number].inputs} to {run.shapes[number].outputs}"
    largest = ", the largest" if layers > 1 and number == run.largest and not run.whole_network else ""
    sentences = f"RAM of {whose}{largest}: {plan.nbytes:,} bytes. "
    if run.tilings:
        sentences += f"{'Without a' if run.budget is None else 'Within the'} budget: {report.cut(run, number)}."
    titles.write(sheet, run.recipe, layers, sentences)


# -- bytes of regions by phase -------------------------------------------------------------------------------------


def _left(column: int) -> float:
    """Left edge of a column, in columns including the gap."""
    return column + (GAP if column >= len(STEP) else 0)


def _occupancy(axes: Axes, sheet: Axes, run: Record, number: int) -> list[str]:
    """Draw bands over phases, the peak, the watermark and the budget; return the regions too small to be named."""
    plan, watermark, budget = run.plans[number], run.layers[number].watermark, run.budget
    near = budget is not None and budget <= FAR * max(watermark, plan.nbytes)
    highest = max(plan.nbytes, watermark, budget if near and budget else 0)
    axes.set(xlim=(0, _left(len(COLUMNS) - 1) + 1), ylim=(0, 1.02 * highest))
    axes.set_ylabel("address, bytes", fontsize=canvas.NORMAL)
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xticks([_left(n) + 0.5 for n in range(len(COLUMNS))], COLUMNS)
    axes.tick_params(axis="x", length=0, labelsize=canvas.NORMAL)
    axes.tick_params(axis="y", labelsize=canvas.SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    for column in range(1, len(COLUMNS)):
        axes.axvline(_left(column), color=canvas.GREY, linewidth=0.8, zorder=0)
    box = axes.get_window_extent()
    wide, high = box.width / axes.get_xlim()[1], box.height / axes.get_ylim()[1]  # pixels per column, and per byte
    peak = max(PHASES, key=plan.phase_bytes)
    frame = _left(COLUMNS.index(peak)), _left(COLUMNS.index(peak)) + 1
    named = set()
    for band in bands(plan):
        left, right, nbytes = _left(band.first), _left(band.last - 1) + 1, band.region.nbytes
        of = what(band.region.name)
        outline = canvas.BLACK if nbytes * high > 4 else "none"  # the outline must not hide a thin band
        axes.add_patch(
            Rectangle((left, band.offset), right - left, nbytes, facecolor=colour(of), edgecolor=outline, linewidth=0.6)
        )
        edges = [left, *(edge for edge in frame if left < edge < right), right]  # names must not cross the peak's frame
        if label := _label(sheet, band, list(pairwise(edges)), wide, nbytes * high - 2):
            ink = "white" if colour(of) == canvas.BLUE else canvas.BLACK
            axes.text(*label, color=ink, fontsize=canvas.SMALL, ha="center", va="center")
            named.add(band.region.name)
    _lines(axes, sheet, watermark, budget, near)
    _peak(axes, sheet, plan, peak)
    for first, last, text in ((0, 3, "one training step"), (4, 6, "once an epoch or a layer")):
        begin, end = (box.x0 + wide * edge for edge in (_left(first) + 0.05, _left(last) + 0.95))
        sheet.plot((begin, end), (BOTTOM + 34, BOTTOM + 34), color=canvas.DARK, linewidth=1)
        middle = (begin + end) / 2
        sheet.text(middle, BOTTOM + 49, text, color=canvas.DARK, fontsize=canvas.SMALL, ha="center", va="center")
    return [region.name for region in plan.regions if region.name not in named]


def _label(
    sheet: Axes, band: Band, pieces: list[tuple[float, float]], wide: float, room: float
) -> tuple[float, float, str] | None:
    """Position of a band's name, and its size if there is room, in the widest of the band's pieces."""
    name, nbytes = band.region.name, size(band.region.nbytes)
    for texts in ((f"{name}  {nbytes}", f"{name}\n{nbytes}"), (name,)):
        for left, right in sorted(pieces, key=lambda piece: piece[0] - piece[1]):
            for text in texts:
                across, up = canvas.measured(sheet, text, fontsize=canvas.SMALL)
                if across <= (right - left) * wide - 8 and up <= room:
                    return (left + right) / 2, band.offset + band.region.nbytes / 2, text
    return None


def _lines(axes: Axes, sheet: Axes, watermark: int, budget: int | None, near: bool) -> None:
    """Draw the watermark, and the budget if there is one, with their names above, in free space."""
    axes.axhline(watermark, color=canvas.VERMILLION, linewidth=2.5)
    x = canvas.key(sheet, 155, TOP - 70, "line", canvas.VERMILLION, f"watermark {watermark:,} bytes")
    if budget is not None:
        if near:
            axes.axhline(budget, color=canvas.BLACK, linewidth=2, linestyle="--")
        text = f"budget {budget:,} bytes{'' if near else ', far above'}"
        canvas.key(sheet, x, TOP - 70, "dashes", canvas.BLACK, text)


def _peak(axes: Axes, sheet: Axes, plan: Plan, phase: str) -> None:
    """Draw a frame around the column of the peak phase, with its bytes above."""
    column, box = _left(COLUMNS.index(phase)), axes.get_window_extent()
    frame = Rectangle((column, 0), 1, axes.get_ylim()[1], fill=False, edgecolor=canvas.BLACK, linewidth=3, zorder=4)
    axes.add_patch(frame)
    frame.set_clip_on(False)
    middle = box.x0 + (column + 0.5) * box.width / axes.get_xlim()[1]
    sheet.plot(middle, TOP - 10, "v", color=canvas.BLACK, markersize=10)
    nbytes = plan.phase_bytes(phase)
    label = sheet.text(middle, TOP - 33, f"peak: {phase}, {nbytes:,} bytes", ha="center", va="center")
    half = canvas.extent(label)[0] / 2
    label.set_x(min(max(middle, box.x0 + half), box.x1 - half))


# -- amounts, compared with the paper ------------------------------------------------------------------------------


def _columns(axes: Axes, sheet: Axes, run: Record, number: int) -> None:
    """Draw planned and accounted bytes by phase and in total, the watermark, and the paper's figures, if any."""
    layer, compared = run.layers[number], report.compare(run)
    rows: dict[str, list[tuple[str, int]]] = {}
    for phase in COLUMNS:
        rows[phase] = list(zip(("planned", "accounted"), layer.phases[phase], strict=True))
        rows[phase] += [("paper", compared[phase]["paper_bytes"])] if phase in compared else []
    rows["the arena"] = [(kind, getattr(layer, kind)) for kind in ("planned", "accounted", "watermark")]
    values = [nbytes for row in rows.values() for _, nbytes in row]
    unit, name = (10**6, "MB") if max(values) >= 10**6 else (10**3, "kB")
    box = axes.get_window_extent()
    behind = 24 + max(canvas.measured(sheet, _number(nbytes / unit), fontsize=canvas.SMALL)[0] for nbytes in values)
    axes.set(xlim=(0, max(values) / unit * box.width / (box.width - behind)), ylim=(len(rows), 0))
    for n, row in enumerate(rows.values()):
        for line, (kind, nbytes) in enumerate(row):
            y, value = n + (line + 0.85) / 3.7, nbytes / unit
            if kind == "paper":
                axes.plot(value, y, "D", color=COLOURS[kind], markersize=9, markeredgecolor="white", clip_on=False)
            else:
                axes.barh(y, value, 0.25, color=COLOURS[kind])
            after = (11 if kind == "paper" else 5, 0)
            axes.annotate(
                _number(value), (value, y), after, textcoords="offset points", fontsize=canvas.SMALL, va="center"
            )
    axes.set_yticks([n + 0.5 for n in range(len(rows))], list(rows), fontsize=canvas.NORMAL)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=canvas.SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.spines[["top", "right"]].set_visible(False)
    for n in range(1, len(rows)):
        axes.axhline(n, color=canvas.GREY, linewidth=0.8, zorder=0)
    left = box.x0 - 100
    sheet.text(left, TOP - 70, f"{name} by phase", fontsize=canvas.NORMAL, va="center")
    x = canvas.key(sheet, left, TOP - 44, "box", COLOURS["planned"], "planned")
    canvas.key(sheet, x, TOP - 44, "box", COLOURS["accounted"], "accounted for")
    x = canvas.key(sheet, left, TOP - 18, "box", COLOURS["watermark"], "watermark")
    if compared:
        canvas.key(sheet, x, TOP - 18, "D", COLOURS["paper"], "the paper's formula")


def _number(value: float) -> str:
    """The label of a bar: small numbers with two decimals, as the paper prints MB."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


# -- legend ----------------------------------------------------------------------------------------------------------


def _legend(sheet: Axes, plan: Plan, unnamed: list[str]) -> None:
    """Draw the meaning of the colours in two columns, and the regions too small to be named."""
    there = {what(region.name) for region in plan.regions}
    entries = [of for of in (*WHAT, OTHER) if of in there]
    half = -(-len(entries) // 2)
    if unnamed:
        text = "in grey: regions with no room for their names"
        sheet.text(1070, BOTTOM + 49, text, color=canvas.DARK, fontsize=canvas.SMALL, va="center")
    for n, of in enumerate(entries):
        if n % half == 0:
            x, y = 25 + n // half * 790, BOTTOM + 88
        begin = canvas.key(sheet, x, y, "box", colour(of), of) - 10
        names = collected([name for name in unnamed if what(name) == of])
        lines = _listed(sheet, names, x + 770 - begin, most=2 if half <= 3 else 1)
        for line in lines:
            sheet.text(begin, y, line, fontsize=canvas.SMALL, va="center", color=canvas.DARK)
            y += 22
        y += 6 if lines else 28


def _listed(sheet: Axes, names: list[str], room: float, most: int) -> list[str]:
    """Names in at most ``most`` lines; the number of omitted names is appended."""
    for count in range(len(names), 0, -1):
        more = [f"and {len(names) - count} more"] if count < len(names) else []
        lines = canvas.wrapped(sheet, [*names[:count], *more], room, ", ", fontsize=canvas.SMALL)
        if len(lines) <= most:
            break
    return lines if names else []
