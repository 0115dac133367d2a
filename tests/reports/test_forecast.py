"""What a plan says before a training is what the training measures: RAM and flash to the byte, traffic nearly so."""

from dataclasses import replace

import pytest
from train_tools import CLASSES, made, recipe, run

from tinyfoa_np import data
from tinyfoa_np.reports.boards import board
from tinyfoa_np.reports.forecast import Store, forecast
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.storage.flash import Flash

pytestmark = [
    pytest.mark.filterwarnings("ignore:only .* slices will train"),  # these runs are short
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]

RECIPES = {
    "slice": {"slices": 3, "hold": "2"},
    "stream": {"slices": 3, "schedule": "stream"},
    "recompute": {"slices": 2, "recompute": True},
    "real": {"binary_weights": False, "binary_activations": False},
    "bp": {"algorithm": "bp"},
    "ff": {"algorithm": "ff", "binary_activations": False},
}


@pytest.mark.parametrize("lean", [False, True], ids=["whole", "lean"])
@pytest.mark.parametrize("name", RECIPES)
def test_the_forecast_is_what_is_measured(tmp_path, monkeypatch, name, lean):
    which = recipe(network="fc:40x3", epochs=8, batch=20, **RECIPES[name]).validated()
    dataset, most = made("bytes", 200, 20, 60, CLASSES), [0]
    commit = Flash.commit

    def look(flash, *arguments):
        roots = sum((flash._path / f"root.{k}").stat().st_size for k in (0, 1))
        most.append(flash.bytes - roots)
        commit(flash, *arguments)

    monkeypatch.setattr(Flash, "commit", look)
    for ram in (None, Layout(which, dataset, threads=1).least()):
        most.clear()
        said = forecast(which, dataset, ram=ram, threads=1, lean=lean)
        result = run(tmp_path, which, dataset, ram=ram, threads=1, lean=lean)
        assert said["fits"] and said["ram"]["planned_bytes"] == result["arena"]["watermark_bytes"]
        assert said["flash"]["written_bytes"] == pytest.approx(result["flash"]["written_bytes"], rel=0.02)
        # dropped objects lie there until the commit that lets them go; working memory is let go of right before it
        assert max(most) == said["flash"]["held_bytes"]


def test_lean_changes_nothing_but_what_is_kept(tmp_path):
    dataset = made()
    whole, lean = (run(tmp_path, recipe(network="fc:60x3"), dataset, lean=lean) for lean in (False, True))
    assert lean["model_sha256"] == whole["model_sha256"]
    assert lean["flash"]["bytes"] < whole["flash"]["bytes"] / 2


def test_a_forecast_needs_no_data():
    for name in data.names():
        shape = data.shape(name)
        said = forecast(recipe(dataset=name, network="fc:50").validated(), shape)
        assert said["fits"] and said["ram"]["budget_bytes"] is None
    assert data.shape("digits").affine("standard") == data.load("digits").affine("standard")
    assert data.shape("digits").train.inputs.shape == data.load("digits").train.inputs.shape


def test_what_would_help_is_said_and_holds():
    shape, which = data.shape("mnist"), recipe(dataset="mnist", network="fc:2000x4", slices=2, batch=100).validated()
    said = forecast(which, shape, ram=50_000, store=Store("a card", 10**10))
    assert not said["fits"] and not said["ram"]["fits"] and said["flash"]["fits"]
    assert said["ram"]["planned_bytes"] == said["ram"]["least_bytes"] > 50_000
    tries = {one["change"]: one for one in said["try"]}
    [slices] = [change for change in tries if change.startswith("--slices") and tries[change]["fits"]]
    changed = replace(which, slices=int(slices.split()[1]))
    assert forecast(changed, shape, ram=50_000)["ram"]["least_bytes"] == tries[slices]["ram_bytes"] <= 50_000
    assert not any("--limit" in change for change in tries)  # flash is not what is short
    short = forecast(which, shape, store=Store("a card", 3 * 10**8))
    assert short["ram"]["fits"] and not short["flash"]["fits"]
    [moments] = [one for one in short["try"] if one["change"] == "--moments bfloat16"]
    assert moments["fits"] and moments["flash_bytes"] < 3 * 10**8 < short["flash"]["held_bytes"]


def test_wear():
    small = board("stm32f746")
    store = Store.of(small, "internal")
    assert store.trainings(store.nbytes) == store.cycles
    assert Store("a card", 10**9).trainings(1) is None  # nobody said what it endures
    said = forecast(recipe(dataset="digits", network="fc:60").validated(), data.shape("digits"), store=store)
    assert said["flash"]["trainings"] == pytest.approx(store.cycles * store.nbytes / said["flash"]["written_bytes"])
