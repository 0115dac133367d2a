"""The trainer in C: the bits of Python's training, in the planned bytes, through power cuts, on emulated processors."""

import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_tools import made, recipe, run, scaled

from tinyfoa_np.data import Split
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.model import c_layout, c_trainer
from tinyfoa_np.reports.device_plan import device_plan
from tinyfoa_np.run import device
from tinyfoa_np.run.train import train

sys.path.insert(0, str(Path(__file__).parents[1]))

import random_recipes  # noqa: E402

COMPILER = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
QEMU = all(shutil.which(name) for name in ("arm-none-eabi-gcc", "qemu-system-arm", "make"))
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffp-contract=off"]
CAN_FUSE = COMPILER == "gcc" and " fma " in (
    Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
)
needs_a_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler: gcc or clang")

#: recipes and, where they are not the usual ones, the kind of data, the flash, and what is in the arena
RECIPES = [
    ({"network": "fc:40x2", "epochs": 3, "lr": 0.01}, {}),
    ({"network": "fc:40,33", "epochs": 4, "slices": 5, "batch": 17}, {}),
    ({"network": "fc:33,20", "epochs": 2, "lr": 0.01, "optimizer": "momentum"}, {"kind": "real"}),
    ({"network": "fc:40,20", "epochs": 3, "moments": "int8", "lr": 0.01, "lr_schedule": "cooldown"}, {}),
    ({"network": "fc:20", "epochs": 2, "optimizer": "sgd", "schedule": "stream", "slices": 3}, {"mapped": False}),
    ({"network": "fc:33,20", "epochs": 3, "schedule": "slice", "slices": 3, "visits": 4, "order": "diagonal"}, {}),
    (
        {"network": "fc:20,33", "epochs": 3, "moments": "int8", "optimizer": "momentum", "hold": "2"},
        {"store": c_layout.FRAM, "cut": c_layout.Cut(2, True, True)},
    ),
    ({"network": "fc:40", "epochs": 4, "lr_schedule": "drop:1,75%", "exchanges": 7, "slices": 4}, {"kind": "real"}),
    (
        {"network": "fc:20x3", "epochs": 1, "batch": 100, "seed": 2**64 - 1, "shuffle": True},
        {"store": c_layout.FRAM, "cut": c_layout.Cut(8, False, True)},
    ),
    (
        {"network": "fc:33,20", "epochs": 2, "schedule": "stream", "lr": 0.01},
        {"store": c_layout.FRAM, "cut": c_layout.Cut(4, True, False)},
    ),
    ({"network": "fc:33,20", "epochs": 2, "lr": 0.01}, {"kind": "large"}),
    ({"network": "fc:33,20", "slices": 1, "epochs": 3, "lr": 2.0}, {"kind": "whole"}),
]

#: what a sketch expects of the Arduino IDE, and a program around it
ARDUINO = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
enum { A0 = 14 };
int analogRead(int pin);
struct Port {
    void begin(long) {}
    void print(const char *text) { printf("%s", text); }
    void println(int number) { printf("%d\n", number); }
};
extern Port Serial;
"""
BOARD = r"""
Port Serial;
int analogRead(int) { static unsigned reading; return (int)((reading += 37) % 1024); }
int main() {
    tinyfoa_progress now = {};
    setup();
    for (int n = 0; n < 2000 && now.epochs < 2; n++) {
        loop();
        if (!failure) tinyfoa_where(&trainer, &now);
    }
    printf("epochs=%d\n", (int)now.epochs);
    return failure != 0;
}
"""


def data_of(kind="bytes"):
    """Samples; ``large``: |z| is clamped, at 2^20; ``whole``: z is often 0 or 1 once all weights are +-1."""
    dataset = made("bytes" if kind == "bytes" else "real", samples=120, tests=30)
    if kind == "large":
        return scaled(dataset, 1e7)
    if kind == "whole":
        parts = [replace(split, inputs=np.rint(split.inputs)) for split in (dataset.train, dataset.test)]
        return replace(dataset, train=parts[0], test=parts[1])
    return dataset


def export(directory, which, dataset, images=None, before=0, store=c_layout.NOR, mapped=True, cut=None, kind=None):
    layout = c_layout.CLayout(which.validated(), dataset, store, mapped, cut)
    c_trainer.write(layout, dataset, directory, images, before)
    return layout


def compiled(directory, *flags):
    example = directory / "example"
    sources = [*sorted(directory.glob("tinyfoa_*.c")), *(example / name for name in ("main.c", "nor.c", "port_host.c"))]
    subprocess.run([COMPILER, *STRICT, *(flags or ["-O1"]), *sources, "-o", directory / "run"], check=True)


def result_of(directory, *arguments):
    command = [directory / "run", directory / "example" / "data.bin", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@needs_a_compiler
@pytest.mark.parametrize("options, about", RECIPES, ids=[str(k) for k in range(len(RECIPES))])
def test_the_bits_and_the_bytes(tmp_path, options, about):
    which, dataset = recipe(**options), data_of(about.get("kind", "bytes"))
    layout = export(tmp_path, which, dataset, **about)
    compiled(tmp_path)
    found, wanted = result_of(tmp_path), run(tmp_path, which, dataset, threads=1)
    assert found["model_sha256"] == wanted["model_sha256"]
    assert found["error_pct"] == pytest.approx(wanted["error_pct"], abs=1e-3)
    assert found["watermark_bytes"] == found["arena_bytes"] == layout.arena_bytes


@needs_a_compiler
@pytest.mark.parametrize("number", range(10))
def test_random_recipes(number):
    case, dice = random_recipes.drawn(number), random.Random(number)
    assert random_recipes.differences(case, [COMPILER], dice) == []


@needs_a_compiler
def test_a_stream_of_chunks(tmp_path):
    which, dataset = recipe(network="fc:33,20", epochs=2, lr=0.01), made(samples=120)
    export(tmp_path, which, dataset)
    compiled(tmp_path, "-DEXAMPLE_CHUNKS=50,10,60")
    for first, last in ((0, 50), (50, 60), (60, 120)):
        part = replace(dataset, train=Split(dataset.train.inputs[first:last], dataset.train.labels[first:last]))
        wanted = train(which, part, tmp_path / "stream", stream=True, threads=1)
    assert result_of(tmp_path)["model_sha256"] == wanted["model_sha256"]


@needs_a_compiler
@pytest.mark.parametrize("moments", ["float32", "int8"])
def test_a_run_goes_on(tmp_path, moments):
    which, dataset = recipe(network="fc:33,20", epochs=2, lr=0.01, moments=moments), made(samples=120)
    directory = Path(run(tmp_path, which, dataset, threads=1)["run_dir"])
    layout = c_layout.CLayout(which.validated(), dataset)
    images, before = device.images(directory, layout)
    c_trainer.write(layout, dataset, tmp_path, images, before)
    compiled(tmp_path, "-DEXAMPLE_CHUNKS=120")
    wanted = train(which, dataset, directory, stream=True, threads=1)
    assert result_of(tmp_path)["model_sha256"] == wanted["model_sha256"]


@needs_a_compiler
@pytest.mark.parametrize("about", [{}, {"store": c_layout.FRAM, "cut": c_layout.Cut(2, True, True)}])
def test_power_cuts_lose_nothing(tmp_path, about):
    export(tmp_path, recipe(network="fc:20,16", epochs=4, lr=0.01), made(samples=60), **about)
    compiled(tmp_path, "-O1", *([] if not about else ["-DEXAMPLE_LONGEST=60000"]))
    wanted = result_of(tmp_path)
    for seed in ("1", "2"):
        found = result_of(tmp_path, "--cuts", "100", seed)
        assert found["model_sha256"] == wanted["model_sha256"]
        assert found["flash_erased_pages"] > wanted["flash_erased_pages"]


@needs_a_compiler
def test_no_undefined_behaviour(tmp_path):
    export(tmp_path, recipe(network="fc:33,20", epochs=2, moments="int8"), made(samples=60))
    try:
        compiled(tmp_path, "-O1", "-Wno-conversion", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    except subprocess.CalledProcessError:
        pytest.skip("the compiler has no sanitizers")
    assert result_of(tmp_path)["model_sha256"]


def test_the_readme_has_the_sizes(tmp_path):
    layout = export(tmp_path, recipe(network="fc:33,20"), made("real"), store=c_layout.Store(page=2048, unit=8))
    text = (tmp_path / "README.md").read_text("ascii")
    assert f"| arena | {layout.arena_bytes:,} bytes" in text and f"| flash | {layout.flash_bytes:,} bytes" in text
    assert "pages of 2,048, programmed in units of 8 bytes" in text and "up to 70, of 70 values each (`float`)" in text
    header = (tmp_path / "tinyfoa_trainer.h").read_text("ascii")
    for name in re.findall(r"`(tinyfoa_[a-z_]+)`", text):
        assert f"{name}(" in header


@needs_a_compiler
def test_fast_math_is_refused(tmp_path):
    export(tmp_path, recipe(), made())
    with pytest.raises(subprocess.CalledProcessError):
        compiled(tmp_path, "-O1", "-ffast-math")


@pytest.mark.skipif(not CAN_FUSE, reason="no gcc, or a processor without FMA")
def test_a_compiler_that_would_fuse_does_not(tmp_path):
    """As in the Arduino IDE, where nobody can give flags; the self-test says it where it does."""
    which, dataset = recipe(), made("real")
    export(tmp_path, which, dataset)
    compiled(tmp_path, "-O2", "-std=gnu11", "-mfma", "-ffp-contract=fast")
    assert result_of(tmp_path)["model_sha256"] == run(tmp_path, which, dataset, threads=1)["model_sha256"]
    arith = tmp_path / "tinyfoa_arith.h"
    arith.write_text(arith.read_text().replace("#pragma GCC optimize", "// "))
    compiled(tmp_path, "-O2", "-std=gnu11", "-mfma", "-ffp-contract=fast")
    done = subprocess.run([tmp_path / "run", tmp_path / "example" / "data.bin"], capture_output=True, check=False)
    assert json.loads(done.stdout) == {"error": "selftest", "code": 1}


def in_a_sketchbook(directory, kind, mapped):
    """The exported sketch with a board of the tests: a sensor that counts, a serial port that prints."""
    dataset = made(kind, samples=120, tests=1)
    export(directory, recipe(network="fc:20,10", batch=16, epochs=2, lr=0.01), dataset, mapped=mapped)
    (directory / "Arduino.h").write_text(ARDUINO)
    (directory / "sketch.cpp").write_text((directory / "example" / "arduino.ino").read_text() + BOARD)
    return sorted(directory.glob("tinyfoa_*.c"))


@pytest.mark.skipif(not all(map(shutil.which, ("gcc", "g++"))), reason="no gcc and g++")
@pytest.mark.parametrize("kind, mapped", [("bytes", True), ("real", False)])
def test_the_sketch_learns(tmp_path, kind, mapped):
    sources = in_a_sketchbook(tmp_path, kind, mapped)
    subprocess.run(
        ["gcc", "-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-c", *sources], check=True, cwd=tmp_path
    )
    sketch = ["g++", "-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-I.", "sketch.cpp"]
    subprocess.run([*sketch, *[path.with_suffix(".o") for path in sources], "-o", "sketch"], check=True, cwd=tmp_path)
    lines = subprocess.run([tmp_path / "sketch"], capture_output=True, text=True, check=True).stdout.split()
    assert lines[-1] == "epochs=2" and set(lines[:-1]) <= set("012") and len(lines) > 64


@pytest.mark.skipif(
    not all(map(shutil.which, ("arm-none-eabi-gcc", "arm-none-eabi-g++"))), reason="no arm-none-eabi-g++"
)
def test_the_sketch_compiles_for_a_cortex_m4(tmp_path):
    sources = in_a_sketchbook(tmp_path, "bytes", True)
    board = [
        "-mthumb",
        "-mcpu=cortex-m4",
        "-mfpu=fpv4-sp-d16",
        "-mfloat-abi=hard",
        "-Os",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    subprocess.run(["arm-none-eabi-gcc", "-std=gnu11", *board, "-c", *sources], check=True, cwd=tmp_path)
    sketch = ["-std=gnu++11", "-fno-exceptions", "-fno-rtti", "-I.", "-c", "sketch.cpp"]
    subprocess.run(["arm-none-eabi-g++", *board, *sketch], check=True, cwd=tmp_path)


@pytest.mark.skipif(not QEMU, reason="no arm-none-eabi-gcc, qemu-system-arm or make")
@pytest.mark.parametrize(
    "options", [{}, {"slices": 4, "visits": 2, "moments": "int8", "lr_schedule": "cooldown"}], ids=["plain", "largest"]
)
def test_an_emulated_cortex_m7(tmp_path, options):
    which, dataset = recipe(network="fc:20x2", epochs=1, lr=0.01, **options), made(samples=64)
    layout = export(tmp_path, which, dataset)
    done = subprocess.run(
        ["make", "-s", "-C", tmp_path / "example", "run-qemu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        timeout=110,
    )
    found, wanted = json.loads(done.stdout.splitlines()[-1]), run(tmp_path, which, dataset, threads=1)
    assert found["model_sha256"] == wanted["model_sha256"]
    assert found["watermark_bytes"] == layout.arena_bytes
    assert 0 < found["stack_bytes"] <= 1536 and 0 < found["text_bytes"] <= 16384
    said = device_plan(which.validated(), dataset, c_layout.NOR, True, None)
    mean = sum(layer["instructions_per_step"] for layer in said["layers"]) / len(said["layers"])
    assert 0.5 < mean / found["instructions_per_step"] < 2  # four steps, in which a slice comes and goes
    assert found["stack_bytes"] <= said["stack_bytes"] and found["text_bytes"] <= said["code_bytes"]


@pytest.mark.parametrize(
    "options, says",
    [
        ({"algorithm": "bp"}, "tinyfoa on fully connected networks"),
        ({"binary_weights": False}, "binary weights and activations"),
        ({"schedule": "frozen"}, "not frozen"),
        ({"moments": "bfloat16"}, "not bfloat16"),
        ({"recompute": True}, "--recompute"),
        ({"slices": 21}, "at most 20"),
    ],
)
def test_what_it_does_not_do_is_refused(options, says):
    with pytest.raises(BadRequest, match=says):
        c_layout.CLayout(recipe(**options).validated(), made())


def test_a_budget_streams_slices_only_where_flash_is_rewritten_in_place():
    which, dataset = recipe(network="fc:100x2", slices=2).validated(), made()
    assert c_layout.fit(which, dataset, c_layout.FRAM, True, 6000).cut.streamed
    with pytest.raises(BadRequest, match="with --flash fram"):
        c_layout.fit(which, dataset, c_layout.NOR, True, 6000)


def test_packed_rows_begin_a_word_with_each_segment():
    bits = np.ones((2, 70), bool)
    assert device.packed(bits, 2).tolist() == [[0xFFFFFFFF, 7, 0xFFFFFFFF, 7]] * 2
