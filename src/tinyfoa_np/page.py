"""A run as a single self-contained HTML page, for any browser, without network requests."""

from __future__ import annotations

import html
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from . import plots
from .data import short
from .errors import BadRequest
from .reports import audit as report
from .reports.evaluation import occurring, of_model
from .run import results as finished
from .run.directory import read_recipe, stand_in
from .run.outcome import Epoch
from .text import printable, size

#: pictures and their alternative texts
PICTURES = {
    "training": "Error and loss of each layer, epoch by epoch",
    "memory": "The arena over a training step: which region has which bytes when",
    "signs": "Share of weights whose sign is no longer the initial one, slice by slice",
    "fields": "Weights of first-layer neurons, as the images they see",
}
#: confusion matrices of more classes are omitted
MOST_CLASSES = 30
# Pictures are 1600 pixels wide and legible at half that size; on a narrower screen only the pictures scroll.
STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #000; background: #fff; margin: 0 auto; max-width: 60rem;
  padding: 0 1rem 3rem }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
.wide { overflow-x: auto; margin: 1rem 0 } .wide svg { display: block; width: 100%; min-width: 800px; height: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ccc }
th { font-weight: 600 } th[scope=row] { min-width: 7rem } .n { text-align: right; white-space: nowrap }
@media (max-width: 36rem) { table { font-size: .875rem } th, td { padding-right: .5rem } }
figure { margin: 0 } figcaption, .quiet { color: #555 }
""".strip()
#: the page may load only its own content: its style and the heat maps of its pictures
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write(run_dir: str | os.PathLike[str]) -> str:
    """Make the page of a finished run.

    Parameters
    ----------
    run_dir : path

    Returns
    -------
    str
        HTML. The same run gives the same page.

    Raises
    ------
    BadRequest
        If the run has not finished, or matplotlib is not installed.
    CheckFailed
        If its data are damaged.
    """
    result, audit, rows = finished.result(run_dir), report.audit(run_dir), finished.epochs(run_dir)
    recipe, own = result["recipe"], read_recipe(Path(run_dir))
    known = stand_in(Path(run_dir))
    weights = ["signs", "fields"] if known.image else ["signs"]
    if not finished.drawable(own):
        weights = []
    title = f"{recipe['algorithm']} on {short(recipe['dataset'])}, {recipe['network']}"
    body = [
        f"<h1>{_text(title)}</h1>",
        _summary(result, audit),
        "<h2>Training</h2>",
        _picture(run_dir, "training"),
        _layers(result, rows, own.rule.by_layer),
        *_answers(run_dir, result),
        "<h2>Memory</h2>",
        _verdict(audit),
        _picture(run_dir, "memory"),
        _phases(audit),
        _peak(audit),
        *([_paper(audit)] if audit["paper"] else []),
        *(["<h2>Weights</h2>"] if weights else []),
        *(_picture(run_dir, kind) for kind in weights),
        "<h2>Recipe</h2>",
        _recipe(recipe, known.origin or {}, result["model_sha256"]),
    ]
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{_text(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
    ]
    return "\n".join(
        ["<!DOCTYPE html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>", ""]
    )


# -- words and tables --------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return html.escape(printable(value))


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:.2f}"


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls separately; a heading ending in ``>`` is for a column of numbers."""
    numbers = [head.endswith(">") for head in heads]

    def line(cells: Sequence[object], tag: Callable[[int], str]) -> str:
        row = ""
        for n, cell in enumerate(cells):
            kind = ' class="n"' if numbers[n] else ""
            row += f"<{tag(n)}{kind}>{_text(cell)}</{tag(n).split()[0]}>"
        return f"<tr>{row}</tr>"

    lines = [line(row, lambda n: "td" if n else 'th scope="row"') for row in rows]
    header = line([head.removesuffix(" >") for head in heads], lambda n: 'th scope="col"')
    return "\n".join(
        [
            f'<div class="wide" tabindex="0" role="region" aria-label="{_text(caption)}"><table>',
            f"<caption>{_text(caption)}</caption>",
            f"<thead>{header}</thead>",
            "<tbody>",
            *lines,
            "</tbody></table></div>",
        ]
    )


def _summary(result: dict[str, Any], audit: dict[str, Any]) -> str:
    watermark, flash = audit["arena"]["watermark_bytes"], result["flash"]
    error = result["error_pct"]
    outcome = "no test samples" if error is None else f"test error {error:.2f} %"
    return (
        f"<p><strong>{outcome}, in {watermark:,} bytes of RAM</strong> ({size(watermark)}), everything counted."
        f" {size(flash['bytes'])} of flash; {size(flash['read_bytes'])} read from it and"
        f" {size(flash['written_bytes'])} written to it; {flash['exchanges']:,} exchanges of slices.</p>"
    )


def _layers(result: dict[str, Any], rows: Sequence[Epoch], one_by_one: bool) -> str:
    table = []
    for number, (error, seconds) in enumerate(zip(result["layer_errors_pct"], result["seconds_per_epoch"])):
        own = [row for row in rows if row.layer == number]
        last = own[-1] if own else None  # a frozen layer has no epochs
        table.append(
            [
                number + 1 if one_by_one else "all",
                len(own),
                _percent(error),
                _percent(last.train_error_pct) if last else "frozen",
                f"{last.loss:.4g}" if last else "",
                f"{seconds:.2f}" if last else "",
            ]
        )
    heads = ["layer", "epochs >", "test error, % >", "training error, % >", "loss >", "s per epoch >"]
    return _table("After the last epoch", heads, table)


def _answers(run_dir: str | os.PathLike[str], result: dict[str, Any]) -> list[str]:
    """Predictions for the test samples: results per class, and confused classes."""
    if result["error_pct"] is None:
        return []
    trained = finished.model(run_dir)
    found = of_model(*finished.tested(run_dir, trained))
    by_class = [
        [row["label"], f"{row['samples']:,}", *(_share(row[name]) for name in ("precision", "recall", "f1"))]
        for row in occurring(found)
    ]
    wrong, count, apart = found["wrong"], found["samples"], found["calibration"]["expected_error_pct"]
    sentence = (
        f"<p>{wrong:,} of {count:,} test samples wrong. Always answering the most frequent class would be wrong for"
        f" {found['majority_error_pct']:.2f} %. Confidence and accuracy differ by {apart:.1f} % on average.</p>"
    )
    parts = [
        "<h2>Answers</h2>",
        sentence,
        _table("By class", ["class", "samples >", "precision >", "recall >", "F1 >"], by_class),
    ]
    labels = [str(row["label"]) for row in found["classes"]]
    if len(labels) <= MOST_CLASSES:
        rows = [[label, *(n or "" for n in row)] for label, row in zip(labels, found["confusion"])]
        caption = "Confusion matrix: a row for each right class, a column for each answer"
        parts.append(_table(caption, ["", *(f"{label} >" for label in labels)], rows))
    return parts


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _verdict(audit: dict[str, Any]) -> str:
    if not audit["ok"]:
        problems = "".join(f"<li>{_text(problem)}</li>" for problem in audit["problems"])
        return f"<p><strong>The measurements disagree:</strong></p><ul>{problems}</ul>"
    arena = audit["arena"]
    budget = "" if arena["budget_bytes"] is None else f" The budget was {arena['budget_bytes']:,} bytes."
    return (
        f"<p>Planned, accounted for and touched (the watermark) are the same: {arena['watermark_bytes']:,} bytes."
        f"{budget}</p>"
    )


def _phases(audit: dict[str, Any]) -> str:
    paper, table = audit["paper"], []
    for phase, row in audit["phases"].items():
        theirs = [f"{paper[phase]['paper_bytes']:,}" if phase in paper else ""] if paper else []
        table.append([phase, f"{row['planned_bytes']:,}", f"{row['accounted_bytes']:,}", *theirs])
    most = "" if audit["whole_network"] else ", the most of any layer"
    columns = ["phase", "planned >", "accounted for >", *(["the paper's formula >"] if paper else [])]
    return _table(f"Bytes by phase{most}", columns, table)


def _peak(audit: dict[str, Any]) -> str:
    peak = audit["peak"]
    table = [
        [r["name"], " x ".join(map(str, r["shape"])), r["dtype"], f"{r['bytes']:,}", f"{r['offset']:,}"]
        for r in peak["regions"]
    ]
    table.append(["(in between)", "", "", f"{peak['between_bytes']:,}", ""])
    where = "the network" if audit["whole_network"] else f"layer {peak['layer']}"
    return _table(f"Bytes at the peak: {where}, {peak['phase']}", ["region", "shape", "type", "bytes >", "at >"], table)


def _paper(audit: dict[str, Any]) -> str:
    steps = audit["paper"]
    table: list[list[object]] = [["the paper's formula", *(f"{step['paper_bytes']:,}" for step in steps.values())]]
    table += [[what, *(f"{more:+,}" if more else "" for more in bytes_)] for what, bytes_ in report.by_step(steps)]
    table.append(["this run, planned", *(f"{step['planned_bytes']:,}" for step in steps.values())])
    return _table("Bytes from the paper's figure to this run's", ["", *(f"{step} >" for step in steps)], table)


def _recipe(recipe: dict[str, Any], origin: dict[str, Any], sha256: str) -> str:
    table = [[name, value] for name, value in recipe.items() if value is not None]
    names = {"columns": "inputs, in order", "labels": "classes, in order"}
    table += [[heading, ", ".join(map(str, origin[name]))] for name, heading in names.items() if origin.get(name)]
    return _table("The same recipe and data give the same model", ["field", "value"], table) + (
        f'\n<p class="quiet">Model <span style="overflow-wrap: anywhere">{_text(sha256)}</span></p>'
    )


# -- pictures ----------------------------------------------------------------------------------------------------------


def _picture(run_dir: str | os.PathLike[str], kind: str) -> str:
    """A picture as part of the page."""
    content = io.BytesIO()
    plots.draw_into(content, run_dir, kind, "svg")
    caption = PICTURES[kind]
    return (
        f'<figure><div class="wide" tabindex="0" role="region" aria-label="{caption}">'
        f"{inline(content.getvalue().decode(), kind, caption)}</div><figcaption>{caption}.</figcaption></figure>"
    )


def inline(svg: str, name: str, title: str) -> str:
    """An SVG file as part of a page: file-only parts are removed, and its ids get a unique prefix.

    Parameters
    ----------
    svg : str
        As written by matplotlib.
    name : str
        Prefix of its ids, which must be unique.
    title : str
        Alternative text.
    """
    start = svg.index("<svg")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[start:].strip(), flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    if "://" in svg:
        raise BadRequest("the picture asks for something from elsewhere")
    return svg.replace("<svg", f'<svg role="img" aria-label="{_text(title)}"', 1)
