"""Trained models of every rule and kind of network, to be exported, and samples that are no foregone conclusion."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from train_tools import made, recipe, run

from tinyfoa_np.model import model

#: network, images or none, recipe fields; bytes and real numbers take turns
CASES = [
    *(
        ("fc:33,20", None, {"algorithm": algorithm, "binary_weights": weights, "binary_activations": activations})
        for algorithm in ("tinyfoa", "bp", "drtp", "ff")
        for weights, activations in ((True, True), (False, False))
    ),
    ("fc:33,20", None, {"binary_weights": False}),
    ("fc:33,20", None, {"binary_activations": False}),
    ("fc:33", None, {"algorithm": "dfa"}),
    ("fc:33,20", None, {"algorithm": "dfa", "binary_weights": False}),
    ("fc:33,20", None, {"algorithm": "dfa", "options": {"hidden": "relu", "loss": "softmax"}}),
    ("fc:33,20", None, {"algorithm": "fa", "binary_weights": False, "options": {"hidden": "relu"}}),
    ("fc:33", None, {"algorithm": "pepita"}),
    ("fc:33", None, {"algorithm": "ff"}),
    ("fc:30,20", None, {"algorithm": "giff", "merge": "mul", "rms": False, "label_width": 2, "groups": "1,2"}),
    ("fc:33,20", None, {"algorithm": "monoforward"}),
    ("fc:33,20", None, {"algorithm": "monoforward", "binary_weights": False, "binary_activations": False}),
    ("fc:33,20", None, {"algorithm": "biofo", "options": {"head": "normal"}}),
    ("fc:33,20", None, {"algorithm": "biofo", "binary_weights": False, "binary_activations": False}),
    ("lc:6,9", (2, 8, 7), {}),
    ("lc:6,9", (2, 8, 7), {"lc_connect": "depthwise", "binary_activations": False}),
    ("lc:6", (1, 9, 9), {"binary_weights": False, "algorithm": "bp"}),
    ("lc:6,9", (2, 8, 7), {"algorithm": "bp", "lc_connect": "depthwise"}),
    ("lc:6", (1, 9, 9), {"algorithm": "dfa"}),
    ("cnn", (1, 12, 11), {"algorithm": "giff", "options": {"answer": "last"}}),
    ("cnn", (1, 12, 11), {"algorithm": "giff", "merge": "add", "rms": True}),
    ("cnn", (1, 12, 11), {"algorithm": "bp"}),
    ("resnet8", (3, 8, 8), {"algorithm": "giff"}),
    ("dscnn", (1, 21, 10), {"algorithm": "bp"}),
    ("conv:10k5,p2,8s2", (2, 12, 11), {"algorithm": "bp"}),
    ("conv:10k5,p2,8k1", (1, 12, 11), {"algorithm": "giff"}),
    ("conv:10k5,m2,8,f20", (2, 12, 11), {"algorithm": "dfa"}),
    ("conv:10k5,m2,8,f20", (1, 12, 11), {"algorithm": "fa", "options": {"hidden": "relu"}}),
    ("fc:33,20", None, {"optimizer": "bop"}),
    ("fc:33", None, {"optimizer": "bop", "algorithm": "bp"}),
    ("fc:33,20", None, {"algorithm": "pepita_tl"}),
    ("fc:33,20", None, {"algorithm": "pepita_wm"}),
    ("fc:33,20", None, {"algorithm": "fa", "options": {"feedback": "unmasked"}}),
    ("fc:30,20", None, {"algorithm": "deeperforward"}),
    ("conv:10k5,p2,20,20s2", (2, 12, 11), {"algorithm": "deeperforward", "options": {"first_layer": 1}}),
    ("conv:10,p2,20", (1, 12, 11), {"algorithm": "deeperforward", "dropout": 0.2}),
    ("conv:10,20,10k5,20", (2, 13, 12), {"algorithm": "cwcomp"}),
    ("conv:10,20", (1, 12, 11), {"algorithm": "cwcomp", "options": {"predictor": "goodness"}}),
    ("fc:20,10", None, {"algorithm": "cwcomp", "options": {"predictor": "goodness"}}),
    ("conv:10k5,m2,8,f20", (2, 12, 11), {"algorithm": "biofo", "epochs": 4}),
    ("cnn", (1, 12, 11), {"algorithm": "biofo", "epochs": 4}),
    ("conv:10k5,m2,8,f20", (2, 12, 11), {"algorithm": "monoforward", "epochs": 4}),
    ("conv:10k5,m2,8,f20", (1, 12, 11), {"algorithm": "drtp"}),
    ("cnn", (2, 12, 11), {"algorithm": "dfa", "options": {"signal": "sign"}}),
    ("resnet8", (3, 8, 8), {"algorithm": "fa"}),
    ("resnet8", (3, 8, 8), {"algorithm": "deeperforward"}),
    ("cnn", (1, 12, 11), {"algorithm": "cwcomp"}),
    ("fc:64,32", (1, 8, 8), {}),  # rows that end with a word
    ("fc:64,32", (1, 8, 8), {"algorithm": "ff"}),
    ("lc:6,9", (2, 9, 7), {"algorithm": "bp", "binary_activations": False}),
]


CASE_NAMES = [f"{network}-{options.get('algorithm', 'tinyfoa')}" for network, _, options in CASES]


def data_for(image, kind, tests=1000):
    """Data with images of a shape, or 70 inputs."""
    inputs = np.prod(image) if image else 70
    return replace(made(kind, samples=90, tests=tests, inputs=inputs, classes=5), image=image)


def mixed(x):
    """Half of one sample, half of another, so that answers are no foregone conclusion."""
    return x // 2 + x[::-1] // 2 if x.dtype == np.uint8 else (x + x[::-1]) / 2


def trained(where, network, dataset, **options):
    """The model of a short training."""
    usual = {"epochs": 2, "lr": 3e-3, "batch": 30, "schedule": "auto"}
    result = run(where, recipe(network=network, **{**usual, **options}), dataset)
    return model.load(Path(result["run_dir"]) / "model.safetensors")
