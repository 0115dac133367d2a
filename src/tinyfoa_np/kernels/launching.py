"""When kernels may run in threads: not in a process that was forked from one in which they did, and not without a
compiler; and one training at a time where numba's threads are not safe beside each other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
from numba.np.ufunc import parallel

from ..errors import BadRequest

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
    """Within it, kernels may run.

    Raises
    ------
    BadRequest
        If they would hang or abort: this process was forked after they ran in threads, they were not compiled
        (`NUMBA_DISABLE_JIT`), or the threading layer that was asked for is not installed.
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
