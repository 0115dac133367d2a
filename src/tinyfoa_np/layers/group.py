"""A group of layers of any kind: its parameters, in the arena and as one item in flash, its passes and its training.

A group is a program (:mod:`.graph`); the groups run in turn in each step. Of its activations, errors and gradients only
its output outlives the turn, so every array is kept during some steps of the phases, such as ``update:1.4``, in which
operation 4 of group 1 trains. Parameters, moments and running statistics are always kept. Weight gradients are not
stored whole: the optimizer processes some rows at a time. With micro-batches they are stored whole and accumulated
sample by sample, bit-identical to those of the whole batch. This excludes batch norm, which reads the batch at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from math import prod, sqrt

import numpy as np

from ..kernels import conv_backward as backward_kernels
from ..kernels import conv_forward as forward_kernels
from ..kernels import conv_grouped as grouped_kernels
from ..kernels import conv_norm_pool as map_kernels
from ..kernels import conv_tanh_pool as tanh_kernels
from ..kernels import conv_update as update_kernels
from ..kernels import random as random_kernels
from ..kernels.conv_update import Step, Tensor
from ..kernels.optimizers import MOMENTS, NUMBERS, rate_and_root
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import BACKWARD, INFERENCE, PASSES, RESIDENT, TRAINING
from ..recipe import Recipe
from ..slices import Grid
from ..storage.flash import Flash
from .encoding import Encoding, empty
from .graph import CONNECT, CONV, DEPTHWISE, GROUPED, LARGEST, NORM, POOL, Operation, Program
from .layer import Part
from .parameters import COMMIT_BUFFER
from .tiling import Tiling
from .trained import TrainedLayer

#: offset of the groups' label channels and heads in the numbering of random numbers, beyond all operations
LABELS = 1 << 16


class Group:
    """Layers that train together.

    Parameters
    ----------
    recipe : Recipe
        A validated recipe.
    program : Program
    below : Group, optional
        The group whose output is this one's input; without it, the input is the samples.
    extra : tuple of int
        Shape of the additional parameters: (C + 1, k O), the label channel's weights and biases, or (N, C), a head.
    extra_biased : bool
        Whether their last row are biases.
    batches, threads : int
        Steps per epoch; T.
    held : int
        B: the maximum number of samples held at a time.
    frozen : bool
        Whether the group keeps its parameters; batch norm then uses its running statistics in training, too.

    Attributes
    ----------
    number : int
        Number of the group, from 0.
    above : Group or None
        The group that reads this one's output.
    feedback : dict of int to ndarray
        By operation, fixed arrays like its weights, which errors pass down through instead; empty for the gradient.
    apart : bool
        Whether the input is an array of its own, and not the output of the group below: its shape is another one.
    lent : Group or None
        A group further up that reads this one's input again, in its first step: a shortcut.
    """

    binary_weights, alpha = False, 1.0
    # a dictionary of so many attributes takes as much memory as ten views of the arena
    __slots__ = (
        *("recipe", "program", "below", "above", "number", "first", "extra", "extra_biased", "batches", "threads", "B"),
        *("micro", "frozen", "size", "moments", "inputs", "O", "tiling", "grid", "dirty", "feedback", "apart", "lent"),
        *("arena", "ram"),
    )

    def __init__(
        self,
        recipe: Recipe,
        program: Program,
        below: Group | None,
        extra: tuple[int, int],
        extra_biased: bool,
        batches: int,
        threads: int,
        held: int,
        frozen: bool = False,
    ) -> None:
        assert recipe.optimizer is not None
        self.recipe, self.program, self.batches = recipe, program, batches
        self.extra, self.extra_biased = extra, extra_biased
        self.threads, self.B, self.micro = threads, held, held < recipe.batch and not frozen
        self.below = below
        self.above: Group | None = None
        # random numbers depend on operations, not on groups
        self.number = self.first = 0
        if below:
            self.number, self.first = below.number + 1, below.first + len(below.program.operations)
            below.above = self
        self.size = program.parameters + prod(extra)
        self.frozen, self.moments = frozen, 0 if frozen else MOMENTS[recipe.optimizer]
        self.inputs = Encoding("real", prod(program.shape))
        self.O, self.tiling, self.grid = prod(program.shapes[-1]), Tiling(recipe.batch), Grid(1, 1, 1)
        self.dirty = False
        self.feedback: dict[int, np.ndarray] = {}
        self.apart = below is None or program.shape != below.program.shapes[below.program.output]
        self.lent: Group | None = None

    # -- regions -------------------------------------------------------------------------------------------------------

    def regions(self) -> Iterator[Region]:
        """Regions of parameters, moments and statistics, always kept, and those of the group's turn, by steps."""
        yield from self._parameters()
        own = tuple(f"{phase}:{self.number}." for phase in BACKWARD)
        for one in self._turn():
            yield one.limited(lambda phase: not phase.startswith(own)) if self.frozen else one

    def _parameters(self) -> list[Region]:
        prefix, held = f"g{self.number}.", [self.size if self.moments > k else 0 for k in (0, 1)]
        return [
            Region(prefix + "weights", (self.size,), "float32"),
            Region(prefix + "running", (self.program.statistics,), "float32"),
            Region(prefix + "moment1", (held[0],), "float32", RESIDENT),
            Region(prefix + "moment2", (held[1],), "float32", RESIDENT),
        ]

    def _turn(self) -> Iterator[Region]:
        program, g, of = self.program, self.number, self.steps
        for v in range(0 if self.apart else 1, len(program.shapes)):
            yield Region(f"g{g}.v{v}", (self.B, *program.shapes[v]), "float32", self._value_steps(v))
        for k, span in enumerate(program.errors):
            kept = of(program.between(span.first, span.last))
            yield Region(f"g{g}.e{k}", (self.B, *span.shape), "float32", kept)
        for k, one in enumerate(program.operations):
            yield from self._operation_regions(k, one)

    def _operation_regions(self, k: int, one: Operation) -> Iterator[Region]:
        """Regions of one operation, besides its input and output."""
        program, g, of, width = self.program, self.number, self.steps, self.program.shapes[one.target][2]
        passes = of([f"{phase}:{k}" for phase in PASSES])
        if one.kind == NORM and self.frozen:
            yield Region(f"g{g}.statistics{k}", (4, width), "float32", passes)
            return
        if one.kind == NORM:
            kept = of([*program.between(f"forward:{k}", f"gradient:{k}"), *(f"{p}:{k}" for p in INFERENCE)])
            both, sums = of([f"forward:{k}", f"gradient:{k}"]), (map_kernels.CHUNKS, 2, width)
            yield Region(f"g{g}.statistics{k}", (4, width), "float32", kept)
            yield Region(f"g{g}.partial{k}", sums, "float64", both)
            yield Region(f"g{g}.slopes{k}", (2 * width,), "float32", of([f"gradient:{k}", f"update:{k}"]))
            return
        if one.kind == GROUPED:
            packed = min(self.threads, self.B), prod(program.shapes[one.source]) // one.weight[0]
            yield Region(f"g{g}.packed{k}", packed, "float32", passes)
        if self.sends(one):
            panel = self.threads, backward_kernels.panel_width(one.weight)
            yield Region(f"g{g}.panel{k}", panel, "float32", of([f"gradient:{k}"]))
        if one.weight:
            threads, run = self._run(one)
            yield Region(f"g{g}.gradient{k}", (threads, run), "float32", self.added_up(k))
            yield Region(f"g{g}.lost{k}", (threads,), "bool", of([f"update:{k}"]))
        if one.biased:
            yield Region(f"g{g}.partial{k}", (map_kernels.CHUNKS, 1, width), "float64", self.added_up(k))
            yield Region(f"g{g}.slopes{k}", (width,), "float32", of([f"update:{k}"]))

    def sends(self, one: Operation) -> bool:
        """Whether an operation's weights, or what stands in for them, send an error down."""
        return bool(one.weight) and one.kind != NORM and one.source in self.program.error_of and not self.program.direct

    def steps(self, steps: Sequence[str]) -> tuple[str, ...]:
        """Convert steps of the program to steps of the group: ``update:4`` of group 1 is ``update:1.4``."""
        return tuple(step.replace(":", f":{self.number}.") for step in steps)

    @property
    def top(self) -> str:
        """Suffix of the step at the top, where the error of the output is computed, after the phase and a colon."""
        return f"{self.number}.{len(self.program.operations)}"

    def _run(self, one: Operation) -> tuple[int, int]:
        """Threads that share a gradient, and run length per thread: its whole share if the gradient is kept."""
        if one.kind == GROUPED:
            return min(self.threads, one.weight[0]), prod(one.weight[1:])
        rows = prod(one.weight[:-1])
        return min(self.threads, rows), update_kernels.run_width(one.weight, min(self.threads, rows), self.micro)

    def added_up(self, k: int) -> tuple[str, ...]:
        """Phases in which the gradient of operation k is kept: across micro-batches, if there are any."""
        return TRAINING if self.micro else self.steps([f"update:{k}"])

    def _value_steps(self, v: int) -> tuple[str, ...]:
        """Phases and steps in which a value is kept; the top value is also kept during the next group's turn."""
        program, steps = self.program, self.program.steps
        if v == 0:
            return self._input_steps()
        span, handed = program.value(v), self.above if v == program.output else None
        found = list(self.steps(program.between(span.first, steps[-1] if handed else span.last)))
        found += self.steps([f"{phase}:{k}" for phase in INFERENCE for k in program.inference_span(v)])
        if handed:
            found += handed.first_steps if handed.apart else handed._input_steps()
        return tuple(found)

    def _input_steps(self) -> tuple[str, ...]:
        """Phases and steps in which the input is kept."""
        program = self.program
        passes = [f"{phase}:{k}" for phase in INFERENCE for k in program.inference_span(0)]
        found = self.steps([*program.between(program.steps[0], program.value(0).last), *passes])
        return (*found, *self.until(self.lent)) if self.lent else found

    @property
    def first_steps(self) -> tuple[str, ...]:
        """The first step of each pass."""
        return self.steps([f"{phase}:0" for phase in PASSES])

    def until(self, last: Group) -> list[str]:
        """All steps from this group's first to the first one of a group further up."""
        found: list[str] = []
        group = self
        while group is not last:
            passes = [f"{phase}:{k}" for phase in INFERENCE for k in range(len(group.program.operations) + 1)]
            found += group.steps([*group.program.steps, *passes])
            assert group.above is not None
            group = group.above
        return [*found, *last.first_steps]

    def open(self, arena: Arena) -> None:
        """Take the views from an arena laid out with the regions."""
        self.arena = arena
        self.ram = arena.views(self.regions(), f"g{self.number}.")

    def carried(self) -> set[str]:
        """Names of the regions whose content is kept from one batch to the next."""
        return {region.name for region in self._parameters()}

    def tensor(self, at: int, shape: tuple[int, ...]) -> Tensor:
        """Parameters with their moments, as flat arrays."""
        part = slice(at, at + prod(shape))
        return Tensor(*(view[part] for view in (self.ram.weights, self.ram.moment1, self.ram.moment2)))

    @property
    def label(self) -> tuple[np.ndarray, np.ndarray]:
        """The label channel's weights (C, k O) and biases (k O,)."""
        both = self.ram.weights[self.program.parameters :].reshape(self.extra)
        return both[:-1], both[-1]

    # -- flash ---------------------------------------------------------------------------------------------------------

    def name(self, what: str) -> str:
        """Name of an object of this group in flash."""
        return f"layer{self.number}.{what}"

    def objects(self) -> dict[str, Sequence[int]]:
        """Item sizes of the group's objects in flash: parameters, moments and running statistics form one item."""
        return {self.name("slices"): [4 * (self.size * (1 + self.moments) + self.program.statistics)]}

    def traffic(self, passes: int = 1) -> tuple[float, float]:
        """Bytes read and written per training step, on average; all of it at the commits of epochs."""
        return 0.0, 0.0 if self.frozen else sum(map(sum, self.objects().values())) / self.batches

    @property
    def commit_bytes(self) -> int:
        """Bytes of the buffer through which a commit reads back, at most the item's size."""
        return min(COMMIT_BUFFER, self.objects()[self.name("slices")][0])

    def _views(self) -> list[np.ndarray]:
        moments = (self.ram.moment1, self.ram.moment2)[: self.moments]
        return [view for view in (self.ram.weights, *moments, self.ram.running) if view.size]

    def given_objects(self) -> dict[str, list[int]]:
        """Objects in flash that hold given parameters of an operation, with batch norm's statistics, or of labels."""
        made = {
            self.name(f"given{k}"): [4 * one.size, 4 * prod(one.weight) if one.kind == NORM else 0]
            for k, one in enumerate(self.program.operations)
            if one.weight
        }
        label = prod(self.extra)
        return {**made, **({self.name("given_label"): [4 * label]} if label else {})}

    def _take_given(self, flash: Flash) -> None:
        """Read the given parameters that are in flash over the initial ones."""
        ram, there = self.ram, set(self.given_objects()) & set(flash.names())
        for k, one in enumerate(self.program.operations):
            if (name := self.name(f"given{k}")) in there:
                flash.read(name, 0, [ram.weights[one.at : one.at + one.size]])
                if one.kind == NORM:
                    flash.read(name, 1, [ram.running[one.running : one.running + prod(one.weight)]])
        if (name := self.name("given_label")) in there:
            flash.read(name, 0, [ram.weights[self.program.parameters :]])

    def initialize(self, flash: Flash) -> None:
        """Write the initial parameters: uniform in +-1 / sqrt(I), gamma 1, beta 0, variances 1; or given ones."""
        ram, seed = self.ram, np.uint64(self.recipe.seed)
        for view in (ram.moment1, ram.moment2, ram.running):
            view[:] = 0
        for k, one in enumerate(self.program.operations):
            count, number = prod(one.weight), self.first + k
            own = ram.weights[one.at : one.at + one.size]
            if one.kind == NORM:
                own[:], own[count // 2 :] = 1, 0
                ram.running[one.running + count // 2 : one.running + count] = 1
            elif one.weight:
                for part, purpose in ((own[:count], random_kernels.WEIGHT), (own[count:], random_kernels.BIAS)):
                    bound = np.float32(one.bound)
                    random_kernels.uniform(part, 0, 1, 0, part.size, part.size, number, purpose, seed, bound)
        extra, inputs = ram.weights[self.program.parameters :], self.extra[0] - self.extra_biased
        if extra.size:
            about = 0, 1, 0, extra.size, extra.size, LABELS + self.number, random_kernels.WEIGHT
            random_kernels.uniform(extra, *about, seed, np.float32(1 / sqrt(inputs)))
        self._take_given(flash)
        flash.write(self.name("slices"), 0, self._views())

    def restore(self, flash: Flash) -> None:
        """Read parameters, moments and running statistics."""
        flash.read(self.name("slices"), 0, self._views())
        self.dirty = False

    def flush(self, flash: Flash) -> None:
        """Write changes back to flash."""
        if self.dirty:
            flash.write(self.name("slices"), 0, self._views())
            self.dirty = False

    # -- passes --------------------------------------------------------------------------------------------------------

    def value(self, v: int) -> np.ndarray:
        """A value (B, rows, columns, channels); the input is usually the output of the group below."""
        return self.below.output if v == 0 and self.below and not self.apart else self.ram[f"v{v}"]

    @property
    def output(self) -> np.ndarray:
        """Output of the last layer (B, rows, columns, channels)."""
        return self.value(self.program.output)

    def error(self, v: int) -> np.ndarray:
        """Error of a value, of the same shape."""
        return self.ram[f"e{self.program.error_of[v]}"]

    def forward(self, samples: int, phase: str, prepare: Callable[[np.ndarray], None] | None = None) -> np.ndarray:
        """Run the forward pass; return its output (B, rows, columns, channels).

        Parameters
        ----------
        samples : int
        phase : str
            In ``forward`` batch norm uses batch statistics, otherwise its running statistics.
        prepare : callable, optional
            Prepares the input (B, rows, columns, channels) in place, in the first step of the pass; without it, the
            output of the group below is read as it is.
        """
        for k, one in enumerate(self.program.operations):
            self.arena.enter(f"{phase}:{self.number}.{k}")
            if k == 0 and prepare:
                prepare(self.value(0))
            self._run_operation(k, one, samples, phase == "forward" and not self.frozen)
        return self.output

    def _run_operation(self, k: int, one: Operation, samples: int, training: bool) -> None:
        source, target = self.value(one.source), self.value(one.target)
        weights, threads = self.ram.weights, self.threads
        count = samples * prod(target.shape[1:3])
        if one.kind == POOL:
            map_kernels.pool(source, samples, *one.window, target, threads)
        elif one.kind == LARGEST:
            tanh_kernels.largest(source, samples, *one.window, target, threads)
        elif one.kind == NORM:
            gamma, beta = _weight(one, weights)
            width = gamma.size
            mean, variance = self.ram.running[one.running : one.running + 2 * width].reshape(2, width)
            statistics = self.ram[f"statistics{k}"]
            if training:
                moved = gamma, beta, mean, variance, one.epsilon, self.ram[f"partial{k}"], statistics
                map_kernels.batch_stats(_flat(source), count, *moved, threads)
            else:
                map_kernels.running_stats(gamma, beta, mean, variance, one.epsilon, statistics)
            beside = empty((0, width)) if one.shortcut is None else _flat(self.value(one.shortcut))
            map_kernels.normalize(_flat(source), count, statistics, beside, one.relu, _flat(target), threads)
        elif one.kind == DEPTHWISE:
            forward_kernels.convolve_depthwise(source, samples, _weight(one, weights), one.stride, target, threads)
        else:
            end = one.at + prod(one.weight)
            bias, weight = weights[end : end + one.biases], _weight(one, weights)
            if one.kind == GROUPED:
                packed = self.ram[f"packed{k}"]
                grouped_kernels.convolve_grouped(source, samples, weight, bias, one.stride, one.relu, packed, target)
            elif one.kind == CONV:
                forward_kernels.convolve(source, samples, weight, bias, one.stride, one.relu, target, threads)
            else:
                flat = source.reshape(-1, one.weight[0]), target.reshape(-1, one.weight[1])
                forward_kernels.connect(flat[0], count, weight, bias, one.relu, flat[1], threads)
            if one.tanh:
                tanh_kernels.activate(_flat(target), count, threads)

    def backward(self, part: Part, step: Step, direct: Callable[[int], None] | None = None) -> bool:
        """Pass the output's error down, training each operation after it; return False if a number is not finite.

        For all micro-batches of a batch but the last, gradients are accumulated and nothing trains. The error of the
        output is masked and overwritten. ``direct`` writes the error of an operation's output, in a program with direct
        errors, at each operation with parameters but the last.
        """
        g = self.number
        for k in reversed(range(len(self.program.operations))):
            self.arena.enter(f"gradient:{g}.{k}")
            one = self.program.operations[k]
            if direct and one.weight and one.target != self.program.output:
                direct(k)
            self._send_back(k, part.samples)
            self.arena.enter(f"update:{g}.{k}")
            if not self._train(k, part, step):
                return False
        self.dirty |= part.ends
        return True

    def _send_back(self, k: int, samples: int) -> None:
        """Compute the error of an operation's source from that of its target."""
        program, T = self.program, self.threads
        one = program.operations[k]
        if one.target not in program.error_of:
            return
        above, target = self.error(one.target), self.value(one.target)
        flat, count = _flat(above), samples * prod(program.shapes[one.target][:2])
        if one.relu:
            map_kernels.rectify_back(flat, _flat(target), count, T)
        if one.tanh:
            tanh_kernels.activate_back(flat, _flat(target), count, T)
        if one.kind == NORM:
            map_kernels.normalize_back(
                flat,
                _flat(self.value(one.source)),
                count,
                self.ram[f"statistics{k}"],
                self.ram[f"partial{k}"],
                self.ram[f"slopes{k}"],
                _flat(self.error(one.source)),
                T,
            )
            return
        if program.direct or one.source not in program.error_of:
            return
        below = self.error(one.source)
        if one.kind == LARGEST:
            tanh_kernels.largest_back(above, self.value(one.source), samples, *one.window, below, T)
            return
        if one.kind == POOL:
            map_kernels.pool_back(above, samples, *one.window, below, T)
            return
        weight = self.feedback[k] if k in self.feedback else _weight(one, self.ram.weights)
        panel, carry = self.ram[f"panel{k}"], k in program.carried
        if one.kind == CONV:
            backward_kernels.convolve_back(above, samples, weight, one.stride, carry, panel, below)
        elif one.kind == CONNECT:
            width, depth = one.weight[1], one.weight[0]
            backward_kernels.connect_back(
                above.reshape(-1, width), count, weight, carry, panel, below.reshape(-1, depth)
            )
        else:
            assert not carry
            backward_kernels.convolve_depthwise_back(above, samples, weight, one.stride, panel, below)

    def _train(self, k: int, part: Part, step: Step) -> bool:
        """Run one step of an operation's parameters, at the end of a batch; return False if one is not finite."""
        one, samples = self.program.operations[k], part.samples
        if not one.weight:
            return True
        if one.kind == NORM:
            return train_whole(self.tensor(one.at, one.weight), self.ram[f"slopes{k}"], step)
        above, source = self.error(one.target), self.value(one.source)
        places = prod(self.program.shapes[one.target][:2])
        count, first, of = (number * places for number in part)
        if one.biased:
            slopes = self.ram[f"slopes{k}"]
            map_kernels.sums(_flat(above), count, first, of, self.ram[f"partial{k}"], slopes, self.threads)
            tensor = self.tensor(one.at + prod(one.weight), (one.biases,))
            if part.ends and not train_whole(tensor, slopes, step):
                return False
        tensor, lost = self.tensor(one.at, one.weight), self.ram[f"lost{k}"]
        run, turn = self.ram[f"gradient{k}"], (first > 0, part.ends)
        if one.kind == CONNECT:
            flat = source.reshape(-1, one.weight[0]), count, above.reshape(-1, one.weight[1])
            update_kernels.train_connection(*flat, tensor, step, *turn, run, lost)
        elif one.kind == GROUPED:
            about = one.weight[0], one.weight[1:3], one.stride
            grouped_kernels.train_grouped(source, samples, above, *about, tensor, step, run, lost)
        else:
            kernel = update_kernels.train_convolution if one.kind == CONV else update_kernels.train_depthwise
            kernel(source, samples, above, one.weight[:2], one.stride, tensor, step, *turn, run, lost)
        return not lost.any()

    # -- a trained group -----------------------------------------------------------------------------------------------

    def digest(self, flash: Flash, row: np.ndarray) -> str:
        """SHA-256 of parameters, then running statistics, as little-endian float32."""
        hashed = hashlib.sha256(self.ram.weights.data)
        hashed.update(self.ram.running.data)
        return hashed.hexdigest()

    @property
    def trained_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Shapes and dtypes of the data that inference needs: parameters and running statistics."""
        return [((self.size,), "float32"), ((self.program.statistics,), "float32")]

    @property
    def trained_bytes(self) -> list[int]:
        """Sizes in bytes of the data that inference needs."""
        return [4 * self.size, 4 * self.program.statistics]

    @property
    def published_bytes(self) -> int:
        """Bytes of all weights as the forward pass reads them."""
        return 4 * self.size

    def trained_regions(self) -> list[Region]:
        """Regions that hold the data inference needs."""
        return [*self._parameters()[:2], *(region for region in self._turn() if "evaluate" in region.within)]

    def load(self, trained: TrainedLayer) -> None:
        """Fill these regions from a trained group, whose ``bias`` holds the running statistics."""
        self.ram.weights[:], self.ram.running[:] = trained.weights, trained.bias

    def forget(self, flash: Flash) -> None:
        """Delete the objects that only training needs."""
        for name in self.objects():
            flash.drop(name)

    def keep(self, flash: Flash) -> None:
        """Write the data of the trained group that inference needs."""
        flash.new(self.name("trained"), self.trained_bytes, slots=1)
        for item, view in enumerate((self.ram.weights, self.ram.running)):
            flash.write(self.name("trained"), item, [view])


def train_whole(tensor: Tensor, slopes: np.ndarray, step: Step) -> bool:
    """Run the optimizer's step on parameters whose gradient is stored whole; return False if a number is not finite."""
    return not update_kernels.train(tensor, slopes, step)


def optimizer_step(recipe: Recipe, t: int, epoch: int) -> Step:
    """Optimizer settings at step number t, counted from 1, in an epoch."""
    assert recipe.lr is not None
    name = str(recipe.optimizer)
    return Step(NUMBERS[name], *rate_and_root(name, recipe.lr * recipe.lr_at(epoch), t))


def _flat(maps: np.ndarray) -> np.ndarray:
    """Reshape (B, rows, columns, C) to (N, C)."""
    return maps.reshape(-1, maps.shape[3])


def _weight(one: Operation, weights: np.ndarray) -> np.ndarray:
    return weights[one.at : one.at + prod(one.weight)].reshape(one.weight)


def unpack_samples(inputs: Encoding, samples: np.ndarray, count: int, maps: np.ndarray, threads: int) -> None:
    """Unpack encoded samples into maps (B, rows, columns, channels)."""
    channels = maps.shape[3]
    if maps.shape[1] == maps.shape[2] == 1:  # not an image: treat the inputs as positions of one channel
        channels = 1
    affine = (inputs.scale, inputs.offset) if inputs.kind == "bytes" else (1.0, 0.0)
    map_kernels.spread(
        samples,
        count,
        np.float32(affine[0]),
        np.float32(affine[1]),
        channels,
        maps.reshape(len(maps), -1, channels),
        threads,
    )
