"""Pictures are drawn in the project's own style."""

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot): make test installs it")

from tinyfoa_np.plots import canvas


@pytest.fixture(autouse=True)
def style():
    with canvas.style():
        yield
