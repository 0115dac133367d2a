"""Direct feedback alignment (Nokland, NeurIPS 2016): the error of the output reaches each hidden layer directly.

Layers, activations and fixed projections B_k are those of direct random target projection (:mod:`.drtp`), but

    output's error      e = y - Y                                                for the current batch
    error               dz_k = (e B_k^T) (1 - h_k+1^2) [|z_k| < 1],  on top dz = (y - Y) / (B C) [|z| < 1]

([|z| < 1] only with binary activations.) With ``--signal sign`` the signs of e are sent (sDFA). A hidden layer's error
is not averaged over the batch, as in the published code of DRTP. The error is known only after the forward pass of the
whole network, so the inputs and z of all layers are kept until then, and all layers are updated afterwards. Activations
can be binary whether or not weights are. Two further options:

    --hidden relu       h_k+1 = max(q_k, 0), and [q_k > 0] in place of 1 - h_k+1^2
    --loss softmax      y = softmax(q) on top, the loss its mean cross-entropy, on top dz = (y - Y) / B [|z| < 1]
"""

from __future__ import annotations

import numpy as np

from ..kernels import dfa as kernels
from ..layers.layer import Part
from ..ram.packing import Region
from ..ram.phases import BACKWARD, COMPUTING
from ..storage.flash import Flash
from . import drtp
from .stage import Outcome


class Network(drtp.Network):
    """A network trained by direct feedback alignment; parameters as for :class:`.network_stage.NetworkStage`."""

    beside_answers = drtp.Network.beside_answers | {"error"}

    def build(self) -> None:
        own = self.recipe.options
        self.relu, self.softmax = own["hidden"] == "relu", own["loss"] == "softmax"
        super().build()

    def extra(self) -> list[Region]:
        own = {"h_even", "h_odd", "z"}
        return [
            *(region for region in super().extra() if region.name not in own),
            *(
                Region(f"h{k + 1}", (self.B * reads.row_bytes,), "uint8", COMPUTING)
                for k, reads in enumerate(self.reads[1:])
            ),
            *(Region(f"z{k}", (width, self.B), "float32", COMPUTING) for k, width in enumerate(self.widths)),
            Region("z", (self.C, self.B), "float32", COMPUTING),
            Region("error", (self.C, self.B), "float32", BACKWARD),
        ]

    def _values(self, k: int) -> np.ndarray:
        return self.ram.inputs if k == 0 else self.held(self.ram[f"h{k}"], self.reads[k], self.B)

    def _z(self, k: int) -> np.ndarray:
        return self.ram[f"z{k}"]

    def train_step(self, flash: Flash, part: Part, step: int) -> Outcome:
        """Run one training step on the loaded batch."""
        ram, (samples, first, of) = self.ram, part
        self.arena.enter("forward")
        gains, sizes, sums = [1.0], [], []
        for k in range(self.top):
            total, s = self._layer(k, samples, gains[k], drtp.NO_LABELS, None)
            gains.append(self.gain(s))
            sizes.append(np.float32(self.size(s)))
            sums.append(total)
        self._output(samples, gains[-1])
        self.note(samples, step, sums)
        self.arena.enter("gradient")
        self.keep_error(samples)
        loss, wrong = self._error(samples, of)
        if not np.isfinite(loss):
            return Outcome.of(loss, wrong)
        for k in reversed(range(self.top)):
            self.send_back(k, samples, sizes[k])
        self.arena.enter("update")
        for k in range(self.top + 1):
            dz = ram.z if k == self.top else self._z(k)
            if not self.train_layer(flash, k, self._values(k), gains[k], samples, dz, step, None, first > 0, part.ends):
                return Outcome.of(loss, wrong, False)
        return Outcome(loss, wrong)

    def keep_error(self, samples: int) -> None:
        """Store the error sent to the hidden layers, before the output's z is overwritten by its errors."""
        ram = self.ram
        if self.softmax:
            kernels.softmax(ram.z, samples, ram.labels, self.s, self.binary, False, ram.error, ram.result, 1)
        else:
            kernels.difference(ram.z, samples, ram.labels, self.s, self.binary, ram.error)
        if self.recipe.options["signal"] == "sign":
            np.sign(ram.error, out=ram.error)

    def _error(self, samples: int, of: int) -> tuple[float, int]:
        if not self.softmax:
            return super()._error(samples, of)
        z, result = self.ram.z, self.ram.result
        result[:] = 0
        kernels.softmax(z, samples, self.ram.labels, self.s, self.binary, self.binary, z, result, of)
        return float(result[0]), int(result[1])

    def send_back(self, k: int, samples: int, size: np.float32) -> None:
        """Replace the z of hidden layer k with its errors; ``size`` is that of binary activations."""
        feedback, how = self.ram[f"feedback{k}"], (size, self.binary, self.relu, self.cores)
        kernels.project(self._z(k), samples, self.ram.error, feedback, *how)
