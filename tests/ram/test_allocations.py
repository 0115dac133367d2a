"""The trace: every block that Python, NumPy and kernels allocate, to the byte, and none that others do."""

import ctypes
import sys
import threading

import numba
import numpy as np
import pytest

from tinyfoa_np.ram.allocations import CACHED, TINY, Trace


@numba.njit
def total(n):
    return np.zeros(n, np.uint8).sum()


@numba.njit(parallel=True)
def in_threads(n):
    found = 0
    for k in numba.prange(4):
        found += np.zeros(n + k, np.uint8).sum()
    return found


def traced(work):
    with Trace() as trace:
        work()
    return trace.traced()


def test_nothing_is_nothing():
    found = traced(lambda: None)
    assert found[:6] == (0,) * 6 and found.tiny == 0 and found.tiny_peak < 1000


def test_arrays_count_at_their_peak():
    def work():
        for size in (5000, 3000):
            kept = np.zeros(size, np.uint8)
            both = np.empty(1000, np.uint8)
            del kept, both

    found = traced(work)
    assert (found.arrays_peak, found.arrays_largest) == (6000, 5000)
    assert 6000 <= found.peak < 7000 and found.largest == 5000


@pytest.mark.parametrize(
    "make",
    [lambda: bytearray(10**5), lambda: [None] * 12_500, lambda: "x" * 10**5, lambda: list(map(float, range(12_500)))],
)
def test_objects_of_python_count(make):
    found = traced(make)
    assert 100_000 <= found.peak < 220_000 and found.arrays_peak == 0


def test_what_kernels_allocate_counts_in_threads_too():
    total(1), in_threads(1)
    assert 50_000 <= traced(lambda: total(50_000)).peak < 51_000
    assert 50_000 <= traced(lambda: in_threads(50_000)).largest < 51_000


def test_the_compilation_of_a_kernel_does_not_count():
    @numba.njit
    def fresh(n):
        return n * 3 + 1

    before = traced(lambda: None).peak
    assert traced(lambda: fresh(4)).peak <= before + 16 * 1024  # a compiler takes megabytes
    assert traced(lambda: np.ones(10**5)).arrays_largest == 8 * 10**5  # counting goes on afterwards


def test_growth_and_shrinking_are_followed():
    def work():
        buffer = bytearray(1000)
        buffer.extend(bytes(20_000))
        del buffer[10:]

    assert 21_000 <= traced(work).largest < 30_000
    kept = []
    with Trace() as trace:
        for _ in range(500):
            kept.append(np.zeros(100))
            kept.clear()
    assert trace.traced().arrays_peak <= 1600


def test_blocks_of_before_do_not_count_when_they_go():
    before = np.zeros(100_000, np.uint8)
    with Trace() as trace:
        del before
        after = np.zeros(1000, np.uint8)
    assert trace.traced().arrays_peak == 1000
    assert after.size == 1000  # it outlives the trace, and is freed behind it
    del after
    assert traced(lambda: None).peak == 0


def test_paused_nothing_counts_and_what_goes_does():
    with Trace() as trace:
        one = np.zeros(1000, np.uint8)
        with trace.paused():
            two = np.zeros(5000, np.uint8)
            del one
            with trace.paused():
                three = np.zeros(7000, np.uint8)
        four = np.zeros(1000, np.uint8)
    assert trace.traced().arrays_peak == 1000
    assert sum(each.size for each in (two, three, four)) == 13_000


def test_what_describes_counts_on_its_own_until_it_goes():
    block, kept = np.zeros(100), [None] * 50
    with Trace() as trace:
        with trace.describing():
            passing = bytearray(9000)
            del passing
            kept[:] = [block[k:] for k in range(50)]
            own = np.zeros(9)
            with trace.paused(), trace.describing():  # what is not counted is not counted here either
                elsewhere = bytearray(10**6)
        found = trace.traced()
        assert found.peak < 1500 and found.largest < 1000  # of the instrument itself
        assert 9000 <= found.described < 14_000 and 50 * 80 <= found.describing < 50 * 120
        assert found.arrays_peak == own.nbytes
        kept[:] = []
        remains = bytearray(5000)  # again among the others
        found = trace.traced()
        assert found.describing < 1500 and found.peak > 5000 and found.largest == len(remains) + 1
    assert len(elsewhere) == 10**6


def test_tiny_objects_count_on_their_own():
    kept, most = [None] * 5000, 5000 * sys.getsizeof(0.5)
    with Trace() as trace:
        for k in range(5000):
            kept[k] = k + 0.5
        with trace.paused():
            kept[:3000] = [None] * 3000
        found = trace.traced()
        kept[:] = [None] * 5000
    assert found.peak < 1000 and found.arrays_peak == 0
    assert most - 4000 <= found.tiny <= found.tiny_peak <= most + 1000  # CPython keeps up to 100 for their next use
    assert int(trace._table[13]) < 4000


def test_very_many_tiny_objects_do_not_fill_the_table():
    with Trace() as trace:
        kept = list(map(float, range(200_000)))
        after = np.zeros(1000, np.uint8)
    found = trace.traced()
    assert 1 << 20 <= found.tiny_peak < 1.1 * (1 << 20) and found.arrays_peak == after.nbytes
    assert len(kept) == 200_000


def test_names_that_c_code_looks_up_do_not_add_up():
    """They stay in CPython's cache of attributes; at a pause that is emptied."""
    name = b"a_name"
    look = ctypes.pythonapi.PyObject_HasAttrString
    look.argtypes = [ctypes.py_object, ctypes.c_char_p]
    with Trace() as trace:
        for _ in range(30):
            for _ in range(200):
                look(trace, name)
            with trace.paused():
                pass
    assert trace.traced().tiny <= CACHED


def test_tiny_objects_are_in_no_other_figure_but_what_holds_many_is():
    assert traced(lambda: [float(k) for k in range(4)]).peak <= 2 * TINY + 100
    assert traced(lambda: {k: float(k) for k in range(1000)}).peak > 16 * 1024


def test_other_threads_of_python_do_not_count():
    begin, done = threading.Event(), threading.Event()

    def work():
        begin.wait()
        np.zeros(100_000, np.uint8)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with Trace() as trace:
        begin.set()
        done.wait()
    thread.join()
    assert trace.traced().arrays_peak == 0


def test_many_blocks_come_and_go():
    """The table of blocks keeps what is right whatever the order in which blocks go."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 3000, 4000).tolist()
    kept = [None] * 200
    with Trace() as trace:
        for k, size in enumerate(sizes):
            kept[k % 200] = np.empty(size, np.uint8)
        for k in draw.permutation(200).tolist():
            kept[k] = None
        left = np.empty(123, np.uint8)
    live = [0] * 200
    most = 0
    for k, size in enumerate(sizes):  # the new one comes before the old one goes
        most = max(most, sum(live) + size)
        live[k % 200] = size
    assert trace.traced().arrays_peak == most
    assert int(trace._table[7]) == left.nbytes
