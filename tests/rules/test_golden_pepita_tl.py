"""Golden trajectories of PEPITA-TL by the compiled kernels: both steps of the first batch, and the end."""

import json

import numpy as np
import pytest
from golden_files import golden_files
from network_tools import Network

from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits
from tinyfoa_np.storage.flash import Flash


@pytest.mark.parametrize("path", golden_files("pepita_tl_fc*.npz"), ids=lambda path: path.stem)
def test_golden(path, tmp_path, monkeypatch):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    start = [arrays[f"W{k}"] for k in range(sum(key[0] == "W" and key[1:].isdigit() for key in arrays))]
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
            outcome = passed(flash, samples, step, second)
            if step == 0:
                if not second:
                    labels = np.eye(classes, dtype=np.float32)[stage.ram.labels[:samples]]
                    ours["out_step0"] = (stage.ram.error[:, :samples] * samples).T + labels
                    for k, layer in enumerate(stage.layers):
                        ours[f"W{k}_step0_between"] = layer.ram.slice.reshape(layer.O, layer.I).copy()
            return outcome

        passed = stage._pass
        monkeypatch.setattr(stage, "masks", draw)
        monkeypatch.setattr(stage, "_pass", look)
        for step, (X, labels) in enumerate(zip(arrays["x"], arrays["y"])):
            assert not run.step(step, X, labels).diverged
        ours |= {f"W{k}_end": W for k, (W, _) in enumerate(run.parameters())}
    assert len(ours) == 2 * len(start) + 1
    for key, value in ours.items():
        tolerance = 2e-4 if key.endswith("_end") else 1e-5
        worst = np.abs(value.astype(np.float64) - arrays[key]).max()
        assert worst <= tolerance * np.abs(arrays[key]).max(), f"{key} is off by {worst:.2e}"
