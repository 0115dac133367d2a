"""Forks, threads and environments in which kernels cannot run: one line, and nothing hangs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from flash_tools import environment
from train_tools import made, recipe, run

TOOLS = str(Path(__file__).parents[1] / "tools")
TRAIN = """
import os, signal, sys, tempfile, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from train_tools import made, recipe
from tinyfoa_np.errors import TinyFoAError
from tinyfoa_np.model import model
from tinyfoa_np.run.train import train
folder = Path(tempfile.mkdtemp())
which = recipe(network="fc:9", epochs=1)

def fit(name):
    return train(which, made(), folder / name, threads=2)["model_sha256"]
"""


def child(code, **variables):
    env = {**environment(), **variables}
    command = [sys.executable, "-W", "ignore", "-c", TRAIN + code, TOOLS]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=900)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_says_what_to_do():
    done = child("""
fit("run")
trained = model.load(folder / "run" / "model.safetensors")
pid = os.fork()
if not pid:
    for work in (lambda: fit("other"), lambda: trained.predict(made().test.inputs)):
        try:
            work()
        except TinyFoAError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print(len(trained.predict(made().test.inputs)))
""")
    assert done.returncode == 0, done.stderr
    first, second, count = done.stdout.splitlines()
    assert "forked" in first and "spawn" in first and second == first and count == "20"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_signal_to_a_forked_child_does_not_stop_the_training_of_its_parent():
    done = child("""
def fork(event):
    if event.kind == "batch":
        pid = os.fork()
        if not pid:
            signal.raise_signal(signal.SIGTERM)
            os._exit(9)
        assert os.waitpid(pid, 0)[1] == signal.SIGTERM

train(which, made(), folder / "run", threads=1, on_event=fork)
print("done")
""")
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


def test_two_trainings_in_two_threads():
    """numba's own threads, `workqueue`, abort the process where two launch kernels at once."""
    done = child(
        """
names, found = ["a", "b", "c"], []
threads = [threading.Thread(target=lambda name=name: found.append(fit(name))) for name in names]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(found), len(set(found)))
""",
        NUMBA_THREADING_LAYER="workqueue",
    )
    assert done.returncode == 0 and done.stdout == "3 1\n", done.stderr


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """The model of a short training."""
    result = run(tmp_path_factory.mktemp("run"), recipe(network="fc:9", epochs=1), made())
    return Path(result["run_dir"]) / "model.safetensors"


@pytest.mark.parametrize(
    "variables, says",
    [
        ({"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT is set"),
        ({"NUMBA_THREADING_LAYER": "tbb"}, "numba cannot start"),
        ({"NUMBA_THREADING_LAYER": "nonsense"}, "numba cannot start"),
    ],
)
def test_kernels_that_cannot_run(variables, says, known):
    if variables.get("NUMBA_THREADING_LAYER") == "tbb":
        try:
            import tbb  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("tbb is installed: it can start")
    done = child(
        """
import shutil
from tinyfoa_np.model import c_layout, c_trainer, export
shutil.copy(os.environ["MODEL"], folder)
ours = model.load(folder / "model.safetensors")
layout = c_layout.CLayout(which.validated(), made())
for work in (
    lambda: fit("run"),
    lambda: ours.predict(made().test.inputs),
    lambda: export.export(ours, "npz"),
    lambda: c_trainer.write(layout, made(), folder / "trainer"),
):
    try:
        work()
    except TinyFoAError as error:
        print(error)
assert not (folder / "trainer").exists()
""",
        **variables,
        MODEL=str(known),
    )
    assert done.returncode == 0 and done.stdout.count(says) == done.stdout.count("\n") == 4, done.stderr
