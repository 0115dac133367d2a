"""``tinyfoa audit``: memory planned, accounted for and touched by a run, compared with the system and the paper."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from tinyfoa_np.errors import CheckFailed
from tinyfoa_np.text import size

from .options import debug_option, json_option
from .printing import empty_table, output, recipe_lines
from .runs import old_run

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100  # width of tables printed to a file or a pipe
BAR = 40


@click.command(
    epilog="""\b
Examples:
  tinyfoa audit runs/digits-tinyfoa-1
  tinyfoa audit runs/digits-tinyfoa-1 --quick
  tinyfoa audit runs/digits-tinyfoa-1 --json > memory.json"""
)
@click.argument("run")
@click.option(
    "--quick",
    "--no-evidence",
    "quick",
    is_flag=True,
    help="Only read the records of the run; skip the short training in a new process that the operating system "
    "watches.",
)
@json_option
@debug_option
def audit(run: str, quick: bool, as_json: bool) -> None:
    """Print the memory that the training in RUN took, and whether all measurements agree.

    Planned, accounted and touched bytes (the watermark) by phase; the content at the peak; the reason for each byte
    more or less than in the paper's formulas; and the memory that the operating system reports for such a training.
    Exit code 1 if the measurements disagree.
    """
    path = old_run(run)
    from tinyfoa_np.reports import audit as report

    result = report.audit(path, evidence=not quick)
    if as_json:
        click.echo(json.dumps(result))
    else:
        _print(result, report.by_step(result["paper"]))
    if not result["ok"]:
        raise CheckFailed(f"the measurements of {run} disagree: {'; '.join(result['problems'])}")


def _print(result: dict[str, Any], differences: list[tuple[str, list[int]]]) -> None:
    """Print the verdict, then the phases, the peak, the paper and the evidence."""
    console = output(WIDTH)
    letters = ", ".join(f"{phase[0]} {phase}" for phase in result["phases"])
    for part in (
        *_verdict(result),
        "",
        _phases(result),
        _peak(result),
        f"kept in: {letters};\n         · not kept\n",
        *([_paper(result["paper"], differences)] if result["paper"] else []),
        *_evidence(result),
    ):
        console.print(part, soft_wrap=isinstance(part, str))


def _verdict(result: dict[str, Any]) -> list[str]:
    arena, run, touched = result["arena"], result["run"], result["arena"]["watermark_bytes"]
    lines = [f"planned = accounted for = watermark: {touched:,} bytes ({size(touched)})"]
    if not result["ok"]:
        lines = ["the measurements disagree:", *(f"  {problem}" for problem in result["problems"])]
    budget, planned = arena["budget_bytes"], arena["planned_bytes"]
    if budget is not None:
        full = min(BAR, round(BAR * planned / max(1, budget)))
        lines.append(f"budget   {'█' * full}{'░' * (BAR - full)} {planned:,} of {budget:,} bytes")
    what, how = recipe_lines(run)
    return [*lines, f"run      {what}", f"         {how}"]


def _phases(result: dict[str, Any]) -> Table:
    paper = result["paper"]
    columns = ["phase", "planned >", "accounted for >", "size >"]
    columns += [*(["the paper >"] if paper else []), *([] if result["whole_network"] else ["in layer >"])]
    most = "" if result["whole_network"] else ", the most of any layer"
    table = empty_table(f"Bytes by phase{most}", *columns)
    for phase, row in result["phases"].items():
        theirs = [size(paper[phase]["paper_bytes"]) if phase in paper else ""] if paper else []
        table.add_row(
            phase,
            f"{row['planned_bytes']:,}",
            f"{row['accounted_bytes']:,}",
            size(row["planned_bytes"]),
            *theirs,
            *([] if result["whole_network"] else [str(row["layer"])]),
        )
    return table


def _peak(result: dict[str, Any]) -> Table:
    peak, phases = result["peak"], list(result["phases"])
    title = f"Bytes at the peak: {_where(result, peak['layer'])}, {peak['phase']}"
    table = empty_table(title, "region", "shape", "type", "bytes >", "at >", "kept in")
    for region in peak["regions"]:
        kept = "".join(phase[0] if phase in region["phases"] else "·" for phase in phases)
        shape = " x ".join(map(str, region["shape"]))
        table.add_row(region["name"], shape, region["dtype"], f"{region['bytes']:,}", f"{region['offset']:,}", kept)
    table.add_row("(in between)", "", "", f"{peak['between_bytes']:,}")
    table.add_section()
    table.add_row("the arena", "", "", f"{peak['planned_bytes']:,}")
    return table


def _paper(steps: dict[str, Any], differences: list[tuple[str, list[int]]]) -> Table:
    """Derive our figure from the paper's, with a column per step."""
    table = empty_table("Bytes from the paper's figure to this run's", "", *(f"{step} >" for step in steps))
    table.add_row("the paper's formula", *(f"{step['paper_bytes']:,}" for step in steps.values()))
    table.add_section()
    for what, bytes_more in differences:
        table.add_row(what, *(f"{more:+,}" if more else "" for more in bytes_more))
    table.add_section()
    table.add_row("this run, planned", *(f"{step['planned_bytes']:,}" for step in steps.values()))
    return table


def _evidence(result: dict[str, Any]) -> list[str]:
    probed, findings, outside = result["probe"]["layers"], result["probe"]["findings"], result["evidence"]
    if probed:
        found = f"findings: {len(findings)}" if findings else "every byte is accounted for"
        where = "the network" if result["whole_network"] else f"layer {', '.join(map(str, probed))}"
        lines = [f"probe    while training, in {where}: {found}"]
    else:
        lines = ["probe    not while training; train --audit probes every byte"]
    if beside := result["beside"]:
        lines.append(f"beside   while training, {_allocated(beside)}")
    if outside is None:
        return [*lines, "outside  not looked at"]
    lines.append(f"outside  in a fresh process that trained such layers for {outside['steps']} steps")
    rss, books = outside["rss"], outside["numba"]
    if rss["measured"]:
        lines += [
            f"         resident memory grew by at most {rss['growth_bytes']:,} bytes: the arena, and",
            f"         {rss['beside_arena_bytes']:,} beside it (2 MiB are allowed), "
            f"{rss['mapped_files_bytes']:,} of them mapped files;",
            f"         the page cache may also hold the flash, {outside['flash_bytes']:,} bytes",
        ]
    else:
        lines.append(f"         resident memory not measured here: {rss['reason']}")
    lines.append(f"         {_allocated(outside['beside'])}")
    lines.append(
        f"         allocations by numba not freed: {books['outstanding_first']:,} after the first step,\n"
        f"         {books['outstanding_last']:,} after the last"
    )
    model = "the same" if outside["model"]["same"] else "another"
    count = len(outside["probe"]["findings"])
    lines.append(f"         findings of the probe: {count}; {model} model with and without it, bit for bit")
    return lines


def _allocated(beside: dict[str, int]) -> str:
    return (
        f"allocated beside the arena: at most {beside['peak_bytes']:,} bytes (limit 16,384),\n"
        f"         {beside['largest_bytes']:,} in one block; arrays {beside['arrays_peak_bytes']:,}"
        + (
            f"\n         the network's description: {beside['described_bytes']:,} (limit {beside[limit]:,})"
            if (limit := "described_limit_bytes") in beside  # not in records of earlier versions
            else ""
        )
    )


def _where(result: dict[str, Any], layer: int) -> str:
    return "the network" if result["whole_network"] else f"layer {layer}"
