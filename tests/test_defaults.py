"""Defaults that follow from the data: the rule's numbers, and what it leaves alone."""

import pytest

from tinyfoa_np import catalogue, defaults
from tinyfoa_np.recipe import Recipe


def chosen(samples, inputs=20, own=True, **given):
    return defaults.completed(given, samples, inputs, own)


@pytest.mark.parametrize("samples", [2, 90, 150, 1437, 10_000, 60_000, 10**6])
@pytest.mark.parametrize("algorithm", [entry.name for entry in catalogue.algorithms()])
def test_any_number_of_samples_gives_a_recipe(samples, algorithm):
    recipe = Recipe(**chosen(samples, algorithm=algorithm)).validated()
    least, most = defaults.BATCH
    assert least <= recipe.batch <= most and 1e-5 <= recipe.lr <= 0.1
    assert defaults.EPOCHS[0] <= recipe.epochs <= defaults.EPOCHS[1]
    steps = recipe.epochs * -(-samples // recipe.batch)
    assert steps >= defaults.STEPS or recipe.epochs == defaults.EPOCHS[1]
    assert recipe.normalize == "standard" and recipe.shuffle


def test_a_slice_moves_a_weight_as_far_whatever_the_number_of_samples_and_slices():
    """lr times the steps in which a slice trains is the same, as long as the largest rate does not cut it off."""
    for samples, slices, visits in ((20_000, 2, 1), (60_000, 2, 1), (60_000, 4, 1), (60_000, 4, 2)):
        fields = chosen(samples, slices=slices, visits=visits)
        steps = fields["epochs"] * -(-samples // fields["batch"]) * visits / slices**2
        assert fields["lr"] * steps == pytest.approx(defaults.TRAVEL)
    assert chosen(60, slices=4)["lr"] == defaults.LARGEST_LR


def test_what_is_given_stays_and_the_rest_follows_from_it():
    given = {"network": "fc:7", "batch": 33, "epochs": 2, "lr": 0.5, "lr_schedule": "drop:50%", "normalize": "unit"}
    assert {name: chosen(500, **given)[name] for name in given} == given
    assert chosen(9000, limit=90)["batch"] == chosen(90)["batch"] and chosen(9000, limit=90)["lr"] == chosen(90)["lr"]
    assert "lr_schedule" not in chosen(500, algorithm="bp", lr=0.001)
    assert chosen(500, inputs=1)["slices"] == 1


def test_which_data_sets_the_rule_is_for():
    assert defaults.apply("digits", None) and defaults.apply("a.csv", None) and defaults.apply("x.npy,y.npy", "fc:5")
    assert not defaults.apply("mnist", None) and not defaults.apply("cifar10-unverified", "fc:2000x4")
    assert defaults.apply("mnist", "cnn")
    assert "normalize" not in chosen(500, own=False) and "shuffle" not in chosen(500, own=False)


def test_published_data_sets_keep_the_papers_bits():
    assert defaults.published({"algorithm": "fa", "lr": None}) == {
        "algorithm": "fa",
        "binary_weights": False,
        "binary_activations": False,
    }
    assert defaults.published({"algorithm": "fa", "binary_weights": True})["binary_weights"]
    assert defaults.published({"algorithm": "pepita"}) == {"algorithm": "pepita"}  # in TinyFoA's paper
    assert defaults.published({"epochs": 3}) == {"epochs": 3}


@pytest.mark.parametrize("algorithm", ["drtp", "dfa"])
def test_answers_that_would_be_ties_of_signs_come_from_real_activations(algorithm):
    assert chosen(500, algorithm=algorithm)["binary_activations"] is False
    assert chosen(500, algorithm=algorithm, binary_activations=True)["binary_activations"]
    recipe = Recipe(dataset="a.csv", **chosen(500, algorithm=algorithm)).validated()
    assert "real activations" in defaults.described(recipe, {})
    assert "activations" not in defaults.described(recipe, {"binary_activations": False})


@pytest.mark.parametrize("algorithm", ["drtp", "fa", "pepita", "ff"])
def test_rules_that_learn_little_with_signs_have_real_weights(algorithm):
    fields = chosen(500, algorithm=algorithm)
    assert fields["binary_weights"] is False and fields["binary_activations"] is False
    assert chosen(500, algorithm=algorithm, binary_weights=True)["binary_weights"]


@pytest.mark.parametrize(
    "samples, inputs, real", [(100, 4, True), (50_000, 63, True), (500, 64, False), (300, 64, True), (9999, 2000, True)]
)
def test_few_inputs_or_few_samples_for_each_have_real_weights(samples, inputs, real):
    for algorithm in ("tinyfoa", "bp"):
        fields = chosen(samples, inputs, algorithm=algorithm)
        assert fields.get("binary_weights", True) is not real and not fields["binary_activations"]
    assert chosen(samples, inputs, binary_weights=True)["binary_weights"]
    assert Recipe(**chosen(samples, inputs, optimizer="bop")).validated().binary_weights
    assert "binary_activations" not in chosen(samples, inputs, own=False)
    recipe = Recipe(**chosen(samples, inputs, algorithm="drtp", binary_activations=True)).validated()
    assert recipe.binary_weights and recipe.binary_activations
    assert "binary_activations" not in chosen(samples, inputs, network="lc:3")


def test_the_network_grows_with_the_samples():
    assert [chosen(n)["network"] for n in (199, 200, 999, 1000)] == ["fc:300", "fc:300x2", "fc:300x2", "fc:500x2"]
    assert chosen(50, algorithm="giff")["network"] == "fc:300x2"


def test_a_rule_that_streams_by_itself_has_a_rate_of_its_own():
    assert chosen(20_000, algorithm="monoforward")["lr"] == defaults.RATES["monoforward"]
    assert "slices" not in chosen(20_000, algorithm="biofo")


def test_what_giff_trains_convolutions_with():
    fields = chosen(500, algorithm="giff", network="cnn", options={"loss": "logistic"})
    usual = {"loss": "logistic", "negatives": "all", "answer": "last"}
    assert fields["options"] == {**usual, "sharpness": 32.0} and fields["rms"]
    assert (fields["batch"], fields["lr"], fields["lr_schedule"]) == (2, 0.002, "cosine")
    of_normed = chosen(500, algorithm="giff", network="resnet8", options={})
    assert "sharpness" not in of_normed["options"]
    assert (of_normed["batch"], of_normed["lr_schedule"]) == (defaults.GRAPH_BATCH, "cooldown")
    fields = chosen(500, algorithm="giff", network="cnn", answer="sum", rms=False)  # as a command gives them
    assert (fields["loss"], fields["answer"], fields["rms"]) == ("softmax", "sum", False)
    assert "loss" not in chosen(500, algorithm="giff")


@pytest.mark.parametrize("algorithm", ["tinyfoa", "bp"])
def test_more_inputs_than_samples_train_with_momentum(algorithm):
    fields = chosen(100, 101, algorithm=algorithm)
    assert (fields["optimizer"], fields["lr"]) == ("momentum", defaults.WIDE_LR[algorithm])
    recipe = Recipe(dataset="a.csv", **fields).validated()
    assert recipe.lr_schedule == "constant" and "optimizer momentum, lr 0.03" in defaults.described(recipe, {})
    for given in ({"lr": 0.1}, {"optimizer": "sgd"}, {"binary_weights": True}, {"network": "lc:3"}):
        assert "optimizer" not in chosen(100, 101, algorithm=algorithm, **given) or "optimizer" in given
    assert "optimizer" not in chosen(100, 100, algorithm=algorithm)
    usual = Recipe(dataset="a.csv", **chosen(100, 100, algorithm=algorithm)).validated()
    assert "optimizer" not in defaults.described(usual, {})
