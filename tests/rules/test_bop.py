"""Bop from end to end: bytes as planned, one model however a run goes, and no weights in full precision anywhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_tools import arenas, least, made, outcome, run, until_done

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import model
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.fit import Layout

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

RULES = {
    "tinyfoa": {"algorithm": "tinyfoa", "schedule": "slice", "slices": 2, "hold": "2"},
    "stream": {"algorithm": "tinyfoa", "schedule": "stream", "slices": 2, "binary_activations": False},
    "bp": {"algorithm": "bp", "binary_activations": False},
    "bp_slices": {"algorithm": "bp", "schedule": "slice", "slices": 2},
}


def of(name, **options):
    own = {"gamma": 0.05, "tau": 1e-3}
    fields = {"dataset": "made", "network": "fc:33,20", "epochs": 2, "batch": 32, "lr": 3e-3, "optimizer": "bop"}
    return Recipe(**{**fields, "options": own, **RULES[name], **options})


@pytest.mark.parametrize("name", RULES)
def test_the_same_model_whatever_happens_and_every_byte_planned(tmp_path, name):
    which, dataset = of(name), made()
    audited = run(tmp_path, which, dataset, audit=True, threads=2)
    assert audited["findings"] == []
    assert all(planned == accounted == watermark for planned, accounted, watermark in arenas(audited))
    small = run(tmp_path, which, dataset, ram=least(tmp_path, which, dataset, threads=1), threads=1)
    crashed = until_done(which, dataset, tmp_path / "run", [2, 9], commit_every=1, threads=3)
    assert small["model_sha256"] == audited["model_sha256"] == crashed["model_sha256"]
    loaded = model.load(Path(small["run_dir"]) / "model.safetensors")
    wrong = np.mean(loaded.predict(dataset.test.inputs) != dataset.test.labels)
    assert 100 * wrong == pytest.approx(small["error_pct"])


@pytest.mark.parametrize("name", RULES)
def test_there_is_one_moment_and_a_bit_for_each_weight(name):
    which, dataset = of(name).validated(), made()
    stages = [one.stage for one in Layout(which, dataset, 1).fit(None)]
    layers = [layer for stage in stages for layer in stage.layers]
    signs = [layer for layer in layers if layer.binary_weights]
    assert len(signs) == 2
    for layer in signs:
        names = {region.name.removeprefix(layer.prefix) for region in layer.regions() if region.nbytes}
        assert not names & {"slice", "moment2"} and {"weights", "moment1"} <= names
        objects = layer.objects()
        moments = sum(size - 16 for size in objects[layer.name("slices")])
        assert moments == 4 * layer.O * layer.I and objects[layer.name("signs")] == [layer.published_bytes]


@pytest.mark.parametrize(("name", "bits", "most"), [("stream", False, 20), ("stream", True, 40), ("bp", True, 30)])
def test_it_learns(tmp_path, name, bits, most):
    which = of(name, epochs=8, binary_activations=bits, options={"gamma": 1e-2, "tau": 1e-3})
    assert run(tmp_path, which, made(samples=300, tests=100))["error_pct"] <= most  # 67, by chance


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "drtp"}, "tinyfoa, bp"),
        ({"network": "lc:4"}, "tinyfoa, bp"),
        ({"binary_weights": False}, "--no-binary-weights"),
        ({"moments": "int8"}, "float32 moments only"),
        ({"algorithm": "bp", "schedule": "frozen", "slices": 2}, "freeze"),
        ({"network": "fc:9x2", "freeze": "1"}, "leave --from and --freeze out"),
        ({"start": 64 * "0"}, "leave --from and --freeze out"),
        ({"optimizer": "adam", "options": {"gamma": 0.5}}, "optimizer bop only"),
    ],
)
def test_what_needs_full_precision_is_refused(options, words):
    what, message = outcome(replace(Recipe(optimizer="bop"), **options).validated)
    assert what is BadRequest and words in message
