"""The training loop: stages, epochs, exchanges, batches, and what is measured of them.

One stage at a time, a layer of TinyFoA or the whole network of the others: its plan is laid out in the arena, its
weights are made in flash, and each batch goes through

    load        flash reads batch k into the arena
    forward     z, what it switches on, logits
    gradient    logits to error
    update      exchange in the slices that are due; gradient, optimizer, signs

until the stage's epochs are over; then its outputs are handed over to the next stage's training set.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numba

from ..data import Dataset
from ..data.dataset import check_split
from ..errors import BadRequest
from ..kernels.launching import launched
from ..layers.dense import Parameters
from ..layers.layer import Part, whole
from ..layers.tiling import Tiling
from ..model import model
from ..network import is_local
from ..ram.packing import PHASES
from ..ram.probe import Probe, Rehearsal
from ..recipe import Recipe
from ..rules.recompute import Below
from ..rules.stage import Outcome, Stage
from ..slices import ORDERS, Schedule
from ..storage.records import Records
from ..storage.whole_file import write_whole
from .directory import stand_in
from .events import Diverged, Event, Interrupted
from .session import Session


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
    on_event: Callable[[Event], None] | None = None,
    tilings: Sequence[Tiling] | None = None,
) -> dict[str, Any]:
    """Trains a network inside one block of bytes; the run directory gets recipe, flash, metrics, model and audit.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset or None
        Not needed with ``resume``: the samples are in flash. Where its test split is empty, test errors are None.
    run_dir : path
        A new or empty directory; with ``resume``, one that a run was started in.
    ram : int, optional
        The most bytes the arena may have. Without it, tiles are what is fastest; with ``resume``, what the run was
        started with.
    threads : int, optional
        All cores without it. Results do not depend on it.
    audit : bool
        Probe which bytes are written, and poison regions when their lifetime ends.
    lean : bool
        Let go of a layer's full-precision weights once it is trained: flash keeps what inference needs. A resumed run
        stays as it was started.
    commit_every : int, optional
        Commit every so many steps, too; without it, after each epoch.
    resume : bool
        Continue from the last commit.
    stream : bool
        ``dataset`` is the next part of a stream: each layer trains on it for the next one of the recipe's epochs only,
        which come again after the last. Where ``run_dir`` has a run, from the weights, moments and step counts that
        this has left; its samples give way to the new ones.
    on_event : callable, optional
        Called with each :class:`Event`.
    tilings : sequence of Tiling, optional
        How each stage is cut, where another run has chosen that already: then ``ram`` is only written down.

    Returns
    -------
    dict
        ``error_pct``, ``layer_errors_pct``, ``seconds_per_epoch``, ``model_sha256``, ``arena``, ``flash``, ``run_dir``,
        ``recipe``; with ``audit`` also ``findings``, empty when every byte is accounted for. Bytes throughout.

    Raises
    ------
    BadRequest
        If recipe and data do not go together, the arena does not fit ``ram``, or the directory is in use.
    Diverged
        If numbers are no longer finite; the last commit is kept.
    CheckFailed
        If flash is damaged.
    Interrupted
        After Ctrl-C, once the step is finished and committed.
    """
    if resume and stream:
        raise BadRequest("resume goes on with the samples that are there, stream with others: give one of them")
    if dataset is None:
        if not resume:
            raise BadRequest("a new run needs a data set")
        dataset = stand_in(Path(run_dir))
    else:
        for name, split in (("train", dataset.train), ("test", dataset.test)):
            check_split(dataset, name, split)
    recipe = recipe.validated()
    if dataset.digest is not None and not stream:  # of a stream every part has another
        if recipe.digest not in (None, dataset.digest):
            raise BadRequest(f"{dataset.name} does not hold the samples that the recipe is for: its digest is another")
        recipe = replace(recipe, digest=dataset.digest)
    run = _Run(
        recipe, dataset, Path(run_dir), ram, threads, audit, lean, commit_every, on_event or _silent,
        tilings,
    )
    with launched(), run.opened(resume, stream):
        return run.train()


def _silent(event: Event) -> None:
    pass


class _Run(Session):
    """A training run: the plan of every stage, the arena, the flash and the position in between."""

    def __init__(
        self, recipe: Recipe, dataset: Dataset, directory: Path, ram: int | None, threads: int | None, audit: bool,
        lean: bool, commit_every: int | None, on_event: Callable[[Event], None], tilings: Sequence[Tiling] | None,
    ) -> None:
        super().__init__(recipe, dataset, directory, ram, threads, audit, lean, tilings)
        self.commit_every, self.on_event = commit_every, on_event
        visited, slices = self._visited(self.layout.inner)
        if visited < slices:
            warnings.warn(
                f"only {visited} of a layer's {slices} slices will train: the epochs end before the others' turn"
                " (a shorter hold, more epochs or more exchanges reach them)",
                stacklevel=3,
            )

    def _visited(self, recipe: Recipe) -> tuple[int, int]:
        """How many slices of a layer will train, and how many there are."""
        if recipe.schedule != "slice" or recipe.slices is None:
            return 1, 1
        steps = recipe.epochs * self.train_set.batches
        schedule = Schedule(
            recipe.hold_steps(self.train_set.batches), recipe.exchanges or 0, steps, recipe.visits or 1,
            recipe.order or ORDERS[0], is_local(recipe.network),
        )  # fmt: skip
        return len(schedule.first_steps(recipe.slices)), recipe.slices ** (1 if schedule.groups else 2)

    def _cuts(self) -> str:
        """What a budget made of the plan, in words."""
        if self.ram is None:
            return ""
        fastest = max(one.plan.nbytes for one in self.layout.fit(None))
        names = [f"layer {n + 1}" if len(self.chosen) > 1 else "all" for n in range(len(self.chosen))]
        ways = [f"{name}: {self.layout.described(one)}" for name, one in zip(names, self.chosen, strict=True)]
        need = max(one.plan.nbytes for one in self.chosen)
        return "\n".join([f"{need:,} of {self.ram:,} bytes of RAM; what is fastest takes {fastest:,}", *ways])

    # -- the loop ------------------------------------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        self.on_event(Event("start", batches=self.train_set.batches, note=self._cuts()))
        for number in range(self.meta["layer"], len(self.stages)):
            self._train_stage(number)
        result = self._result()
        model.save(self.directory / "model.safetensors", self.recipe, self.dataset, self.stages, self.meta, self.flash)
        write_whole(self.directory / "audit.json", json.dumps(self._audit(result), indent=1).encode() + b"\n")
        self.on_event(Event("done", test_error_pct=result["error_pct"]))
        return result

    def _train_stage(self, number: int) -> None:
        meta, stage, plan = self.meta, self.stages[number], self.chosen[number].plan
        self.stage = stage
        cores = self.threads if self.recipe.recompute else stage.cores
        numba.set_num_threads(min(cores, numba.config.NUMBA_NUM_THREADS))
        # a step touches what a hand-over does not: what the process before a resume has seen counts, in the same arena
        before, seen = meta.get("watermark", (0, 0))
        self.arena.lay_out(plan, seen if meta["stage"] != "start" and before == plan.nbytes else 0)
        self.arena.enter("initialize")
        stage.open(self.arena)
        self.commit_buffer = stage.ram.commit
        self.below = None
        if self.recipe.recompute and number > 0:
            tiling = self.chosen[number].tiling
            self.below = Below(self.stages[:number], meta["trained"], tiling, self.threads)  # type: ignore[arg-type]
            self.below.open(self.arena)
        recomputed = self.recipe.recompute or number == 0
        self.train_records = self.train_set if recomputed else self._outputs(number - 1, "outputs", self.N)
        self.test_records = self.test_set if recomputed else self._outputs(number - 1, "test_outputs", self.N_test)
        # a layer that was begun before a resume is not probed: what it touched then was not seen
        self.probe = Probe(self.arena) if self.audit and meta["stage"] == "start" else None
        if meta["stage"] == "start":
            if number < len(meta["states"]):  # it was trained on samples before these
                stage.state = meta["states"][number]
            else:
                stage.create(self.flash)
                stage.initialize(self.flash)
            meta.update(stage="train", epoch=meta["first"], batch=0, loss=0.0, wrong=0, seen=0)
            self.seconds.append(0.0)
            stage.restore(self.flash)
        else:
            self._rejoin(stage)
        if meta["stage"] == "train":
            while meta["epoch"] < meta["last"]:
                self._train_epoch(number)
            stage.flush(self.flash)
            self.arena.enter("load")
            meta["stage"] = "hand-over"
            self._commit()
        self._hand_over(number)

    def _rejoin(self, stage: Stage) -> None:
        """Brings a stage back to where it was committed, its resident slices too, and counts nothing of it: an
        uninterrupted run would have read nothing here."""
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

    def _load(self, flash: Any, records: Records, k: int) -> int:
        """Batch k into the arena; returns its samples."""
        self.arena.enter("load")
        ram = self.stage.ram
        if self.below is None:
            return records.read(flash, k, ram.inputs, ram.labels, ram.input_scale)
        samples = records.read(flash, k, self.below.inputs, ram.labels, ram.input_scale)
        self.below.forward(flash, samples, ram.inputs, ram.input_scale, records.name == "test")
        return samples

    def _parts(self, flash: Any, records: Records, k: int) -> Iterator[Part]:
        """Loads batch k, as many samples at a time as the arena holds."""
        held, n = self.stage.held_samples, records.count(k)
        if held >= n:
            yield whole(self._load(flash, records, k))
            return
        ram = self.stage.ram
        for first in range(0, n, held):
            self.arena.enter("load")
            part = Part(min(held, n - first), first, n)
            # a stage that has room for a batch's labels wants them all
            labels = ram.labels[first:] if len(ram.labels) > held else ram.labels
            records.read_part(flash, k, part.first, part.samples, ram.inputs, labels, ram.input_scale)
            yield part

    def _step(self, flash: Any, step: int, k: int) -> tuple[int, Outcome]:
        """One training step, with batch k; returns its samples and what came of it."""
        samples, outcome = 0, Outcome(0.0, 0)
        for part in self._parts(flash, self.train_records, k):
            samples, done = samples + part.samples, outcome
            outcome = self.stage.train_step(flash, part, step)
            outcome = Outcome(done.loss + outcome.loss, done.wrong + outcome.wrong, outcome.diverged)
            if outcome.diverged:
                break
        return samples, outcome

    def _train_epoch(self, number: int) -> None:
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
            if self.probe and (first or (epoch, k) == (meta["last"] - 1, batches - 1)):
                for probed in sorted({step} | (self.stage.widest_steps() if first else set())):
                    self._rehearse(partial(self._rehearsed_step, step=probed, k=k))
            samples, outcome = self._step(self.flash, step, k)
            if outcome.diverged:
                where = f"layer {number + 1}, " if self.recipe.rule.by_layer else ""
                raise Diverged(
                    f"training diverged in {where}epoch {epoch + 1}, batch {k + 1}: {outcome.diverged};"
                    " the last commit is kept; start again with a smaller --lr"
                )
            meta["loss"] += outcome.loss
            meta["wrong"] += outcome.wrong
            meta["seen"] += samples
            meta["batch"] = k + 1
            if first:
                self.arena.watermark()
            self.on_event(Event("batch", number, epoch, k, batches, *self._so_far()))
            if self.stop or (self.commit_every and (step + 1) % self.commit_every == 0):
                lap()
                self._stop_or_commit()
        test_error = self._evaluate(number)
        lap()
        mean, error = self._so_far()
        row = {
            "layer": number, "epoch": epoch, "loss": mean, "train_error_pct": error, "test_error_pct": test_error,
            "seconds": self.seconds[-1],
        }  # fmt: skip
        assert self.metrics is not None
        self.metrics.write(json.dumps(row).encode() + b"\n")
        meta["metrics_lines"] += 1
        meta.update(epoch=epoch + 1, batch=0, loss=0.0, wrong=0, seen=0)
        self.on_event(Event("epoch", number, epoch, 0, batches, mean, error, test_error, row["seconds"]))
        self._stop_or_commit()

    def _so_far(self) -> tuple[float, float]:
        """Mean loss and training error (%) of the epoch so far."""
        return self.meta["loss"] / self.meta["seen"], 100.0 * self.meta["wrong"] / self.meta["seen"]

    def _stop_or_commit(self) -> None:
        self.stage.flush(self.flash)
        self.arena.enter("load")
        self._commit()
        if self.stop:
            raise Interrupted(f"interrupted and committed; go on with: tinyfoa train --resume {self._quoted()}")

    def _evaluate(self, number: int) -> float | None:
        """Test error of the stage in training, %; None where there is nothing to test on."""
        if self.probe and self.meta["epoch"] == self.meta["first"] and self.N_test:
            self._rehearse(self._evaluate_batch)
        wrong = sum(self._evaluate_batch(self.flash, k) for k in range(self.test_records.batches))
        return 100.0 * wrong / self.N_test if self.N_test else None

    def _evaluate_batch(self, flash: Any, k: int = 0) -> int:
        return sum(self.stage.evaluate(flash, part) for part in self._parts(flash, self.test_records, k))

    def _hand_over(self, number: int) -> None:
        """Freezes the stage: digests, what inference takes from the training set, outputs for the next stage."""
        meta, stage, flash = self.meta, self.stage, self.flash
        train_out = test_out = None
        if number + 1 < len(self.stages) and not self.recipe.recompute:
            train_out = self._outputs(number, "outputs", self.N)
            test_out = self._outputs(number, "test_outputs", self.N_test)
            flash.new(train_out.name, [train_out.nbytes], slots=1)
            flash.new(test_out.name, [test_out.nbytes], slots=1)
        if self.probe:
            self._rehearse(self._rehearsed_hand_over)
        self.arena.enter("hand-over")
        digests = stage.begin_hand_over(flash)
        for k in range(self.train_records.batches if stage.surveys else 0):
            self._hand_over_batch(self.train_records, k, True, train_out)
            self.on_event(Event("handover", number, batch=k, batches=self.train_records.batches))
        stage.settle(self.N)
        tests = self.test_records
        wrong = sum(self._hand_over_batch(tests, k, False, test_out) for k in range(tests.batches))
        error = 100.0 * wrong / self.N_test if self.N_test else None
        stage.keep(flash)
        for layer in stage.layers if meta["lean"] else ():
            layer.forget(flash)
        self.arena.watermark()
        meta["probed"].append(self.probe is not None)
        if self.probe:
            where = f"layer {number + 1}: " if self.recipe.rule.by_layer else ""
            meta["findings"] += [f"{where}{line}" for line in self.probe.findings()]
        meta["arena"].append(self._measured())
        meta["trained"] += [{"digest": d, **known} for d, known in zip(digests, stage.known(), strict=True)]
        meta["errors"].append(error)
        meta["states"][number : number + 1] = [stage.state]
        for name in ("outputs", "test_outputs"):
            if f"layer{number - 1}.{name}" in flash.names():
                flash.drop(f"layer{number - 1}.{name}")
        meta.update(layer=number + 1, stage="start")
        self.arena.enter("load")
        self._commit()
        self.on_event(Event("layer", number, test_error_pct=error, seconds=self.seconds[-1]))
        if self.stop and number + 1 < len(self.stages):
            raise Interrupted(f"interrupted and committed; go on with: tinyfoa train --resume {self._quoted()}")

    def _hand_over_batch(self, records: Records, k: int, trained: bool, out: Records | None) -> int:
        """Batch k through the trained stage, its outputs written if ``out`` says where; how many answers are wrong."""
        wrong, ram = 0, self.stage.ram
        for part in self._parts(self.flash, records, k):
            wrong += self.stage.hand_over(self.flash, part, trained)
            if out:
                out.write_part(self.flash, k, part.first, part.samples, ram.outputs)
        if out:
            out.write_rest(self.flash, k, ram.labels, ram.input_scale)
        return wrong

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _rehearse(self, work: Callable[[Any], Any]) -> None:
        """Lets the probe see ``work(flash)`` without leaving a trace in flash or in the stage's state."""
        assert self.probe is not None
        state = self.stage.state

        def once() -> None:
            self.stage.state = state
            work(Rehearsal(self.flash))

        moved = self.flash.read_bytes
        self.probe.run(once, self.stage.carried() & set(self.arena.plan.offsets))
        self.stage.state, self.flash.read_bytes = state, moved

    def _rehearsed_step(self, flash: Rehearsal, step: int, k: int) -> None:
        self._step(flash, step, k)
        self.arena.enter("load")
        largest = max(self.stage.layers, key=lambda layer: layer.commit_bytes)  # the buffer is for its slices
        flash.verify(largest.name("slices"), 0, self.commit_buffer)

    def _rehearsed_hand_over(self, flash: Rehearsal) -> None:
        self.arena.enter("hand-over")
        self.stage.begin_hand_over(flash)  # type: ignore[arg-type]
        for part in self._parts(flash, self.train_records, 0):
            self.stage.hand_over(flash, part, True)  # type: ignore[arg-type]

    def _measured(self) -> dict[str, Any]:
        """What the arena says about the stage just trained."""
        arena, plan, chosen = self.arena, self.arena.plan, self.chosen[self.meta["layer"]]
        return {
            "planned_bytes": plan.nbytes,
            "accounted_bytes": arena.accounted,
            "watermark_bytes": arena.watermark(),
            "phases": {
                p: {"planned_bytes": plan.phase_bytes(p), "accounted_bytes": arena.accounted_in(p)} for p in PHASES
            },
            "regions": [
                {"name": r.name, "shape": r.shape, "dtype": r.dtype, "phases": r.phases, "offset": plan.offsets[r.name],
                 "nbytes": r.nbytes}
                for r in plan.regions
            ],
            "tiling": asdict(chosen.tiling),
        }  # fmt: skip

    def _result(self) -> dict[str, Any]:
        meta = self.meta
        kinds = ("planned_bytes", "accounted_bytes")
        digests = "".join(layer["digest"] for layer in meta["trained"])
        result = {
            "error_pct": meta["errors"][-1],
            "layer_errors_pct": meta["errors"],
            "seconds_per_epoch": [seconds / (meta["last"] - meta["first"]) for seconds in self.seconds],
            "model_sha256": hashlib.sha256(bytes.fromhex(digests)).hexdigest(),
            "arena": {
                "budget_bytes": self.ram,
                **{k: max(layer[k] for layer in meta["arena"]) for k in (*kinds, "watermark_bytes")},
                "phases": {p: {k: max(m["phases"][p][k] for m in meta["arena"]) for k in kinds} for p in PHASES},
            },
            "flash": {
                "bytes": self.flash.bytes, "read_bytes": self.flash.read_bytes,
                "written_bytes": self.flash.written_bytes, "exchanges": self.flash.exchanges,
            },
            "run_dir": str(self.directory),
            "recipe": json.loads(self.recipe.to_json()),
        }  # fmt: skip
        if self.audit:
            result["findings"] = meta["findings"]
        return result

    def _audit(self, result: dict[str, Any]) -> dict[str, Any]:
        known = {name: self.meta[name] for name in ("probed", "findings")}
        about = {
            "classes": self.dataset.classes, "samples": self.N, "threads": self.threads, "image": self.dataset.image,
        }  # fmt: skip
        return {**result, **about, "layers": self.meta["arena"], **known}
