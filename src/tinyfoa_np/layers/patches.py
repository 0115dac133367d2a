"""Patches: the inputs that a locally connected layer reads around a position, and the buffers that hold them."""

from __future__ import annotations

import numpy as np

from ..kernels import dense_forward as forward_kernels
from ..kernels.local_patches import Images
from ..network import CONNECTIONS, LocalShape
from .encoding import Encoding, weights_shape, words
from .layer import Batch


def patch_kind(inputs: Encoding) -> str:
    """Encoding of the patches of such inputs: bytes become real numbers."""
    return "bits" if inputs.kind == "bits" else "real"


def patch_columns(patch: Encoding, shape: LocalShape) -> int:
    """Columns of a patch buffer: for depthwise bits, the bits of one channel are stored next to those of all."""
    if patch.kind == "bits" and shape.connect == CONNECTIONS[1]:
        return patch.columns + words(9 * shape.below)
    return patch.columns


def scratch_shape(patch: Encoding, binary_weights: bool, shape: LocalShape, batch: int) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of the scratch for one thread's products."""
    if patch.kind == "bits" and binary_weights and shape.connect == CONNECTIONS[1]:
        return (0,), "int32"  # nine bits of one channel times nine signs
    weights = np.dtype(weights_shape(shape.channels, patch.width, binary_weights)[1])
    return forward_kernels.scratch_shape(np.dtype(patch.dtype), weights, batch, words(patch.width), 1)


def held_images(x: Batch, shape: LocalShape, number: int) -> Images:
    """Wrap a batch of layer ``number``'s inputs as images for the kernels.

    Samples of a data set are stored channel by channel, outputs of a layer position by position.
    """
    steps = (shape.places, 1) if number == 0 else (1, shape.below)
    return Images(x.values, *x.affine, shape.below, shape.rows, shape.columns, *steps)
