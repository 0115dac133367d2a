"""Base of rules that write a label into the inputs and predict the label with the largest goodness.

inputs              x_0 = norm(X with a label),  norm(h) = h / (sqrt(mean h^2) + 1e-8) for each row
forward             z_k = x_k Wb_k^T + b_k;  h_k = max(z_k, 0), or s_k [z_k > 0];  x_k+1 = norm(h_k)
goodness            g_k = sum h_k^2
prediction          the label with the largest g, summed over layers: one pass per label
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import BadRequest
from ..kernels import ff as ff_kernels
from ..layers.dense import Dense
from ..layers.encoding import Encoding, outputs_of, z_unit
from ..ram.arena import Views
from ..ram.packing import Region
from ..ram.phases import COMPUTING, INFERENCE
from .cuts import binary
from .network_stage import NetworkStage

NO_FACTOR = np.zeros(0, np.float32)


class Scored:
    """Predictions by the region ``scores`` (C, B)."""

    ram: Views
    C: int

    def wrong(self, samples: int) -> int:
        return int(ff_kernels.best(self.ram.scores, samples, self.ram.labels))

    def scores(self, samples: int) -> np.ndarray:
        """Score of each label (C, n), in float64."""
        return self.ram.scores[:, :samples]


class GoodnessStage(Scored, NetworkStage):
    """A network whose rows are samples with labels; parameters as for :class:`.network_stage.NetworkStage`.

    Its :attr:`reads` are the encodings of the layers' inputs, then of the features: the outputs of each layer.

    Raises
    ------
    BadRequest
        If the inputs have no room for a label, or there is no wrong label.
    """

    def build(self) -> None:
        inputs, classes = self.inputs, self.C
        if not 2 <= classes <= inputs.width:
            raise BadRequest(
                f"algorithm {self.recipe.algorithm} writes one of {classes} labels into {inputs.width} inputs: it needs"
                " at least two labels, and as many inputs"
            )
        self.binary = binary(self.recipe)
        self.inference_passes = classes
        hidden = [outputs_of(width, self.binary) for width in self.widths]
        self.reads = [Encoding("real", inputs.width), *hidden[:-1], *hidden]

    def row_regions(self, rows: int) -> list[Region]:
        """Regions of a pass of ``rows`` rows, and of predictions."""
        sizes, tallest = [rows * kind.row_bytes for kind in self.reads[self.top : 2 * self.top]], max(self.widths)
        z = (tallest, rows) if rows * tallest >= self.C * self.B else (self.C, self.B)
        return [
            *self.common_regions(rows),
            Region("x", (rows, self.inputs.width), "float32", COMPUTING),
            Region("h_even", (max(sizes[0::2]),), "uint8", COMPUTING),
            Region("h_odd", (max(sizes[1::2], default=0),), "uint8", COMPUTING),
            Region("factor_even", (rows,), "float32", COMPUTING),
            Region("factor_odd", (rows if self.top > 1 else 0,), "float32", COMPUTING),
            Region("z", z, "float32", COMPUTING),
            Region("goodness", (rows,), "float64", COMPUTING),
            Region("scores", (self.C, self.B), "float64", INFERENCE),
            Region("guess", (self.B,), "uint16", INFERENCE),
        ]

    def _embed(self, samples: int, labels: np.ndarray, at: int = 0) -> None:
        """Write the batch's inputs with labels into the rows of x, starting at row ``at``."""
        scale, offset = (self.inputs.scale, self.inputs.offset) if self.inputs.kind == "bytes" else (1.0, 0.0)
        ff_kernels.embed(
            self.ram.inputs,
            np.float32(scale),
            np.float32(offset),
            samples,
            labels,
            self.C,
            np.float32(self.recipe.label_scale),
            at,
            self.ram.x,
            self.cores,
        )

    def _values(self, k: int, rows: int) -> np.ndarray:
        """Inputs of layer k (rows, columns)."""
        if k == 0:
            return self.ram.x[:rows]
        return self.held(self.ram.h_even if k % 2 else self.ram.h_odd, self.reads[self.top + k - 1], rows)

    def _factor(self, k: int) -> np.ndarray:
        """Value of the bits in each row of layer k's inputs; empty if inputs are real."""
        if k == 0 or not self.binary:
            return NO_FACTOR
        return self.ram.factor_even if k % 2 else self.ram.factor_odd

    def _layer(
        self,
        k: int,
        values: np.ndarray,
        factor: np.ndarray,
        rows: int,
        scale: float | None,
        outputs: np.ndarray,
        own: np.ndarray,
    ) -> tuple[float, float]:
        """Run layer k: z, outputs, goodness and factor of each row; return the summed |z| and s."""
        z, width = self._z(self.widths[k], 2 * self.B), self.widths[k]
        self.whole_pass(k, values, rows, z, biased=False)
        unit, abs_z = z_unit(2 * self.B, width), self.ram.abs_z
        abs_z[:] = 0
        ff_kernels.activate(z, rows, self.layers[k].ram.bias, factor, unit, outputs, abs_z)
        total = int(abs_z.sum()) / unit
        s = (total / (rows * width) if scale is None else scale) if self.binary else 1.0
        ff_kernels.measure(outputs, rows, width, s, self.ram.goodness, own, self.cores)
        return total, s

    def _z(self, neurons: int, rows: int) -> np.ndarray:
        """Pre-activations z (neurons, rows)."""
        return self.ram.z.reshape(-1)[: neurons * rows].reshape(neurons, rows)

    def _row_factor(self, k: int) -> np.ndarray:
        """Array for the factor of each row of layer k's outputs."""
        return self.ram.factor_odd if k % 2 else self.ram.factor_even

    def infer(self, samples: int, scales: Sequence[float] | None) -> list[float]:
        """Run one pass per label without training; return the summed |z| of each layer."""
        ram, sums = self.ram, [0.0] * self.top
        for label in range(self.C):
            ram.guess[:] = label
            self._embed(samples, ram.guess)
            ram.scores[label] = 0
            for k in range(self.top):
                outputs = self._values(k + 1, samples)
                scale = None if scales is None else scales[k]
                own = self._row_factor(k)
                total, _ = self._layer(k, self._values(k, samples), self._factor(k), samples, scale, outputs, own)
                sums[k] += total
                ram.scores[label, :samples] += ram.goodness[:samples]
                if not self.binary:
                    ff_kernels.normalize(outputs, samples, own, self.cores)
        return sums

    @property
    def answering(self) -> Sequence[Dense]:
        """The hidden layers; the classifier is not used for predictions."""
        return self.layers[: self.top]
