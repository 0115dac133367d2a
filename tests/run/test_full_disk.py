"""Disks that are full or may not be written to, and a clock that jumps: nothing is lost, and the bits stay the same."""

import os
import re
import time
from contextlib import contextmanager

import pytest
from train_tools import made, recipe, run

from tinyfoa_np.errors import BadRequest, TinyFoAError
from tinyfoa_np.run.train import train

resource = pytest.importorskip("resource", reason="limits on files are those of POSIX systems")

NOBODY = 65534
RECIPE, DATASET = recipe(network="fc:200,150", epochs=3, schedule="stream"), made(samples=230, tests=50)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training as it should end; all kernels are compiled then."""
    return run(tmp_path_factory.mktemp("whole"), RECIPE, DATASET)


@contextmanager
def files_of_at_most(nbytes):
    """A write beyond that fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def unprivileged(*paths):
    """Without the right to write below some directories, whoever runs the tests."""
    root = os.geteuid() == 0
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555)
    if root:  # to whom modes mean nothing
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def ends_as(whole, where):
    """The run at ``where``, gone on with or, where there is nothing to go on with, begun again."""
    committed = any(path.stat().st_size for path in where.glob("flash/root.?"))
    result = train(RECIPE, None if committed else DATASET, where, threads=1, resume=committed)
    assert result["model_sha256"] == whole["model_sha256"]


@pytest.mark.parametrize("kib", [0, 1, 8, 20, 40, 100, 200, 400])
def test_files_that_cannot_grow(tmp_path, whole, kib):
    where = tmp_path / "run"
    try:
        with files_of_at_most(1024 * kib):
            train(RECIPE, DATASET, where, threads=1)
    except TinyFoAError as error:
        assert re.search(r"File too large", str(error)) and "\n" not in str(error)
    else:
        assert kib >= 200  # the largest file of the run is smaller
    ends_as(whole, where)


@pytest.mark.parametrize("writes", [1, 7, 30, 61, 62, 63, 100, 150])
def test_a_disk_that_is_full_from_some_write_on(tmp_path, monkeypatch, whole, writes):
    where, done = tmp_path / "run", 0
    pwritev = os.pwritev

    def until_full(*arguments):
        nonlocal done
        done += 1
        if done > writes:
            raise OSError(28, "No space left on device")
        return pwritev(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", until_full)
        with pytest.raises(TinyFoAError, match="No space left on device"):
            train(RECIPE, DATASET, where, threads=1)
    ends_as(whole, where)


def test_metrics_that_cannot_grow(tmp_path, monkeypatch, whole):
    where, opened = tmp_path / "run", os.fdopen

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def flush(self):
            raise OSError(28, "No space left on device")

        close = flush

    def full(fd, mode):
        return Full(opened(fd, mode))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)  # the metrics are what stays open
        with pytest.raises(TinyFoAError, match="metrics.jsonl cannot be written: No space left"):
            train(RECIPE, DATASET, where, threads=1)
    ends_as(whole, where)


def test_a_directory_that_may_not_be_written_to(tmp_path):
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    with unprivileged(tmp_path), pytest.raises(BadRequest, match="Permission denied"):
        train(RECIPE, DATASET, tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()


def test_a_run_that_may_not_be_written_to_any_more(tmp_path, whole):
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    where, batches = tmp_path / "run", 0

    class Gone(BaseException):
        pass

    def leave(event):
        nonlocal batches
        batches += event.kind == "batch"
        if batches == 4:
            raise Gone

    with pytest.raises(Gone):
        train(RECIPE, DATASET, where, threads=1, commit_every=1, on_event=leave)
    with unprivileged(where, where / "flash"), pytest.raises(TinyFoAError, match="Permission denied") as caught:
        train(RECIPE, None, where, threads=1, resume=True)
    assert "\n" not in str(caught.value)
    ends_as(whole, where)


def test_a_clock_that_jumps(tmp_path, monkeypatch, whole):
    jumps = iter(range(10**9))

    def jumping():
        return (-1.0) ** next(jumps) * 1e6

    for name in ("time", "perf_counter", "monotonic"):
        monkeypatch.setattr(time, name, jumping)
    result = train(RECIPE, DATASET, tmp_path / "run", threads=1)
    assert result["model_sha256"] == whole["model_sha256"]
    assert result["layer_errors_pct"] == whole["layer_errors_pct"]
