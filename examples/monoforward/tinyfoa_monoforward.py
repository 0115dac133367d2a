"""Mono-Forward (Gong and others, arXiv 2501.09238): layers train one after another, each with a head that learns too.

For a layer with weights W (O, I), bias b (O) and a head M (C, O)

    forward     z, h as TinyFoA has them
    goodness    G = h M^T,  p = softmax(G),  loss = mean cross-entropy
    gradient    dM = ((p - Y) / B)^T h
                dz = ((p - Y) / B) M [z > 0] [|z| < 1]      ([|z| < 1] only with binary activations)
                dW = dz^T X [|W| < 1],  db = sum dz         ([|W| < 1] only with binary weights)
    update      W and b as the recipe says; M at a learning rate of its own; with binary weights W, b are clamped to +-1

It is TinyFoA with a projection that learns: M is a dense layer (C, O) of its own, and the projection is its transpose.
"""

from dataclasses import replace
from math import inf

import numpy as np

from tinyfoa_np.catalogue import Algorithm, Option
from tinyfoa_np.kernels.operands import Given, Inputs, Scratch
from tinyfoa_np.layers.dense import Dense
from tinyfoa_np.ram.packing import Region
from tinyfoa_np.ram.phases import INFERENCE, STEP
from tinyfoa_np.rules import tinyfoa

MONOFORWARD = Algorithm(
    name="mono",
    title="Mono-Forward, a package",
    homes={"fc": "tinyfoa_monoforward:Layer"},
    defaults={"lr": 1e-3, "optimizer": "adam", "normalize": "unit", "shuffle": True},
    options={"head_lr": Option(1e-3, "learning rate of the heads.", least=1e-9, most=1.0)},
    schedules=("stream", "slice"),
    by_layer=True,
)
HEADS = 1000  # heads are numbered from here on: no network has more layers
SCRATCH = (*Scratch._fields, "abs_w")
NO_FACTOR = np.zeros(0, np.float32)


class Layer(tinyfoa.Layer):
    def build(self):
        plain = {"binary_weights": False, "vertical": False, "biased": False, "limit": inf, "prefix": "head."}
        about = self.recipe, HEADS + self.number, self.emitted, self.C, self.batches, self.given_threads
        self.head = Dense(*about, lr=self.recipe.options["head_lr"], **plain)
        self.layers = [self.parameters, self.head]

    @staticmethod
    def clamp(recipe):
        return 1.0 if recipe.binary_weights else inf

    @classmethod
    def ladder(cls, recipe):  # the projection cannot be made anew from the seed, and the head needs all of a batch's h
        whole = [r for r in super().ladder(recipe) if r.tiling.samples == recipe.batch and not r.tiling.tight]
        return [rung for rung in whole if not rung.tiling.regenerate]

    def extra(self):
        changed = {"outputs": {"phases": (*STEP, *INFERENCE)}, "projection": {"writes": ("initialize", "update")}}
        regions = [replace(r, **changed.get(r.name, {})) for r in super().extra()]
        shapes = self.head.scratch_shapes()
        return [*regions, *(Region(f"head.{name}", *shapes[name], ("update",)) for name in SCRATCH)]

    def project(self):
        self.ram.projection[...] = self.head.ram.weights.T  # a row per neuron, as the forward kernel reads it

    def restore(self, flash):
        super().restore(flash)
        self.project()

    def forward(self, flash, part, step=None, emit=False, stored_scale=None):
        return super().forward(flash, part, step, emit or step is not None, stored_scale)

    def update(self, flash, samples, step):
        kept = super().update(flash, samples, step)
        h = Inputs(self.ram.outputs, np.float32(self.scale), np.float32(0))
        error = Given(self.ram.error, 0, NO_FACTOR)
        *scratch, abs_w = (self.ram[f"head.{name}"] for name in SCRATCH)
        kept &= self.head.update(flash, lambda k: h, samples, lambda o, p: error, step, Scratch(*scratch), abs_w)
        self.project()
        return kept
