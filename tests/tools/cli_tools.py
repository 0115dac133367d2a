"""What the tests of the command line share."""

import re
import subprocess
import sys

SMALL = ["--network", "fc:40x2", "--epochs", "4", "--limit", "300"]


def tinyfoa(*arguments, **options):
    command = [sys.executable, "-m", "tinyfoa_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def one_error_line(err):
    """The error on standard error, which is one line; a training may have printed its choices before."""
    err = re.sub(r"\Achosen: .*\n", "", err)
    assert err.startswith("tinyfoa: ") and err.count("\n") == 1, err
    return err
