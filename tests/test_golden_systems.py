"""Golden trajectories of the systems TinyFoA is compared with, by the plain NumPy reference.

The files lie where those of :mod:`test_golden` do and are judged as there: every array that a file holds beyond the
initial state must come out, to 1e-5 of its largest magnitude, or 2e-4 for the state after all steps. Nothing about
shapes, numbers of layers or step sizes is taken for granted.
"""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tinyfoa_np.reference import bp
from tinyfoa_np.reference.layers import Layer

DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "golden"

GIVEN = re.compile(r"x|y|y_neg|masks|F|C|[WbB]\d+")


class Golden(NamedTuple):
    """One file: what it says about itself, and its arrays by name."""

    meta: dict
    arrays: dict

    @property
    def expected(self):
        """The arrays an implementation must reproduce: all but those it starts from."""
        return {key: array for key, array in self.arrays.items() if not GIVEN.fullmatch(key)}

    @property
    def toggles(self):
        return {name: bool(self.meta[name]) for name in ("binary_weights", "binary_activations")}

    @property
    def batches(self):
        """(X, labels) for each step."""
        return list(zip(self.arrays["x"].reshape(*self.arrays["x"].shape[:2], -1), self.arrays["y"]))

    def all(self, name):
        """The arrays called `name` and a number: one for each layer that has it."""
        count = sum(re.fullmatch(rf"{name}\d+", key) is not None for key in self.arrays)
        return [self.arrays[f"{name}{k}"] for k in range(count)]

    @property
    def layers(self):
        return [Layer(W, b) for W, b in zip(self.all("W"), self.all("b"))]


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return Golden(json.loads(str(arrays.pop("meta"))), arrays)


def numbered(layers, weight, bias):
    """Arrays of all layers under names such as "gW{}_step0"."""
    named = {weight.format(k): layer.W for k, layer in enumerate(layers)}
    return named | {bias.format(k): layer.b for k, layer in enumerate(layers)}


# BP -------------------------------------------------------------------------------------------------------------------


def train_bp(golden, steps=None):
    meta = golden.meta
    return bp.train(
        golden.batches[:steps],
        golden.layers,
        slices=meta.get("M", 1),
        schedule=meta["vertical"],
        hold=1,  # every golden trajectory moves on after each step
        optimizer=next(name for name in ("momentum", "adam", "sgd") if name in meta["optimizer"].lower()),
        lr=meta["lr"],
        **golden.toggles,
    )


def run_bp(golden):
    trained = train_bp(golden)
    ours = {"loss": trained.losses, **numbered(trained.first, "gW{}_step0", "gb{}_step0")}
    for key, array in golden.expected.items():  # of a slice that trains alone, the file holds only its gradient
        if key in ours and ours[key].shape != array.shape and golden.meta["vertical"] == "slice":
            ours[key] = ours[key][tuple(slice(0, length) for length in array.shape)]
    return ours | numbered(trained.layers, "W{}_end", "b{}_end")


def left_to_rounding(golden):
    """Where float32 does not say what BP's end state is: by key, a boolean array.

    With binary weights the terms of a gradient are a few values over and over, and often cancel to nothing. What
    remains then is rounding, 1e-10 or so, another one for every order of summation; but Adam divides a gradient by its
    own size and makes steps of it all the same. Here the sum of a gradient's terms is compared with that of their
    magnitudes; where it has been below 1e-6 of it in some step, the weight is one of these.
    """
    if "adam" not in golden.meta["optimizer"].lower():
        return {}
    left = {key: np.zeros(array.shape, bool) for key, array in golden.expected.items() if key.endswith("_end")}
    for step, (X, labels) in enumerate(golden.batches):
        layers = train_bp(golden, step).layers if step else golden.layers
        h, z = bp.forward(X, layers, **golden.toggles)
        gradients = bp.gradient(h, z, labels, layers, **golden.toggles)
        dz = np.abs(bp.error(z[-1], labels))
        for k in reversed(range(len(layers))):
            binary = golden.toggles["binary_weights"] and k < len(layers) - 1
            terms = dz.T @ np.abs(h[k]) * (np.abs(layers[k].W) < 1 if binary else 1)
            for key, g, size in (
                (f"W{k}_end", gradients[k].W, terms),
                (f"b{k}_end", gradients[k].b, dz.sum(axis=0)),
            ):
                left[key] |= np.abs(g) < 1e-6 * size
            if k > 0:
                Wb = bp.binarize_weights(layers[k].W)[0] if binary else layers[k].W
                dz = dz @ np.abs(Wb) * (z[k - 1] > 0)
                if golden.toggles["binary_activations"]:
                    dz = dz * (np.abs(z[k - 1]) < 1)
    return left


# All of them ----------------------------------------------------------------------------------------------------------

SYSTEMS = {"bp": run_bp}


def find():
    """Every golden file of a system known here, and if there is none, the reason."""
    directories = [Path(p) for p in os.environ.get("TINYFOA_GOLDEN", str(DEFAULT)).split(os.pathsep) if p]
    paths = [path for directory in directories for path in sorted(directory.glob("*.npz"))]
    known = [path for path in paths if (meta := read(path).meta)["system"] in SYSTEMS and meta["network"] == "fc"]
    where = os.pathsep.join(map(str, directories)) or "the empty TINYFOA_GOLDEN"
    return known, f"no golden file of {', '.join(SYSTEMS)} in {where}; TINYFOA_GOLDEN names the directories to look in"


def compare(ours, golden, left=None):
    """Each of `ours` must be within a tolerance of the golden array, relative to that array's largest magnitude.

    What is `left` to rounding may be as far off as two runs of Adam can part: a step each way, every time.
    """
    assert set(ours) == set(golden.expected)
    for key, theirs in golden.expected.items():
        tolerance = 2e-4 if key.endswith("_end") else 1e-5
        assert ours[key].shape == theirs.shape, key
        off = np.abs(ours[key].astype(np.float64) - theirs)
        limit = np.full(theirs.shape, tolerance * np.abs(theirs.astype(np.float64)).max())
        if left and key in left:
            limit[left[key]] = 2 * golden.meta["lr"] * len(golden.batches)
        worst = np.unravel_index((off / np.maximum(limit, 1e-30)).argmax(), off.shape)
        assert off[worst] <= limit[worst], f"{key} is off by {off[worst]:.2e}, {limit[worst]:.2e} would be right"


PATHS, WHY_NONE = find()
if not PATHS:
    pytest.skip(WHY_NONE, allow_module_level=True)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path):
    golden = read(path)
    left = left_to_rounding(golden) if golden.meta["system"] == "bp" else {}
    compare(SYSTEMS[golden.meta["system"]](golden), golden, left)


def test_little_is_left_to_rounding():
    for path in PATHS:
        golden = read(path)
        if golden.meta["system"] == "bp":
            left = left_to_rounding(golden)
            share = sum(part.sum() for part in left.values()) / sum(part.size for part in left.values())
            assert share < 0.2, f"{path.stem}: {share:.1%} of all weights"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_comparison_sees_one_wrong_number(path):
    golden = read(path)
    compare(golden.expected, golden)
    for key, array in golden.expected.items():
        wrong = array.copy()
        wrong.flat[-1] += 3e-4 * np.abs(array).max()
        with pytest.raises(AssertionError, match=f"{key} is off by"):
            compare({**golden.expected, key: wrong}, golden)
