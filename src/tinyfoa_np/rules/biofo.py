"""Bio-FO (Huang, Aminifar and others, MLSys 2025), fully connected: TinyFoA with another fixed head.

For a layer with weights W (O, I), bias b (O) and a fixed head P (C, O)

    head        a sixth of P is +1, a sixth -1, the rest 0 (``ternary``), or standard normals (``normal``)
    forward     z = X W^T + b,  h = max(z, 0)
    logits      a = h P^T,  p = softmax(a),  loss = mean cross-entropy
    gradient    dz = ((p - Y) / B) P [z > 0],  dW = dz^T X,  db = sum dz
    update      the optimizer's step on the whole layer
    prediction  the class with the largest logit of the last layer

Weights and activations are real and nothing is clamped, as published. With ``--binary-weights`` and
``--binary-activations`` the conventions of :mod:`.tinyfoa` apply, including its clamp. The published scripts use the
ternary head for CIFAR and CHB-MIT, and the normal one for MNIST and MIT-BIH.
"""

from __future__ import annotations

from math import inf

import numpy as np

from ..kernels import random as random_kernels
from ..recipe import Recipe
from . import tinyfoa


class Layer(tinyfoa.Layer):
    """One layer in training; parameters as for :class:`.tinyfoa.Layer`."""

    @staticmethod
    def clamp(recipe: Recipe) -> float:
        return 1.0 if recipe.binary_weights else inf

    @staticmethod
    def head_rows(out: np.ndarray, first: int, outputs: int, number: int, recipe: Recipe) -> np.ndarray:
        seed = np.uint64(recipe.seed)
        if recipe.options["head"] == "normal":
            random_kernels.normal(out, first, number, seed, 1.0)
        else:
            random_kernels.ternary(out, first, outputs, number, seed)
        return out
