"""The command line in unusual places: closed outputs, no home, hangups, names that a terminal would obey."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cli_tools import tinyfoa
from hostile_tools import opened_model, sealed

from tinyfoa_np import data, page, plots
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.train import train

pytest.importorskip("tinyfoa_cli.main", reason="the command line is not installed: run make test")

COMMAND = [sys.executable, "-m", "tinyfoa_cli"]
TABLE = "a,label,b\n" + "".join(f"{k % 7},{'xyz'[k % 3]},{k * k % 11}\n" for k in range(40))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run on a table of one's own, and the table."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "data.csv").write_text(TABLE)
    out = folder / "run"
    done = tinyfoa("train", folder / "data.csv", "--network", "fc:8", "--epochs", 1, "--slices", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, folder / "data.csv"


def test_closed_standard_output_is_no_success(own):
    run, table = own
    shell = f"{' '.join(COMMAND)} predict '{run}' '{table}' >&-"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "closed" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_standard_output(own):
    run, table = own
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "predict", run, table], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode and "No space left" in done.stderr and "Traceback" not in done.stderr


#: becomes a user without a name, who may read every file, where the interpreter's are root's, and write none
NOBODY = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
NOBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


@pytest.fixture(scope="module")
def nobody():
    """Runs the command line as in a container that is started with an arbitrary number: no HOME, no known user."""
    if not shutil.which("setpriv") or os.getuid() != 0:
        pytest.skip("only root can be another user, with setpriv")
    names = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TINYFOA_DATA")
    env = {name: value for name, value in os.environ.items() if name not in names}
    if subprocess.run(
        [*NOBODY, sys.executable, "-c", ""], env=env, cwd="/", capture_output=True, check=False
    ).returncode:
        pytest.skip("other users may not run this interpreter")

    def run(*arguments, cwd="/"):
        command = [*NOBODY, *COMMAND, *map(str, arguments)]
        return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)

    return run


def test_a_user_who_is_not_known(nobody):
    done = nobody("data", "list")
    assert done.returncode == 0 and "internal error" not in done.stderr, done.stderr


def test_a_user_who_is_not_known_leaves_no_folder_of_that_name(nobody, own):
    """numba takes "~" for a directory, where there is no home; and where that cannot be made it fails."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # the one of pytest is root's alone
    try:
        folder.chmod(0o777)
        for cwd in ("/", folder):
            done = nobody("train", own[1], "--network", "fc:8", "--slices", 1, "--out", "/of-nobody", cwd=cwd)
            assert done.returncode == 2 and "Permission denied" in done.stderr.splitlines()[-1], done.stderr
        assert not list(folder.iterdir())
    finally:
        shutil.rmtree(folder)


def test_a_leading_tilde_is_the_home_directory(own, tmp_path):
    env = {**os.environ, "HOME": str(tmp_path)}
    command = [*COMMAND, "export", str(own[0]), "--to", "npz", "--out=~/model.npz"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "model.npz").is_file() and not (tmp_path / "~").exists()


def test_names_of_classes_do_nothing_to_a_terminal(own, tmp_path):
    run, table = own
    tensors, about = opened_model(run / "model.safetensors")
    hostile = tmp_path / "model.safetensors"
    hostile.write_bytes(sealed(tensors, {**about, "labels": ["\x1b[2J", "a\nb", "\u202egnirts"]}))
    done = tinyfoa("predict", hostile, table)
    assert done.returncode == 0 and done.stdout.count("\n") == 40
    assert set(done.stdout.splitlines()) <= {r"\x1b[2J", r"a\nb", r"\u202egnirts"}
    hostile.write_bytes(sealed(tensors, {**about, "format": "\x1b]0;x\x07"}))
    done = tinyfoa("predict", hostile, table)
    assert done.returncode == 1 and "\x1b" not in done.stderr and done.stderr.count("\n") == 1


def test_a_hangup_commits_as_ctrl_c_does(tmp_path):
    out = tmp_path / "run"
    command = [*COMMAND, "train", "digits", "--network", "fc:50", "--epochs", "4000", "--out", str(out), "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").stat().st_size:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate()
    assert process.returncode == 130 and "interrupted and committed" in err
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["layer"] == 0


def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path):
    (tmp_path / "click.py").write_text("import signal; signal.raise_signal(signal.SIGINT)\n")
    # a shell's background process ignores the signal
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = heeded + "; import sys; sys.path.insert(0, sys.argv[1]); from tinyfoa_cli.entry import main; main()"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr == "tinyfoa: interrupted\n"


@pytest.mark.parametrize("name", [b"t\xff,\xe9 x.csv", b"$\\frac{$_^.csv"])
def test_a_file_whose_name_is_not_utf_8_or_not_mathematics(tmp_path, name):
    """Pictures show the data set's name."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        odd.write_text("a,b,c\n" + "".join(f"{n * 7 % 11},{n * 5 % 13},{'xyz'[n % 3]}\n" for n in range(40)))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    run = odd.with_suffix("")
    with pytest.warns(UserWarning, match="slices per layer"):
        train(Recipe(str(odd), "fc:9", epochs=1, batch=8).validated(), data.load(str(odd)), run, threads=1)
    for kind in ("memory", "training"):
        assert plots.draw(run, kind).stat().st_size > 10000
    assert plots.draw_compared([run, run], tmp_path / "two.svg").exists()
    assert "<svg" in page.write(run) or "<img" in page.write(run)


def test_a_directory_whose_name_is_not_utf_8(own, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    try:
        os.rename(own[0], odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    try:
        for command in (("report", odd), ("plot", odd), ("compare", odd, odd), ("export", odd, "--to", "npz")):
            done = tinyfoa(*command)
            assert done.returncode == 0, done.stderr
    finally:
        os.rename(odd, own[0])
