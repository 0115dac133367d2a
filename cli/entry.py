"""Entry point of the command: Ctrl-C ends it with one line even while its modules are being imported."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line with the arguments of the process."""
    try:
        from .main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("tinyfoa: interrupted\n")
        sys.exit(130)
