"""Small trainings whose every bit is pinned: models, plans to each region's offset, flash traffic, answers.

    python tests/tools/pins.py          trains all of them and writes tests/pins.json anew

Only a change that says which bits change, and why, may do that.
"""

import hashlib
import json
import sys
import tempfile
import warnings
from itertools import product
from pathlib import Path

import numpy as np

from tinyfoa_np import model as models
from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run.train import train

PINS = Path(__file__).resolve().parents[1] / "pins.json"
#: of each kind of network and rule one
FAST = (
    "tinyfoa-slice-11",
    "tinyfoa-stream-00",
    "tinyfoa-slice4-11",
    "bp-11",
    "bp-slice-01",
    "drtp-11",
    "pepita-00",
    "ff-10",
    "lc-11",
    "lcbp-10",
    "tinyfoa-int8",
    "tinyfoa-recompute",
    "giff-cnn",
    "bp-resnet8",
)


def made(kind, image=None, inputs=70, classes=3, samples=50, tests=16):
    """Samples around one centre per class: bytes or float32."""
    draw = np.random.default_rng(1)
    inputs = int(np.prod(image)) if image else inputs
    centres = draw.normal(size=(classes, inputs))

    def split(number):
        labels = draw.integers(0, classes, number)
        values = centres[labels] + draw.normal(size=(number, inputs))
        stored = (128 + 40 * values).clip(0, 255).astype(np.uint8) if kind == "bytes" else values.astype(np.float32)
        return Split(stored, labels)

    return Dataset("made", split(samples), split(tests), classes, 1 / 40, -128 / 40, 1 / 255, image)


def cases():
    """Data set and fields of the recipe, by name."""
    flat, real, images = made("bytes"), made("real"), made("bytes", (1, 12, 12))
    found = {}
    for weights, activations in product((1, 0), repeat=2):
        toggles = {"binary_weights": bool(weights), "binary_activations": bool(activations)}
        dense, local = {"network": "fc:33,20", **toggles}, {"network": "lc:4,6", **toggles}
        end = f"{weights}{activations}"
        for schedule in ("slice", "stream", "frozen"):
            found[f"tinyfoa-{schedule}-{end}"] = flat, {"algorithm": "tinyfoa", "schedule": schedule, **dense}
        found[f"tinyfoa-slice4-{end}"] = flat, {"algorithm": "tinyfoa", "schedule": "auto", "slices": 4, **dense}
        for algorithm in ("bp", "drtp", "pepita", "ff"):
            found[f"{algorithm}-{end}"] = flat, {"algorithm": algorithm, **dense}
        found[f"bp-slice-{end}"] = real, {"algorithm": "bp", "schedule": "slice", **dense}
        found[f"lc-{end}"] = images, {"algorithm": "tinyfoa", **local}
        found[f"lcbp-{end}"] = images, {"algorithm": "bp", **local}
    found["tinyfoa-recompute"] = flat, {"algorithm": "tinyfoa", "network": "fc:33,20", "recompute": True}
    found["tinyfoa-int8"] = flat, {"algorithm": "tinyfoa", "network": "fc:33,40", "moments": "int8", "slices": 2}
    for algorithm, networks in {"bp": ("cnn", "resnet8"), "giff": ("fc:20x2", "cnn", "resnet8")}.items():
        for network in networks:
            found[f"{algorithm}-{network}"] = images, {"algorithm": algorithm, "network": network}
    return found


def measured(name, dataset, fields):
    """The pins of a case, by name: without a budget, and in the smallest one."""
    epochs = 1 if "lc" in name or fields["network"] == "resnet8" else 2
    recipe = Recipe(dataset="made", epochs=epochs, batch=16, lr=1e-3, **fields).validated()
    budgets = {"fastest": None, "least": Layout(recipe, dataset, 1).least()}
    return {f"{name}@{budget}": _trained(recipe, dataset, ram) for budget, ram in budgets.items()}


def _trained(recipe, dataset, ram):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = train(recipe, dataset, Path(folder) / "run", threads=1, ram=ram)
        audit = json.loads((Path(folder) / "run" / "audit.json").read_text())
        model = models.load(Path(folder) / "run" / "model.safetensors")
    regions = json.dumps([_listed(layer["regions"]) for layer in audit["layers"]], sort_keys=True)
    return {
        "model": result["model_sha256"][:16],
        "planned": [layer["planned_bytes"] for layer in audit["layers"]],
        "regions": hashlib.sha256(regions.encode()).hexdigest()[:16],
        "error": result["error_pct"],
        "flash": [result["flash"][key] for key in ("bytes", "read_bytes", "written_bytes", "exchanges")],
        "answers": hashlib.sha256(model.scores(dataset.test.inputs).tobytes()).hexdigest()[:16],
    }


def _listed(regions):
    """Regions as they are pinned: the phases of each are a set."""
    return [{**region, "phases": sorted(region["phases"])} for region in regions]


if __name__ == "__main__":
    pins = {}
    for name, (dataset, fields) in cases().items():
        pins |= measured(name, dataset, fields)
        print(name, file=sys.stderr)
    lines = [f"{json.dumps(name)}: {json.dumps(pin)}" for name, pin in pins.items()]
    PINS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
