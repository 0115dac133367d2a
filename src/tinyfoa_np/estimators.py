"""Classifiers as scikit-learn knows them (extra ``sklearn``): one for each algorithm, which name it and nothing more.

Their parameters are those of a :class:`.recipe.Recipe`, with ``random_state`` for its seed, and what says where and in
how much memory to train.

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
from .run.events import Event, Interrupted
from .run.train import train
from .storage.files import unsynced

#: standard deviations of columns further apart than this are warned of
UNSCALED = 100


class Classifier(ClassifierMixin, BaseEstimator):
    """What the classifiers have in common; each names its ``algorithm``.

    Samples (N, I) of uint8 stay bytes, in the training as in the model, and are seen with the mean and the deviation of
    what the first call was given, or from 0 to 1 (``normalize``). All others become float32 and are seen as they are,
    unless ``normalize`` says how to scale their columns. Sparse matrices are taken and become dense. Labels may be
    anything that scikit-learn takes for classes.

    Parameters
    ----------
    network, epochs, batch, lr, lr_schedule, binary_activations
        See :class:`.recipe.Recipe`. What is None follows from the number of samples and the algorithm:
        :mod:`.defaults`.
    slices, schedule, hold, exchanges, visits, order, optimizer, moments, ..., lc_connect
        See :class:`.recipe.Recipe`. None is the algorithm's own default, and of ``slices`` 1 where there is but one
        feature.
    normalize : {"standard", "unit"}, optional
        Scale each feature: to mean 0 and deviation 1, or to 0 to 1. The scaling becomes part of the model and of its
        exports. None takes float samples as they are (scale them in a Pipeline) and bytes as "standard".
    options : dict, optional
        The algorithm's own options, where a package that provides it has some.
    image : (int, int, int), optional
        Channels, rows and columns of samples that are images, whose features come channel by channel and row by row:
        networks of convolutions (``"cnn"``, ``"resnet8"``) and locally connected ones (``"lc:16,32"``) need to know it.
    class_weight : dict or "balanced", optional
        Weights of the classes; see ``sample_weight`` of :meth:`fit`.
    early_stopping : bool
        Stop a layer, or the network where all layers train together, after ``n_iter_no_change`` epochs without a lower
        error on ``eval_set``, or on a tenth of the samples set aside for it.
    n_iter_no_change : int
    warm_start : bool
        A further :meth:`fit` goes on from the weights, moments and step counts of the last one: it is as many calls of
        :meth:`partial_fit` as there are epochs.
    shuffle : bool
        Shuffle the samples once before they are cut into batches: what is sorted by class would not be learnt. The
        result then does not depend on the order of the samples.
    verbose : bool
        Print each epoch's loss and error.
    random_state : int, RandomState or None
        An integer is the recipe's seed: the same data and parameters then give the same model, bit for bit. From
        another source of randomness a seed is drawn.
    ram : int, optional
        The most bytes that training may take; the model is the same with any. Without it, whatever is fastest.
    threads : int, optional
        All cores without it; the model does not depend on it.
    run_dir : path, optional
        Where flash, metrics, model and audit go: a directory that does not exist, is empty, or holds a run, which
        :meth:`fit` replaces; ``tinyfoa audit``, ``plot`` and ``report`` read it. Without it, a temporary one, which
        goes with the estimator, and nothing waits for the disk.

    Attributes
    ----------
    classes_ : ndarray (C,)
    n_features_in_ : int
    model_ : Model
        What was trained.
    recipe_ : Recipe
        How it was trained: with the network, batch, epochs and learning rate that were chosen.
    memory_ : dict
        The audit of the last training, as ``tinyfoa audit --json`` prints it: ``memory_["arena"]`` has ``planned``,
        ``accounted`` and ``watermark`` bytes.
    model_sha256_ : str
        Of all weights and biases: equal where two models are.
    loss_curve_ : list of float
        Loss of each epoch, layer after layer where one trains after another.
    history_ : list of :class:`.run.results.Epoch`
        Layer, epoch, loss, training error, and the error on ``eval_set``, for each of these.
    n_iter_ : int
        Epochs of what trained longest.
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
        """Trains from the beginning; with ``warm_start``, from where the last call ended.

        Parameters
        ----------
        X : array-like or sparse matrix (N, I)
        y : array-like (N,)
        sample_weight : array-like (N,), optional
            How often each sample counts. Whole numbers are repetitions, exactly; other weights are rounded to
            repetitions of which there are N in all.
        eval_set : (X, y), optional
            Samples on which the error is measured after each epoch.

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
        further = self.warm_start and hasattr(self, "model_")
        X, y = validate_data(self, X, y, reset=not further, multi_output=True, accept_sparse="csr")
        X = X.toarray() if issparse(X) else X
        check_classification_targets(y := column_or_1d(y, warn=True))
        known = np.unique(y)
        if further and not np.isin(known, self.classes_).all():
            raise ValueError(f"y has classes {known}, but warm_start goes on with {self.classes_}")
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
        for _ in range(self.recipe_.epochs):
            self._train(X, labels, checked, stream=True)
        return self

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
            raise ValueError(f"y has labels that are none of the classes {self.classes_}")
        if first:
            self._begin(X, stream=True)
        elif not hasattr(self, "_run"):
            raise ValueError(
                "the training so far was in a temporary directory, which copies and pickles leave behind: give run_dir"
            )
        return self._train(*self._weighted(X, np.searchsorted(self.classes_, y), None), stream=True)

    def predict(self, X: Any) -> np.ndarray:
        """Classes (N,) of samples X (N, I): those with the largest logits, the first of equals."""
        X = self._checked(X)
        answers: np.ndarray = self.classes_[self.model_.predict(X)]
        return answers

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, C), float64, of samples X (N, I): the softmax of the model's logits.

        That is what TinyFoA, BP and PEPITA are trained for. With DRTP, which is trained for a sigmoid of each class,
        and FF and GIFF, whose logits are the goodness of each label, it says which class is the likelier, not how
        likely.
        """
        X = self._checked(X)
        logits = self.model_.scores(X)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
        return shares

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits (N, C), float64, of samples X (N, I); of two classes their difference (N,), above 0 for the second."""
        X = self._checked(X)
        logits = self.model_.scores(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    # -- the data ------------------------------------------------------------------------------------------------------

    def _checked_set(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Samples to measure the error on, and numbers of their classes."""
        X = validate_data(self, X, reset=False, accept_sparse="csr")
        y = column_or_1d(y)
        if len(X if not issparse(X) else y) != len(y) or not np.isin(y, self.classes_).all():
            raise ValueError(f"eval_set must have a label of {self.classes_} for each sample")
        return X.toarray() if issparse(X) else X, np.searchsorted(self.classes_, y)

    def _set_aside(self, X: np.ndarray, labels: np.ndarray, weight: Any) -> tuple[Any, ...]:
        """The samples without a tenth, whatever their order, and this tenth."""
        order = in_order(X, labels)
        tenth = np.zeros(len(labels), bool)
        tenth[order[shuffled(len(labels), SEED)[: len(labels) // 10]]] = True
        if not tenth.any():
            raise ValueError(f"early_stopping needs a tenth of the {len(labels)} samples, which is none: give eval_set")
        rest = None if weight is None else np.asarray(weight)[~tenth]
        return X[~tenth], labels[~tenth], rest, (X[tenth], labels[tenth])

    def _weighted(self, X: np.ndarray, labels: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray]:
        """The samples as often as they count, in an order that does not depend on theirs where they are shuffled."""
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
        """A run of its own, its recipe, and how its samples are seen; of a stream as in the directory's run."""
        if len(self.classes_) < 2:
            raise ValueError("there is one class only: two or more would be right")
        if not len(X):
            raise ValueError("all samples have the weight 0")
        params = self.get_params()
        given = {name: params[name] for name in Recipe.__dataclass_fields__ if params.get(name) is not None}
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
            chosen = defaults.completed(given, *X.shape)
            self.recipe_ = Recipe(**chosen).validated()
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
                'the columns of X differ in scale by more than a hundred: normalize="standard", or a StandardScaler in '
                "a Pipeline, would be right",
                stacklevel=3,
            )

    def _shaped(self, features: int) -> tuple[int, int, int] | None:
        """Channels, rows and columns of the samples; None if they are no images, or are not read as such."""
        if self.image is None:
            return None
        shape = np.atleast_1d(self.image).tolist()
        if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape) or prod(shape) != features:
            raise ValueError(f"image is {self.image}: channels, rows and columns of {features} features would be right")
        return shape[0], shape[1], shape[2]

    def _place(self, keep: bool = False) -> None:
        """Where the run goes; of the run that was there before, nothing is needed any more, unless it is kept."""
        if before := self.__dict__.pop("_temporary", None):
            _remove(*before)
        if self.run_dir is None:
            self._temporary = tempfile.mkdtemp(prefix="tinyfoa-"), os.getpid()
            weakref.finalize(self, _remove, *self._temporary)
        self._run = self._temporary[0] if self.run_dir is None else os.fspath(self.run_dir)
        if self.run_dir is not None and not keep:
            directory.clear(Path(self._run))

    def _train(self, X: np.ndarray, labels: np.ndarray, checked: Any = None, stream: bool = False) -> Classifier:
        """Trains on samples and numbers of their classes, and takes over what came of it."""
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
            watch = _Watch(self.early_stopping and not stream, self.n_iter_no_change, self.verbose)
            try:
                result = train(
                    self.recipe_, dataset, self._run, ram=self.ram, threads=self.threads, stream=stream, on_event=watch
                )
            except BadRequest as error:
                raise ValueError(str(error)) from error
            except Interrupted as error:
                raise KeyboardInterrupt(str(error)) from error
        self.model_ = model.load(Path(self._run) / "model.safetensors")
        self.memory_ = report.audit(self._run)
        self.model_sha256_ = result["model_sha256"]
        self.history_ = results.epochs(self._run)
        self.loss_curve_ = [epoch.loss for epoch in self.history_]
        self.n_iter_ = max(epoch.epoch for epoch in self.history_) + 1
        if not stream and (told := advice(self.history_[-1].train_error_pct, np.bincount(labels), "training")):
            warnings.warn(told, stacklevel=3)
        return self

    def _origin(self) -> dict[str, Any]:
        """What classes and columns are called, as models and reports print it."""
        origin: dict[str, Any] = {}
        names = [label if isinstance(label, (int, str)) else str(label) for label in self.classes_.tolist()]
        if names != list(range(len(names))):
            origin["labels"] = names
        if hasattr(self, "feature_names_in_"):
            origin["columns"] = [str(name) for name in self.feature_names_in_]
        return origin

    def _checked(self, X: Any) -> np.ndarray:
        """Samples to answer for, as the model takes them."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False, accept_sparse="csr")
        return self._held(X.toarray() if issparse(X) else X)

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        left = ("_temporary", "_run") if "_temporary" in state else ()
        return {name: value for name, value in state.items() if name not in left}


class _Watch:
    """Listens to a training: prints its epochs, and says when there are enough."""

    def __init__(self, stopping: bool, patience: int, verbose: bool) -> None:
        self.stopping, self.patience, self.verbose = stopping, patience, verbose
        self.layer, self.best, self.since = -1, np.inf, 0

    def __call__(self, event: Event) -> bool:
        if event.kind != "epoch":
            return False
        error = event.test_error_pct
        if self.verbose:
            tested = "" if error is None else f", error on eval_set {error:.2f} %"
            print(
                f"layer {event.layer + 1}, epoch {event.epoch + 1}: loss {event.loss:.4f}, "
                f"training error {event.train_error_pct:.2f} %{tested}"
            )
        if not self.stopping or error is None:
            return False
        if event.layer != self.layer:
            self.layer, self.best, self.since = event.layer, np.inf, 0
        self.since = 0 if error < self.best else self.since + 1
        self.best = min(self.best, error)
        return self.since >= self.patience


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
