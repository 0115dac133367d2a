"""The non-volatile store: what it keeps, what it refuses, against a model in memory, and on disks that refuse."""

import errno
import os
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from flash_tools import ME, before, contents, environment, pattern, read, scratch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tinyfoa_np.storage import files, root
from tinyfoa_np.storage import flash as module
from tinyfoa_np.storage.flash import Flash, FlashError
from tinyfoa_np.storage.item_file import SEAL_BYTES


@pytest.fixture
def where(tmp_path):
    return tmp_path / "flash"


# What a flash is for


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=4), st.integers(1, 2), st.integers(1, 5000), st.data())
def test_round_trip(sizes, slots, chunk, data):
    """Items of any size, through any cut into buffers, are what a reader gets: at once, after a commit, reopened."""
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory) / "flash"
        blocks = [pattern(size, seed) for seed, size in enumerate(sizes)]
        with Flash.create(where, ME) as flash:
            flash.new("w", sizes, slots)
            for item, block in enumerate(blocks):
                cuts = sorted(data.draw(st.lists(st.integers(0, len(block)), max_size=3)))
                pieces = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)])]
                flash.write("w", item, pieces)
                into = [np.zeros(len(piece), np.uint8) for piece in pieces]
                flash.read("w", item, into)
                assert b"".join(piece.tobytes() for piece in into) == block
            flash.commit({"k": [1, None, "x"]}, scratch(chunk))
            assert contents(flash) == ({"k": [1, None, "x"]}, {"w": blocks})
        with Flash.open(where, ME, scratch(chunk)) as flash:
            assert flash.fallback == ""
            assert contents(flash) == ({"k": [1, None, "x"]}, {"w": blocks})
            for item, block in enumerate(blocks):
                offset = data.draw(st.integers(0, len(block)))
                part = bytearray(len(block) - offset)
                flash.read("w", item, [part], offset)
                assert bytes(part) == block[offset:]


def test_arrays_of_any_dtype_and_shape(where):
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([True, False]), np.arange(4, dtype=np.uint64)]
    arrays.append(np.zeros((0, 3), np.float64))
    with Flash.create(where, ME) as flash:
        flash.new("w", np.array([sum(a.nbytes for a in arrays)]))
        flash.write("w", 0, arrays)
        back = [np.empty_like(a) for a in arrays]
        flash.read("w", 0, back)
        assert all((a == b).all() for a, b in zip(arrays, back))
        square = np.zeros((4, 4), np.float32)
        for strided in (square[:, :2], square[::2]):
            with pytest.raises((TypeError, ValueError, BufferError)):
                flash.write("w", 0, [strided])
        flash.commit({}, scratch())  # a refused buffer is not a failed write
        assert len(read(flash, "w", 0)) == sum(a.nbytes for a in arrays)


def test_only_the_last_commit_is_kept(where):
    with Flash.create(where, ME) as flash:
        flash.new("w", [10, 10])
        flash.write("w", 0, [b"a" * 10])
        flash.commit({"step": 1}, scratch())
        flash.write("w", 0, [b"b" * 10])
        flash.write("w", 0, [b"cc"], 4)
        flash.write("w", 1, [b"d" * 10])
        flash.new("late", [3])
        assert read(flash, "w", 0) == b"bbbbccbbbb"
        assert flash.meta == {"step": 1}
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) == ({"step": 1}, {"w": [b"a" * 10, None]})
    assert sorted(os.listdir(where)) == ["lock", "root.0", "root.1", "w"]


def test_meta_is_a_copy(where):
    meta = {"losses": [1.5]}
    with Flash.create(where, ME) as flash:
        flash.commit(meta, scratch())
        meta["losses"].append(2)
        flash.meta["losses"].append(3)
        assert flash.meta == {"losses": [1.5]}


def test_counters_are_kept_with_the_commit(where):
    with Flash.create(where, ME) as flash:
        flash.new("w", [10, 20])
        flash.new("stream", [6], slots=1)
        for half in (0, 3):
            flash.write("stream", 0, [b"abc"], half)
        assert flash.wear == 1  # piece after piece is one pass
        for _ in range(3):
            flash.write("w", 0, [b"a" * 10])
        flash.read("w", 0, [bytearray(4)], 2)
        flash.exchanges += 2
        flash.commit({}, scratch())
        roots = (where / "root.0").stat().st_size + (where / "root.1").stat().st_size
        assert flash.bytes == 2 * (30 + 2 * SEAL_BYTES) + 6 + SEAL_BYTES + roots
        assert (flash.read_bytes, flash.written_bytes, flash.exchanges, flash.wear) == (4, 36, 2, 3)
        flash.write("w", 0, [b"a" * 10])  # the other slot
        assert flash.wear == 3
    with Flash.open(where, ME, scratch()) as flash:
        assert (flash.read_bytes, flash.written_bytes, flash.exchanges, flash.wear) == (4, 36, 2, 3)
        for _ in range(4):
            flash.write("w", 0, [b"b" * 10])
            flash.commit({}, scratch())
        assert flash.wear == 5  # slots took turns: 2 passes more on the one that had 3
        assert flash.written_bytes == 76


# What is refused


def test_rules_of_two_slots(where):
    with Flash.create(where, ME) as flash:
        flash.new("w", [10])
        for wrong in (0, 9):
            with pytest.raises(ValueError, match="whole item"):
                flash.write("w", 0, [bytes(wrong)])
        with pytest.raises(FlashError, match="never written"):
            flash.read("w", 0, [bytearray(1)])
        flash.write("w", 0, [bytes(10)])
        flash.write("w", 0, [b"x"], 9)
        flash.commit({}, scratch())
        with pytest.raises(ValueError, match="whole item"):
            flash.write("w", 0, [b"x"], 9)
        assert read(flash, "w", 0) == bytes(9) + b"x"


def test_rules_of_one_slot(where):
    with Flash.create(where, ME) as flash:
        flash.new("s", [10], slots=1)
        flash.write("s", 0, [b"yz"], 8)
        flash.write("s", 0, [b"ab"], 0)
        flash.commit({}, scratch())
        assert read(flash, "s", 0) == b"ab" + bytes(6) + b"yz"
        with pytest.raises(ValueError, match="one slot"):
            flash.write("s", 0, [bytes(10)])
    with Flash.open(where, ME, scratch()) as flash, pytest.raises(ValueError, match="one slot"):
        flash.write("s", 0, [bytes(10)])


def test_working_memory_is_in_no_commit(where):
    with Flash.create(where, ME) as flash:
        flash.new("p", [10], slots=0)
        flash.write("p", 0, [b"ab"], 4)
        flash.commit({}, scratch())
        flash.write("p", 0, [b"cd"], 5)
        assert read(flash, "p", 0) == bytes(4) + b"acd" + bytes(3)
    with Flash.open(where, ME, scratch()) as flash:
        assert flash.names() == () and "p" not in os.listdir(where)
        flash.new("p", [3], slots=0)
        flash.drop("p")
        flash.commit({}, scratch())
        assert "p" not in os.listdir(where)


def test_rewriting_must_cover_the_item(where):
    with Flash.create(where, ME) as flash:
        flash.new("w", [10])
        flash.write("w", 0, [b"0123456789"])
        flash.commit({"n": 1}, scratch())
        with pytest.raises(ValueError, match="9 of 10 bytes"), flash.rewriting("w", 0):
            flash.write("w", 0, [bytes(9)])
        with pytest.raises(FlashError, match="open it again"):  # what was begun is in doubt
            flash.commit({"n": 2}, scratch())
    with Flash.open(where, ME, scratch()) as flash:
        assert flash.meta == {"n": 1} and read(flash, "w", 0) == b"0123456789"


@pytest.mark.parametrize("item, size, offset", [(-1, 1, 0), (2, 1, 0), (0, 11, 0), (0, 1, 10), (0, 1, -1)])
def test_out_of_range(where, item, size, offset):
    with Flash.create(where, ME) as flash:
        flash.new("w", [10, 20])
        flash.write("w", 0, [b"a" * 10])
        with pytest.raises(ValueError):
            flash.read("w", item, [bytearray(size)], offset)
        with pytest.raises(ValueError):
            flash.write("w", item, [bytearray(size)], offset)
        assert read(flash, "w", 0) == b"a" * 10


def test_names(where):
    with Flash.create(where, ME) as flash:
        for name in ("", "root.0", "root.1", "lock", "a/b", "..", ".hidden", "a\\b"):
            with pytest.raises(ValueError, match="plain file name"):
                flash.new(name, [1])
        for sizes, slots in (([-1], 2), ([1], -1), ([1], 3)):
            with pytest.raises(ValueError, match="slots"):
                flash.new("w", sizes, slots)
        flash.new("w", [1])
        with pytest.raises(ValueError, match="taken"):
            flash.new("w", [1])
        for call in (flash.sizes, flash.drop):
            with pytest.raises(ValueError, match="no object"):
                call("v")
        assert flash.names() == ("w",)


def test_dropped_objects_leave_after_the_commit(where):
    with Flash.create(where, ME) as flash:
        flash.new("w", [4])
        flash.write("w", 0, [b"once"])
        flash.commit({}, scratch())
        flash.drop("w")
        assert flash.names() == ()
        with pytest.raises(ValueError, match="commit before"):
            flash.new("w", [4])
        assert (where / "w").exists()
    with Flash.open(where, ME, scratch()) as flash:
        assert read(flash, "w", 0) == b"once"
        flash.drop("w")
        flash.commit({}, scratch())
        assert not (where / "w").exists()
        flash.new("w", [5])
        flash.write("w", 0, [b"again"])
        flash.commit({}, scratch())
    with Flash.open(where, ME, scratch()) as flash:
        assert read(flash, "w", 0) == b"again"


def test_identity_and_missing_commit(where, tmp_path):
    with pytest.raises(FlashError, match="no commit"):
        Flash.open(where, ME, scratch())
    with Flash.create(where, ME) as flash:
        flash.new("w", [4])
    with pytest.raises(FlashError, match="no commit"):
        Flash.open(where, ME, scratch())
    with Flash.create(where, ME) as flash:  # nothing was committed, so it can begin again
        assert not (where / "w").exists()
        flash.new("w", [4])
        flash.commit({}, scratch())
    with pytest.raises(FlashError, match="belongs to another recipe"):
        Flash.open(where, "another", scratch())
    with pytest.raises(FlashError, match="already holds a commit"):
        Flash.create(where, ME)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear reader")
    with pytest.raises(FlashError, match="not empty"):
        Flash.create(tmp_path / "mine", ME)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear reader"
    with pytest.raises(FlashError, match="cannot create"):
        Flash.create(tmp_path / "mine" / "letter.txt" / "flash", ME)
    with Flash.open(where, ME, scratch()) as flash:  # none of the refusals kept the lock
        assert flash.names() == ("w",)


def test_another_format_is_named_and_not_written_over(where):
    with Flash.create(where, ME) as flash:
        before(flash)
    for name in root.NAMES:
        content = (where / name).read_bytes()
        (where / name).write_bytes(content[:7] + b"\x01" + content[8:])
    with pytest.raises(FlashError, match=r"another format .* reads format 2\): resume .* or train again"):
        Flash.open(where, ME, scratch())
    with pytest.raises(FlashError, match="already holds a commit"):
        Flash.create(where, ME)


@pytest.mark.skipif(module.fcntl is None, reason="this system has no flock")
def test_one_process_at_a_time(where):
    with Flash.create(where, ME) as flash:
        flash.commit({}, scratch())
        code = "import sys; from tinyfoa_np.storage.flash import Flash; Flash.open(*sys.argv[1:], bytearray(9))"
        command = [sys.executable, "-c", code, where, ME]
        other = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert other.returncode == 1 and "in use by another process" in other.stderr
        for attempt in (lambda: Flash.open(where, ME, scratch()), lambda: Flash.create(where, ME)):
            with pytest.raises(FlashError, match="in use"):
                attempt()
        flash.commit({"still": "mine"}, scratch())
    with Flash.open(where, ME, scratch()) as flash:
        assert flash.meta == {"still": "mine"}


def test_closed(where):
    flash = Flash.create(where, ME)
    flash.new("w", [4])
    flash.close()
    flash.close()
    for call, arguments in (
        (flash.write, ("w", 0, [bytes(4)])),
        (flash.commit, ({}, scratch())),
        (flash.new, ("v", [1])),
    ):
        with pytest.raises(FlashError, match="closed"):
            call(*arguments)


def test_meta_or_buffer_that_cannot_be_used_change_nothing(where):
    with Flash.create(where, ME) as flash:
        flash.new("w", [4])
        flash.write("w", 0, [b"abcd"])
        for meta, buffer in (({"x": object()}, scratch()), ({}, scratch(0)), ({}, memoryview(b"read only"))):
            with pytest.raises((TypeError, ValueError)):
                flash.commit(meta, buffer)
        assert (where / "root.1").stat().st_size == 0
        flash.commit({}, scratch())
    with Flash.open(where, ME, scratch()) as flash:
        assert read(flash, "w", 0) == b"abcd"


def test_nothing_the_size_of_the_data_is_allocated(where):
    block = np.ones(4_000_000, np.uint8)
    buffer = scratch(50_000)
    with Flash.create(where, ME) as flash:
        flash.new("w", [block.nbytes])
        tracemalloc.start()
        try:
            flash.write("w", 0, [block])
            flash.read("w", 0, [block])
            flash.commit({}, buffer)
            flash.close()
            Flash.open(where, ME, buffer).close()
            assert tracemalloc.get_traced_memory()[1] < 500_000
        finally:
            tracemalloc.stop()


def test_a_commit_never_holds_the_whole_root(where):
    meta = {"regions": [{"name": f"region {k}", "shape": [k, 3], "phases": ["load", "update"]} for k in range(1000)]}
    buffer = scratch(256)
    with Flash.create(where, ME) as flash:
        flash.new("w", [5000] * 40)
        for item in range(40):
            flash.write("w", item, [pattern(5000, item)])
        flash.commit(meta, buffer)  # json's encoder is made
        flash.write("w", 0, [pattern(5000, 50)])
        tracemalloc.start()
        try:
            flash.commit(meta, buffer)
            assert tracemalloc.get_traced_memory()[1] < 12 * 1024
        finally:
            tracemalloc.stop()
        assert (where / "root.0").stat().st_size > 80_000
    with Flash.open(where, ME, scratch()) as flash:
        assert flash.meta == meta


# Against a model, with kills anywhere between two operations


class Against(RuleBasedStateMachine):
    """Random operations on a flash and on dictionaries; a kill forgets what the dictionaries did since the commit."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.where = Path(self.directory.name) / "flash"
        self.flash = Flash.create(self.where, ME)
        self.now, self.gone, self.fresh, self.dirty, self.count = {}, set(), set(), set(), 0
        self.commit()

    def teardown(self):
        self.flash.close()
        self.directory.cleanup()

    @precondition(lambda self: len(self.now) < 4)
    @rule(name=st.sampled_from("abcd"), sizes=st.lists(st.integers(0, 5000), max_size=3), slots=st.integers(0, 2))
    def new(self, name, sizes, slots):
        if name in self.now or name in self.gone:
            with pytest.raises(ValueError):
                self.flash.new(name, sizes, slots)
            return
        self.flash.new(name, sizes, slots)
        self.now[name] = (slots, sizes, [None] * len(sizes))
        self.fresh.add(name)

    @precondition(lambda self: self.now)
    @rule(data=st.data())
    def drop(self, data):
        name = data.draw(st.sampled_from(sorted(self.now)))
        self.flash.drop(name)
        del self.now[name]
        self.gone.add(name)
        self.fresh.discard(name)
        self.dirty = {key for key in self.dirty if key[0] != name}

    @precondition(lambda self: any(sizes for _, sizes, _ in self.now.values()))
    @rule(data=st.data(), seed=st.integers(0, 1000), whole=st.booleans())
    def write(self, data, seed, whole):
        name = data.draw(st.sampled_from(sorted(name for name in self.now if self.now[name][1])))
        slots, sizes, items = self.now[name]
        item = data.draw(st.integers(0, len(sizes) - 1))
        start, stop = (0, sizes[item]) if whole else sorted(data.draw(st.integers(0, sizes[item])) for _ in "ab")
        block = pattern(stop - start, seed)
        allowed = len(block) == sizes[item] or (name, item) in self.dirty
        if slots < 2:
            allowed = name in self.fresh or slots == 0
        if not allowed:
            with pytest.raises(ValueError):
                self.flash.write(name, item, [block], start)
            return
        self.flash.write(name, item, [block], start)
        old = items[item] or bytes(sizes[item])
        items[item] = old[:start] + block + old[stop:]
        self.dirty.add((name, item))

    @precondition(lambda self: any(slots == 2 and sizes for slots, sizes, _ in self.now.values()))
    @rule(data=st.data(), seed=st.integers(0, 1000), pieces=st.integers(1, 5))
    def rewrite(self, data, seed, pieces):
        names = sorted(name for name, (slots, sizes, _) in self.now.items() if slots == 2 and sizes)
        name = data.draw(st.sampled_from(names))
        _, sizes, items = self.now[name]
        item = data.draw(st.integers(0, len(sizes) - 1))
        block, bounds = pattern(sizes[item], seed), [sizes[item] * n // pieces for n in range(pieces + 1)]
        with self.flash.rewriting(name, item):
            for start, stop in data.draw(st.permutations(list(zip(bounds, bounds[1:])))):
                if items[item]:  # until a piece is written, it is what it was
                    kept = bytearray(stop - start)
                    self.flash.read(name, item, [kept], start)
                    assert kept == items[item][start:stop]
                self.flash.write(name, item, [block[start:stop]], start)
        items[item] = block
        self.dirty.add((name, item))

    @rule()
    def commit(self):
        self.count += 1
        self.flash.commit({"count": self.count}, scratch())
        self.gone, self.fresh, self.dirty = set(), set(), set()
        self.kept = {name: (slots, sizes, list(items)) for name, (slots, sizes, items) in self.now.items() if slots}
        self.kept_count = self.count

    @rule()
    def kill(self):
        self.flash.close()  # writes nothing, so it leaves what a kill leaves
        self.flash = Flash.open(self.where, ME, scratch())
        self.now = {name: (slots, sizes, list(items)) for name, (slots, sizes, items) in self.kept.items()}
        self.gone, self.fresh, self.dirty, self.count = set(), set(), set(), self.kept_count

    @invariant()
    def agree(self):
        meta, items = contents(self.flash)
        assert meta == {"count": self.kept_count}
        assert items == {name: items for name, (_, _, items) in self.now.items()}


TestAgainst = Against.TestCase
TestAgainst.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# Disks


def test_full_disk(where, monkeypatch):
    def full(fd, views, position):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Flash.create(where, ME) as flash:
        before(flash)
        state = contents(flash)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", full)
            with pytest.raises(FlashError, match=r"cannot write item 1 of w \(No space left on device\)") as caught:
                flash.write("w", 1, [bytes(300)])
            assert caught.value.__cause__.errno == errno.ENOSPC and caught.value.exit_code == 1
        assert contents(flash) == state  # the other slot was meant, so reads are not harmed
        with pytest.raises(FlashError, match="No space left"):
            flash.commit({"step": "half"}, scratch())
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) == state


def test_file_size_limit(where):
    resource = pytest.importorskip("resource", reason="this system has no limits to set")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Flash.create(where, ME) as flash:
        flash.new("w", [9000, 9000])
        flash.write("w", 0, [b"a" * 9000])
        flash.commit({}, scratch())
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
            with pytest.raises(FlashError, match="cannot write item 0 of w"):
                flash.write("w", 0, [b"b" * 9000])  # begins below the limit, ends above it
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) == ({}, {"w": [b"a" * 9000, None]})
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))
            with pytest.raises(FlashError, match="cannot make v"):
                flash.new("v", [30000])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with Flash.open(where, ME, scratch()) as flash:
        assert flash.names() == ("w",) and not (where / "v").exists()


@pytest.mark.parametrize("vectored", [True, False])
def test_calls_that_move_less_than_asked(where, monkeypatch, vectored):
    """Partial transfers go on where they stopped; and so does a system without vectored calls."""
    if vectored:
        put, get = os.pwritev, os.preadv
        monkeypatch.setattr(os, "pwritev", lambda fd, views, position: put(fd, [views[0][:7]], position))
        monkeypatch.setattr(os, "preadv", lambda fd, views, position: get(fd, [views[0][:11]], position))
    monkeypatch.setattr(files, "_VECTORED", vectored)
    pieces = [pattern(size, size) for size in (1, 30, 0, 7, 50)]
    with Flash.create(where, ME) as flash:
        flash.new("w", [88])
        flash.write("w", 0, pieces)
        into = [bytearray(len(piece)) for piece in pieces]
        flash.read("w", 0, into)
        assert list(map(bytes, into)) == pieces
        flash.commit({"of": "pieces"}, scratch(20))
    with Flash.open(where, ME, scratch(33)) as flash:
        assert contents(flash) == ({"of": "pieces"}, {"w": [b"".join(pieces)]})


def test_checksums_are_of_what_is_on_the_disk(where):
    """Seals hold crc32 of the items' bytes and the root their sum, so that other programs can check a flash too."""
    with Flash.create(where, ME) as flash:
        before(flash)
        sums = [zlib.crc32(read(flash, "w", item)) for item in (0, 1)]
        record = root.read(where, 0)
        assert record.sequence == 2 and record.objects["w"].checksums == sum(sums)
        assert record.objects["w"].commits == 2 + 2 and record.objects["old"].commits == 1
        # both items went to slot 1 in the second commit: a page after the padded 5000 bytes, and after the padded 300
        for at, item in ((8192, 0), (16384 + 4096, 1)):
            commit, checksum, wear, other = struct.unpack_from("<QIII", (where / "w").read_bytes(), at)
            assert (commit, checksum, wear, other) == (2, sums[item], 1, 1)


def test_passes_over_a_slot_are_counted_on_after_a_visit_to_another_item(tmp_path):
    with Flash.create(tmp_path / "flash", "x") as flash:
        flash.new("a", [8, 8])
        for item in (0, 1):
            flash.write("a", item, [b"12345678"])
        flash.write("a", 0, [b"12345678"])
        flash.write("a", 0, [b"1234"])  # its seal is written when another item is visited
        flash.write("a", 1, [b"12345678"])
        assert flash.wear == 3
        flash.write("a", 0, [b"1234"])
        assert flash.wear == 4
