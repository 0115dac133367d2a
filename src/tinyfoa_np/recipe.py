"""Training recipes: everything that determines the trained model's bits, and nothing else.

Threads, RAM budget, audit mode and commits are not part of a recipe: they do not change the result of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from . import catalogue
from .architectures import batch_normed, grouped, named, units_of
from .augmentation import canonical
from .catalogue import Algorithm
from .errors import BadRequest, OtherNumerics
from .network import CONNECTIONS, is_local, widths
from .numerics import NUMERICS, check, cosine, power
from .slices import ORDERS

SCHEDULES = ("auto", "none", "slice", "stream", "frozen")
OPTIMIZERS = ("adam", "momentum", "nesterov", "sgd", "bop")
NORMALIZATIONS = ("standard", "unit")
MOMENTS = ("float32", "bfloat16", "int8")
MERGES = ("add", "mul")
_HOLD = re.compile(r"(\d{1,15})(epochs?)?")
_DROPS = re.compile(r"drop:\d{1,15}%?(,\d{1,15}%?)*(:0?\.(?=0*[1-9])\d{1,15})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_EXPONENTIAL = re.compile(r"exponential:(0?\.\d{1,15}|1(\.0*)?)")

#: for layer-by-layer training with more than 2 x 2 slices: the default learning rate of ``auto`` is LR_PER_SIDE M, at
#: most LARGEST_LR. A slice trains in 1 / M^2 of the steps; the factor M is a compromise between the same rate
#: and the same total movement for every M
LR_PER_SIDE, LARGEST_LR = 2.4e-4, 0.01
#: with more slices per side than this, ``auto`` trains two in a step, as one turn alone would be too short
ONE_VISIT = 8
_OWN = (
    "dropout",
    "decay",
    "classifier_lr",
    "classifier_decay",
    "label_scale",
    "peer",
    "theta",
    "label_width",
    "groups",
    "merge",
    "rms",
)
#: fields recorded only if they differ from their defaults, as older recipes do not have them
_UNSAID = ("digest", "lc_connect", "options", "augment", "reshuffle", "freeze", "start")
_RATES = ("lr", "dropout", "decay", "classifier_lr", "classifier_decay", "label_scale", "peer", "theta")

#: types as spelled in the fields of a recipe: accepted classes, and their name in messages
_KINDS: dict[str, tuple[Any, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "bool": (bool, "True or False"),
    "None": (type(None), "None"),
    "dict[str, Any]": (dict, "a mapping"),
}


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    Parameters
    ----------
    dataset : str
        Name of a data set.
    network : str
        Layers, see :func:`tinyfoa_np.network.layer_shapes`.
    algorithm : str
        One of :func:`tinyfoa_np.catalogue.names`.
    slices : int or None
        M: the weights of a layer are divided into M x M slices, those of a locally connected layer into M groups of
        output channels; 2 if the schedule has slices.
    schedule : str
        ``slice``: one slice is resident and trains, for ``hold``; ``stream``: every slice trains in every step, one
        at a time in RAM; ``frozen``: all but a diagonal slice train, as in the authors' scripts; ``none``: all train,
        all in RAM; ``auto``: the first schedule of the algorithm.
        With more than 2 x 2 slices, ``auto`` also sets the following unless given: ``visits``, 2 if M is above
        :data:`ONE_VISIT`, else 1; M^2 / ``visits`` holds in diagonal order; and a learning rate of
        :data:`LR_PER_SIDE` M / ``visits``, at most :data:`LARGEST_LR`.
    hold : str
        Time until the next slice: ``"1epoch"``, ``"3epochs"`` or a number of steps such as ``"50"``.
    exchanges : int or None
        F: instead of ``hold``, move on after k epochs / F epochs, for k = 1, 2, ...
    visits : int or None
        For layer-by-layer training with ``slice``: the number of slices that train in every step of a hold, one after
        another in the RAM of one, from the same forward pass; 1 by default. If more than 1, they are exchanged in every
        step.
    order : str or None
        For layer-by-layer training with ``slice``: the order of slices. ``rows``: neuron group by neuron group;
        ``diagonal``: diagonal by diagonal, so that consecutive slices share no neuron and no input.
    epochs : int
        Epochs: per layer if layers train one after another, else of the network.
    batch : int
        B: samples per step.
    lr : float
        Learning rate.
    lr_schedule : str
        ``constant``; ``drop:60,90`` or ``drop:60%,90%``: a factor of 0.1 after each of these epochs, or another one as
        in ``drop:12,24:0.2``; ``cooldown``: linear decrease to zero over the second half; ``cosine``: half a cosine
        wave down to zero; ``exponential:0.99``: a factor of 0.99 after every epoch.
    optimizer : str
        One of :data:`OPTIMIZERS`.
    moments : str
        Format of the optimizer's moments of the weights, one of :data:`MOMENTS`; ``bfloat16`` and ``int8`` (one byte
        each) are rounded at random. Moments of the biases are always float32.
    decay : float or None
        Weight decay.
    classifier_lr, classifier_decay : float or None
        Learning rate and weight decay of a linear classifier on all layers.
    label_scale : float or None
        Value of a label written into the inputs.
    peer : float or None
        Weight of the peer normalization.
    dropout : float or None
        Share of hidden outputs that are dropped in a batch; on locally connected networks, share of the classifier's
        inputs.
    theta : float or None
        The goodness that right labels should exceed and wrong labels should stay below; by default 0.1 per output of a
        network's last fully connected layer, or 10 with feature maps, whose goodness is a mean.
    label_width : int or None
        Units of the label channel per output channel of a group.
    groups : str or None
        The units of a graph that train together, as in ``"1,2|3"``; by default each is a group.
    merge : str or None
        How data and label are merged, one of :data:`MERGES`; by default ``add`` with fully connected layers, ``mul``
        with feature maps.
    rms : bool or None
        Whether a group divides its outputs by their root mean square; by default only with fully connected layers.
    normalize : str or None
        ``standard``: bytes are scaled by the data set's published mean and deviation; ``unit``: to 0 to 1.
    shuffle : bool or None
        Whether to shuffle the training samples once, before they are divided into batches.
    reshuffle : bool
        Whether to change the order of training samples in every epoch. In layer-by-layer training the batches are
        reordered instead: each keeps its samples, as it has a stored s.
    augment : str or None
        Random augmentation of training images in every epoch, see :func:`tinyfoa_np.augmentation.parse`. In
        layer-by-layer training the outputs stored in flash are those of unchanged images; with ``recompute`` all layers
        see changed images.
    binary_weights, binary_activations : bool
    seed : int
        Seed of all random numbers, 0 to 2**64 - 1.
    limit : int or None
        Train on the first ``limit`` samples only.
    recompute : bool
        Whether to recompute the outputs of trained layers for every batch, instead of keeping them in flash.
    lc_connect : str or None
        For locally connected networks: input channels per output channel, one of
        :data:`tinyfoa_np.network.CONNECTIONS`. ``full``: all, as in the authors' script; ``depthwise``: one, as counted
        in the paper's memory.
    freeze : str or None
        Hidden layers, or units of a named network, that keep the weights of the model from which training starts, as in
        ``"1,2"``.
    start : str or None
        SHA-256 of the weights from which training starts, see :mod:`tinyfoa_np.run.start`; set by training.
    options : dict
        The algorithm's own options (:attr:`tinyfoa_np.catalogue.Algorithm.options`), all or some.
    digest : str or None
        SHA-256 of the samples (:func:`tinyfoa_np.data.dataset.fingerprint`), if the data set's name does not identify
        them; set by training.
    """

    dataset: str = "digits"
    network: str = "fc:2000x4"
    algorithm: str = catalogue.DEFAULT
    slices: int | None = None
    schedule: str = "auto"
    hold: str | None = None
    exchanges: int | None = None
    visits: int | None = None
    order: str | None = None
    epochs: int = 100
    batch: int = 100
    lr: float | None = None
    lr_schedule: str = "constant"
    optimizer: str | None = None
    moments: str = "float32"
    decay: float | None = None
    classifier_lr: float | None = None
    classifier_decay: float | None = None
    label_scale: float | None = None
    peer: float | None = None
    dropout: float | None = None
    theta: float | None = None
    label_width: int | None = None
    groups: str | None = None
    merge: str | None = None
    rms: bool | None = None
    normalize: str | None = None
    shuffle: bool | None = None
    reshuffle: bool = False
    augment: str | None = None
    binary_weights: bool = True
    binary_activations: bool = True
    seed: int = 0
    limit: int | None = None
    recompute: bool = False
    lc_connect: str | None = None
    freeze: str | None = None
    start: str | None = None
    digest: str | None = None
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def changed(self, given: Mapping[str, Any]) -> Recipe:
        """A copy with other values, by field or by name of an algorithm's option; not yet validated."""
        own = {name: value for name, value in given.items() if name not in self.__dataclass_fields__}
        known = {name: value for name, value in given.items() if name not in own}
        return replace(self, **known, options={**self.options, **own}) if own else replace(self, **known)

    def validated(self) -> Recipe:
        """A copy with ``auto`` and defaults resolved.

        Raises
        ------
        BadRequest
            If a value is out of range or two values contradict each other.
        """
        numpys = {
            field.name: value.item()
            for field in fields(self)
            if type(value := getattr(self, field.name)).__module__ == "numpy" and not getattr(value, "shape", 1)
        }
        if numpys:  # scalars such as np.int64(3), from a grid search
            return replace(self, **numpys).validated()
        for each in fields(self):
            value = getattr(self, each.name)
            if not _is_of(value, str(each.type)):
                right = " or ".join(_KINDS[kind][1] for kind in str(each.type).split(" | "))
                raise BadRequest(f"{each.name} is {repr(value)[:40]}: it must be {right}")
        catalogue.find(self.algorithm)
        _choice("schedule", self.schedule, SCHEDULES)
        filled = self._filled()
        _choice("optimizer", str(filled.optimizer), OPTIMIZERS)
        _choice("normalize", str(filled.normalize), NORMALIZATIONS)
        _choice("moments", self.moments, MOMENTS)
        if self.augment is not None:
            filled = replace(filled, augment=canonical(self.augment))
        if self.freeze is not None:
            filled = replace(filled, freeze=filled._canonical_freeze())
        if self.start is not None and not _DIGEST.fullmatch(self.start):
            raise BadRequest(f"start is {self.start[:40]!r}: a SHA-256 in hexadecimal would be right")
        if filled.lc_connect is not None:
            _choice("lc_connect", filled.lc_connect, CONNECTIONS)
        if filled.deep and self.moments != "float32":
            raise BadRequest(f"network {self.network} has float32 moments only: leave moments out")
        if filled.optimizer == "sgd" and self.moments != "float32":
            raise BadRequest(f"optimizer sgd has no moments that could be {self.moments}: leave moments out")
        if filled.optimizer == "bop":
            filled._check_bop()
        elif wrong := [name for name in ("gamma", "tau") if filled.options.get(name) != self._usual(name)]:
            raise BadRequest(f"{wrong[0]} applies to optimizer bop only, not to {filled.optimizer}")
        filled._check_numbers()
        rates = {name: getattr(filled, name) for name in _RATES}
        rates = {name: value if value is None else float(value) for name, value in rates.items()}
        return replace(filled, **rates)._scheduled()

    def _filled(self) -> Recipe:
        """A copy with the algorithm's own defaults; fields that it does not use must not be given."""
        entry, local = self.rule, is_local(self.network)
        if self.kind not in entry.homes:
            raise self._wrong_network()
        known = entry.defaults | (entry.by_network(self.network) if entry.by_network else {})
        of_lc = {**entry.lc_defaults, "lc_connect": CONNECTIONS[0]}
        for name in _OWN:
            if getattr(self, name) is not None and name not in (known | of_lc if local else known):
                only = ", except on locally connected networks" if name in of_lc else ""
                raise BadRequest(f"{name} does not apply to algorithm {self.algorithm}{only}")
        if not local and self.lc_connect is not None:
            raise BadRequest(f"lc_connect applies to locally connected networks only, not to {self.network!r}")
        if self.groups is not None:
            grouped(self.groups, self.network)
        known = {**known, **of_lc} if local else known
        values: dict[str, Any] = {n: v if getattr(self, n) is None else getattr(self, n) for n, v in known.items()}
        schedule = entry.schedules[0] if self.schedule == "auto" else self.schedule
        if schedule not in entry.schedules or self.deep and schedule != "none":
            right = f"choose {' or '.join(entry.schedules)}" if self._sliced else "it trains whole layers, say none"
            raise BadRequest(f"{self._who} has no schedule {schedule}: {right}")
        slices = (1 if schedule == "none" else 2) if self.slices is None else self.slices
        if self.schedule == "auto" and schedule == "slice" and entry.by_layer and not local and 2 < slices < 2**20:
            values.update(self._one_turn_each(slices))
        if self.recompute and not entry.recompute:
            raise BadRequest(
                f"algorithm {self.algorithm} passes no outputs from layer to layer: recompute does not apply"
            )
        if local and self.recompute:
            raise BadRequest("locally connected layers keep their outputs in flash: recompute does not apply")
        if self.deep or entry.real:
            values.update(binary_weights=False, binary_activations=False)
        return replace(self, schedule=schedule, slices=slices, options=entry.checked(self.options), **values)

    def _canonical_freeze(self) -> str:
        """``freeze`` in order and without spaces; raises BadRequest if these layers cannot be frozen."""
        if not self.rule.freezes:
            raise BadRequest(f"algorithm {self.algorithm} trains all layers: leave freeze out")
        what = "units" if self.deep else "layers"
        count = units_of(self.network) if self.deep else len(widths(self.network))
        parts = [part.strip() for part in str(self.freeze).split(",")]
        if not all(part.isdecimal() and len(part) < 5 and 1 <= int(part) <= count for part in parts):
            raise BadRequest(f"freeze is {str(self.freeze)[:40]!r}: write some of the {what} 1 to {count}, as in '1,2'")
        frozen = sorted({int(part) for part in parts})
        if self.kind != "fc" and not self.rule.by_layer and frozen != list(range(1, len(frozen) + 1)):
            # errors pass batch norm in training only, and a graph is cut in two
            raise BadRequest(f"freeze is {self.freeze!r}: on {self.network} only the lowest {what} can be frozen")
        if (self.rule.by_layer or self.rule.answers == "goodness") and count in frozen:
            raise BadRequest(
                f"the last of the {what} gives the answer of {self.algorithm}: leave {count} out of freeze"
            )
        if self.rule.answers == "goodness":
            groups = grouped(self.groups, self.network)
            if any(0 < len({n + 1 for n in group} & {*frozen}) < len(group) for group in groups):
                raise BadRequest(f"freeze is {self.freeze!r}: whole groups of {self.groups} are needed")
            if self.options.get("answer") != "last":
                raise BadRequest("the goodness of frozen groups is that of the old labels: freeze needs --answer last")
        return ",".join(map(str, frozen))

    @property
    def frozen(self) -> frozenset[int]:
        """Frozen layers or units, from 0."""
        return frozenset(int(part) - 1 for part in self.freeze.split(",")) if self.freeze else frozenset()

    @property
    def rule(self) -> Algorithm:
        """The algorithm's entry in the catalogue, as it is on this network; raises BadRequest if there is none."""
        return catalogue.find(self.algorithm).on(self.kind)

    @property
    def kind(self) -> str:
        """Kind of the network for the algorithm, one of :data:`tinyfoa_np.catalogue.KINDS`."""
        if is_local(self.network):
            return "lc"
        return "graph" if named(self.network) or "fc" not in catalogue.find(self.algorithm).homes else "fc"

    @property
    def deep(self) -> bool:
        """Whether the network is a graph of layers of any kind; weights and activations are then real."""
        return self.kind == "graph"

    @property
    def normed(self) -> bool:
        """Whether batch norm is trained, which needs all samples of a batch at once."""
        return self.deep and self.rule.norms and batch_normed(self.network)

    def _wrong_network(self) -> BadRequest:
        """The error for a network that the algorithm does not train."""
        others = [entry.name for entry in catalogue.algorithms() if self.kind in entry.homes]
        if self.kind == "lc":
            rest = f"choose one of {', '.join(others)}"
            return BadRequest(f"algorithm {self.algorithm} does not train locally connected networks: {rest}")
        why = f"algorithm {self.algorithm} {self.rule.why_not}"
        if not others:
            return BadRequest(why)
        return BadRequest(
            f"{why}: for {self.network} choose {others[0]}; docs/rules.md has what {', '.join(others[1:])} train"
        )

    def _one_turn_each(self, slices: int) -> dict[str, Any]:
        """Fields set by ``auto`` for more than 2 x 2 slices, unless given: docs/schedules.md."""
        turns: dict[str, Any] = {"order": self.order or "diagonal"}
        visits = max(1, self.visits or 1)
        if self.hold is None and self.exchanges is None:
            if self.visits is None and slices > ONE_VISIT:
                turns["visits"] = visits = 2
            turns["exchanges"] = -(-(slices**2) // visits)
        if self.lr is None:
            turns["lr"] = min(LARGEST_LR, LR_PER_SIDE * slices / visits)
        return turns

    def _check_numbers(self) -> None:
        for name in ("slices", "epochs", "batch", "exchanges", "visits", "limit", "label_width"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**40:
                raise BadRequest(f"{name} is {_shown(value)}: it must be at least 1, and below 2**40")
        for name in ("lr", "classifier_lr", "label_scale", "theta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e30:
                raise BadRequest(f"{name} is {_shown(value)}: it must be above 0 and finite")
        for name in ("decay", "classifier_decay", "peer"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e30:
                raise BadRequest(f"{name} is {_shown(value)}: it must be 0 or more, and finite")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise BadRequest(f"dropout is {_shown(self.dropout)}: it must be from 0 to below 1")
        if self.merge is not None:
            _choice("merge", self.merge, MERGES)
        if self.label_width is not None and self.label_width > 1000:
            raise BadRequest(f"label_width is {_shown(self.label_width)}: at most 1000")
        if not 0 <= self.seed < 2**64:
            raise BadRequest(f"seed is {_shown(self.seed)}: it must be from 0 to 2**64 - 1")
        if self.batch > 65536:
            raise BadRequest(f"batch is {_shown(self.batch)}: at most 65536")
        plain = self.lr_schedule in ("constant", "cooldown", "cosine")
        if not plain and not _DROPS.fullmatch(self.lr_schedule) and not _EXPONENTIAL.fullmatch(self.lr_schedule):
            raise BadRequest(
                f"lr_schedule is {self.lr_schedule[:40]!r}: write 'constant', 'cooldown', 'cosine', 'exponential:0.99'"
                " or epochs as in 'drop:60%,90%' or 'drop:12,24:0.2'"
            )

    def _usual(self, name: str) -> Any:
        """Default of one of the rule's own options; None if it has none of that name."""
        return self.rule.options[name].default if name in self.rule.options else None

    def _check_bop(self) -> None:
        """Refuse binary weights without a copy in full precision where a rule, a network or a schedule needs one."""
        if "tau" not in self.rule.options or self.kind != "fc":
            others = ", ".join(entry.name for entry in catalogue.algorithms() if "tau" in entry.options)
            raise BadRequest(f"optimizer bop trains fully connected networks of {others}")
        if not self.binary_weights:
            raise BadRequest("optimizer bop trains binary weights: leave --no-binary-weights out")
        if self.moments != "float32":
            raise BadRequest(f"optimizer bop has float32 moments only, not {self.moments}: leave moments out")
        if self.freeze is not None or self.start is not None:
            raise BadRequest("optimizer bop starts from random signs, and all train: leave --from and --freeze out")
        if self.schedule == "frozen":
            raise BadRequest("optimizer bop cannot freeze a slice: use another schedule than frozen")

    def _scheduled(self) -> Recipe:
        """A copy with its hold; slices, schedule, hold and exchanges must be consistent."""
        schedule, hold, slices = self.schedule, self.hold, self.slices
        assert slices is not None
        if schedule == "none" and slices != 1:
            raise self._unsliced("slices")
        if schedule == "frozen" and slices == 1:
            raise BadRequest("schedule frozen freezes one diagonal slice: with 1 slice no weight would train")
        if hold is not None and self.exchanges is not None:
            raise BadRequest("hold and exchanges both set when slices are exchanged: give one of them")
        if schedule in ("stream", "none") and (hold is not None or self.exchanges is not None):
            if schedule == "none":
                raise self._unsliced("exchanges" if hold is None else "hold")
            raise BadRequest("schedule stream trains every slice in every step: leave hold and exchanges out")
        visits, order = self._turns()
        if schedule in ("slice", "frozen") and hold is None and self.exchanges is None:
            hold = "1epoch"
        if hold is not None:
            match = _HOLD.fullmatch(str(hold))
            if not match or int(match[1]) < 1:
                raise BadRequest(f"hold is {str(hold)[:40]!r}: write '1epoch', '3epochs' or a number of steps")
            hold = str(hold)
        return replace(self, hold=hold, visits=visits, order=order)

    @property
    def _sliced(self) -> bool:
        """Whether there is a choice of schedules, some of which train slices of weights one at a time."""
        return len(self.rule.schedules) > 1 and not self.deep

    def _unsliced(self, what: str) -> BadRequest:
        """The error for a field that is only used with slices."""
        if self._sliced:
            some = " or ".join(schedule for schedule in self.rule.schedules if schedule != "none")
            return BadRequest(
                f"{what} does not apply when {self.algorithm} trains whole layers: leave it out, or use schedule {some}"
            )
        return BadRequest(f"{what} does not apply to {self._who}, which trains whole layers: leave it out")

    @property
    def _who(self) -> str:
        """The reason for having slices or not, in words."""
        return f"network {self.network}" if named(self.network) else f"algorithm {self.algorithm}"

    def _turns(self) -> tuple[int | None, str | None]:
        """Number of slices per step, and their order; None if not applicable."""
        if not self.rule.by_layer or self.schedule != "slice":
            if self.visits is not None or self.order is not None:
                what = "order" if self.visits is None else "visits"
                raise BadRequest(f"{what} applies only to schedule slice, layer by layer")
            return None, None
        visits, order = self.visits or 1, ORDERS[0] if self.order is None else self.order
        _choice("order", order, ORDERS)
        assert self.slices is not None
        if is_local(self.network):
            if order != ORDERS[0]:
                raise BadRequest(f"order {order} does not apply to groups of output channels: use {ORDERS[0]}")
            if visits > self.slices:
                raise BadRequest(f"visits is {_shown(visits)}: {self.slices} groups of output channels are fewer")
        elif visits > self.slices**2:
            raise BadRequest(f"visits is {_shown(visits)}: {self.slices} x {self.slices} slices are fewer")
        return visits, order

    def hold_steps(self, batches: int) -> int:
        """Steps for which a slice is held, in a layer whose epoch has ``batches`` steps; 0 if ``exchanges`` decides."""
        match = _HOLD.fullmatch(self.hold or "")
        if not match:
            return 0
        return int(match[1]) * (batches if match[2] else 1)

    def lr_at(self, epoch: int) -> float:
        """Factor of the learning rate in an epoch, counted from 0."""
        if self.lr_schedule == "cooldown":
            return min(1.0, 2 * (self.epochs - epoch) / self.epochs)
        if self.lr_schedule == "constant":
            return 1.0
        if self.lr_schedule == "cosine":
            return 0.5 * (1 + cosine(epoch / self.epochs))
        if self.lr_schedule.startswith("exponential:"):
            return power(float(self.lr_schedule.removeprefix("exponential:")), epoch)
        drops, _, factor = self.lr_schedule.removeprefix("drop:").partition(":")
        ends = [int(d[:-1]) * self.epochs / 100 if d.endswith("%") else int(d) for d in drops.split(",")]
        return power(float(factor or 0.1), sum(epoch >= end for end in ends))

    def to_json(self) -> str:
        """The recipe as JSON, one key per line, without fields of :data:`_UNSAID` at their defaults.

        The last key is the numerics version, which determines the bits as well.
        """
        values = asdict(self) | {"numerics": NUMERICS}
        chosen = bool(self.options)
        if chosen:
            values["options"] = self.rule.recorded(self.options)
        for name in _UNSAID:
            if not values[name]:
                del values[name]
        if not chosen and self.algorithm in catalogue.names() and self.rule.options:
            values["options"] = {}  # not yet chosen: a recipe without the key is older than the options
        return json.dumps(values, indent=2) + "\n"

    @property
    def identity(self) -> str:
        """The identity of the recipe in a run's flash."""
        return f"numerics {NUMERICS}, recipe {hashlib.sha256(self.to_json().encode()).hexdigest()}"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Parse a recipe written by :meth:`to_json`.

        Raises
        ------
        BadRequest
            If the text is not such JSON.
        OtherNumerics
            If it was written by a version that computes different bits.
        """
        try:
            values = json.loads(text)
            known = {f.name: f for f in fields(cls)}
            if isinstance(values, dict):
                check(values.pop("numerics", 1))
            if not isinstance(values, dict) or set(values) - set(known):
                raise ValueError(f"unknown keys {sorted(set(values) - set(known))}")
            for name, value in values.items():
                if not _is_of(value, str(known[name].type)):
                    raise ValueError(f"{name} is {value!r}")
            if values.get("options") != {}:
                with contextlib.suppress(BadRequest):  # nothing is known about a rule that is not installed
                    entry = catalogue.find(values.get("algorithm", catalogue.DEFAULT))
                    values["options"] = entry.read_back(values.get("options", {}))
            return cls(**values)
        except OtherNumerics:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise BadRequest(f"not a recipe: {error}") from error


def _is_of(value: object, kind: str) -> bool:
    """Whether a value has a field's type, as spelled in the class; True and False are not numbers."""
    kinds = kind.split(" | ")
    return any(isinstance(value, _KINDS[k][0]) and (k == "bool" or not isinstance(value, bool)) for k in kinds)


def _shown(value: float) -> str:
    """A number for a message; very long numbers are not written out."""
    return str(value) if abs(value) < 1e15 or value != value else "out of range"


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadRequest(f"{name} is {value!r}: it must be one of {', '.join(choices)}")
