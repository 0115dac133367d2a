"""Calls that take memory from the system are noticed, in the thread that is watched and while it is."""

import mmap
import os
import subprocess
import sys
import threading

import pytest

from tinyfoa_np.ram import outside


@pytest.fixture
def told(tmp_path):
    """The calls that are told, from behind pytest's own for the folder."""
    calls = []
    outside.watch(lambda *call: calls.append(call))
    yield calls
    outside.rest()


def test_mappings_processes_and_threads(told):
    mmap.mmap(-1, 100).close()
    assert told == [("memory was mapped", "")]
    subprocess.run(["true"], check=True)
    assert ("a process was started", "") in told
    if sys.version_info >= (3, 12):
        threading.Thread(target=int).start()
        assert ("a thread was started", "") in told


def test_files_to_write_to_but_not_to_read(told, tmp_path):
    path, flags = tmp_path / "file", os.O_CREAT | os.O_RDWR
    path.write_bytes(b"")
    os.close(os.open(os.fsencode(path), flags))
    assert told == [("a file was opened for writing", str(path))] * 2
    path.read_bytes()
    with open(os.open(path, os.O_RDONLY)) as file:  # a number
        file.read()
    assert len(told) == 2


def test_other_threads_and_what_comes_later(told, tmp_path):
    thread = threading.Thread(target=(tmp_path / "other").write_bytes, args=(b"",))
    del told[:]
    thread.start()
    thread.join()
    outside.rest()
    (tmp_path / "file").write_bytes(b"")
    assert [call for call in told if call[0] != "a thread was started"] == []
