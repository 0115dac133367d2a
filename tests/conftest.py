"""For all tests: a slow or busy machine is no failure; fixtures that several folders use."""

import json
import os
import warnings

import pytest
from cli_tools import SMALL, tinyfoa
from hypothesis import HealthCheck, settings

# tests move the user's cache directory; compiled kernels stay where they are
os.environ.setdefault("NUMBA_CACHE_DIR", os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="module")
def no_waiting_for_the_disk():
    """Syncs protect from power cuts, not from kills, and take most of the time: the flash has its own tests of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            if hasattr(os, name):
                patch.setattr(os, name, lambda fd: None)
        yield


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs a command line in an empty directory; returns exit code, standard output, standard error."""
    cli_main = pytest.importorskip("tinyfoa_cli.main", reason="the command line is not installed: run make test")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    progress = pytest.importorskip("tinyfoa_cli.progress")
    monkeypatch.setattr(progress.TrainingProgress, "PATIENCE", 1e6)  # a slow machine may compile for long

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli_main.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return ended.value.code, out, err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small finished run in audit mode, and the JSON object that ``train --json`` ended with."""
    out = tmp_path_factory.mktemp("cli") / "run"
    done = tinyfoa("train", "digits", *SMALL, "--audit", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout), done.stderr
