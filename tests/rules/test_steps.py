"""A step or two of BP, DRTP, PEPITA and FF on awkward shapes, from given parameters, against the plain NumPy reference.

As the golden trajectories are run, but on batches that are not full, of one sample, of bytes; on widths that are no
multiples of 8 or 64; with one hidden layer; with 2 and 11 classes; in micro-batches. What rounding decides is left out:
an example in which some z is too near to where a bit, a ReLU or a mask turns, or some binary weight to 0.
"""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import reference_training
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from network_tools import Network
from reference_training import Setting

from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import Part
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bp, drtp, ff, pepita
from tinyfoa_np.rules.cuts import micro_batches
from tinyfoa_np.storage.flash import Flash

SCALE, OFFSET = np.float32(1 / 100), np.float32(-0.8)  # of bytes
WIDTHS = st.integers(1, 140) | st.sampled_from([1, 7, 8, 9, 63, 64, 65, 128])
MODULES = {"bp": bp, "drtp": drtp, "pepita": pepita, "ff": ff}
OPTIMIZERS = {
    "bp": ["momentum", "sgd"],
    "drtp": ["nesterov"],
    "pepita": ["momentum"],
    "ff": ["momentum"],
}  # not Adam: of gradients that cancel it makes steps of the same size, whatever rounding leaves


@st.composite
def cases(draw, algorithm):
    """A recipe, a kind of inputs, their number, classes, samples of each step, samples held at a time, threads."""
    classes = draw(st.sampled_from([2, 3, 11]))
    inputs = max(draw(WIDTHS), classes if algorithm == "ff" else 2)
    widths = draw(st.lists(WIDTHS.map(lambda width: max(width, 2)), min_size=1, max_size=2))
    batch = draw(st.integers(1, 40) | st.sampled_from([1, 16, 17, 32]))
    own = {}
    if algorithm == "bp":
        schedule = draw(st.sampled_from(["none", "slice", "frozen"]))
        own = {"schedule": schedule, "slices": 1 if schedule == "none" else 2}
        own["hold"] = None if schedule == "none" else "1"
    if algorithm == "pepita":
        own = {"dropout": draw(st.sampled_from([0.0, 0.25]))}
    if algorithm == "ff":
        own = {"classifier_lr": 0.5, "peer": draw(st.sampled_from([0.03, 30.0])), "decay": 0.01, "label_scale": 2.0}
    which = Recipe(
        algorithm=algorithm,
        network="fc:" + ",".join(map(str, widths)),
        epochs=1,
        batch=batch,
        lr=0.05,
        optimizer=draw(st.sampled_from(OPTIMIZERS[algorithm])),
        seed=draw(st.integers(0, 2**32)),
        binary_weights=draw(st.booleans()),
        binary_activations=draw(st.booleans()),
        **own,
    ).validated()
    counts = [batch] * draw(st.integers(0, 1))
    counts += [batch] if algorithm == "ff" else [draw(st.integers(1, batch))]
    held = draw(st.sampled_from([batch, *micro_batches(which)]))
    kind = draw(st.sampled_from(["bytes", "real"]))
    return which, kind, inputs, classes, counts, held, draw(st.integers(1, 3))


def made_up(rng, which, kind, inputs, classes, counts):
    """Initial parameters, some weights where masks have their edges; batches, as they are held and as they are seen."""
    shapes = [inputs, *map(int, which.network.removeprefix("fc:").split(","))]
    pairs = list(zip(shapes[1:], shapes))
    pairs += [(classes, O) for O, _ in pairs] if which.algorithm == "ff" else [(classes, shapes[-1])]
    layers = []
    for number, (O, I) in enumerate(pairs):
        # bits turn many z's on and off at once: so that no |z| is large, weights are as small as they are many
        W = (rng.uniform(-1, 1, (O, I)) * min(0.9, 2 / np.sqrt(I))).astype(np.float32)
        edges = np.float32([1, -1, np.nextafter(np.float32(1), np.float32(0))])
        W = np.where(rng.random((O, I)) < 0.02, rng.choice(edges, (O, I)), W)
        biased = which.algorithm != "pepita" and not (which.algorithm == "ff" and number >= len(pairs) // 2)
        layers.append((W, rng.uniform(-0.5, 0.5, O if biased else 0).astype(np.float32)))
    held, seen = [], []
    for count in counts:
        labels = rng.integers(0, classes, count)
        if kind == "bytes":
            X = rng.integers(0, 256, (count, inputs)).astype(np.uint8)
            seen.append((SCALE * X.astype(np.float32) + OFFSET, labels))
        else:
            X = rng.standard_normal((count, inputs)).astype(np.float32)
            seen.append((X, labels))
        held.append((X, labels))
    return layers, held, seen


def projections(stage):
    """The fixed projections that a network has made, as the reference has them."""
    if stage.recipe.algorithm == "drtp":
        return [getattr(stage.ram, f"feedback{k}").T.copy() for k in range(stage.top)]
    if stage.recipe.algorithm == "pepita":
        stage.ram.feedback[:] *= 20  # a direction is a difference of two passes: these are to differ by some more
        return [stage.ram.feedback.copy()]
    return []


def watched(patch, module, which, turns, largest):
    """Notes whether anything turns on rounding in a pass of the reference: a bit, a ReLU, a mask, a weight's sign.

    And how large the activations are.
    """
    forward, binary = module.forward, which.binary_activations
    if which.algorithm in ("drtp", "ff"):
        binary = binary and which.binary_weights

    def near(z, where, own=1.0):
        return np.any((np.abs(np.abs(z) - where) < 3e-6 * max(own, np.abs(z).max(initial=0))) & (z != where))

    def look(X, layers, *rest, **options):
        done = forward(X, layers, *rest, **options)
        sums = done[1]
        largest.extend(np.abs(h).max() for h in done[0])
        hidden = len(sums) if which.algorithm in ("drtp", "ff") else len(sums) - 1
        for k, z in enumerate(sums[:hidden]):
            if binary or which.algorithm == "bp":
                turns.append(near(z, 0))
                # with no biases, bits make z of exactly 0, and so do the kernels; from real inputs they do not
                turns.append(k == 0 and np.any(z == 0))
            if binary and which.algorithm != "pepita":
                turns.append(near(z, 1) or np.any(np.abs(z) == 1))
        if which.binary_weights:
            turns.extend(near(layer if which.algorithm == "pepita" else layer[0], 0) for layer in layers[:hidden])
        return done

    patch.setattr(module, "forward", look)


def compare(case):
    which, kind, inputs, classes, counts, held, threads = case
    rng = np.random.default_rng(which.seed)
    layers, batches, seen = made_up(rng, which, kind, inputs, classes, counts)
    own = Encoding("bytes", inputs, float(SCALE), float(OFFSET)) if kind == "bytes" else Encoding("real", inputs)
    with tempfile.TemporaryDirectory() as folder, Flash.create(Path(folder) / "flash", "steps") as flash:
        network = Network(which, own, classes, len(counts), flash, threads, held)
        stage = network.stage
        network.start(layers)
        start = Setting(which, layers, projections(stage), seen, classes)
        turns, largest = [], []
        with pytest.MonkeyPatch.context() as patch:
            watched(patch, MODULES[which.algorithm], which, turns, largest)
            theirs, losses = reference_training.trained(patch, start, [1])
            scales = [0.5] * len(stage.widths)
            answers = reference_training.scores(start, seen[-1][0], theirs, [*scales, 1.0])
        assume(not any(turns))

        ours_losses = []
        for number, (X, labels) in enumerate(batches):
            parts = []
            for first in range(0, len(X), held):
                network.load(X[first : first + held], labels[first : first + held])
                parts.append(stage.train_step(flash, Part(len(X[first : first + held]), first, len(X)), number))
                assert not parts[-1].diverged
            total = sum(part.loss for part in parts) / len(X)
            ours_losses.append(stage.losses if which.algorithm == "ff" else total)
        np.testing.assert_allclose(ours_losses, losses, rtol=1e-4, atol=1e-6)
        # PEPITA's directions are products with the difference of two activations, and have the rounding of both
        rounding = 2e-6 * which.lr * len(counts) * max(largest) ** 2 if which.algorithm == "pepita" else 0.0
        for k, (mine, wanted, before) in enumerate(zip(network.parameters(), theirs, layers, strict=True)):
            for a, b, c in zip(mine, wanted, before, strict=True):
                way = np.abs(b - c).max(initial=0)
                off = np.abs(a - b).max(initial=0)
                limit = 2e-4 * way + 4e-7 * max(1, np.abs(c).max(initial=0)) + rounding
                assert off <= limit, f"layer {k} is off by {off}, was moved by {way}"

        X, labels = batches[-1]
        if len(X) <= held:
            network.load(X, labels)
            network.arena.enter("evaluate")
            stage.infer(len(X), scales)
            wrong = stage.wrong(len(X))
            clear = clearly(answers)
            least = np.sum(clear & (answers.argmax(axis=1) != labels))
            assert least <= wrong <= least + np.sum(~clear)


def clearly(scores):
    """Whether the best answer is better than rounding could make it."""
    ranked = np.sort(scores, axis=1)
    return ranked[:, -1] - ranked[:, -2] > 1e-5 * np.abs(scores).max()


@pytest.mark.parametrize("algorithm", MODULES)
@settings(max_examples=100)
@given(data=st.data())
def test_steps_are_those_of_the_reference(algorithm, data):
    compare(data.draw(cases(algorithm)))
