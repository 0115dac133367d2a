"""Compile a kernel as one piece: the functions it calls are linked into it first, then optimized and emitted once.

numba optimizes every function and emits machine code for it, and again together with each function that calls it, and
with the three functions that it makes of a parallel loop. Most of that code is never called by itself.
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
    """Code of a function that a kernel calls, as it was written down: neither optimized nor callable from Python."""

    def _optimize_final_module(self) -> None:
        """The kernel's optimization covers it."""

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Called from Python, it is a TypeError: this function of Python's returns NULL after setting one."""
        return ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value or 0

    @property
    def codegen(self) -> Any:
        """For `CPUContext.get_executable`, which tells it the environment of a function that Python calls."""
        return SimpleNamespace(set_env=lambda name, env: None)


@contextmanager
def _parts(codegen: Any) -> Iterator[None]:
    """A context in which all code is made for a kernel. Garbage is collected later: it takes a sixth of the time."""
    before, collects = codegen._library_class, gc.isenabled()
    codegen._library_class = Part
    gc.disable()
    try:
        yield
    finally:
        codegen._library_class = before
        if collects:
            gc.enable()


class Kernel(Compiler):
    """numba's compiler, for a function that Python calls."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile a function, and with it those that it calls and that are not kernels themselves."""
        codegen = self.state.targetctx.codegen()
        self.state.library = JITCodeLibrary(codegen, func.__qualname__)
        self.state.library.enable_object_caching()
        with _parts(codegen):
            return super().compile_extra(func)
