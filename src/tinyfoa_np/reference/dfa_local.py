"""Direct feedback alignment through locally connected layers: each hears of the output's error directly.

The network and its training are those of :mod:`.bp_local`; only where a layer's error comes from differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from . import bp_local, dense
from . import tinyfoa_local as local
from .bp_local import Network, Pass, Trained
from .tinyfoa import error
from .training import Batch


def gradient(
    done: Pass,
    network: Network,
    labels: np.ndarray,
    feedback: Sequence[np.ndarray],
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    dropout: np.ndarray | float = 1.0,
) -> Network:
    """The gradient of each layer, from the output's error e = (softmax(a) - Y) / B and its fixed B_k: dh_k+1 = e B_k.

    Parameters
    ----------
    done, network, labels, binary_weights, binary_activations, dropout
        As for :func:`.bp_local.gradient`; what was dropped counts in the classifier's gradient alone.
    feedback : sequence of ndarray of float, (C, O R S) each
        B_k of each locally connected layer.
    """
    e, found = error(done.logits, labels), []
    for layer, passed, B in zip(network.layers, done.passed, feedback):
        dh = (e @ B).reshape(passed.h.shape)
        toggles: dict[str, Any] = {"binary_weights": binary_weights, "binary_activations": binary_activations}
        found.append(local.sent_back(passed, layer, dh, **toggles)[0])
    return Network(found, dense.Layer(e.T @ done.features, e.sum(axis=0)))


def train(batches: Sequence[Batch], network: Network, feedback: Sequence[np.ndarray], **options: Any) -> Trained:
    """Trains all layers as :func:`.bp_local.train` does, with its options."""
    return bp_local.train(batches, network, slopes_of=partial(gradient, feedback=feedback), **options)
