"""What goes wrong, in one line each: the message says what was wrong and what would be right."""


class TinyFoAError(Exception):
    """Anything this package reports to its user; ``exit_code`` is what a command line should end with."""

    exit_code = 1


class BadRequest(TinyFoAError):
    """The request cannot be carried out as asked: a wrong option, missing data, a directory in the way."""

    exit_code = 2


class CheckFailed(TinyFoAError):
    """A check did not hold: damaged files, measurements that disagree, numbers that left their range."""

    exit_code = 1


class OtherNumerics(BadRequest):
    """A run or a model of a version that computes other bits from the same recipe."""
