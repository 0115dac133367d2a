"""How a batch comes into the arena: read as it lies in flash, or shuffled, changed, or through the layers below."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..kernels import random as random_kernels
from ..layers.layer import Part, whole
from ..rules.augment import Augmenter
from ..rules.recompute import Below
from ..rules.stage import Stage
from ..storage.records import Records
from .session import Session


class Loading(Session):
    """A session that opens stages and loads batches into their arena.

    Attributes
    ----------
    stage : Stage
        In training.
    below : Below or None
        The layers below it, if they are computed again for every batch.
    augment : Augmenter or None
        What changes its training samples.
    """

    stage: Stage
    below: Below | None
    augment: Augmenter | None
    train_records: Records
    test_records: Records

    def make_stage(self, number: int) -> None:
        """A stage like one of the run's, made anew and opened: for work that must leave no trace."""
        chosen = self.chosen[number]
        self._open_stage(self.layout.makers[number](chosen.tiling), number)

    def _open_stage(self, stage: Stage, number: int) -> None:
        """Takes the views of a stage from the arena."""
        self.stage = stage
        self.arena.enter("initialize")
        stage.open(self.arena)
        self.commit_buffer = stage.ram.commit
        self.below = None
        if self.recipe.recompute and number > 0:
            tiling = self.chosen[number].tiling
            self.below = Below(self.stages[:number], self.meta["trained"], tiling, self.threads)  # type: ignore[arg-type]
            self.below.open(self.arena)
        # of what lower layers handed on nothing is changed
        self.augment = None
        if self.recipe.augment and (self.recipe.recompute or number == 0):
            self.augment = Augmenter(self.recipe, self.layout.inputs, self.threads)
            self.augment.open(self.arena)

    def _load(self, records: Records, k: int, epoch: int | None) -> int:
        """Batch k into the arena; returns its samples. Parameters as for :meth:`_parts`."""
        self.arena.enter("load")
        ram, samples = self.stage.ram, records.count(k)
        inputs = ram.inputs if self.below is None else self.below.inputs
        if epoch is not None and self.recipe.reshuffle and not self.recipe.rule.by_layer:
            self._load_shuffled(whole(samples), k, epoch)
        else:
            records.read(self.flash, k, inputs, ram.labels, ram.input_scale)
        if epoch is not None and self.augment:
            self.augment(inputs, samples, epoch, k * records.batch)
        if self.below:
            self.below.forward(self.flash, samples, ram.inputs, ram.input_scale, records.name == "test")
        return samples

    def _load_shuffled(self, part: Part, k: int, epoch: int) -> None:
        """The samples into the arena that come in the places of part of batch k in an epoch, in a new order each."""
        records, ram = self.train_records, self.stage.ram
        seed, begin = np.uint64(self.recipe.seed), k * records.batch + part.first
        labels = ram.labels[part.first :] if len(ram.labels) > self.stage.held_samples else ram.labels
        for i in range(part.samples):
            row, scale = random_kernels.turn(begin + i, records.samples, epoch, seed), ram.input_scale[i:]
            records.read_row(self.flash, row, ram.inputs[i : i + 1], labels[i : i + 1], scale)

    def _parts(self, records: Records, k: int, epoch: int | None = None, held: int | None = None) -> Iterator[Part]:
        """Loads batch k, as many samples at a time as the arena holds.

        Parameters
        ----------
        records : Records
        k : int
        epoch : int, optional
            To train on in that epoch: samples are then shuffled and changed, if the recipe says so.
        held : int, optional
            Samples at a time, where they are fewer than the arena holds.
        """
        held, n = held or self.stage.held_samples, records.count(k)
        if held >= n:
            yield whole(self._load(records, k, epoch))
            return
        ram = self.stage.ram
        for first in range(0, n, held):
            self.arena.enter("load")
            part = Part(min(held, n - first), first, n)
            # a stage that has room for a batch's labels wants them all
            labels = ram.labels[first:] if len(ram.labels) > held else ram.labels
            if epoch is not None and self.recipe.reshuffle and not self.recipe.rule.by_layer:
                self._load_shuffled(part, k, epoch)
            else:
                records.read_part(self.flash, k, part.first, part.samples, ram.inputs, labels, ram.input_scale)
            if epoch is not None and self.augment:
                self.augment(ram.inputs, part.samples, epoch, k * records.batch + first)
            yield part
