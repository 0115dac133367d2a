"""The number of the numerics: what it decides, and that runs and models of other numbers are refused."""

import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from tinyfoa_np import model as models
from tinyfoa_np.data import load
from tinyfoa_np.errors import OtherNumerics
from tinyfoa_np.model import model as model_files
from tinyfoa_np.numerics import NUMERICS, ceil_log2, power
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.directory import read_recipe
from tinyfoa_np.run.train import train
from tinyfoa_np.storage.flash import FlashError

SAYS = rf"made by tinyfoa-np 0\.1\.0 \(numerics 1\); this version computes other bits \(numerics {NUMERICS}\)"


def digits(**fields):
    return Recipe(network="fc:12", slices=1, epochs=2, batch=100, limit=300, **fields).validated()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a small run."""
    directory = tmp_path_factory.mktemp("numerics") / "run"
    train(digits(), load("digits"), directory, threads=1)
    return directory


def test_a_power_is_made_by_squaring_from_the_lowest_bit_on():
    assert power(0.9, 0) == 1 and power(0.9, 1) == 0.9 and power(3.0, 13) == 3.0**13
    squares = [0.999]
    for _ in range(3):
        squares.append(squares[-1] * squares[-1])
    assert power(0.999, 13) == squares[0] * squares[2] * squares[3]  # 1 + 4 + 8


@given(st.floats(0.1, 0.9999), st.integers(0, 200000))
def test_a_power_is_the_platforms_but_for_rounding(base, exponent):
    assert math.isclose(power(base, exponent), base**exponent, rel_tol=1e-11, abs_tol=1e-300)


@given(st.one_of(st.integers(1, 2**50), st.floats(1e-300, 1e300)))
def test_the_next_power_of_two(value):
    exponent = ceil_log2(value)
    assert math.ldexp(1.0, exponent - 1) < value <= math.ldexp(1.0, exponent)


@pytest.mark.parametrize("number", [1, 3, "2", True, None, 2.5])
def test_recipes_of_other_numerics_are_refused(number):
    fields = json.loads(digits().to_json())
    assert fields.pop("numerics") == NUMERICS
    with pytest.raises(OtherNumerics, match=f"numerics {number if isinstance(number, int) else 'unknown'}"):
        Recipe.from_json(json.dumps(fields | {"numerics": number}))
    with pytest.raises(OtherNumerics, match=SAYS):
        Recipe.from_json(json.dumps(fields))  # none said so before there was a second


def test_the_flash_of_a_run_belongs_to_the_numerics(tmp_path, monkeypatch):
    assert digits().identity.startswith(f"numerics {NUMERICS}, ")
    monkeypatch.setattr(Recipe, "identity", property(lambda self: "numerics 1"))
    train(digits(), load("digits"), tmp_path / "run", threads=1)
    monkeypatch.undo()
    with pytest.raises(FlashError, match="another recipe"):
        train(digits(), load("digits"), tmp_path / "run", threads=1, resume=True)


def test_models_of_other_numerics_are_refused(run, tmp_path):
    with safe_open(run / "model.safetensors", "numpy") as file:
        about = json.loads(file.metadata()[model_files.METADATA])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    fields = json.loads(about["recipe"])
    del fields["numerics"]
    about["recipe"] = json.dumps(fields, indent=2) + "\n"
    about["sha256"] = model_files._digest(tensors, about)
    save_file(tensors, tmp_path / "old.safetensors", {model_files.METADATA: json.dumps(about)})
    with pytest.raises(OtherNumerics, match=SAYS):
        models.load(tmp_path / "old.safetensors")


def test_runs_of_other_numerics_are_refused(run, tmp_path):
    old = shutil.copytree(run, tmp_path / "old")
    fields = json.loads((old / "recipe.json").read_text())
    del fields["numerics"]
    (old / "recipe.json").write_text(json.dumps(fields))
    with pytest.raises(OtherNumerics, match=SAYS):
        read_recipe(old)
