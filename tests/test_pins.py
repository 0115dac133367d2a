"""What must not move: models to the bit, plans to the byte, traffic with flash, answers.

A few of the trainings run always, all of them where TINYFOA_PINS is ``all``.
"""

import json
import os

import pins
import pytest

KNOWN = json.loads(pins.PINS.read_text())
CASES = pins.cases()
CHOSEN = CASES if os.environ.get("TINYFOA_PINS") == "all" else pins.FAST

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.mark.parametrize("name", CHOSEN)
def test_pinned(name):
    for case, pin in pins.measured(name, *CASES[name]).items():
        assert pin == KNOWN[case], case


def test_every_case_is_pinned():
    assert set(KNOWN) == {f"{name}@{budget}" for name in CASES for budget in ("fastest", "least")}
