"""The record of a commit: its number, the caller's meta and, for each object, sums over its items; untrusted when read.

A record is a header (magic and format, sequence number, length of the body), a CRC-32 of header and body, and the
body, a JSON object. Records with even sequence numbers are in ``root.0``, those with odd ones in ``root.1``: the first
commit, number 1, is in ``root.1``.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import parse_json, put, read_whole, size_of
from .pieces import Through, write_json
from .sizes import Sizes

NAMES = ("root.0", "root.1")
RESERVED = (*NAMES, "lock")
COUNTERS = ("read_bytes", "written_bytes", "exchanges", "wear")
#: increased when flash is laid out in another way; 2: what is known of an item lies beside it
FORMAT = 2
OTHER_FORMAT = "is of another format"
#: bytes of the largest record that is read
LIMIT = 1 << 24
_HEADER = struct.Struct("<8sQQ")  # magic and format, sequence number, length of the body
_CRC = struct.Struct("<I")  # of header and body
_MAGIC = b"TFOAFL\x00" + bytes([FORMAT])
_COMPACT = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Object:
    """What a root says about an object.

    Attributes
    ----------
    sizes : Sizes
    slots : {1, 2}
    commits, checksums : int
        Sums over the items that were ever written: of the numbers and checksums in their seals.
    """

    sizes: Sizes
    slots: int
    commits: int
    checksums: int


@dataclass(frozen=True)
class Record:
    """The content of a root; its fields have valid types, ranges and lengths.

    Attributes
    ----------
    sequence : int
    identity : str
    meta : str
        JSON text of an object.
    counters : dict of int
    objects : dict of Object
    """

    sequence: int
    identity: str
    meta: str
    counters: dict[str, int]
    objects: dict[str, Object]


class Body:
    """The body of a record, which is never in RAM as a whole: it is written in pieces, after its length is known.

    Parameters
    ----------
    identity : str
    meta : dict

    Raises
    ------
    TypeError, ValueError
        If ``meta`` is not JSON-compatible.
    """

    def __init__(self, identity: str, meta: Any) -> None:
        self.identity, self.meta, self._length = identity, meta, 0
        self._write_run(self._measure)

    def write(
        self,
        fd: int,
        sequence: int,
        counters: dict[str, int],
        objects: Callable[[], Iterable[tuple[str, Object]]],
        view: memoryview,
    ) -> None:
        """Write a record with this body through a buffer; the header, which makes it valid, comes last.

        ``objects()`` gives the names of the objects, and what the record says about each. Raises OSError.
        """
        self._write_store(self._measure, counters, objects())
        header = _HEADER.pack(_MAGIC, sequence, self._length)
        self._crc, self._out = zlib.crc32(header), Through(fd, view, _HEADER.size + _CRC.size)
        self._write_run(self._put)
        self._write_store(self._put, counters, objects())
        self._out.flush()
        put(fd, [memoryview(header), memoryview(_CRC.pack(self._crc))], 0, _HEADER.size + _CRC.size)

    def _measure(self, piece: str) -> None:
        self._length += len(piece)  # all ASCII

    def _put(self, piece: str) -> None:
        data = piece.encode()
        self._crc = zlib.crc32(data, self._crc)
        self._out.write(data)

    def _write_run(self, write: Callable[[str], None]) -> None:
        write('{"identity":')
        write_json(self.identity, write)
        write(',"meta":"')
        write_json(self.meta, lambda piece: write(json.dumps(piece)[1:-1]))  # a text within the text
        write('"')

    @staticmethod
    def _write_store(
        write: Callable[[str], None], counters: dict[str, int], objects: Iterable[tuple[str, Object]]
    ) -> None:
        write(f',"counters":{_COMPACT(counters)},"objects":{{')
        comma = ""
        for name, one in objects:
            known = {"sizes": one.sizes.lines, "slots": one.slots, "commits": one.commits, "checksums": one.checksums}
            write(f"{comma}{_COMPACT(name)}:{_COMPACT(known)}")
            comma = ","
        write("}}")


def read(directory: Path, parity: int) -> Record | str | None:
    """Read a root of a directory; return None if it was never written, or a description of the damage.

    Raises
    ------
    CheckFailed
        If it is not a regular file, or larger than any record.
    OSError
        If it cannot be read.
    """
    name = NAMES[parity]
    if not size_of(directory / name):
        return None
    data, head = read_whole(directory / name, LIMIT), _HEADER.size + _CRC.size
    if len(data) >= head:
        magic, sequence, length = _HEADER.unpack_from(data)
        if magic != _MAGIC and magic[:6] == _MAGIC[:6]:
            return f"{name} {OTHER_FORMAT}"
        (crc,) = _CRC.unpack_from(data, _HEADER.size)
        body = data[head : head + length]
        right = len(body) == length and zlib.crc32(body, zlib.crc32(data[: _HEADER.size])) == crc
        if right and magic == _MAGIC and sequence % 2 == parity and sequence < 2**63:
            try:
                return _record(sequence, parse_json(body))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                return f"{name} is damaged ({error})"
    return f"{name} is damaged or was not written to its end"


def committed(directory: Path) -> bool:
    """Whether a directory holds, or held, a commit.

    A power cut can tear the first record; ``root.0`` is empty then, and no commit can be recovered. If both were
    written, or one has another format, the directory must not be overwritten.

    Raises
    ------
    CheckFailed, OSError
        As :func:`read`.
    """
    first = read(directory, 1)
    torn = isinstance(first, str) and not first.endswith(OTHER_FORMAT)
    return read(directory, 0) is not None or not (first is None or torn)


def _record(sequence: int, fields: dict[str, Any]) -> Record:
    """Make a record from these fields; raises ValueError if one is invalid."""
    identity, meta, counters, objects = (fields[name] for name in ("identity", "meta", "counters", "objects"))
    if not isinstance(identity, str) or not isinstance(parse_json(meta.encode()), dict):
        raise ValueError("its meta is no object")
    if set(counters) != set(COUNTERS) or not all(_is_count(number) for number in counters.values()):
        raise ValueError("its counters are not numbers")
    return Record(sequence, identity, meta, counters, {name: _object(**known) for name, known in objects.items()})


def _object(sizes: Any, slots: Any, commits: Any, checksums: Any) -> Object:
    if any(type(number) is not int for number in (slots, commits, checksums)) or slots not in (1, 2):
        raise ValueError("an object with impossible numbers")
    return Object(Sizes.parsed(sizes), slots, commits, checksums)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**60
