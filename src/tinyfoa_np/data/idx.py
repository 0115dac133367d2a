"""The idx format: two zero bytes, a type, the number of dimensions D, D sizes, then the elements; all big-endian."""

from __future__ import annotations

import math
import struct

import numpy as np

from tinyfoa_np.errors import CheckFailed

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse(content: bytes, name: str) -> np.ndarray:
    """A read-only array over the elements of an idx file's content, without copying.

    Parameters
    ----------
    content : bytes
        The whole file, decompressed.
    name : str
        Name of the file in error messages.

    Raises
    ------
    CheckFailed
        The content is not in the idx format, or its length differs from its header.

    Examples
    --------
    >>> parse(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6)), "six.idx")
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise CheckFailed(f"{name} is not an idx file: it starts with {content[:4].hex(' ') or 'nothing'}")
    dtype, dimensions = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise CheckFailed(f"{name} ends inside its header of {start} bytes, after {len(content)}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    promised = start + math.prod(shape) * dtype.itemsize
    if len(content) != promised:
        raise CheckFailed(f"{name} holds {len(content):,} bytes, but its header promises {promised:,}")
    try:
        return np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:  # more dimensions than NumPy supports, or sizes of 0 with others too large
        raise CheckFailed(f"{name} is of a shape that no array can have: {error}") from error
