"""Direct feedback alignment through locally connected layers: each layer receives the output error directly.

Network and training are those of :mod:`.bp_local`; only the source of a layer's error differs.
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
    """Update direction of each layer, from the output error e = (softmax(a) - Y) / B and fixed B_k: dh_k+1 = e B_k.

    Parameters
    ----------
    done, network, labels, binary_weights, binary_activations, dropout
        As for :func:`.bp_local.gradient`; dropout affects only the classifier's gradient.
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
    """Train all layers like :func:`.bp_local.train`, with its options."""
    return bp_local.train(batches, network, slopes_of=partial(gradient, feedback=feedback), **options)
