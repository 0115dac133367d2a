"""What objects hold, found by following their references."""

import collections
import io
import mmap
import sys
import types
from array import array
from functools import lru_cache

import numba
import numpy as np
import pytest

from tinyfoa_np.ram.holdings import ROOM, holdings


def marked(kept):
    def function():
        pass

    function.kept = kept
    return function


class Holder:
    """Keeps what it is given."""

    __slots__ = ("kept",)

    def __init__(self, kept):
        self.kept = kept


def closed(kept):
    return lambda: kept


def remembered(kept):
    @lru_cache
    def cached():
        return kept

    cached()
    return cached


WAYS = {
    "attribute": Holder,
    "view": lambda kept: Holder(np.frombuffer(kept, np.uint8)[::7]),
    "closure": closed,
    "function": marked,
    "default": lambda kept: lambda own=kept: own,
    "cache": remembered,
    "method": lambda kept: Holder(kept).__init__,
    "nested": lambda kept: {"a": [({1: kept},)]},
    "generator": lambda kept: (kept for _ in range(3)),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_array_is_found_wherever_it_is(way):
    found = holdings([WAYS[way](np.zeros(1000, np.uint8))])
    assert (found.buffers, found.largest) == (1000, 1000) and 1000 <= found.nbytes < 3000


@pytest.mark.parametrize(
    "kept",
    [bytearray(4000), array("d", [0.0] * 500), memoryview(bytearray(4000)), mmap.mmap(-1, 4000)],
    ids=lambda kept: type(kept).__name__,
)
def test_other_buffers_are_found_like_arrays(kept):
    assert holdings([Holder(kept)]).largest == 4000


@pytest.mark.parametrize(
    "kept",
    [[0] * 3000, dict.fromkeys(range(900)), collections.deque([0] * 3000), io.BytesIO(bytes(20_000))],
    ids=lambda kept: type(kept).__name__,
)
def test_large_containers_are_room_and_small_or_fixed_ones_are_not(kept):
    found = holdings([Holder(kept)])
    assert found.rooms == found.largest == sys.getsizeof(kept) > ROOM and found.buffers == 0
    fixed = Holder([[0] * 1000, (0,) * 3000, "a" * 20_000, bytes(20_000)])
    assert holdings([fixed]).rooms == holdings([fixed]).largest == 0


def test_what_is_shared_counts_once_and_what_is_beyond_not_at_all():
    kept = np.zeros(1000, np.uint8)
    assert holdings([Holder(kept), Holder(kept[3:])]).buffers == 1000
    assert holdings([Holder([kept, kept[3:]])], [kept]).nbytes < 300


def test_numbers_and_small_arrays_are_no_buffers():
    found = holdings([Holder([float(k) for k in range(1000)]), Holder(np.zeros(8))])
    assert found.buffers == 0 and found.nbytes > 30_000


def test_modules_and_classes_are_followed_to_their_variables_but_code_is_not():
    module = types.ModuleType("rule")
    module.table = np.zeros(500)
    kind = type("Rule", (), {"table": np.zeros(300)})
    assert holdings([module, kind]).buffers == 6400
    module.other, module.rule = np, kind  # other modules and classes have their own variables
    assert holdings([module]).buffers == 4000
    kernel = numba.njit(lambda: 1)
    assert holdings([Holder(kernel)]).nbytes < 200
