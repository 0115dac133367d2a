"""Augmentation in the arena: a batch of training images is changed where it was loaded, before anything reads it."""

from __future__ import annotations

import numpy as np

from ..augmentation import parse
from ..errors import BadRequest
from ..kernels import augment as kernels
from ..layers.encoding import Encoding
from ..ram.arena import Arena
from ..ram.packing import Region
from ..recipe import Recipe


class Augmenter:
    """Changes training images at random: by seed, epoch and the sample's number.

    Parameters
    ----------
    recipe : Recipe
        One with ``augment``.
    inputs : Encoding
        What a sample is.
    threads : int
        T: each needs an image of scratch.

    Raises
    ------
    BadRequest
        If samples are no images.
    """

    def __init__(self, recipe: Recipe, inputs: Encoding, threads: int) -> None:
        assert recipe.augment is not None
        if inputs.image is None:
            raise BadRequest(f"augment changes images, and samples of {recipe.dataset} are none: leave it out")
        asked, (_, rows, columns) = parse(recipe.augment), inputs.image
        self.shape, self.inputs, self.threads, self.seed = inputs.image, inputs, threads, np.uint64(recipe.seed)
        self.change = kernels.Augmentation(
            asked.flip, asked.pixels(rows), asked.pixels(columns), asked.zeros, asked.degrees
        )

    def regions(self) -> list[Region]:
        """An image per thread, as it was: it shares its bytes with whatever only later phases need."""
        return [Region("augment.image", (self.threads, self.inputs.columns), self.inputs.dtype, ("load",))]

    def open(self, arena: Arena) -> None:
        """Takes the view."""
        self.image = arena.take("augment.image")

    def __call__(self, inputs: np.ndarray, samples: int, epoch: int, first: int) -> None:
        """Changes the first ``samples`` of ``inputs`` (B, columns), of which the first is sample ``first``."""
        kernels.augment(inputs, samples, self.shape, self.change, epoch, first, self.seed, self.image, self.threads)
