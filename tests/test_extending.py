"""The example of docs/extending.md: a rule of another package, in a fresh environment and against its equations."""

import json
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from tinyfoa_np import catalogue
from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.errors import CheckFailed
from tinyfoa_np.kernels import optimizers
from tinyfoa_np.model import export as exports
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


@pytest.fixture(scope="module")
def page():
    """What the Python blocks of docs/extending.md define, run one after the other, in tables of their own."""
    pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn 1.6 is not installed (extra sklearn)")
    text = (EXAMPLE.parents[1] / "docs" / "extending.md").read_text()
    shown = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    assert len(shown) == 9
    module = types.ModuleType("shown")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        patch.setitem(sys.modules, "shown", module)  # the catalogue imports the rule from there
        patch.setattr(catalogue, "_known", dict(catalogue._known))
        catalogue.register(pytest.importorskip("tinyfoa_monoforward").MONOFORWARD)
        for table in ("WRITERS", "FORMATS"):
            patch.setattr(exports, table, dict(getattr(exports, table)))
        for block in shown:
            exec(block, vars(module))
        yield module


def test_the_shown_classifier_and_export_work(page):
    x = np.random.default_rng(0).standard_normal((40, 5))
    assert set(page.classifier.fit(x, x[:, 0] > 0).predict(x)) <= {False, True}
    (content,) = exports.export(page.classifier.model_, "biases").values()
    assert [len(line.split(",")) for line in content.decode().splitlines()] == [20]  # heads have none


def test_the_shown_layer_starts_at_zero_and_learns(page, tmp_path):
    draw = np.random.default_rng(3)
    x = draw.standard_normal((60, 12)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.uint16)
    dataset = Dataset("made", Split(x, y), Split(x[:6], y[:6]), 2, 1.0, 0.0, 1.0)
    real = {"binary_weights": False, "binary_activations": False}
    recipe = Recipe(algorithm="zerotop", network="fc:16", epochs=8, batch=10, lr=0.01, **real).validated()
    events = []
    train(recipe, dataset, tmp_path / "run", threads=1, on_event=events.append)
    batches = [event.loss for event in events if event.kind == "batch"]
    epochs = [event.loss for event in events if event.kind == "epoch"]
    assert batches[0] == pytest.approx(np.log(2)) and epochs[-1] < 0.7 * epochs[0]


def test_the_shown_optimizer_equals_its_counterpart(page, monkeypatch):
    monkeypatch.setattr(optimizers, "RULES", (*optimizers.RULES, page.ROW))  # the code of a step is made from it
    number = len(optimizers.RULES) - 1

    @njit
    def step(slope, m, rate):
        return optimizers.step_one(number, slope, m, np.float32(0), rate, np.float32(1))

    theirs, w, m = page.Average(lr=0.1), np.float32(1), np.float32(0)
    for g in np.random.default_rng(0).standard_normal(9).astype(np.float32):
        move, m, _ = step(g, m, np.float32(0.1))
        assert move == pytest.approx(w - theirs.step(w, g), abs=1e-6) and m == pytest.approx(theirs.m, abs=1e-6)


def test_the_shown_data_set_is_read_and_verified(page, tmp_path):
    lines = [f"{k % 2} " + " ".join(f"{k * j % 7 / 7:.3f}" for j in range(1, 9)) for k in range(20)]
    path = tmp_path / "sonar" / "sonar.txt"
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n")
    sonar = page.SETS["sonar"]
    dataset = sonar.load(tmp_path)
    assert dataset.train.inputs.shape == (16, 8) and dataset.test.labels.tolist() == [0, 1, 0, 1]
    assert [ok for _, ok, _ in sonar.verify(tmp_path)] == [True]
    path.write_text("\n".join(lines[::-1]) + "\n")
    with pytest.raises(CheckFailed, match="is not the published file"):
        sonar.load(tmp_path)
    assert sonar.load(tmp_path, unverified=True).test.labels.tolist() == [1, 0, 1, 0]


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
