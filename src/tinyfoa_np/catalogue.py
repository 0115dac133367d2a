"""The algorithms there are: what each is called, which networks it trains, and which fields of a recipe it reads.

The rest of the house asks an entry here and never compares names, so that a rule from another package is trained,
planned, audited and drawn as these are. Such a package names its :class:`Algorithm` in the entry point group
``tinyfoa_np.rules``; docs/extending.md shows one. No NumPy is imported here: help and refusals come at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .architectures import group_text, grouped, vector_width
from .errors import BadRequest

#: where a package names its rules
GROUP = "tinyfoa_np.rules"
#: kinds of networks: fully connected, locally connected, and graphs of layers of any kind
KINDS = ("fc", "lc", "graph")
#: what a recipe trains with unless it says otherwise
DEFAULT = "tinyfoa"


@dataclass(frozen=True)
class Option:
    """A value of a rule that no field of a recipe holds; it is found in ``recipe.options``.

    Attributes
    ----------
    default : int, float or str
        Used if nothing is given; its type is that of every value.
    help : str
        One line for ``--help``.
    least, most : float
        The range of numbers, both included.
    choices : tuple of str
        Of a text, what it may be.
    unsaid : int, float, str or None
        What a recipe means that does not record the option: how the rule worked before it had the option. With it, a
        recipe records other values only.
    """

    default: int | float | str
    help: str
    least: float = 0.0
    most: float = 1e30
    choices: tuple[str, ...] = ()
    unsaid: int | float | str | None = None

    def check(self, name: str, value: Any) -> None:
        """Refuses a value that cannot be."""
        if isinstance(self.default, str):
            if value not in self.choices:
                raise BadRequest(f"{name} is {str(value)[:40]!r}: it must be one of {', '.join(self.choices)}")
            return
        whole = isinstance(self.default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise BadRequest(f"{name} is {str(value)[:40]}: it must be a {'whole ' if whole else ''}number")
        if not self.least <= value <= self.most:
            raise BadRequest(f"{name} is {value:.6g}: it must be from {self.least:g} to {self.most:g}")


@dataclass(frozen=True)
class Algorithm:
    """A learning rule, as everything outside its own files knows it.

    Attributes
    ----------
    name, title : str
        As recipes and commands write it, and as plots print it.
    homes : dict of str to str
        For each kind of network (:data:`KINDS`) that it trains, ``"module:Class"``: the stage, a subclass of
        :class:`tinyfoa_np.rules.stage.Stage`. Without an entry for ``fc``, fully connected networks are trained as
        graphs.
    defaults : dict of str to object
        The recipe fields that are None unless given and have a meaning for this rule, with their defaults.
    lc_defaults : dict of str to object
        What is different on locally connected networks.
    by_network : callable, optional
        From a network's text to further defaults.
    options : dict of str to Option
        The rule's own options.
    schedules : tuple of str
        The first is what ``auto`` becomes.
    by_layer : bool
        Whether layers train one after another, each a stage of its own; otherwise one stage trains them all.
    micro_batches : bool
        Whether a batch may be split without changing the model, where activations are real and no layer needs the
        statistics of a batch. By layer, micro-batches are always possible: they are multiples of 16 samples.
    signs_first : bool
        Whether activations are bits only if the weights are signs.
    full_batches : bool
        Whether a last batch that is not full is left out of the training.
    recompute : bool
        By layer: whether the outputs of trained layers can be computed again in place of being kept in flash.
    normal_start : bool
        Whether hidden weights start normally distributed, and those of a classifier at zero; otherwise all are uniform.
    projected : bool
        Whether the answer is a fixed random projection of the last layer's outputs, made again from the seed.
    exports : tuple of str
        Formats that hold its fully connected networks: keys of :data:`tinyfoa_np.model.export.WRITERS`.
    why_not : str
        Why it does not train graphs of layers, continuing "algorithm NAME ...".
    paper : str or None
        The module of :mod:`tinyfoa_np.papers` that counts its memory in closed form.
    """

    name: str
    title: str
    homes: dict[str, str]
    defaults: dict[str, Any]
    lc_defaults: dict[str, Any] = field(default_factory=dict)
    by_network: Callable[[str], dict[str, Any]] | None = None
    options: dict[str, Option] = field(default_factory=dict)
    schedules: tuple[str, ...] = ("none",)
    by_layer: bool = False
    micro_batches: bool = True
    signs_first: bool = False
    full_batches: bool = False
    recompute: bool = False
    normal_start: bool = False
    projected: bool = False
    exports: tuple[str, ...] = ("npz",)
    why_not: str = "trains no graphs of layers"
    paper: str | None = None

    def checked(self, given: dict[str, Any]) -> dict[str, Any]:
        """The rule's own options, with defaults for those that are not given.

        Raises
        ------
        BadRequest
            If an option is unknown, or its value is of another type or out of its range.
        """
        for name, value in given.items():
            if name not in self.options:
                raise BadRequest(f"{name[:40]} has no meaning for algorithm {self.name}")
            self.options[name].check(name, value)
        return {name: type(option.default)(given.get(name, option.default)) for name, option in self.options.items()}

    def recorded(self, options: dict[str, Any]) -> dict[str, Any]:
        """Of the rule's own options those that a recipe records."""
        known = self.options
        return {name: v for name, v in options.items() if name not in known or known[name].unsaid != v}

    def read_back(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of which :meth:`recorded` left these."""
        unsaid = {name: option.unsaid for name, option in self.options.items() if option.unsaid is not None}
        return {**unsaid, **options}

    def home(self, kind: str) -> Any:
        """The class of the stage that trains a kind of network."""
        module, _, name = self.homes[kind].partition(":")
        return getattr(import_module(module), name)


def _of_goodness(network: str) -> dict[str, Any]:
    """GIFF's defaults: goodness is a sum over the outputs of dense layers, and a mean over feature maps."""
    width = vector_width(network)
    return {
        "groups": group_text(grouped(None, network)),
        "theta": 0.1 * width or 10.0,
        "rms": width > 0,
        "merge": "add" if width else "mul",
    }


_RULES = "tinyfoa_np.rules."
_OWN = (
    Algorithm(
        name="tinyfoa",
        title="TinyFoA",
        homes={"fc": _RULES + "tinyfoa:Layer", "lc": _RULES + "tinyfoa_local:Layer"},
        defaults={"lr": 1e-4, "optimizer": "adam", "normalize": "standard", "shuffle": False},
        lc_defaults={"normalize": "unit"},
        schedules=("slice", "stream", "frozen"),
        by_layer=True,
        recompute=True,
        projected=True,
        exports=("npz", "c-header", "onnx"),
        why_not="trains fully connected layers, in slices",
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="bp",
        title="BP",
        homes={"fc": _RULES + "bp:Network", "lc": _RULES + "bp_local:Network", "graph": _RULES + "bp_graph:Network"},
        defaults={"lr": 1e-4, "optimizer": "adam", "normalize": "unit", "shuffle": False},
        lc_defaults={"dropout": 0.2},
        schedules=("none", "slice", "frozen"),
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="drtp",
        title="DRTP",
        homes={"fc": _RULES + "drtp:Network"},
        defaults={"lr": 1e-4, "optimizer": "nesterov", "normalize": "unit", "shuffle": True},
        signs_first=True,
        why_not="sends errors to fully connected layers only",
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="dfa",
        title="DFA",
        homes={"fc": _RULES + "dfa:Network"},
        defaults={"lr": 1e-4, "optimizer": "nesterov", "normalize": "unit", "shuffle": True},
        signs_first=True,
        why_not="sends the output's error to fully connected layers only",
    ),
    Algorithm(
        name="pepita",
        title="PEPITA",
        homes={"fc": _RULES + "pepita:Network"},
        defaults={"lr": 1e-3, "optimizer": "momentum", "normalize": "unit", "shuffle": False, "dropout": 0.1},
        why_not="modulates the inputs of fully connected layers",
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="ff",
        title="FF",
        homes={"fc": _RULES + "ff:Network"},
        defaults={
            "lr": 1e-3,
            "optimizer": "momentum",
            "normalize": "unit",
            "shuffle": True,
            "decay": 3e-4,
            "classifier_lr": 1e-2,
            "classifier_decay": 3e-3,
            "label_scale": 1.0,
            "peer": 0.03,
        },
        micro_batches=False,
        signs_first=True,
        full_batches=True,
        normal_start=True,
        why_not="writes labels into the inputs of fully connected layers, where a convolution sees them at its border"
        " only",
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="monoforward",
        title="Mono-Forward",
        homes={"fc": _RULES + "monoforward:Layer"},
        defaults={"lr": 1e-3, "optimizer": "adam", "normalize": "standard", "shuffle": True},
        options={"head_lr": Option(1e-3, "learning rate of the heads.", least=1e-9, most=1.0)},
        schedules=("stream", "slice"),
        by_layer=True,
        why_not="trains fully connected layers, each with a head",
    ),
    Algorithm(
        name="biofo",
        title="Bio-FO",
        homes={"fc": _RULES + "biofo:Layer"},
        defaults={"lr": 1e-4, "optimizer": "adam", "normalize": "standard", "shuffle": False},
        options={"head": Option("ternary", "the fixed head: +1, -1 and 0, or normals.", choices=("ternary", "normal"))},
        schedules=("stream", "slice"),
        by_layer=True,
        recompute=True,
        projected=True,
        why_not="trains fully connected layers",
    ),
    Algorithm(
        name="giff",
        title="GIFF",
        homes={"graph": _RULES + "giff:Network"},
        defaults={"lr": 1e-3, "optimizer": "adam", "normalize": "standard", "shuffle": True, "label_width": 1},
        by_network=_of_goodness,
        options={
            "loss": Option(
                "logistic",
                "logistic: each goodness against theta; softmax: cross-entropy over the goodness of labels.",
                choices=("logistic", "softmax"),
                unsaid="logistic",
            ),
            "negatives": Option(
                "random",
                "wrong labels in the loss: a random one, or all.",
                choices=("random", "all"),
                unsaid="random",
            ),
            "answer": Option(
                "sum",
                "whose goodness answers: the sum over the groups, or the last one's.",
                choices=("sum", "last"),
                unsaid="sum",
            ),
        },
    ),
)
_known: dict[str, Algorithm] = {entry.name: entry for entry in _OWN}


def register(algorithm: Algorithm) -> Algorithm:
    """Adds an algorithm to the catalogue, and returns it.

    Raises
    ------
    BadRequest
        If the name is taken by another, or something in the entry cannot be.
    """
    name = algorithm.name
    if _known.get(name, algorithm) is not algorithm:
        raise BadRequest(f"there is an algorithm {name} already: choose another name for this one")
    if not name.isidentifier() or name != name.lower():
        raise BadRequest(f"algorithm {name!r}: its name must be lower-case letters, digits and _")
    if not algorithm.homes or set(algorithm.homes) - set(KINDS):
        raise BadRequest(f"algorithm {name} has homes {sorted(algorithm.homes)}: some of {', '.join(KINDS)} would do")
    if algorithm.options:
        _check_options(algorithm)
    _known[name] = algorithm
    return algorithm


def _check_options(algorithm: Algorithm) -> None:
    """Refuses an option whose name has another meaning already."""
    from .recipe import Recipe  # which looks algorithms up here

    for name, option in algorithm.options.items():
        others = [entry.options[name] for entry in _known.values() if name in entry.options]
        same = all(type(o.default) is type(option.default) and o.choices == option.choices for o in others)
        if not name.isidentifier() or name in Recipe.__dataclass_fields__ or not same:
            raise BadRequest(f"algorithm {algorithm.name} cannot have an option {name!r}: choose another name for it")


@cache
def _strangers() -> dict[str, EntryPoint]:
    """Entry points of other packages' rules, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """All algorithms: this package's, then those that were registered or are installed."""
    return (*_known, *(name for name in sorted(_strangers()) if name not in _known))


def find(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises
    ------
    BadRequest
        If there is none, or its package cannot be imported.
    """
    if name not in _known:
        if name not in _strangers():
            raise BadRequest(f"algorithm is {name[:40]!r}: it must be one of {', '.join(names())}")
        point = _strangers()[name]
        try:
            found = point.load()
        except Exception as error:
            raise BadRequest(f"algorithm {name}: {point.value} cannot be imported: {error}") from error
        if not isinstance(found, Algorithm) or found.name != name:
            raise BadRequest(f"algorithm {name}: {point.value} is not an Algorithm of that name")
        register(found)
    return _known[name]


def algorithms() -> Iterator[Algorithm]:
    """All algorithms that can be imported, in the order of :func:`names`."""
    for name in names():
        try:
            yield find(name)
        except BadRequest:
            if name not in _strangers():
                raise
