"""The prediction of a trained model as a sequence of steps with numbers, which each export writes in its own language.

Values are numbered in the order of computation; value 0 is the sample. The arithmetic is that of the kernels: each
product is rounded, then scaled, then has its bias added, unless a step says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod, tanh

import numpy as np

from ...architectures import architecture
from ...errors import BadRequest
from ...kernels import conv_norm_pool as map_kernels
from ...kernels import giff as giff_kernels
from ...layers.graph import CONNECT, CONV, DEPTHWISE, GROUPED, LARGEST, NORM, Operation
from ...layers.group import Group
from ...layers.trained import TrainedLayer, input_scales
from ...network import LocalShape, is_local
from ...rules import bp_local, deeperforward
from ...rules.cuts import binary
from ..form import stages_of
from ..model import Model
from .packed import is_packed, signs, unpacked


@dataclass(frozen=True)
class Value:
    """An array between steps: ``bytes``, ``bits`` (0 or 1), ``signs`` (bits that mean -1/2 and 1/2) or ``real``.

    Feature maps are (rows, columns, channels); all others have one axis.
    """

    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class Step:
    """A computation of value ``target`` from value ``source``; if they are the same, it works in place."""

    source: int
    target: int


@dataclass(frozen=True, eq=False)
class Scale(Step):
    """(x - shift) * factor for each input, centred in the precision of ``shift``."""

    shift: np.ndarray
    factor: np.ndarray


@dataclass(frozen=True, eq=False)
class Dense(Step):
    """z = gain (x . w) + bias, followed by an activation.

    ``weights`` are float32 (O, I) or packed signs (O, words). The activation ``then`` is ``bits`` (z > 0), ``signs`` (z
    >= 0 as a bit), ``sign`` (1 or -1), ``relu``, ``tanh`` or ``values``. With ``unit``, gain (x . w) is multiplied by
    the value of a set bit in the row, which the last :class:`Length` computes.
    """

    weights: np.ndarray
    gain: np.float32
    bias: np.ndarray | None
    then: str
    unit: bool = False

    @property
    def packed(self) -> bool:
        return self.weights.dtype == np.uint32

    def rows(self, inputs: int) -> np.ndarray:
        """Weights (O, I), with signs as int8."""
        return unpacked(self.weights, inputs) if self.packed else self.weights


@dataclass(frozen=True, eq=False)
class Local(Step):
    """u = gain (x . w) + bias at each position, v = gamma ((u - mean) inverse) + beta, then v > 0 or max(v, 0).

    ``weights`` are float32 (P, O, F) or packed signs (P, O, words), ``bias`` (P, O). ``planes``: whether the source is
    stored channel by channel, as samples are, rather than position by position.
    """

    shape: LocalShape
    weights: np.ndarray
    gain: np.float32
    bias: np.ndarray
    norm: np.ndarray  # (4, O): gamma, mean, inverse, beta
    then: str
    planes: bool

    @property
    def packed(self) -> bool:
        return self.weights.dtype == np.uint32


@dataclass(frozen=True, eq=False)
class Means(Step):
    """``gain`` times the mean of each channel over ``side`` x ``side`` parts of the image."""

    shape: LocalShape
    side: int
    gain: np.float32


@dataclass(frozen=True, eq=False)
class Spread(Step):
    """Convert a sample, stored channel by channel, to maps: scale x + offset."""

    scale: np.float32
    offset: np.float32


@dataclass(frozen=True, eq=False)
class Convolve(Step):
    """Convolution with weights (K, L, I, O) and a stride; sums begin with the bias, fused.

    Depthwise ones have (K, L, C), those in G groups of channels (G, K, L, I / G, O / G), connections (I, O).
    """

    weights: np.ndarray
    bias: np.ndarray | None
    stride: int
    relu: bool
    tanh: bool = False


@dataclass(frozen=True, eq=False)
class Normalize(Step):
    """x scale + shift + value ``beside`` per channel."""

    scale: np.ndarray
    shift: np.ndarray
    beside: int | None
    relu: bool


@dataclass(frozen=True, eq=False)
class Pool(Step):
    """Means of adjacent windows, or their maxima."""

    window: tuple[int, int]
    largest: bool = False


@dataclass(frozen=True, eq=False)
class Shortcut(Step):
    """Add value ``beside``, in place, or write its channels behind those of the source."""

    beside: int
    joined: bool


@dataclass(frozen=True, eq=False)
class Rms(Step):
    """Divide the whole value by its root mean square, in place."""


@dataclass(frozen=True, eq=False)
class Goodness(Step):
    """Add to the scores the goodness of each label's q (C, O) merged with the source."""

    latent: np.ndarray
    multiplied: bool


@dataclass(frozen=True, eq=False)
class Standardize(Step):
    """(x - mean) / sqrt(variance + 1e-5) of each of ``blocks`` blocks of neighbouring channels, in place."""

    blocks: int


@dataclass(frozen=True, eq=False)
class Blocks(Step):
    """Add to each label's score the mean of its block of neighbouring channels, or of their squares, in float32."""

    squared: bool


@dataclass(frozen=True, eq=False)
class Embed(Step):
    """scale x + offset, with the current label in place of the first C inputs, normalized to root mean square 1."""

    scale: np.float32
    offset: np.float32
    strength: np.float32


@dataclass(frozen=True, eq=False)
class Length(Step):
    """Add the sum of squares to the label's score. Then normalize real values to root mean square 1, in place; for
    bits, compute the value of a set bit instead. ``scale`` is its previous value."""

    scale: float


@dataclass
class Answer:
    """The steps of a prediction.

    Attributes
    ----------
    values : list of Value
    steps : list of Step
    scale : numpy.float32
        Factor of the final scores.
    precise : bool
        Whether the scores are sums in float64, computed by :class:`Goodness`, :class:`Length` and :class:`Blocks`;
        otherwise they are the last value.
    each_label : bool
        Whether all steps are run once per label.
    """

    values: list[Value]
    classes: int
    scale: np.float32
    precise: bool = False
    each_label: bool = False
    steps: list[Step] = field(default_factory=list)

    def add(self, make: Callable[..., Step], kind: str, shape: tuple[int, ...], *about: object) -> int:
        """Append a step from the last value to a new one; return its number."""
        self.values.append(Value(kind, shape))
        last = len(self.values) - 1
        self.steps.append(make(last - 1, last, *about))
        return last

    def change(self, make: Callable[..., Step], *about: object) -> None:
        """Append a step on the last value, which it may change in place."""
        last = len(self.values) - 1
        self.steps.append(make(last, last, *about))


def answer_of(model: Model) -> Answer:
    """The steps of a model's prediction.

    Raises
    ------
    BadRequest
        If the rule does not define the prediction of its networks.
    """
    rule, inputs = model.recipe.rule, model.inputs
    if rule.answers not in _FORMS:
        raise BadRequest(f"algorithm {rule.name} does not say how its networks answer: --to npz holds its arrays")
    found = Answer([Value(inputs.kind, (inputs.width,))], model.classes, np.float32(model.layers[-1].scale))
    if model.affine:
        found.add(Scale, "real", (inputs.width,), *model.affine)
    _FORMS[rule.answers](model, found)
    return found


def _affine(model: Model) -> tuple[np.float32, np.float32]:
    inputs = model.inputs
    scale, offset = (inputs.scale, inputs.offset) if inputs.kind == "bytes" else (1.0, 0.0)
    return np.float32(scale), np.float32(offset)


def _weights(layer: TrainedLayer) -> np.ndarray:
    return signs(layer) if is_packed(layer) else layer.weights


def _dense(found: Answer, layer: TrainedLayer, gain: float, then: str, unit: bool = False) -> None:
    kind = then if then in ("bits", "signs") else "real"
    bias = layer.bias if layer.bias.size else None
    weights, gained = _weights(layer), np.float32(gain * layer.alpha)
    found.add(Dense, kind, (layer.outputs,), weights, gained, bias, then, unit)


def _local(model: Model, found: Answer, number: int, gain: float, then: str) -> None:
    layer = model.layers[number]
    shape, running = layer.shape, layer.running
    assert shape is not None and running is not None
    biases = layer.bias.reshape(-1, shape.channels)  # per position, then gamma and beta
    inverse = (1.0 / np.sqrt(running[1].astype(np.float64) + map_kernels.EPSILON)).astype(np.float32)
    norm = np.stack([biases[-2], running[0], inverse, biases[-1]])
    gained = np.float32(layer.alpha * (gain if number else 1.0))
    about = shape, _weights(layer), gained, biases[:-2], norm, then, number == 0
    found.add(Local, "bits" if then == "bits" else "real", (shape.outputs,), *about)


def _hidden(model: Model) -> str:
    return "bits" if model.recipe.binary_activations else "relu"


def _projected(model: Model, found: Answer) -> None:
    """TinyFoA and Bio-FO: the fixed projection of the last layer's outputs."""
    recipe, layers, bias = model.recipe, model.layers, None
    if recipe.deep:
        for number, group in enumerate(_groups(model, found)):
            _program(model, found, group, number)
        found.add(Convolve, "real", (1, 1, model.classes), *projection(model), 1, False)
        return
    scales = input_scales(layers, recipe.binary_activations)
    for number, (scale, layer) in enumerate(zip(scales, layers, strict=True)):
        if is_local(recipe.network):
            _local(model, found, number, scale, _hidden(model))
        else:
            _dense(found, layer, scale, _hidden(model))
    head, shift = projection(model)
    if shift is not None:
        bias = shift / np.float32(layers[-1].scale or 1.0)
    weights = np.ascontiguousarray(head.T)
    found.add(Dense, "real", (model.classes,), weights, np.float32(1), bias, "values")


def projection(model: Model) -> tuple[np.ndarray, np.ndarray | None]:
    """Projection (O, C) of the last layer, whose logits decide the class, and what is added to these (C,), if anything.

    Of a locally connected layer it is by position.
    """
    last, number, recipe = model.layers[-1], len(model.layers) - 1, model.recipe
    outputs, home = last.shape.outputs if last.shape else last.outputs, recipe.rule.home(recipe.kind)
    rows, shift = np.zeros((outputs, model.classes), np.float32), np.zeros((1, model.classes), np.float32)
    if recipe.deep:
        home.head(rows, shift[0], number, recipe)
        return rows, shift[0]
    home.head_rows(rows, 0, outputs, number, recipe)
    if not last.shape:
        return rows, None
    home.head_rows(shift, outputs, outputs, number, recipe)
    return rows, shift[0]


def _heads(model: Model, found: Answer) -> None:
    """Mono-Forward: each layer has a head, of which the last one is used."""
    if model.recipe.deep:
        for number, group in enumerate(groups := _groups(model, found)):
            _program(model, found, group, number)
        head = model.layers[-1].weights[groups[-1].program.parameters :].reshape(groups[-1].extra)
        found.add(Convolve, "real", (1, 1, model.classes), head, None, 1, False)
        return
    layers = model.layers[::2]
    for scale, layer in zip(input_scales(layers, model.recipe.binary_activations), layers, strict=True):
        _dense(found, layer, scale, _hidden(model))
    _dense(found, model.layers[-1], 1.0, "values")


def _logits(model: Model, found: Answer) -> None:
    """Backpropagation and PEPITA: a classifier on top."""
    recipe, layers = model.recipe, _answering(model)
    if recipe.deep:
        for number, group in enumerate(_groups(model, found)):
            _program(model, found, group, number)
        return
    gain = 1.0
    for number, layer in enumerate(layers[:-1]):
        if layer.shape:
            _local(model, found, number, gain, _hidden(model))
        else:
            _dense(found, layer, gain, _hidden(model))
        gain = layer.scale if recipe.binary_activations else 1.0
    shape = layers[-2].shape if len(layers) > 1 else None
    if shape:
        width = bp_local.SIDE**2 * shape.channels
        found.add(Means, "real", (width,), shape, bp_local.SIDE, np.float32(gain))
        gain = 1.0
    _dense(found, layers[-1], gain, "values")


def _answering(model: Model) -> list[TrainedLayer]:
    """The layers that a prediction reads: not mirrored ones."""
    (stage,) = stages_of(model.recipe, model.inputs, model.classes, 1)
    return model.layers[: len(stage.answering)]


def _targets(model: Model, found: Answer) -> None:
    """DRTP, DFA and FA: hidden layers with tanh or ReLU, or of two values; lc networks as backpropagation's."""
    if is_local(model.recipe.network) or model.recipe.deep:
        _logits(model, found)
        return
    recipe, signed, gain = model.recipe, binary(model.recipe), 1.0
    relu = recipe.options.get("hidden") == "relu"
    tanh_of = "tanh" if not signed else "signs" if recipe.binary_weights else "sign"
    for layer in model.layers[:-1]:
        _dense(found, layer, gain, _hidden(model) if relu else tanh_of)
        gain = layer.scale if relu else tanh(layer.scale) * (2 if recipe.binary_weights else 1)
        gain = gain if signed else 1.0
    _dense(found, model.layers[-1], gain, "sign" if signed else "values")


def _labels(model: Model, found: Answer) -> None:
    """FF: one pass per label, which is written into the inputs."""
    recipe, signed = model.recipe, binary(model.recipe)
    found.precise = found.each_label = True
    hidden = len(model.layers) // 2  # each has a part of the classifier, which is not used here
    strength = np.float32(recipe.label_scale)
    found.add(Embed, "real", (model.inputs.width,), *_affine(model), strength)
    for number, layer in enumerate(model.layers[:hidden]):
        _dense(found, layer, 1.0, "bits" if signed else "relu", signed and number > 0)
        found.change(Length, layer.scale if signed else 1.0)


def _goodness(model: Model, found: Answer) -> None:
    """GIFF: the goodness of every label, summed over groups or of the last group alone."""
    recipe = model.recipe
    found.precise = True
    groups = _groups(model, found)
    for number, group in enumerate(groups):
        if number and recipe.rms:
            found.change(Rms)
        _program(model, found, group, number)
        if recipe.options["answer"] == "last" and number + 1 < len(groups):
            continue
        label = model.layers[number].weights[group.program.parameters :].reshape(group.extra)
        assert recipe.label_width is not None
        latent = np.zeros((model.classes, label.shape[1] // recipe.label_width), np.float32)
        giff_kernels.latent(label[:-1], label[-1], recipe.label_width, latent)
        found.change(Goodness, latent, recipe.merge == "mul")


def _blocks(model: Model, found: Answer) -> None:
    """DeeperForward: the means of the classes' blocks of channels, summed over layers."""
    found.precise = True
    groups = _groups(model, found, copied=True)
    first = min(model.recipe.options["first_layer"], len(groups)) - 1
    (stage,) = stages_of(model.recipe, model.inputs, model.classes, 1)
    assert isinstance(stage, deeperforward.Network)
    kept = 0
    for number, group in enumerate(groups):
        found.change(Standardize, model.classes if number else 1)
        x = len(found.values) - 1
        if number in stage.kept_by:
            if group.apart:
                found.values.append(Value("real", group.program.shape))
            found.steps.append(Shortcut(x, len(found.values) - 1, kept, group.apart))
            x = len(found.values) - 1
        if number in stage.kept_by.values():
            kept = x
            if stage.layout[number].keep == 2:
                rows, columns, channels = group.program.shape
                kept = found.add(Pool, "real", (rows // 2, columns // 2, channels), (2, 2))
        _program(model, found, group, number, x)
        if number >= first:
            found.change(Blocks, False)


def _competing(model: Model, found: Answer) -> None:
    """CwComp: a classifier on top, or the mean squares of the last layer's blocks of channels."""
    _logits(model, found)
    if model.recipe.options["predictor"] == "goodness":
        found.precise = True
        found.change(Blocks, True)


def _groups(model: Model, found: Answer, copied: bool = False) -> list[Group]:
    """The groups of a deep network, after the sample is converted to maps, ``copied`` if these are to be changed."""
    (stage,) = stages_of(model.recipe, model.inputs, model.classes, 1)
    shape = architecture(model.recipe.network, model.inputs.width, model.inputs.image, model.classes).shape
    if copied or model.inputs.kind == "bytes" or shape[2] > 1 and shape[:2] != (1, 1):
        found.add(Spread, "real", shape, *_affine(model))
    else:
        found.values[-1] = Value("real", shape)
    return [group for group in stage.layers if isinstance(group, Group)]


def _program(model: Model, found: Answer, group: Group, number: int, x: int | None = None) -> None:
    """The operations of a group, whose input is value ``x``, the last one if not given."""
    trained, program = model.layers[number], group.program
    first = len(found.values)
    numbers = [first - 1 if x is None else x, *range(first, first + len(program.operations))]
    for one in program.operations:
        found.values.append(Value("real", program.shapes[one.target]))
        found.steps.append(_operation(one, trained, numbers))


def _operation(one: Operation, trained: TrainedLayer, numbers: Sequence[int]) -> Step:
    """An operation as a step; ``numbers`` are those of the program's values."""
    source, target, weights = numbers[one.source], numbers[one.target], parameters(one, trained)
    if one.kind == NORM:
        statistics = np.zeros((4, one.weight[1]), np.float32)
        names = ("gamma", "beta", "mean", "variance")
        map_kernels.running_stats(*(weights[name] for name in names), one.epsilon, statistics)
        beside = None if one.shortcut is None else numbers[one.shortcut]
        scale, shift = statistics[map_kernels.SCALE], statistics[map_kernels.SHIFT]
        return Normalize(source, target, scale, shift, beside, one.relu)
    if one.kind in (CONV, CONNECT, DEPTHWISE, GROUPED):
        return Convolve(source, target, weights["weight"], weights.get("bias"), one.stride, one.relu, one.tanh)
    return Pool(source, target, one.window, one.kind == LARGEST)


def parameters(one: Operation, trained: TrainedLayer) -> dict[str, np.ndarray]:
    """An operation's arrays by name: ``weight`` and ``bias``; of batch norm ``gamma``, ``beta`` and the statistics."""
    count = prod(one.weight)
    if not one.weight:
        return {}
    own = trained.weights[one.at : one.at + count].reshape(one.weight)
    if one.kind == NORM:
        mean, variance = trained.bias[one.running : one.running + count].reshape(2, -1)
        return {"gamma": own[0], "beta": own[1], "mean": mean, "variance": variance}
    biased = {"bias": trained.weights[one.at + count : one.at + one.size]} if one.biased else {}
    return {"weight": own, **biased}


#: functions that build the prediction, by their name in the catalogue
_FORMS: dict[str | None, Callable[[Model, Answer], None]] = {
    "projection": _projected,
    "heads": _heads,
    "logits": _logits,
    "targets": _targets,
    "labels": _labels,
    "goodness": _goodness,
    "blocks": _blocks,
    "competing": _competing,
}
