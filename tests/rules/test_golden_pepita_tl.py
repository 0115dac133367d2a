"""Golden trajectories of PEPITA-TL and of weight mirroring by the compiled kernels: the first batch, and the end."""

import json

import numpy as np
import pytest
from golden_files import golden_files
from network_tools import Network

from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits, pepita_tl
from tinyfoa_np.reference.tinyfoa import loss
from tinyfoa_np.storage.flash import Flash


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def numbered(arrays, name):
    return [
        arrays[f"{name}{k}"]
        for k in range(sum(key[: len(name)] == name and key[len(name) :].isdigit() for key in arrays))
    ]


def compare(ours, expected):
    assert set(ours) == set(expected)
    for key, value in ours.items():
        tolerance = 2e-4 if key.endswith("_end") else 1e-5
        worst = np.abs(value.astype(np.float64) - expected[key]).max()
        assert worst <= tolerance * np.abs(expected[key]).max(), f"{key} is off by {worst:.2e}"


@pytest.mark.parametrize("path", golden_files("pepita_tl_fc*.npz"), ids=lambda path: path.stem)
def test_golden(path, tmp_path, monkeypatch):
    meta, arrays = read(path)
    start = numbered(arrays, "W")
    masks, (steps, samples, inputs) = arrays.get("masks"), arrays["x"].shape
    recipe = Recipe(
        algorithm="pepita_tl",
        network="fc:" + ",".join(str(len(W)) for W in start[:-1]),
        lr=meta["lr"],
        decay=meta["weight_decay"],
        dropout=0.0 if masks is None else float(1 - 1 / masks.max()),
        epochs=1,
        batch=samples,
    ).validated()
    classes, ours = len(start[-1]), {}
    with Flash.create(tmp_path / "flash", "golden") as flash:
        run = Network(recipe, Encoding("real", inputs), classes, steps, flash)
        stage = run.stage
        run.start([(W, None) for W in start])
        stage.ram.feedback[:] = -arrays["B"]

        def draw(samples, step, second):
            if not recipe.dropout:
                return [np.zeros((0, 0), np.uint64)] * stage.top
            for k in range(stage.top):
                stage.ram[f"mask{k}"][:] = bits.pack(masks[step, int(second), k] > 0)
            return [stage.ram[f"mask{k}"] for k in range(stage.top)]

        def look(flash, samples, step, second):
            def inspect(k, inputs, source, scratch):
                about = flash, inputs, samples, lambda first, last: source, 0, scratch
                ours[f"gW{k}_step0_pass{1 + second}"] = stage.layers[k].slice_gradient(*about)[0]

            stage.inspect = inspect if step == 0 else None
            outcome = passed(flash, samples, step, second)
            if step == 0 and not second:
                for k, layer in enumerate(stage.layers):
                    ours[f"W{k}_step0_between"] = layer.ram.slice.reshape(layer.O, layer.I).copy()
            return outcome

        def answer(samples):
            result = judge(samples)
            labels = np.eye(classes, dtype=np.float32)[stage.ram.labels[:samples]]
            outputs.append((stage.ram.error[:, :samples] * samples).T + labels)
            return result

        passed, judge, outputs = stage._pass, stage.cross_entropy, []
        for name, function in (("masks", draw), ("_pass", look), ("cross_entropy", answer)):
            monkeypatch.setattr(stage, name, function)
        for step, (X, labels) in enumerate(zip(arrays["x"], arrays["y"])):
            assert not run.step(step, X, labels).diverged
        # as logged by the published code: the cross-entropy of a second softmax
        ours["loss"] = np.array([loss(p, labels) for p, labels in zip(outputs, arrays["y"])])
        ours |= {"out_step0": outputs[0], **{f"W{k}_end": W for k, (W, _) in enumerate(run.parameters())}}
        run.start([(arrays[f"W{k}_end"], None) for k in range(len(start))])
        run.load(arrays["x"][-1], arrays["y"][-1])
        run.arena.enter("evaluate")
        stage.infer(samples, None)
        stage.wrong(samples)
        ours["out_last_batch"] = outputs[-1]
    compare(ours, {key: array for key, array in arrays.items() if not is_given(key)})


def run_mirroring(meta, arrays, flash, patch):
    """Results of weight mirroring by the kernels, under the golden file's own names."""
    start, feedback = numbered(arrays, "W"), numbered(arrays, "B")
    masks, noise, (steps, samples, inputs) = arrays.get("masks"), numbered(arrays, "noise"), arrays["x"].shape
    recipe = Recipe(
        algorithm="pepita_wm",
        network="fc:" + ",".join(str(len(W)) for W in start[:-1]),
        lr=meta["lr"],
        decay=meta["weight_decay"],
        dropout=0.0 if masks is None else float(1 - 1 / masks.max()),
        epochs=1,
        batch=samples,
        options={"mirror_lr": meta["wmlr"], "mirror_decay": meta["wmwd"], "deviation": meta["Bstd"]},
    ).validated()
    classes, ours = len(start[-1]), {}
    run = Network(recipe, Encoding("real", inputs), classes, steps, flash)
    stage, judge = run.stage, run.stage.cross_entropy
    run.start([(W, None) for W in start] + [(B.T, None) for B in feedback])

    def mask(k, width, samples, step):
        kept = stage.ram[f"mask{k}"]
        if len(kept):
            kept[:] = bits.pack(masks[step, k] > 0)
        return kept

    def draw(out, step, k, seed):
        out[:] = np.float32(0.1) * noise[k][step].ravel()

    def look(count):
        result = judge(count)
        one_hot = np.eye(classes, dtype=np.float32)[stage.ram.labels[:count]]
        outputs.append((stage.ram.error[:, :count] * count).T + one_hot)
        return result

    def inspect(k, inputs, source, scratch):
        layer, of_weights = stage.layers[k], k <= stage.top
        dW, _ = layer.slice_gradient(flash, inputs, samples, lambda first, last: source, 0, scratch)
        ours[f"gW{k}_step0_pass2" if of_weights else f"gB{k - stage.top - 1}_step0"] = dW if of_weights else dW.T

    outputs, losses = [], []
    for name, function in (("dropout_mask", mask), ("draw", draw), ("cross_entropy", look)):
        patch.setattr(stage, name, function)
    for step, (X, labels) in enumerate(zip(arrays["x"], arrays["y"])):
        stage.inspect = inspect if step == 0 else None
        assert not run.step(step, X, labels).diverged
        losses.append(
            loss(outputs[-1], labels)
        )  # as logged by the published code: the cross-entropy of a second softmax
    ours |= {"loss": np.array(losses), "out_step0": outputs[0]}
    ends = [W for W, _ in run.parameters()]
    ours |= {f"W{k}_end": W for k, W in enumerate(ends[: len(start)])}
    ours |= {f"B{k}_end": F.T for k, F in enumerate(ends[len(start) :])}
    if "out_last_batch" in arrays:
        run.start([(arrays[f"W{k}_end"], None) for k in range(len(start))] + [(B.T, None) for B in feedback])
        run.load(arrays["x"][-1], arrays["y"][-1])
        run.arena.enter("evaluate")
        stage.infer(samples, None)
        stage.wrong(samples)
        ours["out_last_batch"] = outputs[-1]
    return ours


def is_given(key):
    return key in ("x", "y", "masks", "B") or key.rstrip("0123456789") in ("W", "B", "noise") and key[-1].isdigit()


@pytest.mark.parametrize("path", golden_files("pepita_wm_fc*.npz"), ids=lambda path: path.stem)
def test_weight_mirroring(path, tmp_path, monkeypatch):
    meta, arrays = read(path)
    with Flash.create(tmp_path / "flash", "golden") as flash:
        ours = run_mirroring(meta, arrays, flash, monkeypatch)
    compare(ours, {key: array for key, array in arrays.items() if not is_given(key)})


@pytest.mark.parametrize("dropout, widths", [(0.1, (40, 40)), (0.0, (70, 33, 40))], ids=str)
def test_weight_mirroring_is_that_of_the_reference(dropout, widths, tmp_path, monkeypatch):
    """On 37 inputs, 7 classes and batches of 11, which no golden file here has."""
    rng, sizes = np.random.default_rng(1), (37, *widths, 7)
    meta = {"lr": 0.02, "weight_decay": 1e-4, "Bstd": 0.5, "wmlr": 0.05, "wmwd": 1e-3}
    arrays = {"x": rng.normal(size=(3, 11, 37)).astype(np.float32), "y": rng.integers(0, 7, (3, 11))}
    for k, (below, width) in enumerate(zip(sizes, sizes[1:])):
        arrays[f"W{k}"] = (rng.normal(size=(width, below)) * (2 / below) ** 0.5).astype(np.float32)
        arrays[f"B{k}"] = (rng.normal(size=(below, width)) / width**0.5).astype(np.float32)
        arrays[f"noise{k}"] = rng.normal(size=(3, 11, below)).astype(np.float32)
    masks = [
        [(rng.random((11, w)) >= dropout).astype(np.float32) / np.float32(1 - dropout) for w in widths] for _ in "abc"
    ]
    if dropout:
        arrays["masks"] = np.array(masks)
    W, B, noise = (numbered(arrays, name) for name in ("W", "B", "noise"))
    rates = {"lr": 0.02, "decay": 1e-4, "deviation": 0.5, "mirror_lr": 0.05, "mirror_decay": 1e-3}
    batches = list(zip(arrays["x"], arrays["y"]))
    done = pepita_tl.train_mirrored(batches, W, B, list(zip(*noise)), arrays.get("masks"), **rates)
    expected = {"loss": done.losses, "out_step0": done.outputs}
    for k in range(len(W)):
        expected |= {f"gW{k}_step0_pass2": done.first[0][k], f"gB{k}_step0": done.first[1][k]}
        expected |= {f"W{k}_end": done.weights[k], f"B{k}_end": done.feedback[k]}
    with Flash.create(tmp_path / "flash", "golden") as flash:
        compare(run_mirroring(meta, arrays, flash, monkeypatch), expected)
