"""The file of one object: items in slots, each with a seal that says which commit it belongs to.

An item has one or two slots; each slot holds the item's bytes and a *seal*. All that the store knows of an item lies in
its seals, and only those of one item, the current one, are in RAM. One read gets both seals of an item, although no two
slots share a page of 4096 bytes:

    two slots    | padding, data, seal | seal, data, padding |        each part is a multiple of a page
    one slot     | data, seal, padding |

A seal holds the number of the first commit that this content belongs to, the CRC-32 of the data, how often this slot
and the other one have been written, and its own CRC-32.
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import NamedTuple

from .files import put, sync_data, take
from .sizes import Sizes

PAGE = 4096
NEVER = -1  # stands for the slot of an item that was never written, and for no item
_FIELDS, _SEAL = struct.Struct("<QIII"), struct.Struct("<QIIII")  # the latter with its CRC-32
SEAL_BYTES = _SEAL.size
_NUMBERS = struct.Struct("<Q16xQ")  # the commits of two seals
_MOST_WEAR = 2**32 - 1


class CutShort(Exception):
    """An item ends before its size, or its seal is gone; the only argument says which."""


class Seal(NamedTuple):
    """What a slot says about its content.

    Attributes
    ----------
    commit : int
        Number of the first commit that this content belongs to; from 1.
    checksum : int
        CRC-32 of the data, from that commit on.
    wear, other : int
        Passes of writing over this slot, and over the other slot up to then.
    """

    commit: int
    checksum: int
    wear: int
    other: int

    def packed(self) -> bytes:
        fields = _FIELDS.pack(*self)
        return fields + zlib.crc32(fields).to_bytes(4, "little")


class ItemFile:
    """An open file of items, and the state of the current item.

    Parameters
    ----------
    fd : int
    sizes : Sizes
    slots : {2, 1, 0}
        As in :meth:`tinyfoa_np.storage.flash.Flash.new`.

    Attributes
    ----------
    commits, checksums : int
        Sums over the items in the last commit: of the commit numbers and the checksums in their seals.
    named : bool
        Whether a root names this object already.
    changed : bool
        Whether the file must be synced before the next root.
    count : int
        Number of items.
    item, size, slot : int
        The current item, its size, and the slot with its latest data.
    unsaved : bool
        Whether its seal must be written by :meth:`save`.
    sealed : int
        The number of the commit in the seal of that slot; 0 if the item was never written.
    target : int
        The slot for the next write: one that the last commit does not name.
    rewritten : int or None
        While the item is rewritten in pieces: bytes written so far.
    """

    __slots__ = (
        *("fd", "sizes", "lasting", "slots", "nbytes", "count", "commits", "checksums", "named", "changed"),
        *("item", "size", "slot", "unsaved", "sealed", "target", "rewritten"),
        *("_lines", "_written", "_first", "_last", "_buffer", "_begin", "_middle", "_wear", "_other", "_end"),
    )

    def __init__(self, fd: int, sizes: Sizes, slots: int) -> None:
        self.fd, self.sizes = fd, sizes
        self.lasting, self.slots = slots > 0, max(1, slots)
        self._lines, self.nbytes = [], 0
        for times, line in sizes.lines:
            extents = [(count, size, self._extent(size)) for count, size in line]
            length, wide = sum(count for count, _ in line), sum(count * extent for count, _, extent in extents)
            self._lines.append((times * length, length, wide, extents))
            self.nbytes += times * wide
        self.count = len(sizes)
        self.commits = self.checksums = 0
        self.named = self.changed = False
        self._written = 0  # number of items written since the last commit, which are among these:
        self._first, self._last = sys.maxsize, -1
        self._buffer = bytearray(self.slots * SEAL_BYTES)
        self.leave()

    def _extent(self, size: int) -> int:
        """Bytes of an item in the file, with all slots, seals and padding."""
        return -(-(size + SEAL_BYTES) // PAGE) * PAGE * self.slots

    def leave(self) -> None:
        """Forget the current item; its pending seal is lost."""
        self.item, self.unsaved, self.sealed = NEVER, False, 0
        self.rewritten: int | None = None

    # -- places and seals ----------------------------------------------------------------------------------------------

    def _place(self, item: int) -> tuple[int, int, int]:
        """Size of an item, and where slot 0 (its data) and slot 1 (its seal) begin."""
        at = 0
        for items, length, wide, line in self._lines:
            if item < items:
                row, column = divmod(item, length)
                at += row * wide
                for count, size, extent in line:
                    if column < count:
                        at += column * extent
                        middle = at + extent // 2
                        return (size, middle - SEAL_BYTES - size, middle) if self.slots == 2 else (size, at, 0)
                    column -= count
                    at += count * extent
            item -= items
            at += items // length * wide
        raise IndexError(item)

    def _fetch(self, begin: int) -> None:
        """Read the seals of an item, of which slot 0's begins at ``begin``, and slot 1's follows, into the buffer."""
        buffer = self._buffer
        got = take(self.fd, [memoryview(buffer)], begin, len(buffer))
        if got < len(buffer):
            buffer[got:] = bytes(len(buffer) - got)

    def _seals(self, begin: int) -> list[Seal | None]:
        """The seals of an item, one per slot, None if damaged or missing; they begin at ``begin``."""
        self._fetch(begin)
        return self._unpacked()

    def _unpacked(self) -> list[Seal | None]:
        """The seals in the buffer."""
        return [self._intact(at) for at in range(0, len(self._buffer), SEAL_BYTES)]

    def _intact(self, at: int) -> Seal | None:
        """The seal at a place in the buffer, None if it is damaged or missing."""
        *fields, check = _SEAL.unpack_from(self._buffer, at)
        return Seal(*fields) if fields[0] and zlib.crc32(self._buffer[at : at + _FIELDS.size]) == check else None

    def turn(self, item: int, last: int) -> None:
        """Make an item the current one; commits after ``last`` do not count. Raises OSError; there is then none."""
        self.leave()
        self.size, self._begin, self._middle = self._place(item)
        self._fetch(self._begin + self.size)
        seal, self.slot = self._found(last)
        self._aim(seal, last)
        self.item = item

    def _found(self, last: int) -> tuple[Seal | None, int]:
        """The newest seal in the buffer and its slot, as :func:`_newest` of all; only its checksum is computed here."""
        slot, at = 0, 0
        if self.slots == 2:
            first, second = _NUMBERS.unpack_from(self._buffer)
            if first < second <= last or first > last:
                slot, at = 1, SEAL_BYTES
        seal = self._intact(at)
        if seal is not None and seal.commit <= last:
            return seal, slot
        return _newest(self._unpacked(), last)

    def _aim(self, seal: Seal | None, last: int) -> None:
        """Choose the slot for the next write, and recall how often both slots have been written."""
        self.sealed = seal.commit if seal else 0
        if seal is None:
            self.target, self._wear, self._other = 0, 0, 0
        elif self.slots == 1 or seal.commit == last:
            self.target, self._wear, self._other = self.slot, seal.wear, seal.other
        else:
            self.target, self._wear, self._other = 1 - self.slot, seal.other, seal.wear
        self._end = sys.maxsize  # end of the last write; the first one is a pass

    def written_since(self, last: int) -> bool:
        """Whether the current item was written after the commit before ``last``."""
        return self.sealed == last

    # -- the current item ----------------------------------------------------------------------------------------------

    def read(self, views: list[memoryview], total: int, offset: int) -> int:
        """Read from the latest data; return the number of bytes read, fewer than ``total`` only at the file's end."""
        return take(self.fd, views, (self._middle + SEAL_BYTES if self.slot else self._begin) + offset, total)

    def write(self, views: list[memoryview], total: int, offset: int, commit: int) -> int:
        """Write data for this commit; return the passes of writing over the slot so far."""
        wear = self._wear
        if offset < self._end and wear < _MOST_WEAR:
            wear += 1
        begin = self._middle + SEAL_BYTES if self.target else self._begin
        if self.rewritten is not None:
            put(self.fd, views, begin + offset, total)
            self.rewritten += total
        else:
            seal, whole = Seal(commit, 0, wear, self._other), total == self.size
            self._count_in(commit)
            if not whole:
                put(self.fd, views, begin + offset, total)
            elif self.target:
                put(self.fd, [memoryview(seal.packed()), *views], self._middle, total + SEAL_BYTES)
            else:
                put(self.fd, [*views, memoryview(seal.packed())], begin, total + SEAL_BYTES)
            self.sealed, self.slot, self.unsaved = commit, self.target, not whole
        self._wear, self._end = wear, offset + total
        return wear

    def _count_in(self, commit: int) -> None:
        """Count the current item among those written for this commit."""
        if self.sealed < commit:
            self._written, self.changed = self._written + 1, True
            self._first, self._last = min(self._first, self.item), max(self._last, self.item)

    def rewrite(self, commit: int) -> None:
        """End the rewriting of the current item: what was written takes the place of its data."""
        self._count_in(commit)
        self.sealed, self.slot = commit, self.target
        self.rewritten, self.unsaved = None, True

    def save(self) -> None:
        """Write the seal of the current item if it has changed; must precede :meth:`turn`."""
        if self.unsaved:
            seal = Seal(self.sealed, 0, self._wear, self._other)
            self._put_seal(self.slot, self._begin + self.size, seal.packed())
            self.unsaved = False

    def _put_seal(self, slot: int, begin: int, seal: bytes) -> None:
        put(self.fd, [memoryview(seal)], begin + slot * SEAL_BYTES, SEAL_BYTES)

    # -- commits -------------------------------------------------------------------------------------------------------

    def commit(self, number: int, view: memoryview) -> None:
        """Seal everything written since the last commit, with checksums of what is on the disk, and sync it.

        There is no current item afterwards.

        Raises
        ------
        CutShort
            If an item is incomplete.
        """
        self.save()
        for item in range(self._first, self._last + 1):
            size, begin, middle = self._place(item)
            seals = self._seals(begin + size)
            seal, slot = _newest(seals, number)
            if seal is None or seal.commit < number:
                continue
            old = seals[1 - slot] if self.slots == 2 else None
            new = Seal(seal.commit, self._checksum(item, slot, view), seal.wear, seal.other)
            self._put_seal(slot, begin + size, new.packed())
            self.commits += new.commit - (old.commit if old else 0)
            self.checksums += new.checksum - (old.checksum if old else 0)
            self._written -= 1
        if self._written:
            raise CutShort("an item")
        if self.changed or not self.named:
            sync_data(self.fd)
        self.leave()

    def committed(self) -> None:
        """A root names what :meth:`commit` has sealed."""
        self.named, self.changed, self._written = True, False, 0
        self._first, self._last = sys.maxsize, -1

    def verify(self, last: int, view: memoryview) -> str:
        """Compare all items with the sums of commit ``last``; return a description of the damage, or an empty string.

        Raises
        ------
        OSError
            If they cannot be read; the item is then the current one.
        """
        commits = checksums = 0
        suspect = NEVER
        for item in range(self.count):
            self.item = item
            size, begin, _ = self._place(item)
            seals = self._seals(begin + size)
            seal, slot = _newest(seals, last)
            if suspect == NEVER and (seal is None and any(self._buffer) or self._broken(seals)):
                suspect = item
            if any(one is not None and one.commit > last for one in seals):
                self._first, self._last = min(self._first, item), item
            if seal is None:
                continue
            try:
                if self._checksum(item, slot, view) != seal.checksum:
                    return f"item {item} has a wrong checksum"
            except CutShort:
                return f"item {item} is cut short"
            commits += seal.commit
            checksums += seal.checksum
        self.leave()
        if (commits, checksums) == (self.commits, self.checksums):
            return ""
        return f"item {suspect} has a wrong checksum" if suspect != NEVER else "is not the file of this commit"

    def _broken(self, seals: list[Seal | None]) -> bool:
        """Whether one of the seals just read is damaged or incomplete."""
        places = range(0, len(self._buffer), SEAL_BYTES)
        return any(
            seal is None and any(self._buffer[at : at + SEAL_BYTES]) for at, seal in zip(places, seals, strict=True)
        )

    def forget_after(self, last: int) -> None:
        """Delete the seals of commits after ``last``, which are not to be: their numbers will be used again."""
        for item in range(self._first, self._last + 1):
            size, begin, _ = self._place(item)
            for slot, seal in enumerate(self._seals(begin + size)):
                if seal is not None and seal.commit > last:
                    self._put_seal(slot, begin + size, bytes(SEAL_BYTES))
                    self.changed = True
        self._first, self._last = sys.maxsize, -1

    def _checksum(self, item: int, slot: int, view: memoryview) -> int:
        """CRC-32 of one slot's data, read through ``view``; raises CutShort."""
        left, position, middle = self._place(item)
        position, crc = middle + SEAL_BYTES if slot else position, 0
        while left:
            piece = view[:left]
            if take(self.fd, [piece], position, len(piece)) < len(piece):
                raise CutShort(f"item {item}")
            crc = zlib.crc32(piece, crc)
            position += len(piece)
            left -= len(piece)
        return crc


def _newest(seals: list[Seal | None], last: int) -> tuple[Seal | None, int]:
    """The seal of the newest content up to commit ``last``, and its slot."""
    found, slot, newest = None, NEVER, 0
    for number, seal in enumerate(seals):
        if seal is not None and newest < seal.commit <= last:
            found, slot, newest = seal, number, seal.commit
    return found, slot
