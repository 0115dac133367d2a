"""Training runs in separate processes: several at a time, each with its directory, that can be stopped and resumed.

A run is done when its directory contains ``result.json``; its flash is then removed. A diverged run is also done. In
any other directory a run is begun or new: it resumes from its last commit, so nothing is trained twice.

Each run has a process, ``python -m tinyfoa_np.run.jobs``. It reads the run as JSON from standard input and writes its
progress, one JSON object per line, to standard output. Killing a process does not affect other runs; a process whose
parent is gone ends at its next report. Ctrl-C reaches only the parent, which asks each process once to stop.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, CheckFailed, OtherNumerics, TinyFoAError
from ..network import widths
from ..recipe import Recipe
from ..storage.files import ROWS_LIMIT, read_json, read_whole
from ..storage.whole_file import write_whole
from .directory import read_recipe, startable
from .events import Diverged, ignored
from .outcome import checked_result

if TYPE_CHECKING:
    from .events import Event

RESULT = "result.json"
_SPEAK = 0.5  # seconds between progress lines during an epoch
_LOOK = 0.2  # seconds between the parent's checks for a stop request


@dataclass(frozen=True)
class Run:
    """A training run: its display name, validated recipe, directory, and data directory."""

    name: str
    recipe: Recipe
    directory: Path
    data_dir: str | None = None


class Stopped(TinyFoAError):
    """Stopped by Ctrl-C: begun runs are committed and can be resumed."""

    exit_code = 130


def finished(run: Run) -> dict[str, Any] | None:
    """The result of a run that is done; None if it is not done.

    Returns
    -------
    dict or None
        ``outcome``: ``finished``, with the result of :func:`tinyfoa_np.run.train.train`, or ``diverged``, with
        ``layer``, ``epoch`` (from 1) and ``message``; ``warnings``.

    Raises
    ------
    BadRequest
        If it was trained with another recipe.
    CheckFailed
        If its result is damaged.
    """
    path = run.directory / RESULT
    try:
        result: dict[str, Any] = read_json(path)
        recipe = Recipe.from_json(json.dumps(result["recipe"])).validated()
        if result["outcome"] == "finished":
            checked_result(result)
        elif result["outcome"] != "diverged" or not isinstance(result["message"], str):
            raise ValueError(f"outcome {str(result['outcome'])[:40]!r}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OtherNumerics as error:
        raise OtherNumerics(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadRequest) as error:
        raise CheckFailed(f"{path} is damaged ({error}); remove {run.directory} to train it again") from error
    _same(run, recipe)
    return result


def begun(run: Run) -> bool:
    """Whether a run has a commit and can be resumed.

    Raises
    ------
    BadRequest
        If the directory is used otherwise: another recipe, or not a run.
    CheckFailed
        If its recipe is damaged.
    """
    if not run.directory.exists():
        return False
    if run.directory.is_dir() and startable(run.directory):
        return False
    try:
        recipe = read_recipe(run.directory)
    except OtherNumerics:
        raise
    except BadRequest as error:
        raise BadRequest(f"{run.directory} is in the way: it is not a run; give another --out") from error
    except CheckFailed as error:
        raise CheckFailed(f"{error}; remove {run.directory} to train it again") from error
    _same(run, recipe)
    return True


def _same(run: Run, recipe: Recipe) -> None:
    for field in fields(Recipe):
        if field.name == "digest" and run.recipe.digest is None:  # filled in by training
            continue
        own, asked = getattr(recipe, field.name), getattr(run.recipe, field.name)
        if own != asked:
            raise BadRequest(f"{run.directory} was trained with {field.name} {own}, not {asked}: give another --out")


def perform(run: Run, on_event: Callable[[Event], None] = ignored) -> dict[str, Any]:
    """Train or resume a run in this process, with one thread; store its result and return it as :func:`finished`.

    Raises
    ------
    TinyFoAError
        As :func:`tinyfoa_np.run.train.train`, except for divergence, which is a result.
    """
    from .. import data
    from . import train as training

    resume = begun(run)
    samples = None if resume else data.load(run.recipe.dataset, run.data_dir)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = training.train(run.recipe, samples, run.directory, threads=1, resume=resume, on_event=on_event)
            result["outcome"] = "finished"
        except Diverged as error:
            rows = read_whole(run.directory / "metrics.jsonl", ROWS_LIMIT).splitlines()
            epochs = len(rows)  # epochs that were trained completely
            layer, epoch = divmod(epochs, run.recipe.epochs)
            result = {"outcome": "diverged", "layer": layer + 1, "epoch": epoch + 1, "message": str(error)}
            result |= {"recipe": json.loads(run.recipe.to_json()), "run_dir": str(run.directory)}
    result["warnings"] = [str(warning.message) for warning in caught if warning.category is UserWarning]
    write_whole(run.directory / RESULT, json.dumps(result, indent=1).encode() + b"\n")
    _tidy(run)
    return result


def _tidy(run: Run) -> None:
    """Remove the flash of a run that is done: it is large, and the model is stored separately."""
    shutil.rmtree(run.directory / "flash", ignore_errors=True)


# -- many runs -----------------------------------------------------------------------------------------------------


def perform_all(
    runs: Sequence[Run],
    jobs: int,
    on_progress: Callable[[Run, float, str], None],
    on_end: Callable[[Run, str | None], None],
) -> None:
    """Perform runs in separate processes, up to ``jobs`` at a time; runs that are done are skipped.

    Parameters
    ----------
    runs : sequence of Run
    jobs : int
    on_progress : callable
        Called with a run, the fraction trained, and its position in words.
    on_end : callable
        Called with each run that has ended, and the reason if it failed; a failed run does not stop the others.

    Raises
    ------
    Stopped
        After Ctrl-C or SIGTERM, when all processes have committed and ended. A second signal ends them at once.
    """
    waiting: deque[Run] = deque()
    for run in runs:
        if finished(run) is None:
            waiting.append(run)
        else:
            _tidy(run)
            on_end(run, None)
    children: list[_Child] = []
    with _asked_to_stop() as asked, selectors.DefaultSelector() as selector:
        try:
            heard = 0
            while children or (waiting and not asked):
                while waiting and len(children) < jobs and not asked:
                    children.append(_Child(waiting.popleft()))
                    selector.register(children[-1].stdout, selectors.EVENT_READ, children[-1])
                for key, _ in selector.select(_LOOK):
                    child: _Child = key.data
                    if child.listen(on_progress):
                        continue
                    selector.unregister(child.stdout)
                    children.remove(child)
                    reason = child.ended()
                    if not (asked and reason):
                        on_end(child.run, reason)
                if len(asked) > heard:
                    heard = len(asked)
                    for child in children:
                        child.process.send_signal(signal.SIGINT if heard == 1 else signal.SIGKILL)
        finally:
            for child in children:
                child.process.kill()
                child.process.wait()
        if asked:
            done = sum(finished(run) is not None for run in runs)
            raise Stopped(
                f"interrupted; {done} of {len(runs)} runs are done, those begun are committed: "
                "run the same command again to continue"
            )


class _Child:
    """The process of a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.reason: str | None = None
        self.heard = b""
        self.stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            start_new_session=True,  # a terminal's Ctrl-C is for the parent, which passes it on once
            env={**os.environ, "NUMBA_NUM_THREADS": "1"},
        )
        assert self.process.stdin and self.process.stdout
        self.stdout = self.process.stdout
        job = {
            "name": run.name,
            "recipe": json.loads(run.recipe.to_json()),
            "directory": str(run.directory),
            "data_dir": run.data_dir,
        }
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(job).encode())
            self.process.stdin.close()

    def listen(self, on_progress: Callable[[Run, float, str], None]) -> bool:
        """Handle the process's output; return False at its end."""
        said = os.read(self.stdout.fileno(), 65536)
        *lines, self.heard = (self.heard + said).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self.reason = message.get("failed", self.reason)
            if "part" in message:
                on_progress(self.run, message["part"], message["where"])
        return bool(said)

    def ended(self) -> str | None:
        """Wait for the end; return the reason if the run failed, else None."""
        code = self.process.wait()
        self.stdout.close()
        with self.stderr as file:
            file.seek(0)
            lines = file.read().decode(errors="replace").split("\n")
        if code == 0:
            return None
        if self.reason:
            return self.reason
        if code < 0:
            return f"its process was ended by signal {-code} (out of memory?)"
        return next((line for line in reversed(lines) if line.strip()), f"its process ended with code {code}")


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect the signals, Ctrl-C or SIGTERM, received so far."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- a run's process -----------------------------------------------------------------------------------------------


def main() -> int:
    """Perform the run given on standard input; return the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if the parent was started without it
    try:
        job = json.loads(sys.stdin.buffer.read())
        recipe = Recipe.from_json(json.dumps(job["recipe"]))
        run = Run(job["name"], recipe, Path(job["directory"]), job["data_dir"])
        perform(run, _Speaker(recipe))
    except (KeyboardInterrupt, BrokenPipeError):
        return Stopped.exit_code
    except TinyFoAError as error:
        _say(failed=str(error))
        return error.exit_code
    except OSError as error:
        _say(failed=f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error))
        return 1
    except Exception as error:
        traceback.print_exc()
        _say(failed=f"internal error, {type(error).__name__}: {error} (tinyfoa train --debug may show where)")
        return 1
    return 0


class _Speaker:
    """Reports training progress from time to time."""

    def __init__(self, recipe: Recipe) -> None:
        self.epochs = recipe.epochs
        self.layers = len(widths(recipe.network)) if recipe.rule.by_layer else 1
        self.last = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind != "epoch" and (event.kind != "batch" or now - self.last < _SPEAK):
            return
        self.last = now
        epoch = event.epoch + (1 if event.kind == "epoch" else (event.batch + 1) / event.batches)
        where = f"epoch {event.epoch + 1}/{self.epochs}"
        if self.layers > 1:
            where = f"layer {event.layer + 1}/{self.layers}, {where}"
        _say(part=(event.layer * self.epochs + epoch) / (self.layers * self.epochs), where=where)


def _say(**message: object) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
