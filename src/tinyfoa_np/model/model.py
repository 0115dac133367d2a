"""A trained model: save, load, predict.

A model holds what inference needs: per layer the weights as the forward pass reads them (packed signs, or float32
rows), the bias, alpha and the stored scale s; of a locally connected layer also batch norm's numbers. An answer depends
on its own sample alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from ..errors import BadRequest, CheckFailed, OtherNumerics
from ..layers.encoding import Inputs
from ..layers.local import LocalParameters
from ..layers.trained import TrainedLayer
from ..network import LocalShape
from ..recipe import Recipe
from ..rules.build import answers
from ..storage.whole_file import write_whole

if TYPE_CHECKING:
    from ..data import Dataset
    from ..rules.stage import Kept, Stage
    from ..storage.flash import Flash

FORMAT = "tinyfoa-np model 1"
METADATA = "tinyfoa_np"
BATCH = 256
#: what of a table's words a model keeps
_NAMED = ("labels", "columns")


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network.

    Attributes
    ----------
    recipe : Recipe
    classes : int
    layers : list of TrainedLayer
    affine : tuple of ndarray (I,), float32, optional
        What is taken from each column of real inputs, and what it is multiplied by then.
    labels : list of str or int, optional
        What the samples' file calls class 0, 1, and so on, where that is not 0, 1, and so on.
    columns : list of str, optional
        What the samples' table calls its inputs.
    """

    recipe: Recipe
    classes: int
    layers: list[TrainedLayer]
    affine: tuple[np.ndarray, np.ndarray] | None = None
    labels: list[str | int] | None = None
    columns: list[str] | None = None

    @property
    def inputs(self) -> Inputs:
        """What a sample must be."""
        return self.layers[0].inputs

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, C), float32, of the last layer; what takes their place where a network has none.

        Parameters
        ----------
        x : ndarray (N, I)
            In the data set's own form: uint8 for bytes; any real dtype becomes float32 where real numbers were
            trained on.

        Raises
        ------
        BadRequest
            If the shape or dtype is not the model's, or a value is not finite.
        """
        return self.scores(x).astype(np.float32)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """The same (N, C) in float64, as precise as they come."""
        return self._unscaled(x) * np.float32(self.layers[-1].scale)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class numbers (N,), int64, the first of equals; see :meth:`logits` for ``x`` and errors."""
        return self._unscaled(x).argmax(axis=1)  # the scale cannot change an answer, but rounding with it could

    def _unscaled(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        wanted = self.inputs
        if x.ndim != 2 or x.shape[1] != wanted.width:
            raise BadRequest(f"the samples have shape {x.shape}: (N, {wanted.width}) would be right")
        if wanted.kind == "bytes" and x.dtype != np.uint8:
            raise BadRequest(f"the samples are {x.dtype}: this model takes uint8")
        if wanted.kind == "real":
            if x.dtype.kind not in "fiub":
                raise BadRequest(f"the samples are {x.dtype}: this model takes real numbers")
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
                x = x.astype(np.float32)
            if not np.isfinite(x).all():
                raise BadRequest("the samples hold NaN or infinite values")
            if self.affine:
                shift, factor = self.affine
                x = (x - shift) * factor
        out = np.zeros((len(x), self.classes))
        for start in range(0, len(x), BATCH):
            part = np.ascontiguousarray(x[start : start + BATCH])
            out[start : start + BATCH] = answers(self.recipe, self.layers, self.classes, part).T
        return out


def save(
    path: Path, recipe: Recipe, dataset: Dataset, stages: list[Stage], meta: dict[str, Any], flash: Flash
) -> None:
    """Writes ``model.safetensors`` from what the trained layers left in flash; there whole or not at all."""
    tensors: dict[str, np.ndarray] = {}
    known = []
    if dataset.columns:
        tensors["inputs.shift"], tensors["inputs.factor"] = dataset.columns.affine(str(recipe.normalize))
    # the first layer's inputs are the samples, however they come to it
    layers = [layer for stage in stages for layer in stage.layers]
    reads = [_reads(layer) if n else stage.inputs for stage in stages for n, layer in enumerate(stage.layers)]
    for layer, inputs, trained in zip(layers, reads, meta["trained"], strict=True):
        name = f"layer{layer.number}"
        weights, bias = (np.zeros(*shape) for shape in layer.trained_shapes)
        flash.read(layer.name("trained"), 0, [weights])
        flash.read(layer.name("trained"), 1, [bias])
        tensors[f"{name}.weights"], tensors[f"{name}.bias"] = weights, bias
        known.append(
            {"kind": inputs.kind, "width": inputs.width, "input_scale": inputs.scale, "input_offset": inputs.offset,
             "image": inputs.image, "outputs": layer.O, "alpha": trained["alpha"], "scale": trained["scale"],
             "digest": trained["digest"]}
        )  # fmt: skip
        if isinstance(layer, LocalParameters):
            running = np.zeros((2, layer.shape.channels), np.float32)
            flash.read(layer.name("trained"), 2, [running])
            tensors[f"{name}.bias"], tensors[f"{name}.running"] = layer.by_position(bias), running
            known[-1]["shape"] = asdict(layer.shape)
    about: dict[str, Any] = {
        "format": FORMAT, "recipe": recipe.to_json(), "classes": dataset.classes, "layers": known
    }  # fmt: skip
    about |= {name: names for name in _NAMED if (names := (dataset.origin or {}).get(name))}
    sealed = json.dumps({**about, "sha256": _digest(tensors, about)})
    write_whole(path, to_bytes(tensors, {METADATA: sealed}))  # one key: a file with several orders them at random


def _reads(layer: Kept) -> Inputs:
    """How what a layer reads is held; a locally connected one is laid out by the patches of its positions."""
    width = layer.shape.inputs if isinstance(layer, LocalParameters) else layer.inputs.width
    return replace(layer.inputs, width=width)


def _digest(tensors: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    """SHA-256 over what is said about a model and every tensor's name, dtype, shape and bytes."""
    said = {k: about[k] for k in ("format", "recipe", "classes", "layers")}
    said |= {name: about[name] for name in _NAMED if name in about}
    hashed = hashlib.sha256(json.dumps(said).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        hashed.update(f"{name} {array.dtype} {array.shape}".encode())
        hashed.update(array.data)
    return hashed.hexdigest()


def load(path: str | os.PathLike[str]) -> Model:
    """Reads a model that :func:`save` wrote.

    Raises
    ------
    BadRequest
        If there is no such file.
    CheckFailed
        If the file is damaged or is no model of ours.
    """
    if not Path(path).is_file():
        raise BadRequest(f"there is no model at {path}: a finished run has one in its directory")
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            if about.get("format") != FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}, not {FORMAT!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            if _digest(tensors, about) != about["sha256"]:
                raise ValueError("its checksum does not hold: the file was altered")
            recipe, classes = Recipe.from_json(about["recipe"]), about["classes"]
            layers = []
            for number, known in enumerate(about["layers"]):
                image = tuple(known["image"]) if known.get("image") else None
                inputs = Inputs(known["kind"], known["width"], known["input_scale"], known["input_offset"], image)
                weights, bias = (tensors[f"layer{number}.{what}"] for what in ("weights", "bias"))
                shape = LocalShape(**known["shape"]) if "shape" in known else None
                biases = known["outputs"] + (2 * shape.channels if shape else 0)
                if not recipe.deep and len(bias) not in (0, biases):
                    raise ValueError(f"layer {number + 1} has {len(bias)} biases, not {biases}")
                layers.append(
                    TrainedLayer(
                        inputs, weights, bias, known["alpha"], known["scale"], known["outputs"], shape,
                        tensors.get(f"layer{number}.running"),
                    )
                )
            affine = None
            if "inputs.shift" in tensors:
                affine = tensors["inputs.shift"], tensors["inputs.factor"]
                if any(part.shape != (layers[0].inputs.width,) for part in affine):
                    raise ValueError("its columns are not as many as its inputs")
            return Model(recipe, classes, layers, affine, *(about.get(name) for name in _NAMED))
    except OtherNumerics as error:
        raise OtherNumerics(f"{path}: {error}") from error
    except (SafetensorError, BadRequest, ValueError, KeyError, TypeError, OSError) as error:
        raise CheckFailed(f"{path} is not a whole model: {str(error).splitlines()[0]}") from error
