"""Arguments of an update: inputs, errors, a slice with its moments, and the numbers of one step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Inputs(NamedTuple):
    """A batch of inputs as stored: X = scale * values + offset."""

    values: np.ndarray  # (ceil(B / 32), I) uint32: bits as turn writes them | (B, I) uint8 | (B, I) float32
    scale: Any  # float32
    offset: Any  # float32
    first: int = 0  # the column of the layer that values begin with


class Projected(NamedTuple):
    """Errors at the outputs as a projection of the errors at the logits: dz = (error P) [active]."""

    error: np.ndarray  # (C, B) float32
    projection: np.ndarray  # (rows, C) float32
    active: np.ndarray  # (rows, G) uint16: bit s % 16 of word s // 16 for sample s
    first: int  # the neuron of their row 0


class Given(NamedTuple):
    """Errors at the outputs that have been computed: dz."""

    dz: np.ndarray  # (rows, B) float32
    first: int  # the neuron of its row 0
    factor: np.ndarray  # (B,) float32: each sample's inputs are to be multiplied by its own | (0,): by nothing


class Resident(NamedTuple):
    """A slice's weights with their moments, row by row; (0,) where the optimizer has none.

    Moments are numbers, or codes in two bytes or one (:mod:`tinyfoa_np.reference.moments`). For bytes, each row has a
    unit for each of its n blocks of 32 columns.
    """

    weight: np.ndarray  # (size,) float32
    moment1: np.ndarray  # (size,) | (0,) float32 | uint16 | uint8
    moment2: np.ndarray  # the same
    unit1: np.ndarray  # (rows n,) | (0,) uint8
    unit2: np.ndarray  # the same


class Draws(NamedTuple):
    """Random bits that round a slice's moments if they are codes: Philox blocks, eight for 32 columns of a row."""

    seed: Any  # uint64
    layer: Any  # uint64
    purpose: Any  # uint64
    index: Any  # uint64: the first block of the first row
    stride: Any  # uint64: from one row to the next


class Published(NamedTuple):
    """Weights in the form the forward pass reads, of all neurons or some of them."""

    weights: np.ndarray  # (ceil(n / 8), W, 8) uint64 | (n, I) float32
    first: int  # the neuron of its row 0; of packed signs a multiple of 8


class Biases(NamedTuple):
    """A layer's biases, with the moments of those that belong to the slice's neurons."""

    bias: np.ndarray  # (O,) float32
    moment1: np.ndarray  # (rows,) | (0,) float32
    moment2: np.ndarray  # (rows,) | (0,) float32


class Step(NamedTuple):
    """An optimizer and the numbers of one step, all float32."""

    optimizer: int  # its number: see :data:`.optimizers.RULES`
    rate: Any  # the learning rate; Adam's over its first bias correction
    root: Any  # one over the square root of Adam's second bias correction
    decay: Any  # decay * w is added to the gradient of w
    limit: Any  # new values are clamped to +-limit; infinity: they are not


class Scratch(NamedTuple):
    """Scratch of each of T threads."""

    gradient: np.ndarray  # (T, run_width) float32
    dz: np.ndarray  # (T, list_width) float32; of bits (T, table_width)
    listed: np.ndarray  # (T, list_width) int32; of bits (T, 0)
    turned: np.ndarray  # (ceil(B / 32), columns) uint32: where packed bits are turned; of bytes or floats (0, 0)
