"""Whether kernels may run in threads, and in how many.

Kernels do not run in a process forked after they ran in threads, or without a compiler. If numba's threading layer is
not thread safe, one training runs at a time. If other programs keep the cores busy, kernels use one thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numba
from numba.np.ufunc import parallel

from ..errors import BadRequest

Result = TypeVar("Result")
_LOCK = threading.RLock()
#: numba's threading layers that survive a fork
_SURVIVES = ("tbb",)
_forked = False


def _after_fork() -> None:
    global _forked, _LOCK
    _LOCK = threading.RLock()  # a thread that is not here may have held it
    _forked = _forked or getattr(parallel, "_is_initialized", False) and numba.threading_layer() not in _SURVIVES


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def launched() -> Iterator[None]:
    """A context in which kernels may run.

    Raises
    ------
    BadRequest
        If they would hang or abort: this process was forked after they ran in threads, they were not compiled
        (`NUMBA_DISABLE_JIT`), or the requested threading layer is not installed.
    """
    if _forked:
        raise BadRequest(
            "this process was forked from one that ran kernels in threads, and these threads are not here: start it"
            " with multiprocessing.get_context('spawn'), or use joblib's loky"
        )
    if numba.config.DISABLE_JIT:
        raise BadRequest("NUMBA_DISABLE_JIT is set: the kernels must be compiled; unset it")
    try:
        parallel._launch_threads()
        layer = numba.threading_layer()
    except ValueError as error:
        raise BadRequest(f"numba cannot start its threads: {' '.join(str(error).split())[:200]}") from error
    if layer != "workqueue":
        yield
        return
    with _LOCK:  # its threads abort the process where two launch kernels at once
        yield


class Team:
    """The threads of a training: as many as were planned, or one while that is faster.

    The parts of a kernel's work are equal, so all threads wait for one that has lost its core to another program, which
    takes until the system's next time slice: two threads can then be three times slower than one. Now and then, a few
    steps run in one thread and then a few in all, and the faster choice is kept. Trials that go on to show the same
    come so seldom that they lose only a small share of the time, and one comes as soon as steps in all threads become
    slower than those in one. No result depends on the threads.

    Parameters
    ----------
    threads : int
        Maximum number of threads, at least 1; numba's own limit also applies.
    """

    FIRST, TRIED, EVERY = 16, 4, 256  # steps before the first trial, of each way in one, at least between two
    SHARE = 1 / 400  # of the time that trials may lose
    LONGEST = 10.0  # seconds from one trial to the next, at most, if steps are short

    def __init__(self, threads: int) -> None:
        self.most = min(threads, numba.config.NUMBA_NUM_THREADS)
        self.ways = self._ways()
        self.chosen = next(self.ways)
        numba.set_num_threads(self.chosen)

    def run(self, step: Callable[[], Result]) -> Result:
        """The result of a training step."""
        if self.most == 1:
            return step()
        begun = time.perf_counter()
        result = step()
        chosen = self.ways.send(time.perf_counter() - begun)
        if chosen != self.chosen:
            self.chosen = chosen
            numba.set_num_threads(chosen)
        return result

    def _ways(self) -> Generator[int, float, None]:
        """Yield the threads of each step; its seconds are sent back."""
        for _ in range(self.FIRST):  # kernels are compiled or loaded
            yield self.most
        slower = None
        while True:
            before, one, tried, seconds = slower, [], 0, 0.0
            for _ in range(self.TRIED):
                one.append((yield 1))
            usual = sorted(one)[(self.TRIED - 1) // 2]  # what others disturbed does not count
            while tried < self.TRIED and seconds <= self.TRIED * usual:
                seconds += yield self.most
                tried += 1
            slower, lost = seconds > tried * usual, abs(seconds - tried * usual)
            # what a trial shows for the first time may be by chance, and is soon tried again
            wait, least = (min(lost / self.SHARE, self.LONGEST), self.EVERY) if slower == before else (0.0, self.FIRST)
            steps, passed, worse = 0, 0.0, 0
            while steps < least or passed < wait:
                now = yield 1 if slower else self.most
                steps, passed = steps + 1, passed + now
                worse = max(0, worse + 1 if now > usual else worse - 1)
                if worse == self.FIRST // 2 and not slower:
                    break
