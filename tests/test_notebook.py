"""Finished runs in notebooks."""

import json
import sys
from pathlib import Path

import pytest
from train_tools import made, recipe, run

from tinyfoa_np import Run
from tinyfoa_np.errors import BadRequest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "examples" / "notebooks"

pytestmark = [
    pytest.mark.filterwarnings("ignore:only .* slices per layer will be trained"),
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return Run(run(tmp_path_factory.mktemp("run"), recipe(epochs=2), made())["run_dir"])


def test_a_run_says_what_it_is(finished):
    known = finished.result
    assert f"error {known['error_pct']:.2f} %" in repr(finished) and "\n" not in repr(finished)
    assert f"{known['arena']['watermark_bytes']:,} bytes" in finished._repr_html_()
    assert finished.model.recipe.network == "fc:33,20" and finished.audit()["ok"]


def test_metrics_are_a_frame_where_pandas_is_and_rows_elsewhere(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = finished.metrics()
    assert [(row["layer"], row["epoch"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    monkeypatch.undo()
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = finished.metrics()
    assert list(frame.columns) == list(rows[0]) and frame.loss.tolist() == [row["loss"] for row in rows]


def test_pictures_are_figures(finished):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    assert finished.plot("memory").axes and finished.plot("training").axes


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(BadRequest, match=r"audit\.json"):
        Run(tmp_path)


@pytest.mark.parametrize("name", ["beside_backpropagation", "own_data"])
def test_the_notebooks_cells_run(name, tmp_path, monkeypatch):
    """Cell by cell, in one namespace; no Jupyter is needed for that."""
    for module in ("sklearn", "matplotlib"):
        pytest.importorskip(module, reason=f"{module} is not installed (extras sklearn and plot)")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    if name == "own_data":
        assert names["score"] > 0.9 and (tmp_path / "firmware" / "tinyfoa_classify.c").exists()
    else:
        errors = {where: one.epochs[-1].test_error_pct for where, one in names["runs"].items()}
        assert max(errors.values()) < 30 and all(figure.axes for figure in names["figures"])
