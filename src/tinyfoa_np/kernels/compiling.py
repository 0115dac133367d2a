"""A disk cache of compiled kernels, keyed by a digest of the sources they were compiled from.

numba's own cache checks the file that contains a kernel, but not the files whose functions are compiled into it: after
an edit of one of these, it would run old code. Here, the kernels of each module are stored in a directory named after a
digest of the module and of all modules that it imports from this package. Copies of the package with the same sources
share the cache, and several processes may compile at the same time.

The cache is in ``NUMBA_CACHE_DIR``, or in the user's cache directory, or beside the sources: the first of these that is
writable.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import Cache, CompileResultCacheImpl, IndexDataCacheFile, _CacheLocator
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature

from .linking import Kernel

PACKAGE = Path(__file__).resolve().parents[1]
#: modules without code that is compiled into a kernel
NOT_COMPILED = {Path(__file__).resolve(), PACKAGE / "errors.py", PACKAGE / "kernels" / "linking.py"}
#: number of directories kept per module, the last used: other copies of the package may have other sources
KEPT = 4
#: options of helpers that LLVM is to inline into kernels: numba's own inlining infers the types of all that it inlines
#: again at each call
INLINED: dict[str, Any] = {"forceinline": True, "error_model": "numpy", "no_cfunc_wrapper": True}
#: called with "module.function" before a kernel is compiled
LISTENERS: list[Callable[[str], None]] = []
_IMPORTS = re.compile(r"^ *from (\.+)([\w.]*) import (?:\(([^)]*)\)|([^\n#]*))", re.MULTILINE)


def njit(signature: str | None = None, **options: Any) -> Any:
    """As ``numba.njit``; with ``cache=True`` a kernel, whose compiled code is stored in this module's cache.

    Other functions are helpers: they are compiled with the kernels that call them, and Python cannot call them.
    """
    cache = options.pop("cache", False)

    def compiled(function: Callable[..., Any]) -> Any:
        own = {"pipeline_class": Kernel, "no_cfunc_wrapper": True} if cache else {}
        dispatcher = numba.njit(**options, **own)(function)
        if numba.config.DISABLE_JIT:
            return dispatcher
        if cache:
            dispatcher._cache = _KernelCache(function)
        if signature is not None:
            dispatcher.compile(signature)
            dispatcher.disable_compile()
        return dispatcher

    return compiled


def cfunc(signature: str) -> Any:
    """As ``numba.cfunc`` with ``cache=True``, in this module's cache."""

    def compiled(function: Callable[..., Any]) -> Any:
        callback: Any = CFunc(function, normalize_signature(signature), locals={}, options={})
        callback._cache = _KernelCache(function)
        callback.compile()
        return callback

    return compiled


def sources(path: Path) -> list[Path]:
    """A module and all modules that it imports from the package, also indirectly, except `NOT_COMPILED`; sorted."""
    seen, waiting = set(NOT_COMPILED), {path}
    while waiting:
        path = waiting.pop()
        seen.add(path)
        waiting |= _imported(path) - seen
    return sorted(seen - NOT_COMPILED)


@lru_cache(maxsize=256)
def _imported(path: Path) -> set[Path]:
    found = set()
    for dots, module, inside, beside in _IMPORTS.findall(_text(path)):
        base = path.parents[len(dots) - 1].joinpath(*filter(None, module.split(".")))
        names = [name.split()[0] for name in (inside or beside).split(",") if name.strip()]
        found |= {base.with_suffix(".py"), *((base / name).with_suffix(".py") for name in names)}
    return {path for path in found if path.is_file() and PACKAGE in path.parents}


@lru_cache(maxsize=256)
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@lru_cache(maxsize=64)
def digest(path: Path) -> str:
    """16 hexadecimal digits that change with the text of a module, of those it imports, and with the compiler."""
    parts = [sys.version, numba.__version__, llvmlite.__version__]
    parts += [f"{source.relative_to(PACKAGE)}\n{_text(source)}" for source in sources(path)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _bases() -> list[Path]:
    """Possible directories for kernels, in order of preference."""
    if numba.config.CACHE_DIR:
        return [Path(numba.config.CACHE_DIR) / "tinyfoa-np" / "kernels"]
    bases = [PACKAGE / "kernels" / "__pycache__"]
    with suppress(RuntimeError):  # no HOME, and nobody of that number
        home = Path.home()
        usual = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
        bases.insert(0, Path(os.environ.get("XDG_CACHE_HOME") or usual) / "tinyfoa-np" / "kernels")
    return bases


@lru_cache(maxsize=1)
def base() -> Path | None:
    """The directory for the kernels of all modules; None, with a warning, if none is writable."""
    for path in _bases():
        with suppress(OSError):
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                return path
    warnings.warn(
        "compiled kernels cannot be stored, so every process compiles them again: set NUMBA_CACHE_DIR to a writable"
        " directory",
        stacklevel=2,
    )
    return None


@lru_cache(maxsize=64)
def directory(path: Path, stamp: str) -> Path | None:
    """The directory of a module's kernels with this digest, or None; of other digests, the last used are kept."""
    top = base()
    if top is None:
        return None
    own = top / f"{path.stem}-{stamp}"
    with suppress(OSError):
        own.mkdir(exist_ok=True)
        os.utime(own)
        others = [old for old in top.glob(f"{path.stem}-*") if re.fullmatch(rf"{path.stem}-[0-9a-f]{{16}}", old.name)]
        for old in sorted(others, key=_used, reverse=True)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    return own


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


class _Locator(_CacheLocator):
    """The location of a kernel in the cache."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._py_file = inspect.getfile(function)  # numba's name
        self.module = Path(self._py_file).resolve()
        self.stamp = digest(self.module)  # now, of the sources that are being imported: they may be edited later

    def get_cache_path(self) -> str:
        return str(directory(self.module, self.stamp) or "")

    def get_source_stamp(self) -> str:
        return self.stamp

    def get_disambiguator(self) -> str:
        return ""


class _Implementation(CompileResultCacheImpl):
    def __init__(self, function: Callable[..., Any]) -> None:  # without a search for a locator
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Locator(function)
        self._filename_base = f"{function.__name__}-{self._lineno}"


class _Files:
    """Compiled variants of a function, each with its own index, so that two processes never write the same file.

    With numba's index of all variants, two processes can use the same file name for two variants.
    """

    def __init__(self, implementation: _Implementation) -> None:
        self.implementation = implementation

    def _of(self, key: Any) -> IndexDataCacheFile:
        locator, own = self.implementation.locator, hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        name = f"{self.implementation.filename_base}.{own}"
        return IndexDataCacheFile(locator.get_cache_path(), name, locator.get_source_stamp())

    def load(self, key: Any) -> Any:
        return self._of(key).load(key)

    def save(self, key: Any, data: Any) -> None:
        self._of(key).save(key, data)

    def flush(self) -> None:
        """Nothing is buffered."""


class _KernelCache(Cache):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._name, self._py_func, self._impl = repr(function), function, _Implementation(function)
        self._cache_path, self._cache_file = "", _Files(self._impl)
        self._enabled = True

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        if self._impl.locator.get_cache_path():
            with suppress(OSError, EOFError, pickle.UnpicklingError):  # deleted meanwhile, or damaged
                found = super().load_overload(sig, target_context)
        if found is None:
            for listener in LISTENERS:
                listener(f"{self._impl.locator.module.stem}.{self._py_func.__name__}")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._impl.locator.get_cache_path():
            return
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk
            warnings.warn(f"a compiled kernel could not be stored: {error.strerror or error}", stacklevel=2)
