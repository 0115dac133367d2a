"""The page on a run: whole in itself, well-formed, true to the run, and to be read without seeing its pictures."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot): make test installs it")

from train_tools import made, recipe, run

from tinyfoa_np import page
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.reports import audit as report
from tinyfoa_np.run import results as finished

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Outline(HTMLParser):
    """Every element with its attributes and the text in it; complains where one is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "svg" not in self.open and "style" not in self.open:
            self.words.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


KINDS = {
    "tinyfoa": ({"network": "fc:33,20", "epochs": 2}, {"image": (1, 7, 10)}, 20),
    "bp, real numbers, a budget": ({"algorithm": "bp", "binary_activations": False}, {}, 20),
    "no tests, an awkward name": ({"dataset": "<b>&\"'"}, {"name": "<b>&\"'"}, 0),
}


@pytest.fixture(scope="module", params=KINDS)
def written(request, tmp_path_factory):
    """(result, page, outline) of a small run."""
    options, about, tests = KINDS[request.param]
    dataset = replace(made(samples=70, tests=tests), **about)
    result = run(tmp_path_factory.mktemp("runs"), recipe(**options), dataset)
    text = page.write(result["run_dir"])
    return result, text, Outline(text)


def test_nothing_is_asked_from_elsewhere(written):
    _, text, outline = written
    assert "://" not in text and "@import" not in text and not outline.all("script") and not outline.all("link")
    for tag, attributes in outline.elements:
        for name in ("src", "href", "xlink:href", "data", "poster", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), (tag, name)
        assert not [name for name in attributes if name.startswith("on")]
    assert all(at.startswith("#") for at in re.findall(r"url\(([^)]*)\)", text))
    [policy] = [m["content"] for m in outline.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "http" not in policy


def test_names_within_the_page_are_its_own_and_are_there(written):
    _, text, outline = written
    names = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(names) == len(set(names))
    asked = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert asked and asked <= set(names)


def test_it_can_be_read_without_its_pictures_and_on_a_narrow_screen(written):
    result, text, outline = written
    assert outline.elements[0] == ("html", {"lang": "en"}) and text.startswith("<!DOCTYPE html>")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in outline.all("meta")
    pictures, images = outline.all("svg"), json.loads((Path(result["run_dir"]) / "data.json").read_text())["image"]
    assert len(pictures) == (4 if images else 3)
    for picture in pictures:
        assert picture["role"] == "img" and len(picture["aria-label"]) > 20
    assert len(outline.all("figcaption")) == len(pictures)
    # what is wider than a screen scrolls by itself, by keyboard too, and says what it is
    evaluated = result["error_pct"] is not None
    tables = 7 if evaluated else 5  # an evaluation has two
    assert len(outline.all("table")) == len(outline.all("caption")) == tables
    scrolled = [div for div in outline.all("div") if div.get("class") == "wide"]
    assert len(scrolled) == len(pictures) + tables
    assert all(div["tabindex"] == "0" and div["aria-label"] for div in scrolled)
    assert [tag for tag, _ in outline.elements if tag in ("h1", "h2")] == ["h1"] + ["h2"] * (5 if evaluated else 4)
    assert all(th["scope"] in ("row", "col") for th in outline.all("th"))


def test_its_figures_are_the_runs(written):
    result, _, outline = written
    words, audit = " ".join(outline.words), report.audit(result["run_dir"])
    watermark = audit["arena"]["watermark_bytes"]
    error = result["error_pct"]
    told = "no test samples" if error is None else f"test error {error:.2f} %"
    assert f"{told}, in {watermark:,} bytes of RAM" in words
    assert f"touched (the watermark) are the same: {watermark:,} bytes" in words
    for row in audit["phases"].values():
        assert f"{row['planned_bytes']:,}" in outline.words
    for region in audit["peak"]["regions"]:
        assert region["name"] in outline.words and f"{region['bytes']:,}" in outline.words
    for error in filter(None, result["layer_errors_pct"]):
        assert f"{error:.2f}" in outline.words
    for name, value in result["recipe"].items():
        assert value is None or name in outline.words and str(value) in outline.words
    assert result["model_sha256"] in outline.words


def test_the_same_run_gives_the_same_page(written):
    result, text, _ = written
    assert page.write(result["run_dir"]) == text


def test_measurements_that_disagree_are_told(written, monkeypatch):
    result, *_ = written
    told = {**report.audit(result["run_dir"]), "ok": False, "problems": ["a & b"]}
    monkeypatch.setattr(report, "audit", lambda run_dir: told)
    assert "<strong>The measurements disagree:</strong></p><ul><li>a &amp; b</li></ul>" in page.write(result["run_dir"])


def test_a_picture_that_would_load_something_is_refused():
    with pytest.raises(BadRequest, match="elsewhere"):
        page.inline('<svg><image href="https://example.org/x.png"/></svg>', "a", "b")
    assert page.inline('<?xml?>\n<svg xmlns="http://x"><use xlink:href="#a"/><g id="a"/></svg>', "n", 'a "b"') == (
        '<svg role="img" aria-label="a &quot;b&quot;"><use href="#n-a"/><g id="n-a"/></svg>'
    )


def test_unfinished_and_damaged_runs(tmp_path):
    with pytest.raises(BadRequest, match="when it finishes"):
        page.write(tmp_path)
    (tmp_path / "audit.json").write_text("[]")
    with pytest.raises(CheckFailed, match="is not the record of a run"):
        page.write(tmp_path)


# Beside each other


def test_what_runs_are_compared_by(written):
    result, *_ = written
    row = finished.figures(result["run_dir"])
    assert row["error_pct"] == result["error_pct"] and row["ram_bytes"] == result["arena"]["watermark_bytes"]
    assert row["flash_bytes"] == result["flash"]["bytes"] and row["model_sha256"] == result["model_sha256"]
    assert row["seconds_per_epoch"] == sum(result["seconds_per_epoch"]) > 0
    assert {name: result["recipe"][name] for name in finished.SHOWN}.items() <= row.items()


@pytest.mark.parametrize("algorithm", ["giff", "deeperforward"])
def test_a_network_of_groups_has_no_weights_to_draw(algorithm, tmp_path):
    """Its layers are fully connected, but not stored as rows of weights: the page failed."""
    which = recipe(algorithm=algorithm, network="fc:21,9", epochs=1, slices=1)
    result = run(tmp_path, which, replace(made(samples=70, inputs=64), image=(1, 8, 8)))
    text = page.write(result["run_dir"])
    assert len(Outline(text).all("svg")) == 2
    assert "Bytes by phase" in text and "paper's f" not in text  # which counts nothing of such a network


def test_a_chain_of_convolutions_has_one_row(tmp_path):
    """Bio-FO's fully connected layers have a row each, its chains of convolutions share one."""
    which = recipe(algorithm="biofo", network="conv:3,p2,4", epochs=2, slices=1)
    result = run(tmp_path, which, replace(made(samples=70, inputs=64), image=(1, 8, 8)))
    assert '<th scope="row">all</th><td class="n">2</td>' in page.write(result["run_dir"])
