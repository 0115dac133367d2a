"""Base of rules that train layers one after another, whatever their connections, each with a fixed head.

The head has a row of C numbers for each neuron. It is stored, or regenerated whenever a pass needs some of its rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..kernels.operands import Scratch
from ..layers.dense import Dense
from ..layers.encoding import Encoding, outputs_of
from ..layers.head import cross_entropy
from ..layers.layer import Batch, Part, whole
from ..layers.state import State
from ..layers.tiling import Tiling
from ..layers.trained import TrainedLayer
from ..ram.packing import Region
from ..recipe import Recipe
from ..storage.flash import Flash
from .stage import NO_FLASH, Outcome, Stage

#: phases of a frozen layer: it is read, and passes all samples on
HANDING_OVER = ("initialize", "load", "hand-over")


class LayerStage(Stage):
    """One layer in training, with its own fixed head.

    Parameters
    ----------
    recipe : Recipe
        A validated recipe.
    number : int
        Layer, from 0.
    inputs : Encoding
        Encoding of the layer's inputs.
    outputs, classes : int
        O and C.
    batches, threads
        As for :class:`.stage.Stage`.
    tiling : Tiling
    parameters : Dense
        The layer's weights and biases.
    """

    layers: list[Dense]
    #: rows of the head per unit in which a pass advances: a neuron, or a position with all its channels
    head_stride = 1

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        inputs: Encoding,
        outputs: int,
        classes: int,
        batches: int,
        threads: int,
        tiling: Tiling,
        parameters: Dense,
    ) -> None:
        super().__init__(recipe, inputs, classes, batches, threads, tiling)
        self.number, self.parameters, self.layers = number, parameters, [parameters]
        self.O, self.B = outputs, recipe.batch
        self.emitted = outputs_of(self.O, recipe.binary_activations)
        self.scale = 1.0  # s of the batch, or the stored one
        self.sum_abs_z = 0.0  # of the training samples, during hand-over
        self.nothing = np.zeros((0, 0), self.emitted.dtype)  # placeholder for unused outputs

    def build(self) -> None:
        """Make the layers of the rule beside its first, if there are any."""

    @property
    def hands_on(self) -> Encoding:
        return self.emitted

    @property
    def surveys(self) -> bool:
        return True

    @property
    def frozen(self) -> bool:
        return self.parameters.frozen

    def regions(self) -> list[Region]:
        """All regions of the stage; of a frozen layer, those needed to begin and to hand over."""
        found = super().regions()
        return [region.limited(HANDING_OVER.__contains__) for region in found] if self.frozen else found

    def traffic(self) -> tuple[float, float]:
        return (0.0, 0.0) if self.frozen else super().traffic()

    @property
    def state(self) -> dict[str, Any]:
        heads = [layer.state for layer in self.layers[1:]]
        known = {"parameters": self.parameters.state, "scale": self.scale, "sum_abs_z": self.sum_abs_z}
        return {**known, "heads": heads} if heads else known

    @state.setter
    def state(self, known: dict[str, Any]) -> None:
        for layer, state in zip(self.layers, [known["parameters"], *known.get("heads", [])], strict=True):
            layer.state = State.of(state)
        self.scale, self.sum_abs_z = known["scale"], known["sum_abs_z"]

    def widest_steps(self) -> set[int]:
        return self.parameters.widest_steps()

    # -- the head ------------------------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def head_rows(out: np.ndarray, first: int, outputs: int, number: int, recipe: Recipe) -> np.ndarray:
        """Generate rows (n, C) of layer ``number``'s fixed head, starting at neuron ``first``; return them."""

    def carried(self) -> frozenset[str]:
        return super().carried() | (frozenset() if self.tiling.regenerate else {"projection"})

    def project(self) -> None:
        """Generate the head if it is stored."""
        if not self.tiling.regenerate:
            self._generate(0, self.O // self.head_stride)

    def _generate(self, first: int, last: int) -> np.ndarray:
        """Generate the head's rows of units ``first`` to ``last`` at the start of its region."""
        stride = self.head_stride
        rows = self.ram.projection[: (last - first) * stride]
        return self.head_rows(rows, first * stride, self.O, self.number, self.recipe)

    def projection(self, first: int, last: int) -> np.ndarray:
        """Head rows of units ``first`` to ``last``, generated or stored."""
        if self.tiling.regenerate:
            return self._generate(first, last)
        return self.ram.projection[first * self.head_stride : last * self.head_stride]

    # -- one batch -----------------------------------------------------------------------------------------------------

    @property
    def scratch(self) -> Scratch:
        """Scratch arrays of an update."""
        return Scratch(self.ram.gradient, self.ram.dz, self.ram.listed, self.ram.turned)

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step, at the last part of a batch; earlier parts only collect logits and masks."""
        self.arena.enter("forward")
        self.forward(flash, part, step)
        if not part.ends:
            return Outcome(0.0, 0)
        self.arena.enter("gradient")
        loss, wrong = self.gradient(part.of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        self.arena.enter("update")
        return Outcome.of(loss, wrong, self.update(flash, part.of, step))

    def evaluate(self, flash: Flash, part: Part) -> int:
        """Number of wrong predictions, reported with the last part of a batch."""
        self.arena.enter("evaluate")
        self.forward(flash, part)  # without a bias, the batch's s scales all logits alike: predictions do not change
        return self.wrong(part.of) if part.ends else 0

    @abstractmethod
    def forward(
        self, flash: Flash, part: Part, step: int | None = None, emit: bool = False, stored_scale: float | None = None
    ) -> float:
        """Pass a batch, or a part of it, to its logits; return the summed activation size of the batch so far.

        Parameters
        ----------
        flash : Flash
            Source of the weights if they are not in RAM.
        part : Part
            The loaded samples.
        step : int, optional
            The training step; if given, the values that :meth:`update` needs are kept.
        emit : bool
            Write the layer's outputs into the region ``outputs``.
        stored_scale : float, optional
            The layer's stored s; by default s is that of this batch.
        """

    @abstractmethod
    def update(self, flash: Flash, samples: int, step: int) -> bool:
        """Train the slices that are due; return False as soon as a number is no longer finite."""

    def gradient(self, samples: int) -> tuple[float, int]:
        """Turn logits into errors; return the batch's summed cross-entropy and the number of wrong predictions."""
        return self._softmax(samples, self.scale)

    def _softmax(self, samples: int, scale: float) -> tuple[float, int]:
        """Compute the error of ``scale`` times the logits."""
        ram = self.ram
        return cross_entropy(ram.logits, samples, ram.labels, ram.error, ram.result, samples, scale)

    @property
    def batch(self) -> Batch:
        """The loaded samples."""
        return Batch(self.ram.inputs, self.inputs, self._input_scale())

    def _input_scale(self) -> float:
        return float(self.ram.input_scale[0]) if self.inputs.kind == "bits" else 1.0

    def wrong(self, samples: int) -> int:
        return self.gradient(samples)[1]

    # -- a trained layer -----------------------------------------------------------------------------------------------

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """Digest of the trained layer; call before passing the training set through it."""
        self.sum_abs_z = 0.0
        return super().begin_hand_over(flash)

    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        """Write the outputs of the loaded samples to ``outputs``; return wrong predictions at the end of a batch.

        ``trained``: whether the batch is of the training set and uses its own s; other batches use the stored s. The s
        used is written to ``input_scale`` at the end of the batch.
        """
        self.arena.enter("hand-over")
        total = self.forward(flash, part, emit=True, stored_scale=None if trained else self.scale)
        if not part.ends:
            return 0
        if trained:
            self.sum_abs_z += total
        wrong = self.wrong(part.of)
        self.ram.input_scale[0] = self.scale
        return wrong

    def settle(self, samples: int) -> None:
        """Fix the stored s: the mean |z| over all ``samples`` of the training set."""
        self.scale = self.sum_abs_z / (samples * self.O) if self.recipe.binary_activations else 1.0

    def inference_values(self) -> Iterator[dict[str, Any]]:
        """Values that inference needs, besides weights, of the trained layer and of a head trained with it."""
        return ({"alpha": layer.alpha, "scale": self.scale} for layer in self.layers)

    def inference_regions(self) -> list[Region]:
        found = super().inference_regions()
        if not self.tiling.regenerate:
            return found
        tile = self.parameters.pass_rows, self.C  # an update can need more rows
        return [replace(region, shape=tile) if region.name == "projection" else region for region in found]

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        super().load(trained)
        self.scale = trained[0].scale
        self.project()

    def answer(self, samples: int) -> None:
        """Compute logits without the layer's own scale, and outputs if ``outputs`` is a region."""
        self.arena.enter("evaluate")
        self.forward(NO_FLASH, whole(samples), emit="outputs" in self.ram, stored_scale=self.scale)
