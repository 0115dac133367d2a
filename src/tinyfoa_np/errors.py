"""What goes wrong, in one line each: the message says what was wrong and what would be right."""

from .text import printable


class TinyFoAError(Exception):
    """Anything this package reports to its user; ``exit_code`` is what a command line should end with.

    Messages quote names from files, which may hold anything: as text, a message is one line that can be shown safely.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class BadRequest(TinyFoAError):
    """The request cannot be carried out as asked: a wrong option, missing data, a directory in the way."""

    exit_code = 2


class CheckFailed(TinyFoAError):
    """A check did not hold: damaged files, measurements that disagree, numbers that left their range."""

    exit_code = 1


class OtherNumerics(BadRequest):
    """A run or a model of a version that computes other bits from the same recipe."""
