"""Rules of the forward-only toolbox from end to end: bytes as planned, one model however a run goes, learning."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from train_tools import arenas, least, made, run, until_done

from tinyfoa_np.model import model
from tinyfoa_np.recipe import Recipe

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

RULES = {
    "monoforward": {"algorithm": "monoforward"},
    "monoforward_slices": {"algorithm": "monoforward", "schedule": "slice", "slices": 2, "hold": "2"},
    "fa": {"algorithm": "fa"},
    "dfa": {"algorithm": "dfa"},
    "sdfa": {"algorithm": "dfa", "options": {"signal": "sign"}},
    "fa_unmasked": {"algorithm": "fa", "options": {"feedback": "unmasked", "loss": "softmax"}},
    "dfa_relu": {"algorithm": "dfa", "options": {"hidden": "relu", "loss": "softmax"}},
    "pepita_tl": {"algorithm": "pepita_tl", "dropout": 0.25},
    "pepita_wm": {"algorithm": "pepita_wm", "dropout": 0.25},
    "biofo": {"algorithm": "biofo"},
    "biofo_normal": {"algorithm": "biofo", "options": {"head": "normal"}, "recompute": True},
}
TOGGLES = list(product((False, True), repeat=2))


def of(name, toggles, **options):
    bw, ba = toggles
    fields = {"dataset": "made", "network": "fc:33,20", "epochs": 2, "batch": 32, "lr": 3e-3}
    return Recipe(**{**fields, **RULES[name], "binary_weights": bw, "binary_activations": ba, **options})


CASES = [(name, toggles) for name in RULES for toggles in TOGGLES[:1] + TOGGLES[3:]]
CASES += [(name, TOGGLES[1]) for name in ("fa_unmasked", "dfa", "dfa_relu")]


@pytest.mark.parametrize("name, toggles", CASES, ids=str)
def test_the_same_model_whatever_happens_and_every_byte_planned(tmp_path, name, toggles):
    which, dataset = of(name, toggles), made()
    audited = run(tmp_path, which, dataset, audit=True, threads=2)
    assert audited["findings"] == []
    assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(audited))
    budget = least(tmp_path, which, dataset, threads=1)
    small = run(tmp_path, which, dataset, ram=budget, threads=1)
    assert small["arena"]["watermark_bytes"] <= budget
    # the scale of bits needs a whole batch, and so do two steps
    one_by_one = "fa" in name and toggles[1] or not which.rule.micro_batches
    assert one_by_one or budget < audited["arena"]["watermark_bytes"]
    crashed = until_done(which, dataset, tmp_path / "run", [2, 9], commit_every=1, threads=3)
    assert small["model_sha256"] == audited["model_sha256"] == crashed["model_sha256"]
    loaded = model.load(Path(small["run_dir"]) / "model.safetensors")
    wrong = np.mean(loaded.predict(dataset.test.inputs) != dataset.test.labels)
    assert 100 * wrong == pytest.approx(small["error_pct"])


@pytest.mark.parametrize("name", RULES)
def test_it_learns(tmp_path, name):
    slow = "pepita" in name
    which = of(name, (False, False), epochs=20 if slow else 8, lr=0.03 if slow else 1e-2)
    result = run(tmp_path, which, made(samples=300, tests=100))
    assert result["error_pct"] <= (55 if slow else 20)  # 67, by chance
