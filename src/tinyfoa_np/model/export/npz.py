"""A trained model as arrays for NumPy."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ...layers.group import Group
from ...layers.trained import TrainedLayer
from ..form import stages_of
from ..model import Model
from .answers import parameters, projection
from .packed import is_packed, signs


def file(model: Model) -> bytes:
    """Arrays by name.

    For each layer ``layerN.signs`` or ``.weights``, ``.bias``, ``.alpha``, ``.scale``; if locally connected also
    ``.gamma``, ``.beta``, ``.mean`` and ``.variance``. For deep networks ``groupN.OPERATION.weight`` and so on, with
    the names of the plain NumPy reference, and GIFF's ``groupN.label.weight`` and ``.bias``. For byte samples
    ``input_scale`` and ``input_offset``; for scaled columns ``input_shift`` and ``input_factor``; the last layer's
    fixed ``projection`` (O, C) and its ``projection_bias`` (C,), if any; ``classes``, and ``labels`` if classes have
    names; ``recipe``, a JSON text.
    """
    inputs = model.inputs
    arrays: dict[str, Any] = {
        "recipe": np.array(model.recipe.to_json()),
        "classes": np.int64(model.classes),
        "input_scale": np.float32(inputs.scale),
        "input_offset": np.float32(inputs.offset),
    }
    if model.affine:
        arrays["input_shift"], arrays["input_factor"] = model.affine
    if model.labels:
        arrays["labels"] = np.array([str(label) for label in model.labels])
    if model.recipe.deep:
        arrays |= _of_groups(model)
    else:
        for number, layer in enumerate(model.layers):
            arrays |= {f"layer{number}.{name}": array for name, array in _of_layer(layer).items()}
    if model.recipe.rule.projected:
        arrays["projection"], shift = projection(model)
        arrays |= {} if shift is None else {"projection_bias": shift}
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _of_layer(layer: TrainedLayer) -> dict[str, Any]:
    """Arrays of one layer; biases (O,), or (P, O) at P positions."""
    known = {"bias": layer.bias, "alpha": np.float64(layer.alpha), "scale": np.float64(layer.scale)}
    if layer.shape and layer.running is not None:
        biases = layer.bias.reshape(-1, layer.shape.channels)
        known |= {"bias": biases[:-2], "gamma": biases[-2], "beta": biases[-1]}
        known |= {"mean": layer.running[0], "variance": layer.running[1]}
    return known | ({"signs": signs(layer)} if is_packed(layer) else {"weights": layer.weights})


def _of_groups(model: Model) -> dict[str, Any]:
    found = {}
    (stage,) = stages_of(model.recipe, model.inputs, model.classes, 1)
    for number, (group, trained) in enumerate(zip(stage.layers, model.layers, strict=True)):
        assert isinstance(group, Group)
        for one in group.program.operations:
            for name, array in parameters(one, trained).items():
                found[f"group{number}.{one.name}.{name}"] = array
        extra = trained.weights[group.program.parameters :].reshape(group.extra)
        if extra.size and group.extra_biased:
            found[f"group{number}.label.weight"], found[f"group{number}.label.bias"] = extra[:-1], extra[-1]
        elif extra.size:
            found[f"group{number}.head"] = extra
    return found
