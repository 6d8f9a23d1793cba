"""`nbws notebook defaults` and `nbws notebook retention`: which backups are kept, and how much a notebook may hold."""

from __future__ import annotations

from typing import Any

import click

from nbws.cli.container import open_container, open_notebook, store_option
from nbws.cli.output import json_option, print_json
from nbws.cli.quota import quota_options, take_quota
from nbws.cli.rules import rule_options, rules_of, told


@click.command()
@rule_options
@click.option("--no-retention", is_flag=True, help="Have no rules.")
@quota_options
@click.option("--no-quota", is_flag=True, help="Have no limits.")
@store_option
@json_option
def defaults(*, no_retention: bool, no_quota: bool, store: str | None, as_json: bool, **rules: Any) -> None:
    """Show what holds for all notebooks of a store that say nothing else, or set it by the rules and limits given.

    The rules given replace all those before, and so do the limits. `nbws notebook retention` and `nbws quota` set those of one
    notebook.
    """
    quota = take_quota(rules)
    if quota is not None and no_quota:
        raise click.UsageError("give limits or --no-quota, not both")
    changes: dict[str, Any] = {} if quota is None and not no_quota else {"quota": quota}
    if given := _given(rules, no_retention, "--no-retention"):
        changes["retention"] = given[0]
    container = open_container(store)
    found = container.set_defaults(**changes) if changes else container.defaults()
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(f"retention: {told(found.retention)}")
        click.echo(f"quota: {found.quota or 'no limits'}")


@click.command()
@click.argument("identity", metavar="ID")
@rule_options
@click.option("--default", "by_default", is_flag=True, help="Leave it to the defaults of the store again.")
@store_option
@json_option
def retention(identity: str, *, by_default: bool, store: str | None, as_json: bool, **rules: Any) -> None:
    """Show by which rules the backups of a notebook are kept, or set them by the rules given."""
    found = open_notebook(store, identity)
    given = _given(rules, by_default, "--default")
    if given:
        found.set_retention(given[0])
    own = found.workspace.retention()
    in_force = own or open_container(store).defaults().retention
    if as_json:
        print_json({"id": identity, "own": own is not None, "retention": in_force and in_force.to_dict()})
        return
    click.echo(f"retention: {told(in_force)}{'' if own else ' (default)'}")


def _given(rules: dict[str, Any], is_none: bool, flag: str) -> tuple[Any, ...]:
    """The rules to set, as a tuple of one; empty if none were given."""
    wanted = rules_of(rules)
    if wanted is not None and is_none:
        raise click.UsageError(f"give rules or {flag}, not both")
    return (wanted,) if wanted is not None or is_none else ()
