"""The same bits on other processors: kernels for AVX2, and without SIMD, while the host's features are hidden."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pins
import pytest

TOOLS = Path(pins.__file__).parent
#: what LLVM is told: a processor, and its features in place of the host's
PROCESSORS = {
    "avx2": ("haswell", "+avx2,+avx,+fma,+bmi,+bmi2,+popcnt,+sse4.2,+lzcnt,+f16c"),
    "none": ("x86-64", "-avx,-avx2,-avx512f,-fma"),
}
CASE = "tinyfoa-slice-11"
PINNED = json.loads(pins.PINS.read_text())[f"{CASE}@fastest"]["model"]
RUN = """
import json, sys, warnings
from pathlib import Path
import pins
from tinyfoa_np.kernels import simd
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.train import train
warnings.simplefilter("ignore")
dataset, fields = pins.cases()[sys.argv[1]]
recipe = Recipe(dataset="made", epochs=2, batch=16, lr=1e-3, **fields).validated()
def leave(event):
    if event.kind == "epoch":
        raise KeyboardInterrupt
how = {"resume": True} if sys.argv[3] == "resume" else {}
if sys.argv[3] == "begin":
    how["on_event"], how["commit_every"] = leave, 1
try:
    result = train(recipe, dataset, Path(sys.argv[2]), threads=1, **how)
except KeyboardInterrupt:
    result = {"model_sha256": "interrupted"}
print(json.dumps({"sha": result["model_sha256"], "wide": simd.WIDE, "avx2": simd.AVX2}))
"""

pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the features are those of x86"),
    pytest.mark.usefixtures("no_waiting_for_the_disk"),
]


def believing(processor, *arguments):
    """Run Python in a process that believes in another processor; the lines it printed."""
    name, features = PROCESSORS[processor]
    environment = os.environ | {
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": features,
        "PYTHONPATH": os.pathsep.join([str(TOOLS), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def trained(tmp_path, processor, what="whole", folder="run"):
    """A training on another processor; what it printed last."""
    return json.loads(believing(processor, "-c", RUN, CASE, tmp_path / folder, what)[-1])


def test_avx2_gives_the_same_model(tmp_path):
    found = trained(tmp_path, "avx2")
    assert found["avx2"] and not found["wide"]
    assert found["sha"][:16] == PINNED


@pytest.mark.parametrize("processor", PROCESSORS)
def test_gradients_of_bits_equal_their_reference(processor):
    which = [Path(__file__).with_name("test_dense.py"), "-k", "summed_in_fours or bits_are_turned"]
    lines = believing(processor, "-m", "pytest", "-q", "-p", "no:cacheprovider", *which)
    assert "2 passed" in lines[-1]


@pytest.mark.skipif(os.environ.get("TINYFOA_PINS") != "all", reason="takes a minute: TINYFOA_PINS=all runs it")
def test_a_run_begun_with_avx2_and_resumed_without_simd_gives_the_same_model(tmp_path):
    assert trained(tmp_path, "avx2", "begin")["sha"] == "interrupted"
    found = trained(tmp_path, "none", "resume")
    assert not found["avx2"] and not found["wide"]
    assert found["sha"][:16] == PINNED


def test_a_processor_by_name_alone_keeps_the_features_that_numba_compiles_for():
    command = (
        "from tinyfoa_np.kernels import simd; from numba.core.registry import cpu_target as cpu;"
        "print(simd.WIDE == ('+avx512f' in cpu.target_context.codegen().magic_tuple()[2].split(',')))"
    )
    for asked in ({"NUMBA_CPU_NAME": "haswell"}, {"NUMBA_CPU_NAME": "generic"}, {}):
        done = subprocess.run([sys.executable, "-c", command], env=os.environ | asked, capture_output=True, text=True)
        assert done.stdout == "True\n", done.stderr
