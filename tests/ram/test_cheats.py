"""Cheats that a rule could try, each as a patch to its stage or to a kernel: audit mode finds and names every one."""

from dataclasses import replace

import numba
import numpy as np
import pytest
from train_tools import made, recipe, run

from tinyfoa_np.ram.packing import Region
from tinyfoa_np.rules import bp, giff, tinyfoa
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run.events import Diverged
from tinyfoa_np.run.examination import ALLOWANCE, ARRAYS

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

IMAGES = replace(made(inputs=64), image=(1, 8, 8))
#: of each algorithm: the class of its stage, a recipe, the data; a region that an update may write and a pass may not
STAGES = {
    "tinyfoa": (tinyfoa.Layer, {"epochs": 4, "batch": 16}, made(), "slice"),
    "bp": (bp.Network, {"algorithm": "bp", "epochs": 4, "batch": 16}, made(), "layer0.slice"),
    "giff": (giff.Network, {"algorithm": "giff", "network": "cnn", "epochs": 4, "batch": 16}, IMAGES, "g0.weights"),
}


class Patches:
    """What a cheat changes, and what it knows of the stage."""

    def __init__(self, monkeypatch, kind, region):
        self.patch, self.kind, self.region = monkeypatch, kind, region

    def around(self, name, before=None, after=None):
        """Lets something happen before or after a method of the stage."""
        method = getattr(self.kind, name)

        def changed(stage, *args, **kwargs):
            if before:
                before(stage, *args)
            result = method(stage, *args, **kwargs)
            if after:
                after(stage, *args)
            return result

        self.patch.setattr(self.kind, name, changed)

    def in_steps(self, cheat, *steps):
        """Lets something happen at the end of a training step, in some or in all; called with the stage."""
        self.around("train_step", after=lambda stage, flash, part, step: steps and step not in steps or cheat(stage))

    def with_region(self, region):
        """The stage asks for one more region."""
        regions = self.kind.regions
        self.patch.setattr(self.kind, "regions", lambda stage: [*regions(stage), region])
        self.around("open", after=lambda stage, arena: setattr(stage, "mine", arena.take(region.name)))

    def bytes_of(self, stage, name):
        plan = stage.arena.plan
        return stage.arena.block[plan.offsets[name] : plan.offsets[name] + plan.region(name).nbytes]


def a_megabyte_in_every_step(patches):
    patches.in_steps(lambda stage: np.zeros(10**6, np.uint8).sum())
    return "1,000,000"


def weights_and_moments_in_an_attribute(patches):
    """All of them, beside the arena: the own ones are overwritten behind every step and come back before the next."""

    def hide(stage):
        stage.hidden_bytes = patches.bytes_of(stage, patches.region).copy()
        patches.bytes_of(stage, patches.region)[:] = 0

    def bring(stage, *_):
        if hasattr(stage, "hidden_bytes"):
            patches.bytes_of(stage, patches.region)[:] = stage.hidden_bytes

    patches.around("train_step", before=bring, after=lambda stage, *_: hide(stage))
    return patches.region


def every_batch_kept(patches):
    kept = []
    patches.around("train_step", before=lambda stage, *_: kept.append(stage.ram.inputs.copy()))
    return "bytes of arrays"


def a_projection_outside(patches):
    """A table that is made when the stage is opened, and read in every step."""
    patches.around("open", after=lambda stage, arena: setattr(stage, "own", np.ones((33, 10), np.float32)))
    patches.in_steps(lambda stage: stage.own.sum())
    return "bytes of arrays were allocated beside the arena at a time, 512 are allowed; the largest had 1,320"


def a_region_dead_where_it_is_written(patches):
    """The logits, or what stands for them: declared for training only, and written in tests and in the hand-over."""
    name = {"tinyfoa": "logits", "bp": "logits", "giff": "scores"}[patches.name]
    regions = patches.kind.regions
    keep = ("forward", "gradient") if name == "logits" else ("hand-over",)
    patches.patch.setattr(
        patches.kind,
        "regions",
        lambda stage: [replace(r, phases=keep, writes=None) if r.name == name else r for r in regions(stage)],
    )
    return f"region {name} were written, which does not live then"


def step_six_writes_elsewhere(patches):
    """One step changes the weights of a pass, when it is loaded."""

    def spoil(stage, flash, part, step):
        if step == 6:
            patches.bytes_of(stage, patches.region)[:8] ^= 1

    patches.around("train_step", before=spoil)
    return f"bytes of region {patches.region} were written"


def eight_megabytes_in_one_step(patches):
    patches.in_steps(lambda stage: np.empty(8 * 10**6, np.uint8), 13)
    return "8,000,000"


def restore_writes_into_a_dead_region(patches):
    name = {"tinyfoa": "active", "bp": "error", "giff": "wrong"}[patches.name]
    patches.around("restore", after=lambda stage, flash: patches.bytes_of(stage, name).fill(1))
    return f"region {name} were written"


def a_list_that_grows(patches):
    """Python's own objects: no array, and little in each step."""
    kept = []
    patches.in_steps(lambda stage: kept.extend([0.5] * 400))
    return "bytes were allocated beside the arena"


def a_hidden_counter_decides(patches):
    """A few bytes that are not part of the state: after a resume, training would go on otherwise."""

    def shrink(stage, *_):
        stage.count = getattr(stage, "count", 0) + 1
        if stage.count % 2 == 0:
            patches.bytes_of(stage, patches.region).view(np.float32)[:] *= np.float32(0.5)

    patches.around("flush", before=shrink)
    return "bytes of region"


def a_hidden_rate(patches):
    """Each step leaves the summed loss in an attribute, and the next one's update depends on it."""

    def change(stage, *_):
        own = patches.bytes_of(stage, patches.region).view(np.float32)
        own[:] += np.float32(getattr(stage, "secret", 0.0))
        stage.secret = float(own[0]) / 7 + 0.01

    patches.in_steps(change)
    return patches.region


def one_byte_behind_a_region(patches):
    """The end of a region overrun, once in the last epoch."""
    end = {}

    def remember(stage, arena):
        end[id(stage)] = arena.plan.nbytes

    patches.around("open", after=remember)
    patches.in_steps(lambda stage: stage.arena.block.__setitem__(end[id(stage)], 1), 17)
    return "bytes outside all regions were written"


def a_region_for_nothing(patches):
    """Planned, and never written: room for what is not counted."""
    patches.with_region(Region("mine", (300,), "uint8", ("update",)))
    return "300 of 300 bytes of region mine were never written"


def a_kernel_that_allocates(patches):
    """Compiled code, out of Python's sight."""

    @numba.njit
    def hungry(n):
        return np.ones(n, np.uint8).sum()

    hungry(1)
    patches.in_steps(lambda stage: hungry(40_000))
    return "bytes were allocated beside the arena"


CHEATS = [
    a_megabyte_in_every_step,
    weights_and_moments_in_an_attribute,
    every_batch_kept,
    a_projection_outside,
    a_region_dead_where_it_is_written,
    step_six_writes_elsewhere,
    eight_megabytes_in_one_step,
    restore_writes_into_a_dead_region,
    a_list_that_grows,
    a_hidden_rate,
    one_byte_behind_a_region,
    a_region_for_nothing,
    a_kernel_that_allocates,
    a_hidden_counter_decides,
]


@pytest.mark.parametrize("algorithm", STAGES)
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_a_cheat_is_found_and_named(tmp_path, monkeypatch, algorithm, cheat):
    kind, options, dataset, region = STAGES[algorithm]
    which = recipe(**options)
    budget = Layout(which.validated(), dataset, 1).least()
    patches = Patches(monkeypatch, kind, region)
    patches.name = algorithm
    named = cheat(patches)
    try:
        findings = run(tmp_path, which, dataset, audit=True, threads=1, ram=budget + 4096)["findings"]
    except Diverged as error:  # which ends with 1, too, and tells what was found until then
        findings = [str(error)]
    assert any(named in line for line in findings), (named, findings)


@pytest.mark.parametrize("algorithm", STAGES)
def test_without_a_cheat_nothing_is_found(tmp_path, algorithm):
    _, options, dataset, _ = STAGES[algorithm]
    which = recipe(**options)
    budget = Layout(which.validated(), dataset, 1).least()
    assert run(tmp_path, which, dataset, audit=True, threads=1, ram=budget)["findings"] == []


def test_the_limits_are_those_of_the_documentation():
    """docs/memory.md and the help promise 16 KiB beside any arena; a larger limit would hide what is kept there."""
    assert (ALLOWANCE, ARRAYS) == (16 * 1024, 512)
