"""`nbws run`: the entrypoint of notebook images."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from nbws.cli.container import DurationType, container_of, data_option, load_settings, store_option, workspace_option
from nbws.cli.main import show_error
from nbws.cli.output import SizeType, printable
from nbws.errors import NbwsError

if TYPE_CHECKING:
    from nbws.notebook import Notebook

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


class _RunCommand(click.Command):
    """Leaves what stands after ``--`` alone: it is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, program = args, []
        if "--" in args:
            place = args.index("--")
            own, program = args[:place], args[place + 1 :]
        if program and _is_disabled():
            _become(program)
        ctx.meta["program"] = program
        return super().parse_args(ctx, own)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "CMD..."]


@click.command(cls=_RunCommand, short_help="Run a program as a notebook: restore, run, save.")
@click.argument("identity", metavar="[ID]", required=False)
@store_option
@click.option("--take-over", is_flag=True, help="Start although another machine runs it; that one is fenced.")
@workspace_option
@data_option
@click.option("--autosave", type=DurationType(), help="Time between autosaves; 0: none.  [default: 5m]")
@click.option(
    "--stop-budget", type=DurationType(), help="Time from SIGTERM to the end of this process.  [default: 25s]"
)
@click.option("--limit-rate", type=SizeType(), help="Upload at most so many bytes a second.")
@click.pass_context
def run(context: click.Context, /, identity: str | None, *, take_over: bool, **options: Any) -> None:
    """Start a notebook, run CMD, save while it runs and when it ends, and exit with CMD's code, or 128 + its signal.

    Made for the entrypoint of an image: signals are passed on to CMD; SIGTERM also begins the stop budget, within which CMD has
    ended and its work is saved. Settings come from options, from NBWS_* variables, then from nbws.toml (or NBWS_CONFIG).
    NBWS_DISABLE=1 runs CMD with nothing around it.

    Other exit codes: 75 the workspace could not be restored, CMD was not started; 4 another machine runs the notebook, or took it
    over; 9 the last save could not store everything; 126 and 127 CMD can't be run.
    """
    from nbws.runner import RunOptions, block_signals
    from nbws.runner import run as run_program

    block_signals()
    program: list[str] = context.meta["program"]
    if not program:
        raise click.UsageError("name the program to run, after --: nbws run ID -- CMD...")
    settings = load_settings({"notebook": identity, **options})
    if settings.notebook is None:
        raise click.UsageError("name the notebook: nbws run ID -- CMD..., or NBWS_NOTEBOOK")
    container, wanted = container_of(settings), settings.notebook

    async def find() -> Notebook:
        return await container.get_async(wanted)

    wishes = RunOptions(
        workspace=Path(settings.workspace),
        data=None if settings.data is None else Path(settings.data),
        take_over=take_over,
        autosave_s=settings.autosave,
        stop_budget_s=settings.stop_budget,
        continue_unrestored=settings.on_restore_error == "continue",
        limit_rate=settings.limit_rate,
    )
    try:
        code = run_program(find, program, wishes, _say)
    except NbwsError as error:
        code = show_error([], error)
    _end(code)


def _end(code: int) -> NoReturn:
    """Ends the process at once.

    The interpreter's own end would wait for threads that hang in a dead disk or a full pipe, and takes the ground from under threads
    of the engine that are about to end, too.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _say(text: str) -> None:
    try:
        # One write: two threads, and the program, share the stream.
        sys.stderr.write(f"nbws: {printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # Whoever read it is gone; the notebook's life goes on.
        return


def _is_disabled() -> bool:
    return os.environ.get("NBWS_DISABLE", "").lower() not in {"", "0", "no", "false"}


def _become(program: list[str]) -> NoReturn:
    # Python ignores these; programs expect the default.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)  # noqa: S606  # that is the point
    except OSError as error:
        _say(f"{program[0]}: {error.strerror}")
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        sys.exit(_NOT_FOUND if is_missing else _NOT_EXECUTABLE)
