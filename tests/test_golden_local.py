"""Golden trajectories of locally connected layers, computed by the authors' own classes: see test_golden.py."""

from functools import partial

import numpy as np
import pytest
from golden_local import STREAMED, run_kernels
from test_golden import compare, find, read

from tinyfoa_np.reference import local

PATHS, WHY_NONE = find("lc")
if not PATHS:
    pytest.skip(WHY_NONE, allow_module_level=True)


def run_reference(golden):
    """Results of the plain NumPy reference, under the golden file's own names."""
    meta, arrays, ours = golden.meta, golden.arrays, {}
    toggles = {name: bool(meta[name]) for name in ("binary_weights", "binary_activations")}
    for k in range(golden.layers):
        x = arrays["x"] if k == 0 else arrays[f"h{k - 1}_end_eval"]
        batches = list(zip(x, arrays["y"]))
        trained = local.train_layer(
            batches, local.initial(arrays[f"W{k}"], arrays[f"b{k}"]), arrays[f"B{k}"], arrays[f"Bb{k}"],
            slices=meta["M"] if meta["vertical"] == "slice" else 1, hold=1, optimizer=golden.optimizer, lr=meta["lr"],
            **toggles,
        )  # fmt: skip
        layer = trained.layer
        ours[f"gW{k}_step0"], ours[f"gb{k}_step0"] = trained.first.W, trained.first.b
        ours[f"loss{k}"], ours[f"W{k}_end"], ours[f"b{k}_end"] = trained.losses, layer.W, layer.b
        ours[f"bn_weight{k}_end"], ours[f"bn_bias{k}_end"] = layer.gamma, layer.beta
        ours[f"bn_mean{k}_end"], ours[f"bn_var{k}_end"] = layer.mean, layer.variance
        ours[f"h{k}_end_eval"] = np.stack(local.hand_over(batches, layer, **toggles))
    return ours


IMPLEMENTATIONS = {
    "reference": run_reference, "kernels": run_kernels,
    "kept": partial(run_kernels, tiling={"keep_products": True}),
    "streamed": partial(run_kernels, tiling={**STREAMED, "rows": 2}),
}  # fmt: skip


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path, implementation):
    golden = read(path)
    compare(IMPLEMENTATIONS[implementation](golden), golden)
