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
    busy, idle = {1: 0.1, 2: 0.13}, {1: 0.1, 2: 0.06}
    assert clocked(team, 16, busy) == [2] * 16
    trial = [1] * 4 + [2] * 4
    assert clocked(team, 32 + Team.EVERY, busy) == trial + [1] * 16 + trial + [1] * Team.EVERY
    assert clocked(team, 32 + Team.EVERY, idle) == trial + [2] * 16 + trial + [2] * Team.EVERY


def test_a_trial_of_all_threads_that_others_disturbed_is_soon_repeated(clocked):
    team = Team(2)
    clocked(team, 20, {1: 1.0, 2: 0.6})
    assert clocked(team, 1, {2: 9.0}) == [2]
    assert clocked(team, 16, {1: 1.0}) == [1] * 16
    assert clocked(team, 100, {1: 1.0, 2: 0.6}).count(1) < 10


def test_a_trial_ends_when_it_is_lost(clocked):
    team = Team(2)
    clocked(team, 16, {1: 1.0, 2: 3.0})
    assert clocked(team, 100, {1: 1.0, 2: 3.0}) == ([1] * 4 + [2] * 2 + [1] * 16) + [1] * 4 + [2] * 2 + [1] * 72


def test_trials_take_a_small_share_of_the_time_and_come_again(clocked):
    for seconds in ({1: 0.002, 2: 0.005}, {1: 0.0001, 2: 0.004}, {1: 0.01, 2: 0.006}):
        team, steps = Team(2), int(30 / min(seconds.values()))
        clocked(team, Team.FIRST, seconds)
        used = clocked(team, steps, seconds)
        ideal, other = min(seconds, key=seconds.get), max(seconds, key=seconds.get)
        assert sum(seconds[n] for n in used) < 1.004 * seconds[ideal] * steps
        assert used.count(other) > 4


def test_two_threads_that_become_slower_are_noticed_at_once(clocked):
    team = Team(2)
    clocked(team, 100, {1: 1.0, 2: 0.6})
    assert clocked(team, 32, {1: 1.0, 2: 2.0}) == [2] * 8 + [1] * 4 + [2] * 3 + [1] * 17


def test_a_trial_of_one_thread_that_others_disturbed_is_not_taken_for_its_speed(clocked):
    team = Team(2)
    clocked(team, 16, {1: 1.0, 2: 2.0})
    assert clocked(team, 2, {1: 9.0}) + clocked(team, 2, {1: 1.0}) == [1] * 4
    assert clocked(team, 20, {1: 1.0, 2: 2.0}) == [2] * 3 + [1] * 17


def test_one_thread_is_never_more(clocked):
    assert clocked(Team(1), 600, {1: 1.0}) == [1] * 600


def test_no_more_threads_than_there_are(clocked):
    assert set(clocked(Team(8), 600, {1: 1.0, 2: 0.6})) == {1, 2}
