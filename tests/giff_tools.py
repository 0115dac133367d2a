"""GIFF's golden files, and what the plain NumPy reference makes of them."""

import json
import re
from typing import NamedTuple

import numpy as np

from tinyfoa_np.reference import giff


class Golden(NamedTuple):
    """One file: what it says about itself, and its arrays by name."""

    meta: dict
    arrays: dict

    @property
    def expected(self):
        """What an implementation must reproduce; how many batches batch norm has counted is not looked at."""
        asked = r"grad\..*|loss|goodness_last_batch|.*(?<!num_batches_tracked)_end"
        return {key: array for key, array in self.arrays.items() if re.fullmatch(asked, key)}

    @property
    def batches(self):
        return list(zip(*(self.arrays[name] for name in ("x", "y", "y_neg"))))

    @property
    def options(self):
        return {"label_width": self.meta["label_width"], "merge": self.meta["merge"],
                "normalized": self.meta["normalize"]}  # fmt: skip

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
    ours["goodness_last_batch"] = giff.class_goodness(golden.arrays["x"][-1], golden.groups("_end"), **golden.options)
    return ours
