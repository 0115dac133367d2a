"""Packed signs of fully connected and locally connected layers, 32 to a word.

Each neuron has a row of words: input i is bit i % 32 of word i // 32, lowest bit first. A bit is 1 for +1, and bits
beyond the last input are 0. Files hold words in little-endian order, as the target microcontrollers do; in C they are
numbers, which a compiler stores in the order of its target.
"""

from __future__ import annotations

import numpy as np

from ...layers.trained import TrainedLayer


def fully_connected(network: str) -> bool:
    """Whether a network is fully connected, with a row of weights per neuron."""
    return network.startswith("fc:")


def is_packed(layer: TrainedLayer) -> bool:
    """Whether a layer has signs instead of weights."""
    return layer.weights.dtype == np.uint64


def signs(layer: TrainedLayer) -> np.ndarray:
    """Packed signs (O, ceil(I / 32)), little-endian uint32; (P, O, ceil(F / 32)) for a locally connected layer."""
    inputs = layer.shape.fan_in if layer.shape else layer.inputs.width
    panels = layer.weights.reshape(-1, *layer.weights.shape[-3:])  # (P or 1, panels, words of 64, 8 neurons)
    rows = panels.transpose(0, 1, 3, 2).reshape(len(panels), -1, panels.shape[2])
    outputs = layer.shape.channels if layer.shape else layer.outputs
    words = np.ascontiguousarray(rows[:, :outputs].astype("<u8")).view("<u4")[..., : -(-inputs // 32)]
    return words if layer.shape else words[0]


def unpacked(packed: np.ndarray, inputs: int) -> np.ndarray:
    """Signs (.., I) int8, +1 or -1, from packed signs (.., words)."""
    bits = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=-1, count=inputs, bitorder="little")
    return (2 * bits.astype(np.int8) - 1).astype(np.int8)
