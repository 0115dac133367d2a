"""Classifiers for scikit-learn (extra ``sklearn``), one per algorithm.

Their parameters are those of a :class:`.recipe.Recipe`, with ``random_state`` for its seed, and options for the
location and memory of the training.

Examples
--------
>>> from sklearn.datasets import load_digits
>>> from tinyfoa_np import TinyFoAClassifier
>>> X, y = load_digits(return_X_y=True)
>>> classifier = TinyFoAClassifier(network="fc:100", epochs=5).fit(X.astype("uint8"), y)
>>> classifier.memory_["arena"]["watermark_bytes"] < 100_000
True
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
import weakref
from inspect import signature
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

try:
    from scipy.sparse import issparse
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(f'estimators need scikit-learn 1.6 or newer ({error}): pip install ".[sklearn]"') from error

from . import defaults
from .data import Dataset, Split
from .data.dataset import Columns
from .data.splits import shuffled
from .data.user_files import SEED
from .data.weights import in_order, repeats
from .errors import BadRequest
from .model import model
from .recipe import Recipe
from .reports import audit as report
from .run import directory, results
from .run.advice import advice
from .run.events import Interrupted
from .run.start import Start, further
from .run.stopping import Patience, Watch
from .run.train import train
from .storage.files import unsynced

#: ratio of columns' standard deviations above which a warning is given
UNSCALED = 100


class Classifier(ClassifierMixin, BaseEstimator):
    """Base class of the classifiers; each subclass sets ``algorithm``.

    Samples (N, I) of uint8 stay bytes, in training and in the model. They are scaled by the mean and the deviation of
    the samples in the first call, or to 0 to 1 (``normalize``). All others become float32 and are used as they are,
    unless ``normalize`` says how to scale their columns. Sparse matrices are converted to dense ones. Labels may be
    anything that scikit-learn accepts as classes.

    Parameters
    ----------
    network, epochs, batch, lr, lr_schedule, binary_weights, binary_activations
        See :class:`.recipe.Recipe`. None is replaced by a value that depends on the number of samples and on the
        algorithm: :mod:`.defaults`.
    slices, schedule, hold, exchanges, visits, order, optimizer, moments, ..., augment, reshuffle, freeze
        See :class:`.recipe.Recipe`. None is the algorithm's own default; for ``slices`` it is 1 if there is only one
        feature.
    normalize : {"standard", "unit"}, optional
        Scale each feature: to mean 0 and deviation 1, or to 0 to 1. The scaling becomes part of the model and of its
        exports. None takes float samples as they are (scale them in a Pipeline) and bytes as "standard".
    options : dict, optional
        The algorithm's own options, if it is from a package that defines some.
    start : path or Model, optional
        Fine-tuning: the run directory, model file or model (such as ``model_`` of another estimator) whose weights the
        first call begins with; :mod:`.run.start` says which layers are taken. Parameters that have their defaults here
        are those of the model, and inputs are scaled as the model scales them. ``freeze="1,2"`` keeps layers 1 and 2.
    image : (int, int, int), optional
        Channels, rows and columns of samples that are images, with features channel by channel and row by row. Required
        for networks with convolutions (``"cnn"``, ``"resnet8"``) and locally connected ones (``"lc:16,32"``).
    class_weight : dict or "balanced", optional
        Weights of the classes; see ``sample_weight`` of :meth:`fit`.
    early_stopping : bool
        Stop a layer, or the network if all layers train together, after ``n_iter_no_change`` epochs without a lower
        error on ``eval_set``, or without it on a tenth of the samples, which is set aside.
    n_iter_no_change : int
    warm_start : bool
        Whether a further :meth:`fit` continues from the weights, moments and step counts of the last one. It then
        equals one call of :meth:`partial_fit` per epoch; ``early_stopping`` then looks at the last layer's errors.
    shuffle : bool
        Shuffle the samples once before they are divided into batches, as sorted samples cannot be learned. The result
        then does not depend on the order of the samples.
    verbose : bool
        Print each epoch's loss and error.
    random_state : int, RandomState or None
        An integer is the recipe's seed: equal data and parameters then give bit-identical models. From other sources of
        randomness a seed is drawn.
    ram : int, optional
        Maximum bytes for training, which do not affect the model. By default the fastest tiling is used.
    threads : int, optional
        By default all cores; the model does not depend on it.
    run_dir : path, optional
        Directory for flash, metrics, model and audit: one that does not exist, is empty, or contains a run, which
        :meth:`fit` replaces. ``tinyfoa audit``, ``plot`` and ``report`` read it. By default a temporary directory is
        used, which is deleted with the estimator and is not synced to disk.

    Attributes
    ----------
    classes_ : ndarray (C,)
    n_features_in_ : int
    model_ : Model
        The trained model.
    recipe_ : Recipe
        The recipe, with the network, batch, epochs and learning rate that were chosen.
    memory_ : dict
        The audit of the last training, as ``tinyfoa audit --json`` prints it: ``memory_["arena"]`` has ``planned``,
        ``accounted`` and ``watermark`` bytes.
    model_sha256_ : str
        Digest of all weights and biases: equal for equal models.
    loss_curve_ : list of float
        Loss of each epoch, layer after layer if layers train one after another.
    history_ : list of :class:`.run.results.Epoch`
        Layer, epoch, loss, training error, and error on ``eval_set``, per epoch.
    n_iter_ : int
        Number of epochs of the layer that trained longest.
    """

    algorithm: str
    classes_: np.ndarray
    recipe_: Recipe

    def __init__(
        self,
        network: str | None = None,
        slices: int | None = Recipe.slices,
        schedule: str = Recipe.schedule,
        hold: str | None = Recipe.hold,
        exchanges: int | None = Recipe.exchanges,
        visits: int | None = Recipe.visits,
        order: str | None = Recipe.order,
        epochs: int | None = None,
        batch: int | None = None,
        lr: float | None = Recipe.lr,
        lr_schedule: str | None = None,
        optimizer: str | None = Recipe.optimizer,
        moments: str = Recipe.moments,
        decay: float | None = Recipe.decay,
        classifier_lr: float | None = Recipe.classifier_lr,
        classifier_decay: float | None = Recipe.classifier_decay,
        label_scale: float | None = Recipe.label_scale,
        peer: float | None = Recipe.peer,
        dropout: float | None = Recipe.dropout,
        normalize: str | None = Recipe.normalize,
        binary_weights: bool | None = None,
        binary_activations: bool | None = None,
        recompute: bool = Recipe.recompute,
        theta: float | None = Recipe.theta,
        label_width: int | None = Recipe.label_width,
        groups: str | None = Recipe.groups,
        merge: str | None = Recipe.merge,
        rms: bool | None = Recipe.rms,
        lc_connect: str | None = Recipe.lc_connect,
        augment: str | None = Recipe.augment,
        reshuffle: bool = Recipe.reshuffle,
        freeze: str | None = Recipe.freeze,
        start: str | os.PathLike[str] | model.Model | None = None,
        options: dict[str, Any] | None = None,
        image: tuple[int, int, int] | None = None,
        class_weight: Any = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        shuffle: bool = True,
        verbose: bool = False,
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
        self.augment = augment
        self.reshuffle = reshuffle
        self.freeze = freeze
        self.start = start
        self.options = options
        self.image = image
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.verbose = verbose
        self.random_state = random_state
        self.ram = ram
        self.threads = threads
        self.run_dir = run_dir

    def fit(self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None) -> Classifier:
        """Train from the beginning or, with ``warm_start``, from the state of the last call.

        Parameters
        ----------
        X : array-like or sparse matrix (N, I)
        y : array-like (N,)
        sample_weight : array-like (N,), optional
            Weight of each sample. Integers are exact repetitions; other weights are rounded to repetitions with a total
            of N.
        eval_set : (X, y), optional
            Samples for measuring the error after each epoch.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or parameters are invalid; the message says how to correct them.
        Diverged
            If numbers are no longer finite: use a smaller ``lr``.
        """
        further = self.warm_start and hasattr(self, "model_")
        X, y = validate_data(self, X, y, reset=not further, multi_output=True, accept_sparse="csr")
        X = X.toarray() if issparse(X) else X
        check_classification_targets(y := column_or_1d(y, warn=True))
        known = np.unique(y)
        if further and not np.isin(known, self.classes_).all():
            raise ValueError(f"y has classes {known}, but warm_start continues with {self.classes_}")
        if not further:
            self.classes_ = known
        labels = np.searchsorted(self.classes_, y)
        checked = None if eval_set is None else self._checked_set(*eval_set)
        if self.early_stopping and checked is None:
            X, labels, sample_weight, checked = self._set_aside(X, labels, sample_weight)
        X, labels = self._weighted(X, labels, sample_weight)
        if not further:
            self._begin(X)
            return self._train(X, labels, checked)
        patience = Patience(self.n_iter_no_change)
        for _ in range(self.recipe_.epochs):
            self._train(X, labels, checked, stream=True)
            error = self.history_[-1].test_error_pct
            if self.early_stopping and error is not None and patience.ends(error):
                break
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Classifier:
        """Train on the next part of a stream: one epoch of these samples, in batches of ``batch``.

        Layers train as in :meth:`fit`: with TinyFoA, each layer trains for an epoch on these samples, then passes its
        outputs to the next; with other algorithms all layers train together. Weights, biases, the optimizer's moments
        and step counts, and the position in the schedule continue from the last call, or from :meth:`fit`: call k is
        the schedule's epoch k, starting over after ``epochs`` calls. Samples of earlier calls are not kept.

        For algorithms that train all layers together, ``epochs`` calls on the same samples are bit-identical to
        :meth:`fit`; so they are for one layer of TinyFoA. Its upper layers are trained here on the current outputs of
        the lower layers, not on those of completely trained layers. With binary activations, inference uses each
        layer's scale from the last call's samples: if these are few, the scale is uncertain.

        Parameters
        ----------
        X : array-like (N, I)
        y : array-like (N,)
        classes : array-like (C,), optional
            All classes of the stream: required in the first call; later calls must give the same or none.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As for :meth:`fit`; also in a first call without ``classes``, for labels that are not among them, or if the
            state of the training is missing: in a copy, or in a pickled estimator without ``run_dir``.
        """
        first = not hasattr(self, "model_")
        X, y = validate_data(self, X, y, reset=first, multi_output=True, accept_sparse="csr")
        X = X.toarray() if issparse(X) else X
        check_classification_targets(y := column_or_1d(y, warn=True))
        if first and classes is None:
            raise ValueError("the first call of partial_fit needs classes: all that will ever come")
        if classes is not None:
            known = np.unique(classes)
            if not first and not np.array_equal(known, self.classes_):
                raise ValueError(f"classes are {known}, but were {self.classes_} in the first call")
            self.classes_ = known
        if not np.isin(y, self.classes_).all():
            raise ValueError(f"y has labels that are not among the classes {self.classes_}")
        if first:
            self._begin(X, stream=True)
        elif not hasattr(self, "_run"):
            raise ValueError(
                "the training so far was in a temporary directory, which copies and pickles leave behind: give run_dir"
            )
        return self._train(*self._weighted(X, np.searchsorted(self.classes_, y), None), stream=True)

    def predict(self, X: Any) -> np.ndarray:
        """Predict classes (N,) of samples X (N, I): those with the largest logits, the first one on a tie."""
        X = self._checked(X)
        answers: np.ndarray = self.classes_[self.model_.predict(X)]
        return answers

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, C), float64, of samples X (N, I): the softmax of the model's logits.

        This matches the training of TinyFoA, BP and PEPITA. DRTP is trained for a sigmoid per class, and the logits of
        FF and GIFF are the goodness of each label: there, the values rank the classes but are not calibrated.
        """
        X = self._checked(X)
        logits = self.model_.scores(X)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
        return shares

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits (N, C), float64, of samples X (N, I); with two classes, those of the second minus the first (N,)."""
        X = self._checked(X)
        logits = self.model_.scores(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    # -- the data ------------------------------------------------------------------------------------------------------

    def _checked_set(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Samples for measuring the error, and their class numbers."""
        X = validate_data(self, X, reset=False, accept_sparse="csr")
        y = column_or_1d(y)
        if len(X if not issparse(X) else y) != len(y) or not np.isin(y, self.classes_).all():
            raise ValueError(f"eval_set must have a label of {self.classes_} for each sample")
        return X.toarray() if issparse(X) else X, np.searchsorted(self.classes_, y)

    def _set_aside(self, X: np.ndarray, labels: np.ndarray, weight: Any) -> tuple[Any, ...]:
        """Split off a tenth of the samples, independent of their order."""
        order = in_order(X, labels)
        tenth = np.zeros(len(labels), bool)
        tenth[order[shuffled(len(labels), SEED)[: len(labels) // 10]]] = True
        if not tenth.any():
            raise ValueError(f"early_stopping takes a tenth of {len(labels)} samples, less than one: give eval_set")
        rest = None if weight is None else np.asarray(weight)[~tenth]
        return X[~tenth], labels[~tenth], rest, (X[tenth], labels[tenth])

    def _weighted(self, X: np.ndarray, labels: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray]:
        """Repeat the samples by weight, in an order independent of the original if they are shuffled."""
        if self.shuffle:
            order = in_order(X, labels)
            X, labels = X[order], labels[order]
        if sample_weight is None and self.class_weight is None:
            return X, labels
        weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        weight = weight[order] if self.shuffle else weight
        weight = weight * compute_sample_weight(self.class_weight, self.classes_[labels])
        often = repeats(weight)
        return np.repeat(X, often, axis=0), np.repeat(labels, often)

    # -- the training --------------------------------------------------------------------------------------------------

    def _begin(self, X: np.ndarray, stream: bool = False) -> None:
        """Set up a new run, its recipe, and the scaling of samples; in a stream as in the directory's run."""
        if len(self.classes_) < 2:
            raise ValueError("there is only one class: at least two are needed")
        if not len(X):
            raise ValueError("all samples have the weight 0")
        params, fields = self.get_params(), Recipe.__dataclass_fields__.keys() - {"start"}
        given = {name: params[name] for name in fields if params.get(name) is not None}
        if self.slices is None and X.shape[1] == 1:
            given["slices"] = 1
        given["options"] = self.options or {}
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31)
        given |= {"dataset": "samples", "algorithm": self.algorithm, "seed": int(seed)}
        self._bytes = X.dtype == np.uint8
        try:
            if not isinstance(given.get("network", ""), str) or not isinstance(given.get("batch", 1), int):
                raise BadRequest(f"network must be text, and batch a whole number: not {self.network}, {self.batch}")
            self._beginning = None if self.start is None else Start.of(self.start)
            self.recipe_ = self._recipe(given, X.shape)
            self._shape = self._shaped(X.shape[1])
            self._place(keep=stream)
        except BadRequest as error:
            raise ValueError(str(error)) from error
        self._affine, self._columns = (1.0, 0.0, 1.0), None
        if stream and (Path(self._run) / "data.json").exists():
            before = directory.stand_in(Path(self._run))
            self._affine, self._columns = (before.scale, before.offset, before.unit), before.columns
            self._bytes = before.train.inputs.dtype == np.uint8
        elif self._bytes:
            deviation = float(X.std()) or 1.0
            self._affine = 1 / deviation, -float(X.mean()) / deviation, 1 / float(X.max() or 1)
        elif self.normalize is not None:
            self._columns = Columns.of(self._held(X))
        elif (spread := X.std(axis=0)).max() > UNSCALED * max(1e-30, spread[spread > 0].min(initial=1.0)):
            warnings.warn(
                'the columns of X differ in scale by more than a hundred: use normalize="standard" or, in a Pipeline, '
                "a StandardScaler",
                stacklevel=3,
            )

    def _recipe(self, given: dict[str, Any], shape: tuple[int, int]) -> Recipe:
        """The validated recipe: chosen for the samples, or that of the model from which the training starts."""
        if self._beginning is None:
            return Recipe(**defaults.completed(given, *shape)).validated()
        usual = {name: parameter.default for name, parameter in signature(Classifier.__init__).parameters.items()}
        changed = {name: value for name, value in given.items() if name not in usual or value != usual[name]}
        own = changed.pop("options")
        return further(self._beginning.model, shape=shape, **changed, **own)

    def _shaped(self, features: int) -> tuple[int, int, int] | None:
        """Channels, rows and columns of the samples; None if they are not images, or not used as such."""
        if self.image is None:
            return None
        shape = np.atleast_1d(self.image).tolist()
        if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape) or prod(shape) != features:
            raise ValueError(f"image is {self.image}: it must be channels, rows and columns of {features} features")
        return shape[0], shape[1], shape[2]

    def _place(self, keep: bool = False) -> None:
        """Prepare the run directory; remove the previous run unless it is kept."""
        if before := self.__dict__.pop("_temporary", None):
            _remove(*before)
        if self.run_dir is None:
            self._temporary = tempfile.mkdtemp(prefix="tinyfoa-"), os.getpid()
            weakref.finalize(self, _remove, *self._temporary)
        self._run = self._temporary[0] if self.run_dir is None else os.fspath(self.run_dir)
        if self.run_dir is not None and not keep:
            directory.clear(Path(self._run))

    def _train(self, X: np.ndarray, labels: np.ndarray, checked: Any = None, stream: bool = False) -> Classifier:
        """Train on samples and class numbers, and set the fitted attributes."""
        X = self._held(X)
        Xt, yt = (X[:0], labels[:0]) if checked is None else (self._held(checked[0]), checked[1])
        scale, offset, unit = self._affine
        dataset = Dataset(
            "samples",
            Split(X, labels),
            Split(Xt, yt),
            len(self.classes_),
            scale,
            offset,
            unit,
            self._shape,
            self._columns,
            origin=self._origin() or None,
        )
        with contextlib.ExitStack() as stack:
            if self.run_dir is None:
                stack.enter_context(unsynced())
            watch = Watch(self.early_stopping and not stream, self.n_iter_no_change, self.verbose)
            start, self._beginning = self._beginning, None  # a further call continues from its own weights
            how: dict[str, Any] = {"ram": self.ram, "threads": self.threads, "stream": stream, "on_event": watch}
            try:
                if start:  # samples of further calls are scaled alike
                    self.recipe_, dataset = start.planned(self.recipe_, dataset)
                    self._affine, self._columns = (dataset.scale, dataset.offset, dataset.unit), dataset.columns
                result = train(self.recipe_, dataset, self._run, start=start, **how)
            except BadRequest as error:
                raise ValueError(str(error)) from error
            except Interrupted as error:
                raise KeyboardInterrupt(str(error)) from error
        self.model_ = model.load(Path(self._run) / "model.safetensors")
        self.memory_ = report.audit(self._run)
        self.model_sha256_, self.history_ = result["model_sha256"], results.epochs(self._run)
        self.loss_curve_ = [epoch.loss for epoch in self.history_]
        self.n_iter_ = max(epoch.epoch for epoch in self.history_) + 1
        last, counts = self.history_[-1].train_error_pct, np.bincount(labels)
        if not stream and (told := advice(last, counts, "training", self.recipe_)):
            warnings.warn(told, stacklevel=3)
        return self

    def _origin(self) -> dict[str, Any]:
        """Names of classes and columns for models and reports."""
        origin: dict[str, Any] = {}
        names = [label if isinstance(label, (int, str)) else str(label) for label in self.classes_.tolist()]
        if names != list(range(len(names))):
            origin["labels"] = names
        if hasattr(self, "feature_names_in_"):
            origin["columns"] = [str(name) for name in self.feature_names_in_]
        return origin

    def _checked(self, X: Any) -> np.ndarray:
        """Samples for prediction, in the model's form."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False, accept_sparse="csr")
        return self._held(X.toarray() if issparse(X) else X)

    def _held(self, X: np.ndarray) -> np.ndarray:
        """Samples (N, I) as bytes if the first ones were bytes, else float32."""
        kind = np.uint8 if self._bytes else np.float32
        with np.errstate(over="ignore", invalid="ignore"):
            held = X.astype(kind, copy=False)
        if self._bytes and not np.array_equal(held, X):
            raise ValueError("X has values that are no bytes, as it had in training: whole numbers from 0 to 255")
        if not np.isfinite(held).all():
            raise ValueError("X holds infinity or a value too large for float32")
        return held

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        left = ("_temporary", "_run") if "_temporary" in state else ()
        return {name: value for name, value in state.items() if name not in left}


def _remove(directory: str, owner: int) -> None:
    """Remove a temporary directory, except in a forked process, whose parent still needs it."""
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

    The algorithm writes a label over a sample's first C inputs, which are a black border in the images of its paper.
    Here C zeros are prepended to the features, so that no feature is lost.
    """

    algorithm = "ff"

    def _shaped(self, features: int) -> None:
        super()._shaped(features)  # with the zeros, samples are not images

    def _held(self, X: np.ndarray) -> np.ndarray:
        held = super()._held(X)
        return np.hstack([np.zeros((len(held), len(self.classes_)), held.dtype), held])


class GIFFClassifier(Classifier):
    """Generalized forward-forward (:mod:`.rules.giff`); parameters are those of :class:`Classifier`.

    Its networks have real weights and activations, whatever ``binary_weights`` and ``binary_activations`` say. With
    ``image``, ``network`` may be one with convolutions, such as ``"cnn"``.
    """

    algorithm = "giff"
