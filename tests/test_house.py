"""Rules of the house: who may import whom, how long things are, and what no kernel that reaches a weight may do."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tinyfoa_np"
#: a room, and the rooms it may import from beside itself; single files of the package are rooms, too
ALLOWED = {
    "errors": "text",
    "text": "",
    "slices": "",
    "numerics": "errors",
    "architectures": "errors network",
    "network": "errors",
    "catalogue": "architectures errors recipe",
    "augmentation": "errors",
    "recipe": "architectures augmentation catalogue errors network numerics slices",
    "defaults": "architectures catalogue data network recipe",
    "ram": "errors kernels storage",
    "storage": "errors numerics",
    "kernels": "errors numerics",
    "reference": "",
    "data": "errors recipe reference storage",
    "layers": "architectures errors kernels network numerics ram recipe slices storage",
    "rules": "architectures augmentation data errors kernels layers network numerics ram recipe slices storage",
    "model": "architectures catalogue data errors kernels layers network numerics ram recipe rules slices storage",
    "run": "architectures catalogue data defaults errors kernels layers model network numerics ram recipe rules slices"
    " storage",
    "reports": "architectures catalogue data errors layers model network numerics papers ram recipe rules run storage",
    "papers": "architectures catalogue data errors layers model network plots recipe reports rules run storage",
    "plots": "architectures data errors layers model network papers ram recipe reports rules run slices storage text",
    "page": "catalogue data errors model plots reports run text",
    "notebook": "model plots reports run",
    "estimators": "data defaults errors model recipe reports run storage",
}
#: imports upwards that come when a function is called, and say so
LATE = {("catalogue", "recipe")}


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path):
    """Rooms that a file imports from, each with whether it does so at once."""
    own = ("tinyfoa_np", *path.relative_to(SOURCE).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    late = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("tinyfoa_np")):
            base = own[: len(own) - node.level] if node.level else ()
            whole = (*base, *(node.module.split(".") if node.module else ()))
            for name in [whole[1]] if len(whole) > 1 else [alias.name for alias in node.names]:
                yield name, id(node) not in late


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downward(path):
    here = room(path)
    allowed = {here, *ALLOWED[here].split()}
    assert {name for name, _ in imported(path)} <= allowed
    assert not {name for name, at_once in imported(path) if at_once and (here, name) in LATE}


def test_the_table_has_every_room_and_no_other():
    assert set(ALLOWED) == {room(path) for path in FILES}


@pytest.mark.parametrize("path", sorted((SOURCE / "kernels").glob("*.py")), ids=lambda path: path.name)
def test_no_kernel_uses_fastmath(path):
    text = path.read_text()
    assert not re.search(r"\bfastmath *=|\bfast=True|flags=.*(fast|reassoc|contract|arcp|nnan)", text)


#: the most lines of a file, of a learning rule with its equations, and of a function
FILE, RULE, FUNCTION = 600, 200, 80
#: files in rules/ that several rules share
BASES = {"fit.py", "layer_stage.py", "network_stage.py", "stage.py"}
CODE = [
    path
    for folder in ("src", "cli", "tests", "benchmarks", "docs", "examples")
    for path in (ROOT / folder).rglob("*.py")
]
#: functions that are longer: kernels that generate code or are unrolled; a constructor that scikit-learn reads
LONG_FUNCTIONS = {
    "src/tinyfoa_np/estimators.py": {"__init__"},
    "src/tinyfoa_np/kernels/conv_products.py": {"_products", "products", "multiply", "correlate"},
    "src/tinyfoa_np/kernels/optimizers.py": {"_coded_stepper", "step_coded", "codegen"},
    "src/tinyfoa_np/kernels/products.py": {"finish_rows"},
    "src/tinyfoa_np/kernels/local.py": {"update"},
}


def test_no_file_is_too_long():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in CODE}
    assert len(lengths) > 300
    assert {name for name, lines in lengths.items() if lines > FILE} == set()


def test_no_rule_is_too_long():
    rules = {path.name: len(path.read_text().splitlines()) for path in (SOURCE / "rules").glob("*.py")}
    assert BASES < set(rules)
    assert {name for name, lines in rules.items() if lines > RULE and name not in BASES} == set()


def test_no_function_is_too_long():
    for path in CODE:
        functions = [f for f in ast.walk(ast.parse(path.read_text())) if isinstance(f, ast.FunctionDef)]
        long = {f.name for f in functions if f.end_lineno - f.lineno >= FUNCTION}
        assert long <= LONG_FUNCTIONS.get(str(path.relative_to(ROOT)), set()), path
