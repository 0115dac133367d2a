"""Text for terminals and browsers: names from files, which may contain anything, and sizes."""

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


def size(nbytes: float) -> str:
    """Format bytes with a suitable unit: 812 bytes, 7.3 kB, 152.9 kB, 6.75 MB, 2.41 GB; kB are 10^3 bytes.

    Examples
    --------
    >>> size(7298), size(6_750_000), size(2_410_000_000)
    ('7.3 kB', '6.75 MB', '2.41 GB')
    """
    if nbytes < 1000:
        return f"{nbytes:.0f} bytes"
    if nbytes < 1e6:
        return f"{nbytes / 1e3:.1f} kB"
    if nbytes < 1e9:
        return f"{nbytes / 1e6:.2f} MB" if nbytes < 1e8 else f"{nbytes / 1e6:.0f} MB"
    return f"{nbytes / 1e9:,.2f} GB"
