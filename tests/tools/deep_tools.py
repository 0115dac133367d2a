"""Networks of any layers in an arena of their own, their parameters under the names of the plain NumPy reference."""

import math

import numpy as np
from arena_tools import begun

from tinyfoa_np.architectures import Architecture
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.graph import CONNECT, DEPTHWISE, GROUPED, NORM
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.rules import bp_graph as deep_bp
from tinyfoa_np.rules import giff

THREADS = 2


class Run:
    """A stage of GIFF or backpropagation on layers that are given, trained step by step.

    Parameters
    ----------
    recipe : Recipe
        A validated one: ``network`` and ``groups`` are not looked at.
    chains : list of lists of descriptions
        Groups of layers; of backpropagation one, its head included; of feedback alignment units, then the head.
    shape : tuple of int
        Of a sample: (I,) or (channels, rows, columns).
    """

    def __init__(self, recipe, chains, shape, classes, batches, flash, patch, threads=THREADS):
        self.flash, self.shape, self.chains = flash, shape, chains
        maps = (shape[1], shape[2], shape[0]) if len(shape) == 3 else (1, 1, *shape)
        inputs = Encoding("real", math.prod(shape), image=shape if len(shape) == 3 else None)
        if recipe.algorithm == "giff":
            patch.setattr(giff, "grouped", lambda groups, network: [[k] for k in range(len(chains))])
            network, kind = Architecture(tuple(map(tuple, chains)), (), maps), giff.Network
        elif recipe.algorithm in ("deeperforward", "biofo", "monoforward", "cwcomp"):
            network, kind = Architecture(tuple(map(tuple, chains)), (), maps), recipe.rule.home("graph")
        elif recipe.algorithm in ("fa", "dfa", "drtp"):
            *units, head = map(tuple, chains)
            network, kind = Architecture(tuple(units), head, maps), recipe.rule.home("graph")
        else:
            network, kind = Architecture(tuple((layer,) for layer in chains[0]), (), maps), deep_bp.Network
        self.stage = kind(recipe, inputs, network, classes, batches, threads, Tiling(recipe.batch))
        self.arena = begun(self.stage, flash)

    def load(self, X, labels):
        self.arena.enter("load")
        self.stage.ram.inputs[: len(X)] = X.reshape(len(X), -1)
        self.stage.ram.labels[: len(X)] = labels

    def step(self, number, X, labels):
        """Trains on a batch; the outcome of the step."""
        self.load(X, labels)
        return self.stage.train_step(self.flash, whole(len(X)), number)

    # -- parameters by name --------------------------------------------------------------------------------------------

    def _places(self, g):
        """(name, group's flat array, first element, shape there, axes that make the reference's order) of a group."""
        found, program = [], self.stage.layers[g].program
        for one in program.operations:
            if one.kind == NORM:
                width = one.weight[1]
                for number, name in enumerate(("weight", "bias")):
                    found.append((f"{one.name}.{name}", "weights", one.at + number * width, (width,), (0,)))
                for number, name in enumerate(("running_mean", "running_var")):
                    found.append((f"{one.name}.{name}", "running", one.running + number * width, (width,), (0,)))
            elif one.weight:
                axes = {CONNECT: (1, 0), DEPTHWISE: (2, 0, 1), GROUPED: (0, 4, 3, 1, 2)}.get(one.kind, (3, 2, 0, 1))
                found.append((f"{one.name}.weight", "weights", one.at, one.weight, axes))
                if one.biased:
                    at = one.at + math.prod(one.weight)
                    found.append((f"{one.name}.bias", "weights", at, (one.biases,), (0,)))
        return found

    def _flattened(self, g, name, value):
        """A linear layer's weights on maps: the reference flattens them channel by channel, the kernels by position."""
        program = self.stage.layers[g].program
        one = next((one for one in program.operations if f"{one.name}.weight" == name), None)
        if one is None or one.kind != CONNECT or value.ndim != 2:
            return None
        rows, columns, channels = program.shapes[one.source]
        return (channels, rows, columns) if rows * columns > 1 and one.weight[0] == rows * columns * channels else None

    def laid_out(self, g, name, where, shape, axes, value):
        """A parameter as the kernels have it, or another array of its shape."""
        maps = self._flattened(g, name, value)
        if maps:
            value = value.reshape(len(value), *maps).transpose(0, 2, 3, 1).reshape(len(value), -1)
        return value.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))

    def get(self, g, arrays=None):
        """A group's parameters and statistics, or other arrays like them, by the reference's names."""
        ram, named = self.stage.layers[g].ram, {}
        for name, where, at, shape, axes in self._places(g):
            flat = (arrays or {}).get(where, getattr(ram, where))
            value = flat[at : at + math.prod(shape)].reshape(shape).transpose(axes)
            maps = self._flattened(g, name, value)
            if maps:
                value = value.reshape(-1, *maps[1:], maps[0]).transpose(0, 3, 1, 2).reshape(len(value), -1)
            if name.endswith(("pw.weight", "sc.weight", ".c.weight")) and value.ndim == 2:
                value = value[:, :, None, None]
            if value.ndim == 5:  # groups, and their outputs
                value = value.reshape(-1, *value.shape[2:])
            if name.endswith("dw.weight"):
                value = value[:, None]
            named[name] = value.copy()
        return named

    def put(self, g, named, W=None, b=None):
        """Sets a group's parameters, those of its label channel, too, in the arena and in flash."""
        self.arena.enter("initialize")
        group = self.stage.layers[g]
        for name, where, at, shape, axes in self._places(g):
            value = self.laid_out(g, name, where, shape, axes, named[name])
            getattr(group.ram, where)[at : at + value.size] = value.ravel()
        if W is not None:
            group.label[0][...], group.label[1][...] = W.T, b
        self.flash.write(group.name("slices"), 0, group._views())
        group.restore(self.flash)
