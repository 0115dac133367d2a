"""A golden trajectory run by the compiled kernels: layers in an arena, their slices in flash, as in training."""

import tempfile
from pathlib import Path

import numpy as np
from arena_tools import arena_of
from network_tools import given, weights

from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import Part
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits
from tinyfoa_np.rules.tinyfoa import Layer
from tinyfoa_np.storage.flash import Flash


def run_kernels(golden, streamed=False):
    """Results of the kernels, under the golden file's own names; ``streamed``: in as little RAM as can be."""
    ours = {}
    with tempfile.TemporaryDirectory() as folder, Flash.create(Path(folder) / "flash", "golden") as flash:
        for k in range(golden.layers):
            ours.update(_train_layer(golden, k, flash, streamed))
    return ours


def _train_layer(golden, k, flash, streamed):
    """The results of layer k, trained from its golden initial state on its golden inputs."""
    W, b, P = (golden.arrays[f"{name}{k}"] for name in "WbB")  # (O, I), (O,), (C, O)
    batches, ours = golden.batches(k), {}
    samples = len(batches[0][1])
    layer = _open(golden, k, samples, len(batches), streamed)
    layer.ram.projection[:] = P.T
    layer.create(flash)
    layer.parameters.initialize(flash, *given(W, b))
    layer.restore(flash)
    own = layer.parameters

    losses = np.empty(len(batches))
    for step, batch in enumerate(batches):
        for part in _parts(layer, *batch):
            layer.arena.enter("forward")
            layer.forward(flash, part, step)
        layer.arena.enter("gradient")
        losses[step] = layer.gradient(samples)[0] / samples
        layer.arena.enter("update")
        if step == 0:
            ours[f"gW{k}_step0"], ours[f"gb{k}_step0"] = _gradients(layer, flash, samples)
        layer.update(flash, samples, step)
    ours[f"loss{k}"], ours[f"b{k}_end"] = losses, own.ram.bias.copy()
    ours[f"W{k}_end"] = weights(flash, own)

    outputs = []
    for batch in batches:
        parts = []
        for part in _parts(layer, *batch):
            layer.arena.enter("hand-over")
            layer.forward(flash, part, emit=True)
            parts.append(layer.ram.outputs[: part.samples].copy())  # (., words) or (., O)
        h = np.concatenate(parts)
        if layer.recipe.binary_activations:
            h = np.float32(layer.scale) * bits.unpack(h, layer.O)
        outputs.append(h)
    ours[f"h{k}_end"] = np.stack(outputs)
    return ours


def _open(golden, k, samples, steps, streamed):
    """Layer k in an arena of its own, on two threads."""
    meta, (outputs, inputs) = golden.meta, golden.arrays[f"W{k}"].shape
    whole = meta["vertical"] == "none"  # what one slice per side makes of schedule stream
    recipe = Recipe(
        batch=samples,
        epochs=1,
        slices=1 if whole else meta["M"],
        schedule="stream" if whole else meta["vertical"],
        hold="1" if meta["vertical"] in ("slice", "frozen") else None,  # every golden moves on after each step
        optimizer=golden.optimizer,
        lr=meta["lr"],
        binary_weights=bool(meta["binary_weights"]),
        binary_activations=bool(meta["binary_activations"]),
    ).validated()
    kind = "bits" if k > 0 and recipe.binary_activations else "real"
    tiling = None
    if streamed:  # but for the projection, which is the golden's own; columns can be kept apart where one slice trains
        gather = recipe.schedule == "slice"
        tiling = Tiling(16 if gather else samples, 8, 2, stream_weights=True, stream_slice=True, gather=gather)
    classes = len(golden.arrays[f"B{k}"])
    layer = Layer(recipe, k, Encoding(kind, inputs), outputs, classes, steps, threads=2, tiling=tiling)
    arena_of(layer)
    return layer


def _parts(layer, X, labels):
    """One batch (B, I) into the arena, as much as it holds at a time; yields what part of it that is.

    As bits with their scale, which is the one value that is not 0, or as it is.
    """
    held = layer.held_samples
    for first in range(0, len(X), held):
        some = X[first : first + held]
        layer.arena.enter("load")
        layer.ram.labels[first : first + len(some)] = labels[first : first + len(some)]
        layer.ram.inputs[: len(some)] = bits.pack(some > 0) if layer.inputs.kind == "bits" else some
        layer.ram.input_scale[0] = X.max() if layer.inputs.kind == "bits" else 1
        yield Part(len(some), first, len(X))


def _gradients(layer, flash, samples):
    """dW and db of all that trains in step 0, from the gradient kernel alone: of one slice, or of the whole layer."""
    own = layer.parameters
    parts = [(own.grid.slice(number), number) for number in own.due(0)]
    dW, db = np.zeros((layer.O, layer.I), np.float32), np.zeros(layer.O, np.float32)
    for (first, last, low, high), number in parts:
        own.exchange(flash, number)
        dW[first:last, low:high], db[first:last] = layer.slice_gradient(flash, samples, 0, number)
    first, last, low, high = parts[0][0] if layer.recipe.schedule == "slice" else (0, layer.O, 0, layer.I)
    return dW[first:last, low:high], db[first:last]
