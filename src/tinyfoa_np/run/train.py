"""The training loop: stages, epochs, exchanges, batches, and measurements.

Stages are trained one at a time: a layer of TinyFoA, or the whole network for other algorithms. Its plan is laid out in
the arena, its weights are created in flash, and each batch goes through

    load        flash reads batch k into the arena
    forward     z, activations, logits
    gradient    turn logits into errors
    update      exchange the slices that are due; gradient, optimizer, signs

until the stage's epochs are over. Then its outputs become the training set of the next stage.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..data.dataset import check_split
from ..errors import BadRequest
from ..kernels import random as random_kernels
from ..kernels.launching import Team, launched
from ..layers.parameters import Parameters
from ..layers.tiling import Tiling
from ..layers.trained import Numbers
from ..model import writing
from ..model.model import Model
from ..network import is_local
from ..ram.probe import Findings
from ..recipe import Recipe
from ..rules.stage import Outcome, Stage
from ..slices import ORDERS, Schedule
from ..storage.records import Records
from ..storage.whole_file import write_whole
from .directory import stand_in, startable
from .events import Diverged, Event, Interrupted
from .examination import Examination
from .loading import Loading
from .outcome import audit_of, measured, result_of
from .progress import ProgressLine
from .start import Start

#: what a run does after its last stage, as findings say it
SAVING = "saving the model"


def train(
    recipe: Recipe,
    dataset: Dataset | None,
    run_dir: str | os.PathLike[str],
    *,
    ram: int | None = None,
    threads: int | None = None,
    audit: bool = False,
    lean: bool = False,
    commit_every: int | None = None,
    resume: bool = False,
    stream: bool = False,
    on_event: Callable[[Event], Any] | None = None,
    tilings: Sequence[Tiling] | None = None,
    start: str | os.PathLike[str] | Model | Start | None = None,
) -> dict[str, Any]:
    """Train a network inside one block of bytes; the run directory gets recipe, flash, metrics, model and audit.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset or None
        Not needed with ``resume``, as the samples are in flash. If its test split is empty, test errors are None.
    run_dir : path
        A new or empty directory; with ``resume``, the directory of a run.
    ram : int, optional
        Maximum bytes of the arena. By default the fastest tiling is used; with ``resume``, the run's own budget.
    threads : int, optional
        By default all cores. Results do not depend on it.
    audit : bool
        Probe which bytes are written, and poison regions when their lifetime ends.
    lean : bool
        Delete a layer's full-precision weights once it is trained, so that flash keeps only the data for inference. A
        resumed run keeps its setting.
    commit_every : int, optional
        Commit additionally after this many steps; by default only after each epoch.
    resume : bool
        Continue from the last commit.
    stream : bool
        Treat ``dataset`` as the next part of a stream: each layer trains on it for only one epoch, the next of the
        recipe's epochs (starting over after the last). If ``run_dir`` has a run, training continues from its weights,
        moments and step counts; the new samples replace its samples.
    on_event : callable, optional
        Called with each :class:`Event`. If it returns True at the end of an epoch, the current stage ends. By default
        a terminal or a notebook shows a line of progress (:mod:`.progress`).
    tilings : sequence of Tiling, optional
        Tiling of each stage, if chosen by another run; ``ram`` is then only recorded.
    start : path or Model, optional
        A run directory, a model file or a model whose weights the network starts with, see :mod:`.start`. A resumed run
        does not need it.

    Returns
    -------
    dict
        ``error_pct``, ``layer_errors_pct``, ``seconds_per_epoch``, ``model_sha256``, ``arena``, ``flash``, ``run_dir``,
        ``recipe``; with ``audit`` also ``findings``, empty if every byte is accounted for, and ``beside``, the
        allocations outside the arena: peak and largest block, of all and of arrays. Bytes throughout.

    Raises
    ------
    BadRequest
        If recipe and data do not match, the arena does not fit ``ram``, or the directory is in use.
    Diverged
        If numbers are no longer finite; the last commit is kept.
    CheckFailed
        If flash is damaged.
    Interrupted
        After Ctrl-C, once the step is finished and committed.
    """
    beginning = None if start is None else Start.of(start)
    recipe, dataset = _agreed(recipe, dataset, Path(run_dir), resume, stream, beginning)
    with contextlib.ExitStack() as stack:
        listener = on_event or stack.enter_context(ProgressLine(recipe))
        run = _Run(recipe, dataset, Path(run_dir), ram, threads, audit, lean, commit_every, listener, tilings)
        if beginning and not resume:
            run.given = beginning.given(recipe, dataset, run.stages)
        stack.enter_context(launched())
        stack.enter_context(run.opened(resume, stream))
        return run.train()


def _agreed(
    recipe: Recipe, dataset: Dataset | None, run_dir: Path, resume: bool, stream: bool, start: Start | None
) -> tuple[Recipe, Dataset]:
    """The recipe adapted to this data set, and the data set; raises BadRequest if they do not match."""
    if resume and stream:
        raise BadRequest("resume continues with the same samples, stream with new ones: give only one of them")
    if dataset is None:
        if not resume:
            raise BadRequest("a new run needs a data set")
        dataset = stand_in(run_dir)
    else:
        for name, split in (("train", dataset.train), ("test", dataset.test)):
            check_split(dataset, name, split)
        if dataset.drift:
            warnings.warn(dataset.drift, stacklevel=3)
    recipe = recipe.validated()
    if dataset.digest is not None and not stream:  # in a stream every part has its own
        if recipe.digest not in (None, dataset.digest):
            raise BadRequest(f"{dataset.name} does not hold the samples that the recipe is for: its digest differs")
        recipe = replace(recipe, digest=dataset.digest)
    if start:
        digest = start.digest
        if recipe.start not in (None, digest):
            raise BadRequest(f"{start.name} is not the model that the recipe starts from: its digest differs")
        if not resume:  # a resumed run has its scaling in data.json
            recipe, dataset = start.scaled(replace(recipe, start=digest), dataset)
    elif not resume and not (stream and run_dir.is_dir() and not startable(run_dir)):
        if recipe.start:
            raise BadRequest("the recipe starts from another model: give it (--from MODEL; start=MODEL in Python)")
    return recipe, dataset


class _Run(Loading):
    """A training run: the plan of every stage, the arena, the flash and the current position."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        directory: Path,
        ram: int | None,
        threads: int | None,
        audit: bool,
        lean: bool,
        commit_every: int | None,
        on_event: Callable[[Event], Any],
        tilings: Sequence[Tiling] | None,
    ) -> None:
        super().__init__(recipe, dataset, directory, ram, threads, audit, lean, tilings)
        self.commit_every, self.on_event = commit_every, on_event
        self.exam: Examination | None = None
        visited, slices = self._visited(self.layout.inner)
        if visited < slices:
            told = f"only {visited} of {slices} slices per layer will be trained"
            warnings.warn(f"{told}: use {self._more(self.layout.inner, slices)} or schedule stream", stacklevel=3)

    def _visited(self, recipe: Recipe) -> tuple[int, int]:
        """Number of slices of a layer that will be trained, and number of all slices."""
        if recipe.schedule != "slice" or recipe.slices is None:
            return 1, 1
        steps = recipe.epochs * self.train_set.batches
        schedule = Schedule(
            recipe.hold_steps(self.train_set.batches),
            recipe.exchanges or 0,
            steps,
            recipe.visits or 1,
            recipe.order or ORDERS[0],
            is_local(recipe.network),
        )
        return len(schedule.first_steps(recipe.slices)), recipe.slices ** (1 if schedule.groups else 2)

    def _more(self, recipe: Recipe, slices: int) -> str:
        """What lets all slices train, in words."""
        turns, batches = -(-slices // (recipe.visits or 1)), self.train_set.batches
        if recipe.exchanges:
            return "more exchanges" if recipe.exchanges < turns else "more epochs"
        epochs = (turns - 1) * recipe.hold_steps(batches) // batches + 1  # the last turn begins in this epoch
        return f"at least {epochs:,} epochs, a shorter hold"

    def _cuts(self) -> str:
        """Describe the tilings chosen for a budget, in words."""
        if self.ram is None:
            return ""
        fastest = max(one.plan.nbytes for one in self.layout.fit(None))
        names = [f"layer {n + 1}" if len(self.chosen) > 1 else "all" for n in range(len(self.chosen))]
        ways = [f"{name}: {self.layout.described(one)}" for name, one in zip(names, self.chosen, strict=True)]
        need = max(one.plan.nbytes for one in self.chosen)
        return "\n".join([f"{need:,} of {self.ram:,} bytes of RAM; without a limit it would take {fastest:,}", *ways])

    # -- the loop ------------------------------------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        self.tell(Event("start", batches=self.train_set.batches, note=self._cuts()))
        for number in range(self.meta["layer"], len(self.stages)):
            self._train_stage(number)
        self._save()
        result = result_of(self)
        write_whole(self.directory / "audit.json", json.dumps(audit_of(self, result), indent=1).encode() + b"\n")
        self.tell(Event("done", test_error_pct=result["error_pct"]))
        return result

    def _save(self) -> None:
        """Write the model through the commit buffer; the reads do not count as training's."""
        last, counted = len(self.stages) - 1, self.flash.read_bytes
        if not hasattr(self, "stage"):  # all stages were trained by an earlier process
            self.arena.lay_out(self.chosen[last].plan)
            self._open_stage(self.stages[last], last)
        self.arena.enter("load")
        exam = (self.exam or Examination(self, last, False)) if self.audit else None
        if exam:
            exam.findings = Findings()  # those of the stage are recorded
        with exam.opened() if exam else contextlib.nullcontext():
            if exam:
                exam.tell(SAVING)
            path, view = self.directory / "model.safetensors", self.commit_buffer.data
            writing.save(path, self.recipe, self.dataset, self.stages, self.meta, self.flash, view)
        self.flash.read_bytes = counted
        if exam:
            allocated = exam.allocated(SAVING)
            self._add_findings(list(exam.findings), last, allocated)

    def _train_stage(self, number: int) -> None:
        meta, plan = self.meta, self.chosen[number].plan
        fresh = meta["stage"] == "start"
        recomputed = self.recipe.recompute or number == 0
        self.train_records = self.train_set if recomputed else self._outputs(number - 1, "outputs", self.N)
        self.test_records = self.test_set if recomputed else self._outputs(number - 1, "test_outputs", self.N_test)
        cores = self.threads if self.recipe.recompute else self.stages[number].cores
        self.team = Team(cores)
        self.exam = Examination(self, number, fresh) if self.audit else None
        begin = partial(_Run._begin_stage, number=number)
        if self.exam and fresh:
            self.exam.begun(begin)
        # a step touches bytes that a hand-over does not: the watermark of the process before a resume counts here
        before, seen = meta.get("watermark", (0, 0))
        self.arena.lay_out(plan, seen if not fresh and before == plan.nbytes else 0)
        with self.exam.opened() if self.exam else contextlib.nullcontext():
            with self.exam.views() if self.exam else contextlib.nullcontext():
                self._open_stage(self.stages[number], number)
            begin(self)
            if self.exam:
                self.exam.compare("", None)
            if fresh:
                meta.update(stage="train", epoch=meta["first"], batch=0, loss=0.0, wrong=0, seen=0)
                self.seconds.append(0.0)
                self.epochs.append(0)
            enough = False
            if meta["stage"] == "train":
                while meta["epoch"] < meta["last"] and not enough and not self.stage.frozen:
                    enough = self._train_epoch(number)
                self.stage.flush(self.flash)
                self.arena.enter("load")
                meta["stage"] = "hand-over"
                self._commit()
            self._hand_over(number)

    def _begin_stage(self, number: int) -> None:
        """Create a stage's objects in flash, or find them there, and rebuild the arena's content from them."""
        meta, stage = self.meta, self.stage
        if meta["stage"] != "start":
            self._rejoin(stage)
            return
        if number < len(meta["states"]):  # it was trained on earlier samples
            stage.state = meta["states"][number]
        else:
            stage.create(self.flash)
            stage.initialize(self.flash)
            stage.forget_given(self.flash)
        stage.restore(self.flash)

    def _rejoin(self, stage: Stage) -> None:
        """Restore a stage to its commit, including resident slices, without counting the reads, which an uninterrupted
        run would not make."""
        flash = self.flash
        counted = flash.read_bytes, flash.written_bytes, flash.exchanges, flash.wear
        stage.state = self.meta["state"]
        layers = [layer for layer in stage.layers if isinstance(layer, Parameters)]
        resident = [layer.state.resident for layer in layers]
        stage.restore(flash)
        for layer, k in zip(layers, resident, strict=True):
            if k is not None and k < len(layer.grid):
                layer.exchange(flash, k)
        flash.read_bytes, flash.written_bytes, flash.exchanges, flash.wear = counted

    def _step(self, step: int, k: int) -> tuple[int, Outcome]:
        """Run one training step, the k-th of its epoch; return its number of samples and its outcome."""
        samples, outcome = 0, Outcome(0.0, 0)
        epoch, records = step // self.train_records.batches, self.train_records
        for part in self._parts(records, self._batch_at(k, epoch), epoch):
            samples, done = samples + part.samples, outcome
            outcome = self.stage.train_step(self.flash, part, step)
            outcome = Outcome(done.loss + outcome.loss, done.wrong + outcome.wrong, outcome.diverged)
            if outcome.diverged:
                break
        return samples, outcome

    def _batch_at(self, k: int, epoch: int) -> int:
        """The batch of the k-th step of an epoch."""
        if not (self.recipe.reshuffle and self.recipe.rule.by_layer):
            return k
        return int(random_kernels.turn(k, self.train_records.batches, epoch, np.uint64(self.recipe.seed)))

    def _train_epoch(self, number: int) -> bool:
        """Train for one epoch; return whether the listener asked to end the stage."""
        meta, batches = self.meta, self.train_records.batches
        epoch, clock = meta["epoch"], time.perf_counter()

        def lap() -> None:
            nonlocal clock
            now = time.perf_counter()
            self.seconds[-1] += max(0.0, now - clock)
            clock = now

        for k in range(meta["batch"], batches):
            step = epoch % self.recipe.epochs * batches + k
            first = (epoch, k) == (meta["first"], 0)
            one_step = self._examined_step if self.exam else self._step
            samples, outcome = self.team.run(partial(one_step, step, k))
            if outcome.diverged:
                where = f"layer {number + 1}, " if self.recipe.rule.by_layer else ""
                found = "".join(f"; audit: {line}" for line in self.exam.findings) if self.exam else ""
                raise Diverged(
                    f"training diverged in {where}epoch {epoch + 1}, batch {k + 1}: {outcome.diverged};"
                    f" the last commit is kept; start again with a smaller --lr{found}"
                )
            meta["loss"] += outcome.loss
            meta["wrong"] += outcome.wrong
            meta["seen"] += samples
            meta["batch"] = k + 1
            if first:
                self.arena.watermark()
            self.tell(Event("batch", number, epoch, k, batches, *self._so_far()))
            if self.stop or (self.commit_every and (step + 1) % self.commit_every == 0):
                lap()
                self._stop_or_commit()
        test_error = self._evaluate(number)
        lap()
        mean, error = self._so_far()
        row = {
            "layer": number,
            "epoch": epoch,
            "loss": mean,
            "train_error_pct": error,
            "test_error_pct": test_error,
            "seconds": self.seconds[-1],
        }
        assert self.metrics is not None
        self.metrics.write(json.dumps(row).encode() + b"\n")
        meta["metrics_lines"] += 1
        meta.update(epoch=epoch + 1, batch=0, loss=0.0, wrong=0, seen=0)
        self.epochs[-1] += 1
        enough = self.tell(Event("epoch", number, epoch, 0, batches, mean, error, test_error, row["seconds"]))
        self._stop_or_commit()
        return enough is True

    def _so_far(self) -> tuple[float, float]:
        """Mean loss and training error (%) of the epoch so far."""
        return self.meta["loss"] / self.meta["seen"], 100.0 * self.meta["wrong"] / self.meta["seen"]

    def _stop_or_commit(self) -> None:
        self.stage.flush(self.flash)
        self.arena.enter("load")
        self._commit()
        if self.stop:
            raise Interrupted(f"interrupted and committed; continue with: tinyfoa train --resume {self._quoted()}")

    def _evaluate(self, number: int) -> float | None:
        """Test error of the stage in training, in %; None if there are no test samples."""
        wrong = sum(map(self._examined_test if self.exam else self._test, range(self.test_records.batches)))
        return 100.0 * wrong / self.N_test if self.N_test else None

    def _test(self, k: int) -> int:
        """Number of wrong predictions in batch k of the test split."""
        return sum(self.stage.evaluate(self.flash, part) for part in self._parts(self.test_records, k))

    def _hand_over(self, number: int) -> None:
        """Freeze the stage: digests, values for inference from the training set, outputs for the next stage."""
        meta, stage, flash = self.meta, self.stage, self.flash
        outputs = self._make_outputs(number)
        if self.exam:
            then = _Run._rehearsed_commit if stage.frozen else None  # a frozen stage had no step after which to commit
            self.exam.rehearse("", partial(_Run._rehearsed_hand_over, number=number), then)
            self.exam.left = None  # the training itself hands over all batches
            self.exam.tell("")
        self.arena.enter("hand-over")
        digests = list(map(bytes.fromhex, stage.begin_hand_over(flash)))
        for k in range(self.train_records.batches if stage.surveys else 0):
            self._hand_over_batch(self.train_records, k, True, outputs[0])
            self.tell(Event("handover", number, batch=k, batches=self.train_records.batches))
        stage.settle(self.N)
        tests = self.test_records
        wrong = sum(self._hand_over_batch(tests, k, False, outputs[1]) for k in range(tests.batches))
        error = 100.0 * wrong / self.N_test if self.N_test else None
        stage.keep(flash)
        for layer in stage.layers if meta["lean"] else ():
            layer.forget(flash)
        self.arena.watermark()
        meta["probed"].append(self.exam is not None and self.exam.fresh)
        with self._untraced():
            meta["arena"].append(measured(self.arena, self.chosen[number].tiling))
        if self.exam:
            self._note(number)
        for digest, known in zip(digests, stage.inference_values(), strict=True):
            meta["trained"].append(Numbers(digest, known["alpha"], known["scale"]))
        meta["errors"].append(error)
        meta["states"][number : number + 1] = [stage.state]
        for name in ("outputs", "test_outputs"):
            if f"layer{number - 1}.{name}" in flash.names():
                flash.drop(f"layer{number - 1}.{name}")
        meta.update(layer=number + 1, stage="start")
        self.arena.enter("load")
        self._commit()
        if self.exam:
            self._note(number)  # including the allocations of this commit
        self.tell(Event("layer", number, test_error_pct=error, seconds=self.seconds[-1]))
        if self.stop and number + 1 < len(self.stages):
            raise Interrupted(f"interrupted and committed; continue with: tinyfoa train --resume {self._quoted()}")

    def _make_outputs(self, number: int) -> tuple[Records | None, Records | None]:
        """Create objects in flash for the stage's outputs on the training set and the test split."""
        if number + 1 == len(self.stages) or self.recipe.recompute:
            return None, None
        both = self._outputs(number, "outputs", self.N), self._outputs(number, "test_outputs", self.N_test)
        for out in both:
            self.flash.new(out.name, [out.nbytes], slots=1)
        return both

    def _hand_over_batch(self, records: Records, k: int, trained: bool, out: Records | None) -> int:
        """Pass batch k through the trained stage, writing outputs to ``out`` if given; return the wrong predictions."""
        wrong, ram = 0, self.stage.ram
        for part in self._parts(records, k, held=self.stage.handed_samples):
            wrong += self.stage.hand_over(self.flash, part, trained)
            if out:
                out.write_part(self.flash, k, part.first, part.samples, ram.outputs)
        if out:
            out.write_rest(self.flash, k, ram.labels, ram.input_scale)
        return wrong

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _untraced(self) -> contextlib.AbstractContextManager[None]:
        """Do not count allocations inside as training's."""
        return self.exam.trace.paused() if self.exam else contextlib.nullcontext()

    def tell(self, event: Event) -> Any:
        """Report an event and return the listener's answer; allocations of the listener are not counted."""
        with self._untraced():
            return self.on_event(event)

    def _full_batch(self, epoch: int) -> int:
        """The first step of an epoch whose batch is full; the first of all if none is."""
        records = self.train_records
        return next((k for k in range(records.batches) if records.count(self._batch_at(k, epoch)) == records.batch), 0)

    def _examined_step(self, step: int, k: int) -> tuple[int, Outcome]:
        """Run one training step, rehearsed before if it was chosen for it."""
        exam, meta = self.exam, self.meta
        assert exam is not None
        index = (meta["epoch"] - meta["first"]) * self.train_records.batches + k
        now = f"step {index + 1}"
        exam.tell(now)
        exam.step(index)
        work = partial(_Run._step, step=step, k=k)
        if index == 0:
            for widest in sorted(self.stage.widest_steps()):
                full = self._full_batch(widest // self.train_records.batches)
                if (widest, full) == (step, k):
                    continue
                exam.rehearse(f"step {widest + 1}", partial(_Run._step, step=widest, k=full), _Run._rehearsed_commit)
                exam.left = None
        if index in exam.drawn:
            exam.rehearse(now, work, _Run._rehearsed_commit)
        result = work(self)
        exam.compare(now, result)
        return result

    def _examined_test(self, k: int) -> int:
        """Like :meth:`_test`, rehearsed before if the batch was drawn, after the first epoch and the last."""
        exam, meta = self.exam, self.meta
        assert exam is not None
        now = f"test batch {k + 1}"
        exam.tell(now)
        work = partial(_Run._test, k=k)
        if k in exam.tests and meta["epoch"] in (meta["first"], meta["last"] - 1):
            exam.rehearse(now, work)
        result = work(self)
        exam.compare(now, result)
        return result

    def _rehearsed_commit(self) -> None:
        self.stage.flush(self.flash)
        self.arena.enter("load")
        self.flash.commit(self.commit_buffer)  # type: ignore[call-arg]
        largest = max(self.stage.layers, key=lambda layer: layer.commit_bytes)  # the buffer is for its slices
        self.flash.verify(largest.name("slices"), 0, self.commit_buffer)  # type: ignore[attr-defined]

    def _rehearsed_hand_over(self, number: int) -> None:
        self.arena.enter("hand-over")
        outputs = self._make_outputs(number)
        self.stage.begin_hand_over(self.flash)
        self._hand_over_batch(self.train_records, 0, True, outputs[0])
        self.stage.settle(self.train_records.count(0))
        for k in range(min(1, self.test_records.batches)):
            self._hand_over_batch(self.test_records, k, False, outputs[1])
        self.stage.keep(self.flash)

    def _note(self, number: int) -> None:
        """Record the findings of a stage's examination."""
        assert self.exam is not None
        with self.exam.trace.paused():
            allocated = self.exam.finish()
            where = f"layer {number + 1}: " if self.recipe.rule.by_layer else ""
            self._add_findings([f"{where}{line}" for line in self.exam.findings], number, allocated)

    def _add_findings(self, found: list[str], number: int, allocated: dict[str, int]) -> None:
        """Add findings to those of the run, and the bytes allocated to a stage's, which keep the largest."""
        arena = self.meta["arena"][number]
        before = arena.get("beside") or {}
        arena["beside"] = {name: max(value, before.get(name, 0)) for name, value in allocated.items()}
        self.meta["findings"] += [line for line in found if line not in self.meta["findings"]]
