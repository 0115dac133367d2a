"""Directories in which data sets are searched."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from tinyfoa_np.errors import BadRequest

#: a directory to look into first, if given
Place = str | os.PathLike[str] | None


def listed(name: str) -> list[str]:
    """Split the names of your own files at the commas between them; a comma inside a name is a part of the name.

    >>> listed("x.npy,y.npy"), listed("day 1,2.csv")
    (['x.npy', 'y.npy'], ['day 1,2.csv'])
    """
    return [part.strip() for part in re.split(r"(?<=\.csv|\.npz|\.npy) *,", name, flags=re.IGNORECASE)]


def places(data_dir: Place = None) -> list[Path]:
    """Directories to search, in order: `data_dir`, ``$TINYFOA_DATA``, the user's cache.

    Raises
    ------
    BadRequest
        `data_dir` is given but is not a directory.
    """
    found = []
    if data_dir is not None:
        asked = Path(data_dir).expanduser()
        if not asked.is_dir():
            raise BadRequest(f"data directory {asked} does not exist; give one that does, or leave it out")
        found.append(asked)
    if os.environ.get("TINYFOA_DATA"):
        found.append(Path(os.environ["TINYFOA_DATA"]).expanduser())
    found.append(user_cache())
    return found


def user_cache() -> Path:
    """The user's cache directory for the package, by the convention of the operating system (it may not exist)."""
    try:
        home = Path("~").expanduser()
    except RuntimeError:  # neither HOME nor a user entry exists, as in some containers
        home = Path(tempfile.gettempdir()) / f"tinyfoa-{os.getuid()}"
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "tinyfoa-np"
