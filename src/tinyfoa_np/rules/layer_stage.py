"""What a layer of TinyFoA is to the training loop, whatever its connections: layers train one after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import numpy as np

from ..layers.dense import Dense
from ..layers.encoding import Encoding, outputs_of
from ..layers.head import cross_entropy
from ..layers.layer import Batch, Part, whole
from ..layers.state import State
from ..layers.tiling import Tiling
from ..layers.trained import TrainedLayer
from ..recipe import Recipe
from ..storage.flash import Flash
from .stage import NO_FLASH, Outcome, Stage


class LayerStage(Stage):
    """One layer in training, with a fixed random projection of its own.

    Parameters
    ----------
    recipe : Recipe
        A validated one.
    number : int
        Layer, from 0.
    inputs : Encoding
        What the layer reads.
    outputs, classes : int
        O and C.
    batches, threads
        As for :class:`.stage.Stage`.
    tiling : Tiling
    parameters : Dense
        Its weights and biases.
    """

    layers: list[Dense]

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
        self.sum_abs_z = 0.0  # of the training samples, in the hand-over
        self.nothing = np.zeros((0, 0), self.emitted.dtype)  # stands for outputs that are not wanted

    @property
    def hands_on(self) -> Encoding:
        return self.emitted

    @property
    def surveys(self) -> bool:
        return True

    @property
    def state(self) -> dict[str, Any]:
        heads = [asdict(layer.state) for layer in self.layers[1:]]
        known = {"parameters": asdict(self.parameters.state), "scale": self.scale, "sum_abs_z": self.sum_abs_z}
        return {**known, "heads": heads} if heads else known

    @state.setter
    def state(self, known: dict[str, Any]) -> None:
        for layer, state in zip(self.layers, [known["parameters"], *known.get("heads", [])], strict=True):
            layer.state = State(**deepcopy(state))
        self.scale, self.sum_abs_z = known["scale"], known["sum_abs_z"]

    def widest_steps(self) -> set[int]:
        return self.parameters.widest_steps()

    # -- one batch -----------------------------------------------------------------------------------------------------

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """One training step: with the last part of a batch; until then its logits and masks are put together."""
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
        """Wrong answers, told with a batch's last part."""
        self.arena.enter("evaluate")
        self.forward(flash, part)  # without a bias, the batch's s scales all logits alike: it cannot change an answer
        return self.wrong(part.of) if part.ends else 0

    @abstractmethod
    def forward(
        self, flash: Flash, part: Part, step: int | None = None, emit: bool = False, stored_scale: float | None = None
    ) -> float:
        """A batch, or a part, to its logits; returns the summed size of what is switched on, of the batch so far.

        Parameters
        ----------
        flash : Flash
            Has the weights, where they do not stay in RAM.
        part : Part
            Which samples were loaded.
        step : int, optional
            The training step: then what :meth:`update` needs is kept.
        emit : bool
            Write what the layer hands over into the region ``outputs``.
        stored_scale : float, optional
            The layer's stored s; without it, s is that of this batch.
        """

    @abstractmethod
    def update(self, flash: Flash, samples: int, step: int) -> bool:
        """Trains the slices that are due; False as soon as a number is no longer finite."""

    def gradient(self, samples: int) -> tuple[float, int]:
        """Logits to error; returns the batch's summed cross-entropy and how many answers are wrong."""
        return self._softmax(samples, self.scale)

    def _softmax(self, samples: int, scale: float) -> tuple[float, int]:
        """The error of ``scale`` times the logits."""
        ram = self.ram
        return cross_entropy(ram.logits, samples, ram.labels, ram.error, ram.result, samples, scale)

    @property
    def batch(self) -> Batch:
        """What was loaded."""
        return Batch(self.ram.inputs, self.inputs, self._input_scale())

    def _input_scale(self) -> float:
        return float(self.ram.input_scale[0]) if self.inputs.kind == "bits" else 1.0

    def wrong(self, samples: int) -> int:
        return self.gradient(samples)[1]

    # -- a trained layer -----------------------------------------------------------------------------------------------

    def begin_hand_over(self, flash: Flash) -> list[str]:
        """The digest of the trained layer; the training set's samples come next."""
        self.sum_abs_z = 0.0
        return super().begin_hand_over(flash)

    def hand_over(self, flash: Flash, part: Part, trained: bool) -> int:
        """Outputs of what was loaded into the region ``outputs``; with a batch's last part how many are wrong.

        ``trained``: a batch of the training set, whose s is its own; with others it is the stored one. It stands in
        ``input_scale`` when the batch is complete.
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
        """Fixes the stored s: the mean |z| over all ``samples`` of the training set."""
        self.scale = self.sum_abs_z / (samples * self.O) if self.recipe.binary_activations else 1.0

    def known(self) -> list[dict[str, Any]]:
        """What inference must know of the trained layer, and of a head that learnt with it, beside their weights."""
        return [{"alpha": layer.alpha, "scale": self.scale} for layer in self.layers]

    def load(self, trained: Sequence[TrainedLayer]) -> None:
        super().load(trained)
        self.scale = trained[0].scale
        self.project()

    def answer(self, samples: int) -> None:
        """Logits without the layer's own scale; what is handed on, where ``outputs`` is a region."""
        self.arena.enter("evaluate")
        self.forward(NO_FLASH, whole(samples), emit="outputs" in self.ram, stored_scale=self.scale)
