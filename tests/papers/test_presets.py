"""Presets: the published recipes, data set by data set, and what gives way to what."""

import itertools

import pytest

from tinyfoa_np import catalogue
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.papers import presets
from tinyfoa_np.recipe import Recipe

DATASETS = ("mnist", "cifar10", "cifar100", "mitbih", "digits")
TOGGLES = [
    {"binary_weights": weights, "binary_activations": activations}
    for weights, activations in itertools.product((False, True), repeat=2)
]


@pytest.mark.parametrize("algorithm", presets.SYSTEMS)
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("vertical", [False, True])
def test_every_preset_is_a_recipe(algorithm, dataset, vertical):
    for toggles in TOGGLES:
        if vertical and algorithm not in ("tinyfoa", "bp"):
            with pytest.raises(BadRequest, match="no vertical training"):
                presets.paper(algorithm, dataset, vertical=vertical, **toggles)
            continue
        fields = presets.paper(algorithm, dataset, vertical=vertical, **toggles)
        recipe = Recipe(**fields).validated()
        assert (recipe.epochs, recipe.batch, recipe.dataset) == (100, 100, dataset)
        assert recipe.network == ("fc:2000x3" if algorithm == "pepita" else "fc:2000x4")
        assert recipe.optimizer == catalogue.find(algorithm).defaults["optimizer"]
        assert recipe.slices == (2 if vertical else 1)


def test_a_locally_connected_network_has_a_preset_of_its_own():
    fields = presets.paper("tinyfoa", "mnist", vertical=True, local=True)
    assert (fields["network"], fields["epochs"], fields["normalize"]) == ("lc:16,32,64,64", 200, "unit")
    around = presets.around({"dataset": "mnist", "network": "lc:4", "epochs": 3})
    assert (around["network"], around["epochs"], around["normalize"], around["slices"]) == ("lc:4", 3, "unit", 2)
    assert Recipe(**around).validated().lc_connect == "full"
    fields = presets.paper("bp", "mnist", vertical=True, local=True)
    assert (fields["network"], fields["epochs"], fields["dropout"], fields["schedule"], fields["slices"]) == (
        "lc:16,32,64,64",
        200,
        0.2,
        "frozen",
        2,
    )


@pytest.mark.parametrize(
    ("algorithm", "vertical", "schedule"),
    [
        ("tinyfoa", True, "slice"),
        ("tinyfoa", False, "stream"),
        ("bp", True, "frozen"),
        ("bp", False, "none"),
        ("drtp", False, "none"),
    ],
)
def test_vertical_training_is_a_schedule(algorithm, vertical, schedule):
    assert presets.paper(algorithm, "mnist", vertical=vertical)["schedule"] == schedule


@pytest.mark.parametrize(
    ("algorithm", "dataset", "weights", "activations", "lr"),
    [
        ("tinyfoa", "mnist", True, True, 1e-4),
        ("bp", "cifar10", True, True, 1e-4),
        ("drtp", "mitbih", True, True, 1e-4),
        ("pepita", "mnist", True, False, 1e-3),
        ("pepita", "mnist", False, True, 5e-4),
        ("pepita", "mnist", True, True, 5e-4),
        ("pepita", "digits", True, True, 5e-4),
        ("pepita", "cifar10", True, True, 1e-3),
        ("pepita", "mitbih", False, False, 1e-4),
        ("ff", "mnist", True, True, 1e-3),
        ("ff", "cifar10", True, True, 1e-4),
        ("ff", "cifar10", True, False, 1e-3),
        ("ff", "cifar10", False, True, 1e-3),
        ("ff", "cifar100", True, True, 1e-3),
    ],
)
def test_learning_rates_and_their_exceptions(algorithm, dataset, weights, activations, lr):
    fields = presets.paper(algorithm, dataset, binary_weights=weights, binary_activations=activations)
    assert fields["lr"] == lr


@pytest.mark.parametrize(
    ("algorithm", "dataset", "fields"),
    [
        ("tinyfoa", "mnist", {"normalize": "standard", "shuffle": False, "lr_schedule": "constant"}),
        ("tinyfoa", "mitbih", {"normalize": "unit", "shuffle": True}),
        ("bp", "mnist", {"normalize": "unit", "shuffle": False, "lr_schedule": "constant"}),
        ("bp", "cifar100", {"normalize": "standard", "shuffle": False}),
        ("bp", "mitbih", {"shuffle": False}),
        ("drtp", "mnist", {"normalize": "unit", "shuffle": True, "optimizer": "nesterov"}),
        ("pepita", "mnist", {"normalize": "unit", "shuffle": False, "dropout": 0.1, "lr_schedule": "drop:60%,90%"}),
        (
            "ff",
            "mnist",
            {
                "shuffle": True,
                "decay": 3e-4,
                "classifier_lr": 1e-2,
                "classifier_decay": 3e-3,
                "label_scale": 1.0,
                "peer": 0.03,
                "lr_schedule": "cooldown",
            },
        ),
        ("ff", "mitbih", {"label_scale": 1.0}),
        ("ff", "cifar10", {"label_scale": 5.0, "normalize": "standard"}),
        ("ff", "cifar100", {"label_scale": 5.0}),
    ],
)
def test_the_rest_of_the_recipes(algorithm, dataset, fields):
    assert presets.paper(algorithm, dataset).items() >= fields.items()


@pytest.mark.parametrize("algorithm", presets.SYSTEMS)
def test_a_data_set_without_a_recipe_has_that_of_mnist(algorithm):
    assert {**presets.paper(algorithm, "digits"), "dataset": "mnist"} == presets.paper(algorithm, "mnist")


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(BadRequest, match="tinyfoa, bp"):
        presets.paper("giff", "mnist")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"algorithm": "tinyfoa", "schedule": "slice", "slices": 2, "binary_weights": True}),
        ({"slices": 4}, {"schedule": "slice", "slices": 4}),
        ({"schedule": "stream"}, {"schedule": "stream", "slices": 2}),
        ({"schedule": "slice", "slices": 3}, {"schedule": "slice", "slices": 3}),
        ({"exchanges": 9}, {"schedule": "slice", "exchanges": 9, "hold": None}),
        ({"algorithm": "bp"}, {"schedule": "none", "slices": 1}),
        ({"algorithm": "bp", "schedule": "frozen"}, {"schedule": "frozen", "slices": 2}),
        ({"algorithm": "pepita", "binary_activations": False}, {"lr": 1e-3, "binary_weights": True}),
        ({"algorithm": "ff"}, {"binary_weights": False, "binary_activations": False}),
        ({"algorithm": "ff", "binary_weights": True}, {"binary_weights": True, "binary_activations": False}),
        ({"algorithm": "ff", "label_scale": 2.0, "epochs": 10}, {"label_scale": 2.0, "epochs": 10, "peer": 0.03}),
    ],
)
def test_what_is_given_comes_first(given, expected):
    recipe = Recipe(**presets.around({"dataset": "mnist", **given})).validated()
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    "network, batch, augment, rates",
    [
        ("dscnn", 100, None, {0: 5e-4, 11: 5e-4, 12: 1e-4, 23: 1e-4, 24: 2e-5, 35: 2e-5}),
        (
            "mobilenetv1",
            32,
            "flip,shift:5%,rotate:10",
            {0: 1e-3, 19: 1e-3, 20: 5e-4, 29: 5e-4, 30: 2.5e-4, 49: 2.5e-4},
        ),
    ],
)
def test_mlperf_has_other_networks(network, batch, augment, rates):
    recipe = Recipe(**presets.chosen("mlperf", {"dataset": "cifar10", "network": network})).validated()
    assert (recipe.optimizer, recipe.epochs, recipe.batch) == ("adam", max(rates) + 1, batch)
    assert recipe.augment == augment and recipe.reshuffle
    assert {epoch: recipe.lr * recipe.lr_at(epoch) for epoch in rates} == pytest.approx(rates)


def test_mlperf_is_of_resnet8():
    fields = presets.chosen("mlperf", {"dataset": "cifar10", "batch": 64})
    recipe = Recipe(**fields).validated()
    assert (recipe.algorithm, recipe.network, recipe.batch, recipe.epochs) == ("bp", "resnet8", 64, 500)
    assert fields["lr"] == 1e-3 and presets.MLPERF["resnet8"]["batch"] == 32
    assert recipe.augment == "flip,shift:10%,rotate:15" and recipe.reshuffle
    assert recipe.lr_at(100) == pytest.approx(0.99**100)
    assert Recipe(**presets.chosen("mlperf", {"dataset": "cifar10", "algorithm": "giff"})).validated().merge == "mul"
    with pytest.raises(BadRequest, match="for networks resnet8, dscnn, mobilenetv1, not cnn"):
        presets.chosen("mlperf", {"dataset": "cifar10", "network": "cnn"})
    assert presets.chosen("paper", {"dataset": "mnist"}) == presets.around({"dataset": "mnist"})


@pytest.mark.parametrize("rule", presets.AUTHORS)
@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_the_recipes_of_a_rule_s_authors(rule, dataset):
    """They are possible; what is given overrides them, a rule's own option, too."""
    recipe = Recipe().changed(presets.chosen("authors", {"dataset": dataset, "algorithm": rule})).validated()
    assert recipe.epochs >= 20 and not recipe.binary_weights and not recipe.binary_activations
    given = {"dataset": dataset, "algorithm": rule, "epochs": 3, "lr": 0.25}
    changed = Recipe().changed(presets.chosen("authors", given)).validated()
    assert (changed.epochs, changed.lr, changed.network) == (3, 0.25, recipe.network)


def test_the_networks_of_deeperforward_s_authors():
    networks = {"mnist": "conv:100k5,p2,200k5,p2,400x2", "cifar10": "resnet17"}
    for dataset, network in networks.items():
        assert presets.authors({"dataset": dataset, "algorithm": "deeperforward"})["network"] == network


def test_options_of_a_rule_s_authors():
    def options(**given):
        return Recipe().changed(presets.chosen("authors", {"algorithm": "cwcomp", **given})).validated().options

    assert options(dataset="mnist")["windows"] == "1-2|1-3|1-4|1-5"
    assert options(dataset="cifar100-unverified")["windows"] == "1-11|1-16|1-21|1-25"
    assert options(dataset="mnist", windows="1-1|2-2|3-3|4-4")["windows"] == "1-1|2-2|3-3|4-4"
    with pytest.raises(BadRequest, match="algorithms fa, dfa"):
        presets.chosen("authors", {"dataset": "mnist", "algorithm": "giff"})
