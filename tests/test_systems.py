"""BP, DRTP, PEPITA and FF in the training loop, beside TinyFoA: their memory is what was planned, to the byte; the same
recipe gives the same bits; and they train as the plain NumPy reference does.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import random_twins
import reference_training
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import (
    CLASSES,
    arenas,
    digest,
    layout,
    made,
    metrics,
    no_waiting_for_the_disk,
    opened,
    outcome,
    recipe,
    run,
    seen,
    weights,
)

from tinyfoa_np.data import Split
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.plan import PHASES
from tinyfoa_np.recipe import VERTICAL
from tinyfoa_np.rundir import BEGUN
from tinyfoa_np.train import Diverged

assert no_waiting_for_the_disk  # a fixture: pytest finds it in this module
pytestmark = pytest.mark.filterwarnings("ignore:only .* slices will train")  # these runs are short

WHOLE = ("bp", "drtp", "pepita", "ff")
TOGGLES = list(product((True, False), repeat=2))
FORMS = {
    "tinyfoa": {"algorithm": "tinyfoa"},
    "bp": {"algorithm": "bp"},
    "bp_slice": {"algorithm": "bp", "schedule": "slice", "slices": 3, "hold": "1"},
    "bp_frozen": {"algorithm": "bp", "schedule": "frozen", "optimizer": "sgd"},
    "drtp": {"algorithm": "drtp"},
    "pepita": {"algorithm": "pepita"},
    "pepita_dropless": {"algorithm": "pepita", "dropout": 0.0, "optimizer": "adam"},
    "ff": {"algorithm": "ff"},
}


def of_form(form, toggles=(True, True), **options):
    named = dict(zip(("binary_weights", "binary_activations"), toggles))
    return recipe(**{**FORMS[form], **named, **options})


# Memory: planned = accounted = watermark


@pytest.mark.parametrize("kind", ["bytes", "real"])
@pytest.mark.parametrize("toggles", TOGGLES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_planned_is_accounted_is_watermark(tmp_path, form, toggles, kind):
    """Audited, then in exactly the bytes that were planned: the same model, and every byte accounted for."""
    which, dataset = of_form(form, toggles), made(kind)  # batches of 32, 32 and 6
    audited = run(tmp_path, which, dataset, audit=True, threads=2)
    assert audited["findings"] == []
    exact = run(tmp_path, which, dataset, ram=audited["arena"]["planned_bytes"], threads=2)
    assert exact["model_sha256"] == audited["model_sha256"] == digest(weights(exact["run_dir"], which))
    assert arenas(exact) == arenas(audited)
    assert len(arenas(exact)) == (2 if form == "tinyfoa" else 1)
    for planned, accounted, watermark in arenas(exact):
        assert planned == accounted == watermark > 0
    arena = exact["arena"]
    assert [arena[f"{word}_bytes"] for word in ("planned", "accounted", "watermark")] == list(max(arenas(exact)))
    assert list(arena["phases"]) == list(PHASES)
    for phase in arena["phases"].values():
        assert 0 < phase["planned_bytes"] == phase["accounted_bytes"] <= -(-arena["planned_bytes"] // 64) * 64
    for stage in json.loads((Path(exact["run_dir"]) / "audit.json").read_text())["layers"]:
        names = [region["name"] for region in stage["regions"]]
        assert len(set(names)) == len(names) and all(region["nbytes"] for region in stage["regions"])


@settings(max_examples=40)
@given(st.data())
def test_memory_of_any_shape(tmp_path_factory, data):
    """One sample, one class, one neuron, layers that grow, more threads than samples: all audited, all the same."""
    draw = data.draw
    algorithm = draw(st.sampled_from(WHOLE))
    schedule = draw(st.sampled_from(VERTICAL[algorithm]))
    side = 1 if schedule == "none" else draw(st.integers(2 if schedule == "frozen" else 1, 3))
    classes = draw(st.integers(2 if algorithm == "ff" else 1, 12))
    widths = draw(st.lists(st.integers(side, 140), min_size=1, max_size=3))
    inputs = draw(st.integers(max(side, classes if algorithm == "ff" else 1), 140))
    which = recipe(
        algorithm=algorithm, network="fc:" + ",".join(map(str, widths)), schedule=schedule, slices=side,
        hold=draw(st.none() | st.just("1")) if schedule in ("slice", "frozen") else None, epochs=draw(st.integers(1, 3)),
        batch=draw(st.integers(1, 70)), optimizer=draw(st.sampled_from([None, "adam", "momentum", "nesterov", "sgd"])),
        dropout=draw(st.sampled_from([None, 0.0, 0.5])) if algorithm == "pepita" else None,
        lr_schedule=draw(st.sampled_from(["constant", "drop:1"])), shuffle=draw(st.none() | st.booleans()),
        binary_weights=draw(st.booleans()), binary_activations=draw(st.booleans()),
        limit=draw(st.none() | st.integers(1, 90)),
    )  # fmt: skip
    kind, samples, tests = draw(st.sampled_from(["bytes", "real"])), draw(st.integers(1, 90)), draw(st.integers(1, 40))
    dataset = made(kind, samples, tests, inputs, classes)
    where = tmp_path_factory.mktemp("any")
    plain = run(where, which, dataset, threads=draw(st.integers(1, 5)))
    audited = run(where, which, dataset, threads=draw(st.integers(1, 5)), audit=True)
    assert audited["findings"] == []
    assert plain["model_sha256"] == audited["model_sha256"] == digest(weights(plain["run_dir"], which, inputs, classes))
    for result in (plain, audited):
        assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(result))
