"""GIFF's golden files, and what the plain NumPy reference and the kernels make of them."""

import json
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from deep_tools import Run

from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import giff
from tinyfoa_np.storage.flash import Flash


class Golden(NamedTuple):
    """One file: what it says about itself, and its arrays by name."""

    meta: dict
    arrays: dict

    @property
    def expected(self):
        """What an implementation must reproduce; how many batches batch norm has counted is not looked at."""
        asked = r"grad\..*|loss|(goodness|logits)_last_batch|.*(?<!num_batches_tracked)_end"
        return {key: array for key, array in self.arrays.items() if re.fullmatch(asked, key)}

    @property
    def batches(self):
        X, labels = self.arrays["x"], self.arrays["y"]
        return list(zip(X, labels, self.arrays.get("y_neg", [None] * len(X))))

    @property
    def options(self):
        return {
            "label_width": self.meta["label_width"],
            "merge": self.meta["merge"],
            "normalized": self.meta["normalize"],
        }

    def groups(self, suffix=""):
        """The groups as they begin or, with "_end", as they end."""
        made = []
        for k, layers in enumerate(self.meta["groups"]):
            own = re.compile(rf"g{k}\.(.*?)(?<!num_batches_tracked){suffix}")
            names = [key for key in self.arrays if own.fullmatch(key) and key.endswith("_end") == bool(suffix)]
            parameters = {own.fullmatch(key)[1]: self.arrays[key] for key in names}
            label = [self.arrays[f"L{k}.{what}{suffix}"] for what in ("weight", "bias")]
            made.append(giff.Group([tuple(layer) for layer in layers], parameters, *label))
        return made


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return Golden(json.loads(str(arrays.pop("meta"))), arrays)


def run_reference(golden):
    """Results of the plain NumPy reference, under the golden file's own names."""
    trained = giff.train(
        golden.batches, golden.groups(), theta=golden.meta["theta"], lr=golden.meta["lr"], **golden.options
    )
    ours = {"loss": trained.losses}
    for k, (group, slopes) in enumerate(zip(trained.groups, trained.first)):
        ours |= {f"grad.g{k}.{name}": value for name, value in slopes.parameters.items()}
        ours |= {f"grad.L{k}.weight": slopes.W, f"grad.L{k}.bias": slopes.b}
        ours |= {f"g{k}.{name}_end": value for name, value in group.parameters.items()}
        ours |= {f"L{k}.weight_end": group.W, f"L{k}.bias_end": group.b}
    # goodness from the golden end state, which our own may differ from by more than 1e-5
    last, ends = golden.arrays["x"][-1], golden.groups("_end")
    ours["goodness_last_batch"] = giff.class_goodness(last, ends, **golden.options)
    if "logits_last_batch" in golden.arrays:
        ours["logits_last_batch"] = np.stack(giff.group_goodness(last, ends, **golden.options))
    return ours


def run_kernels(golden, patch):
    """Results of the kernels, in an arena; ``patch`` is pytest's monkeypatch."""
    meta, (X, labels, _), ours = golden.meta, golden.batches[0], {}
    classes = golden.arrays["L0.weight"].shape[1]
    recipe = Recipe(
        algorithm="giff",
        network="mlp",
        epochs=1,
        batch=len(X),
        lr=meta["lr"],
        theta=meta["theta"],
        label_width=meta["label_width"],
        merge=meta["merge"],
        rms=meta["normalize"],
        options={
            "loss": "softmax" if meta["theta"] is None else "logistic",
            "negatives": "random" if "y_neg" in golden.arrays else "all",
        },
    ).validated()
    chains = [[tuple(layer) for layer in layers] for layers in meta["groups"]]
    with tempfile.TemporaryDirectory() as folder, Flash.create(Path(folder) / "flash", "golden") as flash:
        run = Run(recipe, chains, X.shape[1:], classes, len(golden.batches), flash, patch)
        stage = run.stage

        def start(groups):
            for g, group in enumerate(groups):
                run.put(g, group.parameters, group.W, group.b)

        def draw(samples, step, first):
            stage.ram.wrong[:] = golden.arrays["y_neg"][step]
            return stage.ram.wrong

        if "y_neg" in golden.arrays:
            patch.setattr(stage, "draw", draw)
        start(golden.groups())
        before = [group.ram.weights.copy() for group in stage.layers]
        losses = []
        for step, (X, labels, _) in enumerate(golden.batches):
            assert not run.step(step, X, labels).diverged
            losses.append(list(stage.losses))
            if step == 0:
                # Adam's first moment is a tenth of the first gradient
                for g, group in enumerate(stage.layers):
                    run.arena.enter("load")
                    assert (group.ram.weights != before[g]).any()
                    slopes = run.get(g, {"weights": group.ram.moment1 * np.float32(10)})
                    ours |= {f"grad.g{g}.{name}": v for name, v in slopes.items() if "running" not in name}
                    label = 10 * group.ram.moment1[group.program.parameters :].reshape(group.extra)
                    ours |= {f"grad.L{g}.weight": label[:-1].T.copy(), f"grad.L{g}.bias": label[-1].copy()}
        ours["loss"] = np.array(losses)
        for g, group in enumerate(stage.layers):
            ours |= {f"g{g}.{name}_end": value for name, value in run.get(g).items()}
            ours |= {f"L{g}.weight_end": group.label[0].T.copy(), f"L{g}.bias_end": group.label[1].copy()}
        # goodness from the golden end state, which our own may differ from by more than 1e-5
        start(golden.groups("_end"))
        X, labels, _ = golden.batches[-1]
        run.load(X, labels)
        stage.infer(len(X), "evaluate")
        ours["goodness_last_batch"] = stage.ram.scores[:, : len(X)].T.copy()
        if "logits_last_batch" in golden.arrays:
            ours["logits_last_batch"] = _by_group(stage, run, X, labels)
    return ours


def _by_group(stage, run, X, labels):
    """Goodness (group, B, C): what each group adds to the sum."""
    sums = []
    whole = stage.layers
    for count in range(1, len(whole) + 1):
        stage.layers = whole[:count]
        run.load(X, labels)
        stage.infer(len(X), "evaluate")
        sums.append(stage.ram.scores[:, : len(X)].T.copy())
    return np.diff(np.stack(sums), axis=0, prepend=0)
