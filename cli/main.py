"""The command ``tinyfoa``: its subcommands, and the conversion of errors to a line and an exit code."""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from tinyfoa_np.errors import TinyFoAError
from tinyfoa_np.text import printable

from .audit import audit
from .compare import compare
from .data import data
from .evaluate import evaluate
from .export import export
from .import_ import import_
from .list import list_
from .options import debug_option
from .plan import plan
from .plot import plot
from .predict import predict
from .report import report
from .reproduce import reproduce
from .sections import GroupWithSections
from .train import train

INTERRUPTED = 130  # the status that a shell reports for Ctrl-C


@click.group(
    cls=GroupWithSections,
    invoke_without_command=True,
    epilog="""\b
Examples:
  tinyfoa train digits --network fc:500x2 --epochs 20 --batch 10 --lr 0.002
  tinyfoa plan digits --network fc:500x2 --batch 10 --board stm32f746
  tinyfoa audit runs/digits-tinyfoa-1
  tinyfoa train --help""",
)
@click.version_option(package_name="tinyfoa-np", message="tinyfoa-np %(version)s")
@debug_option
@click.pass_context
def tinyfoa(context: click.Context) -> None:
    """Train neural networks in a RAM budget that you choose, and measure the memory to the byte.

    Exit codes: 0 done, 1 a check failed, 2 a bad request, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (train, plan, audit, plot, report, compare, evaluate, predict, export, import_, reproduce, data, list_):
    tinyfoa.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; every error ends as one line on standard error and an exit code, never as a traceback."""
    settings = {"debug": False}
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal cannot encode must not end a run
            stream.reconfigure(errors="replace")
    if sys.stdout is None:
        sys.stderr and sys.stderr.write("tinyfoa: standard output is closed: the result cannot be written\n")
        sys.exit(1)
    try:
        status = tinyfoa.main(arguments, prog_name="tinyfoa", standalone_mode=False, obj=settings)
        sys.stdout.flush()  # a full disk is reported here, before the exit code is set
    except (Exception, KeyboardInterrupt) as error:
        message, status = _explained(error)
        if settings["debug"]:
            traceback.print_exc()
        click.echo(f"tinyfoa: {_one_line(message)}", err=True)
    sys.exit(status if isinstance(status, int) else 0)


def _explained(error: BaseException) -> tuple[str, int]:
    """The message for an error, and the exit code."""
    match error:
        case KeyboardInterrupt() | click.Abort():
            return "interrupted", INTERRUPTED
        case click.UsageError(ctx=click.Context(command_path=path)):
            return f"{error.format_message().rstrip('.')} (see {path} --help)", error.exit_code
        case click.ClickException():
            return error.format_message(), error.exit_code
        case TinyFoAError():
            return str(error), error.exit_code
        case OSError(strerror=str(reason), filename=file):
            return f"{reason}: {file}" if file else reason, 1
        case OSError():
            return str(error), 1
        case MemoryError():
            return f"out of memory: {error}" if str(error) else "out of memory", 1
    return f"internal error, {type(error).__name__}: {error} (--debug shows where)", 1


def _one_line(message: str) -> str:
    return printable(" ".join(message.split()))


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    click.echo(f"tinyfoa: warning: {_one_line(str(message))}", err=True)
