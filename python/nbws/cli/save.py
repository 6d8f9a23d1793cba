"""`nbws save`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from nbws.cli.output import (
    INCOMPLETE,
    SizeType,
    heading,
    json_option,
    lock_of,
    lock_option,
    print_json,
    print_paths,
    printable,
    progress_bar,
    size_and_files,
)
from nbws.errors import NotFound
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.exclusive import LockFile
    from nbws.reports import SaveReport
    from nbws.workspace import Workspace

_MAX_LEVEL = 19


class _LevelType(click.ParamType[str | int]):
    name = "auto|fast|1..19"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        if value in ("auto", "fast"):
            return str(value)
        if str(value).isdecimal() and 1 <= int(value) <= _MAX_LEVEL:
            return int(value)
        raise click.BadParameter(f"{value!r} is not auto, fast or a number from 1 to {_MAX_LEVEL}", ctx, param)


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.argument("url")
@click.option("--create", is_flag=True, help="Make the repository if there is none.")
@click.option("--numeric-ids", is_flag=True, help="With --create: compare and keep uid and gid.")
@click.option("--take-over", is_flag=True, help="Save although another writer holds the workspace.")
@click.option("--comment", metavar="TEXT", help="A note that the snapshot carries.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out paths; gitignore syntax.")
@click.option("--level", type=_LevelType(), default="auto", show_default=True, help="Compression level.")
@click.option("--hard-bytes", type=SizeType(), help="Leave out large files that would pass this size.")
@click.option("--deadline", type=float, metavar="SECONDS", help="Save what is complete by then.")
@click.option("--reread", is_flag=True, help="Read every file, whatever its times say.")
@click.option("--limit-rate", type=SizeType(), help="Upload at most so many bytes a second.")
@lock_option
@json_option
def save(
    directory: str, url: str, *, create: bool, numeric_ids: bool, lock_file: str | None, as_json: bool, **options: Any
) -> int:
    """Save DIR as the newest snapshot of the repository at URL."""
    workspace = _open(url, create=create, numeric_ids=numeric_ids, exclusive=lock_of(lock_file))
    with progress_bar("save") as progress:
        report = workspace.save(directory, progress=progress, **options)
    if as_json:
        print_json(report.to_dict())
    else:
        print_save(report)
    return 0 if report.complete else INCOMPLETE


def _open(url: str, *, create: bool, numeric_ids: bool, exclusive: LockFile | None) -> Workspace:
    from nbws.workspace import Workspace

    try:
        return Workspace.open(url, create=create, numeric_ids=numeric_ids, exclusive=exclusive)
    except NotFound:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        click.confirm(f"There is no repository at {printable(url)}. Make one?", abort=True, err=True)
        return Workspace.open(url, create=True, numeric_ids=numeric_ids, exclusive=exclusive)


def print_save(report: SaveReport) -> None:
    """Prints a save for people."""
    done = heading(f"Saved {size_and_files(report.files_total, report.bytes_total)}")
    click.echo(f"{done} as snapshot {report.snapshot} in {report.duration_s:.2f} s")
    click.echo(
        f"  {report.files_new:,} new, {report.files_changed:,} changed, {report.files_removed:,} removed, "
        f"{report.files_unchanged:,} unchanged"
    )
    click.echo(
        f"  read {format_size(report.bytes_read)}, uploaded {format_size(report.bytes_uploaded)}; "
        f"requests: {report.requests}"
    )
    print_paths("Changed while being read, stored as last read", report.unstable)
    print_paths("Could not be read, kept from the previous snapshot", report.stale)
    print_paths("Left out for lack of time or room", report.omitted)
    print_paths("Not stored", report.skipped)
    for warning in report.warnings:
        click.echo(click.style(printable(warning), fg="yellow"))
