"""Writes the reference of the command line from the commands."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

import click
from nbws.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "<!-- commands -->"


def reference() -> str:
    """All commands as Markdown, in the order of `nbws --help`."""
    root = click.Context(cli, info_name="nbws", **cli.context_settings)
    return "\n".join(_all(cli, root))


def _all(group: click.Group, parent: click.Context) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            yield from _all(command, context)
        else:
            yield _command(command, context)


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    shown = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    options = [record for param in shown if (record := param.get_help_record(context))]
    rows = [f"| `{flags}` | {_escaped(meaning)} |" for flags, meaning in options]
    table = "\n".join(["| option | meaning |", "|---|---|", *rows])
    return f"## {context.command_path}\n\n```text\n{usage}\n```\n\n{_escaped(inspect.cleandoc(command.help or ''))}\n\n{table}\n"


def _escaped(text: str) -> str:
    return re.sub(r"([|*_<\[\]~])", r"\\\1", text)
