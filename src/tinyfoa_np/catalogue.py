"""The catalogue of algorithms: their names, the networks they train, and the recipe fields they read.

The rest of the package uses these entries and never compares names, so that rules of other packages are trained,
planned, audited and drawn in the same way. Such a package registers its :class:`Algorithm` in the entry point group
``tinyfoa_np.rules``; docs/extending.md has an example. NumPy is not imported here, so help and errors are immediate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .architectures import group_text, grouped, vector_width
from .errors import BadRequest

#: entry point group for rules of other packages
GROUP = "tinyfoa_np.rules"
#: kinds of networks: fully connected, locally connected, and graphs of layers of any kind
KINDS = ("fc", "lc", "graph")
#: the default algorithm of a recipe
DEFAULT = "tinyfoa"


@dataclass(frozen=True)
class Option:
    """An option of a rule that is not a field of recipes; its value is in ``recipe.options``.

    Attributes
    ----------
    default : int, float or str
        Default value; its type is the type of all values.
    help : str
        One line for ``--help``.
    least, most : float
        The range of numbers, both included.
    choices : tuple of str
        Possible values of a text.
    pattern, form : str
        Of a text without choices: the regular expression for all of it, and what to write, for messages and ``--help``.
    unsaid : int, float, str or None
        The value meant by a recipe that does not contain the option: the behaviour before the option existed. If set,
        recipes record only other values.
    """

    default: int | float | str
    help: str
    least: float = 0.0
    most: float = 1e30
    choices: tuple[str, ...] = ()
    pattern: str = ""
    form: str = ""
    unsaid: int | float | str | None = None

    def check(self, name: str, value: Any) -> None:
        """Refuse an invalid value."""
        if isinstance(self.default, str):
            if self.pattern and not (isinstance(value, str) and re.fullmatch(self.pattern, value)):
                raise BadRequest(f"{name} is {str(value)[:40]!r}: write {self.form}")
            if self.choices and value not in self.choices:
                raise BadRequest(f"{name} is {str(value)[:40]!r}: it must be one of {', '.join(self.choices)}")
            return
        whole = isinstance(self.default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise BadRequest(f"{name} is {str(value)[:40]}: it must be a {'whole ' if whole else ''}number")
        if not self.least <= value <= self.most:
            raise BadRequest(f"{name} is {value:.6g}: it must be from {self.least:g} to {self.most:g}")


@dataclass(frozen=True)
class Algorithm:
    """A learning rule as seen by the rest of the package.

    Attributes
    ----------
    name, title : str
        The name in recipes and commands, and the name in plots.
    homes : dict of str to str
        For each kind of network (:data:`KINDS`) that it trains, ``"module:Class"``: the stage, a subclass of
        :class:`tinyfoa_np.rules.stage.Stage`. Without an entry for ``fc``, fully connected networks are trained as
        graphs.
    defaults : dict of str to object
        Defaults of the recipe fields that this rule uses and that are None unless given.
    lc_defaults : dict of str to object
        Different defaults for locally connected networks.
    by_network : callable, optional
        Function from a network's text to further defaults.
    options : dict of str to Option
        The rule's own options.
    schedules : tuple of str
        The first one is the meaning of ``auto``.
    by_layer : bool
        Whether layers train one after another, each a stage of its own; otherwise one stage trains them all.
    micro_batches : bool
        Whether a batch may be split without changing the model, if activations are real and no layer needs batch
        statistics. With ``by_layer``, micro-batches are always possible, in multiples of 16 samples.
    signs_first : bool
        Whether activations can be binary only if the weights are.
    real : bool
        Whether weights and activations are always real numbers.
    full_batches : bool
        Whether an incomplete last batch is skipped in training.
    recompute : bool
        With ``by_layer``: whether outputs of trained layers can be recomputed instead of being kept in flash.
    normal_start : bool
        Whether hidden weights start normally distributed and a classifier's at zero; otherwise all start uniform.
    projected : bool
        Whether predictions use a fixed random projection of the last layer's outputs, regenerated from the seed.
    answers : str or None
        Name of its networks' prediction in :mod:`tinyfoa_np.model.export.answers`, for C and ONNX exports; None if
        these are not supported.
    real_defaults : tuple of str
        The fields among ``binary_weights`` and ``binary_activations`` that are off by default for your own data: with
        binary ones the scores are ties of signs, or little is learned. Without ``paper``, also for published data sets.
    why_not : str
        Why it does not train graphs of layers, to continue "algorithm NAME ...".
    graphs : tuple of str
        Which graphs of layers it trains, if any: ``named`` ones, or one of that name, and chains of convolutions
        (``conv``).
    norms : bool
        Whether it trains the batch norm that a network has; otherwise this is left out.
    freezes : bool
        Whether it can train a network whose lower layers keep their weights.
    in_c : bool
        Whether the trainer in C trains its fully connected networks, with binary weights and activations.
    paper : str or None
        The module of :mod:`tinyfoa_np.papers` with closed forms of its memory.
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
    real: bool = False
    full_batches: bool = False
    recompute: bool = False
    normal_start: bool = False
    projected: bool = False
    answers: str | None = None
    real_defaults: tuple[str, ...] = ()
    why_not: str = "trains no graphs of layers"
    graphs: tuple[str, ...] = ("named", "conv")
    norms: bool = True
    freezes: bool = True
    in_c: bool = False
    paper: str | None = None

    def on(self, kind: str) -> Algorithm:
        """The rule on a kind of network: graphs of layers train as one stage, whole, even if layer by layer."""
        if kind != "graph" or not self.by_layer:
            return self
        own = {"schedules": ("none",), "recompute": False, "freezes": False}
        return replace(self, by_layer=False, **own)  # type: ignore[arg-type]

    def checked(self, given: dict[str, Any]) -> dict[str, Any]:
        """Check the rule's own options and fill in defaults.

        Raises
        ------
        BadRequest
            If an option is unknown, or its value has the wrong type or is out of range.
        """
        for name, value in given.items():
            if name not in self.options:
                raise BadRequest(f"{name[:40]} does not apply to algorithm {self.name}")
            self.options[name].check(name, value)
        return {name: type(option.default)(given.get(name, option.default)) for name, option in self.options.items()}

    def recorded(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options that a recipe records."""
        known = self.options
        return {name: v for name, v in options.items() if name not in known or known[name].unsaid != v}

    def read_back(self, options: dict[str, Any]) -> dict[str, Any]:
        """Restore all options from those recorded by :meth:`recorded`."""
        unsaid = {name: option.unsaid for name, option in self.options.items() if option.unsaid is not None}
        return {**unsaid, **options}

    def home(self, kind: str) -> Any:
        """The stage class that trains a kind of network."""
        module, _, name = self.homes[kind].partition(":")
        return getattr(import_module(module), name)


def _of_goodness(network: str) -> dict[str, Any]:
    """GIFF's defaults, as goodness is a sum over the outputs of dense layers, and a mean over feature maps."""
    width = vector_width(network)
    return {
        "groups": group_text(grouped(None, network)),
        "theta": 0.1 * width or 10.0,
        "rms": width > 0,
        "merge": "add" if width else "mul",
    }


#: options of the optimizer ``bop``
_BOP = {
    "gamma": Option(1e-3, "with optimizer bop, how fast moments follow the gradient.", 1e-9, 1.0, unsaid=1e-3),
    "tau": Option(1e-4, "with optimizer bop, the size of a moment beyond which a sign flips.", most=1.0, unsaid=1e-4),
}
#: options of rules that send errors back through fixed matrices
_SENT = {
    "hidden": Option("tanh", "activation function of hidden layers.", choices=("tanh", "relu"), unsaid="tanh"),
    "loss": Option(
        "logistic",
        "logistic: binary cross-entropy of sigmoids; softmax: cross-entropy of their softmax.",
        choices=("logistic", "softmax"),
        unsaid="logistic",
    ),
}
#: defaults of the variants of PEPITA, whose authors share a script
_MODULATED = {
    "lr": 1e-2,
    "optimizer": "momentum",
    "normalize": "unit",
    "shuffle": True,
    "dropout": 0.1,
    "decay": 1e-4,
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
        options=_BOP,
        recompute=True,
        projected=True,
        answers="projection",
        why_not="trains fully connected layers, in slices",
        in_c=True,
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="bp",
        title="BP",
        homes={"fc": _RULES + "bp:Network", "lc": _RULES + "bp_local:Network", "graph": _RULES + "bp_graph:Network"},
        defaults={"lr": 1e-4, "optimizer": "adam", "normalize": "unit", "shuffle": False},
        lc_defaults={"dropout": 0.2},
        options=_BOP,
        schedules=("none", "slice", "frozen"),
        answers="logits",
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="drtp",
        title="DRTP",
        homes={"fc": _RULES + "drtp:Network", "graph": _RULES + "feedback_graph:DRTP"},
        graphs=("cnn", "conv"),
        defaults={"lr": 1e-4, "optimizer": "nesterov", "normalize": "unit", "shuffle": True},
        signs_first=True,
        real_defaults=("binary_weights", "binary_activations"),
        answers="targets",
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="dfa",
        title="DFA",
        homes={
            "fc": _RULES + "dfa:Network",
            "lc": _RULES + "dfa_local:Network",
            "graph": _RULES + "feedback_graph:DFA",
        },
        graphs=("cnn", "conv"),
        defaults={"lr": 1e-3, "optimizer": "adam", "normalize": "unit", "shuffle": True},
        lc_defaults={"dropout": 0.2},
        options={
            "signal": Option(
                "error", "what is sent to the layers: the output's error, or its sign.", choices=("error", "sign")
            ),
            **_SENT,
        },
        answers="targets",
        real_defaults=("binary_activations",),
    ),
    Algorithm(
        name="fa",
        title="FA",
        homes={"fc": _RULES + "fa:Network", "graph": _RULES + "feedback_graph:FA"},
        defaults={"lr": 1e-3, "optimizer": "adam", "normalize": "unit", "shuffle": True},
        options={
            "feedback": Option(
                "masked",
                "with binary activations, whether a layer masks its error before it is sent to the layer below.",
                choices=("masked", "unmasked"),
                unsaid="masked",
            ),
            **_SENT,
        },
        answers="targets",
        real_defaults=("binary_weights", "binary_activations"),
    ),
    Algorithm(
        name="pepita",
        title="PEPITA",
        homes={"fc": _RULES + "pepita:Network"},
        defaults={"lr": 1e-3, "optimizer": "momentum", "normalize": "unit", "shuffle": False, "dropout": 0.1},
        why_not="modulates the inputs of fully connected layers",
        answers="logits",
        real_defaults=("binary_weights", "binary_activations"),
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="pepita_tl",
        title="PEPITA-TL",
        homes={"fc": _RULES + "pepita_tl:Network"},
        defaults=_MODULATED,
        answers="logits",
        micro_batches=False,
        real=True,
        why_not="modulates the inputs of fully connected layers",
    ),
    Algorithm(
        name="pepita_wm",
        title="PEPITA-WM",
        homes={"fc": _RULES + "pepita_wm:Network"},
        defaults=_MODULATED,
        answers="logits",
        options={
            "mirror_lr": Option(0.05, "learning rate of the feedback matrices.", least=1e-9, most=10.0),
            "mirror_decay": Option(1e-3, "weight decay of the feedback matrices.", most=1.0),
            "deviation": Option(0.05, "size of the feedback, relative to sqrt(2 / inputs).", least=1e-6, most=100.0),
        },
        micro_batches=False,
        real=True,
        freezes=False,
        why_not="modulates the inputs of fully connected layers",
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
        options={
            "classifiers": Option(
                "all",
                "softmax classifiers: all, one on the outputs of all layers; each, one per layer on the outputs up to"
                " it, so that evaluate --exit takes one pass.",
                choices=("all", "each"),
                unsaid="all",
            )
        },
        micro_batches=False,
        signs_first=True,
        full_batches=True,
        normal_start=True,
        answers="labels",
        real_defaults=("binary_weights", "binary_activations"),
        why_not="writes labels into the inputs of fully connected layers, where a convolution sees them at its border"
        " only",
        paper="tinyfoa_memory",
    ),
    Algorithm(
        name="monoforward",
        title="Mono-Forward",
        homes={"fc": _RULES + "monoforward:Layer", "graph": _RULES + "monoforward_graph:Network"},
        graphs=("cnn", "conv"),
        defaults={"lr": 1e-3, "optimizer": "adam", "normalize": "standard", "shuffle": True},
        options={"head_lr": Option(1e-3, "learning rate of the heads.", least=1e-9, most=1.0)},
        schedules=("stream", "slice"),
        by_layer=True,
        answers="heads",
        real_defaults=("binary_weights", "binary_activations"),
    ),
    Algorithm(
        name="biofo",
        title="Bio-FO",
        homes={"fc": _RULES + "biofo:Layer", "graph": _RULES + "biofo_graph:Network"},
        graphs=("cnn", "conv"),
        defaults={"lr": 1e-4, "optimizer": "adam", "normalize": "standard", "shuffle": False},
        options={"head": Option("ternary", "the fixed head: +1, -1 and 0, or normals.", choices=("ternary", "normal"))},
        schedules=("stream", "slice"),
        by_layer=True,
        recompute=True,
        projected=True,
        answers="projection",
    ),
    Algorithm(
        name="deeperforward",
        title="DeeperForward",
        homes={"graph": _RULES + "deeperforward:Network"},
        graphs=("cnn", "resnet8", "resnet17", "conv"),
        norms=False,
        freezes=False,
        defaults={
            "lr": 0.02,
            "optimizer": "adam",
            "normalize": "standard",
            "shuffle": True,
            "dropout": 0.0,
            "decay": 5e-4,
        },
        answers="blocks",
        options={"first_layer": Option(2, "lowest layer whose goodness counts in the prediction.", least=1, most=1000)},
    ),
    Algorithm(
        name="cwcomp",
        title="CwComp",
        homes={"graph": _RULES + "cwcomp:Network"},
        graphs=("cnn", "conv"),
        freezes=False,
        micro_batches=False,
        defaults={"lr": 0.01, "optimizer": "adam", "normalize": "standard", "shuffle": True},
        answers="competing",
        options={
            "predictor": Option(
                "softmax",
                "what predicts the class: a softmax layer on the last layer's outputs, or the last layer's goodness.",
                choices=("softmax", "goodness"),
            ),
            "predictor_lr": Option(0.01, "learning rate of the softmax predictor.", least=1e-9, most=1.0),
            "windows": Option(
                "",
                "first and last epoch in which each layer trains, as 1-4|1-6|1-8; all epochs if not given.",
                pattern=r"(\d{1,6}-\d{1,6}(\|\d{1,6}-\d{1,6})*)?",
                form="first and last epoch of each layer, as 1-11|1-16|1-21|1-25",
            ),
        },
    ),
    Algorithm(
        name="giff",
        title="GIFF",
        homes={"graph": _RULES + "giff:Network"},
        defaults={"lr": 1e-3, "optimizer": "adam", "normalize": "standard", "shuffle": True, "label_width": 1},
        by_network=_of_goodness,
        answers="goodness",
        options={
            "loss": Option(
                "logistic",
                "logistic: each goodness against theta; softmax: cross-entropy over the goodness of labels.",
                choices=("logistic", "softmax"),
                unsaid="logistic",
            ),
            "sharpness": Option(
                1.0,
                "factor of the goodness in the softmax loss, one over its temperature.",
                least=1e-3,
                most=1e6,
                unsaid=1.0,
            ),
            "negatives": Option(
                "random",
                "wrong labels in the loss: a random one, or all.",
                choices=("random", "all"),
                unsaid="random",
            ),
            "answer": Option(
                "sum",
                "goodness that predicts the class: the sum over the groups, or that of the last group.",
                choices=("sum", "last"),
                unsaid="sum",
            ),
        },
    ),
)
_known: dict[str, Algorithm] = {entry.name: entry for entry in _OWN}


def register(algorithm: Algorithm) -> Algorithm:
    """Add an algorithm to the catalogue, and return it.

    Raises
    ------
    BadRequest
        If the name is already in use, or the entry is invalid.
    """
    name = algorithm.name
    if _known.get(name, algorithm) is not algorithm:
        raise BadRequest(f"there is an algorithm {name} already: choose another name for this one")
    if not name.isidentifier() or name != name.lower():
        raise BadRequest(f"algorithm {name!r}: its name must be lower-case letters, digits and _")
    if not algorithm.homes or set(algorithm.homes) - set(KINDS):
        raise BadRequest(
            f"algorithm {name} has homes {sorted(algorithm.homes)}: some of {', '.join(KINDS)} are possible"
        )
    if algorithm.options:
        _check_options(algorithm)
    _known[name] = algorithm
    return algorithm


def _check_options(algorithm: Algorithm) -> None:
    """Refuse an option whose name has another meaning."""
    from .recipe import Recipe  # which imports this module

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
    """Names of all algorithms: this package's, then registered and installed ones."""
    return (*_known, *(name for name in sorted(_strangers()) if name not in _known))


def find(name: str) -> Algorithm:
    """Find an algorithm by name.

    Raises
    ------
    BadRequest
        If there is no such algorithm, or its package cannot be imported.
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
