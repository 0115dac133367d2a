"""A table of results as CSV, JSON and Markdown; cells are empty in CSV, and null in JSON, for missing figures."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..storage.whole_file import write_whole

#: a heading, which may be empty; columns, of numbers if their names end in ``>``; and rows of cells
Section = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def to_csv(rows: Sequence[dict[str, Any]], without: Sequence[str]) -> str:
    """The rows, one line each below a header, without some of their fields."""
    text = io.StringIO()
    names = [name for name in rows[0] if name not in without]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(title: str, remarks: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """The rows as one JSON object: ``caption``, ``remarks`` and ``rows``, with all their fields."""
    return json.dumps({"caption": title, "remarks": remarks, "rows": rows})


def to_markdown(title: str, remarks: Sequence[str], sections: Sequence[Section]) -> str:
    """A page with a table per section, and the remarks below."""
    lines = [f"# {title}", ""]
    for heading, columns, cells in sections:
        head = [name.removesuffix(" >") for name in columns]
        rule = ["---:" if name.endswith(">") else "---" for name in columns]
        lines += [f"## {heading}", ""] if heading else []
        lines += [*(f"| {' | '.join(row)} |" for row in (head, rule, *cells)), ""]
    return "\n".join([*lines, *(f"- {line}" for line in remarks)]) + "\n"


def write(directory: str | os.PathLike[str], name: str, contents: dict[str, str]) -> None:
    """Write ``name.csv``, ``name.json`` and so on into a directory: their contents by suffix."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    for suffix, content in contents.items():
        write_whole(Path(directory) / f"{name}.{suffix}", content.encode())
