"""What the tests of the flash share."""

import os
import sys
from pathlib import Path

import numpy as np

from tinyfoa_np.storage import flash as module
from tinyfoa_np.storage.flash import FlashError

ME = "a recipe"


def scratch(size=1000):
    return memoryview(bytearray(size))


def pattern(size, seed):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def read(flash, name, item):
    """The whole item as bytes; None if it was never written."""
    block = bytearray(flash.sizes(name)[item])
    try:
        flash.read(name, item, [memoryview(block)])
    except FlashError as error:
        assert "never written" in str(error)
        return None
    return bytes(block)


def contents(flash):
    """All that a flash holds: meta, and every item of every object."""
    names = flash.names()
    return flash.meta, {name: [read(flash, name, item) for item in range(len(flash.sizes(name)))] for name in names}


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(module.__file__).parents[2]), *sys.path])}


def before(flash):
    """A flash with two commits, so that both roots and both slots are in use."""
    flash.new("w", [5000, 300])
    flash.new("old", [100], slots=1)
    flash.write("old", 0, [pattern(100, 1)])
    for step in (1, 2):
        flash.write("w", 0, [pattern(5000, 10 + step)])
        flash.write("w", 1, [pattern(300, 20 + step)])
        flash.commit({"step": step}, scratch())
