"""Softmax classifiers beside a network of goodness: on its layers' outputs for samples without a label.

One reads the outputs of all layers, normalized as the next layer reads them. With the option ``classifiers`` each,
every layer has one: that of layer k reads the outputs of layers 0 to k, not normalized. No error passes from them to a
layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernels import ff as ff_kernels
from ..layers.dense import Dense
from ..ram.packing import Region
from ..ram.phases import INFERENCE, STEP
from ..storage.flash import Flash
from .goodness import NO_FACTOR, GoodnessStage

NO_LABELS = np.zeros(0, np.uint16)


class ClassifiedStage(GoodnessStage):
    """A network with classifiers beside; parameters as for :class:`.goodness.GoodnessStage`.

    Attributes
    ----------
    each : bool
        Whether every layer has a classifier.
    exits : list of list of int
        For each classifier, the numbers of its layers: one for each output that it reads.
    """

    def classifiers(self) -> None:
        """Add the classifiers' layers: those of the last one, then of the one of each layer."""
        recipe = self.recipe
        parts: dict[str, Any] = {"binary_weights": False, "biased": False, "lr": recipe.classifier_lr}
        parts["decay"] = recipe.classifier_decay
        self.layers += [self.dense(self.top + k, self.C, prefix=f"classifier{k}.", **parts) for k in range(self.top)]
        last = list(range(self.top, 2 * self.top))
        self.each, self.exits = recipe.options["classifiers"] == "each", [last]  # layers of each classifier
        for k in range(self.top - 1 if self.each else 0):
            first = len(self.layers)
            for j in range(k + 1):
                self.reads.append(self.reads[self.top + j])
                self.layers.append(self.dense(first + j, self.C, prefix=f"exit{k}.{j}.", **parts))
            self.exits.insert(k, list(range(first, first + k + 1)))

    @property
    def loaded(self) -> Sequence[Dense]:
        return self.layers if self.each else self.answering

    def feature_regions(self) -> list[Region]:
        """Regions of the outputs that classifiers read, and of the factor of each row."""
        features = (*STEP, *INFERENCE) if self.each else STEP
        return [
            *(
                Region(f"feature{k}", (self.B, kind.columns), kind.dtype, features)
                for k, kind in enumerate(self.reads[self.top : 2 * self.top])
            ),
            Region("feature_factor", (self.top if self.binary or self.each else 0, self.B), "float32", features),
        ]

    def feature(self, k: int, samples: int, scale: float | None) -> float:
        """Run layer k on samples without a label; its outputs are the feature of a classifier. Return s_k."""
        ram = self.ram
        values, apart = (ram[f"feature{k - 1}"] if k else ram.x)[:samples], self.binary or self.each
        factor = ram.feature_factor[k - 1] if k and apart else NO_FACTOR
        feature, own = ram[f"feature{k}"][:samples], ram.feature_factor[k] if apart else self._row_factor(k)
        _, s = self._layer(k, values, factor, samples, scale, feature, own)
        if not apart:
            ff_kernels.normalize(feature, samples, own, self.cores)
        return s

    def classify(self, k: int, samples: int, scales: Sequence[float], logits: np.ndarray) -> None:
        """Compute the logits (C, B) of classifier k from the features, whose bits have the values ``scales``."""
        logits[:] = 0
        z = self._z(self.C, self.B)
        for j, number in enumerate(self.exits[k]):
            self.whole_pass(number, self.ram[f"feature{j}"][:samples], samples, z, self._gain(j, scales))
            ff_kernels.add(z, samples, self._spread(j), logits)

    def _gain(self, j: int, scales: Sequence[float]) -> float:
        """Value of the bits of feature j, as classifiers read them; 1 if it is in :meth:`_spread`."""
        return scales[j] if self.each else 1.0

    def _spread(self, j: int) -> np.ndarray:
        """Value of the bits of feature j in each row, normalized; empty if the feature is not."""
        return self.ram.feature_factor[j] if self.binary and not self.each else NO_FACTOR

    def train_classifiers(self, flash: Flash, samples: int, step: int) -> tuple[float, int, bool]:
        """Run one step of the classifiers; return summed loss, wrong predictions, and whether all numbers are finite.

        Loss and predictions are those of the last one.
        """
        ram = self.ram
        self.arena.enter("forward")
        self._embed(samples, NO_LABELS)
        scales = [self.feature(k, samples, None) for k in range(self.top)]
        for e, numbers in enumerate(self.exits):
            self.arena.enter("forward")
            self.classify(e, samples, scales, ram.logits)
            self.arena.enter("gradient")
            loss, wrong = self.cross_entropy(samples)
            if not np.isfinite(loss):
                return loss, wrong, True
            self.arena.enter("update")
            for j, number in enumerate(numbers):
                feature, about = ram[f"feature{j}"][:samples], (samples, ram.error, step, self._spread(j))
                if not self.train_layer(flash, number, feature, self._gain(j, scales), *about):
                    return loss, wrong, False
        return loss, wrong, True
