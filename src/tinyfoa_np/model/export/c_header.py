"""Export of a trained model as C99 for firmware: constants and one function, without allocation, input or output.

The files form an Arduino library and have a CMake target. The function's body is written from the model's steps
(:mod:`.answers`): one loop per layer, which calls the parts of ``c/parts.c`` that it needs. Values that are not needed
at the same time share a static block, laid out by the planner of the training arena.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from math import prod
from typing import Any

import numpy as np

from ...data import short
from ...ram.packing import Plan, Region, pack
from ..model import Model
from .answers import (
    Answer,
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
    Value,
    answer_of,
)
from .c_text import array, c_string, number, plain

#: files around the function, with names in @ signs to be replaced
_FRAME = "classify.h", "classify.c", "CMakeLists.txt", "library.properties", "classify.ino"


def files(model: Model, limits: np.ndarray | None = None) -> dict[str, bytes]:
    """The files of the library, by path in its directory.

    Parameters
    ----------
    model : Model
    limits : ndarray (L,), optional
        Of a model of ``ff``: an answer stops at the first layer whose largest score is at least this.

    Raises
    ------
    BadRequest
        If the rule does not define the prediction of its networks.
    """
    writer = Writer(model, answer_of(model), limits)
    recipe = model.recipe
    about = {
        "what": f"{recipe.rule.title} on {plain(short(recipe.dataset))}, {plain(recipe.network)}",
        "inputs": str(model.inputs.width),
        "classes": str(model.classes),
        "value": "uint8_t" if model.inputs.kind == "bytes" else "float",
        "constants": f"{writer.constant_bytes:,}",
        "scratch": f"{writer.scratch_bytes:,}",
        "columns": _columns(model),
        "labels": "".join(f"    {c_string(str(label))},\n" for label in model.labels or range(model.classes)),
        "parts": "".join(f"{text}\n\n" for text in _needed("\n".join(writer.lines))),
        "block": writer.block(),
        "body": "\n".join(writer.lines),
    }
    classify_h, classify_c, cmake, properties, sketch = (_filled(name, about) for name in _FRAME)
    constants = [
        f"/* {about['what']}: {about['constants']} bytes of constants. Written by tinyfoa-np. */",
        "#ifndef TINYFOA_MODEL_H",
        "#define TINYFOA_MODEL_H",
        "#include <stdint.h>",
        "",
        *writer.constants,
        "#endif",
        "",
    ]
    return {
        "tinyfoa_model.h": "\n".join(constants).encode("ascii"),
        "tinyfoa_classify.h": classify_h,
        "tinyfoa_classify.c": classify_c,
        "CMakeLists.txt": cmake,
        "library.properties": properties,
        "examples/classify/classify.ino": sketch,
    }


def _columns(model: Model) -> str:
    """Names of the inputs, as lines of a comment."""
    if not model.columns:
        return ""
    named = [f"{n} {plain(name)}" for n, name in enumerate(model.columns)]
    rows = [", ".join(named[start : start + 4]) for start in range(0, len(named), 4)]
    return "\n\n   The inputs are " + ",\n   ".join(rows) + "."


def _filled(name: str, about: dict[str, str]) -> bytes:
    """A file around the function, with @names@ replaced."""
    text = resources.files(__package__).joinpath("c", name).read_text("ascii")
    return re.sub(r"@(\w+)@", lambda found: about[found[1]], text).encode("ascii")


@cache
def _parts() -> dict[str, str]:
    """The available functions by name, in order."""
    text = resources.files(__package__).joinpath("c", "parts.c").read_text("ascii")
    chunks = [chunk.strip("\n") for chunk in text.split("\n\n")[1:]]
    return {re.findall(r"^static \w+ (\w+)\(", chunk, re.MULTILINE)[0]: chunk for chunk in chunks}


def _needed(text: str) -> list[str]:
    """The functions that a text calls, directly or indirectly."""
    wanted: set[str] = set()
    for name, chunk in reversed(_parts().items()):  # a function calls those above it
        if re.search(rf"\b{name}\(", text):
            wanted.add(name)
            text += chunk.partition(name + "(")[2]
    return [chunk for name, chunk in _parts().items() if name in wanted]


class Writer:
    """Writer of the function's body and its constants.

    Attributes
    ----------
    lines, constants : list of str
    constant_bytes : int
    kept : set of int
        Values that are kept for all labels at once: what layers hand on where an answer may stop before the last one.
    """

    def __init__(self, model: Model, answer: Answer, limits: np.ndarray | None = None) -> None:
        self.model, self.answer, self.limits = model, answer, limits
        handed = {step.target for step in answer.steps if isinstance(step, Dense)} - {len(answer.values) - 1}
        self.kept = set() if limits is None else handed
        self.unit = "unit" if limits is None else "units[label]"  # the value of a set bit
        self.lines: list[str] = []
        self.constants: list[str] = []
        self.constant_bytes = 0
        self.plan = self._planned()
        self._write()

    @property
    def scratch_bytes(self) -> int:
        """Bytes of the static block, which is aligned to 8."""
        return -(-self.plan.nbytes // 8) * 8

    # -- where values are ----------------------------------------------------------------------------------------------

    def _planned(self) -> Plan:
        """Plan of the block of values between sample and scores, each kept from its computation to its last use."""
        found = self.answer
        lives: dict[int, list[int]] = {}
        for k, step in enumerate(found.steps):
            for value in (step.source, step.target, getattr(step, "beside", None)):
                if value:
                    lives.setdefault(value, []).append(k)
        last = len(found.values) - 1
        if last and not found.precise:
            lives[last].append(len(found.steps))
        regions = []
        for value, steps in lives.items():
            words = _words(found.values[value]) * (found.classes if value in self.kept else 1)
            phases = tuple(f"evaluate:{k}" for k in range(min(steps), max(steps) + 1))
            regions.append(Region(f"value{value}", (words,), "uint32", phases))
        for k, step in enumerate(found.steps):
            if size := self._beside(step):
                regions.append(Region(f"beside{k}", (size,), "uint32", (f"evaluate:{k}",)))
        return pack(regions, 8)

    def _beside(self, step: Any) -> int:
        """Words of scratch in addition to a step's values: a patch, or sums."""
        if isinstance(step, Local):
            fan_in = step.shape.fan_in
            return -(-fan_in // 32) if self.answer.values[step.source].kind == "bits" else fan_in
        if isinstance(step, Goodness) and prod(self.answer.values[step.source].shape[:2]) > 1:
            return 2 * self.answer.values[step.source].shape[2]
        return 0

    def block(self) -> str:
        """The declaration of the block, as a union of the types of numbers it holds."""
        words, sums = self.scratch_bytes // 4, self.scratch_bytes // 8
        return f"static union {{ uint32_t words[{words}]; float values[{words}]; double sums[{sums}]; }} block;"

    def _at(self, name: str, kind: str) -> str:
        """Pointer to the beginning of a region of the block."""
        offset = self.plan.offsets[name]
        member, size = {"bits": ("words", 4), "signs": ("words", 4), "sums": ("sums", 8)}.get(kind, ("values", 4))
        return f"block.{member} + {offset // size}" if offset else f"block.{member}"

    def _value(self, value: int) -> str:
        if not value:
            return "x"
        own = f" + label * {_words(self.answer.values[value])}" if value in self.kept else ""
        return self._at(f"value{value}", self.answer.values[value].kind) + own

    # -- constants -----------------------------------------------------------------------------------------------------

    def _constant(self, name: str, values: np.ndarray | None) -> str:
        """Declare a constant array; return its name."""
        if values is None:
            return "0"
        kind = {"u": "uint32_t", "f": "float"}[values.dtype.kind] if values.dtype != np.float64 else "double"
        self.constants.append(array(kind, f"tinyfoa_{name}", values) + "\n")
        self.constant_bytes += values.nbytes
        return f"tinyfoa_{name}"

    # -- the function --------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        found = self.answer
        parts = [[f"    {line}" for line in _WRITERS[type(step)](self, k, step)] for k, step in enumerate(found.steps)]
        body = [line for part in parts for line in part]
        if self.limits is not None:
            body = self._stopping(parts)
        elif found.each_label:
            body = self._for_each_label(body)
        text = "\n".join(body)
        counted = [name for name in ("label", "p", "o", "i") if f"for ({name} = " in text]
        if found.precise:
            self.lines.append(f"    double goodness[{found.classes}] = {{0}};")
            ends = f"largest_sum(goodness, {found.classes}, scores);"
        else:
            last = self._value(len(found.values) - 1)
            ends = f"largest({last}, {found.classes}, {number(found.scale)}, scores);"
        self.lines += [f"    int {', '.join(counted)};"] if counted else []
        self.lines += [f"    float {name};" for name in ("z", "unit") if f" {name} = " in text]
        self.lines += [f"    float units[{found.classes}];"] if "units[label] = " in text else []
        self.lines += [*body, f"    return {ends}"]

    def _for_each_label(self, lines: Sequence[str]) -> list[str]:
        loop = f"    for (label = 0; label < {self.answer.classes}; label++) {{"
        return [loop, *(f"    {line}" for line in lines), "    }"]

    def _stopping(self, parts: Sequence[Sequence[str]]) -> list[str]:
        """All labels layer by layer; after each layer but the last, an answer whose largest score is high enough.

        The score of the first layer is left out of the others' sum.
        """
        assert self.limits is not None
        layers: list[list[str]] = [[]]
        for step, lines in zip(self.answer.steps, parts, strict=True):
            layers[-1] += lines
            layers += [[]] if isinstance(step, Length) else []
        body, about = self._for_each_label(layers[0]), f"goodness, {self.answer.classes}"
        for k, (limit, lines) in enumerate(zip(self.limits, layers[1:-1], strict=False)):
            body.append(f"    if (confident({about}, {float(limit)!r})) return largest_sum({about}, scores);")
            again = [] if k else ["    goodness[label] = 0.0;"]
            body += self._for_each_label([*again, *lines])
        return body


def _words(value: Value) -> int:
    return -(-value.size // 32) if value.kind in ("bits", "signs") else value.size


def _scale(writer: Writer, k: int, step: Scale) -> Iterable[str]:
    shift, factor = writer._constant("shift", step.shift), writer._constant("factor", step.factor)
    to, n = writer._value(step.target), writer.answer.values[step.target].size
    return [f"for (o = 0; o < {n}; o++) ({to})[o] = (float)(x[o] - {shift}[o]) * {factor}[o];"]


def _product(writer: Writer, source: str, kind: str, row: str, packed: bool, inputs: int) -> str:
    """The product of a row of weights with the source."""
    about, sums = f"({source}, {row}, {inputs})", f"(float)sum_of_signs({row}, {inputs})"
    if kind == "signs":
        return f"((float)bits_by_signs{about} - 0.5f * {sums})"
    if kind == "bits":
        return f"(float)bits_by_signs{about}" if packed else f"bits_by_reals{about}"
    if kind == "real":
        return f"reals_by_signs{about}" if packed else f"reals_by_reals{about}"
    scale, offset = number(np.float32(writer.model.inputs.scale)), number(np.float32(writer.model.inputs.offset))
    if packed:
        return f"({scale} * (float)bytes_by_signs{about} + {offset} * {sums})"
    return f"bytes_by_reals({source}, {scale}, {offset}, {row}, {inputs})"


def _then(then: str, target: str, at: str) -> str:
    """The activation of z."""
    return {
        "bits": f"put_bit({target}, {at}, z > 0.0f);",
        "signs": f"put_bit({target}, {at}, z >= 0.0f);",
        "sign": f"({target})[{at}] = z >= 0.0f ? 1.0f : -1.0f;",
        "relu": f"({target})[{at}] = z > 0.0f ? z : 0.0f;",
        "tanh": f"({target})[{at}] = (float)tanh_of((double)z);",
        "values": f"({target})[{at}] = z;",
    }[then]


def _dense(writer: Writer, k: int, step: Dense) -> Iterable[str]:
    source, (outputs,) = writer.answer.values[step.source], writer.answer.values[step.target].shape
    weights = writer._constant(f"{'signs' if step.packed else 'weights'}{k}", step.weights)
    bias = "" if step.bias is None else f" + {writer._constant(f'bias{k}', step.bias)}[o]"
    row = f"{weights} + o * {step.weights.shape[1]}"
    product = _product(writer, writer._value(step.source), source.kind, row, step.packed, source.size)
    gained = product if step.gain == 1 else f"{number(step.gain)} * {product}"
    gained = f"{writer.unit} * ({gained})" if step.unit else gained
    return [
        f"for (o = 0; o < {outputs}; o++) {{",
        f"    z = {gained}{bias};",
        f"    {_then(step.then, writer._value(step.target), 'o')}",
        "}",
    ]


def _local(writer: Writer, k: int, step: Local) -> Iterable[str]:
    shape, source = step.shape, writer.answer.values[step.source]
    weights = writer._constant(f"{'signs' if step.packed else 'weights'}{k}", step.weights)
    bias, norm = writer._constant(f"bias{k}", step.bias), writer._constant(f"norm{k}", step.norm)
    patch = writer._at(f"beside{k}", "bits" if source.kind == "bits" else "real")
    full, O = shape.connect == "full", shape.channels
    low, some = ("0", shape.below) if full else (f"o * {shape.below} / {O}", 1)
    steps = (shape.places, 1) if step.planes else (1, shape.below)
    about = f"{writer._value(step.source)}, {shape.rows}, {shape.columns}"
    if source.kind == "bits":
        gather = f"patch_of_bits({about}, {shape.below}, p, {low}, {some}, {patch});"
    elif source.kind == "bytes":
        inputs = writer.model.inputs
        seen = f"{number(np.float32(inputs.scale))}, {number(np.float32(inputs.offset))}"
        gather = f"patch_of_bytes({about}, {steps[0]}, {steps[1]}, {seen}, p, {low}, {some}, {patch});"
    else:
        gather = f"patch_of_reals({about}, {steps[0]}, {steps[1]}, p, {low}, {some}, {patch});"
    row = f"{weights} + (p * {O} + o) * {step.weights.shape[2]}"
    kind = "bits" if source.kind == "bits" else "real"
    product = _product(writer, patch, kind, row, step.packed, shape.fan_in)
    return [
        f"for (p = 0; p < {shape.places}; p++) {{",
        *([f"    {gather}"] if full else []),
        f"    for (o = 0; o < {O}; o++) {{",
        *([] if full else [f"        {gather}"]),
        f"        z = {number(step.gain)} * {product} + {bias}[p * {O} + o];",
        f"        z = {norm}[o] * ((z - {norm}[{O} + o]) * {norm}[{2 * O} + o]) + {norm}[{3 * O} + o];",
        f"        {_then(step.then, writer._value(step.target), f'p * {O} + o')}",
        "    }",
        "}",
    ]


def _means(writer: Writer, k: int, step: Means) -> Iterable[str]:
    kind = "bits" if writer.answer.values[step.source].kind == "bits" else "reals"
    shape = step.shape
    about = f"{shape.rows}, {shape.columns}, {shape.channels}, {step.side}, {number(step.gain)}"
    return [f"means_of_{kind}({writer._value(step.source)}, {about}, {writer._value(step.target)});"]


def _spread(writer: Writer, k: int, step: Spread) -> Iterable[str]:
    shape, source = writer.answer.values[step.target].shape, writer._value(step.source)
    channels = 1 if shape[:2] == (1, 1) else shape[2]
    places, to = prod(shape) // channels, writer._value(step.target)
    value = f"({source})[o * {places} + p]"
    if writer.answer.values[step.source].kind == "bytes":
        value = f"{number(step.scale)} * (float){value} + {number(step.offset)}"
    return [
        f"for (p = 0; p < {places}; p++)",
        f"    for (o = 0; o < {channels}; o++) ({to})[p * {channels} + o] = {value};",
    ]


def _convolve(writer: Writer, k: int, step: Convolve) -> Iterable[str]:
    source, shape = writer.answer.values[step.source], step.weights.shape
    weights, bias = writer._constant(f"weights{k}", step.weights), writer._constant(f"bias{k}", step.bias)
    x, to, relu = writer._value(step.source), writer._value(step.target), int(step.relu)
    then = [f"tanh_of_all({to}, {writer.answer.values[step.target].size});"] if step.tanh else []
    if len(shape) == 2:
        about = f"{x}, {source.size // shape[0]}, {shape[0]}, {weights}, {bias}, {shape[1]}, {relu}, {to}"
        return [f"connect({about});", *then]
    if len(shape) == 3:
        about = f"{x}, {', '.join(map(str, source.shape))}, {weights}, {shape[0]}, {shape[1]}"
        return [f"convolve_each({about}, {step.stride}, {to});"]
    groups, (high, wide, depth, width) = shape[0] if len(shape) == 5 else 1, shape[-4:]
    rows, columns, channels = source.shape
    size, ends = f"{high}, {wide}", f"{step.stride}, {groups * width}, {width}, {relu}"
    about = f"{rows}, {columns}, {channels}, {depth}"
    if groups == 1:
        return [f"convolve({x}, {about}, {weights}, {size}, {bias}, {ends}, {to});", *then]
    own = f"{weights} + p * {high * wide * depth * width}, {size}, {bias} + p * {width}"
    return [
        f"for (p = 0; p < {groups}; p++)",
        f"    convolve({x} + p * {depth}, {about}, {own},",
        f"             {ends}, {to} + p * {width});",
        *then,
    ]


def _normalize(writer: Writer, k: int, step: Normalize) -> Iterable[str]:
    rows, columns, channels = writer.answer.values[step.source].shape
    scale, shift = writer._constant(f"scale{k}", step.scale), writer._constant(f"shift{k}", step.shift)
    beside = "0" if step.beside is None else writer._value(step.beside)
    about = f"{rows * columns}, {channels}, {scale}, {shift}, {beside}, {int(step.relu)}"
    return [f"normalize({writer._value(step.source)}, {about}, {writer._value(step.target)});"]


def _pool(writer: Writer, k: int, step: Pool) -> Iterable[str]:
    shape = ", ".join(map(str, writer.answer.values[step.source].shape))
    about = f"{shape}, {step.window[0]}, {step.window[1]}"
    what = "pool_largest" if step.largest else "pool"
    return [f"{what}({writer._value(step.source)}, {about}, {writer._value(step.target)});"]


def _shortcut(writer: Writer, k: int, step: Shortcut) -> Iterable[str]:
    values, x, beside = writer.answer.values, writer._value(step.source), writer._value(step.beside)
    if not step.joined:
        return [f"for (o = 0; o < {values[step.source].size}; o++) ({x})[o] += ({beside})[o];"]
    (rows, columns, own), (*_, more) = values[step.source].shape, values[step.beside].shape
    to, width = f"({writer._value(step.target)})[p * {own + more} + ", f"{own} + "
    return [
        f"for (p = 0; p < {rows * columns}; p++) {{",
        f"    for (o = 0; o < {own}; o++) {to}o] = ({x})[p * {own} + o];",
        f"    for (o = 0; o < {more}; o++) {to}{width}o] = ({beside})[p * {more} + o];",
        "}",
    ]


def _rms(writer: Writer, k: int, step: Rms) -> Iterable[str]:
    x, n = writer._value(step.source), writer.answer.values[step.source].size
    return [f"unit = over_rms(1.0, sum_of_squares({x}, {n}), {n});", f"for (o = 0; o < {n}; o++) ({x})[o] *= unit;"]


def _goodness(writer: Writer, k: int, step: Goodness) -> Iterable[str]:
    rows, columns, width = writer.answer.values[step.source].shape
    x, q = writer._value(step.source), writer._constant(f"labels{k}", step.latent)
    about = f"{width}, {q}, {len(step.latent)}, {int(step.multiplied)}"
    if rows * columns == 1:
        return [f"add_goodness({x}, {about}, goodness);"]
    sums = writer._at(f"beside{k}", "sums")
    return [f"add_goodness_of_maps({x}, {rows * columns}, {about}, {sums}, goodness);"]


def _standardize(writer: Writer, k: int, step: Standardize) -> Iterable[str]:
    rows, columns, width = writer.answer.values[step.source].shape
    return [f"standardize({writer._value(step.source)}, {rows * columns}, {width}, {step.blocks});"]


def _blocks(writer: Writer, k: int, step: Blocks) -> Iterable[str]:
    rows, columns, width = writer.answer.values[step.source].shape
    about = f"{writer._value(step.source)}, {rows * columns}, {width}, {writer.answer.classes}"
    return [f"add_block_{'squares' if step.squared else 'means'}({about}, goodness);"]


def _embed(writer: Writer, k: int, step: Embed) -> Iterable[str]:
    source, to = writer.answer.values[step.source], writer._value(step.target)
    value, classes, n = f"({writer._value(step.source)})[i]", writer.answer.classes, source.size
    if source.kind == "bytes":
        value = f"{number(step.scale)} * (float){value} + {number(step.offset)}"
    return [
        f"for (i = 0; i < {classes}; i++) ({to})[i] = i == label ? {number(step.strength)} : 0.0f;",
        f"for (i = {classes}; i < {n}; i++) ({to})[i] = {value};",
        f"unit = (float)(sqrt(sum_of_squares({to}, {n}) / {n}) + 1e-8);",
        f"for (i = 0; i < {n}; i++) ({to})[i] /= unit;",
    ]


def _length(writer: Writer, k: int, step: Length) -> Iterable[str]:
    x, value = writer._value(step.source), writer.answer.values[step.source]
    n, ends = value.size, k + 1 == len(writer.answer.steps)
    scale = repr(float(step.scale)) if value.kind == "bits" else "1.0"
    total = f"ones_of({x}, {n}) * {scale} * {scale}" if value.kind == "bits" else f"sum_of_squares({x}, {n})"
    if ends:
        return [f"goodness[label] += {total};"]
    return [
        "{",
        f"    double sum = {total};",
        "    goodness[label] += sum;",
        f"    {writer.unit} = over_rms({scale}, sum, {n});",
        *([] if value.kind == "bits" else [f"    for (i = 0; i < {n}; i++) ({x})[i] *= {writer.unit};"]),
        "}",
    ]


_WRITERS: dict[type, Any] = {
    Scale: _scale,
    Dense: _dense,
    Local: _local,
    Means: _means,
    Spread: _spread,
    Convolve: _convolve,
    Normalize: _normalize,
    Pool: _pool,
    Shortcut: _shortcut,
    Rms: _rms,
    Goodness: _goodness,
    Standardize: _standardize,
    Blocks: _blocks,
    Embed: _embed,
    Length: _length,
}
