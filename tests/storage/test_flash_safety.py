"""The non-volatile store against kills, power cuts and damage at any place: the last commit, whole, or a refusal."""

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from flash_tools import ME, before, contents, environment, pattern, scratch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfoa_np.storage.flash import Flash, FlashError
from tinyfoa_np.storage.item_file import SEAL_BYTES


@pytest.fixture
def where(tmp_path):
    return tmp_path / "flash"


# Interruptions: errors, kills and power cuts inside every system call that changes the disk


class Killed(BaseException):
    """Not an error that anything catches: the process is gone."""


def change(flash):
    """One interval that writes, makes and drops, and its commit."""
    flash.write("w", 0, [pattern(5000, 50)])
    flash.new("new", [700, 9])
    flash.write("new", 0, [pattern(700, 51)])
    flash.drop("old")
    flash.commit({"step": 3}, scratch())


class Disk:
    """Stands before the calls that change the disk: stops at the n-th one, knows which writes have not been synced."""

    CALLS = [name for name in ("pwritev", "fsync", "fdatasync", "unlink") if hasattr(os, name)]

    def __init__(self, monkeypatch, at, exception, part=0.0):
        self.at, self.exception, self.part, self.log = at, exception, part, []
        self.unsynced = []  # (fd, position, bytes before)
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self.stand_before(name, getattr(os, name)))

    def stand_before(self, name, call):
        def stand_in(target, *arguments):
            self.log.append((name, target))
            last = len(self.log) == self.at
            if name == "pwritev":
                views, position = arguments
                block = b"".join(views)
                if last:
                    block = block[: int(len(block) * self.part)]
                self.unsynced.append((target, position, os.pread(target, len(block), position)))
                call(target, [block], position)
            elif not last:
                call(target, *arguments)
                if name != "unlink":
                    self.unsynced = [entry for entry in self.unsynced if entry[0] != target]
            if last:
                raise self.exception
            return sum(map(len, arguments[0])) if name == "pwritev" else None

        return stand_in

    def cut_power(self, keep):
        """Lose what was not synced, page by page as `keep` has it; latest first, so that the oldest bytes come back."""
        for fd, position, old in reversed(self.unsynced):
            for start in range(0, len(old), 512):
                if keep.random() < 0.5:
                    os.pwrite(fd, old[start : start + 512], position + start)


def calls_of_a_change(directory):
    with pytest.MonkeyPatch.context() as patch, Flash.create(directory / "count", ME) as flash:
        before(flash)
        disk = Disk(patch, at=0, exception=Killed)
        change(flash)
        return disk.log, list(flash._roots)


def test_order_of_a_commit(tmp_path):
    """Data, then the directory, then the root, and only then is anything removed."""
    log, roots = calls_of_a_change(tmp_path)
    names = [name for name, _ in log]
    datasync = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
    seal = ["pwritev", datasync]
    root = ["pwritev", "pwritev", "fsync"]  # the body, then the header, which makes it valid
    assert names == ["pwritev", "pwritev", *seal, *seal, "fsync", *root, "unlink"]
    assert log[7][1] == log[8][1] == log[9][1] == roots[1] and log[6][1] not in roots
    assert [target for _, target in log[:2]] == [target for _, target in log[2:6:2]] == [log[3][1], log[5][1]]


@pytest.mark.parametrize("part", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("how", ["error", "kill", "power"])
def test_interrupted_anywhere(tmp_path, how, part):
    """The next opening finds the previous or the new commit, whole, and the interval can be done again."""
    with Flash.create(tmp_path / "model", ME) as flash:
        before(flash)
        earlier = contents(flash)
        change(flash)
        later = contents(flash)
    calls = len(calls_of_a_change(tmp_path)[0])
    found = []
    for at in range(1, calls + 1):
        for seed in range(6 if how == "power" else 1):
            where = tmp_path / f"{at} {seed}"
            flash = Flash.create(where, ME)
            before(flash)
            with pytest.MonkeyPatch.context() as patch:
                disk = Disk(patch, at, OSError(errno.EIO, "Input/output error") if how == "error" else Killed(), part)
                with pytest.raises(FlashError if how == "error" else Killed) as caught:
                    change(flash)
                assert how != "error" or isinstance(caught.value.__cause__, OSError)
            with pytest.raises(FlashError, match="no more writes"):
                flash.write("w", 0, [bytes(5000)])
            with pytest.raises(FlashError, match="no more writes"):
                flash.commit({}, scratch())
            if how == "power":
                disk.cut_power(random.Random(seed))
            flash.close()
            with Flash.open(where, ME, scratch()) as flash:
                state = contents(flash)
                assert state in (earlier, later)
                found.append(state == later)
                assert sorted({*os.listdir(where)} - {"lock", "root.0", "root.1"}) == sorted(state[1])
                if state == earlier:
                    change(flash)
                assert contents(flash) == later
            with Flash.open(where, ME, scratch()) as flash:
                assert contents(flash) == later
    assert not found[0] and found[-1]  # the first call is too early, the last one is after the fact


def test_what_was_left_uncommitted_is_in_no_later_commit(where):
    """Its seal has the number of the commit that comes next, and another process makes that commit."""
    with Flash.create(where, ME) as flash:
        before(flash)
        w = contents(flash)[1]["w"]
        flash.write("w", 1, [pattern(300, 60)])
    for step in (3, 4, 5):
        with Flash.open(where, ME, scratch()) as flash:
            assert contents(flash)[1]["w"] == w
            flash.write("w", 0, [pattern(5000, step)])
            w[0] = pattern(5000, step)
            flash.commit({"step": step}, scratch())
            flash.write("w", 1, [pattern(300, 60 + step)])


@pytest.mark.parametrize("seed", range(6))
def test_power_cuts_in_a_row(where, monkeypatch, seed):
    """The power is cut at a random call again and again, also in opening: the last commit remains, or the new one."""
    draw = random.Random(seed)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    with Flash.create(where, ME) as flash:
        before(flash)
        known = [contents(flash)]
    cuts = 0
    for turn in range(80):
        closed = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "close", closed.append)  # files are written once more below
            disk = Disk(patch, draw.randrange(1, 14), Killed(), draw.random())
            flash, opened = None, []
            try:
                flash = Flash.open(where, ME, scratch())
                opened = [contents(flash)]
                for item in draw.choices((0, 1), k=draw.randrange(4)):
                    flash.write("w", item, [pattern([5000, 300][item], draw.randrange(2**32))])
                after = {"turn": turn}, contents(flash)[1]
                opened.append(after)
                flash.commit(after[0], scratch())
                flash.write("w", 0, [pattern(5000, turn)])
                known = [after]
            except Killed:
                cuts += 1
                assert not opened or opened[0] in known
                known = opened or known
            disk.cut_power(draw)
            if flash:
                flash.close()
        for fd in closed:
            os.close(fd)
    assert cuts > 20
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) in known


WRITER = """
import sys
from tinyfoa_np.storage.flash import Flash
where, begin, scratch = sys.argv[1], sys.argv[2] == "begin", memoryview(bytearray(4096))
flash = Flash.create(where, "a recipe") if begin else Flash.open(where, "a recipe", scratch)
step = flash.meta.get("step", 0)
if begin:
    flash.new("w", [20000, 20000])
while True:
    step += 1
    for item in (0, 1):
        flash.write("w", item, [bytes([step % 251]) * 20000])
    if step % 3 == 0:
        flash.new(f"s{step}", [10], slots=1)
        flash.write(f"s{step}", 0, [bytes([step % 251]) * 10])
        if step > 3:
            flash.drop(f"s{step - 3}")
    flash.commit({"step": step}, scratch)
    if step % 10 == 0:
        print(step, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill -9")
def test_kill_9(where):
    """A process killed at no chosen moment, three times over."""
    reached, delays = 0, random.Random(0)
    for mode in ("begin", "again", "again"):
        command = [sys.executable, "-c", WRITER, str(where), mode]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
            assert process.stdout.readline()  # ten commits are done
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05 * delays.random())
            process.kill()
        with Flash.open(where, ME, scratch(4096)) as flash:
            meta, items = contents(flash)
            step = meta["step"]
            assert step >= reached + 1
            reached = step
            third = step // 3 * 3
            assert items == {"w": [bytes([step % 251]) * 20000] * 2, f"s{third}": [bytes([third % 251]) * 10]}


# Damage


def damaged_flash(where, busy):
    """A flash closed after three commits, perhaps with writes after the last; its files, and what each commit held."""
    states = []
    with Flash.create(where, ME) as flash:
        flash.new("w", [600, 0, 90])
        flash.new("s", [70], slots=1)
        flash.write("s", 0, [pattern(70, 1)])
        for step in range(3):
            for item, size in enumerate(flash.sizes("w")):
                if step == 0 or item == 0:
                    flash.write("w", item, [pattern(size, 10 * step + item)])
            flash.commit({"step": step}, scratch())
            states.append(contents(flash))
        if busy:
            flash.write("w", 0, [pattern(600, 99)])
    return {name: (where / name).read_bytes() for name in os.listdir(where)}, states


def lay(where, files):
    for name in {*os.listdir(where)} - set(files):
        (where / name).unlink()
    for name, data in files.items():
        (where / name).write_bytes(data)


def outcome(where, files, states):
    """Which commit a damaged flash opens at, or the message with which it refuses; it must be able to go on."""
    lay(where, files)
    try:
        flash = Flash.open(where, ME, scratch())
    except FlashError as error:
        assert "\n" not in str(error)
        return str(error)
    with flash:
        state = contents(flash)
        assert state in states
        fallback = flash.fallback
        flash.write("w", 0, [bytes(600)])
        flash.commit({"step": "after"}, scratch())
        after = contents(flash)
    with Flash.open(where, ME, scratch()) as flash:  # a newer root that was passed over must not come back
        assert contents(flash) == after and after[0] == {"step": "after"}
        assert flash.fallback == ""
    position = states.index(state)
    assert position == len(states) - 1 or fallback
    return position


def flipped(data, offset, mask):
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


@pytest.mark.parametrize("busy", [False, True])
def test_damage_to_every_byte_that_matters(where, busy, monkeypatch):
    """Every byte of both roots, and every data byte, flipped and cut at: a committed state, or a refusal."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # thousands of commits, and no power cut among them
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    files, states = damaged_flash(where, busy)
    newest, other = ("root.1", "root.0")
    seen = {name: set() for name in files}
    for name, data in files.items():
        for offset in range(0, len(data), 3 if name.startswith("root") else 25):
            for bad in (flipped(data, offset, 1 << offset % 8), data[:offset]):
                seen[name].add(outcome(where, {**files, name: bad}, states))
    assert seen["lock"] == set()  # it is empty
    assert seen[other] == {2}
    if busy:  # the writes went over what the commit before the last names
        assert all(isinstance(result, str) and newest in result and "w item 0" in result for result in seen[newest])
    else:
        assert seen[newest] == {1}
    assert 2 in seen["w"] and 2 in seen["s"]  # padding, and slots that are not current
    assert any("s item 0" in str(result) for result in seen["s"])
    assert any("w item 2" in str(result) for result in seen["w"])


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_damage_anywhere(data, busy):
    """As above at arbitrary offsets, with arbitrary flips, cuts and missing files, one or two at once."""
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory) / "flash"
        files, states = damaged_flash(where, busy)
        for _ in range(data.draw(st.integers(1, 2))):
            name = data.draw(st.sampled_from(sorted(set(files) - {"lock"})))
            kind = data.draw(st.sampled_from(["flip", "cut", "missing"]))
            if kind == "missing" or not files[name]:
                del files[name]
                continue
            offset = data.draw(st.integers(0, len(files[name]) - 1))
            mask = data.draw(st.integers(1, 255))
            files[name] = flipped(files[name], offset, mask) if kind == "flip" else files[name][:offset]
        outcome(where, files, states)


def test_a_slot_that_lost_its_seal_is_never_taken_for_the_one_before(where):
    files, states = damaged_flash(where, busy=False)
    at = files["w"].index(pattern(600, 20)) + 600  # in slot 0 the seal follows the data
    lay(where, {**files, "w": files["w"][:at] + bytes(SEAL_BYTES) + files["w"][at + SEAL_BYTES :]})
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) == states[1]
        assert flash.fallback == "w is not the file of this commit"


def test_an_older_copy_of_a_file_is_no_part_of_a_commit(where):
    with Flash.create(where, ME) as flash:
        before(flash)
        older = (where / "w").read_bytes()
        flash.write("w", 1, [pattern(300, 70)])
        flash.commit({"step": 3}, scratch())
        newer = contents(flash)
    current = (where / "w").read_bytes()
    (where / "w").write_bytes(older)
    with Flash.open(where, ME, scratch()) as flash:  # both are intact, but only commit 2 belongs to this file
        assert flash.meta == {"step": 2} and flash.fallback == "w is not the file of this commit"
    (where / "w").write_bytes(current)
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) == newer


def test_damage_that_two_commits_share_is_named_once(where):
    files, _ = damaged_flash(where, busy=False)
    lay(where, {name: data for name, data in files.items() if name != "w"})
    with pytest.raises(FlashError, match=r"is damaged \(w is missing\): restore"):
        Flash.open(where, ME, scratch())


def test_falls_back_by_name(where):
    """Damage that only the newest commit names leads to the one before it, and is named."""
    files, states = damaged_flash(where, busy=False)
    position = files["w"].index(pattern(600, 20))
    lay(where, {**files, "w": flipped(files["w"], position, 1)})
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) == states[1]
        assert flash.fallback == "w item 0 has a wrong checksum"
        with pytest.MonkeyPatch.context() as patch:  # the next root must not be written over the one that was adopted
            disk = Disk(patch, at=3, exception=Killed(), part=0.5)
            with pytest.raises(Killed):
                flash.commit({"step": "torn"}, scratch())
            datasync = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
            # the file, of which seals of the commit passed over were deleted; the directory; half the root
            assert [name for name, _ in disk.log] == [datasync, "fsync", "pwritev"]
    with Flash.open(where, ME, scratch()) as flash:
        assert contents(flash) == states[1]


def test_short_read(where):
    with Flash.create(where, ME) as flash:
        flash.new("w", [5000])
        flash.write("w", 0, [bytes(5000)])
        os.truncate(where / "w", 8192 - SEAL_BYTES - 500)  # its seal ends at a page's end
        flash.read("w", 0, [bytearray(4500)])
        with pytest.raises(FlashError, match="w: item 0 is cut short"):
            flash.read("w", 0, [bytearray(100)], 4450)
        with pytest.raises(FlashError, match="w: an item was cut short"):  # its seal is gone, and so its number
            flash.commit({}, scratch())
        assert not (where / "root.1").read_bytes()
