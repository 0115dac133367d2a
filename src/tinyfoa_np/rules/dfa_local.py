"""Direct feedback alignment (Nokland, NeurIPS 2016) through locally connected layers.

The network is that of :mod:`.bp_local`; only where its layers' errors come from differs. With B_k (P, O, C), fixed and
uniform in +-1 / sqrt(P O), for each locally connected layer

    output's error      da = (softmax(a) - Y) / B
    error               dh_k+1 = da B_k^T
    backward            dv_k = dh_k+1 [v_k > 0] [v_k < 1]                  ([v < 1] only with binary activations)
                        du_k as batch norm sends it back

and the classifier trains by da itself. No error travels from layer to layer: none is stored at what a layer puts out.
Unlike :mod:`.dfa`, activations may be binary whatever the weights are, and errors are averaged over the batch.
"""

from __future__ import annotations

from math import sqrt

from ..kernels.local import Head
from ..layers.head import uniform_rows
from ..ram.packing import Region
from . import bp_local


class Network(bp_local.Network):
    """A locally connected network in training by direct feedback alignment; parameters as for :mod:`.bp_local`'s."""

    beside_answers = bp_local.Network.beside_answers | {"feedback"}

    def extra(self) -> list[Region]:
        travelling = {"dh", "backward", "feature_error"}
        return [
            *(region for region in super().extra() if region.name not in travelling),
            *(Region(f"feedback{k}", (width, self.C), "float32") for k, width in enumerate(self.widths)),
        ]

    def carried(self) -> frozenset[str]:
        return super().carried() | {f"feedback{k}" for k in range(self.top)}

    def project(self) -> None:
        """Makes the fixed projections."""
        for k, width in enumerate(self.widths):
            uniform_rows(self.ram[f"feedback{k}"], 0, width, k, self.recipe.seed, 1 / sqrt(width))

    def send_back(self, k: int, samples: int) -> None:
        """From the output's error to du of layer k, in the place of u."""
        if k < self.top:
            feedback, channels = self.ram[f"feedback{k}"], self.local[k].shape.channels
            self.arena.enter("gradient")
            self.slopes(k, samples, lambda first, last: Head(first, feedback[first * channels : last * channels]))
