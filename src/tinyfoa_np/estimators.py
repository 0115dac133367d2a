"""Classifiers as scikit-learn knows them (extra ``sklearn``): one for each algorithm, which name it and nothing more.

Their parameters are those of a :class:`.recipe.Recipe`, with ``random_state`` for its seed, and what says where and in
how much memory to train.

Examples
--------
>>> from sklearn.datasets import load_digits
>>> from tinyfoa_np import TinyFoAClassifier
>>> X, y = load_digits(return_X_y=True)
>>> classifier = TinyFoAClassifier(network="fc:100", epochs=5, batch=10, lr=0.002).fit(X.astype("uint8"), y)
>>> classifier.memory_["arena"]["watermark_bytes"] < 100_000
True
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(f'estimators need scikit-learn 1.6 or newer ({error}): pip install ".[sklearn]"') from error

from .data import Dataset, Split
from .errors import BadRequest
from .model import model
from .recipe import Recipe
from .reports import audit as report
from .run.directory import stand_in
from .run.events import Interrupted
from .run.train import train


class Classifier(ClassifierMixin, BaseEstimator):
    """What the classifiers have in common; each names its ``algorithm``.

    Samples (N, I) of uint8 stay bytes, in the training as in the model, and are seen normalized with the mean and the
    deviation of what the first call was given, or from 0 to 1 (``normalize``); all others become float32 and are seen
    as they are: scale them beforehand, most simply in a Pipeline. Labels may be anything that scikit-learn takes for
    classes.

    Parameters
    ----------
    network, slices, schedule, hold, exchanges, visits, order, epochs, batch, lr, lr_schedule, optimizer, moments
        See :class:`.recipe.Recipe`; so for all up to ``lc_connect``. None is the algorithm's own default, and of
        ``slices`` 1 where there is but one feature.
    options : dict, optional
        The algorithm's own options, where a package that provides it has some.
    image : (int, int, int), optional
        Channels, rows and columns of samples that are images, whose features come channel by channel and row by row:
        networks of convolutions (``"cnn"``, ``"resnet8"``) and locally connected ones (``"lc:16,32"``) need to know it.
    shuffle : bool
        Shuffle the samples once before they are cut into batches: what is sorted by class would not be learnt.
    random_state : int, RandomState or None
        An integer is the recipe's seed: the same data and parameters then give the same model, bit for bit. From
        another source of randomness a seed is drawn.
    ram : int, optional
        The most bytes that training may take; the model is the same with any. Without it, whatever is fastest.
    threads : int, optional
        All cores without it; the model does not depend on it.
    run_dir : path, optional
        Where flash, metrics, model and audit go: a directory that is empty or does not exist, which ``tinyfoa audit``,
        ``plot`` and ``report`` then read. Without it, a temporary one, which goes with the estimator.

    Attributes
    ----------
    classes_ : ndarray (C,)
    n_features_in_ : int
    model_ : Model
        What was trained.
    memory_ : dict
        The audit of the last training, as ``tinyfoa audit --json`` prints it: ``memory_["arena"]`` has ``planned``,
        ``accounted`` and ``watermark`` bytes.
    model_sha256_ : str
        Of all weights and biases: equal where two models are.
    """

    algorithm: str

    def __init__(
        self,
        network: str = Recipe.network,
        slices: int | None = Recipe.slices,
        schedule: str = Recipe.schedule,
        hold: str | None = Recipe.hold,
        exchanges: int | None = Recipe.exchanges,
        visits: int | None = Recipe.visits,
        order: str | None = Recipe.order,
        epochs: int = Recipe.epochs,
        batch: int = Recipe.batch,
        lr: float | None = Recipe.lr,
        lr_schedule: str = Recipe.lr_schedule,
        optimizer: str | None = Recipe.optimizer,
        moments: str = Recipe.moments,
        decay: float | None = Recipe.decay,
        classifier_lr: float | None = Recipe.classifier_lr,
        classifier_decay: float | None = Recipe.classifier_decay,
        label_scale: float | None = Recipe.label_scale,
        peer: float | None = Recipe.peer,
        dropout: float | None = Recipe.dropout,
        normalize: str | None = Recipe.normalize,
        binary_weights: bool = Recipe.binary_weights,
        binary_activations: bool = Recipe.binary_activations,
        recompute: bool = Recipe.recompute,
        theta: float | None = Recipe.theta,
        label_width: int | None = Recipe.label_width,
        groups: str | None = Recipe.groups,
        merge: str | None = Recipe.merge,
        rms: bool | None = Recipe.rms,
        lc_connect: str | None = Recipe.lc_connect,
        options: dict[str, Any] | None = None,
        image: tuple[int, int, int] | None = None,
        shuffle: bool = True,
        random_state: Any = None,
        ram: int | None = None,
        threads: int | None = None,
        run_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.network = network
        self.slices = slices
        self.schedule = schedule
        self.hold = hold
        self.exchanges = exchanges
        self.visits = visits
        self.order = order
        self.epochs = epochs
        self.batch = batch
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.optimizer = optimizer
        self.moments = moments
        self.decay = decay
        self.classifier_lr = classifier_lr
        self.classifier_decay = classifier_decay
        self.label_scale = label_scale
        self.peer = peer
        self.dropout = dropout
        self.normalize = normalize
        self.binary_weights = binary_weights
        self.binary_activations = binary_activations
        self.recompute = recompute
        self.theta = theta
        self.label_width = label_width
        self.groups = groups
        self.merge = merge
        self.rms = rms
        self.lc_connect = lc_connect
        self.options = options
        self.image = image
        self.shuffle = shuffle
        self.random_state = random_state
        self.ram = ram
        self.threads = threads
        self.run_dir = run_dir

    def fit(self, X: Any, y: Any) -> Classifier:
        """Trains from the beginning.

        Parameters
        ----------
        X : array-like (N, I)
        y : array-like (N,)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters are not such as can be trained with; the message says what would be right.
        Diverged
            If numbers are no longer finite: a smaller ``lr`` is called for.
        """
        X, y = validate_data(self, X, y, multi_output=True)  # of labels that are a column, the next line warns
        check_classification_targets(y := column_or_1d(y, warn=True))
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._begin(X)
        return self._train(X, labels)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Classifier:
        """Trains on the next part of a stream: one epoch of these samples, in batches of ``batch``.

        Layer by layer as in :meth:`fit`: with TinyFoA, each layer trains for an epoch on these samples, then hands over
        to the next; in the other algorithms all layers train together. Weights, biases, the optimizer's moments and
        step counts, and the schedule's place are those that the last call, or :meth:`fit`, has left: call k is the
        schedule's epoch k, which begins anew after ``epochs`` calls. Samples of earlier calls are not kept.

        For the algorithms that train all layers together, as many calls as ``epochs`` on the same samples are
        :meth:`fit`, to the bit; so are they for one layer of TinyFoA. Its layers above the first are here trained on
        what lower ones hand over now, not on what they will once they are done. With binary activations, inference
        takes each layer's scale from the last call's samples: calls with few make it uncertain.

        Parameters
        ----------
        X : array-like (N, I)
        y : array-like (N,)
        classes : array-like (C,), optional
            All that will ever come: needed in the first call, in later ones the same.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As for :meth:`fit`; and if it is a first call without ``classes``, if labels are none of these, or if the
            training so far is not there any more: that of a copy, or of an estimator that was pickled, without
            ``run_dir``.
        """
        first = not hasattr(self, "model_")
        X, y = validate_data(self, X, y, reset=first, multi_output=True)
        check_classification_targets(y := column_or_1d(y, warn=True))
        if first and classes is None:
            raise ValueError("the first call of partial_fit needs classes: all that will ever come")
        if classes is not None:
            known = np.unique(classes)
            if not first and not np.array_equal(known, self.classes_):
                raise ValueError(f"classes are {known}, but were {self.classes_} in the first call")
            self.classes_ = known
        if not np.isin(y, self.classes_).all():
            raise ValueError(f"y has labels that are none of the classes {self.classes_}")
        if first:
            self._begin(X, stream=True)
        elif not hasattr(self, "_run"):
            raise ValueError(
                "the training so far was in a temporary directory, which copies and pickles leave behind: give run_dir"
            )
        return self._train(X, np.searchsorted(self.classes_, y), stream=True)

    def predict(self, X: Any) -> np.ndarray:
        """Classes (N,) of samples X (N, I): those with the largest logits, the first of equals."""
        X = self._checked(X)
        return self.classes_[self.model_.predict(X)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, C), float64, of samples X (N, I): the softmax of the model's logits.

        That is what TinyFoA, BP and PEPITA are trained for. With DRTP, which is trained for a sigmoid of each class,
        and FF and GIFF, whose logits are the goodness of each label, it says which class is the likelier, not how
        likely.
        """
        X = self._checked(X)
        logits = self.model_.scores(X)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    # -- the training --------------------------------------------------------------------------------------------------

    def _begin(self, X: np.ndarray, stream: bool = False) -> None:
        """A run of its own, its recipe, and how its bytes are seen; of a stream as in the directory's run."""
        if len(self.classes_) < 2:
            raise ValueError("there is one class only: two or more would be right")
        given = {name: value for name, value in self.get_params().items() if name in Recipe.__dataclass_fields__}
        given["options"] = self.options or {}
        if self.slices is None and X.shape[1] == 1:
            given["slices"] = 1
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31)
        try:
            self._recipe = Recipe(dataset="samples", algorithm=self.algorithm, seed=int(seed), **given).validated()
        except BadRequest as error:
            raise ValueError(str(error)) from error
        self._shape = self._shaped(X.shape[1])
        self._place()
        self._affine, self._bytes = (1.0, 0.0, 1.0), X.dtype == np.uint8
        if stream and (Path(self._run) / "data.json").exists():
            before = stand_in(Path(self._run))
            self._affine = before.scale, before.offset, before.unit
            self._bytes = before.train.inputs.dtype == np.uint8
        elif self._bytes:
            deviation = float(X.std()) or 1.0
            self._affine = 1 / deviation, -float(X.mean()) / deviation, 1 / float(X.max() or 1)

    def _shaped(self, features: int) -> tuple[int, int, int] | None:
        """Channels, rows and columns of the samples; None if they are no images, or are not read as such."""
        if self.image is None:
            return None
        shape = np.atleast_1d(self.image).tolist()
        if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape) or prod(shape) != features:
            raise ValueError(f"image is {self.image}: channels, rows and columns of {features} features would be right")
        return shape[0], shape[1], shape[2]

    def _place(self) -> None:
        """Where the run goes; a temporary directory of the one before is not needed any more."""
        if before := self.__dict__.pop("_temporary", None):
            _remove(*before)
        if self.run_dir is None:
            self._temporary = tempfile.mkdtemp(prefix="tinyfoa-"), os.getpid()
            weakref.finalize(self, _remove, *self._temporary)
        self._run = self._temporary[0] if self.run_dir is None else os.fspath(self.run_dir)

    def _train(self, X: np.ndarray, labels: np.ndarray, stream: bool = False) -> Classifier:
        """Trains on samples and numbers of their classes, and takes over what came of it."""
        X = self._held(X)
        scale, offset, unit = self._affine
        dataset = Dataset(
            "samples", Split(X, labels), Split(X[:0], labels[:0]), len(self.classes_), scale, offset, unit, self._shape
        )
        try:
            result = train(self._recipe, dataset, self._run, ram=self.ram, threads=self.threads, stream=stream)
        except BadRequest as error:
            raise ValueError(str(error)) from error
        except Interrupted as error:
            raise KeyboardInterrupt(str(error)) from error
        self.model_ = model.load(Path(self._run) / "model.safetensors")
        self.memory_ = report.audit(self._run)
        self.model_sha256_ = result["model_sha256"]
        return self

    def _checked(self, X: Any) -> np.ndarray:
        """Samples to answer for, as the model takes them."""
        check_is_fitted(self, "model_")
        return self._held(validate_data(self, X, reset=False))

    def _held(self, X: np.ndarray) -> np.ndarray:
        """Samples (N, I) as bytes, where the first ones were, else float32."""
        kind = np.uint8 if self._bytes else np.float32
        with np.errstate(over="ignore", invalid="ignore"):
            held = X.astype(kind, copy=False)
        if self._bytes and not np.array_equal(held, X):
            raise ValueError("X has values that are no bytes, as it had in training: whole numbers from 0 to 255")
        if not np.isfinite(held).all():
            raise ValueError("X holds infinity or a value too large for float32")
        return held

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        left = ("_temporary", "_run") if "_temporary" in state else ()
        return {name: value for name, value in state.items() if name not in left}


def _remove(directory: str, owner: int) -> None:
    """Removes a temporary directory, unless a forked process asks, whose parent still needs it."""
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


class TinyFoAClassifier(Classifier):
    """TinyFoA (:mod:`.rules.tinyfoa`): layers one after another; parameters are those of :class:`Classifier`."""

    algorithm = "tinyfoa"


class BPClassifier(Classifier):
    """Backpropagation (:mod:`.rules.bp`); parameters are those of :class:`Classifier`."""

    algorithm = "bp"


class DRTPClassifier(Classifier):
    """Direct random target projection (:mod:`.rules.drtp`); parameters are those of :class:`Classifier`."""

    algorithm = "drtp"


class PEPITAClassifier(Classifier):
    """PEPITA (:mod:`.rules.pepita`); parameters are those of :class:`Classifier`."""

    algorithm = "pepita"


class FFClassifier(Classifier):
    """Forward-forward (:mod:`.rules.ff`); parameters are those of :class:`Classifier`.

    The algorithm writes a label in the place of a sample's first C inputs, which on the images of its paper are a black
    border. Here as many zeros come before the features, so that none is lost.
    """

    algorithm = "ff"

    def _shaped(self, features: int) -> None:
        super()._shaped(features)  # with the zeros, samples are no images

    def _held(self, X: np.ndarray) -> np.ndarray:
        held = super()._held(X)
        return np.hstack([np.zeros((len(held), len(self.classes_)), held.dtype), held])


class GIFFClassifier(Classifier):
    """Generalized forward-forward (:mod:`.rules.giff`); parameters are those of :class:`Classifier`.

    Its networks have real weights and activations, whatever ``binary_weights`` and ``binary_activations`` say. With
    ``image``, ``network`` may be one of convolutions, as ``"cnn"``.
    """

    algorithm = "giff"
