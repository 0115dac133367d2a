"""The paper's tables as the package has them."""

from importlib import resources
from pathlib import Path

import pytest

from tinyfoa_np.papers import tinyfoa_memory as paper
from tinyfoa_np.papers import tinyfoa_tables as tables

PAPER = Path(__file__).resolve().parents[1] / "paper"


@pytest.mark.parametrize("table", tables.TABLES)
def test_the_figures_are_the_papers(table):
    source = PAPER / {"table3": "table3_lc_mnist.csv"}.get(table, f"{table}.csv")
    packaged = resources.files("tinyfoa_np.papers").joinpath(f"{table}.csv").read_text()
    assert packaged.splitlines() == source.read_text().splitlines()


def test_rows():
    first, second = tables.rows("table1"), tables.rows("table2")
    names = [row.name for row in first + second]
    assert (len(first), len(second)) == (17, 7) and len(set(names)) == 24
    assert len({row.system for row in first + second}) == 24
    by_name = {row.name: row for row in first + second}
    assert by_name["tinyfoa"].errors["mnist"] == (2.10, 0.09) and by_name["tinyfoa"].setting == "vertical"
    assert by_name["bp+bw+ba+v"].megabytes == {"forward": 1.53, "gradient": 12.41, "update": 24.03}
    for name, expected in {
        "tinyfoa": ("tinyfoa", True, True, True),
        "tinyfoa-v-ba-bw": ("tinyfoa", False, False, False),
        "tinyfoa-bw-ba": ("tinyfoa", False, False, True),
        "drtp": ("drtp", False, False, False),
        "ff+ba": ("ff", False, True, False),
        "bp+v": ("bp", False, False, True),
    }.items():
        assert by_name[name].system == tables.System(*expected)


def test_rows_of_locally_connected_networks():
    rows = tables.rows("table3")
    assert [row.name for row in rows][:4] == ["tinyfoa-v-ba-bw", "tinyfoa-v-ba", "tinyfoa-v", "tinyfoa"]
    assert len(rows) == 8 and {row.system.algorithm for row in rows} == {"tinyfoa", "bp"}
    assert rows[3].errors == {"mnist": (2.86, 0.10)} and rows[3].comp is None
    for row in rows:
        toggles = {"binary_weights": row.system.binary_weights, "binary_activations": row.system.binary_activations}
        figure = paper.locally_connected(
            row.system.algorithm, (16, 32, 64, 64), **toggles, slices=2 if row.system.vertical else 1
        )
        assert [paper.megabytes(figure[step]) for step in paper.STEPS] == pytest.approx(
            list(row.megabytes.values()), abs=0.01
        )


@pytest.mark.parametrize("row", tables.rows("table1") + tables.rows("table2"), ids=lambda row: row.name)
def test_the_closed_forms_are_those_of_the_figures(row):
    system = row.system
    toggles = {"binary_weights": system.binary_weights, "binary_activations": system.binary_activations}
    widths = (2000,) * (3 if system.algorithm == "pepita" else 4)
    figure = paper.fully_connected(system.algorithm, widths, **toggles, slices=2 if system.vertical else 1)
    assert [paper.megabytes(figure[step]) for step in paper.STEPS] == pytest.approx(
        list(row.megabytes.values()), abs=0.03
    )
    assert paper.comp((2000,) * 4, **toggles) == row.comp
