"""The run directory: what lies in it, and whether a run may start in it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest, CheckFailed
from ..storage.whole_file import PART

if TYPE_CHECKING:
    from ..data import Dataset

#: what a run directory holds before its first commit: such a run can only be started over
BEGUN = ("flash", "metrics.jsonl", "recipe.json", "data.json")
#: what else commands write there unless they are told where
WRITTEN = (*BEGUN, "model.safetensors", "audit.json", "report.html", "model.npz", "model.h", "model.onnx")


def startable(directory: Path) -> bool:
    """Whether a run may start here: the directory is empty, or holds one that ended before its first commit."""
    committed = any(root.stat().st_size for root in (directory / "flash").glob("root.*"))
    return not committed and {path.name.removesuffix(".part") for path in directory.iterdir()} <= set(BEGUN)


def clear(directory: Path) -> None:
    """Removes the run in a directory, if there is one, so that another may start.

    Raises
    ------
    BadRequest
        If there is something else in it.
    """
    if not directory.is_dir():
        return
    inside = [path for path in directory.iterdir() if not PART.fullmatch(path.name)]
    strange = sorted(path.name for path in inside if path.name not in WRITTEN and path.suffix not in (".png", ".svg"))
    if strange or inside and not (directory / "recipe.json").is_file():
        what = strange[0] if strange else inside[0].name
        raise BadRequest(f"{directory} holds {what}, which no training wrote: choose another directory")
    for path in inside:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def describe(dataset: Dataset) -> bytes:
    """A data set without its samples as JSON: what a resumed run must know of samples that are in flash already, and
    what people should know of where they come from."""
    train, test = dataset.train.inputs, dataset.test.inputs
    about = {
        "name": dataset.name, "train": len(train), "test": len(test), "inputs": train.shape[1],
        "dtype": str(train.dtype), "classes": dataset.classes, "scale": dataset.scale, "offset": dataset.offset,
        "unit": dataset.unit, "image": dataset.image,
        "columns": dataset.columns and {name: column.tolist() for name, column in vars(dataset.columns).items()},
        "digest": dataset.digest, "origin": dataset.origin,
    }  # fmt: skip
    return json.dumps(about, indent=2).encode() + b"\n"


def stand_in(directory: Path) -> Dataset:
    """A data set of the shape that a run was started with.

    Raises
    ------
    CheckFailed
        If data.json is missing or damaged.
    """
    import numpy as np

    from ..data.dataset import Columns, shaped

    path = directory / "data.json"
    try:
        about = json.loads(path.read_bytes())
        image, columns, digest, origin = (about.pop(name, None) for name in ("image", "columns", "digest", "origin"))
        known = Columns(**{name: np.array(values, np.float32) for name, values in columns.items()}) if columns else None
        return replace(
            shaped(**about, image=image and tuple(image)), columns=known, digest=digest, origin=origin
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailed(f"{path} is missing or damaged ({error}): the run cannot be continued without it") from error
