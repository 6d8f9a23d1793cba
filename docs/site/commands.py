"""Writes the reference of the command line from the commands."""

from __future__ import annotations

import inspect
import re

import click
from nbws.cli.main import cli

MARK = "<!-- commands -->"


def reference() -> str:
    """All commands as Markdown, in the order of `nbws --help`."""
    root = click.Context(cli, info_name="nbws", **cli.context_settings)
    return "\n".join(_command(root, name) for name in cli.list_commands(root))


def _command(root: click.Context, name: str) -> str:
    command = cli.get_command(root, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=root)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    shown = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    options = [record for param in shown if (record := param.get_help_record(context))]
    rows = [f"| `{flags}` | {_escaped(meaning)} |" for flags, meaning in options]
    table = "\n".join(["| option | meaning |", "|---|---|", *rows])
    return f"## nbws {name}\n\n```text\n{usage}\n```\n\n{_escaped(inspect.cleandoc(command.help or ''))}\n\n{table}\n"


def _escaped(text: str) -> str:
    return re.sub(r"([|*_<\[\]~])", r"\\\1", text)
