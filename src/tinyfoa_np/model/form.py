"""The required content of a model file, derived from recipe, inputs and classes and checked before reading it.

A model may come from a stranger. Kernels trust shapes, so every tensor's name, dtype and shape and every number must be
what training with this recipe would have written; otherwise the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, prod
from typing import Any

import numpy as np

from ..architectures import architecture
from ..layers.encoding import TILES, Encoding
from ..layers.layer import Layer
from ..layers.local import Local
from ..layers.tiling import NEURONS, PLACES, Tiling
from ..network import LayerShape, LocalShape, is_local, layer_shapes
from ..recipe import Recipe
from ..rules.build import deep_maker, makers
from ..rules.stage import Stage

#: labels are 16 bits
MOST_CLASSES = 65536
#: numbers of a fixed head that inference keeps in RAM
HEAD = 1 << 20
#: tensor dtypes by their names in a file
DTYPES = {"F32": "float32", "F64": "float64", "U64": "uint64"}

Tensors = dict[str, tuple[tuple[int, ...], str]]  # name to shape and dtype


@dataclass(frozen=True)
class Form:
    """The form of one layer: encoding of its inputs, outputs, shape if locally connected, weights' shape and dtype, and
    the size of its bias."""

    inputs: Encoding
    outputs: int
    shape: LocalShape | None
    weights: tuple[tuple[int, ...], str]
    bias: int

    def tensors(self, number: int) -> Tensors:
        """The tensors of this layer in a file."""
        name = f"layer{number}."
        found: Tensors = {name + "weights": self.weights, name + "bias": ((self.bias,), "float32")}
        if self.shape:
            found[name + "running"] = (2, self.shape.channels), "float32"
        return found


def read_by(layer: Layer) -> Encoding:
    """Encoding of a layer's inputs; the width is that of its inputs, not of a patch, if it is locally connected."""
    width = layer.shape.inputs if isinstance(layer, Local) else layer.inputs.width
    return replace(layer.inputs, width=width)


def form_of(stage: Stage, number: int) -> Form:
    """The form of a stage's layer; the first layer's inputs are the samples, in their own encoding."""
    layer = stage.layers[number]
    (weights, kind), (bias, _) = layer.trained_shapes
    shape = layer.shape if isinstance(layer, Local) else None
    return Form(read_by(layer) if number else stage.inputs, layer.O, shape, (weights, kind), prod(bias))


def stages_of(recipe: Recipe, inputs: Encoding, classes: int, batch: int) -> list[Stage]:
    """The stages that a recipe trains on such inputs, for inference with ``batch`` samples at a time.

    Raises
    ------
    BadRequest
        If the network is not possible.
    """
    # slices determine when weights train, not the layout of a trained layer; a grid can be larger than a model
    schedule = "none" if "none" in recipe.rule.schedules else "stream"
    plain = replace(
        recipe, slices=1, schedule=schedule, hold=None, exchanges=None, visits=None, order=None, batch=batch
    )
    if recipe.deep:
        network = architecture(recipe.network, inputs.width, inputs.image, classes)
        return [deep_maker(plain, inputs, network, classes, 1, 1)(Tiling(batch))]
    shapes = layer_shapes(recipe.network, inputs.width, inputs.image, recipe.lc_connect)
    tiling, made = tiling_of(plain, shapes, classes), makers(plain, inputs, shapes, classes, 1, 1)
    return [make(tiling) for make in made]


def tiling_of(recipe: Recipe, shapes: Sequence[LayerShape], classes: int) -> Tiling:
    """The tiles of inference: a fixed head of many classes is generated tile by tile, like in a small budget."""
    local = is_local(recipe.network)
    usual = Tiling(recipe.batch, PLACES[-4] if local else TILES[-1])
    generated = any(rung.tiling.regenerate for rung in recipe.rule.home(recipe.kind).ladder(recipe))
    if not generated or classes * max(shape.outputs for shape in shapes) <= HEAD:
        return usual
    stride = max(shape.channels if isinstance(shape, LocalShape) else 1 for shape in shapes)
    sizes = [size for size in (PLACES if local else NEURONS) if size <= usual.neurons]
    fitting = (size for size in sizes if size * stride * classes <= HEAD)
    return replace(usual, neurons=next(fitting, sizes[-1]), regenerate=True)


def forms(recipe: Recipe, inputs: Encoding, classes: int) -> list[Form]:
    """Forms of all layers that a recipe trains on such inputs; errors as for :func:`stages_of`."""
    stages = stages_of(recipe, inputs, classes, 1)
    return [form_of(stage, number) for stage in stages for number in range(len(stage.layers))]


def inputs_of(known: Mapping[str, Any]) -> Encoding:
    """Encoding of the samples according to a file; raises ValueError if it is invalid."""
    kind, width, image = known["kind"], known["width"], known.get("image")
    if kind not in ("bytes", "real") or not is_count(width, 2**31):
        raise ValueError(f"its samples are {width!r} {kind!r}")
    if image is not None:
        if len(image) != 3 or not all(is_count(side, 2**31) for side in image) or prod(image) != width:
            raise ValueError(f"its samples are {width} values, and images of {image!r}")
        image = tuple(image)
    return Encoding(kind, width, number(known["input_scale"]), number(known["input_offset"]), image)


def check_layer(known: Mapping[str, Any], form: Form, which: int) -> tuple[float, float]:
    """Compare a file's description of a layer with its required form; return alpha and scale.

    Raises
    ------
    ValueError
        If they differ.
    """
    inputs, image = form.inputs, known.get("image")
    recorded = (
        known["kind"],
        known["width"],
        number(known["input_scale"]),
        number(known["input_offset"]),
        image and tuple(image),
        known["outputs"],
        known.get("shape"),
    )
    right = (
        inputs.kind,
        inputs.width,
        inputs.scale,
        inputs.offset,
        inputs.image,
        form.outputs,
        asdict(form.shape) if form.shape else None,
    )
    if recorded != right or not is_count(known["outputs"]) or not isinstance(known["digest"], str):
        raise ValueError(f"layer {which + 1} is not what its recipe says")
    return number(known["alpha"], 0.0), number(known["scale"], 0.0)


def check_values(name: str, values: np.ndarray, form: Form | None = None) -> None:
    """Refuse numbers that are not finite, and nonzero padding in packed signs.

    Raises
    ------
    ValueError
        If there are any.
    """
    if values.dtype.kind == "f":
        flat = values.reshape(-1)
        if not all(np.isfinite(flat[start : start + 2**16]).all() for start in range(0, flat.size, 2**16)):
            raise ValueError(f"{name} holds numbers that are not finite")
        return
    assert form is not None
    outputs, inputs = (form.shape.channels, form.shape.fan_in) if form.shape else (form.outputs, form.inputs.width)
    panels = values.reshape(-1, -(-outputs // 8), *values.shape[-2:])  # (.., panels, words, 8 neurons)
    absent, odd = -outputs % 8, inputs % 64
    if absent and panels[:, -1, :, 8 - absent :].any() or odd and (panels[:, :, -1] >> np.uint64(odd)).any():
        raise ValueError(f"{name} has signs where there are no weights")


def is_count(value: Any, below: int = 2**60) -> bool:
    """Whether a value from JSON is an integer of at least 1 and less than ``below``."""
    return type(value) is int and 1 <= value < below


def number(value: Any, least: float = -1e30) -> float:
    """A value from JSON as a finite number; raises ValueError if it is not a number or less than ``least``."""
    if type(value) not in (int, float) or not isfinite(value) or not least <= value <= 1e30:
        raise ValueError(f"{str(value)[:40]!r} is not a number that a model can hold")
    return float(value)
