"""A trained model: load, predict.

A model contains what inference needs. For each layer these are the weights as the forward pass reads them (packed
signs, or float32 rows), the bias, alpha and the stored scale s; for a locally connected layer also batch norm's
statistics. The prediction for a sample depends on that sample alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..data.dataset import not_finite, on_scale
from ..data.roles import Known
from ..errors import BadRequest, CheckFailed, OtherNumerics
from ..kernels.launching import launched
from ..layers.encoding import Encoding
from ..layers.trained import TrainedLayer
from ..recipe import Recipe
from ..storage.files import open_file, parse_json
from .form import DTYPES, MOST_CLASSES, Form, check_layer, check_values, forms, inputs_of, is_count
from .inference import Inference
from .writing import FORMAT, METADATA, NAMED, Tensor, digest

BATCH = 256
#: maximum number of scores in the arena: with very many classes, fewer samples are answered at a time
SCORES = 1 << 20
#: maximum header size in bytes: the description of a model, with the names of classes and columns
HEADER_LIMIT = 1 << 23


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network.

    Attributes
    ----------
    recipe : Recipe
    classes : int
    layers : list of TrainedLayer
    affine : tuple of ndarray (I,), optional
        The value subtracted from each column of real inputs, float64, and the factor applied afterwards, float32.
    labels : list of str or int, optional
        Names of classes 0, 1, and so on in the samples' file, if they differ from these numbers.
    columns : list of str, optional
        Names of the inputs in the samples' table.
    reading : dict, optional
        How the samples' files were read, to be applied to new files: columns, medians of missing values, windows; as
        returned by :meth:`tinyfoa_np.data.roles.Known.to_record`.
    """

    recipe: Recipe
    classes: int
    layers: list[TrainedLayer]
    affine: tuple[np.ndarray, np.ndarray] | None = None
    labels: list[str | int] | None = None
    columns: list[str] | None = None
    reading: dict[str, Any] | None = None
    _at_work: list[Inference] = field(default_factory=list, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of weights, biases and statistics, as inference reads them."""
        arrays = (array for layer in self.layers for array in (layer.weights, layer.bias, layer.running))
        return sum(array.nbytes for array in arrays if array is not None)

    def _about(self) -> dict[str, str]:
        recipe = self.recipe
        return {
            "algorithm": recipe.rule.title,
            "network": recipe.network,
            "inputs": f"{self.inputs.width} ({self.inputs.kind})",
            "classes": str(self.classes),
            "size": f"{self.nbytes:,} bytes",
        }

    def __repr__(self) -> str:
        return f"Model({', '.join(f'{name} {value}' for name, value in self._about().items())})"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in self._about().items())
        return f"<table>{''.join(rows)}</table>"

    @property
    def inputs(self) -> Encoding:
        """Encoding of the samples."""
        return self.layers[0].inputs

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, C), float32, of the last layer, or the equivalent scores of networks without logits.

        Parameters
        ----------
        x : ndarray (N, I)
            In the data set's own form: uint8 for bytes; any real dtype is converted to float32 if the model was trained
            on real numbers.

        Raises
        ------
        BadRequest
            If the shape or dtype is not the model's, or a value is not finite.
        """
        return self.scores(x).astype(np.float32)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Like :meth:`logits`, (N, C) in float64, at full precision."""
        out = np.zeros((len(x), self.classes))
        for part, scores in self.scores_by_part(x):
            out[part] = scores
        return out

    def scores_by_part(self, x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """:meth:`scores` of a few samples at a time: which, and their scores (n, C)."""
        for part, scores in self._unscaled(self.encoded(x)):
            yield part, scores.T.astype(np.float64) * np.float32(self.layers[-1].scale)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict class numbers (N,), int64; the first of equal scores wins; ``x`` and errors as in :meth:`logits`."""
        x = self.encoded(x)
        classes = np.zeros(len(x), np.int64)
        for part, scores in self._unscaled(x):
            scores.argmax(axis=0, out=classes[part])  # rounding with the scale could change a prediction
        return classes

    def encoded(self, x: np.ndarray) -> np.ndarray:
        """Samples (N, I) as the first layer reads them; ``x`` and errors as in :meth:`logits`."""
        x = np.asarray(x)
        wanted = self.inputs
        if x.ndim != 2 or x.shape[1] != wanted.width:
            raise BadRequest(f"the samples have shape {x.shape}: it must be (N, {wanted.width})")
        if wanted.kind == "bytes" and x.dtype != np.uint8:
            raise BadRequest(f"the samples are {x.dtype}: this model takes uint8")
        if wanted.kind == "real":
            if x.dtype.kind not in "fiub":
                raise BadRequest(f"the samples are {x.dtype}: this model takes real numbers")
            with np.errstate(over="ignore"):  # values too large for float32 become infinite and are refused
                narrow = x.astype(np.float32)
            if not np.isfinite(narrow).all():
                raise BadRequest(f"the samples hold {not_finite(x)}")
            x = on_scale(x, *self.affine) if self.affine else narrow
        return x

    def _unscaled(self, x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Scores (C, n) of encoded samples without the last layer's scale, some samples at a time."""
        with self.inference(len(x)) as inference:
            for start in range(0, len(x), inference.batch):
                part = slice(start, start + inference.batch)
                yield part, inference.scores(np.ascontiguousarray(x[part]))

    @property
    def memory(self) -> dict[str, int] | None:
        """Bytes of the arena of the last prediction, and the number of ``samples`` it holds; None before any.

        ``planned_bytes``, ``accounted_bytes`` (regions handed out) and ``watermark_bytes`` (the last byte touched).
        """
        return next((one.measured() for one in self._at_work), None)

    @contextmanager
    def inference(self, samples: int) -> Iterator[Inference]:
        """The model in an arena for up to :data:`BATCH` samples, which is kept for the next prediction if it fits.

        Predictions in several threads at once have an arena each.
        """
        batch = min(max(samples, 1), BATCH, max(1, SCORES // self.classes))
        with launched():
            try:
                found = self._at_work.pop()
            except IndexError:
                found = None
            if found is None or found.batch != batch:
                found = Inference(self.recipe, self.inputs, self.classes, self.layers, batch)
            yield found
            self._at_work[:] = [found]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_at_work": []}  # arrays that share an arena's bytes would not do so in a copy


def _digest(tensors: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    """SHA-256 of a model's description and of its tensors."""
    return digest(about, sorted(tensors), lambda name: Tensor.of(tensors[name]))


def load(path: str | os.PathLike[str]) -> Model:
    """Load a model written by :func:`.writing.save`; the file is untrusted.

    Raises
    ------
    BadRequest
        If the file does not exist.
    CheckFailed
        If the file is damaged, is not a tinyfoa model, or is a link.
    """
    if os.path.isdir(path) or not os.path.lexists(path):
        raise BadRequest(f"there is no model at {path}: a finished run has one in its directory")
    try:
        check_size(path)
        with safe_open(path, "numpy") as file:
            about = parse_json((file.metadata() or {}).get(METADATA, "{}").encode())
            if about.get("format") != FORMAT:
                raise ValueError(f"its format is {str(about.get('format'))[:40]!r}, not {FORMAT!r}")
            recipe, classes = Recipe.from_json(about["recipe"]).validated(), about["classes"]
            if not is_count(classes, MOST_CLASSES + 1):
                raise ValueError(f"it has {str(classes)[:40]} classes")
            known = about["layers"]
            inputs = inputs_of(known[0])
            layers = forms(recipe, inputs, classes)
            tensors = _tensors(file, inputs, layers)
            if _digest(tensors, about) != about["sha256"]:
                raise ValueError("its checksum does not hold: the file was altered")
            trained = [
                _trained_layer(recorded, form, n, tensors)
                for n, (recorded, form) in enumerate(zip(known, layers, strict=True))
            ]
            affine = None
            if "inputs.shift" in tensors:
                affine = tensors["inputs.shift"], tensors["inputs.factor"]
                for name, part in zip(("inputs.shift", "inputs.factor"), affine, strict=True):
                    check_values(name, part)
            labels, columns, reading = (about.get(name) for name in NAMED)
            _check_names("classes", labels, classes, (str, int))
            _check_names("inputs", columns, inputs.width, (str,))
            if reading is not None:
                reading = Known.from_record(reading).to_record()
            return Model(recipe, classes, trained, affine, labels, columns, reading)
    except OtherNumerics as error:
        raise OtherNumerics(f"{path}: {error}") from error
    except (SafetensorError, BadRequest, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise CheckFailed(f"{path} is not a whole model: {lines[0]}") from error


def check_size(path: str | os.PathLike[str]) -> None:
    """Refuse files that are not regular, and impossible header sizes, as headers are read whole."""
    with open(open_file(path), "rb") as file:
        size, header = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
    if header > min(HEADER_LIMIT, max(0, size - 8)):
        raise ValueError(f"its header has {header:,} bytes; at most {HEADER_LIMIT:,} are read")


def _tensors(file: Any, inputs: Encoding, layers: list[Form]) -> dict[str, np.ndarray]:
    """The tensors of an open file, after checking that exactly the required tensors are present."""
    wanted = {name: kind for number, form in enumerate(layers) for name, kind in form.tensors(number).items()}
    if inputs.kind == "real" and "inputs.shift" in file.keys():
        wanted |= {f"inputs.{name}": ((inputs.width,), "float32") for name in ("shift", "factor")}
        if file.get_slice("inputs.shift").get_dtype() == "F64":  # older models centred in float32
            wanted["inputs.shift"] = (inputs.width,), "float64"
    for name in sorted(set(file.keys()) ^ set(wanted)):
        raise ValueError(f"tensor {name!r} is {'missing' if name in wanted else 'not one that its recipe has'}")
    for name, (shape, kind) in wanted.items():
        held = file.get_slice(name)
        if tuple(held.get_shape()) != shape or DTYPES.get(held.get_dtype()) != kind:
            raise ValueError(f"{name} is {held.get_dtype()} {held.get_shape()}, not {kind} {list(shape)}")
    return {name: file.get_tensor(name) for name in wanted}


def _trained_layer(said: dict[str, Any], form: Form, which: int, tensors: dict[str, np.ndarray]) -> TrainedLayer:
    """A layer from its description and its tensors; raises ValueError if any number is invalid."""
    alpha, scale = check_layer(said, form, which)
    for name in form.tensors(which):
        check_values(name, tensors[name], form)
    running = tensors.get(f"layer{which}.running")
    if running is not None and running[1].min() < 0:
        raise ValueError(f"layer{which}.running has a variance below 0")
    weights, bias = tensors[f"layer{which}.weights"], tensors[f"layer{which}.bias"]
    return TrainedLayer(form.inputs, weights, bias, alpha, scale, form.outputs, form.shape, running)


def _check_names(what: str, names: Any, count: int, kinds: tuple[type, ...]) -> None:
    """Refuse names of classes or inputs whose number does not match."""
    if names is not None and not (
        isinstance(names, list) and len(names) == count and all(type(name) in kinds for name in names)
    ):
        raise ValueError(f"its {what} are {count}, and have other names")
