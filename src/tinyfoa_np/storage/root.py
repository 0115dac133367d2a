"""The record of a commit: the current slot and checksum of every item; read as untrusted data.

A record is a header (magic and version, sequence number, length of the body), a CRC-32 of header and body, and the
body, a JSON object. Records with even sequence numbers are in ``root.0``, those with odd ones in ``root.1``: the first
commit, number 1, is in ``root.1``.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import parse_json, read_whole, size_of

NAMES = ("root.0", "root.1")
RESERVED = (*NAMES, "lock")
COUNTERS = ("read_bytes", "written_bytes", "exchanges", "wear")
NEVER = -1  # stands for the slot of an item that was never written
#: bytes of the largest record that is read
LIMIT = 1 << 24
_HEADER = struct.Struct("<8sQQ")  # magic and version, sequence number, length of the body
_CRC = struct.Struct("<I")  # of header and body
_MAGIC = b"TFOAFL\x00\x01"
_FIELDS = {"sizes", "slots", "current", "crcs", "wear"}


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
    objects : dict
        For each object: ``sizes`` (bytes of each item), ``slots`` (1 or 2), ``current`` (a slot, or `NEVER`), ``crcs``
        (None if never written), ``wear`` (of each slot of each item).
    """

    sequence: int
    identity: str
    meta: str
    counters: dict[str, int]
    objects: dict[str, Any]


def packed(record: Record) -> list[bytes]:
    """The record as bytes, in pieces."""
    fields = {"identity": record.identity, "meta": record.meta, "counters": record.counters, "objects": record.objects}
    body = json.dumps(fields, separators=(",", ":")).encode()
    header = _HEADER.pack(_MAGIC, record.sequence, len(body))
    return [header, _CRC.pack(zlib.crc32(body, zlib.crc32(header))), body]


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
            return f"{name} is of another version"
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
    written, or one has another version, the directory must not be overwritten.

    Raises
    ------
    CheckFailed, OSError
        As :func:`read`.
    """
    first = read(directory, 1)
    torn = isinstance(first, str) and "version" not in first
    return read(directory, 0) is not None or not (first is None or torn)


def _record(sequence: int, fields: dict[str, Any]) -> Record:
    """Make a record from these fields; raises ValueError if one is invalid."""
    identity, meta, counters, objects = (fields[name] for name in ("identity", "meta", "counters", "objects"))
    if not isinstance(identity, str) or not isinstance(parse_json(meta.encode()), dict):
        raise ValueError("its meta is no object")
    if set(counters) != set(COUNTERS) or not all(_is_count(number) for number in counters.values()):
        raise ValueError("its counters are not numbers")
    for name, known in objects.items():
        if set(known) != _FIELDS or not _is_object(**known):
            raise ValueError(f"{name!r} is no object")
    return Record(sequence, identity, meta, counters, objects)


def _is_object(sizes: Any, slots: Any, current: Any, crcs: Any, wear: Any) -> bool:
    lists = sizes, current, crcs, wear
    if not all(isinstance(each, list) for each in lists) or slots not in (1, 2) or isinstance(slots, bool):
        return False
    if not len(sizes) == len(current) == len(crcs) or len(wear) != len(sizes) * slots:
        return False
    if not all(map(_is_count, sizes)) or not all(map(_is_count, wear)) or sum(sizes) >= 2**60:
        return False
    slot = all(type(one) is int and NEVER <= one < slots for one in current)
    return slot and all(
        crc is None if one == NEVER else _is_count(crc) and crc < 2**32 for one, crc in zip(current, crcs, strict=True)
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**60
