"""Fine-tuning: the model from which a training starts.

A run takes the lower layers that both networks share, and the head where it has the same classes; everything else is
initialized as usual. The weights are written to the run's flash before its first commit, so the model is not needed
again. Inputs are scaled as the model scales them: the scaling travels with the model, not with the new data.

A run directory gives full-precision weights, from its flash. A model file has no more than inference needs: binary
weights then start at alpha times their signs, which is the same network.

The recipe records a SHA-256 of these weights, formed like ``model_sha256``: for a run, and for a model of real weights,
it is that model's ``model_sha256``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import defaults
from ..data import Dataset
from ..data.dataset import Columns
from ..errors import BadRequest, CheckFailed
from ..layers.graph import NORM, Operation
from ..layers.group import Group
from ..layers.layer import Layer
from ..layers.local import Local
from ..layers.parameters import Parameters
from ..layers.trained import TrainedLayer
from ..model.export.packed import is_packed, signs, unpacked
from ..model.form import stages_of
from ..model.model import Model, load
from ..network import widths
from ..recipe import Recipe
from ..rules.stage import Stage
from ..storage.flash import Flash
from ..storage.sizes import Sizes
from . import results

#: names of given objects in flash, and their items
Objects = dict[str, list[np.ndarray]]
#: fields of a recipe that concern slices: if one is given, the others are chosen anew
SLICING = ("slices", "schedule", "hold", "exchanges", "visits", "order")


def further(model: Model, dataset: str, shape: tuple[int, int] | None = None, **given: Any) -> Recipe:
    """The recipe that trains a model on another data set: the model's own, with the given fields changed.

    Another rule has its own defaults; of the model's recipe it takes what describes the layers. Another network takes
    all but the fields whose defaults depend on it.

    Parameters
    ----------
    model : Model
    dataset : str
    shape : (int, int), optional
        Numbers of training samples and inputs, for which another rule's defaults are chosen
        (:mod:`tinyfoa_np.defaults`); without it, they are those of published data sets.
    **given
        Fields of the recipe, and options of the rule.

    Raises
    ------
    BadRequest
        If the fields contradict each other.
    """
    if "normalize" in given:
        raise BadRequest("the scaling of inputs travels with the model: leave --normalize out")
    own = replace(model.recipe, dataset=dataset, digest=None, limit=None, start=None, freeze=None)
    by_network = own.rule.by_network
    if given.get("algorithm", own.algorithm) != own.algorithm:
        shared = "network", "binary_weights", "binary_activations", "normalize", "seed", "lc_connect"
        fields = {**{name: getattr(own, name) for name in shared}, **given, "dataset": dataset}
        return Recipe().changed(defaults.completed(fields, *shape) if shape else fields).validated()
    usual = SLICING if set(given) & set(SLICING) else ()
    if by_network and given.get("network", own.network) != own.network:
        usual = (*usual, *by_network(own.network))
    own = replace(own, **{name: getattr(Recipe, name) for name in usual})
    return own.changed(given).validated()


@dataclass(frozen=True, eq=False)
class Start:
    """A model to start from.

    Attributes
    ----------
    name : str
        What messages call it.
    model : Model
    layers : list of lists of ndarray
        For each of the model's layers weights and biases, float32, and the running statistics if there are any.
    """

    name: str
    model: Model
    layers: list[list[np.ndarray]]

    @classmethod
    def of(cls, source: str | os.PathLike[str] | Model | Start) -> Start:
        """Read a run directory or a model file, which are untrusted, or take a model.

        Raises
        ------
        BadRequest
            If there is no finished model.
        CheckFailed
            If the file or the run's flash is damaged.
        """
        if isinstance(source, Start):
            return source
        if isinstance(source, Model):
            return cls("the model", source, list(map(_published, source.layers)))
        path = Path(source)
        model = load(path / "model.safetensors" if path.is_dir() else path)
        whole = _from_flash(path, model) if path.is_dir() and any(map(is_packed, model.layers)) else None
        return cls(str(source), model, whole or list(map(_published, model.layers)))

    @property
    def digest(self) -> str:
        """SHA-256 over the layers' SHA-256 of all numbers, little-endian float32."""
        digests = b""
        for arrays in self.layers:
            hashed = hashlib.sha256()
            for array in arrays:
                hashed.update(np.ascontiguousarray(array).data)
            digests += hashed.digest()
        return hashlib.sha256(digests).hexdigest()

    # -- the inputs ----------------------------------------------------------------------------------------------------

    def scaled(self, recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
        """The recipe and the data set with the model's scaling of inputs.

        Raises
        ------
        BadRequest
            If the samples are not of the kind and width that the model takes.
        """
        known, inputs = self.model.inputs, dataset.train.inputs
        kind = "bytes" if inputs.dtype == np.uint8 else "real"
        if (kind, inputs.shape[1]) != (known.kind, known.width):
            takes = f"{self.name} takes {known.width} inputs ({known.kind}) per sample"
            raise BadRequest(f"{takes}, and {dataset.name} has {inputs.shape[1]} ({kind}): other data or another model")
        if known.image and dataset.image and known.image != dataset.image:
            shapes = (" x ".join(map(str, image)) for image in (known.image, dataset.image))
            raise BadRequest(
                "{} takes images of {}, and {} has {}".format(self.name, next(shapes), dataset.name, *shapes)
            )
        names = (dataset.origin or {}).get("columns")
        if self.model.columns and names and names != self.model.columns:
            pairs = zip(self.model.columns, names, strict=True)
            old, new = next((old, new) for old, new in pairs if old != new)
            raise BadRequest(f"{self.name} takes column {old!r} where {dataset.name} has {new!r}: use --drop or --keep")
        recipe = replace(recipe, normalize="standard")  # which is the data set's own scaling, here the model's
        if kind == "bytes":
            return recipe, replace(dataset, scale=known.scale, offset=known.offset)
        affine = self.model.affine
        if affine is None:
            return recipe, replace(dataset, columns=None)
        shift, factor = (array.astype(np.float64) for array in affine)
        varies = factor != 0
        deviation = np.divide(1.0, factor, out=np.ones_like(factor), where=varies)
        columns = Columns(shift, deviation, np.zeros_like(shift), varies.astype(np.float64))
        return recipe, replace(dataset, columns=columns)

    def planned(self, recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
        """The recipe of a training that starts here, and the data set as :meth:`scaled`, for plans."""
        return self.scaled(replace(recipe, start=self.digest), dataset)

    # -- the weights ---------------------------------------------------------------------------------------------------

    def given(self, recipe: Recipe, dataset: Dataset, stages: Sequence[Stage]) -> Objects:
        """The objects to be written to the flash of a run with these stages.

        Raises
        ------
        BadRequest
            If the networks do not share their lower layers, or a frozen layer is not among those.
        """
        own = self.model
        layers = [layer for stage in stages for layer in stage.layers]
        trained = [layer for stage in stages_of(own.recipe, own.inputs, own.classes, 1) for layer in stage.layers]
        if recipe.kind != own.recipe.kind:
            raise self._other(recipe, "layers are kept in another form")
        names = (dataset.origin or {}).get("labels")
        alike = own.classes == dataset.classes and own.labels == names
        if recipe.kind == "graph":
            return self._of_groups(recipe, layers, trained, alike)
        objects, count = {}, min(len(widths(recipe.network)), len(widths(own.recipe.network)))
        if recipe.frozen and max(recipe.frozen) >= count:
            raise self._other(recipe, f"layer {max(recipe.frozen) + 1} is to be frozen, and it has {count}")
        known = {layer.number: (layer, arrays) for layer, arrays in zip(trained, self.layers, strict=True)}
        hidden, same = len(widths(recipe.network)), widths(recipe.network) == widths(own.recipe.network)
        for layer in layers:
            old, arrays = known.get(layer.number, (None, []))
            sizes = layer.given_objects()[layer.name("given")]
            if layer.number >= hidden:
                if not (alike and same and recipe.algorithm == own.recipe.algorithm):
                    continue
            elif old is None or layer.number >= count:
                continue
            elif not _same_shape(layer, old):
                raise self._other(recipe, f"layer {layer.number + 1} differs")
            if not sizes[1] and arrays[1].any():
                raise self._other(recipe, f"{recipe.algorithm} has no biases")
            given = [np.ascontiguousarray(array, np.float32) for array in arrays]
            if given[1].nbytes != sizes[1]:
                given[1] = np.zeros(sizes[1] // 4, np.float32)
            objects[layer.name("given")] = given
        return objects

    def _of_groups(self, recipe: Recipe, layers: Sequence[Any], trained: Sequence[Any], alike: bool) -> Objects:
        """Objects of a graph: operations in order, and the head or the labels of groups if these are the same."""
        olds, news = list(_operations(trained)), list(_operations(layers))
        old_head, new_head = (
            [each.pop()] if r.rule.answers in ("logits", "targets") else []
            for each, r in ((olds, self.model.recipe), (news, recipe))
        )
        objects: Objects = {}
        for number, ((group, k, one), (old, _, other)) in enumerate(zip(news, olds, strict=False)):
            there, here = (f"{each.kind} {' x '.join(map(str, each.weight))}" for each in (other, one))
            if there != here:
                raise self._other(recipe, f"operation {number + 1} is {there} there and {here} here")
            weights, statistics = self._parameters(old, other)
            if not one.biased and weights[one.size :].any():
                raise self._other(recipe, f"{recipe.algorithm} has no biases")
            weights = np.concatenate([weights[: one.size], np.zeros(max(0, one.size - len(weights)), np.float32)])
            objects[group.name(f"given{k}")] = [weights, statistics]
        needed = [f"{group.name('given')}{k}" for group, k, _ in news if group.frozen]
        if not set(needed) <= set(objects):
            raise self._other(recipe, "it does not have all the frozen units")
        if (
            alike
            and len(olds) == len(news)
            and new_head
            and old_head
            and new_head[0][2].weight == old_head[0][2].weight
        ):
            objects[new_head[0][0].name(f"given{new_head[0][1]}")] = self._parameters(old_head[0][0], old_head[0][2])
        if alike and [one.extra for one in layers] == [one.extra for one in trained]:
            for new, (weights, *_), old in zip(layers, self.layers, trained, strict=True):
                if label := weights[old.program.parameters :].size:
                    objects[new.name("given_label")] = [weights[-label:]]
        return objects

    def _parameters(self, group: Group, one: Operation) -> list[np.ndarray]:
        weights, running = self.layers[group.number]
        statistics = running[one.running : one.running + int(np.prod(one.weight))] if one.kind == NORM else running[:0]
        return [weights[one.at : one.at + one.size], statistics]

    def _other(self, recipe: Recipe, why: str) -> BadRequest:
        own = self.model.recipe
        return BadRequest(
            f"{self.name} is {own.algorithm} on {own.network}, whose lower layers are not those of"
            f" {recipe.algorithm} on {recipe.network}: {why}"
        )


def _same_shape(layer: Layer, old: Layer) -> bool:
    if isinstance(layer, Local) and isinstance(old, Local):
        return layer.shape == old.shape
    return (layer.O, layer.inputs.width) == (old.O, old.inputs.width)


def _operations(groups: Sequence[Group]) -> Iterator[tuple[Group, int, Operation]]:
    """The operations with parameters, each with its group and its number there."""
    for group in groups:
        for k, one in enumerate(group.program.operations):
            if one.weight:
                yield group, k, one


def _published(layer: TrainedLayer) -> list[np.ndarray]:
    """Weights, biases and running statistics of a trained layer; binary weights are alpha times their signs."""
    weights = layer.weights
    if is_packed(layer):
        inputs = layer.shape.fan_in if layer.shape else layer.inputs.width
        weights = unpacked(signs(layer), inputs) * np.float32(layer.alpha)
    return [weights, layer.bias, *([] if layer.running is None else [layer.running])]


def _from_flash(run_dir: Path, model: Model) -> list[list[np.ndarray]] | None:
    """Full-precision parameters of a run's layers; None if a lean run has deleted them.

    Raises
    ------
    CheckFailed
        If flash does not hold what the recipe says, or a number is not finite.
    """
    layers = results.layers(run_dir, model)
    with Flash.open(run_dir / "flash", model.recipe.identity, memoryview(bytearray(1 << 20))) as flash:
        if layers[0].name("slices") not in flash.names():
            return None
        for layer in layers:
            for name, sizes in layer.objects().items():
                if name not in flash.names() or flash.sizes(name) != Sizes.of(sizes):
                    raise CheckFailed(f"{run_dir} does not hold {name} as its recipe says: it was altered")
        found = [_whole_local(flash, one) if isinstance(one, Local) else _whole(flash, one) for one in layers]
    if not all(np.isfinite(array).all() for arrays in found for array in arrays):
        raise CheckFailed(f"{run_dir} holds weights that are not finite: it was altered")
    return found


def _whole(flash: Flash, layer: Parameters) -> list[np.ndarray]:
    W, b = np.zeros((layer.O, layer.I), np.float32), np.zeros(layer.biases, np.float32)
    for k in range(len(layer.grid)):
        first, last, low, high = layer.grid.slice(k)
        block = np.zeros((last - first, high - low), np.float32)
        flash.read(layer.name("slices"), k, [block])
        W[first:last, low:high] = block
    for j in range(layer.grid.side if layer.biased else 0):
        flash.read(layer.name("biases"), j, [b[slice(*layer.bias_rows(j))]])
    return [W, b]


def _whole_local(flash: Flash, layer: Local) -> list[np.ndarray]:
    shape = layer.shape
    W, b = np.zeros((shape.places, shape.channels, layer.I), np.float32), np.zeros(layer.biases, np.float32)
    running = np.zeros((2, shape.channels), np.float32)
    for k in range(len(layer.grid)):
        top, bottom = layer.grid.bounds(k)
        block = np.zeros((shape.places, bottom - top, layer.I), np.float32)
        flash.read(layer.name("slices"), k, [block])
        W[:, top:bottom] = block
        flash.read(layer.name("biases"), k, [b[slice(*layer.bias_rows(k))]])
    flash.read(layer.name("running"), 0, [running])
    return [W, layer.by_position(b), running]
