"""How a recipe is cut to fit a budget: whatever the budget, the same model to the bit, in no byte more than it has."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import CLASSES, Crash, arenas, crash_at, made, outcome, recipe, run

from tinyfoa_np.data.dataset import shaped
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.recipe import MOMENTS
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run.train import train
from tinyfoa_np.slices import ORDERS
from tinyfoa_np.storage.flash import Flash

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@st.composite
def cases(draw, samples=120):
    """A recipe of TinyFoA and a data set: any schedule, toggles and shapes."""
    schedule = draw(st.sampled_from(["slice", "slice", "stream", "frozen"]))
    side = draw(st.sampled_from([2, 3, 9] if schedule == "frozen" else [1, 2, 3, 9, 13]))
    visits, order = None, None
    if schedule == "slice":
        visits = draw(st.sampled_from([None, None, *(n for n in (2, 3, 9, side**2) if n <= side**2)]))
        order = draw(st.sampled_from([None, *ORDERS]))
    hold = None if schedule == "stream" else draw(st.sampled_from([None, "1", "2"]))
    exchanges = draw(st.sampled_from([None, 1, 5, side**2])) if schedule == "slice" and hold is None else None
    optimizer = draw(st.sampled_from(["adam", "adam", "sgd", "momentum"]))
    which = recipe(
        network="fc:" + ",".join(map(str, draw(st.lists(st.integers(side, 300), min_size=1, max_size=3)))),
        schedule=schedule,
        slices=side,
        hold=hold,
        exchanges=exchanges,
        visits=visits,
        order=order,
        epochs=draw(st.integers(1, 2)),
        batch=draw(st.sampled_from([5, 16, 20, 33, 50, 100])),
        optimizer=optimizer,
        moments=draw(st.sampled_from(MOMENTS[: 1 if optimizer == "sgd" else 3])),
        binary_weights=draw(st.booleans()),
        binary_activations=draw(st.booleans()),
        recompute=draw(st.sampled_from([False, False, True])),
    )
    dataset = made(
        draw(st.sampled_from(["bytes", "real"])),
        draw(st.integers(1, samples)),
        draw(st.integers(1, 40)),
        draw(st.integers(side, 300)),
        draw(st.integers(1, 12)),
    )
    return which.validated(), dataset


def most(layout):
    """Bytes of the fastest way."""
    return max(one.plan.nbytes for one in layout.fit(None))


@settings(max_examples=25)
@given(cases(), st.data())
def test_any_budget_trains_the_same_model(case, data):
    """Audited in every byte: planned is accounted is the watermark, and every region is written."""
    which, dataset = case
    layout = Layout(which, dataset, threads=2)
    least = layout.least()
    budgets = {None, least, data.draw(st.integers(least, max(least, most(layout))))}
    with tempfile.TemporaryDirectory() as folder:
        results = [run(folder, which, dataset, ram=ram, threads=2, audit=True) for ram in budgets]
        for ram, result in zip(budgets, results, strict=True):
            assert result["findings"] == []
            assert result["model_sha256"] == results[0]["model_sha256"]
            assert result["layer_errors_pct"] == results[0]["layer_errors_pct"]
            assert result["flash"]["exchanges"] == results[0]["flash"]["exchanges"]
            assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(result))
            assert ram is None or result["arena"]["planned_bytes"] <= ram


@settings(max_examples=60)
@given(cases(), st.integers(0, 10**6))
def test_what_fits_fits_and_one_byte_less_than_the_minimum_is_refused(case, more):
    which, dataset = case
    layout = Layout(which, dataset, threads=2)
    least = layout.least()
    assert most(layout) >= least
    for ram in (least, least + more):
        assert max(one.plan.nbytes for one in layout.fit(ram)) <= ram
    with pytest.raises(BadRequest, match=f"needs {least:,} "):
        layout.fit(least - 1)


def test_without_a_budget_nothing_is_streamed():
    for which in (recipe(slices=5), recipe(schedule="stream", slices=5), recipe(slices=1)):
        for one in Layout(which.validated(), made(), threads=2).fit(None):
            assert one.tiling == Tiling(32, one.tiling.neurons)


MNIST = shaped("mnist", 60000, 10000, 784, "uint8", 10)


@pytest.mark.parametrize("batch, budgets", [(100, (512, 256, 128, 64, 45)), (10, (64, 32, 20))], ids=str)
def test_the_paper_s_device_and_far_smaller_ones(batch, budgets):
    """FC 2000 x 4 with M = 16, the optimizer, the batch and all scratch included."""
    layout = Layout(recipe(network="fc:2000x4", slices=16, batch=batch).validated(), MNIST, threads=2)
    traffic = []
    for kib in budgets:
        chosen = layout.fit(1024 * kib)
        assert max(one.plan.nbytes for one in chosen) <= 1024 * kib
        traffic.append(sum(sum(one.stage.traffic()) for one in chosen))
    assert traffic == sorted(traffic)  # less RAM, more to and from flash


def test_the_smallest_budgets_of_small_devices():
    """Set by training, not by what a digest reads, a commit checks or a batch hands over."""
    layout = Layout(recipe(network="fc:200", slices=8, batch=1).validated(), MNIST, threads=1)
    assert layout.least() <= 4420
    chosen = layout.fit(layout.least())[0]
    assert chosen.tiling.tight and chosen.plan.phase_bytes("update") == layout.least()
    assert not layout.fit(6466)[0].tiling.tight  # a budget that suffices without keeps its plan


def test_a_batch_is_handed_over_in_halves(tmp_path):
    which, dataset = recipe(network="fc:30,20", batch=15, epochs=2), made(samples=40)
    layout = Layout(which.validated(), dataset, threads=1)
    assert layout.makers[0](Tiling(15, tight=True)).handed_samples == 8
    cut = [Tiling(15, 8, 2, True, True, True, gather, tight=True) for gather in (False, True)]
    tight, whole = (run(tmp_path, which, dataset, threads=1, audit=True, tilings=one) for one in (cut, None))
    assert tight["model_sha256"] == whole["model_sha256"] and tight["findings"] == []
    assert tight["layer_errors_pct"] == whole["layer_errors_pct"]


def test_one_slice_of_four_with_its_moments_in_less_than_the_paper_has_without():
    """FC 2000 x 4 with M = 2 and Adam: the paper's 8.00 MB leave the optimizer out."""
    needed = {}
    for moments in MOMENTS:
        layout = Layout(recipe(network="fc:2000x4", slices=2, batch=100, moments=moments).validated(), MNIST, threads=2)
        needed[moments] = most(layout)
    assert needed == {"float32": 12_682_180, "bfloat16": 8_682_180, "int8": 6_746_180}
    assert needed["int8"] <= 8.00e6


CODED = [{"moments": "int8", "hold": "2"}, {"moments": "bfloat16", "optimizer": "momentum", "schedule": "stream"}]


@pytest.mark.parametrize(
    "options",
    [
        {"hold": "2"},
        {"schedule": "stream"},
        {"slices": 1},
        {"visits": 5, "hold": "1"},
        {"hold": "3", "order": "diagonal"},
        {"visits": 3, "hold": "4", "order": "diagonal"},
        {"visits": 25, "order": "rows"},
        {},
        *CODED,
    ],
    ids=str,
)
def test_what_a_layout_moves_is_what_training_moves(tmp_path, options):
    """Bytes read and written by the steps of 25 epochs more: predicted, and counted."""
    dataset, which = made("bytes", 200, 20, 150, CLASSES), recipe(network="fc:150x2", slices=5, batch=20)
    few, many = (replace(which, epochs=epochs, **options).validated() for epochs in (5, 30))
    layout = Layout(many, dataset, threads=1)
    for ram in (None, layout.least(), (layout.least() + most(layout)) // 2):
        moved, predicted = np.zeros(2), np.zeros(2)
        for sign, which in ((-1, few), (1, many)):
            counted = run(tmp_path, which, dataset, ram=ram, threads=1)["flash"]
            moved += sign * np.array([counted["read_bytes"], counted["written_bytes"]])
            for one in Layout(which, dataset, threads=1).fit(ram):
                predicted += sign * 10 * which.epochs * np.array(one.stage.traffic())
                # after each epoch, a batch of tests
                published = one.stage.parameters.published_bytes if one.tiling.stream_weights else 0
                tested = 20 * (one.stage.inputs.row_bytes + 2) + 4 + -(-20 // one.tiling.samples) * published
                predicted[0] += sign * which.epochs * tested
        np.testing.assert_allclose(moved, predicted, rtol=0.02)


@pytest.mark.parametrize("options", [{"hold": "1"}, {"schedule": "stream"}, {"schedule": "frozen"}, *CODED], ids=str)
def test_a_run_goes_on_in_another_arena(tmp_path, options):
    which = replace(recipe(network="fc:150x2", slices=5, batch=50), **options).validated()
    dataset = made("bytes", 150, 20, 150, CLASSES)
    whole, layout = run(tmp_path, which, dataset), Layout(which, dataset, threads=1)
    for number, budgets in enumerate(((most(layout), layout.least()), (layout.least(), most(layout)))):
        where = tmp_path / f"other{number}"
        with pytest.raises(Crash):
            train(which, dataset, where, ram=budgets[0], commit_every=1, threads=1, on_event=crash_at(4))
        result = train(which, None, where, resume=True, ram=budgets[1], threads=1)
        assert result["model_sha256"] == whole["model_sha256"]


class Killed(BaseException):
    """The process is gone in the middle of a write."""


@settings(max_examples=25)
@given(st.integers(1, 400), st.sampled_from(["slice", "stream", "frozen"]), st.sampled_from(MOMENTS))
def test_killed_between_any_two_writes_it_ends_with_the_same_bits(writes, schedule, moments):
    """In the smallest arena a slice is rewritten piece by piece, and what is published lies in working memory."""
    hold = None if schedule == "stream" else "1"
    which = recipe(network="fc:40x2", slices=3, schedule=schedule, hold=hold, moments=moments)
    dataset = made("bytes", 64, 20, 40, CLASSES)
    least = Layout(which.validated(), dataset, threads=1).least()
    options = {"ram": least, "threads": 1, "commit_every": 1}
    write, left = Flash.write, iter(range(writes))

    def until_killed(*arguments, **named):
        write(*arguments, **named)
        if next(left, None) is None:
            raise Killed

    with tempfile.TemporaryDirectory() as folder:
        whole, where = run(folder, which, dataset), Path(folder) / "killed"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Flash, "write", until_killed)
            try:
                result = train(which, dataset, where, **options)
            except Killed:
                patch.undo()
                begun = any(path.stat().st_size for path in where.glob("flash/root.?"))
                result = train(which, dataset, where, resume=begun, **options)
        assert result["model_sha256"] == whole["model_sha256"]


def test_a_resumed_run_keeps_its_budget(tmp_path):
    which, dataset = recipe(network="fc:60", slices=4, epochs=2), made()
    least = Layout(which.validated(), dataset, threads=1).least()
    with pytest.raises(Crash):
        train(which, dataset, tmp_path / "run", ram=least, commit_every=1, threads=1, on_event=crash_at(4))
    result = train(which, None, tmp_path / "run", resume=True, threads=1)
    assert result["arena"]["budget_bytes"] == least == result["arena"]["planned_bytes"]


def test_systems_that_do_not_stream_are_refused_with_their_minimum(tmp_path):
    which = recipe(algorithm="ff")
    what, message = outcome(run, tmp_path, which, made(), ram=1000)
    assert what is BadRequest and "holds the weights of all layers" in message
