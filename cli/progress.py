"""Progress on standard error: bars on a terminal, occasional lines in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)


class Counting:
    """Show the progress of a long task; a context manager that is called with the count.

    Parameters
    ----------
    console : rich.console.Console, optional
        Output; by default standard error.
    columns : sequence of rich.progress.ProgressColumn
        Columns on a terminal; a log gets one line.
    """

    LINE = 5.0  # seconds between lines in a log

    def __init__(self, console: Console | None = None, columns: Sequence[ProgressColumn] = ()) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.columns = columns or (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars: Progress | None = None
        self.what, self.last = "", float("-inf")

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that ``done`` of ``total`` is done, in the unit of the columns; ``what`` is a description."""
        if self.console.is_terminal:
            if self.bars is None:
                self.bars = Progress(TextColumn("{task.description}"), *self.columns, console=self.console)
                self.bars.start()
                self.task = self.bars.add_task(what, total=total)
            self.bars.update(self.task, completed=done, total=total, description=what)
        elif what != self.what and time.monotonic() - self.last >= self.LINE:
            self.what, self.last = what, time.monotonic()
            self.console.print(what, soft_wrap=True, markup=False)


def download_columns() -> tuple[ProgressColumn, ...]:
    """Columns for a download on a terminal: bytes and speed."""
    return BarColumn(), DownloadColumn(), TransferSpeedColumn()


class TrainingProgress:
    """Show the events of a training; a context manager that is called with each event.

    Parameters
    ----------
    layers, epochs : int
        Total numbers.
    console : rich.console.Console, optional
        Output; by default standard error.
    """

    REDRAW = 0.1  # seconds between updates of the batch bar: training sends up to thousands of events per second
    LINE = 10.0  # seconds between lines in a log
    SILENCE = 60.0  # seconds between lines about batches in a log, for long epochs
    PATIENCE = 5.0  # seconds of compiling before a line in a log, and between such lines

    def __init__(self, layers: int, epochs: int, console: Console | None = None, chosen: str = "") -> None:
        self.layers, self.epochs, self.chosen = layers, epochs, chosen
        self.console = console or Console(stderr=True, highlight=False)
        self.last, self.heard = 0.0, time.monotonic()  # times of the last update, and of the last line in a log
        self.bars: Progress | None = None
        if self.console.is_terminal:
            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[says]}"),
                console=self.console,
            )
            self.layer = self.bars.add_task("layer", total=layers, says="")
            self.epoch = self.bars.add_task("epoch", total=epochs, says="")
            self.batch = self.bars.add_task("batch", total=None, says="")
        self.compiled = time.monotonic()  # time of the last line in a log about compiling

    def __enter__(self) -> TrainingProgress:
        if self.bars is not None:
            self.bars.start()
        from tinyfoa_np.kernels.compiling import LISTENERS  # takes a second to import

        LISTENERS.append(self._compiling)
        self.listeners = LISTENERS
        return self

    def __exit__(self, *_: object) -> None:
        self.listeners.remove(self._compiling)
        if self.bars is not None:
            self.bars.stop()

    def _compiling(self, kernel: str) -> None:
        """Announce the kernel to be compiled: each one on a terminal, one every few seconds in a log."""
        now = time.monotonic()
        if self.bars is not None:
            self.bars.update(self.batch, says=f"compiling {kernel} (first run only, up to a minute)")
        elif now - self.compiled >= self.PATIENCE:
            self.compiled = now
            self.console.print(f"compiling kernels (first run only, up to a minute): {kernel}", soft_wrap=True)

    def __call__(self, event: Any) -> None:
        now = time.monotonic()
        if event.kind == "start":  # nothing can be refused from now on
            for line in filter(None, (self.chosen, event.note)):
                self.console.print(line, soft_wrap=True, markup=False)
        if self.bars is not None:
            if event.kind != "batch" or now - self.last >= self.REDRAW:
                self.last = now
                self._draw(self.bars, event)
        elif event.kind == "layer" or self._is_news(event, now):
            self.last = self.heard = now
            self.console.print(f"{self._place(event)}: {_figures(event)}", soft_wrap=True)

    def _is_news(self, event: Any, now: float) -> bool:
        """Whether a log gets a line for an epoch or a batch."""
        if event.kind == "batch":
            return now - self.heard >= self.SILENCE
        return bool(event.kind == "epoch") and now - self.last >= self.LINE

    def _place(self, event: Any) -> str:
        place = f"layer {event.layer + 1}/{self.layers}" if self.layers > 1 else "training"
        if event.kind != "layer":
            place += f", epoch {event.epoch + 1}/{self.epochs}"
        return place + (f", batch {event.batch + 1}/{event.batches}" if event.kind == "batch" else "")

    def _draw(self, bars: Progress, event: Any) -> None:
        if event.kind == "batch":
            if event.batch == 0 or bars.tasks[self.batch].finished:
                bars.reset(self.batch)
                if event.epoch == 0:
                    bars.reset(self.epoch, total=self.epochs)
            bars.update(self.batch, completed=event.batch + 1, total=event.batches, says=_figures(event))
            bars.update(self.epoch, completed=event.epoch)
            bars.update(self.layer, completed=event.layer)
        elif event.kind == "epoch":
            bars.update(self.epoch, completed=event.epoch + 1, says=_figures(event))
        elif event.kind == "handover":
            says = "handing over to the next layer" if event.layer + 1 < self.layers else "freezing the last layer"
            bars.update(self.batch, completed=event.batch + 1, total=event.batches, says=says)
        elif event.kind == "layer":
            bars.update(self.layer, completed=event.layer + 1, says=_figures(event))


class RunsProgress:
    """Show the progress of several runs, and each row of a table when it is finished; a context manager.

    Parameters
    ----------
    total : int
        Number of runs.
    console : rich.console.Console, optional
        Output; by default standard error.
    """

    LINE = 60.0  # seconds between lines in a log

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.total = total
        self.console = console or Console(stderr=True, highlight=False)
        self.parts: dict[str, float] = {}
        self.last = time.monotonic()
        self.bars: Progress | None = None
        if self.console.is_terminal:
            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[done]}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[says]}", markup=False),
                console=self.console,
            )
            self.bar = self.bars.add_task("runs", total=total, done=0, says="")

    def __enter__(self) -> RunsProgress:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, run: Any, part: float, where: str) -> None:
        """Show how far a run is; ``where`` is its position in words, and part 1 means that it has ended."""
        self.parts[run.name] = part
        done = sum(part >= 1 for part in self.parts.values())
        says = f"{run.name}: {where}" if where else ""
        if self.bars is not None:
            self.bars.update(self.bar, completed=sum(self.parts.values()), done=done, says=says)
        elif says and time.monotonic() - self.last >= self.LINE:
            self.last = time.monotonic()
            self.console.print(f"{done} of {self.total} runs; {says}", soft_wrap=True, markup=False)

    def row(self, text: str) -> None:
        """Show a finished row of the table."""
        self.console.print(text, soft_wrap=True, markup=False)


def _figures(event: Any) -> str:
    figures = []
    if event.loss is not None:
        figures.append(f"loss {event.loss:.4f}")
    if event.train_error_pct is not None:
        figures.append(f"train error {event.train_error_pct:.2f} %")
    if event.test_error_pct is not None:
        figures.append(f"test error {event.test_error_pct:.2f} %")
    return ", ".join(figures)
