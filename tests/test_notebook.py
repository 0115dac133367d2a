"""Finished runs in notebooks."""

import json
import sys
from pathlib import Path

import pytest
from train_tools import made, recipe, run

from tinyfoa_np import Run
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.run.events import Event
from tinyfoa_np.run.progress import ProgressLine

NOTEBOOKS = Path(__file__).resolve().parents[1] / "examples" / "notebooks"

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


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
    for kind in ("memory", "training"):
        figure = finished.plot(kind)
        assert figure.axes and figure._repr_png_().startswith(b"\x89PNG")  # by which Jupyter shows it


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(BadRequest, match=r"audit\.json"):
        Run(tmp_path)


@pytest.mark.parametrize("name", ["beside_backpropagation", "own_data", "my_board"])
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
    elif name == "my_board":
        assert not names["first"]["fits"] and names["second"]["fits"]
        assert names["result"]["error_pct"] < 30
        assert names["measured"] == names["second"]["ram"]["planned_bytes"] and names["picture"].axes
    else:
        errors = {where: one.epochs[-1].test_error_pct for where, one in names["runs"].items()}
        assert max(errors.values()) < 30 and all(figure.axes for figure in names["figures"])


class _Kernel:
    """What a notebook's kernel offers: a cell below which a text can be displayed and updated."""

    kernel = True

    def __init__(self):
        self.texts = []

    def get_ipython(self):
        return self

    def display(self, content, raw, display_id):
        assert raw and display_id
        return self

    def update(self, content, raw):
        self.texts.append(content["text/plain"])


def test_progress_is_one_line_in_a_notebook(monkeypatch):
    kernel = _Kernel()
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", kernel)
    monkeypatch.setattr(ProgressLine, "REDRAW", 0.0)
    with ProgressLine(recipe(epochs=3)) as line:
        line(Event("epoch", 0, 0, loss=1.5, train_error_pct=20.0))
        line(Event("batch", 1, 2, 4, 10))
    assert kernel.texts[1:] == ["layer 2/2, epoch 3/3, batch 5/10: loss 1.5000, train error 20.00 %"] * 2
    assert "\n" not in "".join(kernel.texts)


def test_progress_is_one_line_in_a_terminal_and_nothing_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run(tmp_path / "shown", recipe(), made())
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.count("\r") > 1 and "epoch 1/1" in shown
    assert all(len(line.rstrip("\n")) < 80 for line in shown.split("\r"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    run(tmp_path / "silent", recipe(), made())
    assert capsys.readouterr().err == ""
