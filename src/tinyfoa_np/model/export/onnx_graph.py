"""Export of a trained model as a graph for ONNX runtimes.

The graph maps ``samples`` (N, I) to ``class`` (N,) int64 and ``logits`` (N, C). Products of signs with bits or bytes
are integers below 2^24, exact in float32 in any order of addition. Sums of real numbers, such as the logits, are not
exact: if two classes are nearly equal, the predicted class may differ.

Bits are 0 and 1 in float32 here, feature maps (N, C, R, S). FF's passes, one per label, are rows of a batch.
"""

from __future__ import annotations

import json
from math import prod
from typing import Any

import numpy as np

from ...errors import BadRequest
from ..model import Model
from .answers import (
    Blocks,
    Convolve,
    Dense,
    Embed,
    Goodness,
    Length,
    Local,
    Means,
    Normalize,
    Pool,
    Rms,
    Scale,
    Shortcut,
    Spread,
    Standardize,
    answer_of,
)
from .packed import unpacked

#: versions of the format, old enough for current runtimes
OPSET, IR = 13, 8
EPSILON = np.float32(1e-8)  # avoids division by 0 for a silent row


def file(model: Model) -> bytes:
    """The graph; its metadata contain the recipe and the labels.

    Raises
    ------
    BadRequest
        If onnx is not installed, or the rule does not define the prediction of its networks.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise BadRequest(f'the export needs onnx ({error}): install it with pip install ".[onnx]"') from error
    graph = _Graph(model)
    kind = TensorProto.UINT8 if model.inputs.kind == "bytes" else TensorProto.FLOAT
    model_proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "tinyfoa",
            [helper.make_tensor_value_info("samples", kind, ["N", model.inputs.width])],
            [
                helper.make_tensor_value_info("class", TensorProto.INT64, ["N"]),
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", model.classes]),
            ],
            graph.constants,
        ),
        producer_name="tinyfoa-np",
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    model_proto.ir_version = IR
    labels = {"labels": json.dumps(model.labels)} if model.labels else {}
    helper.set_model_props(model_proto, {"recipe": model.recipe.to_json(), **labels})
    content: bytes = model_proto.SerializeToString()
    return content


class _Graph:
    """Builder of nodes and constants, step by step."""

    def __init__(self, model: Model) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self.model, self.answer = model, answer_of(model)
        self._make, self._tensor, self.types = helper.make_node, numpy_helper.from_array, TensorProto
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names = {0: "samples"}  # names of values
        self.goodness = ""
        self.unit = ""
        writers = {
            Scale: self._scale,
            Dense: self._dense,
            Local: self._local,
            Means: self._means,
            Spread: self._spread,
            Convolve: self._convolve,
            Normalize: self._normalize,
            Pool: self._pool,
            Shortcut: self._shortcut,
            Rms: self._rms,
            Goodness: self._goodness,
            Standardize: self._standardize,
            Blocks: self._blocks,
            Embed: self._embed,
            Length: self._length,
        }
        for step in self.answer.steps:
            self.names[step.target] = writers[type(step)](step, self.names[step.source])  # type: ignore[operator]
        self._end()

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def node(self, what: str, *sources: Any, into: str = "", **attributes: Any) -> str:
        """Add a node, whose sources are names or constants; return the name of its output."""
        names = [one if isinstance(one, str) else self.constant(one) for one in sources]
        into = into or f"{what.lower()}{len(self.nodes)}"
        self.nodes.append(self._make(what, names, [into], **attributes))
        return into

    def constant(self, values: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(self._tensor(np.ascontiguousarray(values), name))
        return name

    def floats(self, x: str) -> str:
        return self.node("Cast", x, to=self.types.FLOAT)

    def reshaped(self, x: str, *shape: int) -> str:
        return self.node("Reshape", x, np.array(shape, np.int64))

    def total(self, x: str, *axes: int) -> str:
        return self.node("ReduceSum", x, np.array(axes, np.int64), keepdims=0)

    def unscaled(self, x: str) -> str:
        """Convert bytes to the numbers that the network sees."""
        inputs = self.model.inputs
        if inputs.kind != "bytes":
            return x
        seen = self.node("Mul", self.floats(x), np.float32(inputs.scale))
        return self.node("Add", seen, np.float32(inputs.offset))

    def _end(self) -> None:
        answer = self.answer
        scores = self.goodness if answer.precise else self.names[len(answer.values) - 1]
        if answer.each_label or len(answer.values[-1].shape) == 3 and not answer.precise:
            scores = self.reshaped(scores, -1, answer.classes)
        self.node("ArgMax", scores, into="class", axis=1, keepdims=0)
        self.node("Mul", scores, answer.scale if not answer.precise else np.float32(1), into="logits")

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _scale(self, step: Scale, x: str) -> str:
        if step.shift.dtype == np.float64:  # centred in double precision, then rounded
            x = self.node("Cast", x, to=self.types.DOUBLE)
        x = self.node("Sub", x, step.shift)
        return self.node("Mul", self.floats(x) if step.shift.dtype == np.float64 else x, step.factor)

    def _then(self, then: str, z: str) -> str:
        """The activation of z."""
        if then == "bits":
            return self.floats(self.node("Greater", z, np.float32(0)))
        if then in ("signs", "sign"):
            half = self.node("Sub", self.floats(self.node("GreaterOrEqual", z, np.float32(0))), np.float32(0.5))
            return half if then == "signs" else self.node("Mul", half, np.float32(2))
        return z if then == "values" else self.node({"relu": "Relu", "tanh": "Tanh"}[then], z)

    def _dense(self, step: Dense, x: str) -> str:
        source = self.answer.values[step.source]
        rows = step.rows(source.size)
        weights = self.constant(rows.T)
        signs_of_bytes = step.packed and source.kind == "bytes"
        if source.kind == "bytes":
            x = self.floats(x) if signs_of_bytes else self.unscaled(x)
        z = self.node("MatMul", x, self.floats(weights) if step.packed else weights)
        if signs_of_bytes:
            inputs, sums = self.model.inputs, rows.sum(axis=1, dtype=np.int64).astype(np.float32)
            z = self.node("Mul", z, np.float32(inputs.scale))
            z = self.node("Add", z, np.float32(inputs.offset) * sums)
        if step.gain != 1:
            z = self.node("Mul", z, step.gain)
        if step.unit:
            z = self.node("Mul", z, self.unit)
        return self._then(step.then, z if step.bias is None else self.node("Add", z, step.bias))

    def _local(self, step: Local, x: str) -> str:
        shape, source = step.shape, self.answer.values[step.source]
        P, O, F = shape.places, shape.channels, shape.fan_in
        x = self.unscaled(x) if source.kind == "bytes" else x
        x = self.node("Pad", x, np.array([0, 0, 0, 1], np.int64))  # one more input, 0, for positions beyond the border
        weights = unpacked(step.weights, F).astype(np.float32) if step.packed else step.weights
        where = _patches(step)
        if shape.connect == "full":
            patches = self.reshaped(self.node("Gather", x, where.ravel(), axis=1), -1, P, F)
            product = self.node("MatMul", self.node("Transpose", patches, perm=[1, 0, 2]), weights.transpose(0, 2, 1))
            u = self.node("Transpose", product, perm=[1, 0, 2])  # (N, P, O)
        else:
            own = where[:, :, np.arange(O) * shape.below // O].transpose(0, 2, 1)  # (P, O, 9)
            patches = self.reshaped(self.node("Gather", x, own.ravel(), axis=1), -1, P, O, F)
            u = self.total(self.node("Mul", patches, weights), 3)
        gamma, mean, inverse, beta = step.norm
        u = self.node("Add", self.node("Mul", u, step.gain), step.bias)
        u = self.node("Mul", self.node("Sub", u, mean), inverse)
        v = self.node("Add", self.node("Mul", u, gamma), beta)
        return self.reshaped(self._then(step.then, v), -1, P * O)

    def _means(self, step: Means, x: str) -> str:
        shape, side = step.shape, step.side
        parts = np.zeros((side, side, shape.rows, shape.columns), np.float32)
        for y in range(side):
            rows = slice(y * shape.rows // side, -(-(y + 1) * shape.rows // side))
            for z in range(side):
                columns = slice(z * shape.columns // side, -(-(z + 1) * shape.columns // side))
                parts[y, z, rows, columns] = 1
        shares = parts.reshape(side * side, -1)
        shares *= step.gain / shares.sum(axis=1, keepdims=True)
        maps = self.reshaped(x, -1, shape.places, shape.channels)
        return self.reshaped(self.node("MatMul", shares, maps), -1, side * side * shape.channels)

    def _spread(self, step: Spread, x: str) -> str:
        rows, columns, channels = self.answer.values[step.target].shape
        return self.reshaped(self.unscaled(x), -1, channels, rows, columns)

    def _maps(self, value: int, x: str) -> str:
        """Reshape a sample that is one row of numbers, or one channel, to maps on first use."""
        rows, columns, channels = self.answer.values[value].shape
        return self.reshaped(x, -1, channels, rows, columns) if x == self.names[0] or value == 1 else x

    def _convolve(self, step: Convolve, x: str) -> str:
        rows, columns, channels = self.answer.values[step.source].shape
        shape, z = self.answer.values[step.target].shape, ""
        weights, biases = step.weights, [] if step.bias is None else [step.bias]
        x = self._maps(step.source, x)
        if weights.ndim == 2 and shape[0] * shape[1] == 1:
            own = weights.reshape(rows, columns, channels, -1).transpose(2, 0, 1, 3).reshape(weights.shape)
            z = self.node("MatMul", self.reshaped(x, -1, len(own)), own)
            z = self.node("Add", z, *biases) if biases else z
            z = self.reshaped(z, -1, shape[2], 1, 1)
        else:
            each, groups = weights.ndim == 3, 1
            kernel = weights[None, None] if weights.ndim == 2 else weights[:, :, None] if each else weights
            if weights.ndim == 5:  # the groups' outputs side by side
                groups, kernel = len(weights), np.concatenate(weights, axis=3)
            kernel = kernel.transpose(3, 2, 0, 1)
            high, wide = kernel.shape[2:]
            pads = _padding(rows, high, step.stride), _padding(columns, wide, step.stride)
            z = self.node(
                "Conv",
                x,
                kernel,
                *biases,
                strides=[step.stride] * 2,
                pads=[pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
                group=channels if each else groups,
            )
        return self.node("Relu" if step.relu else "Tanh", z) if step.relu or step.tanh else z

    def _normalize(self, step: Normalize, x: str) -> str:
        z = self.node("Mul", x, step.scale[:, None, None])
        z = self.node("Add", z, step.shift[:, None, None])
        if step.beside is not None:
            z = self.node("Add", z, self._maps(step.beside, self.names[step.beside]))
        return self.node("Relu", z) if step.relu else z

    def _pool(self, step: Pool, x: str) -> str:
        what = "MaxPool" if step.largest else "AveragePool"
        return self.node(what, x, kernel_shape=list(step.window), strides=list(step.window))

    def _shortcut(self, step: Shortcut, x: str) -> str:
        beside = self.names[step.beside]
        return self.node("Concat", x, beside, axis=1) if step.joined else self.node("Add", x, beside)

    def _over_rms(self, x: str, *axes: int) -> str:
        mean = self.node("ReduceMean", self.node("Mul", x, x), axes=list(axes), keepdims=1)
        return self.node("Div", x, self.node("Add", self.node("Sqrt", mean), EPSILON))

    def _rms(self, step: Rms, x: str) -> str:
        return self._over_rms(x, 1, 2, 3)

    def _goodness(self, step: Goodness, x: str) -> str:
        shape, q = self.answer.values[step.source].shape, step.latent.astype(np.float64)
        places = prod(shape[:2])
        over = 1.0 if places == 1 else 1.0 / prod(shape)
        squares = self.total(self.node("Mul", x, x), 2, 3)  # (N, O)
        if step.multiplied:
            own = self.node("MatMul", squares, (q**2 * over).T.astype(np.float32))
        else:
            own = self.node("MatMul", self.total(x, 2, 3), (2 * q * over).T.astype(np.float32))
            own = self.node("Add", own, (places * over * (q**2).sum(axis=1)).astype(np.float32))
            alike = self.node("ReduceSum", squares, np.array([1], np.int64), keepdims=1)
            own = self.node("Add", own, self.node("Mul", alike, np.float32(over)))
        self.goodness = self.node("Add", self.goodness, own) if self.goodness else own
        return x

    def _standardize(self, step: Standardize, x: str) -> str:
        rows, columns, channels = self.answer.values[step.source].shape
        blocks = self.reshaped(x, -1, step.blocks, rows * columns * channels // step.blocks)
        blocks = self.node("Sub", blocks, self.node("ReduceMean", blocks, axes=[2], keepdims=1))
        variance = self.node("ReduceMean", self.node("Mul", blocks, blocks), axes=[2], keepdims=1)
        blocks = self.node("Div", blocks, self.node("Sqrt", self.node("Add", variance, np.float32(1e-5))))
        return self.reshaped(blocks, -1, channels, rows, columns)

    def _blocks(self, step: Blocks, x: str) -> str:
        classes, size = self.answer.classes, self.answer.values[step.source].size
        seen = self.node("Mul", x, x) if step.squared else x
        own = self.node("ReduceMean", self.reshaped(seen, -1, classes, size // classes), axes=[2], keepdims=0)
        self.goodness = self.node("Add", self.goodness, own) if self.goodness else own
        return x

    def _embed(self, step: Embed, x: str) -> str:
        classes, width = self.answer.classes, self.answer.values[step.source].size
        kept, written = np.ones(width, np.float32), np.zeros((classes, width), np.float32)
        kept[:classes], written[np.arange(classes), np.arange(classes)] = 0, step.strength
        seen = self.unscaled(x) if self.answer.values[step.source].kind == "bytes" else x
        rest = self.reshaped(self.node("Mul", seen, kept), -1, 1, width)
        return self._over_rms(self.reshaped(self.node("Add", rest, written), -1, width), 1)

    def _length(self, step: Length, x: str) -> str:
        value = self.answer.values[step.source]
        own = self.total(self.node("Mul", x, x), 1)
        if value.kind == "bits":
            own = self.node("Mul", own, np.float32(step.scale**2))
            root = self.node("Sqrt", self.node("Mul", own, np.float32(1 / value.size)))
            unit = self.node("Div", np.float32(step.scale), self.node("Add", root, EPSILON))
            self.unit = self.reshaped(unit, -1, 1)
        self.goodness = self.node("Add", self.goodness, own) if self.goodness else own
        return x if value.kind == "bits" else self._over_rms(x, 1)


def _patches(step: Local) -> np.ndarray:
    """Indices (P, 9, I) of the inputs that each position reads; P I stands for positions beyond the border."""
    shape = step.shape
    place = np.arange(shape.places)
    found = np.full((shape.places, 9, shape.below), shape.places * shape.below, np.int64)
    for tap in range(9):
        y, x = place // shape.columns + tap // 3 - 1, place % shape.columns + tap % 3 - 1
        inside = (y >= 0) & (y < shape.rows) & (x >= 0) & (x < shape.columns)
        at = (y * shape.columns + x)[inside, None]
        channels = np.arange(shape.below)[None]
        found[inside, tap] = channels * shape.places + at if step.planes else at * shape.below + channels
    return found


def _padding(size: int, taps: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis, such that the output size is the input size over the stride, rounded up."""
    before = (taps - 1) // 2
    return before, max(0, (-(-size // stride) - 1) * stride + taps - size - before)
