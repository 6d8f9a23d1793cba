"""`nbws quota`, and the options that say a quota."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from nbws.cli.container import open_notebook, store_option
from nbws.cli.output import SizeType, json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbws.quota import Quota


Command = TypeVar("Command", bound="Callable[..., Any]")
_FILES = click.IntRange(min=0)


def quota_options(command: Command) -> Command:
    """Adds one option for each limit to a command."""
    for option in reversed(
        (
            click.option("--soft-bytes", type=SizeType(), help="Warn above this size."),
            click.option("--hard-bytes", type=SizeType(), help="Don't pass this size."),
            click.option("--soft-files", type=_FILES, metavar="N", help="Warn above so many files."),
            click.option("--hard-files", type=_FILES, metavar="N", help="Don't pass so many files."),
            click.option(
                "--count",
                type=click.Choice(["logical", "stored"]),
                help="What the sizes count: the files, or what they take in the store.",
            ),
            click.option(
                "--over",
                type=click.Choice(["keep-small", "refuse"]),
                help="Above a hard limit: leave large files out, or refuse the save.",
            ),
        )
    ):
        command = option(command)
    return command


def take_quota(options: dict[str, Any]) -> Quota | None:
    """Takes the limits out of the options of a command; None if none was given.

    Raises:
        InvalidInput: the limits make no sense.
    """
    from nbws.quota import Quota

    names = ("soft_bytes", "hard_bytes", "soft_files", "hard_files", "count", "over")
    values = {name: value for name in names if (value := options.pop(name)) is not None}
    return Quota(**values) if values else None


@click.command()
@click.argument("identity", metavar="ID")
@quota_options
@click.option("--clear", is_flag=True, help="Leave it to the defaults of the store again.")
@store_option
@json_option
def quota(identity: str, *, clear: bool, store: str | None, as_json: bool, **limits: Any) -> None:
    """Show the limits of a notebook, or set them; the limits given replace all those before.

    `nbws notebook defaults` sets those of all notebooks of a store that have none of their own.
    """
    wanted = take_quota(limits)
    if clear and wanted is not None:
        raise click.UsageError("give limits or --clear, not both")
    notebook = open_notebook(store, identity)
    if clear or wanted is not None:
        notebook.set_quota(wanted)
    found = notebook.quota
    if as_json:
        print_json({"id": identity, "own": notebook.has_own_quota(), "quota": found.to_dict()})
        return
    click.echo(f"quota: {found}{'' if notebook.has_own_quota() else ' (default)'}")
