"""Answers that stop at the first confident layer (:mod:`tinyfoa_np.rules.lightff`), and their thresholds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from ..errors import BadRequest, CheckFailed
from ..rules import lightff
from ..rules.classifiers import ClassifiedStage
from ..storage.files import open_file, parse_json
from ..storage.whole_file import write_whole
from .model import BATCH, Model

#: the file with a model's thresholds, beside the model
NAME = "exit.json"
#: largest size of that file, in bytes
LARGEST = 1 << 20


@dataclass(frozen=True)
class Thresholds:
    """Mean and deviation of the right labels' scores after each layer, over the training set."""

    mean: list[float]
    deviation: list[float]

    def limits(self, factor: float = 1.0) -> np.ndarray:
        """Scores (L,) at which a sample stops: ``factor`` deviations below the mean."""
        return np.array(self.mean) - factor * np.array(self.deviation)

    def save(self, model: Path) -> None:
        """Write them beside a model's file."""
        write_whole(model.with_name(NAME), (json.dumps(asdict(self)) + "\n").encode())

    @classmethod
    def load(cls, path: Path, model: Model) -> Thresholds:
        """Read the thresholds that :meth:`save` wrote beside the model's file; they are untrusted.

        Raises
        ------
        BadRequest
            If there are none, or the model's rule has none.
        CheckFailed
            If they are not those of such a network.
        """
        path = path.with_name(NAME)
        with _stage(model, 1) as stage:
            layers = stage.top
        if not path.exists():
            raise BadRequest(f"there is no {path}: run tinyfoa evaluate with --exit first")
        try:
            with open(open_file(path), "rb") as file:
                known = parse_json(file.read(LARGEST))
            found = cls(list(known["mean"]), list(known["deviation"]))
            for values in (found.mean, found.deviation):
                if len(values) != layers or not all(type(v) is float and isfinite(v) for v in values):
                    raise ValueError("its numbers are not those of this network")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckFailed(f"{path} does not hold a model's thresholds: {error}") from error
        return found


@contextmanager
def _stage(model: Model, samples: int) -> Iterator[ClassifiedStage]:
    """The network in its arena, with room for all labels of a sample.

    Raises
    ------
    BadRequest
        If the model's rule has no goodness after each layer, or there are too many classes.
    """
    if model.classes > 2 * BATCH:
        raise BadRequest(f"--exit takes models of at most {2 * BATCH} classes, not {model.classes}")
    with model.inference(max(samples, -(-model.classes // 2))) as inference:
        (stage, *others) = inference.stages
        if others or not isinstance(stage, ClassifiedStage):
            raise BadRequest(f"--exit applies to models of ff, not of {model.recipe.algorithm}")
        yield stage


def calibrated(model: Model, x: np.ndarray, labels: np.ndarray) -> Thresholds:
    """Thresholds from the training set: samples (N, I) as for :meth:`.model.Model.predict`, and their classes (N,)."""
    samples = model.encoded(x)
    with _stage(model, len(samples)) as stage:
        parts = [slice(start, start + stage.B) for start in range(0, len(samples), stage.B)]
        right = lightff.right_probabilities if stage.each else lightff.right_scores
        found = np.concatenate([right(stage, samples[own], labels[own]) for own in parts], axis=1)
    return Thresholds(found.mean(axis=1).tolist(), found.std(axis=1).tolist())


def predict(model: Model, x: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers (N,) and the layers (N,) at which the samples stop, from 0."""
    samples = model.encoded(x)
    with _stage(model, len(samples)) as stage:
        return (lightff.one_pass_answers if stage.each else lightff.answers)(stage, samples, limits)


def products(model: Model) -> np.ndarray:
    """Multiplications of an answer that stops at each layer (L,): one pass per label through the layers so far.

    Or one pass through the layers and their classifiers, if each layer has one.
    """
    with _stage(model, 1) as stage:
        hidden = np.array([layer.I * layer.O for layer in stage.answering])
        if not stage.each:
            return model.classes * np.cumsum(hidden)
        beside = [sum(stage.layers[number].I * model.classes for number in numbers) for numbers in stage.exits]
        return np.cumsum(hidden + beside)
