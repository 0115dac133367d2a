"""Mono-Forward (Gong and others, arXiv 2501.09238): layers train one after another, each with a trained head.

For a layer with weights W (O, I), bias b (O) and a head M (C, O)

    forward     z, h as in TinyFoA (:mod:`.tinyfoa`)
    goodness    G = h M^T,  p = softmax(G),  loss = mean cross-entropy
    gradient    dM = ((p - Y) / B)^T h
                dz = ((p - Y) / B) M [z > 0] [|z| < 1]      ([|z| < 1] only with binary activations)
                dW = dz^T X [|W| < 1],  db = sum dz         ([|W| < 1] only with binary weights)
    update      W and b as in the recipe; M with its own learning rate; with binary weights W, b are clamped to +-1
    prediction  the class with the largest G of the last layer

This is TinyFoA with a trained projection: M is a separate dense layer (C, O), always real and without biases, and its
transpose is the projection that the passes read. The equations are those of the paper's abstract. Biases, the optimizer
and training the layers one after another are choices of this project, as the authors' code was not found.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np

from ..kernels.operands import Given, Inputs, Scratch
from ..layers.dense import Dense
from ..layers.encoding import empty
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import INFERENCE, STEP
from ..recipe import Recipe
from ..storage.flash import Flash
from . import tinyfoa
from .cuts import Rung

#: offset of the heads in the numbering of random numbers and flash objects: no network has more layers
HEADS = 1000
SCRATCH = (*Scratch._fields, "abs_w")


class Layer(tinyfoa.Layer):
    """One layer in training, with its head; parameters as for :class:`.tinyfoa.Layer`."""

    def build(self) -> None:
        """Make the head."""
        self.head = Dense(
            self.recipe,
            HEADS + self.number,
            self.emitted,
            self.C,
            self.batches,
            self.given_threads,
            binary_weights=False,
            vertical=False,
            biased=False,
            limit=inf,
            prefix="head.",
            lr=self.recipe.options["head_lr"],
        )
        self.layers = [self.parameters, self.head]

    @staticmethod
    def clamp(recipe: Recipe) -> float:
        return 1.0 if recipe.binary_weights else inf

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        # the projection cannot be regenerated from the seed, and the head needs h of the whole batch
        whole = [r for r in super().ladder(recipe) if r.tiling.samples == recipe.batch and not r.tiling.tight]
        return [rung for rung in whole if not rung.tiling.regenerate]

    def extra(self) -> list[Region]:
        """Regions of the layer, with h kept until the head has trained, and the head's scratch."""
        changed = {"outputs": {"phases": (*STEP, *INFERENCE)}, "projection": {"writes": ("initialize", "update")}}
        regions = [replace(r, **changed.get(r.name, {})) for r in super().extra()]  # type: ignore[arg-type]
        shapes = self.head.scratch_shapes()
        return [*regions, *(Region(f"head.{name}", *shapes[name], ("update",)) for name in SCRATCH)]

    def project(self) -> None:
        self.ram.projection[...] = self.head.ram.weights.T  # a row per neuron, as the forward kernel reads it

    def restore(self, flash: Flash) -> None:
        super().restore(flash)
        self.project()

    def forward(
        self, flash: Flash, part: Part, step: int | None = None, emit: bool = False, stored_scale: float | None = None
    ) -> float:
        return super().forward(flash, part, step, emit or step is not None, stored_scale)

    def update(self, flash: Flash, samples: int, step: int) -> bool:
        kept = super().update(flash, samples, step)
        h = Inputs(self.ram.outputs, np.float32(self.scale), np.float32(0), 0)
        error = Given(self.ram.error, 0, empty((0,)))
        *scratch, abs_w = (self.ram[f"head.{name}"] for name in SCRATCH)
        kept &= self.head.update(flash, lambda k: h, samples, lambda o, p: error, step, Scratch(*scratch), abs_w)
        self.project()
        return kept
