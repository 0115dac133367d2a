"""Finished runs in notebooks."""

import sys

import pytest
from train_tools import made, recipe, run

from tinyfoa_np import Run
from tinyfoa_np.errors import BadRequest

pytestmark = [
    pytest.mark.filterwarnings("ignore:only .* slices will train"),
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
