"""The trainer in C as firmware calls it: wrong arguments, failing and damaged flash, commits, resets, answers."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_tools import made, recipe, run

from tinyfoa_np.data.dataset import Columns
from tinyfoa_np.model import c_layout, c_trainer, model
from tinyfoa_np.run import device

COMPILER = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler: gcc or clang"),
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]

CHECKS = Path(__file__).with_name("trainer_checks.c")
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffp-contract=off"]
#: without the processor's square roots, as where there are none
SOFTWARE = ["-U__SSE__", "-U__SSE2__"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
#: recipe, kind of data, flash, what is in the arena
EXPORTS = {
    "bytes": ({"network": "fc:21,15", "slices": 2, "epochs": 3}, "bytes", c_layout.Store(page=256, unit=8), None),
    "real": ({"network": "fc:21,15", "slices": 2, "epochs": 2, "schedule": "stream"}, "real", c_layout.NOR, None),
    "streamed": (
        {"network": "fc:21,15", "slices": 1, "epochs": 3},
        "bytes",
        c_layout.FRAM,
        c_layout.Cut(2, True, True),
    ),
    "continued": ({"network": "fc:21,15", "slices": 2, "epochs": 2}, "bytes", c_layout.NOR, None),
}
#: checks of trainer_checks.c
NAMES = (
    "arguments",
    "other_data",
    "bad_data",
    "failing_flash",
    "commits_anywhere",
    "reset",
    "answers_between_steps",
    "answers_after_a_lost_hand_over",
    "torn_roots",
    "forged_roots",
    "ties",
    "filled_units",
    "damaged_flash",
    "damaged_moments",
    "damaged_network",
    "foreign_flash",
    "arithmetic",
)
#: not of a program that answers at once and counts its epochs from there; nor of one with a single group of biases
APART = {
    ("continued", name) for name in ("arguments", "other_data", "filled_units", "damaged_flash", "damaged_moments")
}
APART |= {("streamed", "damaged_moments")}


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    """The checks' program for an export and its data, its data set, and the directory of a run in Python."""
    known = {}

    def get(name):
        if name not in known:
            where, (options, kind, store, cut) = tmp_path_factory.mktemp(name), EXPORTS[name]
            which, dataset = recipe(lr=0.01, **options).validated(), made(kind)
            if kind == "real":  # each column on a scale of its own
                scale = np.geomspace(1e-3, 1e3, dataset.train.inputs.shape[1]).astype(np.float32)
                parts = [replace(s, inputs=s.inputs * scale + 5 * scale) for s in (dataset.train, dataset.test)]
                dataset = replace(dataset, train=parts[0], test=parts[1], columns=Columns.of(parts[0].inputs))
            layout = c_layout.CLayout(which, dataset, store, True, cut)
            directory = Path(run(where, which, dataset, threads=1)["run_dir"])
            images, before = device.images(directory, layout) if name == "continued" else (None, 0)
            c_trainer.write(layout, dataset, where, images, before)
            sources = [CHECKS, *sorted(where.glob("tinyfoa_*.c"))]
            flags = [*STRICT, *SANITIZED, *(SOFTWARE if name == "streamed" else []), f"-I{where}"]
            subprocess.run([COMPILER, *flags, *sources, "-o", where / "checks", "-lm"], check=True)
            known[name] = [where / "checks", where / "example" / "data.bin"], dataset, directory
        return known[name]

    return get


def said(program, check, **options):
    """The lines that a check prints, without the last one: ok."""
    command = [program[0], check, program[1]]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, **options)
    *lines, last = (done.stdout or done.stderr).decode().splitlines()
    assert (done.returncode, last) == (0, "ok"), done.stdout + done.stderr
    return lines


@pytest.mark.parametrize(
    "name, check", [(name, check) for name in EXPORTS for check in NAMES if (name, check) not in APART]
)
def test_what_firmware_meets(checks, name, check):
    said(checks(name)[0], check)


@pytest.mark.parametrize("name", ["bytes", "real", "streamed"])
def test_scores_are_those_of_the_model(checks, name):
    program, dataset, directory = checks(name)
    rows = [line.split() for line in said(program, "scores")]
    ours, x = model.load(directory / "model.safetensors"), dataset.test.inputs
    scores = np.array([[int(word, 16) for word in row[1:]] for row in rows], np.uint32).view(np.float32)
    assert ([int(row[0]) for row in rows] == ours.predict(x)).all()
    assert scores.shape == (len(x), dataset.classes) and (scores == ours.logits(x)).all()


def test_columns_are_scaled_as_in_training(checks):
    program, dataset, _ = checks("real")
    raw = dataset.test.inputs
    lines = said(program, "scale", input=raw.tobytes())
    scaled = np.array([[int(word, 16) for word in line.split()] for line in lines], np.uint32).view(np.float32)
    assert (scaled == dataset.encoded(raw, "standard")).all()
