"""Training of a whole network by the plain NumPy reference, from nothing but a recipe and a data set.

The reference has neither seeds nor epochs with rates of their own: initial parameters, projections, masks and wrong
labels are made here, and its optimizers are told the rate of each epoch.
"""

import math
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import random_twins
from train_tools import layout, seen

from tinyfoa_np.reference import bp, drtp, ff, optimizers, pepita, random
from tinyfoa_np.reference.dense import Layer

NONE = np.zeros(0, np.float32)
OPTIMIZERS = {**optimizers.OPTIMIZERS, "nesterov": optimizers.Nesterov}


class Setting(NamedTuple):
    """What a training starts from, and goes through."""

    which: object  # the recipe, validated
    layers: list  # (W, b) of each layer, b (0,) where it has no biases
    fixed: list  # projections: DRTP's of each hidden layer (C, O), PEPITA's F (I, C)
    batches: list  # (X, labels) of an epoch
    classes: int

    @property
    def toggles(self):
        return {name: getattr(self.which, name) for name in ("binary_weights", "binary_activations")}

    @property
    def steps(self):
        """(epoch, number, first sample, X, labels) of every step."""
        rows, batches = self.which.batch, list(enumerate(self.batches))
        each = [(epoch, k, k * rows, *batch) for epoch in range(self.which.epochs) for k, batch in batches]
        return [(epoch, number, *rest) for number, (epoch, _, *rest) in enumerate(each)]


def setting(which, dataset):
    """The initial parameters and the batches of a recipe."""
    which = which.validated()
    inputs, labels = seen(dataset, dataset.train, which.normalize)[: which.limit], dataset.train.labels[: which.limit]
    count = len(labels)
    if which.algorithm == "ff" and count > which.batch:
        count -= count % which.batch  # full batches only
    order = random_twins.shuffled(count, which.seed) if which.shuffle else np.arange(count)
    cuts = [order[k : k + which.batch] for k in range(0, count, which.batch)]
    width, C = inputs.shape[1], dataset.classes
    layers, fixed = [], []
    for number, (O, I, _, biased) in enumerate(layout(which, width, C)):
        key, b = {"seed": which.seed, "layer": number}, np.zeros(O if biased else 0, np.float32)
        if which.algorithm == "ff":
            classifier = 2 * number >= len(layout(which, width, C))
            W = np.zeros((O, I), np.float32) if classifier else random_twins.normal_weights(O, I, O**-0.5, **key)
        elif which.algorithm == "pepita":
            W = random_twins.bounded(O, I, math.sqrt(6 / I), **key)
        else:
            W, b = random.weights(O, I, **key), random.biases(O, I, **key)
        if which.algorithm == "drtp":
            fixed.append(random_twins.bounded(O, C, math.sqrt(6 / O), **key, purpose=random.PROJECTION).T)
        layers.append((W, b))
    if which.algorithm == "drtp":
        fixed.pop()  # the layer on top has none
    if which.algorithm == "pepita":
        bound = 0.05 * math.sqrt(6 / width)
        fixed = [random_twins.bounded(width, C, bound, seed=which.seed, layer=0, purpose=random.PROJECTION)]
    return Setting(which, layers, fixed, [(inputs[rows], labels[rows]) for rows in cuts], C)


def trained(patch, start, rates):
    """(W, b) of each layer after training, and the loss of each step.

    Parameters
    ----------
    patch : pytest.MonkeyPatch
    start : Setting
    rates : sequence of float
        What the learning rate is multiplied by, for each epoch.
    """
    which, steps = start.which, start.steps
    clock = SimpleNamespace(step=-1)

    def scheduled(kind):
        class Scheduled(kind):
            def step(self, w, g):
                whole, self.lr = self.lr, self.lr * rates[steps[clock.step][0]]
                try:
                    return super().step(w, g)
                finally:
                    self.lr = whole

        return Scheduled

    def ticking(module, once):
        """Counts steps by a function of the reference that is called once in each, before anything moves."""
        function = getattr(module, once)

        def count(*args, **options):
            clock.step += 1
            return function(*args, **options)

        patch.setattr(module, once, count)

    layers = [Layer(W.copy(), b.copy()) for W, b in start.layers]
    batches = [(X, labels) for _, _, _, X, labels in steps]
    options, asked = {"lr": which.lr, **start.toggles}, scheduled(OPTIMIZERS[which.optimizer])
    if which.algorithm == "bp":
        ticking(bp, "gradient")
        patch.setattr(bp, "optimizer_of", lambda name, lr: lambda: asked(lr))
        hold = which.hold_steps(len(start.batches)) or None
        schedule = {"slices": which.slices, "schedule": which.schedule, "hold": hold, "exchanges": which.exchanges}
        done = bp.train(start.batches, layers, **schedule, epochs=which.epochs, optimizer=which.optimizer, **options)
        return done.layers, done.losses
    if which.algorithm == "drtp":
        ticking(drtp, "gradient")
        patch.setattr(drtp, "Nesterov", asked)
        done = drtp.train(batches, layers, start.fixed, **options)
        return done.layers, done.losses
    if which.algorithm == "pepita":
        return _pepita(patch, start, ticking, scheduled, options)
    ticking(ff, "classifier_gradient")
    patch.setattr(ff, "Momentum", asked)
    for name, value in (("PEER", which.peer), ("DECAY", which.decay), ("CLASSIFIER_DECAY", which.classifier_decay)):
        patch.setattr(ff, name, value)
    done = ff.train(
        labelled(start),
        layers[: len(layers) // 2],
        classifier(start.layers),
        strength=which.label_scale,
        lr_classifier=which.classifier_lr,
        **options,
    )
    ends = np.cumsum([0] + [len(b) for _, b in done.layers])
    parts = [(done.classifier[:, a:b], NONE) for a, b in zip(ends, ends[1:])]
    return [*done.layers, *parts], done.losses


class NesterovOfSteps(optimizers.Velocity):
    """Nesterov's momentum that holds steps, v <- 0.9 v + lr d, w <- w + 0.9 v + lr d."""

    def step(self, w, d):
        self.v = self.MU * self.v + self.lr * d
        return w + self.MU * self.v + self.lr * d


HOLDING_STEPS = {"momentum": optimizers.Velocity, "nesterov": NesterovOfSteps}


def _pepita(patch, start, ticking, scheduled, options):
    """PEPITA's optimizer ascends, and where it has momentum, that holds steps."""
    which = start.which
    kind = scheduled({**OPTIMIZERS, **HOLDING_STEPS}[which.optimizer])

    class Ascending(kind):
        def step(self, w, d):
            return super().step(w, d if which.optimizer in HOLDING_STEPS else -d)

    ticking(pepita, "modulate")
    patch.setattr(pepita, "Velocity", Ascending)
    weights = [W for W, _ in start.layers]
    batches = [(X, labels, dropout(start, number, len(X))) for _, number, _, X, labels in start.steps]
    done = pepita.train(batches, weights, start.fixed[0], **options)
    return [(W, NONE) for W in done.weights], done.losses


def dropout(start, step, samples):
    """PEPITA's masks of a step: what each hidden output is multiplied by."""
    share, seed = start.which.dropout, start.which.seed
    kept, masks = round((1 - share) * 65536), []
    for k, (W, _) in enumerate(start.layers[:-1]):
        bits = random_twins.dropout_bits(samples, len(W), kept, step=step, layer=k, seed=seed)
        masks.append((bits / (1 - share)).astype(np.float32))
    return masks


def labelled(start):
    """FF's batches: inputs, labels and wrong labels of every step."""
    seed, C = start.which.seed, start.classes
    return [
        (X, labels, random_twins.wrong_labels(labels, C, epoch=epoch, first=first, seed=seed))
        for epoch, _, first, X, labels in start.steps
    ]


def classifier(layers):
    """FF's classifier (C, F), its parts side by side."""
    return np.concatenate([W for W, _ in layers[len(layers) // 2 :]], axis=1)


def inference_scales(start, layers):
    """The scale of each hidden layer that a trained network keeps for inference: (W, b) of all its layers given."""
    algorithm, toggles = start.which.algorithm, start.toggles
    layers = [Layer(*layer) for layer in layers]
    if algorithm == "bp":
        return bp.inference_scales(start.batches, layers, **toggles)
    if algorithm == "drtp":
        return drtp.inference_scales(start.batches, layers, **toggles)
    if algorithm == "pepita":
        return pepita.inference_scales([X for X, _ in start.batches], [W for W, _ in layers], **toggles)
    once = [(X, labels, labels) for X, labels in start.batches]
    strength = start.which.label_scale
    return ff.inference_scales(once, layers[: len(layers) // 2], start.classes, strength=strength, **toggles)


def scores(start, X, layers, scales=None):
    """(N, C): the largest is the answer of a network, the first of equals."""
    algorithm, toggles = start.which.algorithm, {**start.toggles, "scales": scales}
    layers = [Layer(*layer) for layer in layers]
    if algorithm == "bp":
        return bp.forward(X, layers, **toggles)[1][-1]
    if algorithm == "drtp":
        return drtp.forward(X, layers, **toggles)[0][-1]
    if algorithm == "pepita":
        return pepita.forward(X, [W for W, _ in layers], **toggles)[1][-1]
    hidden, classes = layers[: len(layers) // 2], start.classes
    passes = []
    for label in range(classes):
        labels = np.full(len(X), label)
        h = ff.forward(ff.with_labels(X, labels, classes, start.which.label_scale), hidden, **toggles)[2]
        # in float64, where counts of one value over and over are exact: with bits, many labels are equally good
        passes.append(np.sum([ff.goodness(own.astype(np.float64)) for own in h], axis=0))
    return np.stack(passes, axis=1)


def in_training(start, step, X):
    """The answers to the samples of a step, on the way, by the initial network."""
    algorithm, toggles = start.which.algorithm, start.toggles
    layers = [Layer(*layer) for layer in start.layers]
    if algorithm == "ff":  # the classifier's
        x = ff.forward(ff.without_label(X, start.classes), layers[: len(layers) // 2], **toggles)[0]
        return (ff.features(x) @ classifier(start.layers).T).argmax(axis=1)
    if algorithm == "pepita":
        masks = dropout(start, step, len(X))
        return pepita.forward(X, [W for W, _ in layers], masks, **toggles)[1][-1].argmax(axis=1)
    return scores(start, X, layers).argmax(axis=1)
