"""`nbws notebook`: the group, and its commands that only look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import click

from nbws.cli.bill import tariff_option
from nbws.cli.container import ago, open_container, open_notebook, span, store_option, styled_state
from nbws.cli.main import LazyGroup
from nbws.cli.output import heading, json_option, print_json, print_table, printable
from nbws.lifecycle import STATES
from nbws.reports import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbws.billing import Tariff
    from nbws.lifecycle import Event, Status

_ID_DIGITS = 12
_LIFE = "nbws.cli.notebook_life"

# What a person may do next, by state.
_NEXT = {
    "NONE": "it is a plain repository; nbws restore reads it",
    "STARTING": "wait; if whoever starts it has died, start it again",
    "RUNNING": "nbws notebook stop {id}, where it runs",
    "STOPPING": "wait; if the stop was interrupted, stop it again where it ran",
    "STOPPED": "nbws notebook start {id}",
    "FAILED": "nbws notebook start {id}",
    "ERROR": "its data can be read: nbws snapshots, ls, cat, export, restore with its URL; then start it again",
    "SYNC_FAILED": "nbws notebook save {id}, where it ran: it sends what is missing",
    "RESTARTING": "wait; if the restart was interrupted, restart or start it again",
    "DELETING": "nbws notebook purge {id} removes its data for good",
    "UNKNOWN": "its log can't be read: nbws check with its URL says what is damaged",
}


class _Verbs(LazyGroup):
    homes: ClassVar[dict[str, str]] = {
        "create": f"{_LIFE}:create",
        "list": "nbws.cli.notebook:list_",
        "show": "nbws.cli.notebook",
        "start": _LIFE,
        "save": _LIFE,
        "stop": _LIFE,
        "restart": _LIFE,
        "backups": "nbws.cli.notebook",
        "pin": _LIFE,
        "unpin": _LIFE,
        "retention": "nbws.cli.notebook_rules",
        "defaults": "nbws.cli.notebook_rules",
        "fork": _LIFE,
        "history": "nbws.cli.notebook",
        "delete": _LIFE,
        "orphans": "nbws.cli.notebook",
        "purge": _LIFE,
        "totals": "nbws.cli.bill",
        "clear-latch": f"{_LIFE}:clear_latch",
    }


@click.group(cls=_Verbs, short_help="Make notebooks, start and stop them, look at them, delete them.")
def notebook() -> None:
    """Make notebooks, start and stop them, look at them, delete them.

    A notebook is a workspace with a life: it runs on one machine at a time, and its files are in the store when it does not.
    """


def split_labels(pairs: Iterable[str]) -> dict[str, str]:
    """Returns what `--label KEY=VALUE` said.

    Raises:
        click.UsageError: one has no ``=``.
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"a label is KEY=VALUE, not {pair!r}")
        found[key] = value
    return found


@click.command("list", short_help="List notebooks.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*STATES, "NONE"], case_sensitive=False),
    help="Only in this state; NONE: repositories that are no notebooks.",
)
@click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, help="Only with this label.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="At most so many.")
@click.option("--after", metavar="ID", help="Only ids that sort after this one: the last of the page before.")
@store_option
@json_option
def list_(
    states: tuple[str, ...],
    labels: tuple[str, ...],
    limit: int | None,
    after: str | None,
    store: str | None,
    *,
    as_json: bool,
) -> None:
    """List notebooks by id, with their states."""
    wanted = split_labels(labels) or None
    found = open_container(store).list(state=states or None, labels=wanted, limit=limit, after=after)
    if as_json:
        print_json({"notebooks": [status.to_dict() for status in found]})
        return
    if not found:
        click.echo("no notebooks; nbws notebook create makes one")
        return
    now = datetime.now(UTC)
    rows = [
        (
            status.id,
            status.state + (" (stale)" if status.writer and status.writer.stale else ""),
            _since(status, now),
            ago(status.last_snapshot, now),
            format_size(status.storage_used),
            " ".join(part for part in (status.name or "", _rescued(status), _unreadable(status)) if part),
        )
        for status in found
    ]
    print_table(("id", "state", "since", "last saved", "stored", "name"), rows)


def _since(status: Status, now: datetime) -> str:
    began = status.started_at if status.state == "RUNNING" else status.stopped_at
    return "" if began is None else span((now - began).total_seconds())


def _unreadable(status: Status) -> str:
    return printable(status.info or "") if status.state == "UNKNOWN" else ""


def _rescued(status: Status) -> str:
    count = len(status.rescues)
    return f"({count} {'rescue' if count == 1 else 'rescues'})" if count else ""


@click.command()
@click.argument("identity", metavar="ID")
@store_option
@json_option
def show(identity: str, store: str | None, *, as_json: bool) -> None:
    """Show how a notebook is: state, writer, times, size, and what to do next."""
    found = open_notebook(store, identity)
    status = found.status()
    if as_json:
        print_json(status.to_dict())
        return
    print_status(status)
    _print_rows({"data": found.workspace.url})


def print_status(status: Status) -> None:
    """Prints a status for people."""
    now = datetime.now(UTC)
    title = f"{status.id}  {printable(status.name)}" if status.name else status.id
    click.echo(heading(title))
    rows = {"state": styled_state(status)}
    if status.info:
        rows["because"] = printable(status.info)
    if status.writer is not None:
        known = {True: "silent for so long that it counts as dead", False: "alive", None: "shows no signs of life"}
        rows["writer"] = f"{status.writer.id[:_ID_DIGITS]}, {known[status.writer.stale]}"
    if status.started_at:
        rows["started"] = ago(status.started_at, now)
    if status.stopped_at and status.state != "RUNNING":
        rows["stopped"] = ago(status.stopped_at, now)
    if status.expires_at:
        left = (status.expires_at - now).total_seconds()
        rows["expires"] = f"in {span(left)}" if left > 0 else f"{span(-left)} ago"
    rows["last saved"] = ago(status.last_snapshot, now)
    rows["stored"] = f"{format_size(status.storage_used)} ({format_size(status.storage_free)} are free of charge)"
    if status.rescues:
        rows["rescues"] = " ".join(item[:_ID_DIGITS] for item in status.rescues)
    rows["next"] = _NEXT[status.state].format(id=status.id)
    _print_rows(rows)


def _print_rows(rows: dict[str, str]) -> None:
    for name, value in rows.items():
        click.echo(f"  {click.style(name.ljust(11), fg='cyan')}{value}")


@click.command()
@click.argument("identity", metavar="ID")
@store_option
@json_option
def backups(identity: str, store: str | None, *, as_json: bool) -> None:
    """List the snapshots of a notebook that are kept, oldest first."""
    from nbws.cli.browse import print_snapshots

    found = open_notebook(store, identity)
    kept = found.backups()
    if as_json:
        print_json({"backups": [item.to_dict() for item in kept]})
        return
    print_snapshots(kept)
    if kept:
        click.echo(f"bring one elsewhere: nbws restore {printable(found.workspace.url)} DIR --snapshot S")


@click.command()
@click.argument("identity", metavar="ID")
@store_option
@json_option
def history(identity: str, store: str | None, *, as_json: bool) -> None:
    """Show what happened to a notebook, oldest first: its log."""
    found = open_notebook(store, identity).history()
    if as_json:
        print_json({"events": [event.to_dict() for event in found]})
        return
    rows = [
        (
            str(event.seq),
            event.time.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            event.kind,
            event.state,
            event.writer[:_ID_DIGITS],
            _told(event),
        )
        for event in found
    ]
    print_table(("seq", "time", "event", "state after it", "writer", "what"), rows)


def _told(event: Event) -> str:
    words: list[Any] = [event.snapshot[:_ID_DIGITS] if event.snapshot else "", event.info, event.comment]
    words += ["partial"] if event.partial else []
    words += ["took over"] if event.take_over else []
    words += ["purged"] if event.purge else []
    return ", ".join(word for word in words if word)


@click.command()
@tariff_option
@store_option
@json_option
def orphans(tariff: Tariff | None, store: str | None, *, as_json: bool) -> None:
    """List the data of deleted notebooks, and what forks and creations have left that failed: what it takes and costs, since when."""
    from nbws.billing import exact_sum, money

    found = open_container(store).orphans(tariff=tariff)
    if as_json:
        print_json({"orphans": [item.to_dict() for item in found]})
        return
    if not found:
        click.echo("no orphans: no deleted notebook and no failed fork has data left")
        return
    rows = [
        (
            item.id,
            item.reason,
            span(timedelta(days=item.age_days).total_seconds()),
            format_size(item.stored_bytes),
            money(item.monthly_cost),
            item.name or "",
        )
        for item in found
    ]
    currency = found[0].currency
    print_table(("id", "what", "since", "stored", f"{currency} a month", "name"), rows)
    click.echo(f"all of them cost {money(exact_sum(item.monthly_cost for item in found))} {currency} a month")
    click.echo("nbws notebook purge ID removes one for good")
