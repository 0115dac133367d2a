"""Recipes: every value is looked at, defaults are resolved, JSON goes there and back, nonsense is refused."""

import json
import math
import re
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinyfoa_np import catalogue
from tinyfoa_np.augmentation import Augment, parse
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.numerics import NUMERICS
from tinyfoa_np.recipe import MOMENTS, NORMALIZATIONS, OPTIMIZERS, SCHEDULES, Recipe
from tinyfoa_np.slices import ORDERS

NAMES = [field.name for field in fields(Recipe)]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["slice", "frozen", "none", "auto", "adam", "ff", "1epoch", "5", "9" * 5000, "fc:3", "drop:9%"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HOLDS = st.none() | st.integers(1, 999).map(str) | st.sampled_from(["1epoch", "2epochs", "03epoch"])
LR_SCHEDULES = st.sampled_from(
    [
        "constant",
        "cooldown",
        "cosine",
        "exponential:0.99",
        "exponential:1",
        "drop:60%,90%",
        "drop:3",
        "drop:0,100%",
        "drop:2:0.5",
    ]
)
RATES, WEIGHTS = st.none() | st.floats(1e-12, 1e6), st.none() | st.floats(0, 1e6)
OWN = {
    "decay": WEIGHTS,
    "classifier_lr": RATES,
    "classifier_decay": WEIGHTS,
    "label_scale": RATES,
    "peer": WEIGHTS,
    "dropout": st.none() | st.floats(0, 0.999),
}
COMMON = {
    "dataset": st.text(max_size=9),
    "network": st.text(max_size=9),
    "slices": st.none() | st.integers(1, 99),
    "hold": HOLDS,
    "exchanges": st.none() | st.integers(1, 99),
    "epochs": st.integers(1, 999),
    "batch": st.integers(1, 65536),
    "lr": RATES,
    "lr_schedule": LR_SCHEDULES,
    "optimizer": st.none() | st.sampled_from(OPTIMIZERS),
    "moments": st.sampled_from(MOMENTS),
    "normalize": st.none() | st.sampled_from(NORMALIZATIONS),
    "shuffle": st.none() | st.booleans(),
    "reshuffle": st.booleans(),
    "augment": st.sampled_from([None, "flip", "rotate:15,flip", "crop:4"]),
    "binary_weights": st.booleans(),
    "binary_activations": st.booleans(),
    "seed": st.integers(0, 2**64 - 1),
    "limit": st.none() | st.integers(1, 10**9),
}


def recipes_of(algorithm):
    """Recipes of an algorithm in which most things have a meaning."""
    own = {name: values for name, values in OWN.items() if name in catalogue.find(algorithm).defaults}
    schedules = st.sampled_from(["auto", *catalogue.find(algorithm).schedules])
    if algorithm == "tinyfoa":
        turns = {"visits": st.sampled_from([None, None, 1, 4]), "order": st.sampled_from([None, None, *ORDERS])}
        own = {**own, **turns, "recompute": st.booleans()}
    return st.builds(Recipe, algorithm=st.just(algorithm), schedule=schedules, **COMMON, **own)


RECIPES = st.sampled_from(catalogue.names()).flatmap(recipes_of)


def repr_cut(value):
    return repr(value)[:20]


def refused(recipe):
    """The message with which a recipe is refused."""
    with pytest.raises(BadRequest) as info:
        recipe.validated()
    assert info.value.exit_code == 2
    assert "\n" not in str(info.value) and len(str(info.value)) < 300
    return str(info.value)


# Values


@pytest.mark.parametrize("name", ["slices", "epochs", "batch", "exchanges", "visits", "limit"])
@pytest.mark.parametrize("value", [0, -1, -(10**30), -(10**400)], ids=repr_cut)
def test_counts_are_at_least_one(name, value):
    assert re.search(f"{name} is .*at least 1", refused(Recipe(**{name: value})))
    assert getattr(Recipe(**{name: 1}).validated(), name) == 1


@pytest.mark.parametrize("lr", [0, 0.0, -1e-4, math.inf, -math.inf, math.nan, 10**400], ids=repr_cut)
def test_a_learning_rate_is_positive_and_finite(lr):
    assert "lr" in refused(Recipe(lr=lr))


def test_a_whole_learning_rate_becomes_a_float():
    assert Recipe(lr=1).validated().to_json() == Recipe(lr=1.0).validated().to_json()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_has_64_bits(seed):
    assert "seed" in refused(Recipe(seed=seed))
    Recipe(seed=0).validated()
    Recipe(seed=2**64 - 1).validated()


def test_a_batch_has_its_limit():
    Recipe(batch=65536).validated()
    assert "65536" in refused(Recipe(batch=65537))


@pytest.mark.parametrize(
    "name, right",
    [
        ("algorithm", "tinyfoa"),
        ("schedule", "stream"),
        ("optimizer", "momentum"),
        ("normalize", "unit"),
        ("moments", "int8"),
    ],
)
def test_a_choice_that_does_not_exist_names_those_that_do(name, right):
    message = refused(Recipe(**{name: "novel"}))
    assert "'novel'" in message and right in message


@pytest.mark.parametrize(
    "hold", ["", "0", "0epochs", "-1", "1.5", "epoch", "1 epoch", "1epochss", "two", "1\n", "9" * 5000], ids=repr_cut
)
def test_a_hold_is_epochs_or_steps(hold):
    assert "1epoch" in refused(Recipe(hold=hold))


@pytest.mark.parametrize("hold, steps", [("1epoch", 7), ("3epochs", 21), ("1", 1), ("50", 50)])
def test_steps_of_a_hold(hold, steps):
    recipe = Recipe(hold=hold).validated()
    assert recipe.hold_steps(7) == steps
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_exchanges_leave_no_hold():
    recipe = Recipe(exchanges=9).validated()
    assert (recipe.hold, recipe.hold_steps(7)) == (None, 0)


@pytest.mark.parametrize("schedule", ["auto", "slice", "frozen"])
def test_hold_and_exchanges_exclude_each_other(schedule):
    assert "give one of them" in refused(Recipe(schedule=schedule, hold="1epoch", exchanges=4))


def test_visits_are_at_most_as_many_as_there_are_slices():
    recipe = Recipe(slices=4, schedule="slice", visits=16).validated()
    assert (recipe.hold, recipe.exchanges, recipe.visits, recipe.order) == ("1epoch", None, 16, "rows")
    assert recipe.validated() == recipe
    assert Recipe(slices=4, schedule="slice", visits=3, exchanges=4).validated().exchanges == 4
    assert "4 x 4 slices are fewer" in refused(Recipe(slices=4, schedule="slice", visits=17))


@pytest.mark.parametrize("option", [{"visits": 1}, {"visits": 2}, {"order": "rows"}, {"order": "diagonal"}], ids=str)
def test_visits_and_order_are_those_of_tinyfoa_with_one_slice_at_a_time(option):
    [name] = option
    for other in (
        {"schedule": "stream"},
        {"schedule": "frozen"},
        {"algorithm": "bp"},
        {"algorithm": "drtp"},
        {"algorithm": "bp", "schedule": "slice"},
    ):
        assert f"{name} applies only to" in refused(Recipe(**other, **option))
        resolved = Recipe(**other).validated()
        assert (resolved.visits, resolved.order) == (None, None)


def test_an_order_that_does_not_exist_names_those_that_do():
    message = refused(Recipe(schedule="slice", order="columns"))
    assert "'columns'" in message and "diagonal" in message


@pytest.mark.parametrize("option", [{"hold": "1epoch"}, {"exchanges": 4}])
def test_stream_has_no_holds(option):
    assert "stream" in refused(Recipe(schedule="stream", **option))


def test_frozen_needs_slices_that_train():
    """With one slice a side the frozen slice is the whole layer: no weight would ever change."""
    assert "frozen" in refused(Recipe(schedule="frozen", slices=1))
    Recipe(schedule="frozen", slices=2).validated()


@pytest.mark.parametrize("moments", MOMENTS)
def test_an_optimizer_without_moments_has_none_to_hold(moments):
    for optimizer in ("adam", "momentum", "nesterov"):
        assert Recipe(optimizer=optimizer, moments=moments).validated().moments == moments
    if moments == "float32":
        Recipe(optimizer="sgd", moments=moments).validated()
    else:
        assert refused(Recipe(optimizer="sgd", moments=moments)).startswith("optimizer sgd has no moments")


# What a recipe becomes


def test_defaults_are_resolved():
    recipe = Recipe().validated()
    assert (recipe.schedule, recipe.hold, recipe.exchanges) == ("slice", "1epoch", None)
    assert recipe == replace(
        Recipe(),
        schedule="slice",
        hold="1epoch",
        slices=2,
        lr=1e-4,
        optimizer="adam",
        normalize="standard",
        shuffle=False,
        visits=1,
        order="rows",
        options={"gamma": 1e-3, "tau": 1e-4},
    )
    assert Recipe(schedule="stream").validated().hold is None
    assert Recipe(schedule="frozen").validated().hold == "1epoch"


@pytest.mark.parametrize("slices", [None, 1, 2])
def test_auto_is_the_paper_s_schedule_for_up_to_two_slices_a_side(slices):
    assert Recipe(slices=slices).validated() == Recipe(slices=slices, schedule="slice").validated()
    assert Recipe(slices=slices).validated().hold == "1epoch"


@pytest.mark.parametrize(
    "slices, visits, exchanges, lr",
    [
        (3, 1, 9, 7.2e-4),
        (4, 1, 16, 9.6e-4),
        (8, 1, 64, 1.92e-3),
        (9, 2, 41, 1.08e-3),
        (16, 2, 128, 1.92e-3),
        (26, 2, 338, 3.12e-3),
        (99, 2, 4901, 0.01),
    ],
)
def test_auto_gives_each_of_more_slices_one_turn_and_larger_steps(slices, visits, exchanges, lr):
    recipe = Recipe(slices=slices).validated()
    assert (recipe.schedule, recipe.hold, recipe.exchanges) == ("slice", None, exchanges)
    assert (recipe.visits, recipe.order, recipe.lr) == (visits, "diagonal", pytest.approx(lr))
    assert recipe.validated() == recipe == Recipe.from_json(recipe.to_json())
    paper = Recipe(slices=slices, schedule="slice").validated()
    assert (paper.hold, paper.exchanges, paper.visits, paper.order, paper.lr) == ("1epoch", None, 1, "rows", 1e-4)


def test_auto_gives_way_to_what_is_given():
    def turns(**options):
        recipe = Recipe(slices=16, **options).validated()
        return recipe.hold, recipe.exchanges, recipe.visits, recipe.order, recipe.lr

    assert turns(lr=1e-3) == (None, 128, 2, "diagonal", 1e-3)
    assert turns(order="rows") == (None, 128, 2, "rows", pytest.approx(1.92e-3))
    assert turns(visits=1) == (None, 256, 1, "diagonal", pytest.approx(3.84e-3))
    assert turns(hold="10") == ("10", None, 1, "diagonal", pytest.approx(3.84e-3))
    assert turns(exchanges=9) == (None, 9, 1, "diagonal", pytest.approx(3.84e-3))
    assert turns(visits=4) == (None, 64, 4, "diagonal", pytest.approx(9.6e-4))
    assert turns(visits=3) == (None, 86, 3, "diagonal", pytest.approx(1.28e-3))
    assert turns(visits=3, hold="2") == ("2", None, 3, "diagonal", pytest.approx(1.28e-3))


def test_auto_is_of_one_slice_in_ram_only():
    for options in ({"schedule": "stream"}, {"schedule": "frozen"}, {"algorithm": "bp", "schedule": "slice"}):
        recipe = Recipe(slices=16, **options).validated()
        assert (recipe.lr, recipe.exchanges, recipe.order) == (1e-4, None, None)


@pytest.mark.parametrize("algorithm", catalogue.names())
def test_each_algorithm_has_its_own_defaults(algorithm):
    recipe = Recipe(algorithm=algorithm).validated()
    entry = catalogue.find(algorithm)
    assert {name: getattr(recipe, name) for name in entry.defaults} == entry.defaults
    assert all(getattr(recipe, name) is None for name in OWN if name not in entry.defaults)
    assert recipe.schedule == entry.schedules[0]
    assert recipe.slices == (1 if recipe.schedule == "none" else 2)
    assert Recipe(algorithm=algorithm, shuffle=not recipe.shuffle).validated().shuffle is not recipe.shuffle


@pytest.mark.parametrize("algorithm", catalogue.names())
@pytest.mark.parametrize("name", OWN)
def test_a_field_without_meaning_for_the_algorithm_is_refused(algorithm, name):
    recipe = Recipe(algorithm=algorithm, **{name: 0.25})
    if name in catalogue.find(algorithm).defaults:
        assert getattr(recipe.validated(), name) == 0.25
    else:
        local = name in catalogue.find(algorithm).lc_defaults
        only = ", except on locally connected networks" if local else ""
        assert refused(recipe) == f"{name} does not apply to algorithm {algorithm}{only}"


@pytest.mark.parametrize("algorithm", catalogue.names())
@pytest.mark.parametrize("schedule", SCHEDULES[1:])
def test_slices_are_two_where_the_schedule_has_some(algorithm, schedule):
    recipe = Recipe(algorithm=algorithm, schedule=schedule)
    if schedule not in catalogue.find(algorithm).schedules:
        assert all(word in refused(recipe) for word in (algorithm, schedule, *catalogue.find(algorithm).schedules))
        return
    assert recipe.validated().slices == (1 if schedule == "none" else 2)
    if schedule == "none":
        assert "whole layers" in refused(replace(recipe, slices=2))
        assert "not apply" in refused(replace(recipe, hold="1epoch"))
    else:
        assert replace(recipe, slices=3).validated().slices == 3


@pytest.mark.parametrize("algorithm", catalogue.names())
def test_layers_below_are_recomputed_where_the_entry_says_so(algorithm):
    recipe = Recipe(algorithm=algorithm, recompute=True)
    if algorithm in ("tinyfoa", "biofo"):
        assert recipe.validated().recompute
    else:
        assert "recompute" in refused(recipe)


@given(RECIPES)
def test_validation_changes_nothing_the_second_time(recipe):
    try:
        once = recipe.validated()
    except BadRequest:
        return
    assert once.validated() == once
    assert once.schedule in catalogue.find(recipe.algorithm).schedules
    given_, made = asdict(recipe), asdict(once)
    resolved = {"schedule", "options", "augment"}
    always_real = once.deep or catalogue.find(recipe.algorithm).real
    resolved |= {"binary_weights", "binary_activations"} if always_real else set()
    assert all(made[name] == given_[name] for name in NAMES if name not in resolved and given_[name] is not None)
    assert all(made[name] is not None for name in ("slices", *catalogue.find(recipe.algorithm).defaults))


# The learning rate over the epochs


@pytest.mark.parametrize(
    ("lr_schedule", "epochs", "factors"),
    [
        ("constant", 3, [1, 1, 1]),
        ("drop:60%,90%", 10, [1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01]),
        ("drop:60,90", 10, [1] * 10),
        ("drop:1,2", 4, [1, 0.1, 0.01, 0.01]),
        ("drop:0", 2, [0.1, 0.1]),
        ("drop:1,50%:0.2", 4, [1, 0.2, 0.04, 0.04]),
        ("cooldown", 1, [1]),
        ("cooldown", 4, [1, 1, 1, 0.5]),
        ("cooldown", 5, [1, 1, 1, 0.8, 0.4]),
        ("cosine", 4, [0.5 + 0.5 * math.cos(math.pi * k / 4) for k in range(4)]),
        ("exponential:0.9", 4, [1, 0.9, 0.81, 0.729]),
    ],
)
def test_lr_at(lr_schedule, epochs, factors):
    recipe = Recipe(lr_schedule=lr_schedule, epochs=epochs).validated()
    assert [recipe.lr_at(epoch) for epoch in range(epochs)] == pytest.approx(factors)


@given(RECIPES.filter(lambda recipe: recipe.epochs <= 99))
def test_a_learning_rate_never_rises_or_vanishes(recipe):
    factors = [recipe.lr_at(epoch) for epoch in range(recipe.epochs)]
    assert factors == sorted(factors, reverse=True)
    assert 0 < factors[-1] and factors[0] <= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "linear",
        "drop",
        "drop:",
        "drop:60%90%",
        "drop:1:0.0",
        "drop:1:2",
        "drop:-1",
        "drop:6.5",
        "drop:9" * 99,
        "exponential:2",
    ],
)
def test_a_schedule_of_the_learning_rate_is_understood_or_refused(text):
    assert "drop:60%,90%" in refused(Recipe(lr_schedule=text))


@pytest.mark.parametrize("name, values", [("decay", (-1e-9, math.inf, math.nan)), ("dropout", (-0.1, 1.0, math.nan))])
def test_weights_and_shares_have_their_ranges(name, values):
    algorithm = "ff" if name == "decay" else "pepita"
    assert getattr(Recipe(algorithm=algorithm, **{name: 0}).validated(), name) == 0.0
    for value in values:
        assert f"{name} is" in refused(Recipe(algorithm=algorithm, **{name: value}))


# JSON


@given(RECIPES)
def test_json_there_and_back(recipe):
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    said = json.loads(text)
    assert text.isascii() and said.pop("numerics") == NUMERICS
    unsaid = {"digest": None, "lc_connect": None, "options": {}, "augment": None, "reshuffle": False}
    unsaid |= {"freeze": None, "start": None}
    assert {**unsaid, **said} == asdict(recipe)
    assert all((name in said) == bool(getattr(recipe, name)) for name in unsaid if name != "options")


def test_a_recipe_without_options_is_of_a_time_before_them():
    """It trains as it did then, and is called what it was called, whatever the defaults are now."""
    paper = {"loss": "logistic", "negatives": "random", "answer": "sum"}
    recipe = Recipe(algorithm="giff", network="cnn", options=paper).validated()
    assert "options" not in json.loads(recipe.to_json())
    assert Recipe.from_json(recipe.to_json()).validated() == recipe
    other = Recipe(algorithm="giff", network="cnn", options={**paper, "answer": "last"}).validated()
    assert json.loads(other.to_json())["options"] == {"answer": "last"}
    assert Recipe.from_json(other.to_json()).validated() == other and other.identity != recipe.identity
    usual = Recipe(algorithm="giff", network="cnn")
    assert Recipe.from_json(usual.to_json()).validated() == usual.validated()


@pytest.mark.parametrize(
    "options, right", [({"loss": "hinge"}, "softmax"), ({"answer": 1}, "last"), ({"negatives": None}, "random")]
)
def test_an_option_is_one_of_its_choices(options, right):
    assert right in refused(Recipe(algorithm="giff", network="cnn", options=options))


@pytest.mark.parametrize(
    "text, canonical, meant",
    [
        ("flip", "flip", Augment(flip=True)),
        ("crop:4, flip", "flip,crop:4", Augment(True, 4, zeros=True)),
        ("rotate:15,shift:10%", "shift:10%,rotate:15", Augment(move=10, percent=True, degrees=15.0)),
    ],
)
def test_an_augmentation_is_written_in_one_way(text, canonical, meant):
    assert Recipe(augment=text).validated().augment == canonical and parse(canonical) == meant
    assert meant.pixels(32) == (3 if meant.percent else meant.move)


@pytest.mark.parametrize(
    "text", ["", "flop", "flip,flip", "crop", "crop:-1", "crop:3,shift:3", "rotate:181", "shift:101%"]
)
def test_an_augmentation_that_cannot_be_is_refused(text):
    assert "augment" in refused(Recipe(augment=text))


def test_what_json_leaves_out_has_its_default():
    assert Recipe.from_json(json.dumps({"numerics": NUMERICS, "epochs": 3})).validated() == Recipe(epochs=3).validated()


@pytest.mark.parametrize(
    "name, value",
    [
        ("epochs", 2.0),
        ("epochs", True),
        ("epochs", "2"),
        ("epochs", None),
        ("lr", "1e-4"),
        ("lr", True),
        ("decay", True),
        ("dropout", "0.1"),
        ("shuffle", 1),
        ("normalize", 2),
        ("lr_schedule", None),
        ("slices", 2.0),
        ("dataset", 1),
        ("dataset", None),
        ("binary_weights", 1),
        ("recompute", None),
        ("hold", 3),
        ("limit", 1.5),
        ("seed", []),
        ("network", {}),
    ],
)
def test_values_of_another_type_are_refused(name, value):
    with pytest.raises(BadRequest, match=name):
        Recipe.from_json(json.dumps({"numerics": NUMERICS, name: value}))


def read(text):
    """A recipe from JSON, or None; nothing but a BadRequest of one line may be raised on the way."""
    try:
        recipe = Recipe.from_json(text)
        recipe.validated()
        return recipe
    except BadRequest as error:
        assert "\n" not in str(error)
        return None


@settings(max_examples=200)
@example("[" * 100_000)
@example('{"seed": ' + "9" * 5000 + "}")
@example('{"epochs": 1, "epochs": 2}')
@example('{"novel\\n": 1}')
@example("5")
@example("[[], {}]")
@given(st.text())
def test_any_text_is_a_recipe_or_refused(text):
    read(text)


@settings(max_examples=200)
@given(ANYTHING)
def test_any_json_is_a_recipe_or_refused(value):
    if not isinstance(value, dict):
        assert read(json.dumps(value)) is None
    else:
        read(json.dumps(value))


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(NAMES), SCALARS, max_size=6))
def test_known_keys_with_any_values_are_a_recipe_or_refused(values):
    recipe = read(json.dumps(values))
    if recipe is not None:
        assert all(repr(getattr(recipe, name)) == repr(value) for name, value in values.items())


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_truncated_json_is_refused(cut):
    with pytest.raises(BadRequest, match="not a recipe"):
        Recipe.from_json(Recipe().to_json()[:-cut].rstrip("}\n"))


def test_numbers_of_numpy_are_numbers():
    given = Recipe(epochs=np.int64(3), lr=np.float32(0.5), shuffle=np.bool_(True), network=np.str_("fc:20"))
    assert given.validated() == Recipe(epochs=3, lr=0.5, shuffle=True, network="fc:20").validated()
    assert Recipe.from_json(given.validated().to_json()).validated() == given.validated()


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("network", 3, "text"),
        ("epochs", "three", "a whole number"),
        ("epochs", True, "a whole number"),
        ("lr", "fast", "a number or None"),
        ("binary_weights", 1, "True or False"),
        ("hold", [1], "text or None"),
    ],
)
def test_a_field_of_another_type_is_refused(field, value, right):
    with pytest.raises(BadRequest, match=f"^{field} is .*: it must be {right}$"):
        Recipe(**{field: value}).validated()
