"""Compiled kernels on disk: never those of other sources, shared by copies of the package, written by two at once."""

import ast
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import tinyfoa_np
from tinyfoa_np.kernels import compiling
from tinyfoa_np.kernels.linking import Kernel, Part

PACKAGE = Path(tinyfoa_np.__file__).parent
#: prints what a kernel gives for some numbers, and the kernels that were compiled for it
RUN = """
import numpy as np
from tinyfoa_np.kernels import compiling, loss
heard, result = [], np.zeros(2)
compiling.LISTENERS.append(heard.append)
logits, labels = np.array([[1], [2]], np.float32), np.zeros(1, np.uint16)
loss.softmax_cross_entropy(logits, 1, np.float32(1), labels, np.zeros((2, 1), np.float32), result, 1)
print(float(result[0]).hex(), *heard)
"""
COMPILED = ["loss.softmax_cross_entropy"]
#: terms of log's series, and fewer
TERMS, FEWER = "for k in range(11, -1, -1))", "for k in range(3, -1, -1))"


def copied(folder):
    """A copy of the package's sources to edit; its folder, for PYTHONPATH."""
    shutil.copytree(PACKAGE, folder / "tinyfoa_np", ignore=shutil.ignore_patterns("__pycache__", "c_trainer"))
    return folder


def start(folder, cache, **environment):
    environment = os.environ | {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(cache)} | environment
    return subprocess.Popen(
        [sys.executable, "-c", RUN], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    number, *compiled = out.split()
    return number, compiled, err


def edit(folder, file, old, new):
    path = folder / "tinyfoa_np" / "kernels" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


MODULES = [path for path in sorted((PACKAGE / "kernels").glob("*.py")) if path.name != "compiling.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_sources_of_a_module_are_all_that_it_imports(path):
    seen, waiting = set(compiling.NOT_COMPILED), {path.resolve()}
    while waiting:
        one = waiting.pop()
        seen.add(one)
        for node in ast.walk(ast.parse(one.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = one.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                for file in (base.with_suffix(".py"), *(base / f"{name.name}.py" for name in node.names)):
                    waiting |= {file} if file.is_file() and file not in seen else set()
    assert compiling.sources(path.resolve()) == sorted(seen - compiling.NOT_COMPILED)


def test_an_edit_of_what_a_kernel_calls_is_never_answered_by_old_code(tmp_path):
    package, cache = copied(tmp_path / "a"), tmp_path / "cache"
    first, compiled, _ = finished(start(package, cache))
    assert compiled == COMPILED
    assert finished(start(package, cache))[:2] == (first, [])
    edit(package, "maths.py", TERMS, FEWER)
    other, compiled, _ = finished(start(package, cache))
    assert other != first and compiled == COMPILED
    edit(package, "maths.py", FEWER, TERMS)
    assert finished(start(package, cache))[:2] == (first, [])


def test_copies_of_the_package_share_kernels_and_two_may_compile_them_at_once(tmp_path):
    one, two, cache = copied(tmp_path / "a"), copied(tmp_path / "b"), tmp_path / "cache"
    both = [start(one, cache), start(two, cache)]
    (number, _, _), (same, _, _) = map(finished, both)
    assert number == same
    assert finished(start(two, cache))[:2] == (number, [])
    assert not list(cache.rglob("*.tmp*"))


def test_damaged_kernels_are_compiled_again(tmp_path):
    package, cache = copied(tmp_path / "a"), tmp_path / "cache"
    number = finished(start(package, cache))[0]
    for path in cache.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:100])
    assert finished(start(package, cache))[:2] == (number, COMPILED)


def test_where_nothing_can_be_written_the_message_names_the_variable(tmp_path):
    (tmp_path / "file").write_text("")
    number, compiled, said = finished(start(PACKAGE.parent, tmp_path / "file"))
    assert number and compiled and "NUMBA_CACHE_DIR" in said


def test_kernels_of_sources_that_are_not_used_any_more_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "base", lambda: tmp_path)
    for k in range(8):
        old = tmp_path / f"maths-{k:016x}"
        old.mkdir()
        os.utime(old, (k, k))
    for kept in ("random-0000000000000000", "maths-notes"):
        (tmp_path / kept).mkdir()
    compiling.directory.cache_clear()
    own = compiling.directory(PACKAGE / "kernels" / "maths.py", "f" * 16)
    compiling.directory.cache_clear()
    left = {path.name for path in tmp_path.iterdir()}
    newest = {f"maths-{k:016x}" for k in range(8 - compiling.KEPT + 1, 8)}
    assert left == newest | {own.name, "random-0000000000000000", "maths-notes"}


def test_what_a_kernel_calls_is_compiled_as_its_part_and_callable_by_others_but_not_by_python():
    @numba.njit
    def helper(x):
        return x + 1

    @numba.njit(pipeline_class=Kernel, parallel=True)
    def kernel(x):
        for k in numba.prange(x.size):
            x[k] = 2 * helper(x[k])

    numbers = np.arange(10)
    kernel(numbers)
    np.testing.assert_array_equal(numbers, 2 * np.arange(1, 11))
    (compiled,) = helper.overloads.values()
    assert isinstance(compiled.library, Part)
    assert not isinstance(kernel.overloads[kernel.signatures[0]].library, Part)
    with pytest.raises(TypeError):
        helper(3)
    assert numba.njit(lambda x: helper(x))(3) == 4


def test_a_kernel_that_cannot_be_compiled_leaves_the_compiler_as_it_was():
    @numba.njit(pipeline_class=Kernel)
    def kernel(x):
        return x.nothing

    @numba.njit
    def function(x):
        return -x

    with pytest.raises(numba.TypingError):
        kernel(1)
    assert gc.isenabled() and function(1) == -1
