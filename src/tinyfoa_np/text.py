"""Safe display of text from files: names of classes, columns and data sets may contain anything."""

from __future__ import annotations


def printable(value: object, keep: str = " ") -> str:
    """Convert a value to text that a terminal or a browser only displays: control characters, line separators, marks
    that change the direction of writing and lone surrogates are escaped as in a Python string.

    Parameters
    ----------
    value : object
    keep : str
        Characters that are not escaped.

    Examples
    --------
    >>> printable("red\\x1b[31m\\n")
    'red\\\\x1b[31m\\\\n'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
