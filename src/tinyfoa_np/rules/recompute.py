"""Recompute the layers below the one in training for every batch, for flash too small to store their outputs."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..kernels import dense_forward as forward_kernels
from ..kernels.dense_forward import Neurons, Results
from ..layers.encoding import TILES, empty, nbytes, view, weights_shape, words, z_tile
from ..layers.tiling import Tiling
from ..ram.arena import Arena
from ..ram.packing import Region
from .tinyfoa import Layer


class Below:
    """The trained layers below another layer, read from flash one at a time into the same bytes.

    Parameters
    ----------
    layers : list of Layer
        The trained layers, lowest first; at least one.
    trained : list of dict
        ``alpha`` and ``scale`` of each, fixed at the end of its training.
    tiling : Tiling
        Tiling of the layer above: the same number of neurons at a time if its weights come in tiles.
    threads : int
        T: the number of parts into which a kernel's work is divided.
    """

    def __init__(self, layers: list[Layer], trained: list[dict[str, Any]], tiling: Tiling, threads: int) -> None:
        self.layers, self.trained, self.B = layers, trained, layers[0].B
        self.threads = min(threads, -(-self.B // 16))  # a thread takes at least 16 samples
        self.stretches = [min(k.O, tiling.neurons) if tiling.stream_weights else k.O for k in layers]
        self.shapes = [
            weights_shape(some, k.I, k.recipe.binary_weights) for some, k in zip(self.stretches, layers, strict=True)
        ]
        small = min(TILES[-1], tiling.neurons)
        self.tiles = [z_tile(small, k.inputs, k.O, k.recipe.binary_weights) for k in layers]
        self.scratch = [
            forward_kernels.scratch_shape(np.dtype(k.inputs.dtype), np.dtype(kind), self.B, words(k.I), self.threads)
            for k, (_, kind) in zip(layers, self.shapes, strict=True)
        ]

    def regions(self) -> list[Region]:
        """Regions of the phase ``load`` alone; they share bytes with regions that only later phases need."""
        between = [self.B * k.emitted.row_bytes for k in self.layers[:-1]]
        return [
            Region("below.inputs", (self.B, self.layers[0].inputs.columns), self.layers[0].inputs.dtype, ("load",)),
            Region("below.weights", (max(nbytes(*shape) for shape in self.shapes),), "uint8", ("load",)),
            Region("below.bias", (max(k.O for k in self.layers),), "float32", ("load",)),
            Region("below.z", (max(self.tiles) * self.B,), "float32", ("load",)),
            Region("below.scratch", (max(nbytes(*shape) for shape in self.scratch),), "uint8", ("load",)),
            Region("below.abs_z", (self.threads,), "int64", ("load",)),
            Region("below.even", (max(between[0::2], default=0),), "uint8", ("load",)),
            Region("below.odd", (max(between[1::2], default=0),), "uint8", ("load",)),
        ]

    def open(self, arena: Arena) -> None:
        """Take the views."""
        self.views = {r.name[6:]: arena.take(r.name) for r in self.regions() if r.nbytes}

    @property
    def inputs(self) -> np.ndarray:
        """Array for the data set's inputs of a batch."""
        return self.views["inputs"]

    def forward(self, flash: Any, samples: int, target: np.ndarray, scale: np.ndarray, stored: bool) -> None:
        """Compute the outputs of the last of the layers, and their scale, from the data set's inputs.

        Parameters
        ----------
        flash : Flash
        samples : int
        target : ndarray (B, columns)
            Receives the outputs.
        scale : ndarray (1,)
            Receives s of the batch, or the stored s.
        stored : bool
            Whether every layer uses its stored s (for test samples) or the mean |z| of the batch.
        """
        inputs, own = self.inputs, self.views
        unused = np.zeros((0, self.B), np.float32)
        for n, (layer, known) in enumerate(zip(self.layers, self.trained, strict=True)):
            flash.read(f"layer{n}.trained", 1, [own["bias"][: layer.O]])
            last = n == len(self.layers) - 1
            columns = (self.B, layer.emitted.columns)
            outputs = target if last else view(own["odd" if n % 2 else "even"], columns, layer.emitted.dtype)
            gain = known["alpha"] if layer.recipe.binary_weights else 1.0
            gain *= float(scale[0]) if layer.inputs.kind == "bits" else 1.0
            own["abs_z"][:] = 0
            results = Results(0, layer.no_rows, 0, unused, outputs, own["abs_z"])
            for first in range(0, layer.O, self.stretches[n]):
                stop = min(first + self.stretches[n], layer.O)
                shape, kind = weights_shape(stop - first, layer.I, layer.recipe.binary_weights)
                weights = view(own["weights"], shape, kind)
                skip = weights_shape(first, layer.I, layer.recipe.binary_weights)[0]
                flash.read(f"layer{n}.trained", 0, [weights], prod(skip) * weights.itemsize)
                neurons = Neurons(first, stop, weights, own["bias"], np.float32(gain), empty((stop - first, 0)))
                forward_kernels.forward(
                    inputs,
                    samples,
                    np.float32(layer.inputs.scale),
                    np.float32(layer.inputs.offset),
                    layer.I,
                    neurons,
                    layer.recipe.binary_activations,
                    layer.parameters.z_unit,
                    view(own["scratch"], *self.scratch[n]),
                    view(own["z"].view(np.uint8), (self.tiles[n], self.B), "float32"),
                    results,
                )
            if layer.recipe.binary_activations:
                mean = int(own["abs_z"].sum()) / layer.parameters.z_unit / (samples * layer.O)
                scale[0] = known["scale"] if stored else mean
            inputs = outputs
