"""The command `nbws`: its groups of commands, exit codes, and what an error looks like."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import ClassVar

import click

import nbws
from nbws.errors import Internal, NbwsError

__all__ = ["EXIT_CODES", "LazyGroup", "cli", "main", "show_error"]

USAGE = 2
INTERRUPTED = 130

EXIT_CODES = {
    "Internal": 1,
    "InvalidInput": USAGE,
    "NotFound": 3,
    "Conflict": 4,
    "Fenced": 4,
    "AlreadyExists": 4,
    "QuotaExceeded": 5,
    "Unavailable": 6,
    "Denied": 6,
    "CommitUnknown": 6,
    "Corrupt": 7,
    "RollbackDetected": 7,
    "InvalidState": 8,
    "Unsupported": 8,
    "LocalIo": 10,
    "Cancelled": INTERRUPTED,
}

_NEXT_STEP = {
    "Conflict": "Wait until the other one has finished, or add --take-over if you know that it is dead.",
    "Fenced": "Somebody else saves to this repository now; restore from it before you save again.",
    "CommitUnknown": "Run the same command again: it finds out whether the save landed.",
    "NotFound": "Check the URL, path or snapshot id; `nbws snapshots URL` lists the snapshots of a repository.",
    "QuotaExceeded": "Make room: `nbws clean DIR` says what comes back by itself; or raise the limit (`nbws quota`, or the store's own).",
    "Unavailable": "Check the network and the endpoint, then run the same command again.",
    "Denied": "Check the credentials (AWS_ACCESS_KEY_ID and so on) and what they may do.",
    "Corrupt": "Run `nbws check URL --read-data` to see what is hit; older snapshots may be whole.",
    "Unsupported": "Use a version of nbws that knows this; `nbws doctor URL` says what the store can do.",
    "RollbackDetected": "The store shows an old state: was the bucket restored from a copy?",
    "LocalIo": "Check permissions and free space of the directory.",
    "Internal": "This is a bug in nbws; please report it with the command and this message.",
}


# In the order in which people need them: a command, and the module that defines it under that name.
_COMMANDS = {
    "save": "nbws.cli.save",
    "restore": "nbws.cli.restore",
    "preview": "nbws.cli.preview",
    "snapshots": "nbws.cli.browse",
    "ls": "nbws.cli.contents",
    "cat": "nbws.cli.contents",
    "diff": "nbws.cli.contents",
    "du": "nbws.cli.sizes",
    "export": "nbws.cli.contents",
    "rescues": "nbws.cli.browse",
    "check": "nbws.cli.check",
    "prune": "nbws.cli.prune",
    "pin": "nbws.cli.prune",
    "unpin": "nbws.cli.prune",
    "doctor": "nbws.cli.doctor",
    "notebook": "nbws.cli.notebook",
    "quota": "nbws.cli.quota",
    "bill": "nbws.cli.bill",
    "run": "nbws.cli.run",
    "clean": "nbws.cli.clean",
    "demo": "nbws.cli.demo",
}


class LazyGroup(click.Group):
    """Imports a command when it is asked for: start-up counts."""

    homes: ClassVar[dict[str, str]] = {}
    """The commands in order, and the module that defines each; in another name than its own after a colon."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names."""
        del ctx
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command, or None if there is none of that name."""
        del ctx
        if cmd_name not in self.homes:
            return None
        module, _, name = self.homes[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name or cmd_name)
        return command


class _Commands(LazyGroup):
    homes = _COMMANDS


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value and not context.resilient_parsing:
        click.echo(f"nbws, version {nbws.__version__}")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Saves and restores notebook workspaces in object storage.

    A URL names one repository: file:///dir/prefix, s3://bucket/prefix, gs://bucket/prefix,
    az://container/prefix or memory:///name.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with the code that the documentation promises."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = cli.main(args=words, prog_name="nbws", standalone_mode=False)
    except click.ClickException as error:
        _report_json(words, {"kind": "Usage", "message": error.format_message(), "retryable": False})
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        message = "interrupted; nothing that was acknowledged is lost"
        _report_json(words, {"kind": "Cancelled", "message": message, "retryable": False})
        click.echo(f"nbws: {message}", err=True)
        sys.exit(INTERRUPTED)
    except NbwsError as error:
        sys.exit(show_error(words, error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _quiet_stdout()
            sys.exit(EXIT_CODES["LocalIo"])
        sys.exit(show_error(words, error, EXIT_CODES["LocalIo"]))
    sys.exit(code if isinstance(code, int) else 0)


def show_error(words: list[str], error: NbwsError | OSError, code: int = 0) -> int:
    """Prints an error for people, and with ``--json`` among the words for programs; returns the exit code."""
    if isinstance(error, NbwsError):
        shown, kind, rescue = error.to_dict(), error.kind, error.rescue
    else:
        shown, kind, rescue = {"kind": "LocalIo", "message": str(error), "retryable": False}, "LocalIo", None
    _report_json(words, shown)
    from nbws.cli.output import printable

    lines = [f"nbws: {click.style(kind, fg='red', bold=True)}: {printable(str(error))}"]
    if rescue:
        lines.append(f"The work was kept as a rescue; restore it with --snapshot {rescue}.")
    if step := _NEXT_STEP.get(kind):
        lines.append(step)
    click.echo("\n".join(lines), err=True)
    return code or EXIT_CODES.get(kind, EXIT_CODES[Internal.kind])


def _report_json(words: list[str], error: dict[str, object]) -> None:
    if "--json" in words:
        click.echo(json.dumps({"error": error}))


def _quiet_stdout() -> None:
    # The reader is gone; flushing at exit must not complain once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
