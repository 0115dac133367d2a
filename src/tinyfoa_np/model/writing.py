"""Write a model file piece by piece, so that neither it nor one of its tensors is in RAM as a whole.

The file is what the safetensors library would write: eight bytes with the length of the header, the header, which is a
JSON object with the model's description and each tensor's dtype, shape and place, and the tensors: 64-bit numbers
first, then by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..layers.local import Local
from ..recipe import Recipe
from ..storage.pieces import write_json
from ..storage.whole_file import writing_whole
from .form import DTYPES, Form, form_of

if TYPE_CHECKING:
    from ..data import Dataset
    from ..data.dataset import Columns
    from ..rules.stage import Stage
    from ..storage.flash import Flash

FORMAT = "tinyfoa-np model 1"
METADATA = "tinyfoa_np"
#: metadata of a table that a model keeps
NAMED = ("labels", "columns", "reading")
#: names of dtypes in a file, and the order of its tensors
_NAMES = {kind: name for name, kind in DTYPES.items()}
_ORDER = ("uint64", "float64", "float32")
#: columns whose scaling is computed at a time
_COLUMNS = 8


class Tensor(NamedTuple):
    """A tensor to be written: its shape and dtype, and a function that gives its bytes in pieces."""

    shape: tuple[int, ...]
    dtype: str
    pieces: Callable[[], Iterable[Any]]

    @classmethod
    def of(cls, array: np.ndarray) -> Tensor:
        """An array in RAM."""
        array = np.ascontiguousarray(array)
        return cls(array.shape, str(array.dtype), lambda: [array.data])

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize


def save(
    path: Path,
    recipe: Recipe,
    dataset: Dataset,
    stages: list[Stage],
    meta: dict[str, Any],
    flash: Flash,
    view: memoryview,
) -> None:
    """Write ``model.safetensors`` atomically from the trained layers in flash, through a buffer."""
    layers = [(stage, n) for stage in stages for n in range(len(stage.layers))]

    def names() -> Iterator[str]:
        for number, (stage, n) in enumerate(layers):
            yield from form_of(stage, n).tensors(number)

    def tensor(name: str) -> Tensor:
        number, what = name.removeprefix("layer").split(".")
        stage, n = layers[int(number)]
        layer, (shape, dtype) = stage.layers[n], form_of(stage, n).tensors(int(number))[name]
        item = ("weights", "bias", "running").index(what)
        runs = layer.runs_by_position() if what == "bias" and isinstance(layer, Local) else [(0, prod(shape))]
        return Tensor(shape, dtype, partial(_stored, flash, layer.name("trained"), item, runs, np.dtype(dtype), view))

    def known() -> Iterator[dict[str, Any]]:
        for (stage, n), trained in zip(layers, meta["trained"], strict=True):
            yield described(form_of(stage, n), trained)

    _write(path, recipe, dataset, names(), tensor, known)


def _stored(
    flash: Flash,
    name: str,
    item: int,
    runs: Iterable[tuple[int, int]],
    dtype: np.dtype,
    view: memoryview,
) -> Iterator[memoryview]:
    """Bytes of an item in flash, read through a buffer: of runs of numbers, each with its begin and length."""
    for begin, count in runs:
        for at in range(0, count * dtype.itemsize, len(view)):
            piece = view[: min(len(view), count * dtype.itemsize - at)]
            flash.read(name, item, [piece], begin * dtype.itemsize + at)
            yield piece


def write(
    path: Path, recipe: Recipe, dataset: Dataset, tensors: Mapping[str, np.ndarray], known: list[dict[str, Any]]
) -> None:
    """Write a model atomically: its layers' tensors, their descriptions, and the scaling of the data set's columns."""
    _write(path, recipe, dataset, tensors, lambda name: Tensor.of(tensors[name]), lambda: iter(known))


def _write(
    path: Path,
    recipe: Recipe,
    dataset: Dataset,
    names: Iterable[str],
    tensor: Callable[[str], Tensor],
    known: Callable[[], Iterator[dict[str, Any]]],
) -> None:
    """Write a model atomically from the names of its tensors, each tensor by name, and the layers' descriptions."""
    origin, columns = dataset.origin or {}, dataset.columns
    scaling = {"inputs.shift": "float64", "inputs.factor": "float32"} if columns else {}

    def find(name: str) -> Tensor:
        if columns is None or name not in scaling:
            return tensor(name)
        which = list(scaling).index(name)
        return Tensor(columns.mean.shape, scaling[name], partial(_scaling, columns, str(recipe.normalize), which))

    ordered = sorted(chain(names, scaling), key=lambda name: (_ORDER.index(find(name).dtype), name))

    def about() -> dict[str, Any]:
        description = {"format": FORMAT, "recipe": recipe.to_json(), "classes": dataset.classes, "layers": known()}
        return description | {name: origin[name] for name in NAMED if origin.get(name)}

    sealed, length = digest(about(), sorted(ordered), find), 0

    def write_header(write: Callable[[str], object]) -> None:
        write(f'{{"__metadata__":{{"{METADATA}":"')
        # one key, as the library orders several of them randomly: a text within the text
        write_json({**about(), "sha256": sealed}, lambda piece: write(json.dumps(piece)[1:-1]))
        write('"}')
        place = 0
        for name in ordered:
            shape, dtype, _ = one = find(name)
            place, begin = place + one.nbytes, place
            sides = ",".join(map(str, shape))
            write(f',"{name}":{{"dtype":"{_NAMES[dtype]}","shape":[{sides}],"data_offsets":[{begin},{place}]}}')
        write("}")

    def measure(piece: str) -> None:
        nonlocal length
        length += len(piece)  # all ASCII

    write_header(measure)
    with writing_whole(path) as file:
        file.write((length + -length % 8).to_bytes(8, "little"))
        write_header(lambda piece: file.write(piece.encode()))
        file.write(b" " * (-length % 8))
        for name in ordered:
            for piece in find(name).pieces():
                file.write(piece)


def _scaling(columns: Columns, normalize: str, which: int) -> Iterator[memoryview]:
    """Bytes of the values to subtract from the columns (0), or of the factors to apply (1)."""
    for first in range(0, len(columns.mean), _COLUMNS):
        part = type(columns)(*(each[first : first + _COLUMNS] for each in vars(columns).values()))
        yield np.ascontiguousarray(part.affine(normalize)[which]).data


def digest(about: dict[str, Any], names: Iterable[str], tensor: Callable[[str], Tensor]) -> str:
    """SHA-256 of a model's description and every tensor's name, dtype, shape and bytes; names in order."""
    description = {name: about[name] for name in ("format", "recipe", "classes", "layers", *NAMED) if name in about}
    hashed = hashlib.sha256()
    write_json(description, lambda piece: hashed.update(piece.encode()))
    for name in names:
        one = tensor(name)
        hashed.update(f"{name} {one.dtype} {one.shape}".encode())
        for piece in one.pieces():
            hashed.update(piece)
    return hashed.hexdigest()


def described(form: Form, trained: dict[str, Any]) -> dict[str, Any]:
    """A layer's form and the numbers beside its tensors (``alpha``, ``scale``, ``digest``), as a model records them."""
    inputs = form.inputs
    return {
        "kind": inputs.kind,
        "width": inputs.width,
        "input_scale": inputs.scale,
        "input_offset": inputs.offset,
        "image": inputs.image,
        "outputs": form.outputs,
        **{name: trained[name] for name in ("alpha", "scale", "digest")},
        **({"shape": asdict(form.shape)} if form.shape else {}),
    }
