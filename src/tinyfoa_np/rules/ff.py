"""The forward-forward algorithm (Hinton, 2022), with peer normalization and an additional linear classifier.

A label is written into the first C inputs. Rows are samples with their right labels, then the same samples with wrong
labels. For layers k = 0, 1, ... with weights W_k and biases b_k

    inputs              x_0 = norm(X with labels),  norm(h) = h / (sqrt(mean h^2) + 1e-8) for each row
    forward             z_k = x_k Wb_k^T + b_k,  Wb = alpha sign(W)              (Wb = W without binary weights)
    activations         h_k = max(z_k, 0), or s_k [z_k > 0] with s_k = mean |z_k| over all rows;  x_k+1 = norm(h_k)
    goodness            g = sum h_k^2,  l = g - O,  p = sigmoid(l),  Y = 1 for right labels, 0 for wrong ones
    loss                mean cross-entropy of p, + 0.03 var(m_k) over neurons, m_k a running mean of h_k, right labels
    error               dz = (2 (p - Y) / 2B) h + [right] 0.03 (2 / O) (m - mean m) (0.1 / B),  binary: times [|z| < 1]
    gradient            dW_k = dz^T x_k [|W_k| < 1],  db_k = sum dz              ([|W| < 1] only with binary weights)
    classifier          on x_1, x_2, ... of inputs with 1/C for each label: cross-entropy of sum_k x_k+1 C_k^T;
                        or (``classifiers`` each) one for each layer, on h_0, .., h_k
    update              momentum with weight decay; then all parameters are clamped to +-1
    prediction          the label with the largest goodness, summed over layers: one pass per label

No error flows down: a layer is updated right after its forward pass, and the inputs of only two layers are kept at a
time. The classifier comes first, as it must read all layers before they change; its features are all kept.

As in the published code, activations are binary only if weights are, and incomplete batches are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from ..kernels import ff as ff_kernels
from ..kernels import random as random_kernels
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import BACKWARD, STEP
from ..storage.flash import Flash
from .classifiers import ClassifiedStage
from .goodness import GoodnessStage
from .stage import Outcome

FIRST_MEAN = 0.5  # initial value of the running mean activities


class Network(ClassifiedStage):
    """A network trained by forward-forward; parameters as for :class:`.goodness.GoodnessStage`."""

    beside_answers = GoodnessStage.beside_answers | {"mean"}

    def build(self) -> None:
        super().build()
        recipe = self.recipe
        assert recipe.decay is not None and recipe.classifier_decay is not None
        self.losses: list[float] = []  # of the last step: each layer's, the peer loss, the classifier's
        layers: dict[str, Any] = {"binary_weights": recipe.binary_weights, "decay": recipe.decay, "rows": 2 * self.B}
        self.layers = [self.dense(k, width, **layers) for k, width in enumerate(self.widths)]
        self.classifiers()

    def extra(self) -> list[Region]:
        """Regions of the network besides those of its layers."""
        return [
            *self.row_regions(2 * self.B),
            Region("wrong", (self.B,), "uint16", STEP),
            *self.feature_regions(),
            *(Region(f"mean{k}", (width,), "float32") for k, width in enumerate(self.widths)),
            Region("coefficient", (2 * self.B,), "float32", ("gradient",)),
            Region("logits", (self.C, self.B), "float32", ("forward", "gradient")),
            Region("error", (self.C, self.B), "float32", BACKWARD),
        ]

    def carried(self) -> frozenset[str]:
        return super().carried() | {f"mean{k}" for k in range(self.top)}

    # -- flash and state -----------------------------------------------------------------------------------------------

    def objects(self) -> dict[str, Sequence[int]]:
        """Objects in flash that training uses: layers, classifier, and the running means."""
        return {**super().objects(), "means": [4 * width for width in self.widths]}

    def initialize(self, flash: Flash) -> None:
        """Write the initial parameters: weights N(0, 1 / O), biases and classifier 0, running means 0.5."""
        seed = np.uint64(self.recipe.seed)
        for k, layer in enumerate(self.layers):

            def weights(out: np.ndarray, first: int, last: int, low: int, high: int, k: int = k) -> None:
                if k < self.top:
                    random_kernels.normals(out, 0, k, random_kernels.WEIGHT, seed, 1 / sqrt(self.widths[k]))
                else:
                    out[:] = 0

            layer.initialize(flash, weights, _zeros)
        for k in range(self.top):
            mean = self.ram[f"mean{k}"]
            mean[:] = FIRST_MEAN
            flash.write("means", k, [mean])

    def restore(self, flash: Flash) -> None:
        """Rebuild the arena's content from flash."""
        super().restore(flash)
        for k in range(self.top):
            flash.read("means", k, [self.ram[f"mean{k}"]])

    def flush(self, flash: Flash) -> None:
        """Write changes back to flash."""
        changed = any(layer.state.dirty for layer in self.layers)
        super().flush(flash)
        for k in range(self.top if changed else 0):
            flash.write("means", k, [self.ram[f"mean{k}"]])

    # -- one batch -----------------------------------------------------------------------------------------------------

    def draw(self, samples: int, step: int) -> np.ndarray:
        """Draw a wrong label for each sample of the batch."""
        epoch, batch = divmod(step, self.batches)
        seed, wrong = np.uint64(self.recipe.seed), self.ram.wrong
        random_kernels.wrong_labels(self.ram.labels, samples, self.C, epoch, batch * self.B, wrong, seed)
        return wrong

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded batch: the classifier, then layer by layer."""
        samples = part.samples
        self.losses = []
        loss, wrong, kept = self.train_classifiers(flash, samples, step)
        if not np.isfinite(loss):
            return Outcome(loss, wrong, f"the classifier's loss is {loss}")
        if not kept:
            return Outcome.of(loss, wrong, False)
        ram, rows, sums, peers = self.ram, 2 * samples, [], 0.0
        self.arena.enter("forward")
        self._embed(samples, ram.labels)
        self._embed(samples, self.draw(samples, step), samples)
        for k, width in enumerate(self.widths):
            self.arena.enter("forward")
            values, outputs = self._values(k, rows), self._values(k + 1, rows)
            total, s = self._layer(k, values, self._factor(k), rows, None, outputs, self._row_factor(k))
            sums.append(total)
            self.arena.enter("gradient")
            self.losses.append(ff_kernels.loss_and_slopes(ram.goodness, samples, width, ram.coefficient))
            z, mean = self._z(width, 2 * self.B), ram[f"mean{k}"]
            ff_kernels.update_running_mean(z, samples, s, self.binary, mean, self.cores)
            middle, spread = ff_kernels.average(mean)
            peers += spread
            ff_kernels.errors(z, samples, s, self.binary, ram.coefficient, mean, middle, self.recipe.peer, self.cores)
            if not self.binary:
                ff_kernels.normalize(outputs, rows, self._row_factor(k), self.cores)
            self.arena.enter("update")
            if not self.train_layer(flash, k, values, 1.0, rows, z, step, self._factor(k)):
                return Outcome.of(loss, wrong, False)
        total_loss = sum(self.losses)
        self.losses += [peers, loss / samples]
        if not np.isfinite(total_loss):
            return Outcome(total_loss, wrong, f"the loss is {total_loss}")
        self.note(rows, step, sums)
        return Outcome(total_loss * samples, wrong)


def _zeros(out: np.ndarray, first: int, last: int, low: int, high: int) -> None:
    out[:] = 0
