"""Import of weights that another program has trained, such as PyTorch: from safetensors or ONNX to a model.

A file has tensors with names, such as ``layers.0.weight`` and ``layers.0.bias``; those with the same first part are a
module. Modules are sorted by name, numbers in them by value, and each operation of the network takes the first module
of its shape that is left. Where the names do not follow the network, the caller gives their beginnings in its order.

Arrays are converted to this package's layout: a convolution is (rows, columns, inputs, outputs), and a linear layer on
feature maps reads them position by position, not channel by channel. A bias before batch norm becomes part of its
running mean, a bias of a shortcut part of its beta. If a file has no batch norm, which exporters merge into
convolutions, the network's changes nothing. Activations, padding and the epsilon of batch norm are those of the network
here: files do not have them.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..data import Dataset
from ..errors import BadRequest, CheckFailed
from ..layers.graph import CONV, DEPTHWISE, NORM, Operation, Program
from ..layers.group import Group
from ..layers.layer import Layer
from ..network import is_local
from ..recipe import Recipe
from ..rules.fit import encoding_of
from .form import form_of, stages_of
from .model import check_size
from .writing import described, write

Shape = tuple[int, ...]
#: the last parts of tensors' names that are understood, and one that is only a count
PARTS, COUNT = ("weight", "bias", "running_mean", "running_var"), "num_batches_tracked"
#: dtypes of tensors in a safetensors file
KINDS = ("F16", "F32", "F64")
#: maximum size of an ONNX file in bytes, as it is read whole
LIMIT = 2**31


@dataclass(eq=False)
class Module:
    """Tensors with the same first part of their names: shapes, functions that read them, and its place in the order.

    The place is the number of its beginning in the order that the caller gave, then the parts of its name.
    """

    name: str
    place: tuple[int, list[tuple[int, str]]]
    shapes: dict[str, Shape] = field(default_factory=dict)
    reads: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)

    def by_letters(self, other: Module) -> bool:
        """Whether only letters, and neither numbers nor the caller, order this module and another one."""
        (first, own), (second, others) = self.place, other.place
        differ = next(((a, b) for a, b in zip(own, others, strict=False) if a != b), None)
        return first == second and differ is not None and differ[0][0] == differ[1][0] == -1

    def array(self, part: str, shape: Shape) -> np.ndarray:
        """A part as float32; zeros if there is none.

        Raises
        ------
        BadRequest
            If it has another shape.
        CheckFailed
            If a number is not finite.
        """
        if part not in self.shapes:
            return np.zeros(shape, np.float32)
        if self.shapes[part] != shape:
            raise BadRequest(f"{self.name}.{part} has shape {list(self.shapes[part])}: {list(shape)} would be right")
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(self.reads[part](), np.float32)
        if not np.isfinite(values).all():
            raise CheckFailed(f"{self.name}.{part} holds numbers that are not finite")
        return values


def load_weights(
    path: str | os.PathLike[str], network: str, dataset: Dataset, out: Path, order: Sequence[str] = (), **fields: Any
) -> dict[str, str]:
    """Convert a file's weights to a model of algorithm ``bp`` with real weights, and write it.

    Parameters
    ----------
    path : path
        A ``.safetensors`` or ``.onnx`` file, which is untrusted.
    network : str
        Fully connected layers or the name of a network.
    dataset : Dataset
        Determines the inputs, their scaling, and the classes.
    out : Path
        The model file.
    order : sequence of str
        Beginnings of modules' names in the network's order.
    **fields
        Further fields of the model's recipe, such as ``normalize``.

    Returns
    -------
    dict of str to str
        For each operation of the network with parameters, the module that it took.

    Raises
    ------
    BadRequest
        If the file is of another kind, or its modules do not fit the network.
    CheckFailed
        If the file is damaged.
    """
    if is_local(network):
        raise BadRequest(f"{network} is locally connected, which other programs are not: choose fc:.. or a name")
    real = {"binary_weights": False, "binary_activations": False, "algorithm": "bp", **fields}
    recipe = Recipe(dataset=dataset.name, network=network, digest=dataset.digest, **real).validated()
    inputs = encoding_of(dataset, str(recipe.normalize))
    [stage] = stages_of(recipe, inputs, dataset.classes, 1)
    left = modules(path, order)
    if told := _unsure(path, left):
        warnings.warn(told, stacklevel=2)
    taken: dict[str, str] = {}
    tensors: dict[str, np.ndarray] = {}
    known = []
    for number, layer in enumerate(stage.layers):
        if isinstance(layer, Group):
            arrays = _group(path, layer, left, taken)
        else:
            arrays = _dense(path, layer, left, taken)
        hashed = hashlib.sha256(arrays[0].data)
        hashed.update(arrays[1].data)
        form = form_of(stage, number)
        tensors[f"layer{number}.weights"] = arrays[0].reshape(form.weights[0])
        tensors[f"layer{number}.bias"] = arrays[1]
        known.append(described(form, {"alpha": 1.0, "scale": 1.0, "digest": hashed.hexdigest()}))
    if left:
        rest = ", ".join(module.name for module in left[:4]) + (" and others" if len(left) > 4 else "")
        raise BadRequest(f"{path} has more than {network} has: {rest}")
    write(out, recipe, dataset, tensors, known)
    return taken


def _unsure(path: Any, found: Sequence[Module]) -> str:
    """A warning about modules of the same shapes whose order is only that of letters; empty if there are none."""
    for n, module in enumerate(found):
        for other in found[n + 1 :]:
            if module.shapes == other.shapes and module.by_letters(other):
                return (
                    f"{path}: {module.name} is taken before {other.name} by the alphabet; if the network has another"
                    " order, give the beginnings of its names with --order"
                )
    return ""


# -- a network's parameters --------------------------------------------------------------------------------------------


def _take(path: Any, left: list[Module], what: str, shapes: Sequence[Shape], part: str = "weight") -> Module:
    """Remove the first module from ``left`` whose part has one of the shapes, and return it."""
    for n, module in enumerate(left):
        if module.shapes.get(part) in shapes:
            return left.pop(n)
    rest = ", ".join(f"{module.name} {list(module.shapes.get('weight', ()))}" for module in left[:4])
    wanted = " or ".join(str(list(shape)) for shape in shapes)
    raise BadRequest(f"{path} has no {what} with {part} {wanted}; {f'left are {rest}' if rest else 'nothing is left'}")


def _dense(path: Any, layer: Layer, left: list[Module], taken: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (O, I) and biases (O,) of a fully connected layer."""
    shape = layer.O, layer.inputs.width
    module = _take(path, left, f"layer {layer.number + 1}", [shape])
    taken[f"layer {layer.number + 1}"] = module.name
    return module.array("weight", shape), module.array("bias", shape[:1])


def _group(path: Any, group: Group, left: list[Module], taken: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and running statistics of a group, as flat arrays."""
    program = group.program
    weights, running = np.zeros(group.size, np.float32), np.zeros(program.statistics, np.float32)
    shifts: dict[int, np.ndarray] = {}  # biases that the network leaves to batch norm, by the value they are added to
    merged = not any("running_mean" in module.shapes for module in left)
    for one in program.operations:
        if not one.weight:
            continue
        name, count = one.name or one.kind, prod(one.weight)
        own = weights[one.at : one.at + one.size]
        if one.kind == NORM:
            width = one.weight[1:]
            zeros, ones = np.zeros(width, np.float32), np.ones(width, np.float32)
            gamma, beta, mean, variance = ones, zeros, zeros, ones - np.float32(one.epsilon)
            if not merged:
                module = _take(path, left, f"batch norm {name}", [width], "running_mean")
                gamma, beta, mean, variance = (module.array(part, width) for part in PARTS)
                taken[name] = module.name
            if variance.min() < 0:
                raise CheckFailed(f"{module.name}.running_var is below 0")
            own[:] = np.concatenate([gamma, beta + (0 if one.shortcut is None else shifts.pop(one.shortcut, 0))])
            running[one.running : one.running + count] = np.concatenate([mean - shifts.pop(one.source, 0), variance])
        else:
            module = _take(path, left, f"{one.kind} {name}", _shapes(one))
            own[:count] = _weight(one, program, module)
            bias = module.array("bias", one.weight[-1:])
            if one.biased:
                own[count:] = bias
            elif "bias" in module.shapes:
                shifts[one.target], without = bias, module.name
            taken[name] = module.name
    if shifts:
        raise BadRequest(f"{path} has a bias where the network has neither bias nor batch norm: {without}")
    return weights, running


def _shapes(one: Operation) -> list[Shape]:
    """The shapes that an operation's weight can have in a file."""
    if one.kind == CONV:
        rows, columns, below, width = one.weight
        return [(width, below, rows, columns)]
    if one.kind == DEPTHWISE:
        return [(one.weight[2], 1, *one.weight[:2])]
    return [(one.weight[1], one.weight[0]), (one.weight[1], one.weight[0], 1, 1)]


def _weight(one: Operation, program: Program, module: Module) -> np.ndarray:
    """The weight of an operation in this package's layout, flat."""
    array = module.array("weight", module.shapes["weight"])
    if one.kind == CONV:
        return array.transpose(2, 3, 1, 0).ravel()
    if one.kind == DEPTHWISE:
        return array[:, 0].transpose(1, 2, 0).ravel()
    rows, columns, channels = program.shapes[one.source]
    if program.shapes[one.target][:2] == (1, 1) and rows * columns > 1:  # flattened feature maps
        array = array.reshape(-1, channels, rows, columns).transpose(0, 2, 3, 1)
    return array.reshape(one.weight[1], one.weight[0]).T.ravel()


# -- files -------------------------------------------------------------------------------------------------------------


def modules(path: str | os.PathLike[str], order: Sequence[str] = ()) -> list[Module]:
    """The modules of a file, sorted; parameters and errors as for :func:`load_weights`."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".safetensors", ".onnx"):
        raise BadRequest(
            f"{path} is neither .safetensors nor .onnx: save the weights as safetensors"
            " (safetensors.torch.save_file(net.state_dict(), path))"
        )
    if not os.path.isfile(path):
        raise BadRequest(f"{path} does not exist")

    def place(owner: str) -> tuple[int, list[tuple[int, str]]]:
        begins = [n for n, first in enumerate(order) if f"{owner}.".startswith(first.rstrip(".") + ".")]
        parts = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", owner) if part]
        return min(begins, default=len(order)), parts

    found: dict[str, Module] = {}
    for name, shape, read in (_safetensors if suffix == ".safetensors" else _onnx)(path):
        owner, _, part = name.rpartition(".")
        if part == COUNT:
            continue
        if part not in PARTS or not prod(shape):
            raise BadRequest(f"{path} has a tensor {name[:60]!r}: names that end in {', '.join(PARTS)} are understood")
        module = found.setdefault(owner, Module(owner, place(owner)))
        module.shapes[part], module.reads[part] = shape, read
    return sorted(found.values(), key=lambda module: module.place)


def _safetensors(path: Any) -> Iterator[tuple[str, Shape, Callable[[], np.ndarray]]]:
    """Names, shapes and readers of the tensors in a safetensors file."""

    def reader(name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with safe_open(path, "numpy") as file:
                array: np.ndarray = file.get_tensor(name)
            return array

        return read

    try:
        check_size(path)
        with safe_open(path, "numpy") as file:
            held = {name: file.get_slice(name) for name in file.keys()}
            shapes = {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in held.items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckFailed(f"{path} is not a safetensors file: {str(error).splitlines()[0]}") from error
    for name, (shape, kind) in shapes.items():
        if kind not in KINDS and not name.endswith(COUNT):
            raise BadRequest(f"{path}: {name[:60]!r} is {kind}: save it as one of {', '.join(KINDS)}")
        yield name, shape, reader(name)


def _onnx(path: Any) -> Iterator[tuple[str, Shape, Callable[[], np.ndarray]]]:
    """The same of the initializers in an ONNX file; weights of matrix products are transposed as PyTorch has them."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise BadRequest(f'ONNX files need onnx ({error}): install it with pip install ".[onnx]"') from error
    if os.path.getsize(path) > LIMIT:
        raise BadRequest(f"{path} has more than {LIMIT:,} bytes: save the weights as safetensors")
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
        yield from _initializers(path, onnx, model.graph)
    except (DecodeError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OSError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise CheckFailed(f"{path} is not an ONNX file with weights: {lines[0]}") from error


def _initializers(path: Any, onnx: Any, graph: Any) -> Iterator[tuple[str, Shape, Callable[[], np.ndarray]]]:
    turned, names = set(), dict[str, str]()
    for node in graph.node:
        own = node.input[1] if node.op_type in ("Conv", "Gemm") else "."
        if "." not in own:  # an exporter's name for what it has merged
            names |= {name: f"{own}.{part}" for name, part in zip(node.input[1:], PARTS, strict=False)}
        straight = {a.name: a.i for a in node.attribute}.get("transB", 0) if node.op_type == "Gemm" else 0
        if node.op_type == "MatMul" or node.op_type == "Gemm" and not straight:
            turned.update(node.input[1:2])
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise BadRequest(f"{path} keeps {str(tensor.name)[:60]!r} in another file: save the weights as safetensors")
        name = names.get(tensor.name, tensor.name)
        if not tensor.dims or "." not in name:  # a constant of the graph
            continue
        if max(tensor.dims) >= LIMIT or min(tensor.dims) < 1:
            raise ValueError(f"{tensor.name[:60]!r} has the shape {list(tensor.dims)[:4]}")
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            array = array.T if tensor.name in turned else array
            yield name, array.shape, partial(np.asarray, array)
