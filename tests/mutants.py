"""Do the tests notice? Change one operator, constant or condition of the package at a time, and run its area's tests.

Run by hand as ``python tests/mutants.py COUNT [SEED] [AREA ...]``. Each mutant is made in a copy of the project. Those
that the tests do not notice are printed: a missing assertion, or a change that makes no difference.
"""

import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tinyfoa_np.kernels.compiling import base

ROOT = Path(__file__).resolve().parents[1]
#: by area: its modules, relative to the package, and the tests that should notice a change in one of them
AREAS = {
    "ram": (["ram/*.py", "run/examination.py"], ["tests/ram", "tests/run/test_train.py"]),
    "record": (["reports/record.py", "reports/evidence.py", "reports/audit.py"], ["tests/reports/test_audit.py"]),
    "storage": (["storage/*.py"], ["tests/storage", "tests/run/test_resume.py", "tests/run/test_power_cuts.py"]),
    "export": (
        ["model/export/*.py", "model/form.py", "model/model.py", "model/inference.py"],
        ["tests/model/test_export.py", "tests/model/test_model.py", "tests/model/test_hostile_models.py"],
    ),
    "rules": (
        ["rules/*.py", "layers/*.py"],
        [
            "tests/test_pins.py",
            "tests/rules/test_golden.py",
            "tests/rules/test_golden_systems.py",
            "tests/rules/test_steps.py",
        ],
    ),
    "kernels": (
        ["kernels/dense_*.py", "kernels/loss.py", "kernels/gradients.py", "kernels/optimizers.py", "kernels/giff.py"],
        [
            "tests/kernels/test_dense.py",
            "tests/kernels/test_dense_update.py",
            "tests/kernels/test_giff.py",
            "tests/rules",
        ],
    ),
    "plans": (
        [
            "reports/boards.py",
            "reports/forecast.py",
            "reports/advice.py",
            "reports/device_plan.py",
            "reports/stores.py",
        ],
        ["tests/reports"],
    ),
}
#: seconds after which tests are taken to have noticed that something never ends
PATIENCE = 3600
_COMPARED = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
_COMPUTED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "+"}
_JOINED = {ast.And: " or ", ast.Or: " and "}


class Mutant:
    """A change in a source file: the text from ``begin`` to ``end`` becomes ``new``."""

    def __init__(self, path: Path, begin: int, end: int, new: str) -> None:
        self.path, self.begin, self.end, self.new = path, begin, end, new

    def applied(self, text: str) -> str:
        """The file's text, changed."""
        return text[: self.begin] + self.new + text[self.end :]

    def __str__(self) -> str:
        text = self.path.read_text()
        start = text.rfind("\n", 0, self.begin) + 1
        line, number = self.applied(text)[start:].split("\n", 1)[0], text.count("\n", 0, self.begin) + 1
        return f"{self.path.relative_to(ROOT)}:{number}: {line.strip()}"


def mutants(path: Path) -> Iterator[Mutant]:
    """All changes that are tried in a file; annotations, messages and docstrings are left alone."""
    text = path.read_text()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    if not text.isascii():  # columns count bytes
        return

    def at(node: ast.AST, end: bool = False) -> int:
        return starts[(node.end_lineno if end else node.lineno) - 1] + (node.end_col_offset if end else node.col_offset)

    def between(left: ast.AST, right: ast.AST, new: str) -> Mutant | None:
        begin, end = at(left, end=True), at(right)
        if "(" in text[begin:end] or ")" in text[begin:end] or "\n" in text[begin:end]:
            return None
        return Mutant(path, begin, end, f" {new.strip()} ")

    skipped = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            skipped |= {inner for each in node.decorator_list for inner in ast.walk(each)}
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation:
            skipped |= set(ast.walk(node.annotation))
        if isinstance(node, ast.FunctionDef) and node.returns:
            skipped |= set(ast.walk(node.returns))
        if isinstance(node, (ast.JoinedStr, ast.Raise)):
            skipped |= set(ast.walk(node))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= set(ast.walk(node))
        if node in skipped:
            continue
        made = None
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            made = between(node.left, node.comparators[0], _COMPARED[type(node.ops[0])])
        elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
            made = between(node.left, node.right, _COMPUTED[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            made = between(node.values[0], node.values[1], _JOINED[type(node.op)]) if len(node.values) == 2 else None
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            made = Mutant(path, at(node), at(node.operand), "")
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            new = not node.value if isinstance(node.value, bool) else node.value + 1
            made = Mutant(path, at(node), at(node, end=True), repr(new))
        elif isinstance(node, ast.If) and not node.orelse and isinstance(node.body[-1], (ast.Return, ast.Expr)):
            made = Mutant(path, at(node.test), at(node.test, end=True), "False")
        if made is not None:
            yield made


def noticed(copy: Path, mutant: Mutant, tests: list[str]) -> bool:
    """Whether a test fails in a copy of the project with this change."""
    path = copy / mutant.path.relative_to(ROOT)
    text = path.read_text()
    path.write_text(mutant.applied(text))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    paths = {"PYTHONPATH": str(copy / "src"), "NUMBA_CACHE_DIR": str(copy / "cache")}
    env = {**os.environ, **paths}
    try:
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:  # it never ends: that would be noticed, too
        return True
    finally:
        path.write_text(text)
    return done.returncode != 0


def main(count: int, seed: int = 0, *areas: str) -> int:
    """Try so many mutants, the same number in each area; return the number of those that went unnoticed."""
    draw = random.Random(seed)
    names = list(areas or AREAS)
    survivors = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "project"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "runs", "build"))
        shutil.copytree(base(), copy / "cache" / "tinyfoa-np" / "kernels")
        if (ROOT.parent / "shared").exists():
            (copy.parent / "shared").symlink_to(ROOT.parent / "shared")
        for number in range(count):
            modules, tests = AREAS[names[number % len(names)]]
            paths = sorted(path for pattern in modules for path in (ROOT / "src" / "tinyfoa_np").glob(pattern))
            known = [mutant for path in paths for mutant in mutants(path)]
            mutant = draw.choice(known)
            seen = noticed(copy, mutant, tests)
            survivors += not seen
            print(f"{number + 1}/{count} {'noticed' if seen else 'UNNOTICED'}  {mutant}", flush=True)
    print(f"{survivors} of {count} mutants went unnoticed")
    return survivors


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(bool(main(*map(int, given[:2]), *given[2:])))
