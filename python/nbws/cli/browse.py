"""`nbws snapshots` and `nbws rescues`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from nbws.cli.output import json_option, print_json, print_table
from nbws.reports import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbws.snapshot import Snapshot

_ID_DIGITS = 12


def _local(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


@click.command()
@click.argument("url")
@json_option
def snapshots(url: str, *, as_json: bool) -> None:
    """List the snapshots of the repository at URL, oldest first."""
    from nbws.workspace import Workspace

    found = Workspace.open(url).snapshots()
    if as_json:
        print_json({"snapshots": [snapshot.to_dict() for snapshot in found]})
        return
    print_snapshots(found)


def print_snapshots(found: Sequence[Snapshot]) -> None:
    """Prints snapshots for people."""
    if not found:
        click.echo("no snapshots yet")
        return
    rows = [
        (
            snapshot.snapshot[:_ID_DIGITS],
            _local(snapshot.time),
            f"{snapshot.files:,}",
            format_size(snapshot.bytes),
            " ".join(
                word
                for word in (
                    "(partial)" if snapshot.partial else "",
                    "(pinned)" if snapshot.pinned else "",
                    _evicted(snapshot),
                    snapshot.comment or "",
                )
                if word
            ),
        )
        for snapshot in found
    ]
    print_table(("snapshot", "time", "files", "size", "comment"), rows)


def _evicted(snapshot: Snapshot) -> str:
    """When it goes, if time alone says so."""
    date = snapshot.eviction_date
    if date is None:
        return ""
    return f"(until {date:%Y-%m-%d})" if date > datetime.now(UTC) else "(until the next prune)"


@click.command(short_help="List work that was kept beside the head, or dismiss it.")
@click.argument("url")
@click.argument("action", required=False, type=click.Choice(["dismiss"]))
@click.argument("rescue", metavar="[ID]", required=False)
@json_option
def rescues(url: str, action: str | None, rescue: str | None, *, as_json: bool) -> None:
    """List work that was kept beside the head, or dismiss one: nbws rescues URL dismiss ID.

    `nbws restore URL DIR --snapshot ID` restores a rescue.
    """
    from nbws.workspace import Workspace

    if action and not rescue:
        raise click.UsageError("dismiss needs the id of the rescue")
    workspace = Workspace.open(url)
    if rescue:
        workspace.dismiss(rescue)
        if as_json:
            print_json({"dismissed": rescue})
        else:
            click.echo(f"dismissed {rescue}")
        return
    found = workspace.rescues()
    if as_json:
        print_json({"rescues": [item.to_dict() for item in found]})
        return
    if not found:
        click.echo("no rescues")
        return
    rows = [
        (item.snapshot, _local(item.time), f"{item.files:,}", format_size(item.bytes), item.reason) for item in found
    ]
    print_table(("rescue", "time", "files", "size", "reason"), rows)
