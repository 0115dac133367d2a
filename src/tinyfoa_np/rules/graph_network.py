"""What GIFF and backpropagation have in common on networks of any layers: groups of layers, their arrays and flash.

Each group is a program (:mod:`.graph`); in a step the groups train in turn, and of one's activations, errors and
gradients only what it hands on outlives its turn. So every array lives in some steps of the phases, such as
``update:1.4``: what operation 4 of group 1 trains. Parameters, moments and running statistics of all groups are always
there. Weight gradients are not stored whole: the optimizer follows them, some rows at a time. With micro-batches they
are, and added up over them, sample by sample, to the bits of those of the whole batch. Batch norm rules that out: it
looks at all of a batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from ..architectures import Architecture, Description
from ..kernels import conv as conv_kernels
from ..kernels import conv_norm_pool as map_kernels
from ..kernels.conv import Step, Tensor
from ..layers.dense import CODES
from ..layers.encoding import Inputs, empty
from ..layers.graph import CONNECT, CONV, DEPTHWISE, NORM, POOL, Operation, Program
from ..layers.group import Group
from ..layers.layer import Part
from ..layers.tiling import Tiling
from ..ram.packing import Region
from ..ram.phases import INFERENCE, TRAINING
from ..recipe import Recipe
from ..storage.flash import Flash
from .stage import Stage


class Deep(Stage):
    """Groups of layers in training, in one arena.

    Parameters
    ----------
    recipe, inputs
        As for :class:`.stage.Stage`.
    architecture : Architecture
    chains : sequence of sequences of descriptions
        The layers of each group.
    classes, batches, threads
        As for :class:`.stage.Stage`.
    tiling : Tiling
        B, the most samples that are held at a time, a batch or a micro-batch.
    """

    layers: list[Group]

    def __init__(
        self, recipe: Recipe, inputs: Inputs, architecture: Architecture, chains: Sequence[Sequence[Description]],
        classes: int, batches: int, threads: int, tiling: Tiling,
    ) -> None:
        super().__init__(recipe, inputs, classes, batches, threads, tiling)
        self.shape, self.t = architecture.shape, 0
        self.B, self.micro = tiling.samples, tiling.samples < recipe.batch
        self.layers = []
        shape, first = self.shape, 0
        for number, chain in enumerate(chains):
            program = Program(chain, shape)
            self.layers.append(Group(recipe, number, program, first, self.beside(program), batches))
            shape, first = program.shapes[program.output], first + len(program.operations)

    def beside(self, program: Program) -> tuple[int, int]:
        """Shape of what trains beside a program's layers."""
        return 0, 0

    # -- regions -------------------------------------------------------------------------------------------------------

    def extra(self) -> list[Region]:
        """The batch, and the arrays of each group's turn."""
        begin = tuple(f"{phase}:0.0" for phase in ("forward", *INFERENCE))
        return [
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, ("load", *begin)),
            Region("input_scale", (1,), "float32", ("load",)),
            Region("labels", (self.B,), "uint16", (*TRAINING, *INFERENCE)),
            Region("commit", (max(group.commit_bytes for group in self.layers),), "uint8", ("load",)),
            *(region for group in self.layers for region in self._group_regions(group)),
        ]

    def _group_regions(self, group: Group) -> list[Region]:
        """What a group's turn needs."""
        program, g = group.program, group.number
        count = len(program.operations)
        found = [
            Region(f"g{g}.v{v}", (self.B, *program.shapes[v]), "float32", self._value_steps(g, v))
            for v in range(1 if g else 0, len(program.shapes))
        ]
        found += [
            Region(f"g{g}.e{k}", (self.B, *span.shape), "float32", _of(g, program.between(span.first, span.last)))
            for k, span in enumerate(program.errors)
        ]
        for k, one in enumerate(program.operations):
            width = program.shapes[one.target][2]
            if one.kind == NORM:
                kept = _of(g, [*program.between(f"forward:{k}", f"gradient:{k}"), *(f"{p}:{k}" for p in INFERENCE)])
                found += [
                    Region(f"g{g}.statistics{k}", (4, width), "float32", kept),
                    Region(f"g{g}.partial{k}", (map_kernels.CHUNKS, 2, width), "float64",
                           _of(g, [f"forward:{k}", f"gradient:{k}"])),
                    Region(f"g{g}.slopes{k}", (2 * width,), "float32", _of(g, [f"gradient:{k}", f"update:{k}"])),
                ]  # fmt: skip
                continue
            if one.source in program.error_of and one.weight:
                panel = self.cores, conv_kernels.panel_width(one.weight)
                found.append(Region(f"g{g}.panel{k}", panel, "float32", _of(g, [f"gradient:{k}"])))
            if one.weight:
                threads, run = self._run(one)
                found += [
                    Region(f"g{g}.gradient{k}", (threads, run), "float32", self.added_up(g, k)),
                    Region(f"g{g}.lost{k}", (threads,), "bool", _of(g, [f"update:{k}"])),
                ]
            if one.biased:
                found += [
                    Region(f"g{g}.partial{k}", (map_kernels.CHUNKS, 1, width), "float64", self.added_up(g, k)),
                    Region(f"g{g}.slopes{k}", (width,), "float32", _of(g, [f"update:{k}"])),
                ]
        return [*found, *self.top_regions(group, [f"{g}.{count}"])]

    def top_regions(self, group: Group, top: Sequence[str]) -> list[Region]:
        """What is needed where a group's loss is made, at the step ``top`` of gradient and update."""
        raise NotImplementedError

    def _run(self, one: Operation) -> tuple[int, int]:
        """How many threads share a gradient, and how much of it each has at a time: all of its share, if it is kept."""
        rows = prod(one.weight[:-1])
        return min(self.cores, rows), conv_kernels.run_width(one.weight, min(self.cores, rows), self.micro)

    def added_up(self, g: int, k: int) -> tuple[str, ...]:
        """When the gradient of operation k is needed: from one micro-batch to the next, where there are any."""
        return TRAINING if self.micro else _of(g, [f"update:{k}"])

    def _value_steps(self, g: int, v: int) -> tuple[str, ...]:
        """When a value is needed; that of the top in the next group's turn, too."""
        program = self.layers[g].program
        span, steps = program.value(v), program.steps
        handed = v == program.output and g + 1 < len(self.layers)
        found = list(_of(g, program.between(span.first, steps[-1] if handed else span.last)))
        found += _of(g, [f"{phase}:{k}" for phase in INFERENCE for k in program.looked_at(v)])
        if handed:
            above = self.layers[g + 1].program
            found += _of(g + 1, above.between(steps[0], above.value(0).last))
            found += _of(g + 1, [f"{phase}:{k}" for phase in INFERENCE for k in above.looked_at(0)])
        return tuple(found)

    def cost(self) -> tuple[float, ...]:
        """What a step takes, beside other ways to cut it: micro-batches are all there are."""
        return (-self.B,)

    def array(self, g: int, name: str) -> np.ndarray:
        """A region of a group's turn."""
        return self.ram[f"g{g}.{name}"]

    def value(self, g: int, v: int) -> np.ndarray:
        """A value (B, rows, columns, channels); a group's input is what the group below made."""
        if v == 0 and g > 0:
            return self.value(g - 1, self.layers[g - 1].program.output)
        return self.array(g, f"v{v}")

    def error(self, g: int, v: int) -> np.ndarray:
        """The error of a value, like it."""
        return self.array(g, f"e{self.layers[g].program.error_of[v]}")

    # -- flash and state -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        return {"steps": self.t, "dirty": [group.dirty for group in self.layers]}

    @state.setter
    def state(self, known: dict[str, Any]) -> None:
        self.t = known["steps"]
        for group, dirty in zip(self.layers, known["dirty"], strict=True):
            group.dirty = dirty

    # -- passes --------------------------------------------------------------------------------------------------------

    def forward(self, g: int, samples: int, phase: str) -> np.ndarray:
        """A group's forward pass; its output (B, rows, columns, channels)."""
        group, training = self.layers[g], phase == "forward"
        for k, one in enumerate(group.program.operations):
            self.arena.enter(f"{phase}:{g}.{k}")
            if k == 0:
                self._take_in(g, samples)
            source, target = self.value(g, one.source), self.value(g, one.target)
            shortcut = None if one.shortcut is None else self.value(g, one.shortcut)
            norm = None
            if one.kind == NORM:
                partial = self.array(g, f"partial{k}") if training else empty((0, 2, target.shape[3]), "float64")
                norm = self.array(g, f"statistics{k}"), partial
            stored = group.ram.weights, group.ram.running
            run(one, *stored, samples, source, target, shortcut, norm, training, self.cores)
        return self.value(g, group.program.output)

    def _take_in(self, g: int, samples: int) -> None:
        """Makes a group's input: of the samples, or of what the group below hands on."""
        if g == 0:
            take_in(self.inputs, self.ram.inputs, samples, self.value(0, 0), self.cores)

    def backward(self, g: int, part: Part, step: Step) -> bool:
        """From the error of a group's output down, each operation trains as it has been passed; False if one is lost.

        With all but the last micro-batch of a batch gradients are added up, and nothing trains. The error of the output
        is masked and overwritten.
        """
        group = self.layers[g]
        for k in reversed(range(len(group.program.operations))):
            self.arena.enter(f"gradient:{g}.{k}")
            self._send_back(g, k, part.samples)
            self.arena.enter(f"update:{g}.{k}")
            if not self._train(g, k, part, step):
                return False
        group.dirty |= part.ends
        return True

    def _send_back(self, g: int, k: int, samples: int) -> None:
        """The error of an operation's source from that of its target."""
        program, T = self.layers[g].program, self.cores
        one = program.operations[k]
        above, target = self.error(g, one.target), self.value(g, one.target)
        flat, count = _flat(above), samples * prod(program.shapes[one.target][:2])
        if one.relu:
            map_kernels.rectify_back(flat, _flat(target), count, T)
        if one.kind == NORM:
            map_kernels.normalize_back(
                flat, _flat(self.value(g, one.source)), count, self.array(g, f"statistics{k}"),
                self.array(g, f"partial{k}"), self.array(g, f"slopes{k}"), _flat(self.error(g, one.source)), T,
            )  # fmt: skip
            return
        if one.source not in program.error_of:
            return
        below = self.error(g, one.source)
        if one.kind == POOL:
            map_kernels.pool_back(above, samples, *one.window, below, T)
            return
        weight = _weight(one, self.layers[g].ram.weights)
        panel, carry = self.array(g, f"panel{k}"), k in program.carried
        if one.kind == CONV:
            conv_kernels.convolve_back(above, samples, weight, one.stride, carry, panel, below)
        elif one.kind == CONNECT:
            width, depth = one.weight[1], one.weight[0]
            conv_kernels.connect_back(above.reshape(-1, width), count, weight, carry, panel, below.reshape(-1, depth))
        else:
            assert not carry
            conv_kernels.convolve_depthwise_back(above, samples, weight, one.stride, panel, below)

    def _train(self, g: int, k: int, part: Part, step: Step) -> bool:
        """One optimizer step of what an operation has, once the batch is complete; False if a number is lost."""
        group, samples = self.layers[g], part.samples
        one = group.program.operations[k]
        if not one.weight:
            return True
        if one.kind == NORM:
            return self.train_whole(group.tensor(one.at, one.weight), self.array(g, f"slopes{k}"), step)
        above, source = self.error(g, one.target), self.value(g, one.source)
        places = prod(group.program.shapes[one.target][:2])
        count, first, of = (number * places for number in part)
        if one.biased:
            slopes = self.array(g, f"slopes{k}")
            map_kernels.sums(_flat(above), count, first, of, self.array(g, f"partial{k}"), slopes, self.cores)
            tensor = group.tensor(one.at + prod(one.weight), one.weight[-1:])
            if part.ends and not self.train_whole(tensor, slopes, step):
                return False
        tensor, lost = group.tensor(one.at, one.weight), self.array(g, f"lost{k}")
        run, turn = self.array(g, f"gradient{k}"), (first > 0, part.ends)
        if one.kind == CONNECT:
            flat = source.reshape(-1, one.weight[0]), count, above.reshape(-1, one.weight[1])
            conv_kernels.train_connection(*flat, tensor, step, *turn, run, lost)
        else:
            kernel = conv_kernels.train_convolution if one.kind == CONV else conv_kernels.train_depthwise
            kernel(source, samples, above, one.weight[:2], one.stride, tensor, step, *turn, run, lost)
        return not lost.any()

    def train_whole(self, tensor: Tensor, slopes: np.ndarray, step: Step) -> bool:
        """The optimizer's step on parameters whose gradient is whole."""
        return not conv_kernels.train(tensor, slopes, step)

    def next_step(self, step: int, part: Part) -> Step:
        """The optimizer in step number ``step`` of the training, in which all parts of a batch are."""
        assert self.recipe.lr is not None
        self.t += part.first == 0
        rate, root = self.recipe.lr * self.recipe.lr_at(step // self.batches), 1.0
        if self.recipe.optimizer == "adam":
            rate, root = rate / (1 - 0.9**self.t), 1 / sqrt(1 - 0.999**self.t)
        return Step(CODES[str(self.recipe.optimizer)], np.float32(rate), np.float32(root))

    @property
    def row(self) -> np.ndarray:
        return empty((0,))  # digests read parameters where they are

    def look(self, samples: int, phase: str) -> None:
        """A pass without training, to :meth:`scores`."""
        raise NotImplementedError

    def evaluate(self, flash: Flash, part: Part) -> int:
        self.look(part.samples, "evaluate")
        return self.wrong(part.samples)

    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        self.look(part.samples, "hand-over")
        return self.wrong(part.samples)

    def answer(self, samples: int) -> None:
        self.look(samples, "evaluate")


def _of(g: int, steps: Sequence[str]) -> tuple[str, ...]:
    """Steps of a program as those of a group: ``update:4`` of group 1 is ``update:1.4``."""
    return tuple(step.replace(":", f":{g}.") for step in steps)


def _flat(maps: np.ndarray) -> np.ndarray:
    """(N, C) of (B, rows, columns, C)."""
    return maps.reshape(-1, maps.shape[3])


def _weight(one: Operation, weights: np.ndarray) -> np.ndarray:
    return weights[one.at : one.at + prod(one.weight)].reshape(one.weight)


def take_in(inputs: Inputs, samples: np.ndarray, count: int, maps: np.ndarray, threads: int) -> None:
    """Samples as they are held, as maps (B, rows, columns, channels)."""
    channels = maps.shape[3]
    if maps.shape[1] == maps.shape[2] == 1:  # no image: as if all were positions of one channel
        channels = 1
    affine = (inputs.scale, inputs.offset) if inputs.kind == "bytes" else (1.0, 0.0)
    map_kernels.spread(
        samples, count, np.float32(affine[0]), np.float32(affine[1]), channels,
        maps.reshape(len(maps), -1, channels), threads,
    )  # fmt: skip


def run(
    one: Operation, weights: np.ndarray, running: np.ndarray, samples: int, source: np.ndarray, target: np.ndarray,
    shortcut: np.ndarray | None, norm: tuple[np.ndarray, np.ndarray] | None, training: bool, threads: int,
) -> None:
    """An operation's forward pass, from maps (B, rows, columns, channels) to such."""
    count = samples * prod(target.shape[1:3])
    if one.kind == POOL:
        map_kernels.pool(source, samples, *one.window, target, threads)
    elif one.kind == NORM:
        assert norm is not None
        gamma, beta = _weight(one, weights)
        width = gamma.size
        mean, variance = (running[one.running + k * width : one.running + (k + 1) * width] for k in (0, 1))
        statistics, partial = norm
        if training:
            map_kernels.look(_flat(source), count, gamma, beta, mean, variance, partial, statistics, threads)
        else:
            map_kernels.recall(gamma, beta, mean, variance, statistics)
        beside = empty((0, width)) if shortcut is None else _flat(shortcut)
        map_kernels.normalize(_flat(source), count, statistics, beside, one.relu, _flat(target), threads)
    elif one.kind == DEPTHWISE:
        conv_kernels.convolve_depthwise(source, samples, _weight(one, weights), one.stride, target, threads)
    else:
        end = one.at + prod(one.weight)
        bias = weights[end : end + (one.weight[-1] if one.biased else 0)]
        if one.kind == CONV:
            weight = _weight(one, weights)
            conv_kernels.convolve(source, samples, weight, bias, one.stride, one.relu, target, threads)
        else:
            flat = source.reshape(-1, one.weight[0]), target.reshape(-1, one.weight[1])
            conv_kernels.connect(flat[0], count, _weight(one, weights), bias, one.relu, flat[1], threads)
