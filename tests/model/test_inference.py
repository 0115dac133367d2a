"""A model answers in an arena that holds what inference needs: planned = accounted = watermark, and no more bytes."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_tools import made, recipe, run

from tinyfoa_np.model import inference, model

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

FILE = "model.safetensors"
NETWORKS = [
    ("tinyfoa", "fc:133,20"),
    ("bp", "fc:133,20"),
    ("drtp", "fc:133,20"),
    ("pepita", "fc:133,20"),
    ("ff", "fc:133,20"),
    ("tinyfoa", "lc:3,4"),
    ("bp", "lc:3,4"),
    ("bp", "cnn"),
    ("giff", "cnn"),
    ("giff", "fc:20x2"),
]
TRAINING_ONLY = ("moment", "labels", "error", "gradient", "feedback", "commit")


@pytest.fixture(scope="module", params=NETWORKS, ids="-".join)
def trained(request, tmp_path_factory):
    """(data set, result, model) of a short training."""
    algorithm, network = request.param
    fields = {"schedule": "stream", "slices": 1} if algorithm == "tinyfoa" else {"slices": 1}
    which = recipe(algorithm=algorithm, network=network, epochs=1, **fields)
    dataset = replace(made(samples=40, tests=21, inputs=144), image=(1, 12, 12))
    result = run(tmp_path_factory.mktemp("run"), which, dataset)
    return dataset, result, model.load(Path(result["run_dir"]) / FILE)


def test_three_figures_are_one(trained):
    dataset, _, ours = trained
    assert ours.memory is None
    for samples in (21, 1):
        ours.predict(dataset.test.inputs[:samples])
        found = ours.memory
        assert found["samples"] == samples
        assert found["planned_bytes"] == found["accounted_bytes"] == found["watermark_bytes"]


def test_less_than_training_took(trained):
    """Of as many samples at a time."""
    dataset, result, ours = trained
    batch = result["recipe"]["batch"]
    ours.predict(dataset.test.inputs[:batch])
    assert ours.memory["planned_bytes"] < result["arena"]["planned_bytes"]
    with ours.inference(batch) as at_work:
        regions = at_work.arena.plan.regions
    assert not [region.name for region in regions for name in TRAINING_ONLY if name in region.name]


def test_a_model_answers_alike_in_arenas_of_any_size(trained, monkeypatch):
    dataset, _, ours = trained
    together = ours.scores(dataset.test.inputs)
    for batch in (1, 7, 16):
        monkeypatch.setattr(model, "BATCH", batch)
        assert (ours.scores(dataset.test.inputs) == together).all()
        assert ours.memory["samples"] == batch


def test_nothing_is_left_of_a_larger_batch(trained):
    """What one batch wrote must not show in the answers to the next, smaller one."""
    dataset, _, ours = trained
    with ours.inference(21) as at_work:
        alone = at_work.scores(dataset.test.inputs[:3]).copy()
        at_work.scores(dataset.test.inputs[::-1].copy())
        assert (at_work.scores(dataset.test.inputs[:3]) == alone).all()


def test_threads_that_share_a_model_get_their_own_answers(trained):
    """An arena of one for all gave wrong ones, silently."""
    dataset, _, ours = trained
    samples = [np.roll(dataset.test.inputs, n, axis=0) for n in range(3)]
    right = [ours.scores(x) for x in samples]
    with ThreadPoolExecutor(3) as threads:
        for _ in range(10):
            found = list(threads.map(ours.scores, samples))
            assert all((one == other).all() for one, other in zip(found, right, strict=True))
    assert len(ours._at_work) == 1


def test_a_copy_has_no_arena(trained):
    dataset, _, ours = trained
    right = ours.scores(dataset.test.inputs)
    again = pickle.loads(pickle.dumps(ours))
    assert again.memory is None and (again.scores(dataset.test.inputs) == right).all()


def test_a_rule_that_reaches_for_a_region_of_training_is_told(trained, monkeypatch):
    dataset, _, ours = trained
    (stage, *_) = inference.stages_of(ours.recipe, ours.inputs, ours.classes, 1)

    def reaching(self, samples):
        self.ram.labels[:] = 0

    monkeypatch.setattr(type(stage), "answer", reaching)
    with pytest.raises(AttributeError, match="labels"):
        ours.predict(dataset.test.inputs[:1])
