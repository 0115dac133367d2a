"""The arena: views lie where they were planned, each is handed out once, the instruments are right to the byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfoa_np.ram.arena import PATTERN, POISON, Arena
from tinyfoa_np.ram.packing import ALIGNMENT, PHASES, Region, aligned, pack

BIG = 200_000  # several of the pieces in which the watermark is looked for
REGIONS = [
    Region("weights", (7, 3), "float32"),
    Region("z", (5, 11), "float32", ("forward",)),
    Region("dz", (3, 3), "float64", ("gradient", "update")),
    Region("labels", (9,), "uint16", ("load", "forward", "gradient")),
    Region("count", (), "int64", ("update", "evaluate")),
]
PLAN = pack(REGIONS)


def laid_out(plan=PLAN, block=None, **options):
    arena = Arena(plan.nbytes if block is None else block, **options)
    arena.lay_out(plan)
    return arena


def aligned_buffer(nbytes, shift=0):
    raw = np.zeros(nbytes + 2 * ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT + shift
    return raw[start : start + nbytes]


# Views


def test_views_are_at_their_planned_places():
    arena = laid_out()
    for region in REGIONS:
        view = arena.take(region.name)
        assert view.shape == region.shape and view.dtype == region.dtype
        assert view.flags.c_contiguous and view.flags.writeable and view.flags.aligned
        assert view.ctypes.data - arena.block.ctypes.data == PLAN.offsets[region.name]
        assert view.ctypes.data % ALIGNMENT == 0


def test_views_share_memory_exactly_with_what_lives_at_other_times():
    arena = laid_out()
    views = {r.name: arena.take(r.name) for r in REGIONS}
    for a in REGIONS:
        for b in REGIONS:
            if a.name != b.name and set(a.phases) & set(b.phases):
                assert not np.shares_memory(views[a.name], views[b.name])
    assert np.shares_memory(views["z"], views["dz"])


def test_each_view_is_handed_out_once():
    arena = laid_out()
    arena.take("z")
    with pytest.raises(ValueError, match="'z' was taken before"):
        arena.take("z")
    arena.lay_out(PLAN)
    arena.take("z")


def test_what_was_not_planned_is_refused():
    with pytest.raises(ValueError, match="'novel' was not planned"):
        laid_out().take("novel")


@pytest.mark.parametrize("own", [True, False])
def test_a_plan_fits_its_own_size_and_not_one_byte_less(own):
    laid_out(block=PLAN.nbytes if own else aligned_buffer(PLAN.nbytes))
    with pytest.raises(ValueError, match=f"{PLAN.nbytes} bytes does not fit"):
        laid_out(block=PLAN.nbytes - 1 if own else aligned_buffer(PLAN.nbytes - 1))


# A caller's buffer


def test_a_callers_buffer_is_used_as_it_is():
    mine = aligned_buffer(PLAN.nbytes)
    arena = laid_out(block=mine)
    assert arena.block.size == PLAN.nbytes  # nothing behind it is taken
    arena.take("labels")[:] = 0x1234
    begin = PLAN.offsets["labels"]
    assert mine[begin : begin + 18].view(np.uint16).tolist() == [0x1234] * 9


def test_a_bytearray_serves_too():
    size = PLAN.nbytes
    memory = bytearray(size + ALIGNMENT)
    start = -np.frombuffer(memory, np.uint8).ctypes.data % ALIGNMENT
    laid_out(block=memoryview(memory)[start : start + size]).take("count")[...] = -1
    begin = start + PLAN.offsets["count"]
    assert memory[begin : begin + 8] == b"\xff" * 8


@pytest.mark.parametrize("shift", [1, 8, 63])
def test_a_misaligned_buffer_is_refused(shift):
    with pytest.raises(ValueError, match="aligned to 64"):
        Arena(aligned_buffer(4096, shift))


def test_a_read_only_buffer_is_refused():
    mine = aligned_buffer(4096)
    mine.flags.writeable = False
    for block in (mine, memoryview(mine)):
        with pytest.raises(ValueError, match="writable"):
            Arena(block)


# The instruments


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, BIG - 1), st.integers(0, 255), st.booleans()), max_size=8))
def test_watermark_is_the_end_of_the_last_changed_byte(writes):
    arena = laid_out(pack([Region("all", (BIG,), "uint8")]))
    assert arena.watermark() == 0
    view, changed, highest = arena.take("all"), {0: PATTERN}, 0
    for offset, value, look in writes:
        view[offset] = changed[offset] = value
        if look:
            highest = max(highest, *(place + 1 for place in changed if changed[place] != PATTERN), 0)
            assert arena.watermark() == highest
            view[offset] = changed[offset] = PATTERN  # what was seen changed stays seen


@pytest.mark.parametrize("offset", [0, 1, 65535, 65536, 65537, BIG - 1])
def test_watermark_at_the_edges_of_its_pieces(offset):
    arena = laid_out(pack([Region("all", (BIG,), "uint8")]))
    arena.take("all")[offset] ^= 1
    assert arena.watermark() == offset + 1


def test_watermark_sees_one_byte_behind_the_plan():
    arena = laid_out()
    arena.block[PLAN.nbytes] = 0
    assert arena.watermark() == PLAN.nbytes + 1


def test_another_plan_begins_on_a_fresh_pattern():
    arena = laid_out()
    arena.take("z")[:] = 1
    assert arena.watermark() > 0 and arena.accounted > 0
    arena.enter("update")
    arena.lay_out(pack([Region("one", (1,), "uint8")]))
    assert (arena.watermark(), arena.accounted, arena.phase) == (0, 0, PHASES[0])
    assert (arena.block == PATTERN).all()


def test_accounted_is_what_was_handed_out():
    arena = laid_out()
    assert arena.accounted == 0
    taken = []
    for region in REGIONS:
        arena.take(region.name)
        taken.append(region)
        assert arena.accounted == max(PLAN.offsets[r.name] + r.nbytes for r in taken)
        for phase in PHASES:
            held = sum(aligned(r.nbytes) for r in taken if phase in r.phases)
            assert arena.accounted_in(phase) == min(held, PLAN.nbytes)
    assert arena.accounted == PLAN.nbytes


# Poison


def test_a_region_is_poisoned_when_its_lifetime_ends_and_not_before():
    arena = laid_out(poison=True)
    views = {r.name: arena.take(r.name) for r in REGIONS}
    arena.enter("forward")
    views["z"][:], views["labels"][:], views["weights"][:] = 1, 2, 3
    arena.enter("forward")
    assert (views["z"] == 1).all()
    arena.enter("gradient")
    assert np.isnan(views["z"]).all()
    assert (views["labels"] == 2).all() and (views["weights"] == 3).all()
    views["dz"][:] = 4
    arena.enter("update")
    assert (views["labels"] == 0xFFFF).all()
    assert (views["dz"] == 4).all() and (views["weights"] == 3).all()
    arena.enter("evaluate")
    assert np.isnan(views["dz"]).all()
    assert (views["weights"] == 3).all()


def test_without_poison_nothing_is_touched():
    arena = laid_out()
    view = arena.take("z")
    arena.enter("forward")
    view[:] = 1
    for phase in PHASES:
        arena.enter(phase)
    assert (view == 1).all()


def test_poison_is_seen_as_no_number():
    for kind in (np.float32, np.float64):
        assert np.isnan(np.full(16, POISON, np.uint8).view(kind)).all()
