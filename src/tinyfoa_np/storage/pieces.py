"""JSON texts and files in pieces, so that neither is in RAM as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from .files import put

#: items of a list or object, and characters of a string, that are one piece of text
FEW, LONG = 8, 256


def _plain(value: Any) -> Any:
    if not hasattr(value, "plain"):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return value.plain()


_text = partial(json.dumps, default=_plain)


def write_json(value: Any, write: Callable[[str], object], depth: int = 4, before: str = "") -> None:
    """Write the text of ``json.dumps(value)`` in pieces of some 100 characters.

    Parameters
    ----------
    value : object
        JSON-compatible; iterators are written as lists, objects with a method ``plain()`` as what it returns.
    write : callable
        Takes a piece.
    depth : int
        Lists and objects nested more deeply are not split.
    before : str
        Text in front of the first piece.

    Raises
    ------
    TypeError, ValueError
        If ``value`` is not JSON-compatible.
    """
    if isinstance(value, str) and len(value) > LONG:
        write(before + '"')
        for at in range(0, len(value), LONG):
            write(json.dumps(value[at : at + LONG])[1:-1])
        write('"')
    elif depth and isinstance(value, dict) and _is_large(value.values()) and all(isinstance(key, str) for key in value):
        begin = before + "{"
        for key, item in value.items():
            write_json(item, write, depth - 1, f"{begin}{json.dumps(key)}: ")
            begin = ", "
        write("}")
    elif _is_iterator(value) or depth and isinstance(value, (list, tuple)) and any(map(_is_nested, value)):
        begin = before + "["
        for item in value:
            write_json(item, write, depth - 1, begin)
            begin = ", "
        write("]" if begin == ", " else begin + "]")
    elif isinstance(value, (list, tuple)) and len(value) > FEW:
        begin = before + "["
        for at in range(0, len(value), FEW):
            write(begin + _text(value[at : at + FEW])[1:-1])
            begin = ", "
        write("]")
    else:
        write(before + _text(value))


def _is_large(items: Collection[Any]) -> bool:
    """Whether the items of an object are many, nested or long."""
    return len(items) > FEW or any(map(_is_nested, items))


def _is_nested(item: Any) -> bool:
    if isinstance(item, str):
        return len(item) > LONG
    return isinstance(item, (dict, list, tuple)) or hasattr(item, "plain") or _is_iterator(item)


def _is_iterator(item: Any) -> bool:
    return hasattr(item, "__next__")  # an abstract class would remember every type that it is asked about


class Through:
    """Write pieces to a file, one after another, through a buffer.

    Parameters
    ----------
    fd : int
    view : memoryview
        The buffer: writable bytes, at least one.
    place : int
        Where the first byte is written.
    """

    def __init__(self, fd: int, view: memoryview, place: int = 0) -> None:
        self.fd, self.view, self.place, self.held = fd, view, place, 0

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece; raises OSError."""
        done = 0
        while done < len(piece):
            some = min(len(piece) - done, len(self.view) - self.held)
            self.view[self.held : self.held + some] = piece[done : done + some]
            self.held, done = self.held + some, done + some
            if self.held == len(self.view):
                self.flush()

    def flush(self) -> None:
        """Write what the buffer holds; raises OSError."""
        if self.held:
            put(self.fd, [self.view[: self.held]], self.place, self.held)
            self.place, self.held = self.place + self.held, 0
