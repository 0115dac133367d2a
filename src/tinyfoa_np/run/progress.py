"""Progress of a training in one line, which is rewritten: in a terminal, or below a notebook's cell."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..network import widths
from ..recipe import Recipe
from .events import Event


class ProgressLine:
    """Show the events of a training; a context manager that is called with each event.

    Nothing is shown if standard error is neither a terminal nor a notebook's.

    Parameters
    ----------
    recipe : Recipe
        Its numbers of layers and epochs are the totals.
    """

    REDRAW = 0.1  # seconds between updates: training sends up to thousands of events per second

    def __init__(self, recipe: Recipe) -> None:
        self.layers = len(widths(recipe.network)) if recipe.rule.by_layer else 1
        self.epochs = recipe.epochs
        self.show: Callable[[str], None] | None = _notebook() or _terminal()
        self.last, self.text, self.figures = float("-inf"), "", ""

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self.show is not None and self.text:
            self.show(self.text + "\n")

    def __call__(self, event: Event) -> None:
        if event.kind not in ("batch", "epoch") or self.show is None:
            return
        if event.kind == "epoch":
            self.figures = figures(event)
        now = time.monotonic()
        layer = f"layer {event.layer + 1}/{self.layers}, " if self.layers > 1 else ""
        part = f", batch {event.batch + 1}/{event.batches}" if event.kind == "batch" else ""
        self.text = f"{layer}epoch {event.epoch + 1}/{self.epochs}{part}" + (f": {self.figures}" * bool(self.figures))
        if now - self.last >= self.REDRAW:
            self.last = now
            self.show(self.text)


def figures(event: Event) -> str:
    """The loss and the errors of an event, in words."""
    known = {"loss {:.4f}": event.loss, "train error {:.2f} %": event.train_error_pct}
    known["test error {:.2f} %"] = event.test_error_pct
    return ", ".join(words.format(value) for words, value in known.items() if value is not None)


def _terminal() -> Callable[[str], None] | None:
    """A function that rewrites the last line of the terminal; None if standard error is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None

    def show(text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        end = "\n" if text.endswith("\n") else ""
        sys.stderr.write("\r" + text.strip()[:room].ljust(room) + end)
        sys.stderr.flush()

    return show


def _notebook() -> Callable[[str], None] | None:
    """A function that rewrites a line below the cell that is running; None outside of notebooks."""
    ipython: Any = sys.modules.get("IPython")  # imported by whatever runs a notebook
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    display = import_module("IPython.display").display
    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text.strip()}, raw=True)
