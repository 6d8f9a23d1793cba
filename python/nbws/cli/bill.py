"""`nbws bill` and `nbws notebook totals`: what one notebook costs, and all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from nbws.cli.container import open_container, open_notebook, store_option
from nbws.cli.output import INCOMPLETE, heading, json_option, print_json, print_table, printable, progress_bar
from nbws.reports import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbws.accounts import Totals
    from nbws.billing import Invoice, Tariff

_LISTED = 20


class MomentType(click.ParamType[datetime]):
    """A date or time in ISO 8601; without a zone it is local time."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Returns the moment in UTC."""
        try:
            return datetime.fromisoformat(str(value)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no date or time such as 2026-12-31 or 2026-12-31T18:00", param, ctx)


class TariffType(click.ParamType["Tariff"]):
    """A TOML file with a tariff, or the name of a shipped one."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tariff:
        """Returns the tariff; what is wrong with it is `InvalidInput`."""
        del param, ctx
        from nbws.tariffs import load

        return load(str(value))


tariff_option: Callable[..., Any] = click.option(
    "--tariff", metavar="FILE", type=TariffType(), help="A TOML file with the rules, or the name of a shipped one."
)
until_option: Callable[..., Any] = click.option(
    "--until", type=MomentType(), help="The end; after now it is a forecast at constant size.  [default: now]"
)


@click.command(short_help="Show what a notebook has cost, or will cost.")
@click.argument("identity", metavar="ID")
@until_option
@click.option("--since", metavar="DATE", type=MomentType(), help="The begin.  [default: when it was made]")
@tariff_option
@store_option
@json_option
def bill(
    identity: str,
    until: datetime | None,
    since: datetime | None,
    tariff: Tariff | None,
    store: str | None,
    *,
    as_json: bool,
) -> None:
    """Show what a notebook has cost, or will cost: by kind and month, with the rule behind each line.

    Amounts of --json are text, so that no digit is lost.
    """
    found = open_notebook(store, identity).bill(until, tariff, since=since)
    if as_json:
        print_json(found.to_dict())
        return
    print_bill(found)


def print_bill(found: Invoice) -> None:
    """Prints a bill for people."""
    from nbws.billing import money

    period = f"{_day(found.begin)} to {_day(found.end)}" if found.begin else "nothing to bill"
    click.echo(f"{heading(printable(found.tariff or 'several tariffs'))}: {period}")
    if found.lines:
        rows = [
            (
                line.what,
                _day(line.begin),
                _day(line.end),
                f"{money(line.quantity)} {line.unit}",
                f"{line.price:f} per {'hour' if line.unit == 'minute' else line.unit}",
                money(line.amount),
                f"{line.rule}{', forecast' if line.forecast else ''}",
            )
            for line in found.lines
        ]
        print_table(("what", "from", "to", "quantity", "price", found.currency, "rule"), rows)
    else:
        click.echo("no charges: by these rules all of it is free in this time")
    future = f", of which {money(found.forecast)} is a forecast" if found.forecast else ""
    click.echo(f"{heading('total')} {money(found.total)} {found.currency}{future}")
    for note in found.notes[:_LISTED]:
        click.echo(click.style(f"note: {printable(note)}", fg="yellow"))
    if len(found.notes) > _LISTED:
        click.echo(f"and {len(found.notes) - _LISTED:,} more notes; --json lists all")


def _day(time: datetime | None) -> str:
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M")


@click.command(short_help="Sum up all notebooks: by state, bytes, cost.")
@click.option("--history", is_flag=True, help="Read whole logs: exact bills, and the number of snapshots.")
@until_option
@tariff_option
@click.option(
    "--parallel", metavar="N", type=click.IntRange(1, 1000), default=32, show_default=True, help="Read at once."
)
@store_option
@json_option
def totals(
    until: datetime | None, tariff: Tariff | None, store: str | None, *, history: bool, parallel: int, as_json: bool
) -> int:
    """Sum up all notebooks of the store: by state, bytes, cost.

    Reads the newest record of each; with --history or --until all of them. Exits with 9 if some could not be read.
    """
    notebooks = open_container(store)
    with progress_bar("totals") as progress:
        found = notebooks.totals(tariff=tariff, until=until, history=history, parallel=parallel, progress=progress)
    if as_json:
        print_json(found.to_dict())
    else:
        print_totals(found)
    return 0 if found.complete else INCOMPLETE


def print_totals(found: Totals) -> None:
    """Prints totals for people."""
    from nbws.billing import money

    rows = [
        (
            part.state,
            f"{part.notebooks:,}",
            format_size(part.logical_bytes),
            format_size(part.stored_bytes),
            money(part.monthly_cost),
        )
        for part in found.by_state
    ]
    whole = (format_size(found.logical_bytes), format_size(found.stored_bytes), money(found.monthly_cost))
    rows.append(("all", f"{found.notebooks:,}", *whole))
    print_table(("state", "notebooks", "workspaces", "stored", f"{found.currency} a month"), rows)
    if found.cost is not None and found.forecast is not None:
        future = f", of which {money(found.forecast)} is a forecast" if found.forecast else ""
        click.echo(f"{heading('bills')} {money(found.cost)} {found.currency}{future}; {found.snapshots:,} snapshots")
    click.echo(f"by {printable(found.tariff)}; read in {found.duration_s:.2f} s with {found.requests}")
    for note in found.notes:
        click.echo(note)
    if found.problems:
        click.echo(click.style(f"Could not be read: {len(found.problems):,}", fg="red"))
        for item in found.problems[:_LISTED]:
            click.echo(f"  {printable(item.id)}: {item.kind}: {printable(item.problem)}")
        if len(found.problems) > _LISTED:
            click.echo(f"  and {len(found.problems) - _LISTED:,} more; --json lists all")
