"""A rehearsal's flash: it reads what it wrote, and nothing reaches the disk or the counters."""

import numpy as np
import pytest

from tinyfoa_np.storage.flash import Flash
from tinyfoa_np.storage.rehearsal import Rehearsal


@pytest.fixture
def flash(tmp_path):
    with Flash.create(tmp_path / "flash", "probe") as flash:
        flash.new("w", [1000, 300])
        flash.write("w", 0, [np.arange(1000).astype(np.uint8)])
        flash.write("w", 1, [np.full(300, 9, np.uint8)])
        flash.commit({}, memoryview(bytearray(100)))
        yield flash


def test_a_rehearsal_reads_what_it_wrote_and_nothing_reaches_the_disk(flash, tmp_path):
    def files():
        return {path.name: path.read_bytes() for path in (tmp_path / "flash").iterdir()}

    before, counters = files(), (flash.written_bytes, flash.read_bytes)
    rehearsal = Rehearsal(flash)
    rehearsal.exchanges += 1
    new = np.arange(250, dtype=np.float32)
    rehearsal.write("w", 0, [new[:100], new[100:]])
    first, second, other = np.zeros(3, np.float32), np.zeros(7, np.uint8), np.zeros(300, np.uint8)
    rehearsal.read("w", 0, [first, second], 40)
    assert first.tolist() == [10, 11, 12] and second.tobytes() == new.tobytes()[52:59]
    rehearsal.read("w", 1, [other])
    assert (other == 9).all()
    rehearsal.write("w", 1, [np.zeros(2, np.uint8)], 5)  # a piece: the rest stays
    rehearsal.read("w", 1, [other])
    assert other[:9].tolist() == [9, 9, 9, 9, 9, 0, 0, 9, 9]
    assert files() == before
    assert (flash.written_bytes, flash.read_bytes) == counters and flash.exchanges == 0
    flash.read("w", 0, [second])
    assert second.tolist() == list(range(7))


def test_objects_come_and_go_in_the_rehearsal_only(flash):
    rehearsal = Rehearsal(flash)
    rehearsal.new("v", [10], slots=1)
    rehearsal.write("v", 0, [b"abc"], 2)
    content = bytearray(10)
    rehearsal.read("v", 0, [content])
    assert bytes(content) == b"\0\0abc\0\0\0\0\0"
    assert rehearsal.names() == ("w", "v") and rehearsal.sizes("v") == (10,)
    rehearsal.drop("v")
    rehearsal.drop("w")
    assert rehearsal.names() == () and flash.names() == ("w",)


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 5000])
def test_a_commit_is_rehearsed_through_its_whole_buffer(flash, size):
    buffer = np.zeros(size, np.uint8)
    seen, rehearsal = [], Rehearsal(flash)
    read_on = rehearsal.read
    rehearsal.read = lambda name, item, buffers, offset=0: (
        read_on(name, item, buffers, offset),
        seen.append((offset, buffers[0].tobytes())),
    )
    rehearsal.verify("w", 0, buffer)
    assert b"".join(piece for _, piece in seen) == np.arange(1000).astype(np.uint8).tobytes()
    assert seen[0] == (0, np.arange(min(size, 1000)).astype(np.uint8).tobytes())
