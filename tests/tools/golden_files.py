"""Where golden trajectories lie: in tests/golden, and in the directories that TINYFOA_GOLDEN names."""

import os
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / "golden"


def golden_files(pattern="*.npz"):
    """Paths of the golden files that match a pattern, those of the repository first."""
    further = [Path(part) for part in os.environ.get("TINYFOA_GOLDEN", "").split(os.pathsep) if part]
    return [path for directory in (HOME, *further) for path in sorted(directory.glob(pattern))]
