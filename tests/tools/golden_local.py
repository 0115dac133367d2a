"""A golden trajectory of locally connected layers, by the reference and by the compiled kernels, as in training."""

import tempfile
from pathlib import Path

import numpy as np
from arena_tools import arena_of

from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.network import LocalShape
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits
from tinyfoa_np.reference import tinyfoa_local as local
from tinyfoa_np.rules.tinyfoa_local import Layer
from tinyfoa_np.storage.flash import Flash

STREAMED = {"stream_weights": True, "stream_slice": True}


def run_reference(golden):
    """Results of the plain NumPy reference, under the golden file's own names."""
    meta, arrays, ours = golden.meta, golden.arrays, {}
    toggles = {name: bool(meta[name]) for name in ("binary_weights", "binary_activations")}
    for k in range(golden.layers):
        x = arrays["x"] if k == 0 else arrays[f"h{k - 1}_end_eval"]
        batches = list(zip(x, arrays["y"]))
        trained = local.train_layer(
            batches,
            local.initial(arrays[f"W{k}"], arrays[f"b{k}"]),
            arrays[f"B{k}"],
            arrays[f"Bb{k}"],
            slices=1 if meta["vertical"] == "none" else meta["M"],
            schedule="frozen" if meta["vertical"] == "frozen" else "slice",
            hold=1,
            optimizer=golden.optimizer,
            lr=meta["lr"],
            **toggles,
        )
        layer = trained.layer
        ours[f"gW{k}_step0"], ours[f"gb{k}_step0"] = trained.first.W, trained.first.b
        ours[f"loss{k}"], ours[f"W{k}_end"], ours[f"b{k}_end"] = trained.losses, layer.W, layer.b
        ours[f"bn_weight{k}_end"], ours[f"bn_bias{k}_end"] = layer.gamma, layer.beta
        ours[f"bn_mean{k}_end"], ours[f"bn_var{k}_end"] = layer.mean, layer.variance
        ours[f"h{k}_end_eval"] = np.stack(local.hand_over(batches, layer, **toggles))
    return ours


def run_kernels(golden, tiling=None):
    """Results of the kernels, under the golden file's own names; ``tiling``: fields of how layers are cut."""
    ours = {}
    with tempfile.TemporaryDirectory() as folder, Flash.create(Path(folder) / "flash", "golden") as flash:
        for k in range(golden.layers):
            ours.update(_train_layer(golden, k, flash, tiling or {}))
    return ours


def _train_layer(golden, k, flash, tiling):
    """The results of layer k, trained from its golden initial state on its golden inputs."""
    arrays, ours = golden.arrays, {}
    W, b, H, c = (arrays[f"{name}{k}"] for name in ("W", "b", "B", "Bb"))  # (O, I, R, C, 9), (O, R, C), (C, O R C)
    x = arrays["x"] if k == 0 else arrays[f"h{k - 1}_end_eval"]  # (steps, B, I, R, C)
    layer, samples = _open(golden, k, x, tiling), x.shape[1]
    O, places = layer.shape.channels, layer.shape.places
    layer.ram.projection[:] = H.reshape(len(H), O, places).transpose(2, 1, 0).reshape(-1, len(H))
    layer.ram.head_bias[:] = c
    layer.create(flash)
    layer.parameters.initialize(flash, *given(layer.parameters, W, b))
    layer.restore(flash)

    losses = np.empty(len(x))
    for step, (X, labels) in enumerate(zip(x, arrays["y"])):
        _load(layer, X, labels)
        layer.arena.enter("forward")
        layer.forward(flash, whole(samples), step)
        layer.arena.enter("gradient")
        losses[step] = layer.gradient(samples)[0] / samples
        layer.arena.enter("update")
        if step == 0:
            ours[f"gW{k}_step0"], ours[f"gb{k}_step0"] = _gradients(layer, flash, samples)
        assert layer.update(flash, samples, step)
    end = parameters(flash, layer.parameters)
    ours[f"loss{k}"] = losses
    for name, array in zip(("W", "b", "bn_weight", "bn_bias", "bn_mean", "bn_var"), end):
        ours[f"{name}{k}_end"] = array

    outputs = []
    for X, labels in zip(x, arrays["y"]):
        _load(layer, X, labels)
        layer.arena.enter("hand-over")
        layer.forward(flash, whole(samples), emit=True)
        h = layer.ram.outputs.copy()
        if layer.recipe.binary_activations:
            h = np.float32(layer.scale) * bits.unpack(h, layer.O)
        outputs.append(h.reshape(samples, *x.shape[-2:], O).transpose(0, 3, 1, 2))
    ours[f"h{k}_end_eval"] = np.stack(outputs)
    return ours


def _open(golden, k, x, tiling):
    """Layer k in an arena of its own, on two threads."""
    meta, (steps, samples, below, rows, columns) = golden.meta, x.shape
    W, H = golden.arrays[f"W{k}"], golden.arrays[f"B{k}"]
    whole_layer = meta["vertical"] == "none"  # what one slice makes of schedule stream
    recipe = Recipe(
        network="lc:" + str(len(W)),
        batch=samples,
        epochs=1,
        slices=1 if whole_layer else meta["M"],
        schedule="stream" if whole_layer else meta["vertical"],
        hold=None if whole_layer else "1",
        optimizer=golden.optimizer,
        lr=meta["lr"],
        binary_weights=bool(meta["binary_weights"]),
        binary_activations=bool(meta["binary_activations"]),
    ).validated()
    kind = "bits" if k > 0 and recipe.binary_activations else "real"
    places = rows * columns
    connect = "full" if W.shape[1] == below else "depthwise"
    shape = LocalShape(below * places, len(W) * places, below, len(W), rows, columns, connect)
    cut = Tiling(samples, **{"neurons": 3, "rows": 5, **tiling})
    layer = Layer(recipe, k, Encoding(kind, below * places), shape, len(H), steps, 2, cut)
    arena_of(layer)
    return layer


def _load(layer, X, labels):
    """A batch (B, I, R, C) into the arena; above the first layer position by position."""
    layer.arena.enter("load")
    rows = X if layer.number == 0 else X.transpose(0, 2, 3, 1)
    rows = rows.reshape(len(X), -1)
    layer.ram.inputs[:] = bits.pack(rows > 0) if layer.inputs.kind == "bits" else rows
    layer.ram.labels[:] = labels
    layer.ram.input_scale[0] = X.max() if layer.inputs.kind == "bits" else 1


def by_position(W):
    """(O, I, R, C, 9) as (P, O, 9 I)."""
    O, I, R, C, _ = W.shape
    return W.transpose(2, 3, 0, 4, 1).reshape(R * C, O, 9 * I)


def by_channel(W, shape):
    """(P, O, F) as (O, I, R, C, 9)."""
    return W.reshape(shape.rows, shape.columns, -1, 9, W.shape[-1] // 9).transpose(2, 4, 0, 1, 3)


def given(own, W, b, gamma=None, beta=None):
    """Initializers that write these parameters, as the reference has them, for Local."""
    W = by_position(W)

    def weights(out, first, last, low, high):
        k, begin, end = own.places_of(first, last)
        values = W[begin:end, slice(*own.grid.bounds(k))].ravel()
        out[: values.size] = values

    def biases(out, first, last, low, high):
        for k in range(len(own.grid)):
            channels = slice(*own.grid.bounds(k))
            rows = out[slice(*own.bias_rows(k))].reshape(own.shape.places + 2, -1)
            rows[:-2] = b.reshape(len(b), -1).T[:, channels]
            rows[-2] = 1 if gamma is None else gamma[channels]
            rows[-1] = 0 if beta is None else beta[channels]

    return weights, biases


def parameters(flash, own):
    """W (O, I, R, C, 9), b (O, R, C), gamma, beta, running mean and variance (O,), as Local has them now."""
    shape = own.shape
    own.flush(flash)
    W = np.empty((shape.places, shape.channels, own.I), np.float32)
    b = np.empty((shape.places + 2, shape.channels), np.float32)
    for k in range(len(own.grid)):
        channels = slice(*own.grid.bounds(k))
        values = np.empty(W[:, channels].shape, np.float32)
        flash.read(own.name("slices"), k, [values])
        W[:, channels] = values
        b[:, channels] = own.ram.bias[slice(*own.bias_rows(k))].reshape(b[:, channels].shape)
    places = b[:-2].T.reshape(-1, shape.rows, shape.columns)
    return by_channel(W, shape), places, b[-2], b[-1], *own.ram.running.copy()


def _gradients(layer, flash, samples):
    """dW and db of all that trains in step 0."""
    own, shape = layer.parameters, layer.shape
    dW, db = [], []
    for k in own.due(0):
        own.exchange(flash, k)
        weights, biases = layer.slice_gradient(flash, samples, 0, k)
        dW.append(weights)
        db.append(biases)
    dW, db = np.concatenate(dW, axis=1), np.concatenate(db, axis=1)
    return by_channel(dW, shape), db.T.reshape(-1, shape.rows, shape.columns)
