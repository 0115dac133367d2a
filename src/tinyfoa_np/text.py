"""Text that comes from files, for people: names of classes, columns and data sets may hold anything."""

from __future__ import annotations


def printable(value: object, keep: str = " ") -> str:
    """A value as text on which a terminal or a browser does nothing but show it: control characters, line separators,
    marks that turn the direction of writing and lone surrogates are written as in a Python string.

    Parameters
    ----------
    value : object
    keep : str
        Characters that stay as they are.

    Examples
    --------
    >>> printable("red\\x1b[31m\\n")
    'red\\\\x1b[31m\\\\n'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
