"""The fuzzer that is run by hand works: each way of damage is tried for a second, and finds nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tinyfoa_np.errors import BadRequest

FUZZ = Path(__file__).parent / "fuzz.py"


@pytest.mark.parametrize(
    "kind", ["model-tinyfoa", "begun-tinyfoa", "done-tinyfoa", "header", "one-hot", "flash-root.0"]
)
def test_the_fuzzer_reads_damaged_files_and_finds_nothing(tmp_path, kind):
    done = subprocess.run([sys.executable, FUZZ, "1", kind], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith(f"{kind}: ") and not first.startswith(f"{kind}: 0 files") and last == "0 finds"
    assert not list(tmp_path.iterdir())


def test_a_message_is_one_line_whatever_it_quotes():
    message = str(BadRequest("no column \x1b[31mred\n\u202e: see --label"))
    assert message == "no column \\x1b[31mred\\n\\u202e: see --label"
