"""Cheats that a rule could try, each as a patch to its stage or to a kernel: audit mode finds and names every one."""

import json
import sys
from dataclasses import replace

import numba
import numpy as np
import pytest
from cheat_tools import Patches
from train_tools import made, recipe, run

from tinyfoa_np.model import writing
from tinyfoa_np.ram.allocations import CACHED
from tinyfoa_np.ram.holdings import ROOM
from tinyfoa_np.ram.packing import Region
from tinyfoa_np.rules import biofo, bp, dfa, drtp, fa, ff, giff, monoforward, pepita, pepita_tl, tinyfoa
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run import train
from tinyfoa_np.run.events import Diverged
from tinyfoa_np.run.examination import ALLOWANCE, ARRAYS, BUILT, NAMES, TABLE, TINIES, VIEWS
from tinyfoa_np.run.session import Session
from tinyfoa_np.storage import item_file, root

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

#: of each algorithm: the class of its stage, a recipe, the data; a region that an update may write and a pass may not
STAGES = {
    "tinyfoa": (tinyfoa.Layer, {"epochs": 4, "batch": 16}, made(), "slice"),
    "bp": (bp.Network, {"algorithm": "bp", "epochs": 4, "batch": 16}, made(), "layer0.slice"),
    "giff": (giff.Network, {"algorithm": "giff", "epochs": 4, "batch": 16}, made(), "g0.weights"),
}


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


def an_array_made_before(patches):
    """Room for a table that exists before anything is traced: made with the stage, used in each step."""
    patches.around("__init__", after=lambda stage, *_: setattr(stage, "own", np.zeros((33, 10), np.float32)))
    patches.in_steps(lambda stage: stage.own.fill(1))
    return "1,320 bytes of arrays were there before the stage was opened, beside the arena; the largest had 1,320"


def an_array_of_the_module(patches):
    """The same as a variable of the rule's module: whole batches, written over in each step."""
    kept = np.zeros(5000, np.uint8)
    patches.patch.setattr(sys.modules[patches.kind.__module__], "KEPT", kept, raising=False)

    def keep(stage, *_):
        inputs = stage.ram.inputs.reshape(-1).view(np.uint8)[:5000]
        kept[: len(inputs)] = inputs

    patches.around("train_step", before=keep)
    return "5,000 bytes of arrays were there before the stage was opened"


def an_array_of_the_class(patches):
    """Hidden deeper: in a bytearray, in a dictionary, in an attribute of the class."""
    patches.patch.setattr(patches.kind, "cache", {"moments": [bytearray(70_000)]}, raising=False)
    patches.in_steps(lambda stage: stage.cache["moments"][0].__setitem__(0, 1))
    return "70,000 bytes of arrays were there before the stage was opened"


def numbers_made_before(patches):
    """Weights as Python's own numbers, made with the stage."""
    patches.around("__init__", after=lambda stage, *_: setattr(stage, "own", [float(k) for k in range(1000)]))
    patches.in_steps(lambda stage: stage.own.reverse())
    return "bytes before it was opened, "


def numbers_beside_the_tables(patches):
    """Small lists where each object of the store describes itself."""
    made = item_file.ItemFile.__init__
    kept = []

    def grow(entry, *args):
        made(entry, *args)
        kept.append([float(k) for k in range(400 if patches.name == "tinyfoa" else 4000)])

    patches.patch.setattr(item_file.ItemFile, "__init__", grow)
    return "bytes were allocated beside the arena at a time, 16,384 are allowed"


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


def a_megabyte_in_a_commit(patches):
    commit = Session._commit

    def hungry(run):
        np.zeros(10**6, np.uint8).sum()
        commit(run)

    patches.patch.setattr(Session, "_commit", hungry)
    return "1,000,000"


def a_root_that_is_whole_in_ram(patches):
    """The record of a commit in one piece, and as many bytes again behind it."""
    write = root.Body.write
    patches.patch.setattr(root.Body, "write", lambda *args: (bytes(20_000), write(*args)))
    return "bytes were allocated beside the arena at a time, 16,384 are allowed; the largest block had 20,033"


def a_commit_that_writes_elsewhere(patches):
    commit = Session._commit

    def spoil(run):
        commit(run)
        if run.meta["stage"] == "train" and run.meta["epoch"] == 2:
            patches.bytes_of(run.stage, patches.region)[:8] ^= 1

    patches.patch.setattr(Session, "_commit", spoil)
    return f"bytes of region {patches.region} were written"


def a_batch_kept_while_saving(patches):
    kept, save = [], writing.save

    def keep(*args):
        kept.append(np.array(args[1:2] * 200, object))
        save(*args)

    patches.patch.setattr(writing, "save", keep)
    return "saving the model: 1,600 bytes of arrays were allocated beside the arena at a time"


def a_model_that_is_whole_in_ram(patches):
    """Python's own bytes, in front of the file."""
    save = writing.save
    patches.patch.setattr(writing, "save", lambda *args: (bytearray(300_000), save(*args)))
    return "saving the model: 3"


def saving_writes_elsewhere(patches):
    """Eight bytes of the arena, outside the buffer that it is given."""
    save, whole = writing.save, train._Run._save

    def spoil(*args):
        save(*args)
        patches.bytes_of(patches.run.stage, patches.region)[:8] ^= 1

    patches.patch.setattr(train._Run, "_save", lambda run: (setattr(patches, "run", run), whole(run)))
    patches.patch.setattr(writing, "save", spoil)
    return "saving the model, load: 8 of "


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
    an_array_made_before,
    an_array_of_the_module,
    an_array_of_the_class,
    numbers_made_before,
    numbers_beside_the_tables,
    one_byte_behind_a_region,
    a_region_for_nothing,
    a_kernel_that_allocates,
    a_hidden_counter_decides,
    a_megabyte_in_a_commit,
    a_root_that_is_whole_in_ram,
    a_commit_that_writes_elsewhere,
    a_batch_kept_while_saving,
    a_model_that_is_whole_in_ram,
    saving_writes_elsewhere,
]


@pytest.fixture
def samples(tmp_path):
    """The data of an algorithm of STAGES as a file."""

    def write(dataset):
        arrays = {}
        for name, split in (("train", dataset.train), ("test", dataset.test)):
            arrays[f"x_{name}"], arrays[f"y_{name}"] = split.inputs, split.labels
        np.savez(tmp_path / "made.npz", **arrays)
        return tmp_path / "made.npz"

    return write


def words(options):
    """The options of a recipe as those of the command line."""
    return [f"--{name}={value}" for name, value in {"network": "fc:33,20", **options}.items()]


SIGNS = ["--binary-weights", "--binary-activations"]


@pytest.mark.parametrize("algorithm", STAGES)
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_a_cheat_ends_with_1_and_is_named(run, samples, tmp_path, monkeypatch, algorithm, cheat):
    kind, options, dataset, region = STAGES[algorithm]
    budget = Layout(recipe(**options).validated(), dataset, 1).least()
    patches = Patches(monkeypatch, kind, region)
    patches.name = algorithm
    named = cheat(patches)
    asked = [samples(dataset), *words(options), *(SIGNS if algorithm != "giff" else []), "--threads=1"]
    code, _, err = run("train", *asked, f"--ram={budget + 4096}", "--audit", "--quiet", "--out=cheat")
    assert code == 1 and named in err, (code, named, err)
    if (tmp_path / "cheat" / "audit.json").exists():  # the numbers of some are lost before the end
        code, _, err = run("audit", "cheat", "--quick")
        assert code == 1 and named in err, (code, named, err)


#: the same forms in other rules: the cheat, the algorithm, the class of its stage, a region
ELSEWHERE = [
    ("its_own_projection", "drtp", drtp.Network, "feedback0"),
    ("its_own_projection", "dfa", dfa.Network, "feedback0"),
    ("its_own_projection", "biofo", biofo.Layer, "projection"),
    ("weights_and_moments_in_an_attribute", "ff", ff.Network, "layer0.slice"),
    ("weights_and_moments_in_an_attribute", "pepita", pepita.Network, "layer1.slice"),
    ("weights_and_moments_in_an_attribute", "monoforward", monoforward.Layer, "slice"),
    ("dead_where_it_is_written", "fa", fa.Network, "result"),
    ("dead_where_it_is_written", "pepita_tl", pepita_tl.Network, "logits"),
    ("step_six_writes_elsewhere", "monoforward", monoforward.Layer, "weights"),
    ("eight_megabytes_in_one_step", "dfa", dfa.Network, "layer0.slice"),
    ("restored_where_it_is_dead", "ff", ff.Network, "update.gradient"),
    ("restored_where_it_is_dead", "drtp", drtp.Network, "z"),
    ("an_array_in_a_group", "giff", giff.Network, "g0.weights"),
    ("a_rate_in_a_group", "giff", giff.Network, "g0.weights"),
    ("bytes_among_the_views", "giff", giff.Network, "g0.weights"),
    ("an_array_made_between_two_views", "giff", giff.Network, "g0.weights"),
]


def its_own_projection(patches):
    """The plan has none; the stage makes an array when it takes its views."""
    regions, extra = patches.kind.regions, patches.kind.extra
    patches.patch.setattr(
        patches.kind, "regions", lambda stage: [r for r in regions(stage) if r.name != patches.region]
    )

    def make(stage, *_):
        (region,) = (r for r in extra(stage) if r.name == patches.region)
        setattr(stage.ram, patches.region, np.zeros(region.shape, region.dtype))

    patches.around("take", after=make)
    return "bytes of arrays were allocated beside the arena at a time, 512 are allowed"


def its_own_lists(patches):
    """The same numbers as lists of Python, none of them large."""
    patches.around("open", after=lambda stage, arena: setattr(stage, "own", [[0.5] * 16 for _ in range(200)]))
    return "bytes were allocated beside the arena at a time, 16,384 are allowed"


def dead_where_it_is_written(patches):
    regions = patches.kind.regions
    patches.patch.setattr(
        patches.kind,
        "regions",
        lambda stage: [
            replace(r, phases=("forward", "gradient", "update"), writes=None) if r.name == patches.region else r
            for r in regions(stage)
        ],
    )
    return f"region {patches.region} were written, which does not live then"


def restored_where_it_is_dead(patches):
    patches.around("restore", after=lambda stage, flash: patches.bytes_of(stage, patches.region).fill(1))
    return f"region {patches.region} were written"


def an_array_in_a_group(patches):
    """In an attribute that a group has anyway, filled when it is made."""
    patches.around("__init__", after=lambda stage, *_: stage.layers[0].feedback.update({-1: np.ones(330, np.float32)}))
    return "1,320 bytes of arrays were there before the stage was opened"


def a_rate_in_a_group(patches):
    """A number there that each step leaves to the next one."""

    def change(stage, *_):
        group, own = stage.layers[0], patches.bytes_of(stage, patches.region).view(np.float32)
        own[:] += np.float32(group.feedback.get(-1, 0.0))
        group.feedback[-1] = float(own[0]) / 7 + 0.01

    patches.in_steps(change)
    return patches.region


def bytes_among_the_views(patches):
    """Under a name that no region has."""
    patches.around("open", after=lambda stage, arena: setattr(stage.layers[1].ram, "own", [bytes(100)] * 4000))
    return "bytes were allocated beside the arena at a time, 16,384 are allowed"


def an_array_made_between_two_views(patches):
    """While the stage's regions are named one after another, and kept."""
    besides = patches.kind.besides

    def named(stage):
        for region in besides(stage):
            stage.kept = np.ones(330, np.float32)
            yield region

    patches.patch.setattr(patches.kind, "besides", named)
    return "1,320"


@pytest.mark.parametrize("cheat, algorithm, kind, region", ELSEWHERE)
def test_the_same_forms_are_found_in_other_rules(tmp_path, monkeypatch, cheat, algorithm, kind, region):
    which = recipe(algorithm=algorithm, network="fc:96,20", schedule="auto", epochs=4, batch=16)
    patches = Patches(monkeypatch, kind, region)
    patches.name = algorithm
    named = globals()[cheat](patches)
    try:
        findings = run(tmp_path, which, made(), audit=True, threads=1)["findings"]
    except Diverged as error:
        findings = [str(error)]
    assert any(named in line for line in findings), (named, findings)


def test_tiny_objects_of_an_opened_stage_are_found(tmp_path, monkeypatch):
    """A projection as rows of eight numbers of Python: none has more than 64 bytes, which are not traced."""
    patches = Patches(monkeypatch, tinyfoa.Layer, "")

    def project(stage, arena):
        stage.own = np.random.default_rng(0).normal(size=(60, 8)).tolist()

    patches.around("open", after=project)
    findings = run(tmp_path, recipe(epochs=1, batch=16), made(), audit=True, threads=1)["findings"]
    assert any("objects of Python were left when the stage was opened, " in line for line in findings), findings


def test_small_objects_of_an_opened_stage_are_found(tmp_path, monkeypatch):
    named = its_own_lists(Patches(monkeypatch, tinyfoa.Layer, ""))
    findings = run(tmp_path, recipe(epochs=1, batch=16), made(), audit=True, threads=1)["findings"]
    assert any(named in line for line in findings), findings


@pytest.mark.parametrize("algorithm", STAGES)
def test_without_a_cheat_it_ends_with_0(run, samples, algorithm):
    _, options, dataset, _ = STAGES[algorithm]
    budget = Layout(recipe(**options).validated(), dataset, 1).least()
    asked = [samples(dataset), *words(options), *(SIGNS if algorithm != "giff" else []), "--threads=1"]
    code, out, err = run("train", *asked, f"--ram={budget}", "--audit", "--quiet", "--json", "--out=honest")
    assert code == 0 and json.loads(out.splitlines()[-1])["findings"] == [], err
    assert run("audit", "honest", "--quick")[0] == 0


RULES = ("ff", "drtp", "dfa", "fa", "pepita", "pepita_wm", "tinyfoa")
DEEP = [
    *((name, "fc:8x16", {}) for name in RULES),
    ("bp", "fc:8x32", {}),
    ("giff", "fc:8x32", {}),
    ("giff", "fc:8x32", {"groups": ",".join(map(str, range(1, 33)))}),
    ("giff", "fc:8x16", {"groups": "|".join(f"{n},{n + 1}" for n in range(1, 17, 2))}),
    ("deeperforward", "fc:9x32", {}),
    ("cwcomp", "fc:9x32", {}),
    ("bp", "conv:9x32", {}),
    ("drtp", "conv:9x16", {}),
]


@pytest.mark.parametrize("algorithm, network, options", DEEP)
def test_deep_networks_stay_within_the_same_limits(tmp_path, algorithm, network, options):
    which = recipe(algorithm=algorithm, network=network, batch=10, epochs=1, **options)
    dataset = replace(made(samples=20, tests=5, inputs=9), image=(1, 3, 3))
    result = run(tmp_path, which, dataset, audit=True, threads=1)
    beside = result["beside"]
    assert result["findings"] == [] and beside["peak_bytes"] <= ALLOWANCE
    assert 0 < beside["described_bytes"] <= beside["described_limit_bytes"]


def test_the_limits_are_those_of_the_documentation():
    """docs/memory.md and the help promise 16 KiB beside any arena; a larger limit would hide what is kept there."""
    assert (ALLOWANCE, ARRAYS) == (16 * 1024, 512)
    assert (BUILT, VIEWS, TABLE) == ((2048, 224), (2048, 192), 288)
    assert (TINIES, NAMES, ROOM, CACHED) == ((12 * 1024, 288), 256 * 1024, 16 * 1024, 8 * 1024)
