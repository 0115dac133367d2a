"""Export of trained models: NumPy arrays, a C header for microcontrollers, a graph for ONNX runtimes.

Packed signs are 32 to a word here, one row of words per neuron: input i is bit i % 32 of word i // 32, lowest bit
first. A bit is 1 for +1, and bits beyond the last input are 0. Files hold words in little-endian order, as the target
microcontrollers do; in C they are numbers, which a compiler stores in the order of its target.

docs/models.md describes the layouts; examples/classify.c is a program for the header.
"""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from .. import catalogue
from ..data import short
from ..errors import BadRequest
from ..layers.trained import TrainedLayer
from ..rules import tinyfoa
from .model import Model

#: export formats and their file names
FORMATS = {"npz": "model.npz", "c-header": "model.h", "onnx": "model.onnx"}
#: versions of the ONNX graph, old enough for current runtimes
ONNX_OPSET, ONNX_IR = 13, 8


def export(model: Model, to: str) -> bytes:
    """Export a model; return the content of the file.

    Parameters
    ----------
    model : Model
    to : str
        One of :data:`FORMATS`, for fully connected networks: ``npz`` for any algorithm, the others for TinyFoA.

    Raises
    ------
    BadRequest
        If the format does not exist, does not support this model, or needs a library that is not installed.
    """
    writers = {"npz": to_npz, "c-header": to_c_header, "onnx": to_onnx}
    if to not in writers:
        raise BadRequest(f"there is no export to {to!r}: it must be one of {', '.join(writers)}")
    if model.recipe.deep or not fully_connected(model.recipe.network):
        what = f"{model.recipe.algorithm} on {model.recipe.network}"
        raise BadRequest(f"exports hold layers of fully connected networks, not {what}")
    return writers[to](model)


def fully_connected(network: str) -> bool:
    """Whether a network is fully connected, with a row of weights per neuron."""
    return network.startswith("fc:")


def signs(layer: TrainedLayer) -> np.ndarray:
    """Packed signs (O, ceil(I / 32)), little-endian uint32, of a layer with binary weights."""
    rows = layer.weights.transpose(0, 2, 1).reshape(-1, layer.weights.shape[1])[: layer.outputs]  # (O, words of 64)
    return np.ascontiguousarray(rows.astype("<u8")).view("<u4")[:, : -(-layer.inputs.width // 32)]


def gains(model: Model) -> list[np.float32]:
    """Factor of the products of each TinyFoA layer: alpha times the scale of its inputs.

    Rounded as in the forward pass.
    """
    scales = tinyfoa.input_scales(model.recipe, model.layers)
    return [np.float32(scale * layer.alpha) for scale, layer in zip(scales, model.layers, strict=True)]


def to_npz(model: Model) -> bytes:
    """Arrays by name: ``layerN.signs`` or ``.weights``, ``.bias``, ``.alpha``, ``.scale``; ``input_scale`` and
    ``input_offset`` for byte samples; ``input_shift`` and ``input_factor`` for scaled columns; for TinyFoA the last
    ``projection`` (O, C); ``classes``, and ``labels`` if classes have names; ``recipe``, a JSON text."""
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
    for number, layer in enumerate(model.layers):
        known = {"bias": layer.bias, "alpha": np.float64(layer.alpha), "scale": np.float64(layer.scale)}
        known |= {"signs": signs(layer)} if _binary(layer) else {"weights": layer.weights}
        arrays |= {f"layer{number}.{name}": array for name, array in known.items()}
    if model.recipe.rule.projected:
        arrays["projection"] = _projection(model)
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _binary(layer: TrainedLayer) -> bool:
    return layer.weights.dtype == np.uint64


def _projection(model: Model) -> np.ndarray:
    """Projection (O, C) of the last layer, whose logits decide the class."""
    last = len(model.layers) - 1
    outputs, recipe = model.layers[last].outputs, model.recipe
    out = np.zeros((outputs, model.classes), np.float32)
    rows: np.ndarray = recipe.rule.home("fc").head_rows(out, 0, outputs, last, recipe)
    return rows


def _refuse_others(model: Model, to: str) -> None:
    if to not in model.recipe.rule.exports:
        able = " or ".join(entry.name for entry in catalogue.algorithms() if to in entry.exports)
        raise BadRequest(f"{to} holds networks of {able}, not of {model.recipe.algorithm}: npz holds those, too")


# -- C ----------------------------------------------------------------------------------------------------------------


def to_c_header(model: Model) -> bytes:
    """A C99 header with the network as constants; see the module's documentation for the order of bits."""
    _refuse_others(model, "c-header")
    recipe, inputs, layers = model.recipe, model.inputs, model.layers
    binary = recipe.binary_weights
    kind, what = ("uint32_t", "signs") if binary else ("float", "weights")
    arrays, entries, nbytes = [], [], 0
    seen = "(TINYFOA_SCALE * (value) + TINYFOA_OFFSET)" if inputs.kind == "bytes" else "(value)"
    if model.affine:
        seen = "((float)((value) - tinyfoa_shift[i]) * tinyfoa_factor[i])"
        for name, column in zip(("tinyfoa_shift", "tinyfoa_factor"), model.affine, strict=True):
            arrays.append(_array("double" if column.dtype == np.float64 else "float", name, column))
            nbytes += column.nbytes
    for number, (layer, gain) in enumerate(zip(layers, gains(model), strict=True)):
        weights = signs(layer) if binary else layer.weights
        names = f"tinyfoa_{what}{number}", f"tinyfoa_bias{number}"
        arrays += [_array(kind, names[0], weights), _array("float", names[1], layer.bias)]
        entries.append(f"    {{{layer.inputs.width}, {layer.outputs}, {_number(gain)}, {', '.join(names)}}},")
        nbytes += weights.nbytes + layer.bias.nbytes
    projection = _projection(model)
    arrays.append(_array("float", "tinyfoa_projection", projection))
    nbytes += projection.nbytes
    name = _plain(short(recipe.dataset))
    defines = {
        "INPUTS": inputs.width,
        "CLASSES": model.classes,
        "LAYERS": len(layers),
        "WIDEST": max(layer.outputs for layer in layers),
        "BYTES": int(inputs.kind == "bytes"),
        "SCALE": _number(inputs.scale),
        "OFFSET": _number(inputs.offset),
        "BINARY_WEIGHTS": int(binary),
        "BINARY_ACTIVATIONS": int(recipe.binary_activations),
    }
    text = "\n".join(
        [
            f"/* TinyFoA on {name}, {recipe.network}: {nbytes:,} bytes of constants, by tinyfoa-np.",
            "",
            "   A sample is TINYFOA_INPUTS values, uint8_t where TINYFOA_BYTES is 1, else float; TINYFOA_SEEN is how",
            "   they are seen. Of each layer, neuron by neuron: a row of packed signs, input i in bit i % 32 of word",
            "   i / 32, 1 for +1, or a row of weights; z = gain * (inputs . row) + bias; it hands on z > 0, as bits,",
            "   or max(z, 0). The projection has a row for each neuron of the last layer: logits are what it hands on",
            "   times the rows.",
            *(f"   Class {number} is {_plain(str(label))}." for number, label in enumerate(model.labels or ())),
            *([f"   Its inputs are {', '.join(map(_plain, model.columns))}."] if model.columns else []),
            "*/",
            "#ifndef TINYFOA_MODEL_H",
            "#define TINYFOA_MODEL_H",
            "#include <stdint.h>",
            "",
            *(f"#define TINYFOA_{name} {value}" for name, value in defines.items()),
            f"#define TINYFOA_SEEN(value, i) {seen}",
            "",
            *arrays,
            "",
            "struct tinyfoa_layer {",
            "    int inputs, outputs;",
            "    float gain;",
            f"    const {kind} *weights;",
            "    const float *bias;",
            "};",
            "static const struct tinyfoa_layer tinyfoa_layers[TINYFOA_LAYERS] = {",
            *entries,
            "};",
            "#endif",
        ]
    )
    return text.encode("ascii") + b"\n"


def _plain(name: str) -> str:
    """A data set's name, modified so that it cannot end a comment."""
    return "".join(c if c.isascii() and c.isprintable() and c not in "*/\\" else "_" for c in name)


def _array(kind: str, name: str, values: np.ndarray) -> str:
    """A constant array in C."""
    formats = {"uint32_t": lambda value: f"{value:#010x}", "double": repr}
    flat = [formats.get(kind, _number)(value) for value in values.ravel().tolist()]
    each = 4 if kind == "double" else 6
    lines = ["    " + ", ".join(flat[start : start + each]) + "," for start in range(0, len(flat), each)]
    return "\n".join([f"static const {kind} {name}[{values.size}] = {{", *lines, "};"])


def _number(value: Any) -> str:
    """A float32 in C, in the fewest digits that give the same value."""
    digits = str(np.float32(value))
    return digits + ("f" if "." in digits or "e" in digits else ".0f")


# -- ONNX -------------------------------------------------------------------------------------------------------------


def to_onnx(model: Model) -> bytes:
    """A graph from ``samples`` (N, I) to ``class`` (N,) int64 and ``logits`` (N, C).

    Products of signs with bits or bytes are integers below 2^24, exact in float32 in any order of addition. Sums of
    real numbers, such as the logits, are not exact: if two classes are nearly equal, the predicted class may differ.
    """
    _refuse_others(model, "onnx")
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise BadRequest(f'the export needs onnx ({error}): install it with pip install ".[onnx]"') from error
    inputs, binary = model.inputs, model.recipe.binary_weights
    nodes, constants = [], []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(what: str, into: str, *sources: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(what, sources, [into], **attributes))
        return into

    x, affine = "samples", (np.float32(inputs.scale), np.float32(inputs.offset))
    if inputs.kind == "bytes":
        x = node("Cast", "bytes", x, to=TensorProto.FLOAT)
        if not binary:
            x = node("Mul", "scaled", x, constant("input_scale", affine[0]))
            x = node("Add", "shifted", x, constant("input_offset", affine[1]))
    if model.affine:
        if model.affine[0].dtype == np.float64:  # centred in double precision, then rounded
            x = node("Cast", "precise", x, to=TensorProto.DOUBLE)
        x = node("Sub", "centred", x, constant("input_shift", model.affine[0]))
        if model.affine[0].dtype == np.float64:
            x = node("Cast", "rounded", x, to=TensorProto.FLOAT)
        x = node("Mul", "scaled", x, constant("input_factor", model.affine[1]))
    if model.recipe.binary_activations:
        constant("zero", np.float32(0))
    for n, (layer, gain) in enumerate(zip(model.layers, gains(model), strict=True)):
        if binary:
            rows = unpacked(signs(layer), layer.inputs.width)  # (O, I) int8
            weights = node("Cast", f"weights{n}", constant(f"signs{n}", rows.T.copy()), to=TensorProto.FLOAT)
        else:
            weights = constant(f"weights{n}", layer.weights.T.copy())
        z = node("MatMul", f"product{n}", x, weights)
        if binary and layer.inputs.kind == "bytes":
            z = node("Mul", f"scaled{n}", z, constant("input_scale", affine[0]))
            shift = affine[1] * rows.sum(axis=1, dtype=np.int64).astype(np.float32)
            z = node("Add", f"shifted{n}", z, constant(f"shift{n}", shift))
        z = node("Mul", f"gained{n}", z, constant(f"gain{n}", gain))
        z = node("Add", f"z{n}", z, constant(f"bias{n}", layer.bias))
        if model.recipe.binary_activations:
            x = node("Cast", f"h{n}", node("Greater", f"on{n}", z, "zero"), to=TensorProto.FLOAT)
        else:
            x = node("Relu", f"h{n}", z)
    unscaled = node("MatMul", "unscaled", x, constant("projection", _projection(model)))
    node("ArgMax", "class", unscaled, axis=1, keepdims=0)
    node("Mul", "logits", unscaled, constant("scale", np.float32(model.layers[-1].scale)))
    kind = TensorProto.UINT8 if inputs.kind == "bytes" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tinyfoa",
        [helper.make_tensor_value_info("samples", kind, ["N", inputs.width])],
        [
            helper.make_tensor_value_info("class", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", model.classes]),
        ],
        constants,
    )
    made = helper.make_model(graph, producer_name="tinyfoa-np", opset_imports=[helper.make_opsetid("", ONNX_OPSET)])
    made.ir_version = ONNX_IR
    labels = {"labels": json.dumps(model.labels)} if model.labels else {}
    helper.set_model_props(made, {"recipe": model.recipe.to_json(), **labels})
    return made.SerializeToString()


def unpacked(packed: np.ndarray, inputs: int) -> np.ndarray:
    """Signs (O, I) int8, +1 or -1, from packed signs (O, words)."""
    bits = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=1, count=inputs, bitorder="little")
    return (2 * bits.astype(np.int8) - 1).astype(np.int8)
