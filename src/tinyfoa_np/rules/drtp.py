"""Direct random target projection (Frenkel, Lefebvre and Bol, Frontiers in Neuroscience 2021).

For layers k = 0, 1, ..., including the output layer, with weights W_k, biases b_k, fixed projections B_k (here (O, C))

    forward             z_k = h_k Wb_k^T + b_k,  h_0 = X,  Wb = alpha sign(W)      (Wb = W without binary weights)
    binary activations  q_k = s_k sign(z_k),  s_k = mean |z_k| over the batch      (otherwise q_k = z_k)
    outputs             h_k+1 = tanh(q_k),  on top y = sigmoid(q_k)
    loss                binary cross-entropy, averaged over classes and batch
    error               dz_k = (Y B_k^T) (1 - h_k+1^2) [|z_k| < 1],  on top dz = (y - Y) / (B C) [|z| < 1]
    gradient            dW_k = dz_k^T h_k [|W_k| < 1],  db_k = sum dz_k
    update              Nesterov momentum; no clamping

([|z| < 1] only with binary activations, [|W| < 1] only with binary weights.) A hidden layer receives the label instead
of an error, so it is updated right after its forward pass, and the inputs of only two layers are kept at a time.

As in the published code, activations are binary only if weights are.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt, tanh

import numpy as np

from ..kernels import drtp as drtp_kernels
from ..layers.encoding import Encoding, empty
from ..layers.head import uniform_rows
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import COMPUTING
from ..storage.flash import Flash
from .cuts import binary
from .network_stage import NetworkStage
from .stage import Outcome

NO_LABELS = np.zeros(0, np.uint16)


class Network(NetworkStage):
    """A network trained by DRTP; parameters as for :class:`.network_stage.NetworkStage`."""

    beside_answers = NetworkStage.beside_answers | {"feedback"}
    relu = False  # or tanh

    def build(self) -> None:
        self.binary, signs = binary(self.recipe), self.recipe.binary_weights
        self.packed = self.binary and (signs or self.relu)  # a product with real weights takes bits for 0 and 1 only
        offset = 0.0 if self.relu else -0.5
        self.reads = [self.inputs, *(self._encoded(width, offset) for width in self.widths)]
        outputs = [*self.widths, self.C]
        self.layers = [self.dense(k, width, binary_weights=signs, limit=inf) for k, width in enumerate(outputs)]

    def _encoded(self, width: int, offset: float) -> Encoding:
        return Encoding("bits", width, offset=offset) if self.packed else Encoding("real", width)

    def size(self, s: float) -> float:
        """The size of binary outputs."""
        return s if self.relu else tanh(s)

    def gain(self, s: float) -> float:
        """Value of a bit, or of a bit minus one half, in a hidden layer's outputs; otherwise 1."""
        return (s if self.relu else 2 * tanh(s)) if self.packed else 1.0

    def extra(self) -> list[Region]:
        """Regions of the network besides those of its layers."""
        sizes = [self.B * reads.row_bytes for reads in self.reads[1:]]
        return [
            *self.common_regions(self.B),
            *(Region(f"feedback{k}", (width, self.C), "float32") for k, width in enumerate(self.widths)),
            Region("h_even", (max(sizes[0::2], default=0),), "uint8", COMPUTING),
            Region("h_odd", (max(sizes[1::2], default=0),), "uint8", COMPUTING),
            Region("z", (max(*self.widths, self.C), self.B), "float32", COMPUTING),
        ]

    def carried(self) -> frozenset[str]:
        return super().carried() | {f"feedback{k}" for k in range(self.top)}

    def project(self) -> None:
        """Generate the fixed projections, uniform in +-sqrt(6 / O)."""
        for k, width in enumerate(self.widths):
            uniform_rows(self.ram[f"feedback{k}"], 0, width, k, self.recipe.seed, sqrt(6 / width))

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _values(self, k: int) -> np.ndarray:
        """Inputs of layer k (B, columns)."""
        if k == 0:
            return self.ram.inputs
        block = self.ram.h_even if k % 2 else self.ram.h_odd
        return self.held(block, self.reads[k], self.B)

    def _z(self, k: int) -> np.ndarray:
        """Pre-activations z (O, B) of hidden layer k."""
        return self.ram.z[: self.widths[k]]

    def _layer(
        self, k: int, samples: int, given: float, labels: np.ndarray, scale: float | None
    ) -> tuple[float, float]:
        """Run hidden layer k on inputs of gain ``given``; return its summed |z| and its s."""
        z = self._z(k)
        total = self.whole_pass(k, self._values(k), samples, z, given)
        s = total / (samples * self.widths[k]) if scale is None else scale
        if len(labels):
            self.arena.enter("gradient")
        feedback = self.ram[f"feedback{k}"] if len(labels) else empty((0, 0))
        drtp_kernels.hidden(
            z,
            samples,
            labels,
            feedback,
            np.float32(self.size(s)),
            self.binary,
            self.relu,
            self._values(k + 1),
            self.cores,
        )
        return total, s

    def _output(self, samples: int, given: float) -> None:
        """Run the output layer: compute its z and s."""
        total = self.whole_pass(self.top, self._values(self.top), samples, self.ram.z[: self.C], given)
        self.s = total / (samples * self.C)

    def _error(self, samples: int, of: int) -> tuple[float, int]:
        """Turn the output's z in place into errors, for a batch of ``of``; return summed loss and wrong predictions."""
        ram = self.ram
        ram.result[:] = 0
        drtp_kernels.output(ram.z[: self.C], samples, ram.labels, self.s, self.binary, ram.result, of)
        return float(ram.result[0]), int(ram.result[1])

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded batch, layer by layer."""
        ram, (samples, first, of) = self.ram, part
        begun, ended = first > 0, part.ends
        given, sums = 1.0, []
        for k, width in enumerate(self.widths):
            self.arena.enter("forward")
            total, s = self._layer(k, samples, given, ram.labels, None)
            sums.append(total)
            self.arena.enter("update")
            if not self.train_layer(flash, k, self._values(k), given, samples, ram.z[:width], step, None, begun, ended):
                return Outcome.of(0.0, 0, False)
            given = self.gain(s)
        self.note(samples, step, sums)
        self.arena.enter("forward")
        self._output(samples, given)
        self.arena.enter("gradient")
        loss, wrong = self._error(samples, of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        self.arena.enter("update")
        values, z = self._values(self.top), ram.z[: self.C]
        kept = self.train_layer(flash, self.top, values, given, samples, z, step, None, begun, ended)
        return Outcome.of(loss, wrong, kept)

    def infer(self, samples: int, scales: Sequence[float] | None) -> list[float]:
        given, sums = 1.0, []
        for k in range(self.top):
            total, s = self._layer(k, samples, given, NO_LABELS, None if scales is None else scales[k])
            sums.append(total)
            given = self.gain(s)
        self._output(samples, given)
        return sums

    def wrong(self, samples: int) -> int:
        return self._error(samples, samples)[1]

    def scores(self, samples: int) -> np.ndarray:
        """Inputs of the output's sigmoid; with binary activations, their signs."""
        z = self.ram.z[: self.C, :samples]
        return np.where(z >= 0, np.float32(1), np.float32(-1)) if self.binary else z
