"""A golden trajectory run by the compiled kernels: layers in an arena, their slices in flash, as in training."""

import tempfile
from pathlib import Path

import numpy as np
from network_tools import given

from tinyfoa_np.algorithms.operands import Inputs
from tinyfoa_np.algorithms.tinyfoa import Layer
from tinyfoa_np.arena import Arena
from tinyfoa_np.flash import Flash
from tinyfoa_np.plan import pack
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits


def run_kernels(golden):
    """Results of the kernels, under the golden file's own names."""
    ours = {}
    with tempfile.TemporaryDirectory() as folder, Flash.create(Path(folder) / "flash", "golden") as flash:
        for k in range(golden.layers):
            ours.update(_train_layer(golden, k, flash))
    return ours


def _train_layer(golden, k, flash):
    """The results of layer k, trained from its golden initial state on its golden inputs."""
    W, b, P = (golden.arrays[f"{name}{k}"] for name in "WbB")  # (O, I), (O,), (C, O)
    batches, ours = golden.batches(k), {}
    samples = len(batches[0][1])
    layer = _open(golden, k, samples, len(batches))
    layer.ram.projection[:] = P.T
    layer.create(flash)
    layer.parameters.initialize(flash, *given(W, b))
    layer.restore(flash)
    own = layer.parameters

    losses = np.empty(len(batches))
    for step, batch in enumerate(batches):
        _load(layer, *batch)
        layer.forward(samples, step)
        losses[step] = layer.gradient(samples)[0] / samples
        if step == 0:
            ours[f"gW{k}_step0"], ours[f"gb{k}_step0"] = _gradients(layer, flash, samples)
        layer.update(flash, samples, step)
    ours[f"loss{k}"], ours[f"b{k}_end"] = losses, own.ram.bias.copy()

    ours[f"W{k}_end"] = np.empty_like(W)
    for number in range(len(own.grid)):
        own.exchange(flash, number)  # what has changed is written back first
        part = own.grid.slice(number)
        resident = own.ram.slice[: part.size].reshape(part.last - part.first, part.high - part.low)
        ours[f"W{k}_end"][part.first : part.last, part.low : part.high] = resident

    outputs = []
    for batch in batches:
        _load(layer, *batch)
        layer.forward(samples, emit=True)
        h = layer.ram.outputs.copy()  # (B, words) or (B, O)
        if layer.recipe.binary_activations:
            h = np.float32(layer.scale) * bits.unpack(h, layer.O)
        outputs.append(h)
    ours[f"h{k}_end"] = np.stack(outputs)
    return ours


def _open(golden, k, samples, steps):
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
    layer = Layer(recipe, k, Inputs(kind, inputs), outputs, len(golden.arrays[f"B{k}"]), steps, threads=2)
    plan = pack(layer.regions())
    arena = Arena(plan.nbytes)
    arena.lay_out(plan)
    layer.open(arena)
    return layer


def _load(layer, X, labels):
    """One batch (B, I) into the arena: as bits with their scale, which is the one value that is not 0, or as it is."""
    layer.ram.labels[:] = labels
    layer.ram.inputs[:] = bits.pack(X > 0) if layer.inputs.kind == "bits" else X
    layer.ram.input_scale[0] = X.max() if layer.inputs.kind == "bits" else 1


def _gradients(layer, flash, samples):
    """dW and db of all that trains in step 0, from the gradient kernel alone: of one slice, or of the whole layer."""
    own = layer.parameters
    parts = [(own.grid.slice(number), number) for number in own.due(0)]
    dW, db = np.zeros((layer.O, layer.I), np.float32), np.zeros(layer.O, np.float32)
    for (first, last, low, high), number in parts:
        own.exchange(flash, number)  # the straight-through mask is that of the resident weights
        dW[first:last, low:high], db[first:last] = layer.slice_gradient(samples, 0, number)
    first, last, low, high = parts[0][0] if layer.recipe.schedule == "slice" else (0, layer.O, 0, layer.I)
    return dW[first:last, low:high], db[first:last]
