"""`nbws prune`, `nbws pin` and `nbws unpin`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nbws.cli.output import heading, json_option, lock_of, lock_option, print_json, printable, progress_bar
from nbws.cli.rules import SpanType, rule_options, rules_of
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.retention import PruneReport

_LISTED = 20
_ID_DIGITS = 12


@click.command(short_help="Forget old snapshots and delete what nothing needs; shows the plan unless --apply.")
@click.argument("url")
@click.option("--apply", is_flag=True, help="Do it; otherwise only tell what would be done.")
@click.option("--force", is_flag=True, help="Also if more than 20 % of the stored bytes would go.")
@click.option("--grace", type=SpanType(), help="Time between mark and delete, such as 24h (the default); at least 1h.")
@rule_options
@click.option("--repack/--no-repack", default=True, help="Copy what is needed out of packs that are mostly dead.")
@lock_option
@json_option
def prune(  # one parameter for each option
    url: str,
    *,
    apply: bool,
    force: bool,
    grace: float | None,
    repack: bool,
    lock_file: str | None,
    as_json: bool,
    **rules: Any,
) -> None:
    """Forget snapshots of the repository at URL by the rules given, or by its own, and delete what nothing needs.

    A notebook without rules of its own follows the defaults of its container.

    Shows the plan unless --apply is given. What is marked now is deleted by a prune after the grace. Without any rule every
    snapshot is kept; the newest and pinned ones always are.
    """
    from nbws.defaults import container_rules
    from nbws.workspace import Workspace

    workspace = Workspace.open(url, exclusive=lock_of(lock_file))
    with progress_bar("prune") as progress:
        report = workspace.prune(
            rules_of(rules),
            apply=apply,
            force=force,
            grace="24h" if grace is None else grace,
            default_retention=container_rules(workspace),
            repack=repack,
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        print_prune(report)


def print_prune(report: PruneReport) -> None:
    """Prints a prune for people."""
    word = "Pruned" if report.applied else "Would prune"
    forgotten = len(report.forgotten)
    click.echo(f"{heading(word)} {forgotten:,} of {report.snapshots:,} snapshots in {report.duration_s:.2f} s")
    for snapshot in report.forgotten[:_LISTED]:
        comment = f"  {printable(snapshot.comment)}" if snapshot.comment else ""
        click.echo(f"  {snapshot.snapshot[:_ID_DIGITS]}  {snapshot.time:%Y-%m-%d %H:%M}  {snapshot.reason}{comment}")
    if forgotten > _LISTED:
        click.echo(f"  and {forgotten - _LISTED:,} more; --json lists all")
    if report.rescues_expired:
        click.echo(f"expired rescues: {', '.join(rescue[:_ID_DIGITS] for rescue in report.rescues_expired)}")
    verb = "marked for deletion" if report.applied else "would be marked for deletion"
    click.echo(
        f"{report.packs_doomed:,} of {report.packs:,} packs with {format_size(report.bytes_doomed)} of "
        f"{format_size(report.stored_bytes)} {verb}"
    )
    if report.packs_repacked:
        click.echo(f"copied out of {report.packs_repacked:,} mostly dead packs: {format_size(report.bytes_copied)}")
    for mark in report.marks:
        click.echo(
            f"mark {mark.seq}: {mark.packs:,} packs, {format_size(mark.bytes)}, {mark.state}; "
            f"deleted by a prune after {mark.sweep_after:%Y-%m-%d %H:%M} UTC"
        )
    if report.packs_deleted:
        click.echo(f"deleted {report.packs_deleted:,} packs, freed {format_size(report.bytes_freed)}")
    if report.records_removed:
        click.echo(f"removed {report.records_removed:,} records; the ledger says what they said")
    if report.needs_force and not report.applied:
        click.echo("more than 20 % of the stored bytes would go: --apply needs --force")
    for warning in report.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {printable(warning)}")


@click.command(short_help="Keep a snapshot whatever the rules of prune say.")
@click.argument("url")
@click.argument("snapshot")
@click.option("--for", "span", type=SpanType(), help="For so long, such as 30d; otherwise for good.")
@click.option("--comment", metavar="TEXT", help="A note.")
@lock_option
@json_option
def pin(
    url: str, snapshot: str, *, span: float | None, comment: str | None, lock_file: str | None, as_json: bool
) -> None:
    """Keep SNAPSHOT (an id, the beginning of one, latest, latest~2) of the repository at URL."""
    from datetime import UTC, datetime, timedelta

    from nbws.workspace import Workspace

    until = None if span is None else datetime.now(UTC) + timedelta(seconds=span)
    pinned = Workspace.open(url, exclusive=lock_of(lock_file)).pin(snapshot, until=until, comment=comment)
    if as_json:
        print_json({"pinned": pinned})
    else:
        click.echo(f"pinned {pinned}")


@click.command(short_help="End the pin of a snapshot.")
@click.argument("url")
@click.argument("snapshot")
@lock_option
@json_option
def unpin(url: str, snapshot: str, *, lock_file: str | None, as_json: bool) -> None:
    """End the pin of SNAPSHOT (an id or the beginning of one) of the repository at URL."""
    from nbws.workspace import Workspace

    Workspace.open(url, exclusive=lock_of(lock_file)).unpin(snapshot)
    if as_json:
        print_json({"unpinned": snapshot})
    else:
        click.echo(f"unpinned {snapshot}")
