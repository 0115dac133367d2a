"""The number of the numerics: what it decides, and that runs and models of other numbers are refused."""

import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_tools import Inputs, called, exact_sum, run_gradient
from safetensors import safe_open
from safetensors.numpy import save_file

from tinyfoa_np import model as models
from tinyfoa_np.data import load
from tinyfoa_np.errors import OtherNumerics
from tinyfoa_np.kernels import dense_update as update
from tinyfoa_np.kernels import maths
from tinyfoa_np.kernels import random as random_kernels
from tinyfoa_np.kernels.operands import Biases, Given, Published, Step
from tinyfoa_np.kernels.optimizers import NUMBERS, rate_and_root
from tinyfoa_np.layers.encoding import weight_unit, z_unit
from tinyfoa_np.model import model as model_files
from tinyfoa_np.numerics import NUMERICS, ceil_log2, power
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits, optimizers, random
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
    with pytest.raises(ValueError, match="exponent -1 is negative"):
        power(0.9, -1)
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


# The test vectors of docs/numerics.md ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors():
    page = (Path(__file__).parents[1] / "docs" / "numerics.md").read_text()
    return json.loads(page.partition("```json\n")[2].partition("\n```")[0])


def single(digits):
    """The float32 of eight hexadecimal digits."""
    return np.float32(struct.unpack(">f", bytes.fromhex(digits))[0])


def double(digits):
    return struct.unpack(">d", bytes.fromhex(digits))[0]


def test_random_numbers_are_those_of_the_page(vectors):
    known = vectors["philox"]
    words = random.blocks(known["index"], 1, seed=known["seed"], layer=known["layer"], purpose=known["purpose"])
    assert [f"{word:08x}" for word in words[0]] == known["words"]

    known = vectors["uniform"]
    values, (first, count) = [single(digits) for digits in known["values"]], (known["first"], len(known["values"]))
    ours = np.zeros(count, np.float32)
    place = 0, 1, first, first + count, 100, known["layer"], known["purpose"]
    random_kernels.uniform(ours, *place, np.uint64(known["seed"]), np.float32(known["bound"]))
    drawn = {name: known[name] for name in ("seed", "layer", "purpose")}
    assert ours.tolist() == random.uniform(first, count, known["bound"], **drawn).tolist() == values

    known = vectors["normal"]
    values, drawn = [single(digits) for digits in known["values"]], {name: known[name] for name in drawn}
    ours = np.zeros(len(values), np.float32)
    deviation = known["deviation"]
    random_kernels.normals(ours, known["first"], known["layer"], known["purpose"], np.uint64(known["seed"]), deviation)
    assert ours.tolist() == values
    np.testing.assert_allclose(random.normal(known["first"], len(values), deviation, **drawn), values, rtol=1e-6)


def test_functions_are_those_of_the_page(vectors):
    for name, ours, platform in (("exp", called(maths.exp), math.exp), ("log", called(maths.log), math.log)):
        for x, y in vectors[name].items():
            assert ours(double(x)) == double(y)
            assert math.isclose(platform(double(x)), double(y), rel_tol=1e-15, abs_tol=1e-300)
    for known in vectors["power"]:
        assert power(known["base"], known["exponent"]) == double(known["value"])


def test_a_step_of_adam_is_that_of_the_page(vectors):
    known = vectors["adam"]
    w, m, v, g = (single(known[name]) for name in "wmvg")
    rate, root = known["lr"] / (1 - power(0.9, known["t"])), 1 / math.sqrt(1 - power(0.999, known["t"]))
    assert rate_and_root("adam", known["lr"], known["t"]) == (np.float32(rate), np.float32(root))
    step = Step(NUMBERS["adam"], *map(np.float32, (rate, root, 0, 1)))
    biases = Biases(*(np.array([value]) for value in (w, m, v)))
    assert called(update.take_bias_step)(step, biases, 0, 0, g) == 0
    new = [single(known[f"new_{name}"]) for name in "wmv"]
    assert [float(view[0]) for view in biases] == new
    adam = optimizers.Adam(known["lr"])
    adam.t, adam.m, adam.v = known["t"] - 1, m, v
    np.testing.assert_allclose([adam.step(w, g), adam.m, adam.v], new, rtol=1e-6)


def test_sums_are_those_of_the_page(vectors):
    known = vectors["group_of_four"]
    dz, x = np.array([single(digits) for digits in known["dz"]]), np.array(known["x"], bool)[:, None]
    assert bits.bits_gradient(dz[:, None], x)[0, 0] == single(known["sum"]) != (dz * x[:, 0]).sum()
    inputs = Inputs(bits.pack(x), x.astype(float), x.astype(float), *map(np.float32, (1, 1, 0)))
    source = Given(dz[None], 0, np.zeros(0, np.float32))
    found, _ = run_gradient(inputs, len(x), source, np.zeros((1, 1), np.float32), (0, 1, 0, 1))
    assert found[0, 0] == single(known["sum"])

    known = vectors["exact_sum"]
    w = np.array([single(digits) for digits in known["w"]])
    published = Published(np.zeros((1, 1, 8), np.uint64), 0)
    assert update.publish_slice(w, 0, 1, 0, len(w), published, 2.0**32) == known["sum"] == exact_sum(w, 2.0**32)


def test_steps_of_exact_sums_are_those_of_the_page():
    """As fine as 64 bits have room for: a finer or a coarser step gives other bits of alpha and s."""
    assert [weight_unit(2000, 2000, limit) for limit in (1.0, 2.0, math.inf)] == [2.0**32, 2.0**32, 2.0**30]
    assert [weight_unit(2**14, 2**15), weight_unit(2**14, 2**15 + 1), weight_unit(2**15, 2**15, 3.0)] == [
        2.0**31,
        2.0**30,
        2.0**28,
    ]
    assert [z_unit(1, 10), z_unit(128, 128), z_unit(129, 128), z_unit(100, 2000)] == [
        2.0**28,
        2.0**28,
        2.0**27,
        2.0**24,
    ]


def test_the_largest_weight_of_an_exact_sum():
    """A weight of 256 is counted; the next one counts as lost."""
    for last, total in ((256.0, 512 * 2**22), (np.nextafter(np.float32(256), np.float32(300)), -1)):
        w = np.array([-256, last], np.float32)
        published = Published(np.zeros((1, 1, 8), np.uint64), 0)
        assert update.publish_slice(w, 0, 1, 0, 2, published, 2.0**22) == total
