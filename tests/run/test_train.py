"""Training: memory is what was planned, the same recipe gives the same bits, and the reference agrees with them."""

import json
import math
import re
import tracemalloc
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import (
    COPIES,
    WIDTH,
    arenas,
    digest,
    made,
    metrics,
    recipe,
    run,
    seen,
    weights,
)

from tinyfoa_np import data
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.kernels.launching import Team
from tinyfoa_np.network import layer_shapes
from tinyfoa_np.ram.phases import PHASES
from tinyfoa_np.reference import random
from tinyfoa_np.reference import tinyfoa as reference
from tinyfoa_np.reference.slices import slices_at
from tinyfoa_np.run.examination import GUARDED
from tinyfoa_np.run.train import train
from tinyfoa_np.slices import ORDERS

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

TOGGLES = list(product((True, False), repeat=2))
EVERYTHING = list(product(("slice", "stream", "frozen"), ("adam", "momentum", "sgd"), (False, True)))


# Memory: planned = accounted = watermark, in every form of training


@pytest.mark.parametrize("kind", ["bytes", "real"])
@pytest.mark.parametrize("binary_weights, binary_activations", TOGGLES)
@pytest.mark.parametrize("schedule, optimizer, recompute", EVERYTHING)
def test_planned_is_accounted_is_watermark(
    tmp_path, kind, binary_weights, binary_activations, schedule, optimizer, recompute
):
    """Audited, then again in exactly the bytes that were planned: the same model, and every byte accounted for."""
    which = recipe(
        schedule=schedule,
        optimizer=optimizer,
        recompute=recompute,
        slices=2 + recompute,
        binary_weights=binary_weights,
        binary_activations=binary_activations,
    )
    dataset = made(kind)  # batches of 32, 32 and 6
    audited = run(tmp_path, which, dataset, audit=True, threads=1 + recompute)
    assert audited["findings"] == []
    exact = run(tmp_path, which, dataset, ram=audited["arena"]["planned_bytes"], threads=1 + recompute)
    assert exact["model_sha256"] == audited["model_sha256"]
    assert arenas(exact) == arenas(audited)
    for planned, accounted, watermark in arenas(exact):
        assert planned == accounted == watermark > 0
    arena = exact["arena"]
    assert [arena[f"{word}_bytes"] for word in ("planned", "accounted", "watermark")] == list(max(arenas(exact)))
    assert list(arena["phases"]) == list(PHASES)
    for phase in arena["phases"].values():
        assert 0 < phase["planned_bytes"] == phase["accounted_bytes"] <= -(-arena["planned_bytes"] // 64) * 64


@settings(max_examples=30)
@given(st.data())
def test_memory_of_any_shape(tmp_path_factory, data):
    """One sample, one class, one neuron, fewer samples than a batch, more threads than samples: all audited."""
    draw = data.draw
    widths = draw(st.lists(st.integers(1, 140), min_size=1, max_size=3))
    inputs, samples = draw(st.integers(1, 140)), draw(st.integers(1, 90))
    side = draw(st.integers(1, min(3, inputs, *widths)))
    which = recipe(
        network="fc:" + ",".join(map(str, widths)),
        slices=side,
        batch=draw(st.integers(1, 70)),
        schedule=draw(st.sampled_from(["slice", "stream", "frozen"] if side > 1 else ["slice", "stream"])),
        epochs=draw(st.integers(1, 3)),
        recompute=draw(st.booleans()),
        binary_weights=draw(st.booleans()),
        binary_activations=draw(st.booleans()),
        limit=draw(st.none() | st.integers(1, 90)),
    )
    dataset = made(
        draw(st.sampled_from(["bytes", "real"])), samples, draw(st.integers(1, 40)), inputs, draw(st.integers(1, 12))
    )
    threads = draw(st.integers(1, 5))
    where = tmp_path_factory.mktemp("any")
    plain = run(where, which, dataset, threads=threads)
    audited = run(where, which, dataset, threads=draw(st.integers(1, 5)), audit=True)
    assert audited["findings"] == []
    assert plain["model_sha256"] == audited["model_sha256"] == digest(weights(plain["run_dir"], which, inputs))
    for result in (plain, audited):
        assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(result))


def test_more_threads_than_work_are_audited_too(tmp_path):
    """What a thread without a share would never write may not be planned for it."""
    for kind in ("bytes", "real"):
        for samples in (20, 70):
            assert run(tmp_path, recipe(network="fc:3"), made(kind, samples), threads=7, audit=True)["findings"] == []


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_the_widest_step_is_audited_with_a_full_batch_where_another_comes_first(tmp_path):
    """Batches are in another order in every epoch; with this seed, the widest slice begins with the incomplete one."""
    which = recipe(network="fc:77", batch=45, epochs=4, reshuffle=True, seed=96, binary_activations=False)
    which = replace(which, binary_weights=False, optimizer="momentum", moments="int8")
    dataset = made("real", samples=54, inputs=67, classes=4)
    assert run(tmp_path, which, dataset, audit=True, threads=2, ram=24_004)["findings"] == []


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_an_arena_too_large_to_be_guarded_in_every_step_is_audited_without_findings(tmp_path):
    """Unguarded steps poison regions at the end of their lives, with masks that are not allocated in the step."""
    which, dataset = recipe(network="fc:600x2", slices=1, batch=10), made()
    result = run(tmp_path, which, dataset, audit=True)
    assert result["findings"] == []
    assert max(arenas(result))[0] > GUARDED


def test_the_arena_leaves_no_array_outside(tmp_path):
    """After the first epoch, an epoch allocates far less than any array of the training would take."""
    dataset = made(samples=300, tests=100, inputs=300)  # a slice: 2 x 150 x 150 x 4 bytes and as much twice for Adam
    peaks = []

    def look(event):
        if event.kind == "epoch":
            if tracemalloc.is_tracing():
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
            else:
                tracemalloc.start()

    try:
        run(tmp_path, recipe(network="fc:300", epochs=4, batch=100), dataset, on_event=look)
    finally:
        tracemalloc.stop()
    assert len(peaks) == 3
    assert max(peaks) < 40_000, "bytes; a slice has 90,000, a batch 30,000, the signs 12,000"


def test_a_budget_one_byte_short_is_refused_with_the_minimum(tmp_path):
    which, dataset = recipe(network="fc:600,300", binary_weights=False, epochs=1), made("real")
    free = run(tmp_path, which, dataset, threads=2)
    with pytest.raises(BadRequest) as refused:
        run(tmp_path, which, dataset, ram=1000, threads=2)
    least = max(int(word.replace(",", "")) for word in str(refused.value).split() if word[0].isdigit())
    assert 1000 < least < free["arena"]["planned_bytes"]  # smaller tiles were tried
    with pytest.raises(BadRequest, match=f"{least:,}"):
        run(tmp_path, which, dataset, ram=least - 1, threads=2)
    assert len(list(tmp_path.iterdir())) == 1  # a refusal leaves no directory
    for ram in (least, least + 1):
        tight = run(tmp_path, which, dataset, ram=ram, threads=2)
        assert tight["model_sha256"] == free["model_sha256"]
        assert tight["arena"]["budget_bytes"] == ram
        assert tight["arena"]["planned_bytes"] == tight["arena"]["watermark_bytes"] == least


# The same bits


@pytest.mark.parametrize("kind", ["bytes", "real"])
@pytest.mark.parametrize("binary_weights, binary_activations", TOGGLES)
def test_same_recipe_same_model(tmp_path, monkeypatch, kind, binary_weights, binary_activations):
    """Threads, audit, commits and recomputation change how a run proceeds, never its result."""
    which = recipe(
        network="fc:80,33,20", epochs=2, slices=2, binary_weights=binary_weights, binary_activations=binary_activations
    )
    dataset = made(kind, samples=230, tests=50)
    plain = run(tmp_path, which, dataset, threads=1)
    for options in ({"threads": 2}, {"threads": 5}, {"audit": True}, {"commit_every": 3}, {"commit_every": 1}, {}):
        other = run(tmp_path, which, dataset, **options)
        assert other["model_sha256"] == plain["model_sha256"], options
        assert other["layer_errors_pct"] == plain["layer_errors_pct"]
        assert metrics(other) == metrics(plain)
        if "commit_every" not in options:  # what it moved is a matter of the run alone, not of who watches
            moved = ("read_bytes", "written_bytes", "exchanges")
            assert [other["flash"][key] for key in moved] == [plain["flash"][key] for key in moved], options
    with monkeypatch.context() as hasty:  # the number of threads changes from step to step
        for name in ("FIRST", "TRIED", "EVERY", "LONGEST"):
            hasty.setattr(Team, name, 1)
        assert run(tmp_path, which, dataset, threads=2)["model_sha256"] == plain["model_sha256"]
    recomputed = run(tmp_path, replace(which, recompute=True), dataset)
    assert recomputed["model_sha256"] == plain["model_sha256"]
    assert metrics(recomputed) == metrics(plain)
    assert recomputed["flash"]["written_bytes"] < plain["flash"]["written_bytes"]


@pytest.mark.parametrize("option", [{"seed": 1}, {"lr": 2e-4}, {"batch": 31}, {"hold": "2"}, {"optimizer": "sgd"}])
def test_another_recipe_another_model(tmp_path, option):
    which, dataset = recipe(), made()
    first, second = (run(tmp_path, one, dataset)["model_sha256"] for one in (which, replace(which, **option)))
    assert first != second


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("kind", ["bytes", "real"])
def test_stream_does_not_depend_on_the_grid(tmp_path, kind, optimizer):
    """Slice by slice from one forward pass is the training of the whole layer, in the RAM of a slice."""
    dataset = made(kind, samples=100)
    whole, *cut = (
        run(tmp_path, recipe(schedule="stream", slices=M, optimizer=optimizer, epochs=3, lr=1e-3), dataset)
        for M in (1, 2, 3)
    )
    assert {result["model_sha256"] for result in cut} == {whole["model_sha256"]}
    assert all(result["arena"]["planned_bytes"] < whole["arena"]["planned_bytes"] for result in cut)


def test_as_many_visits_as_slices_are_the_schedule_stream(tmp_path):
    dataset = made(samples=100)
    stream = run(tmp_path, recipe(schedule="stream", slices=3, epochs=3, lr=1e-3), dataset)
    for order in ORDERS:
        visited = run(tmp_path, recipe(visits=9, order=order, slices=3, epochs=3, lr=1e-3), dataset)
        assert visited["model_sha256"] == stream["model_sha256"]


def test_limit_is_as_if_there_were_no_more_samples(tmp_path):
    dataset = made(samples=90)
    short = replace(dataset, train=data.Split(dataset.train.inputs[:50], dataset.train.labels[:50]))
    for limit, same in ((50, short), (1000, dataset)):
        limited, whole = run(tmp_path, recipe(limit=limit), dataset), run(tmp_path, recipe(), same)
        assert limited["model_sha256"] == whole["model_sha256"]
        assert limited["layer_errors_pct"] == whole["layer_errors_pct"]


def test_arrays_of_another_layout_train_alike(tmp_path):
    dataset = made()
    inputs = np.asfortranarray(dataset.train.inputs)
    other = replace(dataset, train=data.Split(inputs, dataset.train.labels.astype(np.uint8)))
    assert run(tmp_path, recipe(), other)["model_sha256"] == run(tmp_path, recipe(), dataset)["model_sha256"]


# The reference


def trained_by_reference(which, dataset, widths):
    inputs, labels = seen(dataset, dataset.train), dataset.train.labels
    cuts = range(0, len(labels), which.batch)
    batches = [(inputs[k : k + which.batch], labels[k : k + which.batch]) for k in cuts]
    which = which.validated()
    return reference.train(
        batches,
        widths,
        dataset.classes,
        seed=which.seed,
        slices=which.slices,
        schedule=which.schedule,
        hold=which.hold_steps(len(batches)) or None,
        exchanges=which.exchanges,
        visits=which.visits or 1,
        order=which.order or "rows",
        epochs=which.epochs,
        lr=which.lr,
        optimizer=which.optimizer,
        binary_weights=which.binary_weights,
        binary_activations=which.binary_activations,
    )


@pytest.mark.parametrize(
    "kind, options",
    [
        ("bytes", {}),
        ("real", {"hold": "2"}),
        ("bytes", {"slices": 3, "hold": "1", "seed": 2**40 + 7}),
        ("bytes", {"optimizer": "momentum", "lr": 1e-2}),
        ("real", {"optimizer": "sgd", "lr": 1e-1, "slices": 3, "schedule": "stream"}),
        ("bytes", {"schedule": "frozen", "slices": 3, "hold": "1"}),
        ("bytes", {"schedule": "frozen", "optimizer": "momentum", "lr": 1e-2}),
        ("real", {"exchanges": 5, "binary_weights": False}),
        ("bytes", {"binary_activations": False, "slices": 1}),
        ("real", {"binary_weights": False, "binary_activations": False, "schedule": "stream"}),
        ("bytes", {"binary_weights": False, "schedule": "frozen"}),
        ("bytes", {"visits": 2, "hold": "1"}),
        ("real", {"visits": 5, "slices": 3, "order": "diagonal", "binary_weights": False}),
        ("bytes", {"visits": 4, "slices": 3, "optimizer": "momentum", "lr": 1e-2}),
        ("real", {"hold": "1", "slices": 3, "order": "diagonal"}),
    ],
    ids=str,
)
def test_weights_are_those_of_the_reference(tmp_path, kind, options):
    """From the seed to the trained network, through flash, tiles and packed signs, against plain NumPy."""
    which, dataset = recipe(epochs=2, **{"lr": 1e-3, **options}), made(kind, samples=70, seed=3)
    result = run(tmp_path, which, dataset)
    ours = weights(result["run_dir"], which)
    theirs = trained_by_reference(which, dataset, [33, 20])
    assert result["model_sha256"] == digest(ours)
    start = trained_by_reference(replace(which, lr=1e-30), dataset, [33, 20])
    for (W, b), layer, untrained in zip(ours, theirs, start, strict=True):
        for mine, wanted, before in ((W, layer.W, untrained.W), (b, layer.b, untrained.b)):
            limit = 2e-4 * np.abs(wanted).max()
            assert np.abs(mine - wanted).max() <= limit
            assert np.abs(wanted - before).max() > 5 * limit  # training moved them by far more than that


@pytest.mark.parametrize("kind", ["bytes", "real"])
@pytest.mark.parametrize("binary_weights, binary_activations", TOGGLES)
def test_losses_and_errors_are_those_of_the_reference(tmp_path, kind, binary_weights, binary_activations):
    """Of an epoch in which no weight moves, so that its 70 samples are answered by the initial layer."""
    toggles = {"binary_weights": binary_weights, "binary_activations": binary_activations}
    which, dataset = recipe(network="fc:133", lr=1e-30, **toggles), made(kind, tests=50)
    own = {"seed": 0, "layer": 0}
    W, b, P = random.weights(133, WIDTH, **own), random.biases(133, WIDTH, **own), random.projection(3, 133, **own)
    expected = {}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        x, labels, loss, wrong = seen(dataset, split), split.labels, 0.0, 0
        for k in range(0, len(labels), 32):
            _, h = reference.forward(x[k : k + 32], W, b, **toggles)
            a, y = reference.logits(h, P), labels[k : k + 32]
            loss, wrong = loss + reference.loss(a, y) * len(y), wrong + np.count_nonzero(a.argmax(axis=1) != y)
        expected[name] = loss / len(labels), 100 * wrong / len(labels)
    [row] = metrics(run(tmp_path, which, dataset))
    assert row["loss"] == pytest.approx(expected["train"][0], rel=1e-4)
    assert row["train_error_pct"] == pytest.approx(expected["train"][1])
    assert row["test_error_pct"] == pytest.approx(expected["test"][1])
    assert expected["train"][1] != expected["test"][1]


# What it counts


def predicted_flash(which, dataset, widths):
    """Bytes read, bytes written and exchanges of an uninterrupted run, by counting what the design says moves."""
    which = which.validated()
    N, tests, side, copies = len(dataset.train.labels), len(dataset.test.labels), which.slices, COPIES[which.optimizer]
    batch = min(which.batch, N)
    inputs = dataset.train.inputs.shape[1]
    row = inputs * dataset.train.inputs.itemsize

    def stream(samples, row):  # samples as records: inputs, a label of two bytes, a scale for each batch
        return samples * (row + 2) + 4 * math.ceil(samples / batch)

    tail, bias_tail = (
        16,
        8,
    )  # behind a slice, its step count and its sum of |W|; behind a group's biases, their step count
    batches = math.ceil(N / batch)
    written = stream(N, row) + stream(tests, row)
    read = exchanges = 0
    for number, O in enumerate(widths):
        rows = [len(part) for part in np.array_split(range(O), side)]
        columns = [len(part) for part in np.array_split(range(inputs), side)]
        size = [4 * j * i for j in rows for i in columns]
        out = 8 * math.ceil(O / 64) if which.binary_activations else 4 * O
        written += copies * 4 * (O * inputs + O) + tail * side**2 + bias_tail * side  # initial weights
        read += 4 * (O * inputs + O)  # the signs are made from them
        resident, dirty = None, False
        for epoch in range(which.epochs):
            for k in range(batches):
                step = epoch * batches + k
                if which.schedule == "slice":
                    due = slices_at(step // which.hold_steps(batches), side, which.visits, which.order)
                    due = [j * side + i for j, i in due]
                else:
                    due = list(range(side**2))[:: -1 if step % 2 else 1]
                for s in due:
                    if s != resident:
                        if dirty:
                            written += copies * (size[resident] + 4 * rows[resident // side]) + tail + bias_tail
                        read += copies * size[s] + tail
                        if resident is None or s // side != resident // side:
                            read += (copies - 1) * 4 * rows[s // side] + bias_tail
                        exchanges, resident = exchanges + 1, s
                    dirty = True
            written += (
                copies * (size[resident] + 4 * rows[resident // side]) + tail + bias_tail
            )  # the commit of an epoch
            dirty = False
            read += stream(N, row) + stream(tests, row)  # training and test error
        read += 4 * O * inputs + stream(N, row) + stream(tests, row)  # the digest, the hand-over
        signs = 64 * math.ceil(O / 8) * math.ceil(inputs / 64) if which.binary_weights else 4 * O * inputs
        written += signs + 4 * O  # what inference needs
        if number + 1 < len(widths):
            written += stream(N, out) + stream(tests, out)
        row, inputs = out, O
    return {"read_bytes": read, "written_bytes": written, "exchanges": exchanges}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slices": 3, "hold": "2"},
        {"slices": 1},
        {"slices": 2, "hold": "2epochs", "optimizer": "sgd"},
        {"schedule": "stream"},
        {"schedule": "stream", "slices": 3, "optimizer": "momentum"},
        {"schedule": "stream", "slices": 1},
        {"binary_weights": False, "binary_activations": False},
        {"visits": 2, "hold": "1"},
        {"visits": 4, "slices": 3, "hold": "2"},
        {"hold": "2", "order": "diagonal"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bytes", "real"])
def test_flash_traffic_is_what_the_schedule_costs(tmp_path, kind, options):
    which, dataset = recipe(epochs=3, **options), made(kind)
    flash = run(tmp_path, which, dataset)["flash"]
    assert {key: flash[key] for key in ("read_bytes", "written_bytes", "exchanges")} == predicted_flash(
        which, dataset, [33, 20]
    )


def test_exchanges_in_closed_form(tmp_path):
    dataset = made(samples=96)  # 3 batches
    steps, count = 2 * 3, lambda **options: run(tmp_path, recipe(epochs=2, **options), dataset)["flash"]["exchanges"]
    layers = 2
    assert count(schedule="slice", hold="1", slices=2) == layers * steps
    assert count(schedule="slice", hold="4", slices=2) == layers * math.ceil(steps / 4)
    assert count(schedule="slice", exchanges=3, slices=2) == layers * 3
    assert count(schedule="slice", slices=1) == count(schedule="stream", slices=1) == layers
    assert count(schedule="stream", slices=3) == layers * (9 + (steps - 1) * 8)  # to and fro: the last stays
    assert count(schedule="frozen", slices=2) == layers


@pytest.mark.parametrize(
    "options, trained",
    [
        ({"epochs": 3}, 3),
        ({"epochs": 4}, 4),
        ({"epochs": 1, "hold": "1"}, 3),
        ({"epochs": 2, "hold": "1"}, 4),
        ({"epochs": 4, "exchanges": 2}, 2),
        ({"epochs": 2, "exchanges": 4}, 4),
        ({"epochs": 1, "slices": 1}, 1),
        ({"epochs": 1, "slices": 4, "visits": 5, "hold": "1"}, 15),
        ({"epochs": 1, "schedule": "stream"}, 4),
        ({"epochs": 1, "schedule": "frozen"}, 4),
    ],
    ids=str,
)
def test_slices_whose_turn_never_comes_are_warned_of(tmp_path, options, trained):
    whole = options.get("slices", 2) ** 2
    about = warned(tmp_path / "a", recipe(**options))  # 3 steps an epoch
    assert [told for told, _ in about] == [f"only {trained} of {whole} slices per layer will be trained"] * (
        trained < whole
    )
    for _, advice in about:  # it suffices, and fewer epochs do not
        if epochs := re.search(r"use at least (\d+) epochs, a shorter hold or schedule stream", advice):
            assert not warned(tmp_path / "b", recipe(**{**options, "epochs": int(epochs[1])}))
            if (fewer := int(epochs[1]) - 1) > options["epochs"]:
                assert warned(tmp_path / "c", recipe(**{**options, "epochs": fewer}))
        else:
            assert advice == " use more exchanges or schedule stream" and "exchanges" in options


def warned(folder, which):
    """What a training warns of, with the advice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(folder, which, made())
    return [str(warning.message).split(":") for warning in caught if issubclass(warning.category, UserWarning)]


# What it returns and leaves


def test_result_and_run_directory(tmp_path):
    which, dataset = recipe(epochs=2), made(samples=230, tests=50)
    result = run(tmp_path, which, dataset)
    assert json.loads(json.dumps(result)) == result
    assert set(result) == {
        "error_pct",
        "layer_errors_pct",
        "seconds_per_epoch",
        "model_sha256",
        "arena",
        "flash",
        "run_dir",
        "recipe",
    }
    assert result["recipe"] == json.loads(which.validated().to_json())
    assert result["error_pct"] == result["layer_errors_pct"][-1]
    assert len(result["layer_errors_pct"]) == len(result["seconds_per_epoch"]) == 2
    assert all(0 < seconds < math.inf for seconds in result["seconds_per_epoch"])
    directory = Path(result["run_dir"])
    assert {path.name for path in directory.iterdir()} == {
        "recipe.json",
        "data.json",
        "flash",
        "metrics.jsonl",
        "model.safetensors",
        "audit.json",
    }
    assert (directory / "recipe.json").read_text() == which.validated().to_json()
    on_disk = json.loads((directory / "audit.json").read_text())
    assert {key: on_disk[key] for key in result} == result
    rows = metrics(result)
    assert [(row["layer"], row["epoch"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(math.isfinite(row["loss"]) and 0 <= row["train_error_pct"] <= 100 for row in rows)
    assert result["model_sha256"] == digest(weights(directory, which))


def test_events_tell_what_happens_in_order(tmp_path):
    events = []
    result = run(tmp_path, recipe(epochs=2), made(samples=70), on_event=events.append)
    story = [(event.kind, event.layer, event.epoch, event.batch) for event in events]
    layers = [
        [
            *[(kind, n, e, k) for e in range(2) for kind, k in [*[("batch", k) for k in range(3)], ("epoch", 0)]],
            *[("handover", n, 0, k) for k in range(3)],
            ("layer", n, 0, 0),
        ]
        for n in range(2)
    ]
    assert story == [("start", 0, 0, 0), *layers[0], *layers[1], ("done", 0, 0, 0)]
    assert all(event.batches == 3 for event in events if event.kind in ("start", "batch", "handover"))
    assert [event.test_error_pct for event in events if event.kind == "layer"] == result["layer_errors_pct"]
    epochs = [event for event in events if event.kind == "epoch"]
    assert [(e.loss, e.train_error_pct, e.test_error_pct) for e in epochs] == [
        (row["loss"], row["train_error_pct"], row["test_error_pct"]) for row in metrics(result)
    ]


# It learns


def test_made_data_are_learnt(tmp_path):
    dataset = made(samples=230, tests=100)
    for options in ({}, {"schedule": "stream"}, {"binary_weights": False}, {"binary_activations": False}):
        result = run(tmp_path, recipe(network="fc:200", epochs=12, lr=1e-3, **options), dataset)
        assert result["error_pct"] <= 5, options


def test_digits_are_learnt(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    which = recipe(dataset="digits", network="fc:500x2", epochs=30, batch=100, lr=1e-2)
    result = run(tmp_path, which, data.load("digits"))
    assert result["error_pct"] < 12
    assert len(layer_shapes(which.network, WIDTH)) == len(result["layer_errors_pct"])


@pytest.mark.parametrize("name", ["a\0b", "half \ud800", "x" * 300, "file/below"])
def test_what_cannot_be_a_directory_is_refused_in_a_line(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(BadRequest, match="cannot be made a directory") as raised:
        train(recipe(), made(), tmp_path / name)
    assert str(raised.value).isprintable()
