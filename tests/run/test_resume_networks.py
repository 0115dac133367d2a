"""BP, DRTP, PEPITA and FF killed or interrupted anywhere: resumed, they end with the bits of a run that was not."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import (
    Crash,
    crash_at,
    least,
    made,
    opened,
    recipe,
    run,
    same,
    signal_at,
    until_done,
)

from tinyfoa_np.run.events import Interrupted
from tinyfoa_np.run.train import train

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

#: with what each carries from step to step: slices and moments, momentum that a change of the rate rescales, running
#: means, the scales of an epoch
RECIPES = {
    "bp": {"algorithm": "bp"},
    "bp_slice": {"algorithm": "bp", "schedule": "slice", "hold": "2"},
    "bp_exchanges": {"algorithm": "bp", "schedule": "slice", "exchanges": 5, "binary_weights": False},
    "bp_frozen": {"algorithm": "bp", "schedule": "frozen", "optimizer": "momentum", "binary_activations": False},
    "drtp": {"algorithm": "drtp", "lr_schedule": "cooldown"},
    "pepita": {"algorithm": "pepita", "lr_schedule": "drop:1,67%", "lr": 1e-2},
    "pepita_real": {"algorithm": "pepita", "lr_schedule": "drop:1", "lr": 1e-2, "binary_activations": False},
    "ff": {"algorithm": "ff", "lr_schedule": "cooldown", "lr": 1e-2, "peer": 1.0},
    "ff_real": {"algorithm": "ff", "lr_schedule": "drop:2", "binary_weights": False},
    "bp_int8": {"algorithm": "bp", "schedule": "slice", "hold": "2", "moments": "int8"},
    "pepita_int8": {"algorithm": "pepita", "lr_schedule": "drop:1,67%", "lr": 1e-2, "moments": "int8"},
    "pepita_bfloat16": {"algorithm": "pepita", "lr_schedule": "cooldown", "lr": 1e-2, "moments": "bfloat16"},
}


def of(name):
    return recipe(epochs=3, **RECIPES[name])


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Each recipe trained without interruption, once."""
    where, runs = tmp_path_factory.mktemp("whole"), {}

    def get(name):
        if name not in runs:
            runs[name] = run(where, of(name), made())  # three batches, with FF two
        return runs[name]

    return get


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(RECIPES)),
    st.lists(st.integers(0, 16), min_size=1, max_size=3),
    st.sampled_from([None, 1, 2, 3]),
    st.booleans(),
)
def test_a_crash_at_any_event_loses_nothing_that_shows(tmp_path_factory, whole_runs, name, crashes, every, audit):
    where = tmp_path_factory.mktemp("crash") / "run"
    resumed = until_done(of(name), made(), where, crashes, commit_every=every, audit=audit)
    same(resumed, whole_runs(name))
    if audit:
        assert resumed["findings"] == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_crash_at_every_step_with_a_commit_after_each(tmp_path, whole_runs, name):
    """Each process trains one step and dies: nothing but flash comes from one to the next."""
    where, lives = tmp_path / "run", 0
    while True:
        lives += 1
        try:
            die = crash_at(lambda event: event.kind == "batch" and event.batch + event.epoch > 0)
            result = train(of(name), made(), where, resume=where.exists(), commit_every=1, on_event=late(die))
        except Crash:
            continue
        break
    assert lives == (6 if name.startswith("ff") else 9)
    same(result, whole_runs(name))


def late(look):
    """An `on_event` that is called one event later: once what follows the event has been committed."""
    waiting = []

    def call(event):
        if waiting:
            look(waiting.pop())
        waiting.append(event)

    return call


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop", [("batch", 0, 0), ("batch", 1, 0), ("epoch", 1, 0)], ids=str)
def test_ctrl_c_commits_and_can_be_resumed(tmp_path, whole_runs, name, stop):
    """Within an epoch whose rate has just dropped, and right before it."""
    ask = signal_at(lambda event: (event.kind, event.epoch, event.batch) == stop)
    with pytest.raises(Interrupted, match="tinyfoa train --resume"):
        train(of(name), made(), tmp_path / "run", on_event=ask)
    with opened(tmp_path / "run", of(name)) as flash:
        kind, epoch, batch = stop
        done = (epoch, batch + 1) if kind == "batch" else (epoch + 1, 0)
        assert (flash.meta["epoch"], flash.meta["batch"]) == done
    same(train(of(name), None, tmp_path / "run", resume=True), whole_runs(name))


@pytest.mark.parametrize("name", ["bp_frozen", "pepita_real"])
def test_a_run_goes_on_in_another_arena(tmp_path, name):
    """From whole batches to micro-batches, and back: a resumed run may have another budget and other threads."""
    which, dataset = replace(of(name), batch=64), made(samples=150)
    whole = run(tmp_path, which, dataset, threads=1)
    most, fewest = whole["arena"]["planned_bytes"], least(tmp_path, which, dataset, threads=1)
    assert fewest < most
    for number, (first, then) in enumerate(((most, fewest), (fewest, most))):
        where = tmp_path / f"other{number}"
        with pytest.raises(Crash):
            train(which, dataset, where, ram=first, commit_every=1, threads=1, on_event=crash_at(6))
        result = train(which, None, where, resume=True, ram=then, threads=1)
        assert result["arena"]["planned_bytes"] == then
        assert result["model_sha256"] == whole["model_sha256"]
        assert result["layer_errors_pct"] == whole["layer_errors_pct"]
