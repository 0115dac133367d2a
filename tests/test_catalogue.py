"""The catalogue: what an entry must be, rules of other packages, and that nothing else compares algorithms' names."""

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tinyfoa_np import catalogue
from tinyfoa_np.catalogue import Algorithm, Option
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.papers import presets
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.stage import Stage

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"fc": "tinyfoa_np.rules.bp:Network"}
STRANGE = Algorithm(
    name="strange",
    title="Strange",
    homes=HOMES,
    defaults={"lr": 2e-3, "optimizer": "momentum", "normalize": "unit", "shuffle": True},
    options={"head_lr": Option(0.01, "rate of the head.", most=1.0), "turns": Option(3, "how often.", least=1)},
)


@pytest.fixture
def known(monkeypatch):
    """A catalogue that forgets what a test registers."""
    monkeypatch.setattr(catalogue, "_known", dict(catalogue._known))
    return catalogue


@pytest.fixture
def strange(known):
    return known.register(STRANGE)


def test_no_comparison_with_an_algorithms_name_outside_rules_catalogue_and_papers():
    places = [*ROOT.glob("src/tinyfoa_np/**/*.py"), *ROOT.glob("cli/*.py")]
    names = rf"[\"']({'|'.join(catalogue.names())})[\"']"
    same = r"(==|!=) (?![\w.]*\.algorithm\b)"  # two recipes' algorithms may be compared
    compared = re.compile(rf"algorithm\W{{0,2}} *({same}|in [^a-z]|not in\b)|(==|!=) *{names}|\.get\([^\"]*\.algorithm")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in places
        if path.parent.name not in ("rules", "papers", "reference") and path.name != "catalogue.py"
        for line in path.read_text().splitlines()
        if compared.search(line)
    ]
    assert not found


def test_the_recipe_names_no_algorithm():
    text = (ROOT / "src/tinyfoa_np/recipe.py").read_text().lower()
    assert not [name for name in catalogue.names() if re.search(rf"\b{name}\b", text)]


def test_the_catalogue_imports_no_numpy():
    code = "import sys, tinyfoa_np.catalogue, tinyfoa_np.recipe; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", catalogue.names())
def test_each_home_is_there(name):
    entry = catalogue.find(name)
    for kind in entry.homes:
        assert issubclass(entry.home(kind), Stage)


def test_presets_are_of_those_that_the_authors_ran(strange):
    for name in ("giff", "strange"):
        with pytest.raises(BadRequest, match=f"algorithm {name} is not one that TinyFoA's authors ran"):
            presets.around({"algorithm": name, "dataset": "mnist"})


def test_options_have_defaults_types_and_ranges(strange):
    recipe = Recipe(algorithm="strange", options={"turns": 4}).validated()
    assert recipe.options == {"head_lr": 0.01, "turns": 4} and recipe.lr == 2e-3
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert json.loads(recipe.to_json())["options"] == recipe.options
    assert recipe.changed({"lr": 1.0, "head_lr": 0.5}).options == {"head_lr": 0.5, "turns": 4}
    for options, words in [
        ({"turns": 1.5}, "turns is 1.5: it must be a whole number"),
        ({"turns": True}, "turns is True"),
        ({"turns": 0}, "turns is 0: it must be from 1 to"),
        ({"head_lr": 2}, "head_lr is 2: it must be from 0 to 1"),
        ({"head_lr": float("nan")}, "head_lr is nan"),
        ({"tail": 1}, "tail does not apply to algorithm strange"),
    ]:
        with pytest.raises(BadRequest, match=re.escape(words)):
            Recipe(algorithm="strange", options=options).validated()
    with pytest.raises(BadRequest, match="head_lr does not apply to algorithm bp"):
        Recipe(algorithm="bp").changed({"head_lr": 0.5}).validated()
    assert "options" not in json.loads(Recipe().validated().to_json())


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Algorithm("bp", "BP", HOMES, {}), "there is an algorithm bp already"),
        (Algorithm("Mine", "M", HOMES, {}), "lower-case"),
        (Algorithm("mine", "M", {}, {}), "homes []"),
        (Algorithm("mine", "M", {"cnn": "a:B"}, {}), "homes ['cnn']"),
        (Algorithm("mine", "M", HOMES, {}, options={"lr": Option(1.0, "")}), "cannot have an option 'lr'"),
        (Algorithm("mine", "M", HOMES, {}, options={"turns": Option(1.0, "")}), "cannot have an option 'turns'"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(strange, entry, words):
    with pytest.raises(BadRequest, match=re.escape(words)):
        catalogue.register(entry)


def test_a_package_that_cannot_be_imported_is_refused_when_it_is_asked_for(known, monkeypatch):
    points = {
        "broken": EntryPoint("broken", "no_such_package:RULE", catalogue.GROUP),
        "wrong": EntryPoint("wrong", "json:dumps", catalogue.GROUP),
    }
    monkeypatch.setattr(catalogue, "_strangers", lambda: points)
    assert catalogue.names()[-2:] == ("broken", "wrong") and len(list(catalogue.algorithms())) == len(catalogue._OWN)
    assert Recipe().validated().algorithm == "tinyfoa"
    with pytest.raises(BadRequest, match="algorithm broken: no_such_package:RULE cannot be imported"):
        Recipe(algorithm="broken").validated()
    with pytest.raises(BadRequest, match="algorithm wrong: json:dumps is not an Algorithm of that name"):
        Recipe(algorithm="wrong").validated()
