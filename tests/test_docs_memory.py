"""The table of docs/memory.md with everything a device would need is what the plans and an audited run say."""

import sys
from pathlib import Path

import pytest

from tinyfoa_np.run.examination import ALLOWANCE

HOUSE = Path(__file__).resolve().parents[1]
sys.path.append(str(HOUSE / "benchmarks"))
import beside  # noqa: E402


@pytest.fixture(scope="module")
def table():
    """The rows of the table as lists of cells, by training."""
    lines = (HOUSE / "docs" / "memory.md").read_text(encoding="utf-8").splitlines()
    first = lines.index(f"| {' | '.join(beside.HEAD)} |") + 2
    rows = [line.strip("| ").split(" | ") for line in lines[first : lines.index("", first)]]
    return {name: [row for row in rows if row[0] == name] for name in dict.fromkeys(row[0] for row in rows)}


def test_the_table_has_five_trainings(table):
    assert list(table) == list(beside.TRAININGS)
    assert all(len(rows) == len(beside.SHARES) or "bp" in name for name, rows in table.items())


@pytest.mark.parametrize("name", beside.TRAININGS)
def test_its_plans_are_those_of_today(table, name):
    planned = list(beside.rows(name))
    traced = [[int(cell.replace(",", "")) for cell in row[3:6]] for row in table[name]]
    assert table[name] == [row.cells(*both) for row, both in zip(planned, traced, strict=True)]
    assert all(0 < largest <= peak <= ALLOWANCE for peak, largest, _ in traced)


def test_its_allocations_are_measured_again_within_a_quarter(table):
    name = next(iter(beside.TRAININGS))
    smallest = list(beside.rows(name))[-1]
    peak, *_ = beside.measured(name, smallest.budget)
    assert abs(peak / int(table[name][-1][3].replace(",", "")) - 1) < 0.25
