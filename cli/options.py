"""Options shared by several commands, and the types of their values."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

from tinyfoa_np import catalogue, defaults
from tinyfoa_np.architectures import NAMES, units_of
from tinyfoa_np.data import is_files
from tinyfoa_np.data.reading import LISTS, MISSING, Reading
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.network import CONNECTIONS, widths
from tinyfoa_np.papers import presets
from tinyfoa_np.papers.presets import PRESETS
from tinyfoa_np.recipe import (
    LARGEST_LR,
    LR_PER_SIDE,
    MERGES,
    MOMENTS,
    NORMALIZATIONS,
    ONE_VISIT,
    OPTIMIZERS,
    SCHEDULES,
    Recipe,
)
from tinyfoa_np.slices import ORDERS

from .sections import CommandWithSections, names_of

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class Bytes(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of bytes: ``65536``, ``500kB`` (10^3), ``64KiB`` (2^10), ``1.5MiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", value.strip().lower())
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is not a number of bytes like 65536, 500kB, 64KiB or 1.5MiB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(dict)["debug"] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show the traceback of an error.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output and nothing else."
)
data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    help="Search for data here first, then in $TINYFOA_DATA, then in the user's cache directory.",
)


files_option = click.option(
    "--data",
    "files",
    metavar="FILES",
    help="Your own data instead of DATASET: data.csv, data.npz or x.npy,y.npy; after a comma, a test set: "
    "train.csv,test.csv.",
)


#: options for reading your own files: the fields of a Reading
_READING_OPTIONS = (
    click.option(
        "--label",
        metavar="COLUMN",
        help="Own data: the column with the labels, by name or by number from 1. [default: the column named label, "
        "class, target or y, otherwise the last]",
    ),
    click.option(
        "--drop", metavar="COLUMNS", multiple=True, help="Own data: columns to leave out (a,b or several times)."
    ),
    click.option(
        "--keep",
        metavar="COLUMNS",
        multiple=True,
        help="Own data: train on these columns even if they look like times or identifiers, which are left out.",
    ),
    click.option(
        "--one-hot",
        metavar="COLUMNS",
        multiple=True,
        help="Own data: columns of text, or of numbers that are codes; each value becomes an input of 0 or 1.",
    ),
    click.option(
        "--group",
        metavar="COLUMN",
        help="Own data: the person or thing that a sample comes from. One fifth of the groups becomes the test set.",
    ),
    click.option(
        "--time",
        metavar="COLUMN",
        help="Own data: the time of a sample. The last fifth becomes the test set; with --group, of each group.",
    ),
    click.option(
        "--missing",
        type=click.Choice(MISSING),
        help="Own data: refuse missing values, or replace them by the median of the column's training samples. "
        f"[default: {MISSING[0]}]",
    ),
    click.option(
        "--window",
        type=int,
        metavar="N",
        help="Own data: cut a log into samples of N rows, never across groups; the label is the most frequent one.",
    ),
    click.option("--step", type=int, metavar="K", help="With --window: start a sample every K rows. [default: N]"),
    click.option(
        "--header/--no-header",
        default=None,
        help="Own data: whether the first line of a table names the columns. [default: detected]",
    ),
)
max_data_option = click.option(
    "--max-data",
    "max_bytes",
    type=Bytes(),
    metavar="SIZE",
    help="Own data: largest accepted size of a file, on disk and in memory (8GB). [default: 2GiB]",
)


def reading_options(command: Command) -> Command:
    """Add options for reading your own files; absent ones arrive as None or ()."""
    for option in reversed((*_READING_OPTIONS, max_data_option)):
        command = option(command)
    return command


def reading_of(given: dict[str, Any]) -> Reading | None:
    """Remove the options of :func:`reading_options` from the given ones; None if there were none.

    Raises
    ------
    BadRequest
        If they contradict each other.
    """
    names = [field.name for field in fields(Reading)]
    said = {name: value for name in names if (value := given.pop(name, None)) not in (None, ())}
    for name in LISTS:
        if name in said:
            said[name] = tuple(column.strip() for part in said[name] for column in next(csv.reader([part])))
    return Reading(**said).validated() if said else None


def dataset_of(dataset: str | None, files: str | None) -> str | None:
    """The single data set given, as an argument or with --data."""
    if files is not None:
        if dataset is not None:
            raise BadRequest(f"{dataset} and --data {files} both name what to train on: give one of them")
        if not is_files(files):
            raise BadRequest(f"--data is {files!r}: give files that end in .csv, .npz or .npy")
    return files or dataset


def _defaults(field: str) -> str:
    """The algorithms' defaults for a field, as shown in help: 0.001, or tinyfoa, bp 0.0001; ff 0.001."""
    algorithms: dict[str, list[str]] = {}
    for entry in catalogue.algorithms():
        if field in entry.defaults:
            value = entry.defaults[field]
            shown = f"{field if value else f'no-{field}'}" if isinstance(value, bool) else str(value)
            algorithms.setdefault(shown, []).append(entry.name)
    if len(algorithms) == 1:
        [(value, _)] = algorithms.items()
        return f"[default: {value}]"
    return f"[default: {'; '.join(f'{value} with {_listed(names)}' for value, names in algorithms.items())}]"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _rules(wanted: Callable[[catalogue.Algorithm], object]) -> list[str]:
    """Names of the algorithms for which something holds."""
    return [entry.name for entry in catalogue.algorithms() if wanted(entry)]


def _of_schedules() -> str:
    """The algorithms by their schedules, for help: tinyfoa supports slice, stream and frozen; ..."""
    known: dict[tuple[str, ...], list[str]] = {}
    for entry in catalogue.algorithms():
        known.setdefault(entry.schedules, []).append(entry.name)
    others = max(known, key=lambda schedules: len(known[schedules]))
    told = [f"{_listed(names)}: {_listed(list(own))}" for own, names in known.items() if own != others]
    return f"{'; '.join(told)}; all others: {_listed(list(others))}"


#: algorithms that train layers one after another on fully connected networks, and those for graphs of layers
_BY_LAYER = _rules(lambda entry: entry.by_layer)
_OF_GRAPHS = _rules(lambda entry: "graph" in entry.homes)


# The recipe has the defaults. Here an absent option is None, to be distinguished from a given one: a resumed run has
# its own recipe, which the command line may not contradict.
_RECIPE_OPTIONS = (
    click.option(
        "--network",
        metavar="SPEC",
        help="Hidden layers. fc:2000x4: four fully connected layers of 2000; fc:500,300: two layers. lc:16,32 "
        "(tinyfoa, bp, dfa; images): two locally connected layers, 3x3, with 16 and 32 output channels. "
        "conv:32k5,p2,64s2 "
        f"({', '.join(_OF_GRAPHS)}): a 5x5 convolution to 32 channels, 2x2 mean pooling, a 3x3 convolution to 64 "
        "channels with stride 2; m2: max pooling; f500 at the end: a dense layer (not deeperforward, cwcomp). mlp, "
        "cnn: the rules of conv. "
        f"{', '.join(name for name in NAMES if name not in ('mlp', 'cnn'))}: bp, fa, giff; the resnets also "
        f"deeperforward. [default: {Recipe.network}]",
    ),
    click.option(
        "--lc-connect",
        type=click.Choice(CONNECTIONS),
        help="lc networks: whether an output channel reads every input channel, as in the authors' script, or one, as "
        f"the paper's memory counts it. [default: {CONNECTIONS[0]}]",
    ),
    click.option(
        "--algorithm",
        type=click.Choice(catalogue.names()),
        metavar="RULE",
        help=f"Learning rule: {_listed([*catalogue.names()])} (tinyfoa list rules). [default: {Recipe.algorithm}]",
    ),
    click.option(
        "--slices",
        type=int,
        metavar="M",
        help=f"{_listed([*_BY_LAYER, 'bp'])}: divide a layer's weights into an M x M grid of slices, or "
        "those of an lc layer into M groups of output channels. [default: 2, or 1 with --schedule none]",
    ),
    click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        help="slice: one slice trains and is exchanged after each hold (with tinyfoa, only this slice is in RAM); "
        "stream: every slice trains in every step, one at a time in RAM; frozen: all slices but one on the "
        "diagonal train, with the whole layer in RAM; none: all slices train, all in RAM. "
        f"{_of_schedules()}. auto: the first one named for the rule; with tinyfoa and M above 2, each slice has one "
        "turn, diagonal by diagonal, at a learning rate that grows with M. "
        f"[default: {Recipe.schedule}]",
    ),
    click.option(
        "--hold",
        metavar="TIME",
        help="How long a slice trains before the next one takes its place: epochs (1epoch, 3epochs) or batches (500). "
        "[default: 1epoch; with --schedule auto and M above 2, --exchanges M^2 / VISITS]",
    ),
    click.option(
        "--exchanges",
        type=int,
        metavar="F",
        help="Instead of --hold: exchange slices F times per layer, at even intervals.",
    ),
    click.option(
        "--visits",
        type=int,
        metavar="R",
        help=f"{_listed(_BY_LAYER)}, schedule slice: train R slices in every step, one after another in the "
        "RAM of one, from a single forward pass, at the cost of more flash traffic. "
        f"[default: 1; 2 with --schedule auto and M above {ONE_VISIT}]",
    ),
    click.option(
        "--order",
        type=click.Choice(ORDERS),
        help=f"{_listed(_BY_LAYER)}, schedule slice: the order of the slices. rows: one group of neurons after "
        f"another; diagonal: one diagonal of the grid after another. [default: {ORDERS[0]}; {ORDERS[1]} with "
        "--schedule auto and M above 2]",
    ),
    click.option(
        "--epochs",
        type=int,
        metavar="E",
        help=f"Passes over the training samples; with {_listed(_BY_LAYER)}, per layer (through convolutions, for "
        f"all layers together). [default: {Recipe.epochs}]",
    ),
    click.option("--batch", type=int, metavar="B", help=f"Samples per step. [default: {Recipe.batch}]"),
    click.option(
        "--lr",
        type=float,
        metavar="RATE",
        help=f"Learning rate. With tinyfoa, --schedule auto and M above 2: {LR_PER_SIDE} M, at most {LARGEST_LR}, "
        f"divided by --visits. {_defaults('lr')}",
    ),
    click.option(
        "--lr-schedule",
        metavar="SCHEDULE",
        help="How the learning rate changes: constant; drop:60,90 or drop:60%,90%, divided by 10 at each of these "
        "epochs; drop:12,24:0.2, multiplied by 0.2; cooldown, linearly to zero over the second half; cosine, to "
        "zero along half a cosine wave; exponential:0.99, multiplied by 0.99 after every epoch. "
        f"[default: {Recipe.lr_schedule}]",
    ),
    click.option(
        "--optimizer",
        type=click.Choice(OPTIMIZERS),
        help=f"Optimizer; tinyfoa list optimizers has the formulas. {_defaults('optimizer')}",
    ),
    click.option(
        "--moments",
        type=click.Choice(MOMENTS),
        help="Type in which the optimizer's moments are stored: four bytes per value, two or one. "
        f"[default: {Recipe.moments}]",
    ),
    click.option(
        "--normalize",
        type=click.Choice(NORMALIZATIONS),
        help="Scaling of bytes: standard, with the published mean and deviation of the data set; unit, to 0..1. "
        f"{_defaults('normalize')}",
    ),
    click.option(
        "--shuffle/--no-shuffle",
        default=None,
        help=f"Shuffle the training samples once, before they are cut into batches. {_defaults('shuffle')}",
    ),
    click.option(
        "--reshuffle",
        is_flag=True,
        default=None,
        help="Shuffle again in every epoch: the training samples, or the batches if layers train one after another.",
    ),
    click.option(
        "--augment",
        metavar="CHANGES",
        help="Change training images at random in every epoch. Any of flip, crop:4 (pixels, padded with zeros), "
        "shift:3 or shift:10% (padded with the nearest pixels) and rotate:15 (degrees), for example flip,crop:4.",
    ),
    click.option(
        "--binary-weights/--no-binary-weights",
        default=None,
        help="Compute with the signs of the weights, or with the weights themselves. [default: binary-weights]",
    ),
    click.option(
        "--binary-activations/--no-binary-activations",
        default=None,
        help="One bit per hidden output, or a float32. [default: binary-activations]",
    ),
    click.option(
        "--recompute",
        is_flag=True,
        default=None,
        help=f"{_listed(_rules(lambda entry: entry.recompute))}: compute the layers below again for every "
        "batch instead of storing their outputs in flash.",
    ),
    click.option(
        "--freeze",
        metavar="LAYERS",
        help="With --from: hidden layers, or units of a named network, that keep the model's weights, for example 1,2. "
        "[default: all layers train]",
    ),
    click.option(
        "--dropout",
        type=float,
        metavar="SHARE",
        help="Share of the values that is set to 0 in training. pepita, deeperforward: of the hidden outputs; bp on lc "
        f"networks: of the classifier's inputs. [default: {catalogue.find('pepita').defaults['dropout']} with pepita; "
        f"{catalogue.find('bp').lc_defaults['dropout']} with bp]",
    ),
    click.option(
        "--decay",
        type=float,
        metavar="RATE",
        help=f"ff, pepita_tl, pepita_wm, deeperforward: weight decay. {_defaults('decay')}",
    ),
    click.option(
        "--classifier-lr",
        type=float,
        metavar="RATE",
        help=f"ff: learning rate of its linear classifier. {_defaults('classifier_lr')}",
    ),
    click.option(
        "--classifier-decay",
        type=float,
        metavar="RATE",
        help=f"ff: weight decay of its linear classifier. {_defaults('classifier_decay')}",
    ),
    click.option(
        "--label-scale",
        type=float,
        metavar="SIZE",
        help=f"ff: input value that stands for the label. {_defaults('label_scale')}",
    ),
    click.option(
        "--peer", type=float, metavar="WEIGHT", help=f"ff: weight of the peer normalization. {_defaults('peer')}"
    ),
    click.option(
        "--theta",
        type=float,
        metavar="GOODNESS",
        help="giff: threshold that the goodness of right labels is trained to exceed, and of wrong labels to stay "
        "below. [default: 10 with feature maps; with fully connected layers, 0.1 per output of the last]",
    ),
    click.option(
        "--label-width",
        type=int,
        metavar="K",
        help=f"giff: units of the label channel per output channel. {_defaults('label_width')}",
    ),
    click.option(
        "--groups",
        metavar="UNITS",
        help='giff: units of the network that train together, for example "1,2|3". [default: each unit by itself]',
    ),
    click.option(
        "--merge",
        type=click.Choice(MERGES),
        help="giff: how data and label are combined. [default: add for fully connected layers, mul for feature maps]",
    ),
    click.option(
        "--rms/--no-rms",
        default=None,
        help="giff: divide outputs by their root mean square before they are passed on. [default: rms with fully "
        "connected layers]",
    ),
    click.option(
        "--seed",
        type=int,
        metavar="N",
        help=f"Seed of all random numbers; the same seed gives the same model. [default: {Recipe.seed}]",
    ),
    click.option("--limit", type=int, metavar="N", help="Train on the first N samples. [default: all]"),
)


def _own_options() -> list[Callable[[Command], Command]]:
    """The rules' own options; rules with an option of the same name share it."""
    found: dict[str, tuple[catalogue.Option, dict[str, list[str]]]] = {}
    for entry in catalogue.algorithms():
        for name, option in entry.options.items():
            _, lines = found.setdefault(name, (option, {}))
            default = f" [default: {option.default}]" if option.default != "" else ""
            lines.setdefault(option.help + default, []).append(entry.name)
    return [
        click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=click.Choice(option.choices) if option.choices else type(option.default),
            metavar=None if option.choices else "TEXT" if option.pattern else "NUMBER",
            help=" ".join(f"{', '.join(rules)}: {line}" for line, rules in lines.items()),
        )
        for name, (option, lines) in found.items()
    ]


preset_option = click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="paper: the recipe that the authors of the TinyFoA paper ran for this algorithm and data set (MNIST's for "
    "data sets without one). mlperf: MLPerf Tiny's for network resnet8, dscnn or mobilenetv1. authors: the recipe of "
    f"the rule's own authors, for {', '.join(presets.AUTHORS)}. Options given explicitly override it. "
    "[default: the defaults below; for digits and your own data, network, batch, epochs, learning rate, optimizer and "
    "binary or real numbers follow from the data]",
)


start_option = click.option(
    "--from",
    "start",
    metavar="MODEL",
    help="Fine-tune: start from the weights of a run directory or a model.safetensors, with its recipe except for "
    "options given here. Lower layers of the same shape are reused, and the head if the classes are the same. "
    "[default: random weights]",
)


def asked(given: dict[str, Any], preset: str | None, shape: tuple[int, int] | None = None) -> Recipe:
    """Make a validated recipe from the given options, completed by the preset if there is one.

    Parameters
    ----------
    given : dict
        The given options, and the data set.
    preset : str or None
    shape : (int, int), optional
        Numbers of training samples and inputs, if known. Options that were not given then depend on them, unless the
        data set has a published recipe.

    Raises
    ------
    BadRequest
        If the options contradict each other, or there is no such network.
    """
    fields = given
    if preset:
        fields = presets.chosen(preset, given)
    elif shape and defaults.apply(given["dataset"], given.get("network")):
        fields = defaults.completed(given, *shape, own=is_files(given["dataset"]))
    elif given.get("dataset") and not defaults.apply(given["dataset"], given.get("network")):
        fields = defaults.published(given)
    recipe = Recipe().changed(fields).validated()
    # a misspelt network is refused before data are read
    if recipe.deep:
        units_of(recipe.network)
    else:
        widths(recipe.network)
    bits = [name for name in ("binary_weights", "binary_activations") if given.get(name)]
    if (recipe.deep or recipe.rule.real) and bits:
        options = " and ".join("--" + name.replace("_", "-") for name in bits)
        what = f"{recipe.algorithm} on {recipe.network}"
        raise BadRequest(f"{what} has real weights and activations: leave {options} out")
    return recipe


class CommandOfRecipes(CommandWithSections):
    """A command whose help has sections for own data, recipes and the options of single algorithms."""

    @property
    def sections(self) -> dict[str, set[str]]:  # type: ignore[override]
        own = names_of(_own_options())
        return {
            "Own data": names_of((*_READING_OPTIONS, max_data_option, files_option)),
            "Recipe": names_of((preset_option, *_RECIPE_OPTIONS)) - own,
            "Options of one algorithm": own,
        }


def recipe_options(command: Command) -> Command:
    """Add the options of the recipe, shared by all commands that train or plan; absent ones arrive as None."""
    for option in reversed([*_RECIPE_OPTIONS, *_own_options()]):
        command = option(command)
    return command
