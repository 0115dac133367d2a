"""Golden trajectories of locally connected layers, computed by the authors' own classes: see test_golden.py."""

from functools import partial

import pytest
from golden_local import STREAMED, run_kernels, run_reference
from golden_tinyfoa import compare, find, read

PATHS = find("lc")

IMPLEMENTATIONS = {
    "reference": run_reference,
    "kernels": run_kernels,
    "kept": partial(run_kernels, tiling={"keep_products": True}),
    "streamed": partial(run_kernels, tiling={**STREAMED, "rows": 2}),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path, implementation):
    golden = read(path)
    compare(IMPLEMENTATIONS[implementation](golden), golden)
