"""Cheats that hide memory where no allocation is large, or where Python allocates none: audit mode finds these, too."""

import mmap
import os
import sys
import types

import numpy as np
import pytest
from cheat_tools import Patches
from train_tools import made, recipe, run

from tinyfoa_np.rules import giff, tinyfoa
from tinyfoa_np.run.examination import _modules
from tinyfoa_np.run.train import train

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def an_array_of_a_method(patches):
    """In an attribute of a function."""

    def use(stage):
        use.kept.fill(1)

    use.kept = np.zeros(2000, np.uint8)
    patches.patch.setattr(patches.kind, "use", use, raising=False)
    patches.in_steps(lambda stage: stage.use())
    return "2,000 bytes of arrays were there before the stage was opened"


def an_array_of_the_recipe(patches):
    """The recipe is shared by all stages, and is no part of one."""
    kept = np.zeros(2000, np.uint8)
    patches.around("__init__", after=lambda stage, *_: object.__setattr__(stage.recipe, "kept", kept))
    patches.in_steps(lambda stage: stage.recipe.kept.fill(1))
    return "2,000 bytes of arrays were there before the stage was opened"


def room_in_a_list(patches):
    """A list that is there before, whose numbers up to 256 are there, too: nothing is allocated when it is filled."""
    kept = [0] * 5000
    patches.patch.setattr(sys.modules[patches.kind.__module__], "KEPT", kept, raising=False)
    patches.in_steps(
        lambda stage: kept.__setitem__(slice(0, 100), bytes(patches.bytes_of(stage, patches.region)[:100]))
    )
    return "40,056 bytes of arrays were there before the stage was opened"


def a_chain_of_pairs(patches):
    """Python's own objects again, none of which is large."""
    kept = [None]

    def grow(stage):
        for k in range(400):
            kept[0] = (k + 0.5, kept[0])

    patches.in_steps(grow)
    return "bytes of small objects were there beside the arena at a time, "


def a_long_chain_in_one_phase(patches):
    def build(stage):
        chain = None
        for k in range(20_000):
            chain = (k + 0.5, chain)

    patches.in_steps(build, 3)
    return "bytes of small objects were there beside the arena at a time, "


def a_mapping(patches):
    """Memory that the system gives, and gets back in the same step."""
    patches.in_steps(lambda stage: mmap.mmap(-1, 100_000).close(), 5)
    return "step 6: memory was mapped beside the arena"


def a_file_beside_the_store(patches):
    patches.in_steps(lambda stage: open(os.devnull, "wb").close(), 2)
    return f"step 3: a file was opened for writing beside the arena: {os.devnull}"


CHEATS = [
    an_array_of_a_method,
    an_array_of_the_recipe,
    room_in_a_list,
    a_chain_of_pairs,
    a_long_chain_in_one_phase,
    a_mapping,
    a_file_beside_the_store,
]


@pytest.mark.parametrize("kind, region", [(tinyfoa.Layer, "slice"), (giff.Network, "g0.weights")])
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_hidden_memory_is_found(tmp_path, monkeypatch, cheat, kind, region):
    named = cheat(Patches(monkeypatch, kind, region))
    algorithm = kind.__module__.rpartition(".")[2]
    which = recipe(algorithm=algorithm, network="fc:33,20", schedule="auto", epochs=3, batch=16)
    findings = run(tmp_path, which, made(), audit=True, threads=1)["findings"]
    assert any(named in line for line in findings), (named, findings)


@pytest.mark.parametrize("name", ["run-hidden", "run/../hidden"])
def test_a_file_whose_path_begins_as_the_run_s_is_found(tmp_path, monkeypatch, name):
    patches = Patches(monkeypatch, tinyfoa.Layer, "slice")
    patches.in_steps(lambda stage: open(f"{tmp_path}/{name}", "wb").close(), 2)
    which = recipe(network="fc:33,20", schedule="auto", epochs=3, batch=16)
    findings = train(which, made(), tmp_path / "run", audit=True, threads=1)["findings"]
    named = f"step 3: a file was opened for writing beside the arena: {tmp_path}/{name}"
    assert any(named in line for line in findings), findings


def test_all_of_a_rule_s_own_package_is_looked_at(monkeypatch):
    """Its modules that no class of the stage is from, and classes within classes; not those of other packages."""
    for name in ("strange", "strange.rule", "strange.tables", "stranger"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    inner = type("Inner", (), {"__module__": "strange.rule"})
    foreign = type("Foreign", (), {"__module__": "stranger"})
    rule = type("Rule", (), {"__module__": "strange.rule", "inner": inner, "foreign": foreign})
    sys.modules["strange.rule"].Rule = rule
    found = _modules([rule()])
    assert {sys.modules[name] for name in ("strange", "strange.rule", "strange.tables")} | {rule, inner} <= set(found)
    assert not {sys.modules["stranger"], foreign, sys} & set(found)
