"""Feedback alignment (Lillicrap and others, Nature Communications 2016): backpropagation through fixed random matrices.

Layers, activations and loss are those of direct random target projection (:mod:`.drtp`). In the backward pass a fixed
matrix B_k+1, of the shape of W_k+1, replaces the weights:

    error on top        dz = (y - Y) / (B C) [|z| < 1]
    error below         dz_k = (dz_k+1 B_k+1) (1 - h_k+1^2) [|z_k| < 1]
    gradient, update    as in DRTP

([|z| < 1] only with binary activations.) Errors of hidden layers are averaged over the batch, like those of the output.
The error is known only after the forward pass of the whole network, so the inputs and z of all layers are kept until
then.
``--hidden relu`` and ``--loss softmax`` are those of :mod:`.dfa`. Activations can be binary whether or not weights are,
which is not published: the masks follow from the chain rule with B instead of W. The published code can wrap TinyFoA's
binarized layer, and then sends the error on before its own mask:

    --feedback unmasked dh_k = d_k+1 B_k+1 instead of dz_k+1 B_k+1, with dz_k = d_k [|z_k| < 1]
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from ..kernels import fa as kernels
from ..layers.head import uniform_rows
from ..ram.packing import Region
from . import dfa


class Network(dfa.Network):
    """A network trained by feedback alignment; parameters as for :class:`.network_stage.NetworkStage`."""

    def build(self) -> None:
        super().build()
        self.unmasked = self.binary and self.recipe.options["feedback"] == "unmasked"

    def extra(self) -> list[Region]:
        """As in DFA, but feedback matrices are (O, neurons above), each thread has sums, and masks can be kept."""
        above = [*self.widths[1:], self.C]
        kept = [*self.widths, self.C] if self.unmasked else []
        return [
            *(r for r in super().extra() if not r.name.startswith("feedback") and r.name != "error"),
            *(Region(f"feedback{k}", shape, "float32") for k, shape in enumerate(zip(self.widths, above, strict=True))),
            Region("sums", (self.cores, self.B), "float32", ("gradient",)),
            *(Region(f"passes{k}", (width, self.groups), "uint16", ("gradient",)) for k, width in enumerate(kept)),
        ]

    def project(self) -> None:
        """Generate the feedback matrices, uniform in +-sqrt(6 / O) for O neurons below."""
        for k, width in enumerate(self.widths):
            uniform_rows(self.ram[f"feedback{k}"], 0, width, k, self.recipe.seed, sqrt(6 / width))

    def keep_error(self, samples: int) -> None:
        """Store the masks that errors are sent before; the error itself is in the output's z."""
        if self.unmasked:
            for k in range(self.top + 1):
                kernels.take_masks(self._z(k), samples, self.ram[f"passes{k}"])

    def _z(self, k: int) -> np.ndarray:
        return self.ram.z if k == self.top else super()._z(k)

    def send_back(self, k: int, samples: int, size: np.float32) -> None:
        ram, own, above = self.ram, self._z(k), self._z(k + 1)
        how = size, self.binary, self.relu, ram.sums, self.cores
        kernels.send_back(own, samples, above, ram[f"feedback{k}"], *how)
        if self.unmasked:
            kernels.apply_masks(above, samples, ram[f"passes{k + 1}"])
            if k == 0:
                kernels.apply_masks(own, samples, ram.passes0)
