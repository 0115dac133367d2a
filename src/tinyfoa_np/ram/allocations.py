"""Trace the allocations of Python, NumPy and numba: every block requested from the system, at little cost.

``tracemalloc`` does this for Python and NumPy, but it makes a training step five times slower and does not see the
allocations of compiled kernels. Here the allocators of Python (its three domains, PEP 445) and of NumPy's arrays
(NEP 49) are wrapped by compiled functions, and numba's kernels use Python's allocators. Each wrapper calls the
allocator it wraps and records the block in a preallocated table.

    trace = Trace()
    with trace:             # earlier allocations, and their release, do not count
        work()
        with trace.paused():
            tell_somebody()
        with trace.describing():
            take_views()    # these blocks count on their own
    trace.traced()          # bytes: peak, largest, arrays_peak, arrays_largest, described, describing, tiny, ..

Blocks count if requested by the tracing thread or by threads unknown to Python (those of kernels). Objects of up to
:data:`TINY` bytes count on their own.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import event
from numba.core.runtime import _nrt_python
from numba.extending import intrinsic

from ..kernels.compiling import cfunc, njit

#: entries of the table of live blocks: a power of two
ENTRIES = 1 << 17
#: objects of up to this many bytes count on their own: numbers and names, which the interpreter creates for every
#: operation and caches for a while, so that their peak differs a little from run to run
TINY = 64
#: so many tiny bytes more than ever before, and CPython's cache of attributes is emptied at the next pause
CACHED = 8 * 1024
#: tiny bytes beyond which no more are recorded: far above any limit, and well within the table
_ENOUGH = 1 << 20
#: words before the table: lock; whether blocks count, and how; the tracing thread; blocks without an entry; then, in
#: bytes, all blocks now, their peak, and the largest; the same for arrays, for blocks that describe, and for tiny ones
_LOCK, _ON, _THREAD, _LOST, _NOW, _PEAK, _LARGEST, _ARRAYS, _ABOUT, _TINIES = 0, 8, 16, 24, 32, 40, 48, 56, 80, 104
_HEAD = 128
_DESCRIBING = 2  # in place of 1: blocks describe
_ARRAY, _DESCRIBES, _IS_TINY = 1 << 62, 1 << 61, 1 << 60  # mark the size of a block: of an array; one that describes
#: a wrapper's own words: the wrapped allocator (context, malloc, calloc, realloc, free), the table, array flag
_CONTEXT, _MALLOC, _CALLOC, _REALLOC, _FREE, _BOOKS, _KIND = range(0, 56, 8)
_DOMAINS = (0, 1, 2)  # of Python's allocators: raw, mem, object
_SET_HANDLER, _GET_HANDLER = 304, 305  # indices of NumPy's C functions PyDataMem_SetHandler and PyDataMem_GetHandler

_this_thread = types.ExternalFunction("PyGILState_GetThisThreadState", types.intp())


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@intrinsic
def _load(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0]))

    return types.int64(types.int64), code


@intrinsic
def _store(typing: Any, address: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def _swap(typing: Any, address: Any, value: Any) -> Any:
    """Store a value and return the previous one, atomically."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("xchg", _pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@intrinsic
def _call(typing: Any, function: Any, context: Any, first: Any, second: Any) -> Any:
    """Call the function at an address with three words and return one; surplus arguments are ignored."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word] * 3)
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), code


@njit("int64(int64, int64)", cache=True)
def _find(books: int, block: int) -> int:
    """Address of a block's entry, or of the free entry where it belongs; 0 if there is none."""
    mask = ENTRIES - 1
    at = ((block >> 4) * 0x9E3779B1 >> 8) & mask
    for _ in range(ENTRIES):
        entry = books + _HEAD + 16 * at
        there = _load(entry)
        if there == block or there == 0:
            return entry
        at = (at + 1) & mask
    return 0


@njit("void(int64, int64)", cache=True)
def _forget(books: int, block: int) -> None:
    """Remove a block, if present; later entries move up so that they can still be found."""
    mask = ENTRIES - 1
    entry = _find(books, block)
    if entry == 0 or _load(entry) == 0:
        return
    marked = _load(entry + 8)
    size = marked & ~(_ARRAY | _DESCRIBES | _IS_TINY)
    if marked & _ARRAY:
        _store(books + _ARRAYS, _load(books + _ARRAYS) - size)
    place = books + (_TINIES if marked & _IS_TINY else _ABOUT if marked & _DESCRIBES else _NOW)
    _store(place, _load(place) - size)
    hole = (entry - books - _HEAD) // 16
    at = hole
    while True:
        at = (at + 1) & mask
        there = _load(books + _HEAD + 16 * at)
        if there == 0:
            break
        home = ((there >> 4) * 0x9E3779B1 >> 8) & mask
        if (at - home) & mask >= (at - hole) & mask:
            _store(books + _HEAD + 16 * hole, there)
            _store(books + _HEAD + 16 * hole + 8, _load(books + _HEAD + 16 * at + 8))
            hole = at
    _store(books + _HEAD + 16 * hole, 0)


@njit("void(int64, int64, int64)", cache=True)
def _raise(place: int, now: int, size: int) -> None:
    """Update the three figures at ``place``: current bytes, peak, largest block."""
    _store(place, now)
    if now > _load(place + 8):
        _store(place + 8, now)
    if size > _load(place + 16):
        _store(place + 16, size)


@njit("void(int64, int64, int64, int64)", cache=True)
def _note(own: int, before: int, block: int, size: int) -> None:
    """Record that a block replaces another; either may be 0."""
    books = _load(own + _BOOKS)
    counting = _load(books + _ON)
    if counting == 0 and _load(books + _NOW) == 0 and _load(books + _ABOUT) == 0 and _load(books + _TINIES) == 0:
        return
    while _swap(books + _LOCK, 1) != 0:
        pass
    if before != 0:
        _forget(books, before)
    kind = _load(own + _KIND)
    tiny = size <= TINY and kind == 0
    about = counting == _DESCRIBING
    if block != 0 and counting != 0 and not (tiny and (about or _load(books + _TINIES) > _ENOUGH)):
        thread = _this_thread()
        if thread == 0 or thread == _load(books + _THREAD):
            _forget(books, block)  # one allocator may have called another: only the outer one counts
            entry = _find(books, block)
            if entry == 0:
                _store(books + _LOST, _load(books + _LOST) + 1)
            else:
                _store(entry, block)
                _store(entry + 8, size | kind | (_IS_TINY if tiny else _DESCRIBES if about else 0))
                place = books + (_TINIES if tiny else _ABOUT if about else _NOW)
                _raise(place, _load(place) + size, size)
                if kind != 0:
                    _raise(books + _ARRAYS, _load(books + _ARRAYS) + size, size)
    _swap(books + _LOCK, 0)


@cfunc("int64(int64, int64)")
def _malloc(own: int, size: int) -> int:
    block = _call(_load(own + _MALLOC), _load(own + _CONTEXT), size, 0)
    _note(own, 0, block, size)
    return block


@cfunc("int64(int64, int64, int64)")
def _calloc(own: int, count: int, size: int) -> int:
    block = _call(_load(own + _CALLOC), _load(own + _CONTEXT), count, size)
    _note(own, 0, block, count * size)
    return block


@cfunc("int64(int64, int64, int64)")
def _realloc(own: int, before: int, size: int) -> int:
    block = _call(_load(own + _REALLOC), _load(own + _CONTEXT), before, size)
    if block != 0:
        _note(own, before, block, size)
    return block


@cfunc("void(int64, int64, int64)")
def _free(own: int, block: int, size: int) -> None:
    # Python's allocators pass no size; the value received in its place is ignored
    if block != 0:
        _note(own, block, 0, 0)
    _call(_load(own + _FREE), _load(own + _CONTEXT), block, size)


_FIELDS = ("context", "malloc", "calloc", "realloc", "free")


class _Allocator(ctypes.Structure):
    """``PyMemAllocatorEx``, and ``PyDataMemAllocator``, which has the same layout."""

    _fields_ = [(name, ctypes.c_void_p) for name in _FIELDS]


class _Handler(ctypes.Structure):
    """``PyDataMem_Handler``."""

    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator)]


class Traced(NamedTuple):
    """Bytes allocated outside the arena: peak and largest block, of all allocations and of arrays; blocks allocated
    inside :meth:`Trace.describing` count among the arrays, but otherwise apart: their peak, and those now. Objects of
    up to :data:`TINY` bytes have two figures of their own: their peak, to which CPython's cache of names adds up to
    256 KiB, and the most at a pause, less at most :data:`CACHED`."""

    peak: int
    largest: int
    arrays_peak: int
    arrays_largest: int
    described: int
    describing: int
    tiny_peak: int
    tiny: int


class _Compiling(event.Listener):
    """Pause a trace while numba compiles a kernel or loads it from its cache, once per process."""

    def __init__(self, table: np.ndarray) -> None:
        self.table, self.before = table, [0]

    def on_start(self, event: Any) -> None:
        self.before.append(int(self.table[_ON // 8]))
        self.table[_ON // 8] = 0

    def on_end(self, event: Any) -> None:
        self.table[_ON // 8] = self.before.pop()


def _clear_type_cache() -> None:
    """Drop the names in CPython's cache of attributes: up to 4096, each of them a copy if C code looked it up."""
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()


class Trace:
    """Trace allocations within a ``with`` block. There is only one instance, as there is one set of allocators.

    The wrappers stay for the lifetime of the process, because a block may be freed at any time.
    """

    _made: Trace | None = None

    def __new__(cls) -> Trace:
        if cls._made is None:
            made = super().__new__(cls)
            made._prepare()
            cls._made = made
        return cls._made

    def _prepare(self) -> None:
        self._table = np.zeros(_HEAD // 8 + 2 * ENTRIES, np.int64)
        books, api = self._table.ctypes.data, ctypes.pythonapi
        self._words: list[np.ndarray] = []
        self._domains: list[tuple[int, _Allocator, _Allocator]] = []
        for domain in _DOMAINS:
            inner = _Allocator()
            api.PyMem_GetAllocator(ctypes.c_int(domain), ctypes.byref(inner))
            self._domains.append((domain, inner, self._wrapped(inner, books, 0)))
        pointer, capsule = api.PyCapsule_GetPointer, api.PyCapsule_New
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        functions = ctypes.cast(pointer(_array_api(), None), ctypes.POINTER(ctypes.c_void_p))
        self._set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(functions[_SET_HANDLER])
        self._usual = ctypes.PYFUNCTYPE(ctypes.py_object)(functions[_GET_HANDLER])()
        usual = ctypes.cast(pointer(self._usual, b"mem_handler"), ctypes.POINTER(_Handler)).contents
        # arrays made while tracing use this handler when they are freed, perhaps after all modules are gone: it is
        # never freed itself, and contains NumPy's own functions except while tracing
        self._plain, self._counting = usual.allocator, self._wrapped(usual.allocator, books, _ARRAY)
        self._handler = _Handler(b"tinyfoa_np", 1, self._plain)
        api.Py_IncRef(ctypes.py_object(self._handler))
        self._capsule = capsule(ctypes.addressof(self._handler), b"mem_handler", None)
        _nrt_python.memsys_use_cpython_allocator()
        self._compiling = _Compiling(self._table)

    def _wrapped(self, inner: _Allocator, books: int, kind: int) -> _Allocator:
        """Create an allocator that wraps another."""
        words = np.array([*(getattr(inner, name) or 0 for name in _FIELDS), books, kind], np.int64)
        self._words.append(words)
        return _Allocator(words.ctypes.data, *(f.address for f in (_malloc, _calloc, _realloc, _free)))

    def __enter__(self) -> Trace:
        # CPython keeps up to 2000 freed tuples per length for reuse. With these lists full, a call leaves no tuples of
        # its own there; only a full collection empties the lists, so it is disabled
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*self._thresholds[:2], 1 << 30)
        for length in range(1, 20):
            tuples = [tuple([None] * length) for _ in range(2000)]
        del tuples
        self._table[:] = self._tiny = 0
        self._table[_THREAD // 8] = _this()
        for domain, _, own in self._domains:
            ctypes.pythonapi.PyMem_SetAllocator(ctypes.c_int(domain), ctypes.byref(own))
        self._handler.allocator = self._counting
        self._set_handler(self._capsule)
        event.register("numba:compiler_lock", self._compiling)
        self._table[_ON // 8] = 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._table[_ON // 8] = 0
        gc.set_threshold(*self._thresholds)
        event.unregister("numba:compiler_lock", self._compiling)
        self._set_handler(self._usual)
        self._handler.allocator = self._plain
        for domain, inner, _ in self._domains:
            ctypes.pythonapi.PyMem_SetAllocator(ctypes.c_int(domain), ctypes.byref(inner))

    def pause(self) -> int:
        """Stop counting allocations until :meth:`resume` is called with the returned value."""
        before = int(self._table[_ON // 8])
        self._table[_ON // 8] = 0
        if self._table[_TINIES // 8] > self._tiny + CACHED:
            _clear_type_cache()
            self._tiny = max(self._tiny, int(self._table[_TINIES // 8]))
        return before

    def resume(self, before: int) -> None:
        self._table[_ON // 8] = before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count allocations inside the block."""
        before = self.pause()
        try:
            yield
        finally:
            self.resume(before)

    @contextmanager
    def describing(self) -> Iterator[None]:
        """Count allocations inside the block on their own."""
        before = int(self._table[_ON // 8])
        self._table[_ON // 8] = _DESCRIBING if before else 0
        try:
            yield
        finally:
            self._table[_ON // 8] = before

    @property
    def counting(self) -> bool:
        """Whether allocations count now."""
        return bool(self._table[_ON // 8])

    def traced(self) -> Traced:
        """Allocations since the trace was last entered."""
        places = (_PEAK, _LARGEST, _ARRAYS + 8, _ARRAYS + 16, _ABOUT + 8, _ABOUT, _TINIES + 8)
        numbers = [int(self._table[place // 8]) for place in places]
        self.resume(self.pause())
        numbers.append(self._tiny)
        return Traced(*numbers)


def _array_api() -> Any:
    """The capsule of NumPy's C functions."""
    core = getattr(np, "_core", None) or np.core
    return core._multiarray_umath._ARRAY_API


def _this() -> int:
    """Python's state of the calling thread."""
    function = ctypes.pythonapi.PyGILState_GetThisThreadState
    function.restype = ctypes.c_void_p
    return int(function())
