"""Common base of algorithms that train the whole network in every step: layers, regions and flash objects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from math import prod
from typing import Any

import numpy as np

from ..kernels import random as random_kernels
from ..kernels.operands import Given, Inputs, Scratch
from ..layers.dense import Dense, Work
from ..layers.encoding import TILES, Encoding, empty, nbytes, view, z_tile
from ..layers.head import cross_entropy
from ..layers.layer import Batch, Layer, Out, Part, whole
from ..layers.signs import dense_class
from ..layers.state import State
from ..layers.tiling import ROWS, Tiling
from ..layers.trained import TrainedLayer
from ..network import LayerShape, LocalShape
from ..ram.arena import Arena
from ..ram.packing import Region
from ..ram.phases import INFERENCE, PASSES, TRAINING
from ..recipe import Recipe
from ..storage.flash import Flash
from .cuts import Rung, micro_batches
from .stage import NO_FLASH, Stage

#: scratch of an update, shared by all layers
UPDATE = ("gradient", "dz", "listed", "turned", "abs_w")
#: placeholder for a dropout mask if there is no dropout
NO_MASK = np.zeros((0, 0), np.uint64)


class NetworkStage(Stage):
    """All layers of a network, trained together in one arena.

    Parameters
    ----------
    recipe, inputs
        As for :class:`.stage.Stage`.
    shapes : sequence of LayerShape
        Hidden layers, lowest first.
    classes, batches, threads
        As for :class:`.stage.Stage`.
    tiling : Tiling
        B, the number of samples held at a time, and the number of neurons whose z is held at a time, if the algorithm
        does not need all. If B is less than the recipe's batch, gradients are accumulated over micro-batches in the
        order of the samples, so that the sums equal those of the whole batch.

    Notes
    -----
    Layers are numbered from 0; ``reads[k]`` is the encoding of layer k's inputs.
    """

    inference_passes = 1  # passes per sample when not training
    reads: list[Encoding]
    layers: list[Dense]
    shapes: list[LayerShape] | list[LocalShape]

    def __init__(
        self,
        recipe: Recipe,
        inputs: Encoding,
        shapes: Sequence[LayerShape] | Sequence[LocalShape],
        classes: int,
        batches: int,
        threads: int,
        tiling: Tiling,
    ) -> None:
        super().__init__(recipe, inputs, classes, batches, threads, tiling)
        self.B, self.tile, self.micro = tiling.samples, tiling.neurons, tiling.samples < recipe.batch
        self.shapes, self.top = list(shapes), len(shapes)
        self.widths = [shape.outputs for shape in shapes]
        self.binary = recipe.binary_activations
        self.scales = [1.0] * len(shapes)  # s of each hidden layer for inference
        self.sums = [0.0] * len(shapes)  # |z| of each hidden layer, over the samples seen since the last reset
        self.seen = 0  # the number of those samples
        self.inspect: Callable[..., None] | None = None  # called before each update with (k, inputs, source, scratch)
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Make the layers, and the encodings that they read."""

    def dense(
        self, k: int, outputs: int, reads: Encoding | None = None, kind: type[Dense] | None = None, **options: Any
    ) -> Dense:
        """Make layer k with inputs ``reads``, by default ``reads[k]``; options as for :class:`.dense.Dense`.

        ``kind`` is the class, by default the one for its weights and the recipe's optimizer.
        """
        own = {"prefix": f"layer{k}.", "rows": self.B, "partial": self.micro, **options}
        kind = kind or dense_class(self.recipe, own["binary_weights"])
        return kind(self.recipe, k, reads or self.reads[k], outputs, self.batches, self.cores, **own)

    @classmethod
    def ladder(cls, recipe: Recipe) -> list[Rung]:
        cuts = [(tile, recipe.batch) for tile in TILES] + [(TILES[-1], part) for part in micro_batches(recipe)]
        return [Rung(Tiling(held, tile), (tile,), ROWS[:1]) for tile, held in cuts]

    @property
    def groups(self) -> int:
        """Words of 16 samples per mask."""
        return -(-self.B // 16)

    # -- regions -------------------------------------------------------------------------------------------------------

    def common_regions(self, rows: int) -> list[Region]:
        """Regions of every algorithm; ``rows`` is the number of rows in a pass and in the update."""
        forward = max(
            nbytes(*self.layers[k].pass_scratch(held, rows, self._pass_threads(rows)))
            for k in range(len(self.layers))
            for held in self.scratch_kinds(k)
        )
        update = dict.fromkeys(UPDATE, 0)
        for layer in self.trained_layers:
            for name, shape in layer.scratch_shapes().items():
                update[name] = max(update[name], nbytes(*shape))
        return [
            Region("inputs", (self.B, self.inputs.columns), self.inputs.dtype, (*TRAINING, *INFERENCE)),
            Region("input_scale", (1,), "float32", ("load",)),
            Region("labels", (self.B,), "uint16", (*TRAINING, *INFERENCE)),
            Region("scratch", (forward,), "uint8", PASSES),
            Region("abs_z", (self._pass_threads(rows),), "int64", PASSES),
            Region("result", (2,), "float64", ("gradient", *INFERENCE)),
            *(Region("update." + name, (size,), "uint8", ("update",)) for name, size in update.items()),
            Region("row", (max(layer.I for layer in self.layers),), "float32", ("hand-over",)),
            Region("commit", (max(layer.commit_bytes for layer in self.layers),), "uint8", ("load",)),
        ]

    def scratch_kinds(self, k: int) -> list[Encoding]:
        """Encodings in which :meth:`tile_pass` takes layer k's inputs."""
        return [self.reads[k]]

    def _pass_threads(self, rows: int) -> int:
        # a thread takes at least 16 samples
        return min(self.cores, -(-rows // 16))

    def _tile(self, k: int) -> int:
        return z_tile(self.tile, self.reads[k], self.layers[k].O, self.layers[k].binary_weights)

    def widest_steps(self) -> set[int]:
        # of the update's regions, only the gradient depends on the slice
        return max(self.trained_layers, key=lambda layer: prod(layer.scratch_shapes()["gradient"][0])).widest_steps()

    @property
    def trained_layers(self) -> list[Dense]:
        """The layers that are not frozen."""
        return [layer for layer in self.layers if not layer.frozen]

    @property
    def lowest(self) -> int:
        """The lowest layer that is not frozen; no error needs to pass below it."""
        return self.trained_layers[0].number

    def cost(self) -> tuple[float, ...]:
        """Cost of a step relative to other tilings: micro-batches first, then tiles."""
        return -self.B, -self.tile

    # -- flash and state -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        own = {"scales": list(self.scales), "sums": list(self.sums), "seen": self.seen}
        return {"layers": [layer.state for layer in self.layers], **own}

    @state.setter
    def state(self, known: dict[str, Any]) -> None:
        for layer, state in zip(self.layers, known["layers"], strict=True):
            layer.state = State.of(state)
        self.scales, self.sums, self.seen = list(known["scales"]), list(known["sums"]), known["seen"]

    # -- passes --------------------------------------------------------------------------------------------------------

    def held(self, block: np.ndarray, reads: Encoding, rows: int) -> np.ndarray:
        """View a block of bytes as inputs (rows, columns)."""
        return view(block, (rows, reads.columns), reads.dtype)

    def tile_pass(
        self,
        k: int,
        values: np.ndarray,
        samples: int,
        z: np.ndarray,
        outputs: np.ndarray,
        active: np.ndarray,
        gain: float = 1.0,
        biased: bool = True,
    ) -> float:
        """Compute z = gain alpha (x . w) + b of layer k tile by tile, and its outputs; return the summed |z|.

        Parameters
        ----------
        k : int
        values : ndarray (rows, columns)
            The layer's inputs.
        samples : int
            Number of rows in use.
        z : ndarray (To, rows)
            Holds z of a tile of neurons, or of all neurons if it has a row for each.
        outputs : ndarray (rows, columns) or (0, 0)
            Receives the bits z > 0, or max(z, 0).
        active : ndarray (O, G) or (0, G)
            Receives the masks 0 < z, with binary activations 0 < z < 1.
        gain : float
            The scale of binary inputs.
        biased : bool
            Whether to add the bias.
        """
        layer = self.layers[k]
        held = next(kind for kind in self.scratch_kinds(k) if values.dtype == kind.dtype)
        out = Out(outputs, empty((0, z.shape[1])), layer.no_head, z, active, 0, self.binary, biased)
        return layer.forward(NO_FLASH, Batch(values, held, gain), whole(samples), out)

    def whole_pass(
        self, k: int, values: np.ndarray, samples: int, z: np.ndarray, gain: float = 1.0, biased: bool = True
    ) -> float:
        """Compute z (O, rows) of layer k only; return the summed |z|. Parameters as for :meth:`tile_pass`."""
        nothing = empty((0, 0)), empty((0, -(-z.shape[1] // 16)), "uint16")
        return self.tile_pass(k, values, samples, z, *nothing, gain, biased)

    def train_layer(
        self,
        flash: Flash,
        k: int,
        values: np.ndarray,
        scale: float,
        samples: int,
        dz: np.ndarray,
        step: int,
        factor: np.ndarray | None = None,
        begun: bool = False,
        ended: bool = True,
    ) -> bool:
        """Run one step of layer k from its inputs and errors dz (O, rows); return False if a number is not finite.

        ``scale`` multiplies binary inputs (read as bit + offset); ``factor`` (rows,) is an additional factor per
        sample. For micro-batches, ``begun`` says whether the gradient was begun by an earlier one, ``ended`` whether
        this one ends it.
        """
        layer = self.layers[k]
        if layer.frozen:
            return True
        inputs = Inputs(values, *Batch(values, layer.inputs, scale).affine)
        source = Given(dz, 0, empty((0,)) if factor is None else factor)
        scratch, abs_w = self.update_scratch(k)
        if self.inspect:
            self.inspect(k, inputs, source, scratch)
        return layer.update(
            flash, lambda _: inputs, samples, lambda first, last: source, step, scratch, abs_w, begun, ended
        )

    def update_scratch(self, k: int) -> tuple[Scratch, np.ndarray]:
        """Scratch for an update of layer k, and the array for its sums of |W| (T,)."""
        shapes = self.layers[k].scratch_shapes()
        blocks = {name: view(self.ram["update." + name], *shape) for name, shape in shapes.items()}
        return Scratch(*(blocks[name] for name in Scratch._fields)), blocks["abs_w"]

    def cross_entropy(self, samples: int, of: int | None = None) -> tuple[float, int]:
        """Turn logits into errors, for a batch of ``of``; return summed cross-entropy and wrong predictions."""
        ram = self.ram
        return cross_entropy(ram.logits, samples, ram.labels, ram.error, ram.result, of or samples)

    def dropout_mask(self, k: int, width: int, samples: int, step: int, first: int = 0) -> np.ndarray:
        """Layer k's dropout mask of a step (B, ceil(width / 64)), from sample ``first`` on, in the region ``mask``."""
        mask, dropout = self.ram[f"mask{k}"], self.recipe.dropout
        if not dropout:
            return NO_MASK
        kept = np.uint64(round((1 - dropout) * 65536))
        seed = np.uint64(self.recipe.seed)
        random_kernels.mask(mask, first, samples, width, kept, step, k, seed, self.cores)
        return mask

    def note(self, samples: int, step: int, sums: Sequence[float]) -> None:
        """Add the |z| of a training batch to the sums of its epoch."""
        if step % self.batches == 0:
            self.sums, self.seen = [0.0] * len(self.sums), 0
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]
        self.seen += samples
        self._settle()

    def _settle(self) -> None:
        if self.binary:
            self.scales = [total / (self.seen * width) for total, width in zip(self.sums, self.widths, strict=True)]

    # -- passes without training ---------------------------------------------------------------------------------------

    def take(self, arena: Arena, layers: Sequence[Layer]) -> None:
        super().take(arena, layers)
        for layer in self.layers:
            layer.work = Work(self.ram.scratch, self.ram.abs_z)

    @abstractmethod
    def infer(self, samples: int, scales: Sequence[float] | None) -> list[float]:
        """Run a pass without training, up to :meth:`scores`; return the summed |z| of each hidden layer.

        ``scales`` are stored s_k, used instead of the batch's own.
        """

    def wrong(self, samples: int) -> int:
        return self.cross_entropy(samples)[1]

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        super().load(trained)
        self.scales = [layer.scale for layer in trained[: len(self.scales)]]

    def answer(self, samples: int) -> None:
        self.arena.enter("evaluate")
        self.infer(samples, self.scales)

    def evaluate(self, flash: Flash, part: Part) -> int:
        """Number of wrong predictions in the loaded samples, using the mean scales of the epoch so far."""
        self.arena.enter("evaluate")
        self.infer(part.samples, self.scales)
        return self.wrong(part.samples)

    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        """Pass the loaded samples through the trained network; return the number of wrong predictions."""
        self.arena.enter("hand-over")
        sums = self.infer(part.samples, None if trained else self.scales)
        if trained:
            self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]
            self.seen += self.inference_passes * part.samples
        return self.wrong(part.samples)

    # -- a trained network ---------------------------------------------------------------------------------------------

    @property
    def surveys(self) -> bool:
        return self.binary

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """Digests of the trained layers."""
        self.sums, self.seen = [0.0] * len(self.sums), 0
        return super().begin_hand_over(flash)

    def settle(self, samples: int) -> None:
        """Fix the stored s of each hidden layer: the mean |z| over the training set."""
        if self.seen:
            self._settle()

    def inference_values(self) -> Iterator[dict[str, Any]]:
        """Values of each trained layer that inference needs besides its weights."""
        scales = chain(self.scales, repeat(1.0))
        return ({"alpha": layer.alpha, "scale": scale} for layer, scale in zip(self.layers, scales, strict=False))
