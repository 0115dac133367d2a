"""What the tests of training, probe and model share: small made data, runs, crashes, and what a run left in flash."""

import hashlib
import json
import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.errors import BadRequest, TinyFoAError
from tinyfoa_np.network import layer_shapes
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.train import train
from tinyfoa_np.slices import Grid
from tinyfoa_np.storage.flash import Flash

WIDTH, CLASSES = 70, 3  # inputs: more than a word, and not a whole number of them
COPIES = {"sgd": 1, "momentum": 2, "nesterov": 2, "adam": 3}  # a weight and its moments


def made(kind="bytes", samples=70, tests=20, inputs=WIDTH, classes=CLASSES, seed=1):
    """Samples around one centre for each class: bytes, or real numbers."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(classes, inputs))

    def split(number):
        labels = draw.integers(0, classes, number)
        values = centres[labels] + draw.normal(size=(number, inputs))
        if kind == "bytes":
            return Split((128 + 40 * values).clip(0, 255).astype(np.uint8), labels)
        return Split(values.astype(np.float32), labels)

    return Dataset("made", split(samples), split(tests), classes, 1 / 40, -128 / 40)


def scaled(dataset, factor):
    """The same samples, so much larger, as far as float32 goes."""

    def larger(split):
        return Split((split.inputs.astype(np.float64) * factor).clip(-3e38, 3e38).astype(np.float32), split.labels)

    return replace(dataset, train=larger(dataset.train), test=larger(dataset.test))


def seen(dataset, split, normalize="standard"):
    """The inputs as the network sees them, float32."""
    if split.inputs.dtype == np.uint8:
        scale, offset = (dataset.scale, dataset.offset) if normalize == "standard" else (1 / 255, 0.0)
        return (split.inputs * np.float32(scale) + np.float32(offset)).astype(np.float32)
    return split.inputs


def recipe(**options):
    """A quick recipe."""
    return Recipe(**{"dataset": "made", "network": "fc:33,20", "epochs": 1, "batch": 32, **options})


_numbers = count()


def run(directory, which, dataset, **options):
    """Trains in a fresh directory below `directory`."""
    return train(which, dataset, Path(directory) / f"run{next(_numbers)}", **options)


class Crash(Exception):
    """The process is gone: nothing that training could catch or tidy up after."""


def crash_at(when):
    """An `on_event` that crashes at the first event for which ``when(event)``, or at an event by its number."""
    if isinstance(when, int):
        left = iter(range(when, -1, -1))
        return crash_at(lambda event: next(left) == 0)

    def look(event):
        if when(event):
            raise Crash

    return look


def outcome(work, *args, **options):
    """The message of a TinyFoAError that must be raised, one line; its kind."""
    with pytest.raises(TinyFoAError) as info:
        work(*args, **options)
    assert "\n" not in str(info.value) and str(info.value)
    return type(info.value), str(info.value)


def least(where, which, dataset, **options):
    """The smallest arena that a recipe trains in."""
    what, message = outcome(run, where, which, dataset, ram=100, **options)
    assert what is BadRequest
    return max(int(word.replace(",", "")) for word in message.split() if word[0].isdigit())


def arenas(result):
    """(planned, accounted, watermark) of each layer, from audit.json."""
    layers = json.loads((Path(result["run_dir"]) / "audit.json").read_text())["layers"]
    return [tuple(layer[f"{kind}_bytes"] for kind in ("planned", "accounted", "watermark")) for layer in layers]


def metrics(result):
    """The rows of metrics.jsonl, without what a clock said."""
    rows = [json.loads(line) for line in (Path(result["run_dir"]) / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def opened(directory, which):
    """The flash of a run at its last commit."""
    identity = which.validated().identity
    return Flash.open(Path(directory) / "flash", identity, memoryview(bytearray(65536)))


def layout(which, inputs=WIDTH, classes=CLASSES):
    """Every layer that a recipe trains, in order: its outputs, inputs, slices per side, and whether it has biases."""
    which = which.validated()
    shapes = [(shape.outputs, shape.inputs) for shape in layer_shapes(which.network, inputs)]
    side = which.slices if which.schedule in ("slice", "stream") else 1
    layers = [(O, I, side, which.algorithm != "pepita") for O, I in shapes]
    if which.algorithm == "ff":  # a part of the classifier for each layer
        return layers + [(classes, O, 1, False) for O, _ in shapes]
    if which.algorithm != "tinyfoa":
        layers.append((classes, shapes[-1][0], 1, which.algorithm != "pepita"))
    return layers


def weights(directory, which, inputs=WIDTH, classes=CLASSES):
    """W (O, I) and b (O,) or (0,) of each layer that has begun, put together from the slices in flash."""
    which = which.validated()
    copies, layers = COPIES[which.optimizer], []
    with opened(directory, which) as flash:
        for number, (O, I, side, biased) in enumerate(layout(which, inputs, classes)):
            if f"layer{number}.slices" not in flash.names():
                break
            grid, W, b = Grid(O, I, side), np.zeros((O, I), np.float32), [np.zeros(0, np.float32)]
            for k in range(len(grid)):
                part = grid.slice(k)
                block = np.zeros((part.last - part.first, part.high - part.low), np.float32)
                flash.read(f"layer{number}.slices", k, [block])
                W[part.first : part.last, part.low : part.high] = block
            for j in range(side if biased else 0):
                count = (flash.sizes(f"layer{number}.biases")[j] - 8) // 4 // copies  # behind them, their step count
                block = np.zeros(count, np.float32)
                flash.read(f"layer{number}.biases", j, [block])
                b.append(block)
            layers.append((W, np.concatenate(b)))
    return layers


def model_file(directory):
    """All that a model's file says (in what order its metadata stand there is the format's own affair)."""
    with safe_open(Path(directory) / "model.safetensors", "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return file.metadata(), {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in tensors.items()}


def digest(layers):
    """What `model_sha256` must be for these weights and biases."""
    digests = [hashlib.sha256(W.astype("<f4").tobytes() + b.astype("<f4").tobytes()).digest() for W, b in layers]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def is_committed(directory):
    """Has a run got as far as its first commit?"""
    return any(path.stat().st_size for path in Path(directory).glob("flash/root.?"))


def same(resumed, whole):
    """Does a resumed run end as the uninterrupted one did: model, errors, metrics, memory, counts, the model's file?"""
    assert resumed["model_sha256"] == whole["model_sha256"]
    assert resumed["layer_errors_pct"] == whole["layer_errors_pct"]
    assert metrics(resumed) == metrics(whole)
    assert arenas(resumed) == arenas(whole)
    assert all(resumed["flash"][count] == whole["flash"][count] for count in ("read_bytes", "exchanges"))
    assert model_file(resumed["run_dir"]) == model_file(whole["run_dir"])


def until_done(which, dataset, where, crashes, **options):
    """Trains in `where`, crashing at each of the event numbers in turn, and resumes until it is done."""
    for number in crashes:
        try:
            return train(which, dataset, where, resume=where.exists(), on_event=crash_at(number), **options)
        except Crash:
            pass
    return train(which, dataset, where, resume=where.exists(), **options)


def signal_at(when, number=signal.SIGINT):
    """An `on_event` that sends this process a signal at the first event for which ``when(event)``."""
    sent = []

    def look(event):
        if not sent and when(event):
            sent.append(event)
            os.kill(os.getpid(), number)

    return look
