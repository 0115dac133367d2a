"""Run directories from strangers, all checksums right: no other file is touched, nothing that cannot be is trained."""

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hostile_tools import SEAL, changed_run, opened_root, resealed_items, sealed_root, slots_of
from train_tools import Crash, crash_at, made, outcome, recipe

from tinyfoa_np.errors import CheckFailed, TinyFoAError
from tinyfoa_np.model import c_layout, model
from tinyfoa_np.reports import audit
from tinyfoa_np.run import device, results
from tinyfoa_np.run.directory import read_recipe, stand_in
from tinyfoa_np.run.train import train
from tinyfoa_np.storage.files import JSON_LIMIT, RECIPE_LIMIT, ROWS_LIMIT
from tinyfoa_np.storage.sizes import Sizes
from tinyfoa_np.storage.whole_file import write_whole

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*going on from the commit before"),
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]

RUNS = {
    "bits": recipe(network="fc:21,9", slices=2),
    "real": recipe(network="fc:21,9", binary_activations=False, binary_weights=False, moments="int8"),
    "giff": recipe(network="fc:21,9", algorithm="giff"),
    "local": recipe(network="lc:3,2", slices=2),
    "bp": recipe(network="fc:21,9", algorithm="bp", slices=2, schedule="slice"),
}


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    """Runs that were left in the middle of their last stage, and the same when they had finished."""
    where, known = tmp_path_factory.mktemp("genuine"), {}

    def get(name, finished=False):
        path = where / f"{name} {finished}"
        if path not in known:
            which = RUNS[name]
            last = which.algorithm == "tinyfoa"
            leave = crash_at(lambda event: event[:4] == ("batch", last, 0, 2))
            dataset = replace(made("real" if name == "real" else "bytes", inputs=64), image=(1, 8, 8))
            try:
                train(which, dataset, path, threads=1, commit_every=1, on_event=None if finished else leave)
            except Crash:
                pass
            known[path] = path
        return path

    return get


@pytest.fixture
def copied(genuine, tmp_path):
    """A copy of such a run, to be spoiled."""

    def get(name="bits", finished=False):
        return Path(shutil.copytree(genuine(name, finished), tmp_path / "run"))

    return get


def resumed(path):
    return train(read_recipe(path), None, path, threads=1, resume=True)


def refused(path, says):
    what, message = outcome(resumed, path)
    assert says in message, message
    return message


def rewrite_roots(path, change):
    """Changes the fields of both roots, in place or by returning others."""
    for root in (path / "flash").glob("root.?"):
        sequence, fields = opened_root(root.read_bytes())
        root.write_bytes(sealed_root(sequence, change(fields) or fields))


# Links, FIFOs, devices: of all files that lie in a run


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "flash/lock", "flash/root.0", "flash/root.1", "flash/train", "flash"]
)
def test_resuming_follows_no_link(copied, tmp_path, name):
    path, outside = copied(), tmp_path / "outside"
    target = path / name
    shutil.move(target, outside)
    target.symlink_to(outside)
    before = outside.read_bytes() if outside.is_file() else sorted(p.name for p in outside.iterdir())
    refused(path, "symbolic link")
    assert before == (outside.read_bytes() if outside.is_file() else sorted(p.name for p in outside.iterdir()))


@pytest.mark.parametrize("name", ["recipe.json", "data.json", "metrics.jsonl", "audit.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "zero"])
def test_reading_takes_regular_files_only(copied, tmp_path, name, kind):
    path = copied(finished=True)
    target, outside = path / name, tmp_path / "outside"
    shutil.move(target, outside)
    if kind == "link":
        target.symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "directory":
        target.mkdir()
    else:
        target.symlink_to("/dev/zero")
    reads = {
        "recipe.json": read_recipe,
        "data.json": stand_in,
        "metrics.jsonl": results.epochs,
        "audit.json": results.result,
        "model.safetensors": results.model,
    }
    outcome(reads[name], path)


def test_what_is_written_replaces_a_link(tmp_path):
    """Also one with the name that a file had while it was written, which a stranger could know."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"precious")
    for name in ("audit.json", "audit.json.part", "report.html"):
        (tmp_path / name).symlink_to(mine)
        write_whole(tmp_path / name, b"{}")
        assert (tmp_path / name).read_bytes() == b"{}" and not (tmp_path / name).is_symlink()
    assert mine.read_bytes() == b"precious"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["model.safetensors", "audit.json", "model.safetensors.part", "audit.json.part"])
def test_a_resumed_run_writes_over_no_file_of_the_user(copied, tmp_path, name):
    path, mine = copied(), tmp_path / "mine"
    mine.write_bytes(b"precious")
    (path / name).symlink_to(mine)
    resumed(path)
    assert mine.read_bytes() == b"precious"


# What files say


@pytest.mark.parametrize(
    "name, size, reads",
    [
        ("recipe.json", RECIPE_LIMIT + 1, read_recipe),
        ("data.json", JSON_LIMIT + 1, stand_in),
        ("audit.json", 200 << 30, results.result),
        ("metrics.jsonl", ROWS_LIMIT + 1, results.epochs),
        ("flash/root.0", 200 << 30, resumed),
    ],
)
def test_files_that_no_run_has(copied, name, size, reads):
    path = copied(finished=True)
    os.truncate(path / name, size)
    assert f"{size:,} bytes" in outcome(reads, path)[1]


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[]," * 300_000, "[]", "3", '"\\ud800"', "NaN"])
@pytest.mark.parametrize("name", ["recipe.json", "data.json", "audit.json", "metrics.jsonl"])
def test_json_of_other_things(copied, name, text):
    path = copied(finished=True)
    (path / name).write_text(text)
    reads = {"recipe.json": read_recipe, "data.json": stand_in, "metrics.jsonl": results.epochs}
    outcome(reads.get(name, results.result), path)


@pytest.mark.parametrize(
    "field, value",
    [
        ("train", 10**18),
        ("train", 0),
        ("train", 71),
        ("test", -1),
        ("inputs", 2**40),
        ("inputs", 65),
        ("classes", 0),
        ("classes", 70000),
        ("classes", True),
        ("scale", None),
        ("scale", float("nan")),
        ("dtype", "float64"),
        ("dtype", "O"),
        ("image", [1, 8, 7]),
        ("image", "abc"),
        ("columns", {"mean": [1]}),
        ("origin", {"labels": 3}),
        ("origin", []),
        ("name", None),
        ("extra", 1),
    ],
)
def test_descriptions(copied, field, value):
    path = copied()
    about = json.loads((path / "data.json").read_text())
    (path / "data.json").write_text(json.dumps({**about, field: value}))
    outcome(resumed, path)


@pytest.mark.parametrize("name", RUNS)
def test_labels_beyond_the_classes(copied, name):
    """Such a run crashed giff, and trained silently elsewhere."""
    path = copied(name)
    wrong = "layer0.outputs" if (path / "flash" / "layer0.outputs").exists() else "train"
    content = bytearray((path / "flash" / wrong).read_bytes())
    _, fields = opened_root((path / "flash" / "root.0").read_bytes())
    at = fields["objects"][wrong]["sizes"][0][1][0][1] - 6  # the last label, before the last batch's scale
    content[at : at + 2] = b"\xff\xff"
    (path / "flash" / wrong).write_bytes(content)
    resealed_items(path / "flash")
    assert "holds what no sample can" in refused(path, wrong)


@pytest.mark.parametrize("name, value", [("bits", b"\xff" * 8), ("real", b"\0\0\xc0\x7f" * 2)])
def test_inputs_that_cannot_be(copied, name, value):
    """Bits beyond the last input, and what is no number, in what the first layer handed on."""
    path = copied(name)
    target = path / "flash" / "layer0.outputs"
    target.write_bytes(value + target.read_bytes()[len(value) :])
    resealed_items(path / "flash")
    assert "batch 1" in refused(path, "holds what no sample can")


@pytest.mark.parametrize(
    "field, value",
    [
        ("layer", 2),
        ("layer", -1),
        ("layer", 10**9),
        ("layer", True),
        ("stage", "x"),
        ("stage", "start"),
        ("epoch", 99),
        ("epoch", -1),
        ("batch", 10**6),
        ("batch", -1),
        ("seen", 0),
        ("wrong", 10**6),
        ("loss", "1"),
        ("loss", None),
        ("first", 1),
        ("last", 0),
        ("last", 10**6),
        ("states", []),
        ("states", [{}, {}]),
        ("state", None),
        ("state", {}),
        ("trained", []),
        ("trained", [{"digest": "z" * 64, "alpha": 1, "scale": 1}]),
        ("arena", [{}]),
        ("errors", ["x"]),
        ("metrics_lines", 10**6),
        ("watermark", [1, 2]),
        ("ram", "much"),
        ("ram", 1),
        ("lean", 1),
        ("probed", [3]),
        ("findings", [3]),
    ],
)
def test_where_a_run_stands(copied, field, value):
    path = copied()
    rewrite_roots(path, lambda fields: fields["meta"].update({field: value}))
    outcome(resumed, path)


def test_objects_in_flash(copied):
    def larger(known):
        known["sizes"][0][1][0][1] += 4096

    def more(known):
        known["sizes"][0][0] = 2**22 - 1

    def another(known):
        known["slots"] = 3 - known["slots"]

    def older(known):
        known["commits"] -= 1

    def other(known):
        known["checksums"] += 1

    for change in (larger, more, another, older, other):
        path = copied()
        rewrite_roots(path, lambda fields, change=change: change(fields["objects"]["layer1.slices"]))
        outcome(resumed, path)
        shutil.rmtree(path)
    path = copied()
    _, fields = opened_root((path / "flash" / "root.0").read_bytes())
    size = Sizes.parsed(fields["objects"]["layer1.slices"]["sizes"])[0]
    content = bytearray((path / "flash" / "layer1.slices").read_bytes())
    for _, at in slots_of(0, size, 2):  # an item that was never written
        content[at : at + SEAL] = bytes(SEAL)
    (path / "flash" / "layer1.slices").write_bytes(content)
    resealed_items(path / "flash")
    refused(path, "was never written")
    shutil.rmtree(path)
    for name in ("train", "layer1.slices", "layer0.outputs", "layer0.trained"):
        path = copied()
        rewrite_roots(path, lambda fields, name=name: fields["objects"].pop(name) and None)
        assert name in refused(path, "which is not there")
        shutil.rmtree(path)
    path = copied()
    rewrite_roots(path, lambda fields: fields["objects"].update({"../../mine": fields["objects"]["train"]}))
    refused(path, "../../mine")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("finished", [False, True])
def test_changed_at_random(genuine, tmp_path, name, finished):
    """One thing is changed, and the checksums made to hold: it is refused in a line, or goes on as a run does."""
    rng, path = random.Random(f"{name} {finished}"), tmp_path / "run"
    for _ in range(25):
        shutil.copytree(genuine(name, finished), path)
        changed_run(path, rng)
        try:
            if finished:
                results.figures(path), results.epochs(path), audit.audit(path)
            resumed(path)
            model.load(path / "model.safetensors").predict(np.zeros((1, 64), np.uint8))
        except TinyFoAError as error:
            assert "\n" not in str(error) and str(error)
        shutil.rmtree(path)


def test_weights_that_are_not_finite_become_no_trainer(copied):
    path = copied(finished=True)
    slices = path / "flash" / "layer1.slices"
    _, fields = opened_root((path / "flash" / "root.0").read_bytes())
    content, size = bytearray(slices.read_bytes()), Sizes.parsed(fields["objects"]["layer1.slices"]["sizes"])[0]
    for at, _ in slots_of(0, size, 2):
        content[at : at + 4] = b"\0\0\xc0\x7f"
    slices.write_bytes(content)
    resealed_items(path / "flash")
    layout = c_layout.CLayout(RUNS["bits"].validated(), replace(made(inputs=64), image=(1, 8, 8)))
    assert "not finite" in outcome(device.images, path, layout)[1]


def test_a_first_commit_that_was_torn(copied, tmp_path):
    """Such a run can be started again, and says so; one that has committed twice cannot be started over."""
    path = copied()
    for name in ("audit.json", "model.safetensors"):
        (path / name).unlink(missing_ok=True)
    root = path / "flash" / "root.1"
    root.write_bytes(root.read_bytes()[:700])
    kept = (path / "flash" / "root.0").read_bytes()
    (path / "flash" / "root.0").write_bytes(b"")
    assert "holds no commit: start the training again" in outcome(read_recipe, path)[1]
    (path / "flash" / "root.0").write_bytes(kept[:700])
    message = outcome(resumed, path)[1]
    assert "is damaged" in message
    assert outcome(train, RUNS["bits"], made(inputs=64), path)[0] is not CheckFailed


@pytest.mark.parametrize("lost", ["flash/lock", "flash/root.0", "recipe.json", "data.json", "metrics.jsonl", "flash"])
def test_a_run_that_never_committed_can_be_started_again(tmp_path, genuine, lost):
    path = Path(shutil.copytree(genuine("bits"), tmp_path / "run"))
    for root in (path / "flash").glob("root.?"):
        root.write_bytes(b"")
    target = path / lost
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    if lost == "flash/root.0":  # roots are there before anything else is
        for other in (path / "flash").iterdir():
            other.unlink()
    outcome(resumed, path)
    train(RUNS["bits"], made(inputs=64), path, threads=1)


@pytest.mark.parametrize("test", [1, 15, 10**9])
def test_a_finished_run_that_describes_other_test_samples_has_no_answers(copied, test):
    """Nothing is allocated for samples that flash does not hold."""
    path = copied(finished=True)
    description = json.loads((path / "data.json").read_text())
    assert len(results.tested(path, results.model(path))[1]) == description["test"]
    (path / "data.json").write_text(json.dumps({**description, "test": test}))
    what, message = outcome(results.tested, path, results.model(path))
    assert what is CheckFailed and "test samples" in message


def test_a_finished_run_with_a_label_that_is_no_class_has_no_answers(copied):
    path = copied(finished=True)
    content = bytearray((path / "flash" / "test").read_bytes())
    _, fields = opened_root((path / "flash" / "root.0").read_bytes())
    at = fields["objects"]["test"]["sizes"][0][1][0][1] - 6  # the last label, before the last batch's scale
    content[at : at + 2] = b"\xff\xff"
    (path / "flash" / "test").write_bytes(content)
    resealed_items(path / "flash")
    what, message = outcome(results.tested, path, results.model(path))
    assert what is CheckFailed and "test in flash holds what no sample can" in message
