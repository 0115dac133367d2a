"""Augmentation in the arena: a batch of training images is changed in place after loading, before it is read."""

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
    """Change training images at random, determined by seed, epoch and sample number.

    Parameters
    ----------
    recipe : Recipe
        A recipe with ``augment``.
    inputs : Encoding
        Encoding of the samples.
    threads : int
        T: each thread that gets samples needs scratch for one image.

    Raises
    ------
    BadRequest
        If samples are not images.
    """

    def __init__(self, recipe: Recipe, inputs: Encoding, threads: int) -> None:
        assert recipe.augment is not None
        if inputs.image is None:
            raise BadRequest(
                f"augment changes images, and the samples of {recipe.dataset} are not images: leave it out"
            )
        asked, (_, rows, columns) = parse(recipe.augment), inputs.image
        self.shape, self.inputs, self.threads, self.seed = inputs.image, inputs, threads, np.uint64(recipe.seed)
        self.change = kernels.Augmentation(
            asked.flip, asked.pixels(rows), asked.pixels(columns), asked.zeros, asked.degrees
        )

    def regions(self, held: int) -> list[Region]:
        """Scratch for one original image per thread, if ``held`` samples are in the arena at a time.

        It shares its bytes with regions that only later phases need.
        """
        shape = min(self.threads, held), self.inputs.columns
        return [Region("augment.image", shape, self.inputs.dtype, ("load",))]

    def open(self, arena: Arena) -> None:
        """Take the view."""
        self.image = arena.take("augment.image")

    def __call__(self, inputs: np.ndarray, samples: int, epoch: int, first: int) -> None:
        """Change the first ``samples`` rows of ``inputs`` (B, columns); row 0 is sample number ``first``."""
        kernels.augment(inputs, samples, self.shape, self.change, epoch, first, self.seed, self.image, len(self.image))
