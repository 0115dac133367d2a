"""Golden trajectories of the systems TinyFoA is compared with, by the plain NumPy reference and the kernels.

The files lie where those of :mod:`test_golden` do and are judged as there: every array that a file holds beyond the
initial state must come out, to 1e-5 of its largest magnitude, or 2e-4 for the state after all steps. Nothing about
shapes, numbers of layers or step sizes is taken for granted.
"""

import itertools
import json
import re
from typing import NamedTuple

import numpy as np
import pytest
from golden_files import HOME, golden_files
from golden_networks import run_networks

from tinyfoa_np.reference import bp, drtp, feedback, ff, pepita
from tinyfoa_np.reference import dense as layers
from tinyfoa_np.reference.dense import Layer

GIVEN = re.compile(r"x|y|y_neg|masks|F|C|out_last_batch|[WbB]\d+")


class Golden(NamedTuple):
    """One file: what it says about itself, and its arrays by name."""

    meta: dict
    arrays: dict

    @property
    def expected(self):
        """The arrays an implementation must reproduce: all but those it starts from."""
        of_feedback = "fa" in self.meta["system"]
        return {
            key: array
            for key, array in self.arrays.items()
            if not GIVEN.fullmatch(key) or key == "out_last_batch" and of_feedback
        }

    @property
    def toggles(self):
        return {name: bool(self.meta[name]) for name in ("binary_weights", "binary_activations")}

    @property
    def batches(self):
        """(X, labels) for each step."""
        return list(zip(self.arrays["x"].reshape(*self.arrays["x"].shape[:2], -1), self.arrays["y"]))

    def all(self, name):
        """The arrays called `name` and a number: one for each layer that has it."""
        count = sum(re.fullmatch(rf"{name}\d+", key) is not None for key in self.arrays)
        return [self.arrays[f"{name}{k}"] for k in range(count)]

    @property
    def layers(self):
        return [Layer(W, b) for W, b in zip(self.all("W"), self.all("b"))]

    @property
    def layers_at_end(self):
        """What follows the training starts from the golden state, which our own may differ from by more than 1e-5."""
        return [Layer(self.arrays[f"W{k}_end"], self.arrays[f"b{k}_end"]) for k in range(len(self.layers))]


def read(path):
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return Golden(json.loads(str(arrays.pop("meta"))), arrays)


def numbered(layers, weight, bias):
    """Arrays of all layers under names such as "gW{}_step0"."""
    named = {weight.format(k): layer.W for k, layer in enumerate(layers)}
    return named | {bias.format(k): layer.b for k, layer in enumerate(layers)}


# BP -------------------------------------------------------------------------------------------------------------------


def train_bp(golden, steps=None):
    meta = golden.meta
    return bp.train(
        golden.batches[:steps],
        golden.layers,
        slices=meta.get("M", 1),
        schedule=meta["vertical"],
        hold=1,  # every golden trajectory moves on after each step
        optimizer=next(name for name in ("momentum", "adam", "sgd") if name in meta["optimizer"].lower()),
        lr=meta["lr"],
        **golden.toggles,
    )


def run_bp(golden):
    trained = train_bp(golden)
    ours = {"loss": trained.losses, **numbered(trained.first, "gW{}_step0", "gb{}_step0")}
    for key, array in golden.expected.items():  # of a slice that trains alone, the file holds only its gradient
        if key in ours and ours[key].shape != array.shape and golden.meta["vertical"] == "slice":
            ours[key] = ours[key][tuple(slice(0, length) for length in array.shape)]
    return ours | numbered(trained.layers, "W{}_end", "b{}_end")


def bp_left_to_rounding(golden):
    """Where float32 does not say what BP's end state is: by key, how far off each element may be, or 0.

    With binary weights the terms of a gradient are a few values over and over, and often cancel to nothing. What
    remains then is rounding, 1e-10 or so, another one for every order of summation; but Adam divides a gradient by its
    own size and makes steps of it all the same. Here the sum of a gradient's terms is compared with that of their
    magnitudes; where it has been below 1e-6 of it in some step, the weight is one of these, and may be as far off as
    two runs of Adam can part: a step each way, every time.
    """
    if "adam" not in golden.meta["optimizer"].lower():
        return {}
    left = {key: np.zeros(array.shape, bool) for key, array in golden.expected.items() if key.endswith("_end")}
    for step, (X, labels) in enumerate(golden.batches):
        layers = train_bp(golden, step).layers if step else golden.layers
        h, z = bp.forward(X, layers, **golden.toggles)
        gradients = bp.gradient(h, z, labels, layers, **golden.toggles)
        dz = np.abs(bp.error(z[-1], labels))
        for k in reversed(range(len(layers))):
            binary = golden.toggles["binary_weights"] and k < len(layers) - 1
            terms = dz.T @ np.abs(h[k]) * (np.abs(layers[k].W) < 1 if binary else 1)
            for key, g, size in (
                (f"W{k}_end", gradients[k].W, terms),
                (f"b{k}_end", gradients[k].b, dz.sum(axis=0)),
            ):
                left[key] |= np.abs(g) < 1e-6 * size
            if k > 0:
                Wb = bp.binarize_weights(layers[k].W)[0] if binary else layers[k].W
                dz = dz @ np.abs(Wb) * (z[k - 1] > 0)
                if golden.toggles["binary_activations"]:
                    dz = dz * (np.abs(z[k - 1]) < 1)
    return {key: 2 * golden.meta["lr"] * len(golden.batches) * part for key, part in left.items()}


# FF -------------------------------------------------------------------------------------------------------------------


def ff_batches(golden):
    return [(X, labels, wrong) for (X, labels), wrong in zip(golden.batches, golden.arrays["y_neg"])]


def train_ff(golden, steps=None):
    meta = golden.meta
    rates = {"lr": meta["lr"], "lr_classifier": meta["lr_classifier"]}
    return ff.train(ff_batches(golden)[:steps], golden.layers, golden.arrays["C"], **rates, **golden.toggles)


def run_ff(golden):
    trained = train_ff(golden)
    X, classes = golden.batches[-1][0], len(golden.arrays["C"])
    ours = {"losses": trained.losses, "gC_step0": trained.first_classifier, "C_end": trained.classifier}
    ours["goodness_last_batch"] = ff.class_goodness(X, golden.layers_at_end, classes, **golden.toggles)
    ours |= numbered(trained.first, "gW{}_step0", "gb{}_step0")
    return ours | numbered(trained.layers, "W{}_end", "b{}_end")


def ff_left_to_rounding(golden):
    """Where float32 does not say what comes out of FF: by key, infinity, or 0.

    Hidden inputs are 0 or one other value, weights +-alpha, biases 0 at first: half of the inputs weighing +1 and half
    -1, which is common in layers this small, make a z of exactly 0, and bit 0. In float32 there remains rounding, of
    one sign or the other, for every order of summation; and the bit changes all that depends on it: the layer and those
    above it from that step on, the classifier and the sums over layers.
    """
    if not (golden.toggles["binary_weights"] and golden.toggles["binary_activations"]):
        return {}
    count, classes, steps, left = len(golden.layers), len(golden.arrays["C"]), len(golden.batches), {}

    def first_unclear(inputs, layers):
        """The lowest layer that has a z left to rounding, or their number if none has."""
        x, z, _ = ff.forward(inputs, layers, **golden.toggles)
        for k, (W, b) in enumerate(layers):
            terms = np.abs(x[k]).sum(axis=1, keepdims=True) * np.abs(W).mean() + np.abs(b)
            if np.any(np.abs(z[k]) < 1e-6 * terms):
                return k
        return count

    since = [steps] * count  # for each layer the step from which it is left to rounding
    for step, (X, *both) in enumerate(ff_batches(golden)):
        layers = train_ff(golden, step).layers if step else golden.layers
        labelled = np.concatenate([ff.with_labels(X, labels, classes) for labels in both])
        lowest = min(first_unclear(inputs, layers) for inputs in (labelled, ff.without_label(X, classes)))
        since[lowest:] = [min(step, earlier) for earlier in since[lowest:]]
    passes = [ff.with_labels(golden.batches[-1][0], np.full(len(X), c), classes) for c in range(classes)]

    def mark(key, part, uncertain):
        left.setdefault(key, np.zeros(golden.expected[key].shape))[part] = np.inf if uncertain else 0

    ends = np.cumsum([0] + [len(layer.b) for layer in golden.layers])
    for k in range(count):
        columns = slice(ends[k], ends[k + 1])
        for key in ("gW{}_step0", "gb{}_step0", "W{}_end", "b{}_end"):
            mark(key.format(k), ..., since[k] < (1 if key.startswith("g") else steps))
        mark("losses", (slice(since[k], None), k), True)
        mark("gC_step0", (slice(None), columns), since[k] == 0)
    mark("losses", (slice(min(since), None), slice(count, None)), True)
    mark("C_end", ..., min(since) < steps)
    mark("goodness_last_batch", ..., any(first_unclear(inputs, golden.layers_at_end) < count for inputs in passes))
    return left


# DRTP -----------------------------------------------------------------------------------------------------------------


def run_drtp(golden):
    trained = drtp.train(golden.batches, golden.layers, golden.all("B"), lr=golden.meta["lr"], **golden.toggles)
    h, _ = drtp.forward(golden.batches[0][0], golden.layers, **golden.toggles)
    ours = {"loss": trained.losses, "out_step0": h[-1], **numbered(trained.first, "gW{}_step0", "gb{}_step0")}
    return ours | numbered(trained.layers, "W{}_end", "b{}_end")


def run_feedback(golden):
    meta, matrices = golden.meta, [golden.arrays.get(f"B{k}") for k in range(len(golden.layers))]
    options = {"relu": meta["hidden"] == "relu", "sigmoid": meta["loss"] == "bce", **golden.toggles}
    trained, output = feedback.train(
        golden.batches,
        golden.layers,
        matrices,
        meta["system"],
        optimizer=next(name for name in ("nesterov", "adam") if name in meta["optimizer"]),
        lr=meta["lr"],
        masked=meta["feedback_mask"] != "wrapper",
        **options,
    )
    ours = {"loss": trained.losses, "out_step0": output, **numbered(trained.first, "gW{}_step0", "gb{}_step0")}
    ours["out_last_batch"] = feedback.forward(golden.batches[-1][0], golden.layers_at_end, **options)[-1].h
    return ours | numbered(trained.layers, "W{}_end", "b{}_end")


# PEPITA ---------------------------------------------------------------------------------------------------------------


def train_pepita(golden, steps=None):
    batches = [(X, labels, dropout) for (X, labels), dropout in zip(golden.batches, golden.arrays["masks"])]
    return pepita.train(batches[:steps], golden.all("W"), golden.arrays["F"], lr=golden.meta["lr"], **golden.toggles)


def run_pepita(golden):
    trained = train_pepita(golden)
    ours = {"mse": trained.losses, "out_step0": trained.first_outputs}
    ours |= {f"dW{k}_step0": dW for k, dW in enumerate(trained.first)}
    return ours | {f"W{k}_end": W for k, W in enumerate(trained.weights)}


def pepita_left_to_rounding(golden):
    """How far off what comes out of PEPITA may be for float32's sake: by key, for each element.

    A direction is the small difference of two large activations, and has the rounding of both. And as in FF, where
    weights and activations are binary half of the terms of a z can cancel the other half: there are no biases at all,
    so its bit is left to rounding, and all layers with it from that step on, through the error.
    """
    left, steps = {}, len(golden.batches)
    for step, ((X, labels), dropout) in enumerate(zip(golden.batches, golden.arrays["masks"])):
        weights = train_pepita(golden, step).weights if step else golden.all("W")
        h, z = pepita.forward(X, weights, dropout, **golden.toggles)
        modulated = pepita.modulate(X, h[-1], labels, golden.arrays["F"])
        m, y = pepita.forward(modulated, weights, dropout, **golden.toggles)
        if step == 0:
            for k in range(len(weights) - 1):
                left[f"dW{k}_step0"] = 2e-6 * (np.abs(h[k + 1]) + np.abs(m[k + 1])).T @ np.abs(m[k])
        if not (golden.toggles["binary_weights"] and golden.toggles["binary_activations"]):
            break
        for inputs, sums in ((h, z), (m, y)):
            for k, W in enumerate(weights[:-1]):
                if np.any(np.abs(sums[k]) < 1e-6 * np.abs(inputs[k]).sum(axis=1, keepdims=True) * np.abs(W).mean()):
                    steps = min(steps, step)
    if steps < len(golden.batches):
        ends = {key: np.full(array.shape, np.inf) for key, array in golden.expected.items() if key.endswith("_end")}
        left |= ends | {"mse": np.where(np.arange(len(golden.batches)) < steps, 0, np.inf)}
    if steps == 0:
        left |= {key: np.full(array.shape, np.inf) for key, array in golden.expected.items() if "_step0" in key}
    return left


# All of them ----------------------------------------------------------------------------------------------------------

SYSTEMS = {"bp": run_bp, "ff": run_ff, "drtp": run_drtp, "pepita": run_pepita}
SYSTEMS |= dict.fromkeys(("fa", "dfa", "sdfa"), run_feedback)
LEFT_TO_ROUNDING = {"bp": bp_left_to_rounding, "ff": ff_left_to_rounding, "pepita": pepita_left_to_rounding}


# The share of all numbers that may be left to rounding, by system, binary weights and binary activations.
LEFT_AT_MOST = {("bp", True, False): 0.1, ("bp", True, True): 0.1, ("ff", True, True): 0.9, ("pepita", True, True): 1}


def find():
    """Every golden file of a system known here."""
    metas = ((path, read(path).meta) for path in golden_files())
    return [path for path, meta in metas if meta["system"] in SYSTEMS and meta["network"] == "fc"]


def compare(ours, golden, left=None):
    """Each of `ours` must be within a tolerance of the golden array, relative to that array's largest magnitude.

    What is `left` to rounding may be as far off as it says.
    """
    assert set(ours) == set(golden.expected)
    for key, theirs in golden.expected.items():
        tolerance = 2e-4 if key.endswith("_end") else 1e-5
        assert ours[key].shape == theirs.shape, key
        off = np.abs(ours[key].astype(np.float64) - theirs)
        limit = np.full(theirs.shape, tolerance * np.abs(theirs.astype(np.float64)).max())
        if left and key in left:
            limit = np.maximum(limit, left[key])
        worst = np.unravel_index((off / np.maximum(limit, 1e-30)).argmax(), off.shape)
        assert off[worst] <= limit[worst], f"{key} is off by {off[worst]:.2e}, {limit[worst]:.2e} would be right"


PATHS = find()


@pytest.mark.parametrize("implementation", ["reference", "kernels"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_golden(path, implementation, monkeypatch):
    golden = read(path)
    system = golden.meta["system"]
    ours = SYSTEMS[system](golden) if implementation == "reference" else run_networks(golden, monkeypatch)
    compare(ours, golden, LEFT_TO_ROUNDING.get(system, lambda _: {})(golden))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_little_is_left_to_rounding(path):
    golden = read(path)
    left = LEFT_TO_ROUNDING.get(golden.meta["system"], lambda _: {})(golden)
    arrays = golden.expected
    share = sum((part > 0.01 * np.abs(arrays[key]).max()).sum() for key, part in left.items())
    share /= sum(array.size for array in arrays.values())
    assert share <= LEFT_AT_MOST.get((golden.meta["system"], *golden.toggles.values()), 0), f"{share:.1%}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_comparison_sees_one_wrong_number(path):
    golden = read(path)
    compare(golden.expected, golden)
    for key, array in golden.expected.items():
        wrong = array.copy()
        wrong.flat[-1] += 3e-4 * np.abs(array).max()
        with pytest.raises(AssertionError, match=f"{key} is off by"):
            compare({**golden.expected, key: wrong}, golden)


# Bits that rounding decides, decided as in the file -------------------------------------------------------------------


def ulps_away(number, count):
    for _ in range(abs(count)):
        number = np.nextafter(np.float32(number), np.float32(np.sign(count) * np.inf))
    return np.float32(number)


def in_float32(alphas, shifts):
    """:func:`.layers.linear`, alpha off by so many units in the last place, term after term by a fused multiply-add."""

    def linear(X, W, binary_weights):
        alpha = ulps_away(np.abs(W).mean(dtype=np.float64), shifts[[W is each for each in alphas].index(True)])
        Wb, z = alpha * np.where(W >= 0, np.float32(1), np.float32(-1)), np.zeros((len(X), len(W)), np.float32)
        for x, w in zip(X.T, Wb.T):
            z = (x[:, None].astype(np.float64) * w.astype(np.float64) + z).astype(np.float32)
        return z

    return linear


PEPITA_BITS = [
    path for path in PATHS if (meta := read(path).meta)["system"] == "pepita" and all(read(path).toggles.values())
]


@pytest.mark.parametrize("path", PEPITA_BITS, ids=lambda path: path.stem)
def test_pepita_with_the_rounding_of_the_file(path, monkeypatch):
    """All of step 0 agrees, once alpha and s may be one unit in the last place off, and terms are added one by one."""
    golden = read(path)
    weights, dropout, (X, labels) = golden.all("W"), golden.arrays["masks"][0], golden.batches[0]
    hidden = len(weights) - 1

    def passes(X):
        """The outputs of a pass under every rounding of its scales that is tried."""
        for shifts in itertools.product((0, 1, -1), repeat=hidden - 1):
            shift = iter([*shifts, 0])
            monkeypatch.setattr(pepita, "magnitude", lambda z, shift=shift: ulps_away(layers.magnitude(z), next(shift)))
            yield pepita.forward(X, weights, dropout, **golden.toggles)[0]

    def agree(key, ours):
        theirs = golden.arrays[key]
        return np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()

    for shifts in itertools.product((0, 1, -1), repeat=hidden - 1):
        monkeypatch.setattr(pepita, "linear", in_float32(weights, [0, *shifts]))
        for h in passes(X):
            if agree("out_step0", h[-1]):
                for m in passes(pepita.modulate(X, h[-1], labels, golden.arrays["F"])):
                    if all(agree(f"dW{k}_step0", dW) for k, dW in enumerate(pepita.ascent(h, m, labels))):
                        return
    assert path.parent != HOME, "no rounding tried gives the bits that this file is known to have"
    pytest.skip("no rounding tried gives the bits of this file")


# Feedback through fixed matrices, on sizes that no file has -----------------------------------------------------------

SIZES = (37, 70, 70, 7)  # no multiples of what kernels work on at a time


def made(seed, meta, sizes=SIZES, samples=11, steps=3):
    """A golden file's contents before training, with masks that act: some |z| and some |W| are beyond 1."""
    rng = np.random.default_rng(seed)
    arrays = {
        "x": rng.normal(size=(steps, samples, sizes[0])).astype(np.float32),
        "y": rng.integers(0, sizes[-1], (steps, samples)),
    }
    for k, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        W = rng.uniform(-1.2, 1.2, (outputs, inputs)) / inputs**0.5
        beyond = rng.random(W.shape) < 0.05 * meta["binary_weights"]
        arrays[f"W{k}"] = np.where(beyond, 1.2 * np.sign(W), W).astype(np.float32)
        arrays[f"b{k}"] = rng.uniform(-0.2, 0.2, outputs).astype(np.float32)
        bound = (6 / outputs) ** 0.5
        if meta["system"] == "fa" and k:
            arrays[f"B{k}"] = rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
        elif meta["system"] != "fa" and k < len(sizes) - 2:
            arrays[f"B{k}"] = rng.uniform(-bound, bound, (sizes[-1], outputs)).astype(np.float32)
    return Golden(meta, arrays)


def ends(golden, ours):
    """The file with the results of one implementation, for another to reproduce."""
    return Golden(golden.meta, golden.arrays | {key: np.asarray(value, np.float32) for key, value in ours.items()})


@pytest.mark.parametrize("toggles", [*itertools.product((0, 1), repeat=2)], ids=str)
@pytest.mark.parametrize("hidden, loss", [("tanh", "bce"), ("relu", "ce"), ("relu", "bce"), ("tanh", "ce")])
@pytest.mark.parametrize("mask", ["masked", "wrapper"])
@pytest.mark.parametrize("rule", ["fa", "dfa", "sdfa"])
def test_kernels_and_reference_agree(rule, mask, hidden, loss, toggles, monkeypatch):
    if mask == "wrapper" and (rule != "fa" or not toggles[1]):
        return  # the same as masked
    meta = {"system": rule, "network": "fc", "hidden": hidden, "loss": loss, "feedback_mask": mask, "lr": 0.01}
    meta |= {"optimizer": "nesterov momentum 0.9", **dict(zip(("binary_weights", "binary_activations"), toggles))}
    golden = made(3, meta)
    first = {f"{name}{k}_end": golden.arrays[f"{name}{k}"] for name in "Wb" for k in range(3)}  # only to have them
    trained = run_feedback(ends(golden, first))
    golden = ends(golden, trained)
    golden = ends(golden, run_feedback(golden))  # answers of the last batch come from the end state of the file
    compare(run_networks(golden, monkeypatch), golden)
