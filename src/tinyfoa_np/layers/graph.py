"""Programs: layers as a sequence of operations, with the arrays each reads and writes and the lifetimes of arrays.

A program is built from a chain of layers of :mod:`tinyfoa_np.architectures` for samples of a given shape. Its values
are arrays of activations, numbered from 0 (the input). Its operations run in order for the forward pass, and in reverse
for the errors. The step at the top, between the two, computes the error of the output. The parameters of an operation
train right after it has passed its error on.

    forward 0 ... forward n-1, gradient n, update n, gradient n-1, update n-1, ... gradient 0, update 0

A value is kept from the operation that computes it to the last step that reads it; so is an error. Errors pass through
ReLU, tanh and batch norm in place; the error of a sum is the error of both its terms. Below the lowest parameters there
are no errors. In a program with direct errors, each output of parameters has an error of its own, which comes from
outside and is not sent on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

from ..architectures import Description, Shape, shape_after

CONV, CONNECT, DEPTHWISE, NORM, POOL, LARGEST = "conv", "connect", "depthwise", "norm", "pool", "maxpool"
#: a convolution in groups of channels, through which no errors pass
GROUPED = "grouped"
#: added to the variances of batch norm, unless an operation says otherwise
EPSILON = 1e-5


@dataclass(frozen=True)
class Operation:
    """One step of a program.

    Attributes
    ----------
    kind : str
        ``conv``; ``connect``, a linear layer at every position; ``depthwise``; ``grouped``, a convolution in groups of
        channels; ``norm``, batch norm plus an optional shortcut; ``pool``, by means; ``maxpool``.
    source, target : int
        Numbers of values.
    weight : tuple of int
        Shape of the weights in the kernels' layout; for ``norm`` (2, C): gamma and beta; empty if there are none.
    at : int
        Index of the first weight among the program's parameters; biases follow.
    biased : bool
    running : int
        For ``norm``: index of its running mean and variance among the program's statistics.
    stride : int
    window : (int, int)
        For ``pool`` and ``maxpool``.
    relu, tanh : bool
        The activation, if any.
    shortcut : int or None
        For ``norm``: a value added before the ReLU.
    epsilon : float
        For ``norm``: added to the variances.
    name : str
        Prefix of its parameters, as in :mod:`tinyfoa_np.reference.graph`.
    """

    kind: str
    source: int
    target: int
    weight: tuple[int, ...] = ()
    at: int = 0
    biased: bool = False
    running: int = 0
    stride: int = 1
    window: tuple[int, int] = (1, 1)
    relu: bool = False
    shortcut: int | None = None
    epsilon: float = EPSILON
    name: str = ""
    tanh: bool = False

    @property
    def biases(self) -> int:
        """Number of biases: one per output channel."""
        return self.weight[-1] * (self.weight[0] if self.kind == GROUPED else 1) if self.biased else 0

    @property
    def size(self) -> int:
        """Number of parameters."""
        return prod(self.weight) + self.biases if self.weight else 0

    @property
    def bound(self) -> float:
        """Bound of the uniform initial weights and biases: one over the root of the number of inputs per output."""
        inputs = {DEPTHWISE: self.weight[:2], GROUPED: self.weight[1:-1]}.get(self.kind, self.weight[:-1])
        return 1 / sqrt(prod(inputs))


@dataclass(frozen=True)
class Span:
    """The lifetime of an array of a program: its shape, and the first and last step that need it."""

    shape: Shape
    first: str
    last: str


@dataclass
class Program:
    """The operations of a chain of layers; see the module's documentation.

    Parameters
    ----------
    layers : sequence of descriptions
    shape : (int, int, int)
        Rows, columns and channels of a sample of its input.
    tanh : bool
        Whether outputs of linear layers and convolutions pass tanh instead of ReLU; those of batch norm do not.
    direct : bool
        Whether errors are direct; a program with batch norm has none that are.

    Attributes
    ----------
    shapes : list of (int, int, int)
        Shapes of the values.
    parameters, statistics : int
        Number of trained parameters, and number of running statistics.
    errors : list of Span
        The arrays of errors.
    error_of : dict of int to int
        For each value, the index of the array that holds its error.
    carried : set of int
        Operations that add their error to the array's content.
    """

    layers: Sequence[Description]
    shape: Shape
    tanh: bool = False
    direct: bool = False
    operations: list[Operation] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    parameters: int = 0
    statistics: int = 0

    def __post_init__(self) -> None:
        self.shapes.append(self.shape)
        for number, layer in enumerate(self.layers):
            self._add(layer, f"{number}.")
        self.errors: list[Span] = []
        self.error_of: dict[int, int] = {}
        self.carried: set[int] = set()
        self._plan_errors()

    @property
    def output(self) -> int:
        """The value computed by the last layer."""
        return self.operations[-1].target

    # -- from layers to operations -------------------------------------------------------------------------------------

    def _add(self, layer: Description, name: str) -> None:
        kind, *rest = layer
        source = len(self.shapes) - 1
        if kind in ("pool", "maxpool"):
            how = POOL if kind == "pool" else LARGEST
            self._operation(how, source, shape_after(layer, self.shapes[source]), window=(rest[0], rest[1]))
            return
        below, width = rest[:2]
        if kind in ("dense", "linear"):
            assert prod(self.shapes[source]) == below
            self._operation(
                CONNECT, source, (1, 1, width), (below, width), biased=True, relu=kind == "dense", name=name + "fc"
            )
            return
        stride = rest[2]
        if kind == "conv":
            self._convolve(source, below, width, stride, 3, 3, name + "c", biased=True, relu=True)
        elif kind in ("plain", "biased"):
            about = source, below, width, stride, rest[3], rest[4], name + "c"
            self._convolve(*about, biased=kind == "biased", relu=True)
        elif kind == "normed":
            z = self._convolve(source, below, width, stride, rest[3], rest[4], name + "c")
            self._normalize(z, name + "b1")
        elif kind == "competing":
            z = self._convolve(source, below, width, stride, rest[3], rest[4], name + "c", True, True, rest[5])
            rows, columns, _ = self.shapes[z]
            if rest[6]:
                z = self._operation(LARGEST, z, (rows // 2, columns // 2, width), window=(2, 2))
            self._normalize(z, name + "b1", relu=False, epsilon=1e-4)
        elif kind == "dsconv":
            rows, columns, _ = self.shapes[source]
            shape = (-(-rows // stride), -(-columns // stride), below)
            z = self._operation(DEPTHWISE, source, shape, (3, 3, below), stride=stride, name=name + "dw")
            h = self._normalize(z, name + "b1")
            self._normalize(self._convolve(h, below, width, 1, 1, 1, name + "pw"), name + "b2")
        else:
            h = self._normalize(self._convolve(source, below, width, stride, 3, 3, name + "c1"), name + "b1")
            z = self._convolve(h, width, width, 1, 3, 3, name + "c2")
            same = below == width and stride == 1
            shortcut = source if same else self._convolve(source, below, width, stride, 1, 1, name + "sc")
            self._normalize(z, name + "b2", shortcut)

    def _convolve(
        self,
        source: int,
        below: int,
        width: int,
        stride: int,
        rows: int,
        columns: int,
        name: str,
        biased: bool = False,
        relu: bool = False,
        groups: int = 1,
    ) -> int:
        R, S, _ = self.shapes[source]
        shape = (-(-R // stride), -(-S // stride), width)
        if groups > 1:
            weight: tuple[int, ...] = (groups, rows, columns, below // groups, width // groups)
            return self._operation(GROUPED, source, shape, weight, biased=biased, relu=relu, stride=stride, name=name)
        if rows == columns == stride == 1:
            return self._operation(CONNECT, source, shape, (below, width), biased=biased, relu=relu, name=name)
        weight = rows, columns, below, width
        return self._operation(CONV, source, shape, weight, biased=biased, relu=relu, stride=stride, name=name)

    def _normalize(
        self, source: int, name: str, shortcut: int | None = None, relu: bool = True, epsilon: float = EPSILON
    ) -> int:
        shape = self.shapes[source]
        about = {"running": self.statistics, "relu": relu, "shortcut": shortcut, "epsilon": epsilon, "name": name}
        self.statistics += 2 * shape[2]
        return self._operation(NORM, source, shape, (2, shape[2]), **about)

    def _operation(
        self,
        kind: str,
        source: int,
        shape: Shape,
        weight: tuple[int, ...] = (),
        **about: Any,
    ) -> int:
        """Append an operation, with further fields of it; return the number of its target."""
        target = len(self.shapes)
        self.shapes.append(shape)
        if self.tanh and about.get("relu") and kind != NORM:
            about |= {"relu": False, "tanh": True}
        operation = Operation(kind, source, target, weight, self.parameters, **about)
        self.operations.append(operation)
        self.parameters += operation.size
        return target

    # -- how long arrays are needed ------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[str]:
        """All steps of training, in order."""
        count = len(self.operations)
        back = [f"{phase}:{k}" for k in range(count, -1, -1) for phase in ("gradient", "update")]
        return [f"forward:{k}" for k in range(count)] + back

    def between(self, first: str, last: str) -> list[str]:
        """The steps from one to another, both included."""
        steps = self.steps
        return steps[steps.index(first) : steps.index(last) + 1]

    def value(self, number: int) -> Span:
        """Lifetime of a value in training; the input exists from the first step."""
        reads = [f"forward:{0 if number == 0 else number - 1}"]
        for k, one in enumerate(self.operations):
            if number in (one.source, one.shortcut):
                reads.append(f"forward:{k}")
            if number == one.source and one.kind in (CONV, CONNECT, DEPTHWISE, GROUPED):
                reads.append(f"update:{k}")
            pooled = number == one.source and one.kind == LARGEST and number in self.error_of and not self.direct
            if number == one.source and one.kind == NORM or pooled or number == one.target and (one.relu or one.tanh):
                reads.append(f"gradient:{k}")
        if number == self.output:
            reads.append(f"update:{len(self.operations)}")
        last = max(reads, key=self.steps.index)
        return Span(self.shapes[number], reads[0], last)

    def inference_span(self, number: int) -> list[int]:
        """The operations during which a value is kept when nothing trains."""
        readers = [k for k, one in enumerate(self.operations) if number in (one.source, one.shortcut)]
        begin = 0 if number == 0 else number - 1
        return list(range(begin, max(readers, default=len(self.operations)) + 1))

    def _plan_errors(self) -> None:
        """Assign errors to arrays: the output's exists from the top on; errors are computed in place where possible."""
        count = len(self.operations)
        if self.direct:
            self._plan_direct_errors()
            return
        trained = {0: False}  # whether a value depends on parameters
        for one in self.operations:
            trained[one.target] = bool(one.weight) or trained[one.source]
        spans = [[self.shapes[self.output], f"gradient:{count}", f"gradient:{count}"]]
        self.error_of[self.output] = 0
        for k in reversed(range(count)):
            one = self.operations[k]
            if not trained[one.target]:
                continue
            own = self.error_of[one.target]
            if one.kind == NORM and one.shortcut is None:
                self.error_of[one.source] = own
            elif trained[one.source]:
                if one.shortcut:  # the error of the sum is also that of the shortcut
                    self.error_of[one.shortcut] = own
                if one.source in self.error_of:
                    self.carried.add(k)
                else:
                    self.error_of[one.source] = len(spans)
                    spans.append([self.shapes[one.source], f"gradient:{k}", f"gradient:{k}"])
                spans[self.error_of[one.source]][2] = f"gradient:{k}"
            spans[own][2] = f"update:{k}"
        self.errors = [Span(*span) for span in spans]  # type: ignore[arg-type]

    def _plan_direct_errors(self) -> None:
        """An array for the error of each output of parameters, from the operation's gradient to its update."""
        for k in reversed(range(len(self.operations))):
            one = self.operations[k]
            if one.weight:
                first = f"gradient:{len(self.operations) if one.target == self.output else k}"
                self.error_of[one.target] = len(self.errors)
                self.errors.append(Span(self.shapes[one.target], first, f"update:{k}"))
