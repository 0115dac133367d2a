"""Feedback alignment (Lillicrap and others, Nature Communications 2016): backpropagation through fixed random matrices.

Layers, activations and loss are those of direct random target projection (:mod:`.drtp`). In the backward pass a fixed
matrix B_k+1, of the shape of W_k+1, replaces the weights:

    error on top        dz = (y - Y) / (B C) [|z| < 1]
    error below         dz_k = (dz_k+1 B_k+1) (1 - h_k+1^2) [|z_k| < 1]
    gradient, update    as in DRTP

([|z| < 1] only with binary activations.) Errors are averaged over the batch, as those of the output are. The error is
known only after the forward pass of the whole network, so the inputs and z of all layers are kept until then. Binary
feedback alignment is not published; the masks follow from the chain rule with B instead of W. As in DRTP, activations
are binary only if weights are.
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

    def extra(self) -> list[Region]:
        """Regions as in DFA, but feedback matrices are (O, neurons above), and each thread has a row of sums."""
        above = [*self.widths[1:], self.C]
        return [
            *(r for r in super().extra() if not r.name.startswith("feedback") and r.name != "error"),
            *(Region(f"feedback{k}", shape, "float32") for k, shape in enumerate(zip(self.widths, above, strict=True))),
            Region("sums", (self.cores, self.B), "float32", ("gradient",)),
        ]

    def project(self) -> None:
        """Generate the feedback matrices, uniform in +-sqrt(6 / O) for O neurons below."""
        for k, width in enumerate(self.widths):
            uniform_rows(self.ram[f"feedback{k}"], 0, width, k, self.recipe.seed, sqrt(6 / width))

    def keep_error(self, samples: int) -> None:
        """Do nothing, as the error of the output is in its z."""

    def send_back(self, k: int, samples: int, tanh_s: np.float32) -> None:
        above = self.ram.z if k + 1 == self.top else self._z(k + 1)
        feedback, sums = self.ram[f"feedback{k}"], self.ram.sums
        kernels.send_back(self._z(k), samples, above, feedback, tanh_s, self.binary, sums, self.cores)
