"""Errors with one-line messages, which say what is wrong and how to correct it."""

from .text import printable


class TinyFoAError(Exception):
    """Base class of errors reported to the user; ``exit_code`` is the exit status for a command line.

    Messages quote names from files, which may contain anything; as text, a message is one line that is safe to display.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class BadRequest(TinyFoAError):
    """The request cannot be carried out: a wrong option, missing data, or an existing directory."""

    exit_code = 2


class CheckFailed(TinyFoAError):
    """A check failed: damaged files, inconsistent measurements, or numbers out of range."""

    exit_code = 1


class OtherNumerics(BadRequest):
    """A run or a model is from a version that computes different bits from the same recipe."""
