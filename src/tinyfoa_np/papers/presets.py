"""Published recipes: the settings of the authors' scripts for each system of the TinyFoA paper, by data set.

All use batch 100 and 100 epochs (per layer with TinyFoA), and four hidden layers of 2000 (three for PEPITA).

======= ========================================= ========================================================
system  optimizer                                 the rest
======= ========================================= ========================================================
tinyfoa Adam 1e-4                                 vertical: one of 2 x 2 slices trains for an epoch
bp      Adam 1e-4                                 vertical: all but a diagonal slice train (``frozen``)
drtp    Nesterov 0.9, 1e-4                        shuffled
pepita  momentum 0.9, 1e-3 (MNIST with binary     a tenth of the learning rate from epoch 60, a hundredth
        activations 5e-4, MIT-BIH 1e-4)           from 90; dropout 0.1
ff      momentum 0.9, 1e-3 (CIFAR-10 with both    shuffled; both learning rates go down to 0 over the second
        toggles 1e-4), weight decay 3e-4;         half; peer normalization 0.03; labels written as 1 into the
        classifier 1e-2 and 3e-3                  inputs, on CIFAR as 5
======= ========================================= ========================================================

Locally connected networks (Table 3, MNIST): lc:16,32,64,64, 200 epochs (per layer with TinyFoA), inputs from 0 to 1,
groups of output channels instead of slices; BP has dropout 0.2 before its classifier.

TinyFoA's vertical training follows the paper's text, not the authors' script (which is ``frozen``). Without it the
whole layer trains, which is ``stream`` with one slice. Inputs on MNIST are bytes scaled to 0 to 1, standardized for
TinyFoA; on CIFAR they are (x - 0.5) / 0.5 for all. MIT-BIH is used as it is, and shuffled for TinyFoA.

One setting cannot be expressed in a recipe and therefore differs: DRTP and FF standardize each colour channel of
CIFAR-10.

MLPerf Tiny (benchmark/training of github.com/mlcommons/tiny) trains with Adam, reshuffled in every epoch:

=========== ======================== ====== ===== ===================================== ================================
network     data                     epochs batch learning rate                         images
=========== ======================== ====== ===== ===================================== ================================
resnet8     CIFAR-10                 500    32    0.001 x 0.99^epoch                    mirrored, shifted by up to 10 %,
                                                                                        rotated by up to 15 degrees
dscnn       speech commands, MFCC    36     100   0.0005, a fifth of it from epoch 12   as they are
                                                  and again from 24
mobilenetv1 visual wake words        50     32    0.001, a half of it from epoch 20     mirrored, shifted by up to 5 %,
                                                  and again from 30                     rotated by up to 10 degrees
=========== ======================== ====== ===== ===================================== ================================

The numbers are those of ``image_classification/train.py``, ``keyword_spotting/kws_util.py`` and
``visual_wake_words/train_vww.py``. Some settings differ here: no weight decay (1e-4) and no dropout; pixels of CIFAR-10
are scaled to 0 to 1, not 0 to 255; noise is not added to speech, whose features are standardized; images of visual wake
words are not zoomed, none is kept for validation, and Adam is not reset when the learning rate falls.

Other rules train as their own authors' code does by default (:data:`AUTHORS`), with real weights and activations. Some
settings differ here, too: DeeperForward's rate ends at 0 instead of a tenth and its answering layers are not chosen by
held-out samples; PEPITA-TL's feedback is not the product of a matrix per layer.
"""

from __future__ import annotations

from typing import Any

from ..catalogue import find
from ..errors import BadRequest
from ..network import is_local
from ..recipe import Recipe

#: systems whose published baseline has real weights and activations; with binary ones they do not learn
BASELINES = {"ff"}
#: systems run by TinyFoA's authors
SYSTEMS = ("tinyfoa", "bp", "drtp", "pepita", "ff")
PRESETS = ("paper", "mlperf", "authors")
LOCAL_NETWORK = "lc:16,32,64,64"
#: the data set whose recipe is used for data sets without a published recipe
USUAL = "mnist"
#: data sets with a published recipe
_PUBLISHED = {name: name for name in ("mnist", "cifar10", "cifar100", "mitbih")}
#: fields of MLPerf Tiny's recipes, by network
MLPERF: dict[str, dict[str, Any]] = {
    "resnet8": {
        "epochs": 500,
        "batch": 32,
        "lr": 1e-3,
        "lr_schedule": "exponential:0.99",
        "normalize": "unit",
        "augment": "flip,shift:10%,rotate:15",
    },
    "dscnn": {"epochs": 36, "batch": 100, "lr": 5e-4, "lr_schedule": "drop:12,24:0.2", "normalize": "standard"},
    "mobilenetv1": {
        "epochs": 50,
        "batch": 32,
        "lr": 1e-3,
        "lr_schedule": "drop:20,30:0.5",
        "normalize": "unit",
        "augment": "flip,shift:5%,rotate:10",
    },
}
_REAL = {"binary_weights": False, "binary_activations": False}
_FEEDBACK = {"network": "fc:500x2", "epochs": 100, "batch": 100, "lr": 1e-4, "optimizer": "nesterov", **_REAL}
#: fields of the recipes of other rules' authors, for MNIST
AUTHORS: dict[str, dict[str, Any]] = {
    "fa": _FEEDBACK,
    "dfa": _FEEDBACK,
    "pepita_tl": {"network": "fc:1024", "epochs": 100, "batch": 64, "lr_schedule": "drop:60,90:0.1"},
    "biofo": {"network": "fc:2000x4", "epochs": 100, "batch": 100, "head": "normal", **_REAL},
    "deeperforward": {
        "network": "conv:100k5,p2,200k5,p2,400x2",
        "epochs": 150,
        "batch": 128,
        "lr": 0.08,
        "lr_schedule": "cosine",
        "dropout": 0.2,
    },
    "cwcomp": {
        "network": "conv:20,80,240,480",
        "epochs": 20,
        "batch": 128,
        "windows": "1-2|1-3|1-4|1-5",
    },
}
#: what differs on CIFAR
_AUTHORS_CIFAR: dict[str, dict[str, Any]] = {
    "biofo": {"network": "fc:2000x6", "head": "ternary"},
    "deeperforward": {"network": "resnet17"},
    "cwcomp": {"epochs": 25, "windows": "1-11|1-16|1-21|1-25"},
}
_PUBLISHED |= {"mitbih-natural": "mitbih", "mitbih-interpatient": "mitbih"}


def paper(
    algorithm: str,
    dataset: str,
    *,
    binary_weights: bool = True,
    binary_activations: bool = True,
    vertical: bool = False,
    local: bool = False,
) -> dict[str, Any]:
    """Fields of a system's published recipe; see the tables at the top of this module.

    Parameters
    ----------
    algorithm : str
        One of :data:`SYSTEMS`.
    dataset : str
        ``mnist``, ``cifar10``, ``cifar100``, ``mitbih`` or a variant of one of them; any other uses the recipe of
        MNIST.
    binary_weights, binary_activations : bool
        BW and BA.
    vertical : bool
        Vertical training, 2 x 2 slices; TinyFoA and BP only.
    local : bool
        Whether the network is locally connected.

    Returns
    -------
    dict
        Fields of :class:`tinyfoa_np.recipe.Recipe`, without seed and number of samples.

    Raises
    ------
    BadRequest
        If there is no such algorithm, or it does not support vertical training.

    Examples
    --------
    >>> fields = paper("pepita", "mnist", binary_weights=False, binary_activations=True)
    >>> fields["network"], fields["lr"], fields["lr_schedule"]
    ('fc:2000x3', 0.0005, 'drop:60%,90%')
    """
    if algorithm not in SYSTEMS:
        raise BadRequest(f"algorithm {algorithm} is not one that TinyFoA's authors ran: {', '.join(SYSTEMS)}")
    if vertical and algorithm not in ("tinyfoa", "bp"):
        raise BadRequest(f"algorithm {algorithm} has no vertical training; tinyfoa and bp do")
    published = _PUBLISHED.get(dataset.removesuffix("-unverified"), USUAL)
    fields: dict[str, Any] = {
        **find(algorithm).defaults,
        "dataset": dataset,
        "algorithm": algorithm,
        "network": "fc:2000x3" if algorithm == "pepita" else "fc:2000x4",
        "epochs": 100,
        "batch": 100,
        "lr_schedule": {"pepita": "drop:60%,90%", "ff": "cooldown"}.get(algorithm, "constant"),
        "binary_weights": binary_weights,
        "binary_activations": binary_activations,
        **_slices(algorithm, vertical),
    }
    if local:
        fields |= {"network": LOCAL_NETWORK, "epochs": 200, **find(algorithm).lc_defaults}
    if published.startswith("cifar"):
        fields["normalize"] = "standard"
        if algorithm == "ff":
            fields["label_scale"] = 5.0
    if published == "mitbih":
        fields["normalize"] = "unit"
        fields["shuffle"] = fields["shuffle"] or algorithm == "tinyfoa"
    if algorithm == "pepita" and published == "mnist" and binary_activations:
        fields["lr"] = 5e-4
    if algorithm == "pepita" and published == "mitbih":
        fields["lr"] = 1e-4
    if algorithm == "ff" and published == "cifar10" and binary_weights and binary_activations:
        fields["lr"] = 1e-4
    return fields


def _slices(algorithm: str, vertical: bool) -> dict[str, Any]:
    """Fields that determine which part of a layer trains when."""
    if algorithm == "tinyfoa":
        return {"schedule": "slice", "slices": 2} if vertical else {"schedule": "stream", "slices": 1}
    return {"schedule": "frozen", "slices": 2} if vertical else {"schedule": "none", "slices": 1}


def mlperf(given: dict[str, Any]) -> dict[str, Any]:
    """MLPerf Tiny's recipe for a network of :data:`MLPERF`, by default ``resnet8``, as defaults for the given fields.

    Any algorithm that trains the network can use it.

    Raises
    ------
    BadRequest
        If another network is given.
    """
    network = given.get("network", "resnet8")
    if network not in MLPERF:
        raise BadRequest(f"preset mlperf is for networks {', '.join(MLPERF)}, not {network}")
    shared = {"algorithm": "bp", "network": network, "optimizer": "adam", "shuffle": True, "reshuffle": True}
    return {**shared, **MLPERF[network], **given}


def authors(given: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a rule's own authors, one of :data:`AUTHORS`, as defaults for the given fields.

    Raises
    ------
    BadRequest
        If another rule is given.

    Examples
    --------
    >>> authors({"dataset": "cifar10", "algorithm": "cwcomp", "epochs": 30})["windows"]
    '1-11|1-16|1-21|1-25'
    """
    rule = given.get("algorithm", Recipe.algorithm)
    if rule not in AUTHORS:
        raise BadRequest(f"preset authors is for algorithms {', '.join(AUTHORS)}, not {rule}")
    cifar = _AUTHORS_CIFAR.get(rule, {}) if given["dataset"].startswith("cifar") else {}
    return {**find(rule).defaults, **AUTHORS[rule], **cifar, **given}


def chosen(preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a preset, one of :data:`PRESETS`, as defaults for the given ones."""
    return {"mlperf": mlperf, "authors": authors}.get(preset, around)(given)


def around(given: dict[str, Any]) -> dict[str, Any]:
    """Complete given fields with the published recipe; given fields take precedence.

    TinyFoA trains vertically and the others do not, unless ``given`` has a schedule; the number of slices is then the
    usual one of that schedule.
    Weights and activations are binary unless given, except for :data:`BASELINES`, where they are real.

    Parameters
    ----------
    given : dict
        Fields of a recipe, at least ``dataset``.

    Returns
    -------
    dict
        Fields of a recipe.

    Examples
    --------
    >>> fields = around({"dataset": "mnist", "algorithm": "bp", "schedule": "frozen", "epochs": 10})
    >>> fields["epochs"], fields["lr"], "slices" in fields
    (10, 0.0001, False)
    """
    algorithm = given.get("algorithm", Recipe.algorithm)
    toggles = {name: given.get(name, algorithm not in BASELINES) for name in ("binary_weights", "binary_activations")}
    local = is_local(given.get("network", Recipe.network))
    fields = paper(algorithm, given["dataset"], vertical=algorithm == "tinyfoa", local=local, **toggles)
    if given.get("schedule", fields["schedule"]) != fields["schedule"]:
        del fields["slices"]
    return {**fields, **given}


def described(recipe: Recipe) -> str:
    """Which row of the TinyFoA paper's tables a recipe is around, in a line.

    Examples
    --------
    >>> described(Recipe(**around({"dataset": "mnist", "algorithm": "ff"})).validated())
    'FF of the TinyFoA paper, baseline: real weights and activations'
    """
    weights, activations = recipe.binary_weights, recipe.binary_activations
    baseline = not weights and not activations
    kinds = {True: "binary", False: "real"}
    what = f"{kinds[weights]} weights and {'' if weights == activations else kinds[activations] + ' '}activations"
    return f"{recipe.rule.title} of the TinyFoA paper{', baseline' if baseline else ''}: {what}"
