"""The example of docs/extending.md: a rule of another package, in a fresh environment and against its equations."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from tinyfoa_np import catalogue
from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.model.model import load
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import monoforward, random
from tinyfoa_np.run.train import train

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "monoforward"
COMMANDS = [
    "train digits --algorithm mono --head-lr 0.002 --network fc:20,16 --epochs 2 --batch 10 --limit 200 --audit"
    " --out run",
    "audit run",
    "plan digits --algorithm mono --network fc:20,16 --batch 10 --ram 64KiB",
    "report run",
    "plot run --out memory.png",
    "plot run --kind training --out training.png",
    "compare run",
    "export run --to npz --out model.npz",
    "train --help",
]
#: runs the commands in one process, so that the package is imported once
SCRIPT = """
import json, sys
from tinyfoa_cli.main import main
for line in json.loads(sys.argv[1]):
    try:
        main(line.split())
    except SystemExit as end:
        if end.code:
            sys.exit(f"tinyfoa {line}: exit code {end.code}")
"""


def test_the_example_is_short():
    assert len((EXAMPLE / "tinyfoa_monoforward.py").read_text().splitlines()) <= 80


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The interpreter of a fresh environment with the example, which sees the packages of this one."""
    place = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    python = place / "env" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    here = sysconfig.get_path("purelib")
    Path(site, "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    shutil.copytree(EXAMPLE, place / "source")  # a build leaves files beside it
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    for isolation in (["--no-build-isolation"], []):
        done = subprocess.run([*install, *isolation, place / "source"], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return python
    pytest.skip(f"pip cannot install the example here: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")


def test_every_command_accepts_a_rule_of_another_package(environment, tmp_path):
    done = subprocess.run(
        [environment, "-c", SCRIPT, json.dumps(COMMANDS)], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--head-lr" in done.stdout and "mono: learning rate of the heads." in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["options"] == {"head_lr": 0.002}
    assert all((tmp_path / name).exists() for name in ("run/report.html", "memory.png", "training.png", "model.npz"))


@pytest.fixture
def example(monkeypatch):
    """The example's module, known to the catalogue for the length of a test."""
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setattr(catalogue, "_known", dict(catalogue._known))
    module = pytest.importorskip("tinyfoa_monoforward")
    catalogue.register(module.MONOFORWARD)
    return module


def test_what_the_page_shows_runs(example):
    """The Python blocks of docs/extending.md, one after the other."""
    pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn 1.6 is not installed (extra sklearn)")
    page = (EXAMPLE.parents[1] / "docs" / "extending.md").read_text()
    shown = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    assert len(shown) == 6
    names = {}
    for block in shown:
        exec(block, names)
    x = np.random.default_rng(0).standard_normal((40, 5))
    assert set(names["classifier"].fit(x, x[:, 0] > 0).predict(x)) <= {False, True}


@pytest.mark.parametrize(("bw", "ba"), [(False, False), (True, True)])
def test_the_example_computes_its_equations(example, tmp_path, bw, ba):
    draw = np.random.default_rng(3)
    x, y = draw.standard_normal((30, 12)).astype(np.float32), draw.integers(0, 3, 30).astype(np.uint16)
    dataset = Dataset("made", Split(x, y), Split(x[:6], y[:6]), 3, 1.0, 0.0, 1.0)
    recipe = Recipe(
        algorithm="mono",
        network="fc:16,9",
        epochs=2,
        batch=10,
        lr=0.01,
        slices=1,
        schedule="stream",
        binary_weights=bw,
        binary_activations=ba,
        shuffle=False,
        options={"head_lr": 0.01},
    ).validated()
    train(recipe, dataset, tmp_path / "run", threads=1)
    batches = [(x[k : k + 10], y[k : k + 10]) for k in range(0, 30, 10)]
    shapes = [(16, 12), (9, 16)]
    layers = [
        monoforward.Layer(
            random.weights(*shape, seed=0, layer=k),
            random.biases(*shape, seed=0, layer=k),
            random.weights(3, shape[0], seed=0, layer=example.HEADS + k),
        )
        for k, shape in enumerate(shapes)
    ]
    theirs = monoforward.train(batches, layers, epochs=2, lr=0.01, binary_weights=bw, binary_activations=ba)
    ours = load(tmp_path / "run" / "model.safetensors").layers
    for k, layer in enumerate(theirs.layers):
        np.testing.assert_allclose(ours[2 * k + 1].weights, layer.M, rtol=0, atol=2e-4)
        np.testing.assert_allclose(ours[2 * k].bias, layer.b, rtol=0, atol=2e-4)
        if not bw:
            np.testing.assert_allclose(ours[2 * k].weights, layer.W, rtol=0, atol=2e-4)
