"""`nbws check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nbws.cli.output import INCOMPLETE, heading, json_option, print_json, printable, progress_bar
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.reports import CheckReport

_CORRUPT = 7
_LISTED = 10


class _CheckCommand(click.Command):
    """Takes `--read-data` alone as `--read-data=1`, so that the option never swallows the URL after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--read-data=1" if word == "--read-data" else word for word in args])


@click.command(cls=_CheckCommand, short_help="Check that a repository is whole.")
@click.argument("url")
@click.option(
    "--read-data",
    metavar="[=FRACTION]",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Also read and verify the packs, all or a random fraction.",
)
@json_option
def check(url: str, *, read_data: float, as_json: bool) -> int:
    """Check that everything in the repository at URL is there and is what was written."""
    from nbws.workspace import Workspace

    workspace = Workspace.open(url)
    with progress_bar("check") as progress:
        report = workspace.check(read_data=read_data, progress=progress)
    if as_json:
        print_json(report.to_dict())
    else:
        print_check(report)
    if report.damaged:
        return _CORRUPT
    return 0 if report.complete else INCOMPLETE


def print_check(report: CheckReport) -> None:
    """Prints a check for people."""
    verdict: dict[bool, Any] = {
        True: ("nothing is damaged", "green"),
        False: ("damaged or incomplete", "red"),
    }
    text, colour = verdict[report.ok]
    click.echo(
        f"{heading('Checked')} {report.objects:,} objects, read {format_size(report.bytes_read)} in "
        f"{report.duration_s:.2f} s: {click.style(text, fg=colour)}"
    )
    for damage in report.damaged:
        click.echo(f"{printable(damage.object)}: {printable(damage.problem)}")
        for file in damage.files[:_LISTED]:
            click.echo(f"  hits {printable(file.path)} in snapshot {file.snapshot[:12]}")
        if len(damage.files) > _LISTED:
            click.echo(f"  and {len(damage.files) - _LISTED:,} more files; --json lists all")
