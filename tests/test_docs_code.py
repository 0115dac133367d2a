"""What the documentation shows is run: Python as it stands there, and the C compiler's line."""

import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from train_tools import made, recipe, run

from tinyfoa_np.model import c_layout, c_trainer, export, model

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

ROOT = Path(__file__).resolve().parents[1]


def blocks(path, begins):
    """Indented blocks of a document that begin with one of these words, as they stand there."""
    found = []
    for part in (ROOT / path).read_text().split("\n\n"):
        lines = part.split("\n")
        if all(line.startswith("    ") or not line for line in lines):
            text = "\n".join(line[4:] for line in lines)
            if found and found[-1][1]:  # a blank line within a block
                found[-1] = (f"{found[-1][0]}\n\n{text}", True)
            else:
                found.append((text, True))
        else:
            found.append(("", False))
    return [text for text, code in found if code and text.startswith(begins)]


def test_python(tmp_path, monkeypatch):
    """The blocks of docs/python.md, one after the other, in one namespace."""
    pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn 1.6 is not installed (extra sklearn)")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    shown = blocks("docs/python.md", ("from ", "stream = "))
    assert len(shown) == 3
    for block in shown:
        exec(block, names)
    assert names["classifier"].score(names["X"][1400:].astype("uint8"), names["y"][1400:]) > 0.6
    assert names["stream"].score(names["X"].astype("uint8"), names["y"]) > 0.5
    assert len(names["answers"]) == 360 and names["result"]["error_pct"] < 90


def test_a_merge_of_ones_own():
    """The block of docs/networks.md, and its two functions against each other."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra sklearn)")
    [block] = blocks("docs/networks.md", "import numpy")
    names: dict = {}
    exec(block, names)
    assert (names["answers"] == names["y"][1400:]).mean() > 0.8
    d, q, dm = np.random.default_rng(1).standard_normal((3, 2, 4))
    merged, back = names["gate"]
    for number, own in enumerate(back(d, q, dm)):
        beside = [array + 1e-6 * (k == number) for k, array in enumerate((d, q))]
        np.testing.assert_allclose((merged(*beside) - merged(d, q)) / 1e-6 * dm, own, rtol=1e-6, atol=1e-8)


def test_the_readmes_three_lines():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed (extra sklearn)")
    X, y = datasets.load_digits(return_X_y=True)
    X = X.astype("uint8")
    [block] = blocks("README.md", "from tinyfoa_np import TinyFoAClassifier")
    names = {"X_train": X[:500], "y_train": y[:500], "X_test": X[500:600], "y_test": y[500:600]}
    *most, last = block.split("\n")
    exec("\n".join(most), names)
    score, nbytes = eval(last, names)
    arena = names["classifier"].memory_["arena"]
    assert score > 0.8 and nbytes == arena["planned_bytes"] == arena["accounted_bytes"]
    assert nbytes < 400_000  # 314,116 with two threads; each takes some scratch of its own


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler called cc")
def test_the_compilers_line(tmp_path):
    dataset = made(samples=150, tests=50)
    result = run(tmp_path, recipe(epochs=2), dataset)
    ours = model.load(Path(result["run_dir"]) / "model.safetensors")
    library = Path(result["run_dir"]) / "firmware"
    for name, content in export.export(ours, "c-header").items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(content)
    for where, called in (("docs/models.md", "digits"), ("examples/classify.c", "RUN/firmware")):
        [line] = [part for part in (ROOT / where).read_text().splitlines() if part.strip().startswith("cc ")]
        command = line.strip().replace(f"-I {called}", f"-I {shlex.quote(str(library))}")
        command = command.replace(f"{called}/tinyfoa", shlex.quote(f"{library}/tinyfoa"))
        command = command.replace("-o classify", f"-o {shlex.quote(str(tmp_path / 'classify'))}")
        subprocess.run(shlex.split(command), cwd=ROOT, check=True)
        samples = dataset.test.inputs.tobytes()
        done = subprocess.run([tmp_path / "classify"], input=samples, capture_output=True, check=True)
        assert (np.array(done.stdout.split()[::2], int) == ours.predict(dataset.test.inputs)).all()
        (tmp_path / "classify").unlink()


BOARD = """
#include <stdio.h>
#include <string.h>

#include "tinyfoa_trainer.h"

uint8_t area[TINYFOA_FLASH_BYTES];
uint8_t samples[TINYFOA_SAMPLES][TINYFOA_INPUTS];
uint16_t labels[TINYFOA_SAMPLES];
extern int example(void);
extern tinyfoa *trained(void);

int board_program(uintptr_t at, uint64_t value) { return memcpy((void *)at, &value, sizeof value), 0; }
int board_erase(uintptr_t at) { return memset((void *)at, 0xFF, TINYFOA_PAGE_BYTES), 0; }
void board_work(void) {}

int main(void) {
    uint8_t digest[32];
    FILE *file = fopen("example/data.bin", "rb");
    if (fread(samples, sizeof samples, 1, file) + fread(labels, sizeof labels, 1, file) != 2 || example()) return 1;
    if (tinyfoa_digest(trained(), digest)) return 2;
    for (int n = 0; n < 32; n++) printf("%02x", digest[n]);
}
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_a_program_for_a_board(tmp_path):
    """The block of docs/device.md, with flash in an array that is writable, whatever its name says."""
    which, dataset = recipe(network="fc:20,10", epochs=2, lr=0.01), made(samples=64, inputs=64)
    layout = c_layout.CLayout(which.validated(), dataset, c_layout.Store("internal flash", 2048, 8))
    c_trainer.write(layout, dataset, tmp_path)
    [block] = blocks("docs/device.md", "#include")
    block = block.replace("int main(", "tinyfoa *trained(void);\nint example(void);\nint example(")
    block = block.replace("extern const uint8_t area[", "extern uint8_t area[")
    (tmp_path / "program.c").write_text(block + "\ntinyfoa *trained(void) { return &trainer; }\n")
    (tmp_path / "board.c").write_text(BOARD)
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1"]
    files = [*sorted(tmp_path.glob("tinyfoa_*.c")), "program.c", "board.c"]
    subprocess.run(["gcc", *flags, *files, "-o", "program"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "program"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == run(tmp_path, which, dataset, threads=1)["model_sha256"]
