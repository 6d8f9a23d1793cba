"""`nbws preview`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nbws.cli.bill import tariff_option
from nbws.cli.output import (
    SizeType,
    heading,
    json_option,
    print_json,
    print_paths,
    printable,
    progress_bar,
    size_and_files,
)
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.billing import Tariff
    from nbws.reports import Preview, SaveCost


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.argument("url")
@click.option("--estimate", is_flag=True, help="Look at names, times and sizes only; read nothing.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out paths; gitignore syntax.")
@click.option("--hard-bytes", type=SizeType(), help="Leave out large files that would pass this size.")
@click.option("--take-over", is_flag=True, help="Preview a save that takes over.")
@tariff_option
@json_option
def preview(
    directory: str,
    url: str,
    *,
    estimate: bool,
    exclude: tuple[str, ...],
    hard_bytes: int | None,
    take_over: bool,
    tariff: Tariff | None,
    as_json: bool,
) -> int:
    """Tell what saving DIR to the repository at URL would read and send, and with --tariff what it would cost. Changes nothing."""
    from nbws.workspace import Workspace

    workspace = Workspace.open(url)
    with progress_bar("preview") as progress:
        report = workspace.preview(
            directory,
            estimate=estimate,
            exclude=exclude,
            hard_bytes=hard_bytes,
            take_over=take_over,
            tariff=tariff,
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        print_preview(report)
    return 0


def print_preview(report: Preview) -> None:
    """Prints a preview for people."""
    click.echo(heading(f"A save would hold {size_and_files(report.files_total, report.bytes_total)}"))
    click.echo(
        f"  {report.files_new:,} new, {report.files_changed:,} changed, {report.files_removed:,} removed, "
        f"{report.files_unchanged:,} unchanged"
    )
    if report.bytes_uploaded is None:
        click.echo(f"  read {format_size(report.bytes_read)}, of which at most {format_size(report.bytes_new)} are new")
    else:
        click.echo(
            f"  read {format_size(report.bytes_read)}, upload {format_size(report.bytes_uploaded)}; "
            f"requests: {report.requests}"
        )
    if report.rescue is not None:
        text = f"It would be kept as a rescue, not as the newest snapshot: {printable(report.rescue)}"
        click.echo(click.style(text, fg="yellow"))
    if report.cost is not None:
        print_cost(report.cost)
    print_paths("Would be left out for lack of room", report.omitted)
    print_paths("Would not be stored", report.skipped)
    for warning in report.warnings:
        click.echo(click.style(printable(warning), fg="yellow"))


def print_cost(cost: SaveCost) -> None:
    """Prints what a save would cost for people."""
    from nbws.billing import money

    click.echo(
        f"  stores {format_size(cost.new_stored_bytes)} more, {format_size(cost.stored_bytes)} in all: "
        f"{money(cost.monthly_after)} {cost.currency} a month instead of {money(cost.monthly_before)}"
    )
    if cost.free_days_left:
        later = f"{money(cost.monthly_after_window)} {cost.currency} a month"
        click.echo(f"  {cost.free_days_left:.1f} days of the free window are left; {later} after them")
