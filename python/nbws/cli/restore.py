"""`nbws restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from nbws.cli.output import (
    INCOMPLETE,
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
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.reports import RestoreReport

_DELETE: dict[str, Literal["auto"] | bool] = {"auto": "auto", "yes": True, "no": False}


@click.command()
@click.argument("url")
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option(
    "--snapshot",
    metavar="S",
    default="latest",
    show_default=True,
    help="An id, a unique prefix, latest~2 or a time.",
)
@click.option("--path", "paths", metavar="P", multiple=True, type=click.Path(), help="Restore only this path.")
@click.option(
    "--delete",
    type=click.Choice(list(_DELETE)),
    default="auto",
    show_default=True,
    help="Remove what the snapshot does not have.",
)
@click.option("--verify", is_flag=True, help="Read the written files once more and compare.")
@click.option("--numeric-ids", is_flag=True, help="Restore uid and gid as saved.")
@click.option("--discard-changes", is_flag=True, help="Don't keep unsaved local work as a rescue first.")
@lock_option
@json_option
def restore(
    url: str,
    directory: str,
    *,
    paths: tuple[str, ...],
    delete: str,
    lock_file: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Make DIR what a snapshot of the repository at URL says."""
    from nbws.workspace import Workspace

    workspace = Workspace.open(url, exclusive=lock_of(lock_file))
    with progress_bar("restore") as progress:
        report = workspace.restore(directory, paths=paths or None, delete=_DELETE[delete], progress=progress, **options)
    if as_json:
        print_json(report.to_dict())
    else:
        print_restore(report)
    return 0 if report.complete else INCOMPLETE


def print_restore(report: RestoreReport) -> None:
    """Prints a restore for people."""
    done = heading(f"Restored {size_and_files(report.files_written, report.bytes_written)}")
    click.echo(f"{done} from snapshot {report.snapshot} in {report.duration_s:.2f} s")
    click.echo(
        f"  {report.files_kept:,} kept, {report.files_removed:,} removed; "
        f"downloaded {format_size(report.bytes_downloaded)}; requests: {report.requests}"
    )
    if report.rescue:
        click.echo(f"  unsaved local work was kept as rescue {report.rescue}")
    print_paths("Not restored", report.skipped)
    for warning in report.warnings:
        click.echo(click.style(printable(warning), fg="yellow"))
