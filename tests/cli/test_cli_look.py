"""``tinyfoa report``, ``compare`` and the kinds of ``plot``: where they write, what they print, how they end."""

import json
from pathlib import Path

import pytest

pytest.importorskip("tinyfoa_cli", reason="the command line is not installed: run make test")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot): make test installs it")

from cli_tools import SMALL, one_error_line

from tinyfoa_np import plots
from tinyfoa_np.text import size


@pytest.mark.parametrize("kind", plots.KINDS)
def test_every_kind_of_plot_is_drawn(run, trained, kind):
    code, out, err = run("plot", trained[0], "--kind", kind, "--out", "picture.svg")
    assert (code, out, err) == (0, "picture.svg\n", "")


def test_a_report_beside_the_run_or_where_it_is_said(run, trained, tmp_path):
    assert run("report", trained[0]) == (0, f"{trained[0] / 'report.html'}\n", "")
    assert run("report", trained[0], "--out", "page.html") == (0, "page.html\n", "")
    beside = trained[0] / "report.html"
    assert beside.read_bytes() == (tmp_path / "page.html").read_bytes()
    assert f"test error {trained[1]['error_pct']:.2f} %" in beside.read_text()
    beside.unlink()


def test_runs_beside_each_other(run, trained):
    result = trained[1]
    code, out, err = run("compare", trained[0], trained[0])
    assert code == 0 and err == ""
    assert out.count(f"{result['error_pct']:.2f}") >= 2 and out.count(size(result["arena"]["watermark_bytes"])) == 2
    assert max(map(len, out.splitlines())) <= 80 and "Recipes" not in out and "network fc:" in out
    code, out, _ = run("compare", trained[0], trained[0], "--json")
    rows = json.loads(out)["runs"]
    assert code == 0 and len(rows) == 2 and rows[0] == rows[1]
    assert rows[0]["ram_bytes"] == result["arena"]["watermark_bytes"] and rows[0]["algorithm"] == "tinyfoa"


def test_runs_that_differ(run, trained, tmp_path):
    """Every field in which recipes differ is named, and nothing is cut off at 80 columns."""
    assert run("train", "digits", *SMALL, "--algorithm", "bp", "--epochs", 1, "--quiet", "--out", "bp")[0] == 0
    code, out, _ = run("compare", trained[0], "bp")
    recipes = [json.loads((Path(where) / "recipe.json").read_text()) for where in (trained[0], "bp")]
    assert code == 0 and max(map(len, out.splitlines())) <= 80 and "…" not in out
    for field in ("algorithm", "epochs", "normalize", "schedule"):
        assert all(f"{field} {recipe[field]}" in " ".join(out.split()) for recipe in recipes)
    assert run("plot", trained[0], "bp")[:2] == (0, "compared.png\n")
    assert Path("compared.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run("plot", trained[0], "bp", "--kind", "signs")
    assert code == 2 and "leave --kind and --layer out" in one_error_line(err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare"], "Missing argument"),
        (["compare", "{run}", "nowhere"], "there is no directory nowhere"),
        (["report", "nowhere"], "there is no directory nowhere"),
        (["plot", "{run}", "--kind", "fields", "--layer", "2"], "layer 2 sees no images"),
    ],
)
def test_bad_requests(run, trained, arguments, says):
    code, out, err = run(*(argument.format(run=trained[0]) for argument in arguments))
    assert code == 2 and out == "" and says in one_error_line(err)


def test_a_page_that_cannot_be_written(run, trained):
    code, out, err = run("report", trained[0], "--out", "no/such/page.html")
    assert code == 1 and out == "" and "cannot be written" in one_error_line(err)


def test_a_run_that_has_not_finished(run, trained, tmp_path):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.json").write_text((trained[0] / "recipe.json").read_text())
    for command in ("compare", "report"):
        code, _, err = run(command, "begun")
        assert code == 2 and "when it finishes" in one_error_line(err)
