"""A network that trains as a whole, in an arena of its own, its parameters in flash, one step at a time."""

import numpy as np
from arena_tools import begun

from tinyfoa_np.layers.layer import whole
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.network import layer_shapes
from tinyfoa_np.rules.build import makers

THREADS = 2


class Network:
    """A recipe's network, from initial parameters that are made or given.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    inputs : Encoding
        What a sample is.
    classes : int
    batches : int
        Steps per epoch.
    flash : Flash
    threads : int
    held : int, optional
        Samples that the arena holds at a time, if not all of a batch.
    **cut
        How it is cut, by the fields of a Tiling.
    """

    def __init__(self, recipe, inputs, classes, batches, flash, threads=THREADS, held=None, **cut):
        self.recipe, self.flash = recipe, flash
        shapes = layer_shapes(recipe.network, inputs.width, inputs.image, recipe.lc_connect)
        self.stage = makers(recipe, inputs, shapes, classes, batches, threads)[0](Tiling(held or recipe.batch, **cut))
        self.arena = begun(self.stage, flash)

    def start(self, layers):
        """These parameters, in flash and in the arena: (W, b) of each layer, b None where it has no biases."""
        self.arena.enter("initialize")
        for layer, (W, b) in zip(self.stage.layers, layers, strict=True):
            layer.initialize(self.flash, *given(W, b))
        self.stage.restore(self.flash)

    def load(self, X, labels):
        """A batch, or as much of one as there is."""
        self.arena.enter("load")
        self.stage.ram.inputs[: len(X)], self.stage.ram.labels[: len(X)] = X, labels

    def step(self, number, X, labels):
        """Trains on a batch; the outcome of the step."""
        self.load(X, labels)
        return self.stage.train_step(self.flash, whole(len(X)), number)

    def parameters(self):
        """(W, b) of each layer as they are now, put together from their slices; b (0,) where there are no biases."""
        self.arena.enter("load")
        return [(weights(self.flash, layer), layer.ram.bias.copy()) for layer in self.stage.layers]


def weights(flash, layer):
    """A layer's weights (O, I) as they are now, from its slices."""
    layer.flush(flash)  # what has changed is written back first
    W = np.empty((layer.O, layer.I), np.float32)
    for number in range(len(layer.grid)):
        part = layer.grid.slice(number)
        values = np.empty((part.last - part.first, part.high - part.low), np.float32)
        flash.read(layer.name("slices"), number, [values])
        W[part.first : part.last, part.low : part.high] = values
    return W


def given(W, b=None):
    """Initializers that write these weights (O, I) and biases (O,)."""

    def weights(out, first, last, low, high):
        out[: (last - first) * (high - low)] = W[first:last, low:high].ravel()

    def biases(out, first, last, low, high):
        out[:] = b

    return weights, biases
