"""Golden trajectories: training steps computed by the authors' own PyTorch classes, reproduced array by array.

Every .npz in tests/golden and in the directories of TINYFOA_GOLDEN (separated as in PATH) whose system is known here is
run by every implementation. What a file contains decides what is compared; nothing about shapes, slices or step sizes
is taken for granted.
"""

from functools import partial

import numpy as np
import pytest
from golden_kernels import run_kernels
from golden_tinyfoa import compare, find, read

from tinyfoa_np.reference import tinyfoa


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


IMPLEMENTATIONS = {"reference": run_reference, "kernels": run_kernels, "streamed": partial(run_kernels, streamed=True)}


PATHS = find("fc")


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
