"""Golden trajectories of DeeperForward by the compiled kernels; the reference's are in test_golden_forward_only."""

import json

import numpy as np
import pytest
from deep_tools import Run
from golden_files import golden_files

from tinyfoa_np.recipe import Recipe
from tinyfoa_np.storage.flash import Flash


def chains(layers):
    """The file's layers, pooling with the convolution behind it, shortcuts with the layer that reads them."""
    made, pools = [], []
    if isinstance(layers, dict):
        shortcut, keep = "none", 0  # of the layer before
        for number, (below, width, side, stride, padding) in enumerate(layers["layers"]):
            assert padding == (side - 1) // 2
            before = [(shortcut,)] * (shortcut != "none") + [("keep", keep)] * (keep > 0)
            made.append([*before, ("plain", below, width, stride, side, side)])
            shortcut = layers["shortcut"][number]
            keep = layers["keep"][number] * (1 + layers["halve_kept"][number])
        return made
    for kind, *rest in layers:
        if kind == "avgpool":
            pools.append(("pool", rest[0], rest[0]))
            continue
        below, width, side, stride, padding = rest
        assert padding == (side - 1) // 2
        made.append([*pools, ("plain", below, width, stride, side, side)])
        pools = []
    return made


@pytest.mark.parametrize("path", golden_files("deeperforward_*.npz"), ids=lambda path: path.stem)
def test_golden(path, tmp_path, monkeypatch):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    meta, ours = json.loads(str(arrays.pop("meta"))), {}
    layers, (steps, samples, *image) = chains(meta["layers"]), arrays["x"].shape
    recipe = Recipe(
        algorithm="deeperforward",
        network="fc:10",
        lr=meta["lr"],
        decay=meta["weight_decay"],
        epochs=1,
        batch=samples,
        options={"first_layer": meta["start_layer"] + 1},
    ).validated()
    assert meta["end_layer"] == len(layers) - 1

    with Flash.create(tmp_path / "flash", "golden") as flash:
        run = Run(recipe, layers, tuple(image), meta["classes"], steps, flash, monkeypatch)
        stage, score = run.stage, run.stage._score

        def look(g, y, samples):
            score(g, y, samples)
            ours.setdefault(f"goodness{g}_step0", stage.ram.mean.T.copy())

        monkeypatch.setattr(stage, "_score", look)
        names = [f"{len(own.chain) - 1}.c.weight" for own in stage.layout]
        for g, name in enumerate(names):
            run.put(g, {name: arrays[f"W{g}"]})
        losses = []
        for step, (X, labels) in enumerate(zip(arrays["x"], arrays["y"])):
            assert not run.step(step, X, labels).diverged
            losses.append(list(stage.losses))
            if step == 0:
                for g, name in enumerate(names):
                    slopes = run.get(g, {"weights": 10 * stage.layers[g].ram.moment1})
                    ours[f"gW{g}_step0"] = slopes[name]
        ours["losses"] = np.array(losses)
        for g, name in enumerate(names):
            ours[f"W{g}_end"] = run.get(g)[name]
            run.put(g, {name: arrays[f"W{g}_end"]})  # not our own, which may differ by more than 1e-5
        run.load(arrays["x"][-1], arrays["y"][-1])
        stage.infer(samples, "evaluate")
        ours["goodness_last_batch"] = stage.scores(samples).T.copy()
    given = {"x", "y", *(f"W{g}" for g in range(len(layers)))}
    assert set(ours) == set(arrays) - given
    for key, value in ours.items():
        tolerance = 2e-4 if key.endswith("_end") else 1e-5
        worst = np.abs(value.astype(np.float64) - arrays[key]).max()
        assert worst <= tolerance * np.abs(arrays[key]).max(), f"{key} is off by {worst:.2e}"
