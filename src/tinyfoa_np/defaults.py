"""Defaults that depend on the data: network, batch, epochs and learning rate of a training without options.

The published recipes are made for MNIST: with 60,000 samples and 100 epochs, a rate of 1e-4 moves every weight far
enough; with 150 samples no sign would change. One rule covers all other data. With N training samples, I inputs and
layers of M x M slices:

    network   fc:300 for fewer than 200 samples (GIFF: fc:300x2), fc:300x2 for fewer than 1,000, else fc:500x2
    batch     N / 100, between 20 and 100
    epochs    enough for :data:`STEPS` steps, between 20 and 100
    lr        3 over the number of steps in which a slice trains, at most 0.01, if slices train one at a time;
              otherwise the algorithm's rate in :data:`RATES`, decreasing to zero over the second half
    bits      on your own data, in fully connected networks: activations are real, and weights, too, if
              I < :data:`FEW_INPUTS` or N < :data:`PER_INPUT` I, or where the catalogue's entry says so
              (``real_defaults``); on digits and in other networks as the entry says
    wide      with more inputs than samples, real weights, and a rate in :data:`WIDE_LR`: momentum at that rate
    images    networks with convolutions: :data:`GRAPH_RATES`, batch 10; then :data:`NORMED` or :data:`UNNORMED`

A neuron with signs for weights sees only the directions of a cube's corners: few if there are few inputs, and with few
samples in many inputs most of them follow noise.

Adam moves all weights at about the same speed, also those of inputs that tell little. With fewer samples than inputs,
this fits noise; steps of momentum are in proportion to the gradient.

GIFF's goodness is a mean over all outputs, so the scores of all labels are nearly the same at first. The sharpness, and
many small steps, end this plateau early.

The learning rate for slices is derived as follows: a step of Adam is about lr, weights begin within 1 / sqrt(I) and end
within 1, so the rate times the number of steps determines how many signs can change. Explicit options are kept, and
the others follow from them. docs/data.md shows the results of the rule.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from . import catalogue
from .architectures import batch_normed, convolutional
from .data import is_files
from .network import is_local
from .recipe import Recipe

#: number of steps to aim for, range of epochs, and range of samples per step
STEPS, EPOCHS, BATCH = 4000, (20, 100), (20, 100)
#: maximum total movement of a slice's weights, and maximum learning rate
TRAVEL, LARGEST_LR = 3.0, 0.01
#: the default network, and smaller ones below these numbers of samples, for which larger ones train less steadily
NETWORK, SMALLER = "fc:500x2", ((200, "fc:300"), (1000, "fc:300x2"))
#: the same for algorithms that learn little with a single layer
SMALLER_OF = {"giff": SMALLER[1:]}
#: weights and activations are real for fewer inputs than this, or fewer samples per input than this
FEW_INPUTS, PER_INPUT = 64, 5
#: learning rates of momentum for more inputs than samples
WIDE_LR = {"tinyfoa": 0.03, "bp": 0.03}
#: learning rates if all weights train in every step, and those of networks with convolutions
RATES = {
    "tinyfoa": 3e-3,
    "biofo": 3e-3,
    "monoforward": 1e-3,
    "bp": 1e-3,
    "dfa": 1e-3,
    "drtp": 1e-2,
    "fa": 1e-3,
    "pepita": 3e-2,
    "ff": 1e-2,
    "deeperforward": 1e-3,
    "cwcomp": 5e-3,
    "giff": 1e-3,
}
GRAPH_RATES = {
    "bp": 4e-3,
    "fa": 4e-3,
    "dfa": 4e-3,
    "drtp": 1e-2,
    "biofo": 3e-3,
    "deeperforward": 2e-2,
    "cwcomp": 5e-3,
    "giff": 4e-3,
}
#: samples per step for networks with convolutions, whose steps take longer than Python's overhead
GRAPH_BATCH = 10
_SOFTMAX = {"loss": "softmax", "negatives": "all", "answer": "last"}
#: further fields and options for networks with batch norm, and for convolutions without it, which allow small batches
NORMED: dict[str, dict[str, Any]] = {"giff": {"rms": True, "options": _SOFTMAX}}
UNNORMED: dict[str, dict[str, Any]] = {
    "giff": {
        "rms": True,
        "batch": 2,
        "lr": 2e-3,
        "lr_schedule": "cosine",
        "options": {**_SOFTMAX, "sharpness": 32.0},
    },
}
#: fields determined by the rule, in display order
CHOSEN = ("network", "batch", "epochs", "optimizer", "lr", "lr_schedule", "binary_weights", "binary_activations")


def apply(dataset: str, network: str | None) -> bool:
    """Whether the rule applies: to your own files and scikit-learn's digits, but not to published data sets, which use
    the paper's recipe; and to every network with convolutions, as that paper did not train any."""
    return is_files(dataset) or dataset == "digits" or convolutional(network or NETWORK)


def completed(given: dict[str, Any], samples: int, inputs: int, own: bool = True) -> dict[str, Any]:
    """Complete the given fields of a recipe.

    Parameters
    ----------
    given : dict
        Explicitly chosen fields of a recipe; others are absent or None.
    samples, inputs : int
        N and I of the training set.
    own : bool
        Whether the samples are your own; they are then standardized, and shuffled before they are divided into batches.

    Returns
    -------
    dict
        The given fields, and those of :data:`CHOSEN` that were not given.

    Examples
    --------
    >>> chosen = completed({"dataset": "iris.csv", "batch": 25}, samples=120, inputs=4)
    >>> chosen["network"], chosen["batch"], chosen["epochs"], chosen["lr"]
    ('fc:300', 25, 100, 0.01)
    >>> completed({"algorithm": "bp"}, samples=50_000, inputs=30)["lr"]
    0.001
    """
    known = {name: value for name, value in given.items() if value is not None}
    samples = max(1, min(samples, known.get("limit", samples)))
    usual = {"normalize": "standard", "shuffle": True} if own else {}
    algorithm = known.get("algorithm") or catalogue.DEFAULT
    fits = SMALLER_OF.get(algorithm, SMALLER)
    network = next((smaller for below, smaller in fits if samples < below), NETWORK)
    fields: dict[str, Any] = {"network": network, **usual, **known}
    convolutions = convolutional(fields["network"])
    if convolutions:
        of_graphs = NORMED if batch_normed(fields["network"]) else UNNORMED
        fields = _with(fields, of_graphs.get(algorithm, {}))
    least, most = BATCH
    fields.setdefault("batch", GRAPH_BATCH if convolutions else min(max(samples // 100, least), most))
    batches = ceil(samples / max(1, fields["batch"]))  # the recipe refuses values out of range
    least, most = EPOCHS
    fields.setdefault("epochs", min(max(ceil(STEPS / batches), least), most))
    entry, schedule = catalogue.find(algorithm), fields.get("schedule", "auto")
    for name in _real(entry, fields, samples, inputs, own):
        fields.setdefault(name, False)
    real = own and not convolutions and not is_local(fields["network"]) and fields.get("binary_weights") is False
    wide = WIDE_LR.get(algorithm) if real and inputs > samples else None
    if wide and not {"lr", "optimizer"} & fields.keys():
        fields.update(optimizer="momentum", lr=wide)
    if entry.by_layer and (entry.schedules[0] if schedule == "auto" else schedule) == "slice":
        side = fields.setdefault("slices", 1 if inputs == 1 else 2)
        turns = (side if is_local(fields["network"]) else side**2) / max(1, fields.get("visits", 1))
        fields.setdefault("lr", min(LARGEST_LR, TRAVEL * turns / (max(1, fields["epochs"]) * batches)))
        return fields
    rates = GRAPH_RATES if convolutions else RATES
    if "lr" not in fields and rates.get(algorithm):
        fields.setdefault("lr_schedule", "cooldown")
        fields["lr"] = rates[algorithm]
    return fields


def _real(entry: catalogue.Algorithm, fields: dict[str, Any], samples: int, inputs: int, own: bool) -> tuple[str, ...]:
    """The fields among ``binary_weights`` and ``binary_activations`` that are off unless they are given."""
    if is_local(fields["network"]):
        return tuple(name for name in entry.real_defaults if name == "binary_weights")
    if entry.signs_first and fields.get("binary_activations"):
        return ()  # signs of outputs need signs of weights
    if not own:
        return entry.real_defaults
    if fields.get("optimizer") == "bop":
        return ("binary_activations",)  # it trains signs
    if inputs < FEW_INPUTS or samples < PER_INPUT * inputs:
        return "binary_weights", "binary_activations"
    return entry.real_defaults or ("binary_activations",)


def published(given: dict[str, Any]) -> dict[str, Any]:
    """Complete the given fields of a recipe for a published data set.

    The recipes of TinyFoA's paper have binary weights and activations. An algorithm that is not in that paper has real
    ones where it learns little with binary ones, as in its own publication.
    """
    entry = catalogue.find(given.get("algorithm") or catalogue.DEFAULT)
    real = dict.fromkeys(entry.real_defaults if entry.paper is None else (), False)
    return {**real, **{name: value for name, value in given.items() if value is not None}}


def _with(given: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The given fields and options, completed by the usual ones; a command has options among the fields."""
    fields, options = {**usual, **given}, {**usual.get("options", {}), **given.get("options", {})}
    if "options" in given:
        return {**fields, "options": options}
    fields.pop("options", None)
    return {**options, **fields}


def described(recipe: Recipe, given: dict[str, Any]) -> str:
    """The fields chosen by the rule for a recipe, in one line; empty if it does not apply, or all fields were given."""
    if not apply(recipe.dataset, recipe.network):
        return ""
    chosen = {name: getattr(recipe, name) for name in CHOSEN if given.get(name) is None}
    usual = {"lr_schedule": Recipe.lr_schedule, "binary_weights": True, "binary_activations": True}
    usual["optimizer"] = recipe.rule.defaults.get("optimizer", Recipe.optimizer)
    if recipe.deep:  # all are real
        usual.update(binary_weights=False, binary_activations=False)
    return ", ".join(_shown(name, value) for name, value in chosen.items() if (name, value) not in usual.items())


def _shown(name: str, value: object) -> str:
    if name.startswith("binary_"):
        return name.replace("binary_", "real ")
    return f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
