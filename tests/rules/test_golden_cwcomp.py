"""Golden trajectories of CwComp by the compiled kernels; the reference's are in test_golden_forward_only."""

import json

import numpy as np
import pytest
from deep_tools import Run
from golden_files import golden_files

from tinyfoa_np.kernels import cwcomp as own_kernels
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference.tinyfoa import softmax
from tinyfoa_np.storage.flash import Flash

NAMES = {
    "W": "0.c.weight",
    "b": "0.c.bias",
    "bn_weight": "0.b1.weight",
    "bn_bias": "0.b1.bias",
    "bn_mean": "0.b1.running_mean",
    "bn_var": "0.b1.running_var",
}
TRAINED = list(NAMES)[:4]


def put(run, arrays, end=""):
    """The file's parameters in the arena and in flash."""
    count = run.stage.trained
    for g in range(count):
        run.put(g, {name: arrays[f"{short}{g}{end}"] for short, name in NAMES.items()})
    run.put(count, {"0.fc.weight": arrays["S" + end], "0.fc.bias": arrays["Sb" + end]})


def first_slopes(run, windows):
    """Gradients of the first step: of layers from Adam's first moment, of the predictor before they are used."""
    stage, found = run.stage, {}
    for g, (begin, _) in enumerate(windows):
        if begin == 0:
            slopes = run.get(g, {"weights": 10 * stage.layers[g].ram.moment1})
            found |= {f"g{short}{g}_step0": slopes[NAMES[short]] for short in TRAINED}
    top = stage.layers[-1]
    flat = np.concatenate([top.ram.gradient0.ravel(), top.ram.slopes0])
    slopes = run.get(stage.trained, {"weights": flat})
    return found | {"gS_step0": slopes["0.fc.weight"], "gSb_step0": slopes["0.fc.bias"]}


@pytest.mark.parametrize("path", golden_files("cwcomp_cnn*.npz"), ids=lambda path: path.stem)
def test_golden(path, tmp_path, monkeypatch):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    meta, ours = json.loads(str(arrays.pop("meta"))), {}
    (steps, samples, *image), windows = arrays["x"].shape, meta["windows"]
    assert meta["groups"] == [(1, meta["classes"])[k % 2] for k in range(len(windows))]
    assert meta["pool"] == [k % 2 == 1 for k in range(len(windows))] and meta["kernel"] == 3
    layers = [
        [("plain", below, width, 1, 3, 3)]
        for below, width in zip([image[0], *meta["channels"]], meta["channels"], strict=False)
    ]
    recipe = Recipe(
        algorithm="cwcomp",
        network="fc:10",
        lr=meta["lr"],
        epochs=1,
        batch=samples,
        options={"predictor_lr": meta["lr_softmax"]},
    ).validated()
    with Flash.create(tmp_path / "flash", "golden") as flash:
        run = Run(recipe, layers, tuple(image), meta["classes"], steps, flash, monkeypatch)
        stage, forward = run.stage, run.stage._forward
        stage.windows = [tuple(window) for window in windows]
        seen = {}

        def look(group, samples, phase):
            y = forward(group, samples, phase)
            if group.number < stage.trained:
                G = np.zeros((meta["classes"], len(y)), np.float32)
                own_kernels.block_squares(y, samples, G, 1)
                seen[group.number] = group.output.transpose(0, 3, 1, 2).copy(), G.T
            return y

        monkeypatch.setattr(stage, "_forward", look)
        put(run, arrays)
        losses = []
        for step, (X, labels) in enumerate(zip(arrays["x"], arrays["y"])):
            assert not run.step(step, X, labels).diverged
            losses.append(list(stage.losses))
            if step == 0:
                ours |= first_slopes(run, windows)
                for g, (y, G) in seen.items():
                    ours |= {f"h{g}_step0": y} | ({f"goodness{g}_step0": G} if windows[g][0] == 0 else {})
        ours["losses"] = np.array(losses)
        for g in range(stage.trained):
            ours |= {f"{short}{g}_end": run.get(g)[name] for short, name in NAMES.items()}
        top = run.get(stage.trained)
        ours |= {"S_end": top["0.fc.weight"], "Sb_end": top["0.fc.bias"]}
        put(run, arrays, "_end")  # not our own, which may differ by more than 1e-5
        run.load(arrays["x"][-1], arrays["y"][-1])
        stage.infer(samples, "evaluate")
        ours |= {f"goodness{g}_last_batch": G for g, (_, G) in seen.items()}
        ours["sf_last_batch"] = softmax(stage.scores(samples).T.astype(np.float64))
    given = {"x", "y", "S", "Sb", *(f"{short}{g}" for short in NAMES for g in range(len(layers)))}
    assert set(ours) == set(arrays) - given
    for key, value in ours.items():
        tolerance, right = 2e-4 if key.endswith("_end") else 1e-5, arrays[key].astype(np.float64)
        assert (np.isnan(value) == np.isnan(right)).all(), key
        worst = np.nanmax(np.abs(value - right))
        assert worst <= tolerance * np.nanmax(np.abs(right)), f"{key} is off by {worst:.2e}"
