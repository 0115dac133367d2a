"""Pictures of a run, from the command line."""

import shutil
import sys

import pytest

pytest.importorskip("tinyfoa_cli", reason="the command line is not installed: run make test")

from cli_tools import one_error_line


@pytest.fixture
def finished(trained, tmp_path):
    """What `plot` reads of the finished run, in a directory of its own."""
    directory = tmp_path / "copy"
    directory.mkdir()
    for name in ("recipe.json", "audit.json"):
        shutil.copy(trained[0] / name, directory)
    return directory


@pytest.fixture
def matplotlib():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot): make test installs it")


@pytest.mark.usefixtures("matplotlib")
def test_plot_writes_where_it_says(run, finished, tmp_path):
    assert run("plot", finished) == (0, f"{finished / 'memory.png'}\n", "")
    assert (finished / "memory.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = run("plot", finished, "--kind", "memory", "--layer", 1, "--out", "first.svg")
    assert (code, out, err) == (0, "first.svg\n", "")
    assert "layer 1 of 2" in (tmp_path / "first.svg").read_text()
    assert sorted(path.name for path in finished.iterdir()) == ["audit.json", "memory.png", "recipe.json"]


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kind", "dreams"], "'dreams' is not one of 'memory'"),
        (["--out", "memory.pdf"], ".png or .svg"),
        (["--out", "nowhere/memory.png"], "nowhere is not a directory"),
        (["--layer", "3"], "its layers are 1 to 2"),
    ],
)
def test_plot_refuses_and_leaves_nothing(run, finished, tmp_path, arguments, says):
    code, out, err = run("plot", finished, *arguments)
    assert (code, out) == (2, "") and says in one_error_line(err)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["audit.json", "copy", "recipe.json"]


@pytest.mark.usefixtures("matplotlib")
def test_plot_of_a_run_that_has_not_finished(run, finished):
    (finished / "audit.json").unlink()
    code, out, err = run("plot", finished)
    assert (code, out) == (2, "") and "when it finishes" in one_error_line(err)
    assert [path.name for path in finished.iterdir()] == ["recipe.json"]


def test_plot_without_matplotlib_says_how_to_get_it(run, finished, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("matplotlib.", "tinyfoa_np.plots."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tinyfoa_np.plots.canvas", raising=False)  # where an import before this one left it
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run("plot", finished)
    assert (code, out) == (2, "") and 'pip install ".[plot]"' in one_error_line(err)
    assert sorted(path.name for path in finished.iterdir()) == ["audit.json", "recipe.json"]
