"""Direct feedback alignment (Nokland, NeurIPS 2016) through locally connected layers.

The network is that of :mod:`.bp_local`; only the source of its layers' errors differs. For each locally connected layer
there is a fixed B_k (P, O, C), uniform in +-1 / sqrt(P O):

    output's error      da = (softmax(a) - Y) / B
    error               dh_k+1 = da B_k^T
    backward            dv_k = dh_k+1 [v_k > 0] [v_k < 1]                  ([v < 1] only with binary activations)
                        du_k by the gradient of batch norm

The classifier is trained with da. No error is passed from layer to layer, so no errors of outputs are stored. Unlike in
:mod:`.dfa`, errors are averaged over the batch.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from ..errors import BadRequest
from ..kernels.local import Head
from ..layers.head import uniform_rows
from ..ram.packing import Region
from ..recipe import Recipe
from . import bp_local


class Network(bp_local.Network):
    """A locally connected network in training by direct feedback alignment; parameters as for :mod:`.bp_local`'s.

    Raises
    ------
    BadRequest
        For options that only fully connected networks have.
    """

    beside_answers = bp_local.Network.beside_answers | {"feedback"}

    def __init__(self, recipe: Recipe, *about: Any) -> None:
        for name, usual in recipe.rule.options.items():
            if recipe.options[name] != usual.default:
                raise BadRequest(
                    f"{name} {recipe.options[name]} applies only to fully connected networks: leave it out"
                )
        super().__init__(recipe, *about)

    def extra(self) -> list[Region]:
        travelling = {"dh", "backward", "feature_error"}
        return [
            *(region for region in super().extra() if region.name not in travelling),
            *(Region(f"feedback{k}", (width, self.C), "float32") for k, width in enumerate(self.widths)),
        ]

    def carried(self) -> frozenset[str]:
        return super().carried() | {f"feedback{k}" for k in range(self.top)}

    def project(self) -> None:
        """Generate the fixed projections."""
        for k, width in enumerate(self.widths):
            uniform_rows(self.ram[f"feedback{k}"], 0, width, k, self.recipe.seed, 1 / sqrt(width))

    def send_back(self, k: int, samples: int) -> None:
        """Compute du of layer k, in place of u, from the output's error."""
        if k < self.top:
            feedback, channels = self.ram[f"feedback{k}"], self.local[k].shape.channels
            self.arena.enter("gradient")
            self.slopes(k, samples, lambda first, last: Head(first, feedback[first * channels : last * channels]))
