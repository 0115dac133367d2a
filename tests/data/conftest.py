"""For tests of data sets."""

import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Nothing of this computer's data in sight: an empty cache directory, no TINYFOA_DATA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TINYFOA_DATA", raising=False)
    return tmp_path
