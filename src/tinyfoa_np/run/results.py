"""Read back a finished run: its result, its epochs, its initial and trained weights."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadRequest, CheckFailed, OtherNumerics
from ..kernels import random as random_kernels
from ..layers.parameters import Parameters
from ..model.export import fully_connected, signs, unpacked
from ..model.model import Model, load
from ..network import widths
from ..recipe import Recipe
from ..rules.fit import Layout
from ..storage.files import ROWS_LIMIT, read_json, read_whole
from ..storage.flash import Flash
from ..storage.sizes import Sizes
from .commit_checks import check_samples
from .directory import stand_in
from .outcome import Epoch, checked_result, epoch_of

#: recipe fields to show when comparing runs
SHOWN = (
    "dataset",
    "algorithm",
    "network",
    "slices",
    "schedule",
    "binary_weights",
    "binary_activations",
    "epochs",
    "seed",
)


def result(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """The result of :func:`tinyfoa_np.run.train.train` of a finished run.

    Raises
    ------
    BadRequest
        If the run has not finished.
    CheckFailed
        If the stored result is damaged.
    """
    path = Path(run_dir) / "audit.json"
    if not os.path.lexists(path):
        raise BadRequest(f"{run_dir} has no audit.json: a run writes it when it finishes (tinyfoa train --resume DIR)")
    try:
        return checked_result(read_json(path))
    except OtherNumerics as error:
        raise OtherNumerics(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadRequest) as error:
        raise CheckFailed(f"{path} is not the record of a run: {error}") from error


def figures(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Figures for comparing runs: error in %, bytes of RAM (the watermark), of flash and written to it, and seconds.

    Seconds are per epoch, summed over layers that train one after another. Raises as :func:`result`.
    """
    known = result(run_dir)
    recipe, flash = known["recipe"], known["flash"]
    return {
        "run_dir": str(run_dir),
        **{name: recipe[name] for name in SHOWN},
        "error_pct": known["error_pct"],
        "ram_bytes": known["arena"]["watermark_bytes"],
        "flash_bytes": flash["bytes"],
        "written_bytes": flash["written_bytes"],
        "seconds_per_epoch": sum(known["seconds_per_epoch"]),
        "model_sha256": known["model_sha256"],
        "recipe": recipe,
    }


def epochs(run_dir: str | os.PathLike[str]) -> list[Epoch]:
    """The finished epochs of a run, in order.

    Raises
    ------
    BadRequest
        If there are none.
    CheckFailed
        If the file is damaged.
    """
    path = Path(run_dir) / "metrics.jsonl"
    try:
        rows = list(map(epoch_of, read_whole(path, ROWS_LIMIT).splitlines()))
    except FileNotFoundError as error:
        raise BadRequest(f"{run_dir} has no metrics.jsonl: training writes it") from error
    except (OSError, ValueError, TypeError) as error:
        raise CheckFailed(f"{path} is damaged: {error}") from error
    if not rows:
        raise BadRequest(f"{run_dir} has not finished an epoch: tinyfoa train --resume DIR")
    return rows


def model(run_dir: str | os.PathLike[str]) -> Model:
    """The trained model of a run; errors as in :func:`tinyfoa_np.model.model.load`."""
    return load(Path(run_dir) / "model.safetensors")


def tested(run_dir: str | os.PathLike[str], trained: Model) -> tuple[Model, np.ndarray, np.ndarray]:
    """A finished run's model, for samples as flash holds them, with its test samples (N, I) and labels (N,) from there.

    Raises
    ------
    FlashError
        If flash is damaged, or in use by another process.
    CheckFailed
        If flash does not hold as many test samples as the run describes, or a label that is not one of the classes.
    """
    data = stand_in(Path(run_dir))
    layout = Layout(trained.recipe, data, 1)
    records, inputs = layout.test_set, layout.inputs
    scale = np.ones(1, np.float32)
    with Flash.open(Path(run_dir) / "flash", trained.recipe.identity, memoryview(bytearray(1 << 20))) as flash:
        if records.name not in flash.names() or flash.sizes(records.name) != Sizes.of([records.nbytes]):
            raise CheckFailed(f"{run_dir} does not hold {records.samples:,} test samples: data.json was altered")
        check_samples(flash, records, inputs, trained.classes)
        held, labels = np.zeros((records.samples, inputs.columns), inputs.dtype), np.zeros(records.samples, np.uint16)
        for k in range(records.batches):
            rows = slice(k * records.batch, k * records.batch + records.count(k))
            records.read(flash, k, held[rows], labels[rows], scale)
    # columns in flash are already scaled
    return replace(trained, affine=None), held, labels.astype(np.int64)


def layers(run_dir: str | os.PathLike[str], trained: Model) -> list[Parameters]:
    """The layers of a run as laid out in flash, lowest first."""
    chosen = Layout(trained.recipe, stand_in(Path(run_dir)), 1).fit(None)
    return [layer for one in chosen for layer in one.stage.layers if isinstance(layer, Parameters)]


def hidden_layers(trained: Model) -> int:
    """Number of hidden layers of a fully connected model; further layers belong to a head."""
    return len(widths(trained.recipe.network))


def drawable(recipe: Recipe) -> bool:
    """Whether the weights of such a run can be drawn: a row for each neuron of each layer."""
    return not recipe.deep and fully_connected(recipe.network)


def trained_signs(trained: Model, number: int) -> np.ndarray:
    """Signs (O, I) int8 of a trained layer's weights, +1 or -1; the sign of 0 is +1.

    Raises
    ------
    BadRequest
        If the network is not fully connected.
    """
    if not drawable(trained.recipe):
        raise BadRequest(f"{trained.recipe.network} is not fully connected: its weights cannot be drawn")
    layer = trained.layers[number]
    if layer.weights.dtype == np.uint64:
        return unpacked(signs(layer), layer.inputs.width)
    return np.where(layer.weights >= 0, np.int8(1), np.int8(-1))


def initial_signs(trained: Model, number: int) -> np.ndarray:
    """Signs (O, I) int8 of a layer's initial weights, regenerated from the seed."""
    recipe, layer = trained.recipe, trained.layers[number]
    outputs, inputs = layer.outputs, layer.inputs.width
    made, seed = np.zeros(outputs * inputs, np.float32), np.uint64(recipe.seed)
    if recipe.rule.normal_start and number >= hidden_layers(trained):
        pass  # parts of the classifier begin with zeros
    elif recipe.rule.normal_start:
        random_kernels.normals(made, 0, number, random_kernels.WEIGHT, seed, 1.0)
    else:
        random_kernels.uniform(made, 0, outputs, 0, inputs, inputs, number, random_kernels.WEIGHT, seed, np.float32(1))
    return np.where(made >= 0, np.int8(1), np.int8(-1)).reshape(outputs, inputs)


def weights(run_dir: str | os.PathLike[str], layer: Parameters) -> np.ndarray | None:
    """Full-precision weights (O, I) float32 of a trained layer, from flash; None if a lean run deleted them.

    Raises
    ------
    FlashError
        If flash is damaged, or in use by another process.
    """
    name = layer.name("slices")
    with Flash.open(Path(run_dir) / "flash", layer.recipe.identity, memoryview(bytearray(1 << 20))) as flash:
        if name not in flash.names():
            return None
        W = np.zeros((layer.O, layer.I), np.float32)
        for k in range(len(layer.grid)):
            first, last, low, high = layer.grid.slice(k)
            block = np.zeros((last - first, high - low), np.float32)
            flash.read(name, k, [block])
            W[first:last, low:high] = block
    return W
