"""Layers as the operations they come to: which arrays each reads and writes, and for how long they are needed.

A program is a chain of layers of :mod:`tinyfoa_np.architectures` for samples of one shape. Its values are arrays of
activations, numbered from 0, the input; its operations run in order for the forward pass, and backward for the errors.
Between the two lies the step at the top, in which the error of the output is made. What an operation trains, it trains
right after it has sent its error on.

    forward 0 ... forward n-1, gradient n, update n, gradient n-1, update n-1, ... gradient 0, update 0

A value is needed from the operation that makes it to the last step that reads it; an error likewise. Errors go through
ReLU and batch norm in place; that of a sum is the error of both its terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod, sqrt

from ..architectures import Description, Shape, shape_after

CONV, CONNECT, DEPTHWISE, NORM, POOL = "conv", "connect", "depthwise", "norm", "pool"


@dataclass(frozen=True)
class Operation:
    """One step of a program.

    Attributes
    ----------
    kind : str
        ``conv``; ``connect``, a linear layer at every position; ``depthwise``; ``norm``, batch norm and, if there is
        one, a shortcut; ``pool``.
    source, target : int
        Values.
    weight : tuple of int
        Shape of the weights, as the kernels have them; of ``norm`` (2, C): gamma and beta; empty if there are none.
    at : int
        Where they begin among the program's parameters; biases follow.
    biased : bool
    running : int
        Of ``norm``: where its running mean and variance begin among the program's statistics.
    stride : int
    window : (int, int)
        Of ``pool``.
    relu : bool
    shortcut : int or None
        Of ``norm``: a value that is added before the ReLU.
    name : str
        Of its parameters, as in :mod:`tinyfoa_np.reference.graph`.
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
    name: str = ""

    @property
    def size(self) -> int:
        """Parameters."""
        return prod(self.weight) + (self.weight[-1] if self.biased else 0) if self.weight else 0

    @property
    def bound(self) -> float:
        """Of initial weights and biases, which are uniform: one over the root of the inputs of an output."""
        inputs = self.weight[:-1] if self.kind != DEPTHWISE else self.weight[:2]
        return 1 / sqrt(prod(inputs))


@dataclass(frozen=True)
class Span:
    """An array of a program: the steps in which it is needed, from the first to the last."""

    shape: Shape
    first: str
    last: str


@dataclass
class Program:
    """The operations of a chain of layers; see the module.

    Parameters
    ----------
    layers : sequence of descriptions
    shape : (int, int, int)
        Rows, columns and channels of a sample of its input.
    sends_back : bool
        Whether the error of the input is wanted.

    Attributes
    ----------
    shapes : list of (int, int, int)
        Of the values.
    parameters, statistics : int
        How many numbers train, and how many follow the batches.
    errors : list of Span
        The arrays of errors.
    error_of : dict of int to int
        For each value, in which of them its error is.
    carried : set of int
        Operations that add their error to what is there.
    """

    layers: Sequence[Description]
    shape: Shape
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
        """The value that the last layer makes."""
        return self.operations[-1].target

    # -- from layers to operations -------------------------------------------------------------------------------------

    def _add(self, layer: Description, name: str) -> None:
        kind, *rest = layer
        source = len(self.shapes) - 1
        if kind == "pool":
            self._operation(POOL, source, shape_after(layer, self.shapes[source]), window=(rest[0], rest[1]))
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
        elif kind == "normed":
            z = self._convolve(source, below, width, stride, rest[3], rest[4], name + "c")
            self._normalize(z, name + "b1")
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
    ) -> int:
        R, S, _ = self.shapes[source]
        shape = (-(-R // stride), -(-S // stride), width)
        if rows == columns == stride == 1:
            return self._operation(CONNECT, source, shape, (below, width), biased=biased, relu=relu, name=name)
        weight = (rows, columns, below, width)
        return self._operation(CONV, source, shape, weight, biased=biased, relu=relu, stride=stride, name=name)

    def _normalize(self, source: int, name: str, shortcut: int | None = None) -> int:
        shape = self.shapes[source]
        running = self.statistics
        self.statistics += 2 * shape[2]
        return self._operation(
            NORM, source, shape, (2, shape[2]), running=running, relu=True, shortcut=shortcut, name=name
        )

    def _operation(
        self,
        kind: str,
        source: int,
        shape: Shape,
        weight: tuple[int, ...] = (),
        *,
        biased: bool = False,
        running: int = 0,
        stride: int = 1,
        window: tuple[int, int] = (1, 1),
        relu: bool = False,
        shortcut: int | None = None,
        name: str = "",
    ) -> int:
        target = len(self.shapes)
        self.shapes.append(shape)
        made = Operation(
            kind, source, target, weight, self.parameters, biased, running, stride, window, relu, shortcut, name
        )
        self.operations.append(made)
        self.parameters += made.size
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
        """How long a value is needed in training; the input is there at the first step."""
        reads = [f"forward:{0 if number == 0 else number - 1}"]
        for k, one in enumerate(self.operations):
            if number in (one.source, one.shortcut):
                reads.append(f"forward:{k}")
            if number == one.source and one.kind in (CONV, CONNECT, DEPTHWISE):
                reads.append(f"update:{k}")
            if number == one.source and one.kind == NORM or number == one.target and one.relu:
                reads.append(f"gradient:{k}")
        if number == self.output:
            reads.append(f"update:{len(self.operations)}")
        last = max(reads, key=self.steps.index)
        return Span(self.shapes[number], reads[0], last)

    def looked_at(self, number: int) -> list[int]:
        """The operations during which a value is needed when nothing trains."""
        readers = [k for k, one in enumerate(self.operations) if number in (one.source, one.shortcut)]
        begin = 0 if number == 0 else number - 1
        return list(range(begin, max(readers, default=len(self.operations)) + 1))

    def _plan_errors(self) -> None:
        """Which arrays errors are in: the output's from the top on; in place where it can be."""
        count = len(self.operations)
        spans = [[self.shapes[self.output], f"gradient:{count}", f"gradient:{count}"]]
        self.error_of[self.output] = 0
        for k in reversed(range(count)):
            one = self.operations[k]
            own = self.error_of[one.target]
            if one.kind == NORM and one.shortcut is None:
                self.error_of[one.source] = own
            elif one.source != 0:
                if one.shortcut:  # the error of the sum is that of the shortcut, too
                    self.error_of[one.shortcut] = own
                if one.source in self.error_of:
                    self.carried.add(k)
                else:
                    self.error_of[one.source] = len(spans)
                    spans.append([self.shapes[one.source], f"gradient:{k}", f"gradient:{k}"])
                spans[self.error_of[one.source]][2] = f"gradient:{k}"
            spans[own][2] = f"update:{k}"
        self.errors = [Span(*span) for span in spans]  # type: ignore[arg-type]
