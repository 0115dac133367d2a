"""Golden trajectories of GIFF: the plain NumPy reference and the kernels, judged as in :mod:`test_golden`."""

import numpy as np
import pytest
from giff_tools import read, run_kernels, run_reference
from golden_files import golden_files

from tinyfoa_np.reference import giff

PATHS = [path for path in golden_files("giff_*.npz") if path.stem != "giff_from_ff"]
FROM_FF = golden_files("giff_from_ff*.npz")

IMPLEMENTATIONS = {"reference": lambda golden, patch: run_reference(golden), "kernels": run_kernels}


def compare(ours, expected):
    """Each of `ours` must be within a tolerance of the golden array, relative to that array's largest magnitude.

    Where a batch norm follows another with only a ReLU and a convolution without biases between them, the first one's
    gamma hardly matters: its gradient's terms cancel to a millionth, and what float32 leaves is their rounding. So a
    gradient may also be off by a millionth of the largest of its group.
    """
    assert set(ours) == set(expected)
    for key, theirs in expected.items():
        tolerance = 2e-4 if "_end" in key else 1e-5
        assert ours[key].shape == theirs.shape, key
        worst = np.abs(ours[key].astype(np.float64) - theirs).max()
        limit = tolerance * np.abs(theirs.astype(np.float64)).max()
        if key.startswith("grad.g"):
            group = key.split(".")[1]
            others = [value for name, value in expected.items() if name.startswith(f"grad.{group}.")]
            limit = max(limit, 1e-6 * max(np.abs(value).max() for value in others))
        assert worst <= limit, f"{key} is off by {worst:.2e}, {limit:.2e} would be right"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path, implementation, monkeypatch):
    golden = read(path)
    compare(IMPLEMENTATIONS[implementation](golden, monkeypatch), golden.expected)


def test_the_comparison_sees_one_wrong_number():
    golden = read(PATHS[0])
    for key, array in golden.expected.items():
        wrong = array.astype(np.float64)
        wrong.flat[-1] += 3e-4 * np.abs(array).max()
        with pytest.raises(AssertionError, match=f"{key} is off by"):
            compare({**golden.expected, key: wrong}, golden.expected)


@pytest.mark.parametrize("path", FROM_FF, ids=lambda path: path.stem)
def test_weights_from_forward_forward(path):
    with np.load(path) as file:
        W, D, C, h = (file[name] for name in "WDCh")
    V_D, V_C = giff.from_ff(W, D, C)
    ours = np.maximum(D @ V_D.T, 0) + np.maximum(C @ V_C.T, 0)
    np.testing.assert_allclose(ours, h, rtol=0, atol=4 * np.finfo(np.float32).eps * np.abs(h).max())
