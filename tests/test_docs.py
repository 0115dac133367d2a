"""The documentation: pages that are made from the code are up to date, and every command in it works."""

import importlib.util
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinyfoa_np import data
from tinyfoa_np.data import Split

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "cli.md")]
#: whose commands need another package: tests/test_extending.py installs it and runs them
ELSEWHERE = "extending"
#: what would take long is run on less: options that are added to those of a command
SHORTER = {
    "train mnist": "--epochs 1 --batch 50",
    "train mitbih": "--network fc:20x2 --epochs 1",
    "train digits": "--epochs 1",
    "train data": "--network fc:20x2 --epochs 1",
    "train train.csv": "--network fc:20x2 --epochs 1",
    "train x.npy": "--network fc:20x2 --epochs 1",
    "train --data": "--network fc:20x2 --epochs 1",
    "reproduce table1": "--datasets digits --epochs 1 --limit 100 --seeds 1 --network fc:20x2 --systems tinyfoa,bp",
    "reproduce table2": "--datasets digits --epochs 1 --limit 100 --seeds 1 --network fc:20x2 --systems tinyfoa-bw-ba",
    "reproduce slices": "--datasets digits --epochs 1 --limit 100 --network fc:20x2 --at 2 --lines auto",
    "reproduce exchanges": "--datasets digits --epochs 1 --limit 100 --network fc:20x2 --at 2 --lines 'M = 2'",
}


def pages():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_pages_from_the_code_are_up_to_date():
    for path, text in pages().items():  # click's versions break lines differently
        assert path.read_text().split() == text.split(), f"{path} is not up to date: make docs"


def test_links_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def commands(page):
    """The commands that stand in a page as lines of their own, without what is said about them."""
    for line in page.read_text().splitlines():
        if line.startswith("    tinyfoa "):
            yield re.sub(r"\s{2,}.*|\s#.*", "", line.strip())


def small(name):
    """So few samples of the shape of a data set, and at random."""
    shape, draw = data.shape(name), np.random.default_rng(0)

    def split(samples):
        like = shape.train.inputs
        inputs = draw.integers(0, 256, (samples, like.shape[1])).astype(like.dtype)
        return Split(inputs, draw.integers(0, shape.classes, samples))

    return replace(shape, train=split(100), test=split(40))


def resnet8():
    """The tensors of a network in PyTorch, with names as in docs/finetuning.md."""
    convolutions, norms = {"stem": (16, 3, 3, 3)}, {"bn": 16}
    for k, (below, width) in enumerate(((16, 16), (16, 32), (32, 64))):
        convolutions |= {f"blocks.{k}.conv1": (width, below, 3, 3), f"blocks.{k}.conv2": (width, width, 3, 3)}
        convolutions |= {f"blocks.{k}.shortcut": (width, below, 1, 1)} if below < width else {}
        norms |= {f"blocks.{k}.bn1": width, f"blocks.{k}.bn2": width}
    parts = "weight", "bias", "running_mean", "running_var"
    tensors = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in convolutions.items()}
    tensors |= {f"{name}.{part}": np.ones(width, np.float32) for name, width in norms.items() for part in parts}
    return tensors | {"head.weight": np.ones((10, 64), np.float32), "head.bias": np.zeros(10, np.float32)}


def yours(folder, digits):
    """Your own data, by the names they have in the pages."""
    x, y = digits.test.inputs, digits.test.labels
    np.savez(folder / "data.npz", x=x, y=y)
    shapes = (100, 64), (100, 100), (10, 100)
    weights = {f"{n}.weight": np.zeros(shape, np.float32) for n, shape in enumerate(shapes)}
    save_file(weights, folder / "mlp.safetensors")
    np.savez(folder / "images.npz", x=np.zeros((40, 3, 8, 8), np.uint8), y=np.arange(40) % 10)
    save_file(resnet8(), folder / "resnet.safetensors")
    np.save(folder / "x.npy", x), np.save(folder / "y.npy", y)
    for name in ("data.csv", "train.csv", "test.csv"):
        np.savetxt(folder / name, np.column_stack([x, y]), "%d", delimiter=",")


WITH_COMMANDS = [page for page in PAGES if any(commands(page)) and page.stem != ELSEWHERE]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_commands(page, run, monkeypatch, tmp_path):
    load, digits = data.load, data.load("digits")

    def some(name, *_, **__):
        return load(name) if name == "digits" or data.is_files(name) else small(name)

    monkeypatch.setattr(data, "load", some)
    monkeypatch.setattr(data, "fetch", lambda name, *_, **__: name)
    monkeypatch.setattr(data, "verify", lambda name, *_: [(name, True, "")])
    np.save(tmp_path / "samples.npy", digits.test.inputs)
    yours(tmp_path, digits)
    for command in commands(page):
        shorter = [more for which, more in SHORTER.items() if f"tinyfoa {which}" in command]
        code, _, err = run(*shlex.split(" ".join([command, *shorter]))[1:])
        # a plan that says no is a plan
        assert code == 0 or (code, err) == (1, "") and command.startswith("tinyfoa plan"), f"{command}: {err}"
