"""Help by section: the commands of ``tinyfoa --help``, and the options of commands that have many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

#: commands by what they are for
COMMANDS = {
    "Train": ("train", "plan", "reproduce"),
    "Look at a run": ("audit", "evaluate", "report", "plot", "compare"),
    "Use a model": ("predict", "export", "import"),
    "Look up": ("list", "data"),
}
ENOUGH = 1000  # characters of a description: all of its first sentence


class GroupWithSections(click.Group):
    """A group whose help lists commands by section, each with a whole sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands; those of no section come last."""
        named = {name for names in COMMANDS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in named)
        for title, names in {**COMMANDS, "Others": others}.items():
            found = [(name, self.commands[name]) for name in names if name in self.commands]
            rows = [(name, command.get_short_help_str(ENOUGH).rstrip(".")) for name, command in found]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def names_of(options: Iterable[Callable[[Any], Any]]) -> set[str]:
    """The parameters that decorators of :func:`click.option` make."""

    def nothing() -> None: ...

    for option in options:
        option(nothing)
    return {str(parameter.name) for parameter in nothing.__click_params__}  # type: ignore[attr-defined]


class CommandWithSections(click.Command):
    """A command whose help lists options by section; ``sections`` has the names of each, the rest comes last."""

    sections: dict[str, set[str]] = {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options."""
        named = {name for names in self.sections.values() for name in names}
        rest = {str(parameter.name) for parameter in self.get_params(ctx)} - named
        for title, names in {**self.sections, "Options": rest}.items():
            records = [p.get_help_record(ctx) for p in self.get_params(ctx) if p.name in names]
            if rows := [record for record in records if record is not None]:
                with formatter.section(title):
                    formatter.write_dl(rows)
