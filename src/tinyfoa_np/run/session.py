"""A training run on disk: its directory, flash, commits, current position, and stop requests."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import IO, Any

import numba
import numpy as np

from ..data import Dataset, Split
from ..errors import BadRequest, CheckFailed
from ..kernels import random as random_kernels
from ..layers.encoding import Encoding
from ..layers.tiling import Tiling
from ..ram.arena import Arena
from ..recipe import Recipe
from ..rules.fit import Layout
from ..storage.files import open_file, sync_file, sync_parents
from ..storage.flash import Flash
from ..storage.records import Records
from ..storage.whole_file import remove_parts, write_whole
from . import commit_checks
from .directory import BEGUN, describe, described_first, stand_in, startable
from .outcome import LINE_LIMIT, epoch_of

VERIFY_BUFFER = 65536


class Session:
    """A run, from its start or last commit to the next commit.

    Parameters
    ----------
    recipe : Recipe
        A validated recipe.
    dataset : Dataset
    directory : Path
    ram, threads : int, optional
    audit, lean : bool
    tilings : sequence of Tiling, optional
        As for :func:`tinyfoa_np.run.train.train`.

    Attributes
    ----------
    meta : dict
        Position and state of the run, as stored in the root in flash.
    stop : bool
        Whether a stop was requested; the current step is finished and committed first.
    """

    arena: Arena
    commit_buffer: np.ndarray  # in the arena; a commit reads back through it

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        directory: Path,
        ram: int | None,
        threads: int | None,
        audit: bool,
        lean: bool,
        tilings: Sequence[Tiling] | None,
    ) -> None:
        self.dataset, self.directory, self.audit = dataset, directory, audit
        self.recipe = recipe
        self.threads = max(1, threads or numba.config.NUMBA_NUM_THREADS)
        self.layout = Layout(recipe, dataset, self.threads)
        self.N, self.N_test = self.layout.N, self.layout.N_test
        self.train_set, self.test_set = self.layout.train_set, self.layout.test_set
        self._fit(ram, tilings)
        self.meta: dict[str, Any] = {
            "ram": ram,
            "lean": lean,
            "layer": 0,
            "stage": "start",
            "epoch": 0,
            "batch": 0,
            "loss": 0.0,
            "wrong": 0,
            "seen": 0,
            "state": None,
            "first": 0,
            "last": recipe.epochs,
            "states": [],
            "metrics_lines": 0,
            **self._nothing_yet(),
        }
        self.metrics: IO[bytes] | None = None
        self.seconds: list[float] = []  # of each stage begun; not in the root, where clock times would change its bytes
        self.epochs: list[int] = []  # likewise
        self.stop = False
        self.given: dict[str, list[np.ndarray]] = {}  # parameters of another model, which a new run stores in flash

    @staticmethod
    def _nothing_yet() -> dict[str, Any]:
        """Initial values for data about trained layers."""
        return {"trained": [], "errors": [], "arena": [], "findings": [], "probed": []}

    def _fit(self, ram: int | None, tilings: Sequence[Tiling] | None = None) -> None:
        """Choose the tiling of each stage, unless given."""
        self.ram, self.chosen = ram, self.layout.cut(tilings) if tilings else self.layout.fit(ram)
        self.stages = [one.stage for one in self.chosen]

    def _make_arena(self) -> None:
        self.arena = Arena(max(one.plan.nbytes for one in self.chosen), poison=self.audit)

    def _budget(self) -> None:
        """Keep the budget of a resumed run, unless another is given."""
        if self.ram is None and self.meta["ram"] is not None:
            self._fit(self.meta["ram"])
        self.meta["ram"] = self.ram

    def _quoted(self) -> str:
        return shlex.quote(str(self.directory))

    @contextlib.contextmanager
    def opened(self, resume: bool, stream: bool = False) -> Iterator[None]:
        """Use the run directory: create it and fill it with the encoded data, or open its last commit."""
        identity = self.recipe.identity
        flash_dir = self.directory / "flash"
        further = stream and self.directory.is_dir() and not startable(self.directory)
        if further:
            self._refuse_other_kinds()
        if resume or further:
            check = partial(self._check, further)
            self.flash = Flash.open(flash_dir, identity, memoryview(bytearray(VERIFY_BUFFER)), check)
            self.meta = self.flash.meta
            self.meta["ram"] = self.ram
        else:
            self._make_arena()
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            except (OSError, ValueError) as error:  # a name with a zero byte or half a character is a ValueError
                reason = error.strerror if isinstance(error, OSError) else error
                raise BadRequest(f"{self.directory} cannot be made a directory: {reason}") from error
            if not startable(self.directory):
                raise BadRequest(f"{self.directory} exists and is not empty: choose another directory, or resume it")
            self.flash = Flash.create(flash_dir, identity)
        metrics = self.directory / "metrics.jsonl"
        try:
            remove_parts(self.directory)
            if self.flash.fallback:
                warnings.warn(f"{self.flash.fallback}; going on from the commit before", stacklevel=4)
            if further:
                self._go_on()
            elif resume:
                if "train" not in self.flash.names():
                    raise self._not_taken()
                self._check_samples()
            else:
                self.meta["last"] = 1 if stream else self.recipe.epochs
                self._begin(metrics)
            self._open_metrics(metrics)
            with self._signals():
                yield
        finally:
            if self.metrics:
                with contextlib.suppress(OSError):  # a full disk has already been reported
                    self.metrics.close()
            self.flash.close()

    def _check(self, further: bool, meta: dict[str, Any], objects: commit_checks.Objects) -> None:
        """Validate a commit for this run; adopt its position and budget."""
        try:
            if further and commit_checks.position(meta) < len(self.stages):
                raise BadRequest(f"{self.directory} has not finished: tinyfoa train --resume {self._quoted()}")
            commit_checks.check_position(meta, len(self.stages), self.recipe.epochs, self.train_set)
            if not further and described_first(self.directory) != meta["first"]:
                raise self._not_taken()
            self.meta = meta
            self._budget()
            commit_checks.check_states(meta, self.stages)
            sets, outputs = [self.train_set, self.test_set], [records for records, _ in self._handed_on()]
            if further:  # those in flash are other samples, which are replaced
                gone = {records.name for records in (*sets, *outputs)}
                sets, objects = [], {name: known for name, known in objects.items() if name not in gone}
            commit_checks.check_objects(meta, objects, self.stages, outputs, sets, self.recipe)
            self._make_arena()  # only now, when the objects in flash are known to match this plan
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckFailed(
                f"{self.directory / 'flash'} describes an impossible run ({error}): it was altered, train again"
            ) from error

    def _not_taken(self) -> CheckFailed:
        """The error for continuing with a part of a stream whose samples are incomplete."""
        return CheckFailed(f"{self.directory} was left before the next samples were in it: train on them again")

    def _handed_on(self) -> list[tuple[Records, Encoding]]:
        """Outputs passed between stages through flash, and their encodings: of training, then of test samples."""
        found = []
        for number, stage in enumerate(self.stages[: 0 if self.recipe.recompute else -1]):
            assert stage.hands_on is not None
            both = ("outputs", self.N), ("test_outputs", self.N_test)
            found += [(self._outputs(number, what, samples), stage.hands_on) for what, samples in both]
        return found

    def _outputs(self, number: int, what: str, samples: int) -> Records:
        """Records for the outputs of a stage."""
        emitted = self.stages[number].hands_on
        assert emitted is not None
        return Records(f"layer{number}.{what}", samples, self.train_set.batch, emitted.row_bytes)

    def _check_samples(self) -> None:
        """Refuse samples in flash that are invalid for kernels."""
        own = [(records, self.layout.inputs) for records in (self.train_set, self.test_set)]
        for records, held in (*own, *self._handed_on()):
            if records.name in self.flash.names():
                commit_checks.check_samples(self.flash, records, held, self.dataset.classes)

    def _open_metrics(self, path: Path) -> None:
        """Open the metrics after the last committed line, and read the time each stage has taken."""
        lines = self.meta["metrics_lines"]
        try:
            self.metrics = os.fdopen(open_file(path, os.O_RDWR), "r+b")
            rows = list(islice(iter(partial(self.metrics.readline, LINE_LIMIT), b""), lines))
        except OSError:
            rows = []
        if len(rows) < lines or not all(row.endswith(b"\n") for row in rows):
            raise CheckFailed(f"{path} is shorter than the last commit says: it was altered, put it back")
        assert self.metrics is not None
        self.metrics.truncate(self.metrics.tell())
        begun = self.meta["layer"] + (self.meta["stage"] != "start")
        self.seconds, self.epochs = [0.0] * begun, [0] * begun
        try:
            for row in map(epoch_of, rows):
                if row.epoch >= self.meta["first"]:  # in a stream, earlier rows are of other samples
                    self.seconds[row.layer] = row.seconds
                    self.epochs[row.layer] += 1
        except (ValueError, TypeError, IndexError) as error:
            raise CheckFailed(f"{path} is damaged ({error}): put it back") from error

    def _begin(self, metrics: Path) -> None:
        """Do everything up to the first commit; if this fails, leave nothing behind.

        Everything that a resumed run needs is durable before the first root names anything: a power cut leaves a run
        that can be resumed, or a directory in which it can be started again.
        """
        try:
            write_whole(metrics, b"")
            write_whole(self.directory / "recipe.json", self.recipe.to_json().encode())
            write_whole(self.directory / "data.json", describe(self.dataset))
            self._encode("train", self.dataset.train, self.train_set)
            self._encode("test", self.dataset.test, self.test_set)
            for name, arrays in self.given.items():
                self.flash.new(name, [array.nbytes for array in arrays], slots=1)
                for item, array in enumerate(arrays):
                    self.flash.write(name, item, [np.ascontiguousarray(array)])
            self.given = {}
            sync_parents(self.directory)
            self.flash.commit(self.meta, memoryview(bytearray(VERIFY_BUFFER)))
        except BaseException:
            self.flash.close()
            for path in [self.directory / name for name in BEGUN] if startable(self.directory) else []:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            raise

    def _refuse_other_kinds(self) -> None:
        """Refuse samples of another kind than those that the run was trained on."""
        before = stand_in(self.directory)
        if _kind(before) != _kind(self.dataset):
            inputs, kind, classes, scale, offset, unit, _ = _kind(before)
            seen = f", seen with scale {scale:g} ({unit:g}) and offset {offset:g}" if kind == "uint8" else ""
            raise BadRequest(
                f"{self.directory} was trained on {inputs} {kind} inputs of {classes} classes{seen}:"
                " samples of the same kind and scale are needed"
            )

    def _go_on(self) -> None:
        """Replace the training samples of a finished run by the next part of a stream, for one more epoch."""
        meta = self.meta
        if meta["lean"]:
            raise BadRequest(
                f"{self.directory} was trained with --lean, its weights are deleted: it cannot be trained further"
            )
        # first announce: until the last commit below, data.json says that these samples are not yet stored
        write_whole(self.directory / "data.json", describe(self.dataset, meta["last"]))
        for name in set(self.flash.names()) - {name for stage in self.stages for name in stage.objects()}:
            self.flash.drop(name)
        self.flash.commit(meta, memoryview(bytearray(VERIFY_BUFFER)))  # only now may these names be reused
        self._encode("train", self.dataset.train, self.train_set)
        self._encode("test", self.dataset.test, self.test_set)
        meta.update(layer=0, stage="start", first=meta["last"], last=meta["last"] + 1, **self._nothing_yet())
        self.flash.commit(meta, memoryview(bytearray(VERIFY_BUFFER)))

    def _encode(self, name: str, split: Split, records: Records) -> None:
        self.flash.new(name, [records.nbytes], slots=1)
        one = np.ones(1, np.float32)
        order = np.arange(records.samples)
        if self.recipe.shuffle and name == "train":
            random_kernels.shuffle(order, np.uint64(self.recipe.seed))
        for k in range(records.batches):
            rows = order[k * records.batch : k * records.batch + records.count(k)]
            inputs = np.ascontiguousarray(self.dataset.encoded(split.inputs[rows], str(self.recipe.normalize)))
            records.write(self.flash, k, inputs, np.asarray(split.labels[rows], np.uint16), one)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Treat Ctrl-C, SIGTERM and SIGHUP as requests to stop after the step; a second one stops at once."""
        own = os.getpid()

        def ask(number: int, frame: FrameType | None) -> None:
            if os.getpid() != own:  # a forked child does not own this training
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            elif self.stop:
                raise KeyboardInterrupt
            else:
                self.stop = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, ask) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _commit(self) -> None:
        """Make everything so far durable; must be called in phase ``load``."""
        stage = self.stages[self.meta["layer"]] if self.meta["layer"] < len(self.stages) else None
        self.meta["state"] = stage.state if stage and self.meta["stage"] != "start" else None
        self.meta["watermark"] = self.arena.plan.nbytes, self.arena.watermark()
        assert self.metrics is not None
        try:
            self.metrics.flush()
            sync_file(self.metrics.fileno())
        except OSError as error:
            where = self.directory / "metrics.jsonl"
            raise CheckFailed(
                f"{where} cannot be written: {error.strerror}: the last commit is intact, resume from it"
            ) from error
        self.flash.commit(self.meta, self.commit_buffer.data)
        self.meta["state"] = None  # the stage has it


def stop_signals() -> list[signal.Signals]:
    """The signals that request a stop; SIGHUP only if it is not ignored, as nohup does."""
    asked = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        asked.append(hangup)
    return asked


def _kind(dataset: Dataset) -> tuple[Any, ...]:
    """The properties that samples of a stream share."""
    inputs, columns = dataset.train.inputs, dataset.columns
    scales = columns and [column.tolist() for column in vars(columns).values()]
    return inputs.shape[1], str(inputs.dtype), dataset.classes, dataset.scale, dataset.offset, dataset.unit, scales
