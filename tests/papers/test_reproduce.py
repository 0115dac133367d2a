"""The paper's tables again: which runs they take, what a row says of them, and the files."""

import csv
import io
import json

import pytest

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.network import widths
from tinyfoa_np.papers import presets, reproduce
from tinyfoa_np.papers import tinyfoa_tables as tables
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import jobs as workers

CHANGES = {"network": "fc:20x2", "epochs": 2, "limit": 150}


def tasks(out, *systems, table="table1", datasets=("digits",), seeds=2, changes=None, **options):
    return reproduce.tasks(table, out, datasets=datasets, systems=systems, seeds=seeds, changes=changes, **options)


def leave(run, error=2.0, **more):
    """What a finished run leaves behind, without the training."""
    result = {
        "outcome": "finished",
        "recipe": json.loads(run.recipe.to_json()),
        "warnings": [],
        "error_pct": error,
        "layer_errors_pct": [error + 1, error],
        "seconds_per_epoch": [0.5, 1.0],
        "model_sha256": "0" * 64,
        "run_dir": str(run.directory),
        "flash": {"bytes": 1, "read_bytes": 1, "written_bytes": 1, "exchanges": 1},
        "arena": {
            "budget_bytes": None,
            "planned_bytes": 12_680_000,
            "accounted_bytes": 12_680_000,
            "watermark_bytes": 12_680_000,
            "phases": {
                p: {"accounted_bytes": n}
                for p, n in (("forward", 12_680_000), ("gradient", 12_660_000), ("update", 640_000), ("load", 1))
            },
        },
        **more,
    }
    run.directory.mkdir(parents=True)
    (run.directory / "result.json").write_text(json.dumps(result))


def diverge(run, layer=1, epoch=3):
    leave(run, outcome="diverged", layer=layer, epoch=epoch, message="training diverged")


# Which runs


@pytest.mark.parametrize("table", tables.TABLES)
def test_a_row_is_the_published_recipe_once_for_each_seed(tmp_path, table):
    found = tasks(tmp_path, table=table, datasets=("digits", "digits"), seeds=3)
    local = table in tables.LOCAL
    assert [task.row for task in found] == tables.rows(table)
    for task in found:
        system = task.row.system
        toggles = {"binary_weights": system.binary_weights, "binary_activations": system.binary_activations}
        fields = presets.paper(system.algorithm, "digits", vertical=system.vertical, local=local, **toggles)
        assert [run.recipe for run in task.runs] == [Recipe(**fields, seed=seed).validated() for seed in range(3)]
        assert [run.directory for run in task.runs] == [
            tmp_path / "digits" / task.row.name / f"seed-{seed}" for seed in range(3)
        ]
    assert len({run.name for task in found for run in task.runs}) == 3 * len(found)
    assert list(tmp_path.iterdir()) == []


def test_rows_may_be_chosen_by_name_and_pattern_and_changed(tmp_path):
    found = tasks(tmp_path, "tinyfoa*", "bp", changes={"epochs": 7, "network": "fc:30x2"})
    assert [task.row.name for task in found] == ["tinyfoa-v-ba-bw", "bp", "tinyfoa-v-ba", "tinyfoa-v", "tinyfoa"]
    assert {(task.recipe.epochs, task.recipe.network) for task in found} == {(7, "fc:30x2")}
    assert {(task.published.epochs, task.published.network) for task in found} == {(100, "fc:2000x4")}


@pytest.mark.parametrize("table", ["table1", "table2", "table3"])
def test_a_quick_look_shrinks_every_row_and_says_so(tmp_path, table):
    found = tasks(tmp_path, table=table, seeds=1, quick=True, changes={"batch": 25})
    published = tasks(tmp_path, table=table, seeds=1)
    assert [task.row.name for task in found] == [task.row.name for task in published]
    for quick, whole in zip(found, published):
        assert quick.published == whole.recipe and quick.recipe.limit == 5000 and quick.recipe.epochs == 4
        assert quick.recipe.batch == 25 and quick.recipe.epochs == 4
        times = 1 if whole.recipe.algorithm == "ff" else reproduce.QUICK_LR
        assert quick.recipe.lr == times * whole.recipe.lr
        assert len(widths(quick.recipe.network)) == len(widths(whole.recipe.network))
        assert sum(widths(quick.recipe.network)) < sum(widths(whole.recipe.network)) / 5
    told = reproduce.caption(table, found)
    same = " (not of ff)" * any(task.recipe.algorithm == "ff" for task in found)
    assert f"batch 25 instead of 100; 10 times the published learning rates{same}; the first 5,000" in told
    assert "networks" in told if table != "table3" else "network lc:4x4 instead" in told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"systems": ("bp", "adam")}, "Table 1 has no system 'adam'; it has drtp"),
        ({"systems": ("bp+v",)}, "no system 'bp\\+v'"),
        ({"datasets": ("imagenet",)}, "unknown data set 'imagenet'"),
        ({"datasets": ()}, "name a data set"),
        ({"seeds": 0}, "at least one"),
        ({"changes": {"epochs": 0}}, "epochs is 0"),
        ({"changes": {"network": "fc:"}}, "not understood"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path, options, says):
    with pytest.raises(BadRequest, match=says):
        reproduce.tasks("table1", tmp_path, **{"datasets": ("digits",), **options})
    assert list(tmp_path.iterdir()) == []


def test_data_must_be_there_for_what_is_not_begun(tmp_path):
    with pytest.raises(BadRequest, match="does not exist"):
        tasks(tmp_path, "bp", datasets=("mnist",), data_dir="nowhere")
    fields = presets.paper("bp", "mnist", binary_weights=False, binary_activations=False)
    leave(workers.Run("", Recipe(**fields).validated(), tmp_path / "mnist" / "bp" / "seed-0"))
    assert tasks(tmp_path, "bp", datasets=("mnist",), seeds=1, data_dir="nowhere")


def test_runs_with_another_recipe_are_in_the_way(tmp_path):
    [task] = tasks(tmp_path, "bp", changes={"epochs": 3})
    leave(task.runs[1])
    with pytest.raises(BadRequest, match="seed-1 was trained with epochs 3, not 100: give another --out"):
        tasks(tmp_path, "bp")


# A row


def test_a_row_has_the_paper_the_closed_form_and_what_was_measured(tmp_path):
    [task] = tasks(tmp_path, "tinyfoa", seeds=3)
    for run, error in zip(task.runs, (2.0, 2.2, 2.4)):
        leave(run, error)
    row = reproduce.summary(task)
    assert (row["setting"], row["system"], row["dataset"]) == ("vertical", "tinyfoa", "digits")
    assert (row["paper_error_pct"], row["paper_error_sd"]) == (None, None)
    assert (row["error_pct"], row["error_sd"]) == (pytest.approx(2.2), pytest.approx(0.2))
    assert (row["seeds"], row["finished"], row["outcome"]) == (3, 3, "3 seeds")
    assert (row["epochs"], row["paper_epochs"], row["epochs_of"]) == (100, 100, "layer")
    assert [row[f"{step}_paper_mb"] for step in ("forward", "gradient", "update")] == [0.50, 4.01, 8.00]
    assert [round(row[f"{step}_formula_mb"], 2) for step in ("forward", "gradient", "update")] == [0.50, 4.01, 8.0]
    assert [row[f"{step}_mb"] for step in ("forward", "gradient", "update")] == [12.68, 12.66, 0.64]
    assert (row["arena_mb"], row["comp_paper"], row["comp"], row["seconds"]) == (12.68, 1.5, 1.5, 150.0)
    assert [run["seed"] for run in row["runs"]] == [0, 1, 2] and row["notes"] == []
    assert reproduce.errors(row) == [
        "vertical",
        "tinyfoa",
        "digits",
        "-",
        "2.20 +- 0.20",
        "3 seeds",
        "100 (100)",
        "1.5",
        "1.5",
    ]
    assert reproduce.memory(row) == [
        "tinyfoa",
        "digits",
        "0.50 / 0.50 / 12.68",
        "4.01 / 4.01 / 12.66",
        "8.00 / 8.00 / 0.64",
        "12.68",
    ]
    assert reproduce.in_a_line(row) == "digits tinyfoa: 2.20 +- 0.20 % (3 seeds), 12.68 MB; the paper: -"


def test_every_row_of_the_paper_is_met_by_its_closed_form(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce.data, "find", lambda name, data_dir: name)  # the images' size alone counts
    for table in tables.TABLES:
        for task in tasks(tmp_path, table=table, datasets=("mnist",)):
            row = reproduce.summary(task)
            for step in ("forward", "gradient", "update"):
                assert row[f"{step}_formula_mb"] == pytest.approx(row[f"{step}_paper_mb"], abs=0.03)
            assert any("three" in line for line in reproduce.remarks([row])) == ("pepita" in row["system"])
            assert row["comp"] == (row["comp_paper"] * 2 / 3 if "pepita" in row["system"] else row["comp_paper"])


def test_table_3_is_of_locally_connected_networks_and_says_what_it_leaves_out(tmp_path):
    [task] = tasks(tmp_path, "tinyfoa", table="table3", seeds=1, changes={"lc_connect": "depthwise"})
    assert (task.recipe.network, task.recipe.epochs, task.recipe.normalize) == ("lc:16,32,64,64", 200, "unit")
    assert (task.recipe.lc_connect, task.published.lc_connect) == ("depthwise", "full")
    row = reproduce.summary(task)
    assert reproduce.errors(row)[-2:] == ["-", "-"]
    assert any("one input channel per weight" in line for line in reproduce.remarks([row]))
    [vertical] = tasks(tmp_path, "bp+bw+ba+v", table="table3", seeds=1)
    assert (vertical.recipe.schedule, vertical.recipe.slices, vertical.recipe.dropout) == ("frozen", 2, 0.2)
    with pytest.raises(BadRequest, match="no system 'ff'; it has tinyfoa"):
        tasks(tmp_path, "ff", table="table3")


def test_rows_that_train_as_others_say_so(tmp_path):
    rows = [reproduce.summary(task) for task in tasks(tmp_path, "*+ba", table="table2")]
    assert any(line.startswith("drtp+ba, ff+ba: ") and "as without +ba" in line for line in reproduce.remarks(rows))
    assert any(line.startswith("ff+ba: ") for line in reproduce.remarks(rows[2:]))
    assert not any("without +ba" in line for line in reproduce.remarks(rows[3:]))


def test_runs_that_diverged_failed_or_are_missing_are_told(tmp_path):
    [task] = tasks(tmp_path, "tinyfoa", seeds=4, changes=CHANGES)
    assert reproduce.summary(task)["outcome"] == "0 of 4 seeds; not finished"
    leave(task.runs[0], 3.0, warnings=["only 2 slices"])
    diverge(task.runs[1], layer=2)
    row = reproduce.summary(task, {task.runs[2].name: "no space"})
    assert row["outcome"] == "1 of 4 seeds; seed 1 diverged (layer 2, epoch 3); seed 2 failed; not finished"
    assert (row["error_pct"], row["error_sd"], row["finished"]) == (3.0, None, 1)
    assert reproduce.failures([row]) == ["digits tinyfoa seed 2: no space"]
    assert "tinyfoa: only 2 slices." in reproduce.remarks([row])


def test_a_row_that_diverges_has_no_figures_of_ours(tmp_path):
    [task] = tasks(tmp_path, "bp", changes=CHANGES)
    for run in task.runs:
        diverge(run)
    row = reproduce.summary(task)
    assert row["outcome"] == "diverged (epoch 3)" and row["error_pct"] is row["arena_mb"] is row["update_mb"] is None
    assert row["forward_paper_mb"] == 48.06 and reproduce.failures([row]) == []
    assert reproduce.in_a_line(row) == "digits bp: diverged (epoch 3); the paper: -"


def test_a_single_layer_has_no_closed_form(tmp_path):
    [task] = tasks(tmp_path, "bp", changes={"network": "fc:20"})
    row = reproduce.summary(task)
    assert row["forward_formula_mb"] is row["comp"] is None
    assert reproduce.memory(row)[2] == "48.06 / - / -"


# The table


def test_files(tmp_path):
    todo = tasks(tmp_path, "pepita", "bp+bw+ba", "tinyfoa", changes=CHANGES)
    leave(todo[0].runs[0], 5.0)
    leave(todo[0].runs[1], 6.0)
    for run in todo[1].runs:
        diverge(run)
    rows = [reproduce.summary(task) for task in todo]
    reproduce.write("table1", todo, rows, tmp_path)
    title = (
        "Table 1 on digits, seeds 0 to 1; 2 epochs instead of the published 100; network fc:20x2 instead of the "
        "published ones; the first 150 training samples only; with the recipes of mnist on digits, which the paper "
        "does not have"
    )
    assert reproduce.caption("table1", todo) == title
    read = list(csv.DictReader(io.StringIO((tmp_path / "table1.csv").read_text())))
    assert [line["system"] for line in read] == ["pepita", "bp+bw+ba", "tinyfoa"]
    assert [line["outcome"] for line in read] == ["2 seeds", "diverged (epoch 3)", "0 of 2 seeds; not finished"]
    assert (read[0]["error_pct"], read[1]["error_pct"], read[0]["epochs"]) == ("5.5", "", "2")
    assert (float(read[0]["arena_mb"]), read[2]["arena_mb"], read[2]["update_paper_mb"]) == (12.68, "", "8.0")
    written = json.loads((tmp_path / "table1.json").read_text())
    assert written["caption"] == title and written["rows"] == json.loads(json.dumps(rows))
    assert [run["outcome"] for run in written["rows"][1]["runs"]] == ["diverged", "diverged"]
    lines = (tmp_path / "table1.md").read_text().splitlines()
    assert lines[0] == f"# {title}"
    assert "| baseline | pepita | digits | - | 5.50 +- 0.71 | 2 seeds | 2 (100) | 96.0 | 0.0032 |" in lines
    assert "| bw+ba | bp+bw+ba | digits | - | - | diverged (epoch 3) | 2 (100) | 1.5 | 5e-05 |" in lines
    assert not any("three" in line for line in lines if line.startswith("- "))
    widths = {line.count("|") for line in lines if line.startswith("|")}
    assert widths == {len(reproduce.ERRORS) + 1, len(reproduce.MEMORY) + 1}


def test_a_caption_as_published(tmp_path):
    assert reproduce.caption("table1", tasks(tmp_path, "bp", seeds=1)).startswith("Table 1 on digits, seed 0; with")
    assert "; 1 epoch instead of" in reproduce.caption("table1", tasks(tmp_path, "bp", changes={"epochs": 1}))


def test_the_table_is_written_row_by_row_and_where_it_is_interrupted(tmp_path, monkeypatch):
    todo = tasks(tmp_path, "bp", "tinyfoa", changes=CHANGES)
    told = []

    def perform_all(runs, jobs, on_progress, on_end):
        assert jobs == 3 and [run.name for run in runs] == [run.name for task in todo for run in task.runs]
        leave(runs[2])
        on_end(runs[2], None)
        assert told == []
        leave(runs[0])
        on_end(runs[0], None)
        on_end(runs[1], "no space")
        assert "1 of 2 seeds; seed 1 failed" in (tmp_path / "table1.csv").read_text()
        leave(runs[3])
        raise workers.Stopped("interrupted")

    monkeypatch.setattr(workers, "perform_all", perform_all)
    parts = []
    with pytest.raises(workers.Stopped):
        reproduce.carry_out(
            "table1", todo, tmp_path, jobs=3, on_row=told.append, on_progress=lambda run, *rest: parts.append(rest)
        )
    assert [row["system"] for row in told] == ["bp"] and parts == [(1.0, "")] * 3
    read = list(csv.DictReader(io.StringIO((tmp_path / "table1.csv").read_text())))
    assert [line["outcome"] for line in read] == ["1 of 2 seeds; seed 1 failed", "2 seeds"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadRequest, match="is a file"):
        tasks(tmp_path / "file", "bp")


@pytest.mark.parametrize("table", ["table1", "table2", "table3"])
def test_a_terminal_of_80_columns_shows_whole_cells(tmp_path, table, monkeypatch):
    monkeypatch.setattr(reproduce.data, "find", lambda *_: "")
    todo = tasks(tmp_path, table=table, datasets=("mnist",), seeds=3)
    for run in (run for task in todo for run in task.runs):
        leave(run, error=12.34 + run.recipe.seed)
    rows = [reproduce.summary(task) for task in todo]
    for heads, cells in reproduce.narrow(rows).values():
        body = [list(heads), *map(cells, rows)]
        assert {len(line) for line in body} == {len(heads)}
        widths = [max(len(line[k].removesuffix(" >")) for line in body) for k in range(len(heads))]
        assert sum(widths) + 3 * (len(heads) - 1) + 1 <= 80, (heads, widths)
    errors, _ = (cells(rows[0]) for _, cells in reproduce.narrow(rows).values())
    assert errors[2] == "13.34 +- 1.00" and errors[3] == "3 seeds"
    twice = [{**row, "dataset": name} for row in rows for name in ("mnist", "digits")]
    assert reproduce.narrow(twice)["Errors, %"][1](twice[1])[0] == f"{rows[0]['system']} digits"
