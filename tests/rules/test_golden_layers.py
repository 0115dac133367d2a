"""Golden trajectories of rules whose layers train one after another, as TinyFoA's do, by the compiled kernels.

Judged as in :mod:`test_golden`. Above the first layer, a layer starts from the golden outputs of the one below.
"""

import json

import numpy as np
import pytest
from golden_files import golden_files
from network_tools import given, weights

from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.ram.arena import Arena
from tinyfoa_np.ram.packing import pack
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits
from tinyfoa_np.storage.flash import Flash


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop("meta"))), arrays


PATHS = [*golden_files("biofo_fc*.npz"), *golden_files("monoforward_fc*.npz")]


class Run:
    """A layer of a golden file in an arena of its own, on two threads."""

    def __init__(self, meta, arrays, k, flash):
        self.flash, self.k, W = flash, k, arrays[f"W{k}"]
        head = arrays[f"B{k}" if meta["system"] == "biofo" else f"P{k}"]
        options = {"head": meta["head"]} if meta["system"] == "biofo" else {"head_lr": meta["lr"]}
        recipe = Recipe(
            algorithm=meta["system"],
            network="fc:" + ",".join(str(len(arrays[f"W{n}"])) for n in range(k + 1)),
            batch=arrays["x"].shape[1],
            epochs=1,
            slices=1,
            lr=meta["lr"],
            binary_weights=bool(meta["binary_weights"]),
            binary_activations=bool(meta["binary_activations"]),
            options=options,
        ).validated()
        kind = "bits" if k and recipe.binary_activations else "real"
        home, steps = recipe.rule.home("fc"), len(arrays["x"])
        self.layer = home(recipe, k, Encoding(kind, W.shape[1]), len(W), len(head), steps, threads=2)
        plan = pack(self.layer.regions())
        self.arena = Arena(plan.nbytes, poison=True)
        self.arena.lay_out(plan)
        self.layer.open(self.arena)
        self.layer.create(flash)
        self.put(W, arrays[f"b{k}"], head)

    def put(self, W, b, head):
        self.arena.enter("initialize")
        self.layer.parameters.initialize(self.flash, *given(W, b))
        if len(self.layer.layers) > 1:
            self.layer.head.initialize(self.flash, *given(head, None))
        self.layer.restore(self.flash)
        self.layer.ram.projection[:] = head.T

    def load(self, X, labels):
        self.arena.enter("load")
        ram, packed = self.layer.ram, self.layer.inputs.kind == "bits"
        ram.labels[: len(X)], ram.input_scale[0] = labels, X.max() if packed else 1
        ram.inputs[: len(X)] = bits.pack(X > 0) if packed else X

    def logits(self, samples):
        return (self.layer.ram.logits[:, :samples] * np.float32(self.layer.scale)).T

    def pass_on(self, X, labels):
        """Outputs and logits of a batch, with its own scale."""
        self.load(X, labels)
        self.arena.enter("hand-over")
        self.layer.forward(self.flash, whole(len(X)), emit=True)
        return self.handed(len(X)), self.logits(len(X)).copy()

    def handed(self, samples):
        h = self.layer.ram.outputs[:samples].copy()
        if self.layer.recipe.binary_activations:
            return np.float32(self.layer.scale) * bits.unpack(h, self.layer.O)
        return h


def train(meta, arrays, runs):
    """Results of layers that are trained on the same batches, each step one after another; lowest first."""
    ours, losses = {}, np.empty((len(arrays["x"]), len(runs)))
    for step, (X, labels) in enumerate(zip(arrays["x"], arrays["y"])):
        for n, run in enumerate(runs):
            k, layer, own = run.k, run.layer, run.layer.parameters
            below, X = (arrays[f"h{k - 1}_end"][step] if k and n == 0 else X), None
            run.load(below, labels)
            run.arena.enter("forward")
            layer.forward(run.flash, whole(len(below)), step)
            handed = run.handed(len(below)) if len(layer.layers) > 1 else None  # which a head needs in its update
            if step == 0:
                ours[f"out{k}_step0"] = run.logits(len(below)).copy()
            run.arena.enter("gradient")
            losses[step, n] = layer.gradient(len(below))[0] / len(below)
            before = layer.head.ram.moment1.copy() if len(layer.layers) > 1 else None
            run.arena.enter("update")
            if step == 0:
                own.exchange(run.flash, 0)
                dW, db = layer.slice_gradient(run.flash, len(below), 0, 0)
                ours |= {f"gW{k}_step0": dW.copy(), f"gb{k}_step0": db.copy()}
            assert layer.update(run.flash, len(below), step)
            if step == 0 and before is not None:  # Adam's first moment is a tenth of the first gradient
                shape = layer.head.O, layer.head.I
                ours[f"gP{k}_step0"] = 10 * layer.head.ram.moment1.reshape(shape).copy()
            X = handed
    for n, run in enumerate(runs):
        k, layer = run.k, run.layer
        layer.flush(run.flash)
        ours |= {f"loss{k}": losses[:, n], f"W{k}_end": weights(run.flash, layer.parameters)}
        ours[f"b{k}_end"] = layer.parameters.ram.bias.copy()
        if len(layer.layers) > 1:
            ours[f"P{k}_end"] = weights(run.flash, layer.head)
    return ours


def answers(meta, arrays, runs):
    """What layers make of the last batch in the golden end state, which our own may differ from by more than 1e-5."""
    h, labels, ours = arrays["x"][-1], arrays["y"][-1], {}
    for run in runs:
        k = run.k
        head = arrays[f"B{k}" if meta["system"] == "biofo" else f"P{k}_end"]
        run.put(arrays[f"W{k}_end"], arrays[f"b{k}_end"], head)
        if f"out{k}_last_batch" in arrays:
            X = arrays["x"] if k == 0 else arrays[f"h{k - 1}_end"]
            ours[f"out{k}_last_batch"] = run.pass_on(X[-1], labels)[1]
        else:
            h, ours[f"goodness{k}_last_batch"] = run.pass_on(h, labels)
    if "goodness_last_batch" in arrays:
        ours["goodness_last_batch"] = sum(ours.values())
    return ours


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path, tmp_path):
    meta, arrays = read(path)
    count = sum(key[0] == "W" and key[1:].isdigit() for key in arrays)
    together = meta.get("schedule") == "together"
    ours = {}
    with Flash.create(tmp_path / "flash", "golden") as flash:
        runs = [Run(meta, arrays, k, flash) for k in range(count)]
        for own in [runs] if together else [[run] for run in runs]:
            ours |= train(meta, arrays, own)
        for k, run in enumerate(runs):
            if f"h{k}_end" in arrays:
                X = arrays["x"] if k == 0 else arrays[f"h{k - 1}_end"]
                ours[f"h{k}_end"] = np.stack([run.pass_on(*batch)[0] for batch in zip(X, arrays["y"])])
        ours |= answers(meta, arrays, runs)
    given_ = {"x", "y", *(f"{name}{k}" for name in "WbBP" for k in range(count))}
    assert set(ours) == set(arrays) - given_
    for key in ours:
        theirs, tolerance = arrays[key], 2e-4 if "_end" in key else 1e-5
        assert ours[key].shape == theirs.shape, key
        worst = np.abs(ours[key].astype(np.float64) - theirs).max()
        assert worst <= tolerance * np.abs(theirs).max(), f"{key} is off by {worst:.2e}"
