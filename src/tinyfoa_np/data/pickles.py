"""Read pickles of plain containers and byte arrays without executing them.

A pickle is a program. Only instructions that make numbers, strings, lists, tuples and dictionaries are supported here,
and only the callables that construct an array of bytes, which are replaced by stand-ins.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from math import prod
from typing import Any

import numpy as np

from tinyfoa_np.errors import CheckFailed

_ADMITTED = """
    PROTO STOP MARK POP_MARK NONE NEWTRUE NEWFALSE INT LONG LONG1 BININT BININT1 BININT2 BINFLOAT
    BINSTRING SHORT_BINSTRING BINUNICODE BINBYTES SHORT_BINBYTES
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
    PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET GLOBAL REDUCE BUILD
""".split()
_CODES = {ord(code.code) for code in pickletools.opcodes if code.name in _ADMITTED}


class _Type:
    """Stand-in for ``numpy.dtype``, for bytes only."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError("it holds an array that is not of bytes")

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and the like are irrelevant for bytes


class _Array:
    """Stand-in for an array under construction: shape and content arrive as its state."""

    array: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        known = isinstance(kind, _Type) and isinstance(content, bytes) and isinstance(shape, tuple)
        if not known or any(type(n) is not int or n < 0 for n in shape) or prod(shape) != len(content):
            raise pickle.UnpicklingError("an array whose shape and content do not agree")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran is True else "C")


def _an_array(*_: Any) -> _Array:
    return _Array()


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _an_array,
    ("numpy._core.multiarray", "_reconstruct"): _an_array,
    ("numpy", "ndarray"): "ndarray",  # only an argument of the entry above, never called
    ("numpy", "dtype"): _Type,
}


_Readable: Any = pickle._Unpickler  # the implementation in Python, whose instructions are a table


class _Unpickler(_Readable):  # type: ignore[misc]
    dispatch = {code: run for code, run in _Readable.dispatch.items() if code in _CODES}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    def _build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Type)):
            raise pickle.UnpicklingError("it gives a state to what has none")
        self.load_build()

    dispatch[pickle.BUILD[0]] = _build


def load(content: bytes, name: str) -> dict[str, Any]:
    """Read the dictionary in a pickle: keys as text, byte arrays as read-only arrays.

    Parameters
    ----------
    content : bytes
        A pickle of protocol 0 to 3, such as Python 2 wrote.
    name : str
        Name of the file in error messages.

    Raises
    ------
    CheckFailed
        It is not a pickle of a dictionary, or contains anything but plain containers and arrays of bytes.

    Examples
    --------
    >>> load(b"(dU\\x06labels(lI7\\naI8\\nas.", "a batch")  # what Python 2 made of {"labels": [7, 8]}
    {'labels': [7, 8]}
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"a {type(found).__name__}, not a dictionary")
        plain = {
            key.decode("latin-1") if isinstance(key, bytes) else key: value
            for key, value in found.items()
            if isinstance(key, (bytes, str))
        }
    except Exception as error:  # instructions in an invalid order can cause any error
        first = str(error).splitlines()[0] if str(error) else ""
        reason = f"{type(error).__name__} {first[:80]}".strip()
        raise CheckFailed(f"{name} is not a pickle of plain containers and arrays of bytes: {reason}") from error
    return {key: getattr(value, "array", None) if isinstance(value, _Array) else value for key, value in plain.items()}
