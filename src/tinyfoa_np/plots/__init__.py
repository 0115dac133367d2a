"""Pictures of a run, as PNG or SVG; matplotlib (extra ``plot``) is imported when one is drawn, not before.

A kind of picture is a module here that has ``figure(run_dir, layer)``, and its name in :data:`KINDS`.

Examples
--------
>>> draw("runs/digits-tinyfoa-1", "memory")  # doctest: +SKIP
PosixPath('runs/digits-tinyfoa-1/memory.png')
"""

from __future__ import annotations

import importlib
import io
import os
from pathlib import Path
from typing import IO

from ..errors import BadRequest
from ..storage.whole_file import write_whole

#: what can be drawn: the arena over a step; losses and errors; which signs have changed; what first neurons look for
KINDS = ("memory", "training", "signs", "fields")
FORMATS = (".png", ".svg")


def draw(
    run_dir: str | os.PathLike[str],
    kind: str = "memory",
    out: str | os.PathLike[str] | None = None,
    layer: int | None = None,
) -> Path:
    """Draws a picture of a finished run into a file, which is there whole or not at all.

    Parameters
    ----------
    run_dir : path
    kind : str
        One of :data:`KINDS`.
    out : path, optional
        A file whose name ends in ``.png`` or ``.svg``; ``<kind>.png`` in the run directory without it.
    layer : int, optional
        Of which layer, from 1; the one that the kind of picture is about without it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BadRequest
        If the kind is unknown, the run has not finished, there is no such layer, the file's name says nothing that can
        be drawn, its directory does not exist, or matplotlib is not installed.
    CheckFailed
        If what the run wrote down is damaged.
    """
    path = Path(run_dir) / f"{kind}.png" if out is None else Path(out)
    if kind in KINDS and (path.suffix.lower() not in FORMATS or path.is_dir()):
        raise BadRequest(f"a plot cannot be written to {path}: give a file whose name ends in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise BadRequest(f"a plot cannot be written to {path}: {path.parent} is not a directory")
    picture = io.BytesIO()
    draw_into(picture, run_dir, kind, path.suffix.lower()[1:], layer)
    write_whole(path, picture.getvalue())
    return path


def draw_into(
    file: IO[bytes], run_dir: str | os.PathLike[str], kind: str, form: str, layer: int | None = None
) -> None:
    """Draws a picture as ``png`` or ``svg`` into a file that is open; the rest as for :func:`draw`."""
    if kind not in KINDS:
        raise BadRequest(f"there is no plot {kind!r}: it must be one of {', '.join(KINDS)}")
    try:
        from . import canvas
    except ImportError as error:
        raise BadRequest(f'plots need matplotlib ({error}): install it with pip install ".[plot]"') from error
    with canvas.style():
        canvas.save(importlib.import_module(f"{__name__}.{kind}").figure(run_dir, layer), file, form)
