"""A finished run for notebooks: its result, metrics, model and pictures, each with a representation of its own.

Examples
--------
>>> from tinyfoa_np import Run
>>> Run("runs/digits-tinyfoa-1").metrics()  # doctest: +SKIP
>>> Run("runs/digits-tinyfoa-1").plot("memory")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plots
from .model.model import Model
from .reports.audit import audit
from .run import results
from .run.outcome import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Run:
    """A finished run.

    Parameters
    ----------
    directory : path

    Raises
    ------
    BadRequest
        If the run has not finished.
    CheckFailed
        If its record is damaged.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.result = results.result(self.directory)

    def metrics(self) -> Any:
        """Layer, epoch, loss and errors of each epoch: a pandas DataFrame or, without pandas, a list of dicts."""
        rows = [vars(epoch) if hasattr(epoch, "__dict__") else epoch._asdict() for epoch in self.epochs]
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    @cached_property
    def epochs(self) -> list[Epoch]:
        """The epochs, in order."""
        return results.epochs(self.directory)

    @cached_property
    def model(self) -> Model:
        """The trained model."""
        return results.model(self.directory)

    def audit(self) -> dict[str, Any]:
        """The memory that training needed, as ``tinyfoa audit --json`` prints it."""
        return audit(self.directory)

    def plot(self, kind: str = "memory", layer: int | None = None) -> Figure:
        """A picture as a matplotlib figure, which a notebook shows inline; see :func:`tinyfoa_np.plots.figure`."""
        return plots.figure(self.directory, kind, layer)

    def _about(self) -> dict[str, str]:
        recipe, known = self.result["recipe"], self.result
        return {
            "algorithm": recipe["algorithm"],
            "network": recipe["network"],
            "data": recipe["dataset"],
            "error": f"{known['error_pct']:.2f} %",
            "memory": f"{known['arena']['watermark_bytes']:,} bytes",
        }

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r}: {', '.join(f'{k} {v}' for k, v in self._about().items())})"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in self._about().items())
        return f"<table>{''.join(rows)}</table>"
