"""What a plan says before a training is what the training measures: RAM and flash to the byte, traffic nearly so."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from train_tools import CLASSES, made, recipe, run

from tinyfoa_np import data
from tinyfoa_np.reports.advice import BYTES, Search
from tinyfoa_np.reports.boards import board
from tinyfoa_np.reports.bookkeeping import bookkeeping_bytes
from tinyfoa_np.reports.forecast import RESERVE, forecast
from tinyfoa_np.reports.stores import RESERVE_FLASH, Store
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.rules.flash_overhead import root_bytes
from tinyfoa_np.storage.flash import Flash

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

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
    roots = []
    commit = Flash.commit

    def look(flash, *arguments):
        sizes = [(flash._path / f"root.{k}").stat().st_size for k in (0, 1)]
        most.append(flash.bytes - sum(sizes))
        roots.append(max(sizes))
        commit(flash, *arguments)

    monkeypatch.setattr(Flash, "commit", look)
    for ram in (None, Layout(which, dataset, threads=1).least()):
        most.clear()
        said = forecast(which, dataset, ram=ram, threads=1, lean=lean)
        result = run(tmp_path, which, dataset, ram=ram, threads=1, lean=lean)
        assert said["fits"] and said["ram"]["planned_bytes"] == result["arena"]["watermark_bytes"]
        assert said["flash"]["written_bytes"] == pytest.approx(result["flash"]["written_bytes"], rel=0.02)
        # dropped objects lie there until the commit that lets them go; working memory is let go of right before it
        assert max(most) == said["flash"]["held_bytes"] - said["flash"]["parts"]["two roots, at most"]
        assert max(roots) <= said["flash"]["parts"]["two roots, at most"] / 2 < 64 * 1024


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


def test_wear_is_counted_in_pages():
    small = board("stm32f746")
    store = Store.of(small, "internal", 0)
    assert store.nbytes == small.flash_bytes and store.unit == small.flash_erase_bytes
    assert store.trainings(store.nbytes // store.unit) == store.cycles
    assert Store("a card", 10**9).trainings(1) is None  # nobody said what it endures
    assert store.pages([(1, 3), (store.unit, 2), (store.unit + 1, 1)]) == 3 + 2 + 2
    said = forecast(recipe(dataset="digits", network="fc:60").validated(), data.shape("digits"), store=store)
    flash = said["flash"]
    assert flash["trainings"] == pytest.approx(
        store.cycles * (store.nbytes // store.unit) / flash["erased_pages"], 1e-3
    )
    assert flash["erased_pages"] * flash["page_bytes"] > flash["written_bytes"]  # a write erases whole pages
    partial = Store("odd", 10 * 4096 + 4095, 100, 4096)  # no wear is spread over what is no page
    assert partial.trainings(10) == 100


def test_flash_is_reserved_for_firmware_where_the_program_lies():
    nrf, pico, card = board("nrf52840"), board("rp2040"), board("adafruit-feather-m4")
    assert Store.of(nrf, "internal").nbytes == nrf.flash_bytes - RESERVE_FLASH
    assert Store.of(nrf, "internal", 5000).nbytes == nrf.flash_bytes - 2 * 4096  # whole pages
    assert Store.of(pico, "external").nbytes == pico.external_flash_bytes - RESERVE_FLASH
    assert Store.of(card, "external").nbytes == card.external_flash_bytes
    assert Store.of(board("stm32f103"), "internal").nbytes == 0


def test_a_board_leaves_room_for_bookkeeping_and_stack():
    nrf, shape = board("nrf52840"), data.shape("digits")
    said = forecast(recipe(dataset="digits", network="fc:60").validated(), shape, board=nrf)
    assert said["ram"]["budget_bytes"] == nrf.block_bytes - RESERVE
    many = recipe(dataset="digits", network="fc:64x2", slices=64, epochs=4096, hold="1epoch").validated()
    said = forecast(many, shape, board=nrf, reserve=0)
    beside = said["beside"]["bookkeeping_bytes"] + said["beside"]["stack_bytes"]
    assert said["ram"]["budget_bytes"] == nrf.block_bytes - beside


def test_time_and_energy_on_a_board():
    shape, which = data.shape("digits"), recipe(dataset="digits", network="fc:100x2", epochs=10).validated()
    slow, fast = (forecast(which, shape, board=board(name))["time"] for name in ("nrf52840", "teensy-4.1"))
    assert slow["seconds"] > 5 * fast["seconds"] > 0 and "one instruction per cycle" in slow["assumes"]
    assert slow["joules"] == pytest.approx(slow["seconds"] * 64 * 52e-6 * 3) and fast["joules"] is None
    assert len(slow["instructions_per_step"]) == 2
    other = recipe(dataset="digits", network="fc:40", algorithm="bp").validated()
    assert forecast(other, shape, board=board("nrf52840"))["time"] is None


def test_changes_are_combined_until_the_training_fits():
    shape = data.dataset.shaped("sensor", 800, 200, 300, "float32", 8)
    which = recipe(dataset="sensor", network="fc:100x2", slices=2, batch=20).validated()
    nrf = board("nrf52840")
    store = Store.of(nrf, "internal")
    said = forecast(which, shape, store=store, board=nrf)
    changes = [one["change"] for one in said["try"]]
    assert not said["fits"] and "--optimizer sgd --limit 200" in changes
    assert any(BYTES in change for change in changes)
    for one in said["try"]:
        assert one["fits"] and one["flash_bytes"] <= store.nbytes and one["ram_bytes"] <= said["ram"]["budget_bytes"]
    # each part of the advice is needed
    small = replace(which, moments="int8", limit=200)
    assert forecast(small, shape, store=store, board=nrf, lean=True)["fits"]
    for changed, lean in ((replace(small, limit=500), True), (replace(which, limit=200), True), (small, False)):
        assert not forecast(changed, shape, store=store, board=nrf, lean=lean)["fits"]


def test_signs_are_advised_where_weights_are_real():
    """The advice holds: with its options the plan takes the bytes that it names, also the optimizer of wide data."""
    shape = data.dataset.shaped("sensor", 400, 100, 8, "float32", 2)
    which = recipe(dataset="sensor", network="fc:300x2", batch=20, binary_weights=False, binary_activations=False)
    signs, options = "--binary-weights --binary-activations", {"binary_weights": True, "binary_activations": True}
    for optimizer, words in (("adam", signs), ("momentum", f"{signs} --optimizer momentum")):
        real = replace(which, optimizer=optimizer).validated()
        tries = {one["change"]: one for one in forecast(real, shape, ram=20_000)["try"]}
        assert forecast(replace(real, **options), shape)["ram"]["least_bytes"] == tries[words]["ram_bytes"] <= 20_000
    # with a smaller budget they are a part of the advice; computing layers again, which takes RAM, is not
    [first, *_] = (one["change"] for one in forecast(which.validated(), shape, ram=16_384)["try"])
    assert signs in first and "--batch" in first and "--recompute" not in first
    # where they are already there, or the rule has none, they are no kind of change
    for other in (replace(which, **options), recipe(algorithm="giff")):
        kinds = Search(other.validated(), shape, 4000, None, 1, False).kinds()
        assert not any("--binary" in change.words for kind in kinds for change in kind)


def test_what_nothing_helps_gets_no_advice():
    said = forecast(recipe(network="fc:40").validated(), made(), ram=64, store=Store("a card", 1000))
    assert not said["fits"] and said["try"] == []


def test_bookkeeping_counts_the_state_and_the_store():
    """8 bytes for each number of the state, 64 for each object: slices, biases, the trained layer, samples, outputs."""
    state = {"a": [0] * 5, "b": {"c": 1, "d": (2, 3)}}
    stage = SimpleNamespace(state=state, layers=[0], objects=lambda: {"slices": [1] * 9, "biases": [1] * 3})
    assert bookkeeping_bytes([SimpleNamespace(stage=stage)]) == 8 * 8 + 64 * (2 + 4 + 3)


def test_neither_ram_nor_a_root_grows_with_the_slices():
    found = []
    for slices in (2, 16, 64):
        which = recipe(network="fc:2000x4", slices=slices, batch=10, epochs=64, schedule="slice").validated()
        layout = Layout(which, made("bytes", 20, 10, 784), threads=1)
        chosen = layout.fit(None)
        found.append((bookkeeping_bytes(chosen), root_bytes([one.stage for one in chosen])))
    assert len(set(found)) == 1 and found[0][0] <= 2048 and found[0][1] <= 64 * 1024
