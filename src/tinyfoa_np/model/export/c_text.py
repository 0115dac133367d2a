"""Numbers, arrays and names as C text."""

from __future__ import annotations

from typing import Any

import numpy as np


def number(value: Any) -> str:
    """A float32 in C, in the fewest digits that give the same value."""
    digits = str(np.float32(value))
    return digits + ("f" if "." in digits or "e" in digits else ".0f")


def array(kind: str, name: str, values: np.ndarray) -> str:
    """A constant array: ``uint32_t``, ``float`` or ``double``."""
    formats: dict[str, Any] = {"uint32_t": lambda value: f"{value:#010x}u", "double": repr}
    flat = [formats.get(kind, number)(value) for value in values.ravel().tolist()]
    each = 4 if kind == "double" else 6
    lines = ["    " + ", ".join(flat[start : start + each]) + "," for start in range(0, len(flat), each)]
    return "\n".join([f"static const {kind} {name}[{values.size}] = {{", *lines, "};"])


def plain(name: str) -> str:
    """A name that cannot end a comment."""
    return "".join(c if c.isascii() and c.isprintable() and c not in "*/\\@" else "_" for c in name)


def c_string(text: str) -> str:
    """A C string literal of the text in UTF-8; non-ASCII bytes are octal escapes, unaffected by following digits."""
    known = {ord('"'): '\\"', ord("\\"): "\\\\", ord("?"): "\\?"}
    written = (known.get(b, chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in text.encode("utf-8", "replace"))
    return '"' + "".join(written) + '"'
