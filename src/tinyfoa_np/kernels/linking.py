"""Compile a kernel as one piece: the functions that it calls are linked into it, then optimized and emitted once.

numba optimizes each function and emits machine code for it, then again within each function that calls it, and within
the three functions that it makes of a parallel loop. Hardly any of that code is ever called by itself.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class Part(JITCodeLibrary):
    """A function that a kernel calls, as it was lowered: it is optimized and emitted with the kernel.

    Other functions that numba compiles may call it, too, but not Python.
    """

    def _optimize_final_module(self) -> None:
        """Left to the kernel."""

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """The address of what Python would call: a function of Python's that sets a TypeError and returns NULL."""
        return ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value or 0

    @property
    def codegen(self) -> Any:
        """Only asked to store the environment in which Python calls a function."""
        return SimpleNamespace(set_env=lambda name, environment: None)


class Kernel(Compiler):
    """numba's compiler for a function that Python calls (``pipeline_class``)."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile a function, and as its parts those that it calls, except kernels."""
        codegen = self.state.targetctx.codegen()
        self.state.library = JITCodeLibrary(codegen, func.__qualname__)
        self.state.library.enable_object_caching()
        with _parts(codegen), _no_collection():
            return super().compile_extra(func)


@contextmanager
def _parts(codegen: Any) -> Iterator[None]:
    """A context in which code is compiled as parts of a kernel. numba compiles in one thread at a time."""
    before = codegen._library_class
    codegen._library_class = Part
    try:
        yield
    finally:
        codegen._library_class = before


@contextmanager
def _no_collection() -> Iterator[None]:
    """A context without garbage collection, which would take a sixth of a compilation."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
