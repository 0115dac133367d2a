"""Loading of batches into the arena: in stored order, shuffled, augmented, or through the layers below."""

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
        The stage in training.
    below : Below or None
        The layers below it, if they are recomputed for every batch.
    augment : Augmenter or None
        Augmentation of its training samples.
    """

    stage: Stage
    below: Below | None
    augment: Augmenter | None
    train_records: Records
    test_records: Records

    def make_stage(self, number: int) -> None:
        """Make and open a copy of one of the run's stages, for work that must leave no trace."""
        chosen = self.chosen[number]
        self._open_stage(self.layout.makers[number](chosen.tiling), number)

    def _open_stage(self, stage: Stage, number: int) -> None:
        """Take the views of a stage from the arena."""
        self.stage = stage
        self.arena.enter("initialize")
        stage.open(self.arena)
        self.commit_buffer = stage.ram.commit
        self.below = None
        if self.recipe.recompute and number > 0:
            tiling = self.chosen[number].tiling
            self.below = Below(self.stages[:number], self.meta["trained"], tiling, self.threads)  # type: ignore[arg-type]
            self.below.open(self.arena)
        # outputs of lower layers are not augmented
        self.augment = None
        if self.recipe.augment and (self.recipe.recompute or number == 0):
            self.augment = Augmenter(self.recipe, self.layout.inputs, self.threads)
            self.augment.open(self.arena)

    def _load(self, records: Records, k: int, epoch: int | None) -> int:
        """Load batch k into the arena; return its number of samples. Parameters as for :meth:`_parts`."""
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
        """Load the samples at the places of a part of batch k, in the random order of an epoch."""
        records, ram = self.train_records, self.stage.ram
        seed, begin = np.uint64(self.recipe.seed), k * records.batch + part.first
        labels = ram.labels[part.first :] if len(ram.labels) > self.stage.held_samples else ram.labels
        for i in range(part.samples):
            row, scale = random_kernels.turn(begin + i, records.samples, epoch, seed), ram.input_scale[i:]
            records.read_row(self.flash, row, ram.inputs[i : i + 1], labels[i : i + 1], scale)

    def _parts(self, records: Records, k: int, epoch: int | None = None, held: int | None = None) -> Iterator[Part]:
        """Load batch k in parts of as many samples as the arena holds.

        Parameters
        ----------
        records : Records
        k : int
        epoch : int, optional
            The training epoch; samples are then shuffled and augmented if the recipe says so.
        held : int, optional
            Samples at a time, if fewer than the arena holds.
        """
        held, n = held or self.stage.held_samples, records.count(k)
        if held >= n:
            yield whole(self._load(records, k, epoch))
            return
        ram = self.stage.ram
        for first in range(0, n, held):
            self.arena.enter("load")
            part = Part(min(held, n - first), first, n)
            # a stage with room for a batch's labels needs all of them
            labels = ram.labels[first:] if len(ram.labels) > held else ram.labels
            if epoch is not None and self.recipe.reshuffle and not self.recipe.rule.by_layer:
                self._load_shuffled(part, k, epoch)
            else:
                records.read_part(self.flash, k, part.first, part.samples, ram.inputs, labels, ram.input_scale)
            if epoch is not None and self.augment:
                self.augment(ram.inputs, part.samples, epoch, k * records.batch + first)
            yield part
