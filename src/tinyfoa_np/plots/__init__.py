"""Pictures of a run as PNG or SVG; matplotlib (extra ``plot``) is imported only when a picture is drawn.

A kind of picture is a module here with a function ``figure(run_dir, layer)``, listed in :data:`KINDS`.

Examples
--------
>>> draw("runs/digits-tinyfoa-1", "memory")  # doctest: +SKIP
PosixPath('runs/digits-tinyfoa-1/memory.png')
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import BadRequest
from ..storage.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: kinds of pictures: the arena over a step; losses and errors; changed signs; weights of the first neurons
KINDS = ("memory", "training", "signs", "fields")
FORMATS = (".png", ".svg")


def draw(
    run_dir: str | os.PathLike[str],
    kind: str = "memory",
    out: str | os.PathLike[str] | None = None,
    layer: int | None = None,
) -> Path:
    """Draw a picture of a finished run into a file, atomically.

    Parameters
    ----------
    run_dir : path
    kind : str
        One of :data:`KINDS`.
    out : path, optional
        A file name ending in ``.png`` or ``.svg``; by default ``<kind>.png`` in the run directory.
    layer : int, optional
        Number of the layer, from 1; by default the one that the kind of picture is about.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    BadRequest
        If the kind is unknown, the run has not finished, there is no such layer, the file name has another suffix, its
        directory does not exist, or matplotlib is not installed.
    CheckFailed
        If the run's data are damaged.
    """
    path = Path(run_dir) / f"{kind}.png" if out is None else Path(out)
    return _written(path, lambda: figure(run_dir, kind, layer), kind in KINDS)


def draw_compared(run_dirs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] = "compared.png") -> Path:
    """Draw several finished runs into one file; further details as for :func:`draw` and :func:`.compared.figure`."""
    return _written(Path(out), lambda: compare(run_dirs))


def draw_into(file: IO[bytes], run_dir: str | os.PathLike[str], kind: str, form: str, layer: int | None = None) -> None:
    """Draw a picture as ``png`` or ``svg`` into an open file; further details as for :func:`draw`."""
    picture = figure(run_dir, kind, layer)
    canvas = _canvas()
    with canvas.style():
        canvas.save(picture, file, form)


def figure(run_dir: str | os.PathLike[str], kind: str = "memory", layer: int | None = None) -> Figure:
    """A picture of a finished run as a matplotlib figure, for notebooks; further details as for :func:`draw`."""
    if kind not in KINDS:
        raise BadRequest(f"there is no plot {kind!r}: it must be one of {', '.join(KINDS)}")
    with _canvas().style():
        made: Figure = importlib.import_module(f"{__name__}.{kind}").figure(run_dir, layer)
    return made


def compare(run_dirs: Sequence[str | os.PathLike[str]]) -> Figure:
    """A picture of several finished runs as a matplotlib figure: :func:`.compared.figure`."""
    with _canvas().style():
        made: Figure = importlib.import_module(f"{__name__}.compared").figure(run_dirs)
    return made


def _canvas() -> Any:
    try:
        from . import canvas
    except ImportError as error:
        raise BadRequest(f'plots need matplotlib ({error}): install it with pip install ".[plot]"') from error
    return canvas


def _written(path: Path, made: Callable[[], Figure], known: bool = True) -> Path:
    """Write a picture, after checking that the file can be written."""
    if known and (path.suffix.lower() not in FORMATS or path.is_dir()):
        raise BadRequest(f"a plot cannot be written to {path}: give a file whose name ends in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise BadRequest(f"a plot cannot be written to {path}: {path.parent} is not a directory")
    picture, content = made(), io.BytesIO()
    with _canvas().style():
        _canvas().save(picture, content, path.suffix.lower()[1:])
    write_whole(path, content.getvalue())
    return path
