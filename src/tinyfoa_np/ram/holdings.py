"""What objects hold, found by following their references: memory that was allocated before anything was traced."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from .allocations import TINY

#: not followed: code, and what it belongs to
_CODE = (ModuleType, type, BuiltinFunctionType, CodeType, FrameType)
#: no room: what they hold cannot be exchanged
_FIXED = (str, bytes, int, tuple, frozenset)
#: bytes above which a list, a dictionary and the like count as room for data; smaller ones are tables of a module
ROOM = 16 * 1024


class Holdings(NamedTuple):
    """Bytes of some objects: of all, of arrays and other buffers above :data:`~.allocations.TINY`, of lists and other
    containers above :data:`ROOM`, and of the largest buffer or container."""

    nbytes: int
    buffers: int
    rooms: int
    largest: int


def holdings(roots: Iterable[Any], beyond: Iterable[Any] = ()) -> Holdings:
    """Measure what can be reached from some objects.

    Parameters
    ----------
    roots : iterable
        Modules and classes among them are followed to their variables and attributes.
    beyond : iterable
        Objects that are neither counted nor followed.

    Returns
    -------
    Holdings
    """
    seen = {id(one) for one in beyond}
    nbytes = buffers = rooms = largest = 0
    todo = [one for root in roots for one in (vars(root).values() if isinstance(root, (type, ModuleType)) else [root])]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, _CODE) or _compiled(one):
            continue
        seen.add(id(one))
        if (whole := _viewed(one)) is not None:
            todo.append(whole)
            continue
        content = _content(one)
        size = max(sys.getsizeof(one, 0), content)
        nbytes += size
        if content > TINY and not isinstance(one, bytes):
            buffers, largest = buffers + content, max(largest, content)
        elif size > ROOM and not isinstance(one, _FIXED):
            rooms, largest = rooms + size, max(largest, size)
        # of a function not the variables of its module
        if isinstance(one, FunctionType):
            todo += [one.__closure__, one.__defaults__, one.__kwdefaults__, one.__dict__]
        else:
            todo += gc.get_referents(one)
    return Holdings(nbytes, buffers, rooms, largest)


def _viewed(one: Any) -> Any:
    """The object whose bytes this one views; None if it has its own."""
    return one.base if isinstance(one, np.ndarray) else one.obj if isinstance(one, memoryview) else None


def _content(one: Any) -> int:
    """Bytes that others can view, as those of an array; 0 if there are none."""
    try:
        return memoryview(one).nbytes
    except (TypeError, ValueError, BufferError):
        return 0


def _compiled(one: Any) -> bool:
    """Whether it is a kernel, or belongs to one."""
    return type(one).__module__.partition(".")[0] in ("numba", "llvmlite")
