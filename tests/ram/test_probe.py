"""Audit mode's instruments on the arena: what a phase may not change, what was never written, and work done twice."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_tools import made, recipe, run

from tinyfoa_np.ram.allocations import Trace
from tinyfoa_np.ram.arena import PATTERN, Arena
from tinyfoa_np.ram.packing import PHASES, Region, pack, spread
from tinyfoa_np.ram.probe import Findings, Guard, Left, Probe
from tinyfoa_np.rules.tinyfoa import Layer

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

REGIONS = [
    Region("weights", (100,), "uint8", writes=("initialize", "update")),
    Region("z", (10, 3), "float32", ("forward",)),
    Region("label", (1,), "uint8"),
]
SPREAD = spread(pack(REGIONS).regions)
COMPLEMENT = PATTERN ^ 0xFF


def guarded(regions=REGIONS, poison=False):
    """An arena laid out with the regions, bytes of its own in every place, and the guard on it."""
    arena = Arena(pack(regions).nbytes, poison=poison)
    arena.lay_out(pack(regions))
    for region in regions:
        arena.take(region.name)
    arena.block[:] = np.random.default_rng(0).integers(0, 256, arena.block.size)
    guard = Guard(arena, Findings(), Trace())
    guard.arm()
    return arena, guard


def place(plan, name):
    region = plan.region(name)
    return slice(plan.offsets[name], plan.offsets[name] + region.nbytes)


# The guard


@settings(max_examples=100)
@given(st.data())
def test_the_guard_finds_exactly_what_a_phase_may_not_change(data):
    """Every byte of the block: in a region that may be written, in one that may not, in one that is dead, in none."""
    arena, guard = guarded()
    phase = data.draw(st.sampled_from(PHASES))
    arena.enter(phase)
    guard.findings.lines.clear()
    writes = data.draw(st.sets(st.integers(0, arena.block.size - 1), max_size=5))
    for at in writes:
        arena.block[at] ^= 1
    guard.disarm()
    allowed = {
        at
        for region in REGIONS
        if region.written_in(phase)
        for at in range(arena.plan.offsets[region.name], arena.plan.offsets[region.name] + region.nbytes)
    }
    assert bool(list(guard.findings)) == bool(writes - allowed)
    counts = sum(int(re.search(r"(\d+) (?:of \d+ )?bytes", line)[1]) for line in guard.findings)
    assert counts == len(writes - allowed)


def test_the_guard_names_region_phase_and_step():
    arena, guard = guarded()
    arena.enter("forward")
    guard.now = "step 6"
    arena.block[place(arena.plan, "weights")][3:5] ^= 1
    arena.enter("update")  # found when the phase ends; in this one it would be allowed
    arena.block[place(arena.plan, "weights")][3:5] ^= 1
    arena.enter("load")
    arena.block[-1] ^= 1
    guard.disarm()
    assert list(guard.findings) == [
        "step 6, forward: 2 of 100 bytes of region weights were written, which does not declare it",
        f"step 6, load: 1 bytes outside all regions were written, the first at {arena.block.size - 1}",
    ]


def test_the_guard_tells_of_a_region_after_its_lifetime():
    """Bytes of a dead region that nobody else has: z alone is large enough to reach beyond the others."""
    arena, guard = guarded([REGIONS[0], Region("z", (1000,), "uint8", ("forward",))])
    arena.enter("update")
    arena.block[place(arena.plan, "z")][-1] ^= 1
    guard.disarm()
    (line,) = guard.findings
    assert line == "update: 1 of 1000 bytes of region z were written, which does not live then"


@pytest.mark.parametrize("poison", [False, True])
def test_a_guard_changes_nothing_and_poison_stays(poison):
    arena, guard = guarded(poison=poison)
    before = arena.block.copy()
    arena.enter("forward")
    z = place(arena.plan, "z")
    arena.block[z] = 1
    arena.enter("update")
    guard.disarm()
    assert (arena.block[z] == (0xFF if poison else 1)).all()
    before[z] = arena.block[z]
    assert (arena.block == before).all() and not list(guard.findings)


def test_unarmed_it_sees_nothing_and_armed_again_what_follows():
    arena, guard = guarded()
    arena.enter("forward")
    guard.disarm()
    arena.block[place(arena.plan, "weights")] ^= 1
    guard.arm()
    guard.check()
    assert not list(guard.findings)
    arena.block[place(arena.plan, "weights")] ^= 1
    guard.check()
    assert len(list(guard.findings)) == 1


def test_a_resting_guard_overwrites_what_has_ended_and_its_own_work_does_not_count():
    """Arenas above a size are guarded in some steps only; in the others nothing of the guard counts as the work's."""
    arena, guard = guarded([Region(f"r{k}", (8,), "uint8", ("forward",)) for k in range(30)], poison=True)
    guard.rest()
    with Trace() as trace:
        for phase in PHASES:
            arena.enter(phase)
    assert (arena.block[place(arena.plan, "r29")] == 0xFF).all()
    assert trace.traced().peak < 1000  # 30 pairs of views would be more
    guard.arm()
    guard.rest()
    arena.block[:] ^= 1
    guard.disarm()
    assert not list(guard.findings)  # this was nobody's turn to be watched


# The probe


def probed(works, phases=("forward",), contents=None):
    """The findings of a probe over some works, each called with the arena in a phase, and what they left."""
    probe, left = Probe(pack(REGIONS), Findings()), []
    for work in works:

        def begin(arena):
            for region in REGIONS:
                arena.take(region.name)

        def whole(work=work):
            for phase in phases:
                probe.arena.enter(phase)
                result = work(probe.arena)
            return Left(result, {}, probe.content(frozenset({"weights"})), {})

        left.append(probe.run("work", phases[0], contents or {}, begin, whole))
    probe.finish()
    return list(probe.findings), left


@settings(max_examples=60)
@given(
    st.lists(
        st.dictionaries(st.integers(0, SPREAD.nbytes + 63), st.sampled_from([0, PATTERN, COMPLEMENT, 7])), max_size=3
    )
)
def test_findings_are_exactly_what_was_left_alone_and_what_was_overrun(runs):
    """Whatever is written, the pattern itself too: over all runs, idle bytes are counted to the byte."""

    def write(writes):
        def work(arena):
            for offset, value in writes.items():
                arena.block[offset] = value

        return work

    findings, _ = probed(map(write, runs))
    written = {offset for writes in runs for offset in writes}
    places = {r.name: set(range(SPREAD.offsets[r.name], SPREAD.offsets[r.name] + r.nbytes)) for r in REGIONS}
    idle = {}
    for line in findings:
        if match := re.fullmatch(r"(\d+) of (\d+) bytes of region (\w+) were never written", line):
            assert int(match[2]) == SPREAD.region(match[3]).nbytes
            idle[match[3]] = int(match[1])
    # weights may not be written in this phase: what was is a finding of its own, and does not count as used
    expected = {"weights": 100, **{name: len(places[name] - written) for name in ("z", "label")}}
    assert idle == {name: count for name, count in expected.items() if count}
    assert any("region weights were written, which does not declare it" in line for line in findings) == bool(
        written & places["weights"]
    )
    assert any("outside all regions" in line for line in findings) == bool(written - set().union(*places.values()))


def test_what_is_written_before_a_region_lives_does_not_count_as_used():
    def early(arena):
        if arena.phase == "load":
            arena.block[place(SPREAD, "z")] = 7

    findings, _ = probed([early], ("load", "forward"))
    assert "120 of 120 bytes of region z were never written" in findings
    assert any("region z were written, which does not live then" in line for line in findings)


def test_work_begins_twice_from_the_same_contents_and_nothing_else():
    begun, weights = [], np.arange(100, dtype=np.uint8)

    def work(arena):
        begun.append(arena.block.copy())
        arena.block[place(SPREAD, "weights")] += 1

    findings, left = probed([work], phases=("update",), contents={"weights": weights})
    for block, pattern in zip(begun, (PATTERN, COMPLEMENT), strict=True):
        assert (block[place(SPREAD, "weights")] == weights).all()
        block[place(SPREAD, "weights")] = pattern
        assert (block == pattern).all()
    assert findings == [
        "120 of 120 bytes of region z were never written",
        "1 of 1 bytes of region label were never written",
    ]  # what is carried counts as used
    assert left[0].regions == {"weights": (weights + 1).tobytes()}


def test_what_a_phase_does_not_inherit_is_gone_and_reading_it_shows():
    """Work that hands a number on through a region that has ended leaves another result each time."""

    def work(arena):
        if arena.phase == "forward":
            arena.block[place(SPREAD, "z")] = 5
        if arena.phase == "update":
            arena.block[place(SPREAD, "weights")] = arena.block[place(SPREAD, "z")][0]

    findings, _ = probed([work], phases=("forward", "update"))
    assert "work: region weights depend on bytes that were not written before" in findings


def test_what_work_leaves_is_compared_in_all_its_parts():
    one = Left((1, 2), {"steps": [1]}, {"weights": b"a"}, {("w", 0): b"x", ("w", 1): b"y"})
    assert one.differs(one) == []
    other = Left((1, 3), {"steps": [2]}, {"weights": b"b"}, {("w", 0): b"x", ("w", 1): b"z"})
    assert one.differs(other) == ["region weights", "w in flash", "the stage's state", "what it returned"]


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
    assert any("bytes of region abs_w were written, which does not live then" in line for line in findings)


def test_training_reports_a_byte_outside_all_regions(tmp_path, monkeypatch):
    """One byte behind everything, written by every step."""
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
    assert all(": 1 bytes outside all regions were written" in line for line in result["findings"])
    assert result["arena"]["watermark_bytes"] == result["arena"]["planned_bytes"] + 1


@pytest.mark.parametrize("audit", [False, True])
def test_a_region_that_is_never_written_shows_in_the_watermark(tmp_path, monkeypatch, audit):
    """Where it lies last: so many that they fill every hole between others, and then some."""
    with_regions(monkeypatch, *(Region(f"idle{n}", (1,), "uint8") for n in range(200)))
    arena = run(tmp_path, recipe(), made(), audit=audit)["arena"]
    assert arena["planned_bytes"] == arena["accounted_bytes"] > arena["watermark_bytes"]
