"""Changes of a recipe that make its training fit: a single change if that suffices, otherwise several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..catalogue import DEFAULT
from ..data import Dataset
from ..errors import BadRequest
from ..network import CONNECTIONS, is_local
from ..recipe import MOMENTS, Recipe
from ..rules.fit import Layout

#: stands for storing samples as bytes
BYTES = "samples as bytes"
#: numbers of training samples, and of slices per side, to try
LIMITS, SIDES = [base * 10**k for k in (4, 3, 2) for base in (5, 2, 1)], (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Change:
    """A possible change.

    Attributes
    ----------
    words : str
        What to write, usually an option.
    fields : mapping
        Changed fields of the recipe.
    threads : int, optional
    lean, as_bytes : bool
    """

    words: str
    fields: Mapping[str, Any]
    threads: int | None = None
    lean: bool = False
    as_bytes: bool = False


class Search:
    """Search for changes of a recipe.

    Parameters
    ----------
    recipe, dataset
        As for :class:`tinyfoa_np.rules.fit.Layout`.
    ram, flash : int or None
        Available bytes; None for no limit.
    threads : int
    lean : bool
        Whether lean mode is already on.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, ram: int | None, flash: int | None, threads: int, lean: bool
    ) -> None:
        self.recipe, self.dataset, self.ram, self.flash = recipe, dataset, ram, flash
        self.threads, self.lean = threads, lean
        self._tried: dict[tuple[str, ...], dict[str, Any] | None] = {}

    def result(self, changes: Sequence[Change]) -> dict[str, Any] | None:
        """Memory needs with these changes if the training then fits; otherwise None."""
        key = tuple(change.words for change in changes)
        if key not in self._tried:
            self._tried[key] = self._result(changes)
        return self._tried[key]

    def _result(self, changes: Sequence[Change]) -> dict[str, Any] | None:
        fields: dict[str, Any] = {}
        dataset, threads, lean = self.dataset, self.threads, self.lean
        for change in changes:
            fields |= change.fields
            threads, lean = change.threads or threads, lean or change.lean
            dataset = self._as_bytes if change.as_bytes else dataset
        try:
            layout = Layout(replace(self.recipe, **fields).validated(), dataset, threads)
            held = sum(layout.flash_bytes(layout.fit(None), lean).values())
            if self.flash is not None and held > self.flash:  # a RAM budget can only increase the flash needed
                return None
            least = layout.least()
            held = sum(layout.flash_bytes(layout.fit(self.ram), lean).values())
        except BadRequest:  # more slices than rows or columns, or more RAM than available
            return None
        if self.flash is not None and held > self.flash:
            return None
        options = " ".join(change.words for change in changes if not change.as_bytes)
        stored = [BYTES] if any(change.as_bytes for change in changes) else []
        words = " and ".join([*([options] if options else []), *stored])
        return {"change": words, "ram_bytes": least, "flash_bytes": held, "fits": True}

    @cached_property
    def _as_bytes(self) -> Dataset:
        """The shape of the data set with its samples stored as bytes."""
        train, test = (
            replace(split, inputs=np.broadcast_to(np.uint8(0), split.inputs.shape))
            for split in (self.dataset.train, self.dataset.test)
        )
        return replace(self.dataset, train=train, test=test, columns=None)

    def kinds(self) -> Iterator[list[Change]]:
        """Kinds of changes, from the least to the most costly; each kind begins with the smallest change."""
        recipe, local = self.recipe, is_local(self.recipe.network)
        if self.threads > 1:
            yield [Change("--threads 1", {}, threads=1)]
        if not self.lean:
            yield [Change("--lean", {}, lean=True)]
        if recipe.optimizer not in ("sgd", "bop"):
            smaller = MOMENTS[MOMENTS.index(recipe.moments) + 1 :]
            yield [Change(f"--moments {moments}", {"moments": moments}) for moments in smaller]
        if recipe.schedule in ("slice", "stream"):
            sides = [side for side in SIDES if side > (recipe.slices or 1)]
            yield [Change(f"--slices {side}", {"slices": side, **turns(recipe, side)}) for side in sides]
        if recipe.rule.recompute and not local and not recipe.recompute:
            yield [Change("--recompute", {"recompute": True})]
        batches = [recipe.batch // 2**k for k in range(1, 17) if recipe.batch // 2**k]
        yield [Change(f"--batch {size}", {"batch": size}) for size in batches]
        if bits := self._bits():
            yield [bits]
        if self.dataset.train.inputs.dtype != np.uint8:
            yield [Change(BYTES, {}, as_bytes=True)]
        if local and recipe.lc_connect != CONNECTIONS[1]:
            yield [Change(f"--lc-connect {CONNECTIONS[1]}", {"lc_connect": CONNECTIONS[1]})]
        if recipe.optimizer != "sgd":
            yield [Change("--optimizer sgd", {"optimizer": "sgd", "moments": MOMENTS[0]})]
        samples = len(self.dataset.train.labels)
        yield [Change(f"--limit {n}", {"limit": n}) for n in LIMITS if n < min(recipe.limit or samples, samples)]
        if recipe.network.startswith("fc:"):
            yield [Change(f"--network {name}", {"network": name}) for name in narrower(recipe.network)]
        if not recipe.rule.by_layer:
            yield [Change(f"--algorithm {DEFAULT}", {"algorithm": DEFAULT, **unset(recipe)})]

    def _bits(self) -> Change | None:
        """Signs for weights and activations, where the recipe has real ones and its rule can do without."""
        recipe, fields = self.recipe, {"binary_weights": True, "binary_activations": True}
        if recipe.deep or recipe.rule.real or (recipe.binary_weights and recipe.binary_activations):
            return None
        words = "--binary-weights --binary-activations"
        if recipe.optimizer != recipe.rule.defaults.get("optimizer", Recipe.optimizer):
            words += f" --optimizer {recipe.optimizer}"  # with real weights the data may have chosen it
        return Change(words, fields)

    def single(self) -> Iterator[dict[str, Any]]:
        """The smallest sufficient change of each kind; changes of the network are skipped."""
        for kind in self.kinds():
            if kind and kind[0].words.startswith("--network"):
                continue
            found = next((found for change in kind if (found := self.result([change]))), None)
            if found:
                yield found

    def together(self, without: Sequence[str] = ()) -> dict[str, Any] | None:
        """Changes that suffice together, none of which can be omitted or made smaller.

        The search begins with all changes. Then, starting with the most costly kind, each is omitted or reduced if
        possible.

        Parameters
        ----------
        without : sequence of str
            Kinds of changes to exclude, by the first word of what to write.
        """
        kinds = [kind for kind in self.kinds() if kind and kind[0].words.split()[0] not in without]
        kinds = [kind for kind in kinds if kind[0].words != f"--algorithm {DEFAULT}"]  # that is another recipe
        chosen = [kind[-1] for kind in kinds]
        optimizer = [change for change in chosen if change.words == "--optimizer sgd"]
        if optimizer and self.result([change for change in chosen if change not in optimizer]):
            chosen = [change for change in chosen if change not in optimizer]
        elif optimizer:  # it has no moments to store in fewer bytes
            chosen = [change for change in chosen if not change.words.startswith("--moments")]
        slices = next((kind for kind in kinds if kind[0].words.startswith("--slices")), [])
        for fewer_slices in [*reversed(slices), None]:  # narrow layers cannot be cut into many slices
            if self.result(chosen):
                break
            rest = [change for change in chosen if change not in slices]
            chosen = [*rest, fewer_slices] if fewer_slices else rest
        if not self.result(chosen):
            return None
        for last in reversed(chosen.copy()):
            at, kind = chosen.index(last), next(kind for kind in kinds if last in kind)
            for smaller in [None, *kind[: kind.index(last)]]:
                fewer = [*chosen[:at], *([smaller] if smaller else []), *chosen[at + 1 :]]
                if fewer and self.result(fewer):
                    chosen = fewer
                    break
        return self.result(chosen)


def suggestions(
    recipe: Recipe, dataset: Dataset, ram: int | None, flash: int | None, threads: int, lean: bool
) -> list[dict[str, Any]]:
    """Changes that make a training fit: ``change`` (what to write), ``ram_bytes`` (minimum RAM), ``flash_bytes``.

    Single changes come first. If none suffices, combinations follow, with samples as they are and stored as bytes. For
    the parameters see :class:`Search`.
    """
    search = Search(recipe, dataset, ram, flash, threads, lean)
    found = list(search.single())
    if found:
        return found
    samples, network = BYTES.split()[0], "--network"
    for groups in ([(samples, network), ("--limit", network)], [(network,)], [()]):
        for without in groups:
            # computing layers again spares flash, at the cost of RAM
            made = search.together(without) or search.together((*without, "--recompute"))
            if made and made not in found:
                found.append(made)
        if found:
            break
    return found


def narrower(network: str) -> Iterator[str]:
    """Fully connected networks with half as many neurons per layer, then a quarter, and so on, down to 10."""
    text, _, layers = network.removeprefix("fc:").partition("x")
    widths = [int(width) for width in text.split(",")]
    while max(widths) > 10:
        widths = [max(10, width // 2) for width in widths]
        yield f"fc:{','.join(map(str, widths))}" + (f"x{layers}" if layers else "")


def turns(recipe: Recipe, side: int) -> dict[str, Any]:
    """Fields of the default schedule for this number of slices, if the recipe uses it."""
    fields = ("hold", "exchanges", "visits", "order", "lr")
    usual, other = (
        Recipe(algorithm=recipe.algorithm, network=recipe.network, slices=n).validated() for n in (recipe.slices, side)
    )
    if not recipe.rule.by_layer or any(getattr(recipe, f) != getattr(usual, f) for f in fields[:-1]):
        return {}
    return {f: getattr(other, f) for f in fields if getattr(recipe, f) == getattr(usual, f)}


def unset(recipe: Recipe) -> dict[str, Any]:
    """The fields that this algorithm sets, as None."""
    fields = (
        "slices",
        "hold",
        "exchanges",
        "lr",
        "optimizer",
        "decay",
        "classifier_lr",
        "classifier_decay",
        "label_scale",
        "peer",
        "dropout",
        "theta",
        "label_width",
        "groups",
        "merge",
        "rms",
        "normalize",
        "shuffle",
    )
    return {**dict.fromkeys(fields), "schedule": "auto", "options": {}}
