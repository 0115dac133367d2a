"""Pictures of runs: what is drawn of a record, that every word can be read, and files that are whole or not there."""

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot): make test installs it")

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from plot_tools import assert_legible, said

from tinyfoa_np import catalogue, plots
from tinyfoa_np.data.dataset import shaped
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.network import layer_shapes
from tinyfoa_np.plots import canvas, memory
from tinyfoa_np.ram.packing import PHASES, Region, pack
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reports import audit as report
from tinyfoa_np.reports import record
from tinyfoa_np.reports.record import Measured, Record
from tinyfoa_np.rules.fit import Layout


def measured(*plans):
    """What a run measures whose arena is as it was planned."""
    whole = max(plan.nbytes for plan in plans)
    phases = {phase: (max(plan.phase_bytes(phase) for plan in plans),) * 2 for phase in PHASES}
    return Measured(whole, whole, whole, phases)


def recorded(*, width=20, classes=4, samples=300, dtype="uint8", ram=None, least=False, **options):
    """The record that a run would leave, without the run; ``least``: with the smallest budget there is."""
    recipe = Recipe(**{"network": "fc:40x2", "epochs": 2, "batch": 20, **options}).validated()
    layout = Layout(recipe, shaped("made up", samples, 20, width, dtype, classes), threads=2)
    ram = layout.least() if least else ram
    chosen = layout.fit(ram)
    plans = [one.plan for one in chosen]
    return Record(
        recipe,
        layer_shapes(recipe.network, width),
        classes,
        samples,
        2,
        ram,
        measured(*plans),
        [measured(plan) for plan in plans],
        plans,
        [one.tiling for one in chosen],
        [False] * len(plans),
        [],
    )


RECORDS = {
    "default": {},
    "as in the paper": {"width": 784, "classes": 10, "network": "fc:2000x4", "batch": 100, "samples": 60_000},
    "in 128 KiB": {
        "width": 784,
        "classes": 10,
        "network": "fc:2000x4",
        "batch": 100,
        "samples": 60_000,
        "slices": 16,
        "ram": 2**17,
    },
    "the least": {"least": True, "slices": 4, "network": "fc:200x2", "batch": 100},
    "stream, the least": {"least": True, "schedule": "stream", "slices": 3},
    "frozen, far below its budget": {"schedule": "frozen", "ram": 10**9},
    "recompute, nothing binary": {
        "recompute": True,
        "binary_weights": False,
        "binary_activations": False,
        "dtype": "float32",
        "network": "fc:40x3",
    },
    "many layers": {"network": "fc:" + ",".join(map(str, range(10, 40))), "schedule": "stream"},
    "moments in a byte": {"moments": "int8", "slices": 4, "network": "fc:300x2", "visits": 3, "least": True},
    "tiny": {"network": "fc:2", "slices": 1, "width": 1, "classes": 1, "batch": 1, "optimizer": "sgd"},
    "bp, many layers": {"algorithm": "bp", "network": "fc:50x12"},
    "bp, micro-batches": {"algorithm": "bp", "binary_activations": False, "least": True},
    "drtp": {"algorithm": "drtp"},
    "pepita": {"algorithm": "pepita", "binary_activations": False},
    "ff": {"algorithm": "ff", "batch": 100},
}


# What is drawn


@pytest.mark.parametrize("name", RECORDS)
def test_every_word_of_every_layer_can_be_read(name):
    run = recorded(**RECORDS[name])
    for number in {0, run.largest, len(run.plans) - 1}:
        assert_legible(memory.drawn(run, number))


@st.composite
def plans(draw):
    """Regions of any size, name and lifetime."""
    names = st.one_of(
        st.sampled_from(["z", "layer12.bias_moment1", "inputs", "classifier3.slice", "below.even", "weights"]),
        st.text("abgM_.0 W", min_size=1, max_size=40),
    )
    regions = draw(
        st.lists(
            st.builds(
                Region,
                names,
                st.tuples(st.integers(1, 10**6)),
                st.sampled_from(["uint8", "float64"]),
                st.lists(st.sampled_from(PHASES), min_size=1, unique=True).map(tuple),
            ),
            max_size=40,
            unique_by=lambda region: region.name,
        )
    )
    # the record of a run has these
    return pack(
        [
            Region("inputs", (20, 3), "uint8"),
            Region("z", (4, 4), "float32"),
            *(region for region in regions if region.name not in ("inputs", "z")),
        ]
    )


@settings(max_examples=15)
@given(plans(), st.one_of(st.none(), st.integers(1, 10**8)))
def test_every_word_of_any_plan_can_be_read(plan, budget):
    run = recorded(network="fc:40")
    known = {"plans": [plan], "layers": [measured(plan)], "whole": measured(plan), "budget": budget}
    with canvas.style():
        assert_legible(memory.drawn(Record(**{**vars(run), **known}), 0))


@pytest.mark.parametrize("name", RECORDS)
def test_bands_cover_each_region_in_each_of_its_phases_once(name):
    for plan in recorded(**RECORDS[name]).plans:
        covered = Counter(
            (band.region.name, phase) for band in memory.bands(plan) for phase in memory.COLUMNS[band.first : band.last]
        )
        assert covered == Counter((region.name, phase) for region in plan.regions for phase in region.phases)
        for band in memory.bands(plan):  # none goes through the gap between a step and what is apart from it
            assert band.last <= len(memory.STEP) or band.first >= len(memory.STEP)
            assert band.offset == plan.offsets[band.region.name]


def test_columns_are_the_phases():
    assert sorted(memory.COLUMNS) == sorted(PHASES)


def test_a_band_is_drawn_where_its_region_lies():
    plan = pack(
        [
            Region("inputs", (20, 50), "uint8", ("load", "forward")),
            Region("z", (100, 20), "float32", ("forward",)),
            Region("outputs", (64,), "uint8", ("hand-over", "initialize")),
            Region("bias", (40,), "float32"),
        ]
    )
    run = recorded(network="fc:40")
    figure = memory.drawn(Record(**{**vars(run), "plans": [plan], "layers": [measured(plan)]}), 0)
    bands = [p for p in figure.axes[1].patches if isinstance(p, Rectangle) and p.get_fill()]
    drawn = {(*to_rgb(p.get_facecolor()), p.get_x(), p.get_width(), p.get_y(), p.get_height()) for p in bands}
    gap, end = 4 + memory.GAP, plan.offsets
    green, sky, blue = (to_rgb(colour) for colour in (canvas.GREEN, canvas.SKY, canvas.BLUE))
    assert drawn == {
        (*green, 0, 2, end["inputs"], 1000),
        (*sky, 1, 1, end["z"], 8000),
        (*sky, gap, 1, end["outputs"], 64),
        (*sky, gap + 2, 1, end["outputs"], 64),
        (*blue, 0, 4, end["bias"], 160),
        (*blue, gap, 3, end["bias"], 160),
    }


def test_names_stand_in_bands_that_have_room_and_in_the_legend_otherwise():
    run = recorded(**RECORDS["as in the paper"])
    words = said(memory.drawn(run, 1))
    assert "slice  4 MB" in words and "moment1  4 MB" in words
    listed = " ".join(words)
    for region in run.plans[1].regions:
        assert re.search(rf"\b{region.name}\b", listed), region.name


def test_regions_that_are_alike_are_counted():
    names = ["layer0.bias", "layer1.bias", "layer1.moment1", "h1", "active0", "active1", "dz_even"]
    assert memory.collected(names) == ["bias (2)", "layer1.moment1", "h1", "active (2)", "dz_even"]


@pytest.mark.parametrize("name", RECORDS)
def test_it_is_known_what_every_region_is(name):
    for plan in recorded(**RECORDS[name]).plans:
        assert not [region.name for region in plan.regions if memory.what(region.name) == memory.OTHER]
    assert memory.what("layer0.moment1_scale") == "optimizer state" and memory.what("new") == memory.OTHER


def test_colours_differ():
    colours = [memory.colour(of) for of in (*memory.WHAT, memory.OTHER)]
    assert len(set(colours)) == len(colours)
    assert len(set(memory.COLOURS.values())) == len(memory.COLOURS)


def test_the_peak_the_watermark_and_the_budget_are_told():
    run = recorded(least=True, slices=4, network="fc:200x2")
    plan = run.plans[run.largest]
    phase = max(PHASES, key=plan.phase_bytes)
    figure = memory.drawn(run, run.largest)
    words = said(figure)
    assert f"peak: {phase}, {plan.phase_bytes(phase):,} bytes" in words
    assert f"watermark {plan.nbytes:,} bytes" in words and f"budget {run.budget:,} bytes" in words
    lines = {tuple(line.get_ydata()) for line in figure.axes[1].lines}
    assert (plan.nbytes, plan.nbytes) in lines and (run.budget, run.budget) in lines
    [framed] = [p for p in figure.axes[1].patches if not p.get_fill()]
    assert framed.get_x() == memory._left(memory.COLUMNS.index(phase))
    assert "the packed weights" not in words and any("neurons at a time" in line for line in words)


def test_a_budget_far_above_is_told_but_does_not_press_the_picture_flat():
    run = recorded(ram=10**9)
    figure = memory.drawn(run, run.largest)
    assert "budget 1,000,000,000 bytes, far above" in said(figure)
    assert figure.axes[1].get_ylim()[1] < 1.1 * run.whole.planned


def test_the_title_is_the_recipe_in_words():
    title, below = said(memory.drawn(recorded(**RECORDS["in 128 KiB"]), 1))[:2]
    assert title == "TinyFoA on digits: fc:2000x4, 16 x 16 slices, schedule slice, batch 100, adam"
    assert below.startswith("RAM of layer 2 of 4, 2000 to 2000")
    assert said(memory.drawn(recorded(**RECORDS["moments in a byte"]), 0))[0].endswith("adam, moments int8")
    title, below = said(memory.drawn(recorded(algorithm="bp"), 0))[:2]
    assert title == "BP on digits: fc:40x2, batch 20, adam" and below.startswith("RAM of all layers: ")


def test_bars_and_the_papers_figures():
    run = recorded(**RECORDS["as in the paper"])
    axes = memory.drawn(run, run.largest).axes[2]
    layer = run.layers[run.largest]
    bars = [patch.get_width() for patch in axes.patches]
    both = [nbytes for phase in memory.COLUMNS for nbytes in layer.phases[phase]]
    assert bars == pytest.approx([n / 1e6 for n in (*both, layer.planned, layer.accounted, layer.watermark)])
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
    compared = report.compare(run)
    assert marks == [compared[step]["paper_bytes"] / 1e6 for step in ("forward", "gradient", "update")]
    assert [f"{mark:.2f}" for mark in marks] == ["0.50", "4.01", "8.00"]  # as printed in Table 1
    assert {"0.50", "4.01", "8.00"} <= {text.get_text() for text in axes.texts}


def test_the_papers_formula_is_named_where_there_is_one():
    for options, there in (({}, True), ({"algorithm": "dfa"}, False), ({"algorithm": "pepita_wm"}, False)):
        run = recorded(**options)
        said = {text.get_text() for axes in memory.drawn(run, 0).axes for text in axes.texts}
        assert bool(report.compare(run)) == there == ("the paper's formula" in said)


@pytest.mark.parametrize("entry", catalogue._OWN, ids=lambda entry: entry.name)
def test_every_region_has_its_colour(entry):
    for network, image in (("fc:20x2", None), ("conv:20,20", (1, 12, 12)), ("lc:4,6", (1, 12, 12))):
        kind = {"f": "fc", "c": "graph", "l": "lc"}[network[0]]
        if kind not in entry.homes or kind == "graph" and "conv" not in entry.graphs:
            continue
        recipe = Recipe(algorithm=entry.name, network=network, epochs=2).validated()
        layout = Layout(recipe, shaped("made up", 300, 20, 144, "uint8", 10, image=image), threads=2)
        names = {region.name for one in layout.fit(None) for region in one.plan.regions}
        assert not [name for name in names if memory.what(name) == memory.OTHER]


def test_sizes():
    assert [memory.size(n) for n in (0, 999, 1000, 25_600, 999_499, 12_000_000, 3 * 10**9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "25.6 kB",
        "999 kB",
        "12 MB",
        "3,000 MB",
    ]


def test_lines_are_cut_between_words():
    _, sheet = canvas.blank()
    lines = canvas.wrapped(sheet, ["some", "more", "words", "x" * 99], 120, ", ")
    assert lines == ["some, more,", "words,", "x" * 99]
    assert all(canvas.measured(sheet, line)[0] <= 130 for line in lines[:-1])
    assert canvas.wrapped(sheet, [], 100) == []


# Files


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """What looks like a run directory, and its record."""
    made = recorded(network="fc:40,30")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(record, "read", lambda run_dir: made)
    return tmp_path / "run"


def test_png_and_svg(run_dir, tmp_path):
    assert plots.draw(run_dir) == run_dir / "memory.png"
    assert (run_dir / "memory.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    svg = plots.draw(run_dir, "memory", tmp_path / "one.SVG", layer=2).read_text()
    assert svg.startswith("<?xml") and "RAM of layer 2 of 2, 40 to 30" in svg
    assert [path.name for path in run_dir.iterdir()] == ["memory.png"]


def test_the_picture_is_the_same_whatever_a_users_settings_are(run_dir, tmp_path):
    first = [plots.draw(run_dir, out=tmp_path / f"a.{kind}").read_bytes() for kind in ("png", "svg")]
    with matplotlib.rc_context({"font.size": 40, "axes.grid": True, "savefig.dpi": 30, "savefig.bbox": "tight"}):
        again = [plots.draw(run_dir, out=tmp_path / f"b.{kind}").read_bytes() for kind in ("png", "svg")]
    assert first == again


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"kind": "dreams"}, "one of memory"),
        ({"out": "memory.pdf"}, ".png or .svg"),
        ({"out": "memory"}, ".png or .svg"),
        ({"out": "nowhere/memory.png"}, "not a directory"),
        ({"out": "folder.svg"}, "give a file"),
        ({"layer": 0}, "its layers are 1 to 2"),
        ({"layer": 3}, "its layers are 1 to 2"),
    ],
)
def test_bad_requests_leave_nothing(run_dir, tmp_path, monkeypatch, request_, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(BadRequest, match=re.escape(says)):
        plots.draw(run_dir, **request_)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder.svg", "run"]


def test_a_layer_of_a_network_that_trains_as_a_whole_is_refused(run_dir, monkeypatch):
    made = recorded(algorithm="bp")
    monkeypatch.setattr(record, "read", lambda run_dir: made)
    with pytest.raises(BadRequest, match="bp trains all layers together"):
        plots.draw(run_dir, layer=2)


def test_unfinished_and_damaged_runs(tmp_path):
    with pytest.raises(BadRequest, match="when it finishes"):
        plots.draw(tmp_path)
    (tmp_path / "audit.json").write_text("{")
    with pytest.raises(CheckFailed, match="is not the record of a run"):
        plots.draw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_a_picture_that_cannot_be_written_is_not_there_at_all(run_dir, monkeypatch):
    def full(figure, file, kind):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(canvas, "save", full)
    with pytest.raises(OSError, match="No space"):
        plots.draw(run_dir)
    assert list(run_dir.iterdir()) == []


def test_no_window_is_ever_opened_and_nothing_is_imported_before_it_is_needed():
    code = (
        "import sys, tinyfoa_np.plots; early = 'matplotlib' in sys.modules or 'numpy' in sys.modules;"
        "from tinyfoa_np.plots import canvas; canvas.style().__enter__(); canvas.blank();"
        "print(early, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_phases_of_bands_are_in_order():
    assert all(a.last <= b.first or a.region != b.region for a, b in pairwise(memory.bands(recorded().plans[0])))
