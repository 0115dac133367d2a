"""The studies: what they would train, how a learning rate is chosen, and what they write."""

import csv
import json

import pytest

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.papers import studies
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import jobs as workers

QUICK = {"network": "fc:16", "epochs": 2, "limit": 60, "batch": 20}


def points(out, study="slices", **options):
    return studies.points(study, out, datasets=["digits"], changes=QUICK, **options)


def test_the_lines_are_those_of_the_paper_s_question(tmp_path):
    found = points(tmp_path, seeds=2)
    assert {point.at for point in found} == set(studies.SIDES)
    assert len(found) == len(studies.LINES["slices"]) * len(studies.SIDES)
    for point in found:
        for rate, runs in point.runs.items():
            assert [run.recipe.seed for run in runs] == [0, 1]
            assert {run.recipe.slices for run in runs} == {point.at} and {run.recipe.lr for run in runs} == {rate}
    by_line = {point.line: point for point in found if point.at == 16}
    assert list(by_line["a slice for 10 steps"].runs) == sorted(studies.RATES)
    assert by_line["a slice for an epoch"].runs[1e-4][0].recipe.hold == "1epoch"
    assert by_line["auto"].runs.keys() == {Recipe(slices=16).validated().lr}
    exchanges = points(tmp_path, "exchanges")
    assert {run.recipe.exchanges for p in exchanges for runs in p.runs.values() for run in runs} == set(
        studies.EXCHANGES
    )


def test_a_study_is_trained_once_and_written(tmp_path, monkeypatch):
    """Rates are searched with the first seed; the other seeds train with the rate of the least training error."""
    todo = points(tmp_path / "out", lines=["a slice for 1 step", "stream"], at=[2], seeds=2)
    rows, failed = studies.carry_out("slices", todo, tmp_path / "out", jobs=2)
    assert failed == [] and [row["line"] for row in rows] == ["a slice for 1 step", "stream"]
    searched = rows[0]
    assert len(searched["searched"]) == len(studies.RATES) and searched["seeds"] == 2
    tried = {
        rate: json.loads((runs[0].directory / "metrics.jsonl").read_text().splitlines()[-1])["train_error_pct"]
        for rate, runs in todo[0].runs.items()
    }
    assert tried[searched["lr"]] == min(tried.values())
    assert searched["written_bytes"] > 0 and searched["arena_bytes"] > 0 and searched["error_sd"] is not None
    written = json.loads((tmp_path / "out/slices.json").read_text())
    assert written["rows"] == json.loads(json.dumps(rows)) and "2 epochs a layer, seeds 0 to 1" in written["caption"]
    lines = list(csv.DictReader((tmp_path / "out/slices.csv").read_text().splitlines()))
    assert [line["at"] for line in lines] == ["2", "2"]
    assert "| digits | stream | 2 |" in (tmp_path / "out/slices.md").read_text()

    assert studies.picture("slices", points(tmp_path / "none", at=[2]), tmp_path / "none") == []
    (picture,) = studies.picture("slices", todo, tmp_path / "out")
    assert picture.name == "slices-digits.png" and picture.read_bytes().startswith(b"\x89PNG")

    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(workers, "_Child", never)
    assert studies.carry_out("slices", todo, tmp_path / "out", jobs=2) == (rows, [])


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="no line begins with 'sideways'"):
        points(tmp_path, lines=["sideways"])
    with pytest.raises(BadRequest, match="unknown data set 'fish'"):
        studies.points("slices", tmp_path, datasets=["fish"])
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="is a file"):
        points(tmp_path / "file")


def test_a_run_that_cannot_be_trained_is_reported(tmp_path):
    """More slices than the layer has neurons: known only once the layer is looked at."""
    rows, failed = studies.carry_out("slices", points(tmp_path, lines=["stream"], at=[17]), tmp_path, jobs=1)
    assert rows[0]["error_pct"] is None and len(failed) == 1 and "at most 16" in failed[0]


def test_giff_is_varied_in_three_ways_beside_bp(tmp_path):
    quick = {"epochs": 1, "limit": 40, "batch": 20}
    todo = studies.points("giff", tmp_path, datasets=["digits"], changes=quick)
    lines = {line: [point.at for point in todo if point.line == line] for line in dict.fromkeys(p.line for p in todo)}
    assert lines["BP"] == ["bp"] and lines["groups"] == ["1|2|3", "1,2|3", "1|2,3", "1,2,3"]
    for point in todo:
        (run,) = next(iter(point.runs.values()))
        assert run.recipe.network == "cnn" and run.recipe.algorithm == ("bp" if point.line == "BP" else "giff")
        if point.line == "groups":
            assert run.recipe.groups == point.at
    few = studies.points("giff", tmp_path, datasets=["digits"], changes=quick, lines=["BP", "groups"])
    rows, failed = studies.carry_out("giff", few, tmp_path, jobs=2)
    assert failed == [] and all(row["error_pct"] is not None for row in rows)
    by_groups = {row["at"]: row["arena_bytes"] for row in rows}
    assert by_groups["1|2|3"] < by_groups["1,2,3"] and by_groups["1|2|3"] < by_groups["bp"]
    pytest.importorskip("matplotlib")
    (path,) = studies.picture("giff", few, tmp_path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(BadRequest, match="--at does not apply"):
        studies.points("giff", tmp_path, datasets=["digits"], at=[3])


def test_points_of_giff_that_crowd_are_named_beside_each_other():
    """Nine points of one size, three of them at one place: every name inside of the frame, off the others."""
    pytest.importorskip("matplotlib")
    from tinyfoa_np.plots import canvas, giff

    values = {"theta": (0.01, 1.0, 10.0), "label width": (1, 2, 4), "groups": ("1|2|3", "1,2|3", "1,2,3")}
    rows = [
        {"line": line, "at": at, "algorithm": "giff", "error_pct": error, "arena_bytes": 10**6}
        for line, own in values.items()
        for at, error in zip(own, (2.0, 2.01, 2.5), strict=True)
    ]
    beside = {"line": "BP", "at": "bp", "algorithm": "bp", "error_pct": 1.5, "arena_bytes": 2 * 10**6}
    for some in ([*rows, beside], [beside], []):
        with canvas.style():
            _, axes = giff.figure(some, "Crowded").axes
        boxes = [text.get_window_extent() for text in axes.texts]
        frame = axes.get_window_extent()
        assert all(frame.contains(*corner) for box in boxes for corner in (box.min, box.max))
        assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
        said = ["0.01", "1", "10", "1", "2", "4", *values["groups"]]
        assert [text.get_text() for text in axes.texts] == (said if len(some) > 1 else [])
