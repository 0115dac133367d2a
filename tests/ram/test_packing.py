"""The planner: regions that live together never overlap, and its promise is kept."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfoa_np.ram import packing as module
from tinyfoa_np.ram.packing import ALIGNMENT, PHASES, Region, aligned, pack

SHAPES = st.lists(st.integers(0, 12), max_size=3).map(tuple)
DTYPES = st.sampled_from(["uint8", "uint16", "int32", "float32", "uint64", "float64"])
LIVES = st.one_of(st.just(PHASES), st.lists(st.sampled_from(PHASES), min_size=1, max_size=4, unique=True).map(tuple))


@st.composite
def regions(draw, least=0):
    parts = draw(st.lists(st.tuples(SHAPES, DTYPES, LIVES), min_size=least, max_size=12))
    return [Region(f"r{n}", *part) for n, part in enumerate(parts)]


def meet(a, b):
    """Do two regions live in a common phase?"""
    return bool(set(a.phases) & set(b.phases))


def test_example_in_docstring():
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


@given(st.integers(0, 10**12))
def test_aligned(nbytes):
    assert aligned(nbytes) % ALIGNMENT == 0
    assert 0 <= aligned(nbytes) - nbytes < ALIGNMENT


@given(SHAPES, DTYPES)
def test_bytes_of_a_region_are_those_of_its_array(shape, dtype):
    assert Region("r", shape, dtype).nbytes == np.zeros(shape, dtype).nbytes


@given(regions())
def test_regions_that_live_together_never_overlap(wanted):
    plan = pack(wanted)
    assert {r.name for r in plan.regions} == set(plan.offsets) == {r.name for r in wanted if r.nbytes}
    assert all(offset >= 0 and offset % ALIGNMENT == 0 for offset in plan.offsets.values())
    for a in plan.regions:
        for b in plan.regions:
            if a.name < b.name and meet(a, b):
                begin, other = plan.offsets[a.name], plan.offsets[b.name]
                assert begin + a.nbytes <= other or other + b.nbytes <= begin, (a, b)


@given(regions())
def test_size_is_the_end_of_the_last_region_and_no_more_than_all_of_them(wanted):
    plan = pack(wanted)
    assert plan.nbytes == max((plan.offsets[r.name] + r.nbytes for r in plan.regions), default=0)
    assert plan.nbytes <= sum(aligned(r.nbytes) for r in wanted)
    for phase in PHASES:  # and no less than any phase needs
        alive = [r for r in wanted if phase in r.phases]
        assert plan.phase_bytes(phase) == min(sum(aligned(r.nbytes) for r in alive), plan.nbytes)


@given(regions())
def test_each_region_is_as_low_as_it_can_be(wanted):
    """First fit by size, said the slow way: try every aligned offset from 0 on."""
    plan = pack(wanted)
    placed = []
    for region in sorted((r for r in wanted if r.nbytes), key=lambda r: (-r.nbytes, r.name)):
        offset = 0
        while any(begin < offset + region.nbytes and offset < end for begin, end, r in placed if meet(r, region)):
            offset += ALIGNMENT
        assert plan.offsets[region.name] == offset
        placed.append((offset, offset + region.nbytes, region))


@given(regions(), st.randoms(use_true_random=False))
def test_order_of_declaration_does_not_matter(wanted, random):
    shuffled = list(wanted)
    random.shuffle(shuffled)
    assert pack(shuffled) == pack(wanted)


def test_lives_apart_share_bytes_and_lives_together_do_not():
    z, dz = Region("z", (100,), "float32", ("forward",)), Region("dz", (100,), "float32", ("update",))
    assert pack([z, dz]).nbytes == 400
    always = Region("dz", (100,), "float32")
    assert pack([z, always]).nbytes == 448 + 400  # the padding between them counts, that behind the last does not


def test_a_region_is_found_by_its_name():
    wanted = [Region("a", (3,), "uint8"), Region("b", (4,), "uint8")]
    assert pack(wanted).region("b") is wanted[1]


def test_an_empty_plan():
    assert pack([]).nbytes == pack([Region("none", (0, 5), "float32")]).nbytes == 0


def test_two_regions_of_one_name_are_refused():
    with pytest.raises(ValueError, match="same name"):
        pack([Region("a", (1,), "uint8"), Region("a", (2,), "uint8")])


def test_an_unknown_phase_is_refused():
    with pytest.raises(ValueError, match="dinner"):
        pack([Region("a", (1,), "uint8", ("load", "dinner"))])


def test_a_phase_may_have_steps():
    """Who lives in a phase lives in all its steps; those of different steps share their bytes."""
    always, whole = Region("a", (16,), "float32"), Region("w", (16,), "float32", ("forward",))
    first = Region("f", (32,), "float32", ("forward:0", "forward:1"))
    second, third = (Region(name, (32,), "float32", (step,)) for name, step in (("s", "forward:1"), ("t", "forward:2")))
    plan = pack([always, whole, first, second, third])
    assert plan.nbytes == 64 + 64 + 128 + 128
    assert plan.offsets["t"] in (plan.offsets["f"], plan.offsets["s"])
    assert plan.phase_bytes("forward") == plan.nbytes and plan.phase_bytes("update") == 64
    assert plan.peak_step("forward") == "forward:1" and plan.peak_step("update") == "update"
    assert whole.lives("forward:2") and not first.lives("forward") and first.within == {"forward"}
    with pytest.raises(ValueError, match="unknown"):
        pack([Region("x", (1,), "uint8", ("backward:1",))])
