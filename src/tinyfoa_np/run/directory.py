"""The run directory: its content, and whether a run may start in it. Files in it are untrusted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, CheckFailed, OtherNumerics
from ..recipe import Recipe
from ..storage.files import RECIPE_LIMIT, read_json, read_whole
from ..storage.flash import vacant
from ..storage.whole_file import PART

if TYPE_CHECKING:
    from ..data import Dataset

#: files of a run directory before its first commit; such a run can only be started again
BEGUN = ("flash", "metrics.jsonl", "recipe.json", "data.json")
#: further files that commands write there by default
WRITTEN = (*BEGUN, "model.safetensors", "audit.json", "report.html", "model.npz", "model.h", "model.onnx")
#: maximum number of samples, and of inputs per sample, in a description
_MOST_SAMPLES, _MOST_INPUTS = 2**40, 2**31
_DESCRIBED = {
    "name",
    "train",
    "test",
    "inputs",
    "dtype",
    "classes",
    "scale",
    "offset",
    "unit",
    "image",
    "columns",
    "digest",
    "origin",
}


def startable(directory: Path) -> bool:
    """Whether a run may start here: the directory is empty, or holds one that ended before its first commit.

    Resuming asks the same question: every directory can be resumed, or started in, or holds something else.

    Raises
    ------
    CheckFailed
        If its flash is a link.
    """
    there = {path.name for path in directory.iterdir() if not PART.fullmatch(path.name)}
    return there <= set(BEGUN) and vacant(directory / "flash")


def clear(directory: Path) -> None:
    """Remove the run in a directory, if any, so that another may start.

    Raises
    ------
    BadRequest
        If the directory contains something else.
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


def read_recipe(directory: Path) -> Recipe:
    """Read the recipe of a run.

    Raises
    ------
    BadRequest
        If there is no run, or nothing was committed.
    CheckFailed
        If the file is damaged.
    """
    path = directory / "recipe.json"
    if not directory.is_dir():
        raise BadRequest(f"{directory} is not a run directory: train makes one (--out)")
    if startable(directory):
        raise BadRequest(f"{directory} holds no commit: start the training again, with --out {directory}")
    try:
        return Recipe.from_json(read_whole(path, RECIPE_LIMIT).decode(errors="replace")).validated()
    except FileNotFoundError as error:
        raise BadRequest(f"{directory} is not a run directory: it has no recipe.json") from error
    except OtherNumerics as error:
        raise OtherNumerics(f"{path}: {error}") from error
    except (OSError, BadRequest) as error:
        raise CheckFailed(f"{path} is damaged ({error}); without it the run cannot be continued") from error


def describe(dataset: Dataset, first: int = 0) -> bytes:
    """Describe a data set without its samples as JSON: what a resumed run must know about the samples in flash, and
    where they come from; for a stream also the ``first`` epoch that trains on them."""
    train, test = dataset.train.inputs, dataset.test.inputs
    about = {
        "name": dataset.name,
        "train": len(train),
        "test": len(test),
        "inputs": train.shape[1],
        "dtype": str(train.dtype),
        "classes": dataset.classes,
        "scale": dataset.scale,
        "offset": dataset.offset,
        "unit": dataset.unit,
        "image": dataset.image,
        "columns": dataset.columns and {name: column.tolist() for name, column in vars(dataset.columns).items()},
        "digest": dataset.digest,
        "origin": dataset.origin,
        **({"first": first} if first else {}),
    }
    return json.dumps(about, indent=2).encode() + b"\n"


def described_first(directory: Path) -> int:
    """First epoch to train on the samples that data.json describes; errors as :func:`stand_in`."""
    first = _description(directory).get("first", 0)
    return first if type(first) is int else -1


def stand_in(directory: Path) -> Dataset:
    """An empty data set with the shape of the run's data set.

    Raises
    ------
    CheckFailed
        If data.json is missing or damaged.
    """
    import numpy as np

    from ..data.dataset import Columns, shaped

    about = _description(directory)
    about.pop("first", None)
    image, columns, digest, origin = (about.pop(name, None) for name in ("image", "columns", "digest", "origin"))
    known = Columns(**{name: np.array(values, np.float64) for name, values in columns.items()}) if columns else None
    return replace(shaped(**about, image=image and tuple(image)), columns=known, digest=digest, origin=origin)


def _description(directory: Path) -> dict[str, Any]:
    path = directory / "data.json"
    try:
        about: dict[str, Any] = read_json(path)
        _check(about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailed(f"{path} is missing or damaged ({error}): the run cannot be continued without it") from error
    return about


def _check(about: Any) -> None:
    """Validate a description of a data set; raises ValueError, KeyError or TypeError."""

    def whole(name: str, least: int, most: int) -> int:
        value = about[name]
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} is {str(value)[:40]!r}")
        return value

    if not set(about) - {"first"} <= _DESCRIBED or not isinstance(about["name"], str):
        raise ValueError("it has other fields")
    whole("train", 1, _MOST_SAMPLES), whole("test", 0, _MOST_SAMPLES), whole("classes", 1, 65536)
    inputs, image, columns = whole("inputs", 1, _MOST_INPUTS), about.get("image"), about.get("columns")
    for name in ("scale", "offset", "unit"):
        if type(about[name]) not in (int, float) or not abs(about[name]) <= 1e30:
            raise ValueError(f"{name} is {str(about[name])[:40]!r}")
    if about["dtype"] not in ("uint8", "float32", "float64"):
        raise ValueError(f"dtype is {str(about['dtype'])[:40]!r}")
    if image is not None and (
        len(image) != 3 or not all(type(side) is int and side > 0 for side in image) or prod(image) != inputs
    ):
        raise ValueError(f"{inputs} inputs are not images of {str(image)[:40]!r}")
    if columns is not None:
        _check_columns(columns, inputs)
    for name, kind in (("digest", str), ("origin", dict)):
        if not isinstance(about.get(name), (kind, type(None))):
            raise ValueError(f"{name} is {str(about[name])[:40]!r}")
    _check_origin(about.get("origin") or {})


def _check_columns(columns: dict[str, Any], inputs: int) -> None:
    """Validate the statistics of a data set's columns."""
    if set(columns) != {"mean", "deviation", "low", "high"}:
        raise ValueError("its columns are described otherwise")
    for values in columns.values():
        if len(values) != inputs or not all(type(v) in (int, float) and isfinite(v) for v in values):
            raise ValueError(f"its columns are not {inputs} numbers")


def _check_origin(origin: dict[str, Any]) -> None:
    """Validate the names of columns and labels, and the way in which a user's files were read."""
    for name in ("columns", "labels"):
        names = origin.get(name)
        if names is not None and not (isinstance(names, list) and all(type(each) in (str, int) for each in names)):
            raise ValueError(f"the names of its {name} are not a list")
    if (reading := origin.get("reading")) is not None:
        try:
            from ..data.roles import Known

            Known.from_record(reading)
        except BadRequest as error:
            raise ValueError(str(error)) from error
