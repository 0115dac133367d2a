"""Golden files of TinyFoA, read and compared."""

import json
import re
from typing import NamedTuple

import numpy as np
from golden_files import golden_files

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
    """Every golden file of TinyFoA on such a network."""
    metas = ((path, read(path).meta) for path in golden_files())
    return [path for path, meta in metas if meta["system"] == "tinyfoa" and meta["network"] == network]


def compare(ours, golden):
    """Each of `ours` must be within a tolerance of the golden array, relative to that array's largest magnitude."""
    assert set(ours) == set(golden.expected)
    for key, theirs in golden.expected.items():
        tolerance = 2e-4 if "_end" in key else 1e-5
        assert ours[key].shape == theirs.shape, key
        worst = np.abs(ours[key].astype(np.float64) - theirs).max()
        limit = tolerance * np.abs(theirs.astype(np.float64)).max()
        assert worst <= limit, f"{key} is off by {worst:.2e}, {limit:.2e} would be right"
