"""Augmentation and shuffling in every epoch: what trains is what the plain twin makes, however the run goes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from train_tools import arenas, least, made, outcome, run, until_done

from tinyfoa_np.augmentation import parse
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import augment as reference
from tinyfoa_np.reference import random as twins
from tinyfoa_np.run.train import _Run

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

IMAGE = (2, 6, 5)
AUGMENT = "flip,shift:2,rotate:20"
#: rules that differ in how a batch reaches them
RECIPES = {
    "tinyfoa": {"algorithm": "tinyfoa", "network": "fc:33,20"},
    "recompute": {"algorithm": "tinyfoa", "network": "fc:33,20", "recompute": True},
    "lc": {"algorithm": "tinyfoa", "network": "lc:4,6"},
    "bp": {"algorithm": "bp", "network": "fc:33,20", "binary_activations": False},
    "pepita": {"algorithm": "pepita", "network": "fc:33", "binary_activations": False},
    "ff": {"algorithm": "ff", "network": "fc:33,20"},
    "giff": {"algorithm": "giff", "network": "resnet8"},
    "bp_cnn": {"algorithm": "bp", "network": "cnn"},
}


def images(kind="bytes"):
    return replace(made(kind, inputs=math.prod(IMAGE), samples=45, tests=7), image=IMAGE)


def of(name, **options):
    fields = {"dataset": "made", "epochs": 2, "batch": 20, "lr": 1e-3, "augment": AUGMENT, "reshuffle": True}
    return Recipe(**{**fields, **RECIPES[name], **options})


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_model_whatever_happens_and_every_byte_planned(tmp_path, name):
    which, dataset = of(name), images()
    audited = run(tmp_path, which, dataset, audit=True, threads=2)
    assert audited["findings"] == []
    assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(audited))
    budget = least(tmp_path, which, dataset, threads=1)
    small = run(tmp_path, which, dataset, ram=budget, threads=1)
    assert small["arena"]["watermark_bytes"] <= budget
    crashed = until_done(which, dataset, tmp_path / "run", [3, 7], commit_every=1, threads=2)
    assert small["model_sha256"] == audited["model_sha256"] == crashed["model_sha256"]
    assert crashed["flash"]["read_bytes"] == audited["flash"]["read_bytes"]
    plain = run(tmp_path, replace(which, augment=None), dataset, threads=1)
    in_order = run(tmp_path, replace(which, reshuffle=False), dataset, threads=1)
    assert len({one["model_sha256"] for one in (audited, plain, in_order)}) == 3


@pytest.mark.parametrize(("batch", "augment"), [(1, AUGMENT), (2, "flip"), (3, "crop:1")])
def test_no_thread_without_a_sample_has_scratch(tmp_path, batch, augment):
    """Batches, and parts of them, of fewer samples than threads; images that stay as they are use theirs, too."""
    which, dataset = of("bp_cnn", batch=batch, limit=6, epochs=1, augment=augment), images()
    for ram in (None, least(tmp_path, which, dataset, threads=3)):
        audited = run(tmp_path, which, dataset, audit=True, threads=3, ram=ram)
        assert audited["findings"] == []
        assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(audited))


def seen_inputs(monkeypatch, tmp_path, which, dataset, **options):
    """(epoch, inputs, labels) of each part of a batch that the first stage trains on."""
    seen, parts = [], _Run._parts

    def look(self, records, k, epoch=None, **how):
        for part in parts(self, records, k, epoch, **how):
            if epoch is not None and self.meta["layer"] == 0:
                ram, first = self.stage.ram, part.first if len(self.stage.ram.labels) > self.stage.held_samples else 0
                seen.append((epoch, ram.inputs[: part.samples].copy(), ram.labels[first : first + part.samples].copy()))
            yield part

    monkeypatch.setattr(_Run, "_parts", look)
    run(tmp_path, which, dataset, **options)
    return seen


@pytest.mark.parametrize("kind", ["bytes", "real"])
@pytest.mark.parametrize("name", ["bp", "tinyfoa"])
@pytest.mark.parametrize("augment", ["flip,crop:2", "shift:40%"])
def test_what_trains_is_what_the_twin_makes(monkeypatch, tmp_path, name, kind, augment):
    which, dataset = of(name, augment=augment, shuffle=False, seed=11, network="fc:9"), images(kind)
    asked, N, B = parse(augment), 45, 20
    for ram in (None, "least"):
        ram = ram and least(tmp_path, which, dataset, threads=1)
        seen = seen_inputs(monkeypatch, tmp_path, which, dataset, ram=ram, threads=1)
        expected = []
        for epoch in range(2):
            for k in range(3):
                if name == "tinyfoa":  # batches change places
                    k = twins.turn(k, 3, epoch, seed=11)
                    rows = range(k * B, min(N, (k + 1) * B))
                else:
                    rows = [twins.turn(place, N, epoch, seed=11) for place in range(k * B, min(N, (k + 1) * B))]
                for place, row in zip(range(k * B, N), rows):
                    change = reference.drawn(
                        epoch,
                        place,
                        seed=11,
                        flip=asked.flip,
                        rows=asked.pixels(IMAGE[1]),
                        columns=asked.pixels(IMAGE[2]),
                        degrees=0.0,
                    )
                    image = reference.changed(dataset.train.inputs[row].reshape(IMAGE), change, zeros=asked.zeros)
                    expected.append((epoch, image.reshape(-1), dataset.train.labels[row]))
        found = [(epoch, x, y) for epoch, inputs, labels in seen for x, y in zip(inputs, labels)]
        assert len(found) == len(expected) == 2 * N
        for (epoch, x, y), (own_epoch, own_x, own_y) in zip(found, expected):
            assert epoch == own_epoch and y == own_y
            np.testing.assert_array_equal(x, own_x)


def test_only_images_can_be_changed(tmp_path):
    kind, message = outcome(run, tmp_path, of("bp"), made())
    assert kind.exit_code == 2 and "are not images" in message


def test_it_is_tested_on_images_as_they_are(monkeypatch, tmp_path):
    seen, parts, dataset = [], _Run._parts, images()

    def look(self, records, k, epoch=None, **how):
        for part in parts(self, records, k, epoch, **how):
            if records.name == "test":
                seen.extend(self.stage.ram.inputs[: part.samples].copy())
            yield part

    monkeypatch.setattr(_Run, "_parts", look)
    run(tmp_path, of("bp_cnn", epochs=1), dataset)
    np.testing.assert_array_equal(seen, np.concatenate([dataset.test.inputs] * 2))  # an epoch's, and at the end
