"""Golden trajectories of Bio-FO's convolutions by the compiled kernels, beside those of test_golden_forward_only.

Above the first layer, a layer starts from the golden outputs of the one below.
"""

import json

import numpy as np
import pytest
from deep_tools import Run
from golden_files import golden_files

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import biofo
from tinyfoa_np.storage.flash import Flash


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def train(meta, arrays, k, X, flash, patch):
    """Results of layer k on inputs X (steps, B, C, R, S), under the golden file's own names."""
    W, P, (steps, samples, *image) = arrays[f"W{k}"], arrays[f"B{k}"], X.shape
    classes, pool = len(P), [("maxpool", 2, 2)] if meta["pool"][k] else []
    unit = [("plain", W.shape[1], len(W), 1, 3, 3), *pool]
    fields = {"network": "conv:8", "lr": meta["lr"], "epochs": 1, "batch": samples}
    run = Run(Recipe(algorithm="biofo", **fields).validated(), [unit], tuple(image), classes, steps, flash, patch)
    stage, group = run.stage, run.stage.layers[0]
    run.put(0, {"0.c.weight": W, "0.c.bias": arrays[f"b{k}"]})
    rows, columns, channels = group.program.shapes[-1]
    stage.ram.head[:] = P.reshape(classes, channels, rows, columns).transpose(2, 3, 1, 0).reshape(-1, classes)
    stage.ram.bias[:] = arrays[f"Bb{k}"]
    ours, losses, loss_and_error, seen = {}, [], stage._loss_and_error, []

    def look(count, of):
        seen.append(stage.ram.logits[:samples].copy())
        return loss_and_error(count, of)

    patch.setattr(stage, "_loss_and_error", look)
    for step, (x, labels) in enumerate(zip(X, arrays["y"])):
        outcome = run.step(step, x, labels)
        assert not outcome.diverged
        losses.append(outcome.loss / samples)
        if step == 0:
            first = run.get(0, {"weights": 10 * group.ram.moment1})
            ours |= {f"gW{k}_step0": first["0.c.weight"], f"gb{k}_step0": first["0.c.bias"]}
    ours |= {f"out{k}_step0": seen[0], f"loss{k}": np.array(losses)}
    end, handed = run.get(0), []
    ours |= {f"W{k}_end": end["0.c.weight"], f"b{k}_end": end["0.c.bias"]}
    for x, labels in zip(X, arrays["y"]):
        run.load(x, labels)
        stage.infer(samples, "evaluate")
        handed.append(group.output[:samples].transpose(0, 3, 1, 2).copy())
    ours[f"h{k}_end"] = np.stack(handed)
    if f"W{k}_end" in arrays:  # not our own, which may differ by more than 1e-5
        run.put(0, {"0.c.weight": arrays[f"W{k}_end"], "0.c.bias": arrays[f"b{k}_end"]})
        run.load(X[-1], arrays["y"][-1])
        stage.infer(samples, "evaluate")
        ours[f"out{k}_last_batch"] = stage.ram.logits[:samples].copy()
    return ours


def compare(ours, expected):
    assert set(ours) == set(expected)
    for key, theirs in expected.items():
        tolerance = 2e-4 if "_end" in key else 1e-5
        assert ours[key].shape == theirs.shape, key
        worst = np.abs(ours[key].astype(np.float64) - theirs).max()
        assert worst <= tolerance * np.abs(theirs).max(), f"{key} is off by {worst:.2e}"


@pytest.mark.parametrize("path", golden_files("biofo_cnn*.npz"), ids=lambda path: path.stem)
def test_golden(path, tmp_path, monkeypatch):
    meta, arrays = read(path)
    ours = {}
    for k in range(len(meta["channels"])):
        X = arrays["x"] if k == 0 else arrays[f"h{k - 1}_end"]
        with Flash.create(tmp_path / f"flash{k}", "golden") as flash:
            ours |= train(meta, arrays, k, X, flash, monkeypatch)
    given = {"x", "y", *(f"{name}{k}" for name in ("W", "b", "B", "Bb") for k in range(len(meta["channels"])))}
    compare(ours, {key: array for key, array in arrays.items() if key not in given})


@pytest.mark.parametrize("pooled", [False, True])
def test_kernels_and_reference_agree(pooled, tmp_path, monkeypatch):
    """On 11 images of 3 x 8 x 8 and 7 classes, with plain gradients to speak of in every entry."""
    rng, places = np.random.default_rng(2), 9 * (16 if pooled else 64)
    arrays = {"x": rng.normal(size=(3, 11, 3, 8, 8)).astype(np.float32), "y": rng.integers(0, 7, (3, 11))}
    for name, shape, inputs in (
        ("W0", (9, 3, 3, 3), 27),
        ("b0", (9,), 27),
        ("B0", (7, places), places),
        ("Bb0", (7,), places),
    ):
        arrays[name] = rng.uniform(-(inputs**-0.5), inputs**-0.5, shape).astype(np.float32)
    W, b, P, Pb = (arrays[name] for name in ("W0", "b0", "B0", "Bb0"))
    done = biofo.train_map(list(zip(arrays["x"], arrays["y"])), W, b, P, Pb, pooled=pooled, lr=0.01)
    expected = {"gW0_step0": done.dW_first, "gb0_step0": done.db_first, "loss0": done.losses}
    expected |= {"W0_end": done.W, "b0_end": done.b}
    with Flash.create(tmp_path / "flash", "golden") as flash:
        ours = train({"lr": 0.01, "pool": [pooled]}, arrays, 0, arrays["x"], flash, monkeypatch)
    compare({key: ours[key] for key in expected}, expected)


@pytest.mark.parametrize(
    "layers, fields, words",
    [
        ([("normed", 3, 4, 1, 3, 3)], {}, "without batch norm"),
        ([("plain", 3, 4, 1, 3, 3)], {"epochs": 1}, "--epochs 2"),
        ([("plain", 3, 4, 1, 3, 3)], {"options": {"head": "normal"}}, "fully connected"),
    ],
)
def test_what_has_no_meaning_is_refused(layers, fields, words, tmp_path, monkeypatch):
    recipe = Recipe(**{"algorithm": "biofo", "network": "conv:8", "epochs": 2, **fields}).validated()
    with Flash.create(tmp_path / "flash", "golden") as flash, pytest.raises(BadRequest, match=words):
        Run(recipe, [layers, [("plain", 4, 5, 1, 3, 3)]], (3, 8, 8), 7, 1, flash, monkeypatch)
