"""Golden trajectories: training steps computed by the authors' own PyTorch classes, reproduced array by array.

Every .npz in the directories of TINYFOA_GOLDEN (separated as in PATH; without it, ../shared/golden beside the
repository) whose system is known here is run by every implementation. What a file contains decides what is compared;
nothing about shapes, slices or step sizes is taken for granted.
"""

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from golden_kernels import run_kernels

from tinyfoa_np.reference import tinyfoa

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parent.parent / "shared" / "golden"

RESULT = re.compile(r"g[Wb]\d+_step0|loss\d+|([Wb]|bn_[a-z]+)\d+_end|h\d+_end(_eval)?")


class Golden(NamedTuple):
    """One file: what it says about itself, and its arrays by name."""

    meta: dict
    arrays: dict

    @property
    def layers(self):
        return sum(re.fullmatch(r"W\d+", key) is not None for key in self.arrays)

    @property
    def expected(self):
        """The arrays an implementation must reproduce."""
        return {key: array for key, array in self.arrays.items() if RESULT.fullmatch(key)}

    @property
    def optimizer(self):
        """One of our names, out of a description such as "momentum 0.9"."""
        words = self.meta["optimizer"].lower()
        return next(name for name in ("momentum", "adam", "sgd") if name in words)

    def batches(self, layer):
        """(X, labels) for each step of a layer.

        Above the first layer X is the golden output of the layer below, not our own: Adam magnifies a difference in the
        last bit of a small gradient, end states are compared more loosely for it, and a layer that started from them
        could not be compared at 1e-5.
        """
        x = self.arrays["x"] if layer == 0 else self.arrays[f"h{layer - 1}_end"]  # (steps, B, I)
        return [(X.reshape(len(X), -1), labels) for X, labels in zip(x, self.arrays["y"])]


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return Golden(json.loads(str(arrays.pop("meta"))), arrays)


def find(network):
    """Every golden file of TinyFoA on such a network, and if there is none, the reason."""
    directories = [Path(p) for p in os.environ.get("TINYFOA_GOLDEN", str(DEFAULT)).split(os.pathsep) if p]
    paths = [path for directory in directories for path in sorted(directory.glob("*.npz"))]
    known = [path for path in paths if (meta := read(path).meta)["system"] == "tinyfoa" and meta["network"] == network]
    where = os.pathsep.join(map(str, directories)) or "the empty TINYFOA_GOLDEN"
    return known, f"no golden file of a known system in {where}; TINYFOA_GOLDEN names the directories to look in"


def run_reference(golden):
    """Results of the plain NumPy reference, under the golden file's own names."""
    meta, arrays, ours = golden.meta, golden.arrays, {}
    toggles = {name: bool(meta[name]) for name in ("binary_weights", "binary_activations")}
    for k in range(golden.layers):
        batches = golden.batches(k)
        layer = tinyfoa.train_layer(
            batches,
            arrays[f"W{k}"],
            arrays[f"b{k}"],
            arrays[f"B{k}"],
            slices=meta.get("M", 1),
            schedule=meta["vertical"],
            hold=1,  # every golden trajectory moves on after each step
            optimizer=golden.optimizer,
            lr=meta["lr"],
            **toggles,
        )
        ours[f"gW{k}_step0"], ours[f"gb{k}_step0"] = layer.dW_first, layer.db_first
        ours[f"loss{k}"] = layer.losses
        ours[f"W{k}_end"], ours[f"b{k}_end"] = layer.W, layer.b
        ours[f"h{k}_end"] = np.stack(tinyfoa.hand_over(batches, layer.W, layer.b, **toggles))
    return ours


IMPLEMENTATIONS = {
    "reference": run_reference, "kernels": run_kernels, "streamed": partial(run_kernels, streamed=True)
}  # fmt: skip


def compare(ours, golden):
    """Each of `ours` must be within a tolerance of the golden array, relative to that array's largest magnitude."""
    assert set(ours) == set(golden.expected)
    for key, theirs in golden.expected.items():
        tolerance = 2e-4 if "_end" in key else 1e-5
        assert ours[key].shape == theirs.shape, key
        worst = np.abs(ours[key].astype(np.float64) - theirs).max()
        limit = tolerance * np.abs(theirs.astype(np.float64)).max()
        assert worst <= limit, f"{key} is off by {worst:.2e}, {limit:.2e} would be right"


PATHS, WHY_NONE = find("fc")
if not PATHS:
    pytest.skip(WHY_NONE, allow_module_level=True)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path, implementation):
    golden = read(path)
    compare(IMPLEMENTATIONS[implementation](golden), golden)


def test_the_comparison_sees_one_wrong_number():
    golden = read(PATHS[0])
    compare(golden.expected, golden)
    for key, array in golden.expected.items():
        wrong = array.copy()
        wrong.flat[-1] += 3e-4 * np.abs(array).max()
        with pytest.raises(AssertionError, match=f"{key} is off by"):
            compare({**golden.expected, key: wrong}, golden)
