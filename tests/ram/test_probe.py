"""The probe: finds every byte that work leaves alone and every byte outside its regions, and leaves no trace itself."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import made, recipe, run

from tinyfoa_np.ram.arena import PATTERN, Arena
from tinyfoa_np.ram.packing import PHASES, Region, pack
from tinyfoa_np.ram.probe import Probe, Rehearsal
from tinyfoa_np.rules.tinyfoa import Layer
from tinyfoa_np.storage.flash import Flash

pytestmark = [
    pytest.mark.filterwarnings("ignore:only .* slices will train"),  # these runs are short
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]

REGIONS = [
    Region("weights", (100,), "uint8"),
    Region("z", (10, 3), "float32", ("forward",)),
    Region("label", (1,), "uint8"),
]
PLAN = pack(REGIONS)
SPACE = PLAN.nbytes + 64
COMPLEMENT = PATTERN ^ 0xFF


def laid_out(poison=False):
    """An arena with bytes of its own in every place, one that nobody planned among them."""
    arena = Arena(PLAN.nbytes, poison=poison)
    arena.lay_out(PLAN)
    for region in REGIONS:
        arena.take(region.name)
    arena.block[:] = np.random.default_rng(0).integers(0, 256, arena.block.size)
    return arena


def inside():
    """Which bytes of the block belong to a region, by the name of the region."""
    return {r.name: range(PLAN.offsets[r.name], PLAN.offsets[r.name] + r.nbytes) for r in REGIONS}


def read(findings):
    """Findings as (idle bytes by region, stray bytes, first of them)."""
    idle, stray, first = {}, 0, None
    for line in findings:
        if match := re.fullmatch(r"(\d+) of (\d+) bytes of region (\w+) were never written", line):
            assert int(match[2]) == PLAN.region(match[3]).nbytes
            idle[match[3]] = int(match[1])
        else:
            match = re.fullmatch(r"(\d+) bytes outside all living regions were written, the first at (\d+)", line)
            stray, first = int(match[1]), int(match[2])
    return idle, stray, first


@settings(max_examples=60)
@given(
    st.lists(st.dictionaries(st.integers(0, SPACE - 1), st.sampled_from([0, PATTERN, COMPLEMENT, 7])), max_size=3),
    st.booleans(),
)
def test_findings_are_exactly_what_was_left_alone_and_what_was_overrun(runs, poison):
    """Whatever is written, the pattern itself too: over all runs, idle bytes and stray ones are counted to the byte."""
    arena = laid_out(poison)
    probe, written = Probe(arena), set()
    for writes in runs:

        def work(writes=writes):
            arena.enter("forward")  # all three regions live
            for offset, value in writes.items():
                arena.block[offset] = value

        probe.run(work, frozenset())
        written |= set(writes)
    places = inside()
    outside = sorted(written - {offset for place in places.values() for offset in place})
    idle = {name: len(set(place) - written) for name, place in places.items() if set(place) - written}
    assert read(probe.findings()) == (idle, len(outside), outside[0] if outside else None)


@pytest.mark.parametrize("poison", [False, True])
def test_all_is_as_it_was_afterwards(poison):
    arena = laid_out(poison)
    arena.enter("gradient")
    arena.block[:] = np.random.default_rng(1).integers(0, 256, arena.block.size)
    before = arena.block.copy()

    def work():
        for phase in PHASES:
            arena.enter(phase)
        arena.block[:] = 0

    Probe(arena).run(work, frozenset({"weights"}))
    assert (arena.block == before).all()
    assert arena.phase == "gradient"
    assert arena.poison is poison


def test_work_begins_twice_from_the_same_state_and_nothing_else():
    arena, begun = laid_out(), []
    begin, end = inside()["weights"].start, inside()["weights"].stop
    weights = arena.block[begin:end].copy()

    def work():
        assert arena.phase == "load"
        begun.append(arena.block.copy())
        arena.enter("update")
        arena.block[begin:end] += 1

    arena.enter("load")
    probe = Probe(arena)
    probe.run(work, frozenset({"weights"}))
    for block, pattern in zip(begun, (PATTERN, COMPLEMENT), strict=True):
        assert (block[begin:end] == weights).all()
        block[begin:end] = pattern
        assert (block == pattern).all()
    assert read(probe.findings())[0] == {"z": 120, "label": 1}  # what is carried counts as used


# Rehearsed in flash


@pytest.fixture
def flash(tmp_path):
    with Flash.create(tmp_path / "flash", "probe") as flash:
        flash.new("w", [1000, 300])
        flash.write("w", 0, [np.arange(1000).astype(np.uint8)])
        flash.write("w", 1, [np.full(300, 9, np.uint8)])
        flash.commit({}, memoryview(bytearray(100)))
        yield flash


def test_a_rehearsal_reads_what_it_wrote_and_nothing_reaches_the_disk(flash, tmp_path):
    def files():
        return {path.name: path.read_bytes() for path in (tmp_path / "flash").iterdir()}

    before, written = files(), flash.written_bytes
    rehearsal = Rehearsal(flash)
    rehearsal.exchanges += 1
    new = np.arange(250, dtype=np.float32)
    rehearsal.write("w", 0, [new[:100], new[100:]])
    first, second, other = np.zeros(3, np.float32), np.zeros(7, np.uint8), np.zeros(300, np.uint8)
    rehearsal.read("w", 0, [first, second], 40)
    assert first.tolist() == [10, 11, 12] and second.tobytes() == new.tobytes()[52:59]
    rehearsal.read("w", 1, [other])
    assert (other == 9).all()
    assert files() == before
    assert (flash.written_bytes, flash.exchanges) == (written, 0)
    flash.read("w", 0, [second])
    assert second.tolist() == list(range(7))


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 5000])
def test_a_commit_is_rehearsed_through_its_whole_buffer(flash, size):
    buffer = np.zeros(size, np.uint8)
    seen, rehearsal = [], Rehearsal(flash)
    read_on = rehearsal.read
    rehearsal.read = lambda name, item, buffers, offset=0: (
        read_on(name, item, buffers, offset), seen.append((offset, buffers[0].tobytes()))
    )  # fmt: skip
    rehearsal.verify("w", 0, buffer)
    assert b"".join(piece for _, piece in seen) == np.arange(1000).astype(np.uint8).tobytes()
    assert seen[0] == (0, np.arange(min(size, 1000)).astype(np.uint8).tobytes())


# In training


def with_regions(monkeypatch, *more):
    extra = Layer.extra
    monkeypatch.setattr(Layer, "extra", lambda self: [*extra(self), *more])


@pytest.mark.parametrize("phases", [PHASES, ("update",), ("gradient",), ("hand-over",), ("evaluate",)], ids=str)
def test_training_reports_a_region_it_never_writes(tmp_path, monkeypatch, phases):
    """Even where it shares its bytes with regions that are written: each answers for its own lifetime."""
    with_regions(monkeypatch, Region("idle", (123,), "uint8", phases))
    findings = run(tmp_path, recipe(), made(), audit=True)["findings"]
    for layer in (1, 2):
        assert f"layer {layer}: 123 of 123 bytes of region idle were never written" in findings
    assert len(findings) == 2


def test_training_reports_what_is_written_before_its_time(tmp_path, monkeypatch):
    """The update's scratch, written in the phase before: nobody's bytes then."""
    gradient = Layer.gradient

    def early(self, samples):
        self.ram.abs_w[:] = 0
        return gradient(self, samples)

    monkeypatch.setattr(Layer, "gradient", early)
    findings = run(tmp_path, recipe(), made(), audit=True)["findings"]
    assert any("bytes outside all living regions were written" in line for line in findings)


def test_training_reports_a_byte_outside_all_regions(tmp_path, monkeypatch):
    """One byte behind everything, written by one step."""
    gradient = Layer.gradient

    def stray(self, samples):
        self.where.block[self.where.plan.nbytes] = 0
        return gradient(self, samples)

    opened = Layer.open

    def remember(self, arena):
        self.where = arena
        return opened(self, arena)

    monkeypatch.setattr(Layer, "gradient", stray)
    monkeypatch.setattr(Layer, "open", remember)
    result = run(tmp_path, recipe(), made(), audit=True)
    assert len(result["findings"]) == 2
    assert all(": 1 bytes outside all living regions were written" in line for line in result["findings"])
    assert result["arena"]["watermark_bytes"] == result["arena"]["planned_bytes"] + 1


@pytest.mark.parametrize("audit", [False, True])
def test_a_region_that_is_never_written_shows_in_the_watermark(tmp_path, monkeypatch, audit):
    """Where it lies last: so many that they fill every hole between others, and then some."""
    with_regions(monkeypatch, *(Region(f"idle{n}", (1,), "uint8") for n in range(200)))
    arena = run(tmp_path, recipe(), made(), audit=audit)["arena"]
    assert arena["planned_bytes"] == arena["accounted_bytes"] > arena["watermark_bytes"]
