"""Whether kernels may run in threads, and in how many.

Kernels do not run in a process forked after they ran in threads, or without a compiler. If numba's threading layer is
not thread safe, one training runs at a time. If other programs keep the cores busy, kernels use one thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
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

    The parts of a kernel's work are equal, so all threads wait for one that has lost its core to another program: two
    threads can then be slower than one. Every `EVERY` steps, a few run in one thread and a few in all, and the
    faster choice is kept. The division of the work stays as planned, and no result depends on the threads.

    Parameters
    ----------
    threads : int
        Maximum number of threads, at least 1; numba's own limit also applies.
    """

    TRIED, EVERY = 4, 256  # steps of each way in a trial, and from one trial to the next

    def __init__(self, threads: int) -> None:
        self.most = self.chosen = min(threads, numba.config.NUMBA_NUM_THREADS)
        self.steps = self.EVERY - 16  # the first trial comes soon, but kernels are compiled by then
        self.seconds = [0.0, 0.0]  # of a trial: in one thread, in all
        numba.set_num_threads(self.most)

    def run(self, step: Callable[[], Result]) -> Result:
        """The result of a training step."""
        way, turn = divmod(self.steps % self.EVERY, self.TRIED)
        self.steps += 1
        if self.most == 1:
            return step()
        if turn == 0 and way < 3:  # one thread is tried, then all are, then what was faster goes on
            if way == 2:
                self.chosen = 1 if self.seconds[0] < self.seconds[1] else self.most
                self.seconds = [0.0, 0.0]
            numba.set_num_threads((1, self.most, self.chosen)[way])
        begun = time.perf_counter()
        result = step()
        if way < 2:
            self.seconds[way] += time.perf_counter() - begun
        return result
