"""The bytes that the README and docs/ give are those that ``tinyfoa plan`` gives today."""

import json
import re
from pathlib import Path

import pytest

from tinyfoa_np import data
from tinyfoa_np.papers import presets
from tinyfoa_np.papers import tinyfoa_tables as tables
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.fit import Layout

HOUSE = Path(__file__).resolve().parents[1]
ROWS = {row.name: row for table in ("table1", "table2") for row in tables.rows(table)}
GIFF = "--algorithm giff --loss logistic --negatives random --answer sum --no-rms"  # the authors' loss
#: what a page says, with the places of figures, and the options of plan
SAID = (
    ("README.md", "| 12.68 | 4.3 |", "{planned:.2f} | {written:.1f}", "mnist --schedule slice"),
    ("README.md", "| 12.70 | 7,340 |", "{planned:.2f} | {written:,.0f}", "mnist --schedule stream"),
    ("README.md", "| 48.71 | 16.6 |", "{planned:.2f} | {written:.1f}", "mnist --schedule frozen"),
    ("README.md", "take 852,228 bytes without a budget", "{bytes:,}", "mnist --slices 16"),
    ("README.md", "824.3 kB: 824,260 bytes (planned", "{bytes:,}", "digits"),
    ("docs/tutorial.md", "152,900 of the 245,760 bytes", "{bytes:,} of the {budget:,}", "tutorial --board nrf52840"),
    ("docs/tutorial.md", "writes 231.6 MB to flash", "{written_mb:.1f}", "tutorial --lean --moments int8 --ram 16KiB"),
    ("docs/tutorial.md", "instead of 2.2 MB", "{written_mb:.1f}", "tutorial --lean --moments int8"),
    ("docs/memory.md", "| 121,220 | 2.4 | 13.5 | 4.8 |", "{bytes:,}", "mnist --slices 16 --epochs 5 --ram 128KiB"),
    ("docs/memory.md", "| 64,772 | 11 | 21.7 | 4.8 |", "{bytes:,}", "mnist --slices 16 --epochs 5 --ram 64KiB"),
    ("docs/memory.md", "is 45,124 bytes, and", "{least:,}", "mnist --slices 16"),
    ("docs/memory.md", "20,292 with `--batch 10`", "{least:,}", "mnist --slices 16 --batch 10"),
    ("docs/memory.md", "850,500 bytes without", "{bytes:,}", "mnist --slices 16 --schedule slice"),
    ("docs/memory.md", "4,420 bytes. For", "{least:,}", "mnist --network fc:200 --slices 8 --batch 1"),
    ("docs/memory.md", "| `bfloat16` | 8,682,180 |", "{bytes:,}", "mnist --moments bfloat16"),
    ("docs/memory.md", "| `int8` | 6,746,180 |", "{bytes:,}", "mnist --moments int8"),
    ("docs/schedules.md", "2.30 | 48.71 |", "{planned:.2f}", "mnist --slices 16 --schedule frozen"),
    ("docs/schedules.md", "2.98** | 3.67 |", "{planned:.2f}", "mnist --slices 4"),
    ("docs/schedules.md", "3.21** | 1.42 |", "{planned:.2f}", "mnist --slices 8"),
    (
        "docs/networks.md",
        "2,963,080 bytes, and at least 202,242",
        "{bytes:,} bytes, and at least {least:,}",
        f"mnist --network cnn {GIFF} --batch 100 --optimizer adam",
    ),
    (
        "docs/networks.md",
        "862,145 | 54,611,777 |",
        "{bytes:,}",
        f"cifar10 --network resnet8 {GIFF} --batch 100 --optimizer adam",
    ),
    (
        "docs/networks.md",
        "1,098,498 | 64,574,664 |",
        "{bytes:,}",
        "cifar10 --network resnet8 --algorithm bp --batch 100",
    ),
    ("docs/local.md", "26.23 | 26.51 | 1.53 |", "{least_mb:.2f}", "local --lc-connect depthwise"),
)
TUTORIAL = "digits --network fc:200x2 --epochs 20 --batch 10 --lr 0.002"
LOCAL = "mnist --network lc:16,32,64,64 --slices 2 --threads 2"


@pytest.mark.parametrize(("page", "says", "figures", "options"), SAID, ids=lambda value: str(value)[:40])
def test_figures_are_those_of_the_plan(run, page, says, figures, options):
    options = options.replace("tutorial", TUTORIAL).replace("local", LOCAL, 1) if options[:3] != "mni" else options
    code, out, err = run("plan", *options.split(), "--json")
    assert code in (0, 1) and err == "", err
    ram, flash = (json.loads(out)[part] for part in ("ram", "flash"))
    written = flash["written_bytes"]
    figures = figures.format(
        bytes=ram["planned_bytes"],
        planned=ram["planned_bytes"] / 1e6,
        least=ram["least_bytes"],
        least_mb=ram["least_bytes"] / 1e6,
        budget=ram["budget_bytes"] or 0,
        written=written / 1e9,
        written_mb=written / 1e6,
    )
    assert figures in says and says in re.sub(r"\s+", " ", (HOUSE / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ROWS)
def test_results_have_the_arena_of_each_row(name):
    """The figures after the slash, and the arena, of the five tables of docs/results.md."""
    system = ROWS[name].system
    recipe = Recipe(
        **presets.paper(
            system.algorithm,
            "mnist",
            binary_weights=system.binary_weights,
            binary_activations=system.binary_activations,
            vertical=system.vertical,
        )
    ).validated()
    plans = [one.plan for one in Layout(recipe, data.shape("mnist"), 1).fit(None)]
    expected = [max(plan.phase_bytes(phase) for plan in plans) for phase in ("forward", "gradient", "update")]
    expected.append(max(plan.nbytes for plan in plans))
    page = (HOUSE / "docs" / "results.md").read_text(encoding="utf-8")
    [row] = [
        line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith(f"| {name} | ") and "/" in line
    ]
    assert [cell.split("/")[-1].strip() for cell in row[3:]] == [f"{value / 1e6:.2f}" for value in expected]


@pytest.mark.parametrize("algorithm", ["biofo", "monoforward"])
def test_layers_that_train_in_turn_share_ram_if_fully_connected(run, algorithm):
    """As README.md and docs/rules.md say: through convolutions, all weights and moments are in RAM."""
    for network, whole in (("fc:40x3", False), ("conv:8,m2,8,m2,8", True)):
        code, out, _ = run("plan", "mnist", "--algorithm", algorithm, "--network", network, "--json")
        assert code == 0 and json.loads(out)["whole_network"] is whole
