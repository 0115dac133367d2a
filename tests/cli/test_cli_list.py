"""``tinyfoa list``, and the page that has all rules in one table."""

import json
import re
from pathlib import Path

import pytest

from tinyfoa_np import catalogue, data
from tinyfoa_np.architectures import NAMES
from tinyfoa_np.recipe import OPTIMIZERS
from tinyfoa_np.reports.boards import boards

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rules.md"


@pytest.mark.parametrize(
    "what, names",
    [
        ("rules", catalogue.names()),
        ("networks", ("fc:500x2", "lc:16,32", "conv:32k5,p2,64", *NAMES)),
        ("optimizers", OPTIMIZERS),
        ("data", data.names()),
        ("boards", tuple(boards())),
    ],
)
def test_everything_has_its_name_and_fits_the_terminal(run, what, names):
    code, out, _ = run("list", what, "--json")
    rows = json.loads(out)
    assert code == 0 and [row["name"] for row in rows] == list(names)
    code, out, _ = run("list", what)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert all(re.search(rf"^ {re.escape(name)} ", out, re.M) for name in names)


def test_what_cannot_be_listed(run):
    code, out, err = run("list", "algorithms")
    assert code == 2 and not out and "rules" in err


def test_the_page_of_rules_has_all_of_them():
    rows = re.findall(r"^\| \[(\w+)\]\(algorithms/", PAGE.read_text(), re.M)
    assert sorted(rows) == sorted(entry.name for entry in catalogue._OWN)
