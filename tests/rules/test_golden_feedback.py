"""FA, DFA, sDFA and DRTP through convolutions by the compiled kernels, beside golden files and the reference.

Golden files are judged as in :mod:`test_golden`; the reference reproduces them in test_golden_forward_only.
"""

import json
from itertools import product

import numpy as np
import pytest
from deep_tools import Run
from golden_files import golden_files

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import feedback
from tinyfoa_np.reference.dense import Layer
from tinyfoa_np.storage.flash import Flash

PATHS = [path for rule in ("fa", "dfa", "sdfa", "drtp") for path in golden_files(f"{rule}_conv*.npz")]


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def recipe_of(meta, samples):
    system, options = meta["system"], {}
    if system != "drtp":
        loss = {"bce": "logistic", "ce": "softmax"}[meta["loss"]]
        options = {"loss": loss, "hidden": meta.get("hidden", "tanh")}
    if system in ("dfa", "sdfa"):
        options["signal"] = "sign" if system == "sdfa" else "error"
    return Recipe(
        algorithm=system.removeprefix("s"),
        network="conv:8",
        optimizer=next(name for name in ("nesterov", "adam") if name in meta["optimizer"]),
        lr=meta["lr"],
        epochs=1,
        batch=samples,
        options=options,
    ).validated()


def chains(layers, image):
    """Units of a convolution or a layer, each with the pooling below it, and the output."""
    (channels, rows, columns), made, pooled = image, [], []
    for kind, *rest in layers:
        if kind == "conv":
            below, width, side, stride, padding = rest
            assert stride == 1 and padding == (side - 1) // 2 and below == channels
            made.append([*pooled, ("plain", below, width, 1, side, side)])
            pooled, channels, rows, columns = [("maxpool", 2, 2)], width, rows // 2, columns // 2
        else:
            made.append([*pooled, ("dense", channels * rows * columns, rest[0])])
            pooled, channels, rows, columns = [], rest[0], 1, 1
    (*below, (_, inputs, classes)) = made[-1]
    return [*made[:-1], [*below, ("linear", inputs, classes)]]


def run_kernels(meta, arrays, flash, patch):
    """Results of the kernels, under the golden file's own names."""
    (steps, samples, *image), ours = arrays["x"].shape, {}
    layers = chains(meta["layers"], image)
    run = Run(recipe_of(meta, samples), layers, tuple(image), layers[-1][-1][2], steps, flash, patch)
    stage = run.stage
    at = [
        (g, k) for g, group in enumerate(stage.layers) for k, one in enumerate(group.program.operations) if one.weight
    ]
    names = [stage.layers[g].program.operations[k].name for g, k in at]

    def put(suffix=""):
        for g in range(len(stage.layers)):
            own = [n for n, (there, _) in enumerate(at) if there == g]
            run.put(
                g,
                {f"{names[n]}.weight": arrays[f"W{n}{suffix}"] for n in own}
                | {f"{names[n]}.bias": arrays[f"b{n}{suffix}"] for n in own},
            )

    put()
    for n, (g, k) in enumerate(at):
        if (B := arrays.get(f"B{n}")) is None:
            continue
        if meta["system"] == "fa":
            place = next(place for place in run._places(g) if place[0] == f"{names[n]}.weight")
            name, where, _, shape, axes = place
            stage.layers[g].feedback[k][...] = run.laid_out(g, name, where, shape, axes, B)
        else:
            moved = B.transpose(0, 2, 3, 1) if B.ndim == 4 else B
            stage.layers[g].feedback[k][...] = moved.reshape(len(B), -1)

    def outputs():
        z = stage.logits[:samples].astype(np.float64)
        return z if meta["loss"] == "ce" else 1 / (1 + np.exp(-z))

    def note(pattern, others):
        for n, (g, _) in enumerate(at):
            named = run.get(g, others.get(g))
            ours[pattern.format("W", n)] = named[f"{names[n]}.weight"]
            ours[pattern.format("b", n)] = named[f"{names[n]}.bias"]

    def look(count, of, error):  # before other arrays take the place of the outputs
        seen.append(outputs())
        return judge(count, of, error)

    losses, seen, judge = [], [], stage._cross_entropy
    patch.setattr(stage, "_cross_entropy", look)
    for step, (X, labels) in enumerate(zip(arrays["x"], arrays["y"])):
        outcome = run.step(step, X, labels)
        assert not outcome.diverged
        losses.append(outcome.loss / samples)
        if step == 0:
            ours["out_step0"] = seen[0]
            first = 10 if stage.recipe.optimizer == "adam" else 1
            note("g{}{}_step0", {g: {"weights": first * group.ram.moment1} for g, group in enumerate(stage.layers)})
    ours["loss"] = np.array(losses)
    note("{}{}_end", {})
    if "out_last_batch" in arrays:
        put("_end")
        run.load(arrays["x"][-1], arrays["y"][-1])
        stage.infer(samples, "evaluate")
        ours["out_last_batch"] = outputs()
    return ours


def compare(ours, expected):
    assert set(ours) == set(expected)
    for key, theirs in expected.items():
        tolerance = 2e-4 if key.endswith("_end") else 1e-5
        assert ours[key].shape == theirs.shape, key
        worst = np.abs(ours[key].astype(np.float64) - theirs).max()
        assert worst <= tolerance * np.abs(theirs).max(), f"{key} is off by {worst:.2e}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path, tmp_path, monkeypatch):
    meta, arrays = read(path)
    with Flash.create(tmp_path / "flash", "golden") as flash:
        ours = run_kernels(meta, arrays, flash, monkeypatch)
    given = {"x", "y", *(f"{name}{k}" for name in "WbB" for k in range(len(meta["layers"])))}
    compare(ours, {key: array for key, array in arrays.items() if key not in given})


LAYERS = [["conv", 3, 9, 5, 1, 2], ["conv", 9, 10, 3, 1, 1], ["fc", 30], ["fc", 7]]


def made(rule, hidden, loss, optimizer):
    """A file's contents from the reference: 11 images of 3 x 8 x 8, 7 classes."""
    rng, meta = np.random.default_rng(5), {"system": rule, "layers": LAYERS, "lr": 0.01, "optimizer": optimizer}
    meta |= {"hidden": hidden, "loss": loss}
    arrays = {"x": rng.normal(size=(3, 11, 3, 8, 8)).astype(np.float32), "y": rng.integers(0, 7, (3, 11))}
    shapes, targets = [(9, 3, 5, 5), (10, 9, 3, 3), (30, 40), (7, 30)], [(9, 8, 8), (10, 4, 4), (30,)]
    layers, matrices = [], []
    for k, shape in enumerate(shapes):
        bound = 1.2 / np.prod(shape[1:]) ** 0.5
        W = rng.uniform(-bound, bound, shape).astype(np.float32)
        layers.append(Layer(W, rng.uniform(-0.2, 0.2, len(W)).astype(np.float32)))
        other = (shape if k else None) if rule == "fa" else (7, *targets[k]) if k < 3 else None
        matrices.append(other and (rng.uniform(-1, 1, other) / np.prod(other[1:]) ** 0.5).astype(np.float32))
    options = {"relu": hidden == "relu", "sigmoid": loss == "bce"}
    batches = list(zip(arrays["x"], arrays["y"]))
    done, output = feedback.train(batches, layers, matrices, rule, optimizer=optimizer, lr=0.01, **options)
    ours = {"out_step0": output, "loss": done.losses}
    for k, (layer, end, slope) in enumerate(zip(layers, done.layers, done.first)):
        arrays |= {f"W{k}": layer.W, f"b{k}": layer.b}
        arrays |= {} if matrices[k] is None else {f"B{k}": matrices[k]}
        ours |= {f"W{k}_end": end.W, f"b{k}_end": end.b, f"gW{k}_step0": slope.W, f"gb{k}_step0": slope.b}
    ours["out_last_batch"] = feedback.forward(arrays["x"][-1], done.layers, **options)[-1].h
    return meta, arrays | ours, ours


@pytest.mark.parametrize("hidden, loss", [*product(("tanh", "relu"), ("bce", "ce"))])
@pytest.mark.parametrize("rule", ["fa", "dfa", "sdfa", "drtp"])
def test_kernels_and_reference_agree(rule, hidden, loss, tmp_path, monkeypatch):
    if rule == "drtp" and (hidden, loss) != ("tanh", "bce"):
        return  # it has no options
    meta, arrays, expected = made(rule, hidden, loss, "nesterov")
    with Flash.create(tmp_path / "flash", "golden") as flash:
        compare(run_kernels(meta, arrays, flash, monkeypatch), expected)


@pytest.mark.parametrize("rule", ["dfa", "drtp"])
def test_batch_norm_is_refused(rule, tmp_path, monkeypatch):
    layers = [[("normed", 3, 4, 1, 3, 3)], [("pool", 8, 8), ("linear", 4, 7)]]
    with Flash.create(tmp_path / "flash", "golden") as flash, pytest.raises(BadRequest, match="without batch norm"):
        Run(Recipe(algorithm=rule, network="conv:8").validated(), layers, (3, 8, 8), 7, 1, flash, monkeypatch)
