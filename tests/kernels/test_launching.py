"""How many threads kernels run in."""

import numba
import pytest

from tinyfoa_np.kernels import launching
from tinyfoa_np.kernels.launching import Team


@pytest.fixture
def clocked(monkeypatch):
    """A team of two whose steps take given seconds in one thread and in two; which were used, step by step."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    now, threads = [0.0], [0]
    monkeypatch.setattr(numba, "set_num_threads", lambda count: threads.__setitem__(0, count))
    monkeypatch.setattr(launching.time, "perf_counter", lambda: now[0])

    def run(team, steps, seconds):
        used = []
        for k in range(steps):

            def step():
                now[0] += seconds[threads[0]]
                used.append(threads[0])
                return k  # noqa: B023

            assert team.run(step) == k
        return used

    return run


def test_a_busy_machine_leaves_one_thread_and_an_idle_one_all(clocked):
    team = Team(2)
    busy, idle = {1: 1.0, 2: 1.3}, {1: 1.0, 2: 0.6}
    assert clocked(team, 16, busy) == [2] * 16
    assert clocked(team, Team.EVERY, busy) == [1] * 4 + [2] * 4 + [1] * (Team.EVERY - 8)
    assert clocked(team, Team.EVERY, idle) == [1] * 4 + [2] * (Team.EVERY - 4)
    assert clocked(team, Team.EVERY, busy)[8:] == [1] * (Team.EVERY - 8)


def test_one_thread_is_never_more(clocked):
    assert clocked(Team(1), 600, {1: 1.0}) == [1] * 600


def test_no_more_threads_than_there_are(clocked):
    assert set(clocked(Team(8), 600, {1: 1.0, 2: 0.6})) == {1, 2}
