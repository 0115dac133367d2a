"""The report of memory: the paper's closed forms, a run's measurements and what lies between, evidence from outside."""

import csv
import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.papers import tinyfoa_memory as paper
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reports import audit as report
from tinyfoa_np.reports import evidence, record
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run.train import train

PAPER = Path(__file__).resolve().parents[1] / "paper"


# The paper's tables


def rows(name):
    with (PAPER / name).open(newline="") as file:
        return list(csv.DictReader(file))


def system_and_toggles(name):
    """``tinyfoa-v-ba`` takes toggles from TinyFoA, which has all three; ``bp+bw`` gives some to another system."""
    system, *named = name.replace("+", "-").split("-")
    on = {toggle: (toggle in named) != (system == "tinyfoa") for toggle in ("bw", "ba", "v")}
    return system, {"binary_weights": on["bw"], "binary_activations": on["ba"], "slices": 2 if on["v"] else 1}


def printed(figure):
    return [paper.megabytes(figure[step]) for step in paper.STEPS]


@pytest.mark.parametrize("table", ["table1.csv", "table2.csv"])
def test_every_memory_and_comp_cell_of_tables_1_and_2(table):
    for row in rows(table):
        system, toggles = system_and_toggles(row["system"])
        figure = paper.fully_connected(system, (2000,) * (3 if system == "pepita" else 4), **toggles)
        cells = [float(row[f"{step}_mb"]) for step in paper.STEPS]
        assert printed(figure) == pytest.approx(cells, abs=0.00501), row["system"]
        del toggles["slices"]
        assert paper.comp((2000,) * 4, **toggles) == float(row["comp_mflop_bytes"]), row["system"]


def test_every_memory_cell_of_table_3():
    for row in rows("table3_lc_mnist.csv"):
        system, toggles = system_and_toggles(row["system"])
        figure = paper.locally_connected(system, (16, 32, 64, 64), **toggles)
        for step, value in zip(paper.STEPS, printed(figure)):
            cut_off = (row["system"], step) == ("bp", "gradient")  # 10.487, printed as 10.48
            assert value == pytest.approx(float(row[f"{step}_mb"]), abs=0.01 if cut_off else 0.00501), row["system"]


def test_sixteen_slices():
    figures = {
        "fc": paper.fully_connected("tinyfoa", (2000,) * 4, binary_weights=True, binary_activations=True, slices=16),
        "lc": paper.locally_connected(
            "tinyfoa", (16, 32, 64, 64), binary_weights=True, binary_activations=True, slices=16
        ),
    }
    for row in rows("on_device_m16.csv"):
        figure = figures[row["network"]]
        alone = {"gradients": figure["gradient"]["gradients"]}  # this table leaves activations out of the gradient step
        values = printed({**figure, "gradient": alone})
        assert values == pytest.approx([float(row[f"{step}_mb"]) for step in paper.STEPS], abs=0.00501)


def test_closed_forms_of_other_shapes():
    figure = paper.fully_connected("tinyfoa", (50, 30, 40), binary_weights=True, binary_activations=True, slices=3)
    assert figure["forward"] == {"weights": 188, "biases": 4, "inputs": 7, "outputs": 4}  # 50 x 30 is the largest
    assert figure["update"] == {"weights": 4 * 167, "gradients": 4 * 167, "biases": 40}  # ninths; a third
    assert paper.fully_connected("bp", (3, 5, 7))["forward"] == {
        "weights": 4 * (15 + 35),
        "biases": 4 * 15,
        "activations": 4 * 15,
    }
    assert paper.locally_connected("tinyfoa", (2, 5, 3), positions=10, taps=4)["forward"] == {
        "weights": 4 * 5 * 40,
        "inputs": 4 * 2 * 10,
        "outputs": 4 * 5 * 10,
    }
    assert paper.comp((10, 20, 5), binary_weights=True) == 300 * 4 / 1e6


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: paper.fully_connected("adam", (20, 20)),
        lambda: paper.fully_connected("tinyfoa", (20,)),
        lambda: paper.locally_connected("ff", (20, 20)),
        lambda: paper.locally_connected("bp", (20,)),
    ],
)
def test_closed_forms_refuse_what_the_tables_do_not_have(wrong):
    with pytest.raises(ValueError, match="must be one of|at least two"):
        wrong()


def test_examples():
    assert doctest.testmod(paper) == (0, 3)


# A run's report


def dataset(width, classes, real, samples=50):
    rng = np.random.default_rng(1)

    def split(count):
        inputs = rng.standard_normal((count, width), dtype=np.float32)
        if not real:
            inputs = rng.integers(0, 256, (count, width), dtype=np.uint8)
        return Split(inputs, rng.integers(0, classes, count))

    return Dataset("made up", split(samples), split(20), classes, 1 / 255, -0.5)


def trained(
    directory, *, width=20, classes=4, real=False, ram=None, share=None, threads=2, audit=True, tilings=None, **options
):
    """A run; ``share`` is that of its budget between the least there is, 0, and what it takes without one, 1."""
    recipe, data = Recipe(**{"network": "fc:40x2", "epochs": 2, "batch": 20, **options}), dataset(width, classes, real)
    if share is not None:
        layout = Layout(recipe.validated(), data, threads)
        ram = layout.least() + int(share * (max(one.plan.nbytes for one in layout.fit(None)) - layout.least()))
    return train(recipe, data, directory, ram=ram, threads=threads, audit=audit, tilings=tilings)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run, in audit mode."""
    directory = tmp_path_factory.mktemp("memory") / "run"
    trained(directory, network="fc:40x3", slices=3)
    return directory


RUNS = {
    "default": {},
    "no slices, one layer": {"network": "fc:70", "slices": 1},
    "the first layer is the largest": {"width": 300, "network": "fc:40,60,30"},
    "every layer has another shape": {"network": "fc:33,60,9", "slices": 3, "classes": 7},
    "real inputs and weights": {"real": True, "binary_weights": False, "network": "fc:30x3"},
    "real activations": {"binary_activations": False, "slices": 3},
    "nothing binary": {"real": True, "binary_weights": False, "binary_activations": False, "optimizer": "momentum"},
    "stream": {"schedule": "stream", "slices": 4, "optimizer": "sgd"},
    "frozen": {"schedule": "frozen", "slices": 3, "network": "fc:50x2"},
    "recompute": {"recompute": True, "network": "fc:40x3", "threads": 3},
    "batch larger than the data, one class": {"batch": 1000, "classes": 1},
    "moments in a byte": {"slices": 3, "moments": "int8"},
    "moments in two bytes": {"moments": "bfloat16", "optimizer": "momentum"},
    "batch of one, a budget": {"batch": 1, "epochs": 1, "ram": 500_000},
    "the least": {"share": 0, "batch": 50, "slices": 4, "width": 100, "network": "fc:90x2"},
    "little more than the least": {"share": 0.1, "batch": 50, "slices": 3, "hold": "1", "network": "fc:200x2"},
    "half of what is fastest": {"share": 0.5, "batch": 50, "slices": 4, "network": "fc:200,70,150"},
    "the least, stream": {"share": 0, "schedule": "stream", "slices": 3, "network": "fc:90x2"},
    "a tenth, stream": {"share": 0.1, "schedule": "stream", "slices": 2, "network": "fc:200x2"},
    "the least, frozen": {"share": 0, "schedule": "frozen", "slices": 3, "optimizer": "sgd"},
    "the least, one slice": {"share": 0, "slices": 1, "batch": 50},
    "the least, real weights": {"share": 0, "slices": 3, "real": True, "binary_weights": False, "batch": 50},
    "the least, real activations": {"share": 0, "slices": 3, "binary_activations": False, "batch": 50},
    "the least, nothing binary": {
        "share": 0,
        "slices": 2,
        "real": True,
        "binary_weights": False,
        "binary_activations": False,
        "batch": 50,
    },
    "the least, recompute": {"share": 0, "recompute": True, "network": "fc:40x3"},
    "the least, bp in micro-batches": {"share": 0, "algorithm": "bp", "binary_activations": False},
    "half, bp in slices": {
        "share": 0.5,
        "algorithm": "bp",
        "schedule": "slice",
        "binary_activations": False,
        "binary_weights": False,
    },
    "the least, drtp in micro-batches": {"share": 0, "algorithm": "drtp", "binary_activations": False},
    "the least, pepita in micro-batches": {"share": 0, "algorithm": "pepita", "binary_activations": False},
}


@pytest.mark.parametrize("name", RUNS)
def test_the_paper_and_the_named_differences_add_up_to_the_byte(tmp_path, name):
    result = trained(tmp_path / "run", **RUNS[name])
    audited = report.audit(tmp_path / "run")
    assert (audited["ok"], audited["problems"]) == (True, [])
    assert audited["arena"] == {k: v for k, v in result["arena"].items() if k != "phases"}
    recipe = Recipe.from_json(json.dumps(result["recipe"]))
    toggles = {
        "binary_weights": recipe.binary_weights,
        "binary_activations": recipe.binary_activations,
        "slices": recipe.slices,
    }
    widths = [shape.outputs for shape in record.read(tmp_path / "run").shapes]
    side_by_side = report.by_step(audited["paper"])
    for number, (step, found) in enumerate(audited["paper"].items()):
        planned = result["arena"]["phases"][step]["planned_bytes"]
        assert planned == found["planned_bytes"] == found["accounted_bytes"]
        assert found["paper_bytes"] + sum(row["difference_bytes"] for row in found["rows"]) == planned
        assert found["paper_bytes"] + sum(differences[number] for _, differences in side_by_side) == planned
        assert all(row["bytes"] - row["paper_bytes"] == row["difference_bytes"] for row in found["rows"])
        assert not [row for row in found["rows"] if row["what"].startswith("region") or "{" in row["what"]]
        counted = paper.fully_connected(recipe.algorithm, widths if len(widths) > 1 else [1, *widths], **toggles)[step]
        assert not set(counted) & {row["what"] for row in found["rows"]}  # nothing is left with the paper's name only
        if len(widths) > 1:
            assert found["paper_bytes"] == sum(counted.values())
    peak = audited["peak"]
    assert sum(region["bytes"] for region in peak["regions"]) + peak["between_bytes"] == peak["planned_bytes"]
    assert peak["between_bytes"] >= 0
    assert peak["planned_bytes"] == result["arena"]["planned_bytes"]


def test_what_the_differences_are(tmp_path):
    """By hand, for a layer of 40 x 40 that is cut into 2 x 2 slices."""
    trained(tmp_path / "run", width=10, network="fc:40x2", threads=1)
    rows = {row["what"]: row["difference_bytes"] for row in report.audit(tmp_path / "run")["paper"]["update"]["rows"]}
    assert rows["optimizer's moments of the slice's weights"] == 2 * 4 * 20 * 20
    assert rows["weights of the slice in training, always"] == 0  # the paper counts them in this step
    assert rows["weight gradient: in runs, never stored whole"] == 4 * 20 - 4 * 20 * 20
    assert rows["signs of all weights, always"] == 8 * 5 * 8  # five panels of one word for each of eight neurons
    assert rows["fixed projection"] == 4 * 4 * 40
    assert rows["inputs: a batch of 20, not one sample"] == 20 * 8
    assert rows["all biases, float32, always"] == 4 * 40 - 4 * 20
    assert rows["logits, errors and scores of the batch"] == 4 * 4 * 20


@pytest.mark.parametrize("moments, nbytes", [("bfloat16", 2 * 20 * 20), ("int8", 20 * (20 + 1))])
def test_what_the_moments_take(tmp_path, moments, nbytes):
    """Of a slice of 20 x 20 weights; a byte each, and one for each row's only block."""
    trained(tmp_path / "run", width=10, network="fc:40x2", threads=1, moments=moments)
    rows = {row["what"]: row["difference_bytes"] for row in report.audit(tmp_path / "run")["paper"]["update"]["rows"]}
    assert rows["optimizer's moments of the slice's weights"] == 2 * nbytes


def test_what_the_differences_are_where_everything_comes_tile_by_tile(tmp_path):
    """The same layer, of whose batch 16 samples are held at a time, of 8 neurons and of 4 rows of the slice."""
    tiling = Tiling(16, neurons=8, rows=4, stream_weights=True, stream_slice=True, regenerate=True, gather=True)
    trained(tmp_path / "run", width=2, network="fc:40x2", threads=1, batch=40, tilings=[tiling, tiling])
    steps = report.audit(tmp_path / "run")["paper"]
    assert [found["layer"] for found in steps.values()] == [2, 2, 2]
    forward, gradient, update = (
        {row["what"]: row["difference_bytes"] for row in found["rows"]} for found in steps.values()
    )
    signs, projection = "packed signs of 8 neurons at a time", "fixed projection, regenerated for 8 neurons at a time"
    weights, moments = (what + " of 4 rows of the slice at a time" for what in ("weights", "optimizer's moments"))
    columns = "inputs: the columns that train, kept for the batch"
    assert forward[signs] == 64 - 40 * 40 / 8  # a panel of one word for each of eight neurons
    assert update[signs] == 64
    assert update[weights] == 4 * 4 * 20 - 4 * 20 * 20
    assert update[moments] == 2 * 4 * 4 * 20
    assert forward[projection] == update[projection] == 4 * 8 * 4
    assert forward["inputs: 16 samples at a time, not one sample"] == 16 * 8 - 40 / 8
    assert gradient[columns] == 40 * 8 - 40 / 8  # a word of each sample of the batch
    assert forward[columns] == update[columns] == 40 * 8
    assert forward["outputs: z of 8 neurons at a time, for 16 samples"] == 4 * 8 * 16 - 40 / 8
    assert forward["logits, errors and scores of the batch"] == 4 * 4 * 40
    assert not {signs, weights, moments, projection} & set(gradient)
    assert not {weights, moments} & set(forward)


def test_what_the_differences_are_where_gradients_are_added_up(tmp_path):
    trained(tmp_path / "run", algorithm="bp", binary_activations=False, share=0)
    step = report.audit(tmp_path / "run")["paper"]["update"]
    rows = {row["what"]: row["difference_bytes"] for row in step["rows"]}
    weights = 20 * 40 + 40 * 40 + 40 * 4
    assert rows["weight gradients, added up over micro-batches"] == 4 * weights - 4 * 40 * 40
    assert rows["bias gradients, added up over micro-batches"] == 4 * (40 + 40 + 4)
    assert rows["inputs: one sample at a time"] == 20  # bytes of pixels; the paper counts none for BP


def test_a_region_nobody_knows_is_named_too(run):
    read = record.read(run)
    extra = record.Region("new", (10,), "float32", ("forward",))
    plans = [record.Plan((*plan.regions, extra), {**plan.offsets, "new": plan.nbytes}) for plan in read.plans]
    step = report.compare(record.Record(**{**vars(read), "plans": plans}))["forward"]
    assert {"what": "region new", "paper_bytes": 0, "bytes": 40, "difference_bytes": 40} in step["rows"]


# Disagreements


def altered(change):
    """A copy of audit.json with one thing changed."""

    def write(run, directory):
        directory.mkdir()
        content = json.loads((run / "audit.json").read_text())
        change(content)
        (directory / "audit.json").write_text(json.dumps(content))
        (directory / "recipe.json").write_text((run / "recipe.json").read_text())
        return directory

    return write


def add(content, *path, value=1):
    *where, last = path
    for key in where:
        content = content[key]
    content[last] += value


TAMPERED = {
    "the watermark": (lambda c: add(c, "arena", "watermark_bytes"), "watermark"),
    "the planned bytes": (lambda c: add(c, "arena", "planned_bytes", value=-64), "planned"),
    "a layer's watermark": (lambda c: add(c, "layers", 0, "watermark_bytes", value=-1), "layer 1: planned"),
    "a layer's accounted bytes": (lambda c: add(c, "layers", 1, "accounted_bytes"), "layer 2: planned"),
    "a phase": (lambda c: add(c, "arena", "phases", "forward", "accounted_bytes"), "the run: forward"),
    "a layer's phase": (lambda c: add(c, "layers", 1, "phases", "update", "planned_bytes"), "layer 2: update"),
    "all of a layer": (
        lambda c: [add(c, "layers", 0, f"{k}_bytes", value=-9) for k in ("planned", "accounted", "watermark")],
        "layer 1: planned",
    ),
    "an offset": (lambda c: add(c, "layers", 2, "regions", 0, "offset", value=64), "share bytes while both live"),
    "the budget": (lambda c: c["arena"].update(budget_bytes=1000), "budget"),
    "a finding": (lambda c: c["findings"].append("layer 1: 1 of 8 bytes of region z were never written"), "region z"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_does_not_agree_is_said(run, tmp_path, name):
    change, says = TAMPERED[name]
    audited = report.audit(altered(change)(run, tmp_path / "run"))
    assert audited["ok"] is False
    assert any(says in problem for problem in audited["problems"]), audited["problems"]


DAMAGED = {
    "an image of words": lambda c: c.update(image=[1, "cnn", 8]),
    "an image of two numbers": lambda c: c.update(image=[8, 8]),
    "no layers": lambda c: c.update(layers=[]),
    "a layer too few": lambda c: c["layers"].pop(),
    "no arena": lambda c: c.pop("arena"),
    "no number": lambda c: c["arena"].update(watermark_bytes=None),
    "another phase": lambda c: c["arena"]["phases"].update(dream=c["arena"]["phases"].pop("forward")),
    "another shape": lambda c: add(c, "layers", 0, "regions", 0, "nbytes"),
    "another recipe": lambda c: c["recipe"].update(network="fc:0"),
    "no region z": lambda c: [
        layer.update(regions=[region for region in layer["regions"] if region["name"] != "z"]) for layer in c["layers"]
    ],
    "a region z without a shape": lambda c: [
        region.update(shape=[], nbytes=np.dtype(region["dtype"]).itemsize)
        for layer in c["layers"]
        for region in layer["regions"]
        if region["name"] == "z"
    ],
    "another way to cut": lambda c: c["layers"][1]["tiling"].update(columns=3),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_refused(run, tmp_path, name):
    with pytest.raises(CheckFailed, match="is not the record of a run"):
        report.audit(altered(DAMAGED[name])(run, tmp_path / "run"))


def test_a_truncated_record_is_refused_and_a_missing_one_explained(run, tmp_path):
    with pytest.raises(BadRequest, match="when it finishes"):
        report.audit(tmp_path)
    (tmp_path / "audit.json").write_text((run / "audit.json").read_text()[:1000])
    with pytest.raises(CheckFailed, match="is not the record of a run"):
        report.audit(tmp_path)


# Evidence from outside


def test_evidence_from_a_fresh_process(run):
    audited = report.audit(run, evidence=True)
    outside = audited["evidence"]
    assert (audited["ok"], audited["problems"], outside["ok"]) == (True, [], True)
    assert outside["steps"] == 2 * 2 * 3  # layers 2 and 3 are alike: one of them; two epochs of three batches
    assert outside["numba"]["outstanding_last"] <= outside["numba"]["outstanding_first"]
    assert outside["probe"]["findings"] == [] and outside["model"]["same"]
    if sys.platform == "linux":
        rss = outside["rss"]
        assert rss["measured"] and rss["arena_bytes"] == audited["arena"]["planned_bytes"]
        assert rss["growth_bytes"] <= rss["arena_bytes"] + 2 * 2**20


CUT = {
    "few of many slices": {"slices": 7, "batch": 10, "width": 150, "network": "fc:150x2", "share": 0.3},
    "all slices": {"slices": 3, "batch": 20, "hold": "1", "network": "fc:90x2", "epochs": 5, "share": 0.1},
    "micro-batches": {"slices": 4, "batch": 40, "network": "fc:70x2", "share": 0},
    "micro-batches of a network": {"algorithm": "bp", "binary_activations": False, "share": 0},
    "fewer samples than a batch": {"batch": 1000, "share": 0},
    "auto, many slices": {"slices": 9, "width": 150, "network": "fc:150x2", "epochs": 40, "share": 0.2},
    "visits": {"slices": 5, "visits": 4, "width": 150, "network": "fc:150x2", "epochs": 5, "share": 0.2},
    "visits in fewer steps than are usual": {"slices": 3, "visits": 2, "epochs": 1, "width": 150},
    "moments in a byte": {"slices": 4, "moments": "int8", "width": 150, "network": "fc:150x2", "share": 0.1},
}


@pytest.mark.parametrize("name", CUT)
def test_the_evidence_is_of_an_arena_cut_as_the_run_cut_it(tmp_path, name):
    """Which way of cutting costs least depends on the number of steps: the short training may not choose again."""
    trained(tmp_path / "run", audit=False, **CUT[name])
    assert evidence.gather(tmp_path / "run")["problems"] == []


def test_the_widest_slice_is_probed_with_a_full_batch(tmp_path):
    """Its only turn comes with the last batch, which is not full."""
    cut = [Tiling(20, gather=True)] * 2
    result = trained(tmp_path / "run", network="fc:70x2", slices=3, hold="1", epochs=1, batch=20, tilings=cut)
    assert result["findings"] == []


def test_a_record_that_does_not_say_how_it_was_cut(tmp_path):
    """They were written when a hold was an epoch, unless it was said otherwise."""
    trained(tmp_path / "run", slices=3, hold="1epoch", audit=False)

    def older(content):
        del content["samples"]
        for layer in content["layers"]:
            del layer["tiling"]

    directory = altered(older)(tmp_path / "run", tmp_path / "older")
    assert record.read(directory).tilings is None
    assert record.read(directory).batch == 20
    assert evidence.gather(directory)["problems"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is measured through /proc")
def test_the_growth_of_resident_memory_shows_the_arena(run, tmp_path):
    """A large arena must be seen from outside, or the measurement would say nothing."""
    result = trained(tmp_path / "run", network="fc:1200x2", schedule="frozen", audit=False, epochs=1)
    arena = result["arena"]["planned_bytes"]
    assert arena > 16 * 2**20
    outside = evidence.gather(tmp_path / "run")
    assert outside["ok"] and outside["rss"]["measured"]
    assert arena <= outside["rss"]["growth_bytes"] <= arena + 2 * 2**20


LEAK = """
import os
os.environ["NUMBA_NRT_STATS"] = "1"
import json, sys
import numpy as np
from tinyfoa_np.reports import evidence, record

original, kept = evidence.trained, []

def leaking(*arguments, **options):
    from numba import njit
    from tinyfoa_np.rules.tinyfoa import Layer
    make, forward = njit(lambda: np.ones(2**15)), Layer.forward
    def leak(self, *arguments, **options):
        kept.append(make())
        return forward(self, *arguments, **options)
    Layer.forward = leak
    try:
        return original(*arguments, **options)
    finally:
        Layer.forward = forward

evidence.trained = leaking
print(json.dumps(evidence.watch(record.read(sys.argv[1]))))
"""


def test_a_leak_is_found(run):
    """Every forward pass keeps 256 KiB that a compiled function has allocated."""
    done = subprocess.run([sys.executable, "-c", LEAK, str(run)], capture_output=True, text=True, check=True)
    outside = json.loads(done.stdout)
    assert outside["ok"] is False
    assert any("numba holds" in problem for problem in outside["problems"])
    if sys.platform == "linux":
        assert any("resident memory grew" in problem for problem in outside["problems"])


def test_an_arena_of_another_size_is_found(run, tmp_path):
    def smaller(content):
        for entry in (content["arena"], *content["layers"]):
            for what in ("planned", "accounted", "watermark"):
                entry[f"{what}_bytes"] -= 64

    audited = report.audit(altered(smaller)(run, tmp_path / "run"), evidence=True)
    assert any("in a fresh process: the arena" in problem for problem in audited["problems"])


def test_evidence_says_what_is_wrong_in_one_line(tmp_path):
    with pytest.raises(CheckFailed, match="code 2: .*has no audit.json"):
        evidence.gather(tmp_path)
    usage = subprocess.run([sys.executable, "-m", evidence.__name__], capture_output=True, text=True, check=False)
    assert usage.returncode == 2 and usage.stderr.startswith("usage:")


# The command


@pytest.fixture
def tinyfoa(capfd):
    """Runs ``tinyfoa audit ...``; returns exit code, standard output, standard error."""
    main = pytest.importorskip("tinyfoa_cli.main", reason="the command line is not installed: run make test").main

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["audit", *map(str, arguments)])
        return ended.value.code, *capfd.readouterr()

    return call


def test_the_verdict_comes_first_then_phases_peak_paper_and_evidence(tinyfoa, run):
    code, out, err = tinyfoa(run)
    assert (code, err) == (0, "")
    assert out.startswith("planned = accounted for = watermark: ")
    marks = ["by phase", "at the peak", "projection", "the paper's formula", "this run, planned", "outside"]
    places = [out.index(mark) for mark in marks]
    assert places == sorted(places)
    assert max(map(len, out.splitlines())) <= 100
    code, out, err = tinyfoa(run, "--quick")
    assert (code, err) == (0, "") and out.splitlines()[-1] == "outside  not looked at"


def test_a_disagreement_ends_with_1(tinyfoa, run, tmp_path):
    directory = altered(TAMPERED["the watermark"][0])(run, tmp_path / "run")
    code, out, err = tinyfoa(directory, "--quick")
    assert code == 1 and out.startswith("the measurements disagree:")
    assert "watermark" in err and err.count("\n") == 1
    code, out, err = tinyfoa(directory, "--quick", "--json")
    assert code == 1 and json.loads(out)["ok"] is False and out.count("\n") == 1
    assert tinyfoa(altered(TAMPERED["a finding"][0])(run, tmp_path / "other"), "--quick")[0] == 1
