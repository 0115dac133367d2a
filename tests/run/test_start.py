"""Fine-tuning: what a run takes from a model, what stays frozen, and that neither depends on how the run goes."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from train_tools import Crash, crash_at, made, metrics, outcome, recipe, run

from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.model.model import load
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run.directory import read_recipe
from tinyfoa_np.run.start import Start, further
from tinyfoa_np.run.train import train

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

REAL = {"binary_weights": False, "binary_activations": False}
#: a rule on a network, and layers to freeze
CASES = {
    "tinyfoa": ({"epochs": 2}, "1"),
    "tinyfoa real": ({**REAL, "schedule": "stream"}, "1"),
    "tinyfoa int8": ({"moments": "int8", "slices": 3, "recompute": True}, "1"),
    "tinyfoa lc": ({"network": "lc:3,2"}, "1"),
    "bp": ({"algorithm": "bp", "network": "fc:33,20,11"}, "1,2"),
    "bp above": ({"algorithm": "bp", **REAL, "slices": 2, "schedule": "slice", "network": "fc:33,20,11"}, "2"),
    "bp head": ({"algorithm": "bp", **REAL}, "1,2"),
    "bp lc": ({"algorithm": "bp", "network": "lc:3,2"}, "1"),
    "bp cnn": ({"algorithm": "bp", "network": "cnn", "optimizer": "momentum"}, "1,2"),
    "bp resnet8": ({"algorithm": "bp", "network": "resnet8", "batch": 24}, "1,2"),
    "dfa": ({"algorithm": "dfa", "epochs": 2}, "1"),
    "dfa lc": ({"algorithm": "dfa", "network": "lc:3,2"}, "1"),
    "fa": ({"algorithm": "fa"}, "2"),
    "drtp": ({"algorithm": "drtp"}, "1"),
    "fa cnn": ({"algorithm": "fa", "network": "conv:5,m2,6,f9"}, "1,2"),
    "dfa cnn": ({"algorithm": "dfa", "network": "conv:5,m2,6,f9"}, "1,2"),
    "drtp cnn": ({"algorithm": "drtp", "network": "conv:5,m2,6,f9"}, "1"),
    "pepita": ({"algorithm": "pepita", "lr_schedule": "drop:1", "epochs": 2}, "1"),
    "pepita_tl": ({"algorithm": "pepita_tl"}, "1"),
    "ff": ({"algorithm": "ff"}, "1"),
    "monoforward": ({"algorithm": "monoforward"}, "1"),
    "biofo": ({"algorithm": "biofo"}, "1"),
    "giff": ({"algorithm": "giff", "network": "fc:33,20", "options": {"answer": "last"}}, "1"),
    "giff cnn": ({"algorithm": "giff", "network": "cnn", "groups": "1,2|3", "options": {"answer": "last"}}, "1,2"),
}


def images(kind="bytes", classes=3, seed=1):
    """Samples of 1 x 8 x 8."""
    return replace(made(kind, inputs=64, classes=classes, seed=seed), image=(1, 8, 8))


def arrays(directory):
    """Weights and biases of a model's layers."""
    return [(layer.weights, layer.bias) for layer in load(directory / "model.safetensors").layers]


def trained(where, data, **options):
    result = run(where, recipe(**options), data)
    return where / result["run_dir"].rpartition("/")[2], result


@pytest.mark.parametrize("name", CASES)
def test_a_run_from_a_model_is_planned_and_the_same_however_it_goes(tmp_path, name):
    """New classes; audited; in the smallest arena, with other threads; killed and resumed without the model."""
    options, freeze = CASES[name]
    old, _ = trained(tmp_path, images(), **options)
    data, which = images(classes=4, seed=2), recipe(**options, freeze=freeze)
    result = run(tmp_path, which, data, start=old, audit=True)
    arena = result["arena"]
    assert result["findings"] == []
    assert arena["planned_bytes"] == arena["accounted_bytes"] == arena["watermark_bytes"]

    before, after = arrays(old), arrays(tmp_path / result["run_dir"].rpartition("/")[2])
    if "cnn" in name or "resnet8" in name:  # frozen units are a group of their own here
        size = len(after[0][0]) if "giff" not in name else None
        kept = after[0][0][:size] if size else after[0][0]
        program = Layout(which.validated(), data, 1).fit(None)[0].stage.layers[0].program.parameters
        assert np.array_equal(before[0][0][:program], kept[:program])
    else:
        for number in map(int, freeze.split(",")):
            old_arrays, new_arrays = before[number - 1], after[number - 1]
            if "giff" in name:  # with the label channel behind it
                count = 64 * 33 + 33
                old_arrays, new_arrays = (old_arrays[0][:count],), (new_arrays[0][:count],)
            assert all(map(np.array_equal, old_arrays, new_arrays))

    whole = Layout(which.validated(), data, 1)
    if "cnn" not in name and "resnet8" not in name:
        small = run(tmp_path, which, data, start=old, ram=whole.least(), threads=1)
        assert small["model_sha256"] == result["model_sha256"]
    directory = tmp_path / "killed"
    with pytest.raises(Crash):
        at = crash_at(lambda event: event.kind == "batch" and event.batch == 1)
        train(which, data, directory, start=old, commit_every=1, on_event=at)
    shutil.rmtree(old)
    again = train(read_recipe(directory), None, directory, resume=True)
    assert again["model_sha256"] == result["model_sha256"] and metrics(again) == metrics(result)
    assert again["flash"]["written_bytes"] >= 0


@pytest.mark.parametrize("name", CASES)
def test_a_frozen_layer_takes_less_of_everything(name):
    options, freeze = CASES[name]
    plans = []
    for chosen in (None, freeze):
        layout = Layout(recipe(**options, freeze=chosen).validated(), images(), 1)
        parts = layout.fit(None)
        held = layout.flash_bytes(parts)
        held = sum(nbytes for what, nbytes in held.items() if "data set" not in what)
        stages = [one.stage for one in parts]
        objects = sum(sum(map(sum, stage.objects().values())) for stage in stages)
        written = sum(layer.traffic()[1] for stage in stages for layer in stage.layers)
        plans.append((sum(one.plan.nbytes for one in parts), written, objects, held))
    assert all(b <= a for a, b in zip(*plans, strict=True)) and plans[1][0] < plans[0][0]
    assert plans[1][1] < plans[0][1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"algorithm": "bp", **REAL},
        {"algorithm": "bp", "network": "cnn"},
        {"algorithm": "ff"},
        {"network": "lc:3,2"},
    ],
)
def test_training_starts_with_the_models_own_answers(tmp_path, options):
    """With a rate at which nothing moves, the new run is the old model, from its directory and from its file."""
    data = images()
    old, result = trained(tmp_path, data, **options)
    more = {"classifier_lr": 1e-29} if options.get("algorithm") == "ff" else {}
    which = further(load(old / "model.safetensors"), "made", optimizer="sgd", lr=1e-29, **more)
    again = run(tmp_path, which, data, start=old)
    assert result["model_sha256"] == again["recipe"]["start"]
    if options.get("network") == "lc:3,2":  # whose batch norm goes on counting
        return
    assert again["model_sha256"] == result["model_sha256"]
    file = run(tmp_path, which, data, start=old / "model.safetensors")
    models = [load(directory + "/model.safetensors") for directory in (result["run_dir"], file["run_dir"])]
    assert np.array_equal(models[0].predict(data.test.inputs), models[1].predict(data.test.inputs))


@pytest.mark.parametrize("name", ["bp resnet8", "giff cnn"])
def test_given_arrays_take_their_own_bytes(name):
    stage = Layout(recipe(**CASES[name][0]).validated(), images(), 1).makers[0](Tiling(8))
    for group in stage.layers:
        assert sum(map(sum, group.given_objects().values())) == 4 * (group.size + group.program.statistics)


def test_weights_of_a_model_file_are_alpha_times_signs(tmp_path):
    old, result = trained(tmp_path, images())
    whole, signs = Start.of(old), Start.of(load(old / "model.safetensors"))
    assert whole.digest == result["model_sha256"] != signs.digest
    for (W, _), (S, _), layer in zip(whole.layers, signs.layers, signs.model.layers, strict=True):
        assert np.array_equal(S, np.where(W >= 0, np.float32(layer.alpha), -np.float32(layer.alpha)))


def test_lower_layers_are_taken_and_the_head_of_other_classes_is_not(tmp_path):
    data = images()
    still = {"algorithm": "bp", **REAL, "optimizer": "sgd", "lr": 1e-29}
    old, _ = trained(tmp_path, data, network="fc:33", algorithm="bp", **REAL)
    higher = run(tmp_path, recipe(network="fc:33,20", **still), data, start=old)
    fresh = run(tmp_path, recipe(network="fc:33,20", **still), data)
    kept, new, own = (
        arrays(tmp_path / r["run_dir"].rpartition("/")[2]) for r in ({"run_dir": str(old)}, higher, fresh)
    )
    assert np.array_equal(new[0][0], kept[0][0]) and np.array_equal(new[1][0], own[1][0])
    assert np.array_equal(new[2][0], own[2][0])
    renamed = replace(data, origin={"labels": ["a", "b", "c"]})
    other = run(tmp_path, recipe(network="fc:33", **still), renamed, start=old)
    taken = run(tmp_path, recipe(network="fc:33", **still), data, start=old)
    heads = [arrays(tmp_path / r["run_dir"].rpartition("/")[2])[1][0] for r in (other, taken)]
    assert np.array_equal(heads[1], kept[1][0]) and not np.array_equal(heads[0], kept[1][0])


def test_another_network_has_the_models_recipe_and_another_rule_its_own():
    old = recipe(algorithm="bp", network="fc:33", lr=0.02, batch=7, **REAL).validated()
    model = SimpleNamespace(recipe=old)
    higher = further(model, "other", network="fc:33,20", epochs=3)
    assert higher == replace(old, dataset="other", network="fc:33,20", epochs=3)
    giff = recipe(algorithm="giff", network="fc:33", lr=0.02).validated()
    wider = further(SimpleNamespace(recipe=giff), "other", network="fc:33,20")
    assert (wider.algorithm, wider.lr, wider.groups, wider.theta) == ("giff", 0.02, "1|2", 2.0)
    changed = further(model, "other", algorithm="drtp")
    assert (changed.algorithm, changed.network, changed.lr) == ("drtp", "fc:33", 1e-4)
    chosen = further(model, "other", shape=(1500, 64), algorithm="drtp", epochs=7)
    assert (chosen.network, chosen.lr, chosen.batch, chosen.epochs) == ("fc:33", 0.01, 20, 7)
    assert not chosen.binary_weights and chosen.normalize == old.normalize


def test_pretraining_by_backpropagation_serves_other_rules(tmp_path):
    data = images()
    old, _ = trained(tmp_path, data, algorithm="bp", **REAL)
    for options in ({}, {"algorithm": "drtp"}, {"algorithm": "ff"}):
        result = run(tmp_path, recipe(freeze="1", **options), data, start=old)
        signs = Start.of(load(result["run_dir"] + "/model.safetensors")).layers[0][0] > 0
        assert np.array_equal(signs, Start.of(old).layers[0][0].clip(-1, 1) >= 0)


def test_biases_that_a_model_of_convolutions_has_not_are_0(tmp_path):
    data = images()
    still = {"network": "conv:5,m2,f9", "epochs": 2}
    old, _ = trained(tmp_path, data, algorithm="bp", **still)
    result = run(tmp_path, recipe(algorithm="dfa", freeze="1", **still), data, start=old)
    before, after = Start.of(old).layers[0][0], Start.of(load(result["run_dir"] + "/model.safetensors")).layers[0][0]
    assert np.array_equal(before[:45], after[:45]) and before[:45].all() and not after[45:50].any()
    with pytest.raises(BadRequest, match="lower layers are not those of bp on conv:5,m2,f9: bp has no biases"):
        run(tmp_path, recipe(algorithm="bp", **still), data, start=trained(tmp_path, data, algorithm="dfa", **still)[0])
    with pytest.raises(BadRequest, match="operation 1 is conv 3 x 3 x 1 x 5 there and conv 3 x 3 x 1 x 6 here"):
        run(tmp_path, recipe(algorithm="bp", **{**still, "network": "conv:6"}), data, start=old)


@pytest.mark.parametrize("normalize", ["standard", "unit"])
@pytest.mark.parametrize("kind", ["bytes", "real"])
def test_the_scaling_travels_with_the_model(tmp_path, kind, normalize):
    from tinyfoa_np.data.dataset import Columns

    data = images(kind)
    if kind == "real":
        data = replace(data, columns=Columns.of(data.train.inputs))
    old, _ = trained(tmp_path, data, normalize=normalize)
    inputs = data.train.inputs // 2 if kind == "bytes" else data.train.inputs * np.float32(3)
    other = Dataset("other", Split(inputs, data.train.labels), data.test, 3, scale=7.0, offset=3.0, image=data.image)
    if kind == "real":
        other = replace(other, columns=Columns.of(inputs))
    model = load(old / "model.safetensors")
    result = run(tmp_path, further(model, "other"), other, start=old)
    new = load(result["run_dir"] + "/model.safetensors")
    assert new.inputs == model.inputs
    for ours, its in zip(new.affine or (), model.affine or (), strict=True):
        assert np.array_equal(ours, its)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    data = images()
    old, _ = trained(tmp_path, data)
    cases = [
        (recipe(network="fc:30,20"), data, "layer 1 differs"),
        (recipe(network="fc:33,20,9", freeze="2"), data, None),
        (recipe(network="lc:3"), data, "another form"),
        (recipe(algorithm="pepita"), data, "no biases"),
        (recipe(), made(), "64 inputs"),
        (recipe(), images("real"), "(bytes)"),
        (recipe(start="0" * 64), data, "digest differs"),
        (recipe(freeze="2"), data, "gives the answer"),
        (recipe(freeze="3"), data, "layers 1 to 2"),
        (recipe(freeze="x"), data, "as in '1,2'"),
        (recipe(algorithm="bp", network="cnn", freeze="2"), data, "only the lowest"),
        (recipe(algorithm="giff", network="cnn", freeze="1"), data, "--answer last"),
        (recipe(network="fc:33,20,9,8", freeze="3"), data, "it has 2"),
    ]
    for which, samples, words in cases:
        if words:
            what, said = outcome(run, tmp_path, which, samples, start=old)
            assert what is BadRequest and words in said, said
        else:
            run(tmp_path, which, samples, start=old)
    what, said = outcome(run, tmp_path, recipe(start="0" * 64), data)
    assert what is BadRequest and "give it" in said
    assert outcome(Start.of, tmp_path / "nothing")[0] is BadRequest


def test_a_damaged_start_is_refused(tmp_path):
    old, _ = trained(tmp_path, images())
    for path in (old / "flash").iterdir():
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-7] + b"\xff" * 7)
    assert outcome(Start.of, old)[0] is not BadRequest
    model = old / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x01")
    assert outcome(Start.of, model)[0] is CheckFailed


def test_a_lean_run_starts_from_signs(tmp_path):
    result = run(tmp_path, recipe(), images(), lean=True)
    assert Start.of(result["run_dir"]).digest == Start.of(load(result["run_dir"] + "/model.safetensors")).digest
